"""The journal's index beside a plain table of all records, whatever comes and goes, and is packed meanwhile."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from itertools import pairwise
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amqp_broker.journal.files import File
from amqp_broker.journal.index import Index, Segment
from amqp_broker.journal.index_pages import DEAD, SHARED, SINGLE, IndexPage, unpacked
from amqp_broker.journal.records import Runs, runs_of
from tests.unit.journal_helpers import small_index_pages

HEADER_BYTES = 44


@pytest.fixture(autouse=True, scope="module")
def few_references_are_many() -> Iterator[None]:
    with small_index_pages():
        yield


class Table:
    """Where each record is, and which claims of it live.

    Args:
        base: where the segment begins; more than fits four bytes in some examples.
    """

    def __init__(self, base: int) -> None:
        self.end = base
        self.next_reference = 1
        self.extents: dict[int, tuple[int, int]] = {}
        self.claims: dict[int, int] = {}  # of each reference, that of the first claim of its record
        self.sizes: dict[int, int] = {}  # by the first claim: what it takes, the header of a block behind it included
        self.live: set[int] = set()

    def batch(self, records: list[tuple[int, int]], unused: int) -> tuple[int, bytearray, array[int]]:
        """What a batch brings.

        Args:
            records: how many claims each has, none for one that was dropped before it was written, and its bytes.
            unused: so many references are left out before it.
        """
        self.next_reference += unused
        first = self.next_reference
        flags = bytearray()
        offsets: list[int] = []
        offset = self.end + HEADER_BYTES
        for claims, size in records:
            flags.extend({0: [DEAD], 1: [SINGLE]}.get(claims, [SHARED] * claims))
            for claim in range(self.next_reference, self.next_reference + claims):
                self.claims[claim] = self.next_reference
                self.extents[claim] = offset, size
                self.live.add(claim)
            self.sizes[self.next_reference] = size
            offsets.extend([offset] * max(1, claims))
            offset += size if claims else 0
            self.next_reference += max(1, claims)
        offsets.append(offset)
        self.end = offset
        return first, flags, array("I" if offset < 2**32 else "Q", offsets)

    def drop(self, references: list[int]) -> None:
        self.live.difference_update(references)

    def live_bytes(self, first: int, end: int) -> int:
        """Of the records from one reference to another one."""
        bases = {self.claims[claim] for claim in self.live if first <= claim < end}
        return sum(self.sizes[base] for base in bases)


SIZES = st.just(100) | st.integers(21, 90_000)  # many are alike
RECORDS = st.lists(st.tuples(st.sampled_from([0, 1, 1, 1, 1, 2, 5, 11]), SIZES), max_size=14)
BATCHES = st.lists(
    st.tuples(
        RECORDS,
        st.integers(0, 20),
        st.booleans(),  # whether the segment ends behind it
        st.lists(st.tuples(st.floats(0, 1), st.sampled_from([1, 1, 3, 40])), max_size=4),  # runs that go
        st.sampled_from([0, 0, 1, 3]),  # which of them go before their pages are opened; 0: none
    ),
    min_size=1,
    max_size=14,
)


def new_segment(index: Index, first_reference: int) -> Segment:
    number = len(index.segments) + 1
    segment = Segment(f"{number}", f"{number}", (number, number), cast(File, None), first_reference)
    index.set_segments((*index.segments, segment))
    return segment


def agree(index: Index, table: Table) -> None:
    """Both know the same."""
    firsts = [segment.first_reference for segment in index.segments]
    for segment, (first, end) in zip(index.segments, pairwise([*firsts, table.next_reference]), strict=True):
        assert segment.live_bytes == table.live_bytes(first, end)
        present = Runs()
        segment.add_present(0, 2**31, present)
        claims = {claim for claim in table.claims if first <= claim < end}
        assert claims.issubset(one for start, count in present for one in range(start, start + count)), "dead or not"
        live = [
            page.reference_at(place)
            for page in segment.unpacked(segment.pages())
            for place, flag in enumerate(page.flags)
            if flag
        ]
        assert live == sorted(claim for claim in table.live if first <= claim < end)
        if live:
            last = max(claim for claim in table.claims if first <= claim < end)
            behind = sum(table.extents[last]) - table.extents[live[0]][0]
            assert behind <= segment.bytes_from_first_live() <= behind + 100_000 * HEADER_BYTES
        else:
            assert segment.bytes_from_first_live() == 0
    for reference in range(table.next_reference + 2):
        found = index.find(reference)
        extent = found.extent_of(reference) if found is not None else (0, 0)
        if reference in table.live:
            start, size = table.extents[reference]
            assert extent[0] == start
            assert size <= extent[1]
        else:
            assert extent == (0, 0)


@settings(deadline=None)
@given(batches=BATCHES, base=st.sampled_from([64, 2**32 - 70_000, 2**33]))
def test_what_comes_and_goes_is_known_however_it_is_packed(
    batches: list[tuple[list[tuple[int, int]], int, bool, list[tuple[float, int]], int]], base: int
) -> None:
    index, table = Index(), Table(base)
    segment = new_segment(index, 1)
    for records, unused, is_end, runs, meanwhile in batches:
        first, flags, offsets = table.batch(records, unused)
        segment.append(first, flags, offsets)
        starts = [(int(place * table.next_reference), count) for place, count in runs]
        gone = sorted({reference for start, count in starts for reference in range(start, start + count)})
        dropped = runs_of(gone)
        table.drop(gone)
        ahead = index.unpacked_for(dropped)  # what goes meanwhile, and is packed again, is another page than there
        for reference in gone[::meanwhile] if meanwhile else ():
            index.drop(reference, 1)
            index.pack_some(0, 1)
        index.open(ahead)
        index.drop_runs(dropped)
        index.pack_some(len(flags), len(gone))
        table.next_reference += 1  # each batch leaves one out
        agree(index, table)
        if is_end:
            segment = new_segment(index, table.next_reference)
    for reference in sorted(table.live):
        index.drop(reference, 1)
        table.drop([reference])
        index.pack_some(0, 1)
    agree(index, table)


@settings(deadline=None)
@given(
    gaps=st.lists(st.tuples(st.integers(1, 2**20), st.sampled_from([1, 1, 1, 3, 9])), min_size=1, max_size=40),
    sizes=st.lists(st.integers(21, 2**31 + 21), min_size=40, max_size=40),
    dropped=st.lists(st.integers(0, 100), max_size=60),
)
def test_references_with_gaps_are_found_in_packed_pages(
    gaps: list[tuple[int, int]], sizes: list[int], dropped: list[int]
) -> None:
    references, flags, offsets = array("Q"), bytearray(), array("Q")
    reference, offset = 0, 108
    live: dict[int, int] = {}
    for (gap, claims), size in zip(gaps, sizes, strict=False):
        reference += gap
        for _ in range(claims):
            references.append(reference)
            flags.append(SINGLE if claims == 1 else SHARED)
            offsets.append(offset)
            live[reference] = offset
            reference += 1
        offset += size
    offsets.append(offset)
    segment = Segment("", "", (1, 1), cast(File, None), 1)
    segment.append_packed(references[0], flags, offsets, references)
    index = Index()
    index.set_segments((segment,))
    for number in dropped:
        gone = references[number % len(references)]
        live.pop(gone, None)
        index.drop(gone, 1)
        index.pack_some(0, 1)
        assert {one: segment.extent_of(one)[0] for one in references if segment.extent_of(one)[1]} == live
    index.drop(references[0], references[-1])
    index.pack_some(0, 9 * len(references))
    index.pack_some(0, 9 * len(references))
    assert segment.live_bytes == segment.bytes_from_first_live() == 0
    present = Runs()
    segment.add_present(0, references[-1] + 9, present)
    assert [first for first, _ in present] == list(references)
    assert segment.extent_of(references[-1] + 1) == segment.extent_of(references[0] - 1) == (0, 0)


@given(
    flags=st.binary(min_size=1, max_size=300),
    first=st.integers(0, 2**40),
    steps=st.lists(st.integers(0, 2**33), min_size=300, max_size=300),
    has_gaps=st.booleans(),
)
def test_a_page_that_is_unpacked_is_what_was_packed(flags: bytes, first: int, steps: list[int], has_gaps: bool) -> None:
    offsets, references = array("Q", [first]), array("Q", [first])
    for step in steps[: len(flags)]:
        offsets.append(offsets[-1] + step)
        references.append(references[-1] + 1 + step)
    page = IndexPage(first, bytearray(flags), offsets, references[:-1] if has_gaps else None)
    same = unpacked(page.packed(), first, page.offsets[0])
    assert (same.flags, same.offsets, same.references) == (page.flags, page.offsets, page.references)
    assert (same.offsets.typecode, same.first_reference) == (page.offsets.typecode, first)


@given(
    gone=st.lists(st.integers(1, 80), min_size=1, max_size=20).map(sorted),
    count=st.sampled_from([1, 2, 30]),
    ends=st.integers(1, 80),
    has_gaps=st.booleans(),
)
def test_pages_that_were_unpacked_ahead_are_not_unpacked_where_runs_are_dropped(
    gone: list[int], count: int, ends: int, has_gaps: bool
) -> None:
    index = Index()
    for first, end in ((1, ends), (ends, 81)):
        segment = new_segment(index, first)
        if first < end:
            flags, offsets = bytearray([SINGLE] * (end - first)), array("I", range(64, 64 + 21 * (end - first + 1), 21))
            segment.append_packed(first, flags, offsets, array("Q", range(first, end)) if has_gaps else None)
    runs = runs_of(sorted({one for first in gone for one in range(first, min(first + count, 81))}))
    index.open(index.unpacked_for(runs))
    pages_before = [page for segment in index.segments for page in segment.pages()]
    index.drop_runs(runs)
    pages_after = [page for segment in index.segments for page in segment.pages()]
    for before, after in zip(pages_before, pages_after, strict=True):
        assert isinstance(before, bytes) == isinstance(after, bytes)


def test_a_page_that_may_get_more_is_kept_though_all_in_it_is_dead() -> None:
    for _ in range(2):
        index = Index()
        segment = new_segment(index, 1)
        segment.append(1, bytearray([SINGLE]), array("I", [64, 85]))
        index.drop(1, 1)
        segment.append(3, bytearray([SINGLE]), array("I", [129, 150]))
        assert (segment.extent_of(3), segment.live_bytes) == ((129, 21), 21)
        assert [page.end_reference for page in segment.pages() if isinstance(page, IndexPage)] == [4]


def test_pages_of_records_that_are_alike_take_memory_once() -> None:
    index = Index()
    segment = new_segment(index, 1)
    count = 40
    offsets = array("I", range(64, 64 + 21 * (count + 1), 21))
    segment.append_packed(1, bytearray([SINGLE] * count), offsets, None)
    packed = [page for page in segment.pages() if isinstance(page, bytes)]
    assert len(packed) > 5
    assert len({id(page) for page in packed}) == 1
    assert [segment.extent_of(1 + place) for place in range(count)] == [(start, 21) for start in offsets[:-1]]
    index.drop(17, 1)
    assert [one for one in range(1, count + 1) if not segment.extent_of(one)[1]] == [17]
