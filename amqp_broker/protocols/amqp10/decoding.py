"""AMQP 1.0's types out of bytes (AMQP 1.0, part 1): values read, passed by, or known by their descriptor."""

from __future__ import annotations

import struct
from typing import Any, Final

from amqp_broker.protocols.amqp10.compound import DESCRIBED, WIDTHS, Array, Described, Map, Value
from amqp_broker.protocols.amqp10.typed import (
    Byte,
    Char,
    Decimal,
    Float,
    Int,
    Short,
    Symbol,
    Timestamp,
    UByte,
    UInt,
    ULong,
    UShort,
    Uuid,
)
from amqp_broker.wire.errors import WireError

NESTING_DEPTH_MAX: Final = 32
ITEMS_MAX: Final = 65_536  # of a value and all that it holds: they are made before anybody else has a turn
_SHORT_TEXT: Final = 0xA1
EMPTY_ITEMS_MAX: Final = 256  # of an array whose items take no bytes: a frame has room for thousands of those

_U16: Final = struct.Struct(">H")
_U32: Final = struct.Struct(">I")
_U64: Final = struct.Struct(">Q")
_I8: Final = struct.Struct(">b")
_I16: Final = struct.Struct(">h")
_I32: Final = struct.Struct(">i")
_I64: Final = struct.Struct(">q")
_F32: Final = struct.Struct(">f")
_F64: Final = struct.Struct(">d")
_TWO_U32: Final = struct.Struct(">II")


class Malformed(WireError):
    """Bytes that are no value of AMQP 1.0."""


class Room:
    """The room that is left for items.

    Args:
        items: how many there may be.
    """

    __slots__ = ("items",)

    def __init__(self, items: int) -> None:
        self.items = items

    def take(self, count: int) -> None:
        """So many come.

        Raises:
            Malformed: there is no room for them.
        """
        self.items -= count
        if self.items < 0:
            raise Malformed("a value has too many items")


def decode(data: bytes, offset: int, depth: int = 0) -> tuple[Value, int]:
    """Read a value.

    Args:
        data: the bytes it stands in.
        offset: where it begins.
        depth: how deep it counts as; 0 for one that is in no other.

    Returns:
        The value, and the offset behind it.

    Raises:
        Malformed: there is none, it is cut short, nested too deeply, or has too many items.
    """
    try:
        return _decode(data, offset, depth, Room(ITEMS_MAX))
    except (IndexError, struct.error):
        raise Malformed("a value is cut short") from None


def skip(data: bytes, offset: int) -> int:
    """The offset behind a value, which is not looked into but for its descriptor; raises as ``decode`` does."""
    try:
        end = _skip(data, offset, 0)
    except (IndexError, struct.error):
        raise Malformed("a value is cut short") from None
    if end > len(data):
        raise Malformed("a value is cut short")
    return end


def _skip(data: bytes, offset: int, depth: int) -> int:
    code = data[offset]
    while code == DESCRIBED:  # what describes may be described itself
        if depth >= NESTING_DEPTH_MAX:
            raise Malformed("descriptors are nested too deeply")
        depth += 1
        offset = _skip(data, offset + 1, depth)
        code = data[offset]
    offset += 1
    kind = code >> 4
    if kind in (0xA, 0xC, 0xE):
        return offset + 1 + data[offset]
    if kind in (0xB, 0xD, 0xF):
        return offset + 4 + int(_U32.unpack_from(data, offset)[0])
    if kind not in WIDTHS:
        raise Malformed(f"unknown type {code:#04x}")
    return offset + WIDTHS[kind]


def _decode(data: bytes, offset: int, depth: int, room: Room) -> tuple[Value, int]:
    code = data[offset]
    if code == DESCRIBED:
        _check_depth(depth)
        descriptor, offset = _decode(data, offset + 1, depth + 1, room)
        value, offset = _decode(data, offset, depth + 1, room)
        return Described(descriptor, value), offset
    return _decode_as(code, data, offset + 1, depth, room)


def _check_depth(depth: int) -> None:
    if depth >= NESTING_DEPTH_MAX:
        raise Malformed("values are nested too deeply")


