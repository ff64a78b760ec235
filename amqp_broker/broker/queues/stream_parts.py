"""The parts of a stream's chunk: entries that came close together, by which what is too old goes, and a time is found.

A stream that gets an entry now and then has a part for each, so a part is some numbers in packed arrays, and no object.
Most chunks of a stream that gets much are one part, and have none of this. Holds no entries.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Final

SPAN_MS_MAX: Final = 2**32 - 1
"""From the first entry of a chunk to its last: times are kept in four bytes."""


class ChunkParts:
    """The parts of one chunk, the oldest first; all but the last one have ended.

    Offsets and times count from the first entry that the chunk ever had. Of a part that has ended are known: the offset
    behind it, the bytes of its bodies, when its first entry came, and its last one.
    """

    __slots__ = ("_bytes", "_ends", "_firsts_ms", "_lasts_ms")

    def __init__(self) -> None:
        self._ends: Sequence[int] = array("Q")
        self._bytes: array[int] = array("Q")
        self._firsts_ms: array[int] = array("I", [0])  # of the last part as well
        self._lasts_ms: array[int] = array("I")

    def __len__(self) -> int:
        return len(self._firsts_ms)

    def end_last(self, end: int, body_bytes: int, last_ms: int) -> None:
        """The last part gets no more.

        Args:
            end: the offset behind it.
            body_bytes: of its entries.
            last_ms: when the last of them came.
        """
        ends = self._ends
        assert isinstance(ends, array), "a chunk that is full gets no more"
        ends.append(end)
        self._bytes.append(body_bytes)
        self._lasts_ms.append(last_ms)

    def begin(self, first_ms: int) -> None:
        """The next part begins, with an entry that came then."""
        self._firsts_ms.append(first_ms)

    def end_of(self, part: int) -> int:
        """The offset behind a part that has ended."""
        return self._ends[part]

    def last_ms_of(self, part: int) -> int:
        """When its last entry came."""
        return self._lasts_ms[part]

    def bytes_of(self, part: int) -> int:
        """How many bytes its entries have."""
        return self._bytes[part]

    def end_of_bytes(self, offset: int, bytes_min: int) -> int | None:
        """The offset behind as many parts, from that on which an offset is in, as have so many bytes together; None
        where all have fewer that have ended.
        """
        for part in range(bisect_right(self._ends, offset), len(self._ends)):
            bytes_min -= self._bytes[part]
            if bytes_min <= 0:
                return self._ends[part]
        return None

    def first_ms_at(self, offset: int) -> int:
        """When the first entry came of the part that an offset is in."""
        return self._firsts_ms[bisect_right(self._ends, offset)]

    def at(self, time_ms: int) -> int:
        """The first part with an entry of a time or later; the last one where no other has any."""
        return bisect_left(self._lasts_ms, time_ms)

    def close(self, entry_ends: Sequence[int] | None) -> None:
        """The chunk is full, and all parts have ended: keep the same in less memory.

        Args:
            entry_ends: the offset behind each entry of the chunk; None where each has one.
        """
        if self._lasts_ms == self._firsts_ms:
            self._lasts_ms = self._firsts_ms
        self._bytes = packed(self._bytes)
        is_entry_each = entry_ends is not None and len(entry_ends) == len(self)
        self._ends = entry_ends if entry_ends is not None and is_entry_each else ends_in_little(self._ends)


def packed(numbers: Sequence[int]) -> array[int]:
    """The same numbers, in as few bytes each as they fit in."""
    largest = max(numbers)
    return array("H" if largest < 1 << 16 else "I" if largest < 1 << 32 else "Q", numbers)


def ends_in_little(numbers: Sequence[int]) -> Sequence[int]:
    """The same for numbers that only grow, from 1 on: none each, where they have no gaps."""
    return range(1, len(numbers) + 1) if numbers[-1] == len(numbers) else packed(numbers)
