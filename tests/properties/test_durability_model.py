"""The whole broker on a disk that crashes, tears, fills up and fails at any step.

A client publishes with confirms, takes, acknowledges, requeues, rejects, declares, deletes, purges and commits
transactions, with more in the queues than memory may hold; an administrator moves and deletes some of what is there.
Batches are written with a sync or without. The model keeps
the queues as they are, and as they were in each batch that may be on the disk: what a restart finds must be one of
those, exactly, and after the end of the process alone the one that was written last. So nothing confirmed is lost,
nothing durably acknowledged comes back, the order is kept, a transaction or a dead-lettering is whole or not there.
Beside that every message that is taken must be the one that was due, and no confirm may come before its batch is
synced.

DURABILITY_EXAMPLES and DURABILITY_STEPS in the environment make it run for longer.
"""

from __future__ import annotations

import os
import sys
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import ExitStack
from random import Random
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from pamqp import commands

from amqp_broker.broker.message_filter import make_filter
from amqp_broker.broker.move_destinations import ToQueue
from amqp_broker.broker.moving import Action, Moving, Selection
from amqp_broker.broker.peeking import MessageState, Peek, PeekBounds
from amqp_broker.broker.persistence.message_records import decode_message
from amqp_broker.broker.queues.classic import ClassicQueue
from amqp_broker.broker.replaying import Replaying
from amqp_broker.journal.batches import GatheredBatch
from amqp_broker.journal.failures import JournalFailed, JournalFull
from amqp_broker.journal.memory_files import MemoryFiles, PowerLoss
from tests.support.client import ClientChannel, Received
from tests.support.disk_broker import DiskBroker, small_pages
from tests.support.manual_clock import ManualClock
from tests.support.memory_broker import small_slices
from tests.support.walking import walk_through
from tests.unit.journal_helpers import small_index_pages

