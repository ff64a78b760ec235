"""An exchange: its properties, its bindings, and the small interface that an exchange type implements.

Holds no way of matching (``exchanges/``) and no walk from exchange to exchange (``routing.py``).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

from amqp_broker.broker.exchanges.binding import Binding, BindingIdentity
from amqp_broker.wire.table import Table

if TYPE_CHECKING:
    from amqp_broker.broker.queues.classic import Queue


class Matcher(Protocol):
    """One exchange's way of choosing destinations; one class an exchange type."""

    reads_headers: bool

    def check(self, binding: Binding) -> None:
        """Called before a binding is added; raises AmqpError 406 for one that makes no sense."""

    def add(self, binding: Binding) -> None:
        """Called when a new binding has been added."""

    def remove(self, binding: Binding) -> None:
        """Called when a binding that was added is gone."""

    def match(self, routing_key: str, headers: Table | None) -> Iterable[Exchange | Queue]:
        """The destinations of a message; one may come more than once."""
        ...


class Exchange:
    """A named exchange.

    Args:
        name: its name; empty for the default exchange.
        type_name: direct, fanout, topic, headers, or what a plugin adds.
        matcher: the type's way of matching.
        durable: whether it outlives the broker.
        auto_delete: whether it goes when the last binding from it goes.
        internal: clients may not publish to it, only bindings lead there.
        table: the arguments as they were declared.
    """

    def __init__(
        self,
        name: str,
        type_name: str,
        matcher: Matcher,
        *,
        durable: bool,
        auto_delete: bool = False,
        internal: bool = False,
        table: Table | None = None,
    ) -> None:
        self.name = name
        self.type_name = type_name
        self.matcher = matcher
        self.durable = durable
        self.auto_delete = auto_delete
        self.internal = internal
        self.table: Table = table or {}
        alternate = self.table.get("alternate-exchange")
        self.alternate = alternate if isinstance(alternate, str) else None
        self.bindings: dict[BindingIdentity, Binding] = {}
        self.reference = 0  # of the journal's record

    def bind(self, binding: Binding) -> bool:
        """Add a binding; returns False when it was there already."""
        if binding.identity in self.bindings:
            return False
        self.bindings[binding.identity] = binding
        self.matcher.add(binding)
        return True

    def unbind(self, identity: BindingIdentity) -> Binding | None:
        """Remove a binding; returns None when there was none."""
        binding = self.bindings.pop(identity, None)
        if binding is not None:
            self.matcher.remove(binding)
        return binding
