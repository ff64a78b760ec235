"""What a clean restart leaves as it was: messages, their order and priority, their time to live, what is known of them.

All is laid out in brokers of this file's own before they are restarted once; the tests look at it afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from interop import brokers
from interop.raw_client import REPLY_TIMEOUT_S, Basic, ChannelUnderTest
from interop.test_queue_expiry import exists
from interop.under_test import BrokerUnderTest
from interop.waiting import until

LONG_MS = 600_000


def lay_out(ch: ChannelUnderTest) -> None:
    """Everything that the tests look at."""
    ch.confirm()
    _fill(ch, "plain", b"1", b"2", b"3")
    _publish(ch, "plain", b"transient", delivery_mode=1)
    ch.declare("transient queue")
    _publish(ch, "transient queue", b"1")
    _fill(ch, "delivered", b"1", b"2", b"3")
    ch.get_one("delivered", no_ack=False)
    ch.ack(ch.get_one("delivered", no_ack=False).delivery_tag)
    _declare(ch, "priorities", {"x-max-priority": 5})
    for priority in (1, 5, 3):
        _publish(ch, "priorities", b"%d" % priority, priority=priority)
    _declare(ch, "limited", {"x-max-length": 2})
    _fill(ch, "limited", b"1", b"2", b"3")
    _declare(ch, "dead", {})
    dead_letters = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
    _declare(ch, "rejecting", dead_letters)
    _fill(ch, "rejecting", b"rejected")
    ch.reject(ch.get_one("rejecting", no_ack=False).delivery_tag, requeue=False)
    until(lambda: ch.depth("dead")[0] == 1)
    _declare(ch, "waiting", dead_letters)
    _publish(ch, "waiting", b"short", expiration="300")
    _publish(ch, "waiting", b"long", expiration=str(LONG_MS))
    _declare(ch, "quorum", {"x-queue-type": "quorum", "x-delivery-limit": 9})
    _fill(ch, "quorum", b"1", b"2")
    until(lambda: ch.depth("quorum")[0] == 2)
    for _ in range(2):
        ch.nack(ch.get_one("quorum", no_ack=False).delivery_tag)
        until(lambda: ch.depth("quorum")[0] == 2)
    _declare(ch, "stream", {"x-queue-type": "stream", "x-max-age": "1h"})
    _fill(ch, "stream", b"0", b"1", b"2")
    _declare(ch, "single", {"x-single-active-consumer": True})
    _declare(ch, "expires", {"x-expires": 400})
    _declare(ch, "bound", {})
    ch.bind("bound", "amq.topic", "a.#")


def _declare(ch: ChannelUnderTest, name: str, arguments: Mapping[str, object]) -> None:
    ch.declare(name, durable=True, arguments=arguments)


def _fill(ch: ChannelUnderTest, name: str, *messages: bytes) -> None:
    """Persistent messages; a queue that is not there is declared."""
    if name in ("plain", "delivered"):
        _declare(ch, name, {})
    for body in messages:
        _publish(ch, name, body)


def _publish(ch: ChannelUnderTest, name: str, body: bytes, *, delivery_mode: int = 2, **properties: Any) -> None:
    """A message, confirmed: one at a time, so that the next confirm is its own."""
    ch.publish("", name, body, delivery_mode=delivery_mode, **properties)
    ch.take(Basic.Ack)


@pytest.fixture(scope="module")
def restarted_brokers() -> Iterator[dict[brokers.Choice, brokers.BrokerProcess]]:
    started: dict[brokers.Choice, brokers.BrokerProcess] = {}
    yield started
    for process in started.values():
        process.stop()


def are_streams_back(process: brokers.BrokerProcess, test: str) -> bool:
    """Whether a stream can be read. RabbitMQ takes clients before: who consumes then has its channel or its connection
    closed, with RabbitMQ 3.10 after consume-ok."""
    asking = BrokerUnderTest(process, test, REPLY_TIMEOUT_S)
    ch = asking.channel()
    ch.qos(1)
    ch.send(Basic.Consume, queue="stream", arguments={"x-stream-offset": "first"})
    are_back = not ch.client.closes_instead(Basic.Deliver, channel=ch.number)
    asking.clean_up()
    return are_back


@pytest.fixture
def ch(
    broker: BrokerUnderTest, restarted_brokers: dict[brokers.Choice, brokers.BrokerProcess]
) -> Iterator[ChannelUnderTest]:
    """Channel 1 of a connection to a broker of the same kind that was restarted."""
    if broker.choice not in restarted_brokers:
        process = broker.choice.start()
        restarted_brokers[broker.choice] = process
        before = BrokerUnderTest(process, "laying out", REPLY_TIMEOUT_S)
        lay_out(before.channel())
        before.clean_up()
        process.restart()
        if process.kind == brokers.RABBITMQ:
            until(lambda: are_streams_back(process, broker.test))
    after = BrokerUnderTest(restarted_brokers[broker.choice], broker.test, REPLY_TIMEOUT_S)
    yield after.channel()
    after.clean_up()


def test_persistent_messages_in_durable_queues(ch: ChannelUnderTest) -> None:
    assert ch.drain("plain") == [b"1", b"2", b"3"]


def test_transient_queues_are_gone(ch: ChannelUnderTest) -> None:
    assert ch.declare("transient queue", durable=True).message_count == 0


def test_bindings(ch: ChannelUnderTest) -> None:
    ch.publish("amq.topic", "a.b", b"routed")
    assert ch.drain("bound") == [b"routed"]


def test_what_had_been_delivered_is_redelivered(ch: ChannelUnderTest) -> None:
    """LavinMQ #1911: it was forgotten."""
    found = [ch.get_one("delivered") for _ in range(2)]
    assert [(message.body, message.redelivered) for message in found] == [(b"1", True), (b"3", False)]


