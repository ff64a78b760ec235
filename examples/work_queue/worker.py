"""Work queue, a worker: start as many as you like, each takes one job at a time.

    python worker.py

A job is acknowledged when it is done. Kill a worker in the middle of one, and another worker gets that job again.
The broker is at localhost, or where the environment variable AMQP_URL says.
"""

import json
import os

import pika

connection = pika.BlockingConnection(pika.URLParameters(os.environ.get("AMQP_URL", "amqp://localhost")))
channel = connection.channel()
channel.queue_declare(queue="thumbnails", durable=True)


def make_thumbnail(ch, method, properties, body):
    job = json.loads(body)
    print(f"started {job['photo']}{' once more' if method.redelivered else ''}")
    connection.sleep(job["seconds"])  # stands for the work; unlike time.sleep it answers heartbeats meanwhile
    ch.basic_ack(method.delivery_tag)
    print(f"finished {job['photo']}")


# No second job is sent to this worker before it has acknowledged the first.
channel.basic_qos(prefetch_count=1)
channel.basic_consume(queue="thumbnails", on_message_callback=make_thumbnail)

print("waiting for jobs, end with Ctrl-C")
try:
    channel.start_consuming()
except KeyboardInterrupt:
    connection.close()
