"""Taskiq."""

import asyncio

from shop import loyalty
from taskiq.api import run_receiver_task


async def test_points_are_added(amqp_broker, amqp_url):
    loyalty.points.clear()
    broker, add_points = loyalty.loyalty(amqp_url)
    broker.is_worker_process = True  # it consumes as well
    await broker.startup()
    worker = asyncio.create_task(run_receiver_task(broker))
    await add_points.kiq("alice", 5)
    await asyncio.to_thread(amqp_broker.wait_until, lambda: loyalty.points)
    worker.cancel()
    await asyncio.gather(worker, return_exceptions=True)
    await broker.shutdown()
    assert loyalty.points == {"alice": 5}
