"""The inspection of a broker: one picture, told once, for the command line, an HTTP API and tests.

Each thing is told as a dictionary of ``descriptions.py``. Whatever there can be very many of comes as an iterator that
describes one thing at a time: who reads it takes ``SLICE_OBJECTS`` and lets others have their turn. Between two slices
things come and go; what has gone is left out, what is new may be missing.

Holds no protocol (a connection of any protocol describes itself, ``connections.OpenConnection``), no way of asking and
no layout.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Final, TypeVar

from amqp_broker.broker.counters import ChannelCounts, CountsByProtocol, DiskCounts, total
from amqp_broker.broker.descriptions import (
    BindingInfo,
    ChannelInfo,
    ConnectionInfo,
    ConsumerInfo,
    Counts,
    ExchangeInfo,
    ParameterInfo,
    PermissionInfo,
    PolicyInfo,
    QueueInfo,
    TopicPermissionInfo,
    UserInfo,
    VirtualHostInfo,
)
from amqp_broker.broker.json_values import json_ready_table
from amqp_broker.broker.limit_values import LIMITS_COMPONENT, limits_value
from amqp_broker.broker.policies import POLICY

if TYPE_CHECKING:
    from amqp_broker.broker.broker import Broker
    from amqp_broker.broker.connections import OpenConnection
    from amqp_broker.broker.exchanges.exchange import Exchange
    from amqp_broker.broker.parameters import Parameter
    from amqp_broker.broker.policies import InForce, Policy
    from amqp_broker.broker.queues.base import Queue
    from amqp_broker.broker.queues.consumers import Consumer
    from amqp_broker.broker.virtual_host import VirtualHost

SLICE_OBJECTS: Final = 100  # describing one takes some microseconds

Found = TypeVar("Found")


class Inspection:
    """The inspection of one broker: everything that can be seen of it.

    Args:
        broker: which.
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    # --- of which there can be very many

    def queues(self, virtual_host: str | None = None) -> Iterator[QueueInfo]:
        """The queues of one virtual host, or of all.

        Raises:
            NotThere: there is no virtual host of that name.
        """
        return self._in_each(virtual_host, _queues)

    def exchanges(self, virtual_host: str | None = None) -> Iterator[ExchangeInfo]:
        """The exchanges of one virtual host, or of all; the predeclared ones as well.

        Raises:
            NotThere: there is no virtual host of that name.
        """
        return self._in_each(virtual_host, _exchanges)

    def bindings(self, virtual_host: str | None = None) -> Iterator[BindingInfo]:
        """The bindings in one virtual host, or in all, but for those of the default exchange (``default_binding``).

        Raises:
            NotThere: there is no virtual host of that name.
        """
        return self._in_each(virtual_host, _bindings)

    def consumers(self, virtual_host: str | None = None) -> Iterator[ConsumerInfo]:
        """The consumers of the queues of one virtual host, or of all.

        Raises:
            NotThere: there is no virtual host of that name.
        """
        return self._in_each(virtual_host, _consumers)

    def connections(self, virtual_host: str | None = None) -> Iterator[ConnectionInfo]:
        """The connections that are open in one virtual host, or in all.

        Raises:
            NotThere: there is no virtual host of that name.
        """
        return _inspected(self._connections(virtual_host))

    def channels(self, virtual_host: str | None = None) -> Iterator[ChannelInfo]:
        """The channels of the connections that are open in one virtual host, or in all.

        Raises:
            NotThere: there is no virtual host of that name.
        """
        return _channels_of(self._connections(virtual_host))

    def policies(self, virtual_host: str | None = None, component: str = POLICY) -> Iterator[PolicyInfo]:
        """The policies of one virtual host, or of all; those that count first in front.

        Args:
            component: ``policy`` or ``operator_policy``.

        Raises:
            NotThere: there is no virtual host of that name.
        """
        for host in self._virtual_hosts(virtual_host):
            for policy in host.policies.all(component):
                yield policy_info(policy, host.name)

    def parameters(self, virtual_host: str | None = None, component: str | None = None) -> Iterator[ParameterInfo]:
        """The parameters of one virtual host, or of all; limits and operator policies are such.

        Args:
            component: of this one only; policies are shown only to who asks for them.

        Raises:
            NotThere: there is no virtual host of that name.
        """
        for host in self._virtual_hosts(virtual_host):
            for one in list(host.parameters.values()):
                if one.component == component or (component is None and one.component != POLICY):
                    yield _parameter_info(one)
            limits = limits_value(host.limits)
            if limits and component in (None, LIMITS_COMPONENT):
                yield {"value": limits, "vhost": host.name, "component": LIMITS_COMPONENT, "name": "limits"}

    def global_parameters(self) -> Iterator[ParameterInfo]:
        """The parameters of the whole broker."""
        for one in list(self._broker.global_parameters.values()):
            yield {"name": one.name, "value": one.value}

    def virtual_hosts(self) -> Iterator[VirtualHostInfo]:
        """The virtual hosts, by name."""
        for host in self._virtual_hosts(None):
            yield VirtualHostInfo(
                name=host.name,
                queues=len(host.queues),
                exchanges=len(host.exchanges),
                connections=len(self._broker.open_connections.in_virtual_host(host.name)),
                connections_max=host.limits.connections_max,
                queues_max=host.limits.queues_max,
                description=host.metadata.description,
                tags=list(host.metadata.tags),
                default_queue_type=host.metadata.default_queue_type,
                tracing=self._broker.firehose.is_on(host.name),
            )

    def users(self) -> Iterator[UserInfo]:
        """The users, by name."""
        for user in sorted(self._broker.users, key=lambda user: user.name):
            yield UserInfo(
                name=user.name,
                tags=list(user.tags),
                connections=len(self._broker.open_connections.of_user(user.name)),
                connections_max=user.limits.connections_max,
                channels_max=user.limits.channels_max,
            )

    def permissions(self) -> Iterator[PermissionInfo]:
        """What users may do, by user and virtual host."""
        for user in sorted(self._broker.users, key=lambda user: user.name):
            for virtual_host, permission in sorted(user.permissions.items()):
                topics = sorted(user.topic_permissions.get(virtual_host, {}).items())
                yield PermissionInfo(
                    user=user.name,
                    vhost=virtual_host,
                    configure=permission.configure.source,
                    write=permission.write.source,
                    read=permission.read.source,
                    topics=[
                        TopicPermissionInfo(exchange=exchange, write=topic.write, read=topic.read)
                        for exchange, topic in topics
                    ],
                )

    # --- counts

    def count(self, virtual_host: str | None = None) -> Iterator[Counts]:
        """Count everything in one virtual host, or in all; each step goes on counting, the last one has it all.

        Raises:
            NotThere: there is no virtual host of that name.
        """
        counts = Counts(
            virtual_hosts=0,
            users=len(self._broker.users),
            connections=0,
            channels=0,
            queues=0,
            exchanges=0,
            consumers=0,
            messages=0,
            messages_ready=0,
            messages_unacknowledged=0,
        )
        yield counts
        for host in self._virtual_hosts(virtual_host):
            counts["virtual_hosts"] += 1
            counts["exchanges"] += len(host.exchanges)
            for queue in list(host.queues.values()):
                if not queue.is_deleted:
                    counts["queues"] += 1
                    counts["consumers"] += len(queue.consumers)
                    counts["messages_ready"] += queue.ready_count
                    counts["messages_unacknowledged"] += queue.unacknowledged_count
                yield counts
            for connection in self._connections_to(host):
                counts["connections"] += 1
                counts["channels"] += connection.channel_count
                yield counts
        counts["messages"] = counts["messages_ready"] + counts["messages_unacknowledged"]
        yield counts

    # --- where to look

    def _virtual_hosts(self, name: str | None) -> list[VirtualHost]:
        if name is not None:
            return [self._broker.administration.virtual_host(name)]
        return [host for _, host in sorted(self._broker.virtual_hosts.items())]

    def _connections(self, virtual_host: str | None) -> Iterator[OpenConnection]:
        return self._in_each(virtual_host, self._connections_to)

    def _connections_to(self, host: VirtualHost) -> Iterator[OpenConnection]:
        connections = self._broker.open_connections
        for one in connections.in_virtual_host(host.name):
            if one in connections:
                yield one

    def _in_each(self, virtual_host: str | None, look_in: Callable[[VirtualHost], Iterator[Found]]) -> Iterator[Found]:
        return chain.from_iterable(map(look_in, self._virtual_hosts(virtual_host)))


