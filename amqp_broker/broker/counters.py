"""Counters of what happened to messages: in each queue and exchange, on each channel, connection and virtual host.

Always on, so counting costs no call: whoever does something for a message adds one to a plain integer that it has at
hand, and sums are made when somebody asks. What a channel has counted goes on in its connection and its virtual host
when it ends, so that no total shrinks. The names in ``stats`` are those of RabbitMQ's ``message_stats``.

Holds no rates; those are for whoever asks again and again.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from amqp_broker.broker.dead_letter import DeathReason


class Counts:
    """The counts that queues and channels have alike. Each number is for whoever does that to add to."""

    __slots__ = (
        "acknowledged",
        "delivered",
        "delivered_no_ack",
        "got",
        "got_empty",
        "got_no_ack",
        "published",
        "redelivered",
        "rejected",
        "requeued",
    )

    def __init__(self) -> None:
        self.published = 0  # by clients; in a queue all that it took, dead letters as well
        self.delivered = 0  # to consumers, to be acknowledged
        self.delivered_no_ack = 0
        self.got = 0  # by basic.get
        self.got_no_ack = 0
        self.got_empty = 0
        self.redelivered = 0  # of those delivered or got
        self.acknowledged = 0
        self.rejected = 0  # for good
        self.requeued = 0  # by the client

    def stats(self) -> dict[str, int]:
        """All of them, by RabbitMQ's names where it has one."""
        return {
            "publish": self.published,
            "deliver": self.delivered,
            "deliver_no_ack": self.delivered_no_ack,
            "get": self.got,
            "get_no_ack": self.got_no_ack,
            "get_empty": self.got_empty,
            "deliver_get": self.delivered + self.delivered_no_ack + self.got + self.got_no_ack,
            "redeliver": self.redelivered,
            "ack": self.acknowledged,
            "reject": self.rejected,
            "requeue": self.requeued,
        }


class QueueCounts(Counts):
    """The counts of a queue."""

    __slots__ = ("_deaths",)

    def __init__(self) -> None:
        super().__init__()
        self._deaths: dict[DeathReason, int] | None = None  # most queues know none

    def died(self, reason: DeathReason, count: int) -> None:
        """So many messages died in the queue."""
        if self._deaths is None:
            self._deaths = {}
        self._deaths[reason] = self._deaths.get(reason, 0) + count

    def deaths(self) -> dict[str, int]:
        """The numbers of messages that died, by the reason; also where no dead-letter exchange took them."""
        return {str(reason): count for reason, count in (self._deaths or {}).items()}


class ChannelCounts(Counts):
    """The counts of a channel, and the sums of connections and virtual hosts."""

    __slots__ = ("confirmed", "dropped", "returned")

    def __init__(self) -> None:
        super().__init__()
        self.confirmed = 0  # with basic.ack
        self.returned = 0  # unroutable and mandatory
        self.dropped = 0  # unroutable

    def add(self, other: ChannelCounts) -> None:
        """Add what a part has counted."""
        self.published += other.published
        self.delivered += other.delivered
        self.delivered_no_ack += other.delivered_no_ack
        self.got += other.got
        self.got_no_ack += other.got_no_ack
        self.got_empty += other.got_empty
        self.redelivered += other.redelivered
        self.acknowledged += other.acknowledged
        self.rejected += other.rejected
        self.requeued += other.requeued
        self.confirmed += other.confirmed
        self.returned += other.returned
        self.dropped += other.dropped

    def stats(self) -> dict[str, int]:
        """All of them, by RabbitMQ's names where it has one."""
        return super().stats() | {
            "confirm": self.confirmed,
            "return_unroutable": self.returned,
            "drop_unroutable": self.dropped,
        }


def total(parts: Iterable[ChannelCounts]) -> ChannelCounts:
    """The sum of what several have counted."""
    sums = ChannelCounts()
    for part in parts:
        sums.add(part)
    return sums
