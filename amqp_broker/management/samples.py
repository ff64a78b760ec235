"""Rates, and how numbers were: what grows in the broker is looked at every five seconds while somebody asks.

Nobody pays for it before the first request, and from five minutes after the last on it ends and forgets. What was the
same at the last look takes no memory again. The broker's own numbers are kept for ten minutes, those of each queue,
exchange, connection, channel and virtual host for one. Holds no counters; those are the domain's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping

import trio

from amqp_broker.management.slices import Slices

SAMPLE_S = 5
KEPT_OF_ALL = 121
KEPT_OF_EACH = 13
FORGET_AFTER_S = 300
RANGE_SAMPLES_MAX = 500

Key = tuple[str, ...]  # the kind of thing, and its names
Values = Mapping[str, int]

ALL: Key = ("all",)


class Series:
    """The past numbers of one thing.

    Args:
        kept: how many looks are kept.
    """

    __slots__ = ("looks", "same_since_ms", "seen_in_round")

    def __init__(self, kept: int) -> None:
        self.looks: deque[tuple[int, dict[str, int]]] = deque(maxlen=kept)  # milliseconds since 1970, the last last
        self.same_since_ms = 0  # the first look at which the numbers were what they are
        self.seen_in_round = 0

    def rate(self, name: str) -> float:
        """By how much a number has grown each second, between the last two looks."""
        if len(self.looks) < 2:
            return 0.0
        (before_ms, before), (last_ms, last) = self.looks[-2], self.looks[-1]
        return (last.get(name, 0) - before.get(name, 0)) / max((last_ms - before_ms) / 1000, 0.001)

    def at(self, moment_ms: int, name: str) -> int | None:
        """A number at a moment; None when nobody had looked yet."""
        for look_ms, values in reversed(self.looks):
            if look_ms <= moment_ms:
                return values.get(name, 0)
        return None


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

    async def run(self, last_asked_s: Callable[[], float]) -> None:
        """Look every five seconds, in slices, until nobody has asked for a while."""
        while trio.current_time() - last_asked_s() < FORGET_AFTER_S:
            await self.look()
            await trio.sleep(SAMPLE_S)
        self._series.clear()

    async def look(self) -> None:
        """Look at everything once; what has gone is forgotten."""
        self._round += 1
        slices = Slices()
        for key, values in self._things():
            self._note(key, values)
            await slices.take_turn()
        for key, one in list(self._series.items()):
            if one.seen_in_round != self._round:
                self._series.pop(key, None)
            await slices.take_turn()

    def _note(self, key: Key, values: Values) -> None:
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = Series(KEPT_OF_ALL if key == ALL else KEPT_OF_EACH)
        series.seen_in_round = self._round
        last, now_ms = series.looks[-1][1] if series.looks else None, self._now_ms()
        if last is None or last != values:
            last, series.same_since_ms = dict(values), now_ms
        series.looks.append((now_ms, last))

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

    def history(self, key: Key, name: str, now_value: int, age_s: int, step_s: int) -> dict[str, object]:
        """How a number of something was, and its averages.

        Args:
            now_value: what it is now.
            age_s: how far back.
            step_s: the time between two samples.
        """
        series, now_ms = self._series.get(key), self._now_ms()
        samples = []
        for number in range(age_s // step_s + 1):
            moment_ms = now_ms - number * step_s * 1000
            value = now_value if number == 0 else None if series is None else series.at(moment_ms, name)
            samples.append({"sample": 0 if value is None else value, "timestamp": moment_ms})
        values = [int(sample["sample"]) for sample in samples]
        known_s = max((len(values) - 1) * step_s, 1)
        return {
            "avg": sum(values) / len(values),
            "avg_rate": (values[0] - values[-1]) / known_s,
            "samples": samples,
        }