# --- connections, one after the other. Compiled, a generator expression is a list: what is to be lazy is a function.


def _inspected(connections: Iterable[OpenConnection]) -> Iterator[ConnectionInfo]:
    for connection in connections:
        yield connection.inspect()


def _channels_of(connections: Iterable[OpenConnection]) -> Iterator[ChannelInfo]:
    for connection in connections:
        yield from connection.inspect_channels()


# --- one virtual host


def _queues(host: VirtualHost) -> Iterator[QueueInfo]:
    for queue in list(host.queues.values()):
        if not queue.is_deleted:
            yield queue_info(queue)


def _exchanges(host: VirtualHost) -> Iterator[ExchangeInfo]:
    for exchange in list(host.exchanges.values()):
        if host.exchanges.get(exchange.name) is exchange:
            yield exchange_info(exchange, host.name)


def _bindings(host: VirtualHost) -> Iterator[BindingInfo]:
    for exchange in list(host.exchanges.values()):
        for binding in list(exchange.bindings.values()):
            if binding.identity in exchange.bindings:
                yield BindingInfo(
                    source=exchange.name,
                    vhost=host.name,
                    destination=binding.destination.name,
                    destination_type="queue" if binding.is_to_queue else "exchange",
                    routing_key=binding.routing_key,
                    arguments=json_ready_table(binding.arguments),
                )


