"""What was applied to a queue on the way leaves no trace: it does as one that was declared with what is in force."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from pamqp import commands
from pamqp.common import FieldTable

from amqp_broker.broker.arguments import QueueArguments
from tests.support.client import Client, ClientChannel
from tests.support.examples import examples
from tests.support.memory_broker import MemoryBroker

NAMES = {
    "message_ttl_ms": "x-message-ttl",
    "expires_ms": "x-expires",
    "length_max": "x-max-length",
    "length_bytes_max": "x-max-length-bytes",
    "overflow": "x-overflow",
    "dead_letter_exchange": "x-dead-letter-exchange",
    "dead_letter_routing_key": "x-dead-letter-routing-key",
    "delivery_limit": "x-delivery-limit",
}

some_arguments = st.fixed_dictionaries(
    {},
    optional={
        "message_ttl_ms": st.integers(0, 200),
        "expires_ms": st.integers(1, 300),
        "length_max": st.integers(0, 4),
        "length_bytes_max": st.integers(0, 12),
        "overflow": st.sampled_from(["drop-head", "reject-publish", "reject-publish-dlx"]),
        "dead_letter_exchange": st.sampled_from(["", "nowhere"]),
        "delivery_limit": st.integers(0, 2),
    },
).map(lambda chosen: chosen | ({"dead_letter_routing_key": "dead"} if "dead_letter_exchange" in chosen else {}))

steps = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.integers(0, 4)),
        st.tuples(st.just("get"), st.just(0)),
        st.tuples(st.sampled_from(["ack", "requeue", "reject"]), st.just(0)),
        st.tuples(st.just("advance"), st.integers(1, 150)),
    ),
    max_size=25,
)


def as_applied(kind: str, chosen: dict[str, Any]) -> dict[str, Any]:
    """What a queue of this type makes of the arguments."""
    applied = dict(chosen)
    if kind == "classic":
        applied.pop("delivery_limit", None)
    elif applied.get("overflow") == "reject-publish-dlx":
        applied["overflow"] = "drop-head"
    return applied


def as_declared(kind: str, chosen: dict[str, Any]) -> FieldTable:
    """The arguments of queue.declare."""
    table: FieldTable = {NAMES[name]: value for name, value in chosen.items()}
    if kind == "classic":
        table.pop("x-delivery-limit", None)
    return {**table, "x-queue-type": kind}


def run(channel: ClientChannel, broker: MemoryBroker, program: Sequence[tuple[str, int]]) -> list[object]:
    """Do all that the program says, and tell what could be seen."""
    seen: list[object] = []
    tags: list[int] = []
    for number, (step, size) in enumerate(program):
        if "q" not in broker.virtual_host.queues:
            break
        if step == "publish":
            channel.publish("", "q", b"%d" % number + b"." * size)
        elif step == "get":
            message = channel.get("q")
            if message is not None:
                got = message.expect(commands.Basic.GetOk)
                seen.append((message.body, got.redelivered))
                tags.append(got.delivery_tag or 0)
        elif step == "advance":
            broker.advance(size)
        elif tags:
            tag = tags.pop(0)
            if step == "ack":
                channel.ack(tag)
            else:
                channel.nack(tag, requeue=step == "requeue")
        for name in ("q", "dead"):
            queue = broker.virtual_host.queues.get(name)
            seen.append(None if queue is None else [message.body for message in queue.messages()])
        broker.check_invariants()
    return seen


@settings(max_examples=examples(150), deadline=None)
@given(
    st.sampled_from(["classic", "quorum"]), some_arguments, st.lists(some_arguments, max_size=4), some_arguments, steps
)
def test_a_queue_does_as_if_it_had_been_declared_so(
    kind: str,
    declared: dict[str, Any],
    on_the_way: list[dict[str, Any]],
    in_force: dict[str, Any],
    program: list[tuple[str, int]],
) -> None:
    outcomes = []
    for is_applied in (True, False):
        broker = MemoryBroker()
        channel = Client(broker).open().channel()
        channel.declare("dead")
        channel.declare("q", as_declared(kind, declared if is_applied else in_force), durable=True)
        if is_applied:
            for chosen in (*on_the_way, in_force):
                broker.queue("q").apply(replace(QueueArguments(), **as_applied(kind, chosen)))
                broker.settle()
        outcomes.append(run(channel, broker, program))
    assert outcomes[0] == outcomes[1]
