"""How cost grows with what the broker holds: the same load with little of it and with much.

The number in a cell's name is how much there is.
"""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial

from benchmarks.brokers import RunningBroker
from benchmarks.cells import QUEUE, Cell, Plan, declared, numbered, run_plan
from benchmarks.client import Client
from benchmarks.frames import publish
from benchmarks.measuring import Figures, Timing

MILLION = 1_000_000
EACH_MAX = 10  # messages on their way of each busy connection, however many connections there are
BACKLOG = "benchmark.backlog"


# --- throughput


def ready(broker: RunningBroker, timing: Timing, *, count: int) -> Figures:
    """A producer and a consumer, with so many messages ready in the same queue all the time."""
    plan = Plan([[publish("", QUEUE, b"x" * 12)]], [[QUEUE]], keeps_backlog=True)
    with declared(broker, [QUEUE]) as client:
        client.fill(QUEUE, count)
        return run_plan(broker, timing, plan)


def queues(broker: RunningBroker, timing: Timing, *, count: int) -> Figures:
    """One producer and one consumer that use so many queues in turn."""
    names = numbered(count)
    plan = Plan([[publish("", name, b"x" * 12) for name in names]], [names])
    with declared(broker, names):
        return run_plan(broker, timing, plan)


def bindings(broker: RunningBroker, timing: Timing, *, count: int) -> Figures:
    """A direct exchange with so many bindings, all of them used in turn."""
    keys = [f"key.{number:05}" for number in range(count)]
    plan = Plan([[publish("benchmark.direct", key, b"x" * 12) for key in keys]], [[QUEUE]])
    with declared(broker, [QUEUE]) as client:
        client.declare_exchange("benchmark.direct", "direct")
        client.bind(QUEUE, "benchmark.direct", keys)
        return run_plan(broker, timing, plan)


def busy_connections(broker: RunningBroker, timing: Timing, *, count: int) -> Figures:
    """So many connections, half of which publish little at once; each shares a queue with one of the others."""
    names = numbered(count // 2)
    publishers = [[publish("", name, b"x" * 12)] for name in names]
    plan = Plan(publishers, [[name] for name in names], each_max=EACH_MAX)
    with declared(broker, names):
        return run_plan(broker, timing, plan)


def idle_connections(broker: RunningBroker, timing: Timing, *, count: int) -> Figures:
    """A producer and a consumer, beside so many connections that say nothing."""
    plan = Plan([[publish("", QUEUE, b"x" * 12)]], [[QUEUE]])
    with ExitStack() as stack, declared(broker, [QUEUE]):
        for _ in range(count):
            stack.enter_context(Client(broker.address))
        return run_plan(broker, timing, plan)


def cells() -> list[Cell]:
    """All cells of this table."""
    return [
        *(Cell(f"growth/{count}-ready", partial(ready, count=count)) for count in (0, 10_000, 100_000, MILLION)),
        *(Cell(f"growth/{count}-queues", partial(queues, count=count)) for count in (10, 1_000, 10_000)),
        *(Cell(f"growth/{count}-bindings", partial(bindings, count=count)) for count in (10, 1_000, 10_000)),
        *(
            Cell(f"growth/{count}-busy-connections", partial(busy_connections, count=count))
            for count in (10, 100, 1_000)
        ),
        *(
            Cell(f"growth/{count}-idle-connections", partial(idle_connections, count=count))
            for count in (0, 500, 5_000)
        ),
    ]
