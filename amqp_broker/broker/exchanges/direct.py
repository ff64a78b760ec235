"""The direct exchange: the routing key equals the binding's."""

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


class DirectMatcher(Matcher):
    """Destinations by routing key (AMQP 0-9-1, 3.1.3.1)."""

    def __init__(self, arguments: Table) -> None:
        super().__init__(arguments)
        self._by_key: dict[str, Destinations] = {}

    def add(self, binding: Binding) -> None:
        """File it under its key."""
        self._by_key.setdefault(binding.routing_key, Destinations()).add(binding.destination)

    def remove(self, binding: Binding) -> None:
        """Take it out from under its key."""
        destinations = self._by_key[binding.routing_key]
        destinations.remove(binding.destination)
        if not destinations:
            del self._by_key[binding.routing_key]

    def match(self, message: Envelope) -> Iterable[Exchange | Queue]:
        """All that was bound with one of the keys."""
        for routing_key in message.routing_keys:
            yield from self._by_key.get(routing_key, ())

    def explain(self, binding: Binding, message: Envelope) -> Verdict:
        """Equal, or not."""
        if binding.routing_key in message.routing_keys:
            return Verdict(True, "the routing key is the binding's")
        return Verdict(False, f"the routing key is not '{binding.routing_key}'")
