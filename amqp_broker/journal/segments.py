"""A segment: one file of the journal, a header and then blocks.

Holds the header, the file's name, and the reading of a segment from its first byte to its last. Does not write, and
keeps nothing of what it has read. The layout is specified in ``docs/journal.md``.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple, Protocol

from amqp_broker.journal.blocks import (
    BEGINS_INSIDE,
    BLOCK_HEADER_BYTES,
    GOES_ON,
    HOLDS_DROPS,
    IS_SEAL,
    BlockHeader,
    decode_block_header,
    find_block_headers,
)
from amqp_broker.journal.checksums import crc32
from amqp_broker.journal.failures import FormatNotSupported, JournalDamaged
from amqp_broker.journal.files import File

SEGMENT_MAGIC = b"journal\n"
FORMAT_VERSION = 1
NEW_SUFFIX = ".new"
"""Ends the name of a file that is not part of the journal yet."""

_FIELDS = struct.Struct("<IIQQQQQ")
_CRC = struct.Struct("<I")
SEGMENT_HEADER_BYTES = 64
_CRC_OFFSET = SEGMENT_HEADER_BYTES - _CRC.size
_NAME = re.compile(r"(\d{10})-(\d{10})\.segment")
_READ_BYTES = 1024 * 1024
_ZEROS = bytes(_READ_BYTES)
_LARGE_BLOCK_BYTES = 64 * 1024  # so much is not read with what comes before, or passed over

IS_REWRITTEN = 1
"""The segment holds what was left of others: its references have gaps."""


class SegmentHeader(NamedTuple):
    """The header at the start of a segment.

    A segment that takes the place of several has the numbers of the first and the last of them; a fresh one has its
    own number twice. ``first_reference`` is the lowest that may be in it, ``batch`` the last batch before it.
    """

    version: int
    flags: int
    first_number: int
    last_number: int
    epoch: int
    first_reference: int
    batch: int

    def encode(self) -> bytes:
        """The header's 64 bytes; the last four are the CRC of all before them, in every version of the format."""
        data = (SEGMENT_MAGIC + _FIELDS.pack(*self)).ljust(_CRC_OFFSET, b"\0")
        return data + _CRC.pack(crc32(data))

    @property
    def name(self) -> str:
        """The name of the segment's file."""
        return segment_name(self.first_number, self.last_number)


def segment_name(first_number: int, last_number: int) -> str:
    """The name of a segment's file; names sort as their segments do."""
    return f"{first_number:010d}-{last_number:010d}.segment"


def segment_numbers(name: str) -> tuple[int, int] | None:
    """The first and last number in a file's name; None when it is not a segment's."""
    match = _NAME.fullmatch(name)
    return (int(match[1]), int(match[2])) if match else None


class Block(NamedTuple):
    """A block, or all the blocks of a record that is larger than one, as they were read."""

    offset: int
    end: int
    header: BlockHeader
    payload: bytes


class BadBlock(Exception):
    """A block that is not intact, or is not there, at this offset."""

    def __init__(self, offset: int, reason: str) -> None:
        super().__init__(reason)
        self.offset = offset
        self.reason = reason


class Opening(Protocol):
    """The part of a ``FileSystem`` that reading needs."""

    def open(self, name: str) -> File:
        """Open a file."""

    def full_name(self, name: str) -> str:
        """The name as an operator would look for it."""


