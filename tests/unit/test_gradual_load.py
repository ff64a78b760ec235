"""Reading a store a page at a time: what changes meanwhile is there in the end, wherever the reading was."""

from __future__ import annotations

from itertools import islice

import pytest

from amqp_broker.journal.gradual_load import GradualLoad
from amqp_broker.journal.kept_copies import KeptCopies
from amqp_broker.journal.kept_files import Put
from amqp_broker.journal.memory_files import MemoryFiles
from tests.support.fake_store import FakeStore

SIZE = (4).to_bytes(8, "big")


def file_of(file_id: str, name: str, data: bytes) -> list[Put]:
    return [
        Put(f"d/{file_id}/000000000000", data),
        Put(f"d/{file_id}/size", SIZE),
        Put(f"f/{name}", file_id.encode()),
    ]


@pytest.mark.parametrize("pages_before", range(1, 8))
@pytest.mark.parametrize("file_id", list("abcde"))
def test_a_change_is_not_lost_wherever_the_reading_is(file_id: str, pages_before: int) -> None:
    """``b`` and ``d`` are there; each page has one key."""
    store, load = FakeStore(), GradualLoad(KeptCopies(MemoryFiles()))
    for one in "bd":
        store.commit([[*file_of(one, one, b"old!")]])

    def read_page() -> None:
        load.take(list(islice(store.entries("", load.place), 1)))

    for _ in range(pages_before):
        read_page()
    changes = file_of(file_id, "new", b"new!")
    store.commit([[*changes]])
    for change in changes:
        load.put(change.key, change.value)
    while not load.is_over:
        read_page()
    files, nameless = load.copies.take()
    expected = {"b": b"old!", "d": b"old!", "new": b"new!"} | ({file_id: b"new!"} if file_id in "bd" else {})
    assert {name: kept.local.read_at(0, 9) for name, kept in files.items()} == expected
    assert nameless == []


def test_what_is_read_between_two_transactions_of_a_sync_is_not_cut_off() -> None:
    """The first has a piece beyond the size that the second brings; nobody is told of the first any more."""
    store, load = FakeStore(), GradualLoad(KeptCopies(MemoryFiles()))
    store.commit([[*file_of("a", "x", b"head")]])
    store.commit([[Put("d/a/000000000004", b"tail")]])
    load.take(list(store.entries("")))
    load.put("d/a/size", (8).to_bytes(8, "big"))
    load.take([])
    files, _ = load.copies.take()
    assert files["x"].local.read_at(0, 9) == b"headtail"
