"""Policies that are set, changed and removed, in any order, leave the same queues as if they had been declared so.

What the policies are in the end decides, not how they came to be so; only what a queue holds remembers more, and it
holds nothing until all of it is said. Compared is what is in force, and what a queue does with messages and time.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
from pamqp import commands
from pamqp.common import FieldTable

from amqp_broker.broker.policies import OPERATOR_POLICY, POLICY
from tests.support.client import Client
from tests.support.disk_broker import DiskBroker
from tests.support.examples import examples

QUEUES: dict[str, FieldTable] = {
    "a": {},
    "ab": {"x-max-length": 3, "x-overflow": "reject-publish", "x-message-deduplication": True},
    "b": {"x-queue-type": "quorum", "x-delivery-limit": 4},
    "ba": {"x-queue-type": "quorum", "x-dead-letter-exchange": "mine"},
    "bab": {"x-queue-type": "stream", "x-max-length-bytes": 5_000_000},
    "bb": {"x-queue-type": "stream"},
}

definitions = st.fixed_dictionaries(
    {},
    optional={
        "max-length": st.integers(0, 5),
        "message-ttl": st.integers(0, 1000),
        "expires": st.integers(1, 1000),
        "delivery-limit": st.integers(0, 8),
        "max-length-bytes": st.integers(1_000_000, 2_000_000),
    },
).filter(bool)
more = st.fixed_dictionaries(
    {},
    optional={
        "overflow": st.sampled_from(["drop-head", "reject-publish"]),
        "dead-letter-exchange": st.sampled_from(["dead", ""]),
        "alternate-exchange": st.just("amq.fanout"),
        "queue-mode": st.just("lazy"),
        "x-message-deduplication": st.booleans(),
        "max-age": st.sampled_from(["1h", "7D"]),
    },
)
names = st.sampled_from(["one", "two", "three"])
values = st.fixed_dictionaries(
    {
        "pattern": st.sampled_from(["", "^a", "a", "b$", "^ab$", "nothing"]),
        "priority": st.sampled_from([0, 1, -1]),
        "apply-to": st.sampled_from(["all", "queues", "exchanges", "classic_queues", "quorum_queues", "streams"]),
    }
)
set_one = st.builds(
    lambda name, value, definition, extra: (POLICY, name, value | {"definition": definition | extra}),
    names,
    values,
    definitions,
    more,
)
set_operators = st.builds(
    lambda name, value, definition: (OPERATOR_POLICY, name, value | {"definition": definition}),
    names,
    values,
    definitions,
)
clear_one = st.tuples(st.sampled_from([POLICY, OPERATOR_POLICY]), names, st.none())
declare_one = st.tuples(st.just("declare"), st.sampled_from(sorted(QUEUES)), st.none())
restart = st.just(("restart", "", None))
programs = st.lists(st.one_of(set_one, set_operators, clear_one, declare_one, restart), max_size=14)

MESSAGES = 7  # more than any length
LATER_MS = 2_000  # more than any time


def withdrawn(**definition: object) -> list[tuple[str, str, dict[str, Any] | None]]:
    """A program at whose end a policy is in force no more, of which queues have heard."""
    value = {"pattern": "", "priority": 0, "apply-to": "all", "definition": definition}
    return [("declare", name, None) for name in QUEUES] + [(POLICY, "one", value), (POLICY, "one", None)]


def declare(broker: DiskBroker, name: str) -> None:
    channel = Client(broker).open().channel()
    channel.declare(name, QUEUES[name], durable=True)
    channel.exchange(name, durable=True)


def state(broker: DiskBroker) -> dict[str, Any]:
    """What is in force for all."""
    host = broker.virtual_host
    queues = {
        name: (queue.arguments, queue.in_force.definition if queue.in_force else None)
        for name, queue in host.queues.items()
    }
    exchanges = {name: host.exchanges[name].alternate for name in QUEUES if name in host.exchanges}
    return {"queues": queues, "exchanges": exchanges}


def effects(broker: DiskBroker) -> dict[str, Any]:
    """What queues and exchanges do with messages, and which are there when time has passed."""
    channel = Client(broker).open().channel()
    for exchange in ("dead", "mine"):
        channel.exchange(exchange, "fanout", durable=True)
        channel.declare(f"{exchange} letters", durable=True)
        channel.bind(f"{exchange} letters", exchange)
    channel.declare("alternate", durable=True)
    channel.bind("alternate", "amq.fanout")
    channel.call(commands.Confirm.Select())
    confirms: dict[str, list[str]] = {}
    for name in QUEUES:
        for number in range(MESSAGES):
            headers = {"x-deduplication-header": number // 2}
            channel.publish("", name, b"%d" % number, delivery_mode=2, headers=headers)
        channel.publish(name, "for nobody", b"", delivery_mode=2)
        confirms[name] = [str(said.method.name) for said in channel.received()]
    at_once = lengths(broker)
    broker.advance(LATER_MS)
    return {"confirms": confirms, "at once": at_once, "later": lengths(broker)}


def lengths(broker: DiskBroker) -> dict[str, int]:
    """How many messages are in each queue that there is."""
    return {name: queue.ready_count for name, queue in broker.virtual_host.queues.items()}


@given(programs)
@example(withdrawn(**{"max-length": 2}))
@example(withdrawn(**{"max-length": 2, "overflow": "reject-publish"}))
@example(withdrawn(**{"message-ttl": 100}))
@example(withdrawn(expires=100))
@example(withdrawn(**{"max-length": 1, "dead-letter-exchange": "dead"}))
@example(withdrawn(**{"alternate-exchange": "amq.fanout", "x-message-deduplication": True}))
@settings(max_examples=examples(40), deadline=None)
def test_only_what_they_are_in_the_end_counts(program: list[tuple[str, str, dict[str, Any] | None]]) -> None:
    broker = DiskBroker()
    in_the_end: dict[tuple[str, str], dict[str, Any]] = {}
    for what, name, value in program:
        parameters = broker.administration.parameters
        if what == "declare":
            declare(broker, name)
        elif what == "restart":
            broker = broker.killed()
        elif value is not None:
            in_the_end[what, name] = value
            broker.handle(partial(parameters.set_policy, "/", name, value, what))
        elif (what, name) in in_the_end:
            del in_the_end[what, name]
            broker.handle(lambda: parameters.clear_policy("/", name, what))  # noqa: B023
    for name in QUEUES:
        declare(broker, name)
    declared_so = DiskBroker()
    for (component, name), value in in_the_end.items():
        declared_so.administration.parameters.set_policy("/", name, value, component)
    for name in QUEUES:
        declare(declared_so, name)
    assert state(broker) == state(declared_so)
    assert effects(broker) == effects(declared_so)
