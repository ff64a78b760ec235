"""The entries of a stream, by offset: the chunks that they are in, which of them are too old or too many to stay, and
the latest, which are in memory because most who read are at the end.

A chunk (``stream_log_chunk.py``) holds entries that follow each other. Offsets only grow: the first entry of a stream
has 0, and what is dropped takes its offsets along. Holds no consumers, no journal and no clock. (RabbitMQ docs,
"Streams and Super Streams", "Data Retention".)
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterator
from itertools import chain
from typing import Final

from amqp_broker.broker.message import Message
from amqp_broker.broker.queues.stream_block import BlockCounts, StreamBlock
from amqp_broker.broker.queues.stream_log_chunk import Extent, StreamChunk, TakenEntries

LATEST_ENTRIES_MAX = 1024
LATEST_BYTES_MAX: Final = 262_144
LATEST_BLOCK_BYTES_MAX: Final = 1_048_576  # where blocks come: a client reads 256 KiB at once, and sends as much


class StreamLog:
    """All entries of one stream.

    Args:
        has_journal: whether entries can be read from there.
    """

    __slots__ = (
        "_chunks",
        "_found",
        "_has_journal",
        "_latest",
        "_latest_blocks",
        "_latest_bytes",
        "body_bytes",
        "end_offset",
        "kept_end_offset",
    )

    def __init__(self, *, has_journal: bool) -> None:
        self._has_journal = has_journal
        self._chunks: list[StreamChunk] = []
        self._found: StreamChunk | None = None  # that was looked for last
        self._latest: deque[Message] = deque()
        self._latest_bytes = 0
        self._latest_blocks = 0  # how many of them are blocks
        self.body_bytes = 0
        self.end_offset = 0  # the next entry's
        self.kept_end_offset = 0  # how far consumers may read (``stream_keeping.py``)

    def __len__(self) -> int:
        return self.end_offset - self.first_offset

    @property
    def first_offset(self) -> int:
        """The offset of the oldest entry there is; that of the next one where there is none."""
        return self._chunks[0].first_offset if self._chunks else self.end_offset

    @property
    def latest_offset(self) -> int:
        """The offset from which on all entries are in memory."""
        if not self._has_journal:
            return self.first_offset
        return self._latest[0].position if self._latest else self.end_offset

    # --- in

    def append(self, message: Message, wall_ms: int) -> None:
        """Add an entry that has just come; its position becomes its offset."""
        message.position = self.end_offset
        self.append_stored(message.reference, len(message.body), wall_ms)
        if not self._has_journal:
            self._chunks[-1].append_message(message)
            return
        self._latest.append(message)
        self._latest_bytes += len(message.body)

    def append_block(self, block: StreamBlock, wall_ms: int) -> None:
        """Add a block that has just come; its position becomes the offset of its first record."""
        block.position = self.end_offset
        self.append_stored_block(block.reference, len(block.body), (block.entries, block.records), wall_ms)
        if not self._has_journal:
            self._chunks[-1].append_message(block)
            return
        self._latest.append(block)
        self._latest_blocks += 1
        self._latest_bytes += len(block.body)

    def limit_latest(self, needed_from: int) -> None:
        """Have no more in memory than the latest, and those from an offset on."""
        latest = self._latest
        while latest and latest[0].position < needed_from:
            bytes_max = LATEST_BLOCK_BYTES_MAX if self._latest_blocks else LATEST_BYTES_MAX
            if len(latest) <= LATEST_ENTRIES_MAX and (self._latest_bytes <= bytes_max or len(latest) == 1):
                return
            self._drop_latest()

    def _drop_latest(self) -> None:
        """Have the oldest one in memory no longer."""
        dropped = self._latest.popleft()
        self._latest_bytes -= len(dropped.body)
        if isinstance(dropped, StreamBlock):
            self._latest_blocks -= 1

    def append_stored(self, reference: int, body_bytes: int, wall_ms: int) -> None:
        """Add an entry of which nothing need be in memory."""
        self._open_chunk(wall_ms).append(reference, body_bytes, wall_ms)
        self.body_bytes += body_bytes
        self.end_offset += 1

    def append_stored_block(self, reference: int, body_bytes: int, counts: BlockCounts, wall_ms: int) -> None:
        """The same for a block."""
        self._open_chunk(wall_ms).append_block(reference, body_bytes, counts, wall_ms)
        self.body_bytes += body_bytes
        self.end_offset += counts[1]

    def _open_chunk(self, wall_ms: int) -> StreamChunk:
        """The chunk that an entry of this time belongs to."""
        chunks = self._chunks
        if chunks:
            chunk = chunks[-1]
            wall_ms = max(wall_ms, chunk.last_wall_ms)  # times never go back, whatever the clock does
            if not chunk.is_full:
                chunk.let_part_begin(wall_ms)
                return chunk
            chunk.close()
        chunks.append(StreamChunk(self.end_offset, wall_ms))
        return chunks[-1]

    def begin_at(self, offset: int) -> None:
        """The first entry has this offset: those before it were dropped in an earlier life of the broker."""
        shift = offset - self.first_offset
        for chunk in self._chunks:
            chunk.move(shift)
        self.end_offset += shift

    @property
    def last_reference(self) -> int:
        """Of the journal's record of the last entry; 0 where there is none."""
        return self._chunks[-1].last_reference if self._chunks else 0

    # --- where

    def offset_at(self, wall_ms: int) -> int:
        """The first of those that came close together with one of this time or later; the end where there is none."""
        place = bisect_left(self._chunks, wall_ms, key=_last_wall_ms)
        return self._chunks[place].offset_at(wall_ms) if place < len(self._chunks) else self.end_offset

    # --- out

    def latest(self, offset: int) -> Message | None:
        """The entry with an offset, if it is in memory; None where it must be read."""
        if not self._has_journal:
            chunk = self._chunk_of(offset)
            return chunk.message(chunk.place_of(offset))
        latest = self._latest
        if self._latest_blocks:
            if latest[-1].position <= offset:  # as for all who wait at the end
                return latest[-1]
            place = bisect_right(latest, offset, key=_position) - 1
        else:
            place = len(latest) - (self.end_offset - offset)
        return latest[place] if place >= 0 else None

    def extent(self, offset: int, count: int, end_offset: int = sys.maxsize) -> Extent:
        """Up to so many stored entries, from that with an offset on and before another: those that are in its chunk,
        and are not too much to be read at once.
        """
        chunk = self._chunk_of(offset)
        start = chunk.place_of(offset)
        count = min(count, chunk.readable_from(offset))
        if end_offset < chunk.end_offset:
            count = min(count, chunk.place_of(end_offset) - start)
        return Extent(chunk, start, count)

    def wall_ms_of(self, offset: int) -> int:
        """When about an entry came, in milliseconds since 1970: the first of those that came close together with it."""
        return self._chunk_of(offset).wall_ms_of(offset)

    def parts(self, offset: int, count: int) -> Iterator[tuple[list[Message], array[int]]]:
        """Up to so many entries, chunk by chunk: as messages, or as references."""
        end = min(self.end_offset, offset + count)
        while offset < end:
            chunk = self._chunk_of(offset)
            behind = min(chunk.end_offset, end)
            start, stop = chunk.place_of(offset), chunk.place_of(behind - 1) + 1
            yield chunk.messages(start, stop), chunk.references(start, stop)
            offset = behind

    def latest_messages(self) -> Iterator[Message]:
        """All that are in memory, the oldest first."""
        if self._has_journal:
            return iter(self._latest)
        return chain.from_iterable([chunk.messages(chunk.start, sys.maxsize) for chunk in self._chunks])

    def _chunk_of(self, offset: int) -> StreamChunk:
        found = self._found
        if found is None or not found.first_offset <= offset < found.end_offset:
            found = self._found = self._chunks[bisect_right(self._chunks, offset, key=_first_offset) - 1]
        return found

    # --- what goes

    def take_surplus(self, bytes_max: int | None, wall_ms_min: int | None) -> list[TakenEntries]:
        """Take out the oldest entries, as long as there are too many bytes or what came close together is too old.

        What came close together last always stays.

        Args:
            bytes_max: of all bodies together; None for no limit.
            wall_ms_min: what came before this time is too old; None for no limit.
        """
        taken: list[TakenEntries] = []
        count, last = 0, len(self._chunks) - 1
        for number, chunk in enumerate(self._chunks):
            surplus_bytes = 0 if bytes_max is None else self.body_bytes - bytes_max
            before_bytes = chunk.body_bytes
            some = chunk.take_surplus(surplus_bytes, wall_ms_min, int(number == last))
            if some is not None:
                taken.append(some)
                self.body_bytes -= before_bytes - chunk.body_bytes
            if chunk.parts_left:
                break
            count += 1
        del self._chunks[:count]
        if taken:
            self._found = None
        while self._latest and self._latest[0].position < self.first_offset:
            self._drop_latest()
        return taken

    def take_all(self) -> list[TakenEntries]:
        """Take out everything: the stream is gone."""
        chunks, self._chunks = self._chunks, []
        self._found = None
        self._latest.clear()
        self._latest_bytes = self._latest_blocks = self.body_bytes = 0
        return [chunk.take_all() for chunk in chunks]

    @property
    def oldest_wall_ms(self) -> int | None:
        """When the last of those came that are the oldest and may go; None while none may."""
        chunks = self._chunks
        return chunks[0].oldest_wall_ms if chunks and (len(chunks) > 1 or chunks[0].parts_left > 1) else None


def _position(message: Message) -> int:
    return message.position


def _first_offset(chunk: StreamChunk) -> int:
    return chunk.first_offset


def _last_wall_ms(chunk: StreamChunk) -> int:
    return chunk.last_wall_ms
