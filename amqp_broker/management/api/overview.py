"""The whole at a glance, who asks, and what names this broker goes by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import trio

from amqp_broker import __version__
from amqp_broker.access.users import User
from amqp_broker.broker.counters import ChannelCounts, DiskCounts, total
from amqp_broker.broker.inspection import SLICE_OBJECTS, counts_of_broker, counts_of_virtual_host
from amqp_broker.management.api.fields import need, text
from amqp_broker.management.api.lists import answer_one
from amqp_broker.management.api.rates import LENGTHS_RANGE, MESSAGES_RANGE, with_rates, zero_rates
from amqp_broker.management.http.authentication import MONITORING, has_tag, may_look_into, may_see
from amqp_broker.management.http.call import Call
from amqp_broker.management.http.messages import Answer, answer_json
from amqp_broker.management.http.router import Access, Endpoint
from amqp_broker.management.samples import ALL
from amqp_broker.management.slices import Slices
from amqp_broker.management.things import LENGTHS, message_stats

ERLANG_VERSION = "26.2.5"  # that RabbitMQ 3.13 runs on: programs read it as a version
DESCRIPTIONS = {
    "direct": "AMQP direct exchange, as per the AMQP specification",
    "fanout": "AMQP fanout exchange, as per the AMQP specification",
    "headers": "AMQP headers exchange, as per the AMQP specification",
    "topic": "AMQP topic exchange, as per the AMQP specification",
}
CHURN = (
    "channel_closed",
    "channel_created",
    "connection_closed",
    "connection_created",
    "queue_created",
    "queue_declared",
    "queue_deleted",
)
RETENTION = {"global": [600, 3600, 28800, 86400], "basic": [600, 3600], "detailed": [600]}


def exchange_types(call: Call) -> list[dict[str, object]]:
    """The types of exchanges that there are."""
    names = sorted(call.broker.exchange_types.names)
    return [{"name": name, "description": DESCRIPTIONS.get(name, name), "enabled": True} for name in names]


def version_of(call: Call) -> str:
    """The version that clients of AMQP are told, too."""
    settings = call.broker.settings
    return settings.product_version or call.broker.behaviour.version


def listeners(call: Call) -> list[dict[str, object]]:
    """Where it listens."""
    server = call.management.server
    names = {"amqp": "amqp", "amqps": "amqp/ssl", "http": "http", "https": "https"}
    return [
        {
            "node": call.management.node,
            "protocol": names.get(endpoint.url.partition("://")[0], endpoint.protocol),
            "ip_address": endpoint.address,
            "port": endpoint.port,
            "socket_opts": {"backlog": 1024, "nodelay": True},
        }
        for endpoint in (*server.endpoints, *server.http_endpoints)
    ]


def contexts(call: Call) -> list[dict[str, object]]:
    """Where the HTTP API is."""
    return [
        {
            "node": call.management.node,
            "description": "RabbitMQ Management",
            "path": "/",
            "ssl_opts": [],
            "cowboy_opts": "[]",
            "ip": endpoint.address,
            "port": str(endpoint.port),
        }
        for endpoint in call.management.server.http_endpoints
    ]


async def show_overview(call: Call) -> Answer:
    """Everything at a glance; who may see no more sees the sums of their own virtual hosts."""
    version = version_of(call)
    totals, queue_totals = await _totals(call)
    counts, disk = _counts(call), await _disk_counts(call)
    return await answer_one(
        call,
        {
            "management_version": version,
            "rates_mode": "basic",
            "sample_retention_policies": RETENTION,
            "exchange_types": exchange_types(call),
            "product_version": version,
            "product_name": "RabbitMQ",
            "rabbitmq_version": version,
            "amqp_broker_version": __version__,
            "cluster_name": call.management.cluster_name,
            "cluster_tags": [],
            "node_tags": [],
            "erlang_version": ERLANG_VERSION,
            "erlang_full_version": f"Erlang/OTP 26 [erts-14.2.5] (none: amqp-broker {__version__} in Python)",
            "crypto_lib_version": "",
            "release_series_support_status": "supported",
            "default_queue_type": "classic",
            "disable_stats": False,
            "enable_queue_totals": False,
            "is_op_policy_updating_enabled": True,
            "message_stats": with_rates(call, ALL, message_stats(counts, disk), MESSAGES_RANGE),
            "churn_rates": churn(call),
            "queue_totals": with_rates(call, ALL, queue_totals, LENGTHS_RANGE),
            "object_totals": totals,
            "statistics_db_event_queue": 0,
            "node": call.management.node,
            "listeners": listeners(call),
            "contexts": contexts(call),
        },
    )


def churn(call: Call) -> dict[str, Any]:
    """What came and went since the start."""
    server, counted = call.management.server, call.broker.churn
    ended = server.connections_ended
    known = {
        "connection_closed": ended,
        "connection_created": ended + server.client_count,
        "channel_closed": counted.channels_closed,
        "channel_created": counted.channels_opened,
        "queue_created": counted.queues_created,
        "queue_declared": counted.queues_declared,
        "queue_deleted": counted.queues_deleted,
    }
    return zero_rates(CHURN) | known


def visible_hosts(call: Call) -> list[str]:
    """The virtual hosts that the user sees, and the sums of, by name."""
    return [name for name in sorted(call.broker.virtual_hosts) if may_see(call.user, name)]


def open_hosts(call: Call) -> list[str]:
    """The virtual hosts whose content the user sees, by name."""
    return [name for name in sorted(call.broker.virtual_hosts) if may_look_into(call.user, name)]


def _counts(call: Call) -> ChannelCounts:
    if has_tag(call.user, MONITORING):
        return counts_of_broker(call.broker)
    hosts = (call.broker.virtual_hosts[name] for name in visible_hosts(call))
    return total(counts_of_virtual_host(call.broker, host) for host in hosts)


async def _disk_counts(call: Call) -> DiskCounts:
    sees_all, slices = has_tag(call.user, MONITORING), Slices()
    sums = call.broker.counts_of_deleted_queues.disk.copy() if sees_all else DiskCounts()
    for name in visible_hosts(call):
        host = call.broker.virtual_hosts.get(name)
        if host is None:
            continue  # it has gone meanwhile
        if not sees_all:
            sums.reads += host.disk_counts_of_deleted.reads
            sums.writes += host.disk_counts_of_deleted.writes
        for queue in list(host.queues.values()):
            sums.add(queue.counts)
            await slices.take_turn()
    return sums


async def _totals(call: Call) -> tuple[dict[str, int], dict[str, int]]:
    names = ("channels", "connections", "consumers", "exchanges", "queues")
    totals, lengths = dict.fromkeys(names, 0), dict.fromkeys(LENGTHS, 0)
    for virtual_host in visible_hosts(call):
        if virtual_host not in call.broker.virtual_hosts:
            continue  # it has gone meanwhile
        for step, counts in enumerate(call.inspection.count(virtual_host)):
            counted: Mapping[str, int] = cast("Mapping[str, int]", counts)
            if step % (10 * SLICE_OBJECTS) == 0:
                await trio.lowlevel.checkpoint()
        for name in names:
            totals[name] += counted[name]
        for name in LENGTHS:
            lengths[name] += counted[name]
    return totals, lengths


async def show_user(call: Call) -> Answer:
    """Who asks."""
    return answer_json(whoami(call.user))


def whoami(user: User) -> dict[str, Any]:
    """A user's name and tags."""
    return {"name": user.name, "tags": list(user.tags), "is_internal_user": True}


async def show_cluster_name(call: Call) -> Answer:
    """The name of the cluster."""
    return answer_json({"name": call.management.cluster_name})


async def set_cluster_name(call: Call) -> Answer:
    """Another name; it is kept."""
    body = call.body()
    need(body, "name")
    name = text(body, "name")
    await call.change(lambda: call.administration.parameters.set_global_parameter("cluster_name", name))
    return Answer(204)


async def show_version(call: Call) -> Answer:
    """The version."""
    return answer_json(version_of(call))


ENDPOINTS = (
    Endpoint("/api/overview", {"GET": (Access.MANAGEMENT, show_overview)}),
    Endpoint("/api/whoami", {"GET": (Access.MANAGEMENT, show_user)}),
    Endpoint(
        "/api/cluster-name",
        {"GET": (Access.MANAGEMENT, show_cluster_name), "PUT": (Access.ADMINISTRATOR, set_cluster_name)},
    ),
    Endpoint("/api/version", {"GET": (Access.MANAGEMENT, show_version)}),
)
