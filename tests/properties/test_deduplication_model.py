"""A deduplicating exchange that keeps what it has seen, on a disk that crashes, tears and loses power, against a model.

A client publishes messages with few values, in transactions, too, of which some are rolled back or never end, and takes
some, and time passes; batches are written with a sync or without. The model keeps what is remembered, until when and in
which order, and what is in the queue, as they are and as they were in each batch that may be on the disk. What is found
at a restart must be one of those, exactly: so a value is never remembered without its message being there or taken, nor
the other way round.

DURABILITY_EXAMPLES and DURABILITY_STEPS in the environment make it run for longer.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, NamedTuple

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from pamqp import commands

from amqp_broker.journal.batches import GatheredBatch
from amqp_broker.journal.memory_files import MemoryFiles
from amqp_broker.plugins.seen_values import _digest
from tests.support.client import ClientChannel
from tests.support.deduplicating_broker import DeduplicatingBroker
from tests.support.disk_broker import small_pages
from tests.support.manual_clock import ManualClock

SIZE = 4
TTL_MS = 1000
VALUES = st.lists(st.sampled_from("abcdefg"), min_size=1, max_size=6)
VALUE_OF = {_digest(f"<<{one!r}>>".replace("'", '"')): one for one in "abcdefg"}
OWN_TTLS = st.sampled_from([None, None, 10, 5000])


class State(NamedTuple):
    """What there is: values with the times when they are forgotten, the oldest first, and the messages in the queue."""

    seen: tuple[tuple[str, int], ...]
    ready: tuple[int, ...]


class DeduplicationMachine(RuleBasedStateMachine):
    """One broker, its disk, one client, and what may be found after a crash."""

    @initialize(seed=st.integers(0, 2**32))
    def begin(self, seed: int) -> None:
        self.clock = ManualClock()
        self.seen: dict[str, int] = {}
        self.ready: list[int] = []
        self.next_number = 0
        with small_pages():
            self.broker = DeduplicatingBroker(MemoryFiles(seed), self.clock)
        self.broker.writes_at_once = False
        arguments: dict[str, Any] = {"x-cache-size": SIZE, "x-cache-ttl": TTL_MS, "x-cache-persistence": "disk"}
        self.broker.client().channel().send(
            commands.Exchange.Declare(
                exchange="x", exchange_type="x-message-deduplication", durable=True, arguments=arguments
            ),
            commands.Queue.Declare(queue="q", durable=True),
            commands.Queue.Bind(queue="q", exchange="x"),
        )
        self.broker.write()
        self.batch: GatheredBatch | None = None
        self.taken: State | None = None
        self.possible = [self.state()]
        self.connect()

    def connect(self) -> None:
        client = self.broker.client()
        self.channel: ClientChannel = client.channel()
        self.transactional: ClientChannel = client.channel(2)
        self.transactional.call(commands.Tx.Select())
        self.put_off: list[tuple[str, int]] = []  # with their numbers

    def state(self) -> State:
        return State(tuple(self.seen.items()), tuple(self.ready))

    # --- what a client does, and time

    def send(self, channel: ClientChannel, value: str, own_ttl_ms: int | None) -> int:
        self.next_number += 1
        headers: dict[str, Any] = {"x-deduplication-header": value}
        if own_ttl_ms is not None:
            headers["x-cache-ttl"] = own_ttl_ms
        channel.publish("x", "", b"%d" % self.next_number, headers=headers, delivery_mode=2)
        return self.next_number

    def add(self, value: str, number: int, own_ttl_ms: int | None) -> None:
        now_ms = self.clock.monotonic_ms()
        if self.seen.get(value, 0) > now_ms:
            return
        self.seen.pop(value, None)
        for _ in range(2):
            oldest = next(iter(self.seen), None)
            if oldest is not None and (len(self.seen) >= SIZE or self.seen[oldest] <= now_ms):
                del self.seen[oldest]
        self.seen[value] = now_ms + (TTL_MS if own_ttl_ms is None else own_ttl_ms)
        self.ready.append(number)

    @rule(values=VALUES, own_ttl_ms=OWN_TTLS)
    def publish(self, values: list[str], own_ttl_ms: int | None) -> None:
        for value in values:
            self.add(value, self.send(self.channel, value, own_ttl_ms), own_ttl_ms)

    @rule(values=VALUES)
    def publish_in_transaction(self, values: list[str]) -> None:
        self.put_off += [(value, self.send(self.transactional, value, None)) for value in values]

    @rule()
    def commit_transaction(self) -> None:
        self.transactional.send(commands.Tx.Commit())
        for value, number in self.put_off:
            self.add(value, number, None)
        self.put_off = []

    @rule()
    def roll_transaction_back(self) -> None:
        self.transactional.send(commands.Tx.Rollback())
        self.put_off = []

    @rule(count=st.integers(1, 5))
    def take(self, count: int) -> None:
        channel = self.broker.client().channel(3)
        for number in self.ready[:count]:
            message = channel.get("q", no_ack=True)
            assert message is not None
            assert int(message.body) == number
        del self.ready[:count]
        channel.client.connection.lost("done")
        self.broker.settle()

    @rule(duration_ms=st.sampled_from([1, 10, 500, 1000, 5000]))
    def pass_time(self, duration_ms: int) -> None:
        self.broker.advance(duration_ms)

    # --- the disk

    @precondition(lambda self: self.batch is None)
    @rule(sync=st.booleans())
    def take_batch(self, sync: bool) -> None:
        batch = self.broker.durability.take_batch(sync=sync)
        assert batch is None or isinstance(batch, GatheredBatch)
        self.batch = batch
        if batch is not None:
            self.taken = self.state()
        elif sync:
            self.possible = [self.state()]
            self.broker.committed()

    @precondition(lambda self: self.batch is not None)
    @rule()
    def finish_batch(self) -> None:
        assert self.batch is not None
        assert self.taken is not None
        self.broker.journal.write(self.batch)
        self.broker.journal.committed(self.batch)
        self.possible = [self.taken] if self.batch.sync else [*self.possible, self.taken]
        self.batch = self.taken = None
        self.broker.committed()

    @rule(down_ms=st.sampled_from([0, 0, 10, 1000]))
    def lose_power(self, down_ms: int) -> None:
        possible = self.possible if self.taken is None else [*self.possible, self.taken]
        self.start_again(self.broker.without_power, down_ms, possible)

    @rule(down_ms=st.sampled_from([0, 0, 10, 1000]))
    def kill(self, down_ms: int) -> None:
        written = self.possible[-1:]
        self.start_again(self.broker.killed, down_ms, written if self.taken is None else [*written, self.taken])

    @rule(down_ms=st.sampled_from([0, 10, 1000]))
    def restart(self, down_ms: int) -> None:
        for _ in range(3):
            if self.batch is None:
                self.take_batch(True)
            if self.batch is not None:
                self.finish_batch()
        self.start_again(self.broker.restarted, down_ms, [self.state()])

    def start_again(self, start: Callable[..., DeduplicatingBroker], down_ms: int, possible: list[State]) -> None:
        self.broker = start(down_ms=down_ms)
        self.broker.writes_at_once = False
        self.batch = self.taken = None
        now_ms = self.clock.monotonic_ms()
        not_expired = [
            State(tuple((value, deadline_ms) for value, deadline_ms in one.seen if deadline_ms > now_ms), one.ready)
            for one in possible
        ]
        found = State(self.found_seen(), tuple(int(message.body) for message in self.broker.queue("q").messages()))
        assert found in not_expired, f"found {found}, possible were {not_expired}"
        self.seen, self.ready = dict(found.seen), list(found.ready)
        self.possible = [found]
        self.connect()

    def found_seen(self) -> tuple[tuple[str, int], ...]:
        return tuple((VALUE_OF[digest], seen.deadline_ms or 0) for digest, seen in self.broker.seen("x")._seen.items())


DeduplicationMachine.TestCase.settings = settings(
    max_examples=int(os.environ.get("DURABILITY_EXAMPLES", "5")),
    stateful_step_count=int(os.environ.get("DURABILITY_STEPS", "30")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
TestDeduplication = DeduplicationMachine.TestCase
