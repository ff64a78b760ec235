"""``python -m benchmarks.processes``: one process and two, with one busy virtual host and with two.

Each run is a broker of its own and, for each virtual host, a load of ``amqp-broker bench``: publishers that wait for
confirms, and a consumer that acknowledges. The virtual hosts belong to different processes, where there are two. It
counts what was consumed, and the processor time of all processes of the broker; the loads' own is not in it, and they
want processors as well: on a machine of two cores, two processes have less than two.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from interop.brokers import Address, OurBroker, our_environment

HOSTS = ("/", "other")  # the second one goes to the second process
UNCONFIRMED_MAX = 200


@dataclass(frozen=True)
class Result:
    """What one run has measured.

    Args:
        hosts: busy virtual hosts.
        processes: of the broker.
        rates: messages a second, of each virtual host.
        cpu_us: processor time of the broker for each message, in microseconds.
        cores: how many processors it had busy.
    """

    hosts: int
    processes: int
    rates: list[float]
    cpu_us: float
    cores: float


def run(hosts: int, processes: int, size: int, seconds: float, *, is_persistent: bool) -> Result:
    """Put one load on one broker."""
    broker = OurBroker(options=["--processes", str(processes)])
    loads: list[subprocess.Popen[bytes]] = []
    try:
        for name in HOSTS[1:]:
            broker.ctl("vhosts", "add", name)
            broker.ctl("permissions", "set", "guest", ".*", ".*", ".*", "--vhost", name)
        before_s, began_s = _cpu_s(broker.pid), time.monotonic()
        addresses = [replace(broker.address, vhost=name) for name in HOSTS[:hosts]]
        loads += [_start(address, size, seconds, is_persistent) for address in addresses]
        said = [_end(load) for load in loads]
        used_s, took_s = _cpu_s(broker.pid) - before_s, time.monotonic() - began_s
    finally:
        for load in loads:
            load.kill()  # where it has not ended by itself
            load.wait()
        broker.stop()
    count = sum(one["consumed"] for one in said)
    return Result(hosts, processes, [one["consumed_per_s"] for one in said], 1e6 * used_s / count, used_s / took_s)


def _start(address: Address, size: int, seconds: float, is_persistent: bool) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "amqp_broker", "bench", address.url, "--json", "--confirms", str(UNCONFIRMED_MAX)]
    command += ["--size", str(size), "--seconds", str(seconds), "--consumers", "1"]
    command += ["--persistent"] if is_persistent else []
    return subprocess.Popen(command, env=our_environment(), stdout=subprocess.PIPE)


def _end(load: subprocess.Popen[bytes]) -> dict[str, Any]:
    output, _ = load.communicate()
    if load.returncode:
        raise RuntimeError(f"the load ended with exit code {load.returncode}; what it said is above")
    return dict(json.loads(output.splitlines()[-1]))


def _cpu_s(pid: int) -> float:
    """The processor time of a process and of those that it has started (Linux)."""
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        children = [int(child) for child in file.read().split()]
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    own_s = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return own_s + sum(map(_cpu_s, children))


def table(results: Sequence[Result]) -> Iterator[str]:
    """As Markdown: the medians of all rounds."""
    yield "| busy virtual hosts | processes | msg/s, each | together | CPU µs/msg | cores |"
    yield "|--:|--:|--:|--:|--:|--:|"
    for hosts, processes in dict.fromkeys((one.hosts, one.processes) for one in results):
        runs = [one for one in results if (one.hosts, one.processes) == (hosts, processes)]
        each = [median(rates) for rates in zip(*(one.rates for one in runs), strict=True)]
        cpu_us, cores = median(one.cpu_us for one in runs), median(one.cores for one in runs)
        together = median(sum(one.rates) for one in runs)
        rates = " and ".join(f"{rate:,.0f}" for rate in each)
        yield f"| {hosts} | {processes} | {rates} | {together:,.0f} | {cpu_us:,.1f} | {cores:.2f} |"


def main() -> int:
    """Measure, and print the table; returns the exit code."""
    options = _parse()
    results: list[Result] = []
    loads = [os.getloadavg()[0]]
    try:
        for hosts, processes in options.rounds * [(1, 1), (1, 2), (2, 1), (2, 2)]:
            one = run(hosts, processes, options.size, options.seconds, is_persistent=options.persistent)
            results.append(one)
            loads.append(os.getloadavg()[0])
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    kind = "persistent" if options.persistent else "transient"
    print(f"{options.size:,} B, {kind}, {options.rounds} times {options.seconds:g} s; ", end="")
    print(f"{os.cpu_count()} cores, load of the machine {min(loads):.1f} to {max(loads):.1f}\n")
    print("\n".join(table(results)))
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks.processes", description=__doc__)
    parser.add_argument("--size", type=int, default=12, metavar="BYTES", help="of each message")
    parser.add_argument("--persistent", action="store_true", help="messages that are kept on disk")
    parser.add_argument("--seconds", type=float, default=5.0, help="each run publishes for so long")
    parser.add_argument("--rounds", type=int, default=3, help="how often each load is run")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
