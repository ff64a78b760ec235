"""A store of keys in memory for `KeptFiles`, that can fail and stop at any transaction."""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Iterator, Sequence
from random import Random
from typing import Protocol

from amqp_broker.journal.gradual_load import GradualLoad
from amqp_broker.journal.kept_copies import Entry, KeptCopies
from amqp_broker.journal.kept_files import Delete, KeptFile, KeptFiles, Put, Transaction
from amqp_broker.journal.memory_files import MemoryFiles, PowerLoss

LANE = "lane/0"


class Follower(Protocol):
    """Who is told of every change."""

    def put(self, key: str, value: bytes) -> None:
        """A key has been given a value."""

    def delete(self, key: str) -> None:
        """A key has been deleted."""


class FakeStore:
    """Keys in memory.

    Args:
        seed: for all that is left to chance.
    """

    def __init__(self, seed: int = 0) -> None:
        self.random = Random(seed)
        self.keys: dict[str, tuple[bytes, int]] = {}
        self.revision = 0
        self.steps = 0
        """How many transactions there were so far."""
        self.fail_at_step: int | None = None
        self.fails_by_power_loss = False
        self.capacity_bytes: int | None = None
        self.read_keys: list[str] = []
        self.followers: list[Follower] = []
        self.gradual_followers: list[GradualFollower] = []

    def commit(self, transactions: Sequence[Transaction]) -> None:
        """Apply all; or, when the failing step is among them, any of them."""
        first, self.steps = self.steps, self.steps + len(transactions)
        if self.fail_at_step is not None and first < self.fail_at_step <= self.steps:
            some = [transaction for transaction in transactions if self.random.random() < 0.5]
            self.random.shuffle(some)
            for transaction in some:
                self._apply(transaction)
            if self.fails_by_power_loss:
                raise PowerLoss
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        for transaction in self.random.sample(list(transactions), len(transactions)):
            self._apply(transaction)

    def _apply(self, transaction: Transaction) -> None:
        assert len({change.key for change in transaction if isinstance(change, Put)}) == sum(
            isinstance(change, Put) for change in transaction
        ), "a key twice in one transaction"
        assert len(transaction) <= 128
        assert sum(len(change.value) for change in transaction if isinstance(change, Put)) <= 1_400_000
        self.revision += 1
        for change in transaction:
            if isinstance(change, Put):
                self.keys[change.key] = (change.value, self.revision)
                for follower in self.followers:
                    follower.put(change.key, change.value)
            else:
                self._delete(change)
        for one in self.gradual_followers:
            one.go_on()

    def _delete(self, change: Delete) -> None:
        for key in sorted(self.keys):
            if key == change.key or (change.end and change.key <= key < change.end):
                del self.keys[key]
                for follower in self.followers:
                    follower.delete(key)

    def follow(self) -> KeptCopies:
        """Copies that are kept up to date from now on."""
        copies = KeptCopies(MemoryFiles())
        copies.load(self)
        self.followers.append(copies)
        return copies

    def follow_gradually(self, seed: int) -> GradualFollower:
        """The same, from before there are any on."""
        follower = GradualFollower(self, seed)
        self.followers.append(follower)
        self.gradual_followers.append(follower)
        return follower

    def entries(self, prefix: str, first: str = "") -> Iterator[Entry]:
        """All keys with a prefix, in their order."""
        for key in sorted(self.keys):
            if key.startswith(prefix) and key >= first:
                self.read_keys.append(key)
                yield Entry(key, *self.keys[key])

    def check_space(self, size: int) -> None:
        """ENOSPC when the store would hold more than its capacity."""
        used = sum(len(value) for value, _ in self.keys.values())
        if self.capacity_bytes is not None and used + size > self.capacity_bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class GradualFollower:
    """Copies that are read out of a store a few keys at a time while it is written, and told of changes late.

    As soon as they say that they are true, they must be what the store had when the last change was made that was told.

    Args:
        store: what is read.
        seed: decides when what happens.
    """

    def __init__(self, store: FakeStore, seed: int) -> None:
        self._store = store
        self._random = Random(seed)
        self._persistence = self._random.uniform(0.4, 0.9)
        self._reading_share = self._random.uniform(0.1, 0.5)
        self._load = GradualLoad(KeptCopies(MemoryFiles()))
        self._untold: deque[tuple[int, str, bytes | None]] = deque()
        self._told = store.revision  # up to which all changes were told
        self._at_that_time = FakeStore()
        self._at_that_time.keys = dict(store.keys)
        self._is_between_transactions = True
        self._is_compared = False
        self._read_page()

    def put(self, key: str, value: bytes) -> None:
        """A key has been given a value: that is told some time later."""
        self._untold.append((self._store.revision, key, value))

    def delete(self, key: str) -> None:
        """Likewise: it has been deleted."""
        self._untold.append((self._store.revision, key, None))

    def go_on(self) -> None:
        """A transaction is over: read a page, be told a change, both several times or not at all."""
        self.put(LANE, b"")  # as each transaction of an owner does
        while self._random.random() < self._persistence:
            self._step()

    def finish(self) -> KeptCopies:
        """Read the rest, and be told everything."""
        while self._untold or not self._load.is_over:
            self._step()
        assert self._is_compared
        return self._load.copies

    def _step(self) -> None:
        if self._random.random() < self._reading_share:
            self._read_page()
        elif self._untold:
            self._tell()
        if self._load.is_over and self._told >= self._load.newest and self._is_between_transactions:
            self._compare()

    def _compare(self) -> None:
        if not self._is_compared:
            self._is_compared = True
            expected = KeptCopies(MemoryFiles())
            expected.load(self._at_that_time)
            assert state_of(self._load.copies) == state_of(expected)

    def _read_page(self) -> None:
        if not self._load.is_over:
            entries = [*self._store.entries("", self._load.place), Entry(LANE, b"", self._store.revision)]
            self._load.take([entry for entry in entries if entry.key >= self._load.place][: self._random.randint(1, 3)])

    def _tell(self) -> None:
        revision, key, value = self._untold.popleft()
        if value is None:
            self._load.delete(key)
            self._at_that_time.keys.pop(key)
        else:
            self._load.put(key, value)
            self._at_that_time.keys[key] = value, revision
        self._is_between_transactions = not self._untold or self._untold[0][0] > revision
        self._told = revision if self._is_between_transactions else revision - 1


