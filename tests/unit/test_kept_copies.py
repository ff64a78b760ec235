"""Copies of a store's files, and which of the segments among them were found intact before a start needs them."""

from __future__ import annotations

from random import Random
from typing import cast

import pytest

from amqp_broker.journal.journal import SegmentJournal
from amqp_broker.journal.kept_copies import NAMES, PIECES, KeptCopies
from amqp_broker.journal.kept_files import KeptFiles
from amqp_broker.journal.memory_files import MemoryFile, MemoryFiles
from amqp_broker.journal.port import LiveRecord
from amqp_broker.journal.records import Part
from tests.support.fake_store import FakeStore
from tests.unit.journal_helpers import SEGMENT_BYTES, commit


def opened(store: FakeStore) -> KeptFiles:
    """A store's files, read out of it."""
    files = KeptFiles(store, MemoryFiles())
    files.fetch()
    return files


def store_of(count: int) -> FakeStore:
    """A store with the journal of so many batches, most of which have a segment of their own."""
    store = FakeStore()
    journal = SegmentJournal(opened(store), SEGMENT_BYTES)
    assert list(journal.recover()) == []
    for number in range(count):
        journal.put(1, bytes([number]) * 3_000)
        commit(journal)
    return store


def verify_all(copies: KeptCopies) -> list[str]:
    """What was read, in order."""
    read = []
    while (name := copies.next_to_verify()) is not None:
        copies.verify(name)
        read.append(name)
    return read


def test_full_segments_are_read_once_and_again_when_they_change() -> None:
    store = store_of(5)
    copies = store.follow()
    names = sorted(copies.names)
    assert verify_all(copies) == names[:-1]
    assert copies.verified() == frozenset(names[:-1])
    assert verify_all(copies) == []
    key = next(key for key in sorted(store.keys) if key.startswith(f"{PIECES}{copies.names[names[1]]}/"))
    copies.put(key, store.keys[key][0])
    assert copies.verified() == frozenset(names[:-1]) - {names[1]}
    assert verify_all(copies) == [names[1]]
    assert copies.verified() == frozenset(names[:-1])


def test_what_is_damaged_is_not_verified_and_not_read_again_and_again() -> None:
    store = store_of(4)
    copies = store.follow()
    names = sorted(copies.names)
    key = next(key for key in sorted(store.keys) if key.startswith(f"{PIECES}{copies.names[names[0]]}/"))
    value = store.keys[key][0]
    copies.put(key, value[:200] + b"?" + value[201:])
    assert verify_all(copies) == names[:-1]
    assert copies.verified() == frozenset(names[1:-1])


def test_what_was_read_long_ago_does_not_count_and_is_read_again_the_oldest_first() -> None:
    copies = store_of(5).follow()
    *names, _ = sorted(copies.names)
    for now_s, name in enumerate((*names[1:], names[0])):
        assert copies.verify(name, now_s)
    assert copies.verified(2) == {names[0], *names[3:]}
    assert copies.next_to_verify(0) is None
    assert copies.next_to_verify(2) == names[1]
    copies.verify(names[1], 9)
    assert copies.next_to_verify(2) == names[2]


def damage(copies: KeptCopies, name: str, random: Random) -> None:
    """Change one bit of a copy."""
    file = cast(MemoryFiles, copies.local).open(copies.names[name])
    offset = random.randrange(file.size())
    (byte,) = file.read_at(offset, 1)
    file.write_at(offset, bytes([byte ^ 1 << random.randrange(8)]))


def live_records(journal: SegmentJournal) -> list[LiveRecord]:
    return [record for records in journal.recover() for record in records]


def test_a_bit_that_flips_in_a_copy_after_it_was_checked_changes_nothing_once_the_check_is_void() -> None:
    store = store_of(6)
    expected = live_records(SegmentJournal(opened(store), SEGMENT_BYTES))
    noted: list[str] = []
    for seed in range(160):
        random, copies = Random(seed), store.follow()
        store.followers.clear()
        verify_all(copies)
        damage(copies, random.choice(sorted(copies.names)), random)
        files = KeptFiles(store, copies.local, note_restored=noted.append)
        files.adopt(copies)
        found = live_records(SegmentJournal(files, SEGMENT_BYTES, verified=copies.verified(since_s=1)))
        assert found == expected, seed
    assert len(noted) > 100  # the others are in what is not written yet


