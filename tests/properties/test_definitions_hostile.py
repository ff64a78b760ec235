"""Definitions in which anything stands anywhere: an import has all of it, in memory and on the disk, or refuses it with
a text that can be shown, and has changed nothing.

DEFINITIONS_EXAMPLES in the environment makes it run for longer.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Iterator
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from amqp_broker.broker.definitions.applying import import_definitions
from amqp_broker.broker.definitions.export import SECTIONS, exported
from amqp_broker.broker.problems import AdministrationError
from tests.support.disk_broker import DiskBroker
from tests.unit.test_definitions import BY_RABBITMQ

NUMBERS: list[object] = [0, -1, 1, 1.5, 2**31, 2**63, 2**64, 10**400, 1e308]
TEXTS: list[object] = [
    "",
    "é",
    "\ud800",
    "a" * 300,
    "x\n",
    "amq.x",
    "/",
    "shop",
    "quorum",
    "stream",
    "*",
    "(",
    "undefined",
]
OTHERS: list[object] = [None, True, False, [], [1], {}, {"a": 1}, [["a", 1]], [[]], {"": ""}, [{}]]
KEYS = ["x", "name", "vhost", "arguments", "type", "password", "x-max-length", "ha-mode"]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The ways to all that stands in a document."""
    if path:
        yield path
    if isinstance(value, dict):
        for key, one in value.items():
            yield from places(one, (*path, key))
    elif isinstance(value, list):
        for number, one in enumerate(value):
            yield from places(one, (*path, number))


def spoil(random: Random, document: dict[str, Any]) -> None:
    """Leave something out, add something, or put something else in its place."""
    *way, last = random.choice(list(places(document)))
    around: Any = document
    for key in way:
        around = around[key]
    how = random.random()
    if how < 0.2:
        del around[last]
    else:
        key = random.choice(KEYS) if how < 0.35 and isinstance(around, dict) else last
        around[key] = copy.deepcopy(random.choice(random.choice([NUMBERS, TEXTS, OTHERS])))


def kept(broker: DiskBroker) -> dict[str, list[str]]:
    """What there is that outlives the broker."""
    hosts = broker.virtual_hosts
    transient = {(host, name) for host in hosts for name, queue in hosts[host].queues.items() if not queue.durable}
    transient |= {(host, name) for host in hosts for name, one in hosts[host].exchanges.items() if not one.durable}
    document: dict[str, Any] = exported(broker)
    return {
        section: sorted(
            json.dumps(one)
            for one in document[section]
            if not transient & {(one.get("vhost"), one.get(key)) for key in ("name", "source", "destination")}
        )
        for section in SECTIONS
    }


@settings(max_examples=int(os.environ.get("DEFINITIONS_EXAMPLES", "20")), deadline=None)
@given(seed=st.integers(0, 2**32), count=st.integers(1, 3), into=st.sampled_from([None, None, "/"]))
def test_all_of_it_or_nothing(seed: int, count: int, into: str | None) -> None:
    random = Random(seed)
    document = copy.deepcopy(BY_RABBITMQ)
    for _ in range(count):
        spoil(random, document)
    broker = DiskBroker()
    records, before = broker.live_records(), kept(broker)
    try:
        broker.handle(lambda: import_definitions(broker, document, into, who="a test"))
    except AdministrationError as error:
        str(error).encode()
        assert broker.live_records() == records
        assert kept(broker) == before
    else:
        assert kept(broker.killed()) == kept(broker)
