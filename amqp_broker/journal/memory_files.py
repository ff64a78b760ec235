"""A file system in memory that can do what disks do at their worst. For tests, and for brokers that keep nothing.

Holds files whose unsynced bytes a power loss loses, keeps, or tears, sector by sector; folder entries that are lost as
long as the folder was not synced; a disk that fills up; and a failure at any chosen step. Every choice comes from the
random source that it is given, so that a run can be repeated.

After a failed sync it does what Linux does: the bytes that were to be synced count as clean, the next sync succeeds,
and a power loss loses them all the same.
"""

from __future__ import annotations

import errno
import os
from random import Random

from amqp_broker.journal.records import Part
from amqp_broker.journal.stretches import FileStretch

SECTOR_BYTES = 512


class PowerLoss(BaseException):
    """The machine stopped at this step. Not an Exception: no code that runs on it may handle it."""


class _Content:
    """One file's bytes: as they are read now, and as they would be after a power loss."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.durable = b""
        self.dirty: set[int] = set()
        self.lost: set[int] = set()

    def write(self, offset: int, data: bytes) -> None:
        end = offset + len(data)
        if len(self.data) < end:
            self.resize(end)
        self.data[offset:end] = data
        self._touch(offset, end)

    def resize(self, size: int) -> None:
        old = len(self.data)
        if size < old:
            del self.data[size:]
        else:
            self.data.extend(bytes(size - old))
        self._touch(min(size, old), max(size, old))

    def _touch(self, start: int, end: int) -> None:
        sectors = range(start // SECTOR_BYTES, -(-end // SECTOR_BYTES))
        self.dirty.update(sectors)
        self.lost.difference_update(sectors)

    def sync(self) -> None:
        durable = bytearray(self.data)
        for sector in self.lost:
            start, end = sector * SECTOR_BYTES, min((sector + 1) * SECTOR_BYTES, len(durable))
            if start < end:
                durable[start:end] = self.durable[start:end].ljust(end - start, b"\0")
        self.durable = bytes(durable)
        self.dirty.clear()

    def fail_sync(self) -> None:
        self.lost |= self.dirty
        self.dirty.clear()

    def lose_power(self, random: Random) -> None:
        """Every unsynced sector is as it was, or as it should be, or torn in its middle."""
        size = len(self.durable)
        if self.dirty and random.random() < 0.5:
            size = len(self.data)
        survivor = bytearray(self.durable[:size].ljust(size, b"\0"))
        keeps = random.choice((0.0, 0.5, 0.9, 1.0))
        for sector in sorted(self.dirty):
            start = sector * SECTOR_BYTES
            end = min(start + SECTOR_BYTES, size, len(self.data))
            if random.random() >= keeps:
                end = min(end, start + random.randrange(SECTOR_BYTES)) if random.random() < 0.1 else start
            if start < end:
                survivor[start:end] = self.data[start:end]
        self.data = survivor
        self.durable = bytes(survivor)
        self.dirty.clear()
        self.lost.clear()


class MemoryFile:
    """A file of a `MemoryFiles`."""

    def __init__(self, files: MemoryFiles, content: _Content) -> None:
        self.is_read_soon = False
        self._files = files
        self._content = content

    def read_at(self, offset: int, size: int) -> bytes:
        return bytes(self._content.data[offset : offset + size])

    def read_now(self, offset: int, size: int) -> Part | None:
        return self.read_at(offset, size) if self._files.are_at_hand else None

    def stretch(self, offset: int, size: int) -> FileStretch | None:
        return FileStretch(self, -1, offset, size) if self._files.are_at_hand else None

    def write_at(self, offset: int, *parts: Part) -> None:
        data = b"".join(parts)
        with self._files.step(lambda: self._tear(offset, data)):
            growth = max(offset + len(data) - len(self._content.data), 0)
            self._files.take_space(growth)
            self._content.write(offset, data)

    def _tear(self, offset: int, data: bytes) -> None:
        self._content.write(offset, data[: self._files.random.randrange(len(data) + 1)])

    def truncate(self, size: int) -> None:
        with self._files.step():
            self._content.resize(size)

    def sync(self) -> None:
        with self._files.step(self._fail_sync):
            self._content.sync()

    def _fail_sync(self) -> None:
        if not self._files.fails_by_power_loss:
            self._content.fail_sync()

    def size(self) -> int:
        return len(self._content.data)

    def restore(self, offset: int = 0) -> bool:
        return False


class _Step:
    """One thing that changes the disk: goes well, or fails, when its number comes up."""

    def __init__(self, files: MemoryFiles, before_failure: object) -> None:
        self._files = files
        self._before_failure = before_failure

    def __enter__(self) -> None:
        files = self._files
        files.steps += 1
        if files.steps != files.fail_at_step:
            return
        if callable(self._before_failure):
            self._before_failure()
        if files.fails_by_power_loss:
            raise PowerLoss
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    def __exit__(self, *_: object) -> None:
        return


class MemoryFiles:
    """One folder in memory.

    Args:
        seed: for all that is left to chance.
        capacity_bytes: the size of the disk; None for one that is never full.
    """

    def __init__(self, seed: int = 0, capacity_bytes: int | None = None) -> None:
        self.random = Random(seed)
        self.capacity_bytes = capacity_bytes
        self.steps = 0
        """How often the disk was changed so far."""
        self.fail_at_step: int | None = None
        self.fails_by_power_loss = False
        """Whether the failing step stops the machine, rather than to report EIO."""
        self.are_at_hand = False
        """Whether what is read is in the system's memory."""
        self._entries: dict[str, _Content] = {}
        self._durable_entries: dict[str, _Content] = {}
        self._changes: list[dict[str, _Content | None]] = []

    def step(self, before_failure: object = None) -> _Step:
        """Count a change of the disk, and fail it when it is its turn."""
        return _Step(self, before_failure)

    def take_space(self, size: int) -> None:
        """Raise ENOSPC when there is no space for so many bytes more."""
        if self.capacity_bytes is not None and self.used_bytes + size > self.capacity_bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    @property
    def used_bytes(self) -> int:
        """The bytes that all files take."""
        return sum(len(content.data) for content in self._entries.values())

    def lose_power(self) -> None:
        """Leave what a disk might hold after the power failed just now."""
        for change in self._changes:
            if self.random.random() < 0.5:
                self._apply(self._durable_entries, change)
        for content in {id(content): content for content in self._durable_entries.values()}.values():
            content.lose_power(self.random)
        self._entries = dict(self._durable_entries)
        self._changes = []
        self.fail_at_step = None

    def names(self) -> list[str]:
        return sorted(self._entries)

    def create(self, name: str, reserve_bytes: int) -> MemoryFile:
        with self.step():
            if name in self._entries:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)
            content = _Content()
            self._change({name: content})
            self.take_space(reserve_bytes)
            content.resize(reserve_bytes)
        return MemoryFile(self, content)

    def open(self, name: str) -> MemoryFile:
        return MemoryFile(self, self._content(name))

    def _content(self, name: str) -> _Content:
        if name not in self._entries:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        return self._entries[name]

    def rename(self, old: str, new: str) -> None:
        with self.step():
            self._change({old: None, new: self._content(old)})

    def remove(self, name: str) -> None:
        with self.step():
            self._content(name)
            self._change({name: None})

    def _change(self, change: dict[str, _Content | None]) -> None:
        self._apply(self._entries, change)
        self._changes.append(change)

    @staticmethod
    def _apply(entries: dict[str, _Content], change: dict[str, _Content | None]) -> None:
        for name, content in change.items():
            if content is None:
                entries.pop(name, None)
            else:
                entries[name] = content

    def sync_folder(self) -> None:
        with self.step():
            self._durable_entries = dict(self._entries)
            self._changes = []

    def full_name(self, name: str) -> str:
        return f"memory/{name}"

    def content(self, name: str) -> bytes:
        """A file's bytes as they are read now."""
        return bytes(self._content(name).data)

    def set_content(self, name: str, data: bytes) -> None:
        """Put a file there, or change it behind everybody's back; durable at once."""
        content = _Content()
        content.data[:] = data
        content.durable = data
        self._entries[name] = content
        self._durable_entries[name] = content
