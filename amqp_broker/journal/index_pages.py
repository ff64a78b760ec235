"""A page of a segment's index: where the records of some references lie, and which of their claims are live.

Holds the page as it is while it changes, packed arrays of five bytes for each reference (thirteen where there are
gaps), and as it is kept while nobody changes it: compressed, which makes a tenth of a byte each of records
that are of one size, and about one of those that are not. Does not know files, nor which pages there are.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from itertools import compress, islice, repeat
from operator import sub
from typing import Final

from amqp_broker.journal.distances import compressed, decompressed, grown, planes_of_distances

DEAD: Final = 0
SINGLE: Final = 1
"""The flag of a live claim that is its record's only one."""
SHARED: Final = 2
"""The flag of a live claim of a record that began with several."""

PAGE_REFERENCES = 512
"""A page has so many, up to twice as many, and more where one record has; fewer only what comes in small batches."""

_PACKED: Final = struct.Struct("=IBB")  # how many flags, bytes of an offset, whether there are gaps


class IndexPage:
    """Some references that follow each other, in ascending order.

    The record of the reference at an index lies at ``offsets[index]``; the next different offset is one past its end.
    All claims of a record have the same offset, and are in one page. ``references`` is None where they follow each
    other without a gap from ``first_reference``. ``offsets`` has one entry more than ``flags``: the end of the last
    record.

    Args:
        first_reference: the first one.
        flags: one for each.
        offsets: one for each, and the end.
        references: them, where they have gaps.
    """

    __slots__ = ("first_reference", "flags", "is_touched", "offsets", "references")

    def __init__(
        self, first_reference: int, flags: bytearray, offsets: array[int], references: array[int] | None = None
    ) -> None:
        self.first_reference = first_reference
        self.flags = flags
        self.offsets = offsets
        self.references = references
        self.is_touched = False  # something was dropped since it was looked at

    def takes(self, end_reference: int) -> bool:
        """Whether references up to one, that is not among them, may be added."""
        size = end_reference - self.first_reference
        return size <= PAGE_REFERENCES or (size <= 2 * PAGE_REFERENCES and not fills_page(len(self.flags)))

    def append(self, first_reference: int, flags: bytearray, offsets: array[int]) -> None:
        """Add references that follow each other without a gap, all later than those already here.

        Args:
            first_reference: the first of them.
            flags: one for each.
            offsets: one for each, and the end of the last record.
        """
        missing = first_reference - self.first_reference - len(self.flags)
        self.flags.extend(bytes(missing))
        self.offsets.extend(repeat(self.offsets[-1], missing))
        if self.offsets.typecode != offsets.typecode:
            self.offsets = array("Q", self.offsets)
            offsets = array("Q", offsets)
        self.offsets[-1] = offsets[0]
        self.offsets.extend(offsets[1:])
        self.flags.extend(flags)

    # --- where

    @property
    def end_reference(self) -> int:
        """One past its last reference."""
        return self.first_reference + len(self.flags) if self.references is None else self.references[-1] + 1

    def index_of(self, reference: int) -> int:
        """The index of a reference; -1 when it is not here."""
        if self.references is None:
            index = reference - self.first_reference
            return index if 0 <= index < len(self.flags) else -1
        index = bisect_left(self.references, reference)
        return index if index < len(self.references) and self.references[index] == reference else -1

    def reference_at(self, index: int) -> int:
        """The reference at an index."""
        return self.first_reference + index if self.references is None else self.references[index]

    def indexes_of(self, first: int, count: int) -> tuple[int, int]:
        """The indexes (low, high) of those references of a run that are here."""
        if self.references is None:
            size = len(self.flags)
            low = min(max(first - self.first_reference, 0), size)
            return low, max(min(first + count - self.first_reference, size), low)
        return bisect_left(self.references, first), bisect_left(self.references, first + count)

    def extent(self, index: int) -> tuple[int, int]:
        """The (offset, size) of the bytes in the file that hold the record at an index, or a little more."""
        start = self.offsets[index]
        end = self.offsets[index + 1]
        if end == start:
            end = self.offsets[bisect_right(self.offsets, start, index)]
        return start, end - start

    def first_live(self) -> int:
        """The index of the first live claim; -1 where there is none."""
        single = self.flags.find(SINGLE)
        shared = self.flags.find(SHARED, 0, single if single >= 0 else len(self.flags))
        return shared if shared >= 0 else single

    # --- what goes

    def drop(self, first: int, count: int) -> int:
        """Mark a run of references as dead; those that are not here, or dead already, do not matter.

        Returns:
            How many bytes live no more.
        """
        low, high = self.indexes_of(first, count)
        flags = self.flags
        offsets = self.offsets
        if flags.count(SINGLE, low, high) == high - low:
            flags[low:high] = bytes(high - low)
            return offsets[high] - offsets[low]
        dropped_bytes = 0
        for index in range(low, high):
            flag = flags[index]
            flags[index] = DEAD
            if flag == SINGLE:
                dropped_bytes += offsets[index + 1] - offsets[index]
            elif flag == SHARED:
                dropped_bytes += self._unshared_bytes(index)
        return dropped_bytes

    def _unshared_bytes(self, index: int) -> int:
        """How many bytes the record at an index has, if none of its claims is live."""
        start = self.offsets[index]
        low = bisect_left(self.offsets, start, 0, index + 1)
        high = bisect_right(self.offsets, start, index)
        return self.offsets[high] - start if self.flags.find(SHARED, low, high) < 0 else 0

    # --- as a whole

    def copied(self) -> IndexPage:
        """The same page, in which nothing is dropped that is dropped here."""
        return IndexPage(self.first_reference, bytearray(self.flags), self.offsets, self.references)

    def packed(self) -> bytes:
        """All of it but the first reference and the first offset, in as little memory as may be: of pages that are
        alike the same.
        """
        offsets, references = self.offsets, self.references
        fields = _PACKED.pack(len(self.flags), offsets.itemsize, references is not None)
        pieces = [fields, bytes(self.flags), *planes_of_distances(offsets)]
        if references is not None:
            pieces += planes_of_distances(references)
        return compressed(b"".join(pieces))


