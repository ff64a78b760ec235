"""Routing, the publisher: a shipment goes to the depots that handle its kind.

    python dispatch.py parcel "Ada Lovelace, London"

The broker is at localhost, or where the environment variable AMQP_URL says.
"""

import os
import sys

import pika

if len(sys.argv) != 3:
    sys.exit("usage: python dispatch.py KIND ADDRESS")
kind, address = sys.argv[1:]

connection = pika.BlockingConnection(pika.URLParameters(os.environ.get("AMQP_URL", "amqp://localhost")))
channel = connection.channel()
channel.exchange_declare(exchange="shipments", exchange_type="direct", durable=True)

channel.basic_publish(exchange="shipments", routing_key=kind, body=address)
print(f"dispatched a {kind} to {address}")

connection.close()
