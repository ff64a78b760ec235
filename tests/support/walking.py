"""Walks through queues (``broker/peeking.py``) in memory: the server floor's steps, the disk at hand."""

from __future__ import annotations

from collections.abc import Sequence

from amqp_broker.broker.broker import Broker
from amqp_broker.broker.peeking import Steps
from amqp_broker.server.walks import next_step


def one_step(broker: Broker, steps: Steps, wanted: Sequence[int] | None) -> Sequence[int] | None:
    """Take one step; returns what the next one needs, and None when there is none.

    Args:
        wanted: what this one needs; None for the first one.
    """
    payloads = None if wanted is None else broker.durability.read(wanted) if wanted else ()
    return broker.handle(lambda: next_step(steps, payloads))


def walk_through(broker: Broker, steps: Steps) -> None:
    """Take all steps."""
    wanted = one_step(broker, steps, None)
    while wanted is not None:
        wanted = one_step(broker, steps, wanted)
