"""Saving what can be saved of a damaged journal.

Holds `repair`: each damaged segment is copied aside as it is, and written anew with every record in it that is still
valid. What is lost is said, never guessed: a lost record is gone, a lost drop brings a record back.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from amqp_broker.journal.check import Damage, Found, Inspection
from amqp_broker.journal.cold_reads import EncodedRecord
from amqp_broker.journal.files import FileSystem
from amqp_broker.journal.records import DROPS_KIND, Record, Runs, decode_runs, encode_record
from amqp_broker.journal.rewriting import RewrittenSegment
from amqp_broker.journal.segments import (
    FORMAT_VERSION,
    IS_REWRITTEN,
    NEW_SUFFIX,
    SEGMENT_HEADER_BYTES,
    SegmentHeader,
    SegmentReader,
)

DAMAGED_SUFFIX = ".damaged"
_COPY_BYTES = 1024 * 1024


@dataclass(slots=True)
class RepairReport:
    """The outcome of `repair`. ``kept_aside`` names the copies of the damaged files."""

    damages: list[Damage] = field(default_factory=list)
    kept_aside: list[str] = field(default_factory=list)
    saved_records: int = 0
    lost_bytes: int = 0


def repair(files: FileSystem, *, is_dry_run: bool = False) -> RepairReport:
    """Make a damaged journal one that starts. A torn tail is left to the start itself.

    Args:
        files: the journal's folder; nobody else uses it meanwhile.
        is_dry_run: only say what would be saved and lost, and change nothing; ``kept_aside`` stays empty.

    Raises:
        JournalDamaged: two files claim the same place in the journal: nothing is done.
        FormatNotSupported: a segment of another format: nothing is done.
    """
    inspection = Inspection(files)
    report = RepairReport()
    next_reference = 1  # behind all that was found: there a segment begins that has lost its header and all records
    for name in inspection.names:
        next_reference = max(next_reference, inspection.reader(name).header.first_reference)
        damages, references_end = _survey(inspection, name)
        if damages:
            report.damages.extend(damages)
            report.lost_bytes += sum(damage.size_bytes for damage in damages)
            records, drops = _usable(inspection, name)
            report.saved_records += len(records)
            if not is_dry_run:
                report.kept_aside.append(_keep_aside(files, name))
                _write_anew(inspection, name, records, drops, next_reference)
        next_reference = max(next_reference, references_end)
    return report


def _survey(inspection: Inspection, name: str) -> tuple[list[Damage], int]:
    """The damages of a segment, and the reference behind those of its records; 0 where there are none."""
    damages: list[Damage] = []
    references_end = 0
    for item in inspection.items(name):
        if isinstance(item, Damage):
            damages.append(item)
        elif item.record.kind != DROPS_KIND:
            references_end = max(references_end, item.record.reference + item.record.claims)
    return damages, references_end


def _keep_aside(files: FileSystem, name: str) -> str:
    aside = name + DAMAGED_SUFFIX
    taken = set(files.names())
    number = 1
    while aside in taken:
        number += 1
        aside = f"{name}{DAMAGED_SUFFIX}-{number}"
    source = files.open(name)
    copy = files.create(aside + NEW_SUFFIX, 0)
    size = source.size()
    for offset in range(0, size, _COPY_BYTES):
        copy.write_at(offset, source.read_at(offset, min(_COPY_BYTES, size - offset)))
    copy.sync()
    files.rename(aside + NEW_SUFFIX, aside)
    files.sync_folder()
    return files.full_name(aside)


def _usable(inspection: Inspection, name: str) -> tuple[dict[int, Record], Runs]:
    """The records of a damaged segment that are still valid, by their references, and its drops."""
    records: dict[int, Record] = {}
    drops = Runs()
    for item in inspection.items(name):
        if not isinstance(item, Found):
            continue
        if item.record.kind == DROPS_KIND:
            drops.extend(decode_runs(item.record.payload))
        else:
            records[item.record.reference] = item.record
    return records, drops.merged()


def _write_anew(
    inspection: Inspection, name: str, records: dict[int, Record], drops: Runs, next_reference: int
) -> None:
    reader = inspection.reader(name)
    first_reference = reader.header.first_reference or min(records, default=next_reference)
    segment = RewrittenSegment(inspection.files, _header(reader, first_reference))
    for reference, record in sorted(records.items()):
        claims = range(reference, reference + record.claims)
        segment.add(EncodedRecord(encode_record(record.kind, record.payload, reference, record.claims), claims))
    segment.finish(drops)


def _header(reader: SegmentReader, first_reference: int) -> SegmentHeader:
    """A header that comes after all batches that were in the segment, because it may be the journal's last one."""
    batch = reader.header.batch
    epoch = reader.header.epoch
    for _, header in reader.headers_after(SEGMENT_HEADER_BYTES):
        batch = max(batch, header.batch)
        epoch = max(epoch, header.epoch)
    old = reader.header
    return SegmentHeader(FORMAT_VERSION, IS_REWRITTEN, old.first_number, old.last_number, epoch, first_reference, batch)
