"""Reading records of a segment again, by where the index says they lie.

Holds the reading of one record and of a slice of many, large ones put together from their blocks. Everything returned
was checked, but for what ``view_near`` and ``lying_near`` leave to others. What is damaged is read again as it is kept
elsewhere, where it is. Safe in any thread: it only reads, and what it reads does not change.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import compress, islice
from typing import NamedTuple

from amqp_broker.explanations import system_reason
from amqp_broker.journal.blocks import BLOCK_BYTES_MAX, BLOCK_HEADER_BYTES
from amqp_broker.journal.failures import JournalDamaged, JournalFailed
from amqp_broker.journal.files import File
from amqp_broker.journal.index import PageOrPacked, Segment
from amqp_broker.journal.index_pages import DEAD
from amqp_broker.journal.records import (
    RECORD_HEADER_BYTES,
    Part,
    Record,
    decode_record,
    has_claim,
    is_intact,
    record_size,
)
from amqp_broker.journal.stretches import FileStretch

SLICE_BYTES = BLOCK_BYTES_MAX
VIEWED_BYTES = 8 * BLOCK_BYTES_MAX
PROBE_BYTES = 131_072  # the system reads about as much ahead, and gives it up together


class EncodedRecord(NamedTuple):
    """A record's bytes, and the references of those of its claims that are live."""

    data: bytes
    live_claims: Sequence[int]


class LyingRecord(NamedTuple):
    """A record that was not read, but for its beginning: of its payload the first bytes, and where the others lie."""

    head: Part
    rest: FileStretch


def read_record(segment: Segment, extent: tuple[int, int]) -> Record:
    """The record in some bytes of a segment.

    Args:
        extent: their offset, and how many they are.

    Raises:
        JournalDamaged: it is not what was written.
        JournalFailed: the disk cannot read it.
    """
    try:
        return _read_record(segment, extent)
    except JournalDamaged:
        if not _restore(segment):
            raise
        return _read_record(segment, extent)


def _read_record(segment: Segment, extent: tuple[int, int]) -> Record:
    start, size = extent
    record = decode_record(_whole_record(segment, start, _read(segment, start, size)))
    if record is None:
        raise JournalDamaged(segment.full_name, start, "a record fails its checksum")
    return record


def read_near(segment: Segment, references: Sequence[int], first: int) -> list[bytes]:
    """The payloads of some records that lie in order in one slice of a segment, read at once.

    Args:
        references: what is wanted; as many of them are read as are live, here, and near each other.
        first: the position in them to begin at.

    Returns:
        At least one, but for a reference that is not here, or a record that is larger than a slice: then none.

    Raises:
        JournalDamaged: a record is not what was written.
        JournalFailed: the disk cannot read it.
    """
    try:
        return _read_near(segment, references, first)
    except JournalDamaged:
        if not _restore(segment):
            raise
        return _read_near(segment, references, first)


def _read_near(segment: Segment, references: Sequence[int], first: int) -> list[bytes]:
    starts, slice_end = _starts_near(segment, references, first, SLICE_BYTES)
    slice_start = starts[0] if starts else 0
    data = _read(segment, slice_start, slice_end - slice_start) if starts else b""
    payloads = []
    for start in starts:
        record = decode_record(data, start - slice_start)
        if record is None:
            raise JournalDamaged(segment.full_name, start, "a record fails its checksum")
        payloads.append(record.payload)
    return payloads


def view_near(
    segment: Segment,
    references: Sequence[int],
    first: int,
    unchecked_bytes_min: int,
    *,
    may_wait: bool,
    bytes_max: int = VIEWED_BYTES,
) -> list[Part]:
    """``read_near`` for slices of another size and without copies: the payloads are views of what was read at once.

    Args:
        unchecked_bytes_min: the checksums of payloads that are as long are not compared; what stands in a header is.
        may_wait: whether to wait for the disk; else there are none where that would be needed.
        bytes_max: how large the slice is; the last record may go on behind it, unless it alone is larger.
    """
    try:
        return _view_near(segment, references, first, unchecked_bytes_min, may_wait=may_wait, bytes_max=bytes_max)
    except JournalDamaged:
        if not may_wait or not _restore(segment):
            raise
        return _view_near(segment, references, first, unchecked_bytes_min, may_wait=may_wait, bytes_max=bytes_max)


def _view_near(
    segment: Segment, references: Sequence[int], first: int, unchecked_bytes_min: int, *, may_wait: bool, bytes_max: int
) -> list[Part]:
    starts, slice_end = _starts_near(segment, references, first, bytes_max)
    if not starts:
        return []
    slice_start = starts[0]
    size_bytes = slice_end - slice_start
    data = _read(segment, slice_start, size_bytes) if may_wait else segment.file.read_now(slice_start, size_bytes)
    if data is None:
        return []
    view = memoryview(data)
    payloads: list[Part] = []
    viewed_bytes = 0
    for place, start in enumerate(starts):
        offset = start - slice_start
        size = record_size(data, offset)
        is_whole = RECORD_HEADER_BYTES <= size <= len(data) - offset
        if not is_whole or not has_claim(data, offset, references[first + place]):
            raise JournalDamaged(segment.full_name, start, "there is another record than there should be")
        if size < unchecked_bytes_min + RECORD_HEADER_BYTES and not is_intact(data, offset, size):
            raise JournalDamaged(segment.full_name, start, "a record fails its checksum")
        payloads.append(view[offset + RECORD_HEADER_BYTES : offset + size])
        viewed_bytes += size
    if 2 * viewed_bytes < len(data):  # what lies between them shall not stay in memory with them
        return [bytes(payload) for payload in payloads]
    return payloads


