"""The methods and frames that go by once a message, packed by hand.

What is read is a method frame's payload; what is written is whole frames, ready to be sent. An *address* is the
exchange's name and the routing key as two short strings: it ends ``basic.publish`` but for one octet, and
``basic.deliver``, ``basic.get-ok`` and ``basic.return`` carry it on, so ``publish_payload[6:-1]`` is sent again as it
is.

All other methods are in ``methods.py``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

from amqp_broker.wire.errors import WireError
from amqp_broker.wire.frames import ALIKE_BYTES_MAX, BODY, FRAME_END, FRAME_OVERHEAD_BYTES, HEADER, METHOD
from amqp_broker.wire.strings import decode_utf8_shortstr, encode_shortstr

# The class and method ids that begin a method frame's payload.
PUBLISH: Final = b"\x00\x3c\x00\x28"
RETURN: Final = b"\x00\x3c\x00\x32"
DELIVER: Final = b"\x00\x3c\x00\x3c"
GET: Final = b"\x00\x3c\x00\x46"
GET_OK: Final = b"\x00\x3c\x00\x47"
GET_EMPTY: Final = b"\x00\x3c\x00\x48"
ACK: Final = b"\x00\x3c\x00\x50"
REJECT: Final = b"\x00\x3c\x00\x5a"
NACK: Final = b"\x00\x3c\x00\x78"

_END: Final = bytes((FRAME_END,))

_FRAME: Final = struct.Struct(">BHI")
_END_AND_FRAME: Final = struct.Struct(">BBHI")
_METHOD_FRAME: Final = struct.Struct(">BHI4s")
_pack_tag_and_bits: Final[Callable[[int, bool], bytes]] = struct.Struct(">QB").pack
_read_tag_and_bits: Final[Callable[[bytes], tuple[int, int]]] = struct.Struct(">4xQB").unpack
_TAGGED_FRAME: Final = struct.Struct(">BHI4sQB")
_TAGGED_FRAME_AND_END: Final = struct.Struct(">BHI4sQBB")
_COUNT_AND_END: Final = struct.Struct(">IB")
_EMPTY_FRAME: Final = struct.Struct(">BHI4sxB")
_RETURN_FRAME: Final = struct.Struct(">BHI4sH")

_MULTIPLE: Final = 1
_REQUEUE: Final = 2


def encode_address(exchange: str, routing_key: str) -> bytes:
    """Exchange and routing key as they follow each other in four methods.

    Raises:
        WireError: one of them is longer than 255 bytes.
    """
    return encode_shortstr(exchange) + encode_shortstr(routing_key)


def decode_publish(payload: bytes) -> tuple[str, str, bool, bool]:
    """Read ``basic.publish``.

    Returns:
        Exchange, routing key, mandatory, immediate.

    Raises:
        WireError: the payload is cut short or has bytes left over.
    """
    try:
        exchange_end = 7 + payload[6]
        key_start = exchange_end + 1
        key_end = key_start + payload[exchange_end]
        bits = payload[key_end]
    except IndexError:
        raise WireError("Basic.Publish is cut short") from None
    if key_end + 1 != len(payload):
        raise WireError("bytes are left over behind Basic.Publish")
    return (
        payload[7:exchange_end].decode("utf-8", "surrogateescape"),
        payload[key_start:key_end].decode("utf-8", "surrogateescape"),
        bits & 1 == 1,
        bits & 2 == 2,
    )


def decode_get(payload: bytes) -> tuple[str, bool]:
    """Read ``basic.get``: queue, no_ack.

    Raises:
        WireError: the payload is cut short or has bytes left over.
        AmqpError: 501, the queue's name is not UTF-8.
    """
    queue, end = decode_utf8_shortstr(payload, 6)
    if end + 1 != len(payload):
        raise WireError("Basic.Get has the wrong length")
    return queue, payload[end] & 1 == 1


def decode_ack(payload: bytes) -> tuple[int, bool]:
    """Read ``basic.ack``: delivery tag, multiple.

    Raises:
        WireError: the payload has not the length of an ack.
    """
    try:
        delivery_tag, bits = _read_tag_and_bits(payload)
    except struct.error:
        raise _wrong_length() from None
    return delivery_tag, bits & _MULTIPLE != 0


def decode_nack(payload: bytes) -> tuple[int, bool, bool]:
    """Read ``basic.nack``: delivery tag, multiple, requeue.

    Raises:
        WireError: the payload has not the length of a nack.
    """
    delivery_tag, bits = _decode_tagged(payload)
    return delivery_tag, bits & _MULTIPLE != 0, bits & _REQUEUE != 0


def decode_reject(payload: bytes) -> tuple[int, bool]:
    """Read ``basic.reject``: delivery tag, requeue.

    Raises:
        WireError: the payload has not the length of a reject.
    """
    delivery_tag, bits = _decode_tagged(payload)
    return delivery_tag, bits & 1 != 0


def _decode_tagged(payload: bytes) -> tuple[int, int]:
    try:
        delivery_tag, bits = _read_tag_and_bits(payload)
    except struct.error:
        raise _wrong_length() from None
    return delivery_tag, bits


def _wrong_length() -> WireError:
    return WireError("an acknowledgement has the wrong length")


def encode_deliver(
    channel: int, consumer_tag_shortstr: bytes, delivery_tag: int, redelivered: bool, address: bytes
) -> bytes:
    """The frame of ``basic.deliver``.

    Args:
        channel: where it goes.
        consumer_tag_shortstr: the consumer's tag, encoded once when it began to consume.
        delivery_tag: the number the client acknowledges it by.
        redelivered: whether it may have been delivered before.
        address: exchange and routing key it was published with.
    """
    payload_bytes = 13 + len(consumer_tag_shortstr) + len(address)
    return (
        _METHOD_FRAME.pack(METHOD, channel, payload_bytes, DELIVER)
        + consumer_tag_shortstr
        + _pack_tag_and_bits(delivery_tag, redelivered)
        + address
        + _END
    )


class DeliveryEncoder:
    """Encodes the deliveries of one channel: ``basic.deliver`` and its content, in one piece.

    A delivery is most often like the one before it in all but its tag and its body. So what stands between these is
    remembered, and asked for by identity: messages that were published alike share their address and their header.

    Args:
        channel: where they go.
        frame_size_bytes_max: the largest frame the peer takes, overhead included; 0 for any size.
    """

    __slots__ = (
        "_address",
        "_before_tag",
        "_behind_tag",
        "_body_bytes",
        "_channel",
        "_consumer_tag",
        "_frame_size_bytes_max",
        "_header",
    )

    def __init__(self, channel: int, frame_size_bytes_max: int) -> None:
        self._channel = channel
        self._frame_size_bytes_max = frame_size_bytes_max
        self._consumer_tag: bytes | None = None
        self._address: bytes | None = None
        self._header: bytes | None = None
        self._body_bytes = 0
        self._before_tag = b""
        self._behind_tag = b""

    def encode(
        self,
        consumer_tag_shortstr: bytes,
        delivery_tag: int,
        redelivered: bool,
        address: bytes,
        header_payload: bytes,
        body: bytes,
    ) -> bytes:
        """The frames of one delivery; the arguments are those of ``encode_deliver`` and ``content_parts``."""
        if address is not self._address or consumer_tag_shortstr is not self._consumer_tag:
            self._remember_address(consumer_tag_shortstr, address)
        is_alike = header_payload is self._header and len(body) == self._body_bytes
        if not is_alike and not self._remember_header(address, header_payload, len(body)):
            method = encode_deliver(self._channel, consumer_tag_shortstr, delivery_tag, redelivered, address)
            content = content_parts(self._channel, header_payload, body, self._frame_size_bytes_max)
            return b"".join((method, *content))
        return b"".join((self._before_tag, _pack_tag_and_bits(delivery_tag, redelivered), self._behind_tag, body, _END))

    def _remember_address(self, consumer_tag_shortstr: bytes, address: bytes) -> None:
        payload_bytes = 13 + len(consumer_tag_shortstr) + len(address)
        self._before_tag = _METHOD_FRAME.pack(METHOD, self._channel, payload_bytes, DELIVER) + consumer_tag_shortstr
        self._consumer_tag = consumer_tag_shortstr
        self._address = address
        self._header = None

    def _remember_header(self, address: bytes, header_payload: bytes, body_bytes: int) -> bool:
        """Returns False where the body needs more frames than one, or none, or where it would be much to remember."""
        limit_bytes = self._frame_size_bytes_max or body_bytes + FRAME_OVERHEAD_BYTES
        if not 0 < body_bytes <= limit_bytes - FRAME_OVERHEAD_BYTES or len(header_payload) > ALIKE_BYTES_MAX:
            return False
        self._behind_tag = b"".join(
            (
                address,
                _END_AND_FRAME.pack(FRAME_END, HEADER, self._channel, len(header_payload)),
                header_payload,
                _END_AND_FRAME.pack(FRAME_END, BODY, self._channel, body_bytes),
            )
        )
        self._header = header_payload
        self._body_bytes = body_bytes
        return True


def encode_get_ok(channel: int, delivery_tag: int, redelivered: bool, address: bytes, message_count: int) -> bytes:
    """The frame of ``basic.get-ok``; ``message_count`` is how many messages are still ready."""
    return (
        _TAGGED_FRAME.pack(METHOD, channel, 17 + len(address), GET_OK, delivery_tag, redelivered)
        + address
        + _COUNT_AND_END.pack(message_count, FRAME_END)
    )


def encode_get_empty(channel: int) -> bytes:
    """The frame of ``basic.get-empty``, whose only field is an empty short string."""
    return _EMPTY_FRAME.pack(METHOD, channel, 5, GET_EMPTY, FRAME_END)


def encode_return(channel: int, reply_code: int, reply_text: str, address: bytes) -> bytes:
    """The frame of ``basic.return``.

    Raises:
        WireError: the text is longer than 255 bytes.
    """
    text = encode_shortstr(reply_text)
    payload_bytes = 6 + len(text) + len(address)
    return _RETURN_FRAME.pack(METHOD, channel, payload_bytes, RETURN, reply_code) + text + address + _END


def encode_ack(channel: int, delivery_tag: int, multiple: bool) -> bytes:
    """The frame of ``basic.ack``, which confirms what was published."""
    return _TAGGED_FRAME_AND_END.pack(METHOD, channel, 13, ACK, delivery_tag, multiple, FRAME_END)


def encode_nack(channel: int, delivery_tag: int, multiple: bool, requeue: bool = True) -> bytes:
    """The frame of ``basic.nack``, which refuses what was published; ``requeue`` has its default, as in RabbitMQ."""
    bits = multiple | requeue << 1
    return _TAGGED_FRAME_AND_END.pack(METHOD, channel, 13, NACK, delivery_tag, bits, FRAME_END)


def encode_content(channel: int, header_payload: bytes, body: bytes, frame_size_bytes_max: int) -> bytes:
    """The frames of one message behind its method; the arguments are those of ``content_parts``."""
    return b"".join(content_parts(channel, header_payload, body, frame_size_bytes_max))


def content_parts(
    channel: int, header_payload: bytes, body: bytes, frame_size_bytes_max: int
) -> list[bytes | memoryview]:
    """The frames of one message behind its method: the content header, and the body in as many as it needs, or none.

    They come in parts, to be sent as they are where the body is so large that copying it takes longer than all else.

    Args:
        channel: where they go.
        header_payload: the content header's payload, as it was published.
        body: the whole body.
        frame_size_bytes_max: the largest frame the peer takes, overhead included; 0 for any size.
    """
    body_bytes = len(body)
    header = _FRAME.pack(HEADER, channel, len(header_payload)) + header_payload
    payload_bytes_max = frame_size_bytes_max - FRAME_OVERHEAD_BYTES if frame_size_bytes_max else body_bytes
    if 0 < body_bytes <= payload_bytes_max:
        return [header + _END_AND_FRAME.pack(FRAME_END, BODY, channel, body_bytes), body, _END]
    parts: list[bytes | memoryview] = [header]
    whole = memoryview(body)
    for start in range(0, body_bytes, payload_bytes_max or 1):
        piece = whole[start : start + payload_bytes_max]
        parts.append(_END_AND_FRAME.pack(FRAME_END, BODY, channel, len(piece)))
        parts.append(piece)
    parts.append(_END)
    return parts
