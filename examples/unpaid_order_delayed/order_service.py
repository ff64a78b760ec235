"""Unpaid order, the order service: takes note of payments, and cancels what is unpaid when its deadline has passed.

    python order_service.py

See place_order.py for how an order comes back after its deadline; pay.py is that of unpaid_order.
The broker is at localhost, or where the environment variable AMQP_URL says.
"""

import os

import pika

paid: set[str] = set()  # stands for the database

connection = pika.BlockingConnection(pika.URLParameters(os.environ.get("AMQP_URL", "amqp://localhost")))
channel = connection.channel()
channel.queue_declare("orders.paid", durable=True)
channel.queue_declare("orders.deadline-passed", durable=True)


def on_payment(ch, method, properties, body):
    order = body.decode()
    paid.add(order)
    ch.basic_ack(method.delivery_tag)
    print(f"{order} is paid")


def on_deadline(ch, method, properties, body):
    order = body.decode()
    ch.basic_ack(method.delivery_tag)
    if order in paid:
        print(f"{order} was paid in time")
    else:
        delay_ms = -properties.headers["x-delay"]  # negative since the message was held back
        print(f"{order} is cancelled: not paid within {delay_ms} ms")


channel.basic_consume("orders.paid", on_payment)
channel.basic_consume("orders.deadline-passed", on_deadline)

print("keeping an eye on the orders, end with Ctrl-C")
try:
    channel.start_consuming()
except KeyboardInterrupt:
    connection.close()
