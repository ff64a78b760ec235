"""The order of due times: references by due time, at 16 bytes each. Knows no message, no clock and no journal.

Two arrays side by side for each chunk, the chunks in order; what has the same due time stays in the order in which it
was added. An insertion moves a chunk's worth of bytes at most.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator

CHUNK_MAX = 2048


class DueOrder:
    """References in the order of their due times."""

    def __init__(self) -> None:
        self._dues: list[array[int]] = []
        self._references: list[array[int]] = []
        self._last_dues: list[int] = []  # of each chunk
        self._count = 0
        self._is_by_reference = True  # what has the same due time is in the order of the references, as most often

    def __len__(self) -> int:
        return self._count

    def add(self, due_ms: int, reference: int) -> None:
        """One more; behind all that are due at the same time."""
        self._count += 1
        if not self._dues:
            self._is_by_reference = True
            self._insert_chunk(0, array("q", [due_ms]), array("Q", [reference]))
            return
        index = min(bisect_right(self._last_dues, due_ms), len(self._dues) - 1)
        dues, references = self._dues[index], self._references[index]
        place = bisect_right(dues, due_ms)
        if place:
            if dues[place - 1] == due_ms and references[place - 1] > reference:
                self._is_by_reference = False
        elif index and self._last_dues[index - 1] == due_ms and self._references[index - 1][-1] > reference:
            self._is_by_reference = False
        dues.insert(place, due_ms)
        references.insert(place, reference)
        self._last_dues[index] = dues[-1]
        if len(dues) > CHUNK_MAX:
            self._split(index)

    def _insert_chunk(self, index: int, dues: array[int], references: array[int]) -> None:
        self._dues.insert(index, dues)
        self._references.insert(index, references)
        self._last_dues.insert(index, dues[-1])

    def _split(self, index: int) -> None:
        """In the middle, but at the very end: there most come in order, and a full chunk stays full."""
        dues, references = self._dues[index], self._references[index]
        middle = CHUNK_MAX if index == len(self._dues) - 1 else len(dues) // 2
        self._dues[index], self._references[index] = dues[:middle], references[:middle]
        self._last_dues[index] = dues[middle - 1]
        self._insert_chunk(index + 1, dues[middle:], references[middle:])

    @property
    def first_due_ms(self) -> int | None:
        """When the next one is due; None when there is none."""
        return self._dues[0][0] if self._dues else None

    @property
    def first_reference(self) -> int:
        """The next one; there must be one."""
        return self._references[0][0]

    def remove_first(self) -> None:
        """The next one goes; there must be one."""
        del self._dues[0][0], self._references[0][0]
        self._count -= 1
        self._shrunk(0)

    def entries(self, after_due_ms: int | None = None, after_reference: int = 0) -> Iterator[tuple[int, int]]:
        """All due times and references; nothing may be added or removed meanwhile.

        Args:
            after_due_ms: begin behind the entry with this due time and
            after_reference: this reference, which need not be there any more; of those with its due time only those
                come that have a greater reference.
        """
        first = 0 if after_due_ms is None else bisect_left(self._last_dues, after_due_ms)
        for index in range(first, len(self._dues)):
            dues, references = self._dues[index], self._references[index]
            begin = 0
            if after_due_ms is not None and dues[0] <= after_due_ms:
                if self._is_before(index, after_due_ms, after_reference + 1):
                    continue
                begin = bisect_left(dues, after_due_ms)
                same_end = bisect_right(dues, after_due_ms, begin)
                if self._is_by_reference:
                    begin = bisect_right(references, after_reference, begin, same_end)
                else:
                    for place in range(begin, same_end):
                        if references[place] > after_reference:
                            yield after_due_ms, references[place]
                    begin = same_end
            for place in range(begin, len(dues)):
                yield dues[place], references[place]

    def remove(self, due_ms: int, reference: int) -> bool:
        """One goes; returns whether it was there."""
        index = bisect_left(self._last_dues, due_ms)
        while index < len(self._dues) and self._dues[index][0] <= due_ms:
            dues, references = self._dues[index], self._references[index]
            if self._is_before(index, due_ms, reference):
                index += 1
                continue
            begin = bisect_left(dues, due_ms)
            place = self._place_of(references, reference, begin, bisect_right(dues, due_ms, begin))
            if place >= 0:
                del dues[place], references[place]
                self._count -= 1
                self._shrunk(index)
                return True
            index += 1
        return False

    def _is_before(self, index: int, due_ms: int, reference: int) -> bool:
        """Whether all of a chunk is known to come before a reference with a due time: a million may have the same."""
        return self._is_by_reference and self._last_dues[index] == due_ms and self._references[index][-1] < reference

    def _place_of(self, references: array[int], reference: int, begin: int, end: int) -> int:
        """The place of a reference among those with its due time; -1 when it is not there."""
        if self._is_by_reference:
            place = bisect_left(references, reference, begin, end)
            return place if place < end and references[place] == reference else -1
        for place in range(begin, end):
            if references[place] == reference:
                return place
        return -1

    def _shrunk(self, index: int) -> None:
        if self._dues[index]:
            self._last_dues[index] = self._dues[index][-1]
        else:
            del self._dues[index], self._references[index], self._last_dues[index]
