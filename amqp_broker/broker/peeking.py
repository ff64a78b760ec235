"""A look into a queue that changes nothing: what is ready, in the order of delivery, and what consumers have.

Nobody else can tell that somebody looks: no message is marked as redelivered, none changes its place, and no consumer
waits. What is on disk only is read into this look alone. What is unacknowledged comes first, by connection and channel;
a look that goes on counts from there, so what comes and goes meanwhile may be missing or be seen twice. A stream is
looked at by its own offsets, which stay, and from a time on; what its consumers have is in it all the same.

A look is a walk in small steps. It holds no thread and no disk: a step that says which records it needs is handed them
(``Steps``). What a message must have to be found is in ``message_filter.py``; how it is taken out is in ``moving.py``.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, TypeAlias, TypedDict

from amqp_broker.broker.json_values import json_ready, json_ready_table
from amqp_broker.broker.message import Message
from amqp_broker.broker.message_filter import ANY_MESSAGE, MessageFilter
from amqp_broker.broker.persistence.message_records import MessageDecoder, decode_message
from amqp_broker.broker.queues.stream import StreamQueue
from amqp_broker.broker.queues.stream_block import StreamBlock
from amqp_broker.broker.queues.stream_reader import READ_ENTRIES_MAX, entries_of
from amqp_broker.wire.content import decode_properties

if TYPE_CHECKING:
    from amqp_broker.broker.broker import Broker
    from amqp_broker.broker.queues.base import Queue
    from amqp_broker.broker.queues.ready import Stretch
    from amqp_broker.broker.queues.unacknowledged import Unacknowledged

LIMIT: Final = 50
LIMIT_MAX: Final = 500
LOOKED_AT_MAX: Final = 100_000
DURATION_MS_MAX: Final = 10_000
BODY_BYTES_MAX: Final = 1_048_576
ANSWER_BYTES_MAX: Final = 8_388_608  # of the bodies that are shown
READ_BYTES_MAX: Final = 1_048_576  # in one go
SLICE_DELIVERIES: Final = 10_000  # of other queues, which are only passed by
IDENTIFYING_BYTES: Final = 4_096

Steps: TypeAlias = Generator[Sequence[int], Sequence[bytes | None], None]
StepsToAnswer: TypeAlias = Generator[Sequence[int], Sequence[bytes | None], bool]
"""A walk. Each step says which of the journal's records are to be sent to the next one, None for one that is gone. With
none it only lets others have their turn.
"""


class MessageState(StrEnum):
    """The state of the messages that are looked at."""

    READY = "ready"
    UNACKNOWLEDGED = "unacked"
    ALL = "all"


class StoppedBy(StrEnum):
    """The reason why a look has ended."""

    END = "end"  # of the queue
    LIMIT = "limit"  # as many were found as were wanted, or as fit into an answer
    LOOKED_AT = "looked_at"  # as many were looked at as may be in one look
    TIME = "time"


class HolderInfo(TypedDict):
    """The holder of a message that is not acknowledged."""

    consumer_tag: str | None  # None for who got it with basic.get
    channel: str
    for_ms: int


class PeekedMessage(TypedDict):
    """A message in its queue."""

    id: str  # finds it again as long as it is in the queue
    offset: int  # its place in what was looked at; in a stream the stream's own
    state: str
    held_by: HolderInfo | None
    exchange: str
    routing_key: str
    redelivered: bool
    delivery_count: int  # returns to a quorum queue
    age_ms: int | None  # in this queue; None where the message is not kept in the journal
    expires_in_ms: int | None
    properties: dict[str, object]
    x_death: list[object]  # the same as in the headers
    payload: str
    payload_encoding: str  # string or base64
    payload_bytes: int  # of the whole body
    is_payload_cut: bool


class PeekInfo(TypedDict):
    """The result of a look into a queue."""

    queue: str
    vhost: str
    offset: int
    next_offset: int | None  # where the next look goes on; None at the end
    stopped_by: str
    looked_at: int
    bodies_too_large: int  # of these, in which was not searched
    messages_ready: int
    messages_unacknowledged: int
    messages: list[PeekedMessage]


@dataclass(frozen=True, slots=True)
class PeekBounds:
    """The bounds of one look.

    Args:
        offset: how many messages are passed by at first.
        limit: how many are shown.
        looked_at_max: how many are compared with the filter.
        duration_ms_max: how long that may take, in milliseconds.
        body_bytes_max: how much of each body is shown.
        since_wall_ms: of a stream, begin with what came at this time or later, in milliseconds since 1970, where that
            is behind ``offset``.
    """

    state: MessageState = MessageState.ALL
    offset: int = 0
    limit: int = LIMIT
    looked_at_max: int = 10_000
    duration_ms_max: int = 1_000
    body_bytes_max: int = 65_536
    since_wall_ms: int | None = None


class Peek:
    """One look into a queue.

    Args:
        broker: whose.
        queue: which.
        bounds: how far.
        wanted: what is shown.
    """

    def __init__(self, broker: Broker, queue: Queue, bounds: PeekBounds, wanted: MessageFilter = ANY_MESSAGE) -> None:
        self._broker = broker
        self._queue = queue
        self._bounds = bounds
        self._wanted = wanted
        self._end_ms = broker.clock.monotonic_ms() + bounds.duration_ms_max
        self._begin = self._place = _begin(queue, bounds)
        self._looked_at = self._shown_bytes = self._too_large = 0
        self._rows: list[PeekedMessage] = []
        self._kept: list[tuple[Message, PeekedMessage]] = []  # whose age the journal knows
        self._stopped_by = StoppedBy.END

    def steps(self) -> Steps:
        """Look; when there are no more steps, ``seen`` has it all."""
        passed = 0
        if self._shows_unacknowledged():
            for held in self._unacknowledged():
                yield ()
                if held is None:
                    continue
                passed += 1
                if passed <= self._bounds.offset:
                    continue
                if self._is_enough():
                    break
                self._look_at(held[1].message, held, None)
        if self._bounds.state is not MessageState.UNACKNOWLEDGED and self._stopped_by is StoppedBy.END:
            if isinstance(self._queue, StreamQueue):
                yield from self._look_at_stream(self._queue)
            else:
                yield from self._look_at_ready(max(0, self._begin - passed))
        yield from self._read_ages()

    def seen(self) -> PeekInfo:
        """What was seen."""
        queue = self._queue
        is_end = self._stopped_by is StoppedBy.END
        return PeekInfo(
            queue=queue.name,
            vhost=queue.virtual_host.name,
            offset=self._begin,
            next_offset=None if is_end else self._place,
            stopped_by=str(self._stopped_by),
            looked_at=self._looked_at,
            bodies_too_large=self._too_large,
            messages_ready=queue.ready_count,
            messages_unacknowledged=queue.unacknowledged_count,
            messages=self._rows,
        )

    # --- where they are

    def _shows_unacknowledged(self) -> bool:
        """Whether what consumers have is shown; in a stream it is still in its place."""
        state = self._bounds.state
        return state is MessageState.UNACKNOWLEDGED or (state is MessageState.ALL and not self._queue.is_log)

    def _unacknowledged(self) -> Iterator[tuple[str, Unacknowledged] | None]:
        """The queue's deliveries with the names of their channels; None where others may have their turn."""
        queue = self._queue
        if not queue.unacknowledged_count:
            return
        for connection in self._broker.open_connections.in_virtual_host(queue.virtual_host.name):
            for channel, deliveries in connection.unacknowledged():
                for start in range(0, len(deliveries), SLICE_DELIVERIES):
                    yield None
                    some = deliveries[start : start + SLICE_DELIVERIES]
                    for delivery in [one for one in some if one.queue is queue]:
                        yield channel, delivery

    def _look_at_ready(self, skip: int) -> Steps:
        queue, left = self._queue, self._bounds.looked_at_max - self._looked_at
        if queue.is_deleted:
            return
        stretches = queue.stretches(skip, left + 1)
        for stretch in stretches:
            if not stretch.references:
                for message in stretch.messages:
                    if self._is_enough():
                        return
                    self._look_at(message, None, None)
                    yield ()
            else:
                if self._is_enough():
                    return
                payloads = yield stretch.references
                yield from self._look_at_paged(stretch, payloads)
                if self._stopped_by is not StoppedBy.END:
                    return

    def _look_at_paged(self, stretch: Stretch, payloads: Sequence[bytes | None]) -> Steps:
        decoder, queue = MessageDecoder(), self._queue
        for reference, payload in zip(stretch.references, payloads, strict=True):
            if self._is_enough():
                return
            if payload is None:
                self._place += 1
                self._looked_at += 1
                continue
            kept = decoder.decode(payload)
            message = self._broker.paging.message_of(queue, reference, kept)
            self._look_at(message, None, kept.published_wall_ms)
            yield ()

    def _look_at_stream(self, stream: StreamQueue) -> Steps:
        decoder, log = MessageDecoder(), stream.log
        while not stream.is_deleted:
            self._place = max(self._place, log.first_offset)  # it may have been dropped meanwhile
            if self._place >= log.end_offset or self._is_enough():
                return
            entry = log.latest(self._place)
            entries = [] if entry is None else [entry]
            if not entries:
                extent = log.extent(self._place, READ_ENTRIES_MAX)
                payloads = yield extent.references
                some = [payload for payload in payloads if payload is not None]
                entries = entries_of(extent, some, decoder) if len(some) == len(payloads) else []
                self._place += not entries  # they went while they were read
            for entry in entries:
                if (yield from self._look_at_entry(stream, entry)):
                    return
                yield ()

    def _look_at_entry(self, stream: StreamQueue, entry: Message) -> StepsToAnswer:
        """Look at what is in an entry, from the present place on; whether that is enough."""
        messages: Iterable[Message | None] = [entry]
        end_offset = entry.position + 1
        if isinstance(entry, StreamBlock):
            messages, end_offset = entry.opened(stream.virtual_host.entry_forms(), None, self._place), entry.end_offset
        for message in messages:
            if message is None:
                yield ()
                continue
            if self._is_enough():
                return True
            self._place = message.position
            self._look_at(message, None, stream.log.wall_ms_of(message.position))
        self._place = max(self._place, end_offset)
        return False

    def _is_enough(self) -> bool:
        """Whether there is a message more, but not in this look."""
        bounds = self._bounds
        if len(self._rows) >= bounds.limit or self._shown_bytes >= ANSWER_BYTES_MAX:
            self._stopped_by = StoppedBy.LIMIT
        elif self._looked_at >= bounds.looked_at_max:
            self._stopped_by = StoppedBy.LOOKED_AT
        elif self._broker.clock.monotonic_ms() >= self._end_ms and self._looked_at:
            self._stopped_by = StoppedBy.TIME
        return self._stopped_by is not StoppedBy.END

    # --- what they are

    def _look_at(
        self, message: Message, held: tuple[str, Unacknowledged] | None, published_wall_ms: int | None
    ) -> None:
        place = self._place
        self._place += 1
        self._looked_at += 1
        if not self._wanted.finds(message):
            self._too_large += self._wanted.is_body_too_large(message)
            return
        row = describe(self._broker, message, place, held, self._bounds.body_bytes_max)
        self._rows.append(row)
        self._shown_bytes += len(row["payload"])
        if published_wall_ms is not None:
            row["age_ms"] = self._age_ms(published_wall_ms)
        elif message.reference:
            self._kept.append((message, row))

    def _read_ages(self) -> Steps:
        """The journal knows since when it has a message; those in memory do not know it themselves."""
        kept = self._kept
        start = 0
        while start < len(kept):
            end, size_bytes = start, 0
            while end < len(kept) and size_bytes < READ_BYTES_MAX:
                size_bytes += len(kept[end][0].body)
                end += 1
            some = [(message.reference, row) for message, row in kept[start:end] if message.reference]
            payloads = yield [reference for reference, _ in some]
            for (_, row), payload in zip(some, payloads, strict=True):
                if payload is not None:
                    row["age_ms"] = self._age_ms(decode_message(payload).published_wall_ms)
            start = end

    def _age_ms(self, published_wall_ms: int) -> int:
        return max(0, self._broker.clock.wall_ms() - published_wall_ms)


