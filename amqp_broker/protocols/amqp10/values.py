"""Values of AMQP 1.0 as fields of AMQP 0-9-1's tables, and back; what has no type there becomes text or bytes."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any, Final

from amqp_broker.protocols.amqp10 import typed
from amqp_broker.protocols.amqp10.compound import Array, Described, Map
from amqp_broker.wire.table import (
    Byte,
    Decimal,
    FieldValue,
    Float32,
    Short,
    SignedInt,
    Table,
    Timestamp,
    UnsignedByte,
    UnsignedInt,
    UnsignedShort,
    plain_name,
)

LONG_MAX: Final = 0x7FFF_FFFF_FFFF_FFFF
UTF8_BYTES_MAX: Final = 4_096  # a longer string of AMQP 0-9-1 is taken for bytes, as with RabbitMQ


def to_field(value: Any) -> FieldValue:
    """A value of AMQP 1.0 as a field."""
    typed_field = _FIELDS.get(type(value))
    if typed_field is not None:
        return typed_field(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return "".join((value, ""))
    if isinstance(value, int):
        return typed.plain(value) if value <= LONG_MAX else str(typed.plain(value))
    if isinstance(value, float):
        return float(value)
    if isinstance(value, bytes):  # of its strings nobody knows whether they are text
        return value.decode("utf-8", "surrogateescape")
    if isinstance(value, list):
        return [to_field(item) for item in value]
    if isinstance(value, Array):
        return [to_field(item) for item in value.items]
    if isinstance(value, Map):
        return table_of(value)
    return to_field(value.value) if isinstance(value, Described) else None


def table_of(value: Map) -> Table:
    """A map as a table; what is not named by text is left out."""
    table: Table = {}
    for key, item in value.pairs:
        if isinstance(key, str) and len(key.encode()) <= 255:
            table["".join((key, ""))] = to_field(item)
    return table


def _seconds(value: int) -> FieldValue:
    return Timestamp(max(value // 1000, 0))


def _urn(value: bytes) -> FieldValue:
    return f"urn:uuid:{uuid.UUID(bytes=bytes(value))}"


# By the very class of a value, which is passed on as it is: what mypyc knows to be a number forgets its width.
_FIELDS: Final[dict[type, Callable[[Any], FieldValue]]] = {
    typed.UByte: UnsignedByte,
    typed.UShort: UnsignedShort,
    typed.UInt: UnsignedInt,
    typed.Byte: Byte,
    typed.Short: Short,
    typed.Int: SignedInt,
    typed.Float: Float32,
    typed.Timestamp: _seconds,
    typed.Uuid: _urn,
    typed.Decimal: bytes,
}


def from_field(value: FieldValue) -> Any:
    """A field as a value of AMQP 1.0."""
    typed_value = _VALUES.get(type(value))
    if typed_value is not None:
        return typed_value(value)
    if isinstance(value, str):
        data = value.encode("utf-8", "surrogateescape")
        if len(data) > UTF8_BYTES_MAX or b"\0" in data:
            return data
        try:
            return data.decode()
        except UnicodeDecodeError:
            return data
    if isinstance(value, Decimal):
        return value.unscaled / 10**value.scale
    if isinstance(value, list):
        return [from_field(item) for item in value]
    if isinstance(value, dict):
        return map_of(value, is_symbol=True)
    return value


def readable(text: str) -> str:
    """A text as a string; what is no UTF-8 in it is replaced."""
    return text.encode("utf-8", "replace").decode()


def _milliseconds(value: int) -> Any:
    return typed.Timestamp(min(value * 1000, LONG_MAX))


# As above.
_VALUES: Final[dict[type, Callable[[Any], Any]]] = {
    UnsignedByte: typed.UByte,
    UnsignedShort: typed.UShort,
    UnsignedInt: typed.UInt,
    Byte: typed.Byte,
    Short: typed.Short,
    SignedInt: typed.Int,
    Float32: typed.Float,
    Timestamp: _milliseconds,
}


def map_of(table: Table, *, is_symbol: bool) -> Map:
    """A table as a map, its names symbols or strings."""
    pairs: list[tuple[Any, Any]] = []
    for name, value in table.items():
        said = plain_name(name)
        key = typed.Symbol(said) if is_symbol and said.isascii() else from_field(said)
        pairs.append((key, from_field(value)))
    return Map(pairs)
