"""MQTT side by side: this broker, mosquitto and RabbitMQ with its plugin, in turns, with their defaults.

    .venv/bin/python -m benchmarks.mqtt                      the whole table of docs/mqtt.md, about ten minutes
    .venv/bin/python -m benchmarks.mqtt --cells 'QoS ?, *' --rounds 5

All brokers run at the same time, idle but for the one that is asked. Each cell is run in turns on each, the short ones
in three rounds, the long ones in one, of brokers that are started for it. How the table is written: ``mqtt_table.py``.
"""

from __future__ import annotations

import argparse
import os
import select
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase

from amqp_broker.protocols.mqtt.packets import Publish, Subscribe, Subscription
from benchmarks.brokers import COMPILED, OURS, await_rest, cpu_s, memory_bytes
from benchmarks.brokers import _environment as environment_of
from benchmarks.mqtt_client import Device, Flow, NotGranted, encode
from benchmarks.mqtt_table import Figures, Results, head, lines
from interop.brokers import (
    Address,
    Mosquitto,
    OurBroker,
    RabbitMQ,
    find_mosquitto,
    find_rabbitmq,
    find_rabbitmq_4,
    free_ports,
)

BODY_BYTES = 100
WINDOW = 20  # messages of QoS 1 or 2 on their way: with more than these mosquitto 2.0.11 loses some of QoS 2
PATIENCE_S = 90.0
SEARCHES = 50  # of retained messages
AT_ONCE = 100  # devices that connect while a crowd is made


@dataclass(frozen=True)
class Target:
    """A broker that is asked.

    Args:
        title: how the table calls it.
    """

    title: str
    address: Address
    pid: int


Cell = Callable[[Target, int], Figures]  # the round makes names new


# --- cells


