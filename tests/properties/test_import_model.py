"""An import that is made in slices, with clients that declare, delete, bind and unbind what is in it between any two of
them: a broker that is killed at any time starts with what it would have had if it had gone on.

IMPORT_EXAMPLES in the environment makes it run for longer.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st
from pamqp import commands

from amqp_broker.broker.definitions import applying, making
from amqp_broker.broker.definitions.applying import DefinitionsImport
from amqp_broker.broker.definitions.export import exported
from tests.support.disk_broker import DiskBroker

EXCHANGES, QUEUES = ["x", "y"], ["a", "b", "c"]
DOCUMENT = {
    "vhosts": [{"name": "v"}],
    "exchanges": [{"name": name, "vhost": "/", "type": "direct", "durable": True} for name in EXCHANGES],
    "queues": [
        {"name": prefix + name, "vhost": host, "durable": True}
        for name in QUEUES
        for host, prefix in (("/", ""), ("v", "in v "))
    ],
    "bindings": [
        {
            "source": source,
            "vhost": "/",
            "destination": name,
            "destination_type": kind,
            "routing_key": "k",
            "arguments": {},
        }
        for source, kind, name in [
            ("x", "queue", "a"),
            ("x", "exchange", "y"),
            ("y", "queue", "b"),
            ("x", "queue", "old"),
            ("x", "queue", "c"),
            ("amq.topic", "queue", "b"),
            ("y", "queue", "a"),
        ]
    ],
}
NAMES = st.sampled_from([*QUEUES, "old"])
SOURCES = st.sampled_from([*EXCHANGES, "amq.topic"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("slices"), st.integers(1, 5)),
        st.tuples(st.just("queue"), NAMES),
        st.tuples(st.just("transient queue"), NAMES),
        st.tuples(st.just("no queue"), NAMES),
        st.tuples(st.just("exchange"), st.sampled_from(EXCHANGES)),
        st.tuples(st.just("no exchange"), st.sampled_from(EXCHANGES)),
        st.tuples(st.just("binding"), SOURCES, NAMES),
        st.tuples(st.just("no binding"), SOURCES, NAMES),
        st.tuples(st.just("no virtual host")),
        st.tuples(st.just("virtual host")),
    ),
    max_size=12,
)


def act(broker: DiskBroker, what: str, *names: object) -> None:
    """What somebody else does; where it is refused, nothing is done."""
    methods: dict[str, Callable[..., Any]] = {
        "queue": lambda name: commands.Queue.Declare(queue=name, durable=True),
        "transient queue": lambda name: commands.Queue.Declare(queue=name),
        "no queue": lambda name: commands.Queue.Delete(queue=name),
        "exchange": lambda name: commands.Exchange.Declare(exchange=name, exchange_type="direct", durable=True),
        "no exchange": lambda name: commands.Exchange.Delete(exchange=name),
        "binding": lambda source, name: commands.Queue.Bind(queue=name, exchange=source, routing_key="k"),
        "no binding": lambda source, name: commands.Queue.Unbind(queue=name, exchange=source, routing_key="k"),
    }
    if what == "slices":
        for _ in range(int(str(names[0]))):
            broker.go_on()
    elif what == "no virtual host":
        if "v" in broker.virtual_hosts:
            broker.handle(lambda: broker.administration.delete_virtual_host("v"))
    elif what == "virtual host":
        if "v" not in broker.virtual_hosts:
            broker.handle(lambda: broker.administration.add_virtual_host("v"))
    else:
        broker.client().channel().send(methods[what](*names))


def durable_of(broker: DiskBroker) -> list[str]:
    """All that should outlive a broker, in no order."""
    transient = {queue.name for queue in broker.virtual_host.queues.values() if not queue.durable}
    document: dict[str, Any] = exported(broker)
    return sorted(
        repr((section, one))
        for section in ("vhosts", "exchanges", "queues", "bindings")
        for one in document[section]
        if not {one.get("name"), one.get("destination")} & transient
    )


@settings(max_examples=int(os.environ.get("IMPORT_EXAMPLES", "15")), deadline=None)
@given(before=STEPS, meanwhile=STEPS)
def test_a_start_finds_what_would_have_been(
    before: list[tuple[object, ...]], meanwhile: list[tuple[object, ...]]
) -> None:
    with patch.object(making, "SLICE_MADE", 1), patch.object(applying, "TOGETHER_MAX", 3):
        broker = DiskBroker()
        act(broker, "queue", "old")
        definitions = DefinitionsImport(broker, DOCUMENT, who="a test")
        for _ in definitions.check():
            pass
        for what, *names in before:
            act(broker, str(what), *names)
        broker.goes_on = False
        broker.handle(definitions.begin)
        for what, *names in meanwhile:
            act(broker, str(what), *names)
        killed = DiskBroker(copy.deepcopy(broker.files), broker.clock)
        broker.goes_on = True
        broker.settle()
        assert durable_of(killed) == durable_of(broker)
        assert durable_of(broker.killed()) == durable_of(broker)
        live = broker.live_records()
        assert broker.killed().live_records() == live, "a record was left that means nothing"
