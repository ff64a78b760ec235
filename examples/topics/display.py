"""Topics, a display: shows the measurements whose key matches one of its patterns.

    python display.py "cz.#"                     all of one country
    python display.py "*.*.temperature"          all temperatures
    python display.py "cz.#" "*.*.temperature"   both, and what matches both comes once

In a pattern `*` stands for exactly one word and `#` for any number of words, none included.
The broker is at localhost, or where the environment variable AMQP_URL says.
"""

import os
import sys

import pika

patterns = sys.argv[1:]
if not patterns:
    sys.exit("usage: python display.py PATTERN...")

connection = pika.BlockingConnection(pika.URLParameters(os.environ.get("AMQP_URL", "amqp://localhost")))
channel = connection.channel()
channel.exchange_declare(exchange="weather", exchange_type="topic", durable=True)

queue = channel.queue_declare(queue="", exclusive=True).method.queue
for pattern in patterns:
    channel.queue_bind(queue=queue, exchange="weather", routing_key=pattern)


def show(ch, method, properties, body):
    print(f"{method.routing_key} is {body.decode()}")


channel.basic_consume(queue=queue, on_message_callback=show, auto_ack=True)

print(f"showing {', '.join(patterns)}; end with Ctrl-C")
try:
    channel.start_consuming()
except KeyboardInterrupt:
    connection.close()