def unpacked(data: bytes, first_reference: int, first_offset: int) -> IndexPage:
    """The page that was packed, whose first reference and first offset they were."""
    content = decompressed(data)
    count, offset_bytes, has_gaps = _PACKED.unpack_from(content)
    flags_end = _PACKED.size + count
    offsets_end = flags_end + count * offset_bytes
    typecode = "I" if offset_bytes == array("I").itemsize else "Q"
    flags = bytearray(content[_PACKED.size : flags_end])
    offsets = grown(typecode, first_offset, content[flags_end:offsets_end], count)
    references = grown("Q", first_reference, content[offsets_end:], count - 1) if has_gaps else None
    return IndexPage(first_reference, flags, offsets, references)


def fills_page(count: int) -> bool:
    """Whether so many references are enough for a page."""
    return count >= PAGE_REFERENCES


def cut_into_pages(offsets: array[int]) -> Iterator[tuple[int, int]]:
    """Cut references that have these offsets, and the end behind them, into pages: yield (low, high) of each."""
    count = len(offsets) - 1
    size = -(-count // max(1, count // PAGE_REFERENCES))
    low = 0
    while low < count:
        high = min(low + size, count)
        if offsets[high] == offsets[high - 1]:  # those that share a record stay together
            high = min(bisect_right(offsets, offsets[high], high), count)
        yield low, high
        low = high


def live_bytes_of(flags: bytearray, offsets: array[int]) -> int:
    """The bytes of the records that have a live claim."""
    if flags.find(DEAD) < 0:
        return offsets[-1] - offsets[0]
    if flags.find(SHARED) < 0:
        return sum(compress(map(sub, islice(offsets, 1, None), offsets), flags))
    live = 0
    start = -1
    for index in range(len(flags)):
        if flags[index] and offsets[index] != start:
            start = offsets[index]
            live += offsets[bisect_right(offsets, start, index)] - start
    return live
