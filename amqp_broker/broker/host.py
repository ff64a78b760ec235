"""A virtual host as its queues see it: its name, and what its broker's parts share.

Queues hold on to this. Holds no exchanges and queues (``topology.py``) and no rules (``virtual_host.py``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from amqp_broker.broker.dead_letter import DeathReason
    from amqp_broker.broker.message import Address, Message
    from amqp_broker.broker.queues.base import Queue
    from amqp_broker.broker.shared import Shared
    from amqp_broker.wire.table import Table


class Pending(Protocol):
    """Exchanges and queues that an import has put into the journal, and has yet to make (``definitions/making.py``)."""

    def make_exchange(self, name: str) -> None:
        """Make the exchange of a name now, if it is one of them: somebody declares it."""

    def make_queue(self, name: str) -> None:
        """Make the queue of a name now, if it is one of them: somebody declares it."""

    def forget(self) -> None:
        """The virtual host is deleted: forget all of them."""


class Host:
    """The virtual host of queues, as they see it.

    Args:
        shared: of the broker.
        name: of the virtual host.
    """

    def __init__(self, shared: Shared, name: str) -> None:
        self.name = name
        self.behaviour = shared.behaviour
        self.clock = shared.clock
        self.timers = shared.timers
        self.works = shared.works
        self.observers = shared.observers
        self.components = shared.components
        self.interceptors = shared.interceptors
        self.durability = shared.durability
        self.paging = shared.paging
        self.changed_queues = shared.changed_queues
        self.dead_letters = shared.dead_letters
        self.awaiting_commit = shared.awaiting_commit
        self.drops = shared.drops
        self.entry_forms = shared.driver.entry_forms
        self.plugin_is_used = shared.driver.plugin_is_used
        self.lookup_version = 0

    def intercepted(self, address: Address, user_name: str, header: bytes, body: bytes) -> bytes:
        """The content header of a client's publish as interceptors leave it, where any are present.

        Raises:
            AmqpError: one refuses the message, or has failed, which is logged.
        """
        exchange, routing_key = address.exchange, address.routing_key
        return self.interceptors.changed(self.name, exchange, routing_key, user_name, header, body)

    def check_consumer_arguments(self, queue: Queue, arguments: Table) -> int:
        """Check a consumer's arguments; returns its priority.

        Raises:
            AmqpError: 406 that names the argument and what is wrong with it.
        """
        raise NotImplementedError

    def remove_queue(self, queue: Queue, by: str = "") -> None:
        """A queue goes: its bindings first, then what it holds. Another one of its name stays.

        Args:
            by: the user who wants it; empty for the broker.
        """
        raise NotImplementedError

    def publish_dead_letter(self, queue: Queue, message: Message, reason: DeathReason) -> None:
        """Send a message that died in a queue to the queue's dead-letter exchange, where there is one."""
        raise NotImplementedError
