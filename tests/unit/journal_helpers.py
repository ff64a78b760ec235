"""What the tests of the journal have in common: opening one, committing, reclaiming."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from amqp_broker.journal import index, index_pages
from amqp_broker.journal.files import FileSystem
from amqp_broker.journal.journal import SegmentJournal
from amqp_broker.journal.port import LiveRecord

SEGMENT_BYTES = 4096


def opened(
    files: FileSystem, segment_bytes: int = SEGMENT_BYTES, reserve_bytes: int = 0
) -> tuple[SegmentJournal, list[LiveRecord]]:
    """A journal that is ready, and what it found."""
    journal = SegmentJournal(files, segment_bytes, reserve_bytes)
    return journal, [record for records in journal.recover() for record in records]


def commit(journal: SegmentJournal, *, sync: bool = True) -> None:
    """Write and commit what has gathered, if anything has."""
    batch = journal.take_batch(sync=sync)
    if batch is not None:
        journal.write(batch)
        journal.committed(batch)


def reclaim_all(journal: SegmentJournal) -> int:
    """Free all space that can be freed; returns how many pieces of work that took."""
    count = 0
    while (reclaim := journal.take_reclaim()) is not None:
        while not reclaim.step():
            pass
        journal.reclaimed(reclaim)
        reclaim.release()
        count += 1
    return count


def live_payloads(found: list[LiveRecord]) -> list[bytes]:
    """The payloads of what was found, in order."""
    return [payload for _, _, payload, _ in found]


@contextmanager
def small_index_pages(references: int = 4, recent: int = 1) -> Iterator[None]:
    """Let few references be many: so many are a page of the index, and so many pages are not packed.

    Each that comes or goes has another one looked at.
    """
    small = [
        (index_pages, "PAGE_REFERENCES", references),
        (index, "RECENT_PAGES", recent),
        (index, "REFERENCES_PER_LOOK", 1),
    ]
    before = [(module, name, getattr(module, name)) for module, name, _ in small]
    for module, name, value in small:
        setattr(module, name, value)
    try:
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)
