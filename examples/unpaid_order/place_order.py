"""Unpaid order: places an order that must be paid before its deadline.

    python place_order.py order-1                          to be paid within 15 minutes
    python place_order.py order-2 --deadline-ms 5000

The order waits in a queue that nobody consumes. When its time to live is over, the broker moves it to the queue of the
order service, which looks whether it has been paid. Nothing polls, and no timer is lost when a program restarts.

A message expires only at the head of its queue. So all orders of one queue have the same deadline, and each deadline
has a queue of its own, which goes away when it has not been used for a while.
The broker is at localhost, or where the environment variable AMQP_URL says.
"""

import argparse
import os

import pika

UNUSED_QUEUE_KEPT_MS = 3_600_000

parser = argparse.ArgumentParser()
parser.add_argument("order")
parser.add_argument("--deadline-ms", type=int, default=15 * 60 * 1000)
options = parser.parse_args()

connection = pika.BlockingConnection(pika.URLParameters(os.environ.get("AMQP_URL", "amqp://localhost")))
channel = connection.channel()
channel.confirm_delivery()

channel.queue_declare("orders.deadline-passed", durable=True)
waiting = f"orders.waiting.{options.deadline_ms}"
channel.queue_declare(
    waiting,
    durable=True,
    arguments={
        "x-message-ttl": options.deadline_ms,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": "orders.deadline-passed",
        "x-expires": options.deadline_ms + UNUSED_QUEUE_KEPT_MS,
    },
)
channel.basic_publish(
    exchange="",
    routing_key=waiting,
    body=options.order,
    properties=pika.BasicProperties(delivery_mode=pika.DeliveryMode.Persistent.value),
)
print(f"placed {options.order}, to be paid within {options.deadline_ms} ms")

connection.close()
