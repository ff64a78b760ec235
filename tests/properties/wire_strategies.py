"""What the wire tests draw from: names, tables, method fields; and our table values as pamqp's.

Holds no test.
"""

from __future__ import annotations

import datetime
import decimal
from typing import Any

from hypothesis import strategies as st

from amqp_broker.wire import table
from amqp_broker.wire.content import Properties
from amqp_broker.wire.methods import Method

UINT8 = st.integers(0, 2**8 - 1)
UINT16 = st.integers(0, 2**16 - 1)
UINT32 = st.integers(0, 2**32 - 1)
UINT64 = st.integers(0, 2**64 - 1)
INT64 = st.integers(-(2**63), 2**63 - 1)


def _fits_shortstr(text: str) -> bool:
    return len(text.encode("utf-8", "surrogateescape")) <= 255


# Any text that has a UTF-8 encoding, and any bytes whatever.
UTF8_NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=70).filter(_fits_shortstr)
ANY_NAMES = UTF8_NAMES | st.binary(max_size=255).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
# What pamqp lets a queue or an exchange be called.
PAMQP_NAMES = st.text("abcXYZ019-_.:@#,/+ ", max_size=127)

_SCALARS = (
    ANY_NAMES
    | st.booleans()
    | INT64
    | st.floats(allow_nan=False)
    | st.binary(max_size=20)
    | st.none()
    | st.integers(-(2**7), 2**7 - 1).map(table.Byte)
    | UINT8.map(table.UnsignedByte)
    | st.integers(-(2**15), 2**15 - 1).map(table.Short)
    | UINT16.map(table.UnsignedShort)
    | st.integers(-(2**31), 2**31 - 1).map(table.SignedInt)
    | UINT32.map(table.UnsignedInt)
    | UINT64.map(table.Timestamp)
    | st.floats(width=32, allow_nan=False).map(table.Float32)
    | st.builds(table.Decimal, UINT8, UINT32)
)

# What pamqp reads as it was written: it takes decimals for signed, late timestamps for milliseconds, and writes every
# float in 32 bits.
_PAMQP_SCALARS = (
    UTF8_NAMES
    | st.booleans()
    | INT64
    | st.floats(width=32, allow_nan=False)
    | st.binary(max_size=20)
    | st.integers(-(2**7), 2**7 - 1).map(table.Byte)
    | UINT8.map(table.UnsignedByte)
    | UINT16.map(table.UnsignedShort)
    | st.integers(-(2**31), 2**31 - 1).map(table.SignedInt)
    | UINT32.map(table.Timestamp)
    | st.floats(width=32, allow_nan=False).map(table.Float32)
    | st.builds(table.Decimal, st.integers(0, 10), st.integers(0, 2**31 - 1))
)


def _tables(scalars: st.SearchStrategy[Any], names: st.SearchStrategy[str]) -> st.SearchStrategy[table.Table]:
    values = st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
        max_leaves=6,
    )
    return st.dictionaries(names, values, max_size=4)


TABLES = _tables(_SCALARS, ANY_NAMES)
PAMQP_TABLES = _tables(_PAMQP_SCALARS, PAMQP_NAMES)

PROPERTIES = st.builds(
    Properties,
    content_type=st.none() | ANY_NAMES,
    content_encoding=st.none() | ANY_NAMES,
    headers=st.none() | TABLES,
    delivery_mode=st.none() | UINT8,
    priority=st.none() | UINT8,
    correlation_id=st.none() | ANY_NAMES,
    reply_to=st.none() | ANY_NAMES,
    expiration=st.none() | ANY_NAMES,
    message_id=st.none() | ANY_NAMES,
    timestamp=st.none() | UINT64,
    type=st.none() | ANY_NAMES,
    user_id=st.none() | ANY_NAMES,
    app_id=st.none() | ANY_NAMES,
    cluster_id=st.none() | ANY_NAMES,
)

# pamqp leaves an empty string out, knows two delivery modes and no cluster id.
_PAMQP_TEXT = st.none() | PAMQP_NAMES.filter(bool)
PAMQP_PROPERTIES = st.builds(
    Properties,
    content_type=_PAMQP_TEXT,
    content_encoding=_PAMQP_TEXT,
    headers=st.none() | PAMQP_TABLES,
    delivery_mode=st.none() | st.sampled_from([1, 2]),
    priority=st.none() | UINT8,
    correlation_id=_PAMQP_TEXT,
    reply_to=_PAMQP_TEXT,
    expiration=_PAMQP_TEXT,
    message_id=_PAMQP_TEXT,
    timestamp=st.none() | UINT32,
    type=_PAMQP_TEXT,
    user_id=_PAMQP_TEXT,
    app_id=_PAMQP_TEXT,
)

_FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "bit": st.booleans(),
    "octet": UINT8,
    "short": UINT16,
    "long": UINT32,
    "longlong": UINT64,
    "shortstr": UTF8_NAMES,
    "longstr": ANY_NAMES,
    "table": TABLES,
}
_PAMQP_FIELDS = _FIELDS | {
    "longlong": st.integers(0, 2**63 - 1),
    "shortstr": PAMQP_NAMES,
    "longstr": UTF8_NAMES,
    "table": PAMQP_TABLES,
}
# The only values that pamqp's validation leaves to some fields.
_PAMQP_FIXED = {
    "capabilities": "",
    "channel_id": "0",
    "cluster_id": "",
    "insist": False,
    "known_hosts": "",
    "out_of_band": "0",
    "ticket": 0,
}


def fields_of(method_class: type[Method]) -> st.SearchStrategy[dict[str, Any]]:
    """Values for every field of a method class."""
    return st.fixed_dictionaries({name: _FIELDS[method_class.amqp_type(name)] for name in method_class.__slots__})


def pamqp_fields_of(method_class: type[Method]) -> st.SearchStrategy[dict[str, Any]]:
    """Values for every field of a method class that pamqp validates, writes and reads unchanged."""

    def strategy(name: str) -> st.SearchStrategy[Any]:
        if name in _PAMQP_FIXED:
            return st.just(_PAMQP_FIXED[name])
        return _PAMQP_FIELDS[method_class.amqp_type(name)]

    return st.fixed_dictionaries({name: strategy(name) for name in method_class.__slots__})


def as_pamqp(value: Any) -> Any:
    """A field value of ours as the object that stands for it in pamqp."""
    match value:
        case dict():
            return {name: as_pamqp(inner) for name, inner in value.items()}
        case list():
            return [as_pamqp(inner) for inner in value]
        case bytes():
            return bytearray(value)
        case table.Timestamp():
            return datetime.datetime.fromtimestamp(value, tz=datetime.UTC)
        case table.Decimal(scale, unscaled):
            return decimal.Decimal(unscaled).scaleb(-scale)
        case table.Float32():
            return float(value)
        case bool():
            return value
        case int():
            return int(value)
        case _:
            return value


def typed(value: Any) -> Any:
    """A field value with its types beside it, so that comparing two of these compares the types as well."""
    match value:
        case dict():
            return {name: typed(inner) for name, inner in value.items()}
        case list():
            return [typed(inner) for inner in value]
        case _:
            return table.type_name(value), value
