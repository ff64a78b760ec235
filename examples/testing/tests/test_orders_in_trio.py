"""pika in a trio program, and the broker in that program's own loop."""

import trio
from shop.orders import Orders

from amqp_broker.testing import Broker


def test_an_order_is_cancelled_while_the_program_goes_on():
    async def program():
        async with Broker() as broker:
            orders = await trio.to_thread.run_sync(Orders, broker.url)
            await trio.to_thread.run_sync(orders.place, 7)
            await broker.clock.advance(minutes=30)
            assert await trio.to_thread.run_sync(orders.cancelled) == [7]
            await trio.to_thread.run_sync(orders.connection.close)

    trio.run(program)
