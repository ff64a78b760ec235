"""How cost grows with what the broker holds: each load with little of it and with much; and its longest pauses.

The flat cells of a pair carry the smaller number in their names. A pause is what a client sees that asks for something
trivial every millisecond: the longest time to its answer while the broker does something large.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

from pamqp import commands
from pamqp.frame import marshal

from benchmarks.brokers import RunningBroker
from benchmarks.cells import QUEUE, Cell, Plan, declared, many_queues, numbered, run_plan
from benchmarks.client import Client
from benchmarks.crew import Board, Crew
from benchmarks.frames import publish
from benchmarks.load import Caller
from benchmarks.measuring import LONGEST, P50, Figures, Timing, percentiles
from interop.brokers import Address

MILLION = 1_000_000
BACKLOG = "benchmark.backlog"


# --- throughput


def ready(broker: RunningBroker, timing: Timing, *, count: int) -> Figures:
    """A producer and a consumer, with so many messages ready in the same queue."""
    plan = Plan([[publish("", QUEUE, b"x" * 12)]], [[QUEUE]])
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


def idle_connections(broker: RunningBroker, timing: Timing, *, count: int) -> Figures:
    """A producer and a consumer, beside so many connections that say nothing."""
    plan = Plan([[publish("", QUEUE, b"x" * 12)]], [[QUEUE]])
    with ExitStack() as stack, declared(broker, [QUEUE]):
        for _ in range(count):
            stack.enter_context(Client(broker.address))
        return run_plan(broker, timing, plan)


# --- pauses


class Prober(Caller):
    """Asks for the next message of an empty queue, waits a millisecond, asks again; notes each answer's time."""

    def run(self, board: Board, ready: Callable[[], None]) -> None:
        """Ask until the process is ended."""
        with Client(self.address) as client:
            ready()
            done = 0
            while True:
                start_ns = time.monotonic_ns()
                client.socket.sendall(self.request)
                if not client.socket.recv(self.answer_bytes):
                    raise RuntimeError("the broker closed the connection")
                board.latencies_ns[done] = time.monotonic_ns() - start_ns
                done += 1
                board.done[0] = done
                time.sleep(0.001)


Large = Callable[[Client, Address], None]


def pause(broker: RunningBroker, timing: Timing, *, large: Large, count: int = MILLION) -> Figures:
    """The longest wait for a trivial answer while the broker does something to a queue of so many messages."""
    with declared(broker, [QUEUE, BACKLOG]) as client, Crew() as crew:
        client.fill(BACKLOG, count)
        time.sleep(1)
        crew.board.measure_latencies()
        request = marshal(commands.Basic.Get(queue=QUEUE, no_ack=True), 1)
        crew.start(Prober(broker.address, request, 13))
        time.sleep(0.3)
        before = crew.board.done[0]
        large(client, broker.address)
        time.sleep(1)
        crew.check()
        latencies_ns = crew.board.latencies_ns[before : crew.board.done[0]]
        return {LONGEST: max(latencies_ns) / 1e6, P50: percentiles(latencies_ns)[P50]}


def nothing(client: Client, address: Address) -> None:
    """For comparison: the messages just lie there."""
    time.sleep(2)


def publish_more(client: Client, address: Address) -> None:
    """200,000 more."""
    client.fill(BACKLOG, 200_000)


def purge(client: Client, address: Address) -> None:
    """queue.purge."""
    client.call(commands.Queue.Purge(queue=BACKLOG))


def delete(client: Client, address: Address) -> None:
    """queue.delete."""
    client.delete([BACKLOG])


def requeue(client: Client, address: Address) -> None:
    """All unacknowledged messages of a channel go back, because its connection ends."""
    with Client(address) as consumer:
        consumer.consume(BACKLOG, 0, no_ack=False)
        received_bytes = 0
        while received_bytes < 100_000 * 50:
            received_bytes += len(consumer.socket.recv(262_144))
        consumer.socket.sendall(marshal(commands.Basic.Recover(requeue=True), 1))
        time.sleep(0.2)


def cells() -> list[Cell]:
    """All cells of this table."""
    return [
        *(Cell(f"growth/{count}-ready", partial(ready, count=count)) for count in (0, MILLION)),
        *(Cell(f"growth/{count}-queues", partial(queues, count=count)) for count in (10, 10_000)),
        *(Cell(f"growth/{count}-bindings", partial(bindings, count=count)) for count in (10, 10_000)),
        *(Cell(f"growth/{2 * count}-busy-connections", partial(many_queues, count=count)) for count in (5, 500)),
        *(Cell(f"growth/{count}-idle-connections", partial(idle_connections, count=count)) for count in (0, 5_000)),
        *(
            Cell(f"pause/1000000-ready-{name}", partial(pause, large=large))
            for name, large in (("idle", nothing), ("publish", publish_more), ("purge", purge), ("delete", delete))
        ),
        Cell("pause/100000-requeued", partial(pause, large=requeue, count=100_000)),
    ]
