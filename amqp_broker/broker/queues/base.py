"""The base of queues of every type: the name and arguments, who uses a queue, and when it is looked at again.

Theory of operation. Whatever may let a waiting message go (an acknowledgement, a new consumer, a drained socket) only
marks the queue as changed; when the chunk that is being handled is done, every changed queue delivers once what it can.

What a type must give, and may do otherwise, is in ``contract.py``. Holds no messages, no expiry of messages and no
length limit: a queue of messages that are taken out is in ``classic.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from amqp_broker.broker.arguments import QUEUE_TYPE, QueueArguments
from amqp_broker.broker.counters import QueueCounts
from amqp_broker.broker.drops import DropReason
from amqp_broker.broker.message import Message
from amqp_broker.broker.policy_limits import policy_behind
from amqp_broker.broker.queues.consumers import Consumer, Consumers, Deliveries
from amqp_broker.broker.queues.contract import QueueContract
from amqp_broker.broker.queues.expiry import UnusedTimer
from amqp_broker.broker.queues.single_active import SingleActive
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
class Queue(QueueContract):
    """A queue of any type.

    Args:
        virtual_host: whose it is.
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
        "askers",
        "auto_delete",
        "consumers",
        "counts",
        "in_force",
        "is_changed",
        "is_deleted",
        "keeps_transient",
        "owner",
        "past",
        "unacknowledged_bytes",
        "unacknowledged_count",
        "virtual_host",
        "watchers",
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
        # What each message asks for stands together, in memory as well: of ten thousand queues none is in a cache.
        self.virtual_host = virtual_host
        self.consumers = self.make_consumers()
        self.counts = QueueCounts()
        self.past: Past | None = None  # in ``replayable.py``; asked for each persistent message
        self.keeps_transient = False  # whether ``keeps`` may be true of a transient message: asked for each of those
        self.is_changed = False
        self.unacknowledged_count = 0
        self.unacknowledged_bytes = 0  # of their bodies
        self.auto_delete = auto_delete
        self.owner = owner
        self.table = table
        self.declared = arguments
        self.in_force: InForce | None = None  # the policies
        self.tell_apart(self.make_bands())
        self.is_deleted = False
        self.askers: list[Callable[[], None]] | None = None  # who got ``QueueBusy``, and waits
        self.watchers: dict[Callable[[], None], None] | None = None  # called when it is gone
        self._had_consumers = False
        self._unused_timer: UnusedTimer | None = None
        self.limit_unused_time()

    def __str__(self) -> str:
        return f"queue '{self.name}' in vhost '{self.virtual_host.name}'"

    def told_arguments(self) -> Table:
        """The arguments that whoever asks is told: with the type, where that RabbitMQ fills it in."""
        if self.virtual_host.behaviour.queue_type_is_filled_in:
            return {QUEUE_TYPE: self.declared.queue_type, **self.table}
        return self.table

    # --- what a type may do otherwise, with what every queue has

    def make_consumers(self) -> Consumers:
        """The consumers, kept in their turn."""
        return SingleActive() if self.arguments.has_single_active_consumer else Consumers()

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

    def dropped(self, messages: Sequence[Message], reason: str) -> None:
        """Count messages that died here, or were refused, and go nowhere."""
        policy = None
        if self.in_force is not None:
            policy = policy_behind(self.in_force, self.arguments, self.declared, reason)
        self.virtual_host.drops.died(self.virtual_host.name, self.name, messages, reason, policy)

    def check_dead_letters_left(self) -> None:
        """See that none would be lost with the queue: until it is on its way, a start finds it only here.

        Raises:
            QueueBusy: some are not on their way yet.
        """
        if self.dying_count:
            raise QueueBusy(self)

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

    # --- when it is looked at

    def changed(self) -> None:
        """Have the queue deliver when the present chunk is done."""
        if not self.is_changed:
            self.is_changed = True
            self.virtual_host.changed_queues.append(self)

    def catch_up(self) -> None:
        """Do now what ``changed`` put off, as far as it fits into a slice."""
        if self.is_changed:
            self.deliver_ready(self.virtual_host.works.slice_messages)

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
        if self.askers is None:
            self.askers = []
        self.askers.append(go_on)

    def let_askers_go_on(self) -> None:
        """Call all who wait."""
        if self.askers is not None:
            askers, self.askers = self.askers, None
            for go_on in askers:
                go_on()

    # --- those who want to know when it goes

    def watch(self, is_gone: Callable[[], None]) -> None:
        """Call somebody who has something of the queue, and consumes it not, when it is gone."""
        if self.watchers is None:
            self.watchers = {}
        self.watchers[is_gone] = None

    def unwatch(self, is_gone: Callable[[], None]) -> None:
        """Call them no more."""
        if self.watchers is not None:
            self.watchers.pop(is_gone, None)

    # --- consumers

    def available_to(self, consumer: Consumer) -> int:
        """How many messages there are for a consumer: all that are ready, if it is its turn at all."""
        active = self.consumers.active
        return self.ready_count if active is None or active is consumer else 0

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
        """Start a consumer (``basic.consume``); it gets its first messages when the queue delivers next.

        Raises:
            AmqpError: 403 in exclusive use; 406 for a wrong argument; 540 for what the queue's type does not do.
        """
        priority = self.virtual_host.check_consumer_arguments(self, arguments)
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

    def add_credited_consumer(self, tag: str, deliveries: Deliveries, *, no_ack: bool, arguments: Table) -> Consumer:
        """Start a consumer whose client says message by message how much it takes (AMQP 1.0's link credit).

        It has no prefetch count; ``deliveries`` has room as long as there is credit. Raises as ``add_consumer`` does.
        """
        consumer = self.add_consumer(
            tag,
            deliveries,
            no_ack=no_ack,
            exclusive=False,
            prefetch_count=0,
            has_channel_prefetch=False,
            arguments=arguments,
        )
        consumer.prefetch_count = 0  # a type may have one for those who ask for none
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
        self.virtual_host.durability.forget_queue(self)
        consumers, self.consumers = list(self.consumers), Consumers()
        for consumer in consumers:
            if self.virtual_host.observers.present_for_changes:
                self._tell_of_consumer("consumer.deleted", consumer)
            consumer.deliveries.consumer_cancelled(consumer)
        self.virtual_host.drops.emptied(self.virtual_host.name, self.name, self.ready_count, DropReason.QUEUE_DELETED)
        self.virtual_host.works.begin(self.empty())
        if self.watchers is not None:
            watchers, self.watchers = self.watchers, None
            for is_gone in watchers:
                is_gone()