def _decode_as(code: int, data: bytes, offset: int, depth: int, room: Room) -> tuple[Value, int]:
    """Read what stands behind a constructor."""
    kind = code >> 4
    if kind == 0x4:
        return _decode_empty(code), offset
    if kind <= 0x9:
        return _decode_fixed(code, data, offset)
    if kind == 0xA or kind == 0xB:
        return _decode_variable(code, data, offset)
    if kind == 0xC or kind == 0xD:
        return _decode_compound(code, data, offset, depth, room)
    return _decode_array(code, data, offset, depth, room)


def _decode_empty(code: int) -> Value:
    if code == 0x40:
        return None
    if code == 0x41:
        return True
    if code == 0x42:
        return False
    if code == 0x43:
        return UInt(0)
    if code == 0x44:
        return ULong(0)
    if code == 0x45:
        return []
    raise _unknown(code)


def _unknown(code: int) -> Malformed:
    return Malformed(f"unknown type {code:#04x}")


def _decode_fixed(code: int, data: bytes, offset: int) -> tuple[Value, int]:
    if code == 0x52:
        return UInt(data[offset]), offset + 1
    if code == 0x53:
        return ULong(data[offset]), offset + 1
    if code == 0x50:
        return UByte(data[offset]), offset + 1
    if code == 0x51:
        return Byte(_I8.unpack_from(data, offset)[0]), offset + 1
    if code == 0x54:
        return Int(_I8.unpack_from(data, offset)[0]), offset + 1
    if code == 0x55:
        return int(_I8.unpack_from(data, offset)[0]), offset + 1
    if code == 0x56:
        if data[offset] > 1:
            raise Malformed("a boolean is neither true nor false")
        return data[offset] == 1, offset + 1
    if code == 0x60:
        return UShort(_U16.unpack_from(data, offset)[0]), offset + 2
    if code == 0x61:
        return Short(_I16.unpack_from(data, offset)[0]), offset + 2
    if code == 0x70:
        return UInt(_U32.unpack_from(data, offset)[0]), offset + 4
    if code == 0x71:
        return Int(_I32.unpack_from(data, offset)[0]), offset + 4
    if code == 0x72:
        return Float(_F32.unpack_from(data, offset)[0]), offset + 4
    if code == 0x73:
        return _decode_char(data, offset), offset + 4
    if code == 0x80:
        return ULong(_U64.unpack_from(data, offset)[0]), offset + 8
    if code == 0x81:
        return int(_I64.unpack_from(data, offset)[0]), offset + 8
    if code == 0x82:
        return float(_F64.unpack_from(data, offset)[0]), offset + 8
    if code == 0x83:
        return Timestamp(_I64.unpack_from(data, offset)[0]), offset + 8
    if code in (0x74, 0x84, 0x94):
        end = offset + WIDTHS[code >> 4]
        return Decimal(_part(data, offset, end)), end
    if code == 0x98:
        return Uuid(_part(data, offset, offset + 16)), offset + 16
    raise _unknown(code)


def _decode_char(data: bytes, offset: int) -> Char:
    number = int(_U32.unpack_from(data, offset)[0])
    if number > 0x10FFFF or 0xD800 <= number <= 0xDFFF:
        raise Malformed(f"{number:#x} is no character")
    return Char(chr(number))


def _part(data: bytes, offset: int, end: int) -> bytes:
    if end > len(data):
        raise Malformed("a value is cut short")
    return data[offset:end]


def _decode_variable(code: int, data: bytes, offset: int) -> tuple[Value, int]:
    if code < 0xB0:
        start = offset + 1
        end = start + data[offset]
    else:
        start = offset + 4
        end = start + int(_U32.unpack_from(data, offset)[0])
    part = _part(data, start, end)
    kind = code & 0x0F
    if kind == 0x0:
        return part, end
    try:
        if kind == 0x1:
            return part.decode(), end
        if kind == 0x3:
            return Symbol(part.decode("ascii")), end
    except UnicodeDecodeError:
        raise Malformed("a string is no UTF-8, or a symbol no ASCII") from None
    raise _unknown(code)


