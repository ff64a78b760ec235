"""What a user sees: the same small programs with pika and with aio-pika, unchanged, against both brokers.

Here the client is most of what is measured, and that is the point: its user pays for both.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial

import aio_pika
import pika

from benchmarks.brokers import RunningBroker, cpu_s
from benchmarks.cells import QUEUE, Cell, declared
from benchmarks.measuring import CPU, RATE, Figures, Timing

BODY = b"x" * 12
Step = Callable[[], object]


def _repeat(broker: RunningBroker, timing: Timing, step: Step) -> Figures:
    """Take a step again and again for as long as a window is."""
    count, begun_s, cpu_before_s = 0, time.monotonic(), cpu_s(broker.pid)
    while time.monotonic() - begun_s < timing.window_s:
        step()
        count += 1
    took_s = time.monotonic() - begun_s
    return {RATE: count / took_s, CPU: (cpu_s(broker.pid) - cpu_before_s) / count * 1e6}


def pika_publish(broker: RunningBroker, timing: Timing, *, confirms: bool) -> Figures:
    """pika's BlockingConnection publishes; with confirms it waits for each."""
    with declared(broker, [QUEUE]), pika.BlockingConnection(pika.URLParameters(broker.address.url)) as connection:
        channel = connection.channel()
        if confirms:
            channel.confirm_delivery()
        return _repeat(broker, timing, lambda: channel.basic_publish("", QUEUE, BODY))


def pika_consume(broker: RunningBroker, timing: Timing, *, auto_ack: bool) -> Figures:
    """pika's BlockingConnection consumes, with a prefetch of 100, and acknowledges each message or none."""
    with declared(broker, [QUEUE]) as client:
        client.fill(QUEUE, int(100_000 * timing.window_s))
        with pika.BlockingConnection(pika.URLParameters(broker.address.url)) as connection:
            channel = connection.channel()
            channel.basic_qos(prefetch_count=100)
            deliveries = channel.consume(QUEUE, auto_ack=auto_ack)

            def step() -> None:
                method, _, _ = next(deliveries)
                if not auto_ack:
                    channel.basic_ack(method.delivery_tag)

            return _repeat(broker, timing, step)


def pika_get(broker: RunningBroker, timing: Timing) -> Figures:
    """pika's BlockingConnection gets one message after the other."""
    with declared(broker, [QUEUE]) as client:
        client.fill(QUEUE, int(20_000 * timing.window_s))
        with pika.BlockingConnection(pika.URLParameters(broker.address.url)) as connection:
            channel = connection.channel()
            return _repeat(broker, timing, lambda: channel.basic_get(QUEUE, auto_ack=True))


def aio_pika_confirmed(broker: RunningBroker, timing: Timing) -> Figures:
    """aio-pika publishes with confirms from a hundred tasks, and consumes and acknowledges in the same loop."""
    with declared(broker, [QUEUE]):
        return asyncio.run(_aio_pika_confirmed(broker, timing))


async def _aio_pika_confirmed(broker: RunningBroker, timing: Timing) -> Figures:
    consumed = 0

    async def publish_forever(exchange: aio_pika.abc.AbstractExchange) -> None:
        while True:
            await exchange.publish(aio_pika.Message(BODY), QUEUE)

    async def consume(message: aio_pika.abc.AbstractIncomingMessage) -> None:
        nonlocal consumed
        await message.ack()
        consumed += 1

    async with await aio_pika.connect(broker.address.url) as connection:
        channel = await connection.channel()
        await channel.set_qos(100)
        queue = await channel.get_queue(QUEUE)
        await queue.consume(consume)
        tasks = [asyncio.create_task(publish_forever(channel.default_exchange)) for _ in range(100)]
        await asyncio.sleep(timing.warm_up_s)
        count, begun_s, cpu_before_s = consumed, time.monotonic(), cpu_s(broker.pid)
        await asyncio.sleep(timing.window_s)
        count, took_s = consumed - count, time.monotonic() - begun_s
        figures = {RATE: count / took_s, CPU: (cpu_s(broker.pid) - cpu_before_s) / count * 1e6}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return figures


def cells() -> list[Cell]:
    """All cells of this table."""
    return [
        Cell("pika/publish", partial(pika_publish, confirms=False)),
        Cell("pika/publish-confirmed", partial(pika_publish, confirms=True)),
        Cell("pika/consume-auto-ack", partial(pika_consume, auto_ack=True)),
        Cell("pika/consume-acks", partial(pika_consume, auto_ack=False)),
        Cell("pika/get", pika_get),
        Cell("aio-pika/publish-confirmed-consume-ack", aio_pika_confirmed),
    ]
