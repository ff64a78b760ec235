"""Freeing the disk space that dead records hold.

Holds the choice of segments that are worth it, and the work: the live records of a few neighbours are copied into one
segment that takes their place, or the segments are removed when nothing in them is needed.

What makes it subtle are drops. A drop has to stay on disk as long as the record that it ends does, or the record would
come back at the next start. So the drops in a segment are copied too, as far as their records still lie in older
segments; and a removal is made durable before the next drop is forgotten because of it.
"""

from __future__ import annotations

import contextlib
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence

from amqp_broker.explanations import system_reason
from amqp_broker.journal.blocks import BLOCK_HEADER_BYTES
from amqp_broker.journal.cold_reads import EncodedRecord, live_records
from amqp_broker.journal.failures import JournalDamaged, JournalError, JournalFailed
from amqp_broker.journal.files import NO_SPACE, FileSystem
from amqp_broker.journal.index import Segment
from amqp_broker.journal.records import Runs, record_base, record_claims, runs_of
from amqp_broker.journal.rewriting import RewrittenSegment
from amqp_broker.journal.segments import FORMAT_VERSION, IS_REWRITTEN, SEGMENT_HEADER_BYTES, SegmentHeader

SEGMENTS_AT_ONCE_MAX = 8
_RUNS_PER_STEP = 4096
_FRAME_BYTES = SEGMENT_HEADER_BYTES + 3 * BLOCK_HEADER_BYTES
"""What even the smallest segment takes besides records and drops."""


