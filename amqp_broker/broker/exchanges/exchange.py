"""An exchange: its properties and its bindings.

Holds no way of matching (``matcher.py``) and no walk from exchange to exchange (``routing.py``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from amqp_broker.broker.exchanges.binding import Binding, BindingIdentity
from amqp_broker.broker.exchanges.bindings import Bindings
from amqp_broker.broker.exchanges.matcher import Matcher
from amqp_broker.broker.exchanges.readings import WORDS, Reading
from amqp_broker.wire.table import Table

if TYPE_CHECKING:
    from amqp_broker.broker.policies import InForce
    from amqp_broker.broker.queues.base import Queue

# What holds messages back that ask for it: an exchange of this type, with the type that it routes by in this argument,
DELAYED_TYPE: Final = "x-delayed-message"
INNER_TYPE_ARGUMENT: Final = "x-delayed-type"
# or one of any type with this argument, which is true.
DELAYING_ARGUMENT: Final = "x-delayed-exchange"


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
        # Asked of it as Python would: compiled, what a class of somebody's own says in its body is not seen otherwise.
        says: Any = matcher
        self.may_be_remembered: bool = says.may_be_remembered
        self.counts_messages: bool = says.counts_messages
        self.has_topic_permissions: bool = says.has_topic_permissions
        self.durable = durable
        self.auto_delete = auto_delete
        self.internal = internal
        self.table: Table = table or {}
        alternate = self.table.get("alternate-exchange")
        self.declared_alternate = alternate if isinstance(alternate, str) else None
        self.alternate = self.declared_alternate  # the one in force
        self.declared_delaying = type_name == DELAYED_TYPE or self.table.get(DELAYING_ARGUMENT) is True
        self.is_delaying = False  # whether it holds back what asks for it (``broker/delayed/``)
        self.holder: Queue | None = None  # what it holds back; there once there was something that might be
        self.in_force: InForce | None = None  # the policies
        self.bindings = Bindings()
        self.is_deleted = False
        self.reference = 0  # of the journal's record
        self.published_in = 0  # by clients
        self.published_out = 0  # the same, once for each queue that they were routed to

    @property
    def reading(self) -> Reading:
        """How what was published is read before it is compared with the pattern of a binding that leads here."""
        return WORDS

    def apply(self, alternate: str | None) -> bool:
        """Let another alternate exchange be in force from now on, as a policy gives it; ``table`` stays as declared.

        To withdraw it, apply ``declared_alternate``. The virtual host's routes change with it
        (``VirtualHost.apply_to_exchange``).

        Returns:
            Whether it is another one.
        """
        before, self.alternate = self.alternate, alternate
        return before != alternate

    def bind(self, binding: Binding) -> bool:
        """Add a binding; returns False when it was there already."""
        if binding.identity in self.bindings:
            return False
        self.matcher.add(binding)  # first, because what a package brings may fail
        self.bindings.add(binding)
        return True

    def unbind(self, identity: BindingIdentity) -> Binding | None:
        """Remove a binding; returns None when there was none."""
        binding = self.bindings.pop(identity)
        if binding is not None:
            self.matcher.remove(binding)
        return binding
