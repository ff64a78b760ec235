"""Quorum queues as of 3.10, on one machine: what they refuse, delivery counts and limits, the order of what comes back.

What is sent to a quorum queue takes effect a little later there, even on the same channel: tests wait for it.
"""

from __future__ import annotations

from typing import Any

import pytest

from interop.raw_client import Basic, Channel, ChannelUnderTest, Client, Queue, Received, T, Tx
from interop.under_test import BrokerUnderTest
from interop.waiting import let_pass, until


def declare(ch: ChannelUnderTest, q: str, **arguments: Any) -> Received:
    """A quorum queue; arguments with underscores, without the x-."""
    table = {"x-queue-type": "quorum"} | {f"x-{name.replace('_', '-')}": value for name, value in arguments.items()}
    return ch.declare(q, durable=True, arguments=table)


def publish(ch: ChannelUnderTest, q: str, *messages: bytes, **properties: Any) -> None:
    """Messages that are in the queue when this returns."""
    before = ch.depth(q)[0]
    ch.publish_all(q, messages, **properties)
    until(lambda: ch.depth(q)[0] == before + len(messages))


def publish_and_confirm(client: Client, q: str, *messages: bytes) -> None:
    """Messages that the queue has when this returns, whether or not it has handed them out."""
    ch = client.channel()
    ch.confirm()
    ch.publish_all(q, messages)
    assert ch.await_confirms(len(messages))[-1] == (len(messages), True)


def get(ch: ChannelUnderTest, q: str) -> Received:
    """A message, unacknowledged."""
    until(lambda: ch.depth(q)[0])
    return ch.get_one(q, no_ack=False)


def bodies(ch: ChannelUnderTest, count: int) -> list[bytes]:
    return [delivery.body for delivery in ch.deliveries(count)]


@pytest.fixture
def dead(broker: BrokerUnderTest, ch: ChannelUnderTest) -> str:
    """A classic queue for dead letters."""
    name = broker.queue_name("dead")
    ch.declare(name)
    return name


def letter(ch: ChannelUnderTest, q: str) -> Received:
    until(lambda: ch.depth(q)[0])
    return ch.get_one(q)


# What is refused


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"durable": False}, "non-durable"),
        ({"durable": True, "exclusive": True}, "exclusive-owner"),
        ({"durable": True, "auto_delete": True}, "auto-delete"),
        ({"durable": False, "exclusive": True, "auto_delete": True}, "auto-delete"),
        ({"durable": False, "exclusive": True}, "exclusive-owner"),
    ],
    ids=["transient", "exclusive", "auto-delete", "all", "transient and exclusive"],
)
def test_properties_that_are_refused(ch: ChannelUnderTest, q: str, fields: dict[str, Any], what: str) -> None:
    ch.send(Queue.Declare, queue=q, arguments={"x-queue-type": "quorum"}, **fields)
    ch.expect_close(406, f"invalid property '{what}' for queue '{q}' in vhost '/'", cause=Queue.Declare)
    ch.reopen()
    ch.send(Queue.Declare, queue=q, passive=True)
    ch.expect_close(404, f"no queue '{q}' in vhost '/'")


def test_server_named(ch: ChannelUnderTest) -> None:
    ch.send(Queue.Declare, queue="", durable=True, arguments={"x-queue-type": "quorum"})
    text = "Cannot declare a server-named queue for type rabbit_quorum_queue"
    ch.expect_close(406, text, cause=Queue.Declare)


def test_prefetch_of_the_channel(client: Client, ch: ChannelUnderTest, q: str) -> None:
    declare(ch, q)
    ch.qos(10, globally=True)
    ch.send(Basic.Consume, queue=q)
    text = f"queue '{q}' in vhost '/' does not support global qos"
    client.expect_connection_close(540, text, cause=Basic.Consume)


def test_prefetch_of_the_channel_that_comes_later(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str) -> None:
    """It is refused only when it is there as the consumer starts."""
    declare(ch, q)
    ch.consume(q)
    ch.qos(1, globally=True)
    ch.publish_all(q, [b"1", b"2", b"3"])
    if broker.differs("quorum-global-prefetch"):
        assert bodies(ch, 1) == [b"1"]
        ch.expect_nothing(q)
    else:
        assert bodies(ch, 3) == [b"1", b"2", b"3"]