def choose_segments(closed: Sequence[Segment], segment_bytes: int, is_disk_full: bool = False) -> Sequence[Segment]:
    """The neighbours that are best rewritten next; empty when nothing is worth it.

    What can be removed without a copy goes first: on a full disk there is no space for copies, and this makes some.
    Then a segment is worth it when it is under half live, unless it goes from its beginning on, as a stream does and a
    queue that is consumed: what is left goes soon without a copy. So are the oldest with anything dead in them, when
    all together still take more than twice what is live (that is how drops are forgotten in the end), and small ones,
    when there are many.

    Args:
        closed: all segments that are not written to any more, in order.
        segment_bytes: the size of a full one.
        is_disk_full: whether any space is worth a copy.
    """
    for number, segment in enumerate(closed):
        if _needs_no_copy(segment):
            return _following(closed, number, _needs_no_copy)
    for number, segment in enumerate(closed):
        is_worth_it = _is_worth_a_copy(segment, is_disk_full)
        if not segment.is_damaged and (is_worth_it or (number == 0 and not segment.live_bytes)):
            return (
                _with_neighbours(closed, number, segment_bytes, is_disk_full)
                if segment.live_bytes
                else _following(closed, number, _is_dead)
            )
    disk_bytes = sum(segment.disk_bytes for segment in closed)
    if disk_bytes > 2 * sum(segment.live_bytes for segment in closed) + segment_bytes // 2:
        for number, segment in enumerate(closed):
            if not segment.is_damaged and _dead_bytes(segment) > segment.disk_bytes // 16:
                return _with_neighbours(closed, number, segment_bytes, is_disk_full)
    if len(closed) > 16 + 2 * (disk_bytes // segment_bytes):
        for number in range(len(closed)):
            chosen = _with_neighbours(closed, number, segment_bytes, is_disk_full)
            if len(chosen) > 1 and not chosen[0].is_damaged:
                return chosen
    return ()


def _dead_bytes(segment: Segment) -> int:
    return segment.disk_bytes - segment.live_bytes - max(segment.overhead_bytes, _FRAME_BYTES)


def _is_wasteful(segment: Segment) -> bool:
    overhead_bytes = max(segment.overhead_bytes, _FRAME_BYTES + segment.drops.encoded_bytes)
    return segment.disk_bytes > 2 * (segment.live_bytes + overhead_bytes)


def _is_worth_a_copy(segment: Segment, is_disk_full: bool) -> bool:
    """Whether it is wasteful, and does not go from its beginning on: most of what lies behind its first live record is
    dead as well.
    """
    if not _is_wasteful(segment):
        return False
    return is_disk_full or segment.live_bytes <= segment.bytes_from_first_live() // 2


def _is_dead(segment: Segment) -> bool:
    return not segment.live_bytes and not segment.is_damaged


def _needs_no_copy(segment: Segment) -> bool:
    return _is_dead(segment) and not segment.drops.encoded_bytes


def _following(closed: Sequence[Segment], low: int, is_like_it: Callable[[Segment], bool]) -> Sequence[Segment]:
    """A segment that holds nothing live, and those like it behind it. They go alone: on a full disk there is no space
    to copy what their neighbours hold.
    """
    high = low + 1
    while high - low < SEGMENTS_AT_ONCE_MAX and high < len(closed) and is_like_it(closed[high]):
        high += 1
    return closed[low:high]


def _with_neighbours(
    closed: Sequence[Segment], number: int, segment_bytes: int, is_disk_full: bool
) -> Sequence[Segment]:
    """A segment and those beside it that are small or worth it too, as long as one segment holds what is kept."""
    low, high = number, number + 1
    kept_bytes = closed[number].kept_bytes

    def fits(neighbour: int) -> bool:
        if high - low >= SEGMENTS_AT_ONCE_MAX or not 0 <= neighbour < len(closed):
            return False
        segment = closed[neighbour]
        is_small = segment.disk_bytes <= segment_bytes // 4 or _is_worth_a_copy(segment, is_disk_full)
        return is_small and not segment.is_damaged and kept_bytes + segment.kept_bytes <= segment_bytes

    while fits(high):
        kept_bytes += closed[high].kept_bytes
        high += 1
    while fits(low - 1):
        low -= 1
        kept_bytes += closed[low].kept_bytes
    return closed[low:high]


class SegmentReclaim:
    """The rewriting of a few neighbouring segments. `step` may run in another thread; all else is the owner's.

    Args:
        files: where the segments are.
        all_segments: all there are; those that are not chosen do not go away meanwhile.
        chosen: the neighbours to rewrite.
        epoch: the owner's.
    """

    def __init__(
        self, files: FileSystem, all_segments: Sequence[Segment], chosen: Sequence[Segment], epoch: int
    ) -> None:
        self._files = files
        self._older = [segment for segment in all_segments if segment.first_number < chosen[0].first_number]
        self._epoch = epoch
        self._first_reference = chosen[0].first_reference
        # Where the next segment begins: the last one of all is never chosen, because it is written to.
        self._end_reference = next(
            each for each in all_segments if each.first_number > chosen[-1].last_number
        ).first_reference
        self.chosen = chosen
        self.drops_meanwhile = Runs()
        """Drops in the chosen segments that were committed since this was made; the copies of the pages lack them."""
        self.replacement: Segment | None = None
        self.was_given_up = False
        self.outcome: JournalError | None = None
        self._pages = [segment.pages() for segment in chosen]
        self._rewritten: RewrittenSegment | None = None
        self._work = self._rewrite()

    def step(self) -> bool:
        """One slice of the work; True when there is nothing more to do."""
        try:
            next(self._work)
        except StopIteration:
            return True
        except JournalDamaged as damage:
            self.outcome = damage
            self._abandon()
            return True
        except OSError as error:
            if error.errno in NO_SPACE and self.replacement is None:
                self.was_given_up = True
                self._abandon()
            else:
                self.outcome = JournalFailed(f"rewriting the journal failed: {system_reason(error)}")
            return True
        return False

    def note_drops(self, runs: Runs) -> None:
        """Drops were committed, anywhere. Of a purge's that go on meanwhile most are for other segments.

        Args:
            runs: in ascending order.
        """
        low = max(bisect_right(runs.firsts, self._first_reference) - 1, 0)
        high = bisect_left(runs.firsts, self._end_reference)
        self.drops_meanwhile.firsts.extend(runs.firsts[low:high])
        self.drops_meanwhile.counts.extend(runs.counts[low:high])

    def release(self) -> None:
        """Let go of the segments that were replaced. May run in another thread: closing a large file that is removed
        takes as long as freeing its space does.
        """
        self.chosen = ()

    def _abandon(self) -> None:
        if self._rewritten is not None:
            with contextlib.suppress(OSError):  # the next start removes it
                self._rewritten.abandon()

    def _rewrite(self) -> Iterator[None]:
        dead_claims: list[int] = []
        for segment, pages in zip(self.chosen, self._pages, strict=True):
            for records in live_records(segment, pages):
                for record in records:
                    self._target().add(record)
                    if record_claims(record.data) > 1:
                        dead_claims.extend(_dead_claims(record))
                yield
        drops = runs_of(sorted(dead_claims))
        for segment in self.chosen:
            for part in self._needed_drops(segment):
                drops.extend(part)
                yield
        drops = drops.merged()
        if self._rewritten is None and not len(drops):
            self._remove_all()
            return
        self.replacement = self._target().finish(drops)
        yield
        self._remove_replaced(self.replacement)
        yield from self._drop_most(self.replacement)

    def _target(self) -> RewrittenSegment:
        if self._rewritten is None:
            first, last = self.chosen[0], self.chosen[-1]
            header = SegmentHeader(
                FORMAT_VERSION,
                IS_REWRITTEN,
                first.first_number,
                last.last_number,
                self._epoch,
                first.first_reference,
                0,
            )
            self._rewritten = RewrittenSegment(self._files, header)
        return self._rewritten

    def _needed_drops(self, segment: Segment) -> Iterator[Runs]:
        """Those drops in a segment whose records lie in segments that stay."""
        needed = Runs()
        for number, (first, count) in enumerate(segment.drops):
            for older in self._older:
                older.add_present(first, count, needed)
            if number % _RUNS_PER_STEP == _RUNS_PER_STEP - 1:
                yield needed
                needed = Runs()
        yield needed

    def _drop_most(self, replacement: Segment) -> Iterator[None]:
        """Drop in it what was dropped meanwhile, so that its pages need not be unpacked where the owner does."""
        count = len(self.drops_meanwhile.counts)  # they grow
        firsts, counts = self.drops_meanwhile.firsts[:count], self.drops_meanwhile.counts[:count]
        for number, (first, size) in enumerate(zip(firsts, counts, strict=True)):
            replacement.drop(first, size)
            if number % _RUNS_PER_STEP == _RUNS_PER_STEP - 1:
                yield

    def _remove_all(self) -> None:
        """Oldest first, each durably: a drop must not go before its record."""
        for segment in self.chosen:
            self._files.remove(segment.name)
            self._files.sync_folder()

    def _remove_replaced(self, replacement: Segment) -> None:
        for segment in self.chosen:
            if segment.name != replacement.name:
                self._files.remove(segment.name)
        self._files.sync_folder()


def _dead_claims(record: EncodedRecord) -> list[int]:
    base = record_base(record.data)
    live = set(record.live_claims)
    return [claim for claim in range(base, base + record_claims(record.data)) if claim not in live]
