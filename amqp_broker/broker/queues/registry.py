"""The queue types that every broker has, by the names that ``x-queue-type`` gives them."""

from __future__ import annotations

from amqp_broker.broker.queues.base import Queue
from amqp_broker.broker.queues.classic import ClassicQueue
from amqp_broker.broker.queues.quorum import QuorumQueue
from amqp_broker.broker.queues.stream import StreamQueue
from amqp_broker.broker.type_registry import TypeRegistry


def queue_types() -> TypeRegistry[type[Queue]]:
    """The types of a new broker."""
    return TypeRegistry("queue", {"classic": ClassicQueue, "quorum": QuorumQueue, "stream": StreamQueue})
