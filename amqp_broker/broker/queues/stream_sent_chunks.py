"""A chunk as clients of the stream protocol get it: entries that follow each other, in the form that RabbitMQ keeps.

What came in blocks goes out as it came, in parts that lie in memory or in files. Where several read, the chunks that
were made last are remembered: who comes to the same place gets the same. (Stream protocol of RabbitMQ, "Deliver"; the
format is described in the sources of Osiris.)
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from amqp_broker.journal.checksums import combined, crc32
from amqp_broker.journal.stretches import FileStretch, Sendable

MAGIC_AND_VERSION: Final = 0x50
CHUNK_BYTES_WANTED: Final = 65_536  # a chunk that has so many gets no more
PARTS_MAX: Final = 128  # likewise, of blocks, and of messages of other protocols: each takes its time
CHUNK_ENTRIES_MAX: Final = 65_535
EPOCH: Final = 1
CHUNK_COST: Final = 24  # of one, with what is sent for it and comes back, in deliveries of small messages
PART_COST: Final = 4  # of each block or message in it
LYING_COST: Final = 12  # more, of each that is sent from where it lies: it is looked for, and sent by itself
BYTES_LIKE_A_DELIVERY: Final = 256  # reading, comparing and sending so many takes as long
REMEMBERED_BYTES_MAX: Final = 1_048_576
REMEMBERED_MAX: Final = 32  # a small one may be all that is used of what was read with it, and keeps all of that
LYING_BYTES_LIKE_A_DELIVERY: Final = 2_048  # likewise of those that are sent from where they lie
_HEADER: Final = struct.Struct(">BBHIqQQIIIB3x")


class Chunk:
    """Entries that follow each other, ready to be sent.

    Args:
        first_offset: of the first record.
        header: what stands before the entries.
        data: the entries, in the parts in which they lie.
        data_bytes: how many bytes these are.
        records: how many there are.
        cost: of making and sending it, in deliveries of small messages.
        is_in_memory: whether none of the parts is in a file.
    """

    __slots__ = ("cost", "data", "data_bytes", "first_offset", "header", "is_in_memory", "records")

    def __init__(
        self,
        first_offset: int,
        header: bytes,
        data: Sequence[Sendable],
        data_bytes: int,
        records: int,
        cost: int,
        *,
        is_in_memory: bool,
    ) -> None:
        self.first_offset = first_offset
        self.header = header
        self.data = data
        self.data_bytes = data_bytes
        self.records = records
        self.cost = cost
        self.is_in_memory = is_in_memory

    @property
    def end_offset(self) -> int:
        """The offset behind its last record."""
        return self.first_offset + self.records


class ChunkMaker:
    """A chunk in the making.

    Args:
        first_offset: of its first record.
        wall_ms: when that came, about, in milliseconds since 1970.
    """

    __slots__ = (
        "_checksum",
        "_data",
        "_entries",
        "_first_offset",
        "_has_batches",
        "_is_checked",
        "_lying",
        "_lying_bytes",
        "_read",
        "data_bytes",
        "parts",
        "records",
        "wall_ms",
    )

    def __init__(self, first_offset: int, wall_ms: int) -> None:
        self._first_offset = first_offset
        self.wall_ms = wall_ms
        self._data: list[Sendable] = []
        self._read: list[bytes | memoryview] = []  # what comes behind that
        self._checksum = 0  # of what is in the data
        self._is_checked = False  # what was read is one part, whose checksum that is
        self._lying = 0
        self._lying_bytes = 0
        self._has_batches = False
        self._entries = 0
        self.records = 0
        self.data_bytes = 0
        self.parts = 0  # blocks, and messages of other protocols

    @property
    def end_offset(self) -> int:
        """The offset behind the last record."""
        return self._first_offset + self.records

    @property
    def is_full(self) -> bool:
        """Whether it gets no more."""
        return self.data_bytes >= CHUNK_BYTES_WANTED or self.parts >= PARTS_MAX

    def _takes(self, entries: int, records: int) -> bool:
        """Whether a block with so many, or a message, may be a part of it.

        Some clients (rabbitmq-stream-js-client) go by a chunk's first entry, so sub-batches are in no chunk with
        entries of the other kind that were not published together with them.
        """
        if not self.parts:
            return True
        return self._entries + entries <= CHUNK_ENTRIES_MAX and (records != entries) == self._has_batches

    def add_lying(self, stretch: FileStretch, entries: int, records: int, checksum: int) -> bool:
        """Add a block whose entries are sent from where they lie; returns False if it is for another chunk."""
        if not self._takes(entries, records):
            return False
        self._join()
        self._checksum = combined(self._checksum, checksum, len(stretch))
        self._data.append(stretch)
        self._lying_bytes += len(stretch)
        self._lying += 1
        self._count(len(stretch), entries, records)
        return True

    def add_block(self, data: memoryview, entries: int, records: int, checksum: int | None) -> bool:
        """Add a block's entries; returns False if it is for another chunk."""
        if not self.parts:
            if checksum is not None:
                self._checksum = checksum
                self._is_checked = True
        elif self.is_full or not self._takes(entries, records):
            return False
        elif self._is_checked:  # it was the only part
            self._is_checked = False
            self._checksum = 0
        self._read.append(data)
        self._count(len(data), entries, records)
        return True

    def add_message(self, entry: bytes) -> bool:
        """Add an entry that is a single message; likewise."""
        return self.add_block(memoryview(len(entry).to_bytes(4, "big") + entry), 1, 1, None)

    def _count(self, data_bytes: int, entries: int, records: int) -> None:
        self._has_batches = records != entries
        self._entries += entries
        self.records += records
        self.data_bytes += data_bytes
        self.parts += 1

    def _join(self) -> None:
        """Put what was read together: a copy takes less than a part for each."""
        read = self._read
        if not read:
            return
        if self._is_checked:
            self._data.append(read[0])
            self._is_checked = False
        else:
            joined = b"".join(read)
            self._checksum = crc32(joined, self._checksum)
            self._data.append(joined)
        self._read = []

    def chunk(self) -> Chunk:
        """The chunk, which gets no more."""
        self._join()
        header = _HEADER.pack(
            MAGIC_AND_VERSION,
            0,
            self._entries,
            self.records,
            self.wall_ms,
            EPOCH,
            self._first_offset,
            self._checksum,
            self.data_bytes,
            0,
            0,
        )
        cost = CHUNK_COST + PART_COST * self.parts
        cost += LYING_COST * self._lying + self._lying_bytes // LYING_BYTES_LIKE_A_DELIVERY
        cost += (self.data_bytes - self._lying_bytes) // BYTES_LIKE_A_DELIVERY
        return Chunk(
            self._first_offset,
            header,
            self._data,
            self.data_bytes,
            self.records,
            cost,
            is_in_memory=not self._lying_bytes,
        )


class RememberedChunks:
    """The chunks of one stream that were made last, of what is in memory."""

    __slots__ = ("_bytes", "_chunks", "are_wanted")

    def __init__(self) -> None:
        self.are_wanted = False  # several read
        self._chunks: dict[int, Chunk] = {}  # by the first offset, the oldest first
        self._bytes = 0

    def add(self, chunk: Chunk) -> None:
        """Remember a chunk, if that is worth it, in place of the oldest."""
        if not self.are_wanted or not chunk.is_in_memory or chunk.first_offset in self._chunks:
            return
        self._chunks[chunk.first_offset] = chunk
        self._bytes += chunk.data_bytes
        while len(self._chunks) > REMEMBERED_MAX or (self._bytes > REMEMBERED_BYTES_MAX and len(self._chunks) > 1):
            self._bytes -= self._chunks.pop(next(iter(self._chunks))).data_bytes

    def get(self, first_offset: int) -> Chunk | None:
        """The chunk that begins with an offset, if it is remembered."""
        return self._chunks.get(first_offset)

    def clear(self) -> None:
        """Nobody is on the way."""
        self._chunks.clear()
        self._bytes = 0
