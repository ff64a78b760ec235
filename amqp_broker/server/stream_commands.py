"""Commands of the control socket about clients of streams: publishers, consumers, groups of which one is served, and
what streams remember of them. Who has no such clients loads nothing of their protocol.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from amqp_broker.broker.problems import NotThere
from amqp_broker.broker.queues.stream import StreamQueue
from amqp_broker.server.control_commands import Arguments, BadRequest, Controlled, List

if TYPE_CHECKING:
    from amqp_broker.protocols.stream.connection import Connection
    from amqp_broker.protocols.stream.subscribing import Subscription

Row = Mapping[str, Any]


def _publishers(controlled: Controlled, arguments: Arguments) -> Iterator[Row]:
    """The publishers in a virtual host."""
    from amqp_broker.protocols.stream.inspection import publisher_info

    for connection in _connections(controlled, arguments):
        for publisher in list(connection.publishing.publishers.values()):
            yield {**_where(connection, publisher.stream), **publisher_info(publisher)}


def _consumers(controlled: Controlled, arguments: Arguments) -> Iterator[Row]:
    """The subscriptions in a virtual host."""
    from amqp_broker.protocols.stream.inspection import subscription_info

    for connection, subscription in _subscriptions(controlled, arguments):
        yield {**_where(connection, subscription.stream), **subscription_info(subscription)}


def _groups(controlled: Controlled, arguments: Arguments) -> Iterator[Row]:
    """The groups of which one consumer alone is served, with how many are in them."""
    host = controlled.administration.virtual_host(_text(arguments, "vhost"))
    for queue in list(host.queues.values()):
        if isinstance(queue, StreamQueue) and not queue.is_deleted:
            for name, group in list(queue.groups.items()):
                count = len(group.members)
                yield {"stream": queue.name, "reference": name, "partition_index": group.partition, "consumers": count}


def _members(controlled: Controlled, arguments: Arguments) -> Iterator[Row]:
    """The consumers of a group, the oldest first."""
    group = _stream(controlled, arguments).groups.get(_text(arguments, "reference"))
    if group is None:
        raise NotThere("there is no such group")
    members = list(group.members)
    found = [one for one in _subscriptions(controlled, arguments) if one[1] in members]
    for connection, subscription in sorted(found, key=lambda one: members.index(one[1])):
        yield {
            "subscription_id": subscription.number,
            "connection_name": connection.peer.connection_name,
            "state": "active" if group.active is subscription else "inactive",
        }


def _tracked(controlled: Controlled, arguments: Arguments) -> Iterator[Row]:
    """What a stream remembers: how far consumers are, and what publishers have published last."""
    stream = _stream(controlled, arguments)
    for kind, tracks in (("offset", stream.offsets), ("writer", stream.sequences)):
        for name, value in tracks.values().items():
            yield {"type": kind, "name": name, "tracking_value": value}


# --- where to look


def _connections(controlled: Controlled, arguments: Arguments) -> Iterator[Connection]:
    """The connections of the stream protocol to a virtual host; one that has gone meanwhile is left out."""
    from amqp_broker.protocols.stream.connection import Connection

    name, every = _text(arguments, "vhost"), controlled.broker.open_connections
    for connection in every.in_virtual_host(name):
        if isinstance(connection, Connection) and connection in every:
            yield connection


def _subscriptions(controlled: Controlled, arguments: Arguments) -> Iterator[tuple[Connection, Subscription]]:
    for connection in _connections(controlled, arguments):
        for subscription in list(connection.subscribing.subscriptions.values()):
            yield connection, subscription


def _stream(controlled: Controlled, arguments: Arguments) -> StreamQueue:
    queue = controlled.administration.queue(_text(arguments, "vhost"), _text(arguments, "name"))
    if not isinstance(queue, StreamQueue):
        raise NotThere(f"{queue} is no stream")
    return queue


def _where(connection: Connection, stream: StreamQueue) -> Row:
    return {"connection": connection.peer.connection_name, "stream": stream.name}


def _text(arguments: Arguments, name: str) -> str:
    value = arguments.get(name)
    if not isinstance(value, str):
        raise BadRequest(f"{name} must be a text")
    return value


LISTS: dict[str, List] = {
    "streams.publishers": _publishers,
    "streams.consumers": _consumers,
    "streams.groups": _groups,
    "streams.group-members": _members,
    "streams.tracked": _tracked,
}
