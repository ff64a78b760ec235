"""Writing much at once past the page cache, straight from an aligned buffer to the disk.

Most of the journal is written once, synced, and hardly ever read (``File.is_read_soon`` tells what is not such): a copy
of it in the page cache is of no use, takes the memory of programs that have some, and costs the processor more than all
else that a large record costs wherever that memory is new (on virtual machines, ten times as much as where it is warm).
Holds the cutting of a write into what is aligned and what is not. Does not know whose file it is.

The edges of a write, less than ``ALIGNED_BYTES`` each, go through the page cache as ever, because they share their
place with what is beside them. A file system that refuses direct writes gets all of it that way.
"""

# mypy: disable-error-code="attr-defined, no-any-return"
# Windows has not all of these functions, and does not come here.

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Sequence

from amqp_broker.journal.records import Part

DIRECT_BYTES_MIN = 262_144
"""What is smaller is written faster through the page cache."""

ALIGNED_BYTES = 4096
"""Files and memory are aligned to this: no disk asks for more."""

BUFFER_BYTES = 8_388_608
"""So much is written at once. Each write waits for its end: by 1 MiB a disk took a third to three quarters as much."""

_REFUSALS = frozenset({errno.EINVAL, errno.EOPNOTSUPP})
_DIRECT: int = getattr(os, "O_DIRECT", 0)


class DirectWriter:
    """Writes the large pieces of one folder's files; one thread at a time.

    Its buffer is made when it is needed first, and kept: memory that was used before is what makes this cheap.

    Args:
        is_wanted: whether to do so at all.
        buffer_bytes: so much is written at once.
    """

    def __init__(self, is_wanted: bool = True, buffer_bytes: int = BUFFER_BYTES) -> None:
        self._buffer_bytes = buffer_bytes
        self._is_possible = is_wanted and bool(_DIRECT)
        self._buffer: memoryview | None = None

    def open(self, descriptor: int) -> int:
        """Another descriptor of an open file, for ``write``; -1 where direct writes are not to be had."""
        if self._is_possible:
            try:
                return os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_CLOEXEC | _DIRECT)
            except OSError:
                self._is_possible = False  # no such file system, or no /proc
        return -1

    def write(self, descriptor: int, direct: int, parts: Sequence[Part], offset: int) -> None:
        """Write all parts, one behind the other; durable only after a sync of the file.

        Args:
            descriptor: of the file.
            direct: the one that ``open`` returned for it.
            parts: what is written.
            offset: where in the file.

        Raises:
            OSError: as the operating system says, but never because it refuses direct writes.
        """
        buffer = self._buffer
        if buffer is None:
            buffer = self._buffer = memoryview(mmap.mmap(-1, self._buffer_bytes))
        end = offset + sum(map(len, parts))
        number = taken_bytes = 0  # the part that comes next, and how much of it is written already
        while offset < end:
            piece_end = _piece_end(offset, end, self._buffer_bytes)
            filled_bytes = 0
            while filled_bytes < piece_end - offset:
                part = memoryview(parts[number])[taken_bytes:]
                fitting = part[: piece_end - offset - filled_bytes]
                buffer[filled_bytes : filled_bytes + len(fitting)] = fitting
                filled_bytes += len(fitting)
                taken_bytes += len(fitting)
                if len(fitting) == len(part):
                    number, taken_bytes = number + 1, 0
            is_aligned = not offset % ALIGNED_BYTES and not piece_end % ALIGNED_BYTES
            self._write_piece(descriptor, direct if is_aligned else -1, buffer[:filled_bytes], offset)
            offset = piece_end

    def _write_piece(self, descriptor: int, direct: int, piece: memoryview, offset: int) -> None:
        written_bytes = 0
        if direct >= 0 and self._is_possible:
            try:
                written_bytes = os.pwrite(direct, piece, offset)
            except OSError as error:
                if error.errno not in _REFUSALS:
                    raise
                self._is_possible = False
        while written_bytes < len(piece):
            written_bytes += os.pwrite(descriptor, piece[written_bytes:], offset + written_bytes)


def _piece_end(offset: int, end: int, buffer_bytes: int) -> int:
    """Where the piece ends that begins at an offset: at an edge of what is aligned, or after as much as is written at
    once.
    """
    unaligned_bytes = offset % ALIGNED_BYTES
    if unaligned_bytes:
        return min(end, offset - unaligned_bytes + ALIGNED_BYTES)
    aligned_end = min(end - end % ALIGNED_BYTES, offset + buffer_bytes)
    return aligned_end if aligned_end > offset else end