def lying_near(
    segment: Segment, references: Sequence[int], first: int, head_bytes: int, rest_bytes_min: int
) -> list[LyingRecord]:
    """Some records, as long as each lies in this segment and may stay there.

    It is probed whether they are in the system's memory: where the beginning of one is, its end, and a byte here and
    there, the rest most likely is. Who sends it would wait for the disk otherwise.

    Args:
        references: which.
        first: the position in them to begin at.
        head_bytes: as many of each payload are read.
        rest_bytes_min: what has fewer behind those is none of them; nor is what the headers of blocks cut, or what is
            another record than there should be.
    """
    file, head_bytes = segment.file, RECORD_HEADER_BYTES + head_bytes
    lying: list[LyingRecord] = []
    for reference in islice(references, first, None):
        start, size = segment.extent_of(reference)
        if not head_bytes + rest_bytes_min <= size <= BLOCK_BYTES_MAX:
            break
        head = file.read_now(start, head_bytes)
        if head is None:
            break
        rest_bytes = record_size(head, 0) - head_bytes
        if not rest_bytes_min <= rest_bytes <= size - head_bytes or not has_claim(head, 0, reference):
            break
        if not _is_at_hand(file, start + head_bytes, rest_bytes):
            break
        rest = file.stretch(start + head_bytes, rest_bytes)
        if rest is None:
            break
        lying.append(LyingRecord(memoryview(head)[RECORD_HEADER_BYTES:], rest))
    return lying


def _is_at_hand(file: File, offset: int, size: int) -> bool:
    """Whether bytes of a file are in the system's memory, as far as a few of them tell."""
    for place in range(offset + PROBE_BYTES, offset + size - 1, PROBE_BYTES):
        if file.read_now(place, 1) is None:
            return False
    return file.read_now(offset + size - 1, 1) is not None


def _starts_near(segment: Segment, references: Sequence[int], first: int, slice_bytes: int) -> tuple[list[int], int]:
    """Where those records begin that begin in one slice of a segment, in order, and where the last one ends."""
    starts: list[int] = []
    slice_start = slice_end = 0
    page = segment.page_of(references[first])
    for reference in islice(references, first, None):
        index = page.index_of(reference)
        if index < 0:
            page = segment.page_of(reference)
            index = page.index_of(reference)
        if index < 0 or page.flags[index] == DEAD:
            break
        start, size = page.extent(index)
        if not starts:
            slice_start = slice_end = start
        is_far = start >= slice_start + slice_bytes or start < slice_end or (size > slice_bytes and len(starts) > 0)
        if is_far or size > BLOCK_BYTES_MAX:  # what is larger is cut by the headers of blocks
            break
        starts.append(start)
        slice_end = start + size
    return starts, slice_end


def _read(segment: Segment, offset: int, size: int) -> bytes:
    try:
        return segment.file.read_at(offset, size)
    except OSError as error:
        raise JournalFailed(f"reading {segment.full_name} failed: {system_reason(error)}") from error


def _restore(segment: Segment) -> bool:
    try:
        return segment.file.restore()
    except OSError as error:
        raise JournalFailed(f"reading {segment.full_name} failed: {system_reason(error)}") from error


def live_records(segment: Segment, pages: Sequence[PageOrPacked]) -> Iterator[list[EncodedRecord]]:
    """All live records of a segment, in slices that are near each other in the file, each read at once.

    Args:
        segment: it may go on changing meanwhile.
        pages: its pages, as they were at one moment.

    Raises:
        JournalDamaged: a record is not what was written.
    """
    wanted: list[tuple[int, list[int]]] = []
    wanted_end = 0
    for page in segment.unpacked(pages):
        for index in compress(range(len(page.flags)), page.flags):
            start, size = page.extent(index)
            reference = page.reference_at(index)
            if wanted and wanted[-1][0] == start:
                wanted[-1][1].append(reference)
                continue
            if wanted and start - wanted[0][0] > SLICE_BYTES:
                yield _read_slice(segment, wanted, wanted_end)
                wanted = []
            wanted.append((start, [reference]))
            wanted_end = start + size
    if wanted:
        yield _read_slice(segment, wanted, wanted_end)


def _read_slice(segment: Segment, wanted: list[tuple[int, list[int]]], end: int) -> list[EncodedRecord]:
    try:
        return _read_slice_once(segment, wanted, end)
    except JournalDamaged:
        if not segment.file.restore():
            raise
        return _read_slice_once(segment, wanted, end)


def _read_slice_once(segment: Segment, wanted: list[tuple[int, list[int]]], end: int) -> list[EncodedRecord]:
    first_start = wanted[0][0]
    data = segment.file.read_at(first_start, end - first_start)
    result = []
    for start, claims in wanted:
        at = start - first_start
        size = record_size(data, at)
        if size > BLOCK_BYTES_MAX:
            record = _whole_record(segment, start, data[at:])
        else:
            record = data[at : at + size]
        if len(record) < RECORD_HEADER_BYTES or len(record) != size or not is_intact(record, 0, size):
            raise JournalDamaged(segment.full_name, start, "a record fails its checksum")
        result.append(EncodedRecord(record, claims))
    return result


def _whole_record(segment: Segment, start: int, data: bytes) -> bytes:
    """The record that begins bytes of a file, without the headers of the blocks that it goes on in."""
    size = record_size(data, 0)
    if not size:
        raise JournalDamaged(segment.full_name, start, "there is no record")
    if size <= BLOCK_BYTES_MAX:
        return data[:size]
    stride = BLOCK_BYTES_MAX + BLOCK_HEADER_BYTES
    pieces = [data[piece : piece + BLOCK_BYTES_MAX] for piece in range(0, len(data), stride)]
    return b"".join(pieces)[:size]
