"""The index of the segments on disk, in memory: where each record lies and which of its claims are live.

Holds the pages of each segment (``index_pages.py``), and which of them are packed: all but some that came last, or
in which something was dropped a while ago. Does not read nor write files; it only says where to read.

One thread, the owner's, changes it. Others may look a record up at any time: lists and arrays only grow at their ends,
a page is replaced as a whole, by the same one in another form, and so is the table of segments.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, TypeAlias

from amqp_broker.journal.files import File
from amqp_broker.journal.index_pages import (
    DEAD,
    SINGLE,
    IndexPage,
    cut_into_pages,
    live_bytes_of,
    unpacked,
)
from amqp_broker.journal.records import Runs

RECENT_PAGES = 64
"""So many are not packed: most messages of queues are dropped soon after they came."""
REFERENCES_PER_LOOK = 256
"""A page is looked at whenever as many have come or gone: twice as often as pages come."""
_LOOKS_MAX: Final = 16  # after a batch that brings little: each takes up to a tenth of a millisecond

_NO_REFERENCE: Final = 2**64
_NO_PAGE: Final = IndexPage(0, bytearray(), array("I", [0]))
"""In the place of one in which all is dead, too."""

PageOrPacked: TypeAlias = IndexPage | bytes
Unpacked: TypeAlias = dict[int, tuple[bytes, IndexPage]]
"""Pages by their first references: as they are packed, and the same ones unpacked."""


class Segment:
    """One segment's records by reference, page by page."""

    __slots__ = (
        "_end_offset",
        "_end_reference",
        "_firsts",
        "_has_gaps",
        "_live_from",
        "_pages",
        "_starts",
        "_unpacked",
        "disk_bytes",
        "drops",
        "file",
        "first_number",
        "first_reference",
        "full_name",
        "is_damaged",
        "last_number",
        "live_bytes",
        "name",
        "open_pages",
        "overhead_bytes",
    )

    def __init__(self, name: str, full_name: str, numbers: tuple[int, int], file: File, first_reference: int) -> None:
        self.name = name
        self.full_name = full_name
        self.first_number, self.last_number = numbers
        self.file = file
        self.first_reference = first_reference
        self.drops = Runs()
        self._pages: list[PageOrPacked] = []
        self._firsts = array("Q")  # the first reference of each
        self._starts = array("Q")  # the first offset of each
        self._unpacked: tuple[int, bytes, IndexPage] | None = None  # which was looked into last
        self._has_gaps = False
        self._end_reference = first_reference
        self._end_offset = 0
        self._live_from = 0  # no page before has a live claim
        self.open_pages: deque[int] = deque()
        """The first references of those that are not packed, and may be; those of all segments together, once it is in
        the index."""
        self.live_bytes = 0
        self.disk_bytes = 0
        self.overhead_bytes = 0
        """What rewriting it once more would not free, as far as is known."""
        self.is_damaged = False

    # --- what comes

    def append(self, first_reference: int, flags: bytearray, offsets: array[int]) -> None:
        """Add references that follow each other without a gap, all later than those already here.

        Args:
            first_reference: the first of them.
            flags: one for each; all that are live count as live bytes.
            offsets: one for each, and the end of the last record.
        """
        self._has_come(first_reference + len(flags), flags, offsets)
        last = self._pages[-1] if self._pages else None
        if isinstance(last, IndexPage) and last.takes(self._end_reference):
            last.append(first_reference, flags, offsets)
            return
        for low, high in cut_into_pages(offsets):
            page = IndexPage(first_reference + low, flags[low:high], offsets[low : high + 1])
            self.open_pages.append(page.first_reference)
            self._add(page, page)

    def append_packed(
        self, first_reference: int, flags: bytearray, offsets: array[int], references: array[int] | None
    ) -> None:
        """The same, of a segment that gets no more soon.

        Args:
            references: them, where they have gaps; none of a segment has been added without, then.
        """
        end_reference = first_reference + len(flags) if references is None else references[-1] + 1
        self._has_come(end_reference, flags, offsets)
        self._has_gaps = references is not None
        for low, high in cut_into_pages(offsets):
            some = None if references is None else references[low:high]
            first = first_reference + low if some is None else some[0]
            page = IndexPage(first, flags[low:high], offsets[low : high + 1], some)
            self._note_if_first(len(self._pages), is_dead=page.first_live() < 0)
            self._add(page, self._packed(page, len(self._pages)))

    def _has_come(self, end_reference: int, flags: bytearray, offsets: array[int]) -> None:
        self._end_reference = end_reference
        self._end_offset = offsets[-1]
        self.live_bytes += live_bytes_of(flags, offsets)

    def _note_if_first(self, number: int, *, is_dead: bool) -> None:
        """So `bytes_from_first_live` need not unpack a page to find out that all is dead in it."""
        if is_dead and number == self._live_from:
            self._live_from += 1

    def _add(self, page: IndexPage, page_or_packed: PageOrPacked) -> None:
        self._pages.append(page_or_packed)  # in this order: whoever finds the reference finds the page
        self._starts.append(page.offsets[0])
        self._firsts.append(page.first_reference)

    def _packed(self, page: IndexPage, number: int) -> bytes:
        """A page as it is kept: records that are alike, and come alike, make pages that are, which take memory once."""
        packed = page.packed()
        before = self._pages[number - 1] if number else b""
        return before if isinstance(before, bytes) and before == packed else packed

    def _unpack(self, number: int, packed: bytes) -> IndexPage:
        return unpacked(packed, self._firsts[number], self._starts[number])

    # --- where

    def page_of(self, reference: int) -> IndexPage:
        """The page that a reference is in, if it is here; else any, in which it is not."""
        number = bisect_right(self._firsts, reference) - 1
        return self._page(number) if number >= 0 else _NO_PAGE

    def extent_of(self, reference: int) -> tuple[int, int]:
        """The (offset, size) of the bytes in the file that hold a record, or a little more; no bytes where it is not
        here, or not live.
        """
        page = self.page_of(reference)
        index = page.index_of(reference)
        return page.extent(index) if index >= 0 and page.flags[index] != DEAD else (0, 0)

    def _page(self, number: int) -> IndexPage:
        page = self._pages[number]
        if isinstance(page, IndexPage):
            return page
        last = self._unpacked
        if last is None or last[0] != number or last[1] is not page:
            last = self._unpacked = (number, page, self._unpack(number, page))
        return last[2]

    def pages(self) -> list[PageOrPacked]:
        """All pages as they are now, those that are not packed copied: what is dropped later is not dropped in them."""
        return [page.copied() if isinstance(page, IndexPage) else page for page in self._pages]

    def unpacked(self, pages: Sequence[PageOrPacked]) -> Iterator[IndexPage]:
        """All of its pages as they were, one by one."""
        for number, page in enumerate(pages):
            yield page if isinstance(page, IndexPage) else self._unpack(number, page)

    def add_present(self, first: int, count: int, runs: Runs) -> None:
        """Add those references of a run to others that are here, be they dead or live."""
        if not self._has_gaps:
            low, high = max(first, self.first_reference), min(first + count, self._end_reference)
            if low < high:
                runs.append(low, high - low)
            return
        for number in self._numbers(first, count):
            page = self._page(number)
            low, high = page.indexes_of(first, count)
            for index in range(low, high):
                runs.append(page.reference_at(index), 1)

    def _numbers(self, first: int, count: int) -> range:
        """Which pages a run of references may be in."""
        low = max(bisect_right(self._firsts, first) - 1, 0)
        return range(low, bisect_left(self._firsts, first + count, low))

    # --- what goes

    def drop(self, first: int, count: int) -> None:
        """Mark a run of references as dead; those that are not here, or dead already, do not matter."""
        for number in self._numbers(first, count):
            page = self._open_page(number)
            self.live_bytes -= page.drop(first, count)
            is_whole = first <= page.first_reference and page.end_reference <= first + count
            if is_whole and self._may_leave(number):
                self._pages[number] = _NO_PAGE

    def _may_leave(self, number: int) -> bool:
        """Whether a page in which all is dead is not needed: nothing is added to it, and what was in it is known."""
        return not self._has_gaps and number < len(self._pages) - 1

    def _open_page(self, number: int) -> IndexPage:
        """A page that is about to change."""
        page = self._page(number)
        if page is not self._pages[number]:
            self._pages[number] = page
            self._unpacked = None
            self.open_pages.append(page.first_reference)
        page.is_touched = True
        return page

    def unpack_for(self, firsts: Sequence[int], counts: Sequence[int], ahead: Unpacked) -> None:
        """Add the pages that runs in ascending order are in to others, where they are packed. Any thread's."""
        end = 0
        for first, count in zip(firsts, counts, strict=True):
            if first + count <= end:
                continue
            for number in self._numbers(first, count):
                page = self._pages[number]
                if isinstance(page, bytes):
                    ahead[self._firsts[number]] = page, self._unpack(number, page)
                end = self._firsts[number + 1] if number + 1 < len(self._firsts) else _NO_REFERENCE

    def open(self, first_reference: int, packed: bytes, page: IndexPage) -> None:
        """A page is about to change; it was unpacked before, and if it is another one by now, it does not matter."""
        number = bisect_left(self._firsts, first_reference)
        if number < len(self._pages) and self._pages[number] is packed:
            self._pages[number] = page
            self._unpacked = None
            self.open_pages.append(first_reference)

    def drop_runs(self, runs: Iterable[tuple[int, int]]) -> None:
        """Mark many runs of references as dead: `drop` for each, faster where they are short."""
        base, flags, offsets = _NO_REFERENCE, _NO_PAGE.flags, _NO_PAGE.offsets
        for first, count in runs:
            index = first - base
            if not 0 <= index < len(flags) and not self._has_gaps:
                number = bisect_right(self._firsts, first) - 1
                page = self._open_page(number) if number >= 0 else _NO_PAGE
                base, flags, offsets = page.first_reference, page.flags, page.offsets
                index = first - base
            if count == 1 and 0 <= index < len(flags) and flags[index] == SINGLE:
                flags[index] = DEAD
                self.live_bytes -= offsets[index + 1] - offsets[index]
            else:
                self.drop(first, count)
        assert self.live_bytes >= 0

    def bytes_from_first_live(self) -> int:
        """How many bytes its first live record and all behind it take; 0 where none lives."""
        if not self.live_bytes:
            return 0
        for number in range(self._live_from, len(self._pages)):
            page = self._page(number)
            index = page.first_live()
            if index >= 0:
                self._live_from = number  # what is dead before it stays so
                return self._end_offset - page.offsets[index]
        return 0

    @property
    def kept_bytes(self) -> int:
        """What rewriting it would at most leave."""
        return self.live_bytes + self.drops.encoded_bytes

    # --- packing

    def pack(self, first_reference: int) -> bool:
        """Pack the page that has this first reference, unless something was dropped in it since this was asked last.

        Returns:
            Whether there is no such page any more that is not packed.
        """
        number = bisect_left(self._firsts, first_reference)
        page = self._pages[number] if number < len(self._firsts) else _NO_PAGE
        if not isinstance(page, IndexPage) or page.first_reference != first_reference:
            return True
        if page.is_touched:
            page.is_touched = False
            return False
        is_dead = page.first_live() < 0
        if number < len(self._pages) - 1:  # the last one may be opened again, and added to
            self._note_if_first(number, is_dead=is_dead)
        self._pages[number] = _NO_PAGE if is_dead and self._may_leave(number) else self._packed(page, number)
        return True


