"""A journal's folder as it is at one moment, to be looked at; a broker may go on writing to it meanwhile.

All files are opened at once, so none is missed that the broker removes later. What is written here goes nowhere: a
start can be tried on it, and nothing is changed. Does not hold what the files contain.
"""

# mypy: disable-error-code="attr-defined, no-any-return"
# Windows has not all of these functions; the commands that come here refuse to run on it.

from __future__ import annotations

import os
from pathlib import Path

from amqp_broker.journal.records import Part
from amqp_broker.journal.stretches import FileStretch

_TRIES = 5  # a broker seldom removes a file, and never so many times in a moment


class SnapshotFile:
    """A file that is only read.

    Args:
        descriptor: open for reading; from now on it belongs to this.
    """

    def __init__(self, descriptor: int) -> None:
        self.is_read_soon = False
        self._descriptor = descriptor
        self._size_bytes = os.fstat(descriptor).st_size

    def __del__(self) -> None:
        os.close(self._descriptor)

    def read_at(self, offset: int, size: int) -> bytes:
        size = min(size, self._size_bytes - offset)
        data = b""
        while len(data) < size:
            more = os.pread(self._descriptor, size - len(data), offset + len(data))
            if not more:
                break
            data += more
        return data

    def read_now(self, offset: int, size: int) -> Part | None:
        return None

    def stretch(self, offset: int, size: int) -> FileStretch | None:
        return None

    def write_at(self, offset: int, *parts: Part) -> None:
        pass

    def truncate(self, size: int) -> None:
        pass

    def sync(self) -> None:
        pass

    def size(self) -> int:
        return self._size_bytes

    def restore(self, offset: int = 0) -> bool:
        return False


class Snapshot:
    """A folder that is only read.

    Args:
        folder: the journal's.

    Raises:
        OSError: it cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, SnapshotFile] = {}
        for _ in range(_TRIES):
            try:
                self._files = {name: self._opened(name) for name in self._listed()}
            except FileNotFoundError:
                continue
            if self._listed() == list(self._files):
                return
        raise OSError(f"{folder} changes faster than it can be read")

    def _listed(self) -> list[str]:
        return sorted(entry.name for entry in os.scandir(self._folder) if entry.is_file())

    def _opened(self, name: str) -> SnapshotFile:
        return SnapshotFile(os.open(self._folder / name, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0)))

    def names(self) -> list[str]:
        return list(self._files)

    def create(self, name: str, reserve_bytes: int) -> SnapshotFile:
        raise OSError(f"{self.full_name(name)} cannot be made: the folder is only looked at")

    def open(self, name: str) -> SnapshotFile:
        return self._files[name]

    def rename(self, old: str, new: str) -> None:
        pass

    def remove(self, name: str) -> None:
        pass

    def sync_folder(self) -> None:
        pass

    def full_name(self, name: str) -> str:
        return str(self._folder / name)
