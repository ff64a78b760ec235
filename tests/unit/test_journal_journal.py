"""The journal as its owner sees it: positions, claims, batches, reading again, failures."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import cast

import pytest

from amqp_broker.journal.cold_reads import VIEWED_BYTES
from amqp_broker.journal.failures import JournalDamaged, JournalFailed, JournalFull, RecordGone
from amqp_broker.journal.files import File, FileSystem
from amqp_broker.journal.journal import SegmentJournal
from amqp_broker.journal.memory_files import MemoryFiles
from amqp_broker.journal.port import Journal
from amqp_broker.journal.real_files import RealFiles
from amqp_broker.journal.records import Part
from amqp_broker.journal.stretches import FileStretch
from amqp_broker.journal.writer import FIRST_SEGMENT_BYTES
from tests.unit.journal_helpers import SEGMENT_BYTES, commit, live_payloads, opened, reclaim_all


@pytest.fixture(params=["memory", "real"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> FileSystem:
    """Either kind of file system."""
    return MemoryFiles() if request.param == "memory" else RealFiles(tmp_path / "data" / "journal")


def test_it_fills_the_port(files: FileSystem) -> None:
    journal: Journal = SegmentJournal(files)
    assert [record for records in journal.recover() for record in records] == []


def test_what_was_committed_is_there_after_a_restart(files: FileSystem) -> None:
    journal, found = opened(files)
    assert found == []
    first = journal.put(1, b"one")
    second = journal.put(2, b"two", claims=3)
    third = journal.put(3, b"")
    commit(journal)
    journal.drop(second + 1)
    commit(journal)
    journal.put(4, b"not committed")
    _, found = opened(files)
    assert found == [
        (first, 1, b"one", (first,)),
        (second, 2, b"two", [second, second + 2]),
        (third, 3, b"", (third,)),
    ]


def test_a_position_is_flushed_when_its_batch_is_committed(files: FileSystem) -> None:
    journal, _ = opened(files)
    reference = journal.put(1, b"x")
    mark = journal.position
    assert reference >= journal.written_position
    batch = journal.take_batch()
    assert batch is not None
    journal.drop(reference)
    later_mark = journal.position
    journal.write(batch)
    assert mark >= journal.written_position
    journal.committed(batch)
    assert reference < mark < journal.written_position == batch.end_position
    assert later_mark >= journal.written_position, "the drop is in the next batch"
    commit(journal)
    assert later_mark < journal.written_position
    assert journal.take_batch() is None


def test_a_record_dropped_in_its_own_batch_is_not_written_but_counts_as_flushed() -> None:
    files = MemoryFiles()
    journal, _ = opened(files)
    single = journal.put(1, b"single")
    shared = journal.put(1, b"shared", claims=2)
    journal.drop_many([single, shared, shared + 1])
    assert journal.pending_bytes == 0
    assert journal.take_batch() is None
    assert max(single, shared) < journal.synced_position == journal.written_position
    assert files.names() == []
    kept = journal.put(1, b"kept")
    assert kept > shared + 1
    commit(journal)
    assert live_payloads(opened(files)[1]) == [b"kept"]


def test_what_is_passed_over_does_not_count_as_synced_where_something_before_it_is_not() -> None:
    journal, _ = opened(MemoryFiles())
    before = journal.put(1, b"before")
    commit(journal, sync=False)
    journal.drop(journal.put(1, b"dropped again"))
    assert journal.take_batch(sync=False) is None
    assert journal.synced_position <= before < journal.written_position
    journal.drop(journal.put(1, b"dropped again"))
    batch = journal.take_batch(sync=True)
    assert batch is not None
    journal.write(batch)
    journal.committed(batch)
    assert journal.synced_position == journal.written_position


def test_a_record_partly_dropped_in_its_own_batch_keeps_the_other_claims(files: FileSystem) -> None:
    journal, _ = opened(files)
    reference = journal.put(1, b"shared", claims=3)
    journal.drop(reference)
    journal.drop(reference + 2)
    assert journal.read(reference + 1) == (1, b"shared")
    commit(journal)
    assert journal.read(reference + 1) == (1, b"shared")
    _, found = opened(files)
    assert found == [(reference, 1, b"shared", [reference + 1])]


def test_a_value_that_is_replaced_again_and_again_is_written_once_a_batch() -> None:
    files = MemoryFiles()
    journal, _ = opened(files)
    reference = None
    for number in range(50):
        reference = journal.replace(reference, 1, b"%d" % number)
    commit(journal)
    assert sum(files.content(name).count(b"\x01" + b"%d" % 49) for name in files.names()) == 1
    _, found = opened(files)
    assert live_payloads(found) == [b"49"]


def test_a_batch_larger_than_a_segment_and_its_blocks_is_one_batch() -> None:
    files = MemoryFiles(seed=3)
    journal, _ = opened(files)
    payloads = [bytes([number]) * 300_000 for number in range(4)]
    references = [journal.put(1, payload) for payload in payloads]
    commit(journal)
    assert [journal.read(reference)[1] for reference in references] == payloads
    for number in range(4):
        journal.put(2, bytes([number]) * 300_000)
    files.fail_at_step = files.steps + 6
    commit_fails(journal)
    files.lose_power()
    _, found = opened(files)
    assert live_payloads(found) == payloads


def commit_fails(journal: SegmentJournal) -> None:
    batch = journal.take_batch()
    assert batch is not None
    journal.write(batch)
    with pytest.raises(JournalFailed):
        journal.committed(batch)


def test_a_record_can_be_read_wherever_it_is(files: FileSystem) -> None:
    journal, _ = opened(files)
    reference = journal.put(9, b"payload" * 50)
    assert journal.read(reference) == (9, b"payload" * 50), "gathering"
    batch = journal.take_batch()
    assert batch is not None
    assert journal.read(reference) == (9, b"payload" * 50), "being written"
    journal.write(batch)
    journal.committed(batch)
    assert journal.read(reference) == (9, b"payload" * 50), "in the open segment"
    others = [journal.put(1, bytes(500)) for _ in range(50)]
    commit(journal)
    journal.put(1, bytes(SEGMENT_BYTES))
    commit(journal)
    journal.drop_many(others)
    commit(journal)
    assert reclaim_all(journal) > 0
    assert journal.read(reference) == (9, b"payload" * 50), "rewritten"
    journal.drop(reference)
    commit(journal)
    with pytest.raises(RecordGone):
        journal.read(reference)


def test_another_thread_reads_while_segments_come_and_go(tmp_path: Path) -> None:
    journal, _ = opened(RealFiles(tmp_path / "journal"))
    kept = [journal.put(1, b"%d" % number * 40) for number in range(20)]
    commit(journal)
    wrong: list[object] = []
    rounds = [0]
    is_over = threading.Event()

    def read() -> None:
        while not is_over.is_set():
            rounds[0] += 1
            for number, reference in enumerate(kept):
                try:
                    if journal.read(reference) != (1, b"%d" % number * 40):
                        wrong.append(reference)
                except Exception as error:
                    wrong.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        work = 0
        while work < 30 or not rounds[0]:
            others = [journal.put(1, bytes(400)) for _ in range(15)]
            commit(journal)
            journal.drop_many(others)
            commit(journal)
            work += reclaim_all(journal)
    finally:
        is_over.set()
        reader.join()
    assert not wrong


def test_a_full_disk_is_met_before_anything_is_written_and_is_not_final() -> None:
    files = MemoryFiles()
    journal, _ = opened(files)
    journal.put(1, b"before")
    commit(journal)
    journal.put(1, bytes(SEGMENT_BYTES))
    files.capacity_bytes = files.used_bytes + 100
    before = {name: files.content(name) for name in files.names()}
    batch = journal.take_batch()
    assert batch is not None
    journal.write(batch)
    with pytest.raises(JournalFull):
        journal.committed(batch)
    assert {name: files.content(name) for name in files.names()} == before
    assert journal.failure == ""
    files.capacity_bytes = None
    journal.write(batch)
    journal.committed(batch)
    _, found = opened(files)
    assert live_payloads(found) == [b"before", bytes(SEGMENT_BYTES)]


def test_a_small_segment_has_to_do_where_there_is_no_space_for_another() -> None:
    files = MemoryFiles()
    journal, _ = opened(files, 65_536)
    references = [journal.put(1, bytes(60_000))]
    commit(journal)
    files.capacity_bytes = files.used_bytes + 30_000
    for _ in range(4):
        references.append(journal.put(1, bytes(7000)))
        commit(journal)
    assert 0 <= files.capacity_bytes - files.used_bytes < 7000
    journal.drop(references[0])
    commit(journal)
    reclaim_all(journal)
    assert files.capacity_bytes - files.used_bytes > 60_000
    assert live_payloads(opened(files)[1]) == [bytes(7000)] * 4


def test_the_reserve_is_written_to_on_a_full_disk_and_kept_again_when_there_is_space() -> None:
    files = MemoryFiles()
    journal, _ = opened(files, reserve_bytes=3 * SEGMENT_BYTES)
    journal.keep_reserve()
    assert not journal.is_short_of_space
    references = [journal.put(1, bytes(SEGMENT_BYTES)) for _ in range(8)]
    commit(journal)
    files.capacity_bytes = files.used_bytes + 100
    journal.put(2, bytes(SEGMENT_BYTES))
    commit(journal)
    assert journal.is_short_of_space
    journal.keep_reserve()
    assert journal.is_short_of_space
    journal.drop_many(references)
    commit(journal)
    reclaim_all(journal)
    journal.keep_reserve()
    assert not journal.is_short_of_space
    journal.close()
    journal, found = opened(files, reserve_bytes=3 * SEGMENT_BYTES)
    assert live_payloads(found) == [bytes(SEGMENT_BYTES)]
    before = files.used_bytes
    journal.keep_reserve()
    assert (journal.is_short_of_space, files.used_bytes) == (False, before)


def test_a_disk_with_no_space_for_the_reserve_is_short_of_it() -> None:
    files = MemoryFiles()
    journal, _ = opened(files, reserve_bytes=3 * SEGMENT_BYTES)
    files.capacity_bytes = 2 * SEGMENT_BYTES
    journal.keep_reserve()
    assert journal.is_short_of_space
    assert files.names() == []


def test_segments_grow_from_small_ones_to_full_ones() -> None:
    files = MemoryFiles()
    journal, _ = opened(files, 4 * FIRST_SEGMENT_BYTES)
    sizes = []
    for _ in range(4):
        journal.put(1, bytes(FIRST_SEGMENT_BYTES // 2))
        journal.put(1, bytes(FIRST_SEGMENT_BYTES // 3))
        commit(journal)
        sizes.append(len(files.content(files.names()[-1])) // FIRST_SEGMENT_BYTES)
    assert sizes == [1, 2, 2, 4]
    journal.close()
    journal, _ = opened(files, 4 * FIRST_SEGMENT_BYTES)
    journal.put(1, b"after a restart")
    commit(journal)
    assert 3 < len(files.content(files.names()[-1])) / FIRST_SEGMENT_BYTES < 4


def test_a_failed_sync_is_final_and_is_not_tried_again() -> None:
    files = MemoryFiles()
    journal, _ = opened(files)
    journal.put(1, b"first")
    commit(journal)
    flushed = journal.written_position
    journal.put(1, b"second")
    files.fail_at_step = files.steps + 2
    commit_fails(journal)
    steps = files.steps
    journal.put(1, b"third")
    with pytest.raises(JournalFailed, match="Input/output error"):
        journal.take_batch()
    journal.close()
    assert files.steps == steps
    assert journal.written_position == flushed
    assert "Input/output error" in journal.failure


def test_without_sync_a_later_batch_syncs_what_was_written_before() -> None:
    files = MemoryFiles(seed=5)
    journal, _ = opened(files)
    journal.put(1, b"x")
    commit(journal, sync=False)
    assert journal.take_batch(sync=False) is None
    batch = journal.take_batch(sync=True)
    assert batch is not None
    journal.write(batch)
    journal.committed(batch)
    assert journal.take_batch(sync=True) is None
    files.lose_power()
    assert live_payloads(opened(files)[1]) == [b"x"]


@pytest.mark.parametrize(("kind", "claims"), [(0, 1), (1, 0), (0, 2), (256, 2), (1, 2**32)])
def test_what_cannot_be_kept_is_refused(kind: int, claims: int) -> None:
    journal, _ = opened(MemoryFiles())
    with pytest.raises(ValueError, match="cannot be kept"):
        journal.put(kind, b"", claims)


def test_batches_are_taken_one_at_a_time() -> None:
    journal, _ = opened(MemoryFiles())
    journal.put(1, b"")
    journal.take_batch()
    journal.put(1, b"")
    with pytest.raises(RuntimeError, match="only when the one before it is committed"):
        journal.take_batch()


def test_what_is_set_aside_is_taken_first_and_a_later_drop_of_it_is_written_behind_it(files: FileSystem) -> None:
    journal, _ = opened(files)
    one, two = journal.put(1, b"one"), journal.put(1, b"two", claims=2)
    journal.drop(two)
    journal.set_aside()
    journal.drop(one)
    three = journal.put(1, b"three!")
    assert journal.has_set_aside
    assert (journal.next_bytes, journal.gathered_bytes, journal.pending_bytes) == (6, 6, 12)
    assert [journal.read(reference)[1] for reference in (one, two + 1, three)] == [b"one", b"two", b"three!"]
    commit(journal)
    assert two < journal.synced_position <= three
    assert not journal.has_set_aside
    assert (journal.next_bytes, journal.pending_bytes) == (6, 6)
    assert journal.read(one)[1] == b"one"
    commit(journal)
    with pytest.raises(RecordGone):
        journal.read(one)
    _, found = opened(files)
    assert found == [(two, 1, b"two", [two + 1]), (three, 1, b"three!", (three,))]


def test_closing_writes_what_is_left(files: FileSystem) -> None:
    journal, _ = opened(files)
    journal.put(1, b"in flight")
    assert journal.take_batch() is not None
    journal.put(1, b"gathered")
    journal.close()
    journal.close()
    assert live_payloads(opened(files)[1]) == [b"in flight", b"gathered"]


def test_references_go_on_after_a_restart(files: FileSystem) -> None:
    journal, _ = opened(files)
    last = journal.put(1, b"x", claims=7) + 6
    commit(journal)
    journal.drop_many(range(last - 6, last + 1))
    commit(journal)
    journal.close()
    journal, found = opened(files)
    assert found == []
    assert journal.put(1, b"y") > last


# --- reading again without copies


def test_views_hold_what_reading_gives() -> None:
    files = MemoryFiles()
    journal, _ = opened(files, 1_000_000)
    sizes = [10, 100_000, 0, 300_000, 70_000, 5_000, 250_000]
    references = []
    for number, size in enumerate(sizes):
        references.append(journal.put(1, bytes((number,)) * size, claims=1 + number % 2) + number % 2)
        journal.put(2, bytes(200_000))
    assert journal.view_now(references, 0, 2_000_000) == [], "what is not written is at nobody's hand"
    assert journal.view_many(references, 0) == journal.read_many(references)
    commit(journal)
    assert journal.view_many(references, 0) == journal.read_many(references)
    assert journal.view_many(references, 1_000_000) == journal.read_many(references)
    assert journal.view_now(references, 0, 2_000_000) == []
    files.are_at_hand = True
    at_hand = journal.view_now(references, 0, 2_000_000)
    assert at_hand == journal.read_many(references[:3]), "the next one is cut by the journal"
    assert journal.view_now(references[4:], 0, 2_000_000) == journal.read_many(references[4:])
    assert [len(journal.view_now(references, 0, size)) for size in (1, 190_000, 210_000)] == [1, 1, 2]


def test_a_record_that_is_larger_than_what_is_wanted_is_not_read_behind_another() -> None:
    files = MemoryFiles()
    files.are_at_hand = True
    journal, _ = opened(files, 1_000_000)
    references = [journal.put(1, bytes(size)) for size in (16_000, 40_000, 200_000)]
    commit(journal)
    assert [len(record) for record in journal.view_now(references, 0, 65_536)] == [16_000, 40_000]
    assert [len(record) for record in journal.view_now(references[2:], 0, 65_536)] == [200_000]


def test_records_that_lie_far_apart_are_not_all_read_in_one_go() -> None:
    files = MemoryFiles()
    files.are_at_hand = True
    journal, _ = opened(files, 10_000_000)
    references = []
    for number in range(30):
        references.append(journal.put(1, bytes((number,))))
        journal.put(2, bytes(200_000))
    commit(journal)
    found = journal.view_now(references, 0, VIEWED_BYTES)
    assert 0 < len(found) < 2 * VIEWED_BYTES // 200_000 + 4
    assert found == journal.read_many(references[: len(found)])


class Lacking:
    """A file of which some bytes are not in the system's memory."""

    def __init__(self, file: File, first: int, size: int) -> None:
        self._file = file
        self._lacking = range(first, first + size)

    def read_now(self, offset: int, size: int) -> Part | None:
        if offset < self._lacking.stop and self._lacking.start < offset + size:
            return None
        return self._file.read_now(offset, size)

    def stretch(self, offset: int, size: int) -> FileStretch | None:
        return self._file.stretch(offset, size)


