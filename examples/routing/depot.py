"""Routing, a depot: gets the kinds of shipment it names, and no others.

    python depot.py letter parcel
    python depot.py freight

A direct exchange compares the message's routing key with the key of each binding. A queue may have several bindings,
and several queues the same.
The broker is at localhost, or where the environment variable AMQP_URL says.
"""

import os
import sys

import pika

kinds = sys.argv[1:]
if not kinds:
    sys.exit("usage: python depot.py KIND...")

connection = pika.BlockingConnection(pika.URLParameters(os.environ.get("AMQP_URL", "amqp://localhost")))
channel = connection.channel()
channel.exchange_declare(exchange="shipments", exchange_type="direct", durable=True)

queue = channel.queue_declare(queue="", exclusive=True).method.queue
for kind in kinds:
    channel.queue_bind(queue=queue, exchange="shipments", routing_key=kind)


def load(ch, method, properties, body):
    print(f"loaded a {method.routing_key} for {body.decode()}")


channel.basic_consume(queue=queue, on_message_callback=load, auto_ack=True)

print(f"open for {', '.join(kinds)}; end with Ctrl-C")
try:
    channel.start_consuming()
except KeyboardInterrupt:
    connection.close()