class Index:
    """All segments, in the order of their references."""

    def __init__(self) -> None:
        self._table: tuple[tuple[int, ...], tuple[Segment, ...]] = ((), ())
        self._open_pages: deque[int] = deque()
        self._references_since = 0  # that came and went, since a page was looked at last

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The segments, in order."""
        return self._table[1]

    def set_segments(self, segments: tuple[Segment, ...]) -> None:
        """Replace the table."""
        for segment in segments:
            if segment.open_pages is not self._open_pages:
                self._open_pages.extend(segment.open_pages)
                segment.open_pages = self._open_pages
        self._table = (tuple(segment.first_reference for segment in segments), segments)

    def find(self, reference: int) -> Segment | None:
        """The segment that a reference is in, if it is in any."""
        firsts, segments = self._table
        number = bisect_right(firsts, reference) - 1
        return segments[number] if number >= 0 else None

    def pack_some(self, came: int, went: int) -> None:
        """Pack pages that nothing was dropped in for a while, as many as keeps pace.

        Args:
            came: how many references were added since this was called last.
            went: how many were dropped.
        """
        self._references_since += came + went
        pages = self._open_pages
        for _ in range(_LOOKS_MAX + came // REFERENCES_PER_LOOK):
            if self._references_since < REFERENCES_PER_LOOK or len(pages) <= RECENT_PAGES:
                break
            self._references_since -= REFERENCES_PER_LOOK
            first_reference = pages.popleft()
            segment = self.find(first_reference)
            if segment is not None and not segment.pack(first_reference):
                pages.append(first_reference)
        self._references_since = min(self._references_since, 2 * len(pages) * REFERENCES_PER_LOOK)

    def drop(self, first: int, count: int) -> None:
        """Mark a run of references as dead, in whichever segments they are."""
        firsts, segments = self._table
        low = max(bisect_right(firsts, first) - 1, 0)
        high = bisect_left(firsts, first + count)
        for segment in segments[low:high]:
            segment.drop(first, count)

    def unpacked_for(self, runs: Runs) -> Unpacked:
        """The pages that `drop_runs` would have to unpack: another thread spares its owner that, which takes tens of
        microseconds for each, where each run is in a page of its own.
        """
        ahead: Unpacked = {}
        firsts, segments = self._table
        if not segments or not len(runs):
            return ahead
        low = 0
        for segment, bound in zip(segments, (*firsts[1:], _NO_REFERENCE), strict=True):
            high = bisect_left(runs.firsts, bound, low)
            segment.unpack_for(runs.firsts[low:high], runs.counts[low:high], ahead)
            low = high - 1 if high > low and runs.end_at(high - 1) > bound else high  # it may go on in the next one
        return ahead

    def open(self, ahead: Unpacked) -> None:
        """Have pages unpacked that were so ahead."""
        for first_reference, (packed, page) in ahead.items():
            segment = self.find(first_reference)
            if segment is not None:
                segment.open(first_reference, packed, page)

    def drop_runs(self, runs: Runs) -> None:
        """Mark runs that are in ascending order as dead, in whichever segments they are."""
        firsts, segments = self._table
        low = 0
        for segment, bound in zip(segments, (*firsts[1:], _NO_REFERENCE), strict=True):
            high = bisect_left(runs.firsts, bound, low)
            if high == low:
                continue
            segment.drop_runs(zip(runs.firsts[low:high], runs.counts[low:high], strict=True))
            if runs.end_at(high - 1) > bound:
                self.drop(bound, runs.end_at(high - 1) - bound)
            low = high

    @property
    def live_bytes(self) -> int:
        """The bytes of all live records."""
        return sum(segment.live_bytes for segment in self.segments)

    @property
    def disk_bytes(self) -> int:
        """The bytes of all files."""
        return sum(segment.disk_bytes for segment in self.segments)
