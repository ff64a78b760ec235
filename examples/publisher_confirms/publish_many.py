"""Publisher confirms for many messages: publish all the time, and count the confirms as they come in.

    python publish_many.py --messages 10000

Waiting for each confirm costs a round trip a message. This program keeps up to --in-flight messages unconfirmed
instead, and the broker confirms many of them at once (`multiple`). It uses pika's SelectConnection, which calls back
when something happens.
The broker is at localhost, or where the environment variable AMQP_URL says.
"""

import argparse
import os
import time

import pika

QUEUE = "confirmed-readings"


class ConfirmedPublisher:
    """Publishes the messages, then ends its connection when the last one is confirmed."""

    def __init__(self, url: str, message_count: int, in_flight_max: int) -> None:
        self.message_count = message_count
        self.in_flight_max = in_flight_max
        self.published = 0
        self.unconfirmed: set[int] = set()
        self.refused: list[int] = []
        self.connection = pika.SelectConnection(
            pika.URLParameters(url),
            on_open_callback=lambda connection: connection.channel(on_open_callback=self.on_channel_open),
            on_open_error_callback=self.on_open_error,
            on_close_callback=lambda connection, reason: connection.ioloop.stop(),
        )

    def on_open_error(self, connection, error):
        connection.ioloop.stop()
        raise error

    def on_channel_open(self, channel):
        self.channel = channel
        channel.queue_declare(QUEUE, durable=True, callback=self.on_queue_declared)

    def on_queue_declared(self, frame):
        self.channel.confirm_delivery(self.on_confirm, callback=self.on_confirming)

    def on_confirming(self, frame):
        self.publish_some()

    def publish_some(self):
        persistent = pika.BasicProperties(delivery_mode=pika.DeliveryMode.Persistent.value)
        while self.published < self.message_count and len(self.unconfirmed) < self.in_flight_max:
            self.published += 1
            self.unconfirmed.add(self.published)  # confirms count publishes from 1
            self.channel.basic_publish("", QUEUE, f"reading {self.published}".encode(), persistent)

    def on_confirm(self, frame):
        confirm = frame.method
        if confirm.multiple:
            settled = {tag for tag in self.unconfirmed if tag <= confirm.delivery_tag}
        else:
            settled = {confirm.delivery_tag}
        if isinstance(confirm, pika.spec.Basic.Nack):
            self.refused.extend(settled)
        self.unconfirmed -= settled
        self.publish_some()
        if not self.unconfirmed:
            self.channel.queue_delete(QUEUE, callback=lambda frame: self.connection.close())


parser = argparse.ArgumentParser()
parser.add_argument("--messages", type=int, default=10_000)
parser.add_argument("--in-flight", type=int, default=500, help="how many may be unconfirmed")
options = parser.parse_args()

started = time.monotonic()
publisher = ConfirmedPublisher(os.environ.get("AMQP_URL", "amqp://localhost"), options.messages, options.in_flight)
publisher.connection.ioloop.start()
confirmed = publisher.published - len(publisher.unconfirmed) - len(publisher.refused)
print(f"{confirmed} of {options.messages} confirmed, {len(publisher.refused)} refused")
print(f"{confirmed / (time.monotonic() - started):.0f} a second")
