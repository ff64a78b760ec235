"""Queues: listed, looked at, declared, deleted and purged."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from amqp_broker.broker.descriptions import QueueInfo
from amqp_broker.broker.inspection import consumer_info, queue_info
from amqp_broker.broker.queues.base import Queue
from amqp_broker.broker.queues.classic import ClassicQueue
from amqp_broker.broker.queues.ready_in_bands import ByPriority
from amqp_broker.broker.virtual_host import VirtualHost
from amqp_broker.broker.works import Work
from amqp_broker.management.api.connections import describe_consumer
from amqp_broker.management.api.fields import NO_GARBAGE_COLLECTION, boolean, iso_time, need, query_flag, short, table
from amqp_broker.management.api.lists import Listing, answer_one
from amqp_broker.management.api.overview import open_hosts
from amqp_broker.management.api.queue_problems import sign_of
from amqp_broker.management.api.rates import LENGTHS_RANGE, MESSAGES_RANGE, with_rates
from amqp_broker.management.http.call import Call
from amqp_broker.management.http.messages import Answer, bad_request, no_such_object
from amqp_broker.management.http.router import Access, Endpoint
from amqp_broker.management.things import lengths_of, message_stats, queue_key, queue_numbers
from amqp_broker.server.changes import until_done
from amqp_broker.wire.content import FLAG_TIMESTAMP, decode_properties, property_flags

IDLE_QUEUE_BYTES = 700
MESSAGE_BYTES = 500  # about what a message in memory takes beside its body


def hosts_of(call: Call) -> list[VirtualHost]:
    """The virtual host that the path names, or all into which the user may look."""
    if "vhost" in call.variables:
        return [call.virtual_host()]
    return [call.broker.virtual_hosts[name] for name in open_hosts(call)]


def _queues(call: Call) -> Iterator[Queue]:
    for host in hosts_of(call):
        yield from sorted(host.queues.values(), key=lambda queue: queue.name)


def describe(call: Call, queue: Queue) -> dict[str, Any] | None:
    """A row of the list; None when the queue has gone."""
    if queue.is_deleted:
        return None
    info, key = queue_info(queue), queue_key(queue)
    if call.request.flag("disable_stats"):
        return _definition(call, info) | (_totals(queue) if call.request.flag("enable_queue_totals") else {})
    consumers, ready = info["consumers"], info["messages_ready"]
    capacity = float(bool(consumers) and not ready)  # at this moment: whether it could deliver one more
    row = _definition(call, info)
    row |= with_rates(call, key, lengths_of(queue), LENGTHS_RANGE)
    row |= {
        "state": info["state"],
        "consumers": consumers,
        "consumer_utilisation": capacity,
        "consumer_capacity": capacity,
        "exclusive_consumer_tag": _exclusive_tag(queue),
        "head_message_timestamp": _head_timestamp(queue),
        "memory": IDLE_QUEUE_BYTES + MESSAGE_BYTES * info["messages"] + info["message_bytes_ready"],
        "message_stats": with_rates(call, key, message_stats(queue.counts), MESSAGES_RANGE),
        "reductions": 0,
        "reductions_details": {"rate": 0.0},
        "garbage_collection": NO_GARBAGE_COLLECTION,
        **_bytes(queue, info["messages"]),
    }
    idle_since_ms = call.management.samples.same_since_ms(key, queue_numbers(queue))
    if idle_since_ms is not None:
        row["idle_since"] = iso_time(idle_since_ms)
    shown_as = queue.traits().shown_as
    if shown_as == "stream":
        row |= _of_stream(call, queue)
    elif shown_as == "quorum":
        row |= _of_quorum(call, info)
    else:
        row |= _of_classic(queue)
    return row | queue.details()


def _definition(call: Call, info: QueueInfo) -> dict[str, Any]:
    return {
        "name": info["name"],
        "vhost": info["vhost"],
        "type": info["type"],
        "durable": info["durable"],
        "auto_delete": info["auto_delete"],
        "exclusive": info["exclusive"],
        "arguments": info["arguments"],
        "node": call.management.node,
        "policy": info["policy"],
        "operator_policy": info["operator_policy"],
        "effective_policy_definition": info["effective_policy_definition"],
        "single_active_consumer_tag": info["single_active_consumer_tag"],
    }


def _head_timestamp(queue: Queue) -> int | None:
    """The property timestamp of the next message; None where it has none, or is on disk only."""
    message = queue.head()
    if message is None or not property_flags(message.header) & FLAG_TIMESTAMP:
        return None
    return decode_properties(message.header).timestamp


def _totals(queue: Queue) -> dict[str, Any]:
    return {**lengths_of(queue), "state": "running"}


def _bytes(queue: Queue, messages: int) -> dict[str, int]:
    persistent = messages if queue.durable else 0
    ready_bytes, unacknowledged_bytes = queue.ready_bytes, queue.unacknowledged_bytes
    all_bytes = ready_bytes + unacknowledged_bytes
    paged, paged_bytes = queue.on_disk()
    return {
        "messages_ram": messages - paged,
        "messages_ready_ram": queue.ready_count - paged,
        "messages_unacknowledged_ram": queue.unacknowledged_count,
        "messages_persistent": persistent,
        "messages_paged_out": paged,
        "message_bytes": all_bytes,
        "message_bytes_ready": ready_bytes,
        "message_bytes_unacknowledged": unacknowledged_bytes,
        "message_bytes_ram": all_bytes - paged_bytes,
        "message_bytes_persistent": all_bytes if queue.durable else 0,
        "message_bytes_paged_out": paged_bytes,
    }


def _of_classic(queue: Queue) -> dict[str, Any]:
    length = queue.ready_count
    status: dict[str, Any] = {
        "mode": queue.table.get("x-queue-mode", "default"),
        "version": 2,
        "len": length,
        "q1": 0,
        "q2": 0,
        "q3": length,
        "q4": 0,
        "delta": ["delta", "undefined", 0, 0, "undefined"],
        "target_ram_count": "infinity",
        "next_seq_id": queue.counts.published,
        "next_deliver_seq_id": queue.counts.published - length,
        "avg_ingress_rate": 0.0,
        "avg_egress_rate": 0.0,
        "avg_ack_ingress_rate": 0.0,
        "avg_ack_egress_rate": 0.0,
    }
    if queue.declared.priority_max is not None:
        status["priority_lengths"] = _priority_lengths(queue, queue.declared.priority_max)
    return {"backing_queue_status": status, "recoverable_slaves": None}


def _priority_lengths(queue: Queue, priority_max: int) -> dict[str, int]:
    ready = queue.backlog.messages if isinstance(queue, ClassicQueue) else None
    lengths = ready.lengths() if isinstance(ready, ByPriority) else {}
    return {str(number): lengths.get(number, 0) for number in range(priority_max + 1)}


def _replicas(call: Call) -> dict[str, Any]:
    """Where a queue of several copies is: here."""
    node = call.management.node
    return {"leader": node, "members": [node], "online": [node]}


def _of_quorum(call: Call, info: QueueInfo) -> dict[str, Any]:
    return _replicas(call) | {
        "open_files": {call.management.node: 0},
        "messages_dlx": 0,
        "message_bytes_dlx": 0,
        "single_active_consumer_ctag": info["single_active_consumer_tag"],
    }


def _of_stream(call: Call, queue: Queue) -> dict[str, Any]:
    return _replicas(call) | {"readers": {call.management.node: len(queue.consumers)}}


def _exclusive_tag(queue: Queue) -> str | None:
    return next((one.tag for one in queue.consumers if one.is_exclusive), None)


def _find(call: Call) -> Queue:
    queue = call.virtual_host().queues.get(call.variables["queue"])
    if queue is None:
        raise no_such_object()
    return queue


async def list_queues(call: Call) -> Answer:
    """The queues, by name."""
    return await Listing(call, _queues(call), lambda one: describe(call, one), lambda one: one.name).answer()


async def show_queue(call: Call) -> Answer:
    """A queue with its consumers."""
    queue = _find(call)
    row = describe(call, queue)
    assert row is not None
    row["consumer_details"] = [describe_consumer(call, consumer_info(consumer)) for consumer in queue.consumers]
    row["problem"] = sign_of(call.management.samples, queue)  # no field of RabbitMQ's; the page shows it
    return await answer_one(call, row | {"incoming": [], "deliveries": []})


async def declare_queue(call: Call) -> Answer:
    """Create a queue, or find that there is one like it."""
    host, name, body = call.virtual_host(), short(call.variables["queue"]), call.body()
    if body.get("node", call.management.node) != call.management.node:
        raise bad_request(f"Node {body['node']} could not be contacted")
    durable, auto_delete = boolean(body, "durable"), boolean(body, "auto_delete")
    arguments = table(body)
    exists = name in host.queues
    await call.change(
        lambda: host.declare_queue(
            call.client(host),
            name,
            durable=durable,
            exclusive=False,
            auto_delete=auto_delete,
            arguments=arguments,
        )
    )
    return Answer(204 if exists else 201)


async def delete_queue(call: Call) -> Answer:
    """Delete a queue."""
    queue, query = _find(call), call.request.query
    if_unused, if_empty = query_flag(query, "if-unused"), query_flag(query, "if-empty")
    host = call.broker.existing_virtual_host(queue.virtual_host.name)
    await call.change(lambda: host.delete_queue(call.client(host), queue.name, if_unused=if_unused, if_empty=if_empty))
    return Answer(204)


async def purge_queue(call: Call) -> Answer:
    """Drop what is ready."""
    queue = _find(call)
    client = call.client(call.broker.existing_virtual_host(queue.virtual_host.name))

    def purge() -> Work:
        client.check_read("queue", queue.name)
        queue.check_access(client)
        return queue.purge()[1]

    await until_done(await call.change(purge))
    return Answer(204)


async def act_on_queue(call: Call) -> Answer:
    """What RabbitMQ does to mirrors, of which there are none here."""
    _find(call)
    body = call.body()
    need(body, "action")
    if body["action"] not in ("sync", "cancel_sync"):
        raise bad_request(["unknown", body["action"]])
    return Answer(204)


ENDPOINTS = (
    Endpoint("/api/queues", {"GET": (Access.MANAGEMENT, list_queues)}),
    Endpoint("/api/queues/{vhost}", {"GET": (Access.VIRTUAL_HOST, list_queues)}),
    Endpoint("/api/queues/detailed", {"GET": (Access.MANAGEMENT, list_queues)}),
    Endpoint(
        "/api/queues/{vhost}/{queue}",
        {
            "GET": (Access.VIRTUAL_HOST, show_queue),
            "PUT": (Access.VIRTUAL_HOST, declare_queue),
            "DELETE": (Access.VIRTUAL_HOST, delete_queue),
        },
    ),
    Endpoint("/api/queues/{vhost}/{queue}/contents", {"DELETE": (Access.VIRTUAL_HOST, purge_queue)}),
    Endpoint("/api/queues/{vhost}/{queue}/actions", {"POST": (Access.ADMINISTRATOR, act_on_queue)}),
)
