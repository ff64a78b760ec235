"""Rates, and how numbers were: what grows in the broker is looked at every five seconds from the first request on.

Nobody pays for it before. The numbers of each queue, exchange, connection, channel and virtual host are kept as
RabbitMQ keeps them by default: ten minutes by five seconds and an hour by minutes; they are forgotten when nobody has
asked for an hour. The broker's own are looked at once a minute from then on, and are kept for eight hours by ten
minutes and a day by half an hour as well. What was the same at the last look takes no memory again (``series.py``).
Holds no counters; those are the domain's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping

import trio

from amqp_broker.management.series import Numbers, Places, Series, Spot
from amqp_broker.management.slices import Slices
from amqp_broker.network.wake_up import WakeUp

SAMPLE_S = 5
SAMPLE_OF_ALL_S = 60  # when nobody asks
PACES_OF_EACH = ((5_000, 600_000), (60_000, 3_600_000))  # a look in so many milliseconds, kept for so many
PACES_OF_ALL = (*PACES_OF_EACH, (600_000, 28_800_000), (1_800_000, 86_400_000))
LATEST_LOOKS = 13  # reach back a minute
FORGET_AFTER_S = 3_600
SET_BACK_MS = 1_000
RANGE_SAMPLES_MAX = 500

Key = tuple[str, ...]  # the kind of thing, and its names
Fields = Mapping[str, Places]  # where the numbers are that have a name, or are its parts

ALL: Key = ("all",)


class Samples:
    """The past numbers of one broker.

    Args:
        things: what there is now, each with its key and its numbers.
        fields: the names of the numbers, by the kind of thing.
        now_ms: tells the time since 1970.
    """

    def __init__(
        self,
        things: Callable[[], Iterable[tuple[Key, Numbers]]],
        fields: Mapping[str, Fields],
        now_ms: Callable[[], int],
    ) -> None:
        self._things = things
        self._fields = fields
        self._now_ms = now_ms
        self._series: dict[Key, Series] = {}
        self._looks_ms: deque[int] = deque(maxlen=LATEST_LOOKS)

    async def run(self, last_asked_s: Callable[[], float], asked: WakeUp) -> None:
        """Look every five seconds, in slices; at the whole broker alone, and seldom, when nobody has asked for long.

        Args:
            last_asked_s: when somebody has, by trio's clock.
            asked: set when somebody does.
        """
        while True:
            if trio.current_time() - last_asked_s() < FORGET_AFTER_S:
                await self.look()
                await trio.sleep(SAMPLE_S)
                continue
            await self.look(only_at_all=True)
            with trio.move_on_after(SAMPLE_OF_ALL_S):
                await asked.wait()

    async def look(self, *, only_at_all: bool = False) -> None:
        """Look at everything once; what has gone is forgotten.

        Args:
            only_at_all: keep the broker's own numbers and no others.
        """
        slices, moment_ms = Slices(), self._next_moment_ms()
        for key, numbers in self._things():
            if key == ALL or not only_at_all:
                self._note(key, moment_ms, numbers)
            await slices.take_turn()
        for key, one in list(self._series.items()):
            if one.looked_ms != moment_ms:
                self._series.pop(key, None)
            await slices.take_turn()

    def _next_moment_ms(self) -> int:
        """The time, later than at the look before; where the system's clock was set back, all begins anew."""
        now_ms = self._now_ms()
        if self._looks_ms and now_ms <= self._looks_ms[-1]:
            if now_ms < self._looks_ms[-1] - SET_BACK_MS:
                self.forget()
            else:
                now_ms = self._looks_ms[-1] + 1
        self._looks_ms.append(now_ms)
        return now_ms

    def _note(self, key: Key, moment_ms: int, numbers: Numbers) -> None:
        series = self._series.get(key)
        if series is None:
            self._series[key] = Series(moment_ms, numbers, PACES_OF_ALL if key == ALL else PACES_OF_EACH)
        else:
            series.note(moment_ms, numbers)

    def rate(self, key: Key, name: str) -> float:
        """By how much a number of something grows each second; 0 of what nobody has looked at twice."""
        series = self._series.get(key)
        return 0.0 if series is None else series.growth(self._places(key, name))

    def rates(self, key: Key, names: Collection[str]) -> list[float]:
        """By how much each of some numbers of something grows each second, as ``rate`` says it of one."""
        series = self._series.get(key)
        if series is None or not series.is_changing:
            return [0.0] * len(names)
        return [series.growth(self._places(key, name)) for name in names]

    def _places(self, key: Key, name: str) -> Places:
        """Where a number is; nowhere, if things of this kind have none of this name."""
        return self._fields[key[0]].get(name, ())

    def same_since_ms(self, key: Key, numbers: Numbers) -> int | None:
        """Since when the numbers of something are what they are now, as far as anybody has looked; None when they have
        changed since the last look, or there was no look before it.

        Args:
            numbers: those now.
        """
        series = self._series.get(key)
        if series is None or series.before_ms is None or series.last != numbers:
            return None
        return series.changed_ms if series.changed_ms < series.looked_ms else None

    def values(self, key: Key, name: str) -> list[int]:
        """How a number of something was at the looks of the last minute, the oldest first."""
        series = self._series.get(key)
        if series is None:
            return []
        places, found = self._places(key, name), []
        for moment_ms in self._looks_ms:
            spot = series.spot(moment_ms) if moment_ms <= series.looked_ms else None
            if spot is not None:
                found.append(spot[0].number(spot[1], places))
        return found

    def forget(self) -> None:
        """Begin anew."""
        self._series.clear()
        self._looks_ms.clear()

    def past(self, key: Key, age_s: int, step_s: int) -> Past:
        """The numbers of something at moments.

        Args:
            age_s: how far back.
            step_s: the time between two moments.
        """
        series, now_ms = self._series.get(key), self._now_ms()
        moments_ms = range(now_ms, now_ms - age_s * 1000 - 1, -step_s * 1000)
        spots = [(moment_ms, None if series is None else series.spot(moment_ms)) for moment_ms in moments_ms]
        return Past(now_ms, [(moment_ms, spot) for moment_ms, spot in spots if spot is not None], self._fields[key[0]])


class Past:
    """The numbers of something at moments, as far as anybody knows them.

    Args:
        now_ms: the first of these moments.
        spots: where it is told how things were at those that are known, the newest first.
        fields: the names of the numbers.
    """

    def __init__(self, now_ms: int, spots: list[tuple[int, Spot]], fields: Fields) -> None:
        self._now_ms = now_ms
        self._spots = spots
        self._fields = fields

    def history(self, name: str, now_value: int) -> dict[str, object]:
        """How one number was, and its averages; a moment that nobody knows anything of is left out.

        Args:
            now_value: what it is now.
        """
        places = self._fields.get(name, ())
        known = [(moment_ms, track.number(row, places)) for moment_ms, (track, row) in self._spots]
        known = [(self._now_ms, now_value), *(one for one in known if one[0] < self._now_ms)]
        known_s = max((known[0][0] - known[-1][0]) / 1000, 1)
        return {
            "avg": sum(value for _, value in known) / len(known),
            "avg_rate": (now_value - known[-1][1]) / known_s,
            "samples": [{"sample": value, "timestamp": moment_ms} for moment_ms, value in known],
        }
