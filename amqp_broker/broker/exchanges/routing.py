"""The walk from an exchange to the queues: alternate exchanges, bindings between exchanges, loops.

Each queue gets a message once, by however many ways it is reached (RabbitMQ docs, "Exchange to Exchange Bindings" and
"Alternate Exchanges").
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from amqp_broker.broker.exchanges.exchange import Exchange
from amqp_broker.broker.exchanges.matcher import Envelope
from amqp_broker.broker.message import DELIVERY_MODE_PERSISTENT

if TYPE_CHECKING:
    from amqp_broker.broker.queues.base import Queue
    from amqp_broker.broker.topology import Topology


class Route(NamedTuple):
    """The queues that a message goes to, and whether all messages with the same exchange and keys go there."""

    queues: tuple[Queue, ...]
    may_be_remembered: bool
    is_known: bool = True  # else there is no route without a message, or before it is published for good


OF_EACH_MESSAGE = Route((), False, False)


def find_route(virtual_host: Topology, exchange: Exchange, message: Envelope) -> Route:
    """Find the queues that a message reaches.

    Args:
        virtual_host: where the names are looked up.
        exchange: what it is published to.
        message: without a content header it stands for all messages with its routing keys. If an exchange on the way
            decides by more than these, it is not asked, and no queue is found; nor is one of a transaction where an
            exchange on the way counts messages.
    """
    if not exchange.name:
        return Route(_named_queues(virtual_host, message.routing_keys), True)
    queues: dict[Queue, None] = {}
    seen = {exchange}
    to_do = [exchange]
    may_be_remembered = True
    while to_do:
        current = to_do.pop()
        if not current.may_be_remembered:
            if not message.header or (message.is_put_off and current.counts_messages):
                return OF_EACH_MESSAGE
            may_be_remembered = False
        matched = False
        for destination in current.matcher.match(message):
            if destination.is_deleted:
                continue  # its bindings are being taken out of the matcher
            matched = True
            if not isinstance(destination, Exchange):
                queues[destination] = None
            elif destination not in seen:
                seen.add(destination)
                to_do.append(destination)
        if matched:
            continue
        if current.counts_messages and message.properties.delivery_mode == DELIVERY_MODE_PERSISTENT:
            virtual_host.durability.dropped_duplicate()
        if current.alternate is not None:
            alternate = virtual_host.exchanges.get(current.alternate)
            if alternate is not None and alternate not in seen:
                seen.add(alternate)
                to_do.append(alternate)
    return Route(tuple(queues), may_be_remembered)


def _named_queues(virtual_host: Topology, routing_keys: tuple[str, ...]) -> tuple[Queue, ...]:
    """The default exchange binds every queue with its own name."""
    found = dict.fromkeys(virtual_host.queues.get(key) for key in routing_keys)
    return tuple(queue for queue in found if queue is not None)
