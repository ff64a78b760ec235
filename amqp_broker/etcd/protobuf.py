"""The part of protobuf's encoding that etcd's messages need: varints and length-delimited fields.

A message that is read becomes a mapping from field numbers to all the values that stood there, in their order; what its
fields mean is said in ``messages.py``. Bytes are copied when they are asked for, and no sooner: what is within messages
within messages would be copied once for each. (Protocol Buffers documentation, "Encoding".)
"""

from __future__ import annotations

from typing import Final

VARINT: Final = 0
FIXED_64: Final = 1
LENGTH_DELIMITED: Final = 2
FIXED_32: Final = 5

Part = bytes | memoryview
Value = int | memoryview  # a view of what was read
Fields = dict[int, list[Value]]


class MalformedMessage(Exception):
    """Bytes that are no protobuf message."""


def encode_varint(number: int) -> bytes:
    """A varint; a negative number takes ten bytes, as an int64 does."""
    if number < 0:
        number += 1 << 64
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def integer(field: int, number: int) -> bytes:
    """An integer or boolean field; zero is what a reader assumes, and is not written."""
    return encode_varint(field << 3 | VARINT) + encode_varint(number) if number else b""


def data(field: int, value: bytes) -> bytes:
    """A field of bytes or text; empty is what a reader assumes, and is not written."""
    return message(field, value) if value else b""


def message(field: int, encoded: bytes) -> bytes:
    """A field that is a message: written even when it is empty, because its presence says something."""
    return beginning(field, len(encoded)) + encoded


def beginning(field: int, size_bytes: int) -> bytes:
    """What stands before the bytes of a field: for who joins what is large himself, and once."""
    return encode_varint(field << 3 | LENGTH_DELIMITED) + encode_varint(size_bytes)


def decode(encoded: Part) -> Fields:
    """Read a message.

    Raises:
        MalformedMessage: it cannot be read.
    """
    fields: Fields = {}
    view = memoryview(encoded)
    offset, end = 0, len(encoded)
    while offset < end:
        tag, offset = _read_varint(encoded, offset)
        kind = tag & 7
        value: Value
        if kind == VARINT:
            value, offset = _read_varint(encoded, offset)
        else:
            if kind == LENGTH_DELIMITED:
                size, offset = _read_varint(encoded, offset)
            elif kind == FIXED_64:
                size = 8
            elif kind == FIXED_32:
                size = 4
            else:
                raise MalformedMessage(f"a field of wire type {kind}")
            if offset + size > end:
                raise MalformedMessage("a field is longer than its message")
            value, offset = view[offset : offset + size], offset + size
        fields.setdefault(tag >> 3, []).append(value)
    return fields


def _read_varint(encoded: Part, offset: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        if offset >= len(encoded) or shift > 63:
            raise MalformedMessage("a varint does not end")
        byte = encoded[offset]
        offset += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, offset
        shift += 7


def integer_of(fields: Fields, field: int) -> int:
    """The integer of a field, as an int64; 0 where it is not there.

    Raises:
        MalformedMessage: the field is no integer.
    """
    values = fields.get(field)
    if not values:
        return 0
    number = values[-1]
    if not isinstance(number, int):
        raise MalformedMessage(f"field {field} is no integer")
    return number - (1 << 64) if number >> 63 else number


def data_of(fields: Fields, field: int) -> bytes:
    """The bytes of a field; empty where it is not there.

    Raises:
        MalformedMessage: the field is no bytes.
    """
    return bytes(message_in(fields, field))


def all_data_of(fields: Fields, field: int) -> list[bytes]:
    """All the values of a repeated field of bytes.

    Raises:
        MalformedMessage: one of them is no bytes.
    """
    return list(map(bytes, messages_in(fields, field)))


def message_in(fields: Fields, field: int) -> Part:
    """The message of a field, to be decoded; an empty one where it is not there.

    Raises:
        MalformedMessage: the field is no bytes.
    """
    messages = messages_in(fields, field)
    return messages[-1] if messages else b""


def messages_in(fields: Fields, field: int) -> list[memoryview]:
    """All the messages of a repeated field, to be decoded.

    Raises:
        MalformedMessage: one of them is no bytes.
    """
    found = []
    for value in fields.get(field, ()):
        if isinstance(value, int):
            raise MalformedMessage(f"field {field} is no bytes")
        found.append(value)
    return found
