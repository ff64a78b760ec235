"""A queue whose messages die: refused by a client, older than they may be, or more than the queue may hold.

Theory of operation. Expiry looks at the head only, as in RabbitMQ's classic queues, and one timer stands for the head's
deadline. What is too much is dropped from the head. Whichever way a message dies, it goes to the dead-letter exchange
where there is one, and is forgotten when it is on its way there.

Holds the ready messages, the limits of their number and of their age, and their death. Who gets them is in
``classic.py``, what the limits say of a length in ``limits.py``, where a dead letter goes in ``broker/dead_letter.py``.
(RabbitMQ docs, "Dead Letter Exchanges", "Time-To-Live and Expiration", "Queue Length Limit".)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from amqp_broker.broker.arguments import QueueArguments
from amqp_broker.broker.dead_letter import DeathReason
from amqp_broker.broker.message import Message
from amqp_broker.broker.queues.backlog import Backlog
from amqp_broker.broker.queues.expiry import HeadTimer
from amqp_broker.broker.queues.limits import Dropping, LengthLimits, has_limits
from amqp_broker.broker.queues.replayable import ReplayableQueue
from amqp_broker.compilation import mypyc_attr
from amqp_broker.wire.table import Table

if TYPE_CHECKING:
    from amqp_broker.broker.host import Host
    from amqp_broker.broker.queues.deduplicating import HeldValues


@mypyc_attr(allow_interpreted_subclasses=True)
class DeadLetteringQueue(ReplayableQueue):
    """A queue of such a type; arguments as of ``Queue``. Its type calls ``read_limits`` once it is made."""

    __slots__ = ("_dying_count", "_head_timer", "backlog", "dropping", "held_values", "limits", "may_expire")

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
        self.backlog = self.make_backlog()
        self.limits: LengthLimits | None = None
        self.dropping: Dropping | None = None  # while it drops very much in turns
        self._dying_count = 0
        self.may_expire = False
        self._head_timer: HeadTimer | None = None
        self.held_values: HeldValues | None = None  # where it takes each value of a header once

    def make_backlog(self) -> Backlog:
        """Make the store of ready messages, in the order in which they will be delivered."""
        raise NotImplementedError

    def make_limits(self) -> LengthLimits:
        """Make the length limits."""
        return LengthLimits(self.arguments)

    def read_limits(self) -> None:
        """Remember of the arguments in force what is asked once a message."""
        self.limits = self.make_limits() if has_limits(self.arguments) else None
        if self.limits is None:
            self.dropping = None
        self.may_expire = self.may_expire or self.arguments.message_ttl_ms is not None

    def limits_changed(self, before: QueueArguments) -> None:
        """Others may be in force than before: drop what is too much now, unless it was refused before and is now.

        What was being dropped for those before goes on.
        """
        limits = self.limits
        if limits is None:
            return
        if self.dropping is not None or not (limits.refuses and before.overflow != "drop-head"):
            self.drop_overflow(limits)

    # --- death

    @property
    def dying_count(self) -> int:
        return self._dying_count

    def discard(self, messages: list[Message], reason: DeathReason) -> None:
        """Messages die here; where there is a dead-letter exchange, they are forgotten when they are on their way."""
        if self.held_values is not None:
            self.held_values.release_all(messages)
        if self.arguments.dead_letter_exchange is None:
            if messages:
                self.counts.died(reason, len(messages), has_exchange=False)
                self.dropped(messages, reason)
            if self.virtual_host.observers.present:
                for message in messages:
                    self.virtual_host.observers.died(self, message, reason, None)
            self.virtual_host.durability.forget_messages(messages)
        else:
            self.dead_letter(messages, reason)

    def dead_letter(self, messages: list[Message], reason: DeathReason) -> None:
        """Messages are to go to the dead-letter exchange, which there is."""
        self._dying_count += len(messages)
        if messages:
            self.counts.died(reason, len(messages), has_exchange=True)
        for message in messages:
            self.virtual_host.dead_letters.append((self, message, reason))

    def dead_letter_left(self, message: Message) -> None:
        """A message that died here is on its way to the dead-letter exchange: only now it is forgotten."""
        self.forget(message)
        self._dying_count -= 1
        assert self._dying_count >= 0, f"more messages of {self} were dead-lettered than died"
        if not self._dying_count:
            self.let_askers_go_on()

    def forget(self, message: Message) -> None:
        """The message is no longer the queue's business."""
        if message.reference:
            self.virtual_host.durability.forget_message(message)

    # --- too many

    def keep_to_limits(self) -> bool:
        """Drop from the head until the length limits hold; returns whether there is another head now."""
        limits = self.limits
        return limits is not None and not limits.refuses and self.drop_overflow(limits)

    def drop_overflow(self, limits: LengthLimits) -> bool:
        """Drop what is too much at the head; where that is very much, the rest when others have had their turn.

        Until then nothing is delivered, and what comes does not count. Returns whether there is another head now.
        """
        backlog, dropping = self.backlog, self.dropping
        later_count, later_bytes = (0, 0) if dropping is None else (dropping.later_count, dropping.later_bytes)
        slice_messages = self.virtual_host.works.slice_messages
        dropped: list[Message] = []
        while limits.is_over(backlog.count - later_count, backlog.bytes - later_bytes):
            if backlog.head() is None:  # it is being read
                break
            if len(dropped) == slice_messages:
                self.dropping = dropping or Dropping()
                self.changed()
                break
            dropped.append(backlog.take(self))
        else:
            self.dropping = None
        self.discard(dropped, DeathReason.MAXLEN)
        return bool(dropped)

    def is_dropping(self) -> bool:
        """Whether there is more to drop; for who has just dropped, as compiled code takes an attribute to stay."""
        return self.dropping is not None

    def drop_all(self, limits: LengthLimits) -> None:
        """Finish dropping, in one go: it decides what becomes of the next message."""
        while self.dropping is not None and self.drop_overflow(limits):
            pass

    # --- too old

    def limit_life(self, message: Message, ttl_ms: int) -> None:
        """Let a message live no longer than this from now on."""
        deadline_ms = self.virtual_host.clock.monotonic_ms() + ttl_ms
        if message.expires_at_ms is None or deadline_ms < message.expires_at_ms:
            message.expires_at_ms = deadline_ms

    def expire_head(self) -> bool:
        """Let the messages die whose time has come, as far as they stand at the head; wait for the next one's time.

        Returns False when so many have died that others must have their turn before the rest.
        """
        now_ms = self.virtual_host.clock.monotonic_ms()
        expired: list[Message] = []
        slice_messages = self.virtual_host.works.slice_messages
        backlog = self.backlog
        head = backlog.head()
        while head is not None and head.expires_at_ms is not None and head.expires_at_ms <= now_ms:
            if len(expired) == slice_messages:
                self.discard(expired, DeathReason.EXPIRED)
                self.changed()
                return False
            expired.append(backlog.take(self))
            head = backlog.head()
        if expired:
            self.discard(expired, DeathReason.EXPIRED)
        if head is not None and head.expires_at_ms is not None:
            if self._head_timer is None:
                self._head_timer = HeadTimer(self.virtual_host.timers, self._head_is_due)
            self._head_timer.wait_for(head.expires_at_ms)
        return True

    def _head_is_due(self) -> None:
        if not self.is_deleted:
            self.expire_head()

    # --- the end

    def close(self) -> None:
        if self._head_timer is not None:
            self._head_timer.stop()
            self._head_timer = None
        super().close()
