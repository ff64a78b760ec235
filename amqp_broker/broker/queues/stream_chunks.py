"""The way of a consumer that gets chunks, as clients of the stream protocol do: entries that follow each other, in the
form that RabbitMQ's log has on its disk.

What came in blocks goes out as it came; messages of other protocols become entries here. What is unwanted is passed by
as far as no chunk has to be cut for it: a client compares again. (Stream protocol of RabbitMQ, "Deliver"; the format
is described in the sources of Osiris.)
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from amqp_broker.broker.message import Message
from amqp_broker.broker.persistence.message_records import ONE_QUEUE_AND_TIMES_BYTES, decode_message, part_before_body
from amqp_broker.broker.queues.consumers import Consumer, Deliveries
from amqp_broker.broker.queues.stream_block import (
    BLOCK_HEADER,
    FIELDS,
    FIELDS_BYTES,
    StreamBlock,
    block_address,
)
from amqp_broker.broker.queues.stream_log import PART_ENTRIES_MAX as READ_ENTRIES_MAX
from amqp_broker.broker.queues.stream_log import Extent, StreamLog
from amqp_broker.broker.queues.stream_reader import ENTRIES_LIKE_A_DELIVERY, EntriesRead, EntryReader
from amqp_broker.broker.queues.stream_start import StreamFilter
from amqp_broker.compilation import mypyc_attr
from amqp_broker.journal.checksums import combined
from amqp_broker.journal.records import PAYLOAD_BYTES_MAX, Part
from amqp_broker.journal.stretches import Sendable
from amqp_broker.wire.content import decode_properties

if TYPE_CHECKING:
    from amqp_broker.broker.ports import EntryForms
    from amqp_broker.broker.queues.paging import Paging
    from amqp_broker.journal.port import Journal

MAGIC_AND_VERSION: Final = 0x50
CHUNK_BYTES_WANTED: Final = 65_536  # a chunk that has so many gets no more
LYING_BYTES_MIN: Final = 16_384  # a block that has fewer is better read, and becomes a part of a chunk with others
CHUNK_ENTRIES_MAX: Final = 65_535
BYTES_LIKE_AN_ENTRY: Final = 2_048  # reading and sending so many takes as long as handling an entry
EPOCH: Final = 1
_HEADER: Final = struct.Struct(">BBHIqQQIIIB3x")
_LENGTH: Final = struct.Struct(">I")


class Chunk:
    """Entries that follow each other, ready to be sent.

    Args:
        first_offset: of the first record.
        header: what stands before the entries.
        data: the entries, in the parts in which they lie.
        data_bytes: how many bytes these are.
        records: how many there are.
    """

    __slots__ = ("data", "data_bytes", "first_offset", "header", "records")

    def __init__(
        self, first_offset: int, header: bytes, data: Sequence[Sendable], data_bytes: int, records: int
    ) -> None:
        self.first_offset = first_offset
        self.header = header
        self.data = data
        self.data_bytes = data_bytes
        self.records = records


class BlocksRead(EntriesRead):
    """Blocks that a consumer comes to next.

    Args:
        reader: for whom.
        extent: which.
        unchecked_bytes_min: as for ``Journal.view_many``; of their checksums and of those of the records alike.
    """

    __slots__ = ("_reads", "_unchecked_bytes_min", "records")

    def __init__(self, reader: ChunkReader, extent: Extent, unchecked_bytes_min: int) -> None:
        super().__init__(reader, extent)
        self._reads = reader  # in the other thread, whatever becomes of it here
        self._unchecked_bytes_min = unchecked_bytes_min
        self.records: list[Part] = []

    def read(self, journal: Journal) -> None:
        records = journal.view_many(self.references, self._unchecked_bytes_min)
        if not self._reads.may_go_unchecked(self.extent, records, self._unchecked_bytes_min):
            records = journal.view_many(self.references, PAYLOAD_BYTES_MAX)
        self.records = records

    def entries(self, reader: EntryReader) -> list[Message]:
        assert isinstance(reader, ChunkReader)
        return reader.blocks_of(self.extent, self.records)


@mypyc_attr(allow_interpreted_subclasses=True)
class ChunkDeliveries(Deliveries):
    """The receiver of a consumer's chunks."""

    takes_stretches: bool = False  # it sends chunks from where they lie

    def deliver_chunk(self, chunk: Chunk) -> None:
        """Send a chunk to the client."""
        raise NotImplementedError


