"""What every queue is, whatever its type: its name and arguments, who uses it, and when it is looked at again.

Theory of operation. Whatever may let a waiting message go (an acknowledgement, a new consumer, a drained socket) only
marks the queue as changed; when the chunk that is being handled is done, the broker pumps every changed queue once.

A type derives from ``Queue`` and says what becomes of messages: ``publish``, ``pump``, ``get``, the settlements,
``empty`` and what a start puts back. All that a type may do otherwise has a name without an underscore. Holds no
messages, no expiry of messages and no length limit: a queue of messages that are taken out is in ``classic.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from amqp_broker.broker.arguments import QueueArguments, check_consumer_arguments
from amqp_broker.broker.counters import QueueCounts
from amqp_broker.broker.drops import DropReason
from amqp_broker.broker.message import Address, Message
from amqp_broker.broker.persistence.kinds import RecordKind
from amqp_broker.broker.policy_limits import policy_behind
from amqp_broker.broker.queues.bands import Bands
from amqp_broker.broker.queues.consumers import Consumer, Consumers, Deliveries
from amqp_broker.broker.queues.expiry import UnusedTimer
from amqp_broker.broker.queues.ready import Stretch
from amqp_broker.broker.queues.returning import Returning
from amqp_broker.broker.queues.single_active import SingleActive
from amqp_broker.broker.queues.stored import StoredQueue
from amqp_broker.broker.works import Work
from amqp_broker.compilation import mypyc_attr
from amqp_broker.errors import AmqpError, ReplyCode, access_refused, precondition_failed
from amqp_broker.wire.table import Table

if TYPE_CHECKING:
    from amqp_broker.broker.host import Host
    from amqp_broker.broker.policies import InForce
    from amqp_broker.broker.queues.past import Past


class QueueBusy(Exception):
    """A queue is asked for what it cannot tell yet: its head is on the disk, or it has much to do. Ask again when it
    says so (``Queue.wait``).
    """

    def __init__(self, queue: Queue) -> None:
        super().__init__(queue)
        self.queue = queue


@mypyc_attr(allow_interpreted_subclasses=True)
class Queue(StoredQueue):
    """A queue of any type.

    Args:
        virtual_host: where it lives.
        name: its name.
        durable: whether its definition outlives the broker.
        auto_delete: whether it goes when its last consumer goes.
        owner: the connection that alone may use it (an exclusive queue); None for everybody's.
        table: the arguments as they were declared, for equivalence and for the records.
        arguments: the same, read; in force until ``apply`` says otherwise.
    """

    __slots__ = (
        "_had_consumers",
        "_unused_timer",
        "_waiting",
        "auto_delete",
        "consumers",
        "counts",
        "declared",
        "in_force",
        "is_changed",
        "is_deleted",
        "keeps_transient",
        "owner",
        "past",
        "table",
        "unacknowledged_count",
        "virtual_host",
    )

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
        super().__init__(name, durable, arguments)
        self.virtual_host = virtual_host
        self.auto_delete = auto_delete
        self.owner = owner
        self.table = table
        self.declared = arguments
        self.in_force: InForce | None = None  # the policies
        self.past: Past | None = None  # what it got, where that is to be remembered
        self.tell_apart(self.make_bands())
        self.consumers = self.make_consumers()
        self.counts = QueueCounts()
        self.unacknowledged_count = 0
        self.keeps_transient = False  # whether ``keeps`` may be true of a transient message: asked for each of those
        self.is_deleted = False
        self.is_changed = False
        self._waiting: list[Callable[[], None]] | None = None
        self._had_consumers = False
        self._unused_timer: UnusedTimer | None = None
        self.limit_unused_time()
        if arguments.replay_ms is not None:
            self.update_past()

    def __str__(self) -> str:
        return f"queue '{self.name}' in vhost '{self.virtual_host.name}'"

    # --- what a type says of itself

    @classmethod
    def always_lasts(cls) -> bool:
        """Whether its queues are durable and everybody's, and stay until they are deleted: no other are declared."""
        return False

    @classmethod
    def may_be_unnamed(cls) -> bool:
        """Whether the broker makes up a name for a queue that is declared without one."""
        return True

    @property
    def counts_returns(self) -> bool:
        """Whether it is kept how often each message has come back."""
        return False

    @property
    def is_log(self) -> bool:
        """Whether what is in it stays when it is read: a start gives it places of entries (``restore_entry``)."""
        return False

    @property
    def knows_each(self) -> bool:
        """Whether it must see each of its messages at a start, even those that stay on disk."""
        return False

    @property
    def holds_back(self) -> bool:
        """Whether this is no queue for clients, but what an exchange holds back (``broker/delayed/holder.py``)."""
        return False

    def make_bands(self) -> Bands | None:
        """How it tells messages apart by priority; None where it does not."""
        return None

    def make_consumers(self) -> Consumers:
        """What keeps the consumers in their turn."""
        return SingleActive() if self.arguments.has_single_active_consumer else Consumers()

    def prefetch_count_for(self, wanted: int) -> int:
        """How many messages a consumer may have unacknowledged that asked for so many; 0 is no limit."""
        return wanted

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

    # --- what a type does with messages

    @property
    def ready_count(self) -> int:
        """How many messages wait, or are there to be read."""
        raise NotImplementedError

    @property
    def ready_bytes(self) -> int:
        """How many bytes the bodies of these have."""
        raise NotImplementedError

    def messages(self) -> Iterator[Message]:
        """Those that wait and are in memory, in the order of delivery, for whoever looks in."""
        raise NotImplementedError

    def stretches(self, skip: int, count: int) -> list[Stretch]:
        """Up to so many of those that wait, in memory or not, in the order of delivery and without the first ones."""
        raise NotImplementedError

    @property
    def dying_count(self) -> int:
        """How many messages have died here and are not on their way to the dead-letter exchange yet."""
        return 0

    def publish(self, message: Message) -> bool:
        """Take a message that was routed here; returns False when the queue refuses it."""
        raise NotImplementedError

    def hold(self, address: Address, header: bytes, body: bytes, delay_ms: int) -> int:
        """Hold a message back, where ``holds_back`` says that this is what it does.

        Returns:
            The journal's position that must be kept before it is confirmed.
        """
        raise NotImplementedError

    def keeps(self, is_persistent: bool) -> bool:
        """Whether a message that is published now is kept, in the journal: the rule for every way into a queue.

        A queue that is not durable keeps none. One that hands the message straight to a consumer which wants no
        acknowledgement never holds it, so there is nothing to keep. Not to be relied on once another queue has had the
        message: that may have filled the same connection.

        Args:
            is_persistent: by its delivery mode. A type that keeps others too has ``keeps_transient``.
        """
        return is_persistent and self.durable

    def pump(self, messages_max: int) -> int:
        """Deliver what can be delivered now, but not more than so much; returns how many messages it was."""
        raise NotImplementedError

    def get(self, no_ack: bool) -> Message | None:
        """Take the next message (``basic.get``); None when there is none.

        Raises:
            QueueBusy: that cannot be told yet, or there is one, but it must be read first.
        """
        raise NotImplementedError

    def acknowledge(self, message: Message) -> None:
        """The client has done with a message."""
        raise NotImplementedError

    def reject(self, messages: list[Message]) -> None:
        """The client refuses messages, the oldest first."""
        raise NotImplementedError

    def requeueing(self) -> Returning:
        """The client gives messages back."""
        return self.taking_back()

    def taking_back(self) -> Returning:
        """Messages come back because the channel that had them is gone."""
        raise NotImplementedError

    def empty(self) -> Iterator[None]:
        """Drop all messages that nobody has at once; what it takes to forget them is left to be done, in slices."""
        raise NotImplementedError

    def dropped(self, messages: Sequence[Message], reason: str) -> None:
        """Count messages that died here, or were refused, and go nowhere."""
        policy = None
        if self.in_force is not None:
            policy = policy_behind(self.in_force, self.arguments, self.declared, reason)
        self.virtual_host.drops.died(self.virtual_host.name, self.name, messages, reason, policy)

    def dead_letter_left(self, message: Message) -> None:
        """A message that died here is on its way to the dead-letter exchange."""

    def check_dead_letters_left(self) -> None:
        """See that none would be lost with the queue: until it is on its way, a start finds it only here.

        Raises:
            QueueBusy: some are not on their way yet.
        """
        if self.dying_count:
            raise QueueBusy(self)

    # --- what a start puts back

    def restore(self, message: Message) -> None:
        """Put a message that was read from the journal back; they come in the order of their publishing."""
        raise NotImplementedError

    def restore_paged(self, references: Sequence[int], size_bytes: int, band: int, *, may_expire: bool = False) -> None:
        """The same for messages that stay on disk: no more than a chunk, of one band, of so many bytes together."""
        raise NotImplementedError

    def restore_entry(self, reference: int, body_bytes: int, wall_ms: int) -> None:
        """The same where ``is_log``: all that is needed of a message is where it is, and when it came."""
        raise NotImplementedError

    def restore_block(self, reference: int, body: bytes, wall_ms: int) -> None:
        """The same for entries of a stream that came together."""
        raise NotImplementedError

    def restore_state(self, state: Table) -> bool:
        """Take over what the type had written with ``Durability.keep_state``; returns False where that makes no sense.

        Fields that are not known are passed over.
        """
        return False

    def restore_tracked(self, kind: RecordKind, name: str, value: int, reference: int) -> int | None:
        """Take over a number that the type remembers for a client.

        Args:
            kind: of the record that says so.
            name: the client's.
            value: the number.
            reference: of the record.

        Returns:
            The reference of an older record that this one has replaced, 0 where there is none; None where it makes no
            sense.
        """
        return None

    def recovered(self) -> None:
        """All that the journal holds of this queue is back."""

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

    # --- arguments

    def apply(self, arguments: QueueArguments) -> None:
        """Let other arguments be in force from now on, as policies make them of those declared; ``table`` stays.

        A queue's type, priorities and single active consumer are those declared as long as it lives. To withdraw
        what was applied, apply ``declared``.
        """
        arguments = replace(
            arguments,
            queue_type=self.declared.queue_type,
            priority_max=self.declared.priority_max,
            has_single_active_consumer=self.declared.has_single_active_consumer,
        )
        before, self.arguments = self.arguments, arguments
        if before != arguments:
            self.arguments_changed(before)

    def arguments_changed(self, before: QueueArguments) -> None:
        """Others are in force than before: do what follows from that."""
        if self.arguments.expires_ms != before.expires_ms:
            self.limit_unused_time()
        if self.arguments.replay_ms != before.replay_ms:
            self.update_past()

    # --- the past

    def update_past(self) -> None:
        """Remember what comes, or no more, as the arguments in force say (``x-replay-ms``)."""
        replay_ms, past = self.arguments.replay_ms, self.past
        if replay_ms is None:
            self.past = None
            if past is not None:
                past.end()
        elif self.durable and not self.holds_back and self.virtual_host.durability.has_journal:
            (past or self.begin_past()).keep_for(replay_ms)

    def begin_past(self) -> Past:
        """Remember what comes from now on; how long is to be said yet."""
        from amqp_broker.broker.queues.past import Past  # only who wants one pays for it

        host = self.virtual_host
        past = self.past = Past(self, host.durability, host.clock, host.timers, host.works)
        return past

    # --- when it is looked at

    def changed(self) -> None:
        """Have the queue pumped when the present chunk is done."""
        if not self.is_changed:
            self.is_changed = True
            self.virtual_host.changed_queues.append(self)

    def catch_up(self) -> None:
        """Do now what ``changed`` put off, as far as it fits into a slice."""
        if self.is_changed:
            self.pump(self.virtual_host.works.slice_messages)

    def be_current(self) -> None:
        """Do all that ``changed`` put off, because somebody asks how things stand.

        Raises:
            QueueBusy: it is more than fits into a slice.
        """
        self.catch_up()
        if self.is_changed:
            raise QueueBusy(self)

    def wait(self, go_on: Callable[[], None]) -> None:
        """Call somebody who got ``QueueBusy`` when it is worth asking again."""
        if self._waiting is None:
            self._waiting = []
        self._waiting.append(go_on)

    def let_askers_go_on(self) -> None:
        """Call all who wait."""
        if self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            for go_on in waiting:
                go_on()

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
            prefetch_count=self.prefetch_count_for(prefetch_count),
            arguments=arguments,
        )
        self.consumers.add(consumer)
        self._had_consumers = True
        self.changed()
        if self.virtual_host.observers.present_for_changes:
            self._tell_of_consumer("consumer.created", consumer)
        return consumer

    def remove_consumer(self, consumer: Consumer) -> None:
        """A consumer was cancelled, or its channel has gone; an auto-delete queue goes with its last one."""
        if self.is_deleted:
            return
        self.consumers.remove(consumer)
        if self.virtual_host.observers.present_for_changes:
            self._tell_of_consumer("consumer.deleted", consumer)
        if not len(self.consumers):
            if self.auto_delete and self._had_consumers:
                self.virtual_host.remove_queue(self)
                return
            self.restart_unused_timer()
        self.changed()

    def _tell_of_consumer(self, event: str, consumer: Consumer) -> None:
        """Tell those who look on that there is a consumer, or no more."""
        channel = consumer.deliveries.inspect()
        details: dict[str, object] = {
            "vhost": self.virtual_host.name,
            "queue": self.name,
            "consumer_tag": consumer.tag,
            "channel": channel["name"],
        }
        if event == "consumer.created":
            details["exclusive"] = consumer.is_exclusive
            details["ack_required"] = not consumer.no_ack
            details["prefetch_count"] = consumer.prefetch_count
            details["arguments"] = consumer.arguments
        self.virtual_host.observers.happened(event, details, channel["user"])

    def resume(self, consumer: Consumer) -> None:
        """A consumer may have room again."""
        if self.consumers.resume(consumer) and self.ready_count:
            self.changed()

    # --- the end

    def limit_unused_time(self) -> None:
        """Let the queue go when nobody has used it for as long as its arguments say, from now on (``x-expires``)."""
        if self._unused_timer is not None:
            self._unused_timer.stop()
            self._unused_timer = None
        expires_ms = self.arguments.expires_ms
        if expires_ms is not None:
            host = self.virtual_host
            self._unused_timer = UnusedTimer(host.clock, host.timers, expires_ms, self.is_used, self.go)
            self._unused_timer.restart()

    def restart_unused_timer(self) -> None:
        """Somebody has used it: the time after which an unused queue goes begins anew."""
        if self._unused_timer is not None:
            self._unused_timer.restart()

    def is_used(self) -> bool:
        """Whether the queue must not go for want of use; one that is deleted needs not go once more."""
        return self.is_deleted or len(self.consumers) > 0

    def go(self) -> None:
        """The queue is not wanted any more."""
        self.virtual_host.remove_queue(self)

    def purge(self) -> tuple[int, Work]:
        """Drop all ready messages; returns how many there were, and what is to be finished before they are forgotten.

        Raises:
            QueueBusy: how many there are cannot be told yet.
        """
        self.be_current()
        count = self.ready_count
        self.virtual_host.drops.emptied(self.virtual_host.name, self.name, count, DropReason.PURGED)
        return count, self.virtual_host.works.begin(self.empty())

    def close(self) -> None:
        """The queue is gone: nothing more comes in or goes out, its consumers are told.

        Without the queue's own record a start knows that its messages are nobody's, whatever was done for each.
        """
        self.is_deleted = True
        if self._unused_timer is not None:
            self._unused_timer.stop()
            self._unused_timer = None
        consumers, self.consumers = list(self.consumers), Consumers()
        for consumer in consumers:
            if self.virtual_host.observers.present_for_changes:
                self._tell_of_consumer("consumer.deleted", consumer)
            consumer.deliveries.consumer_cancelled(consumer)
        self.virtual_host.durability.forget_queue(self)
        past, self.past = self.past, None
        if past is not None:
            past.end()
        self.virtual_host.drops.emptied(self.virtual_host.name, self.name, self.ready_count, DropReason.QUEUE_DELETED)
        self.virtual_host.works.begin(self.empty())
