"""Field tables keep every type and every byte, agree with pamqp where it can tell, and survive garbage."""

from __future__ import annotations

import contextlib

import pamqp.decode
import pamqp.encode
import pytest
from hypothesis import given
from hypothesis import strategies as st

from amqp_broker.wire.errors import WireError
from amqp_broker.wire.table import Table, decode_table, encode_table
from tests.properties.wire_strategies import PAMQP_TABLES, TABLES, as_pamqp, typed


@given(TABLES, st.binary(max_size=5), st.binary(max_size=5))
def test_a_table_keeps_types_and_bytes_wherever_it_stands(table: Table, before: bytes, after: bytes) -> None:
    encoded = encode_table(table)
    decoded, end = decode_table(before + encoded + after, len(before))
    assert end == len(before) + len(encoded)
    assert typed(decoded) == typed(table)
    assert list(decoded) == list(table)
    assert encode_table(decoded) == encoded


@given(PAMQP_TABLES)
def test_pamqp_reads_what_was_written(table: Table) -> None:
    encoded = encode_table(table)
    assert pamqp.decode.field_table(encoded) == (len(encoded), as_pamqp(table))


@given(PAMQP_TABLES)
def test_what_pamqp_wrote_is_read(table: Table) -> None:
    encoded = pamqp.encode.field_table(as_pamqp(table))
    decoded, end = decode_table(encoded, 0)
    assert end == len(encoded)
    assert as_pamqp(decoded) == as_pamqp(table)
    assert encode_table(decoded) == encoded


@given(TABLES, st.data())
def test_a_table_cut_short_is_refused(table: Table, data: st.DataObject) -> None:
    encoded = encode_table(table)
    cut = data.draw(st.integers(0, len(encoded) - 1))
    with pytest.raises(WireError):
        decode_table(encoded[:cut], 0)


@given(st.binary(max_size=200))
def test_garbage_is_a_table_or_a_wire_error(garbage: bytes) -> None:
    with contextlib.suppress(WireError):
        decode_table(garbage, 0)
    framed = len(garbage).to_bytes(4, "big") + garbage
    with contextlib.suppress(WireError):
        table, end = decode_table(framed, 0)
        assert end == len(framed)
        # Reading is settled after one round, whatever was not canonical.
        encoded = encode_table(table)
        assert encode_table(decode_table(encoded, 0)[0]) == encoded


@given(TABLES, st.data())
def test_a_damaged_table_is_a_table_or_a_wire_error(table: Table, data: st.DataObject) -> None:
    damaged = bytearray(encode_table(table))
    damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(WireError):
        decode_table(bytes(damaged), 0)