def state_of(copies: KeptCopies) -> tuple[dict[str, str], dict[str, tuple[int, dict[int, int], bytes]]]:
    """All that is known of a store: the names; of each file its size, its pieces and its bytes, by identifier."""
    files = {
        file_id: (kept.kept_size, kept.pieces, kept.local.read_at(0, kept.size).ljust(kept.size, b"\0"))
        for file_id, kept in copies._files.items()
    }
    return copies.names, files


def contents(files: KeptFiles) -> dict[str, bytes]:
    """All files, as they are read now."""
    return {name: files.open(name).read_at(0, files.open(name).size()) for name in files.names()}


class CrashingKeptFiles:
    """`KeptFiles` with the faults of `MemoryFiles`: when the machine goes, another one opens the store, which has
    followed it, and must find the same as one that reads it. Every other has read it meanwhile.

    Args:
        seed: for all that is left to chance.
    """

    def __init__(self, seed: int = 0) -> None:
        self.store = FakeStore(seed)
        self.random = self.store.random
        self._follower: KeptCopies | GradualFollower = self.store.follow()
        self._open()

    def _open(self) -> None:
        follower = self._follower
        copies = follower if isinstance(follower, KeptCopies) else follower.finish()
        self.store.followers.clear()
        self.store.gradual_followers.clear()
        fetched = KeptFiles(self.store, MemoryFiles())
        fetched.fetch()
        self.files = KeptFiles(self.store, copies.local)
        self.files.adopt(copies)
        assert contents(self.files) == contents(fetched)
        self.files.remove_nameless()
        seed = self.random.randrange(2**32)
        self._follower = self.store.follow() if seed % 2 else self.store.follow_gradually(seed)

    def lose_power(self) -> None:
        """Another machine takes the store over."""
        self.store.fail_at_step = None
        self._open()

    @property
    def steps(self) -> int:
        """How often the store was changed so far."""
        return self.store.steps

    @property
    def fail_at_step(self) -> int | None:
        """Which change fails."""
        return self.store.fail_at_step

    @fail_at_step.setter
    def fail_at_step(self, step: int | None) -> None:
        self.store.fail_at_step = step

    @property
    def fails_by_power_loss(self) -> bool:
        """Whether the machine goes then."""
        return self.store.fails_by_power_loss

    @fails_by_power_loss.setter
    def fails_by_power_loss(self, loss: bool) -> None:
        self.store.fails_by_power_loss = loss

    @property
    def capacity_bytes(self) -> int | None:
        """How much the store holds."""
        return self.store.capacity_bytes

    @capacity_bytes.setter
    def capacity_bytes(self, size: int | None) -> None:
        self.store.capacity_bytes = size

    @property
    def used_bytes(self) -> int:
        """The bytes of all files."""
        return sum(self.files.open(name).size() for name in self.files.names())

    def content(self, name: str) -> bytes:
        """A file's bytes as they are read now."""
        file = self.files.open(name)
        return file.read_at(0, file.size())

    # --- the file system

    def names(self) -> list[str]:
        return self.files.names()

    def create(self, name: str, reserve_bytes: int) -> KeptFile:
        return self.files.create(name, reserve_bytes)

    def open(self, name: str) -> KeptFile:
        return self.files.open(name)

    def rename(self, old: str, new: str) -> None:
        self.files.rename(old, new)

    def remove(self, name: str) -> None:
        self.files.remove(name)

    def sync_folder(self) -> None:
        self.files.sync_folder()

    def full_name(self, name: str) -> str:
        return self.files.full_name(name)
