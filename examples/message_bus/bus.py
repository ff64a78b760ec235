"""Message bus: what all its services share. Not run by itself.

Three topic exchanges carry the events. A service knows which events it wants and which it makes, not who else
is there:

    orders    order.requested, order.created, order.part.<supplier>
    tickets   ticket.issued.<supplier>
    payouts   payout.made.<supplier>
"""

import json
import os
from collections.abc import Callable, Iterable

import pika

EXCHANGES = ("orders", "tickets", "payouts")

Event = tuple[str, str, dict]
"""Exchange, routing key, content."""


def connect() -> pika.BlockingConnection:
    """The broker is at localhost, or where the environment variable AMQP_URL says."""
    return pika.BlockingConnection(pika.URLParameters(os.environ.get("AMQP_URL", "amqp://localhost")))


def declare_exchanges(channel) -> None:
    for exchange in EXCHANGES:
        channel.exchange_declare(exchange, exchange_type="topic", durable=True)


def emit(channel, event: Event) -> None:
    exchange, key, content = event
    channel.basic_publish(
        exchange,
        key,
        json.dumps(content),
        pika.BasicProperties(content_type="application/json", delivery_mode=pika.DeliveryMode.Persistent.value),
    )


def serve(name: str, exchange: str, pattern: str, handle: Callable[[dict], Iterable[Event]]) -> None:
    """Runs a service until Ctrl-C: each event that matches the pattern is handled, and what comes of it is emitted.

    An event is acknowledged only when the broker has all that followed from it, so a service that dies in between gets
    it again. Its queue is durable: events wait there while the service is away.
    """
    connection = connect()
    channel = connection.channel()
    declare_exchanges(channel)
    channel.confirm_delivery()
    queue = f"{name}-service"
    channel.queue_declare(queue, durable=True)
    channel.queue_bind(queue, exchange, pattern)

    def on_event(ch, method, properties, body):
        for event in handle(json.loads(body)):
            emit(ch, event)
        ch.basic_ack(method.delivery_tag)

    channel.basic_qos(prefetch_count=10)
    channel.basic_consume(queue, on_event)
    print(f"{name} service is ready, end with Ctrl-C")
    try:
        channel.start_consuming()
    except KeyboardInterrupt:
        connection.close()
