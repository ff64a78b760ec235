"""The stream protocol side by side: this broker and RabbitMQ with its plugin, in turns, with their defaults.

    .venv/bin/python -m benchmarks.streams                         all that is installed, some minutes
    .venv/bin/python -m benchmarks.streams --cells 'publish*' --rounds 5
    .venv/bin/python -m benchmarks.streams --replay 10000000       one reads so many entries of 12 B from the first on

All brokers run at the same time, idle but for the one that is asked. Each cell is run in turns on each; shown is the
median of the rounds. A publisher sends frames that it has made before, so what it costs itself is next to nothing.
The percentiles are those of the time from a message to its confirm, and to its deliveries to consumers at the tail, a
thousand messages a second. Between two cells the disk has time to write what was left to it.
"""

from __future__ import annotations

import argparse
import multiprocessing
import select
import statistics
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from multiprocessing.connection import Connection
from typing import Self

from benchmarks.brokers import COMPILED, OURS, await_rest, cpu_s, empty_write_cache, memory_bytes
from benchmarks.brokers import _environment as environment_of
from interop.brokers import OurBroker, RabbitMQ, find_rabbitmq, find_rabbitmq_4, free_ports
from interop.stream_client import (
    CONFIRM,
    DELIVER,
    FIRST,
    NEXT,
    PUBLISH,
    UNSUBSCRIBE,
    StreamClient,
    array,
    blob,
    data_section,
    frame,
    sub_batch,
    u16,
    u64,
)
from interop.stream_client import CREDIT as CREDIT_KEY

FRAME_MESSAGES = 100
BATCH_MESSAGES = 100
UNCONFIRMED_MAX = 10_000  # entries
DURATION_S = 2.0
CREDIT = 10
PACED_PER_S = 1_000
PATIENCE_S = 60.0
REPLAY_PATIENCE_S = 900.0
_KEY = struct.Struct(">IHH")


@dataclass(frozen=True)
class Target:
    """A broker that is asked."""

    name: str
    port: int
    pid: int


Figures = dict[str, float]
Cell = Callable[[Target, int], Figures]


class Reader:
    """Takes frames from a socket, and counts what is in them; their content is passed by."""

    def __init__(self, client: StreamClient) -> None:
        self.socket = client._socket
        self._rest = b""
        self.confirmed = 0  # entries
        self.records = 0
        self.chunks = 0

    def read(self) -> None:
        """Take what has come, or wait for it."""
        data = self._rest + self.socket.recv(1_048_576)
        start, end = 0, len(data)
        while end - start >= 13:
            length, key, _ = _KEY.unpack_from(data, start)
            if key == CONFIRM:
                self.confirmed += int.from_bytes(data[start + 9 : start + 13], "big")
            elif key == DELIVER:
                if end - start < 17:
                    break
                self.records += int.from_bytes(data[start + 13 : start + 17], "big")
                self.chunks += 1
            if start + 4 + length > end:  # counted when its head has come; the rest is passed by
                self._skip(start + 4 + length - end)
                start = end
                break
            start += 4 + length
        self._rest = data[start:]

    def _skip(self, count: int) -> None:
        while count:
            count -= len(self.socket.recv(min(count, 1_048_576)))


def frame_of(body_bytes: int, *, batches: bool) -> tuple[bytes, int, int]:
    """A publish frame, how many entries it has, and how many messages."""
    message = data_section(bytes(body_bytes - 8)) if body_bytes > 8 else bytes(body_bytes)
    if batches:
        batch = sub_batch([message] * BATCH_MESSAGES)
        entries = [u64(number) + batch for number in range(10)]
    else:
        entries = [u64(number) + blob(message) for number in range(FRAME_MESSAGES)]
    messages = len(entries) * (BATCH_MESSAGES if batches else 1)
    return frame(PUBLISH, b"\1" + array(entries)), len(entries), messages


def publishing(body_bytes: int, *, batches: bool = False) -> Cell:
    """One publisher with confirms."""

    def cell(target: Target, turn: int) -> Figures:
        name = f"bench-{body_bytes}-{batches}-{turn}"
        with StreamClient(target.port) as client:
            client.create(name)
            client.declare_publisher(1, name)
            data, entries, messages = frame_of(body_bytes, batches=batches)
            reader = Reader(client)
            client._socket.setblocking(True)
            run_for(reader, data, entries, 0.5)
            reader.confirmed = 0
            used_s, started_s = cpu_s(target.pid), time.perf_counter()
            sent = run_for(reader, data, entries, DURATION_S)
            took_s, used_s = time.perf_counter() - started_s, cpu_s(target.pid) - used_s
        with StreamClient(target.port) as client:
            client.delete(name)
        count = sent * messages
        return {"1/s": count / took_s, "us CPU": used_s / count * 1e6}

    return cell


