"""Clients of the stream protocol as RabbitMQ's plugin shows them: their connections, publishers and consumers, and what
streams remember of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from amqp_broker.broker.queues.stream import StreamQueue
from amqp_broker.management.api.lists import Listing, answer_one
from amqp_broker.management.http.authentication import MONITORING, has_tag
from amqp_broker.management.http.call import Call
from amqp_broker.management.http.messages import Answer, HttpError, answer_json, no_such_object
from amqp_broker.management.http.router import Access, Endpoint
from amqp_broker.management.slices import in_slices

if TYPE_CHECKING:
    from amqp_broker.protocols.stream.connection import Connection
    from amqp_broker.protocols.stream.publishing import Publisher
    from amqp_broker.protocols.stream.subscribing import Subscription


def _connections(call: Call) -> list[Connection]:
    """Those that the user sees: their own, or all."""
    from amqp_broker.protocols.stream.connection import Connection  # only who has such clients pays for it

    sees_all = has_tag(call.user, MONITORING)
    name = call.virtual_host().name if "vhost" in call.variables else None
    found = [
        one
        for one in call.broker.open_connections
        if isinstance(one, Connection)
        and (sees_all or one.user_name == call.user.name)
        and name in (None, one.virtual_host_name)
    ]
    if "connection" in call.variables:
        found = [one for one in found if one.peer.connection_name == call.variables["connection"]]
        if not found:
            raise no_such_object()
    return sorted(found, key=lambda one: one.peer.connection_name)


def describe_connection(call: Call, connection: Connection) -> dict[str, Any]:
    """A row of the list."""
    info = connection.inspect()
    shown = (
        "auth_mechanism", "client_properties", "connected_at", "frame_max", "host", "name", "peer_host", "peer_port",
        "port", "protocol", "ssl", "ssl_cipher", "ssl_protocol", "timeout", "user", "vhost",
    )  # fmt: skip
    return {
        **{name: value for name, value in info.items() if name in shown},
        "channel_max": 0,
        "node": call.management.node,
        "user_who_performed_action": info["user"],
    }


def _connection_details(call: Call, connection: Connection) -> dict[str, Any]:
    peer = connection.peer
    return {
        "name": peer.connection_name,
        "node": call.management.node,
        "peer_host": peer.host,
        "peer_port": peer.port,
        "user": connection.user_name,
    }


def describe_publisher(call: Call, connection: Connection, publisher: Publisher) -> dict[str, Any]:
    """A row of the list."""
    from amqp_broker.protocols.stream.inspection import publisher_info

    return {
        "connection_details": _connection_details(call, connection),
        "queue": {"name": publisher.stream.name, "vhost": connection.virtual_host_name},
        **publisher_info(publisher),
    }


def describe_consumer(call: Call, connection: Connection, subscription: Subscription) -> dict[str, Any]:
    """A row of the list."""
    from amqp_broker.protocols.stream.inspection import subscription_info

    return {
        "connection_details": _connection_details(call, connection),
        "queue": {"name": subscription.stream.name, "vhost": connection.virtual_host_name},
        **subscription_info(subscription),
    }


async def list_connections(call: Call) -> Answer:
    """The connections, by name."""

    def describe(connection: Connection) -> dict[str, Any] | None:
        return describe_connection(call, connection) if _is_open(call, connection) else None

    return await Listing(call, _connections(call), describe, lambda one: one.peer.connection_name).answer()


async def show_connection(call: Call) -> Answer:
    """A connection."""
    (connection,) = _connections(call)[:1]
    return await answer_one(call, describe_connection(call, connection))


async def list_publishers(call: Call) -> Answer:
    """The publishers, by connection; of one stream, where one is named."""
    named = call.variables.get("queue")
    found = [
        (connection, publisher)
        async for connection in in_slices(_connections(call))
        if _is_open(call, connection)
        for publisher in list(connection.publishing.publishers.values())
        if named in (None, publisher.stream.name)
    ]

    def describe(one: tuple[Connection, Publisher]) -> dict[str, Any] | None:
        connection, publisher = one
        return describe_publisher(call, connection, publisher) if _is_open(call, connection) else None

    return await Listing(call, found, describe, lambda one: one[1].reference, has_pages=False).answer()


async def list_consumers(call: Call) -> Answer:
    """The subscriptions, by connection."""
    found = [
        (connection, subscription)
        async for connection in in_slices(_connections(call))
        if _is_open(call, connection)
        for subscription in list(connection.subscribing.subscriptions.values())
    ]

    def describe(one: tuple[Connection, Subscription]) -> dict[str, Any] | None:
        connection, subscription = one
        return describe_consumer(call, connection, subscription) if _is_open(call, connection) else None

    return await Listing(call, found, describe, lambda one: one[1].stream.name, has_pages=False).answer()


async def show_tracking(call: Call) -> Answer:
    """How far consumers are that had it stored, and what publishers with a name have published last; one of the two
    where the query's ``type`` says ``offset`` or ``writer``."""
    queue = call.virtual_host().queues.get(call.variables["queue"])
    if queue is None:
        raise no_such_object()
    if not isinstance(queue, StreamQueue):
        raise HttpError(503, "service_unavailable", "The stream leader is not available")
    kind = call.request.query.get("type")
    tracked: dict[str, dict[str, int]] = {}
    if kind != "writer":
        tracked["offsets"] = queue.offsets.values()
    if kind != "offset":
        tracked["writers"] = queue.sequences.values()
    return answer_json(tracked)


def _is_open(call: Call, connection: Connection) -> bool:
    """Whether a connection is there still: one that has gone can say nothing of itself."""
    return connection in call.broker.open_connections


_MANAGEMENT, _VIRTUAL_HOST = Access.MANAGEMENT, Access.VISIBLE_VIRTUAL_HOST
ENDPOINTS = (
    Endpoint("/api/stream/connections", {"GET": (_MANAGEMENT, list_connections)}),
    Endpoint("/api/stream/connections/{vhost}", {"GET": (_VIRTUAL_HOST, list_connections)}),
    Endpoint("/api/stream/connections/{vhost}/{connection}", {"GET": (_VIRTUAL_HOST, show_connection)}),
    Endpoint("/api/stream/connections/{vhost}/{connection}/publishers", {"GET": (_VIRTUAL_HOST, list_publishers)}),
    Endpoint("/api/stream/connections/{vhost}/{connection}/consumers", {"GET": (_VIRTUAL_HOST, list_consumers)}),
    Endpoint("/api/stream/publishers", {"GET": (_MANAGEMENT, list_publishers)}),
    Endpoint("/api/stream/publishers/{vhost}", {"GET": (_MANAGEMENT, list_publishers)}),
    Endpoint("/api/stream/publishers/{vhost}/{queue}", {"GET": (_MANAGEMENT, list_publishers)}),
    Endpoint("/api/stream/consumers", {"GET": (_MANAGEMENT, list_consumers)}),
    Endpoint("/api/stream/consumers/{vhost}", {"GET": (_MANAGEMENT, list_consumers)}),
    Endpoint("/api/stream/{vhost}/{queue}/tracking", {"GET": (_VIRTUAL_HOST, show_tracking)}),
)
