"""Methods that reach the broker in one piece, as from clients that gather what they send: each takes effect before the
next, whatever the broker does with the piece as a whole."""

from __future__ import annotations

from typing import Any

import pytest

from interop.raw_client import Basic, Channel, ChannelUnderTest, Client, Connection, Queue, Tx
from interop.under_test import BrokerUnderTest

FEATURE = "methods in one write"


@pytest.mark.parametrize(("no_ack", "prefetch", "got"), [(False, 0, 3), (True, 0, 3), (False, 1, 1)])
def test_consume_and_cancel(
    broker: BrokerUnderTest, client: Client, ch: ChannelUnderTest, q: str, no_ack: bool, prefetch: int, got: int
) -> None:
    """The consumer gets what there was, and then it ends."""
    ch.declare(q)
    ch.publish_all(q, [b"1", b"2", b"3"])
    ch.qos(prefetch)
    with client.in_one_write():
        ch.send(Basic.Consume, queue=q, consumer_tag="t", no_ack=no_ack)
        ch.send(Basic.Cancel, consumer_tag="t")
    if broker.differs("cancel-sent-with-its-consume"):
        ch.expect(Basic.ConsumeOk)
        assert [delivery.body for delivery in ch.deliveries(got)] == [b"1", b"2", b"3"][:got]
        ch.expect(Basic.CancelOk)
        assert ch.depth(q) == (3 - got, 0)
    else:  # the cancel and the queue's word of the consumer race for the channel's process: it ends, or all goes well
        try:
            ch.take(Basic.CancelOk)
        except AssertionError:
            assert client.take(Connection.Close).reply_code == 541


def test_consume_and_close_the_channel(client: Client, ch: ChannelUnderTest, q: str) -> None:
    """What went out to the consumer comes back as redelivered, whether or not the client has seen it."""
    ch.declare(q)
    ch.publish("", q, b"1")
    ch.sync()
    other = client.channel()
    with client.in_one_write():
        other.send(Basic.Consume, queue=q)
        other.send(Channel.Close, reply_code=200, reply_text="bye")
    other.take(Channel.CloseOk)
    message = ch.get_one(q)
    assert (message.body, message.redelivered) == (b"1", True)


def test_ack_and_cancel(client: Client, ch: ChannelUnderTest, q: str) -> None:
    """The room that the acknowledgement makes is filled before the consumer ends."""
    ch.declare(q)
    ch.publish_all(q, [b"1", b"2", b"3"])
    ch.qos(1)
    ch.consume(q, consumer_tag="t")
    ch.deliveries(1)
    with client.in_one_write():
        ch.ack(1)
        ch.send(Basic.Cancel, consumer_tag="t")
    assert ch.expect(Basic.Deliver).body == b"2"
    ch.expect(Basic.CancelOk)
    assert ch.depth(q) == (1, 0)


def test_declare_publish_and_get(client: Client, ch: ChannelUnderTest, q: str) -> None:
    with client.in_one_write():
        ch.send(Queue.Declare, queue=q)
        ch.publish_all(q, [b"1", b"2"])
        ch.send(Basic.Get, queue=q, no_ack=True)
    ch.expect(Queue.DeclareOk)
    message = ch.expect(Basic.GetOk)
    assert (message.body, message.message_count) == (b"1", 1)


