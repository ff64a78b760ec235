"""Problems of the present: what an administrator should look at first, the worst in front.

Each problem names what it concerns, so that a page can lead there. Holds no page and no texts in a language other than
the API's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from amqp_broker.broker.drops import DropInfo
from amqp_broker.broker.policies import POLICY
from amqp_broker.broker.queues.base import Queue
from amqp_broker.broker.virtual_host import VirtualHost
from amqp_broker.management.api.brief_queues import is_stuck, rate_in, rate_out
from amqp_broker.management.api.overview import visible_hosts
from amqp_broker.management.http.authentication import MONITORING, has_tag
from amqp_broker.management.http.call import Call
from amqp_broker.management.http.messages import Answer, answer_json
from amqp_broker.management.http.router import Access, Endpoint
from amqp_broker.management.samples import ALL, KEPT_OF_EACH, Samples
from amqp_broker.management.slices import Slices
from amqp_broker.management.things import queue_key
from amqp_broker.server.federation.supervisor import federation_of
from amqp_broker.server.shovels.supervisor import shovels_of

SHOWN_OF_EACH = 20
UNACKNOWLEDGED_MANY = 100  # fewer may be what a consumer is at work on
SETTLED = ("ack", "reject", "requeue")
LATELY_MS = 60_000
MEANT = ("purged", "queue_deleted")  # somebody wanted it

Problem = dict[str, Any]


def of_queue(call: Call, queue: Queue) -> Problem | None:
    """What is wrong with a queue; None when it is well."""
    samples = call.management.samples
    where = {"vhost": queue.virtual_host.name, "queue": queue.name}
    ready, unacknowledged = queue.ready_count, queue.unacknowledged_count
    coming = round(rate_in(samples, queue), 1)  # as the list of queues has it, which says the same
    if is_stuck(queue):
        if coming > 0:
            return {"kind": "growing", "severity": "bad", **where, "count": ready, "rate": coming}
        return {"kind": "waiting", "severity": "mild", **where, "count": ready}
    is_hanging = nobody_settles(samples, queue)
    takes_nothing = round(rate_out(samples, queue), 1) == 0
    if ready and queue.consumers and not queue.is_log and coming > 0 and takes_nothing:
        severity = "bad" if is_hanging else "mild"
        return {"kind": "growing_consumed", "severity": severity, **where, "count": ready, "rate": coming}
    if is_hanging:
        severity = "bad" if unacknowledged >= UNACKNOWLEDGED_MANY else "mild"
        return {"kind": "unacknowledged", "severity": severity, **where, "count": unacknowledged}
    return None


def nobody_settles(samples: Samples, queue: Queue) -> bool:
    """Whether nothing that was delivered was settled as long as looks are kept; of few messages, for a whole minute."""
    key, unacknowledged = queue_key(queue), queue.unacknowledged_count
    history = samples.values(key, "messages_unacknowledged")
    if not unacknowledged or len(history) < 2 or history[-1] < history[0]:
        return False
    if unacknowledged < UNACKNOWLEDGED_MANY and (len(history) < KEPT_OF_EACH or not history[0]):
        return False
    settled = [samples.values(key, name) for name in SETTLED]
    return all(counts[0] == counts[-1] for counts in settled)


def of_policies(host: VirtualHost) -> Iterator[Problem]:
    """The policies of which one counts for nothing, because another has its pattern and its priority."""
    first: dict[tuple[str, str, float], str] = {}
    for policy in sorted(host.policies.all(POLICY), key=lambda one: one.name):
        other = first.setdefault((policy.pattern.source, policy.apply_to, policy.priority), policy.name)
        if other != policy.name:
            names = {"policy": policy.name, "other": other}
            yield {"kind": "policies_tie", "severity": "mild", "vhost": host.name, "count": 1, **names}


def of_carriers(call: Call, hosts: Collection[str]) -> Iterator[Problem]:
    """The shovels and federation links that do not run, and why."""
    for kind, all_of_kind in (("shovel", shovels_of(call.broker).all()), ("link", federation_of(call.broker).all())):
        for one in all_of_kind:
            if one["vhost"] in hosts and one["reason"] and one["state"] != "running":
                severity = "mild" if one["state"] == "starting" else "bad"
                named = {"vhost": one["vhost"], "name": one["name"], "reason": one["reason"]}
                yield {"kind": kind, "severity": severity, "count": 1, **named}


def of_drops(call: Call, hosts: Collection[str]) -> tuple[list[Problem], DropInfo | None]:
    """What queues have lost in the last minute, and what was unroutable most."""
    since_ms = call.broker.clock.wall_ms() - LATELY_MS
    found: dict[tuple[str, str, str], Problem] = {}
    unroutable: DropInfo | None = None
    for row in call.broker.drops.rows():
        if row["vhost"] not in hosts or (row["last_at"] or 0) < since_ms or row["reason"] in MEANT:
            continue
        if row["queue"] is None:
            unroutable = unroutable or row
            continue
        key = (row["vhost"], row["queue"], row["reason"])
        where = {"vhost": row["vhost"], "queue": row["queue"], "reason": row["reason"]}
        problem = found.setdefault(key, {"kind": "dropped", "severity": "mild", "count": 0, **where})
        problem["count"] += row["count"]
    return list(found.values()), unroutable


async def list_problems(call: Call) -> Answer:
    """What is wrong now; of each kind the worst are shown, and how many there are."""
    slices, by_kind = Slices(), dict[str, list[Problem]]()
    problems: list[Problem] = [
        {"kind": f"{resource}_alarm", "severity": "bad", "count": 1} for resource in call.broker.alarms.raised
    ]
    hosts = visible_hosts(call)
    for name in hosts:
        for problem in of_policies(call.broker.virtual_hosts[name]):
            by_kind.setdefault(problem["kind"], []).append(problem)
        for queue in list(call.broker.virtual_hosts[name].queues.values()):
            trouble = None if queue.is_deleted else of_queue(call, queue)
            if trouble is not None:
                by_kind.setdefault(trouble["kind"], []).append(trouble)
            await slices.take_turn()
    lost, unroutable = of_drops(call, hosts)
    if lost:
        by_kind["dropped"] = lost
    if has_tag(call.user, MONITORING):
        for problem in of_carriers(call, hosts):
            by_kind.setdefault(problem["kind"], []).append(problem)
        blocked = 0
        for connection in list(call.broker.open_connections):
            if connection in call.broker.open_connections:
                blocked += connection.inspect()["state"] in ("blocked", "blocking")
            await slices.take_turn()
        if blocked:
            problems.append({"kind": "blocked_connections", "severity": "bad", "count": blocked})
        dropped = call.management.samples.rate(ALL, "drop_unroutable")
        if dropped > 0:
            most = (
                {} if unroutable is None else {name: unroutable[name] for name in ("vhost", "exchange", "routing_key")}
            )
            problems.append({"kind": "unroutable", "severity": "mild", "count": 1, "rate": round(dropped, 1), **most})
    totals = {kind: len(found) for kind, found in by_kind.items()}
    for found in by_kind.values():
        found.sort(key=lambda one: -one["count"])
        problems += found[:SHOWN_OF_EACH]
    problems.sort(key=lambda one: one["severity"] != "bad")
    return answer_json({"problems": problems, "totals": totals})


ENDPOINTS = (Endpoint("/api/x/problems", {"GET": (Access.MANAGEMENT, list_problems)}),)
