"""What a stream of many entries takes: memory and disk for each thousand of them, and how long a start is with them.

    .venv/bin/python -m benchmarks.stream_memory                                     ten million in each way
    .venv/bin/python -m benchmarks.stream_memory --entries 100000000 --ways 'sub*'
    .venv/bin/python -m benchmarks.stream_memory --entries 1000000 --broker compiled
    .venv/bin/python -m benchmarks.stream_memory --index       what is in memory of where entries are, without a broker

Each way has a broker of its own, with its defaults. A tenth of the entries comes first, with what a broker takes once:
shown is what is resident more with all of them, in bytes for each thousand; after retention has dropped half, what the
allocator gives back may be nothing. Of the start, which follows an end in order, the processor time is shown, less that
with a tenth.
"""

from __future__ import annotations

import argparse
import json
import tracemalloc
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import accumulate
from pathlib import Path
from random import Random
from typing import cast

from amqp_broker.broker.queues.stream_log import StreamLog
from amqp_broker.journal.blocks import BLOCK_HEADER_BYTES
from amqp_broker.journal.files import File
from amqp_broker.journal.index import Segment
from amqp_broker.journal.index_pages import DEAD, SINGLE, fills_page
from amqp_broker.journal.segments import SEGMENT_HEADER_BYTES
from benchmarks.brokers import COMPILED, OURS, await_rest, cpu_s, memory_bytes
from benchmarks.brokers import _environment as environment_of
from benchmarks.client import Client
from benchmarks.frames import publish
from benchmarks.streams import fill
from interop.brokers import OurBroker, free_ports
from interop.stream_client import StreamClient

STREAM = "benchmark.stream"
QUEUE = "benchmark.queue"
BODY_BYTES = 12
AT_ONCE = 5_000  # messages of AMQP 0-9-1 that are written before their arrival is waited for
THOUSAND = 1_000
INDEXED_RECORDS = 98_304  # so many fill some of a stream's chunks
OVERHEAD_BYTES = 96  # of a record, beside the body
BATCH = 1000  # records that come together, where not one by one


class HastyBroker(OurBroker):
    """One with the clock of ``hasty_clock.py``."""

    module = "benchmarks.hasty_clock"


@dataclass(frozen=True)
class Way:
    """A way in which entries come.

    Args:
        fill: has so many come, over AMQP 0-9-1 or the port of the stream protocol.
        broker_type: what they come to.
    """

    fill: Callable[[OurBroker, int, int], None]
    broker_type: type[OurBroker] = OurBroker


def by_frames(broker: OurBroker, port: int, count: int, *, batches: bool = False) -> None:
    """By the stream protocol, a hundred messages in a frame, or in a sub-batch."""
    with StreamClient(port) as client:
        client.declare_publisher(1, STREAM)
        fill(client, count, BODY_BYTES, batches=batches)


def in_batches(broker: OurBroker, port: int, count: int) -> None:
    """By the stream protocol, in sub-batches of a hundred."""
    by_frames(broker, port, count, batches=True)


