"""A STOMP client of our own for the tests: it writes frames, and reads what comes."""

from __future__ import annotations

import time
from typing import NamedTuple, Self

from interop import raw_client
from interop.mqtt_client import Stream, connect

PATIENCE_S = raw_client.REPLY_TIMEOUT_S


class StompFrame(NamedTuple):
    """One frame that came."""

    command: str
    headers: dict[str, str]
    body: bytes


class StompClient:
    """A connection.

    Args:
        port: of 127.0.0.1; or a stream that is there.
        version: what is offered in CONNECT; none for no CONNECT.
        headers: more of CONNECT's.
    """

    def __init__(self, port: int | Stream, version: str = "1.2", **headers: str) -> None:
        self._socket: Stream = port if not isinstance(port, int) else connect(port)
        self._data = b""
        self.connected: StompFrame | None = None
        if version:
            login = {"login": "guest", "passcode": "guest", "host": "/", **headers}
            self.send("CONNECT", accept_version=version, **login)
            self.connected = self.take()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._socket.close()

    def write(self, data: bytes) -> None:
        """Write bytes."""
        self._socket.sendall(data)

    def send(self, command: str, body: bytes = b"", /, **headers: str) -> None:
        """Write a frame; underscores in the names of headers are hyphens."""
        lines = b"".join([f"{name.replace('_', '-')}:{value}\n".encode() for name, value in headers.items()])
        self.write(b"%b\n%b\n%b\0" % (command.encode(), lines, body))

    def call(self, command: str, body: bytes = b"", /, **headers: str) -> None:
        """The same, and wait for its receipt."""
        self.send(command, body, receipt="call", **headers)
        frame = self.take()
        assert (frame.command, frame.headers.get("receipt-id")) == ("RECEIPT", "call"), frame

    def take(self) -> StompFrame:
        """The next frame; fails when none comes."""
        end_s = time.monotonic() + PATIENCE_S
        while (frame := self._cut()) is None:
            assert time.monotonic() < end_s, f"no frame came, only {self._data!r}"
            part = self._socket.recv(65_536)
            assert part, "the broker has closed the connection"
            self._data += part
        return frame

    def error(self) -> tuple[str, str]:
        """The next frame, an ERROR: its message and its body."""
        frame = self.take()
        assert frame.command == "ERROR", frame
        return frame.headers["message"], frame.body.decode()

    def is_refused(self) -> bool:
        """Whether the broker sends an ERROR, or closes the connection; waits for one of them."""
        while (frame := self._cut()) is None:
            part = self._socket.recv(65_536)
            if not part:
                return True
            self._data += part
        return frame.command == "ERROR"

    def is_ended(self) -> bool:
        """Whether the broker closes the connection; waits for that."""
        try:
            return not self._socket.recv(1)
        except ConnectionResetError:
            return True
        except TimeoutError:
            return False

    def _cut(self) -> StompFrame | None:
        self._data = self._data.lstrip(b"\n")
        lines, empty, rest = self._data.partition(b"\n\n")
        if not empty:
            return None
        command, *said = lines.decode(errors="surrogateescape").split("\n")
        headers: dict[str, str] = {}
        for line in said:
            name, _, value = line.partition(":")
            headers.setdefault(name, value)
        length = int(headers.get("content-length", rest.find(b"\0")))
        if length < 0 or len(rest) <= length:
            return None
        self._data = rest[length + 1 :]
        return StompFrame(command, headers, rest[:length])
