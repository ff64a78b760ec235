"""A million delayed messages, by hand: the memory they take, the time of a start, and how late they come.

    .venv/bin/python -m benchmarks.delayed --count 1000000

First so many messages of 100 bytes are held for between one and a hundred hours, each for another time, and the broker
is killed and started again. Then 10,000 more are made to fall due within one second, while a producer and a consumer
keep the broker busy, and a consumer notes how late each of them comes. RabbitMQ has no such exchange without a plugin,
so there is nothing to compare it with; docs/benchmarks.md has the figures.
"""

from __future__ import annotations

import argparse
import random
import struct
import threading
import time
from typing import Any

from pamqp import commands

from benchmarks.brokers import await_rest, memory_bytes
from benchmarks.client import Client
from benchmarks.frames import Confirms, publish
from interop.brokers import Address, OurBroker

HOUR_MS = 3_600_000
DUE_TOGETHER = 10_000
DUE_WITHIN_MS = 1_000
BODY_BYTES = 100
AHEAD_MS = 20_000  # so much earlier they are published
SHARE = 1_000  # messages sent in one call

_DUE = struct.Struct(">d")


def main() -> None:
    """Run it, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=1_000_000)
    count = parser.parse_args().count
    broker = OurBroker()
    try:
        hold(broker, count)
        started_s = time.monotonic()
        broker.kill_and_restart()
        print(f"start after kill -9: {time.monotonic() - started_s:.1f} s")
        await_rest(broker.pid)
        print(f"memory after the start: {memory_bytes(broker.pid) / 1e6:.0f} MB")
        for is_busy in (False, True):
            release(broker, is_busy=is_busy)
    finally:
        broker.stop()


def hold(broker: OurBroker, count: int) -> None:
    """Have so many messages held for a long time."""
    with Client(broker.address) as client:
        prepare(client)
        before_bytes = memory_bytes(broker.pid)
        delays = random.Random(1)
        started_s = time.monotonic()
        send(client, [(b"x" * BODY_BYTES, delays.randrange(HOUR_MS, 100 * HOUR_MS)) for _ in range(count)])
        took_s = time.monotonic() - started_s
    await_rest(broker.pid)
    grown_bytes = memory_bytes(broker.pid) - before_bytes
    print(f"{count} messages held and confirmed in {took_s:.1f} s, {count / took_s:.0f} in a second")
    grown = f"{grown_bytes / 1e6:.0f} MB more, {grown_bytes / count:.0f} bytes each"
    print(f"memory: {before_bytes / 1e6:.0f} MB before, {grown}")


def prepare(client: Client) -> None:
    """Declare the exchange and its queue; publishes are confirmed from now on."""
    arguments: Any = {"x-delayed-type": "fanout"}
    client.call(commands.Exchange.Declare(0, "later", "x-delayed-message", durable=True, arguments=arguments))
    client.call(commands.Queue.Declare(queue="due", durable=True))
    client.call(commands.Queue.Bind(queue="due", exchange="later"))
    client.call(commands.Confirm.Select())


def delayed(body: bytes, delay_ms: int) -> bytes:
    """A publish of a message that is to be held."""
    return publish("later", "", body, persistent=True, headers={"x-delay": delay_ms}).frames


def send(client: Client, messages: list[tuple[bytes, int]]) -> None:
    """Publish messages with their delays, and wait for all confirms."""
    confirms = Confirms()
    for start in range(0, len(messages), SHARE):
        some = messages[start : start + SHARE]
        client.socket.sendall(b"".join(delayed(body, delay_ms) for body, delay_ms in some))
        while confirms.count < start + len(some) - 5 * SHARE:
            confirms.feed(client.socket.recv(65_536))
    while confirms.count < len(messages):
        confirms.feed(client.socket.recv(65_536))


def release(broker: OurBroker, *, is_busy: bool) -> None:
    """Have many fall due within a second, and tell how late they come."""
    with Client(broker.address) as publisher, Client(broker.address) as consumer:
        prepare(publisher)
        consumer.call(commands.Basic.Consume(queue="due", no_ack=True))
        first_s = time.monotonic() + AHEAD_MS / 1000
        messages = []
        for number in range(DUE_TOGETHER):
            due_s = first_s + number * DUE_WITHIN_MS / DUE_TOGETHER / 1000
            messages.append((_DUE.pack(due_s) + bytes(BODY_BYTES - _DUE.size), due_s))
        some = 500
        for start in range(0, DUE_TOGETHER, some):  # the delay is told from the moment of the publish
            now_s = time.monotonic()
            with_delays = [(body, round((due_s - now_s) * 1000)) for body, due_s in messages[start : start + some]]
            send_one_share(publisher, with_delays, start)
        ended = threading.Event()
        load = threading.Thread(target=keep_busy, args=(broker.address, ended))
        if is_busy:
            load.start()
        lateness_ms = sorted(lateness(consumer))
        ended.set()
        if is_busy:
            load.join()
    p50, p99, longest = (lateness_ms[int(share * (len(lateness_ms) - 1))] for share in (0.5, 0.99, 1))
    beside = "beside other load" if is_busy else "alone"
    print(f"{DUE_TOGETHER} due in a second, {beside}: {p50:.0f} ms late (p50), {p99:.0f} (p99), {longest:.0f} (max)")


def send_one_share(client: Client, messages: list[tuple[bytes, int]], done: int) -> None:
    """Publish a few, and wait for their confirms: what is asked for must not wait in the socket."""
    client.socket.sendall(b"".join(delayed(body, delay_ms) for body, delay_ms in messages))
    confirmed = done
    while confirmed < done + len(messages):
        method = client._receive()
        confirmed = method.delivery_tag if method.multiple else confirmed + 1


def lateness(consumer: Client) -> list[float]:
    """How late each message comes, in milliseconds."""
    found: list[float] = []
    rest = consumer.rest
    while len(found) < DUE_TOGETHER:
        rest += consumer.socket.recv(1_048_576)
        now_s = time.monotonic()
        place = 0
        while len(rest) - place >= 7:
            size = int.from_bytes(rest[place + 3 : place + 7], "big") + 8
            if len(rest) - place < size:
                break
            if rest[place] == 3:
                (due_s,) = _DUE.unpack_from(rest, place + 7)
                found.append((now_s - due_s) * 1000)
            place += size
        rest = rest[place:]
    return found


def keep_busy(address: Address, ended: threading.Event) -> None:
    """Publish to a queue and consume from it, about 5,000 messages in a second."""
    body = publish("", "busy", b"x" * 12).frames * 50
    with Client(address) as client:
        client.call(commands.Queue.Declare(queue="busy"))
        client.call(commands.Basic.Consume(queue="busy", no_ack=True))
        client.socket.settimeout(0.01)
        while not ended.is_set():
            client.socket.sendall(body)
            try:
                client.socket.recv(1_048_576)
            except TimeoutError:
                pass
            time.sleep(0.01)


if __name__ == "__main__":
    main()
