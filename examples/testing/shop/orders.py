"""Orders, with pika: placed, paid, or cancelled when half an hour has passed."""

import json

import pika

PAYMENT_DEADLINE_MS = 30 * 60 * 1000
PERSISTENT = pika.BasicProperties(delivery_mode=2)


class Orders:
    """The orders department.

    Args:
        url: where the broker is.
    """

    def __init__(self, url):
        self._url = url
        self._connect()

    def _connect(self):
        self.connection = pika.BlockingConnection(pika.URLParameters(self._url))
        self._channel = self.connection.channel()
        self._channel.confirm_delivery()
        self._channel.queue_declare("orders.to-cancel", durable=True)
        self._channel.queue_declare(
            "orders.unpaid",
            durable=True,
            arguments={
                "x-message-ttl": PAYMENT_DEADLINE_MS,
                "x-dead-letter-exchange": "",
                "x-dead-letter-routing-key": "orders.to-cancel",
            },
        )

    def place(self, number):
        """Take an order. When the connection fails it is sent again: it may then be there twice, but never get lost."""
        body = json.dumps({"order": number}).encode()
        try:
            self._channel.basic_publish("", "orders.unpaid", body, PERSISTENT, mandatory=True)
        except pika.exceptions.AMQPConnectionError:
            self._connect()
            self._channel.basic_publish("", "orders.unpaid", body, PERSISTENT, mandatory=True)

    def cancelled(self):
        """The numbers of the orders that nobody has paid for in time."""
        numbers = []
        while True:
            method, _, body = self._channel.basic_get("orders.to-cancel")
            if method is None:
                return numbers
            numbers.append(json.loads(body)["order"])
            self._channel.basic_ack(method.delivery_tag)
