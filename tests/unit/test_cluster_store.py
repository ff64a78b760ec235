"""Reading etcd's keys as they stood at one revision; no etcd."""

from __future__ import annotations

from amqp_broker.cluster.store import StoreAtOneRevision
from amqp_broker.etcd import protobuf as wire
from amqp_broker.journal.kept_copies import NAMES, PIECES, KeptCopies
from amqp_broker.journal.memory_files import MemoryFiles
from tests.support.fake_store import FakeStore


class GrowingEtcd:
    """It has nothing at first, and a file after it was asked once; answers as of the revision that it is asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []

    def read(self, request: bytes) -> bytes:
        fields = wire.decode(request)
        prefix, revision = wire.data_of(fields, 1).decode(), wire.integer_of(fields, 4)
        self.asked.append((prefix, revision))
        header = wire.data(1, wire.integer(3, 6 + len(self.asked)))
        is_there = len(self.asked) > 1 and revision in (0, 8)
        if not is_there or not prefix.startswith("shard/d/"):
            return header
        piece = wire.data(1, b"shard/d/id/000000000000") + wire.integer(3, 8) + wire.data(5, b"bytes")
        return header + wire.data(2, piece)


def test_what_comes_while_it_is_read_is_from_later_even_if_there_was_nothing_at_first() -> None:
    """A standby that had a new file's bytes without its name would take them for rubbish, and remove them."""
    etcd = GrowingEtcd()
    store = StoreAtOneRevision(etcd.read, "shard/")
    copies = KeptCopies(MemoryFiles())
    copies.load(store)
    assert etcd.asked == [(f"shard/{NAMES}", 0), (f"shard/{PIECES}", 7)]
    assert (copies.names, copies.take(), store.revision) == ({}, ({}, []), 7)


def test_copies_that_lack_a_name_are_known() -> None:
    store = FakeStore()
    copies = KeptCopies(MemoryFiles())
    copies.load(store)
    assert copies.has_names_of(store)
    store.keys[f"{NAMES}1.segment"] = (b"id", 1)
    assert not copies.has_names_of(store)
    copies.put(f"{NAMES}1.segment", b"id")
    assert copies.has_names_of(store)
