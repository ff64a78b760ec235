"""A protocol: a line of text is a command, and each is answered by a line.

    login NAME PASSWORD         ok, or no and the reason, and that is the end
    put QUEUE TEXT              ok when the text is in the queue, and on disk; full when it is not taken
    get QUEUE                   item TEXT, or none
    bye                         the end

``nc localhost 7000`` speaks it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from amqp_broker.access.client import Peer
from amqp_broker.broker.broker import Broker
from amqp_broker.server.plain_connection import PlainConnection
from amqp_broker.wire.content import Properties

LINE_BYTES_MAX = 65_536
PERSISTENT = Properties(content_type="text/plain", delivery_mode=2)


class LineConnection(PlainConnection):
    """One client's conversation."""

    name = "lines"

    def __init__(self, broker: Broker, peer: Peer, on_output: Callable[[], None]) -> None:
        super().__init__(broker, peer, on_output)
        self._begun = b""  # of a line whose end has not come

    def cut(self, data: bytes) -> Iterable[bytes]:
        """Bytes into lines; one that never ends ends the connection."""
        *lines, self._begun = (self._begun + data).split(b"\n")
        if len(self._begun) > LINE_BYTES_MAX:
            self.refused("the line is too long")
        return lines

    def handle(self, item: bytes) -> None:
        """One line."""
        command, _, rest = item.decode("utf-8", "replace").strip().partition(" ")
        first, _, text = rest.partition(" ")
        if command == "login":
            self.log_in(first, text)
            self.answer("ok")
        elif command == "bye":
            self.end()
        elif not self.channel_count:
            self.refused("log in first")
        elif command == "put":
            self.answer("ok" if self.publish("", first, text.encode(), PERSISTENT) else "full")
        elif command == "get":
            message = self.take(first)
            self.answer("none" if message is None else f"item {bytes(message.body).decode('utf-8', 'replace')}")
        else:
            self.answer(f"no there is no {command or 'empty command'}: there are login, put, get, bye")

    def refused(self, reason: str) -> None:
        """Tell the client why, and leave."""
        self.answer(f"no {reason}")
        self.end(reason)

    def answer(self, text: str) -> None:
        """Say a line."""
        self.say(f"{text}\n".encode())
