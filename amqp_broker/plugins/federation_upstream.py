"""x-federation-upstream: what a federated exchange elsewhere has before its queue here (rabbitmq_federation has it so).

A fanout exchange, but for messages that must not go there: those that have been there, or have come too far.
"""

from __future__ import annotations

from collections.abc import Iterable

from amqp_broker.broker.exchanges.binding import Binding
from amqp_broker.broker.exchanges.destinations import Destinations
from amqp_broker.broker.exchanges.exchange import Exchange
from amqp_broker.broker.exchanges.matcher import Envelope, Matcher, Verdict
from amqp_broker.broker.queues.base import Queue
from amqp_broker.errors import precondition_failed
from amqp_broker.wire.table import FieldValue, Table, type_name

MAX_HOPS = "x-max-hops"
RECEIVED_FROM = "x-received-from"


class FederationUpstreamMatcher(Matcher):
    """All destinations, for what may go on."""

    may_be_remembered = False

    def __init__(self, arguments: Table) -> None:
        super().__init__(arguments)
        hops = arguments.get(MAX_HOPS)
        if hops is None:
            raise precondition_failed(f"Argument {MAX_HOPS} missing")
        if not isinstance(hops, int) or type_name(hops) != "long":
            raise precondition_failed(f"Argument {MAX_HOPS} must be of type long")
        self._max_hops = hops
        self._downstream = (arguments.get("x-downstream-name"), arguments.get("x-downstream-vhost"))
        self._destinations = Destinations()

    def add(self, binding: Binding) -> None:
        self._destinations.add(binding.destination)

    def remove(self, binding: Binding) -> None:
        self._destinations.remove(binding.destination)

    def match(self, message: Envelope) -> Iterable[Exchange | Queue]:
        return self._destinations if self._why_not(message) is None else []

    def explain(self, binding: Binding, message: Envelope) -> Verdict:
        why_not = self._why_not(message)
        return Verdict(why_not is None, why_not or "it may go on to the other broker")

    def _why_not(self, message: Envelope) -> str | None:
        places = (message.headers or {}).get(RECEIVED_FROM)
        if not isinstance(places, list):
            return None
        if len(places) >= self._max_hops:
            return f"it has come through {len(places)} links, and {self._max_hops} are allowed"
        return "it has been at the other broker" if any(self._is_downstream(place) for place in places) else None

    def _is_downstream(self, place: FieldValue) -> bool:
        return isinstance(place, dict) and (place.get("cluster-name"), place.get("vhost")) == self._downstream
