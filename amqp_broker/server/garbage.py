"""Times of looking for the garbage that reference counting leaves: objects that refer to each other in a circle.

CPython looks through all objects whenever their number has grown by a quarter. Each message that is ready is an object,
so a growing backlog would be looked through again and again, 100 ms for each million of messages, in which nobody is
answered. Messages are in no circles, and a connection that has ended has let go of its parts. Therefore:

- what exists when the broker has started is never looked at (``gc.freeze``), nor is anything while it is made;
- young objects are looked at as ever, in portions that take few milliseconds;
- old ones only while there are few objects, queues and exchanges too, so that it takes no longer.

What connections leave free is handed back to the system at any rate; that takes a sixth of a millisecond for each MB.

These are settings of the whole process, so they belong to the command line, not to a broker that a program embeds.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import trio

from amqp_broker.broker.broker import Broker
from amqp_broker.broker.queues.classic import ClassicQueue

YOUNG_OBJECTS = 2_000
YOUNG_PORTIONS = 2  # then three together: in smaller ones the longest look takes less time, and all of them as much
NEVER = 1_000_000_000
FREE_BYTES_KEPT_MAX = 67_108_864
FREE_SHARE_KEPT = 1 / 32  # of the memory that there is; in a small container 64 MiB would be a quarter of it
OWN_MAPPING_BYTES_MIN = 8_388_608  # what is larger is given back as soon as it is free
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
INTERVAL_S = 5.0
MESSAGES_A_TURN = 1_000
FEW_OBJECTS = 20_000
OBJECTS_OF_A_CONNECTION = 60
OBJECTS_OF_A_QUEUE = 20  # or an exchange; half of them are the looks at its numbers


@contextmanager
def without_collections() -> Iterator[None]:
    """Look for no garbage while a journal is read: what is made then stays, and with many queues every other
    microsecond would be spent on looking at it.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


async def collect_garbage(broker: Broker, connections_ended: Callable[[], int], memory_bytes: int) -> None:
    """Take the collector over; never returns, ends by cancellation.

    Args:
        broker: whose messages are counted.
        connections_ended: tells how many have ended so far.
        memory_bytes: what this process may have.
    """
    _keep_some_memory(min(FREE_BYTES_KEPT_MAX, int(memory_bytes * FREE_SHARE_KEPT)))
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, YOUNG_PORTIONS, NEVER)
    seen = 0
    while True:
        await trio.sleep(INTERVAL_S)
        ended = connections_ended()
        if ended != seen:
            if not broker.is_unfinished and _objects(broker) < FEW_OBJECTS:  # what is purged is not gone at once
                seen = ended
                gc.collect()
            give_memory_back()


async def drop_messages(broker: Broker) -> None:
    """Let the messages go of a broker that nobody uses any more, in turns: dropping a million takes a second, and so
    long nobody else would be answered if the collector found them.
    """
    for virtual_host in list(broker.virtual_hosts.values()):  # somebody may have been about to change them
        for queue in list(virtual_host.queues.values()):
            if isinstance(queue, ClassicQueue):
                while queue.ready.drain(MESSAGES_A_TURN):
                    await trio.lowlevel.checkpoint()


def collect_all() -> None:
    """Look through all objects once, what is frozen too, where a whole broker is among what is not used any more.

    For each million of objects that takes some hundred milliseconds, so its messages are to be dropped before.
    """
    gc.unfreeze()
    gc.collect()
    give_memory_back()


def give_memory_back() -> None:
    """Let the C library hand what it holds free back to the system; of itself it keeps all that lies below something
    that is in use. Only glibc can.
    """
    _call_c("malloc_trim", 0)


def _keep_some_memory(size_bytes: int) -> None:
    """Let the C library hold on to some memory that is free, instead of giving it back to get it again at once.

    Each page that comes from the system costs a microsecond or two; a large body that comes and goes has hundreds.
    """
    _call_c("mallopt", _M_MMAP_THRESHOLD, OWN_MAPPING_BYTES_MIN)
    _call_c("mallopt", _M_TRIM_THRESHOLD, size_bytes)


def _call_c(name: str, *arguments: int) -> None:
    """Call a function of the C library, where it has one of this name."""
    if sys.platform == "linux":
        import ctypes  # not before the broker is ready

        function = getattr(ctypes.CDLL(None), name, None)
        if function is not None:
            function(*arguments)


def _objects(broker: Broker) -> int:
    """About how many objects there are to look through."""
    count = len(broker.dead_letters) + OBJECTS_OF_A_CONNECTION * len(broker.open_connections)
    for virtual_host in broker.virtual_hosts.values():
        queues = virtual_host.queues.values()
        count += sum(queue.ready_count + queue.unacknowledged_count for queue in queues)
        count += OBJECTS_OF_A_QUEUE * (len(queues) + len(virtual_host.exchanges))
    return count
