"""A stream: what is published stays, and each consumer reads all of it from the place that it chooses.

Nothing is consumed: an acknowledgement only lets more come, and what is dropped goes by size and by age, from the
oldest on. Everything is kept in the journal, whatever its delivery mode; times to live and priorities mean nothing
here. Each delivery says its offset in the header ``x-stream-offset``.

The entries are in ``stream_log.py``, what goes of them in ``stream_retention.py``, a consumer's way through them in
``stream_reader.py``, where it begins in ``stream_start.py``. (RabbitMQ docs, "Streams and Super Streams";
rabbit_stream_queue.erl.)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

from amqp_broker.broker.arguments import QUEUE_TYPE, STREAM_SEGMENT_BYTES_MAX, QueueArguments
from amqp_broker.broker.message import Message
from amqp_broker.broker.persistence.kinds import RecordKind
from amqp_broker.broker.queues.base import Queue
from amqp_broker.broker.queues.consumers import Consumer, Deliveries
from amqp_broker.broker.queues.ready import Stretch
from amqp_broker.broker.queues.returning import Returning
from amqp_broker.broker.queues.stream_block import StreamBlock, block_address, counts_of
from amqp_broker.broker.queues.stream_chunks import ChunkDeliveries, ChunkReader
from amqp_broker.broker.queues.stream_groups import StreamGroup
from amqp_broker.broker.queues.stream_headers import OffsetHeaders
from amqp_broker.broker.queues.stream_keeping import StreamKeeping
from amqp_broker.broker.queues.stream_log import StreamLog
from amqp_broker.broker.queues.stream_reader import EntryReader, StreamReader
from amqp_broker.broker.queues.stream_retention import StreamRetention
from amqp_broker.broker.queues.stream_sent_chunks import RememberedChunks
from amqp_broker.broker.queues.stream_start import (
    FILTER_ARGUMENT,
    OFFSET_ARGUMENT,
    UNFILTERED_ARGUMENT,
    Place,
    StreamFilter,
    StreamStart,
    stream_filter,
    stream_start,
)
from amqp_broker.broker.queues.stream_tracking import Tracks
from amqp_broker.broker.queues.stream_turns import ReaderTurns
from amqp_broker.broker.queues.traits import QueueTraits
from amqp_broker.broker.works import Work
from amqp_broker.errors import AmqpError, not_implemented, precondition_failed
from amqp_broker.wire.table import Table

if TYPE_CHECKING:
    from amqp_broker.broker.host import Host

READING_SLICE_COST: Final = 500  # of what those get in one go for whom the disk is read
AWAITED_SLICE_COST: Final = 200  # likewise, while somebody waits for a confirm
TURN_COST_MAX: Final = 100  # of what one consumer gets before the next one's turn, in deliveries; or a chunk

STREAM: Final = QueueTraits(
    arguments=(
        "x-max-length-bytes",
        QUEUE_TYPE,
        "x-max-age",
        "x-stream-max-segment-size-bytes",
        "x-initial-cluster-size",
        "x-queue-leader-locator",
    ),
    consumer_arguments=("x-credit", OFFSET_ARGUMENT, FILTER_ARGUMENT, UNFILTERED_ARGUMENT),
    apply_to="streams",
    meaningless_policy_keys=frozenset(
        {
            "replay-ms",
            "dead-letter-exchange",
            "dead-letter-routing-key",
            "dead-letter-strategy",
            "message-ttl",
            "expires",
            "max-length",
            "max-in-memory-length",
            "max-in-memory-bytes",
            "overflow",
            "queue-mode",
            "delivery-limit",
            "queue-master-locator",
            "ha-mode",
            "ha-params",
            "ha-sync-mode",
            "ha-promote-on-shutdown",
            "ha-promote-on-failure",
        }
    ),
    always_lasts=True,
    ranges={
        "x-stream-max-segment-size-bytes": (
            0,
            STREAM_SEGMENT_BYTES_MAX,
            "Exceeded max value for x-stream-max-segment-size-bytes",
        ),
        "x-stream-filter-size-bytes": (
            16,
            255,
            "Invalid value for  x-stream-filter-size-bytes",  # as RabbitMQ writes it
        ),
    },
    may_be_unnamed=False,
    shown_as="stream",
)


class StreamQueue(Queue):
    """A queue declared with ``x-queue-type`` stream; arguments as of ``Queue``."""

    __slots__ = (
        "_batch_offset",
        "_block_address",
        "_has_new",
        "_headers",
        "_is_reading",
        "_keeping",
        "_log",
        "_readers",
        "_remembered",
        "_retention",
        "_turns",
        "groups",
        "offsets",
        "sequences",
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
        self._log = StreamLog(has_journal=virtual_host.durability.has_journal)
        self._keeping = StreamKeeping(self._log, virtual_host, self._more_is_kept)
        self._batch_offset = 0  # of the first of those that came together last
        self._has_new = False  # since it was looked at
        self._is_reading = False  # for those who are not at the end; it goes on among the works
        self._readers: dict[Consumer, EntryReader] = {}
        self._turns = ReaderTurns(self._log)
        self._remembered = RememberedChunks()
        self._headers = OffsetHeaders()
        self._block_address = block_address(name)
        self.sequences = Tracks(self, virtual_host.durability, RecordKind.STREAM_SEQUENCE)
        self.offsets = Tracks(self, virtual_host.durability, RecordKind.STREAM_OFFSET)
        self.groups: dict[str, StreamGroup] = {}  # of consumers of which one alone is active, by their name
        self._retention = StreamRetention(self, self._log, self._pass_dropped)

    @classmethod
    def traits(cls) -> QueueTraits:
        return STREAM

    # --- what it says of itself

    @property
    def ready_count(self) -> int:
        return len(self._log)

    @property
    def ready_bytes(self) -> int:
        return self._log.body_bytes

    @property
    def is_log(self) -> bool:
        return True

    @property
    def offset_lag_max(self) -> int | None:
        end_offset = self._log.end_offset
        lags = [max(0, end_offset - one.next_offset) for one in self._readers.values() if isinstance(one, ChunkReader)]
        return max(lags) if lags else None

    @property
    def first_offset(self) -> int:
        """The offset of the oldest entry there is; that of the next one where there is none."""
        return self._log.first_offset

    @property
    def end_offset(self) -> int:
        """The offset that the next entry gets."""
        return self._log.end_offset

    @property
    def last_chunk_offset(self) -> int:
        """The offset of the first of those that came together last."""
        return max(self._batch_offset, self._log.first_offset)

    @property
    def committed_chunk_offset(self) -> int | None:
        """The same of those that are kept; None where there are none."""
        log = self._log
        self._keeping.advance()
        if log.kept_end_offset <= log.first_offset:
            return None
        return max(self._keeping.batch_offset, log.first_offset)

    @property
    def log(self) -> StreamLog:
        """The entries, for those who look in."""
        return self._log

    def messages(self) -> Iterator[Message]:
        return self._log.latest_messages()

    def head(self) -> Message | None:
        return None  # none is the next: each consumer is at a place of its own

    def details(self) -> dict[str, object]:
        return {"first_offset": self.first_offset, "end_offset": self.end_offset}

    def stretches(self, skip: int, count: int) -> list[Stretch]:
        parts = self._log.parts(self._log.first_offset + skip, count)
        return [Stretch(messages, references) for messages, references in parts]

    def was_handed_out(self, message: Message) -> bool:
        """Nothing is ever redelivered: whoever reads it again reads it for the first time."""
        return False

    def header_to_deliver(self, message: Message) -> bytes:
        """The published content header with the entry's offset in ``x-stream-offset``."""
        return self._headers.with_offset(message.header, message.position)

    def check_get(self) -> None:
        raise self._not_supported("basic.get")

    def check_exclusive_use(self, exclusive: bool) -> None:
        """Anybody may consume beside anybody."""

    def check_deletion(self, *, if_unused: bool, if_empty: bool) -> None:
        """A stream goes whatever the conditions say."""

    def _not_supported(self, what: str) -> AmqpError:
        return not_implemented(f"{what} not supported by stream queues {self}")

    # --- in

    def keeps(self, is_persistent: bool) -> bool:
        return True

    def publish(self, message: Message) -> bool:
        if not self._has_new:
            self._has_news()
        self._log.append(message, self.virtual_host.clock.wall_ms())
        return True

    def publish_block(self, body: bytes) -> int:
        """Take entries that came together (``stream_block.block_body``).

        Returns:
            The journal's position that must be kept before they are confirmed.
        """
        block = StreamBlock(self._block_address, body)
        self.virtual_host.durability.keep_block(self, block, block.parts_to_write())
        if not self._has_new:
            self._has_news()
        self._batch_offset = self._log.end_offset
        self._log.append_block(block, self.virtual_host.clock.wall_ms())
        self.counts.published += block.records
        return block.reference

    def _has_news(self) -> None:
        self._has_new = True
        self._batch_offset = self._log.end_offset
        self.changed()

    def restore_entry(self, reference: int, body_bytes: int, wall_ms: int) -> None:
        """Put an entry back that was read from the journal; they come in the order of their publishing."""
        self._log.append_stored(reference, body_bytes, wall_ms)

    def restore_block(self, reference: int, body: bytes, wall_ms: int) -> None:
        self._log.append_stored_block(reference, len(body), counts_of(body), wall_ms)

    def restore_state(self, state: Table) -> bool:
        """Take over which offset the first entry has, be it back already or not: before anything is dropped again."""
        first_offset = state.get("first_offset")
        if not isinstance(first_offset, int):
            return False
        self._log.begin_at(int(first_offset))
        return True

    def restore_tracked(self, kind: RecordKind, name: str, value: int, reference: int) -> int | None:
        tracks = self.sequences if kind is RecordKind.STREAM_SEQUENCE else self.offsets
        return tracks.restore(name, value, reference)

    def recovered(self) -> None:
        self._batch_offset = max(self._log.first_offset, self._log.end_offset - 1)
        self._keeping.are_restored(self._batch_offset)
        self._retention.drop_surplus()

    # --- out

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
        names_type = self.virtual_host.behaviour.texts_name_streams
        if no_ack:
            name = f"stream {self}" if names_type else f"stream queues {self}"
            raise not_implemented(f"automatic acknowledgement not supported by {name}")
        if not prefetch_count or has_channel_prefetch:
            name = f"stream {self}" if names_type else f"'{self}'"
            raise precondition_failed(f"consumer prefetch count is not set for {name}")
        return self._add_reading(tag, deliveries, no_ack, exclusive, prefetch_count, arguments)

    def add_credited_consumer(self, tag: str, deliveries: Deliveries, *, no_ack: bool, arguments: Table) -> Consumer:
        return self._add_reading(tag, deliveries, no_ack, False, 0, arguments)

    def _add_reading(
        self, tag: str, deliveries: Deliveries, no_ack: bool, exclusive: bool, prefetch_count: int, arguments: Table
    ) -> Consumer:
        """Start a consumer that gets messages, from the place on that its arguments name."""
        start = stream_start(str(self), arguments, self.virtual_host.clock.wall_ms())
        wanted = stream_filter(str(self), arguments)
        consumer = super().add_consumer(
            tag,
            deliveries,
            no_ack=no_ack,
            exclusive=exclusive,
            prefetch_count=prefetch_count,
            has_channel_prefetch=False,
            arguments=arguments,
        )
        offset = self.offset_of(start)
        host = self.virtual_host
        self._begin(StreamReader(self._log, consumer, offset, wanted, host.paging, self._take_turn, host.entry_forms))
        return consumer

    def available_to(self, consumer: Consumer) -> int:
        reader = self._readers.get(consumer)
        return 0 if reader is None else max(0, self._log.end_offset - reader.next_offset)

    def add_chunk_consumer(
        self,
        tag: str,
        deliveries: ChunkDeliveries,
        offset: int,
        wanted: StreamFilter | None,
        properties: Mapping[str, str],
    ) -> tuple[Consumer, ChunkReader]:
        """Start a consumer that gets chunks.

        Args:
            tag: its name, unique among those of its client.
            deliveries: where they go.
            offset: where it begins.
            wanted: chunks with such entries only; None for all.
            properties: what lists show as the consumer's arguments.
        """
        consumer = super().add_consumer(
            tag,
            deliveries,
            no_ack=True,
            exclusive=False,
            prefetch_count=0,
            has_channel_prefetch=False,
            arguments={**properties},
        )
        host = self.virtual_host
        reader = ChunkReader(
            self._log,
            consumer,
            offset,
            wanted,
            host.paging,
            self._take_turn,
            host.entry_forms,
            deliveries,
            self._remembered,
        )
        self._begin(reader)
        return consumer, reader

    def _begin(self, reader: EntryReader) -> None:
        self._readers[reader.consumer] = reader
        self._remembered.are_wanted = len(self._readers) > 1
        self._take_turn(reader)

    def offset_of(self, start: StreamStart) -> int:
        """The offset that a consumer begins with, as things stand."""
        log = self._log
        if start.wall_ms is not None:
            return log.offset_at(start.wall_ms)
        if start.offset is not None:
            return max(start.offset, log.first_offset)
        if start.place is Place.FIRST:
            return log.first_offset
        if start.place is Place.LAST:
            return self.last_chunk_offset
        return log.end_offset

    def remove_consumer(self, consumer: Consumer) -> None:
        reader = self._readers.pop(consumer, None)
        if reader is not None:
            reader.stop()
            self._turns.remove(reader)
            if len(self._readers) < 2:
                self._remembered.are_wanted = False
                self._remembered.clear()
        super().remove_consumer(consumer)

    def resume(self, consumer: Consumer) -> None:
        if self.consumers.resume(consumer) and consumer in self._readers:
            self._take_turn(self._readers[consumer])

    def _take_turn(self, reader: EntryReader) -> None:
        """A reader may have something to deliver, or has to wait for it."""
        self._turns.remove(reader)
        self._line_up(reader)
        if self._are_readers_due:
            self.changed()

    @property
    def _are_readers_due(self) -> bool:
        """Whether there is something to do for readers that has not been begun."""
        return self._turns.latest_count > 0 or (self._turns.behind_count > 0 and not self._is_reading)

    def _line_up(self, reader: EntryReader) -> None:
        """Let a reader that is in no line wait for its turn, or for more, unless something else has to come first."""
        if reader.consumer.is_parked or reader.is_reading:
            return
        self._turns.add(reader)
        if not reader.may_go_on and reader.has_more:
            self._keeping.wait()

    def _more_is_kept(self) -> None:
        self._turns.more_has_come()
        self.changed()  # those may have gone for whom entries are in memory

    def deliver_ready(self, messages_max: int) -> int:
        self.is_changed = False
        if self._has_new:
            self._has_new = False
            self._keeping.have_come(self._batch_offset)
            if self._turns.waiting_count:
                self._keeping.wait()
            self._retention.drop_surplus()
        self._keeping.advance()
        self.is_changed = False
        cost = 0
        while cost < messages_max and self._turns.latest_count:
            cost += self._serve(self._turns.take_latest())
        if self._turns.behind_count and not self._is_reading:
            self._is_reading = True
            self.virtual_host.works.begin(self._serve_from_before())
            cost += READING_SLICE_COST
        if self._are_readers_due:
            self.changed()
        else:
            if len(self._readers) == self._turns.waiting_count:
                self._remembered.clear()
            if self.askers is not None and not self._turns.behind_count:
                self.let_askers_go_on()
        self._log.limit_latest(self._keeping.needed_from(are_reading=self._turns.latest_count > 0))
        return cost

    def _serve_from_before(self) -> Iterator[None]:
        """Serve those for whom the disk is read, in slices: what is sent to whom is at the end comes between."""
        awaiting_commit = self.virtual_host.awaiting_commit
        try:
            if awaiting_commit:
                yield  # one slice in a round of the event loop is enough
            while self._turns.behind_count:
                cost, cost_max = 0, AWAITED_SLICE_COST if awaiting_commit else READING_SLICE_COST
                while cost < cost_max and self._turns.behind_count:
                    cost += self._serve(self._turns.take_behind())
                if self._turns.behind_count:
                    yield
        finally:
            self._is_reading = False
            if self._readers:
                self.changed()

    def _serve(self, reader: EntryReader) -> int:
        """Let a reader have its turn; returns what it cost, in deliveries."""
        try:
            return 1 + reader.serve(TURN_COST_MAX)
        finally:  # whatever becomes of its client
            self._line_up(reader)

    def get(self, no_ack: bool) -> Message | None:
        raise self._not_supported("basic.get")

    def acknowledge(self, message: Message) -> None:
        self.unacknowledged_count -= 1
        assert self.unacknowledged_count >= 0, f"more entries of {self} were settled than delivered"

    def reject(self, messages: list[Message]) -> None:
        self._check_refusal()
        self.unacknowledged_count -= len(messages)
        assert self.unacknowledged_count >= 0, f"more entries of {self} were refused than delivered"

    def requeueing(self) -> Returning:
        self._check_refusal()
        return ReturningNowhere(self)

    def _check_refusal(self) -> None:
        if not self.virtual_host.behaviour.streams_take_refusals:
            raise self._not_supported("basic.nack and basic.reject")

    def taking_back(self) -> Returning:
        """Nothing is to be put back: what the channel had is still in the stream."""
        return ReturningNowhere(self)

    # --- what goes

    def purge(self) -> tuple[int, Work]:
        raise self._not_supported("queue.purge")

    def arguments_changed(self, before: QueueArguments) -> None:
        super().arguments_changed(before)
        self._retention.drop_surplus()

    def _pass_dropped(self) -> None:
        """The oldest entries are gone: who was there reads on behind them."""
        first_offset = self._log.first_offset
        for reader in self._readers.values():
            if reader.next_offset < first_offset:
                reader.pass_dropped()
                self._take_turn(reader)

    def empty(self) -> Iterator[None]:
        return self._retention.forget_all()

    def close(self) -> None:
        self._retention.stop()
        self._keeping.stop()
        for reader in self._readers.values():
            reader.stop()
        self._readers.clear()
        self._remembered.clear()
        self._turns.clear()
        super().close()
        self.sequences.clear()
        self.offsets.clear()


class ReturningNowhere(Returning):
    """Entries that a client had of a stream and does not have any more.

    Args:
        queue: the stream.
    """

    __slots__ = ("_queue",)

    def __init__(self, queue: StreamQueue) -> None:
        self._queue = queue

    def add(self, messages: list[Message]) -> None:
        self._queue.unacknowledged_count -= len(messages)
        assert self._queue.unacknowledged_count >= 0, f"{self._queue} gets back more than it has delivered"
