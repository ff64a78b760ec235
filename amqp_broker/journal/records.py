"""The smallest thing in a journal: a record, and the runs of references that one record of drops holds.

Holds the encoding of both, and the search for valid records among damaged bytes. Does not know blocks, segments or
files. The layout is specified in ``docs/journal.md``.
"""

from __future__ import annotations

import re
import struct
import sys
from array import array
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple, TypeAlias

from amqp_broker.journal.checksums import Piece, checked, crc32, crc_behind

DROPS_KIND: Final = 0
KIND_MAX: Final = 255
PAYLOAD_BYTES_MAX: Final = 2**31
CLAIMS_MAX: Final = 2**32 - 1
LARGE_BYTES: Final = 4096
"""What is larger is not copied in order to be written in one piece with others."""

_CRC: Final = struct.Struct("<I")
_FIELDS: Final = struct.Struct("<IQIB")  # payload length, reference, claims, kind
_HEADER: Final = struct.Struct("<IIQIB")  # the CRC of all that follows it, and the fields
RECORD_HEADER_BYTES: Final = _HEADER.size
_REFERENCE_HIGH_BYTE: Final = 15
_RUN_BYTES: Final = 12
_ZEROS: Final = bytes(2 * RECORD_HEADER_BYTES)
_NOT_ZERO: Final = re.compile(rb"[^\0]")


Part: TypeAlias = bytes | memoryview
Payload: TypeAlias = bytes | tuple[Piece, ...]
"""What a record holds: bytes, or parts that follow each other and are put together when they are written."""


class Record(NamedTuple):
    """A record as it was read."""

    kind: int
    payload: bytes
    reference: int
    claims: int


def encode_record(kind: int, payload: bytes, reference: int, claims: int) -> bytes:
    """A record's bytes. The reference is in them, so that a record means the same wherever it is found."""
    body = _FIELDS.pack(len(payload), reference, claims, kind) + payload
    return _CRC.pack(crc32(body)) + body


Unwritten: TypeAlias = tuple[int, int, int, tuple[Piece, ...]]
"""A record that waits to be written: kind, claims, size of the payload, and its parts.

It is encoded only when it is written, because many never are: they are dropped before. No class, because there is one
for each message, and to make an instance takes longer than all else.
"""


def encode_unwritten(record: Unwritten, reference: int, block_bytes: int) -> tuple[Piece, ...]:
    """A record's bytes, in pieces; the large ones are the payload's own, cut where another block begins."""
    kind, claims, size_bytes, parts = record
    fields = _FIELDS.pack(size_bytes, reference, claims, kind)
    if size_bytes < LARGE_BYTES:
        body = fields + b"".join(parts)  # type: ignore[arg-type]  # no CheckedPart is so small
        return (_CRC.pack(crc32(body)) + body,)
    pieces = tuple(checked(parts, RECORD_HEADER_BYTES, block_bytes))
    crc = crc32(fields)
    for piece in pieces:
        crc = crc_behind(crc, piece)
    return (_CRC.pack(crc) + fields, *pieces)


def record_size(data: Part, offset: int) -> int:
    """The size in bytes that the record at an offset says it has, header included; 0 where no header fits."""
    if len(data) - offset < RECORD_HEADER_BYTES:
        return 0
    return RECORD_HEADER_BYTES + int(_HEADER.unpack_from(data, offset)[1])


def record_base(data: bytes) -> int:
    """The reference of the first claim of the record that these bytes are."""
    return int(_HEADER.unpack_from(data)[2])


def record_claims(data: bytes) -> int:
    """How many claims the record that these bytes are began with."""
    return int(_HEADER.unpack_from(data)[3])


def has_claim(data: Part, offset: int, reference: int) -> bool:
    """Whether the record at an offset says that this is the reference of one of its claims."""
    _, _, base, claims, _ = _HEADER.unpack_from(data, offset)
    return bool(base <= reference < base + claims)


def is_intact(data: Part, offset: int, size: int) -> bool:
    """Whether the CRC of the record of that size at an offset is right."""
    return bool(_CRC.unpack_from(data, offset)[0] == crc32(memoryview(data)[offset + 4 : offset + size]))


def decode_record(data: bytes, offset: int = 0) -> Record | None:
    """The record at an offset; None when there is no whole and intact one."""
    size = record_size(data, offset)
    if not size or offset + size > len(data) or not is_intact(data, offset, size):
        return None
    _, _, reference, claims, kind = _HEADER.unpack_from(data, offset)
    return Record(kind, data[offset + RECORD_HEADER_BYTES : offset + size], reference, claims)


