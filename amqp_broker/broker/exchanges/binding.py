"""A binding: from an exchange to a queue or to another exchange."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from amqp_broker.wire.table import Table, encode_table

if TYPE_CHECKING:
    from amqp_broker.broker.exchanges.exchange import Exchange
    from amqp_broker.broker.queues.base import Queue

BindingIdentity: TypeAlias = "tuple[Exchange | Queue, str, bytes]"


class Binding:
    """One binding. Two with the same source, destination, routing key and arguments are one and the same.

    Args:
        source: the exchange whose messages it lets through.
        destination: the queue or exchange they go to.
        routing_key: what it matches; each exchange type reads it its own way.
        arguments: the headers exchange matches these.
    """

    __slots__ = ("arguments", "destination", "identity", "reference", "routing_key", "source")

    def __init__(self, source: Exchange, destination: Exchange | Queue, routing_key: str, arguments: Table) -> None:
        self.source = source
        self.destination = destination
        self.routing_key = routing_key
        self.arguments = arguments
        self.reference = 0  # of the journal's record
        self.identity: BindingIdentity = (destination, routing_key, encode_table(dict(sorted(arguments.items()))))

    @property
    def is_to_queue(self) -> bool:
        """Whether the destination is a queue, not an exchange."""
        return not hasattr(self.destination, "bindings")

    @property
    def is_durable(self) -> bool:
        """Whether it outlives the broker: both its ends do."""
        return self.source.durable and self.destination.durable