@pytest.mark.parametrize("flag", ["if_unused", "if_empty"])
def test_delete_with_conditions(
    broker: BrokerUnderTest, client: Client, ch: ChannelUnderTest, q: str, flag: str
) -> None:
    declare(ch, q)
    ch.send(Queue.Delete, queue=q, **{flag: True})
    text = (
        f"cannot delete queue '{q}' in vhost '/'. queue.delete operations with {flag.replace('_', '-')} flag set are "
        "not supported by quorum queues"
    )
    client.expect_connection_close(540, text, cause=Queue.Delete)
    assert broker.channel().depth(q) == (0, 0)


def test_redeclare(ch: ChannelUnderTest, q: str) -> None:
    declare(ch, q, delivery_limit=3)
    publish(ch, q, b"1")
    assert declare(ch, q, delivery_limit=3).message_count == 1


# Messages in and out


def test_in_order(ch: ChannelUnderTest, q: str) -> None:
    declare(ch, q)
    publish(ch, q, b"1", b"2", b"3")
    assert ch.drain(q) == [b"1", b"2", b"3"]


def test_confirms(ch: ChannelUnderTest, q: str) -> None:
    declare(ch, q)
    ch.confirm()
    ch.publish_all(q, [b"1", b"2"])
    ch.publish("", q, b"3", delivery_mode=2)
    assert ch.await_confirms(3) == [(1, True), (2, True), (3, True)]


def test_transactions(ch: ChannelUnderTest, q: str) -> None:
    declare(ch, q)
    ch.call(Tx.Select)
    ch.publish_all(q, [b"1", b"2"])
    assert ch.depth(q)[0] == 0
    ch.call(Tx.Commit)
    until(lambda: ch.depth(q)[0] == 2)
    assert ch.drain(q) == [b"1", b"2"]


def test_get_counts_what_is_left(ch: ChannelUnderTest, q: str) -> None:
    declare(ch, q)
    publish(ch, q, b"1", b"2", b"3")
    assert [ch.get_one(q).message_count for _ in range(3)] == [2, 1, 0]
    assert ch.get(q) is None


def test_consumer(ch: ChannelUnderTest, q: str) -> None:
    declare(ch, q)
    ch.publish_all(q, [b"1", b"2"])
    tag = ch.consume(q)
    found = ch.deliveries(2)
    assert [message.body for message in found] == [b"1", b"2"]
    assert {message.consumer_tag for message in found} == {tag}
    assert [message.delivery_tag for message in found] == [1, 2]
    ch.ack(2, multiple=True)
    ch.call(Basic.Cancel, consumer_tag=tag)
    assert ch.depth(q) == (0, 0)


def test_prefetch(ch: ChannelUnderTest, q: str) -> None:
    declare(ch, q)
    ch.qos(2)
    ch.consume(q)
    ch.publish_all(q, [b"1", b"2", b"3"])
    assert bodies(ch, 2) == [b"1", b"2"]
    until(lambda: ch.depth(q)[0] == 1)
    ch.ack(1)
    assert bodies(ch, 1) == [b"3"]


def test_no_consumer_holds_more_than_two_thousand(ch: ChannelUnderTest, q: str) -> None:
    declare(ch, q)
    publish(ch, q, *[b""] * 2010)
    ch.consume(q)
    ch.deliveries(2000)
    ch.expect_nothing(q)
    assert ch.depth(q)[0] == 10
    ch.ack(2000, multiple=True)
    ch.deliveries(10)


def test_without_acknowledgement(ch: ChannelUnderTest, q: str) -> None:
    declare(ch, q)
    ch.consume(q, no_ack=True)
    ch.publish_all(q, [b"1", b"2"])
    assert bodies(ch, 2) == [b"1", b"2"]
    ch.call(Basic.Recover, requeue=True)
    ch.expect_nothing(q)


def test_acknowledged_twice(ch: ChannelUnderTest, q: str) -> None:
    declare(ch, q)
    publish(ch, q, b"1")
    tag = get(ch, q).delivery_tag
    ch.ack(tag)
    ch.ack(tag)
    ch.expect_close(406, f"unknown delivery tag {tag}", cause=Basic.Ack)


