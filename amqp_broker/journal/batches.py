"""A batch: what gathers in memory until it is written, and what became of it.

Holds the gathered records, their flags and the drops. The owner's thread fills it and hands it over; from then on the
writing thread reads records and drops and fills in the outcome, and the owner's thread keeps away from those.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from time import sleep
from typing import Final

from amqp_broker.journal.blocks import BLOCK_BYTES_MAX
from amqp_broker.journal.checksums import Piece, data_of
from amqp_broker.journal.failures import JournalError
from amqp_broker.journal.files import File
from amqp_broker.journal.index import Unpacked
from amqp_broker.journal.index_pages import DEAD, SHARED, SINGLE
from amqp_broker.journal.records import Record, Runs, Unwritten, encode_unwritten

_ENCODED_AT_ONCE: Final = 1024
"""Records, each of some microseconds."""


class NewSegment:
    """A segment that the writing thread began while it wrote a batch."""

    __slots__ = ("file", "name", "number", "previous_bytes")

    def __init__(self, name: str, number: int, file: File, previous_bytes: int) -> None:
        self.name = name
        self.number = number
        self.file = file
        self.previous_bytes = previous_bytes
        """The size of the segment before it, now that it is closed."""


class GatheredBatch:
    """Records and drops of one batch.

    ``records`` has one entry a reference. That of a record with several claims lies at its last claim, None at the
    others, as at all that were dropped before they were written.
    """

    __slots__ = (
        "_shared_bases",
        "_shared_left",
        "disk_bytes",
        "drops",
        "end_position",
        "first_reference",
        "flags",
        "is_read_soon",
        "new_segment",
        "offsets",
        "outcome",
        "put_bytes",
        "records",
        "runs",
        "sync",
        "unpacked",
    )

    def __init__(self, first_reference: int) -> None:
        self.first_reference = first_reference
        self.records: list[Unwritten | None] = []
        self.flags = bytearray()
        self.drops: list[int] = []
        self.put_bytes = 0
        self.is_read_soon = False
        self._shared_bases: list[int] = []
        self._shared_left: list[int] = []
        # set when it has ended, and is handed over
        self.end_position = 0
        self.sync = True
        # set by the writing thread
        self.runs = Runs()
        self.unpacked: Unpacked = {}
        """Pages of the index that the runs are in."""
        self.offsets: array[int] | None = None
        self.new_segment: NewSegment | None = None
        self.disk_bytes = 0
        self.outcome: JournalError | None = None

    def put_shared(self, record: Unwritten) -> None:
        """Add a record with several claims."""
        _, claims, size_bytes, _ = record
        self._shared_bases.append(len(self.records))
        self._shared_left.append(claims)
        self.records.extend([None] * (claims - 1))
        self.records.append(record)
        self.flags.extend(bytes([SHARED]) * claims)
        self.put_bytes += size_bytes

    def drop(self, index: int) -> None:
        """Drop a claim that is in this batch: a record that loses its last one here is not written."""
        flags = self.flags
        flag = flags[index]
        flags[index] = DEAD
        if flag == SINGLE:
            self._forget(index)
        elif flag == SHARED:
            number = bisect_right(self._shared_bases, index) - 1
            self._shared_left[number] -= 1
            if not self._shared_left[number]:
                base = self._shared_bases[number]
                while self.records[base] is None:
                    base += 1
                self._forget(base)

    def _forget(self, index: int) -> None:
        record, self.records[index] = self.records[index], None
        self.put_bytes -= record[2] if record is not None else 0
        assert self.put_bytes >= 0

    def record_of(self, reference: int) -> Record | None:
        """The record of a live claim in this batch; None when it is not here. Any thread may ask."""
        index = reference - self.first_reference
        if not 0 <= index < len(self.flags) or self.flags[index] == DEAD:
            return None
        while index < len(self.records):
            record = self.records[index]
            if record is not None:
                kind, claims, _, parts = record
                first = self.first_reference + index - claims + 1
                return Record(kind, b"".join(map(data_of, parts)), first, claims) if first <= reference else None
            index += 1
        return None  # the owner dropped it in this very moment

    def encoded_records(self) -> list[tuple[Piece, ...]]:
        """All records as they are written, none where there is nothing to write. The writing thread's work.

        Compiled code keeps the interpreter's lock until it waits for something, so the other threads get it in between.
        """
        encoded: list[tuple[Piece, ...]] = []
        for low in range(0, len(self.records), _ENCODED_AT_ONCE):
            if low:
                sleep(0)
            encoded += [
                encode_unwritten(record, end - record[1], BLOCK_BYTES_MAX) if record is not None else ()
                for end, record in enumerate(self.records[low : low + _ENCODED_AT_ONCE], self.first_reference + low + 1)
            ]
        return encoded

    @property
    def has_nothing_to_write(self) -> bool:
        """Whether nothing was dropped that came before this batch, and nothing is left of what came with it."""
        return not self.drops and self.flags.count(DEAD) == len(self.flags)

    def end(self) -> None:
        """Say that nothing more will be added."""
        self.end_position = self.first_reference + len(self.records) + 1
        for number, base in enumerate(self._shared_bases):
            if self._shared_left[number]:
                self._add_drops_of_shared(base)

    def _add_drops_of_shared(self, base: int) -> None:
        """A record that is written although some of its claims are dropped: their drops are written with it."""
        index = base
        while True:
            if self.flags[index] == DEAD:
                self.drops.append(self.first_reference + index)
            if self.records[index] is not None:
                return
            index += 1
