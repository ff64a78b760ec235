"""The text for Prometheus, written by us and by the official client library: ``python -m benchmarks.exposition``.

A broker with many queues is scraped for each of them, in memory and without HTTP, once as it does it, and once as a
collector of the library (prometheus-client, which must be installed) that is handed the same numbers. Both are timed
in seconds of processor, as a whole, and by the longest turn, in which nobody else would have been served.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator
from functools import partial
from importlib import import_module
from typing import Any

import trio

from amqp_broker.access.client import Peer
from amqp_broker.broker.queues.base import Queue
from amqp_broker.management.http.call import Call
from amqp_broker.management.http.messages import Request
from amqp_broker.management.prometheus.families import OF_QUEUE
from amqp_broker.management.prometheus.scraping import Scrape
from tests.support.managed import Managed, managing

QUEUES = 10_000
ROUNDS = 5


def collected(queues: list[Queue], prometheus: Any) -> Iterator[Any]:
    """The queues' families, as the library wants them of a collector."""
    kinds = {"gauge": prometheus.GaugeMetricFamily, "counter": prometheus.CounterMetricFamily}
    names = [[queue.virtual_host.name, queue.name] for queue in queues]
    for family in OF_QUEUE:
        one = kinds[family.kind](f"rabbitmq_{family.name}", family.help, labels=["vhost", "queue"])
        for labels, queue in zip(names, queues, strict=True):
            one.add_metric(labels, family.number(queue))
        yield one


class Collector:
    """What the library asks at each scrape."""

    def __init__(self, queues: list[Queue], prometheus: Any) -> None:
        self._collect = partial(collected, queues, prometheus)

    def collect(self) -> Iterator[Any]:
        """The families."""
        return self._collect()


class LongestTurn(trio.abc.Instrument):
    """The longest time that one task has had the event loop for."""

    def __init__(self) -> None:
        self.longest_s, self._begun_s = 0.0, time.thread_time()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._begun_s = time.thread_time()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self.longest_s = max(self.longest_s, time.thread_time() - self._begun_s)


async def ours(managed: Managed) -> tuple[float, float, int]:
    """Seconds of processor, the longest turn, and bytes of a scrape of the families of queues."""
    groups = frozenset(family.group for family in OF_QUEUE)
    user, peer = next(iter(managed.broker.users)), Peer.at("127.0.0.1", 1, "127.0.0.1", 2)
    call = Call(managed.management, Request.of("GET", "/metrics/detailed", {}), {}, user, b"", peer)
    scrape = Scrape(call, "rabbitmq_", groups, None, "detailed")
    turns, size_bytes, begun_s = LongestTurn(), 0, time.thread_time()
    trio.lowlevel.add_instrument(turns)
    async for piece in scrape.pieces(has_objects=True):
        size_bytes += len(piece)
    trio.lowlevel.remove_instrument(turns)
    return time.thread_time() - begun_s, turns.longest_s, size_bytes


def the_library(queues: list[Queue]) -> tuple[float, float, int]:
    """The same of the library: it has no turns, so the whole is the longest."""
    library = import_module("prometheus_client")
    registry = library.CollectorRegistry()
    registry.register(Collector(queues, import_module("prometheus_client.core")))
    begun_s = time.thread_time()
    size_bytes = len(library.generate_latest(registry))
    taken_s = time.thread_time() - begun_s
    return taken_s, taken_s, size_bytes


async def main() -> None:
    """Print a line for each."""
    async with managing() as managed:
        host = managed.broker.virtual_hosts["/"]
        for number in range(QUEUES):
            host.add_queue(f"queue.{number:05}", durable=True, auto_delete=False, owner=None, table={})
        queues = list(host.queues.values())
        of_ours = [await ours(managed) for _ in range(ROUNDS)]
        of_library = [the_library(queues) for _ in range(ROUNDS)]
    for name, rounds in (("amqp-broker", of_ours), ("prometheus-client", of_library)):
        taken_s, turn_s, size_bytes = (statistics.median(column) for column in zip(*rounds, strict=True))
        sys.stdout.write(
            f"{name}: {taken_s:.2f} s of processor, longest turn {turn_s * 1000:.1f} ms, {size_bytes / 1e6:.1f} MB\n"
        )


if __name__ == "__main__":
    trio.run(main)
