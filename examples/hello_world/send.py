"""Hello world, the sender: puts one message into a queue.

    python send.py

The broker is at localhost, or where the environment variable AMQP_URL says.
"""

import os

import pika

connection = pika.BlockingConnection(pika.URLParameters(os.environ.get("AMQP_URL", "amqp://localhost")))
channel = connection.channel()

channel.queue_declare(queue="hello")
channel.basic_publish(exchange="", routing_key="hello", body="Hello World!")
print("sent 'Hello World!'")

connection.close()