def run_for(reader: Reader, data: bytes, entries: int, duration_s: float) -> int:
    """Publish for so long and wait for the confirms; how many frames it were."""
    sent, before = 0, reader.confirmed
    end_s = time.perf_counter() + duration_s
    while time.perf_counter() < end_s:
        if sent * entries - (reader.confirmed - before) < UNCONFIRMED_MAX:
            reader.socket.sendall(data)
            sent += 1
        else:
            reader.read()
    while reader.confirmed - before < sent * entries:
        reader.read()
    return sent


def pacing(body_bytes: int, *, consumers: int = 1, behind: int = 0, rereading_count: int = 1) -> Cell:
    """A message each millisecond, and consumers at the tail.

    Args:
        body_bytes: of a message.
        consumers: how many there are.
        behind: so many entries are there already, which others read from the first on, again and again.
        rereading_count: how many these are.
    """

    def cell(target: Target, turn: int) -> Figures:
        name = f"bench-paced-{body_bytes}-{consumers}-{behind}-{rereading_count}-{turn}"
        entry = blob(data_section(bytes(body_bytes - 8)) if body_bytes > 8 else bytes(body_bytes))
        data = frame(PUBLISH, b"\1" + array([u64(0) + entry]))
        with ExitStack() as stack:
            client = stack.enter_context(StreamClient(target.port))
            client.create(name)
            stack.callback(client.delete, name)
            client.declare_publisher(1, name)
            if behind:
                fill(client, behind, body_bytes)
                await_rest(target.pid)
            tail = [stack.enter_context(StreamClient(target.port)) for _ in range(consumers)]
            for consumer in tail:
                consumer.subscribe(1, name, NEXT, CREDIT)
            rereading = None
            if behind:
                rereading = stack.enter_context(Rereading(target.port, name, behind, rereading_count))
            used_s, started_s = cpu_s(target.pid), time.perf_counter()
            confirms, deliveries = paced(client, tail, data)
            took_s, used_s = time.perf_counter() - started_s, cpu_s(target.pid) - used_s
        count = len(confirms)
        figures = {
            "1/s": count / took_s,
            "us CPU": used_s / count * 1e6,
            "p50 ms to the confirm": statistics.median(confirms) * 1e3,
            "p99 ms to the confirm": statistics.quantiles(confirms, n=100)[98] * 1e3,
            "p50 ms to the delivery": statistics.median(deliveries) * 1e3,
            "p99 ms to the delivery": statistics.quantiles(deliveries, n=100)[98] * 1e3,
        }
        if rereading is not None:
            figures["1/s read again"] = rereading.rate
        return figures

    return cell


class Rereading:
    """Consumers that read what there is from the first entry on, again and again, in a process of their own.

    Args:
        port: the broker's.
        name: the stream's.
        entries: how many each reads each time.
        consumers: how many there are.
    """

    def __init__(self, port: int, name: str, entries: int, consumers: int) -> None:
        self.rate = 0.0  # of entries a second, in the end
        self._ours, theirs = multiprocessing.Pipe()
        self._process = multiprocessing.Process(target=reread, args=(port, name, entries, consumers, theirs))

    def __enter__(self) -> Self:
        self._process.start()
        self._ours.recv()
        return self

    def __exit__(self, *_: object) -> None:
        self._ours.send(None)
        self.rate = self._ours.recv()
        self._process.join()


def reread(port: int, name: str, entries: int, consumers: int, ours: Connection) -> None:
    """Read so many entries again and again until told to end, and tell how many a second it were."""
    count = 0
    with ExitStack() as stack:
        clients = [stack.enter_context(StreamClient(port)) for _ in range(consumers)]
        ours.send(None)
        started_s = time.perf_counter()
        while not ours.poll():
            for client in clients:
                client.subscribe(1, name, FIRST, CREDIT)
            readers = [*map(begin, clients)]
            drain(readers, clients, entries, patience_s=REPLAY_PATIENCE_S, may_end=ours.poll)
            count += sum(reader.records for reader in readers)
            took_s = time.perf_counter() - started_s
            if ours.poll():
                break
            for client, reader in zip(clients, readers, strict=True):
                client._rest = reader._rest
                client.call(UNSUBSCRIBE, b"\1")
                client.frames.clear()
    ours.send(count / took_s)


