"""`python -m benchmarks.backlog`: what a long backlog of persistent messages costs, on this broker and on RabbitMQ.

Three measurements, each broker in a folder of its own, one broker at a time:

- *a million small messages*: the time to publish them with confirms, memory, the time from the restart of the broker
  until the first delivery (once after a clean stop, once after ``kill -9``), the time to drain the queue;
- *a backlog larger than memory*: messages of 1 KiB under a memory budget, and the most memory that was ever resident;
- *confirms*: the latency of a confirm with one message in flight, by turns, and what one sync of the disk costs in the
  same minutes, because RabbitMQ confirms without one.

Every message carries its number, and every delivery is checked: a backlog that comes back in another order, or not
whole, is a failure. The table goes to standard output, progress to standard error.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Self

from pamqp import commands

from benchmarks.brokers import OURS, RABBITMQ, memory_bytes
from benchmarks.client import CONSUMER_TAG, Client
from benchmarks.frames import Confirms, ack, publish
from benchmarks.report import circumstances
from interop.brokers import Address, OurBroker, RabbitMQ

QUEUE = "benchmark.backlog"
BATCH = 100
CONFIRMS_WINDOW = 2_000
PREFETCH = 2_000
ACK_EVERY = 200
RECEIVE_BYTES = 262_144
BUDGET_BYTES = 536_870_912
SAMPLE_S = 0.1
LATENCY_SAMPLES = 2_000
LATENCY_ROUNDS = 3
CONFIRM_BYTES = 21  # a basic.ack
SYNC_BYTES = 256  # about what one small message takes in the journal
PATIENCE_S = 1_200.0

_NUMBER = struct.Struct(">Q")

Broker = OurBroker | RabbitMQ
Figures = dict[str, float]


class OutOfOrder(RuntimeError):
    """A delivery is not the one that was due."""


# --- the load


class Numbered:
    """Messages whose bodies begin with their numbers, made in batches.

    Args:
        body_bytes: the length of a body, at least 8.
    """

    def __init__(self, body_bytes: int) -> None:
        self.made = publish("", QUEUE, bytes(body_bytes), persistent=True)
        frames = self.made.frames
        number_offset = len(frames) - 1 - body_bytes
        self._before, self._after = frames[:number_offset], frames[number_offset + _NUMBER.size :]
        self.delivery_bytes = self.made.delivered_bytes + len(CONSUMER_TAG.format(0))
        in_delivery = self.delivery_bytes - 1 - body_bytes
        self.deliveries = struct.Struct(f">{in_delivery}xQ{self.delivery_bytes - in_delivery - _NUMBER.size}x")

    def batch(self, first: int, end: int) -> bytes:
        """The frames of the messages from first to end, end not included."""
        before, after, pack = self._before, self._after, _NUMBER.pack
        return b"".join([part for number in range(first, end) for part in (before, pack(number), after)])


def fill(address: Address, messages: Numbered, count: int) -> None:
    """Publish so many messages, and return when the last one is confirmed."""
    with Client(address) as client:
        client.call(commands.Confirm.Select())
        client.socket.settimeout(PATIENCE_S)
        confirms = Confirms()
        for first in range(0, count, BATCH):
            while first - confirms.count > CONFIRMS_WINDOW - BATCH:
                confirms.feed(_received(client))
            client.socket.sendall(messages.batch(first, min(first + BATCH, count)))
        while confirms.count < count:
            confirms.feed(_received(client))


def drain(
    address: Address, messages: Numbered, count: int, on_first: Callable[[], None] = lambda: None, *, only: int = 0
) -> None:
    """Consume and acknowledge so many messages, which must come in order; with ``only``, give the rest back then."""
    with Client(address) as client:
        client.socket.settimeout(PATIENCE_S)
        client.consume(QUEUE, 0, no_ack=False, prefetch=PREFETCH)
        data, next_number, acknowledged = client.rest, 0, 0
        while next_number < (only or count):
            data += _received(client)
            whole = len(data) // messages.delivery_bytes
            if not whole:
                continue
            if not next_number:
                on_first()
            used = whole * messages.delivery_bytes
            numbers = [number for (number,) in messages.deliveries.iter_unpack(memoryview(data)[:used])]
            if numbers != list(range(next_number, next_number + whole)):
                raise OutOfOrder(f"after message {next_number} came {numbers[:3]}...")
            data = data[used:]
            next_number += whole
            if not only and (next_number - acknowledged >= ACK_EVERY or next_number == count):
                client.socket.sendall(ack(next_number, multiple=True))
                acknowledged = next_number
        if not only:
            _see_that_it_is_empty(client)


def _see_that_it_is_empty(client: Client) -> None:
    deadline_s = time.monotonic() + 60
    while client.ready_count(QUEUE):
        if time.monotonic() > deadline_s:
            raise RuntimeError("the queue is not empty in the end")
        time.sleep(0.05)


def _received(client: Client) -> bytes:
    data = client.socket.recv(RECEIVE_BYTES)
    if not data:
        raise RuntimeError("the broker closed the connection")
    return data


# --- measuring


class MemoryWatch:
    """The most memory that a process and those below it had resident meanwhile; restarts are followed."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.peak_bytes = 0

    def _watch(self) -> None:
        while not self._end.wait(SAMPLE_S):
            self.peak_bytes = max(self.peak_bytes, memory_bytes(self._broker.pid))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()


