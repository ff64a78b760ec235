"""Bytes of AMQP 0-9-1 for the interop client, with the type of every table value kept.

pamqp gives the catalogue: which methods there are, their fields, the fields' types and defaults. The bytes are packed
and unpacked here, because pamqp refuses names that brokers accept and forgets the types of table values. Nothing of our
own broker is used: a mistake in its codec must not hide itself.

Not here: frames, sockets, and what may be said when.
"""

from __future__ import annotations

import datetime
import functools
import inspect
import struct
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from pamqp import commands
from pamqp.base import Frame as MethodClass

MethodType = type[MethodClass]

PROPERTY_NAMES: tuple[str, ...] = tuple(commands.Basic.Properties.__slots__)
BASIC_CLASS = 60


class T(NamedTuple):
    """A table value with its type: `T("I", 5)`, `T("S", b"text")`, `T("A", [...])`, `T("F", {...})`, `T("V", None)`.

    The tags are RabbitMQ's: `t` bool, `b` byte, `B` unsigned byte, `s` short, `u` unsigned short, `I` signed int,
    `i` unsigned int, `l` (and `L`) long, `f` float, `d` double, `D` decimal as `(scale, value)`, `S` longstr,
    `x` bytes, `A` array, `F` table, `T` timestamp in seconds, `V` void.
    """

    tag: str
    value: Any


_FIXED = {
    "t": "B", "b": "b", "B": "B", "s": "h", "u": "H", "I": "i", "i": "I", "l": "q", "L": "q", "f": "f", "d": "d",
    "T": "Q",
}  # fmt: skip


def as_bytes(text: str | bytes) -> bytes:
    """The bytes of a name; what was not UTF-8 when it was decoded comes back unchanged."""
    return text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")


def as_text(raw: bytes) -> str:
    """A name from its bytes; what is not UTF-8 survives as surrogates."""
    return raw.decode("utf-8", "surrogateescape")


def typed(value: Any) -> T:
    """A plain Python value as the table type most clients choose for it (an int takes `I` where it fits, else `l`)."""
    match value:
        case T():
            return value
        case bool():
            return T("t", value)
        case int():
            return T("I" if -(2**31) <= value < 2**31 else "l", value)
        case float():
            return T("d", value)
        case str() | bytes():
            return T("S", value)
        case None:
            return T("V", None)
        case datetime.datetime():
            return T("T", int(value.timestamp()))
        case Decimal():
            exponent = int(value.as_tuple().exponent)
            return T("D", (-exponent, int(value.scaleb(-exponent))))
        case Mapping():
            return T("F", value)
        case list() | tuple():
            return T("A", list(value))
    raise TypeError(f"no table type for {value!r}")


def plain(value: Any) -> Any:
    """A decoded table value, table or array without its types."""
    if isinstance(value, T):
        return plain(value.value)
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


def encode_short_string(text: str | bytes) -> bytes:
    raw = as_bytes(text)
    return struct.pack("B", len(raw)) + raw


def encode_long_string(text: str | bytes) -> bytes:
    raw = as_bytes(text)
    return struct.pack(">I", len(raw)) + raw


def encode_value(value: Any) -> bytes:
    """A table value: its tag and its bytes."""
    tag, content = typed(value)
    if tag in _FIXED:
        encoded = struct.pack(">" + _FIXED[tag], content)
    elif tag == "D":
        encoded = struct.pack(">BI", content[0], content[1] & 0xFFFFFFFF)
    elif tag in "Sx":
        encoded = encode_long_string(content)
    elif tag == "A":
        encoded = encode_long_string(b"".join(encode_value(item) for item in content))
    elif tag == "F":
        encoded = encode_table(content)
    elif tag == "V":
        encoded = b""
    else:
        encoded = as_bytes(content)  # an unknown tag, for tests of how a broker refuses it
    return tag.encode() + encoded


def encode_table(table: Mapping[str, Any] | bytes) -> bytes:
    """A field table with its length; bytes are taken as a table that is already packed, however wrong."""
    if isinstance(table, bytes):
        return encode_long_string(table)
    return encode_long_string(b"".join(encode_short_string(key) + encode_value(value) for key, value in table.items()))


