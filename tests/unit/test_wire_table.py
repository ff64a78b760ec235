"""Particular field tables: the bytes of every type, its name, and what is refused."""

from __future__ import annotations

import math
import struct

import pytest

from amqp_broker.wire.errors import WireError
from amqp_broker.wire.strings import decode_longstr, decode_shortstr, encode_longstr, encode_shortstr
from amqp_broker.wire.table import (
    NESTING_DEPTH_MAX,
    Array,
    Byte,
    Decimal,
    FieldValue,
    Float32,
    RepeatedName,
    Short,
    SignedInt,
    Table,
    Timestamp,
    UnsignedByte,
    UnsignedInt,
    UnsignedShort,
    decode_table,
    encode_table,
    plain_name,
    type_name,
)


def field(encoded_value: bytes) -> bytes:
    """A table of one field, named k."""
    fields = b"\x01k" + encoded_value
    return len(fields).to_bytes(4, "big") + fields


EVERY_TYPE: list[tuple[bytes, FieldValue, str]] = [
    (b"b\xff", Byte(-1), "byte"),
    (b"B\xff", UnsignedByte(255), "unsignedbyte"),
    (b"s\xff\xfe", Short(-2), "short"),
    (b"u\xff\xfe", UnsignedShort(65534), "unsignedshort"),
    (b"I\xff\xff\xff\xfd", SignedInt(-3), "signedint"),
    (b"i\xff\xff\xff\xfd", UnsignedInt(2**32 - 3), "unsignedint"),
    (b"l" + b"\xff" * 8, -1, "long"),
    (b"T" + b"\xff" * 8, Timestamp(2**64 - 1), "timestamp"),
    (b"f\x3f\xc0\x00\x00", Float32(1.5), "float"),
    (b"d\x3f\xb9\x99\x99\x99\x99\x99\x9a", 0.1, "double"),
    (b"D\x02\x80\x00\x00\x01", Decimal(2, 2**31 + 1), "decimal"),
    (b"t\x01", True, "bool"),
    (b"t\x00", False, "bool"),
    (b"S\x00\x00\x00\x02\xc3\xa9", "é", "longstr"),
    (b"S\x00\x00\x00\x01\xff", "\udcff", "longstr"),
    (b"x\x00\x00\x00\x02ab", b"ab", "binary"),
    (b"V", None, "void"),
    (b"A\x00\x00\x00\x03b\x01V", [Byte(1), None], "array"),
    (b"F\x00\x00\x00\x04\x01at\x01", {"a": True}, "table"),
]


@pytest.mark.parametrize(("encoded", "value", "name"), EVERY_TYPE)
def test_every_type(encoded: bytes, value: FieldValue, name: str) -> None:
    data = field(encoded)
    decoded, end = decode_table(data, 0)
    assert end == len(data)
    assert decoded == {"k": value}
    assert type(decoded["k"]) is type(value)
    assert type_name(decoded["k"]) == name
    assert encode_table({"k": value}) == data


def test_a_large_l_is_read_as_a_long() -> None:
    decoded, _ = decode_table(field(b"L" + b"\xff" * 8), 0)
    assert decoded == {"k": -1}
    assert encode_table(decoded) == field(b"l" + b"\xff" * 8)


def test_any_true_byte_is_true() -> None:
    assert decode_table(field(b"t\x07"), 0)[0] == {"k": True}


def test_not_a_number_is_kept() -> None:
    (value,) = decode_table(field(b"d" + struct.pack(">d", math.nan)), 0)[0].values()
    assert isinstance(value, float)
    assert math.isnan(value)


@pytest.mark.parametrize(
    "value",
    [
        2**63,
        -(2**63) - 1,
        Byte(128),
        UnsignedByte(-1),
        Short(2**15),
        UnsignedShort(2**16),
        SignedInt(2**31),
        UnsignedInt(2**32),
        Timestamp(-1),
        Float32(1e300),
        Decimal(256, 0),
        Decimal(0, 2**32),
        "\ud800",
    ],
)
def test_a_value_that_does_not_fit_its_type_is_refused(value: FieldValue) -> None:
    with pytest.raises(WireError):
        encode_table({"k": value})


