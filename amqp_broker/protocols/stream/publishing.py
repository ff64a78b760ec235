"""Publishers: what they publish becomes blocks of their streams, and is confirmed when the journal has kept it.

What one publisher sends in many frames that arrive together becomes as few blocks as they fit into: who reads gets a
block at once, and each costs the journal, the reader and its client the same, whatever is in it.

A publisher with a name publishes ids that grow: what has one that is not higher than the last is there already, and is
confirmed without being stored. A publish of very many messages is taken in pieces, each as one of its own, so that
others have their turn between them. The last id is the stream's to remember (``broker/queues/stream_tracking.py``).
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from amqp_broker.broker.queues.stream import StreamQueue
from amqp_broker.broker.queues.stream_block import LARGE_ENTRY_BYTES, NO_VALUE_LENGTH, block_body
from amqp_broker.protocols.stream import codes
from amqp_broker.protocols.stream.errors import RequestRefused
from amqp_broker.protocols.stream.frames import Fields, Malformed, command, u32

if TYPE_CHECKING:
    from amqp_broker.protocols.stream.link import Link

REFERENCE_BYTES_MAX: Final = 255
HEAD_BYTES: Final = 9  # of publish: key, version, publisher, count
BLOCK_ENTRIES_MAX: Final = 4_096
BLOCK_BYTES_MAX: Final = 260_096  # nearly what is read at once; the journal cuts no record that has no more
PIECE_ENTRIES: Final = BLOCK_ENTRIES_MAX  # of a publish that has more than two of them
CUT_FRAME_BYTES_MIN: Final = 2 * PIECE_ENTRIES * 12  # a shorter frame has no more
ENTRIES_OF_AN_EFFORT: Final = 8  # that take as long as a message for one queue does
DECLARE_EFFORT: Final = 10  # about; see ``ClientConnection.has_cost``
CONFIRM_HEAD_BYTES: Final = 13
SUB_BATCH_BIT: Final = 0x8000_0000  # of the length
_HEAD: Final = struct.Struct(">4xBI")
_ID_AND_LENGTH: Final = struct.Struct(">QI")
_ID_AND_SUB_BATCH: Final = struct.Struct(">QBHII")
_ID_AND_VALUE_LENGTH: Final = struct.Struct(">QH")
_PUBLISHER_AND_COUNT: Final = struct.Struct(">BI")
_LENGTH: Final = struct.Struct(">I")
_VALUE_LENGTH: Final = struct.Struct(">H")
_PUBLISH_KEY: Final = struct.pack(">H", codes.PUBLISH)
_CODE: Final = struct.Struct(">H")


class Publisher:
    """One publisher of a connection.

    Args:
        number: the client's.
        reference: its name, by which its publishing ids are remembered; empty for none.
        stream: where to.
    """

    __slots__ = ("confirmed_count", "number", "published_count", "reference", "refused_count", "stream")

    def __init__(self, number: int, reference: str, stream: StreamQueue) -> None:
        self.number = number
        self.reference = reference
        self.stream = stream
        self.published_count = 0
        self.confirmed_count = 0
        self.refused_count = 0


class Entries:
    """The messages of a publish, taken apart: an entry is what stands behind the publishing id, as it stands.

    Args:
        frame: the publish.
        count: how many it says that it has.
        last_id: those whose ids are not higher are there already; None where ids are not looked at.
        has_values: whether a filter value stands before each.

    Raises:
        Malformed, struct.error: it is none.
    """

    __slots__ = ("data", "filter_values", "identifiers", "last_id", "records")

    def __init__(self, frame: bytes, count: int, last_id: int | None, *, has_values: bool) -> None:
        self.records = 0  # that the entries have
        self.data: list[bytes | memoryview] = []  # the entries that are to be stored
        self.filter_values: list[bytes] = []  # of these, where any has one
        self.identifiers: list[bytes] = []  # of all, those that are there already among them
        self.last_id = last_id
        offset = HEAD_BYTES
        if has_values:
            offset = self._take_filtered(frame, count)
        else:
            offset = self._take(frame, count)
        if offset != len(frame):
            raise Malformed("a publish goes on behind its messages")

    def _take(self, frame: bytes, count: int) -> int:
        identifiers, data, last_id, view = self.identifiers, self.data, self.last_id, memoryview(frame)
        offset, end, records = HEAD_BYTES, len(frame), 0
        for _ in range(count):
            identifier, length = _ID_AND_LENGTH.unpack_from(frame, offset)
            start = offset + 8
            if length & SUB_BATCH_BIT:
                _, _, of_batch, _, length = _ID_AND_SUB_BATCH.unpack_from(frame, offset)
                behind = start + 11 + length
            else:
                of_batch = 1
                behind = start + 4 + length
            if behind > end:
                raise Malformed("a publish ends before its messages do")
            identifiers.append(frame[offset:start])
            if last_id is None or identifier > last_id:
                if last_id is not None:
                    last_id = identifier
                if of_batch:  # a sub-batch of nothing is nothing
                    data.append(frame[start:behind] if length < LARGE_ENTRY_BYTES else view[start:behind])
                    records += of_batch
            offset = behind
        self.last_id, self.records = last_id, records
        return offset

    def _take_filtered(self, frame: bytes, count: int) -> int:
        offset, end, last_id = HEAD_BYTES, len(frame), self.last_id
        has_any = False
        for _ in range(count):
            identifier, value_length = _ID_AND_VALUE_LENGTH.unpack_from(frame, offset)
            value_start = offset + 8
            start = value_start + 2 + (0 if value_length == NO_VALUE_LENGTH else value_length)
            (length,) = _LENGTH.unpack_from(frame, start)
            behind = start + 4 + length
            if length & SUB_BATCH_BIT or behind > end:
                raise Malformed("a publish with filter values has a sub-batch, or ends before its messages do")
            self.identifiers.append(frame[offset:value_start])
            if last_id is None or identifier > last_id:
                if last_id is not None:
                    last_id = identifier
                self.data.append(frame[start:behind])
                self.filter_values.append(frame[value_start:start])
                has_any = has_any or value_length != NO_VALUE_LENGTH
            offset = behind
        self.last_id, self.records = last_id, len(self.data)
        if not has_any:
            self.filter_values = []
        return offset


def in_pieces(frames: Iterator[bytes]) -> Iterator[bytes]:
    """The frames, and in place of each publish of very many messages several of fewer.

    Raises:
        Malformed: a publish ends before its messages do, or goes on behind them.
    """
    for frame in frames:
        if len(frame) > CUT_FRAME_BYTES_MIN and frame[:2] == _PUBLISH_KEY:
            count = _HEAD.unpack_from(frame)[1]
            if count > 2 * PIECE_ENTRIES:
                yield from _pieces(frame, count)
                continue
        yield frame


def _pieces(frame: bytes, count: int) -> Iterator[bytes]:
    head, has_values = frame[: HEAD_BYTES - 4], frame[3] > 1
    start = HEAD_BYTES
    while count:
        piece_count = min(count, PIECE_ENTRIES)
        behind = _behind(frame, start, piece_count, has_values=has_values)
        count -= piece_count
        if behind > len(frame):
            raise Malformed("a publish ends before its messages do")
        if not count and behind != len(frame):
            raise Malformed("a publish goes on behind its messages")
        yield head + u32(piece_count) + frame[start:behind]
        start = behind


def _behind(frame: bytes, offset: int, count: int, *, has_values: bool) -> int:
    """Where so many messages end."""
    try:
        for _ in range(count):
            offset += 8
            if has_values:
                (value_length,) = _VALUE_LENGTH.unpack_from(frame, offset)
                offset += 2 + (0 if value_length == NO_VALUE_LENGTH else value_length)
            (length,) = _LENGTH.unpack_from(frame, offset)
            if length & SUB_BATCH_BIT:
                (length,) = _LENGTH.unpack_from(frame, offset + 7)
                offset += 7
            offset += 4 + length
    except struct.error:
        raise Malformed("a publish ends before its messages do") from None
    return offset


class Gathered:
    """Entries that a publisher has published and that are to be stored together.

    Args:
        publisher: who.
        found: the first of it.
        size_bytes: of it, about.
    """

    __slots__ = ("data", "filter_values", "identifiers", "publisher", "records", "size_bytes")

    def __init__(self, publisher: Publisher, found: Entries, size_bytes: int) -> None:
        self.publisher = publisher
        self.data = found.data
        self.filter_values = found.filter_values
        self.identifiers = found.identifiers
        self.records = found.records
        self.size_bytes = size_bytes

    def takes(self, publisher: Publisher, found: Entries, size_bytes: int) -> bool:
        """Whether more is to be stored together with this: filter values are those of a block."""
        has_values = self.filter_values or found.filter_values
        is_small = self.size_bytes + size_bytes <= BLOCK_BYTES_MAX
        return publisher is self.publisher and is_small and not has_values

    def add(self, found: Entries, size_bytes: int) -> None:
        """More of it."""
        self.data += found.data
        self.identifiers += found.identifiers
        self.records += found.records
        self.size_bytes += size_bytes

    def blocks(self) -> Iterator[bytes]:
        """The blocks that it becomes; none is very large, because who reads begins with a whole one."""
        data, values = self.data, self.filter_values
        start = 0
        for end in self._ends():
            part = data[start:end]
            if len(part) == len(data):
                records = self.records
            else:
                records = len(part) if self.records == len(data) else sum(map(_records_of, part))
            yield block_body(records, b"".join(values[start:end]), part)
            start = end

    def _ends(self) -> Iterator[int]:
        """Where blocks end."""
        count = len(self.data)
        if count <= BLOCK_ENTRIES_MAX and self.size_bytes <= BLOCK_BYTES_MAX:
            yield count
            return
        start = size_bytes = 0
        for place, entry in enumerate(self.data):
            size_bytes += len(entry)
            if place > start and (size_bytes > BLOCK_BYTES_MAX or place - start == BLOCK_ENTRIES_MAX):
                yield place
                start, size_bytes = place, len(entry)
        yield count


def _records_of(entry: bytes | memoryview) -> int:
    """How many records an entry has: a sub-batch says it behind its first byte."""
    return int.from_bytes(entry[1:3], "big") if entry[0] & 0x80 else 1


class Publishing:
    """The publishers of a connection that is open."""

    def __init__(self, connection: Link) -> None:
        self._connection = connection
        self._broker = connection.broker
        self._is_kept = connection.broker.durability.is_kept
        self.publishers: dict[int, Publisher] = {}
        self._waiting: deque[tuple[int, Publisher, list[bytes]]] = deque()  # positions, and what is confirmed then
        self._will_finish = False
        self._gathered: Gathered | None = None
        self.unconfirmed_count = 0

    # --- publishers

    def declare(self, fields: Fields) -> bytes:
        """Handle DeclarePublisher."""
        number, reference, name = fields.u8(), fields.string(), fields.string()
        connection = self._connection
        connection.has_cost(DECLARE_EFFORT)
        connection.client.check_write("queue", name)
        stream = connection.stream(name)
        if number in self.publishers or len(reference.encode("utf-8", "surrogateescape")) > REFERENCE_BYTES_MAX:
            raise RequestRefused(codes.PRECONDITION_FAILED)
        if reference and any(one.stream is stream and one.reference == reference for one in self.publishers.values()):
            raise RequestRefused(codes.PRECONDITION_FAILED)
        self.publishers[number] = Publisher(number, reference, stream)
        return b""

    def delete(self, fields: Fields) -> bytes:
        """Handle DeletePublisher."""
        number = fields.u8()
        if self.publishers.pop(number, None) is None:
            raise RequestRefused(codes.PUBLISHER_DOES_NOT_EXIST)
        return b""

    def forget_stream(self, stream: StreamQueue) -> bool:
        """A stream is gone, and its publishers with it; returns whether there were any."""
        gone = [number for number, publisher in self.publishers.items() if publisher.stream is stream]
        for number in gone:
            del self.publishers[number]
        return len(gone) > 0

    def query_sequence(self, fields: Fields) -> bytes:
        """Handle QueryPublisherSequence: what was kept, so the answer waits for what was published just now."""
        reference, name = fields.string(), fields.string()
        connection = self._connection
        connection.client.check_write("queue", name)
        sequence = connection.stream(name).sequences.get(reference) or 0
        connection.output.hold_until(connection.broker.durability.position_of_all)
        return sequence.to_bytes(8, "big")

    # --- publish

    def publish(self, frame: bytes, version: int) -> None:
        """Handle Publish.

        Raises:
            Malformed: it is none.
        """
        connection = self._connection
        connection.throttle.has_published = True
        if len(frame) < HEAD_BYTES:
            raise Malformed("a publish is too short for its head")
        number, count = _HEAD.unpack_from(frame)
        if count >= PIECE_ENTRIES:
            connection.has_cost(count // ENTRIES_OF_AN_EFFORT)
        publisher = self.publishers.get(number)
        last_id: int | None = None
        if publisher is not None and publisher.reference:
            last_id = publisher.stream.sequences.get(publisher.reference)
            last_id = -1 if last_id is None else last_id
        try:
            found = Entries(frame, count, last_id, has_values=version > 1)
        except struct.error:
            raise Malformed("a publish ends before its messages do") from None
        if publisher is None:
            self._refuse(number, found.identifiers, codes.PUBLISHER_DOES_NOT_EXIST)
            return
        if found.data and found.last_id is not None:  # in the same batch of the journal as what it is the id of
            publisher.stream.sequences.put(publisher.reference, found.last_id)
        self._gather(publisher, found, len(frame))

    def _gather(self, publisher: Publisher, found: Entries, size_bytes: int) -> None:
        gathered = self._gathered
        if gathered is not None and gathered.takes(publisher, found, size_bytes):
            gathered.add(found, size_bytes)
            return
        self.store()
        self._gathered = Gathered(publisher, found, size_bytes)

    def store(self) -> None:
        """Store what was published: what is asked for next may be about it."""
        gathered, self._gathered = self._gathered, None
        if gathered is None:
            return
        connection, publisher = self._connection, gathered.publisher
        position = connection.broker.durability.position_of_all
        if gathered.data:
            for body in gathered.blocks():
                position = publisher.stream.publish_block(body)
        count = len(gathered.identifiers)
        publisher.published_count += count
        connection.counts.published += count
        self.unconfirmed_count += count
        self._waiting.append((position, publisher, gathered.identifiers))
        if not self._will_finish:
            self._will_finish = True
            connection.broker.to_finish.append(self.finish)

    def _refuse(self, number: int, identifiers: list[bytes], code: int) -> None:
        """Send PublishError."""
        self._connection.count_refusal(code)
        encoded_code = _CODE.pack(code)
        content = bytes((number,)) + u32(len(identifiers))
        content += b"".join([identifier + encoded_code for identifier in identifiers])
        self._connection.output.send(command(codes.PUBLISH_ERROR, content))

    # --- confirms

    def finish(self) -> None:
        """Confirm all that is as durable as it must be."""
        self._will_finish = False
        waiting, is_kept = self._waiting, self._is_kept
        kept: dict[Publisher, list[bytes]] = {}
        while waiting and is_kept(waiting[0][0]):
            _, publisher, identifiers = waiting.popleft()
            if publisher in kept:
                kept[publisher] += identifiers
            else:
                kept[publisher] = identifiers
        for publisher, identifiers in kept.items():
            self._confirm(publisher, identifiers)
        if waiting:
            self._broker.awaiting_commit[self.finish] = None
        else:
            self._broker.awaiting_commit.pop(self.finish, None)

    def _confirm(self, publisher: Publisher, identifiers: list[bytes]) -> None:
        count = len(identifiers)
        publisher.confirmed_count += count
        self.unconfirmed_count -= count
        self._connection.counts.confirmed += count
        frame_bytes_max = self._connection.frame_bytes_max
        most = max(1, (frame_bytes_max - CONFIRM_HEAD_BYTES) // 8) if frame_bytes_max else count
        for start in range(0, count, most):
            some = identifiers if count <= most else identifiers[start : start + most]
            head = _PUBLISHER_AND_COUNT.pack(publisher.number, len(some))
            self._connection.output.send(command(codes.PUBLISH_CONFIRM, head + b"".join(some)))

    def stop(self) -> None:
        """The connection ends: what need not wait for the journal is confirmed, the rest will not be."""
        self.store()
        self.finish()
        self._waiting.clear()
        self.publishers.clear()
        self._broker.awaiting_commit.pop(self.finish, None)
