"""A classic queue: messages that are ready, and messages that wait for their acknowledgement.

Theory of operation. A published message goes straight to a consumer that is ready when nothing waits before it; else
it is appended to the backlog.

Holds no routing and no permissions. What every queue has is in ``base.py``, the ready messages are in ``backlog.py``,
how they die is in ``dead_lettering.py``; what a quorum queue does otherwise is in ``quorum.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from amqp_broker.broker.arguments import QUEUE_TYPE, REPLAY_ARGUMENT, QueueArguments
from amqp_broker.broker.dead_letter import DeathReason
from amqp_broker.broker.message import Message
from amqp_broker.broker.queues.backlog import Backlog
from amqp_broker.broker.queues.bands import Bands
from amqp_broker.broker.queues.base import QueueBusy
from amqp_broker.broker.queues.consumers import Consumer
from amqp_broker.broker.queues.dead_lettering import DeadLetteringQueue
from amqp_broker.broker.queues.ready import FirstInFirstOut, ReadyMessages, Stretch
from amqp_broker.broker.queues.ready_in_bands import ByPriority
from amqp_broker.broker.queues.returning import Returning, ReturningInOrder
from amqp_broker.broker.queues.traits import QueueTraits
from amqp_broker.compilation import mypyc_attr
from amqp_broker.wire.table import Table

if TYPE_CHECKING:
    from amqp_broker.broker.host import Host
    from amqp_broker.broker.queues.deduplicating import HeldValues

position_of = attrgetter("position")

VALUE_EFFORT: Final = 20  # of reading a value in a header, some 20 microseconds (``works.py``)

LEADER_LOCATOR: Final = "x-queue-leader-locator"

CLASSIC: Final = QueueTraits(
    arguments=(
        "x-expires",
        "x-message-ttl",
        "x-dead-letter-exchange",
        "x-dead-letter-routing-key",
        "x-max-length",
        "x-max-length-bytes",
        "x-max-priority",
        "x-overflow",
        "x-queue-mode",
        "x-queue-version",
        "x-single-active-consumer",
        QUEUE_TYPE,
        "x-queue-master-locator",
        LEADER_LOCATOR,
        REPLAY_ARGUMENT,
    ),
    leader_locator=LEADER_LOCATOR,
    consumer_arguments=("x-cancel-on-ha-failover", "x-priority", "x-credit"),
    apply_to="classic_queues",
    meaningless_policy_keys=frozenset(
        {
            "dead-letter-strategy",
            "delivery-limit",
            "max-age",
            "stream-max-segment-size-bytes",
            "initial-cluster-size",
        }
    ),
)


@mypyc_attr(allow_interpreted_subclasses=True)
class ClassicQueue(DeadLetteringQueue):
    """A queue declared without a type, or with ``x-queue-type`` classic; arguments as of ``Queue``."""

    __slots__ = ("_catches_up_first", "_position")

    def __init__(
        self,
        virtual_host: Host,
        name: str,
        *,
        durable: bool,
        auto_delete: bool,
        owner: object | None,
        table: Table,
        arguments: QueueArguments,
    ) -> None:
        super().__init__(
            virtual_host,
            name,
            durable=durable,
            auto_delete=auto_delete,
            owner=owner,
            table=table,
            arguments=arguments,
        )
        self._position = 0
        self._catches_up_first = False
        self._read_arguments()
        if arguments.replay_ms is not None:
            self.update_past()

    @classmethod
    def traits(cls) -> QueueTraits:
        return CLASSIC

    # --- what it is made of

    def make_bands(self) -> Bands | None:
        highest = self.declared.priority_max
        return None if highest is None else Bands(highest)

    def make_backlog(self) -> Backlog:
        host, bands = self.virtual_host, self.bands
        if bands is None:
            return Backlog(host.paging, host.durability, FirstInFirstOut)
        return Backlog(host.paging, host.durability, partial(ByPriority, bands))

    @property
    def ready(self) -> ReadyMessages:
        """The messages that wait, for whoever looks at them."""
        return self.backlog.messages

    @property
    def ready_count(self) -> int:
        return self.backlog.count

    @property
    def ready_bytes(self) -> int:
        return self.backlog.bytes

    def messages(self) -> Iterator[Message]:
        return iter(self.backlog.messages)

    def head(self) -> Message | None:
        return self.backlog.head()

    def on_disk(self) -> tuple[int, int]:
        return self.backlog.messages.paged()

    def stretches(self, skip: int, count: int) -> list[Stretch]:
        return self.backlog.messages.stretches(skip, count)

    # --- arguments

    def _read_arguments(self) -> None:
        """Remember of the arguments in force what is asked once a message."""
        self.read_limits()
        self._catches_up_first = self.limits is not None or self.bands is not None
        if self.arguments.takes_once != (self.held_values is not None):
            self.held_values = self._values_there() if self.arguments.takes_once else None

    def _values_there(self) -> HeldValues:
        """The values of what is ready; those of what is on the disk count when it is read."""
        from amqp_broker.broker.queues.deduplicating import HeldValues  # only who wants it pays for it

        return HeldValues(self.backlog.messages.in_memory())

    def look_through(self) -> Iterator[None]:
        values = self.held_values
        count = max(1, self.virtual_host.works.slice_messages // VALUE_EFFORT)
        while values is not None and values is self.held_values and values.look_at_some(count):
            yield

    @property
    def knows_each(self) -> bool:
        return self.held_values is not None

    def show(self, messages: list[Message]) -> None:
        if self.held_values is not None:
            self.held_values.are_ready(messages)

    def arguments_changed(self, before: QueueArguments) -> None:
        """Others are in force than before. A message keeps the time to live that it came with.

        (RabbitMQ 3.10.8 when a policy changes. What is on the disk only goes by the time that is in force when it is
        read.)
        """
        super().arguments_changed(before)
        self._read_arguments()
        self.virtual_host.lookup_version += 1  # where dead letters go may be remembered
        self.limits_changed(before)
        self.changed()

    # --- messages in

    def publish(self, message: Message) -> bool:
        values = self.held_values
        if values is not None and not values.take(message):
            self._drop_duplicate(message)
            return True
        limits, backlog = self.limits, self.backlog
        if self.is_changed and self._catches_up_first:
            # What could go before it came neither counts nor lets it go first.
            if limits is not None and limits.refuses:
                self.drop_all(limits)
            if self.dropping is None:
                self._deliver_ready(self.virtual_host.works.slice_messages)
        if limits is not None and limits.refuses and limits.would_overflow(backlog.count, backlog.bytes, message):
            if limits.sends_refused_on:
                self.dead_letter([message], DeathReason.MAXLEN)
            else:
                self.dropped([message], "refused")
            if values is not None:
                values.release(message)
            return False
        self._position = message.position = self._position + 1
        if self.may_expire and self.arguments.message_ttl_ms is not None:
            self.limit_life(message, self.arguments.message_ttl_ms)
        elif message.expires_at_ms is not None:
            self.may_expire = True
        if not backlog.count:
            consumer = self.consumers.next_ready()
            if consumer is not None:
                if message.reference:
                    self.counts.disk_writes += 1
                self._deliver(consumer, message)
                return True
        paging = self.virtual_host.paging
        backlog.append(self, message, paging.used_bytes > paging.budget_bytes and paging.is_short)
        if message.reference:
            self.counts.disk_writes += 1
        has_dropped = False
        if self.dropping is not None:
            self.dropping.came(message)
        elif limits is not None:
            has_dropped = self.keep_to_limits()
        if self.may_expire and (has_dropped or backlog.head() is message):
            self.expire_head()
        return True

    def _drop_duplicate(self, message: Message) -> None:
        """There is another one with its value: it is confirmed, and goes nowhere."""
        self.dropped([message], DeathReason.DUPLICATE)
        if self.virtual_host.observers.present:
            self.virtual_host.observers.died(self, message, DeathReason.DUPLICATE, None)
        if message.is_persistent:
            self.virtual_host.durability.dropped_duplicate()
        self.forget(message)

    def keeps(self, is_persistent: bool) -> bool:
        if not is_persistent or not self.durable:
            return False
        if not self.consumers.no_ack_count or self.backlog.count or (self.limits is not None and self.limits.refuses):
            return True
        if self.past is not None:
            return True  # written for that anyway
        consumer = self.consumers.first_ready()
        return consumer is None or not consumer.no_ack

    def restore(self, message: Message) -> None:
        self._position = message.position = self._position + 1
        self.may_expire = self.may_expire or message.expires_at_ms is not None
        if self.held_values is not None:
            self.held_values.are_ready([message])
        self.backlog.append(self, message, self.virtual_host.paging.has_disk)

    def restore_paged(self, references: Sequence[int], size_bytes: int, band: int, *, may_expire: bool = False) -> None:
        self.may_expire = self.may_expire or may_expire
        self.backlog.extend_paged(self, references, size_bytes, band)

    def head_was_read(self, messages: list[Message]) -> None:
        """Some of what was on disk is in memory again, behind all that was before it."""
        self.counts.disk_reads += len(messages)
        for message in messages:
            self._position = message.position = self._position + 1
            self.may_expire = self.may_expire or message.expires_at_ms is not None
        if self.held_values is not None:
            self.held_values.are_ready(messages)
        self.backlog.were_read(messages)
        self.restored_deliveries(messages)
        if self.limits is not None:
            self.keep_to_limits()
        self.changed()
        self.let_askers_go_on()

    def was_handed_out(self, message: Message) -> bool:
        """Whether a message that was read from the journal had been handed out before."""
        return message.reference <= self.handed_out_through[self.band_of(message.priority, message.header)]

    def recovered(self) -> None:
        """All that the journal holds of this queue is back: some had been handed out, and its head may be due."""
        if any(self.handed_out_through):
            messages = list(self.ready)
            for message in messages:
                self.virtual_host.durability.restore_deliveries(self, message)
            self.restored_deliveries(messages)
        if self.may_expire:
            self.expire_head()
        super().recovered()

    def restored_deliveries(self, messages: list[Message]) -> None:
        """Some that are ready have been read from the journal, and it is known again how often each was delivered."""

    # --- messages out

    def deliver_ready(self, messages_max: int) -> int:
        self.is_changed = False
        delivered = self._deliver_ready(messages_max)
        if self.limits is not None and not self.is_changed:
            self.keep_to_limits()
        if self.askers is not None and not self.is_changed:
            self.let_askers_go_on()
        return delivered

    def _deliver_ready(self, messages_max: int) -> int:
        if self.dropping is not None and self.limits is not None:
            self.drop_overflow(self.limits)
            if self.is_dropping():  # compiled code takes the attribute to be what it was
                return messages_max
        if self.may_expire and not self.expire_head():
            return messages_max
        backlog = self.backlog
        for delivered in range(messages_max):
            if not backlog.count or (backlog.messages.is_paged and backlog.messages.head() is None):
                return delivered  # there is none, or it is on its way from the disk
            consumer = self.consumers.next_ready()
            if consumer is None:
                return delivered
            self._deliver(consumer, backlog.take(self))
            if self.may_expire and not self.expire_head():
                return messages_max
        self.changed()
        return messages_max

    def get(self, no_ack: bool) -> Message | None:
        self.check_get()
        self.restart_unused_timer()
        self.be_current()
        if self.may_expire and not self.expire_head():
            raise QueueBusy(self)
        if not self.backlog.count:
            return None
        if self.backlog.is_head_on_disk:
            raise QueueBusy(self)
        message = self.backlog.take(self)
        self._handed_over(message, no_ack)
        if self.may_expire:
            self.expire_head()
        return message

    def _deliver(self, consumer: Consumer, message: Message) -> None:
        if message.reference or not consumer.no_ack or self.held_values is not None:
            self._handed_over(message, consumer.no_ack)
        header = self.header_to_deliver(message) if message.delivery_count else message.header
        consumer.deliveries.deliver(consumer, message, header)

    def _handed_over(self, message: Message, no_ack: bool) -> None:
        if self.held_values is not None:
            self.held_values.handed_over(message, no_ack)
        if no_ack:
            self.forget(message)
        else:
            self.unacknowledged_count += 1
            self.unacknowledged_bytes += len(message.body)
            if message.reference:
                if message.delivery_count:
                    self.virtual_host.durability.note_handed_out_again(message)
                bands = self.bands
                band = 0 if bands is None else bands.band_of(message.priority, message.header)
                if message.reference > self.handed_out_through[band]:  # else a later one was handed out
                    self.handed_out_through[band] = message.reference
                    if not self.has_moved_mark:
                        self.has_moved_mark = True
                        self.virtual_host.durability.handed_out(self)

    # --- messages out, whose turn it is not

    @property
    def lets_take_out(self) -> bool:
        return True

    def those_there(self, found: Stretch) -> list[Message]:
        ready, chunk, messages = self.backlog.messages, found.chunk, found.messages
        if not found.references:
            return ready.those_there(messages)
        if chunk is not None and chunk.band.has(chunk):
            there = set(chunk.references)
            return [message for message in messages if message.reference in there]
        found.chunk = None
        return ready.with_references({message.reference for message in messages}) if messages else []

    def take_out(self, found: Stretch, messages: list[Message]) -> None:
        if self.held_values is not None:
            self.held_values.release_all(messages)
        if found.chunk is None:
            self.backlog.take_out(self, messages)
        elif messages:
            found.chunk = self.backlog.take_out_of(self, found.chunk, messages)
        self.virtual_host.durability.forget_messages(messages)
        self.changed()

    # --- settlement

    def acknowledge(self, message: Message) -> None:
        self.unacknowledged_count -= 1
        self.unacknowledged_bytes -= len(message.body)
        if self.held_values is not None:
            self.held_values.release(message)
        if message.reference:
            self.virtual_host.durability.forget_message(message)

    def reject(self, messages: list[Message]) -> None:
        """The client refuses messages, the oldest first: they die here, those of a higher priority before others."""
        self.settled(len(messages), sum(len(message.body) for message in messages))
        messages = self.in_order_of_death(messages)
        if self.is_deleted:
            self.virtual_host.durability.forget_messages(messages)
        else:
            self.discard(messages, DeathReason.REJECTED)

    def in_order_of_death(self, messages: list[Message]) -> list[Message]:
        """Messages that are refused together, in the order in which they die."""
        bands = self.bands
        if bands is None:
            return messages
        return sorted(messages, key=lambda message: bands.band_of(message.priority, message.header), reverse=True)

    def settled(self, count: int, body_bytes: int) -> None:
        """So many messages, with so many bytes together, are no client's any more."""
        self.unacknowledged_count -= count
        self.unacknowledged_bytes -= body_bytes
        assert self.unacknowledged_count >= 0, f"more messages of {self} were settled than delivered"

    def taking_back(self) -> Returning:
        return ReturningInOrder(self)

    def mark_returned(self, messages: list[Message]) -> list[Message]:
        """Mark what comes back; returns what may be delivered again, in the order of the positions."""
        for message in messages:
            message.redelivered = True
        if self.held_values is not None:
            self.held_values.are_ready(messages)
        return sorted(messages, key=position_of)

    def put_back(self, messages: list[Message], body_bytes: int, *, is_in_order: bool) -> None:
        """Messages that were marked are ready again.

        Args:
            body_bytes: of all their bodies together.
            is_in_order: whether they come in the order of their positions.
        """
        if not is_in_order:
            messages.sort(key=position_of)
        assert messages[-1].position <= self._position, f"{self} gets back what it never had"
        self.backlog.put_back(messages, body_bytes)
        self.limit_returned()
        self.changed()

    def limit_returned(self) -> None:
        """Keep to the length limits when messages have come back: what comes back may push out what was before it."""
        if self.limits is not None:
            self.keep_to_limits()

    def append_again(self, messages: list[Message]) -> None:
        """Messages that were marked go to the back."""
        for message in messages:
            self._position = message.position = self._position + 1
            self.backlog.append(self, message, self.virtual_host.paging.is_short)
        self.changed()

    def forget_all(self, messages: list[Message]) -> None:
        """None of these is the queue's business any more."""
        self.virtual_host.durability.forget_messages(messages)

    # --- the end

    def empty(self) -> Iterator[None]:
        if self.held_values is not None:
            self.held_values.release_ready()
        rest = self.backlog.empty(self.virtual_host.works.slice_messages)
        self.let_askers_go_on()
        return rest
