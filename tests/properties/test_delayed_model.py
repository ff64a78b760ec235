"""Delayed messages on a disk that crashes, tears and loses power, against a model.

A client publishes messages with delays, with confirms and in transactions, cancels some, and time passes; batches are
written with a sync or without. The model keeps what is held and what has come out, as it is and as it was in each batch
that may be on the disk. What a restart finds must be one of those: so nothing confirmed is lost, nothing cancelled for
good comes back, and a message is always in one of the two places. What comes out does so in the order of its time.

DURABILITY_EXAMPLES and DURABILITY_STEPS in the environment make it run for longer.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import NamedTuple
from unittest.mock import patch

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from pamqp import commands

from amqp_broker.broker.delayed import holder
from amqp_broker.broker.delayed.holder import Holder
from amqp_broker.broker.delayed.looking import DelayedLook
from amqp_broker.journal.batches import GatheredBatch
from amqp_broker.journal.memory_files import MemoryFiles
from amqp_broker.server.walks import next_step
from tests.support.client import ClientChannel
from tests.support.disk_broker import DiskBroker, small_pages
from tests.support.manual_clock import ManualClock
from tests.support.memory_broker import small_slices

HOUR_MS = 3_600_000
DELAYS = st.one_of(st.integers(1, 50), st.integers(1, 10_000), st.integers(1, 2**33))


class Held(NamedTuple):
    """A message in the model, in the order in which they are due."""

    due_ms: int
    number: int


class State(NamedTuple):
    """What there is: held, and ready in the queue."""

    held: tuple[int, ...]
    ready: tuple[int, ...]


class DelayedMachine(RuleBasedStateMachine):
    """One broker, its disk, one client, and what may be found after a crash."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.stack.enter_context(small_pages())
        self.stack.enter_context(small_slices())
        for name, value in {"AT_HAND_MAX": 4, "PAGE_MAX": 2}.items():
            self.stack.enter_context(patch.object(holder, name, value))

    def teardown(self) -> None:
        self.stack.close()

    @initialize(seed=st.integers(0, 2**32))
    def begin(self, seed: int) -> None:
        self.files = MemoryFiles(seed)
        self.clock = ManualClock()
        self.held: list[Held] = []
        self.due_of: dict[int, int] = {}  # of all there ever were
        self.ready: list[int] = []
        self.next_number = 0
        self.broker = DiskBroker(self.files, self.clock)
        self.broker.writes_at_once = False
        channel = self.broker.client().channel()
        channel.send(
            commands.Exchange.Declare(
                exchange="x", exchange_type="x-delayed-message", durable=True, arguments={"x-delayed-type": "fanout"}
            ),
            commands.Queue.Declare(queue="q", durable=True),
            commands.Queue.Bind(queue="q", exchange="x"),
        )
        self.broker.write()
        self.batch: GatheredBatch | None = None
        self.taken: tuple[State, int] | None = None
        self.possible = [self.state()]
        self.connect()

    def connect(self) -> None:
        self.channel: ClientChannel = self.broker.client().channel()
        self.channel.call(commands.Confirm.Select())
        self.unconfirmed: dict[int, int] = {}
        self.published = 0
        self.synced_number = self.next_number

    def state(self) -> State:
        return State(tuple(one.number for one in self.held), tuple(self.ready))

    # --- what a client does, and time

    def add(self, channel: ClientChannel, delay_ms: int) -> None:
        self.next_number += 1
        body = b"%08d" % self.next_number
        channel.publish("x", "", body, headers={"x-delay": delay_ms}, delivery_mode=2)
        self.due_of[self.next_number] = self.clock.monotonic_ms() + delay_ms
        self.held.append(Held(self.due_of[self.next_number], self.next_number))
        self.held.sort()

    @rule(delays=st.lists(DELAYS, min_size=1, max_size=8))
    def publish(self, delays: list[int]) -> None:
        for delay_ms in delays:
            self.add(self.channel, delay_ms)
            self.published += 1
            self.unconfirmed[self.published] = self.next_number
        self.see_confirms()

    @rule(delays=st.lists(DELAYS, min_size=1, max_size=4))
    def commit_transaction(self, delays: list[int]) -> None:
        channel = self.broker.client().channel(2)
        channel.call(commands.Tx.Select())
        for delay_ms in delays:
            self.add(channel, delay_ms)
        channel.send(commands.Tx.Commit())
        channel.client.connection.lost("done")
        self.broker.settle()

    @rule(duration_ms=st.one_of(st.integers(0, 60), st.integers(0, 12_000), st.integers(0, 2**33)))
    def pass_time(self, duration_ms: int) -> None:
        self.broker.advance(duration_ms)
        self.release_due()
        assert [int(message.body) for message in self.broker.queue("q").messages()][:2] == self.ready[:2]
        assert self.holder_count() == len(self.held)

    def release_due(self) -> None:
        due = [one for one in self.held if one.due_ms <= self.clock.monotonic_ms()]
        self.held = self.held[len(due) :]
        self.ready += [one.number for one in due]

    def holder_count(self) -> int:
        found = self.broker.virtual_host.exchange("x").holder
        return 0 if found is None else found.ready_count

    @precondition(lambda self: bool(self.held))
    @rule(which=st.integers(0, 100))
    def cancel(self, which: int) -> None:
        held = self.broker.virtual_host.exchange("x").holder
        assert isinstance(held, Holder)
        place = which % len(self.held)
        page = held.some_after(None, place + 1)
        assert self.broker.handle(partial(held.cancel, *page[place]))
        del self.held[place]

    @rule()
    def look(self) -> None:
        assert self.found_held() == tuple(one.number for one in self.held)

    def found_held(self) -> tuple[int, ...]:
        held = self.broker.virtual_host.exchange("x").holder
        if not isinstance(held, Holder):
            return ()
        looking = DelayedLook(held, limit=500)
        steps = looking.steps()
        references = next_step(steps, None)
        while references is not None:
            references = next_step(steps, self.broker.durability.read(references))
        return tuple(int(message["payload"]) for message in looking.seen()["messages"])

    def see_confirms(self) -> None:
        for one in self.channel.received():
            method = one.expect(commands.Basic.Ack)
            through = method.delivery_tag or 0
            for tag in range(min(self.unconfirmed) if method.multiple else through, through + 1):
                assert self.unconfirmed.pop(tag, 0) <= self.synced_number, "confirmed before it was synced"

    # --- the disk

    @precondition(lambda self: self.batch is None)
    @rule(sync=st.booleans())
    def take_batch(self, sync: bool) -> None:
        batch = self.broker.durability.take_batch(sync=sync)
        assert batch is None or isinstance(batch, GatheredBatch)
        self.batch = batch
        if batch is not None:
            self.taken = (self.state(), self.next_number)
        elif sync:
            self.possible = [self.state()]
            self.synced_number = self.next_number
            self.broker.committed()

    @precondition(lambda self: self.batch is not None)
    @rule()
    def finish_batch(self) -> None:
        assert self.batch is not None
        assert self.taken is not None
        self.broker.journal.write(self.batch)
        self.broker.journal.committed(self.batch)
        state, number = self.taken
        if self.batch.sync:
            self.possible = [state]
            self.synced_number = number
        else:
            self.possible.append(state)
        self.batch = self.taken = None
        self.broker.committed()
        self.see_confirms()

    def write_all(self) -> None:
        for _ in range(3):
            if self.batch is None:
                self.take_batch(True)
            if self.batch is None:
                break
            self.finish_batch()
        self.see_confirms()
        assert not self.unconfirmed, "all is on the disk and not all is confirmed"

    @rule(down_ms=st.one_of(st.just(0), st.integers(0, 20_000)))
    def lose_power(self, down_ms: int) -> None:
        if self.taken is not None:
            self.possible.append(self.taken[0])
        self.start_again(self.broker.without_power, down_ms, self.possible)

    @rule(down_ms=st.one_of(st.just(0), st.integers(0, 20_000)))
    def kill(self, down_ms: int) -> None:
        written = self.possible[-1:]
        self.start_again(self.broker.killed, down_ms, [*written, *([self.taken[0]] if self.taken is not None else ())])

    @rule(down_ms=st.integers(0, 20_000))
    def restart(self, down_ms: int) -> None:
        self.write_all()
        self.start_again(self.broker.restarted, down_ms, [self.state()])

    def start_again(self, start: Callable[..., DiskBroker], down_ms: int, possible: list[State]) -> None:
        self.broker = start(down_ms=down_ms)
        self.broker.writes_at_once = False
        self.batch = self.taken = None
        found = State(self.found_held(), tuple(self.ready_now()))
        assert found in possible, f"found {found}, possible were {possible}"
        self.held = [Held(self.due_of[number], number) for number in found.held]
        self.ready = list(found.ready)
        self.possible = [found]
        self.connect()
        self.pass_time(0)

    def ready_now(self) -> list[int]:
        channel = self.broker.client().channel()
        found = []
        while (message := channel.get("q")) is not None:
            found.append(int(message.body))
        channel.client.connection.lost("looked around")
        self.broker.settle()
        return found


DelayedMachine.TestCase.settings = settings(
    max_examples=int(os.environ.get("DURABILITY_EXAMPLES", "12")),
    stateful_step_count=int(os.environ.get("DURABILITY_STEPS", "30")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
TestDelayed = DelayedMachine.TestCase
