"""x-modulus-hash: the routing key's hash, modulo the number of destinations, says which one gets the message
(RabbitMQ's rabbitmq_sharding). Keys of bindings mean nothing. Holds no shards: clients declare and bind the queues.
"""

from __future__ import annotations

from collections.abc import Iterable

from amqp_broker.broker.exchanges.binding import Binding
from amqp_broker.broker.exchanges.destinations import Destinations
from amqp_broker.broker.exchanges.exchange import Exchange
from amqp_broker.broker.exchanges.matcher import Envelope, Matcher, Verdict
from amqp_broker.broker.queues.base import Queue
from amqp_broker.plugins.hashes import stable_hash
from amqp_broker.wire.table import Table


class ModulusHashMatcher(Matcher):
    """One destination by the routing key."""

    def __init__(self, arguments: Table) -> None:
        super().__init__(arguments)
        self._destinations = Destinations()
        self._in_order: list[Exchange | Queue] = []

    def add(self, binding: Binding) -> None:
        self._destinations.add(binding.destination)
        self._sort()

    def remove(self, binding: Binding) -> None:
        self._destinations.remove(binding.destination)
        self._sort()

    def _sort(self) -> None:
        """By name, so that the order in which they were bound does not matter."""
        self._in_order = sorted(self._destinations, key=lambda one: (one.name, isinstance(one, Queue)))

    def match(self, message: Envelope) -> Iterable[Exchange | Queue]:
        choices = [one for one in self._in_order if not one.is_deleted]
        return [choices[stable_hash(message.routing_keys[0]) % len(choices)]] if choices else []

    def explain(self, binding: Binding, message: Envelope) -> Verdict:
        if binding.destination in self.match(message):
            return Verdict(True, "the routing key's hash falls to it")
        return Verdict(False, "the routing key's hash falls to another one")