def record_fields(data: bytes) -> Iterator[tuple[int, int, int, int, int]]:
    """Walk bytes that are known to be good: yield (offset, size, reference, claims, kind) of each record in them.

    The header's CRC is not looked at: the block that holds the records has one of its own.
    """
    unpack = _HEADER.unpack_from
    offset = 0
    end = len(data)
    while offset < end:
        _, length, reference, claims, kind = unpack(data, offset)
        size = RECORD_HEADER_BYTES + length
        yield offset, size, reference, claims, kind
        offset += size


def find_records(data: bytes, references: range) -> Iterator[tuple[int, int]]:
    """Search damaged bytes for intact records, at every offset: yield (offset, size) of each.

    Args:
        data: the bytes.
        references: what a record's reference may be there, below 2**56; it spares most of the CRCs. Records of drops
            have 0.
    """
    offset = 0
    while True:
        offset = data.find(b"\0", offset + _REFERENCE_HIGH_BYTE) - _REFERENCE_HIGH_BYTE
        if offset < 0 or offset + RECORD_HEADER_BYTES > len(data):
            return
        if data.startswith(_ZEROS, offset):
            something = _NOT_ZERO.search(data, offset)
            offset = max(offset + 1, (something.start() if something else len(data)) - RECORD_HEADER_BYTES)
            continue
        _, length, reference, claims, kind = _HEADER.unpack_from(data, offset)
        size = RECORD_HEADER_BYTES + length
        is_plausible = reference in references if kind != DROPS_KIND else (reference == 0 and claims == 1)
        if is_plausible and claims and offset + size <= len(data) and is_intact(data, offset, size):
            yield offset, size
            offset += size
        else:
            offset += 1


class Runs:
    """References as runs: each a first one and how many follow it without a gap. Packed, in ascending order."""

    __slots__ = ("counts", "firsts")

    def __init__(self) -> None:
        self.firsts = array("Q")
        self.counts = array("I")

    def __len__(self) -> int:
        return len(self.firsts)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self.firsts, self.counts, strict=True)

    @property
    def encoded_bytes(self) -> int:
        """The size of these runs in a record."""
        return len(self.firsts) * _RUN_BYTES

    @property
    def end(self) -> int:
        """One past the last reference; 0 when there is none."""
        return self.end_at(-1) if self.firsts else 0

    def end_at(self, number: int) -> int:
        """One past the last reference of a run."""
        return self.firsts[number] + self.counts[number]

    def append(self, first: int, count: int) -> None:
        """Add a run after all others."""
        self.firsts.append(first)
        self.counts.append(count)

    def extend(self, other: Runs) -> None:
        """Add another's runs after these, in the order they come: the result need not be sorted any more."""
        self.firsts.extend(other.firsts)
        self.counts.extend(other.counts)

    def merged(self) -> Runs:
        """The same references in ascending order, each once, in as few runs as possible."""
        result = Runs()
        start = end = 0
        for first, count in sorted(self):
            if first > end:
                if end > start:
                    result.append(start, end - start)
                start = first
            end = max(end, first + count)
        if end > start:
            result.append(start, end - start)
        return result


def runs_of(references: Iterable[int]) -> Runs:
    """The runs in references that come in ascending order; a reference that comes twice counts once."""
    runs = Runs()
    first = end = -1
    for reference in references:
        if reference == end:
            end += 1
        elif reference >= end:
            if first >= 0:
                runs.append(first, end - first)
            first = reference
            end = reference + 1
    if first >= 0:
        runs.append(first, end - first)
    return runs


def encode_runs(runs: Runs) -> bytes:
    """The payload of a record of drops: all firsts as unsigned 64-bit, then all counts as unsigned 32-bit integers."""
    return _little_endian(runs.firsts).tobytes() + _little_endian(runs.counts).tobytes()


def decode_runs(payload: bytes) -> Runs:
    """The runs in the payload of a record of drops."""
    runs = Runs()
    split = len(payload) // _RUN_BYTES * 8
    runs.firsts.frombytes(payload[:split])
    runs.counts.frombytes(payload[split:])
    runs.firsts = _little_endian(runs.firsts)
    runs.counts = _little_endian(runs.counts)
    return runs


def _little_endian(numbers: array[int]) -> array[int]:
    if sys.byteorder == "little":
        return numbers
    swapped = array(numbers.typecode, numbers)
    swapped.byteswap()
    return swapped
