"""Content headers and the fourteen basic properties (AMQP 0-9-1 sections 2.3.5.2 and 4.2.6.1).

A header's payload is class id (2 bytes), weight (2), body size (8), property flags (2), and the properties that the
flags name. Most questions are answered without decoding it: a message travels with the header it came with.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Final

from amqp_broker.wire.errors import WireError
from amqp_broker.wire.strings import decode_shortstr, encode_shortstr
from amqp_broker.wire.table import Table, decode_table, encode_table

BASIC_CLASS_ID: Final = 60

FLAG_CONTENT_TYPE: Final = 0x8000
FLAG_CONTENT_ENCODING: Final = 0x4000
FLAG_HEADERS: Final = 0x2000
FLAG_DELIVERY_MODE: Final = 0x1000
FLAG_PRIORITY: Final = 0x0800
FLAG_CORRELATION_ID: Final = 0x0400
FLAG_REPLY_TO: Final = 0x0200
FLAG_EXPIRATION: Final = 0x0100
FLAG_MESSAGE_ID: Final = 0x0080
FLAG_TIMESTAMP: Final = 0x0040
FLAG_TYPE: Final = 0x0020
FLAG_USER_ID: Final = 0x0010
FLAG_APP_ID: Final = 0x0008
FLAG_CLUSTER_ID: Final = 0x0004
FLAG_CONTINUATION: Final = 0x0001

PROPERTIES_OFFSET: Final = 14

_FIXED: Final = struct.Struct(">HHQH")
_BODY_SIZE: Final = struct.Struct(">4xQ")
_FLAGS: Final = struct.Struct(">12xH")

_OCTET: Final = struct.Struct(">B")
_TIMESTAMP: Final = struct.Struct(">Q")


@dataclass(slots=True)
class Properties:
    """The properties of one message, in the order in which they are encoded; None is an absent one.

    ``timestamp`` is in seconds since 1970, ``expiration`` a decimal number of milliseconds as text.
    """

    content_type: str | None = None
    content_encoding: str | None = None
    headers: Table | None = None
    delivery_mode: int | None = None
    priority: int | None = None
    correlation_id: str | None = None
    reply_to: str | None = None
    expiration: str | None = None
    message_id: str | None = None
    timestamp: int | None = None
    type: str | None = None
    user_id: str | None = None
    app_id: str | None = None
    cluster_id: str | None = None


def _decode_octet(data: bytes, offset: int) -> tuple[int, int]:
    return data[offset], offset + 1


def _decode_timestamp(data: bytes, offset: int) -> tuple[int, int]:
    value: int = _TIMESTAMP.unpack_from(data, offset)[0]
    return value, offset + _TIMESTAMP.size


_Decoder = Callable[[bytes, int], tuple[Any, int]]
_Encoder = Callable[[Any], bytes]

_CODECS: dict[str, tuple[_Decoder, _Encoder]] = {
    "headers": (decode_table, encode_table),
    "delivery_mode": (_decode_octet, _OCTET.pack),
    "priority": (_decode_octet, _OCTET.pack),
    "timestamp": (_decode_timestamp, _TIMESTAMP.pack),
}

# Flag, name, decoder and encoder of each property, in the order of the wire; the first property has the highest flag.
_PLAN: Final = tuple(
    (FLAG_CONTENT_TYPE >> position, field.name, *_CODECS.get(field.name, (decode_shortstr, encode_shortstr)))
    for position, field in enumerate(fields(Properties))
)


def body_size(header_payload: bytes) -> int:
    """How many bytes the body has, all its frames together.

    Raises:
        WireError: the payload is too short to be a content header.
    """
    try:
        size: int = _BODY_SIZE.unpack_from(header_payload)[0]
    except struct.error:
        raise WireError("a content header is too short for a body size") from None
    return size


def property_flags(header_payload: bytes) -> int:
    """The bits that say which properties are present: ``flags & FLAG_HEADERS``, ...

    Raises:
        WireError: the payload is too short, or a second word of flags follows; no property has its flag there.
    """
    try:
        flags: int = _FLAGS.unpack_from(header_payload)[0]
    except struct.error:
        raise WireError("a content header is too short for its property flags") from None
    if flags & FLAG_CONTINUATION:
        raise WireError("a content header has more property flags than there are properties")
    return flags


def delivery_mode(header_payload: bytes) -> int | None:
    """The delivery mode alone, 2 for a persistent message; None where it is absent. Decodes nothing before it.

    Raises:
        WireError: the payload ends before it.
    """
    flags = property_flags(header_payload)
    if not flags & FLAG_DELIVERY_MODE:
        return None
    offset = PROPERTIES_OFFSET
    try:
        if flags & FLAG_CONTENT_TYPE:
            offset += 1 + header_payload[offset]
        if flags & FLAG_CONTENT_ENCODING:
            offset += 1 + header_payload[offset]
        if flags & FLAG_HEADERS:
            start = offset + 4
            offset = start + int.from_bytes(header_payload[offset:start], "big")
        return header_payload[offset]
    except IndexError:
        raise WireError("a content header ends before its delivery mode") from None


def decode_properties(header_payload: bytes) -> Properties:
    """All properties of a content header.

    Args:
        header_payload: the content header frame's payload, from the class id on.

    Raises:
        WireError: it is cut short or malformed, or bytes are left over.
    """
    flags = property_flags(header_payload)
    properties = Properties()
    offset = PROPERTIES_OFFSET
    try:
        for flag, name, decode, _ in _PLAN:
            if flags & flag:
                value, offset = decode(header_payload, offset)
                setattr(properties, name, value)
    except (IndexError, struct.error):
        raise WireError("a content header ends within its properties") from None
    if offset != len(header_payload):
        raise WireError(f"{len(header_payload) - offset} bytes are left over behind the properties")
    return properties


def encode_content_header(body_size: int, properties: Properties) -> bytes:
    """The payload of a content header frame.

    Args:
        body_size: how many bytes the body has.
        properties: those that are not None are present.

    Raises:
        WireError: a property does not fit into its type.
    """
    flags = 0
    parts = []
    for flag, name, _, encode in _PLAN:
        value = getattr(properties, name)
        if value is not None:
            flags |= flag
            try:
                parts.append(encode(value))
            except struct.error:
                raise WireError(f"{value!r} does not fit into the property {name}") from None
    return _FIXED.pack(BASIC_CLASS_ID, 0, body_size, flags) + b"".join(parts)
