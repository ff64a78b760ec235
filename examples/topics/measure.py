"""Topics, the publisher: one measurement, its routing key made of words: country.city.quantity.

    python measure.py cz.brno.temperature 21.5

The broker is at localhost, or where the environment variable AMQP_URL says.
"""

import os
import sys

import pika

if len(sys.argv) != 3:
    sys.exit("usage: python measure.py COUNTRY.CITY.QUANTITY VALUE")
key, value = sys.argv[1:]

connection = pika.BlockingConnection(pika.URLParameters(os.environ.get("AMQP_URL", "amqp://localhost")))
channel = connection.channel()
channel.exchange_declare(exchange="weather", exchange_type="topic", durable=True)

channel.basic_publish(exchange="weather", routing_key=key, body=value)
print(f"measured {key} = {value}")

connection.close()
