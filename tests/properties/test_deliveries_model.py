"""What a restart, a kill and a power loss keep of deliveries: the marks, the counts, and what dies of having come back.

A client publishes to classic and quorum queues, takes, acknowledges, gives back, refuses and is lost; the broker ends
and starts again. The model knows of each message whether somebody had it and how often it came back; whatever is taken
must say so, and what came back more often than its queue's limit must be a dead letter once. All is written before a
broker ends: what is not is in ``test_durability_model.py``, as is the order.
"""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from random import Random
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from pamqp import commands

from tests.support.client import Received
from tests.support.disk_broker import DiskBroker, small_pages
from tests.support.examples import examples
from tests.support.memory_broker import small_slices

QUORUM: dict[str, Any] = {"x-queue-type": "quorum"}
TO_DEAD: dict[str, Any] = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
ARGUMENTS: dict[str, dict[str, Any]] = {
    "classic": {},
    "priority": {"x-max-priority": 3},
    "quorum": QUORUM,
    "never": QUORUM | TO_DEAD | {"x-delivery-limit": 0},
    "twice": QUORUM | TO_DEAD | {"x-delivery-limit": 2},
}
LIMITS = {name: arguments.get("x-delivery-limit") for name, arguments in ARGUMENTS.items()}
QUEUES = st.sampled_from(sorted(ARGUMENTS))
SHARES = st.sampled_from([0.4, 1.0])


class Copy:
    """A message in one queue, in the model."""

    def __init__(self, is_kept: bool) -> None:
        self.is_kept = is_kept
        self.was_delivered = False
        self.returns = 0
        self.tag = 0  # while a client has it


class DeliveriesMachine(RuleBasedStateMachine):
    """One broker, its disk, one client, and what was delivered."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.stack.enter_context(small_pages())
        self.stack.enter_context(small_slices())

    def teardown(self) -> None:
        dead = self.channel.drain("dead") if hasattr(self, "channel") else []
        self.stack.close()
        if hasattr(self, "channel"):
            assert Counter(int(body[:8]) for body in dead) == self.dead

    @initialize(series=st.sampled_from(["3.10", "4.0", "4.3"]), seed=st.integers(0, 2**32))
    def begin(self, series: str, seed: int) -> None:
        self.random = Random(seed)
        # Nothing on disk only: what has come back too often from there dies when it is read.
        self.broker = DiskBroker(behave_like=series)
        self.channel = self.broker.client().channel()
        self.channel.declare("dead", durable=True)
        for name, arguments in ARGUMENTS.items():
            self.channel.declare(name, arguments, durable=True)
            self.channel.bind(name, "amq.fanout")
        self.queues: dict[str, dict[int, Copy]] = {name: {} for name in ARGUMENTS}
        self.dead: Counter[int] = Counter()
        self.transient: set[int] = set()
        self.number = 0
        self.publish(None, is_persistent=True, count=6)

    # --- what a client does

    @rule(queue=st.one_of(st.none(), QUEUES), is_persistent=st.booleans(), count=st.integers(1, 8))
    def publish(self, queue: str | None, is_persistent: bool, count: int) -> None:
        """To one queue or to all."""
        exchange, key = ("", queue) if queue is not None else ("amq.fanout", "")
        for _ in range(count):
            self.number += 1
            mode, priority = 2 if is_persistent else 1, self.random.randrange(6)
            self.channel.publish(exchange, key, b"%08d" % self.number, delivery_mode=mode, priority=priority)
            if not is_persistent:
                self.transient.add(self.number)
            for name in [queue] if queue is not None else ARGUMENTS:
                is_kept = is_persistent or ARGUMENTS[name].get("x-queue-type") == "quorum"
                self.queues[name][self.number] = Copy(is_kept)

    @rule(count=st.integers(1, 4))
    def get(self, count: int) -> None:
        """From each queue."""
        for queue in ARGUMENTS:
            self.get_from(queue, count)

    def get_from(self, queue: str, count: int) -> None:
        for _ in range(count):
            message = self.channel.get(queue)
            if message is None:
                assert all(copy.tag for copy in self.queues[queue].values()), "some are missing"
                return
            copy = self.queues[queue][int(message.body[:8])]
            assert not copy.tag, "somebody has it already"
            self.check(queue, message, copy)
            copy.tag = message.expect(commands.Basic.GetOk).delivery_tag or 0
            copy.was_delivered = True

    def check(self, queue: str, message: Received, copy: Copy) -> None:
        assert message.expect(commands.Basic.GetOk).redelivered == copy.was_delivered
        if ARGUMENTS[queue].get("x-queue-type") == "quorum":
            assert message.headers.get("x-delivery-count", 0) == copy.returns

    def some_held(self, share: float) -> list[tuple[str, int, int]]:
        held = [(name, number, copy.tag) for name, there in self.queues.items() for number, copy in there.items()]
        return [one for one in held if one[2] and self.random.random() < share]

    @rule(share=SHARES)
    def acknowledge(self, share: float) -> None:
        for name, number, tag in self.some_held(share):
            self.channel.ack(tag)
            del self.queues[name][number]

    @rule(share=SHARES)
    def give_back(self, share: float) -> None:
        for name, number, tag in self.some_held(share):
            self.channel.nack(tag)
            self.came_back(name, number)

    @rule(share=SHARES)
    def refuse(self, share: float) -> None:
        for name, number, tag in self.some_held(share):
            self.channel.reject(tag, requeue=False)
            self.died(name, number)

    def came_back(self, queue: str, number: int) -> None:
        copy, limit = self.queues[queue][number], LIMITS[queue]
        copy.returns += 1
        copy.tag = 0
        if limit is not None and copy.returns > limit:
            self.died(queue, number)

    def died(self, queue: str, number: int) -> None:
        del self.queues[queue][number]
        if "x-dead-letter-exchange" in ARGUMENTS[queue]:
            self.dead[number] += 1

    @rule()
    def lose_connection(self) -> None:
        self.channel.client.connection.lost("gone")
        self.broker.settle()
        self.all_come_back()
        self.channel = self.broker.client().channel()

    def all_come_back(self) -> None:
        for name, number, _ in self.some_held(2):
            self.came_back(name, number)

    # --- the broker

    @rule()
    def reclaim(self) -> None:
        self.broker.reclaim()

    @rule()
    def restart(self) -> None:
        self.all_come_back()
        self.broker = self.broker.restarted()
        self.go_on()

    @rule(has_power=st.booleans())
    def kill(self, has_power: bool) -> None:
        self.broker.write()  # the marks as well
        self.broker = self.broker.killed() if has_power else self.broker.without_power()
        self.go_on()
        self.all_come_back()

    def go_on(self) -> None:
        for there in self.queues.values():
            for number in [number for number, copy in there.items() if not copy.is_kept]:
                del there[number]
        for number in self.transient:
            self.dead.pop(number, None)
        self.channel = self.broker.client().channel()


DeliveriesMachine.TestCase.settings = settings(
    max_examples=examples(100),
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
TestDeliveries = DeliveriesMachine.TestCase
