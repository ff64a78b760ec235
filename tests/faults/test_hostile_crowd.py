"""200 hostile clients of AMQP, 60 of the HTTP API and some of MQTT, STOMP and web sockets, beside 20 honest ones, an
honest administrator and an honest device: every honest message is delivered in its order, and soon; the administrator
is answered each time; nothing is left behind, no task of another connection dies, and no traceback reaches the log.

A few seconds in ``make test``; ``HOSTILE_SECONDS=60`` in the environment makes it the whole minute, and asks RabbitMQ
for the same where it is installed, without HTTP, so that the latency under attack can be compared: p99 may be three
times the calm one, or RabbitMQ's.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest
import trio

from interop.brokers import OurBroker, RabbitMQ, find_rabbitmq
from tests.faults.hostile_crowd import Honest, percentile
from tests.faults.hostile_devices import KINDS, HonestDevice
from tests.faults.hostile_http import HonestAdministrator

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[2]
# Metrics have an address like the HTTP API's, and their default port may be free.
HTTP_ON_A_PORT_OF_ITS_OWN = {"AMQP_BROKER_MANAGEMENT_PORT": "0", "AMQP_BROKER_METRICS_PORT": "-1"}
SECONDS = float(os.environ.get("HOSTILE_SECONDS", "4"))
IS_LONG = SECONDS >= 60
HONEST, HOSTILE = 20, 200
MESSAGES_PER_S = 20.0
# The counts say exactly whether anything is left behind. Memory is only guarded against a gross leak: Python's
# allocator keeps an arena of a megabyte as long as one of its objects lives, and how many stay differs from run to run.
MEMORY_LEFT_BYTES_MAX = 256 * 1024 * 1024
SETTLE_S = 60.0
CALM_S_MAX = 10.0


class Seen(NamedTuple):
    """What the honest clients saw."""

    published: int
    delivered: int
    out_of_order: int
    calm_p99_s: float
    attacked_p50_s: float
    attacked_p99_s: float

    def __str__(self) -> str:
        return (
            f"{self.delivered} of {self.published} delivered, {self.out_of_order} out of order; p99 calm "
            f"{self.calm_p99_s * 1000:.1f} ms, under attack {self.attacked_p99_s * 1000:.1f} ms "
            f"(p50 {self.attacked_p50_s * 1000:.1f} ms)"
        )


class Others(NamedTuple):
    """Who else is honest."""

    administrator: HonestAdministrator
    device: HonestDevice


async def attack(port: int, others: Others | None = None, ports: Mapping[str, int] = {}) -> Seen:
    """Honest clients alone, and then with the hostile crowd.

    Args:
        ports: of the HTTP API, ``http``, and of other protocols.
    """
    crowd = [Honest(port, f"honest-{number}") for number in range(HONEST)]
    command = [sys.executable, "-m", "tests.faults.hostile_crowd", "--port", str(port)]
    command += ["--hostile", str(HOSTILE), "--seconds", str(SECONDS)]
    for name, other_port in ports.items():
        command += ["--http-port", str(other_port)] if name == "http" else ["--device-port", f"{name}={other_port}"]
    async with trio.open_nursery() as nursery:
        for honest in crowd:
            await nursery.start(honest.run, MESSAGES_PER_S)
        await trio.sleep(min(SECONDS / 4, CALM_S_MAX))
        calm = [latency for honest in crowd for latency in honest.latencies_s]
        counts = [len(honest.latencies_s) for honest in crowd]
        async with trio.open_nursery() as asking:
            if others is not None:
                asking.start_soon(others.administrator.run)
                asking.start_soon(others.device.run)
            await trio.run_process(command, cwd=REPOSITORY)
            if others is not None:
                await others.administrator.first_time.wait()  # a login waits behind those of the crowd
            asking.cancel_scope.cancel()
        attacked = [
            latency for honest, count in zip(crowd, counts, strict=True) for latency in honest.latencies_s[count:]
        ]
        for honest in crowd:
            honest.finish()
    return Seen(
        sum(honest.published for honest in crowd),
        sum(honest.delivered for honest in crowd),
        sum(honest.out_of_order for honest in crowd),
        percentile(calm, 0.99),
        percentile(attacked, 0.5),
        percentile(attacked, 0.99),
    )


def resident_bytes(pid: int) -> int:
    """The memory that a process occupies."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


