"""The sizes of the messages that clients publish, as a histogram for each protocol.

They are counted from the first question on, so that nobody pays for it before. Knows no format.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate
from typing import Final

BOUNDS_BYTES: Final = (100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 50_000_000, 100_000_000)  # RabbitMQ's


class Sizes:
    """The sizes of the messages of one protocol."""

    __slots__ = ("_counts", "sum_bytes")

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS_BYTES) + 1)
        self.sum_bytes = 0

    def note(self, size_bytes: int) -> None:
        """Add a message."""
        self._counts[bisect_left(BOUNDS_BYTES, size_bytes)] += 1
        self.sum_bytes += size_bytes

    def totals(self) -> list[int]:
        """How many have at most so many bytes as each bound says; the last one is all of them."""
        return list(accumulate(self._counts))


class MessageSizes:
    """The sizes by protocol. Who publishes looks at ``are_counted`` before ``note``."""

    __slots__ = ("_by_protocol", "are_counted")

    def __init__(self) -> None:
        self.are_counted = False
        self._by_protocol: dict[str, Sizes] = {}

    def of(self, protocol: str) -> Sizes:
        """The sizes of one protocol, as far as they were counted; from now on they are."""
        self.are_counted = True
        return self._by_protocol.setdefault(protocol, Sizes())

    def note(self, protocol: str, size_bytes: int) -> None:
        """Add a message."""
        self.of(protocol).note(size_bytes)
