"""x-max-priority: the order of delivery, and what the other arguments do in such a queue."""

from __future__ import annotations

from typing import Any

import pytest

from interop.raw_client import Basic, ChannelUnderTest, Client, Queue
from interop.under_test import BrokerUnderTest
from interop.waiting import let_pass, until


def declare(ch: ChannelUnderTest, q: str, highest: int = 5, **fields: Any) -> None:
    arguments = {"x-max-priority": highest} | fields.pop("arguments", {})
    ch.declare(q, arguments=arguments, **fields)


def publish(ch: ChannelUnderTest, q: str, *messages: tuple[bytes, int | None], **properties: Any) -> None:
    for body, priority in messages:
        ch.publish("", q, body, **properties | ({} if priority is None else {"priority": priority}))


def bodies(ch: ChannelUnderTest, count: int) -> list[bytes]:
    return [delivery.body for delivery in ch.deliveries(count)]


def test_the_higher_goes_first(ch: ChannelUnderTest, q: str) -> None:
    declare(ch, q)
    publish(ch, q, (b"1", 1), (b"5", 5), (b"3", 3), (b"0", 0), (b"4", 4))
    assert ch.drain(q) == [b"5", b"4", b"3", b"1", b"0"]


def test_in_order_within_a_priority(ch: ChannelUnderTest, q: str) -> None:
    declare(ch, q)
    publish(ch, q, (b"1a", 1), (b"2a", 2), (b"1b", 1), (b"2b", 2), (b"1c", 1))
    assert ch.drain(q) == [b"2a", b"2b", b"1a", b"1b", b"1c"]


def test_none_is_zero(ch: ChannelUnderTest, q: str) -> None:
    declare(ch, q)
    publish(ch, q, (b"a", None), (b"b", 0), (b"c", None), (b"d", 1))
    assert ch.drain(q) == [b"d", b"a", b"b", b"c"]


def test_beyond_the_highest_counts_as_the_highest(ch: ChannelUnderTest, q: str) -> None:
    declare(ch, q)
    publish(ch, q, (b"9", 9), (b"5", 5), (b"255", 255), (b"4", 4))
    assert ch.drain(q) == [b"9", b"5", b"255", b"4"]


def test_the_priority_is_delivered_as_it_came(ch: ChannelUnderTest, q: str) -> None:
    declare(ch, q, 2)
    publish(ch, q, (b"9", 9), (b"none", None))
    assert [ch.get_one(q).properties for _ in range(2)] == [{"priority": 9}, {}]


@pytest.mark.parametrize("highest", [0, 1, 255])
def test_highest_priorities(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str, highest: int) -> None:
    declare(ch, q, highest)
    publish(ch, q, (b"0", 0), (b"1", 1), (b"255", 255))
    expected = {0: [b"0", b"1", b"255"], 1: [b"1", b"255", b"0"], 255: [b"255", b"1", b"0"]}
    if not broker.differs("priority-of-0-at-most"):
        expected[0] = expected[1]
    assert ch.drain(q) == expected[highest]


