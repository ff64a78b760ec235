"""Changes that an administrator makes from a task of its own: when a queue can tell how it stands, and when they are
durable.

Holds no way of asking; those are the control socket and the HTTP API.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import trio

from amqp_broker.broker.broker import Broker
from amqp_broker.broker.queues.base import QueueBusy
from amqp_broker.broker.works import Work

Result = TypeVar("Result")


async def when_told(broker: Broker, change: Callable[[], Result]) -> Result:
    """Do something to a queue as soon as the queue can tell how it stands."""
    while True:
        try:
            return broker.handle(change)
        except QueueBusy as busy:
            may_be_asked = trio.Event()
            busy.queue.wait(may_be_asked.set)
            broker.handle(nothing_more)
            await may_be_asked.wait()


async def until_done(work: Work) -> None:
    """Return when the last slice of something is done."""
    done = trio.Event()
    work.when_done(done.set)
    await done.wait()


async def until_durable(broker: Broker) -> None:
    """Return when the journal has kept all that was changed so far."""
    await until_kept(broker, broker.durability.last_change)


async def until_kept(broker: Broker, position: int) -> None:
    """Return when the journal has kept all up to a position (``Durability.position``)."""
    while not broker.durability.is_kept(position):
        committed = trio.Event()
        broker.awaiting_commit[committed.set] = None
        broker.handle(nothing_more)  # what was written need not have been synced, if nobody waited
        try:
            await committed.wait()
        finally:
            broker.awaiting_commit.pop(committed.set, None)


def nothing_more() -> None:
    """What was asked for is done, piece by piece; what follows from it is to be done, and written."""
