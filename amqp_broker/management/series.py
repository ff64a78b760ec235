"""The past numbers of one thing, with a row for each change: what stays as it is takes no memory again.

A number that has not changed is kept once, one that has in an array of its own: four bytes for each row, or eight where
it has grown large. Each pace has its own rows, the last ten minutes all of them, the time before fewer. Holds no names
of numbers and no clock.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Sequence

Numbers = tuple[int, ...]
Places = Sequence[int]  # of the numbers that together are one with a name

SMALL_MAX = 2**32 - 1  # what an array of type code I holds


class Track:
    """The past numbers of one thing, at one pace.

    Args:
        moment_ms: of the first look, in milliseconds since 1970.
        numbers: that it found.
    """

    __slots__ = ("_columns", "_moments_ms", "last")

    def __init__(self, moment_ms: int, numbers: Numbers) -> None:
        self.last = numbers
        self._moments_ms = array("q", (moment_ms,))
        self._columns: dict[int, array[int]] | None = None  # by place; those that have changed

    @property
    def changed_ms(self) -> int:
        """When they became what they are."""
        return self._moments_ms[-1]

    @property
    def has_past(self) -> bool:
        """Whether they were ever something else, as far as is kept."""
        return len(self._moments_ms) > 1

    def note(self, moment_ms: int, numbers: Numbers) -> None:
        """Keep a look; one that found nothing new is not kept."""
        last = self.last
        if numbers == last:
            return
        if self._columns is None:
            self._columns = {}
        columns, length = self._columns, len(self._moments_ms)
        for place, number in enumerate(numbers):
            if number != last[place] and place not in columns:
                columns[place] = array("I" if last[place] <= SMALL_MAX else "q", [last[place]] * length)
        for place, column in columns.items():
            if numbers[place] > SMALL_MAX and column.typecode == "I":
                columns[place] = column = array("q", column)
            column.append(numbers[place])
        self._moments_ms.append(moment_ms)
        self.last = numbers

    def forget_before(self, moment_ms: int) -> None:
        """Keep how things were at a moment, and all since then."""
        moments_ms = self._moments_ms
        if len(moments_ms) < 2 or moments_ms[1] > moment_ms:
            return
        surplus = bisect_right(moments_ms, moment_ms) - 1
        del moments_ms[:surplus]
        for column in (self._columns or {}).values():
            del column[:surplus]
        if len(moments_ms) == 1:
            self._columns = None

    def row(self, moment_ms: int) -> int:
        """The row that tells how things were at a moment; -1 where that is not kept."""
        return bisect_right(self._moments_ms, moment_ms) - 1

    def number(self, row: int, places: Places) -> int:
        """A number as it was then: the sum of those that make it."""
        columns, last, found = self._columns or {}, self.last, 0
        for place in places:
            column = columns.get(place)
            found += last[place] if column is None else column[row]
        return found


Spot = tuple[Track, int]  # a row of a track


class Series:
    """The past numbers of one thing.

    Args:
        moment_ms: of the first look, in milliseconds since 1970.
        numbers: that it found.
        paces: how they are kept: at the first look in so many milliseconds, for so many; the first is every look's.
    """

    __slots__ = ("_coarse", "_fine", "_paces", "before_ms", "born_ms", "looked_ms")

    def __init__(self, moment_ms: int, numbers: Numbers, paces: tuple[tuple[int, int], ...]) -> None:
        self._paces = paces
        self._fine = Track(moment_ms, numbers)
        self._coarse: list[Track] | None = None  # none as long as nothing has changed
        self.born_ms = self.looked_ms = moment_ms
        self.before_ms: int | None = None  # of the look before the last

    @property
    def last(self) -> Numbers:
        """The numbers at the last look."""
        return self._fine.last

    @property
    def changed_ms(self) -> int:
        """The first look at which they were what they are."""
        return self._fine.changed_ms

    def note(self, moment_ms: int, numbers: Numbers) -> None:
        """Keep one look more."""
        fine, before_ms = self._fine, self.looked_ms
        self.before_ms, self.looked_ms = before_ms, moment_ms
        if self._coarse is not None:
            self._note_coarsely(moment_ms, before_ms, numbers)
        elif numbers != fine.last:
            self._coarse = [Track(self.born_ms, fine.last) for _ in self._paces[1:]]
            self._note_coarsely(moment_ms, before_ms, numbers)
        fine.note(moment_ms, numbers)
        if fine.has_past:
            fine.forget_before(moment_ms - self._paces[0][1])

    def _note_coarsely(self, moment_ms: int, before_ms: int, numbers: Numbers) -> None:
        for (step_ms, kept_ms), track in zip(self._paces[1:], self._coarse or (), strict=True):
            if moment_ms // step_ms != before_ms // step_ms:
                track.note(moment_ms, numbers)
                track.forget_before(moment_ms - kept_ms)

    @property
    def is_changing(self) -> bool:
        """Whether the last look found something else than the one before it."""
        fine = self._fine
        return self.before_ms is not None and fine.changed_ms == self.looked_ms and fine.has_past

    def growth(self, places: Places) -> float:
        """By how much a number has grown each second, between the last two looks."""
        fine, before_ms = self._fine, self.before_ms
        if before_ms is None or not self.is_changing:
            return 0.0
        grown = fine.number(-1, places) - fine.number(-2, places)
        return grown / max((self.looked_ms - before_ms) / 1000, 0.001)

    def spot(self, moment_ms: int) -> Spot | None:
        """Where it is told how things were at a moment; None when nobody had looked yet, or that is not kept."""
        for track in self._tracks():
            row = track.row(moment_ms)
            if row >= 0:
                return track, row
        return None

    def _tracks(self) -> Iterable[Track]:
        yield self._fine
        yield from self._coarse or ()
