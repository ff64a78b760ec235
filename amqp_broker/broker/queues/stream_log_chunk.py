"""A chunk of a stream's entries, which follow each other: where each is, when it came, what goes of them at once.

An entry has one offset, or is a block of many (``stream_block.py``). What came close together is a part of the chunk
(``stream_parts.py``): the oldest part goes first. Of what the journal has, a chunk knows the references only, packed
(``packed_numbers.py``); without a journal it has the messages. Does not know what is before and behind it
(``stream_log.py``).
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_right
from collections.abc import Sequence
from typing import Final

from amqp_broker.broker.message import Message
from amqp_broker.broker.queues.packed_numbers import PackedNumbers
from amqp_broker.broker.queues.stream_block import BlockCounts
from amqp_broker.broker.queues.stream_parts import ChunkParts

CHUNK_ENTRIES_MAX = 32_768
CHUNK_BYTES_MAX: Final = 16_777_216
PART_ENTRIES_MAX = 1024
PART_BYTES_MAX: Final = 1_048_576  # as much is read at once, about
PART_DURATION_MS_MAX: Final = 1000
PAUSE_MS: Final = 100  # ends a part, so that who begins at a time gets what came behind a pause, and not before it
PAUSE_OFFSETS_MIN: Final = 64  # in a part that a pause ends: each part costs memory
_NO_ENTRIES: Final[array[int]] = array("I")


class StreamChunk:
    """Consecutive entries. Their places count from the first one that it ever had, whatever has gone since.

    Args:
        first_offset: the offset of the first one.
        wall_ms: when that came, in milliseconds since 1970.
    """

    __slots__ = (
        "_count",
        "_ends",
        "_entries",
        "_entry_count",
        "_messages",
        "_origin",
        "_part_bytes",
        "_part_offset",
        "_part_start",
        "_part_wall_ms",
        "_parts",
        "_references",
        "body_bytes",
        "first_offset",
        "first_wall_ms",
        "last_wall_ms",
        "parts_left",
        "start",
    )

    def __init__(self, first_offset: int, wall_ms: int) -> None:
        self.first_offset = self._origin = first_offset
        self.first_wall_ms = self.last_wall_ms = wall_ms
        self.body_bytes = 0
        self.start = 0  # the place of the first that is there
        self.parts_left = 1
        self._parts: ChunkParts | None = None  # where there is, or was, more than one
        self._part_bytes = 0  # of the last one
        self._part_offset = 0  # where that begins
        self._part_start = 0  # the place of its first entry
        self._part_wall_ms = wall_ms  # when that came
        self._count = 0  # of offsets
        self._entry_count = 0
        self._messages: list[Message] = []  # where there is no journal, from start on
        self._ends: Sequence[int] | None = None  # behind each entry, from _origin on; None where there is no block
        self._entries = _NO_ENTRIES  # in each that is a block, else 0; empty where each has as many as records
        self._references = PackedNumbers()

    @property
    def end_offset(self) -> int:
        """The offset behind the last one."""
        return self._origin + self._count

    def move(self, shift: int) -> None:
        """Give all entries other offsets."""
        self.first_offset += shift
        self._origin += shift

    # --- in

    @property
    def is_full(self) -> bool:
        """Whether the next entry belongs to another one."""
        return self._entry_count >= CHUNK_ENTRIES_MAX or self.body_bytes >= CHUNK_BYTES_MAX

    def let_part_begin(self, wall_ms: int) -> None:
        """An entry comes at this time: if it does not belong to the last part, that has ended."""
        if self._is_of_last_part(wall_ms):
            return
        parts = self._parts
        if parts is None:
            parts = self._parts = ChunkParts()
        self._end_last_part(parts)
        parts.begin(wall_ms - self.first_wall_ms)
        self.parts_left += 1
        self._part_bytes = 0
        self._part_offset = self._count
        self._part_start = self._entry_count
        self._part_wall_ms = wall_ms

    def _is_of_last_part(self, wall_ms: int) -> bool:
        if self._entry_count - self._part_start >= PART_ENTRIES_MAX or self._part_bytes >= PART_BYTES_MAX:
            return False
        if self._count - self._part_offset >= PAUSE_OFFSETS_MIN and wall_ms - self.last_wall_ms >= PAUSE_MS:
            return False
        return wall_ms - self._part_wall_ms < PART_DURATION_MS_MAX

    def _end_last_part(self, parts: ChunkParts) -> None:
        parts.end_last(self._count, self._part_bytes, self.last_wall_ms - self.first_wall_ms)

    def append(self, reference: int, body_bytes: int, wall_ms: int) -> None:
        """One entry more."""
        if reference:
            self._references.append(reference)
        self._count += 1
        self._entry_count += 1
        ends = self._ends
        if ends is not None:
            assert isinstance(ends, array), "a chunk that is full gets no more"
            ends.append(self._count)
            self._entries.append(0)
        self.body_bytes += body_bytes
        self._part_bytes += body_bytes
        self.last_wall_ms = max(self.last_wall_ms, wall_ms)

    def append_block(self, reference: int, body_bytes: int, counts: BlockCounts, wall_ms: int) -> None:
        """One entry more, which is a block."""
        ends = self._ends
        if ends is None:
            ends = self._ends = array("Q", range(1, self._count + 1))
            self._entries = array("I", bytes(self._entries.itemsize * self._count))
        assert isinstance(ends, array)
        self.append(reference, body_bytes, wall_ms)
        entries, records = counts
        self._count += records - 1
        ends[-1] = self._count
        self._entries[-1] = entries

    def append_message(self, message: Message) -> None:
        """What was appended last, where there is no journal."""
        self._messages.append(message)

    # --- where

    def place_of(self, offset: int) -> int:
        """Which of its entries has this offset."""
        place = offset - self._origin
        return place if self._ends is None else bisect_right(self._ends, place)

    def offset_of(self, place: int) -> int:
        """The first offset of an entry."""
        if self._ends is None or not place:
            return self._origin + place
        return self._origin + self._ends[place - 1]

    def wall_ms_of(self, offset: int) -> int:
        """When about an entry came: the part that it is in began then."""
        if self._parts is None:
            return self.first_wall_ms
        return self.first_wall_ms + self._parts.first_ms_at(offset - self._origin)

    def offset_at(self, wall_ms: int) -> int:
        """The first entry of the first part that has an entry of this time or later, if any has."""
        parts = self._parts
        if parts is None:
            return self.first_offset
        part = max(parts.at(wall_ms - self.first_wall_ms), len(parts) - self.parts_left)
        return self._origin + (parts.end_of(part - 1) if part else 0)

    def readable_from(self, offset: int) -> int:
        """How many entries are read at once, from an offset on: some parts, until these have many bytes."""
        parts = self._parts
        end = None if parts is None else parts.end_of_bytes(offset - self._origin, PART_BYTES_MAX)
        end_place = self._entry_count if end is None else self.place_of(self._origin + end)
        return end_place - self.place_of(offset)

    def is_block(self, place: int) -> bool:
        """Whether an entry is a block."""
        return self.entries_of(place) > 0

    def entries_of(self, place: int) -> int:
        """How many entries of a client a block is made of; 0 where it is none."""
        if self._ends is None:
            return 0
        entries = self._entries  # the thread that reads asks too, and the chunk may be closed meanwhile
        return entries[place] if len(entries) else self.offset_of(place + 1) - self.offset_of(place)

    def are_blocks(self, start: int, end: int) -> bool:
        """Whether all entries from one to another one are blocks."""
        return self._ends is not None and 0 not in self._entries[start:end]

    def close(self) -> None:
        """No more entries come: keep no more of their numbers than is needed."""
        ends, parts = self._ends, self._parts
        if ends is not None:
            if sum(self._entries) == self._count:  # a block has no more entries than records, another entry none
                self._entries = _NO_ENTRIES
            else:
                self._entries = _in_little(self._entries)
            self._ends = range(1, len(ends) + 1) if ends[-1] == len(ends) else _in_little(ends)
        if parts is not None:
            self._end_last_part(parts)
            parts.close()
        self._references.close()

    # --- what there is

    def references(self, start: int = 0, end: int = sys.maxsize) -> array[int]:
        """Of the journal's records, one for each of some entries; none where there is no journal."""
        return self._references.between(start, end)

    @property
    def last_reference(self) -> int:
        """The last of them; 0 where there is none."""
        references = self._references
        return references[len(references) - 1] if len(references) else 0

    def message(self, place: int) -> Message:
        """One of the entries, where there is no journal."""
        return self._messages[place - self.start]

    def messages(self, start: int, end: int) -> list[Message]:
        """Some of them; none where there is one."""
        return self._messages[start - self.start : end - self.start]

    # --- what goes

    @property
    def oldest_wall_ms(self) -> int:
        """When the last entry of the oldest part came."""
        parts = self._parts
        if parts is None or self.parts_left == 1:
            return self.last_wall_ms
        return self.first_wall_ms + parts.last_ms_of(len(parts) - self.parts_left)

    def take_surplus(self, surplus_bytes: int, wall_ms_min: int | None, parts_min: int) -> TakenEntries | None:
        """Take out the oldest parts, as long as there are too many bytes or all of one is too old.

        Args:
            surplus_bytes: how many there are too many.
            wall_ms_min: what came before this time is too old; None for no limit.
            parts_min: so many stay in any case; at least one, unless the chunk is full.
        """
        count = min(self._parts_too_many(surplus_bytes, wall_ms_min), self.parts_left - parts_min)
        if count <= 0:
            return None
        start = self.start
        self._take_parts(count)
        return TakenEntries(self, start, self.start)

    def _parts_too_many(self, surplus_bytes: int, wall_ms_min: int | None) -> int:
        """How many of the oldest parts are too many bytes, or are too old; that which has not ended may be neither."""
        parts = self._parts
        if parts is None:
            return int(surplus_bytes > 0 or (wall_ms_min is not None and self.last_wall_ms < wall_ms_min))
        gone = behind = len(parts) - self.parts_left
        if surplus_bytes > 0:
            behind = parts.behind_bytes(gone, surplus_bytes)
        if wall_ms_min is not None:
            behind = max(behind, parts.at(wall_ms_min - self.first_wall_ms))
        return behind - gone

    def _take_parts(self, count: int) -> None:
        parts, start = self._parts, self.start
        if parts is None:
            self.first_offset = self.end_offset
            self.body_bytes = 0
        else:
            gone = len(parts) - self.parts_left
            self.first_offset = self._origin + parts.end_of(gone + count - 1)
            self.body_bytes -= parts.bytes_of(gone, gone + count)
        self.parts_left -= count
        self.start = self.place_of(self.first_offset)
        del self._messages[: self.start - start]

    def take_all(self) -> TakenEntries:
        """Take out all that is there."""
        return TakenEntries(self, self.start, self._entry_count)