class ChunkReader(EntryReader):
    """The way of a consumer that gets chunks; arguments as of ``EntryReader``, and

    Args:
        entry_forms: makes entries of messages.
        deliveries: where chunks go.
    """

    __slots__ = ("_address", "_before_block", "_deliver", "_entry_forms", "_lying", "_takes_stretches")

    def __init__(
        self,
        log: StreamLog,
        consumer: Consumer,
        next_offset: int,
        wanted: StreamFilter | None,
        paging: Paging,
        has_read: Callable[[EntryReader], None],
        entry_forms: Callable[[], EntryForms],
        deliveries: ChunkDeliveries,
    ) -> None:
        super().__init__(log, consumer, next_offset, wanted, paging, has_read)
        self._entry_forms = entry_forms
        self._deliver = deliveries.deliver_chunk
        self._takes_stretches = wanted is None and deliveries.takes_stretches
        self._address = block_address(consumer.queue.name)
        self._before_block = part_before_body(self._address, BLOCK_HEADER)
        self._lying: Chunk | None = None  # from next_offset on, in place of what was read

    def go_to(self, offset: int) -> None:
        super().go_to(offset)
        self._lying = None

    def begin_at(self, offset: int) -> None:
        """Go on elsewhere, as soon as the consumer has room."""
        self.go_to(offset)
        self._has_read(self)

    def _begin_to_read(self) -> None:
        extent = self._log.extent(self.next_offset, READ_ENTRIES_MAX, self._log.kept_end_offset)
        if not extent.are_blocks:
            self._ask_for(EntriesRead(self, extent))
            return
        if self._takes_stretches:
            self._lying = self._lying_chunk(extent)
            if self._lying is not None:
                return
        # A block that is a chunk goes out with its own checksum, which the client compares. What decides which ones go
        # out, or becomes a part of another chunk, must be right already.
        unchecked_bytes_min = PAYLOAD_BYTES_MAX
        if self._wanted is None:
            unchecked_bytes_min = ONE_QUEUE_AND_TIMES_BYTES + len(self._before_block) + CHUNK_BYTES_WANTED
        at_hand = self._paging.view_now(extent.references, unchecked_bytes_min)
        if not self.may_go_unchecked(extent, at_hand, unchecked_bytes_min):
            at_hand = self._paging.view_now(extent.references, PAYLOAD_BYTES_MAX)
        if at_hand:
            self._read.extend(self.blocks_of(extent, at_hand))
        else:
            self._ask_for(BlocksRead(self, extent, unchecked_bytes_min))

    def _lying_chunk(self, extent: Extent) -> Chunk | None:
        """A chunk of the first blocks of an extent, as long as each is large and goes out from where it lies."""
        before = self._before_block
        start = ONE_QUEUE_AND_TIMES_BYTES + len(before)
        data: list[Sendable] = []
        entries = records = checksum = data_bytes = 0
        wall_ms = self._log.wall_ms_of(extent.first_offset_of(0))
        for place, (head, rest) in enumerate(
            self._paging.lying_now(extent.references, start + FIELDS_BYTES, LYING_BYTES_MIN)
        ):
            of_block, records_of_block, filter_bytes, checksum_of_block = FIELDS.unpack_from(head, start)
            is_right = (of_block, records_of_block) == extent.counts_of(place) and filter_bytes < len(rest)
            if not is_right or head[ONE_QUEUE_AND_TIMES_BYTES:start] != before:
                break
            if entries + of_block > CHUNK_ENTRIES_MAX:
                break
            if data and (records_of_block != of_block) != (records != entries):  # some clients read no mixed chunk
                break
            if self._log.wall_ms_of(extent.first_offset_of(place)) != wall_ms:  # a chunk says one time
                break
            if filter_bytes:
                rest = rest.behind(filter_bytes)
            entries += of_block
            records += records_of_block
            checksum = combined(checksum, checksum_of_block, len(rest))
            data_bytes += len(rest)
            data.append(rest)
        return self._chunk(extent.first_offset_of(0), data, data_bytes, entries, records, checksum) if data else None

    def may_go_unchecked(self, extent: Extent, records: Sequence[Part], unchecked_bytes_min: int) -> bool:
        """Whether what the checksums of unchecked blocks do not tell is right: whose they are, and their counts."""
        before = self._before_block
        start = ONE_QUEUE_AND_TIMES_BYTES + len(before)
        for place, record in enumerate(records):
            if len(record) < unchecked_bytes_min:
                continue
            content = memoryview(record)
            if content[ONE_QUEUE_AND_TIMES_BYTES:start] != before:
                return False
            of_block, records_of_block, filter_bytes, _ = FIELDS.unpack_from(content, start)
            is_right = (of_block, records_of_block) == extent.counts_of(place)
            if not is_right or start + FIELDS_BYTES + filter_bytes >= len(content):
                return False
        return True

    def blocks_of(self, extent: Extent, records: Sequence[Part]) -> list[Message]:
        """The blocks of an extent, where they lie in their records."""
        blocks: list[Message] = []
        before = self._before_block
        start = ONE_QUEUE_AND_TIMES_BYTES + len(before)
        for place, record in enumerate(records):
            content = memoryview(record)
            if content[ONE_QUEUE_AND_TIMES_BYTES:start] == before:
                content = content[start:]
            else:
                content = memoryview(decode_message(bytes(record)).body)
            block = StreamBlock(self._address, b"", content)
            block.position = extent.first_offset_of(place)
            block.reference = extent.references[place]
            blocks.append(block)
        return blocks

    def serve(self, count: int) -> int:
        consumer = self.consumer
        if not consumer.is_ready:
            consumer.queue.consumers.park(consumer)
            return 0
        passed = 0
        while passed < count:
            chunk = self._lying
            if chunk is not None:
                self._lying = None
                self.next_offset = chunk.first_offset + chunk.records
                self._deliver(chunk)
                return passed + chunk.data_bytes // BYTES_LIKE_AN_ENTRY
            entry = self.next_entry() if self.may_go_on else None
            if entry is None:
                if self._lying is None:
                    return passed
            elif self._wants(entry):
                entries = self._take_run(entry)
                chunk = self._chunk_of(entries)
                self._deliver(chunk)
                return passed + max(len(entries), chunk.data_bytes // BYTES_LIKE_AN_ENTRY)
            else:
                self.next_offset = _end_offset(entry)
                passed += 1 + _filtered(entry) // ENTRIES_LIKE_A_DELIVERY
        return passed

    def _take_run(self, first: Message) -> list[Message]:
        """The entries that go into one chunk."""
        run = [first]
        size_bytes, entries, has_batches = _size_bytes(first), _entries(first), _has_batches(first)
        self.next_offset = _end_offset(first)
        while size_bytes < CHUNK_BYTES_WANTED and self.may_go_on:
            entry = self.next_entry()
            if entry is None:
                break
            entries += _entries(entry)
            entry_bytes = _size_bytes(entry)
            is_other = entry_bytes >= CHUNK_BYTES_WANTED or _has_batches(entry) != has_batches  # a chunk of its own
            if is_other or entries > CHUNK_ENTRIES_MAX or not self._wants(entry):
                self._read.appendleft(entry)
                break
            run.append(entry)
            size_bytes += entry_bytes
            self.next_offset = _end_offset(entry)
        return run

    def _wants(self, entry: Message) -> bool:
        wanted = self._wanted
        if wanted is None:
            return True
        if isinstance(entry, StreamBlock):
            return entry.matches(wanted)
        return wanted.takes(decode_properties(entry.header).headers)

    def _chunk_of(self, entries: list[Message]) -> Chunk:
        first = entries[0]
        first_offset = first.position
        data: Sendable
        if len(entries) == 1 and isinstance(first, StreamBlock):
            data, count, records, checksum = first.data, first.entries, first.records, first.checksum
        else:
            parts: list[bytes | memoryview] = []
            count = records = 0
            for entry in entries:
                if isinstance(entry, StreamBlock):
                    parts.append(entry.content[entry.data_start :])
                    count += entry.entries
                    records += entry.records
                else:
                    encoded = self._entry_forms().encoded(entry)
                    parts.append(_LENGTH.pack(len(encoded)))
                    parts.append(encoded)
                    count += 1
                    records += 1
            data = b"".join(parts)
            checksum = zlib.crc32(data)
        return self._chunk(first_offset, (data,), len(data), count, records, checksum)

    def _chunk(
        self, first_offset: int, data: Sequence[Sendable], data_bytes: int, entries: int, records: int, checksum: int
    ) -> Chunk:
        wall_ms = self._log.wall_ms_of(first_offset)
        header = _HEADER.pack(
            MAGIC_AND_VERSION, 0, entries, records, wall_ms, EPOCH, first_offset, checksum, data_bytes, 0, 0
        )
        return Chunk(first_offset, header, data, data_bytes, records)


def _entries(entry: Message) -> int:
    return int(entry.entries) if isinstance(entry, StreamBlock) else 1


def _has_batches(entry: Message) -> bool:
    """Whether there are sub-batches in it. Some clients (rabbitmq-stream-js-client) go by a chunk's first entry, so it
    does not become one with entries of the other kind that were not published with it.
    """
    return isinstance(entry, StreamBlock) and bool(entry.records != entry.entries)


def _filtered(entry: Message) -> int:
    """How many filter values are compared to find that it is unwanted, beside a message's own."""
    return int(entry.entries) if isinstance(entry, StreamBlock) and entry.filter_bytes else 0


def _size_bytes(entry: Message) -> int:
    """About how many bytes an entry has in a chunk: the properties of a message become a part of it."""
    return entry.size_bytes if isinstance(entry, StreamBlock) else len(entry.header) + len(entry.body)


def _end_offset(entry: Message) -> int:
    return entry.end_offset if isinstance(entry, StreamBlock) else entry.position + 1
