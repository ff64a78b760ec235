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

    def __len__(self) -> int:
        return self._count

    def add(self, due_ms: int, reference: int) -> None:
        """One more; behind all that are due at the same time."""
        self._count += 1
        if not self._dues:
            self._insert_chunk(0, array("q", [due_ms]), array("Q", [reference]))
            return
        index = min(bisect_right(self._last_dues, due_ms), len(self._dues) - 1)
        dues, references = self._dues[index], self._references[index]
        place = bisect_right(dues, due_ms)
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
            for due_ms, reference in zip(self._dues[index], self._references[index], strict=True):
                if after_due_ms is None or (due_ms, reference) > (after_due_ms, after_reference):
                    yield due_ms, reference

    def remove(self, due_ms: int, reference: int) -> bool:
        """One goes; returns whether it was there."""
        index = bisect_left(self._last_dues, due_ms)
        while index < len(self._dues) and self._dues[index][0] <= due_ms:
            dues, references = self._dues[index], self._references[index]
            for place in range(bisect_left(dues, due_ms), bisect_right(dues, due_ms)):
                if references[place] == reference:
                    del dues[place], references[place]
                    self._count -= 1
                    self._shrunk(index)
                    return True
            index += 1
        return False

    def _shrunk(self, index: int) -> None:
        if self._dues[index]:
            self._last_dues[index] = self._dues[index][-1]
        else:
            del self._dues[index], self._references[index], self._last_dues[index]
