"""Files that are kept in a store: every byte as on a disk, and the journal's own model on them.

JOURNAL_EXAMPLES and JOURNAL_STEPS in the environment make the journal's model run for longer.
"""

from __future__ import annotations

import secrets
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amqp_broker.journal import kept_files
from amqp_broker.journal.kept_files import PIECE_BYTES_MAX, KeptFiles
from amqp_broker.journal.memory_files import MemoryFiles, PowerLoss
from tests.properties.test_journal_model import JournalMachine, State
from tests.support.examples import examples
from tests.support.fake_store import CrashingKeptFiles, FakeStore, contents

OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["write", "append", "append", "append", "truncate", "sync", "sync", "reopen"]),
        st.sampled_from([0, 50, 60, 100, 150, 1_000, 5_000]) | st.integers(0, 12_000),
        st.sampled_from([1, 10, 100, 100, 200, 1_000, 5_000, 300_000]),
    ),
    max_size=30,
)

FILE_CHANGES = ["create", "append", "append", *["write"] * 3, "truncate", "truncate", "rename", "remove", "sync folder"]
FILES_BEFORE = [*["create"] * 3, "sync folder", *["append", "append", "write"] * 6]


def opened(store: FakeStore) -> KeptFiles:
    files = KeptFiles(store, MemoryFiles())
    files.fetch()
    return files


