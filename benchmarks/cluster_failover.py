"""``python -m benchmarks.cluster_failover``: for how long nobody is served when a node is lost, beside RabbitMQ.

Three nodes of each, and a queue with a backlog; another queue is published to with confirms by a client that comes to a
node which stays. The node that serves that queue is killed (its machine refuses connections then), ended in order,
stands still (as if its machine were gone), or hands over and goes on: by ``amqp-broker cluster step-down``, beside
``rabbitmq-upgrade drain``, which ends that node's clients and listeners as well, and ``revive``. What is measured is
the longest time between two confirms. Both clusters have the same client: it gives up a connection that says nothing
for five seconds, and connects again.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import pika
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import AMQPError

from benchmarks.cluster_brokers import Cluster, Node, Ours, RabbitMQs
from interop.brokers import INSTALLATIONS

WAYS = ("kill", "stop", "pause", "step-down")
BODY_BYTES = 16_384
UNCONFIRMED_MAX = 500  # while the backlog is made
STILL_S = 20.0  # a node that stands still does so for so long; RabbitMQ takes some time to notice
SETTLE_S = 5.0
PATIENCE_S = 60.0
QUORUM = {"x-queue-type": "quorum"}
PERSISTENT = pika.BasicProperties(delivery_mode=2)


class Prober:
    """Publishes one message after the other, and notes when each is confirmed.

    Args:
        node: where it comes to.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._ending = threading.Event()
        self.confirmed_s: list[float] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._ending.is_set():
            with contextlib.suppress(AMQPError, OSError), connected(self._node, timeout_s=5.0) as connection:
                channel = declared(connection, "probe")
                channel.confirm_delivery()
                while not self._ending.is_set():
                    channel.basic_publish("", "probe", b"x", PERSISTENT)
                    self.confirmed_s.append(time.monotonic())
                    time.sleep(0.005)
            time.sleep(0.02)

    def until_confirmed(self, count: int) -> None:
        """Return when so many more were confirmed."""
        wanted, deadline_s = len(self.confirmed_s) + count, time.monotonic() + PATIENCE_S
        while len(self.confirmed_s) < wanted:
            if time.monotonic() > deadline_s:
                raise RuntimeError(f"nothing was confirmed for {PATIENCE_S:g} s")
            time.sleep(0.02)

    def end(self) -> None:
        """Publish no more."""
        self._ending.set()
        self._thread.join(PATIENCE_S)

    def longest_gap_s(self, since_s: float) -> float:
        """Between two confirms, the second of them since then."""
        pairs = zip(self.confirmed_s, self.confirmed_s[1:], strict=False)
        return max(after - before for before, after in pairs if after >= since_s)


@contextmanager
def connected(node: Node, timeout_s: float) -> Iterator[pika.BlockingConnection]:
    """A client of a node, which gives up when nothing comes for so long."""
    parameters = pika.ConnectionParameters(node.host, node.port, heartbeat=2, socket_timeout=timeout_s)
    parameters.stack_timeout = timeout_s
    connection = pika.BlockingConnection(parameters)
    try:
        yield connection
    finally:
        with contextlib.suppress(AMQPError, OSError):
            connection.close()


def declared(connection: pika.BlockingConnection, queue: str) -> BlockingChannel:
    """A channel, and a durable queue on all nodes."""
    channel = connection.channel()
    channel.queue_declare(queue, durable=True, arguments=QUORUM)
    return channel


def fill(node: Node, size_bytes: int) -> None:
    """Have so much wait in a queue of its own."""
    parameters = pika.ConnectionParameters(node.host, node.port, heartbeat=0)
    with contextlib.closing(pika.BlockingConnection(parameters)) as connection:
        channel = declared(connection, "backlog")
        for number in range(size_bytes // BODY_BYTES):
            channel.basic_publish("", "backlog", bytes(BODY_BYTES), PERSISTENT)
            if number % UNCONFIRMED_MAX == 0:
                connection.process_data_events()
        channel.confirm_delivery()
        channel.basic_publish("", "backlog", b"last", PERSISTENT)


def lose(cluster: Cluster, way: str) -> float:
    """Lose the node that serves the probe's queue, and have it back; returns for how long nobody was served."""
    serving = cluster.serving_now("probe")
    prober = Prober(next(node for node in cluster.nodes if node.name != serving.name))
    try:
        prober.until_confirmed(50)
        began_s = time.monotonic()
        come_back = cluster.lose(serving, way)
        if way == "pause":
            time.sleep(STILL_S)
        prober.until_confirmed(50)
        come_back()  # who ends in order may serve for a while, and has ended now
        prober.until_confirmed(50)
        gap_s = prober.longest_gap_s(began_s)
    finally:
        prober.end()
    cluster.settle()
    time.sleep(SETTLE_S)
    return gap_s


def measure(make: Callable[[], Cluster], backlog_mb: int, ways: list[str], rounds: int) -> None:
    """Start a cluster, and print what it does in each of the ways."""
    cluster = make()
    try:
        first = cluster.serving("/")
        with connected(first, PATIENCE_S) as connection:
            declared(connection, "probe")
        if backlog_mb:
            fill(first, backlog_mb * 1_000_000)
        cluster.settle()
        time.sleep(SETTLE_S)
        for way in ways:
            gaps_s = []
            for _ in range(rounds):
                gaps_s.append(lose(cluster, way))
                text = f"{cluster.name}, {way}, {backlog_mb} MB: {gaps_s[-1]:.2f} s"
                print(f"{text}, load {os.getloadavg()[0]:.1f}", file=sys.stderr, flush=True)
            print(
                f"| {cluster.name} | {way} | {backlog_mb} | {median(gaps_s):.2f} | {max(gaps_s):.2f} | {rounds} |",
                flush=True,
            )
    finally:
        cluster.end()


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.cluster_failover", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rabbitmq", choices=("", *INSTALLATIONS), default="3.10", help="which; empty: ours alone")
    parser.add_argument("--backlog", type=int, default=1000, metavar="MB", help="that waits in a queue")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print("| | what | backlog, MB | p50, s | worst, s | times |\n|---|---|--:|--:|--:|--:|", flush=True)
    with tempfile.TemporaryDirectory(prefix="amqp-broker-cluster-") as folder:
        measure(lambda: Ours(Path(folder), shards=1), options.backlog, options.ways, options.rounds)
    if options.rabbitmq:
        installation = INSTALLATIONS[options.rabbitmq]()
        if installation is None:
            sys.exit(f"RabbitMQ {options.rabbitmq} is not installed")
        measure(lambda: RabbitMQs(installation), options.backlog, options.ways, options.rounds)


if __name__ == "__main__":
    main()
