"""x-single-active-consumer on classic queues: one consumer gets everything, and who takes over. (Quorum queues have
their own file.)"""

from __future__ import annotations

from typing import Any

import pytest

from interop.raw_client import Basic, Channel, ChannelUnderTest, Client, Queue
from interop.under_test import BrokerUnderTest
from interop.waiting import until

FEATURE = "single active consumer"


@pytest.fixture
def sac(ch: ChannelUnderTest, q: str) -> str:
    """A queue with a single active consumer."""
    ch.declare(q, arguments={"x-single-active-consumer": True})
    return q


def bodies(ch: ChannelUnderTest, count: int) -> list[bytes]:
    return [delivery.body for delivery in ch.deliveries(count)]


def tags(ch: ChannelUnderTest, count: int) -> list[str]:
    return [delivery.consumer_tag for delivery in ch.deliveries(count)]


def consumer(client: Client, q: str, tag: str, *, prefetch: int = 0, **fields: Any) -> ChannelUnderTest:
    """A channel of its own that consumes."""
    ch = client.channel()
    ch.qos(prefetch)
    ch.consume(q, consumer_tag=tag, **fields)
    return ch


def test_the_first_one_gets_everything(ch: ChannelUnderTest, sac: str) -> None:
    for tag in ("a", "b", "c"):
        ch.consume(sac, consumer_tag=tag)
    ch.publish_all(sac, [b"1", b"2", b"3"])
    assert tags(ch, 3) == ["a", "a", "a"]


def test_a_false_argument_changes_nothing(ch: ChannelUnderTest, q: str) -> None:
    """LavinMQ #1429 refused it."""
    ch.declare(q, arguments={"x-single-active-consumer": False})
    for tag in ("a", "b"):
        ch.consume(q, consumer_tag=tag)
    ch.publish_all(q, [b"1", b"2"])
    assert tags(ch, 2) == ["a", "b"]


def test_all_of_them_are_counted(ch: ChannelUnderTest, sac: str) -> None:
    for _ in range(3):
        ch.consume(sac)
    assert ch.depth(sac) == (0, 3)


def test_nobody_helps_when_it_is_full(client: Client, ch: ChannelUnderTest, sac: str) -> None:
    first, second = consumer(client, sac, "a", prefetch=1), consumer(client, sac, "b")
    ch.publish_all(sac, [b"1", b"2"])
    assert bodies(first, 1) == [b"1"]
    ch.expect_nothing(sac)
    second.expect_nothing(sac)
    first.ack(1)
    assert bodies(first, 1) == [b"2"]


def test_the_next_takes_over_when_it_is_cancelled(
    broker: BrokerUnderTest, client: Client, ch: ChannelUnderTest, sac: str
) -> None:
    first, second = consumer(client, sac, "a", prefetch=1), consumer(client, sac, "b")
    ch.publish_all(sac, [b"1", b"2"])
    assert bodies(first, 1) == [b"1"]
    assert ch.depth(sac) == (1, 2)  # what comes after the cancel goes to the next one at once
    first.call(Basic.Cancel, consumer_tag="a")
    if broker.differs("single-active-consumer-cancelled"):
        assert bodies(second, 1) == [b"2"]
        first.nack(1)
        found = second.deliveries(1)
    else:
        second.expect_nothing(sac)
        first.nack(1)
        found = second.deliveries(2)
    assert (found[0].body, found[0].redelivered) == (b"1", True)


def test_the_next_takes_over_when_its_channel_closes(client: Client, ch: ChannelUnderTest, sac: str) -> None:
    first, second = consumer(client, sac, "a", prefetch=2), consumer(client, sac, "b")
    ch.publish_all(sac, [b"1", b"2", b"3"])
    assert bodies(first, 2) == [b"1", b"2"]
    first.call(Channel.Close, reply_code=200, reply_text="done")
    found = second.deliveries(3)
    assert [(message.body, message.redelivered) for message in found] == [(b"1", True), (b"2", True), (b"3", False)]


def test_the_next_takes_over_when_its_connection_is_lost(
    broker: BrokerUnderTest, client: Client, ch: ChannelUnderTest, sac: str
) -> None:
    lost = broker.connect()
    first, second = consumer(lost, sac, "a"), consumer(client, sac, "b")
    ch.publish("", sac, b"1")
    assert bodies(first, 1) == [b"1"]
    lost.abort()
    assert bodies(second, 1) == [b"1"]


def test_the_oldest_takes_over(ch: ChannelUnderTest, sac: str) -> None:
    for tag in ("a", "b", "c"):
        ch.consume(sac, consumer_tag=tag)
    for tag, following in (("a", "b"), ("b", "c")):
        ch.call(Basic.Cancel, consumer_tag=tag)
        ch.publish("", sac, b"1")
        assert tags(ch, 1) == [following]


