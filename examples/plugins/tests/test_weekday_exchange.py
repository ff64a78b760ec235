"""The exchange type as its clients see it. Run pytest where this package, amqp-broker-server and pika are installed."""

from __future__ import annotations

import pika
import pika.exceptions
import pytest
from example_plugins.weekday_exchange import WEEKDAYS

from amqp_broker.testing import Broker


def test_each_message_goes_to_the_queue_of_its_day(amqp_broker: Broker) -> None:
    with pika.BlockingConnection(pika.URLParameters(amqp_broker.url)) as connection:
        channel = connection.channel()
        channel.exchange_declare("days", "x-weekday")
        for day in WEEKDAYS:
            channel.queue_declare(day)
            channel.queue_bind(day, "days", day)
        channel.confirm_delivery()
        channel.basic_publish("days", "any", b"hello", mandatory=True)
        counts = [channel.queue_declare(day, passive=True).method.message_count for day in WEEKDAYS]
        assert sorted(counts) == [0, 0, 0, 0, 0, 0, 1]


def test_what_is_no_day_is_refused(amqp_broker: Broker) -> None:
    with pika.BlockingConnection(pika.URLParameters(amqp_broker.url)) as connection:
        channel = connection.channel()
        channel.exchange_declare("days", "x-weekday")
        channel.queue_declare("q")
        with pytest.raises(pika.exceptions.ChannelClosedByBroker, match="'someday' is none of mon, tue"):
            channel.queue_bind("q", "days", "someday")
