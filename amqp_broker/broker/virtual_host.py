"""A virtual host: who may declare, bind and delete what in it.

All declarations, deletions and bindings go through here, in the order of RabbitMQ's checks, because the first check
that fails gives the text that the client sees. Whoever asks comes along as an Authorizer: it owns exclusive queues
and says what its user may do. What there is, and what goes with something that goes, is ``topology.py``.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from amqp_broker.broker.applied_policies import AppliedPolicies
from amqp_broker.broker.arguments import (
    DEFAULT_QUEUE_TYPE,
    QUEUE_TYPE,
    check_arguments_equivalent,
    check_equivalent,
)
from amqp_broker.broker.client_sessions import ClientSessions
from amqp_broker.broker.counters import CountsByProtocol
from amqp_broker.broker.dead_letter import DeathReason
from amqp_broker.broker.exchanges.binding import Binding
from amqp_broker.broker.exchanges.exchange import DELAYED_TYPE, DELAYING_ARGUMENT, INNER_TYPE_ARGUMENT, Exchange
from amqp_broker.broker.exchanges.registry import WHERE_RABBITMQ_HAS_IT, MakeMatcher
from amqp_broker.broker.host import Pending
from amqp_broker.broker.message import Message
from amqp_broker.broker.names import (
    PREDECLARED_EXCHANGES,
    RESERVED_PREFIX,
    check_not_default_exchange,
    check_not_reserved,
    generated_name,
    without_line_breaks,
)
from amqp_broker.broker.observer import Kind
from amqp_broker.broker.parameters import Parameters
from amqp_broker.broker.persistence.definitions import forget_virtual_host, keep_binding, keep_exchange, keep_queue
from amqp_broker.broker.ports import Authorizer
from amqp_broker.broker.publishing import Ingress
from amqp_broker.broker.queues.base import Queue
from amqp_broker.broker.retained import Retained
from amqp_broker.broker.topology import Topology
from amqp_broker.broker.type_registry import TypeRegistry
from amqp_broker.broker.virtual_host_properties import Metadata, VirtualHostLimits
from amqp_broker.broker.wills import publish_will
from amqp_broker.errors import AmqpError, LimitReached, ReplyCode, access_refused, precondition_failed
from amqp_broker.wire.table import FieldValue, Table, type_name

if TYPE_CHECKING:
    from amqp_broker.broker.delayed.holder import Holder
    from amqp_broker.broker.queues.registry import QueueTypes
    from amqp_broker.broker.shared import Shared


class VirtualHost(Topology):
    """A name space of exchanges and queues.

    Args:
        shared: of the broker.
        name: its name.
        exchange_types: that there may be.
        queue_types: likewise.
    """

    def __init__(
        self,
        shared: Shared,
        name: str,
        exchange_types: TypeRegistry[MakeMatcher],
        queue_types: QueueTypes,
    ) -> None:
        super().__init__(shared, name)
        self.exchange_types = exchange_types
        self.queue_types = queue_types
        self.counts_of_ended = CountsByProtocol()  # by channels that are gone
        self.pending: Pending | None = None  # what an import has yet to make
        self.are_deliveries_held = False  # consumers get nothing; a test may want that
        self.reference = 0  # of the journal's record
        self.limits = VirtualHostLimits()
        self.limits_reference = 0
        self.metadata = Metadata()
        self.metadata_reference = 0
        self.parameters: Parameters = {}
        self.policies = AppliedPolicies(self)
        self.ingress = Ingress(self)
        self.retained = Retained(name, self.clock, self.durability)
        say = partial(publish_will, self.ingress, self.retained)
        self.client_sessions = ClientSessions(self, self.timers, self.durability, say)
        for exchange_name, exchange_type in PREDECLARED_EXCHANGES.items():
            is_internal = exchange_name == "amq.rabbitmq.trace"
            self.add_exchange(
                exchange_name, exchange_type, durable=True, auto_delete=False, internal=is_internal, table={}
            )

    # --- exchanges

    def declare_exchange(
        self,
        who: Authorizer,
        name: str,
        type_name: str,
        *,
        durable: bool,
        auto_delete: bool,
        internal: bool,
        arguments: Table,
    ) -> Exchange:
        """Create an exchange, or find that it exists with the same properties (``exchange.declare``).

        Raises:
            AmqpError: 403 for the default exchange, a reserved name or a missing permission; 406 for an unknown type
                or properties that differ.
        """
        self._check_exchange_type(type_name)
        name = without_line_breaks(name)
        check_not_default_exchange(name)
        who.check_configure("exchange", name)
        if self.pending is not None:
            self.pending.make_exchange(name)
        exchange = self.exchanges.get(name)
        if exchange is None:
            check_not_reserved("exchange", name)
            self._check_alternate(who, name, arguments)
            self._check_delaying(name, type_name, arguments)
            exchange = self.add_exchange(
                name, type_name, durable=durable, auto_delete=auto_delete, internal=internal, table=arguments
            )
            keep_exchange(self.durability, self.name, exchange)
            self.tell_declared(Kind.EXCHANGE, name, exchange, who.user_name)
        resource = self.described("exchange", name)
        check_equivalent(resource, "type", exchange.type_name, type_name)
        check_equivalent(resource, "durable", exchange.durable, durable)
        check_equivalent(resource, "auto_delete", exchange.auto_delete, auto_delete)
        check_equivalent(resource, "internal", exchange.internal, internal)
        check_arguments_equivalent(resource, ("alternate-exchange", DELAYING_ARGUMENT), exchange.table, arguments)
        return exchange

    def add_exchange(
        self, name: str, type_name: str, *, durable: bool, auto_delete: bool, internal: bool, table: Table
    ) -> Exchange:
        """Add an exchange that was checked, or read from the journal.

        Raises:
            UnknownType: there is no such exchange type.
            AmqpError: 406, an argument makes no sense to the type.
        """
        matcher = self.exchange_types[type_name](table)
        exchange = Exchange(
            name,
            type_name,
            matcher,
            durable=durable,
            auto_delete=auto_delete,
            internal=internal,
            table=table,
        )
        matcher.placed(self, exchange)
        if exchange.declared_delaying:
            self.let_delay(exchange, True)
        self.put_exchange(exchange)
        if self.policies.are_any:
            self.policies.apply_to_exchange(exchange)
        return exchange

    def let_delay(self, exchange: Exchange, is_delaying: bool) -> None:
        if exchange.is_delaying == is_delaying:
            return
        from amqp_broker.broker.delayed.matcher import delay_by  # only who wants that pays for it

        delay_by(exchange, self.holder_of(exchange) if is_delaying else None)
        self.lookup_version += 1

    def holder_of(self, exchange: Exchange) -> Holder:
        """What an exchange holds back; made when it is asked for."""
        from amqp_broker.broker.delayed.holder import Holder

        holder = exchange.holder
        if not isinstance(holder, Holder):
            holder = exchange.holder = Holder(self, exchange, self.ingress)
        return holder

    def _check_exchange_type(self, type_name: str) -> None:
        if type_name not in self.exchange_types:
            where = WHERE_RABBITMQ_HAS_IT.get(type_name)
            why = f": RabbitMQ has it with {where}, amqp-broker does not have it yet" if where else ""
            # RabbitMQ knows the empty name as an atom that is no type.
            text = f"{'unknown' if type_name else 'invalid'} exchange type '{type_name}'{why}"
            if self.behaviour.unknown_exchange_type_ends_connection:
                raise AmqpError(ReplyCode.COMMAND_INVALID, text)
            raise precondition_failed(text)

    def _check_delaying(self, name: str, exchange_type: str, arguments: Table) -> None:
        inner = arguments.get(INNER_TYPE_ARGUMENT)
        if exchange_type == DELAYED_TYPE and isinstance(inner, str):
            self._check_exchange_type(inner)
        value = arguments.get(DELAYING_ARGUMENT)
        if value is not None and not isinstance(value, bool):
            raise precondition_failed(
                f"invalid arg '{DELAYING_ARGUMENT}' for {self.described('exchange', name)}: it is true or false, "
                f"not a value of type {type_name(value)}"
            )

    def _check_alternate(self, who: Authorizer, name: str, arguments: Table) -> None:
        alternate = self._name_argument("exchange", name, arguments, "alternate-exchange")
        if alternate is not None:
            who.check_read("exchange", name)
            who.check_write("exchange", alternate)

    def _name_argument(self, kind: str, name: str, arguments: Table, argument: str) -> str | None:
        """An argument that names an exchange."""
        if argument not in arguments:
            return None
        value: FieldValue = arguments[argument]
        if not isinstance(value, str):
            raise precondition_failed(
                f"invalid type '{type_name(value)}' for arg '{argument}' in {self.described(kind, name)}"
            )
        return value

    def delete_exchange(self, who: Authorizer, name: str, *, if_unused: bool) -> None:
        """Delete an exchange with its bindings; one that does not exist is deleted already (``exchange.delete``).

        Raises:
            AmqpError: 403 for the default or a system exchange or a missing permission; 406 in use.
        """
        name = without_line_breaks(name)
        check_not_default_exchange(name)
        if name.startswith(RESERVED_PREFIX):
            raise access_refused(f"deletion of system {self.described('exchange', name)} not allowed")
        who.check_configure("exchange", name)
        exchange = self.exchanges.get(name)
        if exchange is None:
            return
        if if_unused and exchange.bindings:
            raise precondition_failed(f"{self.described('exchange', name)} in use")
        self.remove_exchange(exchange, who.user_name)

    # --- bindings

    def bind(
        self, who: Authorizer, source: str, kind: str, destination: str, routing_key: str, arguments: Table
    ) -> None:
        """Bind a queue or an exchange to an exchange (``queue.bind``, ``exchange.bind``).

        Args:
            kind: of the destination, ``queue`` or ``exchange``.

        Raises:
            AmqpError: 403, 404, 405 or 406.
        """
        source, destination = self.check_binding(who, source, kind, destination, routing_key)
        source_exchange = self.exchange(source)
        target = self._destination(kind, destination)
        binding = Binding(source_exchange, target, routing_key, arguments)
        source_exchange.matcher.check(binding)
        if isinstance(target, Queue):
            target.check_access(who)
        if binding.identity not in source_exchange.bindings:
            limit = self._shared.settings.bindings_max
            if limit and sum(len(exchange.bindings) for exchange in self.exchanges.values()) >= limit:
                raise precondition_failed(f"cannot bind: binding limit in vhost '{self.name}' ({limit}) is reached")
            added = self.add_binding(source_exchange, target, routing_key, arguments)
            keep_binding(self.durability, self.name, added)
            self.tell_declared(Kind.BINDING, source, added, who.user_name)
            source_exchange.matcher.bound(added)

    def unbind(
        self, who: Authorizer, source: str, kind: str, destination: str, routing_key: str, arguments: Table
    ) -> None:
        """Remove a binding; one that does not exist is removed already (``queue.unbind``, ``exchange.unbind``).

        Raises:
            AmqpError: 403 or 405.
        """
        source, destination = self.check_binding(who, source, kind, destination, routing_key)
        source_exchange = self.exchanges.get(source)
        target = (self.queues if kind == "queue" else self.exchanges).get(destination)
        if source_exchange is None or target is None:
            return
        identity = Binding(source_exchange, target, routing_key, arguments).identity
        binding = source_exchange.bindings.get(identity)
        if binding is None:
            return
        if isinstance(target, Queue):
            target.check_access(who)
        self.remove_binding(binding, who.user_name)

    def check_binding(
        self, who: Authorizer, source: str, kind: str, destination: str, routing_key: str
    ) -> tuple[str, str]:
        """The names of two ends that somebody may bind and unbind, without line breaks.

        Raises:
            AmqpError: 403 or 405.
        """
        source, destination = without_line_breaks(source), without_line_breaks(destination)
        who.check_write(kind, destination)
        if kind == "exchange":
            check_not_default_exchange(destination)
        self.check_source(who, source, routing_key)
        return source, destination

    def check_source(self, who: Authorizer, name: str, routing_key: str) -> None:
        """Raise AmqpError 403 unless the messages of an exchange may be bound to something with this key."""
        check_not_default_exchange(name)
        who.check_read("exchange", name)
        exchange = self.exchanges.get(name)
        if exchange is not None and exchange.has_topic_permissions:
            who.check_topic_read(name, routing_key)

    def _destination(self, kind: str, name: str) -> Exchange | Queue:
        return self.exchange(name) if kind == "exchange" else self.queue(name)

    # --- queues

    def accessible_queue(self, who: Authorizer, name: str) -> Queue:
        """Look a queue up that is not another connection's.

        Raises:
            AmqpError: 404 or 405.
        """
        queue = self.queue(name)
        queue.check_access(who)
        return queue

    def declare_queue(
        self,
        who: Authorizer,
        name: str,
        *,
        durable: bool,
        exclusive: bool,
        auto_delete: bool,
        arguments: Table,
    ) -> Queue:
        """Create a queue, or find that it exists with the same properties (``queue.declare``).

        Args:
            name: empty for a name that the broker makes up.

        Raises:
            AmqpError: 403, 405 or 406.
        """
        name = without_line_breaks(name)
        durable = durable and not exclusive
        if name:
            check_not_reserved("queue", name)
        else:
            self._check_may_be_unnamed(arguments.get(QUEUE_TYPE))
            name = who.made_up(generated_name("amq.gen"))
        who.check_configure("queue", name)
        if self.pending is not None:
            self.pending.make_queue(name)
        self.churn.queues_declared += 1
        queue = self.queues.get(name)
        if self.metadata.default_queue_type is not None and QUEUE_TYPE not in arguments:
            arguments = self._with_default_type(queue, arguments, is_fit=durable and not exclusive and not auto_delete)
        if queue is None:
            return self._create_queue(who, name, durable, exclusive, auto_delete, arguments)
        if queue.owner is not (who if exclusive else None):
            raise queue.locked()
        check_equivalent(str(queue), "durable", queue.durable, durable)
        check_equivalent(str(queue), "auto_delete", queue.auto_delete, auto_delete)
        current, received = queue.table, arguments
        if self.behaviour.queue_type_is_filled_in:
            current, received = ({QUEUE_TYPE: DEFAULT_QUEUE_TYPE, **one} for one in (current, received))
        check_arguments_equivalent(str(queue), queue.traits().arguments, current, received)
        queue.restart_unused_timer()
        return queue

    def _check_may_be_unnamed(self, queue_type: FieldValue) -> None:
        """Refuse to make up a name where the type wants one; of a type that is none, more is said later."""
        if not isinstance(queue_type, str) or queue_type not in self.queue_types:
            return
        if not self.queue_types[queue_type].traits().may_be_unnamed:
            raise precondition_failed(f"Cannot declare a server-named queue for type rabbit_{queue_type}_queue")

    def _with_default_type(self, queue: Queue | None, arguments: Table, *, is_fit: bool) -> Table:
        """The arguments with the type that queues have here when they are declared without one.

        Args:
            queue: the one of that name, if there is one; it keeps the type that it has.
            is_fit: whether the queue can be of any type but classic.
        """
        default = self.metadata.default_queue_type
        if default is None or not is_fit or (queue is not None and queue.declared.queue_type != default):
            return arguments
        return {**arguments, QUEUE_TYPE: default}

    def _create_queue(
        self, who: Authorizer, name: str, durable: bool, exclusive: bool, auto_delete: bool, arguments: Table
    ) -> Queue:
        self._check_queue_count(name)
        limit = self.limits.queues_max
        if limit is not None and len(self.queues) >= limit:
            text = f"queue limit in vhost '{self.name}' ({limit}) is reached"
            raise LimitReached(f"cannot declare queue '{name}': {text}")
        dead_letter_exchange = self._name_argument("queue", name, arguments, "x-dead-letter-exchange")
        if dead_letter_exchange is not None:
            who.check_read("queue", name)
            who.check_write("exchange", dead_letter_exchange)
        resource = self.described("queue", name)
        checked = self.queue_types.read(resource, arguments, self.behaviour)
        traits = self.queue_types[checked.queue_type].traits()
        if traits.always_lasts:
            for is_wrong, what in (
                (auto_delete, "auto-delete"),
                (exclusive, "exclusive-owner"),
                (not durable, "non-durable"),
            ):
                if is_wrong:
                    raise precondition_failed(f"invalid property '{what}' for {resource}")
        for argument, (least, most, text) in traits.ranges.items():
            value = arguments.get(argument)
            if isinstance(value, int) and not least <= value <= most:
                raise precondition_failed(text)
        if not durable and not exclusive and not self.behaviour.has_transient_queues:
            text = "Feature `transient_nonexcl_queues` is deprecated: make the queue durable or exclusive"
            raise AmqpError(ReplyCode.INTERNAL_ERROR, f"{text}, or set behave_like to an earlier version")
        queue = self.add_queue(
            name, durable=durable, auto_delete=auto_delete, owner=who if exclusive else None, table=arguments
        )
        keep_queue(self.durability, queue)
        self.churn.queues_created += 1
        self.tell_declared(Kind.QUEUE, name, queue, who.user_name)
        return queue

    def check_consumer_arguments(self, queue: Queue, arguments: Table) -> int:
        return self.queue_types.check_consumer(queue, arguments)

    def _check_queue_count(self, name: str) -> None:
        limit = self._shared.settings.queues_max
        if limit and self._shared.queue_count() >= limit:
            raise precondition_failed(f"cannot declare queue '{name}': queue limit in cluster ({limit}) is reached")

    def add_queue(self, name: str, *, durable: bool, auto_delete: bool, owner: object | None, table: Table) -> Queue:
        """Add a queue that was checked, or read from the journal.

        Raises:
            UnknownType: there is no such queue type.
        """
        arguments = self.queue_types.read(self.described("queue", name), table, self.behaviour)
        queue = self.queue_types[arguments.queue_type](
            self, name, durable=durable, auto_delete=auto_delete, owner=owner, table=table, arguments=arguments
        )
        self.put_queue(queue)
        if self.policies.are_any:
            self.policies.apply_to_queue(queue)
        return queue

    def delete_queue(self, who: Authorizer, name: str, *, if_unused: bool, if_empty: bool) -> int:
        """Delete a queue; returns how many ready messages went with it (``queue.delete``).

        Raises:
            AmqpError: 403, 405, 406 in use or not empty, 540 for a condition that the queue's type does not know.
            QueueBusy: that cannot be done yet.
        """
        who.check_configure("queue", name)
        queue = self.queues.get(name)
        if queue is None:
            return 0
        queue.check_access(who)
        queue.check_deletion(if_unused=if_unused, if_empty=if_empty)
        queue.check_dead_letters_left()
        count = queue.ready_count
        self.remove_queue(queue, who.user_name)
        return count

    # --- dead letters

    def publish_dead_letter(self, queue: Queue, message: Message, reason: DeathReason) -> None:
        self.ingress.publish_dead_letter(queue, message, reason)

    # --- all of it

    def clear(self, by: str = "") -> None:
        """The virtual host is deleted, and all that is in it.

        A record that was left would make a start bring the virtual host back.
        """
        if self.pending is not None:
            self.pending.forget()
        self.client_sessions.clear()
        self.retained.clear()
        super().clear(by)
        forget_virtual_host(self.durability, self)
