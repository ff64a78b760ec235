"""Work queue, the side that has work to be done: one job for each photo named, shared out among the workers.

    python submit.py beach.jpg forest.jpg              jobs that take half a second
    python submit.py --seconds 5 panorama.jpg          a longer one

The queue is durable and the jobs are persistent: both survive a restart of the broker.
The broker is at localhost, or where the environment variable AMQP_URL says.
"""

import argparse
import json
import os

import pika

parser = argparse.ArgumentParser()
parser.add_argument("photos", nargs="+")
parser.add_argument("--seconds", type=float, default=0.5, help="how long a worker is busy with each")
options = parser.parse_args()

connection = pika.BlockingConnection(pika.URLParameters(os.environ.get("AMQP_URL", "amqp://localhost")))
channel = connection.channel()
channel.queue_declare(queue="thumbnails", durable=True)

for photo in options.photos:
    channel.basic_publish(
        exchange="",
        routing_key="thumbnails",
        body=json.dumps({"photo": photo, "seconds": options.seconds}),
        properties=pika.BasicProperties(
            content_type="application/json", delivery_mode=pika.DeliveryMode.Persistent.value
        ),
    )
    print(f"submitted {photo}")

connection.close()
