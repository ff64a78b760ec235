"""Numbers that only grow, most of which follow each other: kept as runs.

The references of a stream's entries are such, where the entries come many at a time: each of the journal's batches
leaves one number out.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Sequence
from typing import Final

from amqp_broker.broker.queues.stream_parts import packed

_NUMBERS_PER_RUN_MIN: Final = 4  # a run takes about as much memory as three numbers


class NumberRuns:
    """The numbers, by their places.

    Args:
        places: where each run begins.
        shifts: how much each number of a run is larger than its place.
        count: how many numbers there are.
    """

    __slots__ = ("_count", "_places", "_shifts")

    def __init__(self, places: array[int], shifts: array[int], count: int) -> None:
        self._places = places
        self._shifts = shifts
        self._count = count

    def __len__(self) -> int:
        return self._count

    def between(self, start: int, end: int) -> list[int]:
        """Those from one place to another one, which is not among them, as a slice has them."""
        places = self._places
        numbers: list[int] = []
        end = min(end, self._count)
        run = bisect_right(places, start) - 1
        while start < end:
            run_end = min(places[run + 1], end) if run + 1 < len(places) else end
            shift = self._shifts[run]
            numbers += range(start + shift, run_end + shift)
            start = run_end
            run += 1
        return numbers

    @property
    def last(self) -> int:
        """The last one."""
        return self._count - 1 + self._shifts[-1]


def runs_of_most(numbers: Sequence[int]) -> NumberRuns | None:
    """Numbers that only grow, as runs; None where these are too many, or but one."""
    count = len(numbers)
    left_out = numbers[-1] - numbers[0] - (count - 1)  # at least one by each gap
    if not 0 < left_out < count // _NUMBERS_PER_RUN_MIN:
        return None
    places, shifts = [0], [numbers[0]]
    while shifts[-1] < shifts[0] + left_out:
        place = bisect_right(range(count), shifts[-1], places[-1], key=lambda place: numbers[place] - place)
        places.append(place)
        shifts.append(numbers[place] - place)
    return NumberRuns(packed(places), packed(shifts), count)
