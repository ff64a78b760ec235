"""Settling of deliveries, told to the queues: acknowledged, rejected, requeued, or given back in the end.

There may be very many of them, so they come in portions. Acknowledgements and rejections take effect one portion after
the other; what goes back to a queue does so in the end, in one piece, and only then its consumers have room again, so
that they get it in order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from amqp_broker.broker.counters import Counts
from amqp_broker.broker.message import Message
from amqp_broker.broker.observer import Settlement
from amqp_broker.broker.queues.base import Queue
from amqp_broker.broker.queues.consumers import Consumer
from amqp_broker.broker.queues.returning import Returning
from amqp_broker.broker.queues.unacknowledged import Unacknowledged

Origin = tuple[Queue, Consumer | None]  # where deliveries came from; a queue alone where the consumer does not matter


class Settling:
    """One settlement of a receiver's deliveries: what a channel, a session or a subscriber got.

    What was got without a consumer is done with before what consumers have, and each of these before the next, and
    filled up again, as in RabbitMQ; but when the whole receiver had no room, all its queues have their turn in the end
    instead.

    Args:
        settlement: what becomes of them.
        made_room: called with a consumer, or None, and how many deliveries less count against its window.
        settled: called with a queue and those of its messages that are settled now.
        has_consumers: whether the receiver has any.
        has_room: whether they may get more.
    """

    __slots__ = ("_is_by_consumer", "_made_room", "_refills_at_once", "_returning", "_room", "_settled", "_settlement")

    def __init__(
        self,
        settlement: Settlement,
        made_room: Callable[[Consumer | None, int], None],
        settled: Callable[[Queue, list[Message], Settlement], None],
        *,
        has_consumers: bool,
        has_room: bool,
    ) -> None:
        self._settlement = settlement
        self._made_room = made_room
        self._settled = settled
        self._is_by_consumer = settlement is not Settlement.ABANDONED and has_consumers
        self._refills_at_once = self._is_by_consumer and has_room
        self._returning: dict[Origin, Returning] = {}
        self._room: dict[Origin, Counter[Consumer | None]] = {}

    def add(self, deliveries: list[Unacknowledged]) -> None:
        """Take a portion, the oldest first."""
        settlement = self._settlement
        for origin, part in self._parts(deliveries):
            queue = origin[0]
            messages = [delivery.message for delivery in part]
            room = Counter([delivery.consumer for delivery in part])
            self._settled(queue, messages, settlement)
            if settlement is Settlement.ACKNOWLEDGED:
                for message in messages:
                    queue.acknowledge(message)
            elif settlement is Settlement.REJECTED:
                queue.reject(messages)
            else:
                self._return(origin, messages, room)
                continue
            self._make_room(queue, room)

    def _return(self, origin: Origin, messages: list[Message], room: Counter[Consumer | None]) -> None:
        if origin not in self._returning:
            queue = origin[0]
            is_requeued = self._settlement is Settlement.REQUEUED
            self._returning[origin] = queue.requeueing() if is_requeued else queue.taking_back()
            self._room[origin] = Counter()
        self._returning[origin].add(messages)
        self._room[origin].update(room)

    def finish(self) -> None:
        """There are no more."""
        for origin in sorted(self._returning, key=_names) if self._is_by_consumer else self._returning:
            self._returning[origin].finish()
            self._make_room(origin[0], self._room[origin])

    def _make_room(self, queue: Queue, room: Counter[Consumer | None]) -> None:
        for consumer, count in room.items():
            self._made_room(consumer, count)
        if self._refills_at_once:
            queue.catch_up()

    def _parts(self, deliveries: list[Unacknowledged]) -> list[tuple[Origin, list[Unacknowledged]]]:
        """The deliveries of each queue or, where it matters, of each consumer in the order of their names."""
        parts: dict[Origin, list[Unacknowledged]] = {}
        is_by_consumer = self._is_by_consumer
        for delivery in deliveries:
            origin = (delivery.queue, delivery.consumer if is_by_consumer else None)
            parts.setdefault(origin, []).append(delivery)
        if is_by_consumer:
            return sorted(parts.items(), key=lambda part: _names(part[0]))
        return list(parts.items())


def count_settled(settlement: Settlement, count: int, *counted: Counts) -> None:
    """Count so many deliveries that were settled; those that were abandoned count for nothing.

    Args:
        counted: where they are counted: in the receiver and in the queue.
    """
    for counts in counted:
        if settlement is Settlement.ACKNOWLEDGED:
            counts.acknowledged += count
        elif settlement is Settlement.REJECTED:
            counts.rejected += count
        elif settlement is Settlement.REQUEUED:
            counts.requeued += count


def _names(origin: Origin) -> tuple[str, str]:
    """The names of queue and consumer; what was got without one comes first."""
    queue, consumer = origin
    return queue.name, consumer.tag if consumer is not None else ""
