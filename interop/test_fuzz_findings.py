"""What the fuzzer has found (interop/fuzz), each a program shortened to what it takes and named after what it shows.

What is expected is what RabbitMQ answered. Replies come first for each operation, then what came for each consumer.
"""

from __future__ import annotations

import re

import pytest

from interop.fuzz.program import op
from interop.fuzz.replay import assert_plays
from interop.raw_client import Basic, ChannelUnderTest, Client, Confirm, Connection, Queue
from interop.under_test import BrokerUnderTest
from interop.waiting import until

FEATURE = "fuzzer's findings"


def test_a_quorum_queue_counts_no_deliveries_for_a_consumer_the_first_time(broker: BrokerUnderTest) -> None:
    assert_plays(
        broker,
        [
            op(0, Queue.Declare, queue="q0", durable=True, arguments={"x-queue-type": "quorum"}),
            op(0, Basic.Publish, routing_key="q0", body=b"m1"),
            op(0, Basic.Consume, queue="q0", consumer_tag="c0"),
            op(0, Basic.Nack, delivery=0, requeue=True),
        ],
        r"""
        0: < 0 Queue.DeclareOk queue='q0' message_count=0 consumer_count=0
        1: nothing
        2: < 0 Basic.ConsumeOk consumer_tag='c0'
        2: < 0 Basic.Deliver consumer_tag='c0' delivery_tag=1 redelivered=False exchange='' routing_key='q0' properties={} body=b'm1'
        3: < 0 Basic.Deliver consumer_tag='c0' delivery_tag=2 redelivered=True exchange='' routing_key='q0' properties={headers: {x-delivery-count: ('l', 1)}} body=b'm1'
        """,  # noqa: E501
    )


def test_a_quorum_queue_counts_deliveries_from_0_for_get(broker: BrokerUnderTest) -> None:
    """From 3.13 on it does not show the 0."""
    count = "{headers: {x-delivery-count: ('l', 0)}}" if broker.version < (3, 13) else "{}"
    assert_plays(
        broker,
        [
            op(0, Queue.Declare, queue="q0", durable=True, arguments={"x-queue-type": "quorum"}),
            op(0, Basic.Publish, routing_key="q0", body=b"m1"),
            op(0, Basic.Get, queue="q0"),
        ],
        rf"""
        0: < 0 Queue.DeclareOk queue='q0' message_count=0 consumer_count=0
        1: nothing
        2: < 0 Basic.GetOk delivery_tag=1 redelivered=False exchange='' routing_key='q0' message_count=0 properties={count} body=b'm1'
        """,  # noqa: E501
    )


def test_a_refused_message_is_nacked_with_requeue_set(broker: BrokerUnderTest) -> None:
    assert_plays(
        broker,
        [
            op(0, Queue.Declare, queue="q0", arguments={"x-max-length": 0, "x-overflow": "reject-publish"}),
            op(0, Confirm.Select),
            op(0, Basic.Publish, routing_key="q0", body=b"m1"),
        ],
        r"""
        0: < 0 Queue.DeclareOk queue='q0' message_count=0 consumer_count=0
        1: < 0 Confirm.SelectOk
        2: < 0 Basic.Nack delivery_tag=1 requeue=True
        """,
    )


def test_a_server_named_queue_of_unknown_type(broker: BrokerUnderTest, client: Client, ch: ChannelUnderTest) -> None:
    ch.send(Queue.Declare, queue="", arguments={"x-queue-type": "other"})
    if broker.differs("crash"):
        text = r"invalid arg 'x-queue-type' for queue 'amq\.gen-.+' in vhost '/': \"unsupported queue type 'other'\""
        ch.expect_close(406, re.compile(text), cause=Queue.Declare)
    else:
        closed = client.take(Connection.Close)
        assert (closed.reply_code, closed.reply_text) == (541, "INTERNAL_ERROR")


def test_what_a_quorum_queue_counts(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q, durable=True, arguments={"x-queue-type": "quorum"})
    ch.confirm()
    ch.publish("", q, b"1")
    ch.publish("", q, b"2", expiration="0")
    ch.await_confirms(2)
    message = ch.get_one(q, no_ack=False)
    differs = broker.differs("quorum-counts")
    assert message.message_count == (0 if differs else 1)
    consumers = ch.depth(q)[1]
    assert consumers == (0 if differs else 1)