def start(kind: str, budget_bytes: int = 0) -> Broker:
    """A broker with its defaults, but for the memory it may take."""
    if kind == OURS:
        return OurBroker(environment={"AMQP_BROKER_MEMORY_BUDGET_BYTES": str(budget_bytes)} if budget_bytes else {})
    limit = f"vm_memory_high_watermark.absolute = {budget_bytes}\n" if budget_bytes else ""
    return RabbitMQ(config=limit + "consumer_timeout = 36000000\n")


def _seconds(work: Callable[[], None]) -> float:
    started_s = time.monotonic()
    work()
    return time.monotonic() - started_s


def _declare(address: Address) -> None:
    with Client(address) as client:
        client.declare(QUEUE, durable=True)


def _until_first(broker: Broker, restart: Callable[[], None], messages: Numbered, count: int) -> float:
    """From the command to restart until a consumer has its first message."""
    started_s = time.monotonic()
    restart()
    seen_s: list[float] = []
    drain(broker.address, messages, count, lambda: seen_s.append(time.monotonic()), only=1)
    return seen_s[0] - started_s


def small_messages(kind: str, count: int) -> Figures:
    """A million messages of 100 bytes: publish, restart, drain."""
    messages = Numbered(100)
    broker = start(kind)
    try:
        _declare(broker.address)
        figures = {"idle MB": memory_bytes(broker.pid) / 1e6}
        with MemoryWatch(broker) as watch:
            figures["publish s"] = _seconds(lambda: fill(broker.address, messages, count))
            figures["backlog MB"] = memory_bytes(broker.pid) / 1e6
            figures["clean restart to first delivery s"] = _until_first(broker, broker.restart, messages, count)
            figures["kill and restart to first delivery s"] = _until_first(
                broker, broker.kill_and_restart, messages, count
            )
            figures["restarted MB"] = memory_bytes(broker.pid) / 1e6
            time.sleep(1)
            figures["drain s"] = _seconds(lambda: drain(broker.address, messages, count))
        figures["peak MB"] = watch.peak_bytes / 1e6
        return figures
    finally:
        broker.stop()


def large_backlog(kind: str, count: int) -> Figures:
    """Messages of 1 KiB, more than the memory budget holds: publish, drain, and the most memory."""
    messages = Numbered(1024)
    broker = start(kind, BUDGET_BYTES)
    try:
        _declare(broker.address)
        with MemoryWatch(broker) as watch:
            figures = {"publish s": _seconds(lambda: fill(broker.address, messages, count))}
            figures["peak MiB while published"] = watch.peak_bytes / 2**20
            figures["drain s"] = _seconds(lambda: drain(broker.address, messages, count))
        figures["peak MiB"] = watch.peak_bytes / 2**20
        return figures
    finally:
        broker.stop()


def confirm_latency(kinds: Sequence[str]) -> dict[str, Figures]:
    """One persistent message at a time, each confirmed before the next one is sent; and the sync of a disk, alone."""
    samples_us: dict[str, list[float]] = {}
    for _ in range(LATENCY_ROUNDS):
        for kind in kinds:
            samples_us.setdefault(kind, []).extend(_confirm_samples_us(kind))
        samples_us.setdefault("one write and sync", []).extend(_sync_samples_us())
    return {name: _quantiles(samples) for name, samples in samples_us.items()}