def test_cancel_notification(client: Client, ch: ChannelUnderTest, q: str) -> None:
    declare(ch, q)
    tag = ch.consume(q)
    client.channel().call(Queue.Delete, queue=q)
    assert ch.expect(Basic.Cancel).consumer_tag == tag


def test_exclusive_consumers_are_not_exclusive(client: Client, ch: ChannelUnderTest, q: str) -> None:
    declare(ch, q)
    ch.consume(q, exclusive=True)
    client.channel().consume(q, exclusive=True)
    assert ch.depth(q) == (0, 2)


def test_consumers_take_turns(ch: ChannelUnderTest, q: str) -> None:
    declare(ch, q)
    for tag in ("a", "b"):
        ch.consume(q, consumer_tag=tag)
    for number in range(4):
        ch.publish("", q, b"%d" % number)
    assert [message.consumer_tag for message in ch.deliveries(4)] == ["a", "b", "a", "b"]


def test_priorities_of_consumers(ch: ChannelUnderTest, q: str) -> None:
    declare(ch, q)
    ch.qos(1)
    ch.consume(q, consumer_tag="low", arguments={"x-priority": 1})
    ch.consume(q, consumer_tag="high", arguments={"x-priority": 10})
    ch.consume(q, consumer_tag="middle", arguments={"x-priority": T("b", 5)})
    for expected in ("high", "middle", "low"):
        ch.publish("", q, b"1")
        assert ch.expect(Basic.Deliver).consumer_tag == expected


# Delivery counts


def test_the_first_delivery_to_a_consumer_has_no_count(ch: ChannelUnderTest, q: str) -> None:
    declare(ch, q)
    ch.publish("", q, b"1")
    ch.publish("", q, b"2", headers={"x-delivery-count": "claimed"})
    ch.consume(q)
    found = ch.deliveries(2)
    assert [message.redelivered for message in found] == [False, False]
    assert [message.properties for message in found] == [{}, {"headers": {"x-delivery-count": "claimed"}}]
    ch.nack(2, multiple=True)
    found = ch.deliveries(2)
    assert [message.redelivered for message in found] == [True, True]
    assert [message.typed_headers for message in found] == [{"x-delivery-count": T("l", 1)}] * 2


def test_what_is_got_for_the_first_time_has_a_count_of_zero(
    broker: BrokerUnderTest, ch: ChannelUnderTest, q: str
) -> None:
    """LavinMQ #977 had it wrong. From 3.13 on there is no count at first."""
    declare(ch, q)
    publish(ch, q, b"1")
    found = get(ch, q)
    assert found.redelivered is False
    count = {"headers": {"x-delivery-count": T("l", 0)}}
    assert found.typed_properties == (count if broker.version < (3, 13) else {})


def test_the_count_grows(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str) -> None:
    declare(ch, q)
    publish(ch, q, b"1")
    for count in range(4):
        found = get(ch, q)
        is_shown = count > 0 or broker.version < (3, 13)
        assert (found.headers, found.redelivered) == ({"x-delivery-count": count} if is_shown else {}, count > 0)
        ch.nack(found.delivery_tag)


def test_the_count_stands_in_its_place_among_the_headers(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str) -> None:
    declare(ch, q)
    publish(ch, q, b"1", headers={"z": 1, "a": T("V", None), "x-delivery-count": "claimed"}, message_id="m")
    found = get(ch, q)
    count = 0 if broker.version < (3, 13) else "claimed"
    if broker.version < (3, 13):
        assert list(found.typed_headers) == ["a", "x-delivery-count", "z"]
    assert found.headers == {"a": None, "x-delivery-count": count, "z": 1}
    assert found.properties["message_id"] == "m"


@pytest.mark.parametrize("how", ["nack", "reject", "recover", "channel", "connection"])
def test_whatever_brings_it_back_is_counted(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str, how: str) -> None:
    declare(ch, q)
    publish(ch, q, b"1")
    consumer = broker.connect()
    channel = consumer.channel()
    channel.consume(q)
    tag = channel.expect(Basic.Deliver).delivery_tag
    if how == "nack":
        channel.nack(tag)
    elif how == "reject":
        channel.reject(tag)
    elif how == "recover":
        channel.send(Basic.Recover, requeue=True)
    elif how == "channel":
        channel.call(Channel.Close, reply_code=200, reply_text="done")
    else:
        consumer.abort()
    found = channel.take(Basic.Deliver) if how in ("nack", "reject", "recover") else get(ch, q)
    assert (found.headers, found.redelivered) == ({"x-delivery-count": 1}, True)