OPEN_SEGMENTS_MAX = 4  # one that is written, twice; the first, with what lives; one that is being freed


class Held(NamedTuple):
    """What a broker has open and holds."""

    counts: dict[str, int]
    descriptors: int


def held(broker: OurBroker) -> Held:
    """What the broker says that it holds; but for the journal's segments, which grow with what honest clients kept."""
    status = json.loads(broker.ctl("status", "--json"))
    return Held(status["counts"], status["descriptors"]["used"] - open_segments(broker.pid))


def open_segments(pid: int) -> int:
    """How many descriptors a broker has for segments of its journal."""
    count = 0
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            count += descriptor.readlink().suffix == ".segment"
    return count


def until_only_this_is_held(broker: OurBroker, before: Held, bytes_max: int) -> Held:
    """Wait until the broker holds no more than before, or for a while; returns what it holds then. Its memory is given
    back when it looks for garbage, some seconds later.
    """
    deadline = time.monotonic() + SETTLE_S
    while time.monotonic() < deadline:
        after = held(broker)
        if after == before and resident_bytes(broker.pid) <= bytes_max:
            break
        time.sleep(0.1)
    return after


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads memory from /proc")
def test_a_hostile_crowd_harms_no_honest_client(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--mqtt-port", "0", "--stomp-port", "0", "--web-socket-port", "0"]
    broker = OurBroker(options=options, environment=HTTP_ON_A_PORT_OF_ITS_OWN)
    try:
        before, before_bytes = held(broker), resident_bytes(broker.pid)
        bytes_max = before_bytes + MEMORY_LEFT_BYTES_MAX
        ports = {
            name: int(port) for name, port in re.findall(r" on (http|mqtt|stomp|ws)://\S+?:(\d+)", broker.log_text())
        }
        assert ports.keys() == {"http", *KINDS}
        others = Others(HonestAdministrator(ports["http"]), HonestDevice(ports["mqtt"]))
        seen = trio.run(attack, broker.address.port, others, ports)
        peak_bytes = resident_bytes(broker.pid)
        after, after_bytes = until_only_this_is_held(broker, before, bytes_max), resident_bytes(broker.pid)
        segments = open_segments(broker.pid)
        log = broker.log_text()
    finally:
        broker.stop()
    with capsys.disabled():
        memory = f"memory {before_bytes >> 20} MiB before, {peak_bytes >> 20} at the end, {after_bytes >> 20} after"
        sys.stdout.write(f"\nours: {seen}; {others.administrator}; {others.device}; {memory}\n")
    assert "Traceback" not in log
    assert "internal error" not in log
    assert not others.administrator.failed
    assert others.administrator.answered > 0
    delivered = others.device.delivered
    assert delivered == list(range(1, len(delivered) + 1))
    assert len(delivered) in (others.device.published, others.device.published - 1)
    assert (seen.delivered, seen.out_of_order) == (seen.published, 0)
    assert after == before
    assert segments <= OPEN_SEGMENTS_MAX
    assert after_bytes <= bytes_max
    if IS_LONG and find_rabbitmq() is not None:
        theirs = ask_rabbitmq(capsys)
        assert seen.attacked_p99_s <= max(3 * seen.calm_p99_s, theirs.attacked_p99_s)


def ask_rabbitmq(capsys: pytest.CaptureFixture[str]) -> Seen:
    """What RabbitMQ's honest clients see under the same attack."""
    rabbitmq = RabbitMQ()
    try:
        before_bytes = resident_bytes(rabbitmq.pid)
        theirs = trio.run(attack, rabbitmq.address.port)
        after_bytes = resident_bytes(rabbitmq.pid)
    finally:
        rabbitmq.stop()
    memory = f"memory {before_bytes >> 20} MiB before, {after_bytes >> 20} MiB at the end of the attack"
    with capsys.disabled():
        sys.stdout.write(f"RabbitMQ: {theirs}; {memory}\n")
    return theirs
