"""Records, runs of references, and blocks: the encodings, without a file."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amqp_broker.journal.blocks import (
    BLOCK_BYTES_MAX,
    BLOCK_HEADER_BYTES,
    BlockHeader,
    Layout,
    Stamp,
    decode_block_header,
    find_block_headers,
)
from amqp_broker.journal.records import (
    Record,
    Runs,
    decode_record,
    decode_runs,
    encode_record,
    encode_runs,
    find_records,
    runs_of,
)

REFERENCES = st.lists(st.integers(0, 200) | st.integers(0, 2**64 - 2), max_size=60)


@given(st.integers(1, 255), st.binary(max_size=300), st.integers(0, 2**64 - 1), st.integers(1, 2**32 - 1))
def test_a_record_comes_back_as_it_was(kind: int, payload: bytes, reference: int, claims: int) -> None:
    encoded = encode_record(kind, payload, reference, claims)
    assert decode_record(encoded) == Record(kind, payload, reference, claims)
    assert decode_record(b"before" + encoded + b"after", 6) == Record(kind, payload, reference, claims)


@given(st.binary(max_size=40), st.data())
def test_no_flipped_bit_and_no_cut_goes_unnoticed(payload: bytes, data: st.DataObject) -> None:
    encoded = encode_record(1, payload, 7, 1)
    bit = data.draw(st.integers(0, len(encoded) * 8 - 1))
    flipped = bytearray(encoded)
    flipped[bit // 8] ^= 1 << bit % 8
    assert decode_record(bytes(flipped)) is None
    assert decode_record(encoded[: bit // 8]) is None


@given(REFERENCES)
def test_runs_hold_exactly_the_references(references: list[int]) -> None:
    runs = runs_of(sorted(references))
    decoded = decode_runs(encode_runs(runs))
    assert list(decoded) == list(runs)
    held = [reference for first, count in decoded for reference in range(first, first + count)]
    assert held == sorted(set(references))
    assert len(encode_runs(runs)) == runs.encoded_bytes


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 9)), max_size=20))
def test_merged_runs_hold_the_same_references_once(pieces: list[tuple[int, int]]) -> None:
    runs = Runs()
    for first, count in pieces:
        runs.append(first, count)
    merged = list(runs.merged())
    held = [reference for first, count in merged for reference in range(first, first + count)]
    assert held == sorted({reference for first, count in pieces for reference in range(first, first + count)})
    assert all(first + count < following for (first, count), (following, _) in pairwise(merged))


def test_acknowledgements_in_order_are_one_run() -> None:
    assert list(runs_of(range(1000, 51_000))) == [(1000, 50_000)]


def test_a_search_finds_every_record_between_damages() -> None:
    records = [encode_record(5, bytes([number]) * number, 100 + number, 1) for number in range(10)]
    data = b"\x01garbage" + records[0] + bytes(1000) + b"".join(records[1:4]) + records[4][:-1] + b"".join(records[5:])
    found = [decode_record(data, offset) for offset, _ in find_records(data, range(100, 200))]
    assert [record.reference for record in found if record] == [100, 101, 102, 103, 105, 106, 107, 108, 109]


def test_a_search_believes_no_reference_that_cannot_be() -> None:
    assert list(find_records(encode_record(5, b"x", 99, 1), range(100, 200))) == []


def test_a_block_header_is_found_among_other_bytes() -> None:
    header = BlockHeader(1, 2, 3, 4, 5, 6)
    data = header.encode()
    assert len(data) == BLOCK_HEADER_BYTES
    assert decode_block_header(data) == header
    assert list(find_block_headers(b"\xb1oc" + data + b"\xb1ock" + data)) == [(3, header), (3 + 48, header)]
    assert decode_block_header(data[:-1]) is None
    assert decode_block_header(data[:20] + b"\xff" + data[21:]) is None


@pytest.mark.parametrize(
    "sizes",
    [
        [10],
        [0, 0, 10],
        [BLOCK_BYTES_MAX],
        [BLOCK_BYTES_MAX - 1, 1, 1],
        [BLOCK_BYTES_MAX + 1],
        [10, 0, 0, 3 * BLOCK_BYTES_MAX + 5, 0, 7],
        [0, 0, 3 * BLOCK_BYTES_MAX, 0],
        [100_000] * 7,
        [BLOCK_BYTES_MAX, 0, BLOCK_BYTES_MAX, 0, 0],
        [],
        [0, 0],
    ],
)
def test_the_layout_says_where_each_record_lies(sizes: list[int]) -> None:
    records = [bytes([number + 1]) * size for number, size in enumerate(sizes)]
    layout = Layout([(record[:3], record[3:]) if record else () for record in records], Runs())
    start = 1000
    data = bytes(start) + b"".join(layout.encode(Stamp(1, 2, 1)))
    assert len(data) == start + layout.size_bytes
    offsets = layout.offsets(start)
    assert len(offsets) == len(records) + 1
    assert offsets[-1] == (len(data) if any(sizes) else start)
    for record, offset in zip(records, offsets, strict=False):
        assert data[offset : offset + min(len(record), BLOCK_BYTES_MAX)] == record[:BLOCK_BYTES_MAX]
    for number, record in enumerate(records):
        if not record and any(sizes[number:]):
            assert offsets[number] == offsets[number + 1]