# Delivery limits


@pytest.mark.parametrize("limit", [0, 1, 3])
def test_a_limit(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str, dead: str, limit: int) -> None:
    declare(ch, q, delivery_limit=limit, dead_letter_exchange="", dead_letter_routing_key=dead)
    publish(ch, q, b"poison")
    for count in range(limit + 1):
        found = get(ch, q)
        assert found.headers.get("x-delivery-count", 0) == count
        ch.nack(found.delivery_tag)
    found = letter(ch, dead)
    death = found.headers["x-death"][0]
    assert (found.body, death["reason"], death["queue"], death["count"]) == (b"poison", "delivery_limit", q, 1)
    assert "x-delivery-count" not in found.headers
    assert ch.depth(q)[0] == 0


def test_a_limit_without_an_exchange_for_dead_letters(ch: ChannelUnderTest, q: str) -> None:
    declare(ch, q, delivery_limit=1)
    publish(ch, q, b"poison", b"next")
    ch.qos(1)
    ch.consume(q)
    for _ in range(2):
        found = ch.expect(Basic.Deliver)
        assert found.body == b"poison"
        ch.nack(found.delivery_tag)
    assert bodies(ch, 1) == [b"next"]


def test_a_channel_that_goes_counts_against_the_limit(client: Client, ch: ChannelUnderTest, q: str, dead: str) -> None:
    declare(ch, q, delivery_limit=1, dead_letter_exchange="", dead_letter_routing_key=dead)
    publish(ch, q, b"poison")
    for _ in range(2):
        consumer = client.channel()
        consumer.consume(q)
        consumer.expect(Basic.Deliver)
        consumer.call(Channel.Close, reply_code=200, reply_text="done")
    assert letter(ch, dead).headers["x-death"][0]["reason"] == "delivery_limit"


def test_a_negative_limit_is_over_at_once(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str, dead: str) -> None:
    declare(ch, q, delivery_limit=-1, dead_letter_exchange="", dead_letter_routing_key=dead)
    publish(ch, q, b"1")
    ch.nack(get(ch, q).delivery_tag)
    if broker.version < (4, 0):
        assert letter(ch, dead).body == b"1"
    else:  # it is no limit
        until(lambda: ch.depth(q)[0] == 1)


def test_a_limit_that_is_no_number(ch: ChannelUnderTest, q: str) -> None:
    """It is not checked, and a text is more than any number: there is no limit."""
    declare(ch, q, delivery_limit="nonsense")
    publish(ch, q, b"1")
    for _ in range(3):
        ch.nack(get(ch, q).delivery_tag)
    assert get(ch, q).body == b"1"


# What comes back


def test_returned_messages_go_to_the_back_without_a_limit(
    broker: BrokerUnderTest, ch: ChannelUnderTest, q: str
) -> None:
    declare(ch, q)
    publish(ch, q, b"1", b"2", b"3")
    ch.nack(get(ch, q).delivery_tag)
    until(lambda: ch.depth(q)[0] == 3)
    # From 4.0 on there always is a limit.
    assert ch.drain(q) == ([b"2", b"3", b"1"] if broker.version < (4, 0) else [b"1", b"2", b"3"])


def test_returned_messages_come_first_with_a_limit(ch: ChannelUnderTest, q: str) -> None:
    declare(ch, q, delivery_limit=5)
    publish(ch, q, b"1", b"2", b"3")
    ch.nack(get(ch, q).delivery_tag)
    until(lambda: ch.depth(q)[0] == 3)
    assert ch.drain(q) == [b"1", b"2", b"3"]


def test_returned_in_the_order_of_their_return(ch: ChannelUnderTest, q: str) -> None:
    declare(ch, q, delivery_limit=5)
    publish(ch, q, b"1", b"2", b"3")
    tags = [get(ch, q).delivery_tag for _ in range(2)]
    ch.nack(tags[1])
    ch.nack(tags[0])
    until(lambda: ch.depth(q)[0] == 3)
    assert ch.drain(q) == [b"2", b"1", b"3"]


