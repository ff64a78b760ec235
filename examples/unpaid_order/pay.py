"""Unpaid order: pays for an order.

    python pay.py order-1

The broker is at localhost, or where the environment variable AMQP_URL says.
"""

import os
import sys

import pika

if len(sys.argv) != 2:
    sys.exit("usage: python pay.py ORDER")

connection = pika.BlockingConnection(pika.URLParameters(os.environ.get("AMQP_URL", "amqp://localhost")))
channel = connection.channel()
channel.confirm_delivery()
channel.queue_declare("orders.paid", durable=True)
channel.basic_publish(exchange="", routing_key="orders.paid", body=sys.argv[1])
print(f"paid for {sys.argv[1]}")

connection.close()
