"""Calls to one member of etcd over one connection: gRPC on HTTP/2, without the socket.

What its user owes it: ``receive`` with what the socket read, to send what ``take_output`` returns after every call and
every ``receive``, and to give the connection up after ``ConnectionFailed``. Each call is a stream of HTTP/2; most have
one request and one answer, a watch or a lease that is kept alive has several. HTTP/2 itself is ``http2.py``.
(gRPC over HTTP2, "PROTOCOL-HTTP2.md".)
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from amqp_broker.etcd import http2
from amqp_broker.etcd.http2 import DataReceived, HeadersReceived, Http2Failed, StreamReset, encode_fields

_PREFIX: Final = struct.Struct(">BI")  # whether it is compressed, and the message's size
OK: Final = 0
UNKNOWN: Final = 2
UNAVAILABLE: Final = 14
ANSWER_BYTES_MAX: Final = 67_108_864
LARGE_BYTES: Final = 16_384  # so much is not copied to have its size before it


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

    __slots__ = ("explanation", "received", "status")

    def __init__(self) -> None:
        self.received = bytearray()
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
        fields = [
            (":authority", authority),
            ("content-type", "application/grpc+proto"),
            ("te", "trailers"),
        ]
        if token:
            fields.append(("token", token))
        self._first_fields = encode_fields([(":method", "POST"), (":scheme", "https" if is_tls else "http")])
        self._last_fields = encode_fields(fields)
        self._calls: dict[int, _Call] = {}
        self._connection = http2.Connection()
        self.has_heard = False  # whether etcd has said anything yet

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
            call = self._connection.begin(self._first_fields + encode_fields([(":path", path)]) + self._last_fields)
        except Http2Failed as error:
            raise ConnectionFailed(f"etcd takes no more calls: {error}") from error
        self._calls[call] = _Call()
        self.say(call, message, is_last=is_last)
        return call

    def say(self, call: int, message: bytes, *, is_last: bool = False) -> None:
        """One request more of a call that goes on; nothing when it is over."""
        prefix = _PREFIX.pack(0, len(message))
        if len(message) < LARGE_BYTES:
            self._connection.send(call, prefix + message, is_last=is_last)
        else:
            self._connection.send(call, prefix, is_last=False)
            self._connection.send(call, message, is_last=is_last)

    def end(self, call: int) -> None:
        """Give a call up."""
        if self._calls.pop(call, None) is not None:
            self._connection.reset(call)

    def receive(self, data: bytes) -> list[Answer | Ended]:
        """Take what the socket has read.

        Args:
            data: empty when the other side has closed.

        Raises:
            ConnectionFailed: nothing more will come; every call that goes on is left without an answer.
        """
        if not data:
            raise ConnectionFailed("etcd has closed the connection")
        self.has_heard = True
        try:
            events = self._connection.receive(data)
        except Http2Failed as error:
            raise ConnectionFailed(f"what etcd said is no HTTP/2, or its end: {error}") from error
        answers: list[Answer | Ended] = []
        for event in events:
            self._handle(event, answers)
        return answers

    def take_output(self) -> bytes:
        """All that is to be sent now."""
        return self._connection.take_output()

    def _handle(self, event: http2.Event, answers: list[Answer | Ended]) -> None:
        call = event.stream
        state = self._calls.get(call)
        if state is None:
            return
        if isinstance(event, DataReceived):
            state.received += event.data
            answers += [Answer(call, message) for message in _messages_in(state.received)]
        elif isinstance(event, HeadersReceived):
            _read_status(state, event.fields)
        elif isinstance(event, StreamReset):
            del self._calls[call]
            answers.append(Ended(call, UNAVAILABLE, f"etcd has reset the call (HTTP/2 error {event.code})"))
        else:
            del self._calls[call]
            answers.append(Ended(call, state.status, state.explanation))


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
        with memoryview(received) as view:
            messages.append(bytes(view[offset + _PREFIX.size : end]))
        offset = end
    del received[:offset]
    return messages


def _read_status(state: _Call, fields: Sequence[tuple[bytes, bytes]]) -> None:
    named = {name.decode("utf-8", "replace"): value.decode("utf-8", "replace") for name, value in fields}
    if named.get(":status", "200") != "200":
        state.status, state.explanation = UNAVAILABLE, f"HTTP status {named[':status']}"
    if "grpc-status" in named:
        number = named["grpc-status"]
        state.status = int(number) if number.isdecimal() else UNKNOWN
        state.explanation = unquote(named.get("grpc-message", ""))
