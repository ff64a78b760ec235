"""The families that RabbitMQ's exporter has, by what they tell of, each with the number that it is in this broker.

Those that count what is nothing here (Erlang's processes, Mnesia, Raft's logs) stay 0, so that no panel is empty.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from amqp_broker.broker.counters import MQTT, STOMP, STREAM, ChannelCounts, Counts
from amqp_broker.broker.descriptions import ChannelInfo, ConnectionInfo
from amqp_broker.broker.queues.base import Queue

Numbers = dict[str, int]


class OfQueue(NamedTuple):
    """A family with a number for each queue."""

    name: str
    kind: str
    group: str  # as /metrics/detailed calls it
    help: str
    number: Callable[[Queue], float]


COARSE, CONSUMERS, QUEUES = "queue_coarse_metrics", "queue_consumer_count", "queue_metrics"


def _capacity(queue: Queue) -> float:
    return float(bool(len(queue.consumers)) and not queue.ready_count)


def _nothing(_: object) -> float:
    return 0


OF_QUEUE = (
    OfQueue("queue_messages_ready", "gauge", COARSE, "Messages ready to be delivered", lambda q: q.ready_count),
    OfQueue(
        "queue_messages_unacked", "gauge", COARSE, "Messages delivered and not acknowledged",
        lambda q: q.unacknowledged_count,
    ),
    OfQueue(
        "queue_messages", "gauge", COARSE, "Messages ready and unacknowledged",
        lambda q: q.ready_count + q.unacknowledged_count,
    ),
    OfQueue("queue_process_reductions_total", "counter", COARSE, "Of Erlang processes; none here", _nothing),
    OfQueue("queue_consumers", "gauge", CONSUMERS, "Consumers", lambda q: len(q.consumers)),
    OfQueue("queue_consumer_capacity", "gauge", QUEUES, "Whether it could deliver one more now", _capacity),
    OfQueue("queue_consumer_utilisation", "gauge", QUEUES, "The same as its capacity", _capacity),
    OfQueue("queue_process_memory_bytes", "gauge", QUEUES, "Of Erlang processes; none here", _nothing),
    OfQueue(
        "queue_messages_ram", "gauge", QUEUES, "Messages in memory",
        lambda q: q.ready_count - q.on_disk()[0] + q.unacknowledged_count,
    ),
    OfQueue(
        "queue_messages_ram_bytes", "gauge", QUEUES, "Size of their bodies",
        lambda q: q.ready_bytes - q.on_disk()[1] + q.unacknowledged_bytes,
    ),
    OfQueue(
        "queue_messages_ready_ram", "gauge", QUEUES, "Messages ready in memory",
        lambda q: q.ready_count - q.on_disk()[0],
    ),
    OfQueue("queue_messages_unacked_ram", "gauge", QUEUES, "Unacknowledged ones", lambda q: q.unacknowledged_count),
    OfQueue(
        "queue_messages_persistent", "gauge", QUEUES, "Messages in a durable queue",
        lambda q: q.ready_count + q.unacknowledged_count if q.durable else 0,
    ),
    OfQueue(
        "queue_messages_persistent_bytes", "gauge", QUEUES, "Size of their bodies",
        lambda q: q.ready_bytes + q.unacknowledged_bytes if q.durable else 0,
    ),
    OfQueue(
        "queue_messages_bytes", "gauge", QUEUES, "Size of the bodies",
        lambda q: q.ready_bytes + q.unacknowledged_bytes,
    ),
    OfQueue("queue_messages_ready_bytes", "gauge", QUEUES, "Size of ready bodies", lambda q: q.ready_bytes),
    OfQueue(
        "queue_messages_unacked_bytes", "gauge", QUEUES, "Size of the bodies of unacknowledged ones",
        lambda q: q.unacknowledged_bytes,
    ),
    OfQueue("queue_messages_paged_out", "gauge", QUEUES, "Messages on disk only", lambda q: q.on_disk()[0]),
    OfQueue("queue_messages_paged_out_bytes", "gauge", QUEUES, "Size of their bodies", lambda q: q.on_disk()[1]),
    OfQueue("queue_head_message_timestamp", "gauge", QUEUES, "Not known here", _nothing),
    OfQueue(
        "queue_disk_reads_total", "counter", QUEUES, "Messages that came back from the disk",
        lambda q: q.counts.disk_reads,
    ),
    OfQueue(
        "queue_disk_writes_total", "counter", QUEUES, "Messages that went to the disk",
        lambda q: q.counts.disk_writes,
    ),
    OfQueue(
        "queue_messages_published_total", "counter", "channel_queue_exchange_metrics", "Messages that it took",
        lambda q: q.counts.published,
    ),
)  # fmt: skip


class OfChannel(NamedTuple):
    """A family with a number for each channel."""

    name: str
    kind: str
    group: str
    help: str
    number: Callable[[ChannelInfo], float]


CHANNEL, EXCHANGES, DELIVERIES = "channel_metrics", "channel_exchange_metrics", "channel_queue_metrics"


def _stat(name: str) -> Callable[[ChannelInfo], float]:
    return lambda channel: channel["message_stats"].get(name, 0)


OF_CHANNEL = (
    OfChannel("channel_consumers", "gauge", CHANNEL, "Consumers", lambda c: c["consumer_count"]),
    OfChannel("channel_messages_unacked", "gauge", CHANNEL, "Not acknowledged", lambda c: c["messages_unacknowledged"]),
    OfChannel("channel_messages_unconfirmed", "gauge", CHANNEL, "Not confirmed", lambda c: c["messages_unconfirmed"]),
    OfChannel("channel_messages_uncommitted", "gauge", CHANNEL, "In transactions", lambda c: c["messages_uncommitted"]),
    OfChannel("channel_acks_uncommitted", "gauge", CHANNEL, "Acks in transactions", lambda c: c["acks_uncommitted"]),
    OfChannel("consumer_prefetch", "gauge", CHANNEL, "Prefetch of each consumer", lambda c: c["prefetch_count"]),
    OfChannel("channel_prefetch", "gauge", CHANNEL, "Prefetch of all", lambda c: c["global_prefetch_count"]),
    OfChannel("channel_process_reductions_total", "counter", "channel_process_metrics", "None here", _nothing),
    OfChannel("channel_messages_published_total", "counter", EXCHANGES, "Published", _stat("publish")),
    OfChannel("channel_messages_confirmed_total", "counter", EXCHANGES, "Confirmed", _stat("confirm")),
    OfChannel(
        "channel_messages_unroutable_returned_total", "counter", EXCHANGES, "Returned", _stat("return_unroutable")
    ),
    OfChannel("channel_messages_unroutable_dropped_total", "counter", EXCHANGES, "Dropped", _stat("drop_unroutable")),
    OfChannel("channel_get_ack_total", "counter", DELIVERIES, "Got, to be acknowledged", _stat("get")),
    OfChannel("channel_get_total", "counter", DELIVERIES, "Got without acknowledgements", _stat("get_no_ack")),
    OfChannel("channel_messages_delivered_ack_total", "counter", DELIVERIES, "To be acknowledged", _stat("deliver")),
    OfChannel(
        "channel_messages_delivered_total", "counter", DELIVERIES, "Without acknowledgements", _stat("deliver_no_ack")
    ),
    OfChannel("channel_messages_redelivered_total", "counter", DELIVERIES, "Delivered again", _stat("redeliver")),
    OfChannel("channel_messages_acked_total", "counter", DELIVERIES, "Acknowledged", _stat("ack")),
    OfChannel("channel_get_empty_total", "counter", DELIVERIES, "Asked for in vain", _stat("get_empty")),
)


class OfConnection(NamedTuple):
    """A family with a number for each connection."""

    name: str
    kind: str
    group: str
    help: str
    number: Callable[[ConnectionInfo], float]


BYTES, CONNECTION = "connection_coarse_metrics", "connection_metrics"

OF_CONNECTION = (
    OfConnection("connection_incoming_bytes_total", "counter", BYTES, "Bytes received", lambda c: c["recv_oct"]),
    OfConnection("connection_outgoing_bytes_total", "counter", BYTES, "Bytes sent", lambda c: c["send_oct"]),
    OfConnection("connection_process_reductions_total", "counter", BYTES, "Of Erlang; none here", _nothing),
    OfConnection("connection_incoming_packets_total", "counter", CONNECTION, "Not known here", _nothing),
    OfConnection("connection_outgoing_packets_total", "counter", CONNECTION, "Not known here", _nothing),
    OfConnection("connection_pending_packets", "gauge", CONNECTION, "Bytes that wait", lambda c: c["send_pend"]),
    OfConnection("connection_channels", "gauge", CONNECTION, "Channels", lambda c: c["channels"]),
)

# The protocols beside AMQP's, by the settings that switch them on.
OF_OTHERS: dict[str, list[str]] = {"mqtt": list(MQTT.values()), "streams": [STREAM], "stomp": [STOMP]}

# Of each protocol; the middle of ``global_messages_..._total``.
OF_PROTOCOL: tuple[tuple[str, Callable[[ChannelCounts], int]], ...] = (
    ("received", lambda c: c.published),
    ("received_confirm", lambda c: c.confirmed),
    ("routed", lambda c: c.published - c.dropped - c.returned),
    ("confirmed", lambda c: c.confirmed),
    ("unroutable_dropped", lambda c: c.dropped),
    ("unroutable_returned", lambda c: c.returned),
)

# Of each protocol and each type of queues.
OF_PROTOCOL_AND_TYPE: tuple[tuple[str, Callable[[Counts], int]], ...] = (
    ("delivered", lambda c: c.delivered + c.delivered_no_ack + c.got + c.got_no_ack),
    ("delivered_consume_auto_ack", lambda c: c.delivered_no_ack),
    ("delivered_consume_manual_ack", lambda c: c.delivered),
    ("delivered_get_auto_ack", lambda c: c.got_no_ack),
    ("delivered_get_manual_ack", lambda c: c.got),
    ("redelivered", lambda c: c.redelivered),
    ("acknowledged", lambda c: c.acknowledged),
    ("get_empty", lambda c: c.got_empty),
)

# What is nothing here, by the group that it stands in.
ALWAYS_ZERO = (
    ("node_coarse_metrics", "gauge", ("erlang_processes_used",)),
    ("node_coarse_metrics", "counter", (
        "erlang_gc_runs_total", "erlang_gc_reclaimed_bytes_total", "erlang_scheduler_context_switches_total",
    )),
    ("node_metrics", "gauge", ("erlang_processes_limit", "erlang_scheduler_run_queue")),
    ("node_persister_metrics", "counter", (
        "io_read_ops_total", "io_read_bytes_total", "io_write_ops_total", "io_write_bytes_total", "io_sync_ops_total",
        "io_seek_ops_total", "io_reopen_ops_total", "schema_db_ram_tx_total", "schema_db_disk_tx_total",
        "msg_store_read_total", "msg_store_write_total", "queue_index_read_ops_total", "queue_index_write_ops_total",
        "io_read_time_seconds_total", "io_write_time_seconds_total", "io_sync_time_seconds_total",
        "io_seek_time_seconds_total",
    )),
    ("ra_metrics", "counter", ("raft_term_total",)),
    ("ra_metrics", "gauge", (
        "raft_log_snapshot_index", "raft_log_last_applied_index", "raft_log_commit_index",
        "raft_log_last_written_index", "raft_entry_commit_latency_seconds",
    )),
)  # fmt: skip
