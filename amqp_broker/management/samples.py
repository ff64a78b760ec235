"""Rates, and how numbers were: what grows in the broker is looked at every five seconds while somebody asks.

Nobody pays for it before the first request. The numbers of each queue, exchange, connection, channel and virtual host
are kept for a minute, and forgotten five minutes after the last request. The broker's own are looked at once a minute
from then on, and kept as RabbitMQ keeps them: ten minutes by five seconds, an hour by minutes, eight hours by ten
minutes and a day by half an hour. What was the same at the last look takes no memory again. Holds no counters; those
are the domain's.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Mapping

import trio

from amqp_broker.management.slices import Slices
from amqp_broker.network.wake_up import WakeUp

SAMPLE_S = 5
SAMPLE_OF_ALL_S = 60  # when nobody asks
OLDER_OF_ALL = ((60, 61), (600, 49), (1800, 49))  # seconds between two looks, and how many are kept
KEPT_OF_ALL = 121
KEPT_OF_EACH = 13
FORGET_AFTER_S = 300
RANGE_SAMPLES_MAX = 500

Key = tuple[str, ...]  # the kind of thing, and its names
Values = Mapping[str, int]
Look = tuple[int, dict[str, int]]  # milliseconds since 1970, and the numbers then

ALL: Key = ("all",)


class Series:
    """The past numbers of one thing.

    Args:
        kept: how many looks are kept.
        older: of how many looks more, at least so many seconds apart.
    """

    __slots__ = ("looks", "older", "same_since_ms", "seen_in_round")

    def __init__(self, kept: int, older: Iterable[tuple[int, int]] = ()) -> None:
        self.looks: deque[Look] = deque(maxlen=kept)  # the last last
        self.older = [(step_s * 1000, deque[Look](maxlen=count)) for step_s, count in older]
        self.same_since_ms = 0  # the first look at which the numbers were what they are
        self.seen_in_round = 0

    def rate(self, name: str) -> float:
        """By how much a number has grown each second, between the last two looks."""
        if len(self.looks) < 2:
            return 0.0
        (before_ms, before), (last_ms, last) = self.looks[-2], self.looks[-1]
        return (last.get(name, 0) - before.get(name, 0)) / max((last_ms - before_ms) / 1000, 0.001)

    def note(self, look: Look) -> None:
        """Keep one look more."""
        self.looks.append(look)
        for step_ms, looks in self.older:
            if not looks or look[0] - looks[-1][0] >= step_ms:
                looks.append(look)

    def at(self, moment_ms: int) -> Values | None:
        """The numbers at a moment; None when nobody had looked yet, or that is not kept any more."""
        for looks in (self.looks, *(looks for _, looks in self.older)):
            if looks and looks[0][0] <= moment_ms:
                return looks[bisect_right(looks, moment_ms, key=_moment) - 1][1]
        return None


def _moment(look: Look) -> int:
    return look[0]


class Samples:
    """The past numbers of one broker.

    Args:
        things: what there is now, each with its key and its numbers.
        now_ms: tells the time since 1970.
    """

    def __init__(self, things: Callable[[], Iterable[tuple[Key, Values]]], now_ms: Callable[[], int]) -> None:
        self._things = things
        self._now_ms = now_ms
        self._series: dict[Key, Series] = {}
        self._round = 0

    async def run(self, last_asked_s: Callable[[], float], asked: WakeUp) -> None:
        """Look every five seconds, in slices; at the whole broker alone, and seldom, when nobody has asked for a while.

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
        self._round += 1
        slices = Slices()
        for key, values in self._things():
            if key == ALL or not only_at_all:
                self._note(key, values)
            await slices.take_turn()
        for key, one in list(self._series.items()):
            if one.seen_in_round != self._round:
                self._series.pop(key, None)
            await slices.take_turn()

    def _note(self, key: Key, values: Values) -> None:
        series = self._series.get(key)
        if series is None:
            series = Series(KEPT_OF_ALL, OLDER_OF_ALL) if key == ALL else Series(KEPT_OF_EACH)
            self._series[key] = series
        series.seen_in_round = self._round
        last, now_ms = series.looks[-1][1] if series.looks else None, self._now_ms()
        if last is None or last != values:
            last, series.same_since_ms = dict(values), now_ms
        series.note((now_ms, last))

    def rate(self, key: Key, name: str) -> float:
        """By how much a number of something grows each second; 0 of what nobody has looked at twice."""
        series = self._series.get(key)
        return 0.0 if series is None else series.rate(name)

    def same_since_ms(self, key: Key, values: Values) -> int | None:
        """Since when the numbers of something are what they are now, as far as anybody has looked; None when they have
        changed since the last look, or there was no look before it.

        Args:
            values: the numbers now.
        """
        series = self._series.get(key)
        if series is None or len(series.looks) < 2 or series.looks[-1][1] != values:
            return None
        return series.same_since_ms if series.same_since_ms < series.looks[-1][0] else None

    def values(self, key: Key, name: str) -> list[int]:
        """How a number of something was at the last looks, the oldest first."""
        series = self._series.get(key)
        return [] if series is None else [values.get(name, 0) for _, values in series.looks]

    def forget(self) -> None:
        """Begin anew."""
        self._series.clear()

    def past(self, key: Key, age_s: int, step_s: int) -> list[tuple[int, Values | None]]:
        """The numbers of something at moments, now first; None of one that nobody knows any more.

        Args:
            age_s: how far back.
            step_s: the time between two moments.
        """
        series, now_ms = self._series.get(key), self._now_ms()
        moments = [now_ms - number * step_s * 1000 for number in range(age_s // step_s + 1)]
        return [(moment_ms, None if series is None else series.at(moment_ms)) for moment_ms in moments]


def history(past: list[tuple[int, Values | None]], name: str, now_value: int) -> dict[str, object]:
    """How one number was, and its averages.

    Args:
        past: from ``Samples.past``.
        now_value: what it is now.
    """
    values = [0 if numbers is None else numbers.get(name, 0) for _, numbers in past]
    values[0] = now_value
    known_s = max((past[0][0] - past[-1][0]) / 1000, 1)
    return {
        "avg": sum(values) / len(values),
        "avg_rate": (values[0] - values[-1]) / known_s,
        "samples": [
            {"sample": value, "timestamp": moment_ms} for (moment_ms, _), value in zip(past, values, strict=True)
        ],
    }
