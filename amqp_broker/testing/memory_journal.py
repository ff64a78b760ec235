"""The journal of a broker in a test: the real one, over files that are only in memory, written at once.

Each chunk of work ends with its own commit, without a thread; so at any moment between two chunks, what is in the
files is what a broker would find that starts after a crash at that moment.
"""

from __future__ import annotations

import errno
import os
from typing import cast

from amqp_broker.broker.broker import Broker
from amqp_broker.journal.journal import SegmentJournal
from amqp_broker.journal.port import Journal
from amqp_broker.journal.records import Part
from amqp_broker.journal.stretches import FileStretch
from amqp_broker.server.driver import ServerDriver

SEGMENT_BYTES = 262_144


class MemoryFile:
    """One file of a ``MemoryFolder``."""

    def __init__(self, data: bytearray) -> None:
        self.is_read_soon = False
        self._data = data

    def read_at(self, offset: int, size: int) -> bytes:
        """Up to so many bytes from an offset."""
        return bytes(self._data[offset : offset + size])

    def read_now(self, offset: int, size: int) -> Part | None:
        """Nothing is at hand: what a broker does while it waits for a disk is to be seen in tests."""
        return None

    def stretch(self, offset: int, size: int) -> FileStretch | None:
        """No system sends what is in memory."""
        return None

    def write_at(self, offset: int, *parts: Part) -> None:
        """Write the bytes, with zeros before them where the file was shorter."""
        data = b"".join(parts)
        missing = offset - len(self._data)
        if missing > 0:
            self._data.extend(bytes(missing))
        self._data[offset : offset + len(data)] = data

    def truncate(self, size: int) -> None:
        """Give the file this size."""
        missing = size - len(self._data)
        if missing > 0:
            self._data.extend(bytes(missing))
        else:
            del self._data[size:]

    def sync(self) -> None:
        """There is nothing that could be lost."""

    def size(self) -> int:
        """The file's size in bytes."""
        return len(self._data)

    def restore(self, offset: int = 0) -> bool:
        """The bytes are kept nowhere else."""
        return False


class MemoryFolder:
    """A file system of one folder (``journal/files.py``) that never fails and is never full."""

    def __init__(self, files: dict[str, bytearray] | None = None) -> None:
        self._files = files or {}

    def copy(self) -> MemoryFolder:
        """The folder as it is now, on its own from now on."""
        return MemoryFolder({name: bytearray(data) for name, data in self._files.items()})

    def names(self) -> list[str]:
        """The names of all files."""
        return sorted(self._files)

    def create(self, name: str, reserve_bytes: int) -> MemoryFile:
        """Make a new file of zeros."""
        if name in self._files:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)
        data = self._files[name] = bytearray(reserve_bytes)
        return MemoryFile(data)

    def open(self, name: str) -> MemoryFile:
        """Open a file."""
        if name not in self._files:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        return MemoryFile(self._files[name])

    def rename(self, old: str, new: str) -> None:
        """Give a file another name."""
        self._files[new] = self._files.pop(old)

    def remove(self, name: str) -> None:
        """Remove a file; who has it open can go on reading."""
        del self._files[name]

    def sync_folder(self) -> None:
        """There is nothing that could be lost."""

    def full_name(self, name: str) -> str:
        """The name in messages."""
        return f"memory/{name}"


def open_journal(folder: MemoryFolder) -> Journal:
    """The journal in a folder; not recovered yet."""
    # It takes back only the batches that it gave out, which its own types say and the port's cannot.
    return cast(Journal, SegmentJournal(folder, SEGMENT_BYTES))


class WritingDriver(ServerDriver):
    """The driver of a broker in a test: all that the broker does is written at the end of each chunk of work, and what
    it wants to have read is read then.
    """

    def __init__(self) -> None:
        super().__init__()
        self._broker: Broker | None = None
        self._journal: Journal | None = None
        self._is_reading = False

    def begin_writing(self, broker: Broker, journal: Journal) -> None:
        """A broker was opened: write what that has changed, and from now on all else."""
        self._broker, self._journal = broker, journal
        write_all(broker, journal)
        self.pages_are_wanted()

    def end_writing(self) -> None:
        """The broker has ended: whatever happens to its clients now is not written any more."""
        self._broker = self._journal = None

    def journal_has_work(self) -> None:
        """Write it."""
        if self._broker is not None and self._journal is not None:
            write_all(self._broker, self._journal)

    def pages_are_wanted(self) -> None:
        """Read them. What that leads to may ask for more, which is read here as well, not deeper and deeper."""
        if self._is_reading:
            return
        self._is_reading = True
        try:
            while self._broker is not None and self._journal is not None and self._broker.paging.reads:
                page = self._broker.paging.reads.popleft()
                if page.is_wanted:
                    page.read(self._journal)
                    self._broker.handle(page.was_read)
        finally:
            self._is_reading = False


def write_all(broker: Broker, journal: Journal) -> None:
    """Write what has gathered, and free the space that can be freed."""
    _commit(broker, journal)
    reclaim = journal.take_reclaim()
    if reclaim is not None:
        while not reclaim.step():
            pass
        journal.reclaimed(reclaim)
        reclaim.release()
        _commit(broker, journal)
    broker.committed()


def _commit(broker: Broker, journal: Journal) -> None:
    batch = broker.durability.take_batch()
    if batch is not None:
        journal.write(batch)
        journal.committed(batch)
