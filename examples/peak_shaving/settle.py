"""Peak shaving, the steady side: settles so many readings a second and no more, however many are waiting.

    python settle.py                              1,000 a second, until Ctrl-C
    python settle.py --per-second 10000 --total 50000

It takes a batch of readings ten times a second, books them together, and acknowledges them together: `multiple` settles
everything up to the last one. The prefetch is one batch, so the rest waits in the broker and not in this program.
The broker is at localhost, or where the environment variable AMQP_URL says.
"""

import argparse
import os
import time

import pika

TICKS_PER_SECOND = 10

parser = argparse.ArgumentParser()
parser.add_argument("--per-second", type=int, default=1000)
parser.add_argument("--total", type=int, help="end after so many readings")
options = parser.parse_args()

batch_size = max(1, options.per_second // TICKS_PER_SECOND)
batch: list[bytes] = []
passed: dict[str, int] = {}  # how many visitors went through each gate


def book(readings: list[bytes]) -> None:
    """Stands for one transaction in the database."""
    for reading in readings:
        gate, _ticket = reading.decode().split()
        passed[gate] = passed.get(gate, 0) + 1


connection = pika.BlockingConnection(pika.URLParameters(os.environ.get("AMQP_URL", "amqp://localhost")))
channel = connection.channel()
queue = channel.queue_declare(queue="gate-readings", durable=True)
print(f"{queue.method.message_count} readings are waiting, {options.per_second} a second will be settled")
channel.basic_qos(prefetch_count=batch_size)

settled = 0
started = next_tick = time.monotonic()
try:
    for method, _properties, body in channel.consume("gate-readings", inactivity_timeout=1 / TICKS_PER_SECOND):
        if method is not None:  # None: nothing came for a tick
            batch.append(body)
            last_tag = method.delivery_tag
        due = settled + len(batch) == options.total
        if batch and (method is None or len(batch) == batch_size or due):
            connection.sleep(max(0.0, next_tick - time.monotonic()))
            book(batch)
            channel.basic_ack(last_tag, multiple=True)
            settled += len(batch)
            batch.clear()
            next_tick = max(next_tick, time.monotonic() - 1 / TICKS_PER_SECOND) + 1 / TICKS_PER_SECOND
        if settled == options.total:
            break
except KeyboardInterrupt:
    pass

channel.cancel()
connection.close()
duration_s = time.monotonic() - started
print(f"{settled} readings of {len(passed)} gates settled in {duration_s:.1f} s")
print(f"{settled / duration_s:.0f} a second")
