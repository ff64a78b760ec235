"""Publish/subscribe, a subscriber: prints every announcement made while it runs. Start several.

    python listen.py

Each has a queue of its own, which the broker names and which goes away with the connection.
The broker is at localhost, or where the environment variable AMQP_URL says.
"""

import os

import pika

connection = pika.BlockingConnection(pika.URLParameters(os.environ.get("AMQP_URL", "amqp://localhost")))
channel = connection.channel()
channel.exchange_declare(exchange="announcements", exchange_type="fanout", durable=True)

queue = channel.queue_declare(queue="", exclusive=True).method.queue
channel.queue_bind(queue=queue, exchange="announcements")


def show(ch, method, properties, body):
    print(f"heard {body.decode()!r}")


channel.basic_consume(queue=queue, on_message_callback=show, auto_ack=True)

print("listening, end with Ctrl-C")
try:
    channel.start_consuming()
except KeyboardInterrupt:
    connection.close()