def _consumers(host: VirtualHost) -> Iterator[ConsumerInfo]:
    for queue in list(host.queues.values()):
        for consumer in list(queue.consumers):
            if consumer in queue.consumers:
                yield consumer_info(consumer)


# --- one thing


def queue_info(queue: Queue) -> QueueInfo:
    """Describe a queue."""
    active = queue.consumers.active
    return QueueInfo(
        name=queue.name,
        vhost=queue.virtual_host.name,
        type=queue.arguments.queue_type,
        has_replicas=queue.traits().shown_as != "classic",
        durable=queue.durable,
        auto_delete=queue.auto_delete,
        exclusive=queue.owner is not None,
        arguments=json_ready_table(queue.told_arguments()),
        policy=_policy_name(queue.in_force),
        operator_policy=_operator_policy_name(queue.in_force),
        effective_policy_definition=_definition(queue.in_force),
        state="running",
        consumers=len(queue.consumers),
        single_active_consumer_tag=active.tag if active is not None else None,
        messages=queue.ready_count + queue.unacknowledged_count,
        messages_ready=queue.ready_count,
        messages_unacknowledged=queue.unacknowledged_count,
        message_bytes_ready=queue.ready_bytes,
        message_bytes_unacknowledged=queue.unacknowledged_bytes,
        message_stats=queue.counts.stats(),
    )


def exchange_info(exchange: Exchange, virtual_host: str) -> ExchangeInfo:
    """Describe an exchange of a virtual host."""
    info = ExchangeInfo(
        name=exchange.name,
        vhost=virtual_host,
        type=exchange.type_name,
        durable=exchange.durable,
        auto_delete=exchange.auto_delete,
        internal=exchange.internal,
        arguments=json_ready_table(exchange.table),
        policy=_policy_name(exchange.in_force),
        operator_policy=_operator_policy_name(exchange.in_force),
        effective_policy_definition=_definition(exchange.in_force),
    )
    if exchange.holder is not None:
        info["messages_delayed"] = exchange.holder.ready_count
    return info


