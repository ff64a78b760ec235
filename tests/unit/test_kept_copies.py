"""Copies of a store's files, and which of the segments among them were found intact before a start needs them."""

from __future__ import annotations

import pytest

from amqp_broker.journal.journal import SegmentJournal
from amqp_broker.journal.kept_copies import NAMES, PIECES, KeptCopies
from amqp_broker.journal.kept_files import KeptFiles
from amqp_broker.journal.memory_files import MemoryFile, MemoryFiles
from amqp_broker.journal.records import Part
from tests.support.fake_store import FakeStore
from tests.unit.journal_helpers import SEGMENT_BYTES, commit


def store_of(count: int) -> FakeStore:
    """A store with the journal of so many batches, most of which have a segment of their own."""
    store = FakeStore()
    files = KeptFiles(store, MemoryFiles())
    files.fetch()
    journal = SegmentJournal(files, SEGMENT_BYTES)
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
    assert copies.verified == frozenset(names[:-1])
    assert verify_all(copies) == []
    key = next(key for key in sorted(store.keys) if key.startswith(f"{PIECES}{copies.names[names[1]]}/"))
    copies.put(key, store.keys[key][0])
    assert copies.verified == frozenset(names[:-1]) - {names[1]}
    assert verify_all(copies) == [names[1]]
    assert copies.verified == frozenset(names[:-1])


def test_what_is_damaged_is_not_verified_and_not_read_again_and_again() -> None:
    store = store_of(4)
    copies = store.follow()
    names = sorted(copies.names)
    key = next(key for key in sorted(store.keys) if key.startswith(f"{PIECES}{copies.names[names[0]]}/"))
    value = store.keys[key][0]
    copies.put(key, value[:200] + b"?" + value[201:])
    assert verify_all(copies) == names[:-1]
    assert copies.verified == frozenset(names[1:-1])


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
    assert name not in copies.verified


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
    assert name not in copies.verified