@pytest.mark.parametrize("limit", [{}, {"delivery_limit": 5}], ids=["no limit", "limit"])
def test_several_returned_at_once(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str, limit: dict[str, int]) -> None:
    declare(ch, q, **limit)
    publish(ch, q, b"1", b"2", b"3", b"4")
    ch.qos(3)
    tag = ch.consume(q)
    assert bodies(ch, 3) == [b"1", b"2", b"3"]
    ch.call(Basic.Cancel, consumer_tag=tag)
    ch.nack(3, multiple=True)
    until(lambda: ch.depth(q)[0] == 4)
    is_limited = limit or broker.version >= (4, 0)
    assert ch.drain(q) == ([b"1", b"2", b"3", b"4"] if is_limited else [b"4", b"1", b"2", b"3"])


@pytest.mark.parametrize("limit", [{}, {"delivery_limit": 5}], ids=["no limit", "limit"])
def test_a_channel_that_goes_returns_to_the_front(
    client: Client, ch: ChannelUnderTest, q: str, limit: dict[str, int]
) -> None:
    declare(ch, q, **limit)
    publish(ch, q, b"1", b"2", b"3")
    consumer = client.channel()
    consumer.qos(2)
    consumer.consume(q)
    assert bodies(consumer, 2) == [b"1", b"2"]
    consumer.call(Channel.Close, reply_code=200, reply_text="done")
    until(lambda: ch.depth(q)[0] == 3)
    assert ch.drain(q) == [b"1", b"2", b"3"]


def test_recover_returns_to_the_back(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str) -> None:
    declare(ch, q)
    publish(ch, q, b"1", b"2", b"3")
    for _ in range(2):
        get(ch, q)
    ch.call(Basic.Recover, requeue=True)
    until(lambda: ch.depth(q)[0] == 3)
    assert ch.drain(q) == ([b"3", b"1", b"2"] if broker.version < (4, 0) else [b"1", b"2", b"3"])


def test_cancel_keeps_what_is_unacknowledged(ch: ChannelUnderTest, q: str) -> None:
    declare(ch, q)
    publish(ch, q, b"1", b"2")
    ch.qos(1)
    tag = ch.consume(q)
    assert bodies(ch, 1) == [b"1"]
    ch.call(Basic.Cancel, consumer_tag=tag)
    assert ch.depth(q)[0] == 1
    ch.ack(1)
    until(lambda: ch.depth(q) == (1, 0))
    assert ch.drain(q) == [b"2"]


# Dead letters, TTL, length


def test_rejected(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str, dead: str) -> None:
    declare(ch, q, dead_letter_exchange="", dead_letter_routing_key=dead)
    publish(ch, q, b"1", b"2", headers={"a": 1})
    ch.consume(q)
    ch.deliveries(2)
    ch.nack(2, multiple=True, requeue=False)
    until(lambda: ch.depth(dead)[0] == 2)
    found = [ch.get_one(dead) for _ in range(2)]
    assert [message.body for message in found] == [b"1", b"2"]
    assert list(found[0].typed_headers) == [
        "a",
        "x-death",
        "x-first-death-exchange",
        "x-first-death-queue",
        "x-first-death-reason",
        *(f"x-last-death-{what}" for what in ("exchange", "queue", "reason") if broker.version >= (3, 13)),
    ]


def test_a_strategy_for_dead_letters(ch: ChannelUnderTest, q: str, dead: str) -> None:
    declare(
        ch,
        q,
        dead_letter_exchange="",
        dead_letter_routing_key=dead,
        dead_letter_strategy="at-least-once",
        overflow="reject-publish",
    )
    publish(ch, q, b"1")
    ch.reject(get(ch, q).delivery_tag, requeue=False)
    found = letter(ch, dead)
    assert (found.body, found.headers["x-death"][0]["reason"]) == (b"1", "rejected")


def test_ttl_of_the_queue(ch: ChannelUnderTest, q: str, dead: str) -> None:
    declare(ch, q, message_ttl=40, dead_letter_exchange="", dead_letter_routing_key=dead)
    ch.publish_all(q, [b"1", b"2"])
    until(lambda: ch.depth(dead)[0] == 2)
    assert ch.drain(dead) == [b"1", b"2"]
    assert ch.depth(q)[0] == 0


