"""What the broker inside a test costs: from its start to the first confirm, and what many starts leave behind.

    python -m benchmarks.embedding
    python -m benchmarks.embedding --starts 100 --cycles 1000

The client is stock pika. Exits with 1 when something is left behind, or half of the starts take longer than 50 ms.
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import sys
import threading
import time

import pika

from amqp_broker.server.resources import resident_bytes
from amqp_broker.testing import Broker

WARM_UP_CYCLES = 100  # until then Python's own pools fill
GROWTH_BYTES_MAX = 2_000_000
MEDIAN_MS_MAX = 50.0  # until clients can connect, and until the first confirm


def publish_one(url: str) -> None:
    """Connect, publish one message with its confirm, and go."""
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.queue_declare("q", durable=True)
        channel.basic_publish("", "q", b"hello", pika.BasicProperties(delivery_mode=2), mandatory=True)


def measure_starts(count: int) -> bool:
    """Print how long it takes to the first confirmed publish, and how much of that is the start; returns whether that
    is as quick as it should be.
    """
    starts_ms, confirms_ms, ends_ms = [], [], []
    for _ in range(count):
        began_s = time.perf_counter()
        broker = Broker()
        broker.start()
        started_s = time.perf_counter()
        publish_one(broker.url)
        confirmed_s = time.perf_counter()
        broker.stop()
        starts_ms.append((started_s - began_s) * 1000)
        confirms_ms.append((confirmed_s - began_s) * 1000)
        ends_ms.append((time.perf_counter() - confirmed_s) * 1000)
    for name, figures in (("listening", starts_ms), ("first confirm", confirms_ms), ("stop", ends_ms)):
        print(f"{name:14} median {statistics.median(figures):6.1f} ms   slowest {max(figures):6.1f} ms   of {count}")
    return max(statistics.median(starts_ms), statistics.median(confirms_ms)) <= MEDIAN_MS_MAX


def measure_leaks(count: int) -> bool:
    """Start and stop many times; returns whether nothing was left behind."""
    for _ in range(WARM_UP_CYCLES):
        cycle()
    before = footprint()
    for _ in range(count):
        cycle()
    after = footprint()
    names = ("threads", "descriptors", "resident bytes")
    for name, was, now in zip(names, before, after, strict=True):
        print(f"{name:14} {was} before, {now} after {count} cycles")
    return before[:2] == after[:2] and after[2] - before[2] <= GROWTH_BYTES_MAX


def cycle() -> None:
    """One life of a broker."""
    with Broker() as broker:
        publish_one(broker.url)


def footprint() -> tuple[int, int, int]:
    """Threads, open descriptors and memory of this process."""
    gc.collect()
    return threading.active_count(), len(os.listdir("/proc/self/fd")), resident_bytes()


def main() -> None:
    """Measure both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--starts", type=int, default=100)
    parser.add_argument("--cycles", type=int, default=1000)
    arguments = parser.parse_args()
    if not measure_starts(arguments.starts):
        sys.exit(f"a broker should be there within {MEDIAN_MS_MAX:g} ms")
    if not measure_leaks(arguments.cycles):
        sys.exit("something was left behind")


if __name__ == "__main__":
    main()
