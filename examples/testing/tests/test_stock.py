"""kombu."""

import threading

from kombu import Connection
from shop.stock import GOODS, MOVEMENTS, Stock


def test_goods_come_and_go(amqp_broker, amqp_url):
    with Connection(amqp_url) as connection:
        producer = connection.Producer(exchange=GOODS, serializer="json")
        for pieces in (10, -3):
            producer.publish({"what": "lamp", "pieces": pieces}, routing_key="goods.lamp", declare=[MOVEMENTS])
        stock = Stock(connection)
        list(stock.consume(limit=2, timeout=5))
    assert stock.pieces == {"lamp": 7}
    assert amqp_broker.queue("stock.movements").message_count == 0


def test_goods_are_counted_in_a_thread(amqp_broker, amqp_url):
    """The consumer runs as it does in production, until it is told to stop."""
    with Connection(amqp_url) as connection:
        stock = Stock(connection)
        thread = threading.Thread(target=stock.run)
        thread.start()
        amqp_broker.wait_until(lambda: "stock.movements" in amqp_broker.queues)
        with Connection(amqp_url) as another:
            producer = another.Producer(exchange=GOODS, serializer="json")
            for pieces in (10, -3, 5):
                producer.publish({"what": "lamp", "pieces": pieces}, routing_key="goods.lamp", declare=[MOVEMENTS])
        amqp_broker.wait_idle()
        assert stock.pieces == {"lamp": 12}
        stock.should_stop = True
        thread.join()
