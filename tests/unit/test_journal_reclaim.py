"""Freeing disk space: what is left of it, what pins what, and in which slices it is done."""

from __future__ import annotations

import errno
import os
from collections import deque
from random import Random

import pytest

from amqp_broker.journal.failures import JournalDamaged, JournalFailed
from amqp_broker.journal.journal import SegmentJournal
from amqp_broker.journal.memory_files import MemoryFiles
from amqp_broker.journal.reclaim import choose_segments
from amqp_broker.journal.records import RECORD_HEADER_BYTES
from tests.unit.journal_helpers import SEGMENT_BYTES, commit, opened, reclaim_all


def test_a_segment_without_a_live_record_is_deleted() -> None:
    files = MemoryFiles()
    journal, _ = opened(files)
    references = []
    for _ in range(40):
        references.append(journal.put(1, bytes(1000)))
        commit(journal)
    journal.drop_many(references)
    commit(journal)
    reclaim_all(journal)
    assert len(files.names()) <= 2
    assert files.used_bytes <= 2 * SEGMENT_BYTES
    assert journal.live_bytes == 0


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("order", ["oldest first", "newest first", "random", "every tenth stays"])
def test_disk_use_is_at_most_twice_what_is_live_and_two_segments(order: str, seed: int) -> None:
    random = Random(seed)
    files = MemoryFiles(seed)
    journal, _ = opened(files)
    live: dict[int, int] = {}
    for step in range(60):
        for _ in range(10):
            size = random.choice([0, 30, 100, 700])
            live[journal.put(1, bytes(size))] = size
        commit(journal)
        count = random.randrange(1, 20) if step < 40 else 20
        for reference in chosen(list(live), order, count, random):
            journal.drop(reference)
            del live[reference]
        commit(journal)
        reclaim_all(journal)
        live_bytes = sum(RECORD_HEADER_BYTES + size for size in live.values())
        assert files.used_bytes == journal.disk_bytes
        assert files.used_bytes <= 2 * live_bytes + 2 * SEGMENT_BYTES
    _, found = opened(files)
    assert {reference: len(payload) for reference, _, payload, _ in found} == live


def chosen(live: list[int], order: str, count: int, random: Random) -> list[int]:
    if order == "oldest first":
        return live[:count]
    if order == "newest first":
        return live[-count:]
    if order == "random":
        return random.sample(live, min(count, len(live)))
    return [reference for reference in live if reference % 10][:count]


def test_what_goes_from_its_beginning_on_is_not_copied_but_on_a_full_disk() -> None:
    files = MemoryFiles()
    journal, _ = opened(files)
    live: deque[int] = deque()
    wasteful = 0
    for _ in range(500):
        live.append(journal.put(1, bytes(200)))
        if len(live) > 200:
            journal.drop(live.popleft())
        commit(journal)
        while (work := journal.take_reclaim()) is not None:
            while not work.step():
                pass
            assert work.replacement is None, "it was copied"
            journal.reclaimed(work)
        closed = journal._index.segments[:-1]
        wasteful += len(choose_segments(closed, SEGMENT_BYTES, is_disk_full=True)) > 0
    assert wasteful > 100
    assert files.used_bytes <= 2 * journal.live_bytes + 2 * SEGMENT_BYTES


def test_one_live_record_does_not_pin_a_segment() -> None:
    """LavinMQ kept a whole segment for one unacknowledged message."""
    files = MemoryFiles()
    journal, _ = opened(files)
    kept = []
    for _ in range(100):
        kept.append(journal.put(1, b"kept"))
        others = [journal.put(1, bytes(900)) for _ in range(4)]
        commit(journal)
        journal.drop_many(others)
        commit(journal)
        reclaim_all(journal)
    assert [journal.read(reference) for reference in kept] == [(1, b"kept")] * 100
    assert files.used_bytes <= 3 * SEGMENT_BYTES
    assert len(files.names()) < 20


def test_drops_are_forgotten_only_after_their_records() -> None:
    """The segment with the drops dies first; the dropped records must stay dropped."""
    files = MemoryFiles()
    journal, _ = opened(files)
    first = [journal.put(1, bytes(100)) for _ in range(25)]
    commit(journal)
    filler = [journal.put(1, bytes(3000))]
    commit(journal)
    journal.drop_many(first[:5])
    filler.append(journal.put(1, bytes(3000)))
    commit(journal)
    filler.append(journal.put(1, bytes(3000)))
    commit(journal)
    journal.drop_many(filler)
    commit(journal)
    assert reclaim_all(journal) > 0
    _, found = opened(files)
    assert [reference for reference, _, _, _ in found] == first[5:]


def test_space_is_freed_only_for_drops_that_are_durable() -> None:
    files = MemoryFiles(seed=11)
    journal, _ = opened(files)
    old = [journal.put(1, bytes(1500)) for _ in range(2)]
    commit(journal)
    journal.put(1, bytes(3000))
    commit(journal)
    new = journal.put(2, b"new")
    journal.drop_many(old)
    commit(journal, sync=False)
    assert journal.take_reclaim() is None
    batch = journal.take_batch(sync=False)
    assert batch is not None, "it asks for a sync by itself"
    journal.write(batch)
    journal.committed(batch)
    assert reclaim_all(journal) == 1
    files.lose_power()
    _, found = opened(files)
    assert new in [reference for reference, _, _, _ in found]


