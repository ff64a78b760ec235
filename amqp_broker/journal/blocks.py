"""A block: what is committed at once, opaque bytes of up to 256 KiB behind a header that says whose and in which batch.

Holds the block's header, the cutting of a batch's records into blocks, and the search for a header among other bytes.
Does not know files. The layout is specified in ``docs/journal.md``.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate, chain, groupby
from typing import Final, NamedTuple, cast

from amqp_broker.journal.checksums import Piece, crc32, crc_behind, data_of
from amqp_broker.journal.records import DROPS_KIND, LARGE_BYTES, Part, Runs, encode_record, encode_runs

BLOCK_BYTES_MAX: Final = 256 * 1024
BLOCK_MAGIC: Final = b"\xb1ock"

IS_LAST_OF_BATCH: Final = 1
HOLDS_DROPS: Final = 2
GOES_ON: Final = 4
"""The record in this block is larger than a block, and its bytes go on in the next one."""
IS_SEAL: Final = 8
"""Nothing comes after this block: the segment was ended on purpose."""
BEGINS_INSIDE: Final = 16
"""This block's bytes begin inside the record that the block before it holds the start of."""

_FIELDS: Final = struct.Struct("<IIIQQQ")  # payload CRC, payload length, flags, epoch, batch, synced batch
BLOCK_HEADER_BYTES: Final = 4 + 4 + _FIELDS.size
_CRC: Final = struct.Struct("<I")


class BlockHeader(NamedTuple):
    """The header before a block's payload.

    ``synced_batch`` is the last batch that was known to be durable when this block was written: what it tells apart is
    a torn tail, which nobody relied on, from damage to what was durable.
    """

    payload_crc: int
    length_bytes: int
    flags: int
    epoch: int
    batch: int
    synced_batch: int

    def encode(self) -> bytes:
        """The header's bytes."""
        fields = _FIELDS.pack(*self)
        return BLOCK_MAGIC + _CRC.pack(crc32(fields)) + fields


def decode_block_header(data: bytes, offset: int = 0) -> BlockHeader | None:
    """The header at an offset; None when there is no intact one."""
    if len(data) - offset < BLOCK_HEADER_BYTES or data[offset : offset + 4] != BLOCK_MAGIC:
        return None
    fields = data[offset + 8 : offset + BLOCK_HEADER_BYTES]
    if _CRC.unpack_from(data, offset + 4)[0] != crc32(fields):
        return None
    header = BlockHeader(*_FIELDS.unpack(fields))
    return header if header.length_bytes <= BLOCK_BYTES_MAX else None


def find_block_headers(data: bytes) -> Iterator[tuple[int, BlockHeader]]:
    """Search bytes for intact block headers, at every offset: yield (offset, header) of each."""
    offset = data.find(BLOCK_MAGIC)
    while offset >= 0:
        header = decode_block_header(data, offset)
        if header is not None:
            yield offset, header
        offset = data.find(BLOCK_MAGIC, offset + 1)


class Stamp(NamedTuple):
    """The fields that all blocks of one batch have in common."""

    epoch: int
    batch: int
    synced_batch: int


class _Block(NamedTuple):
    """One block's payload."""

    flags: int
    parts: list[Piece]
    size_bytes: int


