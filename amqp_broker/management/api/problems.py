"""Problems of the present: what an administrator should look at first, the worst in front.

Each problem names what it concerns, so that a page can lead there. Holds no page and no texts in a language other than
the API's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from amqp_broker.broker.counters import MQTT, STREAM
from amqp_broker.broker.drops import DropInfo
from amqp_broker.broker.policies import POLICY
from amqp_broker.broker.queues.unacknowledged import Unacknowledged
from amqp_broker.broker.virtual_host import VirtualHost
from amqp_broker.management.api.overview import open_hosts
from amqp_broker.management.api.queue_problems import Problem, of_queue
from amqp_broker.management.http.authentication import MONITORING, has_tag
from amqp_broker.management.http.call import Call
from amqp_broker.management.http.messages import Answer, answer_json
from amqp_broker.management.http.router import Access, Endpoint
from amqp_broker.management.samples import ALL
from amqp_broker.management.slices import Slices, open_in_slices
from amqp_broker.server.federation.supervisor import federation_of
from amqp_broker.server.shovels.supervisor import shovels_of

SHOWN_OF_EACH = 20
LATELY_MS = 60_000
WITHOUT_TIMEOUT = (*MQTT.values(), STREAM)
NEAR_TIMEOUT = 0.5  # of the time that a delivery may stay unacknowledged
VERY_NEAR_TIMEOUT = 0.9
MEANT = ("purged", "queue_deleted")  # somebody wanted it


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


async def near_timeout(call: Call, hosts: Collection[str]) -> list[Problem]:
    """The channels, sessions and subscribers that will soon be ended because they do not settle what they were sent:
    the user's own, or all."""
    broker, timeout_ms = call.broker, call.broker.settings.consumer_timeout_ms
    found: list[Problem] = []
    if not timeout_ms:
        return found
    now_ms, every = broker.clock.monotonic_ms(), broker.open_connections
    sees_all = has_tag(call.user, MONITORING)
    async for connection in open_in_slices(every, list(every)):
        if connection.virtual_host_name not in hosts or connection.counted_as in WITHOUT_TIMEOUT:
            continue
        if not sees_all and connection.user_name != call.user.name:
            continue
        for channel, deliveries in connection.unacknowledged():
            oldest = deliveries[0] if deliveries else None  # in a transaction they come first that are to be settled
            if oldest is not None and now_ms - oldest.delivered_ms >= NEAR_TIMEOUT * timeout_ms:
                found.append(_held_for_long(channel, oldest, now_ms - oldest.delivered_ms, timeout_ms))
    return found


def _held_for_long(channel: str, oldest: Unacknowledged, age_ms: int, timeout_ms: int) -> Problem:
    return {
        "kind": "near_timeout",
        "severity": "bad" if age_ms >= VERY_NEAR_TIMEOUT * timeout_ms else "mild",
        "vhost": oldest.queue.virtual_host.name,
        "queue": oldest.queue.name,
        "channel": channel,
        "consumer_tag": None if oldest.consumer is None else oldest.consumer.tag,
        "count": 1,
        "age_ms": age_ms,
        "timeout_ms": timeout_ms,
    }


def _alarm(call: Call, resource: str) -> Problem:
    """What is running out; with whose space it is, where that is not this machine's."""
    store = call.management.server.store_status() if resource == "disk" else None
    whose = {"store": store["name"]} if store is not None and store["is_low"] else {}
    return {"kind": f"{resource}_alarm", "severity": "bad", "count": 1, **whose}


async def list_problems(call: Call) -> Answer:
    """What is wrong now; of each kind the worst are shown, and how many there are."""
    slices, by_kind = Slices(), dict[str, list[Problem]]()
    problems = [_alarm(call, resource) for resource in call.broker.alarms.raised]
    hosts = open_hosts(call)
    for name in hosts:
        host = call.broker.virtual_hosts.get(name)
        if host is None:
            continue  # it has gone meanwhile
        for problem in of_policies(host):
            by_kind.setdefault(problem["kind"], []).append(problem)
        for queue in list(host.queues.values()):
            trouble = None if queue.is_deleted else of_queue(call.management.samples, queue)
            if trouble is not None:
                by_kind.setdefault(trouble["kind"], []).append(trouble)
            await slices.take_turn()
    if held := await near_timeout(call, hosts):
        by_kind["near_timeout"] = held
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
        found.sort(key=lambda one: (-one["count"], -one.get("age_ms", 0)))
        problems += found[:SHOWN_OF_EACH]
    problems.sort(key=lambda one: one["severity"] != "bad")
    return answer_json({"problems": problems, "totals": totals})


ENDPOINTS = (Endpoint("/api/x/problems", {"GET": (Access.MANAGEMENT, list_problems)}),)
