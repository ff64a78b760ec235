"""kombu."""

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
