"""x-recent-history: a fanout that keeps its last messages for who is bound later (RabbitMQ's
rabbitmq_recent_history_exchange). They are kept in memory, and gone after a restart.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from amqp_broker.broker.erlang_text import erlang_term
from amqp_broker.broker.exchanges.binding import Binding
from amqp_broker.broker.exchanges.destinations import Destinations
from amqp_broker.broker.exchanges.exchange import Exchange
from amqp_broker.broker.exchanges.matcher import Envelope, Matcher, Verdict
from amqp_broker.broker.exchanges.routing import find_route
from amqp_broker.broker.host import Host
from amqp_broker.broker.message import Address, carried_key, digest_of, without_blind_copies
from amqp_broker.broker.queues.base import Queue
from amqp_broker.broker.virtual_host import VirtualHost
from amqp_broker.errors import AmqpError, precondition_failed
from amqp_broker.wire.hot import encode_address
from amqp_broker.wire.table import Table, type_name

LENGTH = 20
INTEGERS = frozenset({"byte", "short", "signedint", "long", "unsignedbyte", "unsignedshort", "unsignedint"})


class RecentHistoryMatcher(Matcher):
    """All destinations; one that is bound later gets what was published before, the oldest first."""

    may_be_remembered = False
    counts_messages = True

    def __init__(self, arguments: Table) -> None:
        super().__init__(arguments)
        self._destinations = Destinations()
        self._history: deque[Envelope] = deque(maxlen=_length(arguments))
        self._virtual_host: VirtualHost | None = None
        self._name = ""

    def placed(self, virtual_host: Host, exchange: Exchange) -> None:
        assert isinstance(virtual_host, VirtualHost), "messages are sent on through it"
        self._virtual_host = virtual_host
        self._name = exchange.name

    def add(self, binding: Binding) -> None:
        self._destinations.add(binding.destination)

    def remove(self, binding: Binding) -> None:
        self._destinations.remove(binding.destination)

    def match(self, message: Envelope) -> Iterable[Exchange | Queue]:
        if (message.headers or {}).get("x-recent-history-no-store") is not True:
            self._history.append(message)
        return self._destinations

    def explain(self, binding: Binding, message: Envelope) -> Verdict:
        return Verdict(True, "every message goes to all")

    def bound(self, binding: Binding) -> None:
        for message in self._history:
            self._send(binding.destination, message)

    def _send(self, destination: Exchange | Queue, message: Envelope) -> None:
        virtual_host = self._virtual_host
        assert virtual_host is not None, "it is in a virtual host before anything is bound to it"
        if isinstance(destination, Queue):
            queues: tuple[Queue, ...] = (destination,)
        else:
            try:
                queues = find_route(virtual_host, destination, message).queues
            except AmqpError:
                return  # another plugin failed, and has said so
        routing_key = carried_key(message.routing_keys[0])
        address = Address(self._name, routing_key, encode_address(self._name, routing_key), message.routing_keys[1:])
        header, digest = message.header, digest_of(message.header)
        if digest.has_blind_copies:
            header = without_blind_copies(header)
        virtual_host.ingress.put(queues, address, header, message.body, digest)


def _length(arguments: Table) -> int:
    value = arguments.get("x-recent-history-length", LENGTH)
    if type_name(value) not in INTEGERS or not isinstance(value, int) or value < 1:
        shown = erlang_term(value)
        raise precondition_failed(f"Invalid argument {shown}, 'x-recent-history-length' must be a positive integer")
    return int(value)
