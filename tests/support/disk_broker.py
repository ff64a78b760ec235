"""A broker in memory with a journal, on a disk in memory: what goes to the disk and comes back is the test's to say.

Batches are written as soon as there is something to write, and pages are read as soon as they are wanted, unless a test
holds them back. Holds no assertions but the invariants of what it adds.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, Self

from amqp_broker.broker.persistence import message_recovery
from amqp_broker.broker.queues import backlog, ready
from amqp_broker.journal.failures import RecordGone
from amqp_broker.journal.journal import SegmentJournal
from amqp_broker.journal.memory_files import MemoryFiles
from amqp_broker.settings import Settings
from tests.support.client import Client
from tests.support.manual_clock import ManualClock
from tests.support.memory_broker import MemoryBroker, MemoryDriver

SEGMENT_BYTES = 4096


class DiskDriver(MemoryDriver):
    """Has all written and read at once as well, unless the test holds it back."""

    broker: DiskBroker

    def journal_has_work(self) -> None:
        """Write it."""
        if self.broker.writes_at_once:
            self.broker.write()

    def pages_are_wanted(self) -> None:
        """Read them."""
        if self.broker.reads_at_once and not self.broker.is_reading:
            self.broker.read_pages()


class DiskBroker(MemoryBroker):
    """A broker with a journal.

    Args:
        files: the disk; an empty one when left out.
        clock: the time, which goes on over restarts.
        settings: by name, where they differ from the defaults.
    """

    driver_type = DiskDriver

    def __init__(self, files: MemoryFiles | None = None, clock: ManualClock | None = None, **settings: Any) -> None:
        self.files = files if files is not None else MemoryFiles()
        self.journal = SegmentJournal(self.files, SEGMENT_BYTES)
        self.given_settings = settings
        self.writes_at_once = self.reads_at_once = False
        self._make(Settings(**settings), clock or ManualClock())
        self.open(self.journal)
        self.write()
        self.writes_at_once = self.reads_at_once = True
        self.read_pages()

    def client(self) -> Client:
        """A connection that is open."""
        return Client(self).open()

    # --- writing

    def write(self, *, sync: bool = True) -> None:
        """Write and commit what has gathered, as the flusher does."""
        batch = self.durability.take_batch(sync=sync)
        if batch is not None:
            self.journal.write(batch)
            self.journal.committed(batch)
        self.committed()

    @contextmanager
    def holding_writes(self) -> Iterator[None]:
        """Let everything gather; it is written in the end."""
        self.writes_at_once = False
        yield
        self.writes_at_once = True
        self.write()

    def reclaim(self) -> None:
        """Free all space that can be freed."""
        while (work := self.journal.take_reclaim()) is not None:
            while not work.step():
                pass
            self.journal.reclaimed(work)
            work.release()

    # --- reading

    def read_pages(self, count: int = sys.maxsize) -> None:
        """Read what is asked for, so many chunks at most, as the page reader does."""
        self.is_reading = True
        while self.paging.reads and count:
            count -= 1
            page = self.paging.reads.popleft()
            if page.is_wanted:
                page.read(self.journal)
                self.handle(page.was_read)
        self.is_reading = False

    is_reading = False

    @contextmanager
    def holding_reads(self) -> Iterator[None]:
        """Let the reading wait; it is done in the end."""
        self.reads_at_once = False
        yield
        self.reads_at_once = True
        self.read_pages()

    # --- the end, and what follows

    def restarted(self, *, down_ms: int = 0, **settings: Any) -> Self:
        """End in good order, and start again on the same disk."""
        for connection in self.connections:
            connection.lost("the broker has shut down")
        self.settle()
        self.durability.note_handed_out()
        self.journal.close()
        return self._next(down_ms, settings)

    def killed(self, *, down_ms: int = 0, **settings: Any) -> Self:
        """End at once: what was written is there, what was not is gone. Start again on the same disk."""
        return self._next(down_ms, settings)

    def without_power(self, *, down_ms: int = 0, **settings: Any) -> Self:
        """The same, and what was not synced may be gone or torn."""
        self.files.lose_power()
        return self._next(down_ms, settings)

    def _next(self, down_ms: int, settings: dict[str, Any]) -> Self:
        self.clock.advance(down_ms)
        return type(self)(self.files, self.clock, **{**self.given_settings, **settings})

    # --- looking in

    def on_disk_only(self, name: str) -> int:
        """How many of a queue's ready messages are not in memory."""
        queue = self.queue(name)
        return queue.ready_count - len(list(queue.messages()))

    def live_records(self) -> int:
        """How many claims the journal keeps, once all that has gathered is written."""
        self.write()
        segments = self.journal._index.segments
        pages = [page for segment in segments for page in segment.unpacked(segment.pages())]
        return sum(1 for page in pages for flag in page.flags if flag)

    def is_gone(self, reference: int) -> bool:
        """Whether the journal holds no such record."""
        try:
            self.journal.read(reference)
        except RecordGone:
            return True
        return False


@contextmanager
def small_pages(in_memory: int = 2, chunk: int = 4, read_ahead: int = 3) -> Iterator[None]:
    """Let few messages be many: so many stay in memory, are in a chunk, are left when the next chunk is read."""
    small: list[tuple[ModuleType, str, int]] = [
        (backlog, "IN_MEMORY_MIN", in_memory),
        (message_recovery, "IN_MEMORY_MIN", in_memory),
        (ready, "CHUNK_MESSAGES_MAX", chunk),
        (message_recovery, "CHUNK_MESSAGES_MAX", chunk),
        (ready, "READ_AHEAD_MESSAGES", read_ahead),
    ]
    before = [(module, name, getattr(module, name)) for module, name, _ in small]
    for module, name, value in small:
        setattr(module, name, value)
    try:
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)
