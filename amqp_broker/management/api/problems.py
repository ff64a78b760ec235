"""Problems of the present: what an administrator should look at first, the worst in front.

Each problem names what it concerns, so that a page can lead there. Holds no page and no texts in a language other than
the API's.
"""

from __future__ import annotations

from typing import Any

from amqp_broker.broker.queues.base import Queue
from amqp_broker.management.api.brief_queues import is_stuck, rate_in
from amqp_broker.management.api.overview import visible_hosts
from amqp_broker.management.http.authentication import MONITORING, has_tag
from amqp_broker.management.http.call import Call
from amqp_broker.management.http.messages import Answer, answer_json
from amqp_broker.management.http.router import Access, Endpoint
from amqp_broker.management.samples import ALL
from amqp_broker.management.slices import Slices
from amqp_broker.management.things import queue_key

SHOWN_OF_EACH = 20
UNACKNOWLEDGED_MIN = 100  # fewer are any consumer's prefetch

Problem = dict[str, Any]


def of_queue(call: Call, queue: Queue) -> Problem | None:
    """What is wrong with a queue; None when it is well."""
    samples = call.management.samples
    where = {"vhost": queue.virtual_host.name, "queue": queue.name}
    ready, unacknowledged = queue.ready_count, queue.unacknowledged_count
    if is_stuck(queue):
        coming = rate_in(samples, queue)
        if coming > 0:
            return {"kind": "growing", "severity": "bad", **where, "count": ready, "rate": round(coming, 1)}
        return {"kind": "waiting", "severity": "mild", **where, "count": ready}
    if unacknowledged >= UNACKNOWLEDGED_MIN:
        history = samples.values(queue_key(queue), "messages_unacknowledged")
        is_settling = samples.rate(queue_key(queue), "ack") > 0
        if not is_settling and len(history) > 1 and history[-1] >= history[0]:
            return {"kind": "unacknowledged", "severity": "bad", **where, "count": unacknowledged}
    return None


async def list_problems(call: Call) -> Answer:
    """What is wrong now; of each kind the worst are shown, and how many there are."""
    slices, by_kind = Slices(), dict[str, list[Problem]]()
    problems: list[Problem] = [
        {"kind": f"{resource}_alarm", "severity": "bad", "count": 1} for resource in call.broker.alarms.raised
    ]
    for name in visible_hosts(call):
        for queue in list(call.broker.virtual_hosts[name].queues.values()):
            problem = None if queue.is_deleted else of_queue(call, queue)
            if problem is not None:
                by_kind.setdefault(problem["kind"], []).append(problem)
            await slices.take_turn()
    if has_tag(call.user, MONITORING):
        blocked = 0
        for connection in list(call.broker.open_connections):
            if connection in call.broker.open_connections:
                blocked += connection.inspect()["state"] in ("blocked", "blocking")
            await slices.take_turn()
        if blocked:
            problems.append({"kind": "blocked_connections", "severity": "bad", "count": blocked})
        dropped = call.management.samples.rate(ALL, "drop_unroutable")
        if dropped > 0:
            problems.append({"kind": "unroutable", "severity": "mild", "count": 1, "rate": round(dropped, 1)})
    totals = {kind: len(found) for kind, found in by_kind.items()}
    for found in by_kind.values():
        found.sort(key=lambda one: -one["count"])
        problems += found[:SHOWN_OF_EACH]
    problems.sort(key=lambda one: one["severity"] != "bad")
    return answer_json({"problems": problems, "totals": totals})


ENDPOINTS = (Endpoint("/api/x/problems", {"GET": (Access.MANAGEMENT, list_problems)}),)
