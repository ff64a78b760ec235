"""The walk from an exchange to the queues: alternate exchanges, bindings between exchanges, loops.

Each queue gets a message once, by however many ways it is reached (RabbitMQ docs, "Exchange to Exchange Bindings" and
"Alternate Exchanges").
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from amqp_broker.broker.exchanges.exchange import Exchange
from amqp_broker.wire.table import Table

if TYPE_CHECKING:
    from amqp_broker.broker.queues.classic import Queue
    from amqp_broker.broker.virtual_host import VirtualHost


class Route(NamedTuple):
    """Where a message goes.

    ``reads_headers`` tells that the answer holds for these headers only, not for every message with this exchange and
    key.
    """

    queues: tuple[Queue, ...]
    reads_headers: bool


def find_route(
    virtual_host: VirtualHost, exchange: Exchange, routing_keys: tuple[str, ...], headers: Table | None
) -> Route:
    """Find the queues that a message reaches.

    Args:
        virtual_host: where the names are looked up.
        exchange: what it is published to.
        routing_keys: its routing key, and those of CC and BCC.
        headers: its headers, for the headers exchanges on the way.
    """
    if not exchange.name:
        return Route(_named_queues(virtual_host, routing_keys), False)
    queues: dict[Queue, None] = {}
    seen = {exchange}
    to_do = [exchange]
    reads_headers = False
    while to_do:
        current = to_do.pop()
        reads_headers = reads_headers or current.matcher.reads_headers
        matched = False
        for routing_key in routing_keys:
            for destination in current.matcher.match(routing_key, headers):
                matched = True
                if not isinstance(destination, Exchange):
                    queues[destination] = None
                elif destination not in seen:
                    seen.add(destination)
                    to_do.append(destination)
        if not matched and current.alternate is not None:
            alternate = virtual_host.exchanges.get(current.alternate)
            if alternate is not None and alternate not in seen:
                seen.add(alternate)
                to_do.append(alternate)
    return Route(tuple(queues), reads_headers)


def _named_queues(virtual_host: VirtualHost, routing_keys: tuple[str, ...]) -> tuple[Queue, ...]:
    """The default exchange binds every queue with its own name."""
    found = dict.fromkeys(virtual_host.queues.get(key) for key in routing_keys)
    return tuple(queue for queue in found if queue is not None)