def _begin(queue: Queue, bounds: PeekBounds) -> int:
    """The place of the first message that is looked at."""
    if not isinstance(queue, StreamQueue):
        return bounds.offset
    since = 0 if bounds.since_wall_ms is None else queue.log.offset_at(bounds.since_wall_ms)
    return max(bounds.offset, since, queue.first_offset)


def describe(
    broker: Broker, message: Message, place: int, held: tuple[str, Unacknowledged] | None, body_bytes_max: int
) -> PeekedMessage:
    """A message at a place, with the beginning of its body; its age is not known here."""
    now_ms = broker.clock.monotonic_ms()
    properties = shown_properties(message)
    headers = properties.get("headers")
    deaths = headers.get("x-death") if isinstance(headers, dict) else None
    payload, encoding = shown_body(message.body, body_bytes_max)
    expires_at_ms = message.expires_at_ms
    return PeekedMessage(
        id=message_id(message),
        offset=place,
        state=str(MessageState.READY if held is None else MessageState.UNACKNOWLEDGED),
        held_by=None if held is None else _holder(held[0], held[1], now_ms),
        exchange=message.address.exchange,
        routing_key=message.address.routing_key,
        redelivered=message.redelivered,
        delivery_count=message.delivery_count,
        age_ms=None,
        expires_in_ms=None if expires_at_ms is None else max(0, expires_at_ms - now_ms),
        properties=properties,
        x_death=deaths if isinstance(deaths, list) else [],
        payload=payload,
        payload_encoding=encoding,
        payload_bytes=len(message.body),
        is_payload_cut=len(message.body) > body_bytes_max,
    )


