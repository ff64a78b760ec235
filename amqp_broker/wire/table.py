"""Field tables and arrays, with the type of every value kept (AMQP 0-9-1 section 4.2.5.5, and RabbitMQ's errata to it).

What was decoded is encoded to the same bytes again, because RabbitMQ compares and shows arguments by their types: an
integer remembers its width, a string is told from a byte array. Not kept are an ``L``, which is an ``l`` from then on,
and the byte of a true boolean, which becomes 1 (both as in RabbitMQ). Of several fields of one name the first counts;
the others stay in the table as well (``RepeatedName``).

Does not hold the rules of comparing arguments.
"""

from __future__ import annotations

import struct
from typing import NamedTuple, TypeAlias

from amqp_broker.wire.errors import MalformedTable, WireError
from amqp_broker.wire.strings import decode_shortstr, encode_longstr, encode_shortstr

NESTING_DEPTH_MAX = 100
RECORD_DEPTH = 0  # of the fields of a record of ours, which have a client's table in them


class RepeatedName(str):
    """The name of a field that comes behind another one of this name in the same table.

    It equals nothing but itself, so that it neither replaces nor is found in place of the first one, and goes wherever
    the table is copied, sorted and written to.
    """

    def __eq__(self, other: object) -> bool:
        return self is other

    def __ne__(self, other: object) -> bool:
        return self is not other

    def __hash__(self) -> int:
        return id(self)


def plain_name(name: str) -> str:
    """The name as a text that equals others: for a ``RepeatedName`` that of the first field."""
    return name if type(name) is str else "".join((name, ""))


class Byte(int):
    """A signed 8-bit integer, type ``b``."""


class UnsignedByte(int):
    """An unsigned 8-bit integer, type ``B``."""


class Short(int):
    """A signed 16-bit integer, type ``s``."""


class UnsignedShort(int):
    """An unsigned 16-bit integer, type ``u``."""


class SignedInt(int):
    """A signed 32-bit integer, type ``I``."""


class UnsignedInt(int):
    """An unsigned 32-bit integer, type ``i``."""


class Timestamp(int):
    """Seconds since 1970 in UTC, type ``T``."""


class Float32(float):
    """A floating point number of 32 bits, type ``f``."""


class Decimal(NamedTuple):
    """A decimal number, type ``D``: ``unscaled`` divided by ten to the power of ``scale``."""

    scale: int
    unscaled: int


FieldValue: TypeAlias = "str | bool | int | float | bytes | Decimal | list[FieldValue] | dict[str, FieldValue] | None"
Table: TypeAlias = dict[str, FieldValue]
Array: TypeAlias = list[FieldValue]

_NUMBERS: dict[str, tuple[type[int | float], str]] = {
    "b": (Byte, "b"),
    "B": (UnsignedByte, "B"),
    "s": (Short, "h"),
    "u": (UnsignedShort, "H"),
    "I": (SignedInt, "i"),
    "i": (UnsignedInt, "I"),
    "l": (int, "q"),
    "T": (Timestamp, "Q"),
    "t": (bool, "B"),
    "f": (Float32, "f"),
    "d": (float, "d"),
}

_NUMBER_READERS = {ord(code): (struct.Struct(">" + layout), kind) for code, (kind, layout) in _NUMBERS.items()}
_NUMBER_READERS[ord("L")] = _NUMBER_READERS[ord("l")]
_NUMBER_WRITERS = {kind: (ord(code), struct.Struct(">" + layout)) for code, (kind, layout) in _NUMBERS.items()}

_DECIMAL = struct.Struct(">BI")
_LENGTH = struct.Struct(">I")

_LONGSTR = ord("S")
_BINARY = ord("x")
_TABLE = ord("F")
_ARRAY = ord("A")
_DECIMAL_CODE = ord("D")
_VOID = ord("V")

_TYPE_NAMES: dict[type, str] = {
    str: "longstr",
    bool: "bool",
    int: "long",
    float: "double",
    bytes: "binary",
    type(None): "void",
    list: "array",
    dict: "table",
    Byte: "byte",
    UnsignedByte: "unsignedbyte",
    Short: "short",
    UnsignedShort: "unsignedshort",
    SignedInt: "signedint",
    UnsignedInt: "unsignedint",
    Timestamp: "timestamp",
    Float32: "float",
    Decimal: "decimal",
}


def type_name(value: FieldValue) -> str:
    """The name RabbitMQ gives to the type of this value, as its error texts show it: ``longstr``, ``signedint``, ..."""
    return _TYPE_NAMES[type(value)]


def decode_table(data: bytes, offset: int, depth: int = 1) -> tuple[Table, int]:
    """Read a field table.

    Args:
        data: the bytes it stands in.
        offset: where its four length bytes begin.
        depth: how deep it counts as; 1 for one that is in no other.

    Returns:
        The table, and the offset behind it.

    Raises:
        WireError: it is longer than the data.
        MalformedTable: it holds an unknown type, a value that is cut short, or too deep a nesting.
    """
    start, end = _read_bounds(data, offset, len(data))
    try:
        return _read_table(data, start, end, depth), end
    except WireError as error:
        raise MalformedTable(str(error)) from error


