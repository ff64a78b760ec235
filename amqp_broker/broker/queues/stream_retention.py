"""Retention of a stream: what goes of it by size and by age, from the oldest on, and what the journal then forgets.

(RabbitMQ docs, "Streams and Super Streams", on data retention.)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

from amqp_broker.broker.queues.base import Queue
from amqp_broker.broker.queues.expiry import HeadTimer
from amqp_broker.broker.queues.stream_log import StreamLog
from amqp_broker.broker.queues.stream_log_chunk import TakenEntries

ENTRIES_FORGOTTEN_AT_ONCE: Final = 4096


class StreamRetention:
    """Drops the entries of a stream that are too old or too much.

    Args:
        queue: the stream; its arguments in force say what is too much.
        log: its entries.
        on_dropped: called when some are gone.
    """

    __slots__ = ("_dropped", "_log", "_on_dropped", "_queue", "_timer")

    def __init__(self, queue: Queue, log: StreamLog, on_dropped: Callable[[], None]) -> None:
        self._queue = queue
        self._log = log
        self._on_dropped = on_dropped
        self._dropped: deque[TakenEntries] = deque()  # that the journal has still, the oldest first
        self._timer = HeadTimer(queue.virtual_host.timers, self.drop_surplus)

    def drop_surplus(self) -> None:
        """Drop what is too old or too much now, and look again when the next is too old."""
        arguments = self._queue.arguments
        age_ms_max = arguments.age_ms_max
        if age_ms_max is None and arguments.length_bytes_max is None:
            return
        host = self._queue.virtual_host
        wall_ms_min = None if age_ms_max is None else host.clock.wall_ms() - age_ms_max
        taken = self._log.take_surplus(arguments.length_bytes_max, wall_ms_min)
        if taken:
            self._on_dropped()
            are_forgotten = len(self._dropped) > 0  # already, those before these
            self._dropped.extend(taken)
            if not are_forgotten:
                host.works.begin(self._forget_dropped())
        oldest_wall_ms = self._log.oldest_wall_ms
        if age_ms_max is not None and oldest_wall_ms is not None:
            due_in_ms = max(0, oldest_wall_ms + age_ms_max + 1 - host.clock.wall_ms())
            self._timer.wait_for(host.clock.monotonic_ms() + due_in_ms)

    def _forget_dropped(self) -> Iterator[None]:
        """Have the journal forget what was dropped, in the order of the offsets."""
        dropped, durability = self._dropped, self._queue.virtual_host.durability
        while dropped:
            some = dropped[0].next_references(ENTRIES_FORGOTTEN_AT_ONCE)
            # In the same batch of the journal as the entries' end: offsets never go back.
            durability.keep_state(self._queue, {"first_offset": dropped[0].first_offset})
            durability.forget_references(some)
            if not len(dropped[0]):
                dropped.popleft()
            if dropped:
                yield

    def forget_all(self) -> Iterator[None]:
        """Drop all entries at once, and have the journal forget them, in slices."""
        durability = self._queue.virtual_host.durability
        for taken in self._log.take_all():
            while len(taken):
                durability.forget_references(taken.next_references(ENTRIES_FORGOTTEN_AT_ONCE))
                yield

    def stop(self) -> None:
        """The stream is gone."""
        self._timer.stop()
