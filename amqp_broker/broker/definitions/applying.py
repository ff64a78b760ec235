"""Definitions that were read come into force, all in one go: the journal keeps them in one batch, or none of them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from amqp_broker.broker.definitions.reading import HostPlan, NewUser, Plan, read_definitions
from amqp_broker.broker.observer import Kind
from amqp_broker.broker.persistence.definitions import keep_binding, keep_exchange, keep_queue
from amqp_broker.logs import log_event

if TYPE_CHECKING:
    from amqp_broker.broker.broker import Broker
    from amqp_broker.broker.virtual_host import VirtualHost
    from amqp_broker.broker.works import Work


def import_definitions(
    broker: Broker, document: object, virtual_host: str | None = None, *, who: str
) -> tuple[dict[str, int], list[Work]]:
    """Have all that definitions say, or nothing of it. To be called within ``Broker.handle``.

    Args:
        document: an object of JSON, as RabbitMQ exports it.
        virtual_host: into which it goes; None for what was exported as a whole.
        who: wants it, as it stands in the log.

    Returns:
        How many of each were new or set; and what is to be finished before policies are in force for what was there.

    Raises:
        NotImported: something in it cannot be had, and nothing was changed.
        NotThere: there is no virtual host of that name.
    """
    return _Applying(broker, read_definitions(broker, document, virtual_host), who).apply()


class _Applying:
    def __init__(self, broker: Broker, plan: Plan, who: str) -> None:
        self._broker = broker
        self._plan = plan
        self._who = who
        self._administration = broker.administration.on_behalf_of(who)
        self._works: list[Work] = []

    def apply(self) -> tuple[dict[str, int], list[Work]]:
        plan, administration = self._plan, self._administration
        for user in plan.users:
            self._put_user(user)
        for name, metadata in plan.virtual_hosts.items():
            if name not in self._broker.virtual_hosts:
                administration.add_virtual_host(name, metadata)
            elif metadata is not None:
                administration.set_metadata(name, metadata)
        for user_name, host_name, (configure, write, read) in plan.permissions:
            administration.set_permission(user_name, host_name, configure, write, read)
        for user_name, host_name, exchange, write, read in plan.topic_permissions:
            administration.set_topic_permission(user_name, host_name, exchange, write, read)
        for name, value in plan.global_parameters:
            administration.parameters.set_global_parameter(name, value)
        bindings = sum(self._apply_to(name, host_plan) for name, host_plan in plan.hosts.items())
        counts = {
            "users": len(plan.users),
            "vhosts": len(plan.virtual_hosts),
            "permissions": len(plan.permissions) + len(plan.topic_permissions),
            "parameters": len(plan.global_parameters) + sum(len(one.parameters) for one in plan.hosts.values()),
            "policies": sum(len(one.policies) for one in plan.hosts.values()),
            "exchanges": sum(len(one.exchanges) for one in plan.hosts.values()),
            "queues": sum(len(one.queues) for one in plan.hosts.values()),
            "bindings": bindings,
            "left_out": plan.left_out_count,
        }
        log_event(logging.INFO, "definitions imported", **counts, who=self._who)
        return counts, self._works

    def _put_user(self, new: NewUser) -> None:
        administration = self._administration
        if self._broker.users.get(new.name) is None:
            administration.add_user(new.name, new.password, new.tags)
        else:
            if new.password is not None:
                administration.change_password(new.name, new.password)
            administration.set_tags(new.name, new.tags)
        if new.limits is not None:
            administration.parameters.set_user_limits(new.name, new.limits)

    def _apply_to(self, name: str, plan: HostPlan) -> int:
        """What is to be done in one virtual host; returns how many bindings are new."""
        host, parameters = self._broker.virtual_hosts[name], self._administration.parameters
        for component, parameter, value in plan.parameters:
            parameters.set_parameter(name, component, parameter, value)
        for component, policy, definition in plan.policies:
            self._works.append(parameters.set_policy(name, policy, definition, component))
        self._declare(host, plan)
        return self._bind(host, plan)

    def _declare(self, host: VirtualHost, plan: HostPlan) -> None:
        for new in plan.exchanges.values():
            exchange = host.add_exchange(
                new.name,
                new.type_name,
                durable=new.durable,
                auto_delete=new.auto_delete,
                internal=new.internal,
                table=new.table,
            )
            keep_exchange(host.durability, host.name, exchange)
            host.tell_declared(Kind.EXCHANGE, new.name, exchange, self._who)
        for one in plan.queues.values():
            queue = host.add_queue(
                one.name, durable=one.durable, auto_delete=one.auto_delete, owner=None, table=one.table
            )
            keep_queue(host.durability, queue)
            host.tell_declared(Kind.QUEUE, one.name, queue, self._who)

    def _bind(self, host: VirtualHost, plan: HostPlan) -> int:
        count = 0
        for new in plan.bindings:
            source = host.exchanges[new.source]
            destination = host.exchanges[new.destination] if new.kind == "exchange" else host.queues[new.destination]
            binding = host.add_binding_if_new(source, destination, new.routing_key, new.table)
            if binding is not None:
                keep_binding(host.durability, host.name, binding)
                host.tell_declared(Kind.BINDING, new.source, binding, self._who)
                count += 1
        return count
