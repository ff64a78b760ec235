"""The index of the segments on disk, in memory: where each record lies and which of its claims are live.

Holds packed arrays, five bytes for each reference in a fresh segment and thirteen for each live one in a rewritten one,
and no object a record. Does not read nor write files; it only says where to read.

One thread, the owner's, changes it. Others may look a record up at any time: arrays only grow at their ends, and the
table of segments is replaced as a whole, never changed.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from itertools import compress, islice, repeat
from operator import sub
from typing import Final

from amqp_broker.journal.files import File
from amqp_broker.journal.records import Runs

DEAD: Final = 0
SINGLE: Final = 1
"""The flag of a live claim that is its record's only one."""
SHARED: Final = 2
"""The flag of a live claim of a record that began with several."""

_NO_REFERENCE: Final = 2**64


class Segment:
    """One segment's records by reference.

    The record of the reference at an index lies at ``offsets[index]``; the next different offset is one past its end.
    All claims of a record have the same offset. ``references`` is None where they follow each other without a gap from
    ``first_reference``. ``offsets`` has one entry more than ``flags``: the end of the last record.
    """

    __slots__ = (
        "_first_live",
        "disk_bytes",
        "drops",
        "file",
        "first_number",
        "first_reference",
        "flags",
        "full_name",
        "is_damaged",
        "last_number",
        "live_bytes",
        "name",
        "offsets",
        "overhead_bytes",
        "references",
    )

    def __init__(self, name: str, full_name: str, numbers: tuple[int, int], file: File, first_reference: int) -> None:
        self.name = name
        self.full_name = full_name
        self.first_number, self.last_number = numbers
        self.file = file
        self.first_reference = first_reference
        self.references: array[int] | None = None
        self.offsets: array[int] = array("I", [0])
        self.flags = bytearray()
        self.drops = Runs()
        self._first_live = 0  # or further on
        self.live_bytes = 0
        self.disk_bytes = 0
        self.overhead_bytes = 0
        """What rewriting it once more would not free, as far as is known."""
        self.is_damaged = False

    def append(self, first_reference: int, flags: bytearray, offsets: array[int]) -> None:
        """Add references that follow each other without a gap, all later than those already here.

        Args:
            first_reference: the first of them.
            flags: one for each; all that are live count as live bytes.
            offsets: one for each, and the end of the last record.
        """
        missing = first_reference - self.first_reference - len(self.flags)
        self.flags.extend(bytes(missing))
        self.offsets.extend(repeat(self.offsets[-1], missing))
        if self.offsets.typecode != offsets.typecode:
            self.offsets = array("Q", self.offsets)
            offsets = array("Q", offsets)
        self.offsets[-1] = offsets[0]
        self.offsets.extend(offsets[1:])
        self.flags.extend(flags)
        self.live_bytes += _live_bytes(flags, offsets)

    def fill(self, references: array[int] | None, flags: bytearray, offsets: array[int]) -> None:
        """Set all that `append` would have added, and the references where they have gaps."""
        self.references = references
        self.flags = flags
        self.offsets = offsets
        self.live_bytes = _live_bytes(flags, offsets)

    def index_of(self, reference: int) -> int:
        """The index of a reference; -1 when it is not here."""
        if self.references is None:
            index = reference - self.first_reference
            return index if 0 <= index < len(self.flags) else -1
        index = bisect_left(self.references, reference)
        return index if index < len(self.references) and self.references[index] == reference else -1

    def reference_at(self, index: int) -> int:
        """The reference at an index."""
        return self.first_reference + index if self.references is None else self.references[index]

    def add_present(self, first: int, count: int, runs: Runs) -> None:
        """Add those references of a run to others that are here, be they dead or live."""
        low, high = self.indexes_of(first, count)
        if self.references is not None:
            for reference in self.references[low:high]:
                runs.append(reference, 1)
        elif low < high:
            runs.append(self.first_reference + low, high - low)

    def indexes_of(self, first: int, count: int) -> tuple[int, int]:
        """The indexes (low, high) of those references of a run that are here."""
        if self.references is None:
            size = len(self.flags)
            low = min(max(first - self.first_reference, 0), size)
            return low, max(min(first + count - self.first_reference, size), low)
        return bisect_left(self.references, first), bisect_left(self.references, first + count)

    def extent(self, index: int) -> tuple[int, int]:
        """The (offset, size) of the bytes in the file that hold the record at an index, or a little more."""
        start = self.offsets[index]
        end = self.offsets[index + 1]
        if end == start:
            end = self.offsets[bisect_right(self.offsets, start, index)]
        return start, end - start

    def drop(self, first: int, count: int) -> None:
        """Mark a run of references as dead; those that are not here, or dead already, do not matter."""
        low, high = self.indexes_of(first, count)
        flags = self.flags
        offsets = self.offsets
        if flags.count(SINGLE, low, high) == high - low:
            flags[low:high] = bytes(high - low)
            self.live_bytes -= offsets[high] - offsets[low]
            return
        for index in range(low, high):
            flag = flags[index]
            flags[index] = DEAD
            if flag == SINGLE:
                self.live_bytes -= offsets[index + 1] - offsets[index]
            elif flag == SHARED:
                self._drop_shared(index)

    def drop_runs(self, runs: Iterable[tuple[int, int]]) -> None:
        """Mark many runs of references as dead: `drop` for each, faster where they are short."""
        flags, offsets = self.flags, self.offsets
        base = self.first_reference if self.references is None else _NO_REFERENCE
        for first, count in runs:
            index = first - base
            if count == 1 and 0 <= index < len(flags) and flags[index] == SINGLE:
                flags[index] = DEAD
                self.live_bytes -= offsets[index + 1] - offsets[index]
            else:
                self.drop(first, count)
        assert self.live_bytes >= 0

    def _drop_shared(self, index: int) -> None:
        start = self.offsets[index]
        low = bisect_left(self.offsets, start, 0, index + 1)
        high = bisect_right(self.offsets, start, index)
        if self.flags.find(SHARED, low, high) < 0:
            self.live_bytes -= self.offsets[high] - start

    def bytes_from_first_live(self) -> int:
        """How many bytes its first live record and all behind it take; 0 where none lives."""
        flags, before = self.flags, self._first_live
        single = flags.find(SINGLE, before)
        shared = flags.find(SHARED, before, single if single >= 0 else len(flags))
        first = shared if shared >= 0 else single
        if first < 0:
            return 0
        self._first_live = first  # what is dead before it stays so
        return self.offsets[-1] - self.offsets[first]

    @property
    def kept_bytes(self) -> int:
        """What rewriting it would at most leave."""
        return self.live_bytes + self.drops.encoded_bytes


