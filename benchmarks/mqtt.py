"""MQTT side by side: this broker, mosquitto and RabbitMQ with its plugin, in turns, with their defaults.

    .venv/bin/python -m benchmarks.mqtt                      everything that is installed, a quarter of an hour
    .venv/bin/python -m benchmarks.mqtt --cells 'qos*' --rounds 5

All brokers run at the same time, idle but for the one that is asked. Each cell is run in turns on each; shown is the
median of the rounds, and of the ratios of each round. Figures are in docs/mqtt.md.
"""

from __future__ import annotations

import argparse
import select
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase

from amqp_broker.protocols.mqtt.packets import Publish, Subscribe, Subscription
from benchmarks.brokers import COMPILED, OURS, await_rest, cpu_s, memory_bytes
from benchmarks.brokers import _environment as environment_of
from benchmarks.mqtt_client import Device, Flow, encode
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
AT_ONCE = 100  # devices that connect while a crowd is made


@dataclass(frozen=True)
class Target:
    """A broker that is asked."""

    name: str
    address: Address
    pid: int


Figures = dict[str, float]  # what was measured, by its unit
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
        return {"1/s": count / took_s, "us CPU": used_s / count * 1e6, "p99 ms": percentile_ms(flow.latencies_s)}

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
    return {"1/s": deliveries / took_s, "us CPU": used_s / deliveries * 1e6, "p99 ms": percentile_ms(latencies_s)}


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
        "p99 ms": percentile_ms(latencies_s),
    }


def retained(target: Target, turn: int) -> Figures:
    """100,000 retained messages, and a subscription with wildcards that finds a thousand of them."""
    count, found = 100_000, 1_000
    publisher = Device(target.address, f"r{turn}")
    await_rest(target.pid)
    before_bytes = memory_bytes(target.pid)
    packets = [
        encode(Publish(f"retained/{turn}/{number // found}/{number % found:04}", bytes(BODY_BYTES), retain=True))
        for number in range(count)
    ]
    started_s = time.perf_counter()
    for start in range(0, count, found):
        publisher.socket.sendall(b"".join(packets[start : start + found]))
    publisher.socket.sendall(b"\xc0\x00")
    publisher.read(2)
    took_s = time.perf_counter() - started_s
    await_rest(target.pid)
    each_bytes = (memory_bytes(target.pid) - before_bytes) / count
    publisher.close()
    subscriber = Device(target.address, f"rs{turn}")
    started_s = time.perf_counter()
    subscriber.socket.sendall(encode(Subscribe(1, [Subscription(f"retained/{turn}/+/0007", 0)])))
    subscriber.read(5)
    size_bytes = sum(len(packet) for packet in packets[7::found])
    subscriber.socket.settimeout(5)
    try:
        subscriber.read(size_bytes)
        answer_ms = (time.perf_counter() - started_s) * 1000
    except TimeoutError:  # RabbitMQ finds none for a filter with wildcards
        answer_ms = float("nan")
    subscriber.close()
    return {"1/s": count / took_s, "bytes each": each_bytes, "ms to find": answer_ms}


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
    return {"1/s": count / took_s, "us CPU": used_s / count * 1e6, "p99 ms": percentile_ms(latencies_s)}


CELLS: dict[str, Cell] = {
    "qos 0": one_to_one(0),
    "qos 1": one_to_one(1),
    "qos 2": one_to_one(2),
    "1,000 subscribers": fan_out,
    "10,000 devices": many_devices,
    "100,000 retained": retained,
    "5,000 reconnects": storm,
}


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
            elif name in (OURS, COMPILED):
                started = OurBroker(options=["--mqtt-port", str(port)], environment=environment_of(name))
            else:
                installation = find_rabbitmq() if name == "rabbitmq 3.10" else find_rabbitmq_4()
                config = f"mqtt.listeners.tcp.1 = 127.0.0.1:{port}\n"
                started = RabbitMQ(installation, config=config, plugins=["rabbitmq_mqtt"])
            stack.callback(started.stop)
            found.append(Target(name, Address("127.0.0.1", port), started.pid))
        yield found


def installed() -> list[str]:
    """The names of the brokers of this machine."""
    others = (("mosquitto", find_mosquitto()), ("rabbitmq 3.10", find_rabbitmq()), ("rabbitmq 4.0", find_rabbitmq_4()))
    return [OURS, *(name for name, found in others if found)]


def main() -> None:
    """Run the cells, and print the table as it grows."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cells", default="*", help="a pattern of names")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--brokers", nargs="*", default=installed())
    options = parser.parse_args()
    print(f"| | | {' | '.join(options.brokers)} |\n|---|---|{'---|' * len(options.brokers)}")
    with targets(options.brokers) as found:
        for name, cell in CELLS.items():
            if fnmatchcase(name, options.cells):
                measured: dict[str, list[Figures]] = {target.name: [] for target in found}
                for turn in range(options.rounds):
                    for target in found:
                        measured[target.name].append(attempt(cell, target, turn))
                        await_rest(target.pid)
                for line in lines(name, measured):
                    print(line, flush=True)


def attempt(cell: Cell, target: Target, turn: int) -> Figures:
    """What a cell measures; nothing where the broker does not do it."""
    try:
        return cell(target, turn)
    except (AssertionError, OSError) as error:
        print(f"<!-- {target.name}: {type(error).__name__}: {error} -->", flush=True)
        return {}


def lines(name: str, measured: dict[str, list[Figures]]) -> Iterator[str]:
    """The table's lines of a cell: each figure's median, and the median of its ratios to ours."""
    ours = measured.get(OURS) or next(iter(measured.values()))
    for unit in ours[0]:
        texts = []
        for figures in measured.values():
            values = [each[unit] for each in figures if unit in each]
            pairs = [(each, mine) for each, mine in zip(figures, ours, strict=True) if unit in each and unit in mine]
            ratios = [each[unit] / mine[unit] for each, mine in pairs]
            text = f"{statistics.median(values):,.4g}" if values else "fails"
            texts.append(text if figures is ours or not ratios else f"{text} ({statistics.median(ratios):.2f})")
        yield f"| {name} | {unit} | {' | '.join(texts)} |"


if __name__ == "__main__":
    main()
