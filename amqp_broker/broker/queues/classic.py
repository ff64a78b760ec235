"""A queue: messages that are ready, messages that wait for their acknowledgement, and the consumers they go to.

Theory of operation. A published message goes straight to a consumer that is ready when nothing waits before it; else
it is appended to the ready messages. Whatever may let a waiting message go (an acknowledgement, a requeue, a new
consumer, a drained socket) only marks the queue as changed; when the chunk that is being handled is done, the broker
pumps every changed queue once. Expiry looks at the head only, as in RabbitMQ's classic queues, and one timer stands
for the head's deadline.

Holds no routing and no permissions. What a quorum queue does otherwise is in ``quorum_queue.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from operator import attrgetter
from typing import TYPE_CHECKING

from amqp_broker.broker.arguments import QueueArguments, check_consumer_arguments
from amqp_broker.broker.dead_letter import DeathReason
from amqp_broker.broker.message import Message
from amqp_broker.broker.queues.consumers import Consumer, Consumers, Deliveries
from amqp_broker.broker.queues.paging import IN_MEMORY_MIN, OVERHEAD_BYTES
from amqp_broker.broker.queues.ready import ByPriority, FirstInFirstOut, ReadyMessages
from amqp_broker.broker.queues.returning import Returning
from amqp_broker.broker.works import SLICE_MESSAGES, Work
from amqp_broker.errors import AmqpError, ReplyCode, access_refused, precondition_failed
from amqp_broker.wire.table import Table

if TYPE_CHECKING:
    from amqp_broker.broker.timers import Timer
    from amqp_broker.broker.virtual_host import VirtualHost

position_of = attrgetter("position")


class QueueBusy(Exception):
    """A queue is asked for what it cannot tell yet: its head is on the disk, or it has much to do. Ask again when it
    says so (``Queue.wait``).
    """

    def __init__(self, queue: Queue) -> None:
        super().__init__(queue)
        self.queue = queue


class Queue:
    """A classic queue.

    Args:
        virtual_host: where it lives.
        name: its name.
        durable: whether its definition outlives the broker.
        auto_delete: whether it goes when its last consumer goes.
        owner: the connection that alone may use it (an exclusive queue); None for everybody's.
        table: the arguments as they were declared.
        arguments: the same, read.
    """

    prefetch_count_default = 0  # for consumers that ask for no limit; 0 gives them none

    def __init__(
        self,
        virtual_host: VirtualHost,
        name: str,
        *,
        durable: bool,
        auto_delete: bool,
        owner: object | None,
        table: Table,
        arguments: QueueArguments,
    ) -> None:
        self.virtual_host = virtual_host
        self.name = name
        self.durable = durable
        self.auto_delete = auto_delete
        self.owner = owner
        self.table = table
        self.arguments = arguments
        self.consumers = self._make_consumers()
        self.ready: ReadyMessages = self._make_ready()
        self.ready_count = 0
        self.ready_bytes = 0
        self.unacknowledged_count = 0
        self.dying_count = 0  # of messages that died here and are not on their way to the dead-letter exchange yet
        self.is_deleted = False
        self.is_changed = False
        self.reference = 0  # of the journal's record
        self.handed_out_reference = 0  # of the record that keeps the marks below
        self.handed_out_through = [0] * ((arguments.priority_max or 0) + 1)  # a message's reference, by priority
        self.has_moved_mark = False
        self._waiting: list[Callable[[], None]] = []
        self._had_consumers = False
        self._position = 0
        self._head_timer: Timer | None = None
        self._unused_timer: Timer | None = None
        self._unused_too_long_at_ms = 0
        self._may_expire = arguments.message_ttl_ms is not None
        self._has_length_limit = arguments.length_max is not None or arguments.length_bytes_max is not None
        self._refuses_overflow = self._has_length_limit and arguments.overflow != "drop-head"
        self._has_bands = arguments.priority_max is not None
        self._minds_what_waits = self._has_length_limit or arguments.priority_max is not None
        self.restart_unused_timer()

    def __str__(self) -> str:
        return f"queue '{self.name}' in vhost '{self.virtual_host.name}'"

    # --- what subclasses do otherwise

    def _make_ready(self) -> ReadyMessages:
        if self.arguments.priority_max is None:
            return FirstInFirstOut()
        return ByPriority(self.arguments.priority_max)

    def _make_consumers(self) -> Consumers:
        return Consumers(self.arguments.has_single_active_consumer)

    def header_to_deliver(self, message: Message) -> bytes:
        """The content header that goes to a consumer with a message that was returned before."""
        return message.header

    def header_to_get(self, message: Message) -> bytes:
        """The content header that goes to a client that asked for this message with ``basic.get``."""
        return message.header

    def check_channel_prefetch(self) -> None:
        """Refuse a consumer whose channel shares one prefetch window, where the queue's type cannot do that."""

    def check_get(self) -> None:
        """Refuse ``basic.get`` where the queue's type cannot do that."""

    def check_exclusive_use(self, exclusive: bool) -> None:
        """Refuse a consumer beside an exclusive one, and an exclusive one beside another.

        Raises:
            AmqpError: 403.
        """
        is_shared = len(self.consumers) > 0 or self.arguments.has_single_active_consumer
        if self.consumers.is_held_exclusively or (exclusive and is_shared):
            raise access_refused(f"{self} in exclusive use")

    def check_deletion(self, *, if_unused: bool, if_empty: bool) -> None:
        """Refuse a deletion whose condition does not hold.

        Raises:
            AmqpError: 406, or 540 where the queue's type knows no such condition.
        """
        self.be_current()
        if if_empty and self.ready_count:
            raise precondition_failed(f"{self} not empty")
        if if_unused and len(self.consumers):
            raise precondition_failed(f"{self} in use")

    # --- access

    def check_access(self, owner: object) -> None:
        """Refuse anybody but the owner of an exclusive queue.

        Raises:
            AmqpError: 405.
        """
        if self.owner is not None and self.owner is not owner:
            raise self.locked()

    def locked(self) -> AmqpError:
        """The 405 that everybody but its owner gets."""
        return AmqpError(
            ReplyCode.RESOURCE_LOCKED,
            f"cannot obtain exclusive access to locked {self}. It could be originally declared on another connection "
            "or the exclusive property value does not match that of the original declaration.",
        )

    # --- messages in

    def publish(self, message: Message) -> bool:
        """Take a message that was routed here; returns False when the length limit refuses it."""
        if self.is_changed and self._minds_what_waits:
            self._pump(SLICE_MESSAGES)  # what could go before it came neither counts nor lets it go first
        if self._refuses_overflow and self._would_overflow(message):
            if self.arguments.overflow == "reject-publish-dlx" and self.arguments.dead_letter_exchange is not None:
                self._dead_letter([message], DeathReason.MAXLEN)
            return False
        self._position = message.position = self._position + 1
        if self._may_expire and self.arguments.message_ttl_ms is not None:
            self._limit_life(message, self.arguments.message_ttl_ms)
        elif message.expires_at_ms is not None:
            self._may_expire = True
        if not self.ready_count:
            consumer = self.consumers.next_ready()
            if consumer is not None:
                self._deliver(consumer, message)
                return True
        self._append(message, self.virtual_host.paging.is_short)
        has_dropped = self._has_length_limit and self._drop_overflow()
        if self._may_expire and (has_dropped or self.ready.head() is message):
            self._expire_head()
        return True

    def keeps(self) -> bool:
        """Whether a persistent message that is published now is kept, in the journal.

        A queue that is not durable keeps none. One that hands the message straight to a consumer which wants no
        acknowledgement never holds it, so there is nothing to keep. Not to be relied on once another queue has had the
        message: that may have filled the same connection.
        """
        if not self.durable:
            return False
        if not self.consumers.no_ack_count or self.ready_count or self._refuses_overflow:
            return True
        consumer = self.consumers.first_ready()
        return consumer is None or not consumer.no_ack

    def _append(self, message: Message, may_page: bool) -> None:
        """Let a message wait: in memory, or on disk when it may go there or those before it are there."""
        paging, ready = self.virtual_host.paging, self.ready
        size_bytes = len(message.body)
        self.ready_count += 1
        self.ready_bytes += size_bytes
        if (may_page and self.ready_count > IN_MEMORY_MIN) or (ready.is_paged and ready.must_page(message)):
            self.virtual_host.durability.page_out(self, message)
            ready.append_paged(message)
            paging.read_ahead(self)
        else:
            ready.append(message)
            paging.used_bytes += size_bytes + OVERHEAD_BYTES

    def restore(self, message: Message) -> None:
        """Put a message that was read from the journal back; they come in the order of their publishing."""
        self._position = message.position = self._position + 1
        self._may_expire = self._may_expire or message.expires_at_ms is not None
        self._append(message, self.virtual_host.paging.has_disk)

    def restore_paged(
        self, references: Sequence[int], size_bytes: int, priority: int, *, may_expire: bool = False
    ) -> None:
        """The same for messages that stay on disk: no more than a chunk, of one priority, of so many bytes together."""
        self.ready_count += len(references)
        self.ready_bytes += size_bytes
        self._may_expire = self._may_expire or may_expire
        self.ready.extend_paged(references, size_bytes, priority)
        self.virtual_host.paging.read_ahead(self)

    def head_was_read(self, messages: list[Message]) -> None:
        """Some of what was on disk is in memory again, behind all that was before it."""
        for message in messages:
            self._position = message.position = self._position + 1
            self._may_expire = self._may_expire or message.expires_at_ms is not None
            self.virtual_host.paging.used_bytes += len(message.body) + OVERHEAD_BYTES
        if self._has_length_limit:
            self._drop_overflow()
        self.changed()
        self._let_askers_go_on()

    def _let_askers_go_on(self) -> None:
        waiting, self._waiting = self._waiting, []
        for go_on in waiting:
            go_on()

    def wait(self, go_on: Callable[[], None]) -> None:
        """Call somebody who got ``QueueBusy`` when it is worth asking again."""
        self._waiting.append(go_on)

    def was_handed_out(self, message: Message) -> bool:
        """Whether a message that was read from the journal had been handed out before."""
        return message.reference <= self.handed_out_through[self._band_of(message)]

    def _limit_life(self, message: Message, ttl_ms: int) -> None:
        deadline_ms = self.virtual_host.clock.monotonic_ms() + ttl_ms
        if message.expires_at_ms is None or deadline_ms < message.expires_at_ms:
            message.expires_at_ms = deadline_ms

    def _would_overflow(self, message: Message) -> bool:
        limits = self.arguments
        if limits.length_max is not None and self.ready_count + 1 > limits.length_max:
            return True
        return limits.length_bytes_max is not None and self.ready_bytes + len(message.body) > limits.length_bytes_max

    def _drop_overflow(self) -> bool:
        """Drop from the head until the limits hold; returns whether there is another head now."""
        if self._refuses_overflow:
            return False
        length_max, bytes_max = self.arguments.length_max, self.arguments.length_bytes_max
        dropped = []
        while (length_max is not None and self.ready_count > length_max) or (
            bytes_max is not None and self.ready_bytes > bytes_max and self.ready_count
        ):
            if self.ready.head() is None:
                break  # it is on its way from the disk
            dropped.append(self._take_ready())
        self._discard(dropped, DeathReason.MAXLEN)
        return bool(dropped)

    # --- messages out

    def pump(self, messages_max: int) -> int:
        """Deliver what can be delivered now, but not more than so much; returns how many messages it was."""
        self.is_changed = False
        delivered = self._pump(messages_max)
        if self._waiting and not self.is_changed:
            self._let_askers_go_on()
        return delivered

    def _pump(self, messages_max: int) -> int:
        if self._may_expire and not self._expire_head():
            return messages_max
        for delivered in range(messages_max):
            if not self.ready_count or (self.ready.is_paged and self.ready.head() is None):
                return delivered  # there is none, or it is on its way from the disk
            consumer = self.consumers.next_ready()
            if consumer is None:
                return delivered
            self._deliver(consumer, self._take_ready())
            if self._may_expire and not self._expire_head():
                return messages_max
        self.changed()
        return messages_max

    def changed(self) -> None:
        """Have the queue pumped when the present chunk is done."""
        if not self.is_changed:
            self.is_changed = True
            self.virtual_host.changed_queues.append(self)

    def catch_up(self) -> None:
        """Do now what ``changed`` put off, as far as it fits into a slice."""
        if self.is_changed:
            self.pump(SLICE_MESSAGES)

    def be_current(self) -> None:
        """Do all that ``changed`` put off, because somebody asks how things stand.

        Raises:
            QueueBusy: it is more than fits into a slice.
        """
        self.catch_up()
        if self.is_changed:
            raise QueueBusy(self)

    def get(self, no_ack: bool) -> Message | None:
        """Take the next message (``basic.get``); None when there is none.

        Raises:
            QueueBusy: that cannot be told yet, or there is one, but it must be read first.
        """
        self.check_get()
        self.restart_unused_timer()
        self.be_current()
        if self._may_expire and not self._expire_head():
            raise QueueBusy(self)
        if not self.ready_count:
            return None
        if self.ready.is_paged and self.ready.head() is None:
            raise QueueBusy(self)
        message = self._take_ready()
        self._handed_over(message, no_ack)
        if self._may_expire:
            self._expire_head()
        return message

    def _take_ready(self) -> Message:
        message = self.ready.pop()
        size_bytes = len(message.body)
        self.ready_count -= 1
        self.ready_bytes -= size_bytes
        self.virtual_host.paging.used_bytes -= size_bytes + OVERHEAD_BYTES
        if self.ready.is_paged:
            self.virtual_host.paging.read_ahead(self)
        return message

    def _deliver(self, consumer: Consumer, message: Message) -> None:
        if message.reference or not consumer.no_ack:
            self._handed_over(message, consumer.no_ack)
        header = self.header_to_deliver(message) if message.delivery_count else message.header
        consumer.deliveries.deliver(consumer, message, header)

    def _handed_over(self, message: Message, no_ack: bool) -> None:
        if no_ack:
            self.forget(message)
        else:
            self.unacknowledged_count += 1
            if message.reference:
                band = self._band_of(message) if self._has_bands else 0
                if message.reference > self.handed_out_through[band]:  # else a later one was handed out
                    self.handed_out_through[band] = message.reference
                    if not self.has_moved_mark:
                        self.has_moved_mark = True
                        self.virtual_host.durability.handed_out(self)

    def _band_of(self, message: Message) -> int:
        """Messages of one band are handed out in the order in which they came."""
        highest = self.arguments.priority_max
        return 0 if highest is None else min(message.priority, highest)

    # --- settlement

    def acknowledge(self, message: Message) -> None:
        """The client has done with a message."""
        self.unacknowledged_count -= 1
        if message.reference:
            self.virtual_host.durability.forget_message(message)

    def reject(self, messages: list[Message]) -> None:
        """The client refuses messages, the oldest first: they die here, those of a higher priority before others."""
        self.unacknowledged_count -= len(messages)
        if self.arguments.priority_max is not None:
            messages = sorted(messages, key=self._band_of, reverse=True)
        if self.is_deleted:
            self.virtual_host.durability.forget_messages(messages)
        else:
            self._discard(messages, DeathReason.REJECTED)

    def requeueing(self) -> Returning:
        """The client gives messages back, to be delivered again where they were before."""
        return self.taking_back()

    def taking_back(self) -> Returning:
        """Messages come back because the channel that had them is gone."""
        return Returning(self)

    def mark_returned(self, messages: list[Message]) -> list[Message]:
        """Mark what comes back; returns what may be delivered again, in the order of the positions."""
        for message in messages:
            message.redelivered = True
        return sorted(messages, key=position_of)

    def _limit_returned(self) -> None:
        """Keep to the length limits when messages have come back: what comes back may push out what was before it."""
        if self._has_length_limit:
            self._drop_overflow()

    def put_back(self, messages: list[Message], body_bytes: int, *, is_in_order: bool) -> None:
        """Messages that were marked are ready again.

        Args:
            body_bytes: of all their bodies together.
            is_in_order: whether they come in the order of their positions.
        """
        if not is_in_order:
            messages.sort(key=position_of)
        self.ready.requeue(messages)
        self.ready_count += len(messages)
        self.ready_bytes += body_bytes
        self.virtual_host.paging.used_bytes += body_bytes + OVERHEAD_BYTES * len(messages)
        self._limit_returned()
        self.changed()

    def forget(self, message: Message) -> None:
        """The message is no longer the queue's business."""
        if message.reference:
            self.virtual_host.durability.forget_message(message)

    # --- death

    def _discard(self, messages: list[Message], reason: DeathReason) -> None:
        """Messages die here; where there is a dead-letter exchange, they are forgotten when they are on their way."""
        if self.arguments.dead_letter_exchange is None:
            self.virtual_host.durability.forget_messages(messages)
        else:
            self._dead_letter(messages, reason)

    def _dead_letter(self, messages: list[Message], reason: DeathReason) -> None:
        self.dying_count += len(messages)
        for message in messages:
            self.virtual_host.dead_letters.append((self, message, reason))

    def dead_letter_left(self, message: Message) -> None:
        """A message that died here is on its way to the dead-letter exchange: only now it is forgotten."""
        self.forget(message)
        self.dying_count -= 1
        if not self.dying_count:
            self._let_askers_go_on()

    def check_dead_letters_left(self) -> None:
        """See that none would be lost with the queue: until it is on its way, a start finds it only here.

        Raises:
            QueueBusy: some are not on their way yet.
        """
        if self.dying_count:
            raise QueueBusy(self)

    def _expire_head(self) -> bool:
        """Let the messages die whose time has come, as far as they stand at the head; wait for the next one's time.

        Returns False when so many have died that others must have their turn before the rest.
        """
        now_ms = self.virtual_host.clock.monotonic_ms()
        expired: list[Message] = []
        head = self.ready.head()
        while head is not None and head.expires_at_ms is not None and head.expires_at_ms <= now_ms:
            if len(expired) == SLICE_MESSAGES:
                self._discard(expired, DeathReason.EXPIRED)
                self.changed()
                return False
            expired.append(self._take_ready())
            head = self.ready.head()
        if expired:
            self._discard(expired, DeathReason.EXPIRED)
        self._wait_for(None if head is None else head.expires_at_ms)
        return True

    def _wait_for(self, deadline_ms: int | None) -> None:
        """Be woken at this time or before; a timer that is early is left alone, because it looks again."""
        timer = self._head_timer
        if deadline_ms is None or (timer is not None and timer.deadline_ms <= deadline_ms):
            return
        if timer is not None:
            timer.cancel()
        self._head_timer = self.virtual_host.timers.at(deadline_ms, self._head_is_due)

    def _head_is_due(self) -> None:
        self._head_timer = None
        if not self.is_deleted:
            self._expire_head()

    # --- consumers

    def add_consumer(
        self,
        tag: str,
        deliveries: Deliveries,
        *,
        no_ack: bool,
        exclusive: bool,
        prefetch_count: int,
        has_channel_prefetch: bool,
        arguments: Table,
    ) -> Consumer:
        """Start a consumer (``basic.consume``); it gets its first messages when the queue is pumped.

        Raises:
            AmqpError: 403 in exclusive use; 406 for a wrong argument; 540 for what the queue's type does not do.
        """
        priority = check_consumer_arguments(str(self), self.arguments.queue_type, arguments)
        if has_channel_prefetch:
            self.check_channel_prefetch()
        self.check_exclusive_use(exclusive)
        consumer = Consumer(
            self,
            tag,
            deliveries,
            no_ack=no_ack,
            is_exclusive=exclusive,
            priority=priority,
            prefetch_count=prefetch_count or self.prefetch_count_default,
            arguments=arguments,
        )
        self.consumers.add(consumer)
        self._had_consumers = True
        self.changed()
        return consumer

    def remove_consumer(self, consumer: Consumer) -> None:
        """A consumer was cancelled, or its channel has gone; an auto-delete queue goes with its last one."""
        if self.is_deleted:
            return
        self.consumers.remove(consumer)
        if not len(self.consumers):
            if self.auto_delete and self._had_consumers:
                self.virtual_host.remove_queue(self)
                return
            self.restart_unused_timer()
        self.changed()

    def resume(self, consumer: Consumer) -> None:
        """A consumer may have room again."""
        if self.consumers.resume(consumer) and self.ready_count:
            self.changed()

    # --- the beginning and the end

    def recovered(self) -> None:
        """All that the journal holds of this queue is back: some had been handed out, and its head may be due."""
        if any(self.handed_out_through):
            for message in self.ready:
                message.redelivered = self.was_handed_out(message)
                message.delivery_count = self.virtual_host.durability.return_count(message.reference)
        if self._may_expire:
            self._expire_head()

    def restart_unused_timer(self) -> None:
        """Begin the time after which an unused queue goes (``x-expires``) anew; a timer that is early looks again."""
        expires_ms = self.arguments.expires_ms
        if expires_ms is None or len(self.consumers):
            return
        self._unused_too_long_at_ms = self.virtual_host.clock.monotonic_ms() + expires_ms
        if self._unused_timer is None:
            self._unused_timer = self.virtual_host.timers.at(self._unused_too_long_at_ms, self._may_be_unused)

    def _may_be_unused(self) -> None:
        self._unused_timer = None
        if self.is_deleted or len(self.consumers):
            return
        if self._unused_too_long_at_ms <= self.virtual_host.clock.monotonic_ms():
            self.virtual_host.remove_queue(self)
        else:
            self._unused_timer = self.virtual_host.timers.at(self._unused_too_long_at_ms, self._may_be_unused)

    def purge(self) -> tuple[int, Work]:
        """Drop all ready messages; returns how many there were, and what is to be finished before they are forgotten.

        Raises:
            QueueBusy: how many there are cannot be told yet.
        """
        self.be_current()
        count = self.ready_count
        return count, self.virtual_host.works.begin(self._empty())

    def _empty(self) -> Iterator[None]:
        """Drop all ready messages at once, those on disk as well; what it takes to forget them is left to be done."""
        dropped, self.ready = self.ready, self._make_ready()
        self.ready_count = self.ready_bytes = 0
        references = dropped.paged_references()
        self._let_askers_go_on()
        return self._forget_all(dropped, references)

    def _forget_all(self, dropped: ReadyMessages, references: Iterator[int]) -> Iterator[None]:
        durability, paging = self.virtual_host.durability, self.virtual_host.paging
        while messages := dropped.drain(SLICE_MESSAGES):
            paging.used_bytes -= sum(len(message.body) for message in messages) + OVERHEAD_BYTES * len(messages)
            durability.forget_messages(messages)
            if len(messages) == SLICE_MESSAGES:
                yield
        while some := list(islice(references, SLICE_MESSAGES)):
            durability.forget_references(some)
            if len(some) == SLICE_MESSAGES:
                yield

    def close(self) -> None:
        """The queue is gone: nothing more comes in or goes out, its consumers are told.

        Without the queue's own record a start knows that its messages are nobody's, whatever was done for each.
        """
        self.is_deleted = True
        for timer in (self._head_timer, self._unused_timer):
            if timer is not None:
                timer.cancel()
        consumers, self.consumers = list(self.consumers), Consumers()
        for consumer in consumers:
            consumer.deliveries.consumer_cancelled(consumer)
        self.virtual_host.durability.forget_queue(self)
        self.virtual_host.works.begin(self._empty())
