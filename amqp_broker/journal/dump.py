"""Reading out a journal: an entry for each record and each damage, and the lines that show them.

Holds no knowledge of what the kinds mean: whoever asks hands in a function that says it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from amqp_broker.journal.check import Damage, Inspection, gather_drops, live_claims
from amqp_broker.journal.files import FileSystem
from amqp_broker.journal.records import DROPS_KIND, Record, decode_runs


@dataclass(frozen=True, slots=True)
class DumpedRecord:
    """A record, and those of its claims that are live."""

    file: str
    offset: int
    record: Record
    live_claims: Sequence[int]


@dataclass(frozen=True, slots=True)
class DumpedDrops:
    """References that mean nothing any more, in runs: the first of each, and how many."""

    file: str
    offset: int
    runs: Sequence[tuple[int, int]]


def entries(inspection: Inspection) -> Iterator[DumpedRecord | DumpedDrops | Damage]:
    """Yield all that is in the segments of a journal, in order. Changes nothing."""
    drops = gather_drops(inspection)
    for name in inspection.names:
        file = inspection.files.full_name(name)
        for item in inspection.items(name):
            if isinstance(item, Damage):
                yield item
            elif item.record.kind == DROPS_KIND:
                yield DumpedDrops(file, item.offset, list(decode_runs(item.record.payload)))
            else:
                yield DumpedRecord(file, item.offset, item.record, live_claims(item.record, drops))


def dump(files: FileSystem, describe: Callable[[int, bytes], str] | None = None) -> Iterator[str]:
    """Yield lines that say what is in each segment, damages included. Changes nothing.

    Args:
        files: the journal's folder; nobody else uses it meanwhile, or it is a `Snapshot`.
        describe: says in one line what a record of a kind with a payload means; without it only sizes are given.
    """
    inspection = Inspection(files)
    file = ""
    for entry in entries(inspection):
        if entry.file != file:
            file = entry.file
            yield file
        yield f"  {entry.offset:>10}  {_line(entry, describe)}"
    if inspection.torn_tail is not None:
        yield f"unfinished: {inspection.torn_tail}"


def _line(entry: DumpedRecord | DumpedDrops | Damage, describe: Callable[[int, bytes], str] | None) -> str:
    if isinstance(entry, Damage):
        return f"DAMAGED   {entry.size_bytes} bytes: {entry.reason}"
    if isinstance(entry, DumpedDrops):
        return f"drops     {_runs_text(entry.runs)}"
    record, live = entry.record, entry.live_claims
    text = f"{'live' if live else 'dead'}      {record.reference} kind {record.kind}, {len(record.payload)} bytes"
    if record.claims > 1:
        text += f", {len(live)} of {record.claims} claims live"
    return text if describe is None else f"{text}: {describe(record.kind, record.payload)}"


def _runs_text(runs: Sequence[tuple[int, int]]) -> str:
    return " ".join(str(first) if count == 1 else f"{first}-{first + count - 1}" for first, count in runs)
