"""Copies of a store's files, and which of the segments among them were found intact before a start needs them."""

from __future__ import annotations

from amqp_broker.journal.journal import SegmentJournal
from amqp_broker.journal.kept_copies import PIECES, KeptCopies
from amqp_broker.journal.kept_files import KeptFiles
from amqp_broker.journal.memory_files import MemoryFiles
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
