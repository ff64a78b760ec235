"""Hello world, the receiver: prints what comes into the queue until Ctrl-C.

    python receive.py

The broker is at localhost, or where the environment variable AMQP_URL says.
"""

import os

import pika

connection = pika.BlockingConnection(pika.URLParameters(os.environ.get("AMQP_URL", "amqp://localhost")))
channel = connection.channel()

# Declared here too, so that it does not matter which program is started first.
channel.queue_declare(queue="hello")


def callback(ch, method, properties, body):
    print(f"received {body.decode()!r}")


channel.basic_consume(queue="hello", auto_ack=True, on_message_callback=callback)

print("waiting for messages, end with Ctrl-C")
try:
    channel.start_consuming()
except KeyboardInterrupt:
    connection.close()
