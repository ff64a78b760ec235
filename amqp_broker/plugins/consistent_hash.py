"""x-consistent-hash: each message to one destination by a hash, each destination as often as its weight says
(RabbitMQ's rabbitmq_consistent_hash_exchange).

The key of a binding is its weight. Every destination stands on a ring in as many places, times ``PLACES``, and a
message goes to the first one behind its hash: when a destination comes or goes, few messages change theirs. What is
hashed is the routing key, or the header or the property that the exchange's arguments name.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

from amqp_broker.broker.erlang_text import erlang_term
from amqp_broker.broker.exchanges.binding import Binding
from amqp_broker.broker.exchanges.exchange import Exchange
from amqp_broker.broker.exchanges.matcher import Envelope, Matcher, Verdict
from amqp_broker.broker.queues.base import Queue
from amqp_broker.errors import precondition_failed
from amqp_broker.plugins.hashes import stable_hash
from amqp_broker.wire.table import FieldValue, Table

PLACES = 200  # on the ring, for each unit of weight: the share of a destination is within some 10 % of its weight
PLACES_MAX = 20_000  # of one destination: a client chooses the weight, and nobody should wait long for a binding
PROPERTIES = ("correlation_id", "message_id", "timestamp")


class ConsistentHashMatcher(Matcher):
    """One destination by the place of a hash on a ring."""

    def __init__(self, arguments: Table) -> None:
        super().__init__(arguments)
        self._header = _text(arguments, "hash-header")
        self._property = _text(arguments, "hash-property")
        if self._header is not None and self._property is not None:
            raise precondition_failed("hash-header and hash-property are mutually exclusive")
        if self._property is not None and self._property not in PROPERTIES:
            raise precondition_failed(f"Unsupported property: {self._property}")
        self.may_be_remembered = self._header is None and self._property is None
        self._bindings: dict[Exchange | Queue, list[Binding]] = {}
        self._ring: list[tuple[int, Exchange | Queue]] = []
        self._hashes: list[int] = []  # of the ring, once it is in order
        self._is_in_order = True

    def check(self, binding: Binding) -> None:
        if weight_of(binding.routing_key) is None:
            shown = erlang_term(binding.routing_key)
            raise precondition_failed(f"The binding key must be an integer: {shown}")
        if (weight_of(binding.routing_key) or 0) < 1:
            raise precondition_failed("The binding key must be greater than 0")

    def add(self, binding: Binding) -> None:
        """A destination that is there already keeps the weight of its first binding."""
        bindings = self._bindings.setdefault(binding.destination, [])
        bindings.append(binding)
        if len(bindings) == 1:
            self._place(binding)

    def remove(self, binding: Binding) -> None:
        bindings = [one for one in self._bindings[binding.destination] if one.identity != binding.identity]
        self._ring = [(place, one) for place, one in self._ring if one is not binding.destination]
        if bindings:
            self._bindings[binding.destination] = bindings
            self._place(bindings[0])
        else:
            del self._bindings[binding.destination]
        self._is_in_order = False

    def _place(self, binding: Binding) -> None:
        weight = weight_of(binding.routing_key) or 1
        destination = binding.destination
        kind = "q" if isinstance(destination, Queue) else "e"
        for number in range(min(weight * PLACES, PLACES_MAX)):
            self._ring.append((stable_hash(f"{kind}{number}:{destination.name}"), destination))
        self._is_in_order = False

    def _put_in_order(self) -> None:
        """Once for all destinations that have come meanwhile: at a start there may be very many."""
        self._ring.sort(key=lambda entry: entry[0])
        self._hashes = [place for place, _ in self._ring]
        self._is_in_order = True

    def match(self, message: Envelope) -> Iterable[Exchange | Queue]:
        if not self._is_in_order:
            self._put_in_order()
        count = len(self._ring)
        start = bisect_left(self._hashes, stable_hash(self._hashed(message)))
        for offset in range(count):
            destination = self._ring[(start + offset) % count][1]
            if not destination.is_deleted:  # else its bindings are being taken out
                return [destination]
        return []

    def explain(self, binding: Binding, message: Envelope) -> Verdict:
        if binding.destination in self.match(message):
            return Verdict(True, f"what is hashed, '{self._hashed(message)}', falls to it")
        return Verdict(False, f"what is hashed, '{self._hashed(message)}', falls to another one")

    def _hashed(self, message: Envelope) -> str:
        """What is hashed of a message; messages without it all go the same way."""
        if self._header is not None:
            value: FieldValue = (message.headers or {}).get(self._header)
        elif self._property == "correlation_id":
            value = message.properties.correlation_id
        elif self._property == "message_id":
            value = message.properties.message_id
        elif self._property == "timestamp":
            value = message.properties.timestamp
        else:
            value = message.routing_keys[0]
        return value if isinstance(value, str) else erlang_term(value)


def weight_of(routing_key: str) -> int | None:
    """The weight that the key of a binding gives; None where it is no integer."""
    digits = routing_key[1:] if routing_key[:1] in ("+", "-") else routing_key
    return int(routing_key) if digits.isascii() and digits.isdigit() and len(digits) < 20 else None


def _text(arguments: Table, name: str) -> str | None:
    value = arguments.get(name)
    return value if isinstance(value, str) else None