def _policy_name(in_force: InForce | None) -> str | None:
    return in_force.policy.name if in_force is not None and in_force.policy is not None else None


def _operator_policy_name(in_force: InForce | None) -> str | None:
    if in_force is None or in_force.operator_policy is None:
        return None
    return in_force.operator_policy.name


def _definition(in_force: InForce | None) -> dict[str, object]:
    return in_force.definition if in_force is not None else {}


def _parameter_info(parameter: Parameter) -> ParameterInfo:
    host, component = parameter.virtual_host, parameter.component
    return {"value": parameter.value, "vhost": host, "component": component, "name": parameter.name}


def policy_info(policy: Policy, virtual_host: str) -> PolicyInfo:
    """Describe a policy of a virtual host."""
    return {"vhost": virtual_host, "name": policy.name, **policy.value()}


def default_binding(queue: Queue) -> BindingInfo:
    """The binding that every queue has to the default exchange, by its name."""
    return BindingInfo(
        source="",
        vhost=queue.virtual_host.name,
        destination=queue.name,
        destination_type="queue",
        routing_key=queue.name,
        arguments={},
    )


def consumer_info(consumer: Consumer) -> ConsumerInfo:
    """Describe a consumer."""
    queue = consumer.queue
    status = "up"
    if queue.arguments.has_single_active_consumer:
        status = "single_active" if queue.consumers.active is consumer else "waiting"
    info = ConsumerInfo(
        consumer_tag=consumer.tag,
        queue=queue.name,
        vhost=queue.virtual_host.name,
        ack_required=not consumer.no_ack,
        exclusive=consumer.is_exclusive,
        active=status != "waiting",
        activity_status=status,
        prefetch_count=consumer.prefetch_count,
        priority=consumer.priority,
        messages_unacknowledged=consumer.unacknowledged_count,
        arguments=json_ready_table(consumer.arguments),
        channel=consumer.deliveries.inspect(),
    )
    if queue.is_log:
        info["offset_lag"] = queue.available_to(consumer)
    return info


# --- what was counted


def counts_of_virtual_host(broker: Broker, virtual_host: VirtualHost) -> ChannelCounts:
    """The sums of what was counted in a virtual host since the broker began."""
    connections = broker.open_connections.in_virtual_host(virtual_host.name)
    open_ones = (counts for connection in connections for counts in connection.channel_counts())
    return total((virtual_host.counts_of_ended.all(), *open_ones))


def disk_counts_of_virtual_host(virtual_host: VirtualHost) -> DiskCounts:
    """The sums of what the queues of a virtual host have written and read, those that were deleted as well."""
    sums = virtual_host.disk_counts_of_deleted.copy()
    for queue in list(virtual_host.queues.values()):
        sums.add(queue.counts)
    return sums


def counts_of_broker(broker: Broker) -> ChannelCounts:
    """What was counted in all virtual hosts since the broker began; in those that were deleted as well."""
    there = (counts_of_virtual_host(broker, virtual_host) for virtual_host in broker.virtual_hosts.values())
    return total((broker.counts_of_deleted.all(), *there))


def counts_by_protocol(broker: Broker) -> dict[str, ChannelCounts]:
    """The same, by the protocol that clients speak."""
    sums = CountsByProtocol()
    sums.add_all(broker.counts_of_deleted)
    for virtual_host in broker.virtual_hosts.values():
        sums.add_all(virtual_host.counts_of_ended)
    for connection in broker.open_connections:
        for counts in connection.channel_counts():
            sums.add(connection.counted_as, counts)
    return sums.by_protocol()
