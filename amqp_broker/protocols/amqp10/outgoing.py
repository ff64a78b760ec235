"""Links on which a client receives: the messages of a queue, as far as the client's credit goes.

A link delivers while it has credit, the session room, and the connection takes what is sent. With ``drain`` the credit
that is left when the queue has nothing more is used up at once (AMQP 1.0, 2.6.7).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from amqp_broker.broker.counters import AMQP10, Counts
from amqp_broker.broker.descriptions import ChannelInfo
from amqp_broker.broker.message import Message
from amqp_broker.broker.queues.base import Queue
from amqp_broker.broker.queues.consumers import Consumer, Deliveries
from amqp_broker.broker.queues.unacknowledged import Unacknowledged
from amqp_broker.protocols.amqp10.context import behind
from amqp_broker.protocols.amqp10.errors import (
    MESSAGE_SIZE_EXCEEDED,
    RESOURCE_DELETED,
    UNAUTHORIZED_ACCESS,
    ProtocolError,
)
from amqp_broker.protocols.amqp10.performatives import Fields

if TYPE_CHECKING:
    from amqp_broker.protocols.amqp10.context import SessionContext
    from amqp_broker.protocols.amqp10.dynamic_nodes import DynamicNode
    from amqp_broker.protocols.amqp10.filters import Filters

INITIAL_DELIVERY_COUNT: Final = 0xFFFF_FFFB  # RabbitMQ's: clients had better know that it wraps
AVAILABLE_MAX: Final = 0xFFFF_FFFF
CREDIT_MAX: Final = 0xFFFF_FFFF  # whatever a client says that it has heard: a flow has room for no more


class OutgoingLink(Deliveries):
    """A link on which the client receives: from a queue, or answers.

    Args:
        session: whose it is.
        handle: its number.
    """

    def __init__(self, session: SessionContext, handle: int) -> None:
        self.session = session
        self.handle = handle
        self.has_room = False
        self.credit = 0
        self.delivery_count = INITIAL_DELIVERY_COUNT

    def flow(self, fields: Fields) -> None:
        """The client grants credit, or asks how things stand.

        Raises:
            ProtocolError: a field is of another type.
        """
        of_client = fields.number(5)
        if not of_client and (of_client is None or self.delivery_count == INITIAL_DELIVERY_COUNT):
            of_client = INITIAL_DELIVERY_COUNT  # rhea (npm) says 0 until it has heard our attach
        granted = fields.number(6)
        if granted is not None:
            self.credit = min(max(0, granted - behind(self.delivery_count, of_client)), CREDIT_MAX)
        self.credit_changed(fields.flag(8), fields.flag(9))

    def credit_changed(self, drain: bool, echo: bool) -> None:
        """Go on with other credit.

        Args:
            drain: what is not used now is to be used up.
            echo: the client wants to know how things stand then.
        """
        raise NotImplementedError

    def use_up(self) -> None:
        """There is nothing more: the credit that is left is gone."""
        self.delivery_count = (self.delivery_count + self.credit) & 0xFFFF_FFFF
        self.credit = 0

    def count_delivery(self) -> None:
        """One delivery less."""
        self.delivery_count = (self.delivery_count + 1) & 0xFFFF_FFFF
        self.credit -= 1

    def update_room(self) -> None:
        """Whether the session has room may have changed."""

    def check_read(self) -> None:
        """What the client may do has changed: end the link where it is not allowed any more."""

    def stop(self) -> None:
        """The link has ended."""


class ConsumingLink(OutgoingLink):
    """A link that gets the messages of a queue.

    Args:
        is_settled: whether deliveries are settled when they are sent.
        message_bytes_max: of the largest that the client takes; 0 for no limit.
    """

    def __init__(self, session: SessionContext, handle: int, *, is_settled: bool, message_bytes_max: int) -> None:
        super().__init__(session, handle)
        self.is_settled = is_settled
        self.consumer: Consumer | None = None
        self.made: DynamicNode | None = None  # where its queue was made for it
        self.unsettled_count = 0
        self._message_bytes_max = message_bytes_max
        self._is_draining = False
        self._is_asking = False  # it waits for its queue to say that it is worth asking again
        self._is_stopped = False
        self._counts = session.counts
        self._observers = session.connection.broker.observers
        self._translations = session.connection.translations
        self._monotonic_ms = session.connection.broker.clock.monotonic_ms
        self._filters: Filters | None = None

    # --- out

    def select_by(self, filters: Filters) -> None:
        """Get those entries of a stream only that its filters take."""
        if filters.looks_at_properties:
            self._filters = filters
            self.selects = self._takes

    def _takes(self, message: Message) -> bool:
        filters = self._filters
        return filters is None or filters.takes(self._translations.outgoing(message).bare)

    def deliver(self, consumer: Consumer, message: Message, header: bytes) -> None:
        """Send a message (called by its queue)."""
        session, queue = self.session, consumer.queue
        payload = self._translations.outgoing(message).encode(message, has_offset=queue.is_log)
        delivery_id = session.next_delivery_id()
        if self.is_settled:
            self._counts.delivered_no_ack += 1
            consumer.counts.delivered_no_ack += 1
        else:
            session.unsettled[delivery_id] = Unacknowledged(message, queue, consumer, self._monotonic_ms())
            self.unsettled_count += 1
            consumer.unacknowledged_count += 1
            self._counts.delivered += 1
            consumer.counts.delivered += 1
        if self._message_bytes_max and len(payload) > self._message_bytes_max:
            self._refuse(len(payload))
            return
        if message.redelivered:
            self._counts.redelivered += 1
            consumer.counts.redelivered += 1
        self.count_delivery()
        session.send_transfer(self.handle, delivery_id, self.is_settled, payload)
        if self.credit <= 0:
            self.has_room = False
            if self._is_draining:
                self._drained()
        if self._observers.present:
            self._observers.delivered(session.channel, queue, message, consumer, no_ack=self.is_settled)

    def _refuse(self, size: int) -> None:
        """A message is larger than the client takes: that ends the session, and the message goes back.

        Not at once: the queue is about to deliver.
        """
        self._is_stopped = True
        self.has_room = False
        text = f"message size ({size} bytes) > maximum message size ({self._message_bytes_max} bytes)"
        self.session.connection.broker.works.begin(self._end(ProtocolError(MESSAGE_SIZE_EXCEEDED, text)))

    def _end(self, error: ProtocolError) -> Iterator[None]:
        yield
        self.session.fail(error)

    # --- credit

    def credit_changed(self, drain: bool, echo: bool) -> None:
        self._is_draining = drain
        self.update_room()
        consumer = self.consumer
        if consumer is not None:
            consumer.queue.catch_up()
        if drain:
            self._drain()
        elif echo:
            self._tell(False)

    def _drain(self) -> None:
        """Use the credit up, unless the queue has something that is on its way."""
        if not self._is_draining or self._is_asking:
            return
        consumer = self.consumer
        if consumer is not None and self.credit > 0 and consumer in consumer.queue.consumers:
            queue = consumer.queue
            if queue.is_changed or queue.available_to(consumer):
                self._is_asking = True
                queue.wait(self._ask_again)
                return
        self._drained()

    def _ask_again(self) -> None:
        self._is_asking = False
        self._drain()

    def _drained(self) -> None:
        self._is_draining = False
        self.use_up()
        self.update_room()
        self._tell(True)

    def _tell(self, drain: bool) -> None:
        consumer = self.consumer
        available = min(consumer.queue.available_to(consumer), AVAILABLE_MAX) if consumer is not None else 0
        self.session.send_flow(self.handle, self.delivery_count, self.credit, available=available, drain=drain)

    def update_room(self) -> None:
        had_room = self.has_room
        self.has_room = self.credit > 0 and self.session.has_room and not self._is_stopped
        consumer = self.consumer
        if self.has_room and not had_room and consumer is not None and consumer.is_parked:
            consumer.queue.resume(consumer)

    # --- settlement

    def made_room(self, consumer: Consumer | None, count: int) -> None:
        """So many deliveries are settled."""
        self.unsettled_count -= count
        if consumer is not None and not self._is_stopped:
            consumer.unacknowledged_count -= count
            if consumer.is_parked and not consumer.unacknowledged_count:
                queue = consumer.queue
                if queue.consumers.active is consumer:  # which another may wait for to take over
                    queue.resume(consumer)  # it may be parked for that alone, and be the active one again
                    queue.changed()

    # --- for the queue, and those who look on

    def check_read(self) -> None:
        consumer = self.consumer
        if consumer is not None and not self.session.connection.client.may_read("queue", consumer.queue.name):
            text = f"read access to {consumer.queue} refused for user '{self.session.connection.user_name}'"
            self.session.detach_link(self.handle, ProtocolError(UNAUTHORIZED_ACCESS, text))

    def consumer_cancelled(self, consumer: Consumer) -> None:
        """The queue has gone."""
        self.consumer = None
        self.session.detach_link(self.handle, ProtocolError(RESOURCE_DELETED, f"{consumer.queue} was deleted"))

    def inspect(self) -> ChannelInfo:
        """Describe the session as a channel."""
        return self.session.inspect()

    def counts_in(self, queue: Queue) -> Counts:
        return queue.counts.of(AMQP10)

    def stop(self) -> None:
        self._is_stopped = True
        self._is_draining = False
        self.has_room = False
        self.selects = None  # which holds on to it
        consumer, self.consumer = self.consumer, None
        if consumer is not None:
            consumer.queue.remove_consumer(consumer)
        if self.made is not None:
            self.made.delete()
            self.made = None