def _confirm_samples_us(kind: str) -> list[float]:
    broker = start(kind)
    try:
        _declare(broker.address)
        with Client(broker.address) as client:
            client.call(commands.Confirm.Select())
            message = publish("", QUEUE, bytes(100), persistent=True).frames
            return [_us(lambda: _confirmed(client, message)) for _ in range(LATENCY_SAMPLES)]
    finally:
        broker.stop()


def _confirmed(client: Client, message: bytes) -> None:
    client.socket.sendall(message)
    missing = CONFIRM_BYTES
    while missing:
        missing -= len(client.socket.recv(missing))


def _sync_samples_us() -> list[float]:
    """What it takes to append a little to a file whose space is reserved, and to sync it."""
    with tempfile.TemporaryFile() as file:
        descriptor = file.fileno()
        os.posix_fallocate(descriptor, 0, SYNC_BYTES * LATENCY_SAMPLES)
        os.fsync(descriptor)

        def append(number: int) -> None:
            os.pwrite(descriptor, b"x" * SYNC_BYTES, number * SYNC_BYTES)
            os.fdatasync(descriptor)

        return [_us(partial(append, number)) for number in range(LATENCY_SAMPLES)]


def _us(work: Callable[[], None]) -> float:
    started_ns = time.monotonic_ns()
    work()
    return (time.monotonic_ns() - started_ns) / 1e3


def _quantiles(samples_us: list[float]) -> Figures:
    samples_us.sort()
    return {"p50 us": statistics.median(samples_us), "p99 us": samples_us[len(samples_us) * 99 // 100]}


# --- the command


def main() -> int:
    """Run it all; returns the exit code."""
    options = _parse()
    kinds = (OURS, RABBITMQ) if options.broker == "both" else (options.broker,)
    runs: dict[str, Callable[[str], Figures]] = {
        f"{options.messages:,} messages of 100 bytes": lambda kind: small_messages(kind, options.messages),
        f"{options.large_messages:,} messages of 1 KiB under {BUDGET_BYTES // 2**20} MiB": lambda kind: large_backlog(
            kind, options.large_messages
        ),
    }
    results: dict[str, dict[str, Figures]] = {}
    has_failed = False
    for number, (title, run) in enumerate(runs.items(), 1):
        for kind in kinds if number in options.only else ():
            try:
                results.setdefault(title, {})[kind] = run(kind)
            except (RuntimeError, OSError) as error:
                has_failed = True
                _say(f"{title}, {kind}: failed: {error!r}")
            else:
                _say(f"{title}, {kind}: {results[title][kind]}")
    if len(runs) + 1 in options.only:
        results["Confirms with one message in flight"] = confirm_latency(kinds)
    _write(results, options.json)
    return 1 if has_failed else 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.backlog", description=__doc__.partition("\n")[0])
    parser.add_argument("--broker", choices=("both", OURS, RABBITMQ), default="both")
    parser.add_argument("--messages", type=int, default=1_000_000, help="of the small ones")
    parser.add_argument("--large-messages", type=int, default=5_000_000, help="of the large ones")
    parser.add_argument(
        "--only", type=int, action="append", choices=(1, 2, 3), help="1 small, 2 large, 3 latency; may be repeated"
    )
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    options = parser.parse_args()
    options.only = options.only or [1, 2, 3]
    return options


def _write(results: dict[str, dict[str, Figures]], json_path: Path | None) -> None:
    print(", ".join(f"{name} {value}" for name, value in circumstances().items()))
    for title, by_kind in results.items():
        kinds = list(by_kind)
        print(f"\n## {title}\n\n| | {' | '.join(kinds)} |\n|---|{'---:|' * len(kinds)}")
        for name in dict.fromkeys(name for figures in by_kind.values() for name in figures):
            values = (by_kind[kind].get(name) for kind in kinds)
            print(f"| {name} | {' | '.join('' if value is None else f'{value:,.1f}' for value in values)} |")
    sys.stdout.flush()
    if json_path is not None:
        json_path.write_text(json.dumps({"circumstances": circumstances(), "results": results}, indent=1))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