def test_priorities(ch: ChannelUnderTest) -> None:
    assert ch.drain("priorities") == [b"5", b"3", b"1"]


def test_lengths(ch: ChannelUnderTest) -> None:
    ch.publish("", "limited", b"4")
    assert ch.drain("limited") == [b"3", b"4"]


def test_time_to_live_goes_on_and_waits_for_the_exchanges(ch: ChannelUnderTest) -> None:
    """LavinMQ #1714: messages expired before what they were dead-lettered to was there."""
    until(lambda: ch.depth("dead")[0] == 2)
    found = [ch.get_one("dead") for _ in range(2)]
    assert [message.body for message in found] == [b"rejected", b"short"]
    deaths = [message.headers["x-death"][0] for message in found]
    assert [(death["queue"], death["reason"]) for death in deaths] == [
        ("rejecting", "rejected"),
        ("waiting", "expired"),
    ]
    assert ch.drain("waiting") == [b"long"]


def test_delivery_counts(ch: ChannelUnderTest) -> None:
    found = [ch.get_one("quorum") for _ in range(2)]
    counts = {message.body: message.headers.get("x-delivery-count", 0) for message in found}
    assert counts == {b"1": 2, b"2": 0}


def test_arguments(ch: ChannelUnderTest) -> None:
    ch.declare("single", durable=True, arguments={"x-single-active-consumer": True})
    for tag in ("a", "b"):
        ch.consume("single", consumer_tag=tag)
    for _ in range(2):
        ch.publish("", "single", b"1")
        assert ch.expect(Basic.Deliver).consumer_tag == "a"


def test_queue_expiry(ch: ChannelUnderTest) -> None:
    until(lambda: not exists(ch.client, "expires"))
    assert ch.declare("expires", durable=True).message_count == 0


def test_streams(ch: ChannelUnderTest) -> None:
    ch.qos(10)
    tag = ch.consume("stream", arguments={"x-stream-offset": 1})
    found = [(message.headers["x-stream-offset"], message.body) for message in ch.deliveries(2)]
    assert found == [(1, b"1"), (2, b"2")]
    ch.call(Basic.Cancel, consumer_tag=tag)
    ch.consume("stream", arguments={"x-stream-offset": "next"})
    ch.sync()
    ch.publish("", "stream", b"3")
    (message,) = ch.deliveries(1)
    assert (message.headers["x-stream-offset"], message.body) == (3, b"3")
