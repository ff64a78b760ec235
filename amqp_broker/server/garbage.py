"""When the process looks for garbage that reference counting leaves: objects that refer to each other in a circle.

CPython looks through all objects whenever their number has grown by a quarter. Each message that is ready is an object,
so a growing backlog would be looked through again and again, 100 ms for each million of messages, in which nobody is
answered. Messages are in no circles, and a connection that has ended has let go of its parts (``dissolve``). Therefore:

- what exists when the broker has started is never looked at (``gc.freeze``);
- young objects are looked at as ever, in portions that take few milliseconds;
- old ones only while there are few objects, so that it takes no longer.

What connections leave free is handed back to the system at any rate; that takes no time.

These are settings of the whole process, so they belong to the command line, not to a broker that a program embeds.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable

import trio

from amqp_broker.broker.broker import Broker

YOUNG_OBJECTS = 10_000
YOUNG_PORTIONS = 4
NEVER = 1_000_000_000
INTERVAL_S = 5.0
FEW_OBJECTS = 50_000
OBJECTS_OF_A_CONNECTION = 60


async def collect_garbage(broker: Broker, connections_ended: Callable[[], int]) -> None:
    """Take the collector over; never returns, ends by cancellation.

    Args:
        broker: whose messages are counted.
        connections_ended: tells how many have ended so far.
    """
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, YOUNG_PORTIONS, NEVER)
    seen = 0
    while True:
        await trio.sleep(INTERVAL_S)
        ended = connections_ended()
        if ended != seen:
            if _objects(broker) < FEW_OBJECTS:
                seen = ended
                gc.collect()
            _give_memory_back()


def _give_memory_back() -> None:
    """Let the C library hand what it holds free back to the system; of itself it keeps all that lies below something
    that is in use. Only glibc can.
    """
    if sys.platform == "linux":
        import ctypes  # not before the broker is ready

        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def _objects(broker: Broker) -> int:
    """About how many objects there are to look through."""
    messages = sum(
        queue.ready_count + queue.unacknowledged_count
        for virtual_host in broker.virtual_hosts.values()
        for queue in virtual_host.queues.values()
    )
    return messages + OBJECTS_OF_A_CONNECTION * len(broker.open_connections)
