"""Getting messages: basic.get, consumers, prefetch, acknowledgement in all its ways, and the order of requeues."""

from __future__ import annotations

import re

import pytest

from interop.codec import MethodType
from interop.raw_client import Basic, Channel, ChannelUnderTest, Client, Queue, T
from interop.under_test import BrokerUnderTest


def bodies(ch: ChannelUnderTest, count: int) -> list[bytes]:
    return [delivery.body for delivery in ch.deliveries(count)]


# basic.get


def test_get_of_an_empty_queue(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    reply = ch.call(Basic.Get, queue=q)
    assert reply.name == "Basic.GetEmpty"
    assert reply.typed == {"cluster_id": ""}


def test_get_counts_what_is_left(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.publish_all(q, [b"1", b"2", b"3"])
    for left in (2, 1, 0):
        message = ch.get_one(q)
        assert (message.message_count, message.redelivered, message.delivery_tag) == (left, False, 3 - left)
        assert (message.exchange, message.routing_key) == ("", q)


def test_get_of_a_missing_queue(ch: ChannelUnderTest, q: str) -> None:
    ch.send(Basic.Get, queue=q)
    ch.expect_close(404, f"no queue '{q}' in vhost '/'", cause=Basic.Get)


def test_get_is_not_held_back_by_prefetch(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.publish_all(q, [b"1", b"2"])
    ch.qos(1)
    ch.qos(1, globally=True)
    assert ch.get_one(q, no_ack=False).body == b"1"
    assert ch.get_one(q, no_ack=False).body == b"2"


# basic.consume


def test_consumer_tags(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    assert ch.consume(q, consumer_tag="mine") == "mine"
    assert re.fullmatch(r"amq\.ctag-[A-Za-z0-9_-]{22}", ch.consume(q))


def test_deliveries(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.publish("", q, b"1", message_id="m")
    tag = ch.consume(q)
    delivery = ch.expect(Basic.Deliver)
    assert (delivery.consumer_tag, delivery.delivery_tag, delivery.redelivered) == (tag, 1, False)
    assert (delivery.exchange, delivery.routing_key, delivery.body) == ("", q, b"1")
    assert delivery.properties == {"message_id": "m"}


def test_consume_ok_comes_before_the_first_delivery(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.publish("", q, b"1")
    ch.send(Basic.Consume, queue=q)
    ch.expect(Basic.ConsumeOk)
    ch.expect(Basic.Deliver)


def test_consume_without_waiting(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.publish("", q, b"1")
    ch.send(Basic.Consume, queue=q, consumer_tag="mine", nowait=True)
    assert ch.expect(Basic.Deliver).consumer_tag == "mine"


def test_consume_of_a_missing_queue(ch: ChannelUnderTest, q: str) -> None:
    ch.send(Basic.Consume, queue=q)
    ch.expect_close(404, f"no queue '{q}' in vhost '/'", cause=Basic.Consume)


def test_consumer_tag_that_is_in_use(client: Client, ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.consume(q, consumer_tag="t")
    ch.send(Basic.Consume, queue=q, consumer_tag="t")
    client.expect_connection_close(530, "attempt to reuse consumer tag 't'", cause=Basic.Consume)


def test_consumer_tag_of_another_channel(client: Client, ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    assert ch.consume(q, consumer_tag="t") == client.channel().consume(q, consumer_tag="t")


def test_without_acknowledgement(client: Client, ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.publish_all(q, [b"1", b"2", b"3"])
    ch.qos(1)
    ch.consume(q, no_ack=True)
    assert [delivery.delivery_tag for delivery in ch.deliveries(3)] == [1, 2, 3]
    ch.ack(1)
    ch.expect_close(406, "unknown delivery tag 1", cause=Basic.Ack)
    assert client.channel().depth(q) == (0, 0)


def test_no_local_is_ignored(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.consume(q, no_local=True)
    ch.publish("", q, b"my own")
    assert bodies(ch, 1) == [b"my own"]


def test_unknown_arguments_are_ignored(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.consume(q, arguments={"x-unknown": 1, "a": {"b": None}})


# Exclusive consumers


def test_exclusive_consumer_keeps_others_out(client: Client, ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.consume(q, exclusive=True)
    for exclusive in (False, True):
        other = client.channel()
        other.send(Basic.Consume, queue=q, exclusive=exclusive)
        other.expect_close(403, f"queue '{q}' in vhost '/' in exclusive use", cause=Basic.Consume)


def test_exclusive_consumer_comes_too_late(client: Client, ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.consume(q)
    other = client.channel()
    other.send(Basic.Consume, queue=q, exclusive=True)
    other.expect_close(403, f"queue '{q}' in vhost '/' in exclusive use", cause=Basic.Consume)


def test_exclusive_consumer_does_not_keep_get_out(client: Client, ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.qos(1)
    ch.consume(q, exclusive=True)
    ch.publish_all(q, [b"1", b"2"])
    assert bodies(ch, 1) == [b"1"]
    ch.sync()
    assert client.channel().get_one(q).body == b"2"


def test_exclusive_use_ends_with_the_consumer(client: Client, ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    tag = ch.consume(q, exclusive=True)
    ch.call(Basic.Cancel, consumer_tag=tag)
    client.channel().consume(q, exclusive=True)


# basic.cancel


def test_cancel_stops_deliveries_and_keeps_what_is_unacknowledged(client: Client, ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.publish("", q, b"1")
    tag = ch.consume(q)
    assert bodies(ch, 1) == [b"1"]
    assert ch.call(Basic.Cancel, consumer_tag=tag).consumer_tag == tag
    ch.publish("", q, b"2")
    ch.expect_nothing(q)
    assert client.channel().depth(q) == (1, 0)
    ch.ack(1)
    ch.sync()
    assert client.channel().drain(q) == [b"2"]


def test_cancel_of_an_unknown_tag_succeeds(ch: ChannelUnderTest) -> None:
    assert ch.call(Basic.Cancel, consumer_tag="nobody").consumer_tag == "nobody"


def test_cancel_without_waiting(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.consume(q, consumer_tag="t")
    ch.send(Basic.Cancel, consumer_tag="t", nowait=True)
    assert ch.depth(q) == (0, 0)
    ch.consume(q, consumer_tag="t")


def test_cancel_notification_when_the_queue_is_deleted(client: Client, ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    tags = {ch.consume(q), ch.consume(q)}
    client.channel().call(Queue.Delete, queue=q)
    notices = [ch.expect(Basic.Cancel) for _ in range(2)]
    assert {notice.consumer_tag for notice in notices} == tags
    assert {notice.nowait for notice in notices} == {True}


def test_no_cancel_notification_without_the_capability(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    quiet = broker.channel(capabilities={})
    quiet.consume(q)
    ch.call(Queue.Delete, queue=q)
    quiet.expect_nothing()


def test_deliveries_stay_acknowledgeable_after_the_queue_is_gone(client: Client, ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.publish_all(q, [b"1", b"2"])
    ch.consume(q)
    ch.deliveries(2)
    client.channel().call(Queue.Delete, queue=q)
    ch.expect(Basic.Cancel)
    ch.ack(1)
    ch.nack(2)
    ch.expect_nothing()
    ch.ack(2)
    ch.expect_close(406, "unknown delivery tag 2", cause=Basic.Ack)


# Prefetch


def test_prefetch_holds_deliveries_back(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.publish_all(q, [b"1", b"2", b"3", b"4"])
    ch.qos(2)
    ch.consume(q)
    assert bodies(ch, 2) == [b"1", b"2"]
    ch.expect_nothing(q)
    ch.ack(1)
    assert bodies(ch, 1) == [b"3"]
    ch.ack(3, multiple=True)
    assert bodies(ch, 1) == [b"4"]


def test_prefetch_is_for_consumers_that_come_after_it(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.consume(q, consumer_tag="unlimited")
    ch.qos(1)
    ch.publish_all(q, [b"1", b"2", b"3"])
    assert bodies(ch, 3) == [b"1", b"2", b"3"]


def test_prefetch_is_counted_for_each_consumer(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str) -> None:
    other = broker.queue_name("other")
    ch.qos(1)
    for queue in (q, other):
        ch.declare(queue)
        ch.publish_all(queue, [b"1", b"2"])
        ch.consume(queue)
    assert bodies(ch, 2) == [b"1", b"1"]
    ch.expect_nothing(q, other)


def test_global_prefetch_is_shared_by_the_consumers(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str) -> None:
    other = broker.queue_name("other")
    ch.qos(2, globally=True)
    for queue in (q, other):
        ch.declare(queue)
        ch.consume(queue)
    ch.publish_all(q, [b"1", b"2", b"3"])
    assert bodies(ch, 2) == [b"1", b"2"]
    ch.publish("", other, b"other")
    ch.expect_nothing(q, other)
    ch.ack(2, multiple=True)
    assert sorted(bodies(ch, 2)) == [b"3", b"other"]


@pytest.mark.parametrize("is_multiple", [False, True])
@pytest.mark.parametrize("prefetch", [1, 10])
def test_global_prefetch_goes_round(
    broker: BrokerUnderTest, ch: ChannelUnderTest, q: str, prefetch: int, is_multiple: bool
) -> None:
    """RabbitMQ lets the queues have it in a random order, so each gets some third of it."""
    queues = [q, broker.queue_name("second"), broker.queue_name("third")]
    for queue in queues:
        ch.declare(queue)
        ch.publish_all(queue, [queue.encode()] * 100)
    ch.qos(prefetch, globally=True)
    for queue in queues:
        ch.consume(queue)
    waiting = ch.deliveries(prefetch)
    served = [delivery.body for delivery in waiting]
    for _ in range(90):
        ch.ack(waiting.pop(0).delivery_tag, multiple=is_multiple)
        waiting += ch.deliveries(1)
        served.append(waiting[-1].body)
    assert min(served.count(queue.encode()) for queue in queues) >= 10


@pytest.mark.parametrize("prefetch", [1, 10])
def test_global_prefetch_goes_round_among_the_consumers_of_a_queue(ch: ChannelUnderTest, q: str, prefetch: int) -> None:
    ch.declare(q)
    ch.publish_all(q, [b"x"] * 100)
    ch.qos(prefetch, globally=True)
    tags = [ch.consume(q) for _ in range(3)]
    waiting = ch.deliveries(prefetch)
    served = [delivery.consumer_tag for delivery in waiting]
    for _ in range(90):
        ch.ack(waiting.pop(0).delivery_tag)
        waiting += ch.deliveries(1)
        served.append(waiting[-1].consumer_tag)
    assert min(served.count(tag) for tag in tags) >= 10


def test_both_prefetches_are_kept_to(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str) -> None:
    other = broker.queue_name("other")
    ch.qos(2)
    ch.qos(3, globally=True)
    for queue in (q, other):
        ch.declare(queue)
        ch.publish_all(queue, [b"1", b"2", b"3"])
    ch.consume(q)
    assert bodies(ch, 2) == [b"1", b"2"]
    ch.consume(other)
    assert bodies(ch, 1) == [b"1"]
    ch.expect_nothing(q, other)


def test_global_prefetch_raised_while_consuming(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.publish_all(q, [b"1", b"2", b"3", b"4"])
    ch.qos(1, globally=True)
    ch.consume(q)
    assert bodies(ch, 1) == [b"1"]
    ch.expect_nothing(q)
    ch.send(Basic.Qos, prefetch_count=3, global_=True)
    ch.take(Basic.QosOk)
    assert bodies(ch, 2) == [b"2", b"3"]
    ch.expect_nothing(q)


def test_global_prefetch_lowered_while_consuming(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.publish_all(q, [b"1", b"2", b"3", b"4", b"5"])
    ch.qos(3, globally=True)
    ch.consume(q)
    assert bodies(ch, 3) == [b"1", b"2", b"3"]
    ch.qos(1, globally=True)
    ch.ack(1)
    ch.ack(2)
    ch.expect_nothing(q)
    ch.ack(3)
    assert bodies(ch, 1) == [b"4"]
    ch.expect_nothing(q)


def test_global_prefetch_taken_away(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.publish_all(q, [b"1", b"2", b"3"])
    ch.qos(1, globally=True)
    ch.consume(q)
    assert bodies(ch, 1) == [b"1"]
    ch.send(Basic.Qos, prefetch_count=0, global_=True)
    ch.take(Basic.QosOk)
    assert bodies(ch, 2) == [b"2", b"3"]


def test_prefetch_does_not_hold_back_without_acknowledgement(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.publish_all(q, [b"1", b"2", b"3"])
    ch.qos(1, globally=True)
    ch.consume(q, no_ack=True)
    assert bodies(ch, 3) == [b"1", b"2", b"3"]


@pytest.mark.parametrize("globally", [False, True])
def test_prefetch_size_is_not_implemented(client: Client, ch: ChannelUnderTest, globally: bool) -> None:
    ch.send(Basic.Qos, prefetch_size=10, global_=globally)
    client.expect_connection_close(540, "prefetch_size!=0 (10)", cause=Basic.Qos)


# Acknowledgement


def test_ack_removes(client: Client, ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.publish_all(q, [b"1", b"2"])
    ch.consume(q)
    ch.deliveries(2)
    ch.ack(2)
    ch.call(Channel.Close, reply_code=200, reply_text="done")
    assert client.channel().drain(q) == [b"1"]


def test_ack_multiple_takes_all_before(client: Client, ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.publish_all(q, [b"1", b"2", b"3"])
    ch.consume(q)
    ch.deliveries(3)
    ch.ack(2, multiple=True)
    ch.call(Channel.Close, reply_code=200, reply_text="done")
    assert client.channel().drain(q) == [b"3"]


def test_ack_of_0_multiple_takes_all(client: Client, ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.publish_all(q, [b"1", b"2", b"3"])
    ch.consume(q)
    ch.deliveries(3)
    ch.ack(0, multiple=True)
    ch.call(Channel.Close, reply_code=200, reply_text="done")
    assert client.channel().drain(q) == []


@pytest.mark.parametrize("multiple", [False, True])
@pytest.mark.parametrize("method", [Basic.Ack, Basic.Nack])
def test_unknown_delivery_tag(ch: ChannelUnderTest, method: MethodType, multiple: bool) -> None:
    ch.send(method, delivery_tag=9, multiple=multiple)
    ch.expect_close(406, "unknown delivery tag 9", cause=method)


def test_reject_of_an_unknown_delivery_tag(ch: ChannelUnderTest) -> None:
    ch.send(Basic.Reject, delivery_tag=9)
    ch.expect_close(406, "unknown delivery tag 9", cause=Basic.Reject)


def test_ack_of_0_alone(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.publish("", q, b"1")
    ch.get_one(q, no_ack=False)
    ch.ack(0)
    ch.expect_close(406, "unknown delivery tag 0", cause=Basic.Ack)


@pytest.mark.parametrize("method", [Basic.Ack, Basic.Nack])
def test_twice(ch: ChannelUnderTest, q: str, method: MethodType) -> None:
    ch.declare(q)
    ch.publish_all(q, [b"1", b"2"])
    for _ in range(2):
        ch.get_one(q, no_ack=False)
    ch.ack(1)
    ch.send(method, delivery_tag=1)
    ch.expect_close(406, "unknown delivery tag 1", cause=method)


def test_multiple_up_to_a_tag_that_is_settled(ch: ChannelUnderTest, q: str) -> None:
    """An older delivery is settled by it; that the tag itself is gone does not matter then."""
    ch.declare(q)
    ch.publish_all(q, [b"1", b"2", b"3"])
    for _ in range(3):
        ch.get_one(q, no_ack=False)
    ch.ack(2)
    ch.ack(2, multiple=True)
    ch.expect_close(406, "unknown delivery tag 2", cause=Basic.Ack)


def test_delivery_tags_are_the_channels_own(client: Client, ch: ChannelUnderTest, q: str) -> None:
    other = client.channel()
    ch.declare(q)
    ch.publish_all(q, [b"1", b"2"])
    assert ch.get_one(q, no_ack=False).delivery_tag == 1
    assert other.get_one(q, no_ack=False).delivery_tag == 1
    ch.ack(1)
    other.ack(1)
    ch.sync()
    other.sync()


def test_acks_are_for_get_and_consumers_alike(client: Client, ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.publish_all(q, [b"1", b"2"])
    ch.get_one(q, no_ack=False)
    ch.consume(q)
    assert ch.expect(Basic.Deliver).delivery_tag == 2
    ch.ack(2, multiple=True)
    ch.call(Channel.Close, reply_code=200, reply_text="done")
    assert client.channel().depth(q) == (0, 0)


# Requeue


@pytest.mark.parametrize("order", [[1, 2, 3], [3, 2, 1], [2, 1, 3]], ids=str)
def test_requeued_messages_come_back_to_their_place(ch: ChannelUnderTest, q: str, order: list[int]) -> None:
    ch.declare(q)
    ch.publish_all(q, [b"1", b"2", b"3", b"4"])
    for _ in range(3):
        ch.get_one(q, no_ack=False)
    for tag in order:
        ch.nack(tag)
    got = [ch.get_one(q) for _ in range(4)]
    assert [message.body for message in got] == [b"1", b"2", b"3", b"4"]
    assert [message.redelivered for message in got] == [True, True, True, False]


def test_nack_multiple(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.publish_all(q, [b"1", b"2", b"3"])
    for _ in range(3):
        ch.get_one(q, no_ack=False)
    ch.nack(2, multiple=True)
    assert ch.drain(q) == [b"1", b"2"]


def test_nack_of_0_multiple(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.publish_all(q, [b"1", b"2"])
    for _ in range(2):
        ch.get_one(q, no_ack=False)
    ch.nack(0, multiple=True)
    assert ch.drain(q) == [b"1", b"2"]


def test_nack_and_reject_without_requeue_drop(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.publish_all(q, [b"1", b"2", b"3"])
    for _ in range(3):
        ch.get_one(q, no_ack=False)
    ch.nack(1, requeue=False)
    ch.reject(2, requeue=False)
    ch.reject(3, requeue=True)
    message = ch.get_one(q)
    assert (message.body, message.redelivered) == (b"3", True)
    assert ch.get(q) is None


def test_requeue_goes_to_a_consumer_that_waits(client: Client, ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.publish("", q, b"1")
    ch.get_one(q, no_ack=False)
    other = client.channel()
    other.consume(q)
    ch.reject(1)
    delivery = other.expect(Basic.Deliver)
    assert (delivery.body, delivery.redelivered) == (b"1", True)


def test_a_consumer_gets_back_what_it_rejects(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.publish("", q, b"1")
    ch.consume(q)
    ch.deliveries(1)
    ch.reject(1)
    delivery = ch.expect(Basic.Deliver)
    assert (delivery.delivery_tag, delivery.redelivered, delivery.body) == (2, True, b"1")


def test_requeued_from_several_channels_the_order_is_kept(client: Client, ch: ChannelUnderTest, q: str) -> None:
    other = client.channel()
    ch.declare(q)
    ch.publish_all(q, [b"1", b"2", b"3", b"4"])
    for channel in (ch, other, ch, other):
        channel.get_one(q, no_ack=False)
    other.nack(2, multiple=True)
    other.sync()
    ch.nack(2, multiple=True)
    assert ch.drain(q) == [b"1", b"2", b"3", b"4"]


# basic.recover


def test_recover(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.publish_all(q, [b"1", b"2", b"3"])
    for _ in range(2):
        ch.get_one(q, no_ack=False)
    ch.call(Basic.Recover, requeue=True)
    got = [ch.get_one(q) for _ in range(3)]
    assert [(message.body, message.redelivered) for message in got] == [(b"1", True), (b"2", True), (b"3", False)]


def test_recover_to_a_consumer(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.publish_all(q, [b"1", b"2"])
    ch.consume(q)
    ch.deliveries(2)
    ch.send(Basic.Recover, requeue=True)
    ch.take(Basic.RecoverOk)
    again = ch.deliveries(2)
    assert [(delivery.body, delivery.redelivered, delivery.delivery_tag) for delivery in again] == [
        (b"1", True, 3),
        (b"2", True, 4),
    ]
    ch.ack(1)
    ch.expect_close(406, "unknown delivery tag 1", cause=Basic.Ack)


def test_recover_is_answered_before_the_deliveries(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.publish_all(q, [b"1", b"2", b"3"])
    got = ch.get_one(q, no_ack=False)
    ch.qos(1)
    ch.consume(q, consumer_tag="a")
    ch.consume(q, consumer_tag="b")
    ch.deliveries(2)
    ch.send(Basic.Recover, requeue=True)
    ch.expect(Basic.RecoverOk)
    assert len(ch.deliveries(2)) == 2
    assert got.body == b"1"


def test_recover_async_has_no_answer(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.publish("", q, b"1")
    ch.get_one(q, no_ack=False)
    ch.send(Basic.RecoverAsync, requeue=True)
    assert ch.get_one(q).redelivered is True
    ch.expect_nothing()


@pytest.mark.parametrize("method", [Basic.Recover, Basic.RecoverAsync])
def test_recover_without_requeue_is_not_implemented(client: Client, ch: ChannelUnderTest, method: MethodType) -> None:
    ch.send(method, requeue=False)
    client.expect_connection_close(540, "requeue=false", cause=method)


def test_recover_of_nothing(ch: ChannelUnderTest) -> None:
    ch.call(Basic.Recover, requeue=True)


# Several consumers


def test_consumers_take_turns(client: Client, ch: ChannelUnderTest, q: str) -> None:
    other = client.channel()
    ch.declare(q)
    ch.consume(q)
    other.consume(q)
    ch.publish_all(q, [b"1", b"2", b"3", b"4"])
    assert bodies(ch, 2) == [b"1", b"3"]
    assert bodies(other, 2) == [b"2", b"4"]


def test_a_consumer_without_room_is_skipped(client: Client, ch: ChannelUnderTest, q: str) -> None:
    other = client.channel()
    ch.declare(q)
    ch.qos(1)
    ch.consume(q)
    other.consume(q)
    ch.publish_all(q, [b"1", b"2", b"3", b"4"])
    assert bodies(ch, 1) == [b"1"]
    assert bodies(other, 3) == [b"2", b"3", b"4"]


def test_consumers_with_a_higher_priority_come_first(client: Client, ch: ChannelUnderTest, q: str) -> None:
    low, normal, high = (client.channel() for _ in range(3))
    ch.declare(q)
    for channel, arguments in ((low, {"x-priority": -5}), (normal, {}), (high, {"x-priority": 10})):
        channel.qos(1)
        channel.consume(q, arguments=arguments)
    ch.publish_all(q, [b"1", b"2", b"3"])
    assert [bodies(channel, 1) for channel in (high, normal, low)] == [[b"1"], [b"2"], [b"3"]]
    low.ack(1)
    normal.ack(1)
    low.sync()
    normal.sync()
    ch.publish("", q, b"4")
    assert bodies(normal, 1) == [b"4"]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("high", "expected integer, got longstr"),
        (T("d", 1.0), "expected integer, got double"),
        (True, "expected integer, got bool"),
    ],
    ids=["text", "double", "bool"],
)
def test_consumer_priority_of_a_wrong_type(ch: ChannelUnderTest, q: str, value: object, reason: str) -> None:
    ch.declare(q)
    ch.send(Basic.Consume, queue=q, arguments={"x-priority": value})
    ch.expect_close(406, f"invalid arg 'x-priority' for queue '{q}' in vhost '/': \"{reason}\"", cause=Basic.Consume)


# Single active consumer

SINGLE_ACTIVE = {"x-single-active-consumer": True}


def test_single_active_consumer(client: Client, ch: ChannelUnderTest, q: str) -> None:
    first, second, third = (client.channel() for _ in range(3))
    ch.declare(q, arguments=SINGLE_ACTIVE)
    for channel in (first, second, third):
        channel.consume(q, consumer_tag="t")
    ch.publish_all(q, [b"1", b"2"])
    assert bodies(first, 2) == [b"1", b"2"]
    second.expect_nothing(q)
    first.call(Basic.Cancel, consumer_tag="t")
    ch.publish("", q, b"3")
    assert bodies(second, 1) == [b"3"]
    third.expect_nothing(q)


def test_single_active_consumer_that_is_full_is_not_replaced(client: Client, ch: ChannelUnderTest, q: str) -> None:
    first, second = client.channel(), client.channel()
    ch.declare(q, arguments=SINGLE_ACTIVE)
    first.qos(1)
    first.consume(q)
    second.consume(q)
    ch.publish_all(q, [b"1", b"2"])
    assert bodies(first, 1) == [b"1"]
    first.expect_nothing(q)
    second.expect_nothing(q)
    first.ack(1)
    assert bodies(first, 1) == [b"2"]


def test_single_active_consumer_fails_over_when_its_channel_closes(
    client: Client, ch: ChannelUnderTest, q: str
) -> None:
    first, second = client.channel(), client.channel()
    ch.declare(q, arguments=SINGLE_ACTIVE)
    first.consume(q)
    second.consume(q)
    ch.publish("", q, b"1")
    assert bodies(first, 1) == [b"1"]
    first.call(Channel.Close, reply_code=200, reply_text="done")
    delivery = second.expect(Basic.Deliver)
    assert (delivery.body, delivery.redelivered) == (b"1", True)


def test_single_active_consumer_next_is_the_highest_priority(client: Client, ch: ChannelUnderTest, q: str) -> None:
    first, low, high = (client.channel() for _ in range(3))
    ch.declare(q, arguments=SINGLE_ACTIVE)
    first.consume(q, consumer_tag="t")
    low.consume(q)
    high.consume(q, arguments={"x-priority": 5})
    ch.publish("", q, b"1")
    assert bodies(first, 1) == [b"1"]
    first.call(Basic.Cancel, consumer_tag="t")
    ch.publish("", q, b"2")
    assert bodies(high, 1) == [b"2"]


def test_single_active_consumer_and_exclusive_consume(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q, arguments=SINGLE_ACTIVE)
    ch.send(Basic.Consume, queue=q, exclusive=True)
    ch.expect_close(403, f"queue '{q}' in vhost '/' in exclusive use", cause=Basic.Consume)


def test_single_active_consumer_does_not_keep_get_out(client: Client, ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q, arguments=SINGLE_ACTIVE)
    ch.qos(1)
    ch.consume(q)
    ch.publish_all(q, [b"1", b"2"])
    assert bodies(ch, 1) == [b"1"]
    ch.sync()
    assert client.channel().get_one(q).body == b"2"


def test_single_active_consumer_of_a_wrong_type(ch: ChannelUnderTest, q: str) -> None:
    ch.send(Queue.Declare, queue=q, arguments={"x-single-active-consumer": 1})
    ch.expect_close(
        406,
        f"invalid arg 'x-single-active-consumer' for queue '{q}' in vhost '/': {{unacceptable_type,signedint}}",
        cause=Queue.Declare,
    )


def test_counts_while_deliveries_are_out(client: Client, ch: ChannelUnderTest, q: str) -> None:
    other = client.channel()
    ch.declare(q)
    ch.publish_all(q, [b"1", b"2", b"3"])
    other.qos(2)
    other.consume(q)
    other.deliveries(2)
    assert ch.depth(q) == (1, 1)
    assert ch.get_one(q).message_count == 0


def test_prefetch_that_is_changed_counts_for_the_next_consumer(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.qos(1)
    ch.consume(q, consumer_tag="first")
    ch.qos(3)
    ch.consume(q, consumer_tag="second")
    ch.publish_all(q, [b"%d" % number for number in range(6)])
    tags = [delivery.consumer_tag for delivery in ch.deliveries(4)]
    assert sorted(tags) == ["first", "second", "second", "second"]
    ch.expect_nothing(q)


def test_deliveries_count_against_the_prefetch_until_settled_in_any_way(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.publish_all(q, [b"1", b"2", b"3", b"4"])
    ch.qos(1)
    ch.consume(q)
    assert bodies(ch, 1) == [b"1"]
    ch.reject(1, requeue=False)
    assert bodies(ch, 1) == [b"2"]
    ch.nack(2, requeue=False)
    assert bodies(ch, 1) == [b"3"]
    ch.nack(3, requeue=True)
    delivery = ch.expect(Basic.Deliver)
    assert (delivery.body, delivery.redelivered) == (b"3", True)


def test_cancelled_consumer_still_counts_against_the_global_prefetch(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.publish_all(q, [b"1", b"2"])
    ch.qos(1, globally=True)
    ch.consume(q, consumer_tag="first")
    assert bodies(ch, 1) == [b"1"]
    ch.call(Basic.Cancel, consumer_tag="first")
    ch.consume(q, consumer_tag="second")
    ch.expect_nothing(q)
    ch.ack(1)
    assert bodies(ch, 1) == [b"2"]


def test_ack_multiple_leaves_other_channels_alone(client: Client, ch: ChannelUnderTest, q: str) -> None:
    other = client.channel()
    ch.declare(q)
    ch.publish_all(q, [b"1", b"2"])
    ch.sync()
    other.get_one(q, no_ack=False)
    ch.get_one(q, no_ack=False)
    ch.ack(0, multiple=True)
    ch.sync()
    other.nack(0, multiple=True)
    assert other.drain(q) == [b"1"]


def test_a_large_backlog_comes_in_order(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    expected = [b"%d" % number for number in range(1000)]
    ch.publish_all(q, expected)
    ch.qos(100)
    ch.consume(q)
    got = []
    for number in range(1, 1001):
        got.append(ch.expect(Basic.Deliver).body)
        if number % 50 == 0:
            ch.ack(number, multiple=True)
    assert got == expected


def test_consumer_priority_beats_age(client: Client, ch: ChannelUnderTest, q: str) -> None:
    """Consumers of one priority take turns, and only the highest that has room is asked."""
    first, second, late = (client.channel() for _ in range(3))
    ch.declare(q)
    first.consume(q)
    second.consume(q)
    late.consume(q, arguments={"x-priority": T("l", 1)})
    ch.publish_all(q, [b"1", b"2", b"3"])
    assert bodies(late, 3) == [b"1", b"2", b"3"]
    first.expect_nothing(q)
    second.expect_nothing(q)


def test_consumers_of_a_deleted_queue_may_be_cancelled(client: Client, ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.consume(q, consumer_tag="t")
    client.channel().call(Queue.Delete, queue=q)
    ch.expect(Basic.Cancel)
    ch.call(Basic.Cancel, consumer_tag="t")
    ch.declare(q)
    ch.consume(q, consumer_tag="t")


def test_consumers_that_are_settled_together_are_filled_up_one_after_the_other(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.qos(3)
    tags = [ch.consume(q, consumer_tag=tag) for tag in ("c1", "c2")]
    ch.publish_all(q, [b"%d" % number for number in range(12)])
    first = [ch.expect(Basic.Deliver) for _ in range(6)]
    ch.depth(q)  # in RabbitMQ an acknowledgement overtakes what is on its way into the queue
    ch.ack(first[-1].delivery_tag, multiple=True)
    got: dict[str, list[bytes]] = {tag: [] for tag in tags}
    for _ in range(6):
        delivery = ch.expect(Basic.Deliver)
        got[delivery.consumer_tag].append(delivery.body)
    assert got == {"c1": [b"6", b"7", b"8"], "c2": [b"9", b"10", b"11"]}
