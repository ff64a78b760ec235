"""x-random and x-local-random: each message to one of the destinations, whichever (RabbitMQ's
rabbitmq_random_exchange, and release 4.0). Routing keys mean nothing.
"""

from __future__ import annotations

import random
from collections.abc import Iterable

from amqp_broker.broker.exchanges.binding import Binding
from amqp_broker.broker.exchanges.destinations import Destinations
from amqp_broker.broker.exchanges.exchange import Exchange
from amqp_broker.broker.exchanges.matcher import Envelope, Matcher, Verdict
from amqp_broker.broker.queues.base import Queue
from amqp_broker.wire.table import Table


class RandomMatcher(Matcher):
    """One destination at random. There is one broker, so all of them are local."""

    may_be_remembered = False

    def __init__(self, arguments: Table) -> None:
        super().__init__(arguments)
        self._destinations = Destinations()
        self._choices: list[Exchange | Queue] = []

    def add(self, binding: Binding) -> None:
        self._destinations.add(binding.destination)
        self._choices = list(self._destinations)

    def remove(self, binding: Binding) -> None:
        self._destinations.remove(binding.destination)
        self._choices = list(self._destinations)

    def match(self, message: Envelope) -> Iterable[Exchange | Queue]:
        choices = [one for one in self._choices if not one.is_deleted]
        return [random.choice(choices)] if choices else []

    def explain(self, binding: Binding, message: Envelope) -> Verdict:
        return Verdict(None, "one of all bindings is chosen at random")