def test_publish_and_purge(client: Client, ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    with client.in_one_write():
        ch.publish_all(q, [b"1", b"2", b"3"])
        ch.send(Queue.Purge, queue=q)
        ch.publish("", q, b"4")
    assert ch.expect(Queue.PurgeOk).message_count == 3
    assert ch.drain(q) == [b"4"]


def test_publish_and_delete(client: Client, ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    with client.in_one_write():
        ch.publish_all(q, [b"1", b"2", b"3"])
        ch.send(Queue.Delete, queue=q)
    assert ch.expect(Queue.DeleteOk).message_count == 3


def test_a_transaction(broker: BrokerUnderTest, client: Client, ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    with client.in_one_write():
        ch.send(Tx.Select)
        ch.publish("", q, b"1")
        ch.send(Tx.Commit)
        ch.publish("", q, b"2")
        ch.send(Tx.Rollback)
    # RabbitMQ's queue may have confirmed the message before the channel looks at the next method.
    if broker.differs("methods-sent-with-their-commit") or not client.closes_instead(Tx.CommitOk, channel=ch.number):
        for method in (Tx.SelectOk, Tx.CommitOk, Tx.RollbackOk):
            ch.expect(method)
        assert ch.drain(q) == [b"1"]
    else:
        client.expect_connection_close(504, "unexpected command while processing 'tx.commit'", cause=Basic.Publish)


def test_publish_and_close_the_connection(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    leaving = broker.connect()
    publisher = leaving.channel()
    with leaving.in_one_write():
        publisher.publish_all(q, [b"1", b"2"])
        leaving.send(Connection.Close, reply_code=200, reply_text="bye")
    leaving.take(Connection.CloseOk)
    assert ch.drain(q) == [b"1", b"2"]


def test_an_error_ends_what_follows(client: Client, ch: ChannelUnderTest, q: str) -> None:
    """What is sent on a channel after a method that closes it is not done."""
    ch.declare(q)
    with client.in_one_write():
        ch.publish("", q, b"1")
        ch.send(Queue.Declare, queue="no such queue", passive=True)
        ch.publish("", q, b"2")
        ch.send(Queue.Delete, queue=q)
    ch.expect_close(404, "no queue 'no such queue' in vhost '/'", cause=Queue.Declare)
    assert ch.reopen().drain(q) == [b"1"]


LIMITS: dict[str, dict[str, Any]] = {
    "drop-head": {"x-max-length": 1},
    "reject-publish": {"x-max-length": 1, "x-overflow": "reject-publish"},
    "priorities": {"x-max-priority": 9},
}


@pytest.mark.parametrize("arguments", LIMITS.values(), ids=LIMITS)
@pytest.mark.parametrize("requeue", [False, True], ids=["ack", "requeue"])
def test_what_an_acknowledgement_lets_go_has_gone_before_the_next_publish(
    client: Client, ch: ChannelUnderTest, q: str, arguments: dict[str, Any], requeue: bool
) -> None:
    """A message that waits for room at its consumer does not count against the limits, nor stand behind a later one,
    once there is room."""
    ch.declare(q, arguments=arguments)
    ch.confirm()
    ch.qos(1)
    ch.consume(q, consumer_tag="t")
    ch.publish("", q, b"1", priority=5)
    ch.deliveries(1)
    if not requeue:
        ch.publish("", q, b"2", priority=1)
    ch.sync()
    ch.depth(q)
    with client.in_one_write():
        if requeue:
            ch.nack(1)
        else:
            ch.ack(1)
        ch.publish("", q, b"3", priority=9)
    assert all(is_ack for _, is_ack in ch.await_confirms(2 if requeue else 3))
    assert ch.expect(Basic.Deliver).body == (b"1" if requeue else b"2")
    assert ch.depth(q) == (1, 1)
    ch.ack(2)
    assert ch.expect(Basic.Deliver).body == b"3"


def test_ack_and_consume(client: Client, ch: ChannelUnderTest, q: str) -> None:
    """The room that the acknowledgement makes is filled before a consumer of a higher priority begins."""
    ch.declare(q)
    ch.publish_all(q, [b"1", b"2", b"3"])
    ch.qos(1)
    ch.consume(q, consumer_tag="low")
    ch.deliveries(1)
    with client.in_one_write():
        ch.ack(1)
        ch.send(Basic.Consume, queue=q, consumer_tag="high", arguments={"x-priority": 10})
    got = [ch.take(Basic.Deliver) for _ in range(2)]
    assert {(delivery.consumer_tag, delivery.body) for delivery in got} == {("low", b"2"), ("high", b"3")}


def test_ack_and_close_the_channel(client: Client, ch: ChannelUnderTest, q: str) -> None:
    """What the acknowledgement let go had gone, so it comes back as redelivered."""
    ch.declare(q)
    ch.publish_all(q, [b"1", b"2"])
    ch.depth(q)  # in RabbitMQ an acknowledgement overtakes what is on its way into the queue
    other = client.channel()
    other.qos(1)
    other.consume(q)
    other.deliveries(1)
    with client.in_one_write():
        other.ack(1)
        other.send(Channel.Close, reply_code=200, reply_text="bye")
    other.take(Channel.CloseOk)
    message = ch.get_one(q)
    assert (message.body, message.redelivered) == (b"2", True)