@pytest.mark.parametrize("value", [object(), (1, 2), {1}, bytearray(b"x"), 1j, type("Wide", (int,), {})(3)])
def test_a_value_of_no_field_type_is_refused(value: object) -> None:
    with pytest.raises(WireError, match="no field type"):
        encode_table({"k": value})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    "encoded",
    [b"?", b"", b"I\x00\x00\x00", b"D\x00\x00", b"S\x00\x00\x00\x05abcd", b"S\x00", b"F\x00\x00\x00\x02\x05a"],
)
def test_a_malformed_value_is_refused(encoded: bytes) -> None:
    with pytest.raises(WireError):
        decode_table(field(encoded), 0)


def test_a_value_may_not_reach_beyond_its_table() -> None:
    inner = b"F\x00\x00\x00\x03\x01aI"
    with pytest.raises(WireError):
        decode_table(field(inner + b"\x01bI\x00\x00\x00\x01"), 0)


def test_a_length_of_four_gigabytes_allocates_nothing() -> None:
    with pytest.raises(WireError):
        decode_table(b"\xff\xff\xff\xff", 0)
    with pytest.raises(WireError):
        decode_table(field(b"A\xff\xff\xff\xff"), 0)


def test_a_name_of_more_than_255_bytes_is_refused() -> None:
    assert decode_table(encode_table({"k" * 255: None}), 0)[0] == {"k" * 255: None}
    with pytest.raises(WireError):
        encode_table({"k" * 256: None})


def test_nesting_is_bounded_both_ways() -> None:
    table: Table = {}
    for _ in range(NESTING_DEPTH_MAX - 1):
        table = {"k": table}
    data = encode_table(table)
    assert decode_table(data, 0)[0] == table
    with pytest.raises(WireError, match="nested"):
        encode_table({"k": table})
    with pytest.raises(WireError, match="nested"):
        decode_table(field(b"F" + data), 0)


def test_nesting_as_deep_as_a_frame_allows_is_refused() -> None:
    levels = 20_000
    data = b"".join(b"A" + (5 * below).to_bytes(4, "big") for below in reversed(range(levels)))
    with pytest.raises(WireError, match="nested"):
        decode_table(field(data), 0)


def test_an_array_that_holds_itself_is_refused() -> None:
    array: Array = []
    array.append(array)
    with pytest.raises(WireError, match="nested"):
        encode_table({"k": array})


def test_strings() -> None:
    assert encode_shortstr("é") == b"\x02\xc3\xa9"
    assert decode_shortstr(b"..\x02\xc3\xa9..", 2) == ("é", 5)
    assert encode_longstr("é") == b"\x00\x00\x00\x02\xc3\xa9"
    assert decode_longstr(b".\x00\x00\x00\x02\xc3\xa9.", 1) == ("é", 7)
    with pytest.raises(WireError):
        encode_shortstr("é" * 128)
    for data in (b"", b"\x02a"):
        with pytest.raises(WireError):
            decode_shortstr(data, 0)
    for data in (b"", b"\x00\x00\x00", b"\x00\x00\x00\x02a"):
        with pytest.raises(WireError):
            decode_longstr(data, 0)


def test_of_fields_of_one_name_the_first_counts_and_all_are_written_again() -> None:
    fields = b"\x01at\x01" + b"\x01bV" + b"\x01at\x00" + b"\x01at\x01"
    encoded = len(fields).to_bytes(4, "big") + fields
    table, _ = decode_table(encoded, 0)
    assert (table["a"], len(table)) == (True, 4)
    assert encode_table(table) == encode_table({**table}) == encoded
    assert [plain_name(name) for name in table] == ["a", "b", "a", "a"]
    assert encode_table(dict(sorted(table.items()))) == len(fields).to_bytes(4, "big") + (
        b"\x01at\x01" + b"\x01at\x00" + b"\x01at\x01" + b"\x01bV"
    )


def test_a_repeated_name_equals_itself_only() -> None:
    again = RepeatedName("a")
    others: list[object] = ["a", RepeatedName("a")]
    assert again == again
    assert not any(again == other or other == again for other in others)
    assert all(again != other and other != again for other in others)
    assert plain_name(again) == "a"


def test_repeated_names_in_nested_tables_are_read_once_each() -> None:
    table = b""
    for _ in range(NESTING_DEPTH_MAX - 1):
        fields = b"\x01aV\x01aF" + len(table).to_bytes(4, "big") + table
        table = fields
    encoded = len(table).to_bytes(4, "big") + table
    assert encode_table(decode_table(encoded, 0)[0]) == encoded
