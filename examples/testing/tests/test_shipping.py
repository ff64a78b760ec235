"""FastStream."""

import asyncio

from faststream.rabbit import RabbitQueue
from shop.shipping import shipping


async def test_what_is_paid_is_shipped(amqp_broker, amqp_url):
    service = shipping(amqp_url)
    async with service:
        await service.declare_queue(RabbitQueue("shipped"))
        await service.start()
        await service.publish(7, "paid")
        shipped = await asyncio.to_thread(amqp_broker.wait_until, lambda: amqp_broker.queue("shipped").bodies)
    assert shipped == [b"parcel 7"]