class TakenEntries:
    """Entries that were taken out of a chunk, and are yet to be forgotten.

    Args:
        chunk: where they were.
        start: the place of the first one.
        end: the place behind the last one.
    """

    __slots__ = ("_chunk", "_end", "_start")

    def __init__(self, chunk: StreamChunk, start: int, end: int) -> None:
        self._chunk = chunk
        self._start = start
        self._end = end

    def __len__(self) -> int:
        return self._end - self._start

    @property
    def first_offset(self) -> int:
        """The offset of the first one that is left, or behind the last."""
        return self._chunk.offset_of(self._start)

    def next_references(self, count: int) -> array[int]:
        """The journal's records of the first ones, up to so many, which are not among them any more."""
        start = self._start
        self._start = min(start + count, self._end)
        return self._chunk.references(start, self._start)


class Extent:
    """Entries that follow each other, as the journal has them.

    Args:
        chunk: that they are in.
        start: which of its entries the first one is.
        count: how many they are at most.
    """

    __slots__ = ("_chunk", "_start", "references")

    def __init__(self, chunk: StreamChunk, start: int, count: int) -> None:
        self._chunk = chunk
        self._start = start
        self.references = chunk.references(start, start + count)

    @property
    def are_blocks(self) -> bool:
        """Whether all of them are blocks."""
        return self._chunk.are_blocks(self._start, self._start + len(self.references))

    def is_block(self, place: int) -> bool:
        """Whether one of them is a block."""
        return self._chunk.is_block(self._start + place)

    def first_offset_of(self, place: int) -> int:
        """The offset of one of them, or of the first record in it."""
        return self._chunk.offset_of(self._start + place)

    def counts_of(self, place: int) -> BlockCounts:
        """How many entries and records one of them has, which is a block."""
        records = self.first_offset_of(place + 1) - self.first_offset_of(place)
        return self._chunk.entries_of(self._start + place), records


def _in_little(numbers: Sequence[int]) -> array[int]:
    """The same numbers, in as few bytes each as they fit in."""
    largest = max(numbers)
    return array("H" if largest < 1 << 16 else "I" if largest < 1 << 32 else "Q", numbers)
