"""A quorum queue on one machine: what it does otherwise than a classic queue.

It counts the returns of a message, shows the count to consumers as ``x-delivery-count``, and with a limit
(``x-delivery-limit``) gives up on a message that is returned more often. With a limit, what is returned is delivered
before everything else, in the order of its return; without one it goes to the back, except for what comes back because
a channel is gone. Its messages are kept, whatever their delivery mode. It knows no exclusive consumers, and no consumer
may hold more than 2000 messages. With ``reject-publish`` it takes one message beyond its limits, and then no more until
it is at four fifths of them.

From RabbitMQ 4.0 on it has priorities without an argument (``behaviour.py``): two bands, of which the high one gets two
turns of three; in 4.3 32, the highest of which goes first. What was returned goes before all of them.

(RabbitMQ docs, "Quorum Queues"; rabbit_fifo.erl.)
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from amqp_broker.behaviour import Behaviour
from amqp_broker.broker.arguments import DROP_HEAD, QUEUE_TYPE, REPLAY_ARGUMENT, QueueArguments, read_queue_arguments
from amqp_broker.broker.dead_letter import DeathReason
from amqp_broker.broker.message import Message
from amqp_broker.broker.policies import Definition, number_of, smaller, text_of
from amqp_broker.broker.queues.backlog import Backlog
from amqp_broker.broker.queues.bands import HIGH_AND_NORMAL, THIRTY_TWO, Bands
from amqp_broker.broker.queues.classic import ClassicQueue
from amqp_broker.broker.queues.consumers import Consumers
from amqp_broker.broker.queues.limits import LengthLimits, QuorumLengthLimits
from amqp_broker.broker.queues.ready import FirstInFirstOut, ReadyMessages
from amqp_broker.broker.queues.ready_in_bands import ByPriority, ReturnedFirst, TwoHighOneNormal
from amqp_broker.broker.queues.returning import Returning, ReturningToTheBack
from amqp_broker.broker.queues.single_active import HighestActive, OldestActive
from amqp_broker.broker.queues.traits import QueueTraits
from amqp_broker.compilation import mypyc_attr
from amqp_broker.errors import AmqpError, ReplyCode, not_implemented
from amqp_broker.wire.content import decode_properties, encode_content_header
from amqp_broker.wire.table import Table

if TYPE_CHECKING:
    from amqp_broker.broker.host import Host

PREFETCH_COUNT_DEFAULT = 2000
DELIVERY_LIMIT: Final = "x-delivery-limit"
REJECTING_AND_DEAD_LETTERING: Final = "reject-publish-dlx"  # is taken and not done

QUORUM: Final = QueueTraits(
    arguments=(
        "x-dead-letter-exchange",
        "x-dead-letter-routing-key",
        "x-dead-letter-strategy",
        "x-expires",
        "x-max-length",
        "x-max-length-bytes",
        "x-max-in-memory-length",
        "x-max-in-memory-bytes",
        "x-overflow",
        "x-single-active-consumer",
        QUEUE_TYPE,
        "x-quorum-initial-group-size",
        DELIVERY_LIMIT,
        "x-message-ttl",
        "x-queue-leader-locator",
        REPLAY_ARGUMENT,
    ),
    consumer_arguments=("x-priority", "x-credit"),
    apply_to="quorum_queues",
    meaningless_policy_keys=frozenset(
        {
            "queue-mode",
            "max-age",
            "stream-max-segment-size-bytes",
            "queue-master-locator",
            "initial-cluster-size",
            "ha-mode",
            "ha-params",
            "ha-sync-mode",
            "ha-promote-on-shutdown",
            "ha-promote-on-failure",
        }
    ),
    always_lasts=True,
    may_be_unnamed=False,
    shown_as="quorum",
)


@mypyc_attr(allow_interpreted_subclasses=True)
class QuorumQueue(ClassicQueue):
    """A queue declared with ``x-queue-type`` quorum."""

    __slots__ = ()

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
        self.keeps_transient = True

    @classmethod
    def traits(cls) -> QueueTraits:
        return QUORUM

    @classmethod
    def read_arguments(cls, table: Table, behaviour: Behaviour) -> QueueArguments:
        arguments = read_queue_arguments(table)
        limit = arguments.delivery_limit
        if limit is None:
            limit = behaviour.delivery_limit
        elif limit < 0 and behaviour.negative_delivery_limit_is_none:
            limit = None
        return replace(
            arguments, overflow=_overflow_in_force(arguments.overflow), delivery_limit=limit, takes_once=False
        )

    def arguments_under(self, definition: Definition) -> QueueArguments:
        """The arguments that are in force under policies: these decide what a quorum queue does when full or unused.

        A delivery limit that nobody asked for, RabbitMQ 4's own, does not count beside a policy's.
        """
        arguments = super().arguments_under(definition)
        overflow, expires_ms = text_of(definition, "overflow"), number_of(definition, "expires")
        limit = number_of(definition, "delivery-limit")
        if limit is None or DELIVERY_LIMIT in self.table:
            limit = smaller(self.declared.delivery_limit, limit)
        return replace(
            arguments,
            overflow=self.declared.overflow if overflow is None else _overflow_in_force(overflow),
            expires_ms=self.declared.expires_ms if expires_ms is None else expires_ms,
            delivery_limit=limit,
            takes_once=False,
        )

    def keeps(self, is_persistent: bool) -> bool:
        return super().keeps(True)

    @property
    def counts_returns(self) -> bool:
        return True

    def restored_deliveries(self, messages: list[Message]) -> None:
        """What a client held when the broker was killed has come back once more, and may have been too often.

        What has come back more often than that was there before the limit was, and dies when it comes back, if it does.
        """
        limit = self.arguments.delivery_limit
        if limit is None:
            return
        one_too_many = max(0, limit) + 1  # a limit may be less than 0, and what nobody had has not come back
        poison = [message for message in messages if message.delivery_count == one_too_many]
        if poison:
            self.backlog.take_out(self, poison)
            self.discard(poison, DeathReason.DELIVERY_LIMIT)

    def make_bands(self) -> Bands | None:
        return {1: None, 2: HIGH_AND_NORMAL, 32: THIRTY_TWO}[self.virtual_host.behaviour.quorum_priorities]

    @property
    def may_have_other_bands(self) -> bool:
        return True

    def make_backlog(self) -> Backlog:
        return Backlog(self.virtual_host.paging, self.virtual_host.durability, self._make_ready)

    def _make_ready(self) -> ReadyMessages:
        bands = self.bands
        if bands is None:
            return ReturnedFirst(FirstInFirstOut())
        return ReturnedFirst(TwoHighOneNormal() if bands is HIGH_AND_NORMAL else ByPriority(bands))

    def make_limits(self) -> LengthLimits:
        return QuorumLengthLimits(self.arguments)

    def prefetch_count_for(self, wanted: int) -> int:
        return wanted or PREFETCH_COUNT_DEFAULT

    def make_consumers(self) -> Consumers:
        if not self.arguments.has_single_active_consumer:
            return Consumers()
        return HighestActive() if self.virtual_host.behaviour.highest_consumer_takes_over else OldestActive()

    @property
    def keeps_annotations(self) -> bool:
        return True

    def annotate(self, message: Message, header: bytes) -> None:
        message.header = header
        self.virtual_host.durability.note_header(message)

    def header_to_deliver(self, message: Message) -> bytes:
        """The published content header, and from the second time on the number of earlier deliveries."""
        return self.header_to_get(message) if message.delivery_count else message.header

    def header_to_get(self, message: Message) -> bytes:
        """The published content header with the number of earlier deliveries in ``x-delivery-count``."""
        if not message.delivery_count and not self.virtual_host.behaviour.first_delivery_is_counted:
            return message.header
        properties = decode_properties(message.header)
        headers = dict(sorted({**(properties.headers or {}), "x-delivery-count": message.delivery_count}.items()))
        return encode_content_header(len(message.body), replace(properties, headers=headers))

    def check_channel_prefetch(self) -> None:
        raise not_implemented(f"{self} does not support global qos")

    def check_get(self) -> None:
        if self.arguments.has_single_active_consumer:
            raise AmqpError(
                ReplyCode.RESOURCE_LOCKED,
                f"cannot obtain access to locked {self}. basic.get operations are not supported by quorum queues with "
                "single active consumer",
            )

    def check_exclusive_use(self, exclusive: bool) -> None:
        """Anybody may consume beside anybody."""

    def check_deletion(self, *, if_unused: bool, if_empty: bool) -> None:
        for is_asked, condition in ((if_unused, "if-unused"), (if_empty, "if-empty")):
            if is_asked:
                raise not_implemented(
                    f"cannot delete {self}. queue.delete operations with {condition} flag set are not supported by "
                    "quorum queues"
                )
        self.be_current()

    def in_order_of_death(self, messages: list[Message]) -> list[Message]:
        """As they are, whatever their priorities."""
        return messages

    def requeueing(self) -> Returning:
        """The client gives messages back."""
        return self.taking_back() if self.arguments.delivery_limit is not None else ReturningToTheBack(self)

    def limits_changed(self, before: QueueArguments) -> None:
        """Wait with what is too much: here consumers that are ready come first."""

    def limit_returned(self) -> None:
        """Wait with the limits: here consumers that are ready come first."""

    def put_back(self, messages: list[Message], body_bytes: int, *, is_in_order: bool) -> None:
        """Messages that were marked are ready again, in the order of their return."""
        super().put_back(messages, body_bytes, is_in_order=True)

    def mark_returned(self, messages: list[Message]) -> list[Message]:
        limit = self.arguments.delivery_limit
        again: list[Message] = []
        poison: list[Message] = []
        for message in messages:
            message.redelivered = True
            message.delivery_count += 1
            self.virtual_host.durability.note_returned(message)
            (poison if limit is not None and message.delivery_count > limit else again).append(message)
        if poison:
            self.discard(poison, DeathReason.DELIVERY_LIMIT)
        return again


def _overflow_in_force(wanted: str) -> str:
    return DROP_HEAD if wanted == REJECTING_AND_DEAD_LETTERING else wanted