def test_one_that_waits_may_go(ch: ChannelUnderTest, sac: str) -> None:
    for tag in ("a", "b", "c"):
        ch.consume(sac, consumer_tag=tag)
    ch.call(Basic.Cancel, consumer_tag="b")
    ch.publish("", sac, b"1")
    assert tags(ch, 1) == ["a"]
    ch.call(Basic.Cancel, consumer_tag="a")
    ch.publish("", sac, b"2")
    assert tags(ch, 1) == ["c"]


def test_a_higher_priority_does_not_push_it_out(ch: ChannelUnderTest, sac: str) -> None:
    ch.consume(sac, consumer_tag="a")
    ch.consume(sac, consumer_tag="b", arguments={"x-priority": 10})
    ch.publish("", sac, b"1")
    assert tags(ch, 1) == ["a"]


def test_the_highest_priority_takes_over(ch: ChannelUnderTest, sac: str) -> None:
    for tag, priority in (("a", 0), ("b", 1), ("c", 9), ("d", 9)):
        ch.consume(sac, consumer_tag=tag, arguments={"x-priority": priority})
    for tag, following in (("a", "c"), ("c", "d"), ("d", "b")):
        ch.call(Basic.Cancel, consumer_tag=tag)
        ch.publish("", sac, b"1")
        assert tags(ch, 1) == [following]


def test_back_again_is_last(ch: ChannelUnderTest, sac: str) -> None:
    for tag in ("a", "b"):
        ch.consume(sac, consumer_tag=tag)
    ch.call(Basic.Cancel, consumer_tag="a")
    ch.consume(sac, consumer_tag="a")
    ch.publish("", sac, b"1")
    assert tags(ch, 1) == ["b"]


def test_a_full_one_that_went_does_not_come_back(client: Client, ch: ChannelUnderTest, sac: str) -> None:
    first = consumer(client, sac, "a", prefetch=1)
    ch.publish_all(sac, [b"1", b"2"])
    assert bodies(first, 1) == [b"1"]
    first.call(Basic.Cancel, consumer_tag="a")
    second = consumer(client, sac, "b", prefetch=1)
    assert bodies(second, 1) == [b"2"]
    first.ack(1)
    ch.publish("", sac, b"3")
    first.expect_nothing(sac)
    second.ack(1)
    assert bodies(second, 1) == [b"3"]


@pytest.mark.parametrize("is_first", [True, False])
def test_exclusive_consumers_are_refused(client: Client, ch: ChannelUnderTest, sac: str, is_first: bool) -> None:
    if not is_first:
        client.channel().consume(sac)
    ch.send(Basic.Consume, queue=sac, exclusive=True)
    ch.expect_close(403, f"queue '{sac}' in vhost '/' in exclusive use", cause=Basic.Consume)


def test_get_works_beside_it(client: Client, ch: ChannelUnderTest, sac: str) -> None:
    first = consumer(client, sac, "a", prefetch=1)
    ch.publish_all(sac, [b"1", b"2"])
    assert bodies(first, 1) == [b"1"]
    assert ch.get_one(sac).body == b"2"


def test_without_acknowledgement(client: Client, ch: ChannelUnderTest, sac: str) -> None:
    first, second = consumer(client, sac, "a", no_ack=True), consumer(client, sac, "b", no_ack=True)
    ch.publish_all(sac, [b"1", b"2"])
    assert bodies(first, 2) == [b"1", b"2"]
    second.expect_nothing(sac)


def test_requeued_messages_come_to_it_again(client: Client, ch: ChannelUnderTest, sac: str) -> None:
    first, second = consumer(client, sac, "a"), consumer(client, sac, "b")
    ch.publish("", sac, b"1")
    assert bodies(first, 1) == [b"1"]
    first.nack(1)
    assert bodies(first, 1) == [b"1"]
    second.expect_nothing(sac)


def test_auto_delete_waits_for_the_last(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q, auto_delete=True, arguments={"x-single-active-consumer": True})
    for tag in ("a", "b"):
        ch.consume(q, consumer_tag=tag)
    ch.call(Basic.Cancel, consumer_tag="a")
    assert ch.depth(q) == (0, 1)
    ch.call(Basic.Cancel, consumer_tag="b")
    ch.send(Queue.Declare, queue=q, passive=True)
    ch.expect_close(404, f"no queue '{q}' in vhost '/'")


def test_all_are_told_when_the_queue_goes(client: Client, ch: ChannelUnderTest, sac: str) -> None:
    channels = [consumer(client, sac, tag) for tag in ("a", "b")]
    ch.call(Queue.Delete, queue=sac)
    assert [channel.expect(Basic.Cancel).consumer_tag for channel in channels] == ["a", "b"]


def test_with_priorities_of_messages(client: Client, ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q, arguments={"x-single-active-consumer": True, "x-max-priority": 5})
    for priority in (1, 5, 3):
        ch.publish("", q, b"%d" % priority, priority=priority)
    until(lambda: ch.depth(q)[0] == 3)
    first, second = consumer(client, q, "a"), consumer(client, q, "b")
    assert bodies(first, 3) == [b"5", b"3", b"1"]
    second.expect_nothing(q)
