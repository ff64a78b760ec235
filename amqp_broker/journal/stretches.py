"""Bytes that lie in a file and are sent from there, by the system, without passing through this program.

Holds where they lie. Who sends them is ``network/socket_stream.py``.
"""

from __future__ import annotations

from typing import Final, Protocol, TypeAlias

SMALL_BYTES: Final = 4_096


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
        """The bytes."""
        return self._file.read_at(self.offset, self._size_bytes)

    def behind(self, count: int) -> FileStretch | bytes:
        """What follows so many bytes of it; few bytes are read, for they are sent together with others."""
        rest = FileStretch(self._file, self.descriptor, self.offset + count, self._size_bytes - count)
        return rest.read() if len(rest) < SMALL_BYTES else rest


Sendable: TypeAlias = bytes | memoryview | FileStretch
