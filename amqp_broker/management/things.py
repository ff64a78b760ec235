"""The numbers of everything that has some, under the names that RabbitMQ gives them: what is sampled."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from amqp_broker.broker.counters import ChannelCounts, Counts
from amqp_broker.broker.inspection import counts_of_broker, counts_of_virtual_host
from amqp_broker.management.samples import ALL, Key, Values

if TYPE_CHECKING:
    from amqp_broker.broker.broker import Broker
    from amqp_broker.broker.exchanges.exchange import Exchange
    from amqp_broker.broker.queues.base import Queue

LENGTHS = ("messages", "messages_ready", "messages_unacknowledged")
BYTES = ("recv_oct", "send_oct")


def queue_key(queue: Queue) -> Key:
    """Of a queue."""
    return ("queue", queue.virtual_host.name, queue.name)


def exchange_key(virtual_host: str, name: str) -> Key:
    """Of an exchange."""
    return ("exchange", virtual_host, name)


def message_stats(counts: Counts) -> dict[str, int]:
    """What was counted, with all the names that RabbitMQ's ``message_stats`` may have."""
    stats = counts.stats()
    for name in ("confirm", "return_unroutable", "drop_unroutable", "disk_reads", "disk_writes"):
        stats.setdefault(name, 0)
    return stats


def queue_numbers(queue: Queue) -> dict[str, int]:
    """Of a queue."""
    ready, unacknowledged = queue.ready_count, queue.unacknowledged_count
    lengths = {
        "messages": ready + unacknowledged,
        "messages_ready": ready,
        "messages_unacknowledged": unacknowledged,
    }
    return lengths | message_stats(queue.counts)


def exchange_numbers(exchange: Exchange) -> dict[str, int]:
    """Of an exchange."""
    return {"publish_in": exchange.published_in, "publish_out": exchange.published_out}


def things(broker: Broker) -> Iterator[tuple[Key, Values]]:
    """Everything that has numbers, one at a time."""
    lengths_of_all = dict.fromkeys(LENGTHS, 0)
    for host in list(broker.virtual_hosts.values()):
        lengths = dict.fromkeys(LENGTHS, 0)
        for queue in list(host.queues.values()):
            numbers = queue_numbers(queue)
            for name in LENGTHS:
                lengths[name] += numbers[name]
            yield queue_key(queue), numbers
        for exchange in list(host.exchanges.values()):
            yield exchange_key(host.name, exchange.name), exchange_numbers(exchange)
        octets = dict.fromkeys(BYTES, 0)
        for connection in broker.open_connections.in_virtual_host(host.name):
            if connection not in broker.open_connections:  # it has gone between two slices
                continue
            info = connection.inspect()
            numbers = {"recv_oct": info["recv_oct"], "send_oct": info["send_oct"]}
            for name in BYTES:
                octets[name] += numbers[name]
            yield ("connection", info["name"]), numbers
            for channel in connection.inspect_channels():
                yield ("channel", channel["name"]), {**channel["message_stats"]}
        yield ("vhost", host.name), lengths | octets | message_stats(counts_of_virtual_host(broker, host))
        for name in LENGTHS:
            lengths_of_all[name] += lengths[name]
    yield ALL, lengths_of_all | message_stats(counts_of_broker(broker))


def no_stats() -> dict[str, int]:
    """What nothing was counted of."""
    return message_stats(ChannelCounts())
