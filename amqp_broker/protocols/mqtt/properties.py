"""MQTT 5's properties: which there are, which packet may carry which, and their bytes (MQTT 5.0, 2.2.2).

Values are held by their identifiers. A user property may stand several times and keeps its order; so does a
subscription identifier in a PUBLISH; every other property stands once.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from amqp_broker.protocols.mqtt.encoding import Reader, encode_binary, encode_string, encode_variable_integer
from amqp_broker.protocols.mqtt.reasons import malformed, protocol_error


class Property(IntEnum):
    """The identifiers (MQTT 5.0, table 2-4)."""

    PAYLOAD_FORMAT_INDICATOR = 0x01
    MESSAGE_EXPIRY_INTERVAL = 0x02
    CONTENT_TYPE = 0x03
    RESPONSE_TOPIC = 0x08
    CORRELATION_DATA = 0x09
    SUBSCRIPTION_IDENTIFIER = 0x0B
    SESSION_EXPIRY_INTERVAL = 0x11
    ASSIGNED_CLIENT_IDENTIFIER = 0x12
    SERVER_KEEP_ALIVE = 0x13
    AUTHENTICATION_METHOD = 0x15
    AUTHENTICATION_DATA = 0x16
    REQUEST_PROBLEM_INFORMATION = 0x17
    WILL_DELAY_INTERVAL = 0x18
    REQUEST_RESPONSE_INFORMATION = 0x19
    RESPONSE_INFORMATION = 0x1A
    SERVER_REFERENCE = 0x1C
    REASON_STRING = 0x1F
    RECEIVE_MAXIMUM = 0x21
    TOPIC_ALIAS_MAXIMUM = 0x22
    TOPIC_ALIAS = 0x23
    MAXIMUM_QOS = 0x24
    RETAIN_AVAILABLE = 0x25
    USER_PROPERTY = 0x26
    MAXIMUM_PACKET_SIZE = 0x27
    WILDCARD_SUBSCRIPTION_AVAILABLE = 0x28
    SUBSCRIPTION_IDENTIFIER_AVAILABLE = 0x29
    SHARED_SUBSCRIPTION_AVAILABLE = 0x2A


class Kind(IntEnum):
    """The types of values."""

    BYTE = 1
    TWO_BYTES = 2
    FOUR_BYTES = 3
    VARIABLE_INTEGER = 4
    STRING = 5
    BINARY = 6
    STRING_PAIR = 7


Value = int | str | bytes | list[int] | list[tuple[str, str]]
Properties = dict[int, Value]  # by identifier; user properties and subscription identifiers are lists

KINDS: Final[dict[int, Kind]] = {
    0x01: Kind.BYTE,
    0x02: Kind.FOUR_BYTES,
    0x03: Kind.STRING,
    0x08: Kind.STRING,
    0x09: Kind.BINARY,
    0x0B: Kind.VARIABLE_INTEGER,
    0x11: Kind.FOUR_BYTES,
    0x12: Kind.STRING,
    0x13: Kind.TWO_BYTES,
    0x15: Kind.STRING,
    0x16: Kind.BINARY,
    0x17: Kind.BYTE,
    0x18: Kind.FOUR_BYTES,
    0x19: Kind.BYTE,
    0x1A: Kind.STRING,
    0x1C: Kind.STRING,
    0x1F: Kind.STRING,
    0x21: Kind.TWO_BYTES,
    0x22: Kind.TWO_BYTES,
    0x23: Kind.TWO_BYTES,
    0x24: Kind.BYTE,
    0x25: Kind.BYTE,
    0x26: Kind.STRING_PAIR,
    0x27: Kind.FOUR_BYTES,
    0x28: Kind.BYTE,
    0x29: Kind.BYTE,
    0x2A: Kind.BYTE,
}
BOOLEANS: Final = frozenset({0x01, 0x17, 0x19, 0x24, 0x25, 0x28, 0x29, 0x2A})  # bytes that are 0 or 1
NEVER_ZERO: Final = frozenset({0x0B, 0x21, 0x23, 0x27})

_RESULT: Final = frozenset({0x1F, 0x26})  # what an answer may say: a reason in words, and user properties
CONNECT_PROPERTIES: Final = frozenset({0x11, 0x15, 0x16, 0x17, 0x19, 0x21, 0x22, 0x26, 0x27})
CONNACK_PROPERTIES: Final = frozenset(
    {0x11, 0x12, 0x13, 0x15, 0x16, 0x1A, 0x1C, 0x1F, 0x21, 0x22, 0x24, 0x25, 0x26, 0x27, 0x28, 0x29, 0x2A}
)
WILL_PROPERTIES: Final = frozenset({0x01, 0x02, 0x03, 0x08, 0x09, 0x18, 0x26})
PUBLISH_PROPERTIES: Final = frozenset({0x01, 0x02, 0x03, 0x08, 0x09, 0x0B, 0x23, 0x26})
ACKNOWLEDGEMENT_PROPERTIES: Final = _RESULT
SUBSCRIBE_PROPERTIES: Final = frozenset({0x0B, 0x26})
UNSUBSCRIBE_PROPERTIES: Final = frozenset({0x26})
DISCONNECT_PROPERTIES: Final = _RESULT | {0x11, 0x1C}
AUTH_PROPERTIES: Final = _RESULT | {0x15, 0x16}


def read_properties(reader: Reader, allowed: frozenset[int], *, repeated: frozenset[int] = frozenset()) -> Properties:
    """Read the properties of one packet.

    Args:
        reader: at the length of the properties.
        allowed: the identifiers that the packet may carry.
        repeated: those that may stand several times, beside user properties; their values become a list.

    Raises:
        MqttError: 0x81 for bytes that cannot be read and for a property that does not belong here (MQTT 5.0, 2.2.2.2),
            0x82 for one that stands twice or has a value that it must not have.
    """
    size = reader.variable_integer()
    if size == 0:
        return {}
    if size > reader.left:
        raise malformed("the properties are longer than the packet")
    end = reader.offset + size
    properties: Properties = {}
    while reader.offset < end:
        identifier = reader.variable_integer()
        if identifier not in allowed:
            raise malformed(f"property {identifier:#04x} is not allowed here")
        _add(properties, identifier, _read_value(reader, identifier), repeated)
    if reader.offset != end:
        raise malformed("the properties end in the middle of one")
    return properties


def _add(
    properties: Properties, identifier: int, value: int | str | bytes | tuple[str, str], repeated: frozenset[int]
) -> None:
    before = properties.get(identifier)
    if isinstance(value, tuple):
        pairs = properties.setdefault(identifier, [])
        assert isinstance(pairs, list)
        pairs.append(value)  # type: ignore[arg-type]
    elif identifier in repeated and isinstance(value, int):
        numbers = properties.setdefault(identifier, [])
        assert isinstance(numbers, list)
        numbers.append(value)  # type: ignore[arg-type]
    elif before is not None:
        raise protocol_error(f"property {identifier:#04x} stands twice")
    else:
        properties[identifier] = value


def _read_value(reader: Reader, identifier: int) -> int | str | bytes | tuple[str, str]:
    kind = KINDS[identifier]
    if kind is Kind.STRING:
        return reader.string()
    if kind is Kind.BINARY:
        return reader.binary()
    if kind is Kind.STRING_PAIR:
        name = reader.string()
        return name, reader.string()
    if kind is Kind.BYTE:
        number = reader.byte()
    elif kind is Kind.TWO_BYTES:
        number = reader.two_bytes()
    elif kind is Kind.FOUR_BYTES:
        number = reader.four_bytes()
    else:
        number = reader.variable_integer()
    if (identifier in BOOLEANS and number > 1) or (identifier in NEVER_ZERO and number == 0):
        raise protocol_error(f"property {identifier:#04x} must not be {number}")
    return number


def encode_properties(properties: Properties) -> bytes:
    """The properties with their length in front; an empty dictionary is one byte."""
    if not properties:
        return b"\0"
    parts: list[bytes] = []
    for identifier, value in properties.items():
        kind, values = KINDS[identifier], value if isinstance(value, list) else (value,)
        parts.extend(bytes((identifier,)) + _encode_value(kind, one) for one in values)
    body = b"".join(parts)
    return encode_variable_integer(len(body)) + body


def _encode_value(kind: Kind, value: int | str | bytes | tuple[str, str]) -> bytes:
    if isinstance(value, tuple):
        return encode_string(value[0]) + encode_string(value[1])
    if isinstance(value, str):
        return encode_string(value)
    if isinstance(value, bytes):
        return encode_binary(value)
    if kind is Kind.VARIABLE_INTEGER:
        return encode_variable_integer(value)
    return value.to_bytes(_WIDTHS[kind], "big")


_WIDTHS: Final = {Kind.BYTE: 1, Kind.TWO_BYTES: 2, Kind.FOUR_BYTES: 4}


def number(properties: Properties, identifier: Property, default: int) -> int:
    """The value of a property that is a number, or what holds without it."""
    value = properties.get(identifier)
    return value if isinstance(value, int) else default


def text(properties: Properties, identifier: Property) -> str | None:
    """The value of a property that is a string; None without it."""
    value = properties.get(identifier)
    return value if isinstance(value, str) else None


def user_properties(properties: Properties) -> list[tuple[str, str]]:
    """The user properties, in their order."""
    value = properties.get(Property.USER_PROPERTY, [])
    return [pair for pair in value if isinstance(pair, tuple)] if isinstance(value, list) else []
