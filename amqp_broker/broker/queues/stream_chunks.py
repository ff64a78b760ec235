"""The way of a consumer that gets chunks, as clients of the stream protocol do: entries that follow each other, in the
form that RabbitMQ's log has on its disk.

What came in blocks goes out as it came; messages of other protocols become entries here. What is unwanted is passed by
as far as no chunk has to be cut for it: a client compares again. (Stream protocol of RabbitMQ, "Deliver"; the format
is described in the sources of Osiris.)
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from amqp_broker.broker.message import Message
from amqp_broker.broker.queues.consumers import Consumer, Deliveries
from amqp_broker.broker.queues.stream_block import StreamBlock
from amqp_broker.broker.queues.stream_log import StreamLog
from amqp_broker.broker.queues.stream_reader import EntryReader
from amqp_broker.broker.queues.stream_start import StreamFilter
from amqp_broker.wire.content import decode_properties

if TYPE_CHECKING:
    from amqp_broker.broker.ports import EntryForms
    from amqp_broker.broker.queues.paging import Paging

MAGIC_AND_VERSION: Final = 0x50
CHUNK_BYTES_WANTED: Final = 65_536  # a chunk that has so many gets no more
CHUNK_ENTRIES_MAX: Final = 65_535
EPOCH: Final = 1
_HEADER: Final = struct.Struct(">BBHIqQQIIIB3x")
_LENGTH: Final = struct.Struct(">I")

Data = bytes | memoryview


class Chunk:
    """Entries that follow each other, ready to be sent.

    Args:
        first_offset: of the first record.
        header: what stands before the entries.
        data: the entries.
        records: how many there are.
    """

    __slots__ = ("data", "first_offset", "header", "records")

    def __init__(self, first_offset: int, header: bytes, data: Data, records: int) -> None:
        self.first_offset = first_offset
        self.header = header
        self.data = data
        self.records = records


class ChunkDeliveries(Deliveries):
    """Where a consumer's chunks go."""

    def deliver_chunk(self, chunk: Chunk) -> None:
        """Send a chunk to the client."""
        raise NotImplementedError


class ChunkReader(EntryReader):
    """The way of a consumer that gets chunks; arguments as of ``EntryReader``, and

    Args:
        entry_forms: makes entries of messages.
        deliver: called with each chunk.
    """

    __slots__ = ("_deliver", "_entry_forms")

    def __init__(
        self,
        log: StreamLog,
        consumer: Consumer,
        next_offset: int,
        wanted: StreamFilter | None,
        paging: Paging,
        has_read: Callable[[EntryReader], None],
        entry_forms: Callable[[], EntryForms],
        deliver: Callable[[Chunk], None],
    ) -> None:
        super().__init__(log, consumer, next_offset, wanted, paging, has_read)
        self._entry_forms = entry_forms
        self._deliver = deliver

    def begin_at(self, offset: int) -> None:
        """Go on elsewhere, as soon as the consumer has room."""
        self.go_to(offset)
        self._has_read(self)

    def serve(self, count: int) -> int:
        consumer = self.consumer
        if not consumer.is_ready:
            consumer.queue.consumers.park(consumer)
            return 0
        for passed in range(count):
            entry = self.next_entry() if self.may_go_on else None
            if entry is None:
                return passed
            if self._wants(entry):
                entries = self._take_run(entry)
                self._deliver(self._chunk_of(entries))
                return passed + len(entries)
            self.next_offset = _end_offset(entry)
        return count

    def _take_run(self, first: Message) -> list[Message]:
        """The entries that go into one chunk."""
        run = [first]
        size_bytes, entries = _size_bytes(first), _entries(first)
        self.next_offset = _end_offset(first)
        while size_bytes < CHUNK_BYTES_WANTED and self.may_go_on:
            entry = self.next_entry()
            if entry is None:
                break
            entries += _entries(entry)
            if entries > CHUNK_ENTRIES_MAX or not self._wants(entry):
                self._read.appendleft(entry)
                break
            run.append(entry)
            size_bytes += _size_bytes(entry)
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
        data: Data
        if len(entries) == 1 and isinstance(first, StreamBlock):
            data, count, records, checksum = first.data, first.entries, first.records, first.checksum
        else:
            parts: list[Data] = []
            count = records = 0
            for entry in entries:
                if isinstance(entry, StreamBlock):
                    parts.append(entry.data)
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
        wall_ms = self._log.wall_ms_of(first_offset)
        header = _HEADER.pack(
            MAGIC_AND_VERSION, 0, count, records, wall_ms, EPOCH, first_offset, checksum, len(data), 0, 0
        )
        return Chunk(first_offset, header, data, records)


def _entries(entry: Message) -> int:
    return int(entry.entries) if isinstance(entry, StreamBlock) else 1


def _size_bytes(entry: Message) -> int:
    """About how many bytes an entry has in a chunk: the properties of a message become a part of it."""
    return len(entry.body) if isinstance(entry, StreamBlock) else len(entry.header) + len(entry.body)


def _end_offset(entry: Message) -> int:
    return entry.end_offset if isinstance(entry, StreamBlock) else entry.position + 1
