"""The writing thread's side of the journal: puts batches into the segment that is open, and begins new ones.

Holds the open segment's file and how far it is filled; nobody else touches them. Does not know which records are live,
nor how the space for a full disk is kept (`reserve.py`).

A segment is ended so: the next one's file is made under a name that does not count, with its space reserved, and
synced; the old one gets a seal, is cut to its size and synced; the new one gets its name and the folder is synced. So a
full disk is met before anything of a batch is written, and only the last segment ever holds bytes that were not synced.

A new journal begins with a small segment, and each one after it is twice as large, up to the size of a full one: so
little data takes little space, and much is not spread over many files.
"""

from __future__ import annotations

import contextlib
import errno

from amqp_broker.explanations import system_reason
from amqp_broker.journal.batches import GatheredBatch, NewSegment
from amqp_broker.journal.blocks import BLOCK_HEADER_BYTES, Layout, Stamp, encode_seal
from amqp_broker.journal.failures import JournalError, JournalFailed, JournalFull, NotAllowed
from amqp_broker.journal.files import NO_SPACE, File, FileSystem
from amqp_broker.journal.records import runs_of
from amqp_broker.journal.reserve import Reserve
from amqp_broker.journal.segments import (
    FORMAT_VERSION,
    NEW_SUFFIX,
    SEGMENT_HEADER_BYTES,
    SegmentHeader,
    segment_name,
)

REFERENCES_PER_SEGMENT_MAX = 2**21
"""Ends a segment in which few bytes but many references gather, because each costs memory."""

SMALL_SEGMENTS = 64
"""How many segments of the smallest size one of the usual size could hold; the small ones are for a full disk."""

FIRST_SEGMENT_BYTES = 1024 * 1024
"""The size of the first segment, where a full one is larger."""


def _place(error: OSError) -> str:
    """The file, where the system names one."""
    return f"{error.filename}: " if error.filename else ""


class SegmentWriter:
    """Writes batches.

    Args:
        files: where the segments are.
        segment_bytes: the size of a segment; a batch that is larger gets a segment of its own.
        epoch: the owner's; it is in every block.
        number: of the last segment there is.
        batch: the number of the last batch there is; all up to it are durable.
        disk_bytes: what the segments there are take.
        reserve: the space for a full disk; None keeps none.
    """

    def __init__(
        self,
        files: FileSystem,
        segment_bytes: int,
        epoch: int,
        number: int,
        batch: int,
        disk_bytes: int,
        reserve: Reserve | None,
    ) -> None:
        self._files = files
        self._segment_bytes = segment_bytes
        self._next_bytes = min(segment_bytes, max(FIRST_SEGMENT_BYTES, disk_bytes))
        self._reserve_for_full_disk = reserve
        self._epoch = epoch
        self._number = number
        self._batch = batch
        self._synced_batch = batch
        self._file: File | None = None
        self._first_reference = 0
        self._offset = 0
        self._reserved_bytes = 0
        self._failure = ""

    def write(self, batch: GatheredBatch) -> None:
        """Write a batch and note its outcome in it. Never raises for what the disk does."""
        batch.outcome = None
        try:
            self._write(batch)
        except JournalError as failure:
            batch.outcome = failure
        except OSError as error:
            self._failure = f"writing the journal failed: {_place(error)}{system_reason(error)}"
            if error.errno in (errno.EACCES, errno.EPERM):  # a disk that failed may be read-only, but not another's
                batch.outcome = NotAllowed(error.filename or "", system_reason(error))
            else:
                batch.outcome = JournalFailed(self._failure)

    def _write(self, batch: GatheredBatch) -> None:
        if self._failure:
            raise JournalFailed(self._failure)
        batch.runs = runs_of(sorted(batch.drops))
        layout = Layout(batch.encoded_records(), batch.runs)
        size = layout.size_bytes
        if size:
            file = self._file
            if file is None or not self._has_space(batch, size):
                file = self._begin_segment(batch, size)
            self._batch += 1
            file.is_read_soon = batch.is_read_soon
            file.write_at(self._offset, *layout.encode(Stamp(self._epoch, self._batch, self._synced_batch)))
            batch.offsets = layout.offsets(self._offset)
            self._offset += size
            assert self._offset + BLOCK_HEADER_BYTES <= self._reserved_bytes  # the seal has its space
            batch.disk_bytes = self._reserved_bytes
        if batch.sync:
            self._sync()

    def _has_space(self, batch: GatheredBatch, size: int) -> bool:
        has_bytes = self._offset + size + BLOCK_HEADER_BYTES <= self._reserved_bytes
        return has_bytes and batch.end_position - self._first_reference <= REFERENCES_PER_SEGMENT_MAX

    def _sync(self) -> None:
        if self._file is not None and self._synced_batch < self._batch:
            self._file.sync()
            self._synced_batch = self._batch

    def _begin_segment(self, batch: GatheredBatch, size: int) -> File:
        number = self._number + 1
        name = segment_name(number, number)
        last_batch = self._batch if self._file is None else self._batch + 1  # the seal to come counts as one
        header = SegmentHeader(FORMAT_VERSION, 0, number, number, self._epoch, batch.first_reference, last_batch)
        file, reserved_bytes = self._reserve(name + NEW_SUFFIX, size + BLOCK_HEADER_BYTES, header.encode())
        self._next_bytes = min(self._segment_bytes, 2 * self._next_bytes)
        previous_bytes = self.seal()
        self._files.rename(name + NEW_SUFFIX, name)
        self._files.sync_folder()
        batch.new_segment = NewSegment(name, number, file, previous_bytes)
        self._number = number
        self._first_reference = batch.first_reference
        self._file = file
        self._offset = SEGMENT_HEADER_BYTES
        self._reserved_bytes = reserved_bytes
        return file

    def _reserve(self, name: str, size: int, header: bytes) -> tuple[File, int]:
        """Make a file with the space for a segment that holds at least so many bytes behind its header.

        On a disk that is nearly full a small segment has to do: acknowledgements need space as well, and free some.

        Returns:
            The file, and how large it is.
        """
        least_bytes = max(SEGMENT_HEADER_BYTES + size, self._segment_bytes // SMALL_SEGMENTS)
        reserved_bytes = max(self._next_bytes, least_bytes)
        while True:
            try:
                return self._create(name, reserved_bytes, header), reserved_bytes
            except OSError as error:
                if error.errno not in NO_SPACE:
                    raise
                with contextlib.suppress(FileNotFoundError):
                    self._files.remove(name)
                if reserved_bytes > least_bytes:
                    reserved_bytes = max(reserved_bytes // 2, least_bytes)
                elif self._reserve_for_full_disk is None or not self._reserve_for_full_disk.release():
                    self._sync()  # space is made only where the drops that allow it are durable
                    raise JournalFull(
                        f"no space for another {reserved_bytes} bytes in the journal's folder: {system_reason(error)}"
                    ) from error

    def _create(self, name: str, size: int, header: bytes) -> File:
        file = self._files.create(name, size)
        file.write_at(0, header)
        file.sync()
        return file

    def seal(self) -> int:
        """End the open segment on purpose.

        Returns:
            Its size in bytes; 0 when none was open.
        """
        if self._file is None:
            return 0
        self._batch += 1
        self._file.write_at(self._offset, encode_seal(Stamp(self._epoch, self._batch, self._synced_batch)))
        self._offset += BLOCK_HEADER_BYTES
        self._file.truncate(self._offset)
        self._sync()
        self._file = None
        return self._offset

    @property
    def is_failed(self) -> bool:
        """Whether nothing can be written any more."""
        return bool(self._failure)
