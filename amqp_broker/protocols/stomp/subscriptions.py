"""One subscription: where the messages of a consumer go, and what the client says of them.

With ``ack:auto`` a message is done with when it is sent. With ``client`` an acknowledgement counts for all that the
subscription got before it as well, with ``client-individual`` for one message (STOMP 1.2, "SUBSCRIBE ack Header").
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from amqp_broker.broker.counters import Counts
from amqp_broker.broker.descriptions import ChannelInfo
from amqp_broker.broker.message import Message
from amqp_broker.broker.observer import Settlement
from amqp_broker.broker.queues.base import Queue
from amqp_broker.broker.queues.consumers import Consumer, Deliveries
from amqp_broker.broker.queues.unacknowledged import Unacknowledged
from amqp_broker.errors import precondition_failed
from amqp_broker.protocols.stomp.destinations import destination_of
from amqp_broker.protocols.stomp.frames import encode_header
from amqp_broker.session.delivery_timeout import DeliveryTimeout
from amqp_broker.session.settling import Settling, count_settled

if TYPE_CHECKING:
    from amqp_broker.protocols.stomp.link import Link

AUTO: Final = "auto"
CLIENT: Final = "client"
INDIVIDUAL: Final = "client-individual"
MODES: Final = (AUTO, CLIENT, INDIVIDUAL)
SENT_IN_PARTS_BYTES_MIN: Final = 4_096
DESTINATIONS_MAX: Final = 256  # whose lines a subscription remembers
END: Final = b"\0\n"


class Subscription(Deliveries):
    """A subscription of a connection; its queue delivers to it.

    Args:
        connection: whose it is.
        tag: of its consumer.
        subscription_id: the client's own name for it; None where it gave none (STOMP 1.0).
        mode: one of ``MODES``.
        description: how errors speak of it.
    """

    def __init__(self, connection: Link, tag: str, subscription_id: str | None, mode: str, description: str) -> None:
        self.tag = tag
        self.id = subscription_id
        self.mode = mode
        self.description = description
        self.consumer: Consumer | None = None
        self.destination_kind = ""
        self.unacknowledged: dict[int, Unacknowledged] = {}  # by delivery tag, the oldest first
        self._connection = connection
        self._counts = connection.counts
        self._observers = connection.broker.observers
        self._monotonic_ms = connection.broker.clock.monotonic_ms
        self._is_acknowledged = mode != AUTO
        self._says_ack = self._is_acknowledged and connection.version == "1.2"
        said_id = b"" if subscription_id is None else encode_header("subscription", subscription_id)
        self._begin = b"MESSAGE\n" + said_id
        self._message_id = encode_header("", f"{tag}@@{connection.session_id}@@")[:-1]  # with the colon before it
        self._destinations: dict[bytes, bytes] = {}
        self._is_stopped = False
        self._timeout = DeliveryTimeout(connection.broker, self.unacknowledged, self._may_come, self._timed_out)
        self.has_room = False
        self.update_room()

    # --- out

    def deliver(self, consumer: Consumer, message: Message, header: bytes) -> None:
        """Send a message (called by its queue)."""
        connection, queue = self._connection, consumer.queue
        number = connection.next_delivery()
        if self._is_acknowledged:
            self.unacknowledged[number] = Unacknowledged(message, queue, consumer, self._monotonic_ms())
            consumer.unacknowledged_count += 1
            self._counts.delivered += 1
            consumer.counts.delivered += 1
        else:
            self._counts.delivered_no_ack += 1
            consumer.counts.delivered_no_ack += 1
        if message.redelivered:
            self._counts.redelivered += 1
            consumer.counts.redelivered += 1
        self._send(number, message, connection.translations.lines(header))
        if self._observers.present:
            no_ack = not self._is_acknowledged
            self._observers.delivered(connection.channel, queue, message, consumer, no_ack=no_ack)

    def _send(self, number: int, message: Message, lines: bytes) -> None:
        output, body = self._connection.output, message.body
        message_id = b"%b%d\n" % (self._message_id, number)
        head = b"%b%bmessage-id%bredelivered:%b\n%b%b%b\n" % (
            self._begin,
            self._destination(message),
            message_id,
            b"true" if message.redelivered else b"false",
            b"ack" + message_id if self._says_ack else b"",
            lines,
            b"content-length:%d\n" % len(body) if body else b"",
        )
        if len(body) < SENT_IN_PARTS_BYTES_MIN:
            output.send(head + body + END)
        else:
            output.send(head)
            output.send(body)
            output.send(END)

    def _destination(self, message: Message) -> bytes:
        known = self._destinations.get(message.address.encoded)
        if known is None:
            known = encode_header("destination", destination_of(message.address))
            if len(self._destinations) >= DESTINATIONS_MAX:
                self._destinations.clear()
            self._destinations[message.address.encoded] = known
        return known

    # --- acknowledgements

    def check(self, number: int) -> None:
        """See that there is a delivery of this number to be acknowledged.

        Raises:
            AmqpError: 406, there is none.
        """
        if number not in self.unacknowledged:
            raise precondition_failed(f"unknown delivery tag {number}")

    def named(self, number: int) -> list[int]:
        """The deliveries that an acknowledgement of this one is about, the oldest first."""
        if number not in self.unacknowledged:
            return []
        if self.mode == INDIVIDUAL:
            return [number]
        numbers: list[int] = []
        for one in self.unacknowledged:
            if one > number:
                break
            numbers.append(one)
        return numbers

    def settle(self, settlement: Settlement, numbers: Sequence[int]) -> Iterator[None]:
        """Tell the queues what becomes of deliveries, a slice at a time."""
        is_abandoned = settlement is Settlement.ABANDONED
        settling = Settling(
            settlement,
            self._made_room,
            self._tell_settled,
            has_consumers=not is_abandoned,
            has_room=self.has_room and not is_abandoned,
        )
        slice_messages = self._connection.broker.works.slice_messages
        for start in range(0, len(numbers), slice_messages):
            if start:
                yield
            some = numbers[start : start + slice_messages]
            settling.add([self.unacknowledged.pop(one) for one in some if one in self.unacknowledged])
        settling.finish()

    def _made_room(self, consumer: Consumer | None, count: int) -> None:
        if consumer is not None and not self._is_stopped:
            consumer.unacknowledged_count -= count
            if consumer.is_parked:
                consumer.queue.resume(consumer)

    def _tell_settled(self, queue: Queue, messages: Sequence[Message], settlement: Settlement) -> None:
        count_settled(settlement, len(messages), self._counts, self.counts_in(queue))
        if self._observers.present:
            self._observers.settled(self._connection.channel, queue, messages, settlement)

    def watch(self) -> None:
        """From now on something may be unacknowledged for too long."""
        if self._is_acknowledged:
            self._timeout.watch()

    def _may_come(self) -> bool:
        return self._is_acknowledged and not self._is_stopped

    def _timed_out(self, timeout_ms: int) -> None:
        self._connection.fail_with(
            precondition_failed(
                f"delivery acknowledgement on channel 1 timed out. Timeout value used: {timeout_ms} ms. "
                "This timeout value can be configured, see consumers doc guide to learn more"
            )
        )

    def take_over(self, earlier: Subscription) -> None:
        """What an ended subscription of the same name has unacknowledged can be acknowledged here."""
        together = sorted({**earlier.unacknowledged, **self.unacknowledged}.items())
        earlier.unacknowledged.clear()
        earlier.stop()
        self.unacknowledged.clear()  # whoever watches them goes on with this dictionary
        self.unacknowledged.update(together)

    # --- room

    def update_room(self) -> None:
        """Whether the client takes what is sent may have changed."""
        connection, had_room = self._connection, self.has_room
        is_held = connection.output.is_congested or connection.virtual_host.are_deliveries_held
        self.has_room = not (is_held or self._is_stopped)
        consumer = self.consumer
        if self.has_room and not had_room and consumer is not None and consumer.is_parked:
            consumer.queue.resume(consumer)

    # --- for those who look on

    def consumer_cancelled(self, consumer: Consumer) -> None:
        """The queue has gone."""
        self._connection.subscription_cancelled(self.tag)

    def inspect(self) -> ChannelInfo:
        """Describe the connection as a channel."""
        return self._connection.inspect_channel()

    def counts_in(self, queue: Queue) -> Counts:
        return queue.counts.of(self._connection.counted_as)

    # --- the end

    def stop(self) -> None:
        """Nothing more comes; what is unacknowledged still can be."""
        self._is_stopped = True
        self.has_room = False
        if not self.unacknowledged:  # there is nothing to watch, and who watches holds on to this
            self._timeout.stop()
        consumer, self.consumer = self.consumer, None
        if consumer is not None:
            consumer.queue.remove_consumer(consumer)

    def give_back(self) -> Iterator[None]:
        """The connection ends: returns what is to be done to give back what was not acknowledged."""
        self._timeout.stop()
        return self.settle(Settlement.ABANDONED, list(self.unacknowledged))
