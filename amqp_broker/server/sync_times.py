"""The times of the journal's batches to be written and synced, as a histogram. Knows no journal and no format."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable

BOUNDS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class SyncTimes:
    """The times so far; noted in one thread, and read in any."""

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS_S) + 1)
        self.sum_s = 0.0

    def measured(self, work: Callable[[], None]) -> None:
        """Do something, and note how long it took, if it does not fail."""
        begun_s = time.perf_counter()
        work()
        self.note(time.perf_counter() - begun_s)

    def note(self, took_s: float) -> None:
        """Add a time."""
        self._counts[bisect_left(BOUNDS_S, took_s)] += 1
        self.sum_s += took_s

    def buckets(self) -> list[tuple[float, int]]:
        """How many took at most so many seconds; the last one is all of them."""
        found, total = [], 0
        for bound_s, count in zip((*BOUNDS_S, float("inf")), self._counts, strict=True):
            total += count
            found.append((bound_s, total))
        return found
