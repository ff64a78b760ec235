"""The queue types of a broker, by the names that ``x-queue-type`` gives them, and all that is asked of types together.

Those that every broker has are named here. Holds nothing of a type's own: that each says by itself (``traits.py``).
"""

from __future__ import annotations

from amqp_broker.behaviour import Behaviour
from amqp_broker.broker.arguments import (
    CONSUMER_CHECKS,
    NO_QUEUE_ARGUMENTS,
    QUEUE_CHECKS,
    QUEUE_TYPE,
    QueueArguments,
    check_values,
    one_of,
    priority_of,
    queue_type_of,
    refuse_foreign,
)
from amqp_broker.broker.queues.base import Queue
from amqp_broker.broker.queues.classic import ClassicQueue
from amqp_broker.broker.queues.quorum import QuorumQueue
from amqp_broker.broker.queues.stream import StreamQueue
from amqp_broker.broker.type_registry import TypeRegistry
from amqp_broker.wire.table import Table


class QueueTypes(TypeRegistry[type[Queue]]):
    """The queue types of one broker; new, it has those that every broker has."""

    def __init__(self) -> None:
        super().__init__("queue", {"classic": ClassicQueue, "quorum": QuorumQueue, "stream": StreamQueue})
        self._compare()

    def register(self, name: str, makes_one: type[Queue]) -> None:
        super().register(name, makes_one)
        self._compare()

    def _compare(self) -> None:
        """Find out which arguments any type knows, so that each can refuse those of the others."""
        all_traits = [self[name].traits() for name in self.names]
        self._arguments = frozenset([name for traits in all_traits for name in traits.arguments])
        self._consumer_arguments = frozenset([name for traits in all_traits for name in traits.consumer_arguments])
        self.apply_to = frozenset([traits.apply_to for traits in all_traits if traits.apply_to])

    def read(self, queue: str, table: Table, behaviour: Behaviour) -> QueueArguments:
        """Check the arguments that a queue is declared with, and read them.

        Args:
            queue: the queue as texts name it: ``queue 'q' in vhost '/'``.
            table: as declared.
            behaviour: which arguments are known, and which limits there are without one.

        Raises:
            AmqpError: 406 that names the argument and what is wrong with it.
        """
        if not table:
            return NO_QUEUE_ARGUMENTS
        check_values(queue, table, {QUEUE_TYPE: one_of(self.names, "unsupported queue type '{}'")}, (QUEUE_TYPE,))
        name = queue_type_of(table)
        queue_type = self[name]
        traits = queue_type.traits()
        known = traits.known_arguments(behaviour)
        check_values(queue, table, QUEUE_CHECKS, known)
        check_values(queue, table, traits.checks, known)
        refuse_foreign(queue, table, self._arguments.difference(known), name)
        return queue_type.read_arguments(table, behaviour)

    def check_consumer(self, queue: Queue, arguments: Table) -> int:
        """Check a consumer's arguments; returns its priority.

        Raises:
            AmqpError: 406 that names the argument and what is wrong with it.
        """
        if not arguments:
            return 0
        named, traits = str(queue), queue.traits()
        check_values(named, arguments, CONSUMER_CHECKS, traits.consumer_arguments)
        check_values(named, arguments, traits.checks, traits.consumer_arguments)
        foreign = self._consumer_arguments.difference(traits.consumer_arguments)
        refuse_foreign(named, arguments, foreign, queue.declared.queue_type)
        return priority_of(arguments)