class SegmentReader:
    """Reads one segment. Everything it returns was checked against its CRC, now or before.

    A segment that is damaged is read again as it is kept elsewhere, where it is.

    Args:
        files: where the segment is.
        name: its file's name.
        is_header_needed: whether a damaged header is an error; else what the file's name says takes its place.
        is_verified: whether this process has read all of it before, and it has not changed since: what records hold is
            not checked then.

    Raises:
        JournalDamaged: the header is not what was written.
        FormatNotSupported: the header is of another version.
        OSError: the file cannot be read; so for all that reads it.
    """

    def __init__(self, files: Opening, name: str, *, is_header_needed: bool = True, is_verified: bool = False) -> None:
        self._is_verified = is_verified
        self._restored_from: int | None = None  # the least offset from which it was read again
        self.full_name = files.full_name(name)
        self.file = files.open(name)
        self.size_bytes = self.file.size()
        self._window = b""
        self._window_start = 0
        self._window_bytes = _READ_BYTES  # to be read with the next header: blocks that follow each other are alike
        try:
            self.header = self._sure_header(name)
        except JournalDamaged:
            if is_header_needed:
                raise
            numbers = segment_numbers(name) or (0, 0)
            self.header = SegmentHeader(FORMAT_VERSION, 0, *numbers, 0, 0, 0)

    def restore(self, offset: int = 0) -> bool:
        """Have a segment that is damaged as it is kept elsewhere.

        Args:
            offset: what comes before it is not damaged.

        Returns:
            Whether it was read from there now.
        """
        before = self._restored_from
        if (before is not None and before <= offset) or not self.file.restore(offset):
            return False
        self._restored_from = offset
        self._is_verified = False
        self._window = b""
        self.size_bytes = self.file.size()
        return True

    def _sure_header(self, name: str) -> SegmentHeader:
        try:
            return self._read_header(name)
        except JournalDamaged:
            if not self.restore():
                raise
            return self._read_header(name)

    def _read_header(self, name: str) -> SegmentHeader:
        data = self.file.read_at(0, SEGMENT_HEADER_BYTES)
        if len(data) < SEGMENT_HEADER_BYTES or not data.startswith(SEGMENT_MAGIC):
            raise JournalDamaged(self.full_name, 0, "it does not begin as a segment does")
        if _CRC.unpack_from(data, _CRC_OFFSET)[0] != crc32(data[:_CRC_OFFSET]):
            raise JournalDamaged(self.full_name, 0, "the segment's header fails its checksum")
        header = SegmentHeader(*_FIELDS.unpack_from(data, len(SEGMENT_MAGIC)))
        if header.version != FORMAT_VERSION:
            raise FormatNotSupported(
                f"{self.full_name} is written in version {header.version} of the journal's format; "
                f"this release reads version {FORMAT_VERSION}"
            )
        if header.name != name:
            raise JournalDamaged(self.full_name, 0, f"the file's name is not that of its header, {header.name}")
        return header

    def read(self, offset: int, size: int, window_bytes: int = _READ_BYTES) -> bytes:
        """Up to so many bytes from an offset, through a window; what is large goes past it."""
        start = offset - self._window_start
        if start < 0 or start + size > len(self._window):
            if size >= _LARGE_BLOCK_BYTES:
                return self.file.read_at(offset, size)
            self._window = self.file.read_at(offset, max(size, window_bytes))
            self._window_start = offset
            start = 0
        return self._window[start : start + size]

    def block_header(self, offset: int, window_bytes: int = _READ_BYTES) -> BlockHeader:
        """The block header at an offset.

        Args:
            window_bytes: how much is read with it, where it was not read with what came before.

        Raises:
            BadBlock: there is none.
        """
        data = self.read(offset, BLOCK_HEADER_BYTES, window_bytes)
        header = decode_block_header(data)
        if header is not None:
            return header
        if len(data) < BLOCK_HEADER_BYTES:
            raise BadBlock(offset, "the file ends where a block should begin")
        raise BadBlock(offset, "there is no intact block header")

    def block(self, offset: int) -> Block:
        """The block at an offset; a record that is larger than a block is put together.

        Raises:
            BadBlock: there is no intact one.
        """
        first, payload = self._piece(offset)
        if first.flags & BEGINS_INSIDE:
            raise BadBlock(offset, "the start of a large record is missing")
        end = offset + BLOCK_HEADER_BYTES + len(payload)
        if not first.flags & GOES_ON:
            return Block(offset, end, first, payload)
        pieces = [payload]
        header = first
        while header.flags & GOES_ON:
            header, payload = self._piece(end)
            if header.batch != first.batch or not header.flags & BEGINS_INSIDE:
                raise BadBlock(end, "the rest of a large record is missing")
            pieces.append(payload)
            end += BLOCK_HEADER_BYTES + len(payload)
        return Block(offset, end, header, b"".join(pieces))

    def _piece(self, offset: int) -> tuple[BlockHeader, bytes]:
        header = self.block_header(offset, self._window_bytes)
        self._window_bytes = _READ_BYTES if header.length_bytes < _LARGE_BLOCK_BYTES else BLOCK_HEADER_BYTES
        payload = self.read(offset + BLOCK_HEADER_BYTES, header.length_bytes)
        if len(payload) < header.length_bytes:
            raise BadBlock(offset, "the file ends inside a block")
        is_known = self._is_verified and not header.flags & HOLDS_DROPS
        if not is_known and crc32(payload) != header.payload_crc:
            raise BadBlock(offset, "a block fails its checksum")
        return header, payload

    def blocks(self, end: int | None = None) -> Iterator[Block]:
        """All blocks up to the seal, which is the last one yielded.

        Args:
            end: where they end without one, in the segment that was written to last; None where there must be a seal.

        Raises:
            BadBlock: where the blocks end without a seal.
        """
        offset = SEGMENT_HEADER_BYTES
        while offset != end:
            block = self._sure_block(offset)
            yield block
            if block.header.flags & IS_SEAL:
                if end is None and block.end != self.size_bytes:
                    raise BadBlock(block.end, "there are bytes after the segment's end")
                return
            offset = block.end

    def _sure_block(self, offset: int) -> Block:
        try:
            return self.block(offset)
        except BadBlock:
            if not self.restore():
                raise
            return self.block(offset)

    def _sure_block_header(self, offset: int, window_bytes: int) -> BlockHeader:
        try:
            return self.block_header(offset, window_bytes)
        except BadBlock:
            if not self.restore():
                raise
            return self.block_header(offset, window_bytes)

    def drops(self, end: int | None = None) -> Iterator[Block]:
        """Only the blocks that hold drops; the others are not read, only passed over.

        Args:
            end: as for `blocks`.

        Raises:
            BadBlock: where the blocks end without a seal.
        """
        offset = SEGMENT_HEADER_BYTES
        window_bytes = BLOCK_HEADER_BYTES
        while offset != end:
            header = self._sure_block_header(offset, window_bytes)
            window_bytes = _READ_BYTES if header.length_bytes < _LARGE_BLOCK_BYTES else BLOCK_HEADER_BYTES
            if header.flags & IS_SEAL:
                return
            if header.flags & HOLDS_DROPS:
                block = self._sure_block(offset)
                yield block
                offset = block.end
            else:
                offset += BLOCK_HEADER_BYTES + header.length_bytes

    def headers_after(self, offset: int) -> Iterator[tuple[int, BlockHeader]]:
        """Search the rest of the file for intact block headers, wherever they are: yield (offset, header) of each."""
        step = _READ_BYTES - BLOCK_HEADER_BYTES
        for start in range(offset, self.size_bytes, step):
            data = self.file.read_at(start, _READ_BYTES)
            for found, header in find_block_headers(data):
                if found < step:
                    yield start + found, header

    def last_nonzero_byte(self, offset: int) -> int:
        """One past the last byte after an offset that is not zero; the offset itself when there is none."""
        end = offset
        for start in range(offset, self.size_bytes, _READ_BYTES):
            data = self.file.read_at(start, _READ_BYTES)
            if data != _ZEROS[: len(data)]:  # compared at once; to strip them takes a hundred times as long
                end = start + len(data.rstrip(b"\0"))
        return end
