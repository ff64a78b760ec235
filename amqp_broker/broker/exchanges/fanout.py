"""The fanout exchange: every binding matches."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from amqp_broker.broker.exchanges.binding import Binding
from amqp_broker.broker.exchanges.destinations import Destinations
from amqp_broker.broker.exchanges.matcher import Envelope, Matcher, Verdict
from amqp_broker.wire.table import Table

if TYPE_CHECKING:
    from amqp_broker.broker.exchanges.exchange import Exchange
    from amqp_broker.broker.queues.base import Queue


class FanoutMatcher(Matcher):
    """All destinations (AMQP 0-9-1, 3.1.3.2)."""

    def __init__(self, arguments: Table) -> None:
        super().__init__(arguments)
        self._destinations = Destinations()

    def add(self, binding: Binding) -> None:
        """One more destination."""
        self._destinations.add(binding.destination)

    def remove(self, binding: Binding) -> None:
        """One destination less."""
        self._destinations.remove(binding.destination)

    def match(self, message: Envelope) -> Iterable[Exchange | Queue]:
        """All that was bound."""
        return self._destinations

    def explain(self, binding: Binding, message: Envelope) -> Verdict:
        """Always."""
        return Verdict(True, "a fanout exchange sends every message to all")