def test_ttl_of_the_message(ch: ChannelUnderTest, q: str, dead: str) -> None:
    declare(ch, q, message_ttl=60_000, dead_letter_exchange="", dead_letter_routing_key=dead)
    ch.publish("", q, b"1", expiration="20")
    found = letter(ch, dead)
    assert found.headers["x-death"][0]["original-expiration"] == "20"
    assert found.headers["x-death"][0]["reason"] == "expired"


def test_a_ttl_of_zero(ch: ChannelUnderTest, q: str) -> None:
    declare(ch, q, message_ttl=0)
    ch.publish("", q, b"1")
    let_pass(20)
    assert ch.get(q) is None
    ch.consume(q)
    ch.publish("", q, b"2")
    assert bodies(ch, 1) == [b"2"]


def test_only_the_head_expires(ch: ChannelUnderTest, q: str) -> None:
    declare(ch, q)
    publish(ch, q, b"lives")
    publish(ch, q, b"expired", expiration="20")
    let_pass(60)
    assert ch.depth(q)[0] == 2
    assert ch.drain(q) == [b"lives"]


def test_the_oldest_goes_when_there_are_too_many(ch: ChannelUnderTest, q: str, dead: str) -> None:
    declare(ch, q, max_length=2, dead_letter_exchange="", dead_letter_routing_key=dead)
    ch.publish_all(q, [b"1", b"2", b"3", b"4"])
    until(lambda: ch.depth(dead)[0] == 2)
    assert ch.drain(dead) == [b"1", b"2"]
    assert ch.drain(q) == [b"3", b"4"]


def test_too_many_bytes(ch: ChannelUnderTest, q: str) -> None:
    declare(ch, q, max_length_bytes=10)
    ch.confirm()
    ch.publish_all(q, [b"a" * 6, b"b" * 4, b"c"])
    assert ch.await_confirms(3) == [(1, True), (2, True), (3, True)]
    until(lambda: ch.depth(q)[0] == 2)
    assert ch.drain(q) == [b"b" * 4, b"c"]


@pytest.mark.parametrize("overflow", ["drop-head", "reject-publish-dlx"])
def test_reject_publish_dlx_is_drop_head(ch: ChannelUnderTest, q: str, overflow: str) -> None:
    declare(ch, q, max_length=1, overflow=overflow)
    ch.confirm()
    ch.publish_all(q, [b"1", b"2"])
    assert ch.await_confirms(2) == [(1, True), (2, True)]
    assert ch.drain(q) == [b"2"]


def confirm_one(ch: ChannelUnderTest, q: str, body: bytes) -> bool:
    """Whether a message is taken. In RabbitMQ the queue confirms it before it tells publishers that it takes no more:
    it is asked something, which it answers when it has told them."""
    ch.publish("", q, body)
    is_taken = ch.next().method is Basic.Ack
    ch.depth(q)
    return is_taken


def test_publishers_are_refused_after_one_too_many(ch: ChannelUnderTest, q: str) -> None:
    """The queue takes one message more than its limit, and then none until it is at four fifths of it."""
    declare(ch, q, max_length=5, overflow="reject-publish")
    ch.confirm()
    assert [confirm_one(ch, q, b"%d" % number) for number in range(8)] == [True] * 6 + [False] * 2
    until(lambda: ch.depth(q)[0] == 6)
    ch.get_one(q)
    assert not confirm_one(ch, q, b"at the limit")
    ch.get_one(q)
    until(lambda: confirm_one(ch, q, b"at four fifths"))


def test_a_publisher_that_comes_while_others_are_refused(
    broker: BrokerUnderTest, client: Client, ch: ChannelUnderTest, q: str
) -> None:
    declare(ch, q, max_length=10, overflow="reject-publish")
    ch.confirm()
    assert [confirm_one(ch, q, b"%d" % number) for number in range(12)] == [True] * 11 + [False]
    until(lambda: ch.depth(q)[0] == 11)
    assert [ch.get_one(q).body, ch.get_one(q).body] == [b"0", b"1"]
    until(lambda: ch.depth(q)[0] == 9)
    newcomer = client.channel()
    newcomer.confirm()
    may = not broker.differs("quorum-refusal-per-channel")
    assert [confirm_one(each, q, b"more") for each in (ch, newcomer, ch)] == [False, may, False]