def test_a_global_prefetch_and_what_get_took_before_it(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.publish_all(q, [b"1", b"2"])
    message = ch.get_one(q, no_ack=False)
    ch.qos(1, globally=True)
    ch.consume(q)
    if broker.differs("global-prefetch-and-get"):
        assert ch.expect(Basic.Deliver).body == b"2"
    ch.ack(message.delivery_tag)
    ch.expect_nothing(q)


def test_a_wrong_reply_to_counts_before_wrong_copies(broker: BrokerUnderTest) -> None:
    properties = {"reply_to": "amq.rabbitmq.reply-to", "expiration": "abc", "headers": {"CC": 2}}
    assert_plays(
        broker,
        [op(0, Basic.Publish, routing_key="q0", properties=properties)],
        r"""
        0: < 0 Channel.Close reply_code=406 reply_text='PRECONDITION_FAILED - fast reply consumer does not exist' class_id=60 method_id=40
        """,  # noqa: E501
    )


def test_a_wrong_user_counts_before_a_wrong_expiration(broker: BrokerUnderTest) -> None:
    properties = {"user_id": "bob", "expiration": "abc"}
    if not broker.differs("texts-of-4"):
        pytest.skip("4.0 answers otherwise")
    assert_plays(
        broker,
        [op(0, Basic.Publish, routing_key="q0", properties=properties)],
        r"""
        0: < 0 Channel.Close reply_code=406 reply_text="PRECONDITION_FAILED - user_id property set to 'bob' but authenticated user was 'guest'" class_id=60 method_id=40
        """,  # noqa: E501
    )


def test_a_quorum_queue_is_not_deleted_on_conditions(broker: BrokerUnderTest) -> None:
    assert_plays(
        broker,
        [
            op(0, Queue.Declare, queue="q0", durable=True, arguments={"x-queue-type": "quorum"}),
            op(0, Queue.Delete, queue="q0", if_empty=True, if_unused=True),
            op(0, Queue.Delete, queue="q0", if_empty=True),
        ],
        r"""
        0: < 0 Queue.DeclareOk queue='q0' message_count=0 consumer_count=0
        1: < 0 Connection.Close reply_code=540 reply_text="NOT_IMPLEMENTED - cannot delete queue 'q0' in vhost '/'. queue.delete operations with if-unused flag set are not supported by quorum queues" class_id=50 method_id=40
        1: < 0 end of the connection
        2: < 0 Connection.Close reply_code=540 reply_text="NOT_IMPLEMENTED - cannot delete queue 'q0' in vhost '/'. queue.delete operations with if-empty flag set are not supported by quorum queues" class_id=50 method_id=40
        2: < 0 end of the connection
        """,  # noqa: E501
    )


def test_recover_gives_back_what_get_took_before_what_consumers_have(broker: BrokerUnderTest) -> None:
    assert_plays(
        broker,
        [
            op(0, Queue.Declare, queue="q2", arguments={"x-max-length-bytes": 4}),
            op(0, Basic.Publish, routing_key="q2", body=b"m21"),
            op(2, Basic.Get, queue="q2"),
            op(2, Basic.Consume, queue="q2", consumer_tag="c0"),
            op(0, Basic.Publish, routing_key="q2", body=b"m24"),
            op(2, Basic.Recover, requeue=True),
        ],
        r"""
        0: < 0 Queue.DeclareOk queue='q2' message_count=0 consumer_count=0
        1: nothing
        2: < 2 Basic.GetOk delivery_tag=1 redelivered=False exchange='' routing_key='q2' message_count=0 properties={} body=b'm21'
        3: < 2 Basic.ConsumeOk consumer_tag='c0'
        4: < 2 Basic.Deliver consumer_tag='c0' delivery_tag=2 redelivered=False exchange='' routing_key='q2' properties={} body=b'm24'
        5: < 2 Basic.RecoverOk
        5: < 2 Basic.Deliver consumer_tag='c0' delivery_tag=3 redelivered=True exchange='' routing_key='q2' properties={} body=b'm21'
        5: < 2 Basic.Deliver consumer_tag='c0' delivery_tag=4 redelivered=True exchange='' routing_key='q2' properties={} body=b'm24'
        """,  # noqa: E501
    )


def test_a_connection_that_ends_with_several_consumers_of_a_quorum_queue(
    broker: BrokerUnderTest, ch: ChannelUnderTest, q: str
) -> None:
    ch.declare(q, durable=True, arguments={"x-queue-type": "quorum"})
    leaving = broker.connect()
    first = leaving.channel()
    first.consume(q)
    ch.confirm()
    ch.publish("", q, b"1")
    ch.await_confirms(1)
    first.deliveries(1)
    leaving.channel().consume(q)
    ch.consume(q)
    leaving.call(Connection.Close, reply_code=200, reply_text="bye")
    counts = {1} if broker.differs("quorum-count-when-a-connection-ends") else {1, 2}
    assert ch.expect(Basic.Deliver).headers["x-delivery-count"] in counts


@pytest.mark.parametrize("arguments", [{}, {"x-delivery-limit": 5}], ids=["no limit", "delivery limit"])
def test_a_quorum_queue_delivers_what_comes_back_before_it_drops(
    ch: ChannelUnderTest, q: str, arguments: dict[str, int]
) -> None:
    ch.declare(q, durable=True, arguments={"x-queue-type": "quorum", "x-max-length": 1, **arguments})
    ch.consume(q)
    ch.publish_all(q, [b"1", b"2"])
    ch.deliveries(2)
    ch.call(Basic.Recover, requeue=True)
    assert [delivery.body for delivery in ch.deliveries(2)] == [b"1", b"2"]


def test_a_classic_queue_drops_before_it_delivers_what_comes_back(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q, arguments={"x-max-length": 1})
    ch.consume(q)
    ch.publish_all(q, [b"1", b"2"])
    ch.deliveries(2)
    ch.call(Basic.Recover, requeue=True)
    assert [delivery.body for delivery in ch.deliveries(1)] == [b"2"]
    ch.expect_nothing(q)


def test_a_quorum_queue_without_a_ready_consumer_drops_what_comes_back(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q, durable=True, arguments={"x-queue-type": "quorum", "x-max-length": 1})
    ch.consume(q, consumer_tag="t")
    ch.publish_all(q, [b"1", b"2"])
    ch.deliveries(2)
    ch.call(Basic.Cancel, consumer_tag="t")
    ch.call(Basic.Recover, requeue=True)
    until(lambda: ch.depth(q)[0] == 1)
    assert ch.get_one(q).body == b"2"