ARGUMENTS: dict[str, dict[str, Any]] = {
    "a": {"x-replay-ms": 315_360_000_000},
    "b": {},
    "rejecting": {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"},
    "dead": {},
    "again": {},
    "priority": {"x-max-priority": 2, "x-replay-ms": 315_360_000_000},
}
PASTS = [name for name, arguments in ARGUMENTS.items() if "x-replay-ms" in arguments]
NAMES = [name for name in ARGUMENTS if name != "again"]  # where what was replayed is, a second time perhaps
QUEUES = st.sampled_from(NAMES)
DESTINATIONS = st.sampled_from([*NAMES, None])  # of what an administrator moves; None for nowhere
SIZES = st.sampled_from([0, 0, 50, 500, 3000])


class Held(NamedTuple):
    """A message in the model."""

    number: int
    is_kept: bool
    priority: int


Queues = dict[str, list[Held]]
State = dict[str, tuple[int, ...]]


DID: Counter[str] = Counter()  # what all examples together did


@pytest.fixture(scope="module", autouse=True)
def say_what_was_done() -> Iterator[None]:
    """Shown with ``pytest -s``."""
    yield
    sys.stdout.write(f"durability model: {dict(DID)}\n")


class DurabilityMachine(RuleBasedStateMachine):
    """One broker, its disk, one client, and what may be found after a crash."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.stack.enter_context(small_pages())
        self.stack.enter_context(small_index_pages())
        self.stack.enter_context(small_slices())

    def teardown(self) -> None:
        self.stack.close()

    @initialize(seed=st.integers(0, 2**32))
    def begin(self, seed: int) -> None:
        self.random = Random(seed)
        self.files = MemoryFiles(seed)
        self.clock = ManualClock()
        self.next_number = 0
        self.priorities: dict[int, int] = {}
        self.possible: list[State] = [{}]
        self.start()
        for queue in ARGUMENTS:
            self.declare(queue)
        self.commit()

    @invariant()
    def count(self) -> None:
        DID["steps"] += 1

    # --- starting, and what must be there then

    def start(self, visible: list[State] | None = None) -> None:
        """Start on what is on the disk, and again for as long as the power fails meanwhile.

        Args:
            visible: what may be found when only the process ended; a power loss meanwhile makes all possible again.
        """
        expected = visible or self.possible
        while True:
            try:
                self.broker = DiskBroker(self.files, self.clock, memory_budget_bytes=2)
            except PowerLoss:
                self.files.lose_power()
                expected = self.possible
            except (OSError, JournalFull, JournalFailed):
                self.files.fail_at_step = self.files.capacity_bytes = None
            else:
                break
        self.broker.writes_at_once = False
        self.batch: GatheredBatch | None = None
        self.taken: tuple[State, int] | None = None
        self.set_aside: deque[tuple[State, int]] = deque()
        self.channel = self.connect()
        self.queues: Queues = self.found()
        self.pasts = {name: self.past(name) for name in PASTS if name in self.queues}
        state = self.state()
        assert state in expected, f"found {state}, possible were {expected}"
        self.possible = [state]
        self.tags: dict[int, int] = {}
        self.unconfirmed: dict[int, int] = {}
        self.published = 0
        self.written_number = self.synced_number = self.next_number
        self.channel.send(commands.Confirm.Select())
        assert isinstance(self.channel.received()[0].method, commands.Confirm.SelectOk)

    def connect(self) -> ClientChannel:
        return self.broker.client().channel()

    def found(self) -> Queues:
        """All messages that are ready, in the order of delivery; they are given back."""
        channel = self.connect()
        queues: Queues = {}
        for name in ARGUMENTS:
            if name in self.broker.virtual_host.queues:
                queues[name] = []
                while (message := channel.get(name)) is not None:
                    assert message.properties is not None
                    number = int(message.body[:8])
                    queues[name].append(Held(number, True, message.properties.priority or 0))
        channel.client.connection.lost("looked around")
        self.broker.settle()
        return queues

    def past(self, queue: str) -> list[int]:
        """All that a queue has got, as far as it was kept."""
        past = self.broker.queue(queue).past
        assert past is not None
        references = [one for chunk in past.chunks_since(0) for one in chunk.references()]
        payloads = [payload or b"" for payload in self.broker.durability.read(references)]
        return [int(decode_message(payload).body[:8]) for payload in payloads]

    def state(self) -> State:
        ready = {name: tuple(one.number for one in held if one.is_kept) for name, held in sorted(self.queues.items())}
        return ready | {f"past of {name}": tuple(numbers) for name, numbers in sorted(self.pasts.items())}

    # --- what a client does

    @rule(queue=QUEUES, size=SIZES, kept=st.sampled_from([True, True, False]), count=st.integers(1, 12))
    def publish(self, queue: str, size: int, kept: bool, count: int) -> None:
        if queue in self.queues:
            for _ in range(count):
                self.publish_one(self.channel, queue, size, kept)
                self.published += 1
                self.unconfirmed[self.published] = self.next_number if kept else 0
            self.see_confirms()

    def publish_one(self, channel: ClientChannel, queue: str, size: int, kept: bool) -> None:
        self.next_number += 1
        priority = self.priorities[self.next_number] = self.random.randrange(3)
        body = b"%08d" % self.next_number + bytes(size)
        channel.publish("", queue, body, delivery_mode=2 if kept else 1, priority=priority)
        self.append(queue, Held(self.next_number, kept, priority))

    def append(self, queue: str, message: Held) -> None:
        self.queues[queue].append(message)
        if message.is_kept and queue in self.pasts:
            self.pasts[queue].append(message.number)
        if queue == "priority":
            self.queues[queue].sort(key=lambda one: -one.priority)  # stable

    def ready(self, queue: str) -> list[Held]:
        return [one for one in self.queues.get(queue, ()) if one.number not in self.tags]

    @rule(queue=QUEUES, count=st.integers(1, 15))
    def take(self, queue: str, count: int) -> None:
        if self.channel.client.connection.output.is_held:
            self.commit()  # the answer would wait behind that of a declaration that is not on the disk yet
        if self.channel.client.connection.output.is_held:
            return
        for due in self.ready(queue)[:count]:
            self.channel.send(commands.Basic.Get(queue=queue))
            (message,) = self.answers()
            self.tags[due.number] = message.expect(commands.Basic.GetOk).delivery_tag or 0
            assert int(message.body[:8]) == due.number, "another message was due"
            DID["taken"] += 1

    def some_taken(self, queue: str, share: float) -> list[Held]:
        held = [one for one in self.queues.get(queue, ()) if one.number in self.tags]
        return [one for one in held if self.random.random() < share]

    @rule(queue=QUEUES, share=st.sampled_from([0.3, 1.0]))
    def acknowledge(self, queue: str, share: float) -> None:
        for one in self.some_taken(queue, share):
            self.channel.ack(self.tags.pop(one.number))
            self.queues[queue].remove(one)

    @rule(queue=QUEUES, share=st.sampled_from([0.3, 1.0]))
    def requeue(self, queue: str, share: float) -> None:
        for one in self.some_taken(queue, share):
            self.channel.nack(self.tags.pop(one.number))

    @rule(share=st.sampled_from([0.3, 1.0]))
    def reject(self, share: float) -> None:
        for one in self.some_taken("rejecting", share):
            self.channel.reject(self.tags.pop(one.number), requeue=False)
            self.queues["rejecting"].remove(one)
            if "dead" in self.queues:
                self.append("dead", one)

    @rule(queue=QUEUES)
    def purge(self, queue: str) -> None:
        if queue in self.queues:
            self.channel.send(commands.Queue.Purge(queue=queue))
            self.queues[queue] = [one for one in self.queues[queue] if one.number in self.tags]

    @rule(queue=QUEUES)
    def declare(self, queue: str) -> None:
        self.channel.send(commands.Queue.Declare(queue=queue, durable=True, arguments=ARGUMENTS[queue]))
        self.queues.setdefault(queue, [])
        if queue in PASTS:
            self.pasts.setdefault(queue, [])

    @rule(queue=QUEUES)
    def delete(self, queue: str) -> None:
        self.channel.send(commands.Queue.Delete(queue=queue))
        self.pasts.pop(queue, None)
        for one in self.queues.pop(queue, ()):
            self.tags.pop(one.number, None)

    @rule(queue=st.sampled_from(PASTS), limit=st.integers(1, 30))
    def replay(self, queue: str, limit: int) -> None:
        """An administrator has some of what a queue got put into another queue once more."""
        if queue not in self.queues:
            return
        source = self.broker.queue(queue)
        assert isinstance(source, ClassicQueue)
        assert source.past is not None
        destination = ToQueue(self.broker.virtual_host, source, "again", None)
        work = Replaying(self.broker, source, source.past, 0, Selection(limit=limit), destination, dry_run=False)
        found = self.pasts[queue][:limit]
        walk_through(self.broker, work.steps())
        assert work.progress()["done"] == len(found)
        for number in found:
            self.append("again", Held(number, True, self.priorities[number]))
        DID["replayed"] += len(found)

    @rule(queue=QUEUES, to=QUEUES, count=st.integers(1, 4))
    def commit_transaction(self, queue: str, to: str, count: int) -> None:
        """Take from one queue and publish to another in one transaction."""
        if queue not in self.queues or to not in self.queues:
            return
        channel = self.connect()
        channel.call(commands.Tx.Select())
        for due in self.ready(queue)[:count]:
            message = channel.get(queue)
            assert message is not None
            assert int(message.body[:8]) == due.number
            self.queues[queue].remove(due)
        channel.ack(0, multiple=True)
        for _ in range(count):
            self.publish_one(channel, to, 100, True)
        channel.send(commands.Tx.Commit())
        channel.client.connection.lost("done")
        self.broker.settle()

    @rule(queue=QUEUES, to=DESTINATIONS, digit=st.sampled_from(["", "3"]), limit=st.integers(1, 30))
    def move(self, queue: str, to: str | None, digit: str, limit: int) -> None:
        """An administrator moves what is found to another queue, or deletes it."""
        if queue not in self.queues or (to is not None and to not in self.queues) or queue == to:
            return
        source = self.broker.queue(queue)
        assert isinstance(source, ClassicQueue)
        destination = ToQueue(self.broker.virtual_host, source, to, None) if to is not None else None
        action = Action.MOVE if to is not None else Action.DELETE
        selection = Selection(make_filter(text=digit), limit=limit)
        work = Moving(self.broker, source, action, selection, destination, dry_run=False)
        found = [one for one in self.ready(queue) if digit in f"{one.number:08}"][:limit]
        walk_through(self.broker, work.steps())
        assert work.progress()["done"] == len(found)
        DID["moved"] += len(found)
        for one in found:
            self.queues[queue].remove(one)
            if to is not None:
                self.append(to, one)

    @rule(queue=QUEUES)
    def look(self, queue: str) -> None:
        """An administrator sees all that is there, in order, and nobody can tell afterwards."""
        if queue not in self.queues:
            return
        peek = Peek(self.broker, self.broker.queue(queue), PeekBounds(limit=100_000))
        walk_through(self.broker, peek.steps())
        seen = [(one["state"], int(one["payload"][:8])) for one in peek.seen()["messages"]]
        ready = [number for state, number in seen if state == MessageState.READY]
        assert ready == [one.number for one in self.ready(queue)]
        held = {number for state, number in seen if state == MessageState.UNACKNOWLEDGED}
        assert held == {one.number for one in self.queues[queue] if one.number in self.tags}
        DID["seen"] += len(seen)

    @rule()
    def lose_connection(self) -> None:
        """All that the client holds comes back to its place."""
        self.channel.client.connection.lost("gone")
        self.broker.settle()
        self.channel = self.connect()
        self.channel.call(commands.Confirm.Select())
        self.tags.clear()
        self.unconfirmed.clear()
        self.published = 0

    # --- confirms

    @staticmethod
    def is_confirm(method: object) -> bool:
        return isinstance(
            method, commands.Basic.Ack | commands.Queue.PurgeOk | commands.Queue.DeclareOk | commands.Queue.DeleteOk
        )

    def answers(self) -> list[Received]:
        """What has come beside confirms; those are noted."""
        received = self.channel.received()
        for one in received:
            if isinstance(one.method, commands.Basic.Ack):
                through = one.method.delivery_tag or 0
                first = min(self.unconfirmed) if one.method.multiple else through
                for tag in range(first, through + 1):
                    number = self.unconfirmed.pop(tag, 0)
                    assert number <= self.synced_number, "confirmed before it was synced"
                    DID["confirmed"] += 1
        return [one for one in received if not self.is_confirm(one.method)]

    def see_confirms(self) -> None:
        others = self.answers()
        assert not others

    # --- the disk

    @precondition(lambda self: self.batch is None)
    @rule(sync=st.booleans())
    def take_batch(self, sync: bool) -> None:
        batch = self.broker.durability.take_batch(sync=sync)
        assert batch is None or isinstance(batch, GatheredBatch)
        self.batch = batch
        if self.batch is not None:
            self.taken = self.set_aside.popleft() if self.set_aside else (self.state(), self.next_number)
            return
        assert self.state() == self.possible[-1], "there was something to write"
        self.written_number = self.next_number
        if sync or len(self.possible) == 1:
            self.possible = self.possible[-1:]
            self.synced_number = self.written_number
        self.broker.committed()

    @rule()
    def set_batch_aside(self) -> None:
        """More gathers than the disk takes at once."""
        self.broker.durability.set_aside()
        self.set_aside.append((self.state(), self.next_number))

    @precondition(lambda self: self.batch is not None)
    @rule()
    def finish_batch(self) -> None:
        assert self.batch is not None
        assert self.taken is not None
        try:
            self.broker.journal.write(self.batch)
            self.broker.journal.committed(self.batch)
        except PowerLoss:
            self.crash()
        except JournalFull:
            self.files.capacity_bytes = None
            self.possible = self.possible[-1:]
            self.synced_number = self.written_number
            self.broker.committed()
        except JournalFailed:
            self.fail()
        else:
            state, self.written_number = self.taken
            if self.batch.sync:
                self.possible = [state]
                self.synced_number = self.written_number
            else:
                DID["written without a sync"] += 1
                self.possible.append(state)
            self.batch = self.taken = None
            self.broker.committed()

    @precondition(lambda self: self.batch is None)
    @rule()
    def write(self) -> None:
        """Nobody is waited for: what has gathered is written without a sync."""
        self.take_batch(False)
        if self.batch is not None:
            self.finish_batch()

    @rule()
    def commit(self) -> None:
        for _ in range(3 + len(self.set_aside)):
            if self.batch is None:
                self.take_batch(True)
            if self.batch is None:
                break
            self.finish_batch()
        else:
            return
        self.see_confirms()
        assert not self.unconfirmed, "all is on the disk and not all is confirmed"

    @precondition(lambda self: self.batch is None)
    @rule()
    def reclaim(self) -> None:
        try:
            self.broker.reclaim()
        except PowerLoss:
            self.crash()
        except JournalFailed:
            self.fail()

    def crash(self) -> None:
        DID["crashes"] += 1
        self.files.lose_power()
        self.start_again()

    def fail(self) -> None:
        """The disk failed; the broker ends, and sometimes the machine with it."""
        DID["failures"] += 1
        self.files.fail_at_step = None
        if self.random.random() < 0.5:
            self.files.lose_power()
        self.start_again()

    def start_again(self, visible: list[State] | None = None) -> None:
        if self.taken is not None:
            self.possible.append(self.taken[0])
        self.start(visible)

    @rule()
    def lose_power(self) -> None:
        self.crash()

    @rule()
    def kill(self) -> None:
        """The process ends, the machine goes on: what was written is there."""
        written = self.possible[-1:]
        self.start_again([*written, self.taken[0]] if self.taken is not None else written)

    @rule()
    def restart(self) -> None:
        DID["restarts"] += 1
        state = self.state()
        try:
            self.channel.client.connection.lost("the broker has shut down")
            self.broker.settle()
            self.broker.durability.note_handed_out()
            self.broker.journal.close()
        except PowerLoss:
            self.possible += [*self.states_set_aside(), state]
            self.crash()
        except JournalFull:
            self.files.capacity_bytes = None
            self.possible += [*self.states_set_aside(), state]
            self.start_again()
        except JournalFailed:
            self.possible += [*self.states_set_aside(), state]
            self.fail()
        else:
            self.possible = [state]
            self.taken = None
            self.start()

    def states_set_aside(self) -> list[State]:
        return [state for state, _ in self.set_aside]

    @rule(steps=st.integers(1, 15), power_loss=st.booleans())
    def fail_soon(self, steps: int, power_loss: bool) -> None:
        self.files.fail_at_step = self.files.steps + steps
        self.files.fails_by_power_loss = power_loss

    @rule(space=st.integers(0, 10_000))
    def fill_disk(self, space: int) -> None:
        self.files.capacity_bytes = self.files.used_bytes + space


DurabilityMachine.TestCase.settings = settings(
    max_examples=int(os.environ.get("DURABILITY_EXAMPLES", "25")),
    stateful_step_count=int(os.environ.get("DURABILITY_STEPS", "50")),
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
TestDurability = DurabilityMachine.TestCase


def test_a_confirm_that_comes_with_a_message_is_noted() -> None:
    machine = DurabilityMachine()
    with machine.stack:
        machine.begin(seed=0)
        machine.publish(queue="a", size=0, kept=True, count=2)
        machine.take_batch(sync=True)
        machine.finish_batch()
        machine.take(queue="a", count=1)
        assert not machine.unconfirmed