def _decode_compound(code: int, data: bytes, offset: int, depth: int, room: Room) -> tuple[Value, int]:
    _check_depth(depth)
    if code < 0xD0:
        end = offset + 1 + data[offset]
        count = data[offset + 1]
        start = offset + 2
    else:
        size, count = _TWO_U32.unpack_from(data, offset)
        end = offset + 4 + size
        start = offset + 8
    kind = code & 0x0F
    if kind > 1:
        raise _unknown(code)
    if end > len(data) or start > end or count > end - start:
        raise Malformed("a list or a map is cut short")
    room.take(count)
    items: list[Any] = []
    offset = start
    for _ in range(count):
        if data[offset] == _SHORT_TEXT:  # as most are, and all else that they go through takes twice as long
            value, offset = _decode_variable(_SHORT_TEXT, data, offset + 1)
        else:
            value, offset = _decode(data, offset, depth + 1, room)
        items.append(value)
    if offset != end:
        raise Malformed("a list or a map does not end where it says")
    if kind == 0:
        return items, end
    if count & 1:
        raise Malformed("a map has a key without a value")
    return Map(list(zip(items[::2], items[1::2], strict=True))), end


def _decode_array(code: int, data: bytes, offset: int, depth: int, room: Room) -> tuple[Value, int]:
    _check_depth(depth)
    if code == 0xE0:
        end = offset + 1 + data[offset]
        count = data[offset + 1]
        start = offset + 2
    elif code == 0xF0:
        size, count = _TWO_U32.unpack_from(data, offset)
        end = offset + 4 + size
        start = offset + 8
    else:
        raise _unknown(code)
    if end > len(data) or start > end:
        raise Malformed("an array is cut short")
    offset = start
    descriptors: list[Any] = []  # the innermost first
    while data[offset] == DESCRIBED:
        _check_depth(depth + len(descriptors))
        descriptor, offset = _decode(data, offset + 1, depth + 1, room)
        descriptors.insert(0, descriptor)
    item_code = data[offset]
    offset += 1
    constructor = data[start:offset]
    are_empty = item_code >> 4 == 0x4
    if count > (EMPTY_ITEMS_MAX if are_empty else end - offset):
        raise Malformed("an array is cut short")
    room.take(count)
    items: list[Any] = []
    for _ in range(count if not are_empty else min(count, 1)):
        value, offset = _decode_as(item_code, data, offset, depth + 1, room)
        for descriptor in descriptors:
            value = Described(descriptor, value)
        items.append(value)
    if are_empty:
        items *= count
    if offset != end:
        raise Malformed("an array does not end where it says")
    return Array(constructor, items), end


def descriptor_code(data: bytes, offset: int) -> int:
    """The number that describes the value at an offset.

    Raises:
        Malformed: it is described by none.
    """
    if len(data) - offset >= 3 and data[offset] == DESCRIBED and data[offset + 1] == 0x53:
        return data[offset + 2]
    if offset >= len(data) or data[offset] != DESCRIBED:
        raise Malformed("a value has no descriptor")
    descriptor, _ = decode(data, offset + 1)
    return descriptor_number(descriptor)


_NAMES: Final = {
    "amqp:open:list": 0x10, "amqp:begin:list": 0x11, "amqp:attach:list": 0x12, "amqp:flow:list": 0x13,
    "amqp:transfer:list": 0x14, "amqp:disposition:list": 0x15, "amqp:detach:list": 0x16, "amqp:end:list": 0x17,
    "amqp:close:list": 0x18, "amqp:error:list": 0x1D, "amqp:received:list": 0x23, "amqp:accepted:list": 0x24,
    "amqp:rejected:list": 0x25, "amqp:released:list": 0x26, "amqp:modified:list": 0x27, "amqp:source:list": 0x28,
    "amqp:target:list": 0x29, "amqp:coordinator:list": 0x30, "amqp:sasl-init:list": 0x41,
    "amqp:sasl-response:list": 0x43, "amqp:header:list": 0x70, "amqp:delivery-annotations:map": 0x71,
    "amqp:message-annotations:map": 0x72, "amqp:properties:list": 0x73, "amqp:application-properties:map": 0x74,
    "amqp:data:binary": 0x75, "amqp:amqp-sequence:list": 0x76, "amqp:amqp-value:*": 0x77, "amqp:footer:map": 0x78,
}  # fmt: skip


def descriptor_number(descriptor: Value) -> int:
    """The number that a descriptor stands for, which may be said by name.

    Raises:
        Malformed: it is none that is known.
    """
    if isinstance(descriptor, ULong):
        return int(descriptor)
    if isinstance(descriptor, Symbol) and descriptor in _NAMES:
        return _NAMES[descriptor]
    raise Malformed(f"unknown descriptor {str(descriptor)[:50]!r}")