def paced(client: StreamClient, consumers: list[StreamClient], data: bytes) -> tuple[list[float], list[float]]:
    """Publish for a while; how long each message took to its confirm, and to its deliveries, in seconds."""
    count = int(DURATION_S * PACED_PER_S)
    publisher = Reader(client)
    confirms: list[float] = []
    readers = {reader.socket: (reader, list[float](), one) for one in consumers for reader in (Reader(one),)}
    sockets = [publisher.socket, *readers]
    begin_s, sent = time.perf_counter(), 0
    while len(confirms) < count or any(len(times) < count for _, times, _ in readers.values()):
        now_s = time.perf_counter()
        while sent < count and begin_s + sent / PACED_PER_S <= now_s:
            client._socket.sendall(data)
            sent += 1
        wait_s = max(0.0, begin_s + sent / PACED_PER_S - time.perf_counter()) if sent < count else 1.0
        for ready in select.select(sockets, [], [], wait_s)[0]:
            reader, times, consumer = readers.get(ready, (publisher, confirms, client))
            reader.read()
            now_s = time.perf_counter()
            done = publisher.confirmed if reader is publisher else reader.records
            times += [now_s - begin_s - number / PACED_PER_S for number in range(len(times), done)]
            if reader.chunks:
                consumer.send(CREDIT_KEY, b"\1" + u16(reader.chunks))
                reader.chunks = 0
    return confirms, [one for _, times, _ in readers.values() for one in times]


def consuming(consumers: int, body_bytes: int, *, batches: bool = False, count: int = 200_000) -> Cell:
    """Consumers that read a whole stream from its first entry."""

    def cell(target: Target, turn: int) -> Figures:
        name = f"bench-read-{consumers}-{body_bytes}-{batches}-{turn}"
        with StreamClient(target.port) as publisher:
            publisher.create(name)
            publisher.declare_publisher(1, name)
            fill(publisher, count, body_bytes, batches=batches)
            took_s, used_s = read(target, name, count, consumers)
        with StreamClient(target.port) as client:
            client.delete(name)
        return {"1/s": consumers * count / took_s, "us CPU": used_s / count / consumers * 1e6}

    return cell


