"""Calls to one member of etcd over one connection: gRPC on HTTP/2, without the socket.

What its user owes it: ``receive`` with what the socket read, to send what ``take_output`` returns after every call and
every ``receive``, and to give the connection up after ``ConnectionFailed``. Each call is a stream of HTTP/2; most have
one request and one answer, a watch or a lease that is kept alive has several. HTTP/2 itself is the library ``h2``'s.
(gRPC over HTTP2, "PROTOCOL-HTTP2.md".)
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
    WindowUpdated,
)
from h2.exceptions import ProtocolError

_PREFIX: Final = struct.Struct(">BI")  # whether it is compressed, and the message's size
OK: Final = 0
UNKNOWN: Final = 2
UNAVAILABLE: Final = 14
WINDOW_BYTES: Final = 16_777_216  # how much etcd may send before it is taken: a takeover reads a journal in one go
ANSWER_BYTES_MAX: Final = 67_108_864


class ConnectionFailed(Exception):
    """The other side speaks no HTTP/2, or has ended the conversation: no call of this connection will be answered."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One message of a call's answer."""

    call: int
    message: bytes


@dataclass(frozen=True, slots=True)
class Ended:
    """A call is over: with status 0, or with an error and its explanation."""

    call: int
    status: int
    explanation: str


class _Call:
    """The state of a call that goes on."""

    __slots__ = ("explanation", "received", "status", "unsent")

    def __init__(self) -> None:
        self.received = bytearray()
        self.unsent: deque[tuple[bytes, bool]] = (
            deque()
        )  # what the other side has no window for, and whether it ends it
        self.status = UNKNOWN
        self.explanation = "the call ended without a status"


class Calls:
    """One connection to a member.

    Args:
        authority: the member's name and port, as HTTP/2 wants them.
        token: of ``AUTHENTICATE``; empty where etcd asks for none.
        is_tls: whether the connection is encrypted.
    """

    def __init__(self, authority: str, *, token: str = "", is_tls: bool = False) -> None:
        self._headers = [
            (":method", "POST"),
            (":scheme", "https" if is_tls else "http"),
            (":authority", authority),
            ("content-type", "application/grpc+proto"),
            ("te", "trailers"),
        ]
        if token:
            self._headers.append(("token", token))
        self._calls: dict[int, _Call] = {}
        self._connection = H2Connection(H2Configuration(header_encoding="utf-8"))
        self._connection.initiate_connection()
        self._connection.increment_flow_control_window(WINDOW_BYTES)

    @property
    def is_idle(self) -> bool:
        """Whether no call is going on."""
        return not self._calls

    def begin(self, path: str, message: bytes, *, is_last: bool = True) -> int:
        """Begin a call.

        Args:
            path: which.
            message: its first request.
            is_last: whether that is all that will be said.

        Returns:
            What answers will call it.

        Raises:
            ConnectionFailed: no more calls can be made.
        """
        try:
            call = self._connection.get_next_available_stream_id()
            self._connection.send_headers(call, [*self._headers[:1], (":path", path), *self._headers[1:]])
            self._connection.increment_flow_control_window(WINDOW_BYTES, call)
        except ProtocolError as error:
            raise ConnectionFailed(f"etcd takes no more calls: {error}") from error
        self._calls[call] = _Call()
        self.say(call, message, is_last=is_last)
        return call

    def say(self, call: int, message: bytes, *, is_last: bool = False) -> None:
        """One request more of a call that goes on; nothing when it is over."""
        state = self._calls.get(call)
        if state is not None:
            state.unsent.append((_PREFIX.pack(0, len(message)) + message, is_last))
            self._send_what_fits(call, state)

    def end(self, call: int) -> None:
        """Give a call up."""
        if self._calls.pop(call, None) is not None:
            self._connection.reset_stream(call, error_code=8)  # CANCEL

    def receive(self, data: bytes) -> list[Answer | Ended]:
        """Take what the socket has read.

        Args:
            data: empty when the other side has closed.

        Raises:
            ConnectionFailed: nothing more will come; every call that goes on is left without an answer.
        """
        if not data:
            raise ConnectionFailed("etcd has closed the connection")
        try:
            events = self._connection.receive_data(data)
        except ProtocolError as error:
            raise ConnectionFailed(f"what etcd said is no HTTP/2: {error}") from error
        answers: list[Answer | Ended] = []
        for event in events:
            self._handle(event, answers)
        return answers

    def take_output(self) -> bytes:
        """All that is to be sent now."""
        return self._connection.data_to_send() or b""

    def _handle(self, event: Event, answers: list[Answer | Ended]) -> None:
        if isinstance(event, ConnectionTerminated):
            raise ConnectionFailed(f"etcd ends the connection (HTTP/2 error {int(event.error_code or 0)})")
        if isinstance(event, WindowUpdated):
            self._window_grew(event.stream_id or 0)
            return
        call = getattr(event, "stream_id", 0) or 0
        state = self._calls.get(call)
        if isinstance(event, DataReceived) and event.flow_controlled_length:
            self._connection.acknowledge_received_data(event.flow_controlled_length, call)
        if state is None:
            return
        if isinstance(event, DataReceived):
            state.received += event.data or b""
            answers += [Answer(call, message) for message in _messages_in(state.received)]
        elif isinstance(event, ResponseReceived | TrailersReceived):
            _read_status(state, event.headers or ())
        elif isinstance(event, StreamReset):
            del self._calls[call]
            answers.append(
                Ended(call, UNAVAILABLE, f"etcd has reset the call (HTTP/2 error {int(event.error_code or 0)})")
            )
        elif isinstance(event, StreamEnded):
            del self._calls[call]
            answers.append(Ended(call, state.status, state.explanation))

    def _window_grew(self, call: int) -> None:
        for one in [call] if call else list(self._calls):
            state = self._calls.get(one)
            if state is not None:
                self._send_what_fits(one, state)

    def _send_what_fits(self, call: int, state: _Call) -> None:
        """HTTP/2 lets us send only so much before the other side has taken it."""
        connection = self._connection
        while state.unsent:
            data, is_last = state.unsent[0]
            window = min(connection.local_flow_control_window(call), connection.max_outbound_frame_size)
            if window >= len(data):
                connection.send_data(call, data, end_stream=is_last)
                state.unsent.popleft()
            elif window > 0:
                connection.send_data(call, data[:window])
                state.unsent[0] = (data[window:], is_last)
            else:
                return


def _messages_in(received: bytearray) -> list[bytes]:
    """Take the whole messages out of what was received."""
    messages = []
    offset = 0
    while len(received) - offset >= _PREFIX.size:
        is_compressed, size = _PREFIX.unpack_from(received, offset)
        if is_compressed or size > ANSWER_BYTES_MAX:
            raise ConnectionFailed("an answer of etcd is compressed, or larger than any should be")
        end = offset + _PREFIX.size + size
        if end > len(received):
            break
        messages.append(bytes(received[offset + _PREFIX.size : end]))
        offset = end
    del received[:offset]
    return messages


def _read_status(state: _Call, headers: Sequence[tuple[str | bytes, str | bytes]]) -> None:
    named = {_text(name): _text(value) for name, value in headers}
    if named.get(":status", "200") != "200":
        state.status, state.explanation = UNAVAILABLE, f"HTTP status {named[':status']}"
    if "grpc-status" in named:
        number = named["grpc-status"]
        state.status = int(number) if number.isdecimal() else UNKNOWN
        state.explanation = unquote(named.get("grpc-message", ""))


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("utf-8", "replace")
