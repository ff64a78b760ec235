"""A STOMP client without a socket: it writes frames into a connection, and reads what the connection says."""

from __future__ import annotations

from amqp_broker.access.client import Peer
from amqp_broker.broker.broker import Broker
from amqp_broker.protocols.stomp.connection import Connection
from amqp_broker.protocols.stomp.frames import Frame, encode_headers

LOOPBACK = Peer.at("127.0.0.1", 50_000, "127.0.0.1", 61613)


class StompClient:
    """A client.

    Args:
        broker: whose connection it has.
        in_bytes: whether everything is written one byte at a time.
        peer: where it comes from.
    """

    def __init__(self, broker: Broker, *, in_bytes: bool = False, peer: Peer = LOOPBACK) -> None:
        self.broker = broker
        self.in_bytes = in_bytes
        self.connection = Connection(broker, peer, lambda: None)
        self.heard: list[Frame] = []
        self.raw = b""

    # --- what it says

    def write(self, data: bytes) -> None:
        """Write bytes, whatever they are."""
        if self.in_bytes:
            for one in data:
                self.connection.receive(bytes((one,)))
        else:
            self.connection.receive(data)

    def send(self, command: str, body: bytes = b"", /, **headers: str) -> None:
        """Write a frame; underscores in the names of headers are hyphens."""
        self.write(frame_bytes(command, body, **headers))

    def connect(self, version: str = "1.2", **headers: str) -> Frame:
        """Send CONNECT; returns what was answered."""
        login = {"login": "guest", "passcode": "guest", "host": "/", **headers}
        self.send("CONNECT", accept_version=version, **login)
        return self.take()

    def drop(self) -> None:
        """Let the socket end."""
        self.connection.lost("the client closed the TCP connection")
        self.connection.detach()

    # --- what it hears

    def read(self) -> list[Frame]:
        """All frames that have come."""
        data = b"".join(self.connection.take_output())
        self.connection.output_sent(len(data))
        self.raw += data
        self.heard.extend(answers(data))
        heard, self.heard = self.heard, []
        return heard

    def take(self) -> Frame:
        """The next frame."""
        first, *rest = self.read()
        self.heard = rest
        return first

    def bodies(self) -> list[bytes]:
        """The bodies of all that has come, which is nothing but messages."""
        frames = self.read()
        assert {frame.command for frame in frames} <= {"MESSAGE"}, [frame.headers for frame in frames]
        return [frame.body for frame in frames]

    def error(self) -> tuple[str, str]:
        """The next frame, an error: its message and its body."""
        frame = self.take()
        assert frame.command == "ERROR", frame.command
        return frame.headers["message"], frame.body.decode()

    @property
    def is_closed(self) -> bool:
        """Whether the connection wants its socket closed."""
        return self.connection.finished


def answers(data: bytes) -> list[Frame]:
    """All frames that a broker has said, in whole pieces of output; there content-length counts in every frame."""
    frames = []
    while data := data.lstrip(b"\n"):
        lines, _, rest = data.partition(b"\n\n")
        command, *headers = lines.decode("utf-8", "surrogateescape").split("\n")
        found: dict[str, str] = {}
        for line in headers:
            name, _, value = line.partition(":")
            found.setdefault(_plain(name), _plain(value))
        length = int(found["content-length"]) if "content-length" in found else rest.index(b"\0")
        assert rest[length] == 0
        frames.append(Frame(command, found, rest[:length]))
        data = rest[length + 1 :]
    return frames


def _plain(text: str) -> str:
    return text.replace("\\\\", "\1").replace("\\n", "\n").replace("\\r", "\r").replace("\\c", ":").replace("\1", "\\")


def frame_bytes(command: str, body: bytes = b"", /, **headers: str) -> bytes:
    """A frame as a client writes it."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return b"%b\n%b\n%b\0" % (command.encode(), encode_headers(named), body)
