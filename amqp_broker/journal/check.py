"""Looking through a journal that nobody uses: is everything what was written, and what is in it?

Holds `check`, which reads every byte and counts, and the walk over a damaged segment that `repair.py` and `dump.py` use
too: it goes on after damage, where recovery would stop. Changes nothing on the disk.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field

from amqp_broker.journal.blocks import BLOCK_HEADER_BYTES, IS_SEAL
from amqp_broker.journal.failures import JournalDamaged, TornTail
from amqp_broker.journal.files import FileSystem
from amqp_broker.journal.records import (
    DROPS_KIND,
    Record,
    Runs,
    decode_record,
    decode_runs,
    find_records,
    record_fields,
)
from amqp_broker.journal.recovery import find_end, list_segments
from amqp_broker.journal.segments import SEGMENT_HEADER_BYTES, BadBlock, Block, SegmentReader


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes of a file that hold nothing that can be used."""

    file: str
    offset: int
    size_bytes: int
    reason: str

    def __str__(self) -> str:
        return f"{self.file}: {self.size_bytes} bytes from byte {self.offset} on are damaged: {self.reason}"


@dataclass(frozen=True, slots=True)
class Found:
    """A record as it was found, and where."""

    offset: int
    record: Record


@dataclass(slots=True)
class Report:
    """The findings of `check`.

    ``live_records`` counts records, not claims; ``drops`` counts the references that records of drops name.
    """

    segments: int = 0
    records: int = 0
    live_records: int = 0
    dead_records: int = 0
    drops: int = 0
    live_bytes: int = 0
    disk_bytes: int = 0
    torn_tail: TornTail | None = None
    damages: list[Damage] = field(default_factory=list)

    @property
    def is_intact(self) -> bool:
        """Whether the journal would start without a complaint, or with no more than a torn tail."""
        return not self.damages


class Inspection:
    """All segments of a journal, read as far as they can be read, each as often as is asked for.

    Args:
        files: the journal's folder.

    Raises:
        JournalDamaged: two files claim the same place in the journal.
        FormatNotSupported: a segment of another format.
    """

    def __init__(self, files: FileSystem) -> None:
        self.files = files
        self.names = list_segments(files)[0]
        self.torn_tail: TornTail | None = None
        self._end_of_last = 0
        if self.names:
            self._find_end()

    def _find_end(self) -> None:
        reader = self.reader(self.names[-1])
        try:
            end = find_end(reader)
        except JournalDamaged:
            self._end_of_last = reader.last_nonzero_byte(SEGMENT_HEADER_BYTES)
        else:
            self.torn_tail = end.torn_tail
            self._end_of_last = end.offset

    def reader(self, name: str) -> SegmentReader:
        """A reader of a segment, whose header may be damaged."""
        return SegmentReader(self.files, name, is_header_needed=False)

    def items(self, name: str) -> Iterator[Found | Damage]:
        """All that can be used of a segment, in order, and the damages between."""
        try:
            reader = SegmentReader(self.files, name)
        except JournalDamaged as error:
            yield Damage(error.file, 0, SEGMENT_HEADER_BYTES, error.reason)
            reader = self.reader(name)
        is_last = name == self.names[-1]
        end = self._end_of_last if is_last else reader.size_bytes
        offset = SEGMENT_HEADER_BYTES
        is_sealed = is_last
        while offset < end:
            try:
                block = reader.block(offset)
            except BadBlock as bad:
                following = min(_next_block(reader, offset), end)
                yield from _search(reader, offset, following, bad.reason)
                offset = following
                continue
            is_sealed = is_sealed or bool(block.header.flags & IS_SEAL)
            yield from _records(block)
            offset = block.end
        if not is_sealed:
            yield Damage(reader.full_name, end, 0, "the file ends without the mark that it is complete")


def _next_block(reader: SegmentReader, offset: int) -> int:
    """Where to go on after a bad block: behind it when its header can be believed, else at the next header found."""
    try:
        return offset + BLOCK_HEADER_BYTES + reader.block_header(offset).length_bytes
    except BadBlock:
        return next((found for found, _ in reader.headers_after(offset + 1)), reader.size_bytes)


def _records(block: Block) -> Iterator[Found]:
    base = block.offset + BLOCK_HEADER_BYTES
    for offset, size, *_ in record_fields(block.payload):
        record = decode_record(block.payload[offset : offset + size])
        if record is not None:
            yield Found(base + offset, record)


def _search(reader: SegmentReader, start: int, end: int, reason: str) -> Iterator[Found | Damage]:
    """Look for records in bytes that are no intact block."""
    try:
        reader.block_header(start)
        start += BLOCK_HEADER_BYTES
    except BadBlock:
        pass  # its header is among the damaged bytes
    data = reader.file.read_at(start, end - start)
    position = 0
    for offset, size in find_records(data, range(max(reader.header.first_reference, 1), 2**56)):
        if offset > position:
            yield Damage(reader.full_name, start + position, offset - position, reason)
        record = decode_record(data[offset : offset + size])
        if record is not None:
            yield Found(start + offset, record)
        position = offset + size
    if position < len(data) or not data:
        yield Damage(reader.full_name, start + position, len(data) - position, reason)


def gather_drops(inspection: Inspection) -> Runs:
    """All drops in all segments."""
    drops = Runs()
    for name in inspection.names:
        for item in inspection.items(name):
            if isinstance(item, Found) and item.record.kind == DROPS_KIND:
                drops.extend(decode_runs(item.record.payload))
    return drops.merged()


def live_claims(record: Record, drops: Runs) -> list[int]:
    """The references of those claims of a record that are not dropped.

    Args:
        record: the record.
        drops: all drops, merged.
    """
    claims = range(record.reference, record.reference + record.claims)
    return [claim for claim in claims if not _is_dropped(claim, drops)]


def _is_dropped(claim: int, drops: Runs) -> bool:
    number = bisect_right(drops.firsts, claim) - 1
    return number >= 0 and claim < drops.firsts[number] + drops.counts[number]


def check(files: FileSystem) -> Report:
    """Read every record and verify every checksum.

    Args:
        files: the journal's folder; nobody else uses it meanwhile.

    Raises:
        JournalDamaged: two files claim the same place in the journal.
        FormatNotSupported: a segment of another format.
    """
    inspection = Inspection(files)
    drops = gather_drops(inspection)
    report = Report(segments=len(inspection.names), torn_tail=inspection.torn_tail)
    report.drops = sum(drops.counts)
    for name in inspection.names:
        report.disk_bytes += files.open(name).size()
        for item in inspection.items(name):
            if isinstance(item, Damage):
                report.damages.append(item)
            elif item.record.kind != DROPS_KIND:
                _count(report, item.record, drops)
    return report


def _count(report: Report, record: Record, drops: Runs) -> None:
    report.records += 1
    if live_claims(record, drops):
        report.live_records += 1
        report.live_bytes += len(record.payload)
    else:
        report.dead_records += 1
