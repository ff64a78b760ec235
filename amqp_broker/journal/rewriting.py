"""A segment that takes the place of others: what was left of them, written anew.

Holds the writing of such a segment under a name that does not count until it is whole. Does not choose what to keep.
"""

from __future__ import annotations

import contextlib
from array import array
from itertools import repeat

from amqp_broker.journal.blocks import BLOCK_BYTES_MAX, Layout, Stamp, encode_seal
from amqp_broker.journal.cold_reads import EncodedRecord
from amqp_broker.journal.files import FileSystem
from amqp_broker.journal.index import Segment
from amqp_broker.journal.index_pages import SHARED, SINGLE, fills_page
from amqp_broker.journal.records import Part, Runs, record_claims
from amqp_broker.journal.segments import NEW_SUFFIX, SegmentHeader


class RewrittenSegment:
    """Writes one segment.

    Args:
        files: where it is made.
        header: its header.
    """

    def __init__(self, files: FileSystem, header: SegmentHeader) -> None:
        self._files = files
        self._header = header
        self._batch = header.batch
        self._name = header.name
        self._waiting: list[EncodedRecord] = []
        self._waiting_bytes = 0
        self._references = array("Q")  # of these three, those that are not in the segment's index yet
        self._flags = bytearray()
        self._offsets: array[int] = array("Q")
        self._end = 0
        try:
            self._file = files.create(self._name + NEW_SUFFIX, 0)
            numbers = (header.first_number, header.last_number)
            full_name = files.full_name(self._name)
            self._segment = Segment(self._name, full_name, numbers, self._file, header.first_reference)
            self._write(header.encode())
        except OSError:
            with contextlib.suppress(OSError):  # the next start removes it
                self.abandon()
            raise

    def _write(self, *parts: Part) -> None:
        self._file.write_at(self._end, *parts)
        self._end += sum(map(len, parts))

    def _stamp(self) -> Stamp:
        """Each block is a batch of its own that is durable already, for all is synced before the file has its name: so
        damage here is never taken for a torn tail.
        """
        self._batch += 1
        return Stamp(self._header.epoch, self._batch, self._batch)

    def add(self, record: EncodedRecord) -> None:
        """Add a record that comes after all others."""
        if self._waiting_bytes + len(record.data) > BLOCK_BYTES_MAX:
            self._write_waiting()
        self._waiting.append(record)
        self._waiting_bytes += len(record.data)

    def _write_waiting(self) -> None:
        layout = Layout([(record.data,) for record in self._waiting], Runs())
        offsets = layout.offsets(self._end)
        if fills_page(len(self._flags)):
            self._add_to_index(offsets[0])
        for record, offset in zip(self._waiting, offsets[:-1], strict=True):
            claims = record.live_claims
            flag = SINGLE if record_claims(record.data) == 1 else SHARED
            self._references.extend(claims)
            self._offsets.extend(repeat(offset, len(claims)))
            self._flags.extend(repeat(flag, len(claims)))
        self._write(*layout.encode(self._stamp()))
        self._waiting = []
        self._waiting_bytes = 0

    def finish(self, drops: Runs) -> Segment:
        """Write what is left and give the file its name. Blocks on the disk.

        Args:
            drops: those that must go on being known.
        """
        if self._waiting:
            self._write_waiting()
        if len(self._flags):
            self._add_to_index(self._end)
        if len(drops):
            self._write(*Layout([], drops).encode(self._stamp()))
        self._write(encode_seal(self._stamp()))
        self._file.sync()
        self._files.rename(self._name + NEW_SUFFIX, self._name)
        self._files.sync_folder()
        segment = self._segment
        segment.drops = drops
        segment.disk_bytes = self._end
        segment.overhead_bytes = self._end - segment.live_bytes
        return segment

    def _add_to_index(self, end: int) -> None:
        """What was written goes into the segment's index; it ends at this offset."""
        self._offsets.append(end)
        offsets = array("I", self._offsets) if end < 2**32 else self._offsets
        self._segment.append_packed(self._references[0], self._flags, offsets, self._references)
        self._references = array("Q")
        self._flags = bytearray()
        self._offsets = array("Q")

    def abandon(self) -> None:
        """Remove the file again."""
        with contextlib.suppress(FileNotFoundError):
            self._files.remove(self._name + NEW_SUFFIX)
