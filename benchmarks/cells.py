"""The cells of the table: each is one load, put on one broker for one window.

A cell declares what it needs, starts its workers, measures, and deletes what it declared. Names read like paths, so
that ``--cells 'auto-ack/*'`` chooses. Loads that grow are in ``growth.py``, what a call writes is in
``writes.py``, start-up and memory are in ``footprint.py``, stock clients in ``stock_clients.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from benchmarks.brokers import RunningBroker
from benchmarks.client import Client
from benchmarks.crew import Crew
from benchmarks.frames import Batch, Publish, batches, publish
from benchmarks.load import Acks, Answerer, Caller, Consumer, PacedProducer, Producer, StampReader
from benchmarks.measuring import Figures, Timing, measure

SIZES = {"12B": 12, "1KiB": 1024, "16KiB": 16_384, "1MiB": 1_048_576}
WINDOW_BYTES = 16_777_216
CONSUMED_WINDOW = 10_000
CONFIRMS_WINDOW = 1_000
BACKLOG_BYTES = 536_870_912  # what a cell without consumers may leave in the broker
QUEUE = "benchmark"
REPLY_QUEUE = "benchmark.reply"

Run = Callable[[RunningBroker, Timing], Figures]


@dataclass(frozen=True)
class Cell:
    """One line of the table."""

    name: str
    run: Run


# --- the usual load


@dataclass(frozen=True)
class Plan:
    """Who publishes what, and who consumes it.

    Args:
        publishers: the messages of each publishing connection.
        consumers: the queues of each consuming connection; empty for none.
        copies: how many deliveries one publish leads to.
        each_max: how many messages each publisher has on their way at most; half of them are sent in one call. 0 leaves
            both to the usual window.
        write_count: how many messages are sent in one call; 0 leaves that to the window.
        prefetch: of a consumer that acknowledges; 0 for the usual one.
        keeps_backlog: the consumer takes no more than is published, so that what was ready before stays so.
        publisher_channels, consumer_channels: of each connection.
    """

    publishers: list[list[Publish]]
    consumers: list[list[str]] = field(default_factory=list)
    copies: int = 1
    confirms: bool = False
    acks: Acks = Acks.NONE
    each_max: int = 0
    write_count: int = 0
    prefetch: int = 0
    keeps_backlog: bool = False
    publisher_channels: int = 1
    consumer_channels: int = 1

    @property
    def window(self) -> int:
        """How many messages may be on their way; fewer where each becomes many."""
        if self.each_max:
            return self.each_max * len(self.publishers)
        copies_max = max(1, self.copies // 5)
        return max(8, min(CONSUMED_WINDOW, WINDOW_BYTES // len(self.publishers[0][0].frames)) // copies_max)

    def producer(self, broker: RunningBroker) -> Producer:
        """The process that publishes."""
        confirms_window = min(CONFIRMS_WINDOW, self.window) if self.confirms else 0
        smallest = confirms_window or self.window
        count_max = self.write_count or self.each_max // 2 or max(1, smallest // 4 // len(self.publishers))
        connections: list[list[Batch]] = [batches(messages, count_max) for messages in self.publishers]
        return Producer(
            broker.address,
            connections,
            self.copies if self.consumers else 0,
            self.window,
            confirms_window,
            self.publisher_channels,
        )

    def consumer(self, broker: RunningBroker) -> Consumer:
        """The process that consumes."""
        prefetch = 0 if self.acks is Acks.NONE else self.prefetch or min(CONFIRMS_WINDOW, self.window)
        delivery_bytes = self.publishers[0][0].delivered_bytes
        lead_max = self.window if self.keeps_backlog else 0
        return Consumer(
            broker.address, self.consumers, delivery_bytes, self.acks, prefetch, self.consumer_channels, lead_max
        )


def run_plan(broker: RunningBroker, timing: Timing, plan: Plan) -> Figures:
    """Put a load on a broker that has the queues already, and measure it."""
    with Crew() as crew:
        if plan.consumers:
            crew.start(plan.consumer(broker))
            crew.start(plan.producer(broker))
            return measure(broker, crew, crew.board.done, timing)
        crew.start(plan.producer(broker))
        count_max = BACKLOG_BYTES // len(plan.publishers[0][0].frames)
        return measure(broker, crew, crew.board.published, timing, count_max)


@contextmanager
def declared(broker: RunningBroker, queues: list[str], *, durable: bool = False, **arguments: Any) -> Iterator[Client]:
    """Empty queues, and a client to bind and fill them; they are deleted in the end."""
    with Client(broker.address) as client:
        for queue in queues:
            client.declare(queue, durable=durable, **arguments)
        try:
            yield client
        finally:
            client.delete(queues)


def numbered(count: int) -> list[str]:
    """Names of queues, all of one length."""
    return [f"{QUEUE}.{number:05}" for number in range(count)]


# --- one queue


def one_queue(
    broker: RunningBroker,
    timing: Timing,
    *,
    body_bytes: int,
    persistent: bool,
    consumed: bool,
    confirms: bool,
    acks: Acks = Acks.NONE,
) -> Figures:
    """A producer, a queue, and a consumer or none."""
    message = publish("", QUEUE, b"x" * body_bytes, persistent=persistent)
    plan = Plan([[message]], [[QUEUE]] if consumed else [], confirms=confirms, acks=acks)
    with declared(broker, [QUEUE], durable=persistent):
        return run_plan(broker, timing, plan)


def _one_queue_cells() -> Iterator[Cell]:
    ways: dict[str, dict[str, Any]] = {
        "publish": {"consumed": False, "confirms": False},
        "confirms": {"consumed": False, "confirms": True},
        "auto-ack": {"consumed": True, "confirms": False},
        "single-acks": {"consumed": True, "confirms": True, "acks": Acks.SINGLE},
        "multiple-acks": {"consumed": True, "confirms": True, "acks": Acks.MULTIPLE},
    }
    for kind in ("transient", "persistent"):
        for way, chosen in ways.items():
            for size, body_bytes in SIZES.items():
                run = partial(one_queue, body_bytes=body_bytes, persistent=kind == "persistent", **chosen)
                yield Cell(f"{way}/{kind}/{size}", run)


# --- exchanges


def fan_out(
    broker: RunningBroker, timing: Timing, *, count: int, persistent: bool, each_max: int = 0, write_count: int = 0
) -> Figures:
    """One publish reaches many queues, each with a connection that consumes it; deliveries are counted."""
    queues = numbered(count)
    message = publish("benchmark.fanout", "", b"x" * 12, persistent=persistent)
    consumers = [[queue] for queue in queues]
    plan = Plan([[message]], consumers, copies=count, each_max=each_max, write_count=write_count)
    with declared(broker, queues, durable=persistent) as client:
        client.declare_exchange("benchmark.fanout", "fanout")
        for queue in queues:
            client.bind(queue, "benchmark.fanout", [""])
        return run_plan(broker, timing, plan)


def topic(broker: RunningBroker, timing: Timing, *, count: int) -> Figures:
    """So many patterns, spread over ten queues; every message has another key and matches one of them."""
    queues = numbered(10)
    messages = [publish("benchmark.topic", f"stock.nyse.{number:05}.usd", b"x" * 12) for number in range(count)]
    with declared(broker, queues) as client:
        client.declare_exchange("benchmark.topic", "topic")
        for position, queue in enumerate(queues):
            patterns = [f"stock.*.{number:05}.#" for number in range(position, count, 10)]
            client.bind(queue, "benchmark.topic", patterns)
        return run_plan(broker, timing, Plan([messages], [queues]))


def headers(broker: RunningBroker, timing: Timing, *, count: int) -> Figures:
    """So many bindings of a headers exchange, spread over ten queues; every message matches one of them."""
    queues = numbered(10)
    messages = [
        publish("benchmark.headers", "", b"x" * 12, headers={"stock": f"{number:05}", "market": "nyse"})
        for number in range(count)
    ]
    with declared(broker, queues) as client:
        client.declare_exchange("benchmark.headers", "headers")
        for number in range(count):
            arguments = {"x-match": "all", "stock": f"{number:05}", "market": "nyse"}
            client.bind(queues[number % 10], "benchmark.headers", [""], arguments)
        return run_plan(broker, timing, Plan([messages], [queues]))


# --- many queues, many channels


def many_queues(broker: RunningBroker, timing: Timing, *, count: int) -> Figures:
    """So many queues, each with a connection that publishes and one that consumes."""
    queues = numbered(count)
    plan = Plan([[publish("", queue, b"x" * 12)] for queue in queues], [[queue] for queue in queues])
    with declared(broker, queues):
        return run_plan(broker, timing, plan)


def many_channels(broker: RunningBroker, timing: Timing, *, count: int) -> Figures:
    """One publishing and one consuming connection with so many channels, and a queue for each."""
    queues = numbered(count)
    messages = [publish("", queue, b"x" * 12, channel=number) for number, queue in enumerate(queues, start=1)]
    plan = Plan([messages], [queues], publisher_channels=count, consumer_channels=count)
    with declared(broker, queues):
        return run_plan(broker, timing, plan)


def priorities(broker: RunningBroker, timing: Timing) -> Figures:
    """A queue with ten priorities; the messages have them in turn."""
    messages = [publish("", QUEUE, b"x" * 12, priority=number) for number in range(10)]
    with declared(broker, [QUEUE], x_max_priority=10):
        return run_plan(broker, timing, Plan([messages * 50], [[QUEUE]]))


# --- calls and answers


def get_loop(broker: RunningBroker, timing: Timing) -> Figures:
    """One basic.get after the other."""
    from pamqp import commands
    from pamqp.frame import marshal

    message = publish("", QUEUE, b"x" * 12)
    answer_bytes = message.delivered_bytes + 3  # get-ok has a count where deliver has the consumer tag's length
    with declared(broker, [QUEUE]) as client, Crew() as crew:
        client.fill(QUEUE, int(40_000 * (timing.warm_up_s + timing.window_s)))
        crew.board.measure_latencies()
        request = marshal(commands.Basic.Get(queue=QUEUE, no_ack=True), 1)
        crew.start(Caller(broker.address, request, answer_bytes))
        return measure(broker, crew, crew.board.done, timing)


def remote_procedure_call(broker: RunningBroker, timing: Timing) -> Figures:
    """Request and answer, each through a queue, one at a time."""
    request = publish("", QUEUE, b"x" * 12, reply_to=REPLY_QUEUE, correlation_id="1")
    answer = publish("", REPLY_QUEUE, b"x" * 12, correlation_id="1")
    with declared(broker, [QUEUE, REPLY_QUEUE]), Crew() as crew:
        crew.board.measure_latencies()
        crew.start(Answerer(broker.address, QUEUE, request.delivered_bytes, answer.frames))
        crew.start(Caller(broker.address, request.frames, answer.delivered_bytes, REPLY_QUEUE))
        return measure(broker, crew, crew.board.done, timing)


# --- latency


def latency(broker: RunningBroker, timing: Timing, *, rate_per_s: int, ready: int = 0) -> Figures:
    """From the call that sends a message to the call that receives it, at a fixed rate.

    Args:
        ready: so many messages lie in another queue meanwhile.
    """
    message = publish("", QUEUE, b"x" * 12)
    with declared(broker, [QUEUE, "benchmark.backlog"]) as client, Crew() as crew:
        client.fill("benchmark.backlog", ready)
        crew.board.measure_latencies()
        crew.start(StampReader(broker.address, QUEUE, message.delivered_bytes, 12))
        crew.start(PacedProducer(broker.address, message.frames, 12, rate_per_s))
        return measure(broker, crew, crew.board.done, timing)


def cells() -> list[Cell]:
    """All cells of the main table."""
    return [
        *_one_queue_cells(),
        *(
            Cell(f"fan-out-{count}/{kind}/12B", partial(fan_out, count=count, persistent=kind == "persistent"))
            for kind in ("transient", "persistent")
            for count in (5, 50)
        ),
        Cell("topic/1000-patterns", partial(topic, count=1_000)),
        Cell("topic/10000-patterns", partial(topic, count=10_000)),
        Cell("headers/1000-bindings", partial(headers, count=1_000)),
        Cell("queues/100", partial(many_queues, count=100)),
        Cell("channels/100", partial(many_channels, count=100)),
        Cell("priorities/10", priorities),
        Cell("get", get_loop),
        Cell("rpc", remote_procedure_call),
        Cell("latency/idle-100-per-s", partial(latency, rate_per_s=100)),
        Cell("latency/5000-per-s", partial(latency, rate_per_s=5_000)),
        Cell("latency/5000-per-s-1000000-ready", partial(latency, rate_per_s=5_000, ready=1_000_000)),
    ]