@pytest.mark.parametrize(("first", "size"), [(100_000, 70_000), (199_990, 10_000), (0, 20)])
def test_a_record_that_is_not_in_memory_as_a_whole_does_not_go_out_as_it_lies(first: int, size: int) -> None:
    files = MemoryFiles()
    files.are_at_hand = True
    journal, _ = opened(files, 1_000_000)
    reference = journal.put(1, b"r" * 200_000)
    commit(journal)
    assert len(journal.lying_now([reference], 10, 100)) == 1
    segment = journal._index.find(reference)
    assert segment is not None
    start, _ = segment.extent_of(reference)
    segment.file = cast(File, Lacking(segment.file, start + first, size))
    assert journal.lying_now([reference], 10, 100) == []


def test_only_the_content_of_a_large_view_is_not_compared() -> None:
    files = MemoryFiles()
    files.are_at_hand = True
    journal, _ = opened(files, 1_000_000)
    small, large = journal.put(1, b"s" * 99), journal.put(1, b"l" * 100)
    commit(journal)
    (name,) = files.names()
    content = files.content(name)
    file = files.open(name)
    file.write_at(content.index(b"l" * 100) + 50, b"x")
    (view,) = journal.view_many([large], 100)
    assert bytes(view) == b"l" * 50 + b"x" + b"l" * 49
    with pytest.raises(JournalDamaged):
        journal.view_many([large], 101)
    file.write_at(content.index(b"s" * 99) + 50, b"x")
    with pytest.raises(JournalDamaged):
        journal.view_many([small, large], 100)
    assert journal.view_now([small, large], 100, 1_000) == [], "whoever waits for the disk is told"
    file.write_at(content.index(b"l" * 100) - 13, b"x")  # its reference
    with pytest.raises(JournalDamaged):
        journal.view_many([large], 100)
