"""The history checker: what clients under load have seen while nodes died, and what must hold of all of it.

Each message has a number of its own. A publisher notes what was confirmed; a consumer notes what it was delivered, what
it has acknowledged, and which acknowledgements are committed, since a confirm behind them on their channel says so. In
the end the queues are drained. ``History.check`` names each breach of:

- confirmed is delivered or still queued;
- delivered was published;
- acknowledged and committed is not delivered again to whoever connects later;
- what is not marked redelivered comes in order to each consumer;
- of what a transaction published all is delivered, or nothing.

The clients are in ``traffic.py``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence
from itertools import pairwise


class History:
    """What all clients have seen."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.published: set[int] = set()
        self.confirmed: set[int] = set()
        self.delivered: set[int] = set()
        self.committed: dict[int, float] = {}  # since when, by number
        self.transactions: list[list[int]] = []  # the numbers that each has published
        self.confirmed_at_s: list[float] = []
        self.faults: list[str] = []

    def note_publish(self, *numbers: int) -> None:
        """Publishes are about to be sent."""
        with self._lock:
            self.published.update(numbers)

    def note_transaction(self, numbers: Sequence[int]) -> None:
        """They will be published as one."""
        with self._lock:
            self.transactions.append(list(numbers))

    def note_confirm(self, *numbers: int) -> None:
        """They were confirmed."""
        with self._lock:
            self.confirmed.update(numbers)
            self.confirmed_at_s.append(time.monotonic())

    def note_delivery(self, number: int, connected_s: float) -> None:
        """A message was delivered, to a consumer that connected then."""
        with self._lock:
            self.delivered.add(number)
            if number not in self.published:
                self.faults.append(f"{number} was delivered and never published")
            if self.committed.get(number, connected_s) < connected_s:
                self.faults.append(f"{number} came again although its acknowledgement was committed")

    def note_commit(self, numbers: Iterable[int]) -> None:
        """Acknowledgements are committed."""
        with self._lock:
            now_s = time.monotonic()
            for number in numbers:
                self.committed.setdefault(number, now_s)

    def note_fault(self, fault: str) -> None:
        """A client has seen what must not be."""
        with self._lock:
            self.faults.append(fault)

    def check(self) -> list[str]:
        """All that is wrong when nothing is left to be delivered."""
        lost = sorted(self.confirmed - self.delivered)
        halves = [one for one in self.transactions if 0 < len(self.delivered.intersection(one)) < len(one)]
        return [
            *self.faults,
            *(f"{number} was confirmed and is lost" for number in lost[:20]),
            *(f"of the transaction {one} only a part was done" for one in halves[:20]),
        ]

    def longest_gap_s(self, since_s: float = 0.0) -> float:
        """The longest time without a confirm, of those that ended after a moment."""
        with self._lock:
            times = list(self.confirmed_at_s)
        return max((later - earlier for earlier, later in pairwise(times) if later >= since_s), default=0.0)
