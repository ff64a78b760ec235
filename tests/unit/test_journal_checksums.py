"""CRCs put together are those of the bytes put together."""

from __future__ import annotations

import random
from zlib import crc32

import pytest

from amqp_broker.journal.batches import GatheredBatch
from amqp_broker.journal.blocks import BLOCK_BYTES_MAX, Layout, Stamp, decode_block_header
from amqp_broker.journal.checksums import CHECKED_BYTES_MIN, CheckedPart, checked, combined, crc_behind, data_of
from amqp_broker.journal.records import RECORD_HEADER_BYTES, Runs, decode_record

SOURCE = random.Random(1)


@pytest.mark.parametrize("before", [b"", b"x", bytes(7), bytes([255] * 40), SOURCE.randbytes(3000)])
@pytest.mark.parametrize("size_bytes", [1, 2, 3, 255, 256, 65_535, 262_123, 262_144, 1_048_576])
def test_a_crc_and_a_part_behind(before: bytes, size_bytes: int) -> None:
    data = SOURCE.randbytes(size_bytes)
    part = CheckedPart(memoryview(data))
    assert part.crc == crc32(data)
    assert len(part) == size_bytes
    assert combined(crc32(before), part.crc, len(part)) == crc_behind(crc32(before), data) == crc32(before + data)


@pytest.mark.parametrize("start", [0, 21, 262_143])
def test_large_parts_are_cut_where_a_stride_ends(start: int) -> None:
    parts: list[bytes | memoryview] = [
        b"small",
        SOURCE.randbytes(700_000),
        memoryview(SOURCE.randbytes(CHECKED_BYTES_MIN)),
        SOURCE.randbytes(CHECKED_BYTES_MIN - 1),
        b"",
    ]
    pieces = list(checked(parts, start, 262_144))
    assert b"".join(map(data_of, pieces)) == b"".join(parts)
    position, crc = start, 0
    for piece in pieces:
        if isinstance(piece, CheckedPart):
            assert position // 262_144 == (position + len(piece) - 1) // 262_144
        position += len(piece)
        crc = crc_behind(crc, piece)
    assert crc == crc32(b"".join(parts))
    assert sum(isinstance(piece, CheckedPart) for piece in pieces) >= 3


@pytest.mark.parametrize("size_bytes", [4096, 65_535, 65_536, 262_122, 262_123, 262_124, 524_267, 1_048_576, 3_000_001])
def test_records_and_blocks_have_the_crcs_of_their_bytes(size_bytes: int) -> None:
    batch = GatheredBatch(1)
    payloads = [SOURCE.randbytes(size) for size in (10, size_bytes, 70_000, size_bytes, 3)]
    for payload in payloads:
        parts = (payload[:5], payload[5:])
        batch.records.append((1, 1, len(payload), parts))
    written = b"".join(Layout(batch.encoded_records(), Runs()).encode(Stamp(1, 1, 0)))
    records, offset = b"", 0
    while offset < len(written):
        header = decode_block_header(written, offset)
        assert header is not None
        assert header.length_bytes <= BLOCK_BYTES_MAX
        payload = written[offset + 44 : offset + 44 + header.length_bytes]
        assert header.payload_crc == crc32(payload)
        records += payload
        offset += 44 + header.length_bytes
    offset = 0
    for payload in payloads:
        record = decode_record(records, offset)
        assert record is not None
        assert record.payload == payload
        offset += RECORD_HEADER_BYTES + len(payload)
