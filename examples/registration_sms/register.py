"""Registration: the user is welcomed at once, the SMS is sent by another program when it gets to it.

    python register.py Ada +420600000001

The registration neither waits for the SMS gateway nor fails with it. It waits only until the broker has the job.
The broker is at localhost, or where the environment variable AMQP_URL says.
"""

import json
import os
import sys

import pika

if len(sys.argv) != 3:
    sys.exit("usage: python register.py NAME PHONE")
name, phone = sys.argv[1:]

connection = pika.BlockingConnection(pika.URLParameters(os.environ.get("AMQP_URL", "amqp://localhost")))
channel = connection.channel()
channel.queue_declare(queue="sms", durable=True)
channel.confirm_delivery()

# Here the user would be written into the database.

channel.basic_publish(
    exchange="",
    routing_key="sms",
    body=json.dumps({"phone": phone, "text": f"Welcome, {name}!"}),
    properties=pika.BasicProperties(content_type="application/json", delivery_mode=pika.DeliveryMode.Persistent.value),
    mandatory=True,
)
print(f"{name} is registered")

connection.close()
