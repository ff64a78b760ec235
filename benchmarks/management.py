"""What it costs a busy broker to be looked at: the management page is open, and four Prometheus scrape.

One cell is one set-up and two windows: in the first nobody looks, in the second the page is open in two tabs (the
overview and the list of queues) and each scraper asks every five seconds, as Prometheus does. Of ours the page's own
stream of events is read, of RabbitMQ the requests are sent that its page sends every five seconds.

The load has a pace: what is measured is whether it is kept, what the broker takes of the processor, and how long a
client of its own connection waits for the next message of an empty queue (``pauses.Prober``). The connections that are
held each consume a queue in which nothing comes.
"""

from __future__ import annotations

import base64
import http.client
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from urllib.parse import quote

from pamqp import commands
from pamqp.frame import marshal

from benchmarks.brokers import PEERS, RunningBroker, cpu_s, memory_bytes, watched
from benchmarks.cells import Cell, numbered
from benchmarks.client import Client
from benchmarks.crew import Board, Crew
from benchmarks.frames import batches, publish
from benchmarks.load import Consumer, Producer
from benchmarks.measuring import LATENESS, LONGEST, MEMORY, P50, P99, RATE, Figures, Timing, percentiles
from benchmarks.pauses import Prober
from benchmarks.watched import Lateness
from interop.brokers import Address, RabbitMQ, free_ports

BUSY = 20  # queues through which messages go, each with a connection that publishes and one that consumes
BATCH = 50
WINDOW = 200  # messages of each publisher that may be on their way
WINDOW_S_MIN = 20.0  # four looks of everybody
SETTLE_S = 3.0
EVERY_S = 5.0
SCRAPERS = 4
PATIENCE_S = 120.0
EMPTY = "benchmark.empty"

BEFORE = "before_"
CORES = "cores"  # that the broker's processes kept busy
PAGE_MS, SCRAPE_MS, SCRAPE_MB = "page_ms", "scrape_ms", "scrape_mb"

OUR_TABS = (
    ("/api/x/problems", "/api/nodes", "/api/overview"),
    ("/api/x/queues?sort=messages&sort_reverse=true&offset=0&limit=80",),
)
RABBITMQ_TABS = (
    ("/api/overview?lengths_age=60&lengths_incr=5&msg_rates_age=60&msg_rates_incr=5", "/api/nodes", "/api/vhosts"),
    ("/api/queues?page=1&page_size=100&name=&use_regex=false&pagination=true", "/api/vhosts"),
)
LOGIN = {"Authorization": "Basic " + base64.b64encode(b"guest:guest").decode()}


@dataclass(frozen=True)
class Scale:
    """How much there is.

    Args:
        queues: in all.
        connections: besides those that the messages go through.
        rate_per_s: of the messages that are published and consumed.
    """

    queues: int
    connections: int
    rate_per_s: int


@dataclass(frozen=True)
class Ports:
    """Where a broker is looked at."""

    management: int
    metrics: int


# --- those who look, and those who are there


@dataclass(frozen=True)
class Holder:
    """Holds connections, each with a consumer that gets nothing."""

    address: Address
    queues: list[str]

    def run(self, board: Board, ready: Callable[[], None]) -> None:
        """Hold them until the process is ended."""
        clients = [Client(self.address) for _ in self.queues]
        for number, (client, queue) in enumerate(zip(clients, self.queues, strict=True)):
            client.consume(queue, number, no_ack=True)
        ready()
        while True:
            time.sleep(3600)


@dataclass(frozen=True)
class Poller:
    """Asks for the same paths again and again, and notes how long each answer took.

    Args:
        port: where.
        paths: what it asks for, one after the other.
        offset_s: how long after the start it asks for the first time.
    """

    port: int
    paths: tuple[str, ...]
    offset_s: float = 0.0

    def run(self, board: Board, ready: Callable[[], None]) -> None:
        """Ask until the process is ended."""
        ready()
        time.sleep(self.offset_s)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        done, due_s = 0, time.monotonic()
        while True:
            for path in self.paths:
                begun_ns = time.monotonic_ns()
                connection.request("GET", path, headers=LOGIN)
                answer = connection.getresponse()
                board.published[0] = len(answer.read())
                if answer.status != http.HTTPStatus.OK:
                    raise RuntimeError(f"{path} was answered with {answer.status}")
                board.latencies_ns[done] = time.monotonic_ns() - begun_ns
                done += 1
                board.done[0] = done
            due_s += EVERY_S
            time.sleep(max(0.0, due_s - time.monotonic()))


