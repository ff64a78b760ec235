"""A client's end of a web socket for the tests, by the library's protocol without I/O.

``WebSocketStream`` is the same where a socket is expected that carries bytes.
"""

from __future__ import annotations

import socket
from typing import Self

from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from interop.raw_client import REPLY_TIMEOUT_S


class WebSocket:
    """A client's end.

    Args:
        port: of 127.0.0.1.
        path: what is asked for.
        offered: sub-protocols.
    """

    def __init__(self, port: int, *offered: str, path: str = "/ws") -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=REPLY_TIMEOUT_S)
        names = [Subprotocol(name) for name in offered] or None
        self.protocol = ClientProtocol(parse_uri(f"ws://127.0.0.1:{port}{path}"), subprotocols=names)
        self.protocol.send_request(self.protocol.connect())
        self._flush()
        self.frames: list[Frame] = []
        while self.protocol.state is State.CONNECTING and self.protocol.handshake_exc is None:
            self._read()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._socket.close()

    def send(self, data: bytes, *, text: bool = False) -> None:
        """Send one message."""
        if text:
            self.protocol.send_text(data)
        else:
            self.protocol.send_binary(data)
        self._flush()

    def take(self) -> Frame:
        """The next frame of a message."""
        while not self.frames:
            assert self._read(), "the broker has closed the connection"
        return self.frames.pop(0)

    def next_data(self) -> bytes:
        """What the next frame of a message has; nothing when the broker has closed the connection."""
        while not self.frames:
            if not self._read():
                return b""
        return bytes(self.frames.pop(0).data)

    def _read(self) -> bool:
        try:
            data = self._socket.recv(65_536)
        except ConnectionResetError:
            data = b""
        if not data:
            self.protocol.receive_eof()
            return False
        self.protocol.receive_data(data)
        self._flush()
        opcodes = (Opcode.TEXT, Opcode.BINARY)
        received = self.protocol.events_received()
        self.frames += [one for one in received if isinstance(one, Frame) and one.opcode in opcodes]
        return True

    def _flush(self) -> None:
        for data in self.protocol.data_to_send():
            if data:
                self._socket.sendall(data)


class WebSocketStream:
    """A web socket as a stream of bytes; arguments as of ``WebSocket``."""

    def __init__(self, port: int, *offered: str) -> None:
        self._web_socket = WebSocket(port, *offered)
        assert self._web_socket.protocol.state is State.OPEN

    def sendall(self, data: bytes) -> None:
        """Send a message."""
        self._web_socket.send(data)

    def recv(self, size: int) -> bytes:
        """The next message, of whatever size; nothing when the broker has closed the connection."""
        return self._web_socket.next_data()

    def close(self) -> None:
        """Close the socket."""
        self._web_socket.__exit__()
