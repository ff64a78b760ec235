"""Subscriptions: what of which stream the client gets, and how many chunks it is ready for.

A chunk goes out for each credit. Offsets that the client stores are the stream's to remember
(``broker/queues/stream_tracking.py``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from amqp_broker.broker.descriptions import ChannelInfo
from amqp_broker.broker.message import Message
from amqp_broker.broker.queues.consumers import Consumer
from amqp_broker.broker.queues.stream import StreamQueue
from amqp_broker.broker.queues.stream_chunks import ChunkDeliveries, ChunkReader
from amqp_broker.broker.queues.stream_groups import NO_PARTITION, StreamGroup
from amqp_broker.broker.queues.stream_sent_chunks import Chunk
from amqp_broker.broker.queues.stream_start import Place, StreamFilter, StreamStart
from amqp_broker.broker.timers import Timer
from amqp_broker.errors import AmqpError
from amqp_broker.protocols.stream import codes
from amqp_broker.protocols.stream.errors import RequestRefused
from amqp_broker.protocols.stream.frames import Fields, Malformed, command, u16, u32
from amqp_broker.protocols.stream.topology import partitions_of

if TYPE_CHECKING:
    from amqp_broker.protocols.stream.link import Link

CREDIT_MAX: Final = 65_535
SUBSCRIBE_EFFORT: Final = 10  # about; see ``ClientConnection.has_cost``
ANSWER_TIMEOUT_MS: Final = 60_000  # RabbitMQ's ``request_timeout``
REFERENCE_BYTES_MAX: Final = 255
FILTER_PREFIX: Final = "filter."
SINGLE_ACTIVE: Final = "single-active-consumer"
NAME: Final = "name"
SUPER_STREAM: Final = "super-stream"
MATCH_UNFILTERED: Final = "match-unfiltered"
PLACES: Final = {codes.OFFSET_FIRST: Place.FIRST, codes.OFFSET_LAST: Place.LAST, codes.OFFSET_NEXT: Place.NEXT}


class Subscription(ChunkDeliveries):
    """A subscription of a connection; its stream delivers to it.

    Args:
        connection: whose it is.
        number: the client's.
        stream: what it reads.
        credit: how many chunks the client is ready for.
        properties: as the client gave them.
        ask: has the client asked where to begin when it is this one's turn, or to make way.
    """

    def __init__(
        self,
        connection: Link,
        number: int,
        stream: StreamQueue,
        credit: int,
        properties: dict[str, str],
        ask: Callable[[Subscription, bool], None],
    ) -> None:
        self.number = number
        self.stream = stream
        self.credit = credit
        self.properties = properties
        self.consumer: Consumer | None = None
        self.delivered_count = 0
        self.next_offset = 0  # behind what was sent last
        self.has_room = False
        self.is_active = True  # unless another one of its name is
        self.asked = 0  # the correlation id of what its client was asked last, and has not answered
        self._connection = connection
        self.takes_stretches = connection.takes_stretches
        self._output = connection.output
        self._ask = ask
        self._start = StreamStart()
        self._reader: ChunkReader | None = None
        self._group: StreamGroup | None = None
        self._is_stopped = False
        self._head = bytes((number,))
        self._stream_counts = stream.counts.of(connection.counted_as)
        self.update_room()

    @property
    def tag(self) -> str:
        """What lists call its consumer."""
        return f"stream.subid-{self.number}"

    def start(self, start: StreamStart, wanted: StreamFilter | None) -> None:
        """Begin to read.

        Raises:
            AmqpError: the stream has reasons against it.
        """
        stream = self.stream
        self._start = start
        self.next_offset = stream.offset_of(start)
        self.consumer, self._reader = stream.add_chunk_consumer(
            self.tag, self, self.next_offset, wanted, self.properties
        )

    # --- one of several, of whom one is served

    def wait_in(self, name: str, partition: int) -> None:
        """Be served only when it is its turn among those of this name; that is found out when this is answered."""
        groups = self.stream.groups
        group = groups.get(name)
        if group is None:
            group = groups[name] = StreamGroup(partition)
        self._group = group
        self.is_active = False
        self.update_room()
        self._connection.broker.finish_with(self._join)

    def _join(self) -> None:
        if self._group is not None and not self._is_stopped:
            groups = (
                self.stream.groups
            )  # the group is not there any more if all who were to join have left but this one
            group = self._group = groups.setdefault(self.properties[NAME], self._group)
            group.add(self)

    def activate(self) -> None:
        self._ask(self, True)

    def deactivate(self) -> None:
        self.is_active = False
        self.update_room()
        self._ask(self, False)

    def answered(self, was_activated: bool, start: StreamStart | None) -> None:
        """The client has answered, where to begin if it is its turn; None for where it wanted to begin at first."""
        if self._is_stopped or self._group is None:
            return
        if not was_activated:
            self._group.made_way(self)
        elif self._reader is not None:
            self.is_active = True
            self.update_room()
            self._reader.begin_at(self.stream.offset_of(start if start is not None else self._start))

    # --- out

    def deliver_chunk(self, chunk: Chunk) -> None:
        """Send a chunk (called by its stream)."""
        output, header = self._output, chunk.header
        head = self._head
        if self._connection.deliver_version > 1:
            committed = self.stream.committed_chunk_offset
            committed_offset = max(committed or 0, chunk.first_offset)  # what came last may be several
            head += committed_offset.to_bytes(8, "big")
        length = 4 + len(head) + len(header) + chunk.data_bytes
        key = b"%b\0\x08\0%c%b%b" % (length.to_bytes(4, "big"), self._connection.deliver_version, head, header)
        output.send(key)
        for part in chunk.data:
            output.send(part)
        records = chunk.records
        self.next_offset = chunk.end_offset
        self.delivered_count += records
        self._connection.counts.delivered_no_ack += records
        self._stream_counts.delivered_no_ack += records
        self.credit -= 1
        if self.credit <= 0:
            self.update_room()

    def deliver(self, consumer: Consumer, message: Message, header: bytes) -> None:
        """There are no single messages here."""
        raise AssertionError("a subscription gets chunks")

    # --- room

    def grant(self, credit: int) -> None:
        """The client is ready for so many chunks more."""
        self.credit = min(self.credit + credit, CREDIT_MAX)
        self.update_room()

    def update_room(self) -> None:
        """Whether the client takes what is sent may have changed."""
        connection, had_room = self._connection, self.has_room
        is_held = self._output.is_congested or connection.virtual_host.are_deliveries_held
        self.has_room = self.credit > 0 and self.is_active and not (is_held or self._is_stopped)
        consumer = self.consumer
        if self.has_room and not had_room and consumer is not None and consumer.is_parked:
            consumer.queue.resume(consumer)

    # --- for those who look on

    def consumer_cancelled(self, consumer: Consumer) -> None:
        """The stream has gone; the connection is told of that once for all that it has of it."""
        self.consumer = self._reader = None

    def inspect(self) -> ChannelInfo:
        """Describe the connection as a channel."""
        return self._connection.inspect_channel()

    # --- the end

    def stop(self) -> None:
        """Nothing more comes."""
        self._is_stopped = True
        self.has_room = False
        self._reader = None  # which delivers here
        consumer, self.consumer = self.consumer, None
        if consumer is not None:
            consumer.queue.remove_consumer(consumer)
        group, self._group = self._group, None
        if group is not None:
            group.remove(self)
            name, groups = self.properties[NAME], self.stream.groups
            if not group.members and groups.get(name) is group:
                del groups[name]


class Subscribing:
    """The subscriptions of a connection that is open."""

    def __init__(self, connection: Link) -> None:
        self._connection = connection
        self.subscriptions: dict[int, Subscription] = {}
        self._asked: dict[int, tuple[Subscription, bool, Timer]] = {}  # by the correlation id of ConsumerUpdate
        self._asked_count = 0

    def subscribe(self, fields: Fields) -> bytes:
        """Handle Subscribe."""
        number, name = fields.u8(), fields.string()
        start = read_start(fields)
        credit = fields.u16()
        properties = fields.pairs()
        connection = self._connection
        connection.has_cost(SUBSCRIBE_EFFORT)
        connection.client.check_read("queue", name)
        stream = connection.stream(name)
        if number in self.subscriptions:
            raise RequestRefused(codes.SUBSCRIPTION_ID_ALREADY_EXISTS)
        if start is None or len(properties.get(NAME, "").encode("utf-8", "surrogateescape")) > REFERENCE_BYTES_MAX:
            raise RequestRefused(codes.PRECONDITION_FAILED)
        is_single = properties.get(SINGLE_ACTIVE) == "true"
        partition = self._partition(stream, properties) if is_single else NO_PARTITION
        subscription = Subscription(connection, number, stream, credit, properties, self._ask)
        subscription.start(start, wanted_of(properties))
        self.subscriptions[number] = subscription
        if is_single:
            subscription.wait_in(properties[NAME], partition)
        return b""

    def _partition(self, stream: StreamQueue, properties: dict[str, str]) -> int:
        """Which of a super stream's partitions a stream is that single active consumers read."""
        if not properties.get(NAME):
            raise RequestRefused(codes.PRECONDITION_FAILED)
        super_stream = properties.get(SUPER_STREAM)
        if super_stream is None:
            return NO_PARTITION
        exchange = self._connection.virtual_host.exchanges.get(super_stream)
        partitions = [] if exchange is None else partitions_of(exchange, self._connection)
        return partitions.index(stream) if stream in partitions else NO_PARTITION

    # --- single active consumers

    def _ask(self, subscription: Subscription, is_active: bool) -> None:
        """Send ConsumerUpdate: a consumer is asked where to begin, or to make way; what it was asked before is void."""
        self._take_asked(subscription.asked)
        self._asked_count += 1
        subscription.asked = self._asked_count
        timer = self._connection.broker.timers.after(ANSWER_TIMEOUT_MS, self._was_not_answered)
        self._asked[self._asked_count] = subscription, is_active, timer
        content = u32(self._asked_count) + bytes((subscription.number, is_active))
        self._connection.output.send(command(codes.CONSUMER_UPDATE, content))

    def _take_asked(self, correlation_id: int) -> tuple[Subscription, bool, Timer] | None:
        """What was asked, which is not waited for any more."""
        asked = self._asked.pop(correlation_id, None)
        if asked is not None:
            asked[2].cancel()
        return asked

    def _was_not_answered(self) -> None:
        """The others of the group have waited long enough: as with RabbitMQ, the connection ends."""
        self._connection.lost(f"ConsumerUpdate was not answered, timeout: {ANSWER_TIMEOUT_MS // 1000}s")

    def credit(self, fields: Fields) -> None:
        """Handle Credit, which is answered only if there is no such subscription, or it is not its turn; its credit
        counts then as well."""
        number, credit = fields.u8(), fields.u16()
        subscription = self.subscriptions.get(number)
        if subscription is None:
            self._refuse_credit(number, codes.SUBSCRIPTION_ID_DOES_NOT_EXIST)
            return
        if not subscription.is_active:
            self._refuse_credit(number, codes.PRECONDITION_FAILED)
        subscription.grant(credit)

    def _refuse_credit(self, number: int, code: int) -> None:
        self._connection.count_refusal(code)
        self._connection.output.send(command(codes.CREDIT | codes.ANSWER, u16(code) + bytes((number,))))

    def consumer_updated(self, fields: Fields) -> None:
        """Handle the answer to ConsumerUpdate, which says where a consumer that is active now begins."""
        asked = self._take_asked(fields.u32())
        code = fields.u16()
        start = read_start(fields) if code == codes.OK and fields.are_left else None
        if asked is not None:
            subscription, was_activated, _ = asked
            subscription.answered(was_activated, start)

    def unsubscribe(self, fields: Fields) -> bytes:
        """Handle Unsubscribe."""
        subscription = self.subscriptions.pop(fields.u8(), None)
        if subscription is None:
            raise RequestRefused(codes.SUBSCRIPTION_ID_DOES_NOT_EXIST)
        self._stop(subscription)
        return b""

    def _stop(self, subscription: Subscription) -> None:
        self._take_asked(subscription.asked)
        subscription.stop()

    def forget_stream(self, stream: StreamQueue) -> bool:
        """A stream is gone, and its subscriptions with it; returns whether there were any."""
        gone = [number for number, one in self.subscriptions.items() if one.stream is stream]
        for number in gone:
            self._stop(self.subscriptions.pop(number))
        return len(gone) > 0

    # --- offsets

    def store_offset(self, fields: Fields) -> None:
        """Handle StoreOffset, which is not answered, whatever comes of it."""
        reference, name, offset = fields.string(), fields.string(), fields.u64()
        connection = self._connection
        client = connection.client
        check = client.check_read if connection.virtual_host.behaviour.readers_store_offsets else client.check_write
        try:
            check("queue", name)
            stream = connection.stream(name)
        except (AmqpError, RequestRefused):
            return
        if reference and len(reference.encode("utf-8", "surrogateescape")) <= REFERENCE_BYTES_MAX:
            stream.offsets.put(reference, offset)

    def query_offset(self, fields: Fields) -> bytes:
        """Handle QueryOffset: an offset that was answered is not forgotten, so the answer waits until it is kept."""
        reference, name = fields.string(), fields.string()
        connection = self._connection
        connection.client.check_read("queue", name)
        offset = connection.stream(name).offsets.get(reference)
        if offset is None:
            raise RequestRefused(codes.NO_OFFSET, bytes(8))
        connection.output.hold_until(connection.broker.durability.position_of_all)
        return offset.to_bytes(8, "big")

    # --- room, and the end

    def update_room(self) -> None:
        """Whether the client takes what is sent may have changed."""
        for subscription in self.subscriptions.values():
            subscription.update_room()

    def stop(self) -> None:
        """The connection ends."""
        for subscription in self.subscriptions.values():
            subscription.stop()
        self.subscriptions.clear()
        for correlation_id in [*self._asked]:
            self._take_asked(correlation_id)


def read_start(fields: Fields) -> StreamStart | None:
    """Where a subscription is to begin; None where that is for the server to say.

    Raises:
        Malformed: there is no such place.
    """
    kind = fields.u16()
    if kind == codes.OFFSET_NUMBER:
        return StreamStart(offset=fields.u64())
    if kind == codes.OFFSET_TIMESTAMP:
        return StreamStart(wall_ms=fields.i64())
    if kind == codes.OFFSET_NONE:
        return None
    if kind not in PLACES:
        raise Malformed(f"there is no offset of type {kind}")
    return StreamStart(place=PLACES[kind])


def wanted_of(properties: dict[str, str]) -> StreamFilter | None:
    """What entries a subscription with these properties wants; None for all."""
    values = frozenset(value for key, value in properties.items() if key.startswith(FILTER_PREFIX))
    if not values:
        return None
    return StreamFilter(values, properties.get(MATCH_UNFILTERED, "") == "true")
