"""Printing a journal readably, a line for each record.

Holds no knowledge of what the kinds mean: whoever asks hands in a function that says it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from amqp_broker.journal.check import Damage, Found, Inspection, gather_drops, live_claims
from amqp_broker.journal.files import FileSystem
from amqp_broker.journal.records import DROPS_KIND, Record, Runs, decode_runs


def dump(files: FileSystem, describe: Callable[[int, bytes], str] | None = None) -> Iterator[str]:
    """Yield lines that say what is in each segment, damages included. Changes nothing.

    Args:
        files: the journal's folder; nobody else uses it meanwhile.
        describe: says in one line what a record of a kind with a payload means; without it only sizes are given.
    """
    inspection = Inspection(files)
    drops = gather_drops(inspection)
    for name in inspection.names:
        yield files.full_name(name)
        for item in inspection.items(name):
            if isinstance(item, Damage):
                yield f"  {item.offset:>10}  DAMAGED   {item.size_bytes} bytes: {item.reason}"
            else:
                yield f"  {item.offset:>10}  {_line(item, drops, describe)}"
    if inspection.torn_tail is not None:
        yield f"unfinished: {inspection.torn_tail}"


def _line(found: Found, drops: Runs, describe: Callable[[int, bytes], str] | None) -> str:
    record = found.record
    if record.kind == DROPS_KIND:
        return f"drops     {_runs_text(decode_runs(record.payload))}"
    live = live_claims(record, drops)
    text = f"{'live' if live else 'dead'}      {record.reference} kind {record.kind}, {len(record.payload)} bytes"
    if record.claims > 1:
        text += f", {len(live)} of {record.claims} claims live"
    return text + _meaning(record, describe)


def _meaning(record: Record, describe: Callable[[int, bytes], str] | None) -> str:
    return f": {describe(record.kind, record.payload)}" if describe is not None else ""


def _runs_text(runs: Runs) -> str:
    return " ".join(str(first) if count == 1 else f"{first}-{first + count - 1}" for first, count in runs)
