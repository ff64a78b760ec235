"""AMQP 1.0's types into bytes (AMQP 1.0, part 1): values, as few bytes as their type allows."""

from __future__ import annotations

import struct
from typing import Final

from amqp_broker.protocols.amqp10.compound import WIDTHS, Array, Described, Map, Value
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
    if value is None:
        return NULL
    if isinstance(value, str):
        return _encode_text(value)
    if isinstance(value, bool):
        return b"\x41" if value else b"\x42"
    if isinstance(value, int):
        return _encode_int(value)
    if isinstance(value, bytes):
        if isinstance(value, Uuid):
            return b"\x98" + value
        if isinstance(value, Decimal):
            return {4: b"\x74", 8: b"\x84", 16: b"\x94"}[len(value)] + value
        return _sized(0xA0, value)
    if isinstance(value, float):
        return b"\x72" + _F32.pack(value) if isinstance(value, Float) else b"\x82" + _F64.pack(value)
    if isinstance(value, list):
        return encode_list([_encode(item) for item in value])
    if isinstance(value, Map):
        return _encode_map(value)
    if isinstance(value, Described):
        return b"\0" + _encode(value.descriptor) + _encode(value.value)
    if isinstance(value, Array):
        return _encode_array(value)
    raise WireError(f"{value!r} has no type of AMQP 1.0")


def _sized(code: int, data: bytes) -> bytes:
    """A value of variable width behind its constructor; ``code`` is the one with a length of one byte."""
    if len(data) < 256:
        return bytes((code, len(data))) + data
    return bytes((code + 0x10,)) + _U32.pack(len(data)) + data


def _encode_text(value: str) -> bytes:
    if isinstance(value, Symbol):
        return _sized(0xA3, value.encode("ascii"))
    if isinstance(value, Char):
        return b"\x73" + _U32.pack(ord(value))
    return _sized(0xA1, value.encode())


def _encode_int(value: int) -> bytes:
    if isinstance(value, UInt):
        if 0 <= value < 256:
            return bytes((0x52, value)) if value else b"\x43"
        return b"\x70" + _U32.pack(value)
    if isinstance(value, ULong):
        if 0 <= value < 256:
            return bytes((0x53, value)) if value else b"\x44"
        return b"\x80" + _U64.pack(value)
    if isinstance(value, UByte):
        return b"\x50" + value.to_bytes(1, "big")
    if isinstance(value, UShort):
        return b"\x60" + _U16.pack(value)
    if isinstance(value, Byte):
        return b"\x51" + _I8.pack(value)
    if isinstance(value, Short):
        return b"\x61" + _I16.pack(value)
    if isinstance(value, Int):
        return b"\x54" + _I8.pack(value) if -128 <= value < 128 else b"\x71" + _I32.pack(value)
    if isinstance(value, Timestamp):
        return b"\x83" + _I64.pack(value)
    return b"\x55" + _I8.pack(value) if -128 <= value < 128 else b"\x81" + _I64.pack(value)


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
