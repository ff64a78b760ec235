"""The numbers of everything that has some, in rows that are sampled, and under the names that RabbitMQ gives them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from amqp_broker.broker.counters import ChannelCounts, Counts, DiskCounts, QueueCounts
from amqp_broker.broker.inspection import counts_of_broker, counts_of_virtual_host
from amqp_broker.management.samples import ALL, Fields, Key
from amqp_broker.management.series import Numbers

if TYPE_CHECKING:
    from amqp_broker.broker.broker import Broker
    from amqp_broker.broker.exchanges.exchange import Exchange
    from amqp_broker.broker.queues.base import Queue
    from amqp_broker.server.status import ServerStatus

NO_LIMIT = 2**31 - 1
LENGTHS = ("messages", "messages_ready", "messages_unacknowledged")
BYTES = ("recv_oct", "send_oct")
COUNTED = (
    "publish",
    "deliver",
    "deliver_no_ack",
    "get",
    "get_no_ack",
    "get_empty",
    "redeliver",
    "ack",
    "reject",
    "requeue",
)
OF_CHANNELS = ("confirm", "return_unroutable", "drop_unroutable")
OF_DISK = ("disk_reads", "disk_writes")
OF_NODE = ("mem_used", "fd_used", "sockets_used", "proc_used", "disk_free")
DELIVERIES = ("deliver", "deliver_no_ack", "get", "get_no_ack")


def _fields(*names: str) -> Fields:
    """Where numbers are that stand in this order; those that are sums are where their parts are."""
    places = {name: (place,) for place, name in enumerate(names)}
    sums = {"messages": LENGTHS[1:], "deliver_get": DELIVERIES}
    return places | {
        name: tuple(places[part][0] for part in parts) for name, parts in sums.items() if parts[0] in places
    }


FIELDS: dict[str, Fields] = {
    "queue": _fields(*LENGTHS[1:], *COUNTED, *OF_DISK),
    "exchange": _fields("publish_in", "publish_out"),
    "connection": _fields(*BYTES),
    "channel": _fields(*COUNTED, *OF_CHANNELS),
    "vhost": _fields(*LENGTHS[1:], *BYTES, *COUNTED, *OF_CHANNELS, *OF_DISK),
    "all": _fields(*LENGTHS[1:], *COUNTED, *OF_CHANNELS, *OF_DISK),
    "node": _fields(*OF_NODE),
}


def queue_key(queue: Queue) -> Key:
    """Of a queue."""
    return ("queue", queue.virtual_host.name, queue.name)


def exchange_key(virtual_host: str, name: str) -> Key:
    """Of an exchange."""
    return ("exchange", virtual_host, name)


def node_key(name: str) -> Key:
    """Of a node, by the name that RabbitMQ would give it."""
    return ("node", name)


def channel_key(name: str) -> Key:
    """Of a channel."""
    return ("channel", name)


def message_stats(counts: Counts, disk: DiskCounts | None = None) -> dict[str, int]:
    """What was counted, with all the names that RabbitMQ's ``message_stats`` may have.

    Args:
        disk: what queues have counted, where that is not in the counts.
    """
    stats = counts.stats()
    if disk is not None:
        stats |= {"disk_reads": disk.reads, "disk_writes": disk.writes}
    for name in (*OF_CHANNELS, *OF_DISK):
        stats.setdefault(name, 0)
    return stats


def no_stats() -> dict[str, int]:
    """What nothing was counted of."""
    return message_stats(ChannelCounts())


def _counted(counts: Counts) -> Numbers:
    return (
        counts.published,
        counts.delivered,
        counts.delivered_no_ack,
        counts.got,
        counts.got_no_ack,
        counts.got_empty,
        counts.redelivered,
        counts.acknowledged,
        counts.rejected,
        counts.requeued,
    )


def _counted_by_channels(counts: ChannelCounts) -> Numbers:
    return (*_counted(counts), counts.confirmed, counts.returned, counts.dropped)


def queue_numbers(queue: Queue) -> Numbers:
    """Of a queue."""
    counts: QueueCounts = queue.counts
    return (
        queue.ready_count,
        queue.unacknowledged_count,
        *_counted(counts.all()),
        counts.disk_reads,
        counts.disk_writes,
    )


def lengths_of(queue: Queue) -> dict[str, int]:
    """How many messages a queue has."""
    ready, unacknowledged = queue.ready_count, queue.unacknowledged_count
    return dict(zip(LENGTHS, (ready + unacknowledged, ready, unacknowledged), strict=True))


def channel_numbers(stats: dict[str, int]) -> Numbers:
    """Of a channel, by what its description says was counted."""
    return tuple([stats.get(name, 0) for name in (*COUNTED, *OF_CHANNELS)])


def exchange_stats(exchange: Exchange) -> dict[str, int]:
    """What went through an exchange."""
    return {"publish_in": exchange.published_in, "publish_out": exchange.published_out}


def node_numbers(status: ServerStatus, connections: int) -> Numbers:
    """Of a node: what its process uses of the machine."""
    disk = status["disk"]
    free_bytes = disk["free_bytes"] if disk is not None else NO_LIMIT
    return (status["memory"]["used_bytes"], status["descriptors"]["used"], connections, 1, free_bytes)


def things(broker: Broker) -> Iterator[tuple[Key, Numbers]]:
    """Everything that has numbers, one at a time, in the order of ``FIELDS``."""
    ready_of_all = unacknowledged_of_all = 0
    disk_of_all = broker.counts_of_deleted_queues.disk.copy()
    for host in list(broker.virtual_hosts.values()):
        ready = unacknowledged = 0
        disk = host.disk_counts_of_deleted.copy()
        for queue in list(host.queues.values()):
            ready += queue.ready_count
            unacknowledged += queue.unacknowledged_count
            disk.add(queue.counts)
            disk_of_all.add(queue.counts)
            yield queue_key(queue), queue_numbers(queue)
        for exchange in list(host.exchanges.values()):
            yield exchange_key(host.name, exchange.name), (exchange.published_in, exchange.published_out)
        received = sent = 0
        for connection in broker.open_connections.in_virtual_host(host.name):
            if connection not in broker.open_connections:  # it has gone between two slices
                continue
            info = connection.inspect()
            received += info["recv_oct"]
            sent += info["send_oct"]
            yield ("connection", info["name"]), (info["recv_oct"], info["send_oct"])
            for channel in connection.inspect_channels():
                yield channel_key(channel["name"]), channel_numbers(channel["message_stats"])
        counted = _counted_by_channels(counts_of_virtual_host(broker, host))
        yield ("vhost", host.name), (ready, unacknowledged, received, sent, *counted, disk.reads, disk.writes)
        ready_of_all += ready
        unacknowledged_of_all += unacknowledged
    counted = _counted_by_channels(counts_of_broker(broker))
    yield ALL, (ready_of_all, unacknowledged_of_all, *counted, disk_of_all.reads, disk_of_all.writes)