def test_publishers_without_confirms_are_refused_in_silence(client: Client, ch: ChannelUnderTest, q: str) -> None:
    declare(ch, q, max_length=1, overflow="reject-publish")
    ch.confirm()
    assert [confirm_one(ch, q, b"%d" % number) for number in range(3)] == [True, True, False]
    other = client.channel()
    other.publish("", q, b"lost", mandatory=True)
    other.expect_nothing(q)
    assert ch.drain(q) == [b"0", b"1"]


# Purge, delete


def test_purge(ch: ChannelUnderTest, q: str) -> None:
    declare(ch, q)
    publish(ch, q, b"1", b"2", b"3")
    held = get(ch, q)
    assert ch.call(Queue.Purge, queue=q).message_count == 2
    ch.nack(held.delivery_tag)
    until(lambda: ch.depth(q)[0] == 1)
    assert ch.drain(q) == [b"1"]


def test_delete(ch: ChannelUnderTest, q: str) -> None:
    declare(ch, q)
    publish(ch, q, b"1", b"2")
    get(ch, q)
    assert ch.call(Queue.Delete, queue=q).message_count == 1
    ch.send(Queue.Declare, queue=q, passive=True)
    ch.expect_close(404, f"no queue '{q}' in vhost '/'")


def test_settled_after_the_queue_was_deleted(ch: ChannelUnderTest, q: str) -> None:
    declare(ch, q)
    publish(ch, q, b"1", b"2")
    tags = [get(ch, q).delivery_tag for _ in range(2)]
    ch.call(Queue.Delete, queue=q)
    ch.ack(tags[0])
    ch.nack(tags[1])
    ch.expect_nothing()


# Single active consumer


def test_single_active_consumer(client: Client, ch: ChannelUnderTest, q: str) -> None:
    declare(ch, q, single_active_consumer=True)
    first, second = client.channel(), client.channel()
    first.consume(q, consumer_tag="first")
    second.consume(q, consumer_tag="second")
    ch.publish_all(q, [b"1", b"2"])
    assert bodies(first, 2) == [b"1", b"2"]
    second.expect_nothing()
    first.ack(1)
    first.call(Channel.Close, reply_code=200, reply_text="done")
    found = second.expect(Basic.Deliver)
    assert (found.body, found.redelivered, found.headers) == (b"2", True, {"x-delivery-count": 1})


def contender(client: Client, q: str, tag: str, priority: int, prefetch: int = 0) -> ChannelUnderTest:
    """A consumer on a channel of its own."""
    channel = client.channel()
    channel.qos(prefetch)
    channel.consume(q, consumer_tag=tag, arguments={"x-priority": priority})
    return channel


def test_the_next_active_one_is_the_oldest_or_from_4_on_that_of_the_highest_priority(
    broker: BrokerUnderTest, client: Client, ch: ChannelUnderTest, q: str
) -> None:
    declare(ch, q, single_active_consumer=True)
    channels = {tag: contender(client, q, tag, priority) for tag, priority in (("a", 9), ("b", 1), ("c", 2))}
    channels["a"].call(Basic.Cancel, consumer_tag="a")
    ch.publish("", q, b"1")
    assert bodies(channels["c" if broker.version >= (4, 0) else "b"], 1) == [b"1"]


def test_of_equals_the_next_active_one_may_have_the_most_from_4_on(
    broker: BrokerUnderTest, client: Client, ch: ChannelUnderTest, q: str
) -> None:
    declare(ch, q, single_active_consumer=True)
    wanted = {"a": 1, "b": 1, "c": 5, "d": 5}
    channels = {tag: contender(client, q, tag, 0, prefetch) for tag, prefetch in wanted.items()}
    channels["a"].call(Basic.Cancel, consumer_tag="a")
    ch.publish("", q, b"1")
    assert bodies(channels["c" if broker.version >= (4, 0) else "b"], 1) == [b"1"]


def test_a_consumer_of_a_higher_priority_takes_over_from_4_on(
    broker: BrokerUnderTest, client: Client, ch: ChannelUnderTest, q: str
) -> None:
    declare(ch, q, single_active_consumer=True)
    first = contender(client, q, "low", 1)
    second = contender(client, q, "high", 2)
    ch.publish("", q, b"1")
    active, other = (second, first) if broker.version >= (4, 0) else (first, second)
    assert bodies(active, 1) == [b"1"]
    other.expect_nothing(q)


