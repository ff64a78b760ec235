"""The firehose: which copies there are of what is published and delivered, and what they say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from amqp_broker.protocols.amqp10.performatives import ACCEPTED, TRANSFER
from interop.amqp10_client import Amqp10Client
from interop.brokers import OurBroker, RabbitMQ
from interop.operator import Operator
from interop.raw_client import ChannelUnderTest, Received
from interop.under_test import BrokerUnderTest
from interop.waiting import until
from tests.support.amqp10_client import message, section

FEATURE = "firehose"
TRACE = "amq.rabbitmq.trace"


@pytest.fixture
def trace(broker: BrokerUnderTest, ch: ChannelUnderTest) -> Iterator[str]:
    """A queue that gets all copies; the firehose is on until the test is over."""
    process: Any = broker.process
    if not isinstance(process, RabbitMQ | OurBroker):
        pytest.skip("this broker was not started by the tests")
    queue = broker.queue_name("trace")
    ch.declare(queue)
    ch.bind(queue, TRACE, "#")
    operator = Operator(process)
    operator.trace(True)
    yield queue
    operator.trace(False)


def copies(ch: ChannelUnderTest, trace: str, count: int) -> list[Received]:
    """So many copies and no more; by key, because those of publishes and deliveries come in any order."""
    until(lambda: ch.depth(trace)[0] >= count)
    assert ch.depth(trace)[0] == count
    return sorted((ch.get_one(trace) for _ in range(count)), key=lambda copy: str(copy.routing_key), reverse=True)


def test_a_publish_and_its_delivery(ch: ChannelUnderTest, trace: str, q: str) -> None:
    ch.declare(q)
    ch.publish("", q, b"body", message_id="m", priority=3, headers={"a": 1}, delivery_mode=2)
    other = ch.client.channel()
    other.get_one(q)
    published, delivered = copies(other, trace, 2)
    common = {
        "exchange_name": "",
        "routing_keys": [q],
        "properties": {"message_id": "m", "priority": 3, "headers": {"a": 1}, "delivery_mode": 2},
        "vhost": "/",
        "user": "guest",
    }
    for copy, key, more in (
        (published, "publish.", {"channel": 1, "routed_queues": [q]}),
        (delivered, f"deliver.{q}", {"channel": other.number, "redelivered": 0}),
    ):
        headers = dict(copy.headers)
        assert " -> " in headers.pop("connection")
        assert headers.pop("node")
        assert (copy.routing_key, copy.exchange, copy.body) == (key, TRACE, b"body")
        assert headers == common | more


def test_what_goes_nowhere(ch: ChannelUnderTest, trace: str) -> None:
    ch.publish("amq.topic", "no.route", b"lost")
    (copy,) = copies(ch, trace, 1)
    assert (copy.routing_key, copy.headers["routed_queues"], copy.body) == ("publish.amq.topic", [], b"lost")


def test_several_keys_and_queues(ch: ChannelUnderTest, broker: BrokerUnderTest, trace: str, q: str) -> None:
    other = broker.queue_name("other")
    ch.declare(q)
    ch.declare(other)
    ch.publish("", q, b"1", headers={"CC": [other]})
    (copy,) = copies(ch, trace, 1)
    assert copy.headers["routing_keys"] == [q, other]
    assert sorted(copy.headers["routed_queues"]) == sorted([q, other])


def test_consumed_copies_are_not_copied(ch: ChannelUnderTest, trace: str, q: str) -> None:
    ch.declare(q)
    ch.consume(trace, no_ack=True)
    ch.publish("", q, b"1")
    (copy,) = ch.deliveries(1)
    assert copy.routing_key == "publish."
    ch.expect_nothing(trace)


def test_a_client_of_amqp_1_0(
    broker: BrokerUnderTest, amqp10: Amqp10Client, ch: ChannelUnderTest, trace: str, q: str
) -> None:
    ch.declare(q)
    amqp10.sender("/exchanges/amq.direct/key")
    ch.bind(q, "amq.direct", "key")
    correlated = section(0x73, [None, None, None, None, None, "correlation 👀"])
    assert amqp10.publish(message(b"body", before=correlated)) == ACCEPTED
    amqp10.receiver(f"/queues/{q}", credit=1)
    amqp10.settle(amqp10.expect(TRANSFER))
    published, delivered = copies(ch, trace, 2)
    for copy, key, more in (
        (published, "publish.amq.direct", {"routed_queues": [q]}),
        (delivered, f"deliver.{q}", {"redelivered": 0}),
    ):
        headers = dict(copy.headers)
        assert " -> " in headers.pop("connection")
        assert headers.pop("node")
        assert headers.pop("properties")["correlation_id"] == "correlation 👀"
        assert (copy.routing_key, copy.body) == (key, b"body")
        said = {"exchange_name": "amq.direct", "routing_keys": ["key"], "vhost": "/", "user": "guest"}
        assert headers == said | more | {"channel": 1 if broker.differs("session-numbers") else 0}
