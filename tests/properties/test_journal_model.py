"""The journal on a disk that crashes, tears, fills up and fails at any step.

The model keeps every state that the journal may be in after a crash: the one that was committed durably last, and one
more for each batch that was begun since. What recovery finds has to be one of them, exactly: so nothing that was
confirmed is lost, nothing that was durably dropped comes back, the order is kept, and a batch is there as a whole or
not at all.

JOURNAL_EXAMPLES and JOURNAL_STEPS in the environment make it run for longer.
"""

from __future__ import annotations

import os
import sys
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import ExitStack
from random import Random

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from amqp_broker.journal.batches import GatheredBatch
from amqp_broker.journal.failures import JournalFailed, JournalFull, RecordGone
from amqp_broker.journal.journal import SegmentJournal
from amqp_broker.journal.memory_files import MemoryFiles, PowerLoss
from amqp_broker.journal.reclaim import SegmentReclaim
from tests.unit.journal_helpers import small_index_pages

SEGMENT_BYTES = 4096
SIZES = st.sampled_from([0, 1, 20, 20, 60, 60, 300, 1000, 3000])
State = dict[int, tuple[int, bytes, frozenset[int]]]


DID: Counter[str] = Counter()  # what all examples together did


@pytest.fixture(scope="module", autouse=True)
def say_what_was_done() -> Iterator[None]:
    """Shown with ``pytest -s``."""
    yield
    sys.stdout.write(f"journal model: {dict(DID)}\n")


