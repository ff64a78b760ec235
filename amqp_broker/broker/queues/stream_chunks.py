"""The way of a consumer that gets chunks, as clients of the stream protocol do.

What came in blocks goes out as it came; messages of other protocols become entries here. What is unwanted is passed by
as far as no chunk has to be cut for it: a client compares again. How a chunk is put together is in
``stream_sent_chunks.py``.

No more is read at once than one chunk needs, and each says what it cost: others have their turn between two of them.
"""

from __future__ import annotations

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
from amqp_broker.broker.queues.stream_log import StreamLog
from amqp_broker.broker.queues.stream_log_chunk import Extent
from amqp_broker.broker.queues.stream_reader import ENTRIES_LIKE_A_DELIVERY, EntriesRead, EntryReader
from amqp_broker.broker.queues.stream_sent_chunks import (
    BYTES_LIKE_A_DELIVERY,
    CHUNK_BYTES_WANTED,
    PARTS_MAX,
    Chunk,
    ChunkMaker,
    RememberedChunks,
)
from amqp_broker.broker.queues.stream_start import StreamFilter
from amqp_broker.compilation import mypyc_attr
from amqp_broker.journal.records import PAYLOAD_BYTES_MAX, Part
from amqp_broker.wire.content import decode_properties

if TYPE_CHECKING:
    from amqp_broker.broker.ports import EntryForms
    from amqp_broker.broker.queues.paging import Paging
    from amqp_broker.journal.port import Journal

