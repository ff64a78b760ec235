"""Reading a journal at the start: what is live, where it lies, and what a crash left unfinished.

Holds the three passes. First the last segment is read, to find where its last whole batch ends; then the drops of all
segments are gathered, the rest being passed over; then every segment is read once from front to back and its live
records are yielded. So memory holds the index, the drops, and one block. Damage is never repaired here, but where the
files are copies of what is kept elsewhere, and are read from there again.

Nothing is written before everything is read: whoever cannot use what he is given, and stops, leaves the files as they
were. Only then is an unfinished batch cut off, and what a crash left is removed.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from itertools import repeat
from typing import NamedTuple

from amqp_broker.journal.blocks import (
    BLOCK_HEADER_BYTES,
    HOLDS_DROPS,
    IS_LAST_OF_BATCH,
    IS_SEAL,
    Stamp,
    encode_seal,
)
from amqp_broker.journal.failures import JournalDamaged, TornTail
from amqp_broker.journal.files import FileSystem
from amqp_broker.journal.index import Segment
from amqp_broker.journal.index_pages import DEAD, SHARED, SINGLE, fills_page
from amqp_broker.journal.port import LiveRecord, Progress
from amqp_broker.journal.records import RECORD_HEADER_BYTES, Runs, decode_record, decode_runs, record_fields
from amqp_broker.journal.segments import (
    IS_REWRITTEN,
    NEW_SUFFIX,
    SEGMENT_HEADER_BYTES,
    BadBlock,
    Block,
    SegmentReader,
    segment_name,
    segment_numbers,
)

_NO_MORE = 2**64


class End(NamedTuple):
    """The real end of the last segment."""

    offset: int
    batch: int
    is_sealed: bool
    torn_tail: TornTail | None
    unsynced_offset: int
    """From here on, what can be read is not known to be on the disk: a sync of it may have failed."""


def list_segments(files: FileSystem) -> tuple[list[str], list[str]]:
    """The names of the segments that count, in order, and those of files that a crash left and nothing needs.

    Raises:
        JournalDamaged: two files claim the same place in the journal.
    """
    leftovers = [name for name in files.names() if name.endswith(NEW_SUFFIX)]
    ranges = [numbers for name in files.names() if (numbers := segment_numbers(name)) is not None]
    ranges.sort(key=lambda numbers: (numbers[0], -numbers[1]))
    names: list[str] = []
    last = 0
    for first_number, last_number in ranges:
        name = segment_name(first_number, last_number)
        if first_number > last:
            names.append(name)
            last = last_number
        elif last_number <= last:
            leftovers.append(name)
        else:
            raise JournalDamaged(files.full_name(name), 0, f"it overlaps {files.full_name(names[-1])}")
    return names, leftovers


def find_end(reader: SegmentReader) -> End:
    """Read the last segment to the end of its last whole batch; what follows may be damage to a copy.

    Raises:
        JournalDamaged: what follows was once durable.
    """
    end = offset = SEGMENT_HEADER_BYTES
    batch = reader.header.batch
    starts: deque[tuple[int, int]] = deque()
    bad = BadBlock(offset, "")
    is_sealed = False
    while not is_sealed:
        try:
            block = reader.block(offset)
        except BadBlock as error:
            bad = error
            break
        offset = block.end
        if block.header.flags & IS_LAST_OF_BATCH:
            starts.append((block.header.batch, end))
            end, batch = block.end, block.header.batch
        while starts and starts[0][0] <= block.header.synced_batch:
            starts.popleft()
        is_sealed = bool(block.header.flags & IS_SEAL)
    unsynced_offset = starts[0][1] if starts else end
    if reader.restore(end):  # also where nothing but zeros can be seen: they may be the damage
        return find_end(reader)
    rest_bytes = reader.last_nonzero_byte(end) - end
    if not rest_bytes:
        return End(end, batch, is_sealed, None, unsynced_offset)
    if any(header.synced_batch > batch for _, header in reader.headers_after(end)):
        raise JournalDamaged(reader.full_name, bad.offset, f"{bad.reason}, and there are durable batches after it")
    return End(end, batch, is_sealed, TornTail(reader.full_name, end, rest_bytes), unsynced_offset)


class Recovery:
    """One reading of a journal. After `run` is exhausted, the attributes say how to go on.

    Args:
        files: the journal's folder.
        verified: the names of segments that this process has read before to their ends, and found intact.
    """

    def __init__(self, files: FileSystem, verified: AbstractSet[str] = frozenset()) -> None:
        self._files = files
        self._verified = verified
        self.segments: list[Segment] = []
        self.next_reference = 1
        self.number = 0
        self.batch = 0
        self.epoch = 0
        self.torn_tail: TornTail | None = None

    def run(self, progress: Progress | None) -> Iterator[list[LiveRecord]]:
        """Yield the live records in the order of their references, those of a block at a time.

        Raises:
            JournalDamaged: damage that is not a torn tail.
            FormatNotSupported: a segment of another format.
        """
        names, leftovers = list_segments(self._files)
        verified = self._verified - set(names[-1:])  # the last one has no end yet
        readers = [SegmentReader(self._files, name, is_verified=name in verified) for name in names]
        self.segments = [_segment(reader, name) for reader, name in zip(readers, names, strict=True)]
        end = find_end(readers[-1]) if readers else None
        # The last segment may lack its seal; all others have one.
        ends = [None if end is None or reader is not readers[-1] else end.offset for reader in readers]
        drops = self._gather_drops(readers, ends)
        total_bytes = sum(reader.size_bytes for reader in readers)
        done_bytes = 0
        for reader, segment, end_offset in zip(readers, self.segments, ends, strict=True):
            self.epoch = max(self.epoch, reader.header.epoch)
            self.next_reference = max(self.next_reference, segment.first_reference)
            reading = _Reading(reader, segment, drops.pop(0).merged())
            try:
                for block in reader.blocks(end_offset):
                    yield reading.block(block)
                    if progress is not None:
                        progress(done_bytes + block.end, total_bytes)
            except BadBlock as bad:
                raise JournalDamaged(reader.full_name, bad.offset, bad.reason) from None
            self.next_reference = max(self.next_reference, reading.finish())
            done_bytes += reader.size_bytes
        if end is not None:
            self._files.sync_folder()  # what can be seen need not be durable yet
            self._close_end(readers[-1], end)
            self.segments[-1].disk_bytes = readers[-1].file.size()
        self._remove(leftovers)

    def _remove(self, names: list[str]) -> None:
        for name in names:
            self._files.remove(name)
        if names:
            self._files.sync_folder()

    def _close_end(self, reader: SegmentReader, end: End) -> None:
        """Cut an unfinished batch off the last segment and seal it: it is not appended to any more.

        What was not synced is written again: had its sync failed before the process ended, it could be read, and a
        sync would say that all is well, but it would not be on the disk.
        """
        self.number = reader.header.last_number
        self.batch = end.batch
        self.torn_tail = end.torn_tail
        file = reader.file
        if end.offset < reader.size_bytes:
            file.truncate(end.offset)
        file.write_at(end.unsynced_offset, file.read_at(end.unsynced_offset, end.offset - end.unsynced_offset))
        file.sync()
        if not end.is_sealed:
            self.batch += 1
            file.write_at(end.offset, encode_seal(Stamp(reader.header.epoch, self.batch, end.batch)))
            file.sync()

    def _gather_drops(self, readers: list[SegmentReader], ends: list[int | None]) -> list[Runs]:
        """All drops, sorted by the segment that their records are in; each segment keeps those that it holds."""
        firsts = [segment.first_reference for segment in self.segments]
        by_target = [Runs() for _ in firsts]
        for reader, segment, end in zip(readers, self.segments, ends, strict=True):
            try:
                for block in reader.drops(end):
                    runs = drops_in(block)
                    segment.drops.extend(runs)
                    self.next_reference = max(self.next_reference, runs.end)
                    for first, count in runs:
                        low = max(bisect_right(firsts, first) - 1, 0)
                        high = bisect_right(firsts, first + count - 1)
                        for target in range(low, high):
                            by_target[target].append(first, count)
            except BadBlock as bad:
                raise JournalDamaged(reader.full_name, bad.offset, bad.reason) from None
        return by_target


def drops_in(block: Block) -> Runs:
    """The drops that a block of drops holds.

    Raises:
        BadBlock: it holds something else.
    """
    record = decode_record(block.payload)
    if record is None:
        raise BadBlock(block.offset, "a record of drops fails its checksum")
    return decode_runs(record.payload)


def _segment(reader: SegmentReader, name: str) -> Segment:
    header = reader.header
    numbers = (header.first_number, header.last_number)
    segment = Segment(name, reader.full_name, numbers, reader.file, header.first_reference)
    segment.disk_bytes = reader.size_bytes
    return segment


class _Reading:
    """Fills the index of one segment from its blocks and finds the live records in them."""

    def __init__(self, reader: SegmentReader, segment: Segment, drops: Runs) -> None:
        self._segment = segment
        is_rewritten = bool(reader.header.flags & IS_REWRITTEN)
        # What was read of the next page:
        self._references: array[int] | None = array("Q") if is_rewritten else None
        self._flags = bytearray()
        self._offsets: array[int] = array("I" if reader.size_bytes < 2**32 else "Q")
        self._first_reference = segment.first_reference
        self._end = SEGMENT_HEADER_BYTES
        self._next_reference = segment.first_reference
        self._drops = iter(drops)
        self._drop_first, self._drop_end = -1, 0
        self._next_drop(0)

    def _next_drop(self, reference: int) -> None:
        while self._drop_end <= reference:
            first, count = next(self._drops, (_NO_MORE, _NO_MORE))
            self._drop_first, self._drop_end = first, first + count

    def block(self, block: Block) -> list[LiveRecord]:
        """Index a block's records; returns the live ones."""
        found: list[LiveRecord] = []
        if block.header.flags & (HOLDS_DROPS | IS_SEAL):
            return found
        payload = block.payload
        base = block.offset + BLOCK_HEADER_BYTES
        flags, offsets, references = self._flags, self._offsets, self._references
        following = self._next_reference
        for start, size, reference, claims, kind in record_fields(payload):
            end = start + size
            if reference != following:
                if reference < following:
                    raise BadBlock(block.offset, "its records are not in order")
                if references is None:
                    self._leave_unused(reference - following)
            if reference >= self._drop_end:
                self._next_drop(reference)
            if claims == 1:
                offsets.append(base + start)
                if reference < self._drop_first:
                    flags.append(SINGLE)
                    found.append((reference, kind, payload[start + RECORD_HEADER_BYTES : end], (reference,)))
                else:
                    flags.append(DEAD)
            else:
                offsets.extend(repeat(base + start, claims))
                live = self._live_claims(reference, claims)
                if live:
                    found.append((reference, kind, payload[start + RECORD_HEADER_BYTES : end], live))
            following = reference + claims
            if references is not None:
                references.extend(range(reference, following))
            self._end = base + end
        self._next_reference = following
        self._end = block.end
        if fills_page(len(flags)):
            self._add_to_index()
        return found

    def _leave_unused(self, count: int) -> None:
        """So many references have no record: they share the offset of what comes next."""
        self._flags.extend(bytes(count))
        self._offsets.extend(repeat(self._end, count))

    def _add_to_index(self) -> None:
        self._offsets.append(self._end)
        self._segment.append_packed(self._first_reference, self._flags, self._offsets, self._references)
        self._first_reference = self._next_reference
        self._flags = bytearray()
        self._offsets = array(self._offsets.typecode)
        if self._references is not None:
            self._references = array("Q")

    def _live_claims(self, reference: int, claims: int) -> list[int]:
        live = []
        for claim in range(reference, reference + claims):
            if claim >= self._drop_end:
                self._next_drop(claim)
            is_live = claim < self._drop_first
            self._flags.append(SHARED if is_live else DEAD)
            if is_live:
                live.append(claim)
        return live

    def finish(self) -> int:
        """Hand the index to the segment.

        Returns:
            One past the highest reference in it.
        """
        if len(self._flags):
            self._add_to_index()
        return self._next_reference