class Layout:
    """A batch's records and drops, cut into blocks but not yet placed in a file.

    Args:
        records: the encoded records by reference, each in parts; none for a reference that has none of its own.
        drops: the references dropped, as runs.
    """

    def __init__(self, records: Sequence[tuple[Piece, ...]], drops: Runs) -> None:
        self._lengths = [len(parts[0]) if len(parts) == 1 else sum(map(len, parts)) for parts in records]
        self._cuts: list[tuple[int, int]] = []
        self._blocks: list[_Block] = []
        for low, high in _cut(list(accumulate(self._lengths))):
            self._cuts.append((low, high))
            self._add(0, list(chain.from_iterable(records[low:high])), sum(self._lengths[low:high]))
        if len(drops):
            record = encode_record(DROPS_KIND, encode_runs(drops), 0, 1)
            self._add(HOLDS_DROPS, [record], len(record))

    def _add(self, flags: int, parts: list[Piece], size_bytes: int) -> None:
        if size_bytes <= BLOCK_BYTES_MAX:
            if size_bytes:
                self._blocks.append(_Block(flags, _gathered(parts), size_bytes))
            return
        for start in range(0, size_bytes, BLOCK_BYTES_MAX):
            piece_bytes = min(BLOCK_BYTES_MAX, size_bytes - start)
            goes_on = GOES_ON if start + BLOCK_BYTES_MAX < size_bytes else 0
            begins_inside = BEGINS_INSIDE if start else 0
            piece, parts = _split(parts, piece_bytes)
            self._blocks.append(_Block(flags | goes_on | begins_inside, piece, piece_bytes))

    @property
    def size_bytes(self) -> int:
        """The bytes that the blocks take in a file; 0 when there is nothing to write."""
        return sum(BLOCK_HEADER_BYTES + block.size_bytes for block in self._blocks)

    def encode(self, stamp: Stamp) -> list[Part]:
        """All blocks, one after the other, the last one marked as the batch's last; in parts to be written as one."""
        written: list[Part] = []
        last = len(self._blocks) - 1
        for number, (flags, parts, size_bytes) in enumerate(self._blocks):
            if number == last:
                flags |= IS_LAST_OF_BATCH
            crc = 0
            for part in parts:
                crc = crc_behind(crc, part)
            written.append(BlockHeader(crc, size_bytes, flags, *stamp).encode())
            written.extend(map(data_of, parts))
        return written

    def offsets(self, start: int) -> array[int]:
        """Where each record lies when the blocks are written at an offset, and where the last one ends.

        A reference without a record of its own gets the offset of what comes next, so that the distance from one
        offset to the next is what a record takes (the header of a block that begins between them included).
        """
        is_small = start + self.size_bytes < 2**32
        offsets: array[int] = array("I" if is_small else "Q")
        end = start
        for low, high in self._cuts:
            size = sum(self._lengths[low:high])
            if not size:
                offsets.extend([end] * (high - low))
                continue
            offsets.extend(accumulate(self._lengths[low : high - 1], initial=end + BLOCK_HEADER_BYTES))
            end += size + BLOCK_HEADER_BYTES * -(-size // BLOCK_BYTES_MAX)
        offsets.append(end)
        return offsets


def _gathered(parts: list[Piece]) -> list[Piece]:
    """The same bytes in fewer parts: what is small is joined, what is large is not copied."""
    if max(map(len, parts)) < LARGE_BYTES:
        return [b"".join(cast(list[Part], parts))]  # none of these is a CheckedPart
    gathered: list[Piece] = []
    for is_large, group in groupby(parts, lambda part: len(part) >= LARGE_BYTES):
        if is_large:
            gathered.extend(group)
        else:
            gathered.append(b"".join(map(data_of, group)))
    return gathered


def _split(parts: list[Piece], size_bytes: int) -> tuple[list[Piece], list[Piece]]:
    """The parts that make up so many bytes, and those behind them."""
    for number, part in enumerate(parts):
        if not size_bytes:
            return parts[:number], parts[number:]
        if len(part) > size_bytes:
            whole = memoryview(data_of(part))
            return [*parts[:number], whole[:size_bytes]], [whole[size_bytes:], *parts[number + 1 :]]
        size_bytes -= len(part)
    return parts, []


def _cut(ends: list[int]) -> Iterator[tuple[int, int]]:
    """Cut records into blocks: yield (low, high) of each, given where each record would end without blocks.

    Empty ones go with the record that follows them, because they share its offset. A record that is larger than a block
    is a cut of its own.
    """
    low = base = 0
    while low < len(ends):
        high = bisect_right(ends, base + BLOCK_BYTES_MAX, low)
        if high == low or ends[high - 1] == base:
            high = min(high + 1, len(ends))
        else:
            high = bisect_left(ends, ends[high - 1], low) + 1
        yield low, high
        low, base = high, ends[high - 1]


def encode_seal(stamp: Stamp) -> bytes:
    """The block that ends a segment on purpose."""
    return BlockHeader(crc32(b""), 0, IS_SEAL | IS_LAST_OF_BATCH, *stamp).encode()