class JournalMachine(RuleBasedStateMachine):
    """One journal, its disk, and what may be on it."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.stack.enter_context(small_index_pages())

    def teardown(self) -> None:
        self.stack.close()

    @initialize(seed=st.integers(0, 2**32))
    def begin(self, seed: int) -> None:
        self.files = self.make_files(seed)
        self.random = Random(seed)
        self.possible: list[State] = [{}]
        self.gathered: State = {}
        self.highest = 0
        self.open()

    def make_files(self, seed: int) -> MemoryFiles:
        """The disk; another kind of it has a machine of its own."""
        return MemoryFiles(seed)

    @invariant()
    def count(self) -> None:
        DID["steps"] += 1

    def open(self, visible: list[State] | None = None) -> None:
        """Start on what is on the disk, and again for as long as the power fails meanwhile.

        Args:
            visible: what may be found when only the process ended; a power loss meanwhile makes all possible again.
        """
        expected = visible or self.possible
        while True:
            self.journal = SegmentJournal(self.files, SEGMENT_BYTES)
            self.batch: GatheredBatch | None = None
            self.taken: State | None = None
            self.set_aside: deque[State] = deque()
            self.reclaim: SegmentReclaim | None = None
            self.is_reclaimed = False
            try:
                found = [
                    (reference, (kind, payload, frozenset(claims)))
                    for records in self.journal.recover()
                    for reference, kind, payload, claims in records
                ]
            except PowerLoss:
                self.files.lose_power()
                expected = self.possible
                continue
            except JournalFailed:  # the disk failed in one step; it is asked again
                self.files.fail_at_step = None
                self.files.capacity_bytes = None
                continue
            break
        assert found == sorted(found, key=lambda record: record[0])
        recovered = dict(found)
        assert recovered in expected
        self.possible = [recovered]
        self.gathered = dict(recovered)
        self.highest = self.journal.position - 1
        assert all(reference <= self.highest for reference in recovered)

    def crash(self) -> None:
        DID["crashes"] += 1
        self.files.lose_power()
        self.might_be_on_disk()
        self.open()

    def might_be_on_disk(self) -> None:
        if self.taken is not None:
            self.possible.append(self.taken)

    # --- gathering

    @rule(kind=st.integers(1, 255), size=SIZES, claims=st.sampled_from([1, 1, 1, 2, 5]))
    def put(self, kind: int, size: int, claims: int) -> None:
        payload = self.random.randbytes(size)
        self.note_put(self.journal.put(kind, payload, claims), kind, payload, claims)

    @rule(size=st.sampled_from([200_000, 262_123, 262_124, 600_000]), claims=st.sampled_from([1, 3]))
    def put_large(self, size: int, claims: int) -> None:
        payload = self.random.randbytes(1000) + bytes(size - 1000)
        self.note_put(self.journal.put(9, payload, claims), 9, payload, claims)

    @rule(count=st.integers(1, 40), size=SIZES)
    def put_many(self, count: int, size: int) -> None:
        for _ in range(count):
            self.put(7, size, 1)

    def note_put(self, reference: int, kind: int, payload: bytes, claims: int) -> None:
        assert reference > self.highest
        assert reference >= self.journal.written_position
        self.highest = reference + claims - 1
        self.gathered[reference] = (kind, payload, frozenset(range(reference, reference + claims)))

    def drop_from_model(self, claim: int) -> None:
        base = max(reference for reference in self.gathered if reference <= claim)
        kind, payload, claims = self.gathered[base]
        if claims - {claim}:
            self.gathered[base] = (kind, payload, claims - {claim})
        else:
            del self.gathered[base]

    def some_claims(self, share: float, newest: bool) -> list[int]:
        claims = sorted(claim for _, _, live in self.gathered.values() for claim in live)
        if newest:
            claims = claims[-10:]
        return [claim for claim in claims if self.random.random() < share]

    @rule(newest=st.booleans())
    def drop_one(self, newest: bool) -> None:
        for claim in self.some_claims(0.5, newest)[:1]:
            self.journal.drop(claim)
            self.drop_from_model(claim)

    @rule(share=st.sampled_from([0.1, 0.5, 0.9, 1.0]), newest=st.booleans())
    def drop_many(self, share: float, newest: bool) -> None:
        claims = self.some_claims(share, newest)
        self.journal.drop_many(claims)
        for claim in claims:
            self.drop_from_model(claim)

    @rule(size=SIZES)
    def replace(self, size: int) -> None:
        single = [reference for reference, (_, _, claims) in self.gathered.items() if claims == {reference}]
        payload = self.random.randbytes(size)
        old = self.random.choice(single) if single else None
        new = self.journal.replace(old, 3, payload)
        if old is not None:
            self.drop_from_model(old)
        self.note_put(new, 3, payload, 1)

    @rule()
    def read(self) -> None:
        for reference in self.random.sample(sorted(self.gathered), min(5, len(self.gathered))):
            kind, payload, claims = self.gathered[reference]
            for claim in claims:
                assert self.journal.read(claim) == (kind, payload)
        with pytest.raises(RecordGone):
            self.journal.read(self.highest + 1)

    # --- group commit

    @precondition(lambda self: self.batch is None)
    @rule(sync=st.sampled_from([True, True, False]))
    def take(self, sync: bool) -> None:
        self.batch = self.journal.take_batch(sync=sync)
        if self.batch is not None:
            self.taken = self.set_aside.popleft() if self.set_aside else dict(self.gathered)

    @rule()
    def set_batch_aside(self) -> None:
        self.journal.set_aside()
        self.set_aside.append(dict(self.gathered))

    @precondition(lambda self: self.batch is not None)
    @rule()
    def write_and_commit(self) -> None:
        assert self.batch is not None
        assert self.taken is not None
        before = self.journal.written_position
        try:
            self.journal.write(self.batch)
            self.journal.committed(self.batch)
        except PowerLoss:
            self.crash()
        except JournalFull:
            assert self.files.capacity_bytes is not None
            assert self.journal.synced_position == self.journal.written_position == before
            self.files.capacity_bytes = None
            self.possible = self.possible[-1:]
        except JournalFailed:
            assert self.journal.failure
            assert self.journal.written_position == before
            self.fail()
        else:
            assert self.journal.written_position == self.batch.end_position
            if self.batch.sync:
                assert self.journal.synced_position == self.batch.end_position
            self.possible = [self.taken] if self.batch.sync else [*self.possible, self.taken]
            self.batch = self.taken = None

    def fail(self) -> None:
        """Nothing is accepted any more; start again, sometimes after a power loss."""
        DID["failures"] += 1
        assert self.files.fail_at_step is not None
        assert self.files.fail_at_step <= self.files.steps, "it failed, and the disk did not"
        with pytest.raises(JournalFailed):
            self.journal.take_batch()
        assert self.journal.take_reclaim() is None
        self.files.fail_at_step = None
        if self.is_power_lost_after_failure():
            self.files.lose_power()
        self.might_be_on_disk()
        self.open()

    def is_power_lost_after_failure(self) -> bool:
        """Whether the machine ends as well, and not the process alone."""
        return self.random.random() < 0.5

    @rule()
    def commit_all(self) -> None:
        for _ in range(3 + len(self.set_aside)):
            if self.batch is None:
                self.take(True)
            if self.batch is None:
                break
            self.write_and_commit()

    # --- free space

    @precondition(lambda self: self.reclaim is None)
    @rule()
    def take_reclaim(self) -> None:
        self.reclaim = self.journal.take_reclaim()
        self.is_reclaimed = False

    @precondition(lambda self: self.reclaim is not None)
    @rule(steps=st.integers(1, 10))
    def step_reclaim(self, steps: int) -> None:
        assert self.reclaim is not None
        try:
            while steps and not self.is_reclaimed:
                self.is_reclaimed = self.reclaim.step()
                steps -= 1
        except PowerLoss:
            self.crash()

    @precondition(lambda self: self.is_reclaimed)
    @rule()
    def finish_reclaim(self) -> None:
        assert self.reclaim is not None
        self.is_reclaimed = False
        try:
            self.journal.reclaimed(self.reclaim)
        except JournalFailed:
            self.fail()
        else:
            self.reclaim.release()
            self.reclaim = None

    @rule()
    def reclaim_everything(self) -> None:
        """What is left is at most twice what is live, and two segments."""
        if self.files.fail_at_step is not None and self.files.fail_at_step > self.files.steps:
            self.files.fail_at_step = None  # a failure that was is yet to be told
        self.files.capacity_bytes = None
        self.commit_all()
        self.commit_all()
        assert self.batch is None
        while self.take_work():
            assert self.reclaim is not None
            while not self.is_reclaimed:
                self.step_reclaim(100)
            self.finish_reclaim()
        largest = max([size for name in self.files.names() if (size := len(self.files.content(name)))], default=0)
        live = sum(21 + len(payload) for _, payload, _ in self.gathered.values())
        assert self.files.used_bytes == self.journal.disk_bytes
        assert self.files.used_bytes <= 2 * live + SEGMENT_BYTES + max(largest, SEGMENT_BYTES)

    def take_work(self) -> bool:
        if self.reclaim is None:
            self.take_reclaim()
            self.commit_all()  # it may have asked for a sync
            if self.reclaim is None:
                self.take_reclaim()
        return self.reclaim is not None

    # --- the disk

    @rule()
    def lose_power(self) -> None:
        self.crash()

    @rule()
    def kill(self) -> None:
        """The process ends."""
        self.kill_leaves()

    def kill_leaves(self, *closed: State) -> None:
        """The machine goes on: what was written is there, some of what was closed with it."""
        written = len(self.possible) - 1
        self.might_be_on_disk()
        self.possible += closed
        self.open(self.possible[written:])

    @rule()
    def restart(self) -> None:
        DID["restarts"] += 1
        try:
            self.journal.close()
        except PowerLoss:
            self.possible += [*self.set_aside, dict(self.gathered)]
            self.crash()
        except JournalFull:
            self.files.capacity_bytes = None
            self.kill_leaves(*self.set_aside)
        except JournalFailed:
            self.possible += [*self.set_aside, dict(self.gathered)]
            self.fail()
        else:
            self.possible = [dict(self.gathered)]
            self.open()
            assert self.journal.torn_tail is None

    @rule(steps=st.integers(1, 12), power_loss=st.booleans())
    def fail_soon(self, steps: int, power_loss: bool) -> None:
        self.files.fail_at_step = self.files.steps + steps
        self.files.fails_by_power_loss = power_loss

    @rule(space=st.integers(0, 10_000))
    def fill_disk(self, space: int) -> None:
        self.files.capacity_bytes = self.files.used_bytes + space


JournalMachine.TestCase.settings = settings(
    max_examples=int(os.environ.get("JOURNAL_EXAMPLES", "60")),
    stateful_step_count=int(os.environ.get("JOURNAL_STEPS", "60")),
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
TestJournal = JournalMachine.TestCase