LYING_BYTES_MIN: Final = 16_384  # a block that has fewer is better read, and becomes a part of a chunk with others
LYING_BLOCKS_MAX: Final = 16  # looked for at once
READS_MAX: Final = 8  # for one chunk: what is written for others may lie between the blocks
EXAMINED_COST: Final = 2  # of an entry that is passed by


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
        remembered: those that other readers of the stream, who want all of it, have just got.
    """

    __slots__ = ("_address", "_at_hand", "_before_block", "_deliver", "_entry_forms", "_remembered", "_takes_stretches")

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
        remembered: RememberedChunks,
    ) -> None:
        super().__init__(log, consumer, next_offset, wanted, paging, has_read)
        self._entry_forms = entry_forms
        self._deliver = deliveries.deliver_chunk
        self._remembered = remembered
        self._takes_stretches = wanted is None and deliveries.takes_stretches
        self._address = block_address(consumer.queue.name)
        self._before_block = part_before_body(self._address, BLOCK_HEADER)
        self._at_hand: Chunk | None = None  # from next_offset on, in place of what was read

    def go_to(self, offset: int) -> None:
        super().go_to(offset)
        self._at_hand = None

    def begin_at(self, offset: int) -> None:
        """Go on elsewhere, as soon as the consumer has room."""
        self.go_to(offset)
        self._has_read(self)

    # --- from the disk

    @property
    def _unchecked_bytes_min(self) -> int:
        """A block that is a chunk goes out with its own checksum, which the client compares. What decides which ones go
        out, or becomes a part of another chunk, must be right already.
        """
        if self._wanted is not None:
            return PAYLOAD_BYTES_MAX
        return ONE_QUEUE_AND_TIMES_BYTES + len(self._before_block) + CHUNK_BYTES_WANTED

    def _begin_to_read(self) -> None:
        if self._wanted is None:
            self._at_hand = self._chunk_at_hand()
            if self._at_hand is not None:
                return
        extent = self._log.extent(self.next_offset, PARTS_MAX, self._log.kept_end_offset)
        if not extent.are_blocks:
            self._ask_for(EntriesRead(self, extent))
            return
        if self._wanted is not None:
            records = self._paging.view_now(extent.references, PAYLOAD_BYTES_MAX, CHUNK_BYTES_WANTED)
            if records:
                self._read.extend(self.blocks_of(extent, records))
                return
        self._ask_for(BlocksRead(self, extent, self._unchecked_bytes_min))

    def _chunk_at_hand(self) -> Chunk | None:
        """A chunk of the blocks that come next, as far as they are at hand; None where the first one is not."""
        offset, end_offset = self.next_offset, self._log.kept_end_offset
        making: ChunkMaker | None = None
        for _ in range(READS_MAX):
            if offset >= end_offset:
                break
            extent = self._log.extent(offset, PARTS_MAX, end_offset)
            if not extent.are_blocks:
                break
            if making is None:
                making = self._begin_chunk(extent.first_offset_of(0))
            before = making.parts
            self._add_lying(making, extent)
            if making.parts == before:
                self._add_read(making, extent)
            if making.parts == before or making.is_full:
                break
            offset = making.end_offset
        return making.chunk() if making is not None and making.parts else None

    def _begin_chunk(self, first_offset: int) -> ChunkMaker:
        return ChunkMaker(first_offset, self._log.wall_ms_of(first_offset))

    def _add_lying(self, making: ChunkMaker, extent: Extent) -> None:
        """Add the first blocks of an extent to a chunk, as long as each is large and goes out from where it lies."""
        if not self._takes_stretches:
            return
        before = self._before_block
        start = ONE_QUEUE_AND_TIMES_BYTES + len(before)
        references = extent.references[:LYING_BLOCKS_MAX]
        lying = self._paging.lying_now(references, start + FIELDS_BYTES, LYING_BYTES_MIN)
        for place, (head, rest) in enumerate(lying):
            entries, records, filter_bytes, checksum = FIELDS.unpack_from(head, start)
            is_right = (entries, records) == extent.counts_of(place) and filter_bytes < len(rest)
            if not is_right or head[ONE_QUEUE_AND_TIMES_BYTES:start] != before:
                return
            if making.parts and self._log.wall_ms_of(extent.first_offset_of(place)) != making.wall_ms:
                return  # a chunk says one time
            stretch = rest.behind(filter_bytes) if filter_bytes else rest
            if not making.add_lying(stretch, entries, records, checksum):
                return

    def _add_read(self, making: ChunkMaker, extent: Extent) -> None:
        """Add the first blocks of an extent that are in the system's memory to a chunk, as many as it lacks.

        What is large enough for a chunk was not compared with its checksum, and becomes no part of another one.
        """
        before, unchecked_bytes_min = self._before_block, self._unchecked_bytes_min
        start = ONE_QUEUE_AND_TIMES_BYTES + len(before)
        lacking_bytes = CHUNK_BYTES_WANTED - making.data_bytes
        for place, record in enumerate(self._paging.view_now(extent.references, unchecked_bytes_min, lacking_bytes)):
            content = memoryview(record)
            if content[ONE_QUEUE_AND_TIMES_BYTES:start] != before:
                return
            entries, records, filter_bytes, checksum = FIELDS.unpack_from(content, start)
            data_start = start + FIELDS_BYTES + filter_bytes
            is_right = (entries, records) == extent.counts_of(place) and data_start < len(content)
            if not is_right or (making.parts and len(content) >= unchecked_bytes_min):
                return
            if not making.add_block(content[data_start:], entries, records, checksum):
                return

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

    # --- out

    def serve(self, count: int) -> int:
        consumer = self.consumer
        if not consumer.is_ready:
            consumer.queue.consumers.park(consumer)
            return 0
        passed = 0
        while passed < count:
            chunk = self._at_hand or self._remembered_chunk()
            if chunk is None:
                entry = self.next_entry() if self.may_go_on else None
                if entry is not None and not self._wants(entry):
                    self.next_offset = _end_offset(entry)
                    passed += _examined_cost(entry)
                    continue
                chunk = self._at_hand if entry is None else self._chunk_of(entry)
                if chunk is None:
                    return passed
                if self._wanted is None:
                    self._remembered.add(chunk)
            self._at_hand = None
            self.next_offset = chunk.end_offset
            self._deliver(chunk)
            return passed + chunk.cost
        return passed

    def _remembered_chunk(self) -> Chunk | None:
        """The next chunk, if another reader got it just now and nothing was read for this one."""
        return None if self._read or self._wanted is not None else self._remembered.get(self.next_offset)

    def _chunk_of(self, entry: Message) -> Chunk:
        """A chunk that begins with an entry that was read, or is in memory."""
        making = self._begin_chunk(entry.position)
        self._add(making, entry)
        while not making.is_full and self.may_go_on:
            behind = self.next_entry()
            if behind is None:
                break
            if not self._wants(behind) or not self._add(making, behind):
                self._read.appendleft(behind)
                break
        return making.chunk()

    def _add(self, making: ChunkMaker, entry: Message) -> bool:
        """Add an entry to a chunk, unless it is large enough for one of its own, or another kind."""
        if not isinstance(entry, StreamBlock):
            is_added = making.add_message(self._entry_forms().encoded(entry))
        elif making.parts and entry.size_bytes >= CHUNK_BYTES_WANTED:
            is_added = False
        else:
            is_added = making.add_block(entry.data, int(entry.entries), int(entry.records), int(entry.checksum))
        if is_added:
            self.next_offset = making.end_offset
        return is_added

    def _wants(self, entry: Message) -> bool:
        wanted = self._wanted
        if wanted is None:
            return True
        if isinstance(entry, StreamBlock):
            return entry.matches(wanted)
        return wanted.takes(decode_properties(entry.header).headers)


def _examined_cost(entry: Message) -> int:
    """What it cost to read an entry and to find that it is unwanted, in deliveries."""
    if not isinstance(entry, StreamBlock):
        return EXAMINED_COST
    filtered = int(entry.entries) if entry.filter_bytes else 0
    return EXAMINED_COST + filtered // ENTRIES_LIKE_A_DELIVERY + entry.size_bytes // BYTES_LIKE_A_DELIVERY


def _end_offset(entry: Message) -> int:
    return entry.end_offset if isinstance(entry, StreamBlock) else entry.position + 1
