"""``python -m benchmarks.cluster``: three nodes of ours beside three of RabbitMQ, whose queues are quorum queues.

Each cell is a load of ``amqp-broker bench`` on one cluster and then on the other, both of which are there all the time:
persistent messages, published with confirms, and consumed with acknowledgements. It counts what was confirmed, or
consumed, and the processor time of all processes of the cluster, etcd's included; the load's own is not in it.
How the clusters are made is ``cluster_brokers.py``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import pika

from benchmarks.cluster_brokers import HOSTS, Cluster, Node, clusters
from interop.brokers import INSTALLATIONS, Address, our_environment

SIZES = (12, 1024, 16_384)
UNCONFIRMED_MAX = 200
QUEUE = "benchmark"
QUORUM = {"x-queue-type": "quorum"}
EXAMPLES = """\
examples:
  python -m benchmarks.cluster --rounds 1 --seconds 3 --sizes 1024 --cells 'at the owner'     a first look, a minute
  python -m benchmarks.cluster                          everything beside RabbitMQ 3.10, twelve minutes
  python -m benchmarks.cluster --rabbitmq 4.0 --json cluster.json
"""


@dataclass(frozen=True)
class Cell:
    """A load.

    Args:
        title: what it is.
        hosts: the virtual hosts that have it at the same time.
        is_elsewhere: whether clients come to another node than the one that serves the queue.
        is_consumed: whether somebody consumes.
    """

    title: str
    hosts: int = 1
    is_elsewhere: bool = False
    is_consumed: bool = True


CELLS = (
    Cell("publish, at the owner", is_consumed=False),
    Cell("publish, through another node", is_elsewhere=True, is_consumed=False),
    Cell("publish and consume, at the owner"),
    Cell("publish and consume, through another node", is_elsewhere=True),
    Cell("publish and consume, two virtual hosts at their owners", hosts=2),
    Cell("publish and consume, three virtual hosts at their owners", hosts=3),
)


@dataclass(frozen=True)
class Result:
    """What one run has measured.

    Args:
        cell: the load's title.
        size: of each message, in bytes.
        cluster: which one.
        rates: messages a second, of each virtual host.
        cpu_us: processor time of the cluster for each message, in microseconds.
        cores: how many processors it had busy.
    """

    cell: str
    size: int
    cluster: str
    rates: list[float]
    cpu_us: float
    cores: float


def run(cluster: Cluster, cell: Cell, size: int, seconds: float) -> Result:
    """Put one load on one cluster."""
    hosts = HOSTS[: cell.hosts]
    serving = {host: cluster.serving(host) for host in hosts}
    for host, node in serving.items():
        _declare(node.address(host))
    came_to = {host: _another(cluster, node) if cell.is_elsewhere else node for host, node in serving.items()}
    before_s, began_s = cluster.cpu_s(), time.monotonic()
    loads = [_start_load(came_to[host].address(host), size, seconds, cell.is_consumed) for host in hosts]
    said = [_end_load(load) for load in loads]
    used_s, took_s = cluster.cpu_s() - before_s, time.monotonic() - began_s
    for host, node in serving.items():
        _delete(node.address(host))
    counted, rate = ("consumed", "consumed_per_s") if cell.is_consumed else ("confirmed", "published_per_s")
    count = sum(one[counted] for one in said)
    return Result(cell.title, size, cluster.name, [one[rate] for one in said], 1e6 * used_s / count, used_s / took_s)


def _another(cluster: Cluster, node: Node) -> Node:
    return next(one for one in cluster.nodes if one.name != node.name)


def _start_load(address: Address, size: int, seconds: float, is_consumed: bool) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "amqp_broker", "bench", address.url, "--json", "--persistent"]
    command += ["--queue", QUEUE, "--queue-type", "quorum", "--confirms", str(UNCONFIRMED_MAX)]
    command += ["--size", str(size), "--seconds", str(seconds), "--consumers", str(int(is_consumed))]
    return subprocess.Popen(command, env=our_environment(), stdout=subprocess.PIPE)


def _end_load(load: subprocess.Popen[bytes]) -> dict[str, Any]:
    output, _ = load.communicate()
    if load.returncode:
        raise RuntimeError(f"the load ended with exit code {load.returncode}; what it said is above")
    return dict(json.loads(output.splitlines()[-1]))


def _declare(address: Address) -> None:
    """Have the queue at the node that is to serve it."""
    with pika.BlockingConnection(pika.URLParameters(address.url)) as connection:
        connection.channel().queue_declare(QUEUE, durable=True, arguments=QUORUM)


def _delete(address: Address) -> None:
    with pika.BlockingConnection(pika.URLParameters(f"{address.url}?heartbeat=0")) as connection:
        connection.channel().queue_delete(QUEUE)


def table(results: Sequence[Result]) -> Iterator[str]:
    """As Markdown: the medians of all rounds."""
    names = list(dict.fromkeys(result.cluster for result in results))
    yield f"| load | bytes | {' | '.join(f'{name}, msg/s | CPU µs/msg | cores' for name in names)} | ratio |"
    yield f"|---|--:|{'--:|' * (3 * len(names) + 1)}"
    for title, size in dict.fromkeys((result.cell, result.size) for result in results):
        fields, rates = [], []
        for name in names:
            runs = [one for one in results if (one.cell, one.size, one.cluster) == (title, size, name)]
            rates.append(median(sum(one.rates) for one in runs))
            cpu_us, cores = (median(values) for values in zip(*((one.cpu_us, one.cores) for one in runs), strict=True))
            fields += [f"{rates[-1]:,.0f}", f"{cpu_us:,.0f}", f"{cores:.2f}"]
        ratio = f"{rates[0] / rates[-1]:.2f}" if len(rates) > 1 and rates[-1] else ""
        yield f"| {title} | {size:,} | {' | '.join(fields)} | {ratio} |"


def main() -> None:
    """Measure, and print the table."""
    options = _parse()
    cells = [cell for cell in CELLS if options.cells in cell.title]
    if not cells:
        sys.exit(f"no cell is like that; there are: {'; '.join(cell.title for cell in CELLS)}")
    results: list[Result] = []
    loads = [os.getloadavg()[0]]
    with clusters(options.rabbitmq) as both:
        for number in range(options.rounds):
            for cell in cells:
                for size in options.sizes:
                    for cluster in both if number % 2 == 0 else reversed(both):
                        results.append(run(cluster, cell, size, options.seconds))
                        _tell(number, results[-1])
                        loads.append(os.getloadavg()[0])
    print(f"{options.rounds} times {options.seconds:g} s; load of the machine {min(loads):.1f} to {max(loads):.1f}\n")
    print("\n".join(table(results)))
    if options.json:
        with open(options.json, "w") as file:
            json.dump([vars(result) for result in results], file, indent=1)


def _tell(number: int, result: Result) -> None:
    rates = " + ".join(f"{rate:,.0f}" for rate in result.rates)
    line = f"{number + 1}: {result.cell}, {result.size:,} B, {result.cluster}: {rates}/s, {result.cpu_us:,.0f} µs"
    print(f"{line}, {result.cores:.2f} cores", file=sys.stderr, flush=True)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.cluster",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rabbitmq", choices=("", *INSTALLATIONS), default="3.10", help="which; empty: ours alone")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), metavar="BYTES", help="of each message")
    parser.add_argument("--seconds", type=float, default=5.0, help="each run publishes for so long")
    parser.add_argument("--rounds", type=int, default=3, help="how often each cell is run")
    parser.add_argument("--cells", default="", metavar="TEXT", help="those whose title has this text")
    parser.add_argument("--json", metavar="FILE", help="all figures, for programs")
    return parser.parse_args()


if __name__ == "__main__":
    main()