class Reader:
    """Takes fields off the front of a byte string."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.offset = 0

    def take(self, size: int) -> bytes:
        piece = self.data[self.offset : self.offset + size]
        if len(piece) != size:
            raise ValueError(f"wanted {size} bytes at offset {self.offset}, there are {len(piece)}")
        self.offset += size
        return piece

    def number(self, code: str) -> Any:
        return struct.unpack(">" + code, self.take(struct.calcsize(">" + code)))[0]

    def short_string(self) -> str:
        return as_text(self.take(self.number("B")))

    def long_string(self) -> bytes:
        return self.take(self.number("I"))

    def table(self) -> dict[str, T]:
        """A table; the second field of a name `a` stands under `a again`, the third under `a again again`."""
        inner = Reader(self.long_string())
        table: dict[str, T] = {}
        while inner.offset < len(inner.data):
            key = inner.short_string()
            while key in table:
                key += " again"
            table[key] = inner.value()
        return table

    def value(self) -> T:
        tag = self.take(1).decode("latin-1")
        if tag == "t":
            return T(tag, bool(self.number("B")))
        if tag in _FIXED:
            return T(tag, self.number(_FIXED[tag]))
        if tag == "D":
            return T(tag, (self.number("B"), self.number("i")))
        if tag == "S":
            return T(tag, as_text(self.long_string()))
        if tag == "x":
            return T(tag, self.long_string())
        if tag == "F":
            return T(tag, self.table())
        if tag == "V":
            return T(tag, None)
        if tag == "A":
            inner = Reader(self.long_string())
            items = []
            while inner.offset < len(inner.data):
                items.append(inner.value())
            return T(tag, items)
        raise ValueError(f"unknown table tag {tag!r}")

    def field(self, kind: str) -> Any:
        if kind in _NUMBERS:
            return self.number(_NUMBERS[kind])
        if kind == "shortstr":
            return self.short_string()
        if kind == "longstr":
            return as_text(self.long_string())
        return self.table()


_NUMBERS = {"octet": "B", "short": "H", "long": "I", "longlong": "Q", "timestamp": "Q"}


def encode_field(kind: str, value: Any) -> bytes:
    if kind in _NUMBERS:
        return struct.pack(">" + _NUMBERS[kind], value)
    if kind == "shortstr":
        return encode_short_string(value)
    if kind == "longstr":
        return encode_long_string(value)
    return encode_table(value)


@functools.cache
def _defaults_by_index(index: int) -> dict[str, Any]:
    method: MethodType = commands.INDEX_MAPPING[index]
    parameters = inspect.signature(method.__init__).parameters
    defaults = {}
    for name in method.attributes():
        default, kind = parameters[name].default, method.amqp_type(name)
        if default in (None, inspect.Parameter.empty):
            default = {} if kind == "table" else "" if kind.endswith("str") else 0
        defaults[name] = default
    return defaults


def method_defaults(method: MethodType) -> dict[str, Any]:
    """The fields of a method with pamqp's defaults, in the order of the wire."""
    return _defaults_by_index(method.index)


def encode_method(method: MethodType, fields: Mapping[str, Any]) -> bytes:
    """The payload of a method frame; fields that are not given have the defaults of the specification."""
    values = method_defaults(method) | dict(fields)
    if unknown := set(fields) - set(method_defaults(method)):
        raise TypeError(f"{method.name} has no field {', '.join(sorted(unknown))}; it has {', '.join(values)}")
    pieces, bits, bit_count = [struct.pack(">I", method.index)], 0, 0
    for name, value in values.items():
        kind = method.amqp_type(name)
        if kind == "bit":
            bits |= bool(value) << bit_count
            bit_count += 1
            continue
        if bit_count:
            pieces.append(struct.pack("B", bits))
            bits = bit_count = 0
        pieces.append(encode_field(kind, value))
    if bit_count:
        pieces.append(struct.pack("B", bits))
    return b"".join(pieces)


def decode_method(payload: bytes) -> tuple[MethodType, dict[str, Any]]:
    """The method's class in pamqp's catalogue and its fields; tables keep their types."""
    reader = Reader(payload)
    method: MethodType = commands.INDEX_MAPPING[reader.number("I")]
    fields: dict[str, Any] = {}
    bits, bit_count = 0, 8
    for name in method.attributes():
        kind = method.amqp_type(name)
        if kind != "bit":
            bit_count = 8
            fields[name] = reader.field(kind)
            continue
        if bit_count == 8:
            bits, bit_count = reader.number("B"), 0
        fields[name] = bool(bits >> bit_count & 1)
        bit_count += 1
    if reader.offset != len(payload):
        raise ValueError(f"{len(payload) - reader.offset} bytes left over after {method.name}")
    return method, fields


def encode_content_header(body_size_bytes: int, properties: Mapping[str, Any], class_id: int = BASIC_CLASS) -> bytes:
    """The payload of a content header frame; a property that is given is sent, even an empty one."""
    if unknown := set(properties) - set(PROPERTY_NAMES):
        raise TypeError(f"no property {', '.join(sorted(unknown))}; there are {', '.join(PROPERTY_NAMES)}")
    flags, pieces = 0, []
    for name in PROPERTY_NAMES:
        if properties.get(name) is not None:
            flags |= commands.Basic.Properties.flags[name]
            pieces.append(encode_field(commands.Basic.Properties.amqp_type(name), properties[name]))
    return struct.pack(">HHQH", class_id, 0, body_size_bytes, flags) + b"".join(pieces)


def decode_content_header(payload: bytes) -> tuple[int, dict[str, Any]]:
    """The body size in bytes and the properties that are present; headers keep their types."""
    reader = Reader(payload)
    reader.take(4)
    body_size_bytes, flags = reader.number("Q"), reader.number("H")
    properties = {
        name: reader.field(commands.Basic.Properties.amqp_type(name))
        for name in PROPERTY_NAMES
        if flags & commands.Basic.Properties.flags[name]
    }
    if reader.offset != len(payload):
        raise ValueError(f"{len(payload) - reader.offset} bytes left over after the content header")
    return body_size_bytes, properties
