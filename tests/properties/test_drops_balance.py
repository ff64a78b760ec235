"""Whatever clients do, each message that was published is somewhere, was consumed, or is counted as dropped, once."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from pamqp import commands
from pamqp.common import FieldTable

from amqp_broker.broker.traced_messages import Wanted
from tests.support.client import Client
from tests.support.examples import examples
from tests.support.memory_broker import MemoryBroker

QUEUES: dict[str, FieldTable] = {
    "plain": {},
    "short": {"x-max-length": 1},
    "full": {"x-max-length": 1, "x-overflow": "reject-publish"},
    "on": {"x-max-length": 1, "x-overflow": "reject-publish-dlx", "x-dead-letter-exchange": "amq.direct"},
    "brief": {"x-message-ttl": 10},
    "lettered": {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "short", "x-message-ttl": 20},
    "round": {"x-dead-letter-exchange": "", "x-message-ttl": 10},
    "nowhere": {"x-dead-letter-exchange": "missing", "x-max-length": 2},
    "unbound": {"x-dead-letter-exchange": "amq.topic", "x-max-length": 1},
}
NAMES = sorted(QUEUES)
names = st.sampled_from(NAMES)
steps = st.one_of(
    st.tuples(st.just("publish"), st.sampled_from([*NAMES, "nobody"])),
    st.tuples(st.just("get"), names),
    st.tuples(st.just("take"), names),
    st.tuples(st.sampled_from(["ack", "reject", "requeue"]), st.integers(0, 5)),
    st.tuples(st.just("purge"), names),
    st.tuples(st.just("pass"), st.sampled_from([5, 10, 25])),
)


class Program:
    """One client, and what it has done."""

    def __init__(self) -> None:
        self.broker = MemoryBroker()
        self.channel = Client(self.broker).open().channel()
        for name, arguments in QUEUES.items():
            self.channel.declare(name, arguments)
        self.published = self.consumed = 0
        self.unacknowledged: list[int] = []
        self.tag = 0

    def do(self, step: tuple[str, Any]) -> None:
        name, what = step
        if name == "publish":
            self.channel.publish("", what, b"1")
            self.published += 1
        elif name == "purge":
            self.channel.call(commands.Queue.Purge(queue=what))
        elif name == "pass":
            self.broker.advance(what)
        elif name in ("get", "take"):
            self._get(what, no_ack=name == "take")
        elif self.unacknowledged:
            self._settle(name, self.unacknowledged.pop(what % len(self.unacknowledged)))

    def _get(self, queue: str, *, no_ack: bool) -> None:
        if self.channel.get(queue, no_ack=no_ack) is None:
            return
        self.tag += 1
        if no_ack:
            self.consumed += 1
        else:
            self.unacknowledged.append(self.tag)

    def _settle(self, how: str, tag: int) -> None:
        if how == "ack":
            self.channel.send(commands.Basic.Ack(tag))
            self.consumed += 1
        else:
            self.channel.send(commands.Basic.Reject(tag, how == "requeue"))

    @property
    def waiting(self) -> int:
        """How many messages are in queues, or with the client."""
        queues = self.broker.virtual_host.queues.values()
        return sum(queue.ready_count + queue.unacknowledged_count for queue in queues)


@given(st.lists(steps, max_size=40))
@settings(max_examples=examples(60), deadline=None)
def test_nothing_is_lost_without_a_count_and_nothing_counted_twice(program: list[tuple[str, Any]]) -> None:
    one = Program()
    for step in program:
        one.do(step)
        dropped = sum(one.broker.drops.totals().values())
        assert one.published == one.waiting + one.consumed + dropped
    assert sum(row["count"] for row in one.broker.drops.rows()) == sum(one.broker.drops.totals().values())


@given(st.lists(steps, max_size=40))
@settings(max_examples=examples(60), deadline=None)
def test_a_trace_tells_of_each_message_what_has_become_of_it(program: list[tuple[str, Any]]) -> None:
    one = Program()
    one.broker.message_traces.start(Wanted(), "a test")
    for step in program:
        if step[0] != "purge":  # it is not told
            one.do(step)
    found = list(one.broker.message_traces.traces())
    assert len(found) == one.published
    dropped = {name: count for name, count in one.broker.drops.totals().items() if count}
    reasons: dict[str, int] = {}
    for trace in found:
        for reason in trace["reasons"]:
            reasons[reason] = reasons.get(reason, 0) + 1
    assert reasons == dropped
