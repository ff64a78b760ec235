"""The journal: what its owner's thread does with it.

Holds the gathering of batches, the bookkeeping when they are committed, reading records again, and the start and the
end. The formats are in `records.py`, `blocks.py` and `segments.py`, the writing thread's work in `writer.py`, the
reading at the start in `recovery.py`, and the freeing of space in `reclaim.py`. `port.py` says what each call promises.

Who touches what: the owner's thread everything but the writer; the writing thread the writer and the batch that it was
given; any thread may `read`. A batch that was handed over stays readable until the index knows its records.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet

from amqp_broker.explanations import system_reason
from amqp_broker.journal.batches import GatheredBatch
from amqp_broker.journal.cold_reads import LyingRecord, lying_near, read_near, read_record, view_near
from amqp_broker.journal.failures import JournalDamaged, JournalFailed, JournalFull, NotAllowed, RecordGone, TornTail
from amqp_broker.journal.files import NOT_ALLOWED, FileSystem
from amqp_broker.journal.index import Index, Segment
from amqp_broker.journal.index_pages import SINGLE
from amqp_broker.journal.port import Batch, LiveRecord, Progress, Reclaim
from amqp_broker.journal.reclaim import SegmentReclaim, choose_segments
from amqp_broker.journal.records import CLAIMS_MAX, KIND_MAX, Part, Payload
from amqp_broker.journal.recovery import Recovery
from amqp_broker.journal.reserve import Reserve
from amqp_broker.journal.writer import SegmentWriter

SEGMENT_BYTES_DEFAULT = 64 * 1024 * 1024
SEGMENT_BYTES_MIN = 4 * 1024


class SegmentJournal:
    """A journal in the segments of one folder. See `amqp_broker.journal.port.Journal` for what each call does.

    Args:
        files: the folder; nobody else uses it meanwhile.
        segment_bytes: the size of a full segment; the first ones are smaller. Only new segments take notice of it.
        reserve_bytes: how much space is set aside for acknowledgements on a full disk; 0 sets none aside.
        verified: the names of segments that this process has read before to their ends, and found intact.
    """

    def __init__(
        self,
        files: FileSystem,
        segment_bytes: int = SEGMENT_BYTES_DEFAULT,
        reserve_bytes: int = 0,
        verified: AbstractSet[str] = frozenset(),
    ) -> None:
        if segment_bytes < SEGMENT_BYTES_MIN:
            raise ValueError(f"a segment of {segment_bytes} bytes is too small: at least {SEGMENT_BYTES_MIN}")
        self._files = files
        self._verified = verified
        self._segment_bytes = segment_bytes
        self._reserve = Reserve(files, reserve_bytes) if reserve_bytes else None
        self._index = Index()
        self._writer: SegmentWriter | None = None
        self._epoch = 0
        self._gathering = GatheredBatch(1)
        self._writing: GatheredBatch | None = None
        self._set_aside: deque[GatheredBatch] = deque()  # whole, and not taken yet; the first one is taken first
        self._set_aside_bytes = 0
        self._batches: tuple[GatheredBatch, ...] = (self._gathering,)
        self._reclaim: SegmentReclaim | None = None
        self._may_reclaim = True
        self._is_disk_full = False
        self._written_position = 0
        self._synced_position = 0
        self._must_sync = False
        """Space can be freed only for drops that are durable: whatever was asked for, the next batch is synced."""
        self._failure = ""
        self.torn_tail: TornTail | None = None
        """What recovery cut off."""

    # --- the start -------------------------------------------------------------------------------------------------

    def recover(self, progress: Progress | None = None) -> Iterator[list[LiveRecord]]:
        if self._writer is not None:
            raise RuntimeError("a journal is recovered once")
        recovery = Recovery(self._files, self._verified)
        try:
            yield from recovery.run(progress)
        except OSError as error:
            if error.errno in NOT_ALLOWED:
                raise NotAllowed(error.filename or "", system_reason(error)) from error
            raise JournalFailed(f"reading the journal failed: {system_reason(error)}") from error
        self.torn_tail = recovery.torn_tail
        self._epoch = recovery.epoch + 1
        self._index.set_segments(tuple(recovery.segments))
        self._writer = SegmentWriter(
            self._files,
            self._segment_bytes,
            self._epoch,
            recovery.number,
            recovery.batch,
            self._index.disk_bytes,
            self._reserve,
        )
        self._written_position = self._synced_position = recovery.next_reference
        self._gather(recovery.next_reference)

    def _gather(self, first_reference: int) -> None:
        self._gathering = GatheredBatch(first_reference)
        writing = (self._writing,) if self._writing is not None else ()
        self._batches = (*writing, *self._set_aside, self._gathering)

    # --- gathering -------------------------------------------------------------------------------------------------

    def put(self, kind: int, payload: Payload, claims: int = 1) -> int:
        batch = self._gathering
        records = batch.records
        reference = batch.first_reference + len(records)
        parts = payload if isinstance(payload, tuple) else (payload,)
        size_bytes = sum(map(len, parts))
        if not 1 <= claims <= CLAIMS_MAX or not 1 <= kind <= KIND_MAX:
            raise ValueError(f"a record of kind {kind} with {claims} claims cannot be kept")
        if claims == 1:
            records.append((kind, 1, size_bytes, parts))
            batch.flags.append(SINGLE)
            batch.put_bytes += size_bytes
        else:
            batch.put_shared((kind, claims, size_bytes, parts))
        return reference

    def read_soon(self) -> None:
        self._gathering.is_read_soon = True

    def drop(self, reference: int) -> None:
        batch = self._gathering
        index = reference - batch.first_reference
        if index < 0:
            batch.drops.append(reference)
        else:
            batch.drop(index)

    def drop_many(self, references: Iterable[int]) -> None:
        first = self._gathering.first_reference
        older = []
        for reference in references:
            if reference < first:
                older.append(reference)
            else:
                self._gathering.drop(reference - first)
        self._gathering.drops.extend(older)

    def replace(self, old: int | None, kind: int, payload: Payload) -> int:
        if old is not None:
            self.drop(old)
        return self.put(kind, payload)

    @property
    def position(self) -> int:
        return self._gathering.first_reference + len(self._gathering.records)

    @property
    def written_position(self) -> int:
        return self._written_position

    @property
    def synced_position(self) -> int:
        return self._synced_position

    @property
    def pending_bytes(self) -> int:
        writing = self._writing
        writing_bytes = writing.put_bytes if writing is not None else 0
        return self._gathering.put_bytes + self._set_aside_bytes + writing_bytes

    @property
    def gathered_bytes(self) -> int:
        return self._gathering.put_bytes

    @property
    def next_bytes(self) -> int:
        return self._set_aside[0].put_bytes if self._set_aside else self._gathering.put_bytes

    # --- group commit ----------------------------------------------------------------------------------------------

    def set_aside(self) -> None:
        batch = self._gathering
        batch.end()
        self._set_aside.append(batch)
        self._set_aside_bytes += batch.put_bytes
        self._gather(batch.end_position)

    @property
    def has_set_aside(self) -> bool:
        return len(self._set_aside) > 0

    def take_batch(self, *, sync: bool = True) -> GatheredBatch | None:
        if self._failure:
            raise JournalFailed(self._failure)
        if self._writing is not None:
            raise RuntimeError("a batch is taken only when the one before it is committed")
        sync = sync or self._must_sync
        if self._set_aside:
            batch = self._writing = self._set_aside.popleft()
            self._set_aside_bytes -= batch.put_bytes
            batch.sync = sync
            return batch
        if self._gathering.has_nothing_to_write:
            self._pass_over(self._gathering)
            if not sync or self._synced_position == self._written_position:
                return None
        batch = self._gathering
        batch.end()
        batch.sync = sync
        self._writing = batch
        self._gather(batch.end_position)
        return batch

    def _pass_over(self, batch: GatheredBatch) -> None:
        """All that was put was dropped again: that needs no thread to be as good as written."""
        if not batch.records:
            return
        is_synced = self._synced_position == self._written_position
        self._written_position = batch.first_reference + len(batch.records) + 1
        if is_synced:
            self._synced_position = self._written_position
        self._gather(self._written_position)

    def write(self, batch: Batch) -> None:
        if self._writer is None:
            raise RuntimeError("a journal is recovered before it is written to")
        taken = self._taken(batch)
        self._writer.write(taken)
        taken.unpacked = self._index.unpacked_for(taken.runs)

    def committed(self, batch: Batch) -> None:
        written = self._taken(batch)
        if written.outcome is not None:
            if isinstance(written.outcome, JournalFull):
                self._synced_position = self._written_position
                self._is_disk_full = self._may_reclaim = True
            else:
                self._failure = str(written.outcome)
            raise written.outcome
        self._is_disk_full = self.is_short_of_space
        self._install(written)
        self._writing = None
        self._batches = (*self._set_aside, self._gathering)
        self._must_sync = False
        had_nothing_to_sync = self._synced_position == self._written_position and written.offsets is None
        assert written.end_position > self._written_position  # positions only grow
        self._written_position = written.end_position
        if written.sync or had_nothing_to_sync:
            self._synced_position = written.end_position

    def _taken(self, batch: Batch) -> GatheredBatch:
        writing = self._writing
        if writing is None or batch is not writing:
            raise RuntimeError("this batch was not taken, or is committed already")
        return writing

    def _install(self, batch: GatheredBatch) -> None:
        if batch.new_segment is not None:
            self._add_segment(batch)
        if batch.offsets is None:
            return
        segment = self._index.segments[-1]
        segment.append(batch.first_reference, batch.flags, batch.offsets)
        segment.disk_bytes = batch.disk_bytes
        segment.drops.extend(batch.runs)
        if len(batch.runs):
            self._index.open(batch.unpacked)
            self._index.drop_runs(batch.runs)
            self._may_reclaim = True
            if self._reclaim is not None:
                self._reclaim.note_drops(batch.runs)
        self._index.pack_some(len(batch.flags), len(batch.drops))

    def _add_segment(self, batch: GatheredBatch) -> None:
        new = batch.new_segment
        if new is None:
            raise RuntimeError("no segment was begun")
        segments = self._index.segments
        if new.previous_bytes:
            segments[-1].disk_bytes = new.previous_bytes
        full_name = self._files.full_name(new.name)
        segment = Segment(new.name, full_name, (new.number, new.number), new.file, batch.first_reference)
        self._index.set_segments((*segments, segment))
        self._may_reclaim = True

    # --- reading again ---------------------------------------------------------------------------------------------

    def read(self, reference: int) -> tuple[int, bytes]:
        for batch in self._batches:
            if reference >= batch.first_reference:
                record = batch.record_of(reference)
                if record is not None:
                    return record.kind, record.payload
        segment = self._index.find(reference)
        extent = segment.extent_of(reference) if segment is not None else (0, 0)
        if segment is None or not extent[1]:
            raise RecordGone(f"the journal holds no live record {reference}")
        record = read_record(segment, extent)
        return record.kind, record.payload

    def has(self, reference: int) -> bool:
        """Whether a record is there; one that was dropped a moment ago may be."""
        for batch in self._batches:
            if reference >= batch.first_reference and batch.record_of(reference) is not None:
                return True
        segment = self._index.find(reference)
        return segment is not None and segment.extent_of(reference)[1] > 0

    def read_many(self, references: Sequence[int]) -> list[bytes]:
        payloads: list[bytes] = []
        while len(payloads) < len(references):
            next_reference = references[len(payloads)]
            segment = self._index.find(next_reference)
            near = read_near(segment, references, len(payloads)) if segment is not None else []
            payloads.extend(near or (self.read(next_reference)[1],))
        return payloads

    def view_many(self, references: Sequence[int], unchecked_bytes_min: int) -> list[Part]:
        payloads: list[Part] = []
        while len(payloads) < len(references):
            next_reference = references[len(payloads)]
            segment = self._index.find(next_reference)
            near: list[Part] = []
            if segment is not None:
                near = view_near(segment, references, len(payloads), unchecked_bytes_min, may_wait=True)
            payloads.extend(near or (self.read(next_reference)[1],))
        return payloads

    def view_now(self, references: Sequence[int], unchecked_bytes_min: int, bytes_max: int) -> list[Part]:
        segment = self._index.find(references[0])
        if segment is None:
            return []
        try:
            return view_near(segment, references, 0, unchecked_bytes_min, may_wait=False, bytes_max=bytes_max)
        except JournalDamaged:  # whoever waits for the disk is told
            return []

    def lying_now(self, references: Sequence[int], head_bytes: int, rest_bytes_min: int) -> list[LyingRecord]:
        lying: list[LyingRecord] = []
        while len(lying) < len(references):
            segment = self._index.find(references[len(lying)])
            near = (
                lying_near(segment, references, len(lying), head_bytes, rest_bytes_min) if segment is not None else []
            )
            if not near:
                break
            lying.extend(near)
        return lying

    # --- free space ------------------------------------------------------------------------------------------------

    def take_reclaim(self) -> SegmentReclaim | None:
        if self._reclaim is not None or not self._may_reclaim or self._failure:
            return None
        if self._must_sync and self._synced_position < self._written_position:
            return None  # it was found before that there is something to free, and it is not synced yet
        segments = self._index.segments
        chosen = choose_segments(segments[:-1], self._segment_bytes, self._is_disk_full)
        if not chosen:
            self._may_reclaim = False
        elif self._synced_position < self._written_position:
            self._must_sync = True
        else:
            self._reclaim = SegmentReclaim(self._files, segments, chosen, self._epoch)
        return self._reclaim

    def reclaimed(self, reclaim: Reclaim) -> None:
        work = self._reclaim
        if work is None or reclaim is not work:
            raise RuntimeError("this work was not taken, or is finished already")
        self._reclaim = None
        if work.outcome is not None:
            if isinstance(work.outcome, JournalFailed):
                self._failure = str(work.outcome)
            for segment in work.chosen:
                segment.is_damaged = True
            raise work.outcome
        if work.was_given_up:
            self._may_reclaim = False
            return
        self._replace(work)

    def _replace(self, reclaim: SegmentReclaim) -> None:
        replacement = reclaim.replacement
        if replacement is not None:
            for first, count in reclaim.drops_meanwhile:
                replacement.drop(first, count)
        segments = self._index.segments
        place = segments.index(reclaim.chosen[0])
        later = segments[place + len(reclaim.chosen) :]
        for segment in later:
            segment.overhead_bytes = 0  # its drops may have been for records that are gone now
        self._index.set_segments((*segments[:place], *([replacement] if replacement else []), *later))

    # --- a full disk -----------------------------------------------------------------------------------------------

    def keep_reserve(self) -> None:
        if self._reserve is None or self._failure:
            return
        try:
            self._reserve.keep()
        except OSError as error:
            raise JournalFailed(f"setting space aside in the journal's folder: {system_reason(error)}") from error

    @property
    def is_short_of_space(self) -> bool:
        return self._reserve is not None and self._reserve.is_released

    # --- the state of things ---------------------------------------------------------------------------------------

    @property
    def failure(self) -> str:
        return self._failure

    @property
    def live_bytes(self) -> int:
        return self._index.live_bytes

    @property
    def disk_bytes(self) -> int:
        return self._index.disk_bytes

    @property
    def is_wasteful(self) -> bool:
        return self.disk_bytes > 2 * (self.live_bytes + self._segment_bytes)

    def close(self) -> None:
        if self._writer is None or self._failure:
            return
        writer = self._writer
        while (batch := self._writing or self.take_batch()) is not None:
            writer.write(batch)
            self.committed(batch)
        try:
            writer.seal()
        except OSError as error:
            self._failure = f"closing the journal failed: {system_reason(error)}"
            raise JournalFailed(self._failure) from error
        self._failure = "the journal is closed"
