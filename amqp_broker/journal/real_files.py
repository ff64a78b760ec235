"""The files of a journal on the operating system's disk. Not for Windows, which writes and syncs in other ways.

Does not hold the lock that keeps other processes out, nor what the files contain.
"""

# mypy: disable-error-code="attr-defined, no-any-return"
# Windows has not all of these functions; the commands that come here refuse to run on it.

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from amqp_broker.journal.begun_writes import begin_writing
from amqp_broker.journal.direct_writes import DIRECT_BYTES_MIN, DirectWriter
from amqp_broker.journal.records import Part
from amqp_broker.journal.stretches import FileStretch

if sys.platform == "darwin":
    import fcntl

FILLED_AHEAD_BYTES = 262_144
"""A small write fills its reserved space with zeros up to a multiple of this.

Where a block is written for the first time, the file system notes that, most often in a log that all programs share,
and a sync waits for it. What is written into zeros waits for its own bytes only.
"""

SMALL_WRITE_BYTES_MAX = FILLED_AHEAD_BYTES // 4
"""A larger write gains less than so many more bytes cost."""


class RealFile:
    """A file of the operating system.

    Args:
        descriptor: open for reading and writing; from now on it belongs to this.
        direct_writer: writes what is large.
        reserved_bytes: how many bytes it has on the disk that nothing was written to yet.
    """

    def __init__(self, descriptor: int, direct_writer: DirectWriter, reserved_bytes: int = 0) -> None:
        self.is_read_soon = False
        self._descriptor = descriptor
        self._direct_writer = direct_writer
        self._direct_descriptor: int | None = None  # opened when it is needed first; -1 where there is none
        self._reserved_bytes = reserved_bytes
        self._filled_bytes = 0  # nothing was written behind them

    def __del__(self) -> None:
        os.close(self._descriptor)
        self._close_direct()

    def _close_direct(self) -> None:
        descriptor, self._direct_descriptor = self._direct_descriptor, None
        if descriptor is not None and descriptor >= 0:
            os.close(descriptor)

    def read_at(self, offset: int, size: int) -> bytes:
        data = os.pread(self._descriptor, size, offset)
        while len(data) < size:
            more = os.pread(self._descriptor, size - len(data), offset + len(data))
            if not more:
                break
            data += more
        return data

    def read_now(self, offset: int, size: int) -> Part | None:
        if not _READ_WITHOUT_WAITING:
            return None
        data = bytearray(size)
        try:
            read_bytes = os.preadv(self._descriptor, [data], offset, _READ_WITHOUT_WAITING)
        except OSError:  # not at hand, or no such file system: whoever waits for it is told what is wrong
            return None
        return memoryview(data).toreadonly() if read_bytes == size else None

    def stretch(self, offset: int, size: int) -> FileStretch | None:
        return FileStretch(self, self._descriptor, offset, size) if _SENDS_FILES else None

    def write_at(self, offset: int, *parts: Part) -> None:
        sizes = list(map(len, parts))
        size_bytes = sum(sizes)
        if zeros := self._zeros_behind(offset, size_bytes):
            parts = (*parts, zeros)
            sizes.append(len(zeros))
        if size_bytes >= DIRECT_BYTES_MIN and not self.is_read_soon:
            if self._direct_descriptor is None:
                self._direct_descriptor = self._direct_writer.open(self._descriptor)
            if self._direct_descriptor >= 0:
                self._direct_writer.write(self._descriptor, self._direct_descriptor, parts, offset)
                return
        first = 0
        while first < len(parts):
            end = _portion_end(sizes, first)
            portion, size = parts[first:end], sum(sizes[first:end])
            written = _write_parts(self._descriptor, portion, offset)
            if written < size:
                data = memoryview(b"".join(portion))
                while written < size:
                    written += os.pwrite(self._descriptor, data[written:], offset + written)
            if size_bytes >= DIRECT_BYTES_MIN:
                begin_writing(self._descriptor, offset, size)
            first, offset = end, offset + size

    def _zeros_behind(self, offset: int, size_bytes: int) -> bytes | memoryview:
        """What is to be written behind a write, if anything."""
        end = offset + size_bytes
        if end <= self._filled_bytes:
            return b""
        self._filled_bytes = end
        if size_bytes > SMALL_WRITE_BYTES_MAX or end > self._reserved_bytes:
            return b""
        filled_bytes = end + FILLED_AHEAD_BYTES - end % FILLED_AHEAD_BYTES
        self._filled_bytes = min(filled_bytes, self._reserved_bytes)
        return _ZEROS[: self._filled_bytes - end]

    def truncate(self, size: int) -> None:
        os.ftruncate(self._descriptor, size)
        self._reserved_bytes = min(self._reserved_bytes, size)
        self._close_direct()  # a segment that has ended is only read: a large journal has many

    def sync(self) -> None:
        _sync_data(self._descriptor)

    def size(self) -> int:
        return os.fstat(self._descriptor).st_size

    def restore(self, offset: int = 0) -> bool:
        return False


