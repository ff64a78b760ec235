"""Unpaid order, with a delayed message: places an order that must be paid before its deadline.

    python place_order.py order-1                          to be paid within 15 minutes
    python place_order.py order-2 --deadline-ms 5000

The exchange holds the message back until the order's deadline, whichever that is, and then routes it to the order
service, which looks whether it has been paid. Unlike unpaid_order, no deadline needs a queue of its own. Until then
``amqp-broker delayed list orders`` shows it, and ``amqp-broker delayed cancel orders ...`` takes it back.

RabbitMQ needs a plugin for this exchange type, rabbitmq_delayed_message_exchange.
The broker is at localhost, or where the environment variable AMQP_URL says.
"""

import argparse
import os

import pika

parser = argparse.ArgumentParser()
parser.add_argument("order")
parser.add_argument("--deadline-ms", type=int, default=15 * 60 * 1000)
options = parser.parse_args()

connection = pika.BlockingConnection(pika.URLParameters(os.environ.get("AMQP_URL", "amqp://localhost")))
channel = connection.channel()
channel.confirm_delivery()

channel.exchange_declare("deadlines", "x-delayed-message", durable=True, arguments={"x-delayed-type": "direct"})
channel.queue_declare("orders.deadline-passed", durable=True)
channel.queue_bind("orders.deadline-passed", "deadlines", "deadline-passed")
channel.basic_publish(
    exchange="deadlines",
    routing_key="deadline-passed",
    body=options.order,
    properties=pika.BasicProperties(
        delivery_mode=pika.DeliveryMode.Persistent.value,
        headers={"x-delay": options.deadline_ms},
    ),
)
print(f"placed {options.order}, to be paid within {options.deadline_ms} ms")

connection.close()