def one_to_one(qos: int) -> Cell:
    """One publisher, one subscriber: as fast as it goes, then at a pace that leaves room."""

    def cell(target: Target, turn: int) -> Figures:
        publisher, subscriber = Device(target.address, f"p{turn}"), Device(target.address, f"s{turn}")
        topic = f"bench/{qos}/{turn}"
        subscriber.subscribe(topic, qos)
        flow = Flow(publisher, subscriber, topic, BODY_BYTES, qos)
        count = (60_000, 20_000, 10_000)[qos]
        flow.run(count // 10, WINDOW)
        flow.received = flow.done = 0
        before_cpu_s, started_s = cpu_s(target.pid), time.perf_counter()
        flow.run(count, WINDOW if qos else 1_000)
        took_s, used_s = time.perf_counter() - started_s, cpu_s(target.pid) - before_cpu_s
        flow.received = flow.done = 0
        flow.latencies_s.clear()
        flow.run(1_000, 100, per_s=500)
        publisher.close()
        subscriber.close()
        return {
            "1/s": count / took_s,
            "µs CPU": used_s / count * 1e6,
            "p99 at 500/s, ms": percentile_ms(flow.latencies_s),
        }

    return cell


def fan_out(target: Target, turn: int) -> Figures:
    """One publisher, a thousand subscribers, QoS 0: as fast as it goes, then a message at a time."""
    count, messages, single = 1_000, 50, 10
    topic = f"fan/{turn}"
    packet = encode(Publish(topic, bytes(BODY_BYTES)))
    with devices(target, count, f"fan{turn}-") as subscribers:
        for one in subscribers:
            one.subscribe(topic, 0)
        publisher = Device(target.address, f"fan{turn}")
        before_cpu_s, started_s = cpu_s(target.pid), time.perf_counter()
        publisher.socket.sendall(packet * messages)
        latest_s = max(drain(subscribers, len(packet) * messages))
        used_s = cpu_s(target.pid) - before_cpu_s
        deliveries = count * messages
        latencies_s: list[float] = []
        for _ in range(single):
            sent_s = time.perf_counter()
            publisher.socket.sendall(packet)
            latencies_s += [arrived_s - sent_s for arrived_s in drain(subscribers, len(packet))]
        publisher.close()
    took_s = latest_s - started_s
    return {
        "deliveries/s": deliveries / took_s,
        "µs CPU": used_s / deliveries * 1e6,
        "p99 of a message at a time, ms": percentile_ms(latencies_s),
    }


def many_devices(target: Target, turn: int) -> Figures:
    """Ten thousand connected devices, of which each says something every ten seconds: memory each, CPU in all.

    Every hundredth says it with QoS 1: how long the answer takes.
    """
    count, seconds = 10_000, 10
    await_rest(target.pid)
    before_bytes = memory_bytes(target.pid)
    with devices(target, count, f"many{turn}-") as crowd:
        await_rest(target.pid)
        each_bytes = (memory_bytes(target.pid) - before_bytes) / count
        packet = encode(Publish(f"many/{turn}", bytes(BODY_BYTES)))
        with_answer = encode(Publish(f"many/{turn}", bytes(BODY_BYTES), 1, packet_id=1))
        latencies_s: list[float] = []
        before_cpu_s, started_s = cpu_s(target.pid), time.perf_counter()
        for number, one in enumerate(crowd):
            one.socket.sendall(packet if number % 100 != 99 else with_answer)
            if number % 100 == 99:
                sent_s = time.perf_counter()
                one.read(4)
                latencies_s.append(time.perf_counter() - sent_s)
                time.sleep(max(0.0, started_s + seconds * number / count - time.perf_counter()))
        await_rest(target.pid)
        used_s = cpu_s(target.pid) - before_cpu_s
    return {
        "KiB each": each_bytes / 1024,
        "% of a core": used_s / seconds * 100,
        "p99 of a PUBACK, ms": percentile_ms(latencies_s),
    }


def retained(target: Target, turn: int) -> Figures:
    """100,000 retained messages, and subscriptions with wildcards that find a thousand of them each."""
    count, found, others = 100_000, 1_000, 100
    publisher = Device(target.address, f"r{turn}")
    await_rest(target.pid)
    before_bytes = memory_bytes(target.pid)
    packets = [
        encode(Publish(f"retained/{turn}/{number // others:03}/{number % others:02}", bytes(BODY_BYTES), retain=True))
        for number in range(count)
    ]
    before_cpu_s, started_s = cpu_s(target.pid), time.perf_counter()
    for start in range(0, count, found):
        publisher.socket.sendall(b"".join(packets[start : start + found]))
    publisher.socket.sendall(b"\xc0\x00")
    publisher.read(2)
    took_s = time.perf_counter() - started_s
    await_rest(target.pid)
    used_s = cpu_s(target.pid) - before_cpu_s
    each_bytes = (memory_bytes(target.pid) - before_bytes) / count
    publisher.close()
    figures = {"kept, 1/s": count / took_s, "µs CPU to keep one": used_s / count * 1e6, "bytes each": each_bytes}
    before_cpu_s = cpu_s(target.pid)
    packet = encode(Subscribe(1, [Subscription(f"retained/{turn}/+/07", 0)]))
    latencies_s = list(searches(target, f"rs{turn}", packet, sum(len(one) for one in packets[7::others])))
    await_rest(target.pid)
    used_s = cpu_s(target.pid) - before_cpu_s
    nothing = float("nan")
    return {
        **figures,
        "1,000 found by a wildcard, ms": statistics.median(latencies_s) * 1000 if latencies_s else nothing,
        "p99, ms": percentile_ms(latencies_s) if latencies_s else nothing,
        "µs CPU to find one": used_s / SEARCHES / found * 1e6 if latencies_s else nothing,
    }


def searches(target: Target, client_id: str, packet: bytes, size_bytes: int) -> Iterator[float]:
    """How long subscriptions take until all that they find is here; nothing where nothing is found."""
    for _ in range(SEARCHES):
        subscriber = Device(target.address, client_id)
        started_s = time.perf_counter()
        subscriber.socket.sendall(packet)
        subscriber.read(5)
        subscriber.socket.settimeout(5)
        try:
            subscriber.read(1)
        except TimeoutError:  # RabbitMQ finds none for a filter with wildcards
            return
        finally:
            subscriber.socket.settimeout(PATIENCE_S)
        subscriber.read(size_bytes - 1)
        yield time.perf_counter() - started_s
        subscriber.close()


def is_answered(one: Device) -> bool:
    """Whether a device that has begun is let in; False where its connection is reset or ends."""
    try:
        return bool(one.socket.recv(4))
    except ConnectionResetError:
        return False


def storm(target: Target, turn: int) -> Figures:
    """5,000 devices with sessions that last are cut off and come back at the same moment."""
    count = 5_000
    with devices(target, count, f"storm{turn}-", clean=False) as crowd:
        for start in range(0, count, AT_ONCE):
            for one in crowd[start : start + AT_ONCE]:
                one.ask_for("storm", 1)
            for one in crowd[start : start + AT_ONCE]:
                one.subscribed(1)
    await_rest(target.pid)
    poll = select.poll()
    begun: dict[int, tuple[int, float]] = {}
    before_cpu_s, started_s = cpu_s(target.pid), time.perf_counter()
    latencies_s: list[float] = []
    back: dict[int, Device] = {}

    def come(number: int, begun_s: float) -> None:
        """Begin; whoever is refused because too many come at once begins again, as a device does."""
        try:
            one = Device.beginning(target.address, f"storm{turn}-{number}", clean=False)
        except ConnectionError:
            come(number, begun_s)
            return
        descriptor = one.socket.fileno()
        back[descriptor], begun[descriptor] = one, (number, begun_s)
        poll.register(descriptor, select.POLLIN)

    def answered(timeout_ms: int) -> None:
        for descriptor, _ in poll.poll(timeout_ms):
            poll.unregister(descriptor)
            number, begun_s = begun[descriptor]
            if is_answered(back[descriptor]):
                latencies_s.append(time.perf_counter() - begun_s)
            else:
                back.pop(descriptor).close()
                come(number, begun_s)

    for number in range(count):
        come(number, time.perf_counter())
        if number % 50 == 0:
            answered(0)
    while len(latencies_s) < count and time.perf_counter() - started_s < PATIENCE_S:
        answered(1000)
    took_s, used_s = time.perf_counter() - started_s, cpu_s(target.pid) - before_cpu_s
    for one in back.values():
        one.close()
    await_rest(target.pid)  # those that leave count as clients that have not logged in until they are gone
    with devices(target, count, f"storm{turn}-"):
        pass  # clean: the sessions are gone
    return {
        "1/s": count / took_s,
        "µs CPU each": used_s / count * 1e6,
        "p99 from CONNECT to its answer, ms": percentile_ms(latencies_s),
    }


SHORT: dict[str, Cell] = {
    "QoS 0, 1 to 1": one_to_one(0),
    f"QoS 1, 1 to 1, {WINDOW} on their way": one_to_one(1),
    f"QoS 2, 1 to 1, {WINDOW} on their way": one_to_one(2),
    "QoS 0, 1,000 subscribers": fan_out,
}
LONG: dict[str, Cell] = {  # each of brokers of its own: what one has left behind would count as the memory of the next
    "10,000 devices that say something every 10 s": many_devices,
    "100,000 retained messages": retained,
    "5,000 sessions that last come back at the same moment": storm,
}
SHORT_ROUNDS = 3


@contextmanager
def devices(target: Target, count: int, prefix: str, *, clean: bool = True) -> Iterator[list[Device]]:
    """So many of them, connected."""
    crowd: list[Device] = []
    try:
        for start in range(0, count, AT_ONCE):
            some = range(start, min(count, start + AT_ONCE))
            crowd += (Device.beginning(target.address, f"{prefix}{number}", clean=clean) for number in some)
            for number in some:
                crowd[number].connected()
        yield crowd
    finally:
        for one in crowd:
            one.close()


def drain(subscribers: list[Device], bytes_each: int) -> list[float]:
    """Read until each has got so many bytes; returns when each had."""
    complete_s: list[float] = []
    left = {one.socket.fileno(): bytes_each for one in subscribers}
    by_descriptor = {one.socket.fileno(): one for one in subscribers}
    poll = select.epoll()
    for descriptor in left:
        poll.register(descriptor, select.EPOLLIN)
    deadline_s = time.perf_counter() + PATIENCE_S
    while left:
        for descriptor, _ in poll.poll(1):
            left[descriptor] -= len(by_descriptor[descriptor].socket.recv(65_536))
            if left[descriptor] <= 0:
                complete_s.append(time.perf_counter())
                del left[descriptor]
                poll.unregister(descriptor)
        assert time.perf_counter() < deadline_s, f"{len(left)} subscribers wait"
    poll.close()
    return complete_s


def percentile_ms(latencies_s: list[float]) -> float:
    """The 99th percentile."""
    return sorted(latencies_s)[int(0.99 * (len(latencies_s) - 1))] * 1000


# --- running


@contextmanager
def targets(wanted: list[str]) -> Iterator[list[Target]]:
    """The brokers that there are, all running."""
    with ExitStack() as stack:
        found = []
        for name in wanted:
            (port,) = free_ports(1)
            started: Mosquitto | RabbitMQ | OurBroker
            if name == "mosquitto":
                started = Mosquitto(port)
                title = f"mosquitto {mosquitto_version()}"
            elif name in (OURS, COMPILED):
                started = OurBroker(options=["--mqtt-port", str(port)], environment=environment_of(name))
                title = "here" if name == OURS else "here, compiled"
            else:
                installation = find_rabbitmq() if name == "rabbitmq 3.10" else find_rabbitmq_4()
                config = f"mqtt.listeners.tcp.1 = 127.0.0.1:{port}\n"
                started = RabbitMQ(installation, config=config, plugins=["rabbitmq_mqtt"])
                title = f"RabbitMQ {started.ctl('version').strip()}"
            stack.callback(started.stop)
            found.append(Target(title, Address("127.0.0.1", port), started.pid))
        yield found


def mosquitto_version() -> str:
    """As it says itself."""
    program = find_mosquitto()
    assert program is not None
    said = subprocess.run([program, "-h"], capture_output=True, text=True, check=False).stdout
    return said.split()[2]


def installed() -> list[str]:
    """The names of the brokers of this machine."""
    others = (("mosquitto", find_mosquitto()), ("rabbitmq 3.10", find_rabbitmq()), ("rabbitmq 4.0", find_rabbitmq_4()))
    return [OURS, *(name for name, found in others if found)]


def main() -> None:
    """Run the cells, and print the table as it grows."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cells", default="*", help="a pattern of titles")
    parser.add_argument("--rounds", type=int, default=SHORT_ROUNDS, help="of the short cells")
    parser.add_argument("--brokers", nargs="*", default=installed(), help="ours first: ratios are to the first one")
    options = parser.parse_args()
    started_s = time.monotonic()
    groups = [(SHORT, options.rounds), *(({title: cell}, 1) for title, cell in LONG.items())]
    has_head = False
    for cells, rounds in groups:
        chosen = {title: cell for title, cell in cells.items() if fnmatchcase(title, options.cells)}
        if not chosen:
            continue
        with targets(options.brokers) as found:
            if not has_head:
                print("\n".join(head([target.title for target in found])), flush=True)
                has_head = True
            for title, cell in chosen.items():
                print("\n".join(measured(title, cell, rounds, found)), flush=True)
    print(f"\n<!-- {time.monotonic() - started_s:.0f} s -->")


def measured(title: str, cell: Cell, rounds: int, found: list[Target]) -> Iterator[str]:
    """The lines of a cell, asked of each broker in turn."""
    load, results = os.getloadavg()[0], [Results() for _ in found]
    for turn in range(rounds):
        for target, of_target in zip(found, results, strict=True):
            attempt(cell, target, turn, of_target)
            await_rest(target.pid)
    return lines(title, load, results)


def attempt(cell: Cell, target: Target, turn: int, results: Results) -> None:
    """Measure a cell once; a broker may not do what it asks for."""
    try:
        results.rounds.append(cell(target, turn))
    except NotGranted:
        results.failures.append("has none")
    except (AssertionError, OSError) as error:
        print(f"{target.title}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        results.failures.append("fails")


if __name__ == "__main__":
    main()
