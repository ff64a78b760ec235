"""All that is defined in a broker, or in one virtual host, as RabbitMQ's definitions have it (RabbitMQ docs,
"Definition Export and Import").

Without messages, exclusive queues and what every virtual host has. Internal exchanges are among it, which RabbitMQ
leaves out, because their bindings would mean nothing without them.
"""

from __future__ import annotations

import base64
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from amqp_broker.behaviour import BEHAVIOURS
from amqp_broker.broker.inspection import Inspection, policy_info
from amqp_broker.broker.json_values import json_ready_table
from amqp_broker.broker.limit_values import limits_value
from amqp_broker.broker.names import RESERVED_PREFIX
from amqp_broker.broker.policies import POLICY
from amqp_broker.broker.queues.base import Queue

if TYPE_CHECKING:
    from amqp_broker.access.users import User
    from amqp_broker.broker.broker import Broker
    from amqp_broker.broker.exchanges.binding import Binding
    from amqp_broker.broker.exchanges.exchange import Exchange
    from amqp_broker.broker.virtual_host import VirtualHost

Definition = dict[str, object]

SECTIONS: Final = (
    "users",
    "vhosts",
    "permissions",
    "topic_permissions",
    "parameters",
    "global_parameters",
    "policies",
    "queues",
    "exchanges",
    "bindings",
)
SECTIONS_OF_VIRTUAL_HOST: Final = ("parameters", "policies", "queues", "exchanges", "bindings")


def exported(broker: Broker, virtual_host: str | None = None) -> Definition:
    """The whole of it, as the object of JSON that it is.

    Args:
        virtual_host: of this one only, and to be imported into any.

    Raises:
        NotThere: there is no virtual host of that name.
    """
    sections = SECTIONS if virtual_host is None else SECTIONS_OF_VIRTUAL_HOST
    document: Definition = dict(header(broker))
    lists: dict[str, list[Definition]] = {section: [] for section in sections}
    for section, one in pieces(broker, virtual_host):
        lists[section].append(one)
    document.update(lists)
    return document


def header(broker: Broker) -> dict[str, str]:
    """What stands before the lists."""
    settings = broker.settings
    version = settings.product_version or BEHAVIOURS[settings.behave_like].version
    return {
        "rabbit_version": version,
        "rabbitmq_version": version,
        "product_name": settings.product,
        "product_version": version,
    }


def pieces(broker: Broker, virtual_host: str | None = None) -> Iterator[tuple[str, Definition]]:
    """One after the other, each with the name of the list that it stands in; what is gone meanwhile is left out.

    Raises:
        NotThere: there is no virtual host of that name.
    """
    inspection = Inspection(broker)
    if virtual_host is None:
        yield from of_the_whole(broker, inspection)
        hosts = [host for _, host in sorted(broker.virtual_hosts.items())]
    else:
        hosts = [broker.administration.virtual_host(virtual_host)]
    for host in hosts:
        for parameter in inspection.parameters(host.name):
            yield "parameters", parameter
        for policy in list(host.policies.all(POLICY)):
            yield "policies", policy_info(policy, host.name)
        for section, one in _topology(host):
            yield section, one if virtual_host is None else _without_virtual_host(one)


def _without_virtual_host(definition: Definition) -> Definition:
    return {name: value for name, value in definition.items() if name != "vhost"}


def of_the_whole(broker: Broker, inspection: Inspection) -> Iterator[tuple[str, Definition]]:
    """What is not in a virtual host: users and what they may do, the virtual hosts themselves, global parameters."""
    for user in broker.users:
        yield "users", _user(user)
    for host in list(broker.virtual_hosts.values()):
        yield "vhosts", _virtual_host(host)
    for permission in inspection.permissions():
        names = ("user", "vhost", "configure", "write", "read")
        yield "permissions", {name: permission[name] for name in names}  # type: ignore[literal-required]
    for user in broker.users:
        for host_name, by_exchange in user.topic_permissions.items():
            for exchange, topic in by_exchange.items():
                yield (
                    "topic_permissions",
                    {
                        "user": user.name,
                        "vhost": host_name,
                        "exchange": exchange,
                        "write": topic.write,
                        "read": topic.read,
                    },
                )
    for parameter in inspection.global_parameters():
        yield "global_parameters", parameter


def _user(user: User) -> Definition:
    return {
        "name": user.name,
        "password_hash": base64.b64encode(user.password_hash.value).decode(),
        "hashing_algorithm": user.password_hash.algorithm,
        "tags": list(user.tags),
        "limits": limits_value(user.limits),
    }


def _virtual_host(host: VirtualHost) -> Definition:
    metadata: Definition = {"description": host.metadata.description, "tags": list(host.metadata.tags)}
    if host.metadata.default_queue_type is not None:
        metadata["default_queue_type"] = host.metadata.default_queue_type
    if host.metadata.is_protected:
        metadata["protected_from_deletion"] = True
    return {"name": host.name, **metadata, "metadata": metadata}


def _topology(host: VirtualHost) -> Iterator[tuple[str, Definition]]:
    for queue in list(host.queues.values()):
        if not queue.is_deleted and queue.owner is None:
            yield "queues", _queue(queue)
    for exchange in list(host.exchanges.values()):
        if not exchange.is_deleted and exchange.name and not exchange.name.startswith(RESERVED_PREFIX):
            yield "exchanges", _exchange(exchange, host)
    for exchange in list(host.exchanges.values()):
        for binding in sorted(exchange.bindings.values(), key=_age):
            if binding.identity in exchange.bindings and not _is_to_exclusive(binding):
                yield "bindings", _binding(binding, host)


def _age(binding: Binding) -> int:
    """Bindings of one exchange come as they were made, because queues get a message in that order: by their records;
    those that have none come last.
    """
    return binding.reference or sys.maxsize


def _is_to_exclusive(binding: Binding) -> bool:
    return isinstance(binding.destination, Queue) and binding.destination.owner is not None


def _queue(queue: Queue) -> Definition:
    return {
        "name": queue.name,
        "vhost": queue.virtual_host.name,
        "durable": queue.durable,
        "auto_delete": queue.auto_delete,
        "arguments": json_ready_table(queue.table),
    }


def _exchange(exchange: Exchange, host: VirtualHost) -> Definition:
    return {
        "name": exchange.name,
        "vhost": host.name,
        "type": exchange.type_name,
        "durable": exchange.durable,
        "auto_delete": exchange.auto_delete,
        "internal": exchange.internal,
        "arguments": json_ready_table(exchange.table),
    }


def _binding(binding: Binding, host: VirtualHost) -> Definition:
    return {
        "source": binding.source.name,
        "vhost": host.name,
        "destination": binding.destination.name,
        "destination_type": "queue" if binding.is_to_queue else "exchange",
        "routing_key": binding.routing_key,
        "arguments": json_ready_table(binding.arguments),
    }
