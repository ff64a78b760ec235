"""Bytes that lie in a file and are sent from there, by the system, without passing through this program.

Holds where they lie. Who sends them is ``network/socket_stream.py``.
"""

from __future__ import annotations

import errno
import os
from typing import Final, Protocol, TypeAlias

SMALL_BYTES: Final = 4_096  # fewer bytes are better read, and sent together with others


class Source(Protocol):
    """An open file, as ``files.File``."""

    def read_at(self, offset: int, size: int) -> bytes:
        """Up to so many bytes from an offset."""


class FileStretch:
    """Bytes of a file that do not change, and are in the system's memory, at least most of them.

    Args:
        file: open as long as anybody holds it.
        descriptor: of the file.
        offset: where the first byte lies.
        size_bytes: how many they are.
    """

    __slots__ = ("_file", "_size_bytes", "descriptor", "offset")

    def __init__(self, file: Source, descriptor: int, offset: int, size_bytes: int) -> None:
        self._file = file
        self.descriptor = descriptor
        self.offset = offset
        self._size_bytes = size_bytes

    def __len__(self) -> int:
        return self._size_bytes

    def read(self) -> bytes:
        """The bytes.

        Raises:
            OSError: they cannot be read, or the file ends before.
        """
        return self.first(self._size_bytes)

    def first(self, count: int) -> bytes:
        """So many bytes from its beginning, or all where it has fewer.

        Raises:
            OSError: as for ``read``.
        """
        size_bytes = min(count, self._size_bytes)
        data = self._file.read_at(self.offset, size_bytes)
        if len(data) < size_bytes:
            raise OSError(errno.EIO, os.strerror(errno.EIO))  # the file was cut
        return data

    def behind(self, count: int) -> FileStretch:
        """What follows so many bytes of it."""
        return FileStretch(self._file, self.descriptor, self.offset + count, self._size_bytes - count)


Sendable: TypeAlias = bytes | memoryview | FileStretch
