"""Replicas of quorum queues: added and removed as RabbitMQ does it, where that leaves a queue what it is here.

A queue here is whole on the node that owns its virtual host, and what another node needs to take over is not a
replica that somebody counts. So each node of the cluster has as much of it as it can have, and none can have less.
"""

from __future__ import annotations

from typing import Final

from amqp_broker.broker.queues.base import Queue
from amqp_broker.management.api.fields import need, text
from amqp_broker.management.http.call import Call
from amqp_broker.management.http.messages import Answer, HttpError, answer_json, no_such_object
from amqp_broker.management.http.router import Access, Endpoint

QUORUM: Final = "quorum"


def _unavailable(reason: str) -> HttpError:
    return HttpError(503, "service_unavailable", reason)


def _queue(call: Call) -> Queue | None:
    host = call.broker.virtual_hosts.get(call.variables["vhost"])
    return None if host is None else host.queues.get(call.variables["queue"])


def _check_type(queue: Queue) -> None:
    shown_as = queue.traits().shown_as
    if shown_as != QUORUM:
        raise _unavailable(f"{shown_as}_queue_not_supported")


async def show_status(call: Call) -> Answer:
    """The replicas of a quorum queue: one."""
    queue = _queue(call)
    if queue is None:
        raise no_such_object()
    _check_type(queue)
    status = {"Node Name": call.management.node, "Raft State": "leader", "Membership": "voter", "Term": 1}
    return answer_json([status])


async def add_replica(call: Call) -> Answer:
    """Have a node keep a queue, which every node of the cluster does."""
    body, queue = call.body(), _queue(call)
    need(body, "node")
    if queue is None:
        raise _unavailable("not_found")
    _check_type(queue)
    if text(body, "node") not in call.management.nodes:
        raise _unavailable("node_not_running")
    return Answer(204)


async def delete_replica(call: Call) -> Answer:
    """Have a node keep a queue no more, which only one can that is not of the cluster."""
    body, queue = call.body(), _queue(call)
    if queue is None:
        raise no_such_object()
    need(body, "node")
    _check_type(queue)
    if text(body, "node") in call.management.nodes:
        raise _unavailable("last_node")
    return Answer(202)


async def grow(call: Call) -> Answer:
    """Have a node keep all queues that patterns name, which it does."""
    need(call.body(), "vhost_pattern", "queue_pattern", "strategy", separator=",\n ")
    return Answer(204)


async def shrink(call: Call) -> Answer:
    """Have a node keep no queue that others keep as well, of which there are none."""
    return Answer(202)


ENDPOINTS = (
    Endpoint("/api/queues/quorum/{vhost}/{queue}/status", {"GET": (Access.MANAGEMENT, show_status)}),
    Endpoint("/api/queues/quorum/{vhost}/{queue}/replicas/add", {"POST": (Access.ADMINISTRATOR, add_replica)}),
    Endpoint("/api/queues/quorum/{vhost}/{queue}/replicas/delete", {"DELETE": (Access.ADMINISTRATOR, delete_replica)}),
    Endpoint("/api/queues/quorum/replicas/on/{node}/grow", {"POST": (Access.ADMINISTRATOR, grow)}),
    Endpoint("/api/queues/quorum/replicas/on/{node}/shrink", {"DELETE": (Access.ADMINISTRATOR, shrink)}),
)