def test_it_takes_over_when_the_active_one_has_settled_all(
    broker: BrokerUnderTest, client: Client, ch: ChannelUnderTest, q: str
) -> None:
    declare(ch, q, single_active_consumer=True)
    first = contender(client, q, "low", 1)
    publish_and_confirm(client, q, b"1", b"2")
    assert bodies(first, 2) == [b"1", b"2"]
    second = contender(client, q, "high", 2)
    publish_and_confirm(client, q, b"3")
    if broker.version < (4, 0):
        assert bodies(first, 1) == [b"3"]
        return
    first.ack(1)
    first.sync()
    first.expect_nothing(q)
    second.expect_nothing(q)
    first.ack(2)
    assert bodies(second, 1) == [b"3"]
    second.call(Basic.Cancel, consumer_tag="high")
    publish_and_confirm(client, q, b"4")
    assert bodies(first, 1) == [b"4"]


def test_the_active_one_settles_all_also_when_the_higher_one_has_gone(
    broker: BrokerUnderTest, client: Client, ch: ChannelUnderTest, q: str
) -> None:
    declare(ch, q, single_active_consumer=True)
    first = contender(client, q, "low", 1)
    publish_and_confirm(client, q, b"1")
    assert bodies(first, 1) == [b"1"]
    second = contender(client, q, "high", 2)
    second.call(Basic.Cancel, consumer_tag="high")
    publish_and_confirm(client, q, b"2")
    if broker.version >= (4, 0):
        first.expect_nothing(q)
        first.ack(1)
    assert bodies(first, 1) == [b"2"]


def test_get_beside_a_single_active_consumer(ch: ChannelUnderTest, q: str) -> None:
    declare(ch, q, single_active_consumer=True)
    ch.send(Basic.Get, queue=q)
    text = (
        f"cannot obtain access to locked queue '{q}' in vhost '/'. basic.get operations are not supported by quorum "
        "queues with single active consumer"
    )
    ch.expect_close(405, text, cause=Basic.Get)


def test_an_exclusive_consumer_beside_a_single_active_one(client: Client, ch: ChannelUnderTest, q: str) -> None:
    declare(ch, q, single_active_consumer=True)
    ch.consume(q)
    client.channel().consume(q, exclusive=True)


# How many consumers are counted


def counted(broker: BrokerUnderTest, ours: int, rabbitmq: int) -> int:
    return ours if broker.differs("quorum-counts") else rabbitmq


def test_what_was_got_counts_as_a_consumer(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str) -> None:
    declare(ch, q)
    publish(ch, q, b"1", b"2")
    held = get(ch, q)
    assert ch.depth(q) == (1, counted(broker, ours=0, rabbitmq=1))
    ch.ack(held.delivery_tag)
    until(lambda: ch.depth(q) == (1, 0))


def test_a_cancelled_consumer_with_messages_counts(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str) -> None:
    declare(ch, q)
    publish(ch, q, b"1")
    tag = ch.consume(q)
    ch.expect(Basic.Deliver)
    ch.call(Basic.Cancel, consumer_tag=tag)
    assert ch.depth(q) == (0, counted(broker, ours=0, rabbitmq=1))
    ch.ack(1)
    until(lambda: ch.depth(q) == (0, 0))


def test_consumers_that_are_not_active_do_not_count(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str) -> None:
    declare(ch, q, single_active_consumer=True)
    for _ in range(3):
        ch.consume(q)
    assert ch.depth(q) == (0, counted(broker, ours=3, rabbitmq=1))


def test_a_message_that_dies_of_the_limit_and_the_prefetch(
    broker: BrokerUnderTest, ch: ChannelUnderTest, q: str
) -> None:
    declare(ch, q, delivery_limit=0)
    publish(ch, q, b"1", b"2", b"3", b"4")
    ch.qos(1)
    ch.consume(q)
    ch.deliveries(1)
    ch.nack(1)
    assert ch.expect(Basic.Deliver).body == b"2"
    if broker.differs("quorum-credit"):
        ch.expect_nothing(q)
    else:
        assert ch.expect(Basic.Deliver).body == b"3"
