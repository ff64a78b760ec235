"""A client of the stream protocol without a socket: it writes into a connection, and reads what that says."""

from __future__ import annotations

from collections.abc import Sequence

from amqp_broker.access.client import Peer
from amqp_broker.broker.broker import Broker
from amqp_broker.journal.stretches import FileStretch, Sendable
from amqp_broker.protocols.stream.connection import Connection
from interop.stream_client import Wire

LOOPBACK = Peer.at("127.0.0.1", 50_000, "127.0.0.1", 5552)


class StreamClient(Wire):
    """A client.

    Args:
        broker: whose connection it has.
        in_bytes: whether everything is written one byte at a time.
        logs_in: whether it does so at once.
        peer: where it comes from.
    """

    def __init__(self, broker: Broker, *, in_bytes: bool = False, logs_in: bool = True, peer: Peer = LOOPBACK) -> None:
        super().__init__()
        self.broker = broker
        self.in_bytes = in_bytes
        self.stretches = 0  # of files, that came
        self.connection = Connection(broker, peer, lambda: None)
        self.connection.takes_stretches = True
        if logs_in:
            self.log_in()

    def write(self, data: bytes) -> None:
        if self.in_bytes:
            for one in data:
                self.connection.receive(bytes((one,)))
        else:
            self.connection.receive(data)

    def await_frame(self) -> None:
        before = len(self.frames)
        self.read()
        assert len(self.frames) > before, f"there is no such frame: {self.frames}"

    def read(self) -> None:
        """Take what the connection says now."""
        parts: Sequence[Sendable] = self.connection.take_output()
        self.stretches += sum(isinstance(part, FileStretch) for part in parts)
        data = b"".join([part.read() if isinstance(part, FileStretch) else part for part in parts])
        self.connection.output_sent(len(data))
        self.came(data)

    def heard(self) -> list[int]:
        """The keys of all frames that have come and were not taken, which are taken now."""
        self.read()
        keys = [key for key, _, _ in self.frames]
        self.frames.clear()
        return keys

    def drop(self) -> None:
        """Let the socket end."""
        self.connection.lost("the client closed the TCP connection")
        self.connection.detach()

    @property
    def is_closed(self) -> bool:
        """Whether the connection wants its socket closed."""
        return self.connection.finished
