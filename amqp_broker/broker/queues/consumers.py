"""Consumers of a queue, and whose turn it is. Where only one of them gets messages: ``single_active.py``.

A consumer is *ready* while its prefetch window and its channel have room. Those that are not are parked, so that
choosing the next one never walks over blocked ones; whoever makes room (an acknowledgement, a drained socket, a
changed prefetch) calls ``resume``. Among the ready ones of the highest priority it goes round robin (RabbitMQ,
"Consumer Priorities"). Holds no messages.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

from sortedcontainers import SortedDict

from amqp_broker.broker.message import Message
from amqp_broker.compilation import mypyc_attr
from amqp_broker.wire.strings import encode_shortstr
from amqp_broker.wire.table import Table

if TYPE_CHECKING:
    from amqp_broker.broker.counters import Counts
    from amqp_broker.broker.descriptions import ChannelInfo
    from amqp_broker.broker.queues.base import Queue

Key = TypeVar("Key")
Member = TypeVar("Member")


def in_turn(members: dict[Key, Member], last_served: Key | None) -> list[Member]:
    """Members that share room (a channel's consumers, a connection's channels), in the order in which they may take it.

    Who is asked first may take all of it. So the first is the one behind the member that was served last; were it
    always the oldest, the others would wait until that one wants nothing more.
    """
    in_order = list(members.values())
    if len(in_order) < 2 or last_served not in members:
        return in_order
    first = list(members).index(last_served) + 1
    return in_order[first:] + in_order[:first]


@mypyc_attr(allow_interpreted_subclasses=True)
class Deliveries:
    """The receiver of a consumer's messages: a channel, as the domain sees it.

    No Protocol: it is asked and told for each message, and what mypyc knows by a base is several times as fast.
    """

    has_room: bool
    selects: Callable[[Message], bool] | None = None  # of a stream's entries, those that it wants; None for all

    def deliver(self, consumer: Consumer, message: Message, header: bytes) -> None:
        """Send a message to the client; ``header`` is the content header to send with it."""
        raise NotImplementedError

    def consumer_cancelled(self, consumer: Consumer) -> None:
        """The queue has gone, and the consumer with it."""
        raise NotImplementedError

    def inspect(self) -> ChannelInfo:
        """Describe the channel, for those who look in."""
        raise NotImplementedError

    def counts_in(self, queue: Queue) -> Counts:
        """Where in a queue is counted what the client gets from there."""
        return queue.counts


class Consumer:
    """One ``basic.consume``.

    Args:
        queue: what it consumes.
        tag: its consumer tag, unique in its channel.
        deliveries: the channel that consumes.
        prefetch_count: at most so many unacknowledged messages; 0 for no limit.
    """

    __slots__ = (
        "arguments",
        "counts",
        "deliveries",
        "encoded_tag",
        "is_exclusive",
        "is_parked",
        "no_ack",
        "prefetch_count",
        "priority",
        "queue",
        "tag",
        "unacknowledged_count",
    )

    def __init__(
        self,
        queue: Queue,
        tag: str,
        deliveries: Deliveries,
        *,
        no_ack: bool = False,
        is_exclusive: bool = False,
        priority: int = 0,
        prefetch_count: int = 0,
        arguments: Table | None = None,
    ) -> None:
        self.queue = queue
        self.tag = tag
        self.encoded_tag = encode_shortstr(tag)
        self.deliveries = deliveries
        self.counts = deliveries.counts_in(queue)  # for the deliveries to add to
        self.no_ack = no_ack
        self.is_exclusive = is_exclusive
        self.priority = priority
        self.prefetch_count = 0 if no_ack else prefetch_count
        self.arguments: Table = arguments or {}
        self.unacknowledged_count = 0
        self.is_parked = False

    @property
    def is_ready(self) -> bool:
        """Whether one more message may be delivered to it now."""
        if self.prefetch_count and self.unacknowledged_count >= self.prefetch_count:
            return False
        return self.deliveries.has_room


class Consumers:
    """All the consumers of one queue, which take turns."""

    __slots__ = ("_all", "_exclusive_count", "_highest", "_levels", "_only", "no_ack_count")

    def __init__(self) -> None:
        self._all: dict[Consumer, None] = {}
        # By falling priority, made with the first one. In a level whose turn it is comes first; there may be very many.
        self._levels: SortedDict[int, OrderedDict[Consumer, None]] | None = None
        self._highest: OrderedDict[Consumer, None] | None = None  # the first level: asking the dictionary takes long
        self._only: Consumer | None = None  # who is there alone, as most often: asking the level takes long as well
        self._exclusive_count = 0
        self.no_ack_count = 0  # of those that want no acknowledgements

    def __len__(self) -> int:
        return len(self._all)

    def __contains__(self, consumer: Consumer) -> bool:
        return consumer in self._all

    def __iter__(self) -> Iterator[Consumer]:
        return iter(self._all)

    @property
    def active(self) -> Consumer | None:
        """The single active consumer, where there is such a thing."""
        return None

    @property
    def is_held_exclusively(self) -> bool:
        """Whether one consumer shut out all others."""
        return self._exclusive_count > 0

    def add(self, consumer: Consumer) -> None:
        """Let a consumer take its turns."""
        self._all[consumer] = None
        self._exclusive_count += consumer.is_exclusive
        self.no_ack_count += consumer.no_ack
        self._queue_up(consumer)

    def remove(self, consumer: Consumer) -> None:
        """Take a consumer out."""
        if consumer in self._all:
            del self._all[consumer]
            self._exclusive_count -= consumer.is_exclusive
            self.no_ack_count -= consumer.no_ack
        self._leave_level(consumer)
        consumer.is_parked = False  # nobody is to resume it

    def resume(self, consumer: Consumer) -> bool:
        """Let a parked consumer take its turns again if it is ready; returns whether it does now."""
        if not consumer.is_parked or not consumer.is_ready:
            return False
        self._queue_up(consumer)
        return True

    def next_ready(self) -> Consumer | None:
        """Whose turn it is; None when nobody is ready. It has had its turn with that."""
        only = self._only
        if only is not None and only.is_ready:  # the usual case, once a message
            return only
        next_consumer = self.first_ready()
        if next_consumer is not None and self._highest is not None:
            self._highest.move_to_end(next_consumer)
        return next_consumer

    def first_ready(self) -> Consumer | None:
        """Whose turn it is; None when nobody is ready."""
        while self._highest:
            level = self._highest
            while level:
                consumer = next(iter(level))
                if consumer.is_ready:
                    return consumer
                del level[consumer]
                consumer.is_parked = True
                self._note_only()
            self._drop_level(consumer.priority)
        return None

    def park(self, consumer: Consumer) -> None:
        """Give it no turn any more until it is resumed: it has no room."""
        consumer.is_parked = True
        self._leave_level(consumer)

    def _queue_up(self, consumer: Consumer) -> None:
        consumer.is_parked = False
        levels = self._levels
        if levels is None:
            levels = self._levels = SortedDict()
        level = levels.get(-consumer.priority)
        if level is None:
            level = levels[-consumer.priority] = OrderedDict()
            self._highest = levels.peekitem(0)[1]
        level[consumer] = None
        self._note_only()

    def _leave_level(self, consumer: Consumer) -> None:
        level = self._levels.get(-consumer.priority) if self._levels is not None else None
        if level is not None and consumer in level:
            del level[consumer]
            if level:
                self._note_only()
            else:
                self._drop_level(consumer.priority)

    def _drop_level(self, priority: int) -> None:
        levels = self._levels
        if levels is not None:
            del levels[-priority]
            self._highest = levels.peekitem(0)[1] if levels else None
            self._note_only()

    def _note_only(self) -> None:
        highest = self._highest
        self._only = next(iter(highest)) if highest is not None and len(highest) == 1 else None
