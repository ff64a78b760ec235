"""Publisher confirms, one message at a time: each publish returns when the broker has taken the message, or raises.

    python publish.py

Shows the three things that can happen: taken, returned because no queue wants it, refused because the queue is full.
The broker is at localhost, or where the environment variable AMQP_URL says.
"""

import os

import pika
from pika.exceptions import NackError, UnroutableError

connection = pika.BlockingConnection(pika.URLParameters(os.environ.get("AMQP_URL", "amqp://localhost")))
channel = connection.channel()

# From here on basic_publish waits for the broker's confirm.
channel.confirm_delivery()

# A queue that takes two messages and refuses more.
queue = channel.queue_declare(
    queue="", exclusive=True, arguments={"x-max-length": 2, "x-overflow": "reject-publish"}
).method.queue

for number in (1, 2, 3):
    try:
        channel.basic_publish(exchange="", routing_key=queue, body=f"message {number}")
        print(f"message {number}: the broker has it")
    except NackError:
        print(f"message {number}: refused, the queue is full")

try:
    channel.basic_publish(exchange="", routing_key="a-queue-that-nobody-declared", body="lost?", mandatory=True)
except UnroutableError as error:
    print(f"message 4: came back, {error.messages[0].method.reply_text}")

connection.close()
