"""Peak shaving, the peak: the doors open and all gates report their readings at once.

    python gates.py                       50,000 readings, as fast as they can be sent
    python gates.py --readings 1000

The queue takes the burst; settle.py works it off at its own pace.
The broker is at localhost, or where the environment variable AMQP_URL says.
"""

import argparse
import os
import time

import pika

GATES = 20

parser = argparse.ArgumentParser()
parser.add_argument("--readings", type=int, default=50_000)
options = parser.parse_args()

connection = pika.BlockingConnection(pika.URLParameters(os.environ.get("AMQP_URL", "amqp://localhost")))
channel = connection.channel()
channel.queue_declare(queue="gate-readings", durable=True)

persistent = pika.BasicProperties(delivery_mode=pika.DeliveryMode.Persistent.value)
started = time.monotonic()
for number in range(options.readings):
    channel.basic_publish(
        exchange="",
        routing_key="gate-readings",
        body=f"gate-{number % GATES} ticket-{number}",
        properties=persistent,
    )

connection.close()  # returns when the broker has read all that was sent
print(f"{options.readings} readings sent in {time.monotonic() - started:.1f} s")
