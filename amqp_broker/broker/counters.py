"""Counters of what happened to messages: in each queue and exchange, on each channel, connection and virtual host, and
by protocol.

Always on, so counting costs no call: whoever does something for a message adds one to a plain integer that it has at
hand, and sums are made when somebody asks. What a channel has counted goes on in its connection and its virtual host
when it ends, and what a queue has counted in the broker when it is deleted, so that no total shrinks. The names in
``stats`` are those of RabbitMQ's ``message_stats``.

Holds no rates; those are for whoever asks again and again.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from amqp_broker.broker.dead_letter import DeathReason

# As RabbitMQ's metrics call the protocols that it has.
AMQP091: Final = "amqp091"
AMQP10: Final = "amqp10"
MQTT: Final = {3: "mqtt310", 4: "mqtt311", 5: "mqtt50"}  # by the level of the protocol
STOMP: Final = "stomp"
STREAM: Final = "stream"


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

    def add_deliveries(self, other: Counts) -> None:
        """Add what a part has counted of what queues and channels have alike."""
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
    """The counts of a queue: what it took, and what clients of AMQP 0-9-1 did. Those of other protocols have parts of
    their own, which ``stats`` adds.
    """

    __slots__ = ("_deaths", "_of_others", "disk_reads", "disk_writes")

    def __init__(self) -> None:
        super().__init__()
        self.disk_reads = 0  # messages that were on the disk only, and came back
        self.disk_writes = 0  # messages that were kept, or went to the disk only
        self._deaths: dict[tuple[DeathReason, bool], int] | None = None  # most queues know none
        self._of_others: dict[str, Counts] | None = None

    def of(self, protocol: str) -> Counts:
        """What clients of a protocol have done, for those to add to."""
        if protocol == AMQP091:
            return self
        if self._of_others is None:
            self._of_others = {}
        found = self._of_others.get(protocol)
        if found is None:
            found = self._of_others[protocol] = Counts()
        return found

    def by_protocol(self) -> dict[str, Counts]:
        """What clients have done, by the protocol that they speak."""
        found: dict[str, Counts] = {AMQP091: self}
        if self._of_others is not None:
            found.update(self._of_others)
        return found

    def stats(self) -> dict[str, int]:
        """All of them, by RabbitMQ's names where it has one."""
        counted = super().stats() if self._of_others is None else self.all().stats()
        return counted | {"disk_reads": self.disk_reads, "disk_writes": self.disk_writes}

    def all(self) -> Counts:
        """What clients of all protocols have done."""
        if self._of_others is None:
            return self
        sums = Counts()
        for part in self.by_protocol().values():
            sums.add_deliveries(part)
        return sums

    def died(self, reason: DeathReason, count: int, *, has_exchange: bool) -> None:
        """So many messages died in the queue.

        Args:
            has_exchange: whether it named one for its dead letters then: a policy may change that.
        """
        if self._deaths is None:
            self._deaths = {}
        key = (reason, has_exchange)
        self._deaths[key] = self._deaths.get(key, 0) + count

    def deaths(self) -> dict[tuple[str, bool], int]:
        """The numbers of messages that died, by the reason and whether a dead-letter exchange was named."""
        return {(str(reason), named): count for (reason, named), count in (self._deaths or {}).items()}


class DiskCounts:
    """The sums of what queues have written and read."""

    __slots__ = ("reads", "writes")

    def __init__(self, reads: int = 0, writes: int = 0) -> None:
        self.reads = reads
        self.writes = writes

    def add(self, counts: QueueCounts) -> None:
        """Add what a queue has counted."""
        self.reads += counts.disk_reads
        self.writes += counts.disk_writes

    def copy(self) -> DiskCounts:
        """The same, to be added to apart."""
        return DiskCounts(self.reads, self.writes)


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
        self.add_deliveries(other)
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


class CountsByProtocol:
    """The sums of what channels have counted, by the protocol that their clients spoke."""

    __slots__ = ("_sums",)

    def __init__(self) -> None:
        self._sums: dict[str, ChannelCounts] = {}

    def of(self, protocol: str) -> ChannelCounts:
        """The sums of one protocol, to add to."""
        sums = self._sums.get(protocol)
        if sums is None:
            sums = self._sums[protocol] = ChannelCounts()
        return sums

    def add(self, protocol: str, counts: ChannelCounts) -> None:
        """Add what a channel has counted."""
        self.of(protocol).add(counts)

    def add_all(self, other: CountsByProtocol) -> None:
        """Add other sums."""
        for protocol, counts in other.by_protocol().items():
            self.add(protocol, counts)

    def by_protocol(self) -> dict[str, ChannelCounts]:
        """The sums."""
        return self._sums

    def all(self) -> ChannelCounts:
        """The sum over all protocols."""
        return total(self._sums.values())


class Churn:
    """The numbers of channels and queues that have come and gone since the start; what a start finds is not new."""

    __slots__ = ("channels_closed", "channels_opened", "queues_created", "queues_declared", "queues_deleted")

    def __init__(self) -> None:
        self.channels_opened = 0  # sessions of AMQP 1.0, and the one of each connection of MQTT, STOMP and streams
        self.channels_closed = 0  # for whatever reason
        self.queues_declared = 0  # asked for by name or without; those that were there, or were refused, as well
        self.queues_created = 0
        self.queues_deleted = 0  # with their connection or virtual host, unused or expired ones as well


class Death(NamedTuple):
    """The kind of a dead letter, by which they are counted."""

    reason: str
    queue_type: str
    has_exchange: bool  # as ``QueueCounts.died`` has it


class QueueSums:
    """The sums of what queues have counted, by their type but for what concerns the disk."""

    __slots__ = ("deaths", "deliveries", "disk")

    def __init__(self) -> None:
        self.disk = DiskCounts()
        self.deliveries: dict[tuple[str, str], Counts] = {}  # by protocol and type of queue
        self.deaths: dict[Death, int] = {}

    def add(self, queue_type: str, counts: QueueCounts) -> None:
        """Add what a queue has counted."""
        self.disk.add(counts)
        for protocol, part in counts.by_protocol().items():
            self._of(protocol, queue_type).add_deliveries(part)
        for (reason, has_exchange), count in counts.deaths().items():
            death = Death(reason, queue_type, has_exchange)
            self.deaths[death] = self.deaths.get(death, 0) + count

    def copy(self) -> QueueSums:
        """The same, to be added to apart."""
        found = QueueSums()
        for key, counts in self.deliveries.items():
            found.deliveries[key] = Counts()
            found.deliveries[key].add_deliveries(counts)
        found.disk = self.disk.copy()
        found.deaths.update(self.deaths)
        return found

    def _of(self, protocol: str, kind: str) -> Counts:
        sums = self.deliveries.get((protocol, kind))
        if sums is None:
            sums = self.deliveries[protocol, kind] = Counts()
        return sums