def test_without_the_argument_priorities_mean_nothing(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    publish(ch, q, (b"1", 1), (b"5", 5), (b"3", 3))
    assert ch.drain(q) == [b"1", b"5", b"3"]


def test_consumers_get_the_higher_first(ch: ChannelUnderTest, q: str) -> None:
    declare(ch, q)
    publish(ch, q, (b"1", 1), (b"5", 5), (b"3", 3))
    ch.consume(q)
    assert bodies(ch, 3) == [b"5", b"3", b"1"]


def test_what_was_prefetched_is_not_overtaken(ch: ChannelUnderTest, q: str) -> None:
    declare(ch, q)
    publish(ch, q, (b"1", 1), (b"2", 2))
    ch.qos(2)
    ch.consume(q)
    publish(ch, q, (b"5", 5), (b"3", 3))
    assert bodies(ch, 2) == [b"2", b"1"]
    ch.ack(2, multiple=True)
    assert bodies(ch, 2) == [b"5", b"3"]


def test_requeued_messages_go_back_to_their_place(ch: ChannelUnderTest, q: str) -> None:
    declare(ch, q)
    publish(ch, q, (b"1a", 1), (b"5a", 5), (b"5b", 5), (b"1b", 1))
    taken = [ch.get_one(q, no_ack=False) for _ in range(4)]
    assert [message.body for message in taken] == [b"5a", b"5b", b"1a", b"1b"]
    for number in (3, 1, 0, 2):
        ch.nack(taken[number].delivery_tag)
    messages = [ch.get_one(q) for _ in range(4)]
    assert [message.body for message in messages] == [b"5a", b"5b", b"1a", b"1b"]
    assert all(message.redelivered for message in messages)


def test_requeued_together(ch: ChannelUnderTest, q: str) -> None:
    declare(ch, q)
    publish(ch, q, (b"1", 1), (b"5", 5), (b"3", 3))
    for _ in range(3):
        last = ch.get_one(q, no_ack=False)
    publish(ch, q, (b"4", 4))
    ch.nack(last.delivery_tag, multiple=True)
    assert ch.drain(q) == [b"5", b"4", b"3", b"1"]


def test_depth_counts_all_priorities(ch: ChannelUnderTest, q: str) -> None:
    declare(ch, q)
    publish(ch, q, (b"1", 1), (b"5", 5), (b"0", None))
    assert ch.depth(q)[0] == 3
    assert ch.get_one(q).message_count == 2
    assert ch.call(Queue.Purge, queue=q).message_count == 2


def test_the_head_that_is_dropped_is_the_highest(ch: ChannelUnderTest, q: str) -> None:
    declare(ch, q, arguments={"x-max-length": 2})
    publish(ch, q, (b"5", 5), (b"1", 1), (b"0", 0))
    assert ch.drain(q) == [b"1", b"0"]


def test_a_new_high_one_may_go_at_once(ch: ChannelUnderTest, q: str) -> None:
    declare(ch, q, arguments={"x-max-length": 2})
    publish(ch, q, (b"1a", 1), (b"1b", 1), (b"5", 5))
    assert ch.drain(q) == [b"1a", b"1b"]


def test_the_newest_is_refused(ch: ChannelUnderTest, q: str) -> None:
    declare(ch, q, arguments={"x-max-length": 2, "x-overflow": "reject-publish"})
    ch.confirm()
    publish(ch, q, (b"1", 1), (b"2", 2), (b"5", 5))
    assert ch.await_confirms(3) == [(1, True), (2, True), (3, False)]
    assert ch.drain(q) == [b"2", b"1"]


def test_queue_ttl(ch: ChannelUnderTest, q: str) -> None:
    declare(ch, q, arguments={"x-message-ttl": 30})
    publish(ch, q, (b"1", 1), (b"5", 5), (b"0", 0))
    until(lambda: ch.depth(q)[0] == 0)


def test_the_head_of_the_highest_holds_the_others_up(ch: ChannelUnderTest, q: str) -> None:
    declare(ch, q)
    publish(ch, q, (b"5", 5))
    publish(ch, q, (b"1", 1), expiration="20")
    let_pass(50)
    assert ch.depth(q)[0] == 2
    assert ch.get_one(q).body == b"5"
    assert ch.get(q) is None


def test_an_expired_message_that_came_to_the_head_of_others(
    broker: BrokerUnderTest, ch: ChannelUnderTest, q: str
) -> None:
    declare(ch, q)
    publish(ch, q, (b"1", 1))
    publish(ch, q, (b"5", 5), expiration="20")
    let_pass(50)
    if broker.differs("expired-at-the-head-of-priorities"):
        until(lambda: ch.depth(q)[0] == 1)
        assert ch.drain(q) == [b"1"]
    else:
        assert ch.depth(q)[0] == 2
        assert ch.drain(q) == [b"5", b"1"]


def test_dead_letters_keep_their_priority(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str) -> None:
    dead = broker.queue_name("dead")
    declare(ch, dead)
    declare(ch, q, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead})
    publish(ch, q, (b"1", 1), (b"5", 5))
    first, second = ch.get_one(q, no_ack=False), ch.get_one(q, no_ack=False)
    ch.nack(second.delivery_tag, requeue=False)
    ch.nack(first.delivery_tag, requeue=False)
    until(lambda: ch.depth(dead)[0] == 2)
    assert ch.drain(dead) == [b"5", b"1"]


def test_rejected_together(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str) -> None:
    """Dead letters of one settlement come by falling priority, whatever the order of delivery was."""
    dead = broker.queue_name("dead")
    ch.declare(dead)
    declare(ch, q, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead})
    ch.consume(q)
    for priority in (1, 5, 3):
        publish(ch, q, (b"%d" % priority, priority))
    assert bodies(ch, 3) == [b"1", b"5", b"3"]
    ch.nack(3, multiple=True, requeue=False)
    until(lambda: ch.depth(dead)[0] == 3)
    assert ch.drain(dead) == [b"5", b"3", b"1"]


def test_with_a_channel_that_goes(client: Client, ch: ChannelUnderTest, q: str) -> None:
    declare(ch, q)
    publish(ch, q, (b"1", 1), (b"5", 5), (b"3", 3))
    assert ch.depth(q)[0] == 3  # what comes after the consumer goes to it at once
    consumer = client.channel()
    consumer.qos(2)
    consumer.consume(q)
    assert bodies(consumer, 2) == [b"5", b"3"]
    consumer.send(Basic.Ack, delivery_tag=99)
    consumer.expect_close(406, "unknown delivery tag 99")
    until(lambda: ch.depth(q)[0] == 3)
    assert ch.drain(q) == [b"5", b"3", b"1"]