@dataclass(frozen=True)
class Tab:
    """Our page: reads one stream of events, with what a screen watches."""

    port: int
    paths: tuple[str, ...]

    def run(self, board: Board, ready: Callable[[], None]) -> None:
        """Read until the process is ended."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        watch = "&".join(f"watch={quote(path, safe='')}" for path in self.paths)
        connection.request("GET", f"/api/x/events?{watch}", headers=LOGIN)
        answer = connection.getresponse()
        ready()
        while piece := answer.read1(65_536):
            board.done[0] += piece.count(b"data: ")
        raise RuntimeError("the stream of events has ended")


# --- the broker and its load


@contextmanager
def _managed(kind: str) -> Iterator[tuple[RunningBroker, Lateness | None, Ports]]:
    """A broker with its management on."""
    ports = Ports(*free_ports(2))
    if kind not in PEERS:
        names = {"MANAGEMENT": ports.management, "METRICS": ports.metrics}
        with watched(kind, {f"AMQP_BROKER_{name}_PORT": str(port) for name, port in names.items()}) as (ours, lateness):
            yield ours, lateness, ports
        return
    config = "".join(
        f"{name}.tcp.ip = 127.0.0.1\n{name}.tcp.port = {port}\n"
        for name, port in (("management", ports.management), ("prometheus", ports.metrics))
    )
    process = RabbitMQ(PEERS[kind](), config=config, plugins=("rabbitmq_management", "rabbitmq_prometheus"))
    try:
        yield RunningBroker(kind, process.address, process.pid, 0.0, process.ctl), None, ports
    finally:
        process.stop()


def _declare(client: Client, queues: list[str]) -> None:
    for start in range(0, len(queues), 500):
        some = queues[start : start + 500]
        client.socket.sendall(b"".join(marshal(commands.Queue.Declare(queue=name, nowait=True), 1) for name in some))
        client.ready_count(some[-1])


def _start_load(stack: ExitStack, broker: RunningBroker, scale: Scale) -> Crew:
    """Everybody who is there before anybody looks; returns the crew whose board counts the messages."""
    queues = numbered(scale.queues)
    with Client(broker.address) as client:
        _declare(client, [*queues, EMPTY])
    busy, idle = queues[:BUSY], queues[BUSY : BUSY + scale.connections]
    crew = stack.enter_context(Crew())
    crew.start(Holder(broker.address, idle))
    messages = [publish("", queue, b"x" * 12) for queue in busy]
    crew.start(Consumer(broker.address, [[queue] for queue in busy], messages[0].delivered_bytes))
    connections = [batches([message], BATCH) for message in messages]
    crew.start(Producer(broker.address, connections, 1, WINDOW * BUSY, rate_per_s=scale.rate_per_s))
    return crew


def _start_looking(stack: ExitStack, kind: str, ports: Ports, scrape: str) -> tuple[list[Crew], list[Crew]]:
    """Open the page and begin to scrape; returns the crews of the tabs and those of the scrapers."""
    if kind in PEERS:
        tabs = [_alone(stack, Poller(ports.management, paths)) for paths in RABBITMQ_TABS]
    else:
        tabs = [_alone(stack, Tab(ports.management, paths)) for paths in OUR_TABS]
    scrapers = [
        _alone(stack, Poller(ports.metrics, (scrape,), number * EVERY_S / SCRAPERS)) for number in range(SCRAPERS)
    ]
    return tabs, scrapers


def _alone(stack: ExitStack, worker: Holder | Poller | Tab | Prober) -> Crew:
    """A crew of one, so that its board is its own."""
    crew = stack.enter_context(Crew())
    crew.board.measure_latencies()
    crew.start(worker)
    return crew


# --- what is measured


def _window(broker: RunningBroker, load: Crew, prober: Crew, lateness: Lateness | None, window_s: float) -> Figures:
    time.sleep(SETTLE_S)
    if lateness is not None:
        lateness.reset()
    begun_s, cpu_before_s = time.monotonic(), cpu_s(broker.pid)
    done, probed = load.board.done[0], prober.board.done[0]
    time.sleep(window_s)
    took_s = time.monotonic() - begun_s
    load.check()
    prober.check()
    waits_ns = prober.board.latencies_ns[probed : prober.board.done[0]]
    figures = {
        RATE: (load.board.done[0] - done) / took_s,
        CORES: (cpu_s(broker.pid) - cpu_before_s) / took_s,
        P99: percentiles(waits_ns)[P99],
        LONGEST: max(waits_ns) / 1e6,
    }
    if lateness is not None:
        figures[LATENESS] = lateness.longest_ns / 1e6
    return figures


def looked_at(broker: RunningBroker, timing: Timing, *, scale: Scale, scrape: str) -> Figures:
    """The same load, first with nobody looking, then with the page open and four scrapers."""
    window_s = max(timing.window_s, WINDOW_S_MIN)
    with ExitStack() as stack:
        fresh, lateness, ports = stack.enter_context(_managed(broker.kind))
        load = _start_load(stack, fresh, scale)
        get = marshal(commands.Basic.Get(queue=EMPTY, no_ack=True), 1)
        prober = _alone(stack, Prober(fresh.address, get, 13))
        before = _window(fresh, load, prober, lateness, window_s)
        tabs, scrapers = _start_looking(stack, broker.kind, ports, scrape)
        figures = _window(fresh, load, prober, lateness, window_s)
        for crew in (*tabs, *scrapers):
            crew.check()
        figures |= {BEFORE + name: value for name, value in before.items()}
        if broker.is_peer:
            figures[PAGE_MS] = _median_ms(tabs)
        figures[SCRAPE_MS] = _median_ms(scrapers)
        figures[SCRAPE_MB] = scrapers[0].board.published[0] / 1e6
        figures[MEMORY] = memory_bytes(fresh.pid) / 1e6
        return figures


def _median_ms(crews: list[Crew]) -> float:
    took_ns = [one for crew in crews for one in crew.board.latencies_ns[: crew.board.done[0]]]
    return percentiles(took_ns)[P50] / 1000 if took_ns else 0.0


SCALES = {"small": Scale(1_000, 200, 5_000), "large": Scale(10_000, 2_000, 50_000)}
SCRAPES = {"sums": "/metrics", "per-object": "/metrics/per-object"}


def cells() -> list[Cell]:
    """All cells of this table."""
    return [
        Cell(f"looked-at/{size}/{what}", partial(looked_at, scale=scale, scrape=path))
        for size, scale in SCALES.items()
        for what, path in SCRAPES.items()
    ]