@pytest.mark.parametrize("damage", ["", "a byte", "zeros"])
def test_an_unfinished_write_is_compared_with_the_store_from_there_on_and_told_where_it_differs(damage: str) -> None:
    store = store_of(1)
    files = opened(store)
    journal = SegmentJournal(files, 100_000)
    live_records(journal)
    for number in range(5):
        journal.put(1, bytes([65 + number]) * 9_000)
        commit(journal)
    name = files.names()[-1]
    file = files.open(name)
    end = file.read_at(0, file.size()).rindex(b"E" * 9_000) + 9_000
    file.write_at(end, b"torn")
    file.sync()
    copies, noted = store.follow(), list[str]()
    local = cast(MemoryFiles, copies.local).open(copies.names[name])
    if damage == "a byte":
        local.write_at(end - 50, b"?")
    elif damage:  # as if nothing had been written there
        before = local.read_at(0, end).rindex(b"D" * 9_000) + 9_000
        local.write_at(before, bytes(local.size() - before))
    files = KeptFiles(store, copies.local, note_restored=noted.append)
    files.adopt(copies)
    store.read_keys.clear()
    journal = SegmentJournal(files, 100_000)
    found = [payload for _, _, payload, _ in live_records(journal)]
    assert found[1:] == [bytes([65 + number]) * 9_000 for number in range(5)]
    assert journal.torn_tail is not None
    assert noted == ([f"store/{name}"] if damage else [])
    assert len(store.read_keys) <= 4, "pieces from the end on, and the size"


def test_a_copy_that_is_damaged_while_it_is_used_is_read_again() -> None:
    store = store_of(6)
    expected = live_records(SegmentJournal(opened(store), SEGMENT_BYTES))
    references = [reference for reference, *_ in expected]
    for seed in range(40):
        random, copies = Random(seed), store.follow()
        store.followers.clear()
        files = KeptFiles(store, copies.local)
        files.adopt(copies)
        journal = SegmentJournal(files, SEGMENT_BYTES)
        live_records(journal)
        damage(copies, random.choice(sorted(copies.names)[:-1]), random)
        payloads = journal.read_many(references) if seed % 2 else journal.view_many(references, 10_000)
        assert payloads == [payload for _, _, payload, _ in expected]


def test_a_segment_that_is_damaged_is_verified_when_it_was_read_again() -> None:
    store = store_of(4)
    copies = store.follow()
    name = sorted(copies.names)[0]
    damage(copies, name, Random(1))
    assert not copies.verify(name)
    copies.restore(name, store)
    assert copies.verify(name)
    copies.restore("gone", store)


def test_what_goes_before_it_is_read_is_passed_over() -> None:
    store = store_of(4)
    copies = store.follow()
    name = copies.next_to_verify()
    assert name is not None
    file_id = copies.names[name]
    copies.delete(f"{NAMES}{name}")
    copies.verify(name)  # its name has gone while a thread began
    copies.put(f"{NAMES}{name}", file_id.encode())
    for key in sorted(key for key in store.keys if key.startswith(f"{PIECES}{file_id}/")):
        copies.delete(key)
    copies.verify(name)  # its bytes have
    assert name not in copies.verified()


def test_what_was_read_before_a_change_was_written_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    store = store_of(4)
    copies = store.follow()
    name = copies.next_to_verify()
    assert name is not None
    key = next(key for key in sorted(store.keys) if key.startswith(f"{PIECES}{copies.names[name]}/"))
    value = store.keys[key][0]
    write_at = MemoryFile.write_at

    def write_late(file: MemoryFile, offset: int, *parts: Part) -> None:
        copies.verify(name)  # as another thread does
        write_at(file, offset, *parts)

    with monkeypatch.context() as patch:
        patch.setattr(MemoryFile, "write_at", write_late)
        copies.put(key, value[:200] + b"?" + value[201:])
    assert name not in copies.verified()