def _holder(channel: str, delivery: Unacknowledged, now_ms: int) -> HolderInfo:
    consumer = delivery.consumer
    tag = consumer.tag if consumer is not None else None
    return HolderInfo(consumer_tag=tag, channel=channel, for_ms=max(0, now_ms - delivery.delivered_ms))


def message_id(message: Message) -> str:
    """What finds a message of a queue again: the journal's reference, or where it has none its place and its looks."""
    if message.reference:
        return str(message.reference)
    looks = zlib.crc32(message.body[:IDENTIFYING_BYTES], zlib.crc32(message.header + message.address.encoded))
    return f"m{message.position}-{looks:08x}"


def shown_properties(message: Message) -> dict[str, object]:
    """The properties that a message has, as they can be written in JSON."""
    properties = decode_properties(message.header)
    shown: dict[str, object] = {}
    for name in _PROPERTIES:
        value = getattr(properties, name)
        if value is not None:
            shown[name] = json_ready_table(value) if name == "headers" else json_ready(value)
    return shown


_PROPERTIES: Final = (
    "content_type",
    "content_encoding",
    "headers",
    "delivery_mode",
    "priority",
    "correlation_id",
    "reply_to",
    "expiration",
    "message_id",
    "timestamp",
    "type",
    "user_id",
    "app_id",
    "cluster_id",
)


def shown_body(body: bytes, bytes_max: int) -> tuple[str, str]:
    """The beginning of a body, and how it is encoded: as text where it is UTF-8, else in base 64."""
    shown = body[:bytes_max]
    is_cut = len(body) > bytes_max
    try:
        return shown.decode(), "string"
    except UnicodeDecodeError as error:
        if is_cut and error.start >= len(shown) - 3 and error.reason == "unexpected end of data":
            return shown[: error.start].decode(), "string"
        return base64.b64encode(shown).decode(), "base64"