def fill(publisher: StreamClient, count: int, body_bytes: int, *, batches: bool = False) -> None:
    """Publish so many messages, and wait for the confirms."""
    data, entries, messages = frame_of(body_bytes, batches=batches)
    filling = Reader(publisher)
    for sent in range(count // messages):
        filling.socket.sendall(data)
        while (sent + 1) * entries - filling.confirmed > UNCONFIRMED_MAX:
            filling.read()
    while filling.confirmed < count // messages * entries:
        filling.read()


def read(
    target: Target, name: str, count: int, consumers: int = 1, *, patience_s: float = PATIENCE_S
) -> tuple[float, float]:
    """Have consumers read so many entries from the first on; how long it took, and the broker's processor time."""
    with ExitStack() as stack:
        clients = [stack.enter_context(StreamClient(target.port)) for _ in range(consumers)]
        used_s, started_s = cpu_s(target.pid), time.perf_counter()
        for client in clients:
            client.subscribe(1, name, FIRST, CREDIT)
        readers = [*map(begin, clients)]
        drain(readers, clients, count, patience_s=patience_s)
        return time.perf_counter() - started_s, cpu_s(target.pid) - used_s


def begin(client: StreamClient) -> Reader:
    """A reader that goes on where its client has subscribed; what has come already is counted."""
    reader = Reader(client)
    for key, _, content in client.frames:
        if key == DELIVER:
            reader.records += int.from_bytes(content[5:9], "big")
            client.credit(1)
    reader._rest = client._rest
    return reader


def drain(
    readers: list[Reader],
    clients: list[StreamClient],
    count: int,
    *,
    patience_s: float,
    may_end: Callable[[], bool] = lambda: False,
) -> None:
    """Read until each has so many records, or all may end; a credit goes back for each chunk."""
    poll = select.poll()
    left = {reader.socket.fileno(): (reader, client) for reader, client in zip(readers, clients, strict=True)}
    for descriptor in left:
        poll.register(descriptor, select.POLLIN)
    deadline_s = time.perf_counter() + patience_s
    while left and not may_end():
        assert time.perf_counter() < deadline_s, f"{len(left)} consumers wait"
        for descriptor, _ in poll.poll(1000):
            reader, client = left[descriptor]
            reader.chunks = 0
            reader.read()
            if reader.chunks:
                client.send(CREDIT_KEY, b"\1" + u16(reader.chunks))
            if reader.records >= count:
                del left[descriptor]
                poll.unregister(descriptor)


CELLS: dict[str, Cell] = {
    "publish, 12 B": publishing(12),
    "publish, 1 KiB": publishing(1024),
    "publish, 12 B, sub-batches of 100": publishing(12, batches=True),
    "publish, 1 KiB, sub-batches of 100": publishing(1024, batches=True),
    "1,000 a second, 12 B": pacing(12),
    "1,000 a second, 1 KiB": pacing(1024),
    "1,000 a second, 12 B, ten at the tail": pacing(12, consumers=10),
    "1,000 a second, 12 B, one reads from before": pacing(12, behind=1_000_000),
    "1,000 a second, 12 B, a hundred read from before": pacing(12, behind=1_000_000, rereading_count=100),
    "consume, 12 B, one": consuming(1, 12),
    "consume, 1 KiB, one": consuming(1, 1024, count=50_000),
    "consume, 12 B, ten": consuming(10, 12, count=100_000),
    "consume, 12 B, sub-batches of 100, one": consuming(1, 12, batches=True, count=1_000_000),
}


def replaying(target: Target, count: int) -> Figures:
    """One consumer that reads a stream of many entries of 12 B from its first, after the broker has come to rest."""
    name = "bench-replay"
    with StreamClient(target.port) as publisher:
        publisher.create(name)
        publisher.declare_publisher(1, name)
        fill(publisher, count, 12)
    await_rest(target.pid)
    memory_before = memory_bytes(target.pid)
    took_s, used_s = read(target, name, count, patience_s=REPLAY_PATIENCE_S)
    memory_after = memory_bytes(target.pid)
    with StreamClient(target.port) as client:
        client.delete(name)
    return {
        "1/s": count / took_s,
        "us CPU": used_s / count * 1e6,
        "MiB before": memory_before / 2**20,
        "MiB behind the last": memory_after / 2**20,
    }


@contextmanager
def targets(wanted: list[str]) -> Iterator[list[Target]]:
    """The brokers that there are, all running."""
    with ExitStack() as stack:
        found = []
        for name in wanted:
            (port,) = free_ports(1)
            started: RabbitMQ | OurBroker
            if name in (OURS, COMPILED):
                started = OurBroker(environment={**environment_of(name), "AMQP_BROKER_STREAM_PORT": str(port)})
            else:
                installation = find_rabbitmq() if name == "rabbitmq 3.10" else find_rabbitmq_4()
                config = f"stream.listeners.tcp.1 = 127.0.0.1:{port}\n"
                started = RabbitMQ(installation, config=config, plugins=["rabbitmq_stream"])
            stack.callback(started.stop)
            found.append(Target(name, port, started.pid))
        yield found


def installed() -> list[str]:
    """The names of the brokers of this machine."""
    return [OURS, *(name for name, found in (("rabbitmq 4.0", find_rabbitmq_4()),) if found)]


def main() -> None:
    """Run the cells, and print the table as it grows."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cells", default="*", help="a pattern of names")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--brokers", nargs="*", default=installed())
    parser.add_argument("--replay", type=int, metavar="ENTRIES", help="in place of the cells")
    options = parser.parse_args()
    print(f"| | | {' | '.join(options.brokers)} |\n|---|---|{'---|' * len(options.brokers)}")
    with targets(options.brokers) as found:
        if options.replay:
            replayed = [replaying(target, options.replay) for target in found]
            for unit in replayed[0]:
                shown = [figures[unit] for figures in replayed]
                print(f"| replay of {options.replay:,} | {unit} | {' | '.join(f'{each:,.2f}' for each in shown)} |")
            return
        for name, cell in CELLS.items():
            if not fnmatchcase(name, options.cells):
                continue
            measured: dict[str, list[Figures]] = {target.name: [] for target in found}
            for turn in range(options.rounds):
                for target in found:
                    measured[target.name].append(cell(target, turn))
                    await_rest(target.pid)
                    empty_write_cache()
            for unit in measured[found[0].name][0]:
                shown = [statistics.median(figures[unit] for figures in measured[target.name]) for target in found]
                print(f"| {name} | {unit} | {' | '.join(f'{figure:,.2f}' for figure in shown)} |", flush=True)


if __name__ == "__main__":
    main()
