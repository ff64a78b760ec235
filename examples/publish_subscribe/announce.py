"""Publish/subscribe, the publisher: everyone who listens gets the announcement; nobody gets it who comes later.

    python announce.py "Platform 4: the train to Brno is 10 minutes late"

The broker is at localhost, or where the environment variable AMQP_URL says.
"""

import os
import sys

import pika

connection = pika.BlockingConnection(pika.URLParameters(os.environ.get("AMQP_URL", "amqp://localhost")))
channel = connection.channel()
channel.exchange_declare(exchange="announcements", exchange_type="fanout", durable=True)

text = " ".join(sys.argv[1:]) or "this is a test"
channel.basic_publish(exchange="announcements", routing_key="", body=text)
print(f"announced {text!r}")

connection.close()
