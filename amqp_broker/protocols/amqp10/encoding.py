"""AMQP 1.0's types into bytes (AMQP 1.0, part 1): values, as few bytes as their type allows."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Final

from amqp_broker.protocols.amqp10.compound import WIDTHS, Array, Described, Map, Value
from amqp_broker.protocols.amqp10.typed import (
    Byte,
    Char,
    Decimal,
    Flag,
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

_U8: Final = struct.Struct(">B")
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

NULL: Final = b"\x40"


def encode(value: Value) -> bytes:
    """The bytes of a value, as few as its type allows; of an array, those that it came in.

    Raises:
        WireError: there is no such type, or it does not fit.
    """
    try:
        return _encode(value)
    except WireError:
        raise
    except (struct.error, ValueError, OverflowError):
        raise WireError(f"{value!r} does not fit into its type") from None


def _encode(value: Value) -> bytes:
    """Told by its very class, and passed on as it is: what mypyc knows to be an int forgets its width."""
    writer = _WRITERS.get(type(value))
    if writer is None:
        raise WireError(f"{value!r} has no type of AMQP 1.0")
    return writer(value)


def _encode_null(value: None) -> bytes:
    return NULL


def _encode_bool(value: bool) -> bytes:
    return b"\x41" if value else b"\x42"


def _encode_flag(value: int) -> bytes:
    return b"\x56\x01" if value else b"\x56\x00"


def _encode_uint(value: int) -> bytes:
    if 0 <= value < 256:
        return bytes((0x52, value)) if value else b"\x43"
    return b"\x70" + _U32.pack(value)


def _encode_ulong(value: int) -> bytes:
    if 0 <= value < 256:
        return bytes((0x53, value)) if value else b"\x44"
    return b"\x80" + _U64.pack(value)


def _encode_int(value: int) -> bytes:
    return b"\x54" + _I8.pack(value) if -128 <= value < 128 else b"\x71" + _I32.pack(value)


def _encode_long(value: int) -> bytes:
    return b"\x55" + _I8.pack(value) if -128 <= value < 128 else b"\x81" + _I64.pack(value)


def _encode_ubyte(value: int) -> bytes:
    return b"\x50" + _U8.pack(value)


def _encode_ushort(value: int) -> bytes:
    return b"\x60" + _U16.pack(value)


def _encode_byte(value: int) -> bytes:
    return b"\x51" + _I8.pack(value)


def _encode_short(value: int) -> bytes:
    return b"\x61" + _I16.pack(value)


def _encode_timestamp(value: int) -> bytes:
    return b"\x83" + _I64.pack(value)


def _encode_float(value: float) -> bytes:
    return b"\x72" + _F32.pack(value)


def _encode_double(value: float) -> bytes:
    return b"\x82" + _F64.pack(value)


def _encode_binary(value: bytes) -> bytes:
    return _sized(0xA0, value)


def _encode_uuid(value: bytes) -> bytes:
    return b"\x98" + value


def _encode_decimal(value: bytes) -> bytes:
    return {4: b"\x74", 8: b"\x84", 16: b"\x94"}[len(value)] + value


def _encode_string(value: str) -> bytes:
    return _sized(0xA1, value.encode())


def _encode_symbol(value: str) -> bytes:
    return _sized(0xA3, value.encode("ascii"))


def _encode_char(value: str) -> bytes:
    return b"\x73" + _U32.pack(ord(value))


def _encode_described(value: Described) -> bytes:
    return b"\0" + _encode(value.descriptor) + _encode(value.value)


def _encode_items(value: list[Any]) -> bytes:
    return encode_list([_encode(item) for item in value])


def _sized(code: int, data: bytes) -> bytes:
    """A value of variable width behind its constructor; ``code`` is the one with a length of one byte."""
    if len(data) < 256:
        return bytes((code, len(data))) + data
    return bytes((code + 0x10,)) + _U32.pack(len(data)) + data


def encode_list(items: list[bytes]) -> bytes:
    """A list of values that are encoded already."""
    if not items:
        return b"\x45"
    return _compound(0xC0, len(items), b"".join(items))


def _encode_map(value: Map) -> bytes:
    parts: list[bytes] = []
    for key, one in value.pairs:
        parts.append(_encode(key))
        parts.append(_encode(one))
    return _compound(0xC1, len(parts), b"".join(parts))


def _compound(code: int, count: int, data: bytes) -> bytes:
    if len(data) < 255 and count < 256:
        return bytes((code, len(data) + 1, count)) + data
    return bytes((code + 0x10,)) + _TWO_U32.pack(len(data) + 4, count) + data


def _encode_array(value: Array) -> bytes:
    return _compound(0xE0, len(value.items), _array_data(value))


def _array_data(value: Array) -> bytes:
    """What stands behind an array's size and count."""
    code = value.constructor[-1]
    return value.constructor + b"".join([_encode_as(code, _undescribed(item)) for item in value.items])


def _undescribed(value: Value) -> Value:
    while isinstance(value, Described):
        value = value.value
    return value


def _encode_as(code: int, value: Value) -> bytes:
    """A value without a constructor, as an array has it."""
    kind = code >> 4
    if kind == 0x4:
        return b""
    if kind in (0xA, 0xB):
        data = value.encode() if isinstance(value, str) else bytes(value)
        return (bytes((len(data),)) if kind == 0xA else _U32.pack(len(data))) + data
    if kind in (0xC, 0xD):
        return _encode_compound_as(kind, value)
    if kind in (0xE, 0xF):
        return _compound_as(kind == 0xE, len(value.items), _array_data(value))
    if isinstance(value, bytes):
        return bytes(value)
    if isinstance(value, Char):
        return _U32.pack(ord(value))
    if code in (0x72, 0x82):
        return _F32.pack(value) if code == 0x72 else _F64.pack(value)
    width = WIDTHS[kind]
    return int(value).to_bytes(width, "big", signed=code in (0x51, 0x54, 0x55, 0x61, 0x71, 0x81, 0x83))


def _encode_compound_as(kind: int, value: Value) -> bytes:
    parts: list[bytes] = []
    if isinstance(value, Map):
        for key, one in value.pairs:
            parts += (_encode(key), _encode(one))
    else:
        parts += [_encode(item) for item in value]
    return _compound_as(kind == 0xC, len(parts), b"".join(parts))


def _compound_as(is_narrow: bool, count: int, data: bytes) -> bytes:
    if is_narrow:
        return bytes((len(data) + 1, count)) + data
    return _TWO_U32.pack(len(data) + 4, count) + data


def symbols(*names: str) -> Array:
    """An array of symbols."""
    return Array(b"\xa3", [Symbol(name) for name in names])


_WRITERS: Final[dict[type, Callable[[Any], bytes]]] = {
    type(None): _encode_null,
    bool: _encode_bool,
    Flag: _encode_flag,
    UByte: _encode_ubyte,
    UShort: _encode_ushort,
    UInt: _encode_uint,
    ULong: _encode_ulong,
    Byte: _encode_byte,
    Short: _encode_short,
    Int: _encode_int,
    int: _encode_long,
    Float: _encode_float,
    float: _encode_double,
    Timestamp: _encode_timestamp,
    Uuid: _encode_uuid,
    Decimal: _encode_decimal,
    bytes: _encode_binary,
    Char: _encode_char,
    str: _encode_string,
    Symbol: _encode_symbol,
    list: _encode_items,
    Map: _encode_map,
    Array: _encode_array,
    Described: _encode_described,
}
