"""Counters of a load while it runs, in memory that all processes share: messages, and their times.

Times fall into buckets that are a sixteenth of their power of two wide, so a percentile is right to 3 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from multiprocessing.sharedctypes import RawArray
from typing import Any

PUBLISHED, CONFIRMED, REFUSED, CONSUMED, IS_ENDING = range(5)
COUNTERS = 5
STEPS = 16  # of a power of two
BUCKETS = 48 * STEPS
CONFIRMS, DELIVERIES = 0, 1  # the two times that are measured


class Figures:
    """The counters and times of one process, or of all when they are added up.

    Args:
        cells: their values; new ones when left out.
    """

    def __init__(self, cells: Any = None) -> None:
        self.cells: Any = RawArray("Q", COUNTERS + 2 * BUCKETS) if cells is None else cells

    def add(self, counter: int, count: int = 1) -> None:
        """Count something."""
        self.cells[counter] += count

    def took(self, which: int, time_ns: int, count: int = 1) -> None:
        """Note how long messages took.

        Args:
            which: ``CONFIRMS`` or ``DELIVERIES``.
            count: how many took as long.
        """
        self.cells[COUNTERS + which * BUCKETS + bucket_of(time_ns)] += count

    def times(self, which: int) -> list[int]:
        """How many messages there are in each bucket."""
        start = COUNTERS + which * BUCKETS
        return list(self.cells[start : start + BUCKETS])

    def __getitem__(self, counter: int) -> int:
        return int(self.cells[counter])


def bucket_of(time_ns: int) -> int:
    """The bucket that a time falls into."""
    exponent = max(0, time_ns.bit_length() - 5)  # the first five bits tell the step
    return min(exponent * STEPS + (max(0, time_ns) >> exponent), BUCKETS - 1)


def upper_end_ns(bucket: int) -> int:
    """The longest time that falls into a bucket."""
    if bucket < 2 * STEPS:
        return bucket
    exponent = bucket // STEPS - 1
    return ((bucket - exponent * STEPS + 1) << exponent) - 1


def percentile_ms(buckets: Sequence[int], share: float) -> float | None:
    """The time below which that share of messages was; None when there were none.

    Args:
        share: from 0 to 1; with 1 it is the longest time.
    """
    total = sum(buckets)
    if not total:
        return None
    wanted, seen = max(1, round(total * share)), 0
    for bucket, count in enumerate(buckets):
        seen += count
        if seen >= wanted:
            return upper_end_ns(bucket) / 1e6
    return None


def difference(now: Sequence[int], before: Sequence[int]) -> list[int]:
    """What has come to the buckets."""
    return [one - other for one, other in zip(now, before, strict=True)]
