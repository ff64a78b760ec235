"""The stock, with kombu: goods that come and go."""

from kombu import Exchange, Queue
from kombu.mixins import ConsumerMixin

GOODS = Exchange("goods", type="topic", durable=True)
MOVEMENTS = Queue("stock.movements", GOODS, routing_key="goods.#", durable=True)


class Stock(ConsumerMixin):
    """Counts goods.

    Args:
        connection: of kombu.
    """

    def __init__(self, connection):
        self.connection = connection
        self.pieces = {}

    def get_consumers(self, consumer_class, channel):
        """What ConsumerMixin consumes."""
        return [consumer_class([MOVEMENTS], callbacks=[self.move], accept=["json"])]

    def move(self, body, message):
        """Goods have come (more than 0 pieces) or gone."""
        self.pieces[body["what"]] = self.pieces.get(body["what"], 0) + body["pieces"]
        message.ack()