def test_drops_committed_while_a_segment_is_rewritten_are_not_lost() -> None:
    files = MemoryFiles()
    journal, references = half_dead(files)
    reclaim = journal.take_reclaim()
    assert reclaim is not None
    survivors = references[::4]
    journal.drop_many(survivors[:2])
    commit(journal)
    while not reclaim.step():
        pass
    journal.drop(survivors[2])
    commit(journal)
    journal.reclaimed(reclaim)
    live_before = journal.live_bytes
    _, found = opened(files)
    assert [reference for reference, _, _, _ in found][: len(survivors) - 3] == survivors[3:]
    assert journal.live_bytes == live_before == sum(RECORD_HEADER_BYTES + len(record[2]) for record in found)


def half_dead(files: MemoryFiles) -> tuple[SegmentJournal, list[int]]:
    journal, _ = opened(files)
    references = [journal.put(1, bytes(100)) for _ in range(32)]
    commit(journal)
    journal.put(1, bytes(4000))
    commit(journal)
    journal.drop_many([reference for reference in references if (reference - references[0]) % 4])
    commit(journal)
    return journal, references


def test_a_full_disk_puts_it_off_and_changes_nothing() -> None:
    files = MemoryFiles()
    journal, references = half_dead(files)
    names = files.names()
    files.capacity_bytes = files.used_bytes
    reclaim = journal.take_reclaim()
    assert reclaim is not None
    while not reclaim.step():
        pass
    journal.reclaimed(reclaim)
    assert files.names() == names
    assert journal.failure == ""
    files.capacity_bytes = None
    journal.drop(references[0])
    commit(journal)
    assert reclaim_all(journal) == 1


def test_on_a_full_disk_goes_first_what_needs_no_copy() -> None:
    """A record that lives in the oldest segment, which all want to be rid of, keeps none of the others."""
    files = MemoryFiles()
    journal, _ = opened(files)
    kept = journal.put(1, b"kept")
    dead = []
    for _ in range(20):
        dead.append(journal.put(1, bytes(1000)))
        commit(journal)
    journal.drop_many(dead)
    commit(journal)
    files.capacity_bytes = files.used_bytes
    assert reclaim_all(journal) > 1
    assert files.used_bytes <= 2 * SEGMENT_BYTES
    assert journal.read(kept) == (1, b"kept")
    _, found = opened(files)
    assert [reference for reference, _, _, _ in found] == [kept]


def test_a_failing_disk_is_final() -> None:
    files = MemoryFiles()
    journal, _ = half_dead(files)
    reclaim = journal.take_reclaim()
    assert reclaim is not None
    files.fail_at_step = files.steps + 3
    while not reclaim.step():
        pass
    with pytest.raises(JournalFailed, match=os.strerror(errno.EIO)):
        journal.reclaimed(reclaim)
    with pytest.raises(JournalFailed):
        journal.take_batch()


def test_damage_that_is_met_is_told_and_left_alone() -> None:
    files = MemoryFiles()
    journal, _ = half_dead(files)
    name = files.names()[0]
    files._content(name).data[150] ^= 1
    before = files.content(name)
    reclaim = journal.take_reclaim()
    assert reclaim is not None
    while not reclaim.step():
        pass
    with pytest.raises(JournalDamaged, match=name):
        journal.reclaimed(reclaim)
    assert files.content(name) == before
    assert reclaim_all(journal) == 0
    journal.put(1, b"goes on")
    commit(journal)


def test_it_works_in_slices() -> None:
    files = MemoryFiles()
    journal, _ = opened(files, segment_bytes=8 * 1024 * 1024)
    references = [journal.put(1, bytes(1000)) for _ in range(7000)]
    commit(journal)
    journal.put(1, bytes(2 * 1024 * 1024))
    commit(journal)
    journal.drop_many([reference for reference in references if reference % 3])
    commit(journal)
    reclaim = journal.take_reclaim()
    assert reclaim is not None
    slices = 1
    while not reclaim.step():
        slices += 1
    assert slices > 20
    journal.reclaimed(reclaim)
    assert [journal.read(reference)[1] for reference in references if reference % 3 == 0] == [bytes(1000)] * 2333


def test_a_dropped_claim_of_a_record_that_is_kept_stays_dropped() -> None:
    """The record is rewritten, then the segment with the drop of its claim is."""
    files = MemoryFiles()
    journal, _ = opened(files)
    shared = journal.put(1, b"shared", claims=3)
    filler = [journal.put(1, bytes(3000))]
    commit(journal)
    journal.drop(shared + 1)
    filler.append(journal.put(1, bytes(3900)))
    commit(journal)
    journal.put(1, bytes(3000))
    commit(journal)
    journal.drop(filler[0])
    commit(journal)
    assert reclaim_all(journal) == 1
    journal.drop(filler[1])
    commit(journal)
    assert reclaim_all(journal) == 1
    _, found = opened(files)
    assert found[0] == (shared, 1, b"shared", [shared, shared + 2])


def test_a_shared_record_is_live_until_its_last_claim_is_dropped() -> None:
    files = MemoryFiles()
    journal, _ = opened(files)
    shared = journal.put(1, b"shared", claims=3)
    commit(journal)
    size = RECORD_HEADER_BYTES + len(b"shared")
    for dropped, live_bytes in ((shared + 2, size), (shared, size), (shared, size), (shared + 1, 0)):
        journal.drop(dropped)
        commit(journal)
        assert journal.live_bytes == live_bytes
