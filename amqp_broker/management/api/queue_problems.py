"""Problems of a queue, as the list of problems and the list of queues tell of them alike.

Holds no endpoint.
"""

from __future__ import annotations

from typing import Any

from amqp_broker.broker.queues.base import Queue
from amqp_broker.management.samples import LATEST_LOOKS, Samples
from amqp_broker.management.things import queue_key

UNACKNOWLEDGED_MANY = 100  # fewer may be what a consumer is at work on
SETTLED = ("ack", "reject", "requeue")

Problem = dict[str, Any]


def rate_in(samples: Samples, queue: Queue) -> float:
    """Messages that come each second."""
    return samples.rate(queue_key(queue), "publish")


def rate_out(samples: Samples, queue: Queue) -> float:
    """Messages that go each second."""
    return samples.rate(queue_key(queue), "deliver_get")


def is_stuck(queue: Queue) -> bool:
    """Whether messages wait and nobody consumes; those in a log are to stay."""
    return queue.ready_count > 0 and not queue.consumers and not queue.is_log


def of_queue(samples: Samples, queue: Queue) -> Problem | None:
    """What is wrong with a queue; None when it is well."""
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


def sign_of(samples: Samples, queue: Queue) -> dict[str, str] | None:
    """The kind and the severity of what is wrong with a queue; None when it is well."""
    problem = of_queue(samples, queue)
    return None if problem is None else {name: problem[name] for name in ("kind", "severity")}


def nobody_settles(samples: Samples, queue: Queue) -> bool:
    """Whether nothing that was delivered was settled in the last minute; of few messages, in all of it."""
    key, unacknowledged = queue_key(queue), queue.unacknowledged_count
    history = samples.values(key, "messages_unacknowledged")
    if not unacknowledged or len(history) < 2 or history[-1] < history[0]:
        return False
    if unacknowledged < UNACKNOWLEDGED_MANY and (len(history) < LATEST_LOOKS or not history[0]):
        return False
    settled = [samples.values(key, name) for name in SETTLED]
    return all(counts[0] == counts[-1] for counts in settled)
