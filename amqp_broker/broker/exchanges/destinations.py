"""A bag of destinations: one may be bound several times in the same place, with different arguments."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from amqp_broker.broker.exchanges.exchange import Exchange
    from amqp_broker.broker.queues.base import Queue


class Destinations:
    """Destinations with the number of bindings that lead to each."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: dict[Exchange | Queue, int] = {}

    def add(self, destination: Exchange | Queue) -> None:
        """One more binding leads there."""
        self._counts[destination] = self._counts.get(destination, 0) + 1

    def remove(self, destination: Exchange | Queue) -> None:
        """One binding less leads there."""
        count = self._counts[destination] - 1
        if count:
            self._counts[destination] = count
        else:
            del self._counts[destination]

    def __iter__(self) -> Iterator[Exchange | Queue]:
        return iter(self._counts)

    def __len__(self) -> int:
        return len(self._counts)
