"""Connections, their channels and the consumers on them: listed, looked at and closed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from amqp_broker.broker.connections import OpenConnection
from amqp_broker.broker.descriptions import ChannelInfo, ConsumerInfo
from amqp_broker.broker.inspection import consumer_info
from amqp_broker.broker.queues.base import Queue
from amqp_broker.broker.queues.consumers import Consumer
from amqp_broker.management.api.fields import NO_GARBAGE_COLLECTION, iso_time
from amqp_broker.management.api.lists import Listing, answer_one
from amqp_broker.management.api.rates import BYTES_RANGE, MESSAGES_RANGE, with_rates
from amqp_broker.management.http.authentication import ADMINISTRATOR, MONITORING, has_tag
from amqp_broker.management.http.call import Call
from amqp_broker.management.http.messages import Answer, no_such_object, not_authorised
from amqp_broker.management.http.router import Access, Endpoint
from amqp_broker.management.slices import Slices, open_in_slices
from amqp_broker.management.things import channel_key, channel_numbers, no_stats

CLOSED_BY_MANAGEMENT = "Closed via management plugin"
NO_CERTIFICATE = ("ssl_hash", "ssl_key_exchange", "peer_cert_validity", "peer_cert_issuer", "peer_cert_subject")


Named = tuple[str, OpenConnection]


async def _named(call: Call, connections: Iterable[OpenConnection]) -> list[Named]:
    """Connections with their names, in the order of these."""
    every = call.broker.open_connections
    named = [(one.inspect()["name"], one) async for one in open_in_slices(every, connections)]
    return sorted(named, key=lambda pair: pair[0])


async def _connections(call: Call) -> list[Named]:
    """The connections that the user sees: their own, or all."""
    every = list(call.broker.open_connections)
    if not has_tag(call.user, MONITORING):
        every = [one for one in every if one.user_name == call.user.name]
    if "vhost" in call.variables:
        name = call.virtual_host().name
        every = [one for one in every if one.virtual_host_name == name]
    return await _named(call, every)


def describe(call: Call, connection: OpenConnection) -> dict[str, Any] | None:
    """A row of the list; None when the connection has gone."""
    if connection not in call.broker.open_connections:
        return None
    info = connection.inspect()
    numbers = {"recv_oct": info["recv_oct"], "send_oct": info["send_oct"]}
    row: dict[str, Any] = {
        **info,
        **with_rates(call, ("connection", info["name"]), numbers, BYTES_RANGE),
        "ssl_protocol": info["ssl_protocol"] or "",
        "ssl_cipher": info["ssl_cipher"] or "",
        "node": call.management.node,
        "recv_cnt": 0,
        "send_cnt": 0,
        "reductions": 0,
        "reductions_details": {"rate": 0.0},
        "garbage_collection": NO_GARBAGE_COLLECTION,
        "user_who_performed_action": info["user"],
        **dict.fromkeys(NO_CERTIFICATE, ""),
    }
    if info["user_provided_name"] is None:
        del row["user_provided_name"]
    return row


async def _find(call: Call) -> OpenConnection:
    name, slices = call.variables["connection"], Slices()
    for connection in call.broker.open_connections:
        if connection in call.broker.open_connections and connection.inspect()["name"] == name:
            if connection.user_name != call.user.name and not has_tag(call.user, MONITORING):
                raise not_authorised("User not authorised to access object")
            return connection
        await slices.take_turn()
    raise no_such_object()


async def list_connections(call: Call) -> Answer:
    """The connections, by name; found by the name that the client has given, too."""
    every = call.broker.open_connections

    def given_name(one: Named) -> str:
        return (one[1].inspect()["user_provided_name"] or "") if one[1] in every else ""

    def row(one: Named) -> dict[str, Any] | None:
        return describe(call, one[1])

    return await Listing(call, await _connections(call), row, lambda one: one[0], also_named=given_name).answer()


async def show_connection(call: Call) -> Answer:
    """A connection."""
    row = describe(call, await _find(call))
    if row is None:
        raise no_such_object()
    return await answer_one(call, row)


async def close_connection(call: Call) -> Answer:
    """Close a connection; the header ``X-Reason`` says what its client is told."""
    connection = await _find(call)
    if connection.user_name != call.user.name and not has_tag(call.user, ADMINISTRATOR):
        raise not_authorised("User not authorised to access object")
    await _close(call, connection)
    return Answer(204)


async def _close(call: Call, connection: OpenConnection) -> None:
    name = connection.inspect()["name"]
    reason = call.request.headers.get("x-reason", CLOSED_BY_MANAGEMENT)[:200]
    await call.change(lambda: call.administration.close_connections(name, reason))


async def _of_user(call: Call, tags: frozenset[str]) -> list[Named]:
    """The connections of the user that the path names, which is who asks, or somebody else if they have a tag."""
    name = call.variables["user"]
    if name != call.user.name and not has_tag(call.user, tags):
        raise not_authorised("User not authorised to access object")
    return await _named(call, call.broker.open_connections.of_user(name))


async def list_connections_of_user(call: Call) -> Answer:
    """The connections of a user."""

    def brief(connection: OpenConnection) -> dict[str, Any] | None:
        if connection not in call.broker.open_connections:
            return None
        info = connection.inspect()
        return {"name": info["name"], "vhost": info["vhost"], "user": info["user"], "node": call.management.node}

    named = await _of_user(call, MONITORING)
    return await Listing(call, named, lambda one: brief(one[1]), lambda one: one[0], has_pages=False).answer()


async def close_connections_of_user(call: Call) -> Answer:
    """Close the connections of a user."""
    for _, connection in await _of_user(call, ADMINISTRATOR):
        if connection in call.broker.open_connections:
            await _close(call, connection)
    return Answer(204)


# --- channels


async def _channels_of(call: Call, connections: Iterable[OpenConnection]) -> list[ChannelInfo]:
    every = call.broker.open_connections
    return [channel async for one in open_in_slices(every, connections) for channel in one.inspect_channels()]


async def _channels(call: Call) -> list[ChannelInfo]:
    return await _channels_of(call, [connection for _, connection in await _connections(call)])


def describe_channel(call: Call, info: ChannelInfo) -> dict[str, Any]:
    """A row of the list."""
    row: dict[str, Any] = {**info}
    key = channel_key(info["name"])
    idle_since_ms = call.management.samples.same_since_ms(key, channel_numbers(info["message_stats"]))
    if idle_since_ms is not None:
        row["idle_since"] = iso_time(idle_since_ms)
    del row["connection_name"], row["peer_host"], row["peer_port"]
    return row | {
        "node": call.management.node,
        "connection_details": {
            "name": info["connection_name"],
            "peer_host": info["peer_host"],
            "peer_port": info["peer_port"],
        },
        "message_stats": with_rates(call, key, no_stats() | info["message_stats"], MESSAGES_RANGE),
        "pending_raft_commands": 0,
        "reductions": 0,
        "reductions_details": {"rate": 0.0},
        "garbage_collection": NO_GARBAGE_COLLECTION,
        "user_who_performed_action": info["user"],
    }


async def list_channels(call: Call) -> Answer:
    """The channels, by connection and number."""
    return await Listing(
        call, await _channels(call), lambda one: describe_channel(call, one), lambda one: one["name"]
    ).answer()


async def list_channels_of_connection(call: Call) -> Answer:
    """The channels of a connection."""
    channels = list((await _find(call)).inspect_channels())
    return await Listing(call, channels, lambda one: describe_channel(call, one), lambda one: one["name"]).answer()


async def show_channel(call: Call) -> Answer:
    """A channel with its consumers."""
    name = call.variables["channel"]
    for info in await _channels_of(call, call.broker.open_connections):
        if info["name"] == name:
            if info["user"] != call.user.name and not has_tag(call.user, MONITORING):
                raise not_authorised("User not authorised to access object")
            consumers = [describe_consumer(call, one) for one in call.inspection.consumers(info["vhost"])
                         if one["channel"]["name"] == name]  # fmt: skip
            row = describe_channel(call, info)
            return await answer_one(call, row | {"consumer_details": consumers, "publishes": [], "deliveries": []})
    raise no_such_object()


# --- consumers


def describe_consumer(call: Call, info: ConsumerInfo) -> dict[str, Any]:
    """A row of the list."""
    channel = info["channel"]
    row: dict[str, Any] = {
        "consumer_tag": info["consumer_tag"],
        "queue": {"name": info["queue"], "vhost": info["vhost"]},
        "channel_details": {
            "name": channel["name"],
            "number": channel["number"],
            "connection_name": channel["connection_name"],
            "user": channel["user"],
            "node": call.management.node,
            "peer_host": channel["peer_host"],
            "peer_port": channel["peer_port"],
        },
        "ack_required": info["ack_required"],
        "exclusive": info["exclusive"],
        "active": info["active"],
        "activity_status": info["activity_status"],
        "prefetch_count": info["prefetch_count"],
        "arguments": info["arguments"],
        "consumer_timeout": call.broker.settings.consumer_timeout_ms,
    }
    if "offset_lag" in info:
        row["offset_lag"] = info["offset_lag"]
    return row


async def _consumers(call: Call) -> list[Consumer]:
    """The consumers that the user sees, by virtual host and queue: their own, or all."""
    names = [call.virtual_host().name] if "vhost" in call.variables else sorted(call.broker.virtual_hosts)
    slices, sees_all = Slices(), has_tag(call.user, MONITORING)
    queues: list[Queue] = []
    for queue in [queue for name in names for queue in call.broker.virtual_hosts[name].queues.values()]:
        if len(queue.consumers):
            queues.append(queue)
        await slices.take_turn()
    queues.sort(key=lambda queue: (queue.virtual_host.name, queue.name))
    found: list[Consumer] = []
    for consumer in [consumer for queue in queues for consumer in queue.consumers]:
        is_there = consumer in consumer.queue.consumers
        if is_there and (sees_all or consumer.deliveries.inspect()["user"] == call.user.name):
            found.append(consumer)
        await slices.take_turn()
    return found


async def list_consumers(call: Call) -> Answer:
    """The consumers, by queue: those of the user, or all."""
    consumers = await _consumers(call)
    return await Listing(
        call,
        consumers,
        lambda one: describe_consumer(call, consumer_info(one)) if one in one.queue.consumers else None,
        lambda one: one.tag,
        has_pages=False,
    ).answer()


ENDPOINTS = (
    Endpoint("/api/connections", {"GET": (Access.MANAGEMENT, list_connections)}),
    Endpoint("/api/vhosts/{vhost}/connections", {"GET": (Access.VIRTUAL_HOST, list_connections)}),
    Endpoint(
        "/api/connections/{connection}",
        {"GET": (Access.MANAGEMENT, show_connection), "DELETE": (Access.MANAGEMENT, close_connection)},
    ),
    Endpoint("/api/connections/{connection}/channels", {"GET": (Access.MANAGEMENT, list_channels_of_connection)}),
    Endpoint("/api/connections/{connection}/sessions", {"GET": (Access.MANAGEMENT, list_channels_of_connection)}),
    Endpoint(
        "/api/connections/username/{user}",
        {
            "GET": (Access.MANAGEMENT, list_connections_of_user),
            "DELETE": (Access.MANAGEMENT, close_connections_of_user),
        },
    ),
    Endpoint("/api/channels", {"GET": (Access.MANAGEMENT, list_channels)}),
    Endpoint("/api/vhosts/{vhost}/channels", {"GET": (Access.VIRTUAL_HOST, list_channels)}),
    Endpoint("/api/channels/{channel}", {"GET": (Access.MANAGEMENT, show_channel)}),
    Endpoint("/api/consumers", {"GET": (Access.MANAGEMENT, list_consumers)}),
    Endpoint("/api/consumers/{vhost}", {"GET": (Access.MANAGEMENT, list_consumers)}),
)