def _live_bytes(flags: bytearray, offsets: array[int]) -> int:
    if flags.find(DEAD) < 0:
        return offsets[-1] - offsets[0]
    if flags.find(SHARED) < 0:
        return sum(compress(map(sub, islice(offsets, 1, None), offsets), flags))
    live = 0
    start = -1
    for index in range(len(flags)):
        if flags[index] and offsets[index] != start:
            start = offsets[index]
            live += offsets[bisect_right(offsets, start, index)] - start
    return live


class Index:
    """All segments, in the order of their references."""

    def __init__(self) -> None:
        self._table: tuple[tuple[int, ...], tuple[Segment, ...]] = ((), ())

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The segments, in order."""
        return self._table[1]

    def set_segments(self, segments: tuple[Segment, ...]) -> None:
        """Replace the table."""
        self._table = (tuple(segment.first_reference for segment in segments), segments)

    def find(self, reference: int) -> Segment | None:
        """The segment that a reference is in, if it is in any."""
        firsts, segments = self._table
        number = bisect_right(firsts, reference) - 1
        return segments[number] if number >= 0 else None

    def drop(self, first: int, count: int) -> None:
        """Mark a run of references as dead, in whichever segments they are."""
        firsts, segments = self._table
        low = max(bisect_right(firsts, first) - 1, 0)
        high = bisect_left(firsts, first + count)
        for segment in segments[low:high]:
            segment.drop(first, count)

    def drop_runs(self, runs: Runs) -> None:
        """Mark runs that are in ascending order as dead, in whichever segments they are."""
        firsts, segments = self._table
        low = 0
        for segment, bound in zip(segments, (*firsts[1:], _NO_REFERENCE), strict=True):
            high = bisect_left(runs.firsts, bound, low)
            if high == low:
                continue
            segment.drop_runs(zip(runs.firsts[low:high], runs.counts[low:high], strict=True))
            if runs.end_at(high - 1) > bound:
                self.drop(bound, runs.end_at(high - 1) - bound)
            low = high

    @property
    def live_bytes(self) -> int:
        """The bytes of all live records."""
        return sum(segment.live_bytes for segment in self.segments)

    @property
    def disk_bytes(self) -> int:
        """The bytes of all files."""
        return sum(segment.disk_bytes for segment in self.segments)
