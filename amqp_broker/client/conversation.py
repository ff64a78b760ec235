"""A client's side of AMQP 0-9-1 without any I/O: what the broker's bytes say, and the bytes of what is said to it.

One connection with one channel. Replies are events as everything else is; who waits for one is ``connection.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from amqp_broker import __version__
from amqp_broker.errors import AmqpError
from amqp_broker.wire import content, hot
from amqp_broker.wire.errors import WireError
from amqp_broker.wire.frames import (
    BODY,
    FRAME_OVERHEAD_BYTES,
    HEADER,
    HEARTBEAT,
    HEARTBEAT_FRAME,
    METHOD,
    PROTOCOL_HEADER,
    FrameSplitter,
    encode_frame,
)
from amqp_broker.wire.methods import Basic, Channel, Connection, Method, build, decode_method, encode_method

CHANNEL: Final = 1
FRAME_SIZE_BYTES: Final = 131_072


class ConversationFailed(Exception):
    """Bytes from the broker that are no AMQP 0-9-1."""


@dataclass(frozen=True, slots=True)
class Said:
    """The broker has said something that has no content.

    Args:
        channel: 0 for the connection itself.
    """

    channel: int
    method: Method


@dataclass(frozen=True, slots=True)
class Message:
    """A message that was delivered, returned, or got.

    Args:
        method: ``Basic.Deliver``, ``Basic.Return`` or ``Basic.GetOk``.
        header: the content header as it came.
        body: the body.
    """

    method: Method
    header: bytes
    body: bytes

    @property
    def delivery_tag(self) -> int:
        """Of what was delivered or got."""
        return int(self.method.delivery_tag)  # type: ignore[attr-defined]

    @property
    def properties(self) -> content.Properties:
        """The header's properties."""
        return content.decode_properties(self.header)


Event = Said | Message


class Conversation:
    """The client's side of one AMQP 0-9-1 connection."""

    def __init__(self) -> None:
        self._splitter = FrameSplitter(0)
        self._output = [PROTOCOL_HEADER]
        self._frame_size_bytes = FRAME_SIZE_BYTES
        self._begun: tuple[Method, bytes, list[bytes], int] | None = None  # a content: what is there, what is missing

    def take_output(self) -> bytes:
        """What is to be sent now."""
        output, self._output = b"".join(self._output), []
        return output

    def receive(self, data: bytes) -> Iterator[Event]:
        """What the broker says with these bytes. Iterate to the end.

        Raises:
            ConversationFailed: it is no AMQP.
        """
        if data.startswith(b"AMQP"):
            raise ConversationFailed("it speaks another protocol than AMQP 0-9-1")
        try:
            for kind, channel, payload in self._splitter.split(data):
                event = self._event(kind, channel, payload)
                if event is not None:
                    yield event
        except (AmqpError, WireError) as error:
            raise ConversationFailed(f"it says what is no AMQP 0-9-1: {error}") from error

    def _event(self, kind: int, channel: int, payload: bytes) -> Event | None:
        if kind == METHOD:
            method = decode_method(payload)
            if isinstance(method, Basic.Deliver | Basic.GetOk | Basic.Return):
                self._begun = (method, b"", [], 0)
                return None
            return Said(channel, method)
        if kind == HEARTBEAT or self._begun is None:
            return None
        method, header, parts, missing_bytes = self._begun
        if kind == HEADER:
            header, missing_bytes = payload, content.body_size(payload)
        elif kind == BODY:
            parts.append(payload)
            missing_bytes -= len(payload)
        self._begun = (method, header, parts, missing_bytes)
        if missing_bytes > 0:
            return None
        self._begun = None
        return Message(method, header, b"".join(parts))

    # --- said to the broker

    def say(self, method: type[Method], channel: int = CHANNEL, **fields: Any) -> None:
        """Say a method that has no content; fields that are not given are zero, empty or false."""
        self._output.append(encode_frame(METHOD, channel, encode_method(build(method, **fields))))

    def publish(self, exchange: str, routing_key: str, header: bytes, body: bytes) -> None:
        """Publish a message with a content header as it stands."""
        address = hot.encode_address(exchange, routing_key)
        self._output.append(encode_frame(METHOD, CHANNEL, hot.PUBLISH + b"\x00\x00" + address + b"\x00"))
        self._output.append(encode_frame(HEADER, CHANNEL, header))
        limit_bytes = self._frame_size_bytes - FRAME_OVERHEAD_BYTES
        self._output += [
            encode_frame(BODY, CHANNEL, body[start : start + limit_bytes]) for start in range(0, len(body), limit_bytes)
        ]

    def beat(self) -> None:
        """Say that this side is there."""
        self._output.append(HEARTBEAT_FRAME)

    # --- the beginning

    def start_ok(self, mechanism: str, response: str, name: str) -> None:
        """Log in."""
        capabilities = {
            "publisher_confirms": True,
            "basic.nack": True,
            "consumer_cancel_notify": True,
            "connection.blocked": True,
            "authentication_failure_close": True,
        }
        properties = {
            "product": "amqp-broker",
            "version": __version__,
            "platform": "Python",
            "connection_name": name,
            "capabilities": capabilities,
        }
        self.say(
            Connection.StartOk,
            0,
            client_properties=properties,
            mechanism=mechanism,
            response=response,
            locale="en_US",
        )

    def tune(self, asked: Method, heartbeat_s: int) -> int:
        """Agree on the sizes; returns after how many seconds each side says something, 0 for never."""
        assert isinstance(asked, Connection.Tune)
        self._frame_size_bytes = min(asked.frame_max or FRAME_SIZE_BYTES, FRAME_SIZE_BYTES)
        agreed_s = min(asked.heartbeat, heartbeat_s) if asked.heartbeat and heartbeat_s else heartbeat_s
        self.say(
            Connection.TuneOk,
            0,
            channel_max=asked.channel_max,
            frame_max=self._frame_size_bytes,
            heartbeat=agreed_s,
        )
        return agreed_s


def closing_reason(method: Method) -> str:
    """What a broker says when it closes the connection or the channel."""
    assert isinstance(method, Connection.Close | Channel.Close)
    return f"{method.reply_code} {method.reply_text}"