def encode_table(table: Table, depth: int = 1) -> bytes:
    """Write a field table, its four length bytes included.

    Args:
        depth: how deep it counts as; 1 for one that is in no other.

    Raises:
        WireError: a value has no type, does not fit into its type, or is nested too deep.
    """
    output = bytearray()
    _write_table(output, table, depth)
    return bytes(output)


def _read_bounds(data: bytes, offset: int, end: int) -> tuple[int, int]:
    """Where the contents behind a four-byte length begin and end."""
    start = offset + 4
    stop = start + int.from_bytes(data[offset:start], "big")
    if stop > end:
        raise WireError("a length goes beyond what holds it")
    return start, stop


def _read_table(data: bytes, offset: int, end: int, depth: int) -> Table:
    _check_depth(depth)
    table: Table = {}
    while offset < end:
        name, offset = decode_shortstr(data, offset)
        if name in table:
            name = RepeatedName(name)
        table[name], offset = _read_value(data, offset, end, depth)
    return table


def _read_array(data: bytes, offset: int, end: int, depth: int) -> Array:
    _check_depth(depth)
    array: Array = []
    while offset < end:
        value, offset = _read_value(data, offset, end, depth)
        array.append(value)
    return array


def _read_value(data: bytes, offset: int, end: int, depth: int) -> tuple[FieldValue, int]:
    """The value whose type code stands at ``offset``, and the offset behind it."""
    if offset >= end:
        raise WireError("a field has no value")
    code = data[offset]
    offset += 1
    number = _NUMBER_READERS.get(code)
    if number is not None:
        layout, kind = number
        stop = offset + layout.size
        if stop > end:
            raise WireError("the data ends within a number")
        return kind(layout.unpack_from(data, offset)[0]), stop
    if code == _VOID:
        return None, offset
    if code == _DECIMAL_CODE:
        stop = offset + _DECIMAL.size
        if stop > end:
            raise WireError("the data ends within a decimal")
        return Decimal(*_DECIMAL.unpack_from(data, offset)), stop
    if code not in b"SxFA":
        raise WireError(f"no field type has the code {code}")
    start, stop = _read_bounds(data, offset, end)
    if code == _LONGSTR:
        return data[start:stop].decode("utf-8", "surrogateescape"), stop
    if code == _BINARY:
        return data[start:stop], stop
    if code == _TABLE:
        return _read_table(data, start, stop, depth + 1), stop
    return _read_array(data, start, stop, depth + 1), stop


def _write_table(output: bytearray, table: Table, depth: int) -> None:
    _check_depth(depth)
    start = _begin_length(output)
    for name, value in table.items():
        output += encode_shortstr(name)
        _write_value(output, value, depth)
    _end_length(output, start)


def _write_array(output: bytearray, array: Array, depth: int) -> None:
    _check_depth(depth)
    start = _begin_length(output)
    for value in array:
        _write_value(output, value, depth)
    _end_length(output, start)


def _write_value(output: bytearray, value: FieldValue, depth: int) -> None:
    """Append the type code and the bytes of a value."""
    if isinstance(value, int | float):
        _write_number(output, value)
    elif isinstance(value, str):
        output.append(_LONGSTR)
        output += encode_longstr(value)
    elif isinstance(value, bytes):
        output.append(_BINARY)
        output += _LENGTH.pack(len(value)) + value
    elif value is None:
        output.append(_VOID)
    elif isinstance(value, dict):
        output.append(_TABLE)
        _write_table(output, value, depth + 1)
    elif isinstance(value, list):
        output.append(_ARRAY)
        _write_array(output, value, depth + 1)
    elif isinstance(value, Decimal):
        output.append(_DECIMAL_CODE)
        output += _pack(_DECIMAL, value, *value)
    else:
        raise _no_type_for(value)


def _write_number(output: bytearray, value: float) -> None:
    writer = _NUMBER_WRITERS.get(type(value))
    if writer is None:
        raise _no_type_for(value)
    code, layout = writer
    output.append(code)
    output += _pack(layout, value, value)


def _pack(layout: struct.Struct, value: FieldValue, *parts: float) -> bytes:
    try:
        return layout.pack(*parts)
    except (struct.error, OverflowError):
        raise WireError(f"{value!r} does not fit into a {type_name(value)}") from None


def _no_type_for(value: object) -> WireError:
    return WireError(f"no field type holds a {type(value).__name__}")


def _begin_length(output: bytearray) -> int:
    """Reserve the bytes of a length and say where what it counts begins."""
    output += b"\x00\x00\x00\x00"
    return len(output)


def _end_length(output: bytearray, start: int) -> None:
    _LENGTH.pack_into(output, start - 4, len(output) - start)


def _check_depth(depth: int) -> None:
    if depth > NESTING_DEPTH_MAX:
        raise WireError(f"a table is nested deeper than {NESTING_DEPTH_MAX} levels")