def one_by_one(broker: OurBroker, port: int, count: int, *, beside: bool = False) -> None:
    """By AMQP 0-9-1.

    Args:
        beside: whether a persistent message goes to a queue behind each.
    """
    entry = publish("", STREAM, b"x" * BODY_BYTES, persistent=True).frames
    other = publish("", QUEUE, b"x" * BODY_BYTES, persistent=True).frames if beside else b""
    with Client(broker.address) as client:
        if beside:
            client.declare(QUEUE, durable=True)
        for _ in range(count // AT_ONCE):
            client.socket.sendall((entry + other) * AT_ONCE)
            client.ready_count(STREAM)  # is answered when all has arrived


def beside_a_queue(broker: OurBroker, port: int, count: int) -> None:
    """By AMQP 0-9-1, a persistent message for a queue behind each; the queue is emptied in the end."""
    one_by_one(broker, port, count, beside=True)
    with Client(broker.address) as client:
        client.delete([QUEUE])


WAYS = {
    "frames of 100": Way(by_frames),
    "sub-batches of 100": Way(in_batches),
    "AMQP 0-9-1": Way(one_by_one),
    "AMQP 0-9-1, beside a queue's": Way(beside_a_queue),
    "AMQP 0-9-1, one a second": Way(one_by_one, HastyBroker),
}


def measure(way: Way, kind: str, count: int) -> dict[str, float]:
    """All that one way is asked."""
    (port,) = free_ports(1)
    broker = way.broker_type(environment={**environment_of(kind), "AMQP_BROKER_STREAM_PORT": str(port)})
    try:
        with Client(broker.address) as client:
            client.declare(STREAM, durable=True, x_queue_type="stream")
        first = count // 10
        thousands = (count - first) / THOUSAND
        way.fill(broker, port, first)
        tenth_bytes, tenth_disk_bytes = rest_bytes(broker), disk_bytes(broker)
        tenth_s, tenth_started_bytes = restart(broker)
        way.fill(broker, port, count - first)
        figures = {
            "memory": (rest_bytes(broker) - tenth_bytes) / thousands,
            "disk": (disk_bytes(broker) - tenth_disk_bytes) / thousands,
        }
        started_s, started_bytes = restart(broker)
        figures["memory, started again"] = (started_bytes - tenth_started_bytes) / thousands
        figures["start, s"] = started_s - tenth_s
        drop_half(broker)
        figures["memory, half dropped"] = (rest_bytes(broker) - tenth_started_bytes) / thousands
        figures["disk, half dropped"] = (disk_bytes(broker) - tenth_disk_bytes) / thousands
        return figures
    finally:
        broker.stop()


@dataclass(frozen=True)
class Pattern:
    """How entries come, as the index has it.

    Args:
        block: of how many entries and records each of the journal's records is made; None where each is an entry.
        block_bytes: of such a record.
        step_ms: from one record to the next.
        records: so many are the journal's for each of the stream, others between them.
        batch: so many of the journal's come in one batch, which leaves a number out.
        varied_bytes: so many bytes a record may have more.
        varied_ms: it may come so much later.
    """

    block: tuple[int, int] | None = None
    block_bytes: int = BODY_BYTES
    step_ms: float = 0.05
    records: int = 1
    batch: int = BATCH
    varied_bytes: int = 0
    varied_ms: int = 0

    def indexed(self) -> tuple[float, float]:
        """The bytes in memory for a thousand entries: the stream's, and the journal's while nothing was dropped."""
        tracemalloc.start()
        log = StreamLog(has_journal=True)
        self._append(log, 0)
        before_bytes, _ = tracemalloc.get_traced_memory()
        before_entries = len(log)
        self._append(log, INDEXED_RECORDS)
        used_bytes, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        thousands = (len(log) - before_entries) / THOUSAND
        return (used_bytes - before_bytes) / thousands, self.journal_bytes() / thousands

    def _append(self, log: StreamLog, start: int) -> None:
        """Add as many records as are indexed to a stream's, from one on."""
        random = Random(start)
        for number in range(start, start + INDEXED_RECORDS):
            place, wall_ms = number * self.records, int(1_800_000_000_000 + number * self.step_ms)
            wall_ms += random.randint(0, self.varied_ms)
            reference = 1 + place + place // self.batch
            body_bytes = self.block_bytes + random.randint(0, self.varied_bytes)
            if self.block is None:
                log.append_stored(reference, body_bytes, wall_ms)
            else:
                log.append_stored_block(reference, body_bytes, self.block, wall_ms)

    def journal_bytes(self) -> int:
        """What the journal's index takes for all of them, once it is packed."""
        tracemalloc.start()
        segment = self.journal_index()
        used_bytes, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        del segment
        return used_bytes

    def journal_index(self) -> Segment:
        """The journal's index of all of them, packed."""
        random = Random(1)
        segment = Segment("", "", (1, 1), cast(File, None), 1)
        flags, offsets = bytearray(), array("I")
        first, end = 1, SEGMENT_HEADER_BYTES
        least_bytes = OVERHEAD_BYTES + self.block_bytes
        for _ in range(INDEXED_RECORDS * self.records // self.batch):
            sizes = [least_bytes + random.randint(0, self.varied_bytes) for _ in range(self.batch)]
            some = list(accumulate(sizes, initial=end + BLOCK_HEADER_BYTES))
            end = some[-1]
            flags += bytes([SINGLE]) * self.batch + bytes([DEAD])
            offsets.extend(some)
            if fills_page(len(flags)):
                offsets.append(end)
                segment.append_packed(first, flags, offsets, None)
                first, end = first + len(flags), SEGMENT_HEADER_BYTES  # one file of all would be too large
                flags, offsets = bytearray(), array("I")
        return segment


PATTERNS = {
    "frames, 256 KiB at once": Pattern((9_000, 9_000), 262_144, 20, batch=10),
    "frames, 28 KiB at once": Pattern((1_000, 1_000), 28_672, 2, batch=10),
    "sub-batches of 100, 256 KiB at once": Pattern((160, 16_000), 262_144, 20, batch=10),
    "sub-batches of 100, 32 KiB at once": Pattern((20, 2_000), 32_768, 2, batch=10),
    "AMQP 0-9-1": Pattern(),
    "AMQP 0-9-1, 30 at once": Pattern(batch=30),
    "AMQP 0-9-1, of 0 to 255 bytes more": Pattern(varied_bytes=255),
    "AMQP 0-9-1, beside a queue's": Pattern(records=2),
    "AMQP 0-9-1, one a second": Pattern(step_ms=1000, batch=1),
    "AMQP 0-9-1, one a second, 0 to 20 ms later": Pattern(step_ms=1000, batch=1, varied_ms=20),
    "the same, of 0 to 255 bytes more": Pattern(step_ms=1000, batch=1, varied_ms=20, varied_bytes=255),
    "AMQP 0-9-1, one a second, beside four of queues": Pattern(step_ms=1000, records=5, batch=1),
    "a frame of one message a second": Pattern((1, 1), 48, 1000, batch=1),
}


def rest_bytes(broker: OurBroker) -> int:
    """What a broker takes that has come to rest."""
    await_rest(broker.pid)
    return memory_bytes(broker.pid)


def restart(broker: OurBroker) -> tuple[float, int]:
    """End the broker in order; what processor time its start took then, and what memory it takes."""
    broker.restart()
    return cpu_s(broker.pid), rest_bytes(broker)


def drop_half(broker: OurBroker) -> None:
    """Have retention drop half of the entries."""
    (stream,) = [queue for queue in json.loads(broker.ctl("queues", "list", "--json")) if queue["name"] == STREAM]
    limit = json.dumps({"max-length-bytes": stream["message_bytes_ready"] // 2})
    broker.ctl("policies", "set", "half", STREAM, limit, "--apply-to", "streams")


def disk_bytes(broker: OurBroker) -> int:
    """What the journal's files take."""
    return sum(path.stat().st_blocks * 512 for path in Path(broker.data_folder, "journal").iterdir())


def main() -> None:
    """Measure each way, and print a line of the table for it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--entries", type=int, default=10_000_000)
    parser.add_argument("--ways", default="*", help="a pattern of names")
    parser.add_argument("--broker", choices=[OURS, COMPILED], default=OURS)
    parser.add_argument("--index", action="store_true", help="only what is in memory of where entries are")
    options = parser.parse_args()
    if options.index:
        print("| bytes for a thousand entries | the stream's | the journal's |\n|---|--:|--:|")
        for name, pattern in PATTERNS.items():
            if fnmatchcase(name, options.ways):
                of_stream, of_journal = pattern.indexed()
                print(f"| {name} | {of_stream:,.1f} | {of_journal:,.1f} |", flush=True)
        return
    is_begun = False
    for name, way in WAYS.items():
        if not fnmatchcase(name, options.ways):
            continue
        figures = measure(way, options.broker, options.entries)
        if not is_begun:
            is_begun = True
            print(f"| {options.entries:,} entries | {' | '.join(figures)} |\n|---|{'--:|' * len(figures)}")
        print(f"| {name} | {' | '.join(f'{figure:,.1f}' for figure in figures.values())} |", flush=True)


if __name__ == "__main__":
    main()