@given(OPERATIONS, st.integers(0, 2**32))
@settings(max_examples=examples(400))
def test_what_was_synced_is_what_another_machine_reads(operations: list[tuple[str, int, int]], seed: int) -> None:
    random, store = Random(seed), FakeStore(seed)
    files = opened(store)
    file = files.create("a", 50)
    file.sync()
    files.sync_folder()
    follower, gradual = store.follow(), store.follow_gradually(seed)
    content, synced = bytearray(50), bytes(50)
    for what, place, size in operations:
        if what in ("write", "append"):
            offset = len(content) if what == "append" else place
            data = random.randbytes(size)
            file.write_at(offset, data[: size // 2], data[size // 2 :])
            content.extend(bytes(max(offset - len(content), 0)))
            content[offset : offset + size] = data
        elif what == "truncate":
            file.truncate(place)
            del content[place:]
            content.extend(bytes(place - len(content)))
        elif what == "sync":
            file.sync()
            synced = bytes(content)
        else:
            files = opened(store)
            file = files.open("a")
            content = bytearray(synced)
        assert file.size() == len(content)
        assert file.read_at(0, len(content) + 1) == content
    file.sync()
    again = opened(store).open("a")
    assert again.read_at(0, len(content) + 1) == content
    assert again.size() == len(content)
    gradual_copies = gradual.finish()
    store.followers.clear()
    for copies in (follower, gradual_copies):
        followed = KeptFiles(store, copies.local)
        followed.adopt(copies)
        assert contents(followed) == {"a": content}


@given(st.lists(st.sampled_from(FILE_CHANGES), min_size=30, max_size=60), st.integers(0, 2**32))
@settings(max_examples=examples(100))
def test_what_is_read_while_files_change_is_what_there_was_at_one_moment(changes: list[str], seed: int) -> None:
    """That is seen to by the follower, as soon as it has read everything; here, what there is in the end."""
    random, identifiers, store = Random(seed), Random(seed), FakeStore(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(secrets, "token_hex", lambda count: identifiers.randbytes(count).hex())  # their order counts
        files = opened(store)
        for what in FILES_BEFORE:
            change(files, what, random)
        gradual = store.follow_gradually(seed)
        for what in changes:
            change(files, what, random)
        copies = gradual.finish()
        store.followers.clear()
    followed = KeptFiles(store, copies.local)
    followed.adopt(copies)
    assert contents(followed) == contents(opened(store))


def change(files: KeptFiles, what: str, random: Random) -> None:
    """Do something to one of the files, if there are any."""
    if what == "create":
        files.create(f"{random.randrange(2**32)}", random.choice([0, 50, 9_000]))
    elif what == "sync folder":
        files.sync_folder()
    elif names := files.names():
        name = random.choice(names[: random.randint(1, len(names))])  # one of the first rather than of the last
        file = files.open(name)
        if what == "append":
            file.write_at(file.size(), random.randbytes(random.choice([1, 100, 5_000])))
        elif what == "write":
            file.write_at(random.randrange(file.size() + 100), random.randbytes(random.choice([1, 100, 5_000])))
        elif what == "truncate":
            file.truncate(random.randrange(file.size() + 100))
        elif what == "rename":
            files.rename(name, random.choice([*names, "another"]))
        elif what == "remove":
            files.remove(name)
        if what != "remove":
            file.sync()


@given(st.lists(st.integers(1, 400), min_size=1, max_size=60))
def test_many_small_syncs_make_few_pieces(sizes: list[int]) -> None:
    store = FakeStore()
    files = opened(store)
    file = files.create("a", 0)
    offset = 0
    for size in sizes:
        file.write_at(offset, bytes(size))
        file.sync()
        offset += size
    pieces = [entry for entry in store.entries("d/") if not entry.key.endswith("size")]
    assert len(pieces) <= 1 + offset // kept_files.PIECE_BYTES_MIN


def test_a_large_write_is_cut_into_pieces() -> None:
    store = FakeStore()
    files = opened(store)
    file = files.create("a", 0)
    data = Random(1).randbytes(3 * PIECE_BYTES_MAX + 7)
    file.write_at(0, data)
    file.sync()
    files.sync_folder()
    pieces = [entry for entry in store.entries("d/") if not entry.key.endswith("size")]
    assert [len(piece.value) for piece in pieces] == [*[PIECE_BYTES_MAX] * 3, 7]
    assert opened(store).open("a").read_at(0, len(data)) == data


def test_a_piece_that_is_replaced_loses_no_byte() -> None:
    store = FakeStore()
    files = opened(store)
    file = files.create("a", 0)
    file.write_at(0, b"a" * 100)
    file.sync()
    file.write_at(0, b"b" * 10)
    file.sync()
    files.sync_folder()
    assert opened(store).open("a").read_at(0, 101) == b"b" * 10 + b"a" * 90


def test_a_name_is_kept_when_the_folder_is_synced_and_the_rest_is_swept() -> None:
    store = FakeStore()
    files = opened(store)
    files.create("lost", 10).sync()
    assert opened(store).names() == []
    other = opened(store)
    assert other.remove_nameless() == 1
    assert store.keys == {}
    files = opened(store)
    for name, data in (("a.new", b"new"), ("a", b"old")):
        file = files.create(name, 0)
        file.write_at(0, data)
        file.sync()
    files.sync_folder()
    files.rename("a.new", "a")
    assert opened(store).names() == ["a", "a.new"]
    files.sync_folder()
    assert opened(store).names() == ["a"]
    assert opened(store).open("a").read_at(0, 9) == b"new"
    assert opened(store).remove_nameless() == 0
    files.remove("a")
    files.sync_folder()
    assert store.keys == {}


@given(st.integers(0, 2**32), st.integers(1, 6))
@settings(max_examples=examples(200))
def test_a_truncation_that_came_only_half_brings_nothing_back(seed: int, step: int) -> None:
    """The pieces beyond are deleted first; those that reach beyond are cut later, or by the next owner."""
    store = FakeStore(seed)
    files = opened(store)
    file = files.create("a", 0)
    for offset in (0, 100, 50):  # the last overlaps both
        file.write_at(offset, bytes([offset + 1]) * 100)
        file.sync()
    files.sync_folder()
    file.truncate(60)
    file.write_at(60, b"x" * 5)
    store.fail_at_step, store.fails_by_power_loss = store.steps + step, True
    try:
        file.sync()
    except PowerLoss:
        pass
    store.fail_at_step = None
    again = opened(store).open("a")
    size = again.size()
    again.write_at(size + 20, b"end")
    again.sync()
    found = opened(store).open("a").read_at(0, size + 23)
    assert found[size:] == bytes(20) + b"end"
    assert found[:50] == b"\1" * 50
    assert found[50:60] == b"\x33" * 10


class KeptJournalMachine(JournalMachine):
    """The journal's model, where the disk is a store: whoever ends leaves what was committed, and nothing else."""

    def make_files(self, seed: int) -> MemoryFiles:
        return CrashingKeptFiles(seed)  # type: ignore[return-value]  # what the model needs of a disk, it has

    def kill_leaves(self, *closed: State) -> None:
        self.possible += closed
        self.crash()

    def is_power_lost_after_failure(self) -> bool:
        return True


KeptJournalMachine.TestCase.settings = JournalMachine.TestCase.settings
TestJournalOnKeptFiles = KeptJournalMachine.TestCase