class RealFiles:
    """A folder of the operating system.

    Args:
        folder: made when it is not there yet, for its owner only.
        is_direct: whether much at once is written past the page cache, because it is hardly ever read.
    """

    def __init__(self, folder: Path, is_direct: bool = True) -> None:
        self._folder = folder
        self._direct_writer = DirectWriter(is_direct)
        if not folder.is_dir():
            folder.mkdir(mode=0o700, parents=True)
            _sync_folder(folder.parent)

    def names(self) -> list[str]:
        return sorted(entry.name for entry in os.scandir(self._folder) if entry.is_file())

    def create(self, name: str, reserve_bytes: int) -> RealFile:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptor = os.open(self._folder / name, flags, 0o600)
        file = RealFile(descriptor, self._direct_writer, reserve_bytes)
        if reserve_bytes:
            try:
                _reserve(descriptor, reserve_bytes)
            except OSError:
                file.truncate(0)  # whoever keeps the error keeps the file open, and what space it got
                raise
        return file

    def open(self, name: str) -> RealFile:
        return RealFile(os.open(self._folder / name, os.O_RDWR | os.O_CLOEXEC), self._direct_writer)

    def rename(self, old: str, new: str) -> None:
        os.replace(self._folder / old, self._folder / new)

    def remove(self, name: str) -> None:
        os.unlink(self._folder / name)

    def sync_folder(self) -> None:
        _sync_folder(self._folder)

    def full_name(self, name: str) -> str:
        return str(self._folder / name)


_ZEROS = memoryview(bytes(FILLED_AHEAD_BYTES))
_PARTS_MAX = 1024  # in one call
_PORTION_BYTES = 1_048_576  # in one call, about: the disk begins with them while what comes next is copied
_SENDS_FILES = hasattr(os, "sendfile")
_READ_WITHOUT_WAITING: int = getattr(os, "RWF_NOWAIT", 0)  # Linux has it


def _portion_end(sizes: Sequence[int], first: int) -> int:
    """Behind which part what is written in one call ends."""
    end, size = first, 0
    while end < len(sizes) and end - first < _PARTS_MAX and size < _PORTION_BYTES:
        size += sizes[end]
        end += 1
    return end


def _write_parts(descriptor: int, parts: Sequence[Part], offset: int) -> int:
    if len(parts) > 1 and hasattr(os, "pwritev"):
        return os.pwritev(descriptor, parts, offset)
    return os.pwrite(descriptor, parts[0] if len(parts) == 1 else b"".join(parts), offset)


def _reserve(descriptor: int, size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    else:
        os.ftruncate(descriptor, size)


def _sync_data(descriptor: int) -> None:
    """Have what was written to a file on the disk itself, not in a cache of the drive."""
    if sys.platform == "darwin":
        # There, fsync leaves it in the drive's cache, which a power failure empties.
        try:
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
        except OSError:  # a file system that has no such thing, as one of another machine
            os.fsync(descriptor)
    else:
        os.fdatasync(descriptor)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
