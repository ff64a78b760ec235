"""A block of entries that a client of the stream protocol has published in one go: one journal record, however many.

The entries are kept as they came, and go to clients of the same protocol as they lie on the disk. Each is an ordinary
one, four bytes of length and a message of AMQP 1.0, or a sub-batch, which the client has put together and perhaps
compressed: it counts for as many offsets as there are records in it. The broker opens one only for whoever speaks
another protocol.

    entries, records, bytes of filter values, checksum: four bytes each; the filter values; the entries

A filter value is kept for each entry if any of a block has one: two bytes of length and the text, or 0xffff for none.
(Stream protocol of RabbitMQ, "Publish", "Deliver".)
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

from amqp_broker.broker.message import Address, Message, digest_of
from amqp_broker.journal.checksums import CHECKED_BYTES_MIN, CheckedPart, Piece
from amqp_broker.wire.content import Properties, encode_content_header
from amqp_broker.wire.hot import encode_address

if TYPE_CHECKING:
    from amqp_broker.broker.ports import EntryForms
    from amqp_broker.broker.queues.stream_start import StreamFilter

BlockCounts: TypeAlias = tuple[int, int]  # of entries, and of records

FIELDS: Final = struct.Struct(">IIII")
FIELDS_BYTES: Final = FIELDS.size
_LENGTH: Final = struct.Struct(">I")
_VALUE_LENGTH: Final = struct.Struct(">H")
_SUB_BATCH: Final = struct.Struct(">BHII")  # compression, records, bytes when it is opened, bytes
NO_VALUE_LENGTH: Final = 0xFFFF
SUB_BATCH_BIT: Final = 0x80
UNCOMPRESSED: Final = 0
GZIP: Final = 1
LARGE_ENTRY_BYTES: Final = 4_096
STEP_BYTES: Final = 65_536  # that are unpacked in one go
STEP_PACKED_BYTES: Final = 16_384  # of what they are unpacked from, at most
STEP_RECORDS: Final = 1_024  # that are gone through in one go
OPENED_BYTES_MAX: Final = 67_108_864  # of a sub-batch; what says that it has more stays closed
BLOCK_HEADER: Final = encode_content_header(0, Properties(content_type="application/x-amqp-broker-stream-block"))


class StreamBlock(Message):
    """A block, as an entry of the stream; its position is the offset of its first record.

    Args:
        address: the stream's.
        body: all of it; empty where it lies elsewhere.
        content: all of it, where it lies.
    """

    __slots__ = ("checksum", "content", "data_start", "entries", "filter_bytes", "records")

    def __init__(self, address: Address, body: bytes, content: memoryview | None = None) -> None:
        super().__init__(address, BLOCK_HEADER, body, True, 0)
        self.content = memoryview(body) if content is None else content
        self.entries, self.records, self.filter_bytes, self.checksum = FIELDS.unpack_from(self.content)
        self.data_start: int = FIELDS.size + self.filter_bytes

    @property
    def end_offset(self) -> int:
        """The offset behind its last record."""
        return self.position + int(self.records)

    @property
    def data(self) -> memoryview:
        """The entries, as a client gets them."""
        return self.content[self.data_start :]

    def parts_to_write(self) -> Sequence[Piece]:
        """Its body, for the journal, which need not go through entries whose checksum is known."""
        data = self.content[self.data_start :]
        if len(data) < CHECKED_BYTES_MIN:
            return (self.body,)
        return self.content[: self.data_start], CheckedPart(data, self.checksum)

    @property
    def size_bytes(self) -> int:
        """How large it is on the disk, about."""
        return len(self.content)

    def matches(self, wanted: StreamFilter) -> bool:
        """Whether any of the entries is wanted."""
        if not self.filter_bytes:
            return wanted.takes_value(None)
        return any(wanted.takes_value(value) for value in self.filter_values())

    def filter_values(self) -> Iterator[str | None]:
        """The filter value of each entry; nothing where none has any."""
        content, offset = self.content, FIELDS.size
        while offset < self.data_start:
            (length,) = _VALUE_LENGTH.unpack_from(content, offset)
            offset += _VALUE_LENGTH.size
            if length == NO_VALUE_LENGTH:
                yield None
            else:
                yield str(content[offset : offset + length], "utf-8", "surrogateescape")
                offset += length

    def opened(self, forms: EntryForms, wanted: StreamFilter | None, first_offset: int = 0) -> Iterator[Message | None]:
        """The messages of the block, each with its offset, as clients of other protocols get them.

        One sub-batch is opened at a time, when its turn comes, and in steps: it may have thousands of times its bytes.
        None stands for a step in which none was found, so that others may have their turn. What cannot be opened
        (compressed in a way that is not known here) is left out.

        Args:
            wanted: which of them; None for all.
            first_offset: those before it are passed by.
        """
        values = list(self.filter_values()) if wanted is not None else []
        offset = self.position
        for place, (records, parts) in enumerate(self._parts()):
            value = values[place] if values else None
            if offset + records > first_offset and (wanted is None or wanted.takes_value(value)):
                position = offset
                for part in parts:
                    if part is None:
                        yield None
                        continue
                    if position >= first_offset:
                        yield self._message(forms, part, position)
                    position += 1
            offset += records

    def _message(self, forms: EntryForms, entry: bytes, offset: int) -> Message:
        header, body = forms.decoded(entry)
        message = Message(self.address, header, body, True, digest_of(header).priority)
        message.position = offset
        message.reference = self.reference
        return message

    def _parts(self) -> Iterator[tuple[int, Iterable[bytes | None]]]:
        """For each entry how many records it has, and those that can be read; None for a step without one."""
        content, offset = self.content, self.data_start
        end = len(content)
        while offset < end:
            if content[offset] & SUB_BATCH_BIT:
                kind, records, opened_bytes, length = _SUB_BATCH.unpack_from(content, offset)
                offset += _SUB_BATCH.size
                batch = bytes(content[offset : offset + length])
                yield records, _opened(kind >> 4 & 7, batch, opened_bytes, records)
                offset += length
            else:
                (length,) = _LENGTH.unpack_from(content, offset)
                offset += _LENGTH.size
                yield 1, (bytes(content[offset : offset + length]),)
                offset += length


def block_body(records: int, filter_values: bytes, entries: Sequence[bytes | memoryview]) -> bytes:
    """What a block is on the disk.

    Args:
        records: that the entries have.
        filter_values: of each entry, where any has one.
        entries: as they came.
    """
    data = entries
    if sum(map(len, entries)) < LARGE_ENTRY_BYTES * len(entries):
        data = (b"".join(entries),)  # a copy takes less than a call for each
    checksum = 0
    for part in data:
        checksum = zlib.crc32(part, checksum)
    return b"".join((FIELDS.pack(len(entries), records, len(filter_values), checksum), filter_values, *data))


def counts_of(body: bytes | memoryview) -> BlockCounts:
    """How many entries a block says that it has, and how many records: as many offsets."""
    entries, records, _, _ = FIELDS.unpack_from(body)
    return entries, records


def block_address(stream: str) -> Address:
    """The address of all blocks of a stream: as if they had been published to it by name."""
    return Address("", stream, encode_address("", stream))


def _opened(compression: int, data: bytes, opened_bytes: int, records: int) -> Iterator[bytes | None]:
    """The records of a sub-batch, as far as it is what it says it is; None after each step."""
    if compression == UNCOMPRESSED:
        yield from _records(iter((data,)), records)
    elif compression == GZIP and opened_bytes <= OPENED_BYTES_MAX:
        yield from _records(_unpacked(data, opened_bytes), records)


def _unpacked(data: bytes, opened_bytes: int) -> Iterator[bytes]:
    """What was compressed by gzip, in steps, up to so many bytes of it."""
    unpacker = zlib.decompressobj(wbits=31)
    place, packed = 0, b""
    while opened_bytes > 0 and not unpacker.eof:
        if not packed:
            packed = data[place : place + STEP_PACKED_BYTES]
            place += len(packed)
        try:
            opened = unpacker.decompress(packed, min(STEP_BYTES, opened_bytes))
        except zlib.error:
            return
        if not opened and place >= len(data):
            return
        packed = unpacker.unconsumed_tail
        opened_bytes -= len(opened)
        yield opened


def _records(pieces: Iterator[bytes], records: int) -> Iterator[bytes | None]:
    """The records in these bytes, at most so many; None behind each piece, and behind many records."""
    rest = bytearray()
    found = 0
    for piece in pieces:
        rest += piece
        offset, end = 0, len(rest)
        while found < records and offset + _LENGTH.size <= end:
            (length,) = _LENGTH.unpack_from(rest, offset)
            behind = offset + _LENGTH.size + length
            if behind > end:
                break
            yield bytes(rest[offset + _LENGTH.size : behind])
            offset = behind
            found += 1
            if found % STEP_RECORDS == 0:
                yield None
        if found == records:
            return
        del rest[:offset]
        yield None
