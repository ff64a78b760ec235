"""Transactions: what waits for the commit, what does not, and what a rollback gives back."""

from __future__ import annotations

import pytest

from interop.codec import MethodType
from interop.raw_client import Basic, Channel, ChannelUnderTest, Client, Confirm, Queue, Tx
from interop.under_test import BrokerUnderTest
from interop.waiting import until


def test_publishes_wait_for_the_commit(client: Client, ch: ChannelUnderTest, q: str) -> None:
    other = client.channel()
    ch.declare(q)
    ch.call(Tx.Select)
    ch.publish_all(q, [b"1", b"2"])
    ch.sync()
    assert other.depth(q) == (0, 0)
    ch.call(Tx.Commit)
    assert other.drain(q) == [b"1", b"2"]


def test_rollback_drops_publishes(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.call(Tx.Select)
    ch.publish("", q, b"1")
    ch.call(Tx.Rollback)
    ch.publish("", q, b"2")
    ch.call(Tx.Commit)
    assert ch.drain(q) == [b"2"]


def test_acknowledgements_wait_for_the_commit(client: Client, ch: ChannelUnderTest, q: str) -> None:
    other = client.channel()
    ch.declare(q)
    ch.publish_all(q, [b"1", b"2"])
    ch.call(Tx.Select)
    ch.ack(ch.get_one(q, no_ack=False).delivery_tag)
    ch.call(Channel.Close, reply_code=200, reply_text="done")
    until(lambda: other.depth(q)[0] == 2)  # RabbitMQ gives back what was got when it gets round to it
    assert other.drain(q) == [b"1", b"2"]


def test_committed_acknowledgements_stay(client: Client, ch: ChannelUnderTest, q: str) -> None:
    other = client.channel()
    ch.declare(q)
    ch.publish_all(q, [b"1", b"2"])
    ch.call(Tx.Select)
    ch.ack(ch.get_one(q, no_ack=False).delivery_tag)
    ch.call(Tx.Commit)
    ch.call(Channel.Close, reply_code=200, reply_text="done")
    assert other.drain(q) == [b"2"]


def test_rollback_takes_acknowledgements_back(ch: ChannelUnderTest, q: str) -> None:
    """The deliveries are unacknowledged again, on the same channel, under the same tags; nothing is redelivered."""
    ch.declare(q)
    ch.publish_all(q, [b"1", b"2"])
    ch.call(Tx.Select)
    tags = [ch.get_one(q, no_ack=False).delivery_tag for _ in range(2)]
    ch.ack(tags[1], multiple=True)
    ch.call(Tx.Rollback)
    assert ch.depth(q) == (0, 0)
    ch.nack(tags[0], requeue=True)
    ch.ack(tags[1])
    ch.call(Tx.Commit)
    assert ch.drain(q) == [b"1"]


@pytest.mark.parametrize("requeue", [True, False])
def test_rejects_wait_for_the_commit(ch: ChannelUnderTest, q: str, requeue: bool) -> None:
    ch.declare(q)
    ch.publish("", q, b"1")
    ch.call(Tx.Select)
    ch.reject(ch.get_one(q, no_ack=False).delivery_tag, requeue=requeue)
    assert ch.depth(q) == (0, 0)
    ch.call(Tx.Commit)
    assert ch.depth(q) == (int(requeue), 0)


def test_unknown_delivery_tag_is_told_at_once(ch: ChannelUnderTest) -> None:
    ch.call(Tx.Select)
    ch.ack(7)
    ch.expect_close(406, "unknown delivery tag 7", cause=Basic.Ack)


def test_acknowledging_twice_in_one_transaction(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.publish("", q, b"1")
    ch.call(Tx.Select)
    tag = ch.get_one(q, no_ack=False).delivery_tag
    ch.ack(tag)
    ch.ack(tag)
    ch.expect_close(406, f"unknown delivery tag {tag}", cause=Basic.Ack)


def test_missing_exchange_is_told_at_once(ch: ChannelUnderTest, x: str) -> None:
    ch.call(Tx.Select)
    ch.publish(x, "key", b"")
    ch.expect_close(404, f"no exchange '{x}' in vhost '/'", cause=Basic.Publish)


def test_messages_are_routed_when_they_are_published(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str) -> None:
    late = broker.queue_name("late")
    ch.declare(q)
    ch.bind(q, "amq.direct", q)
    ch.call(Tx.Select)
    ch.publish("amq.direct", q, b"1")
    ch.declare(late)
    ch.bind(late, "amq.direct", q)
    ch.call(Tx.Commit)
    assert ch.drain(q) == [b"1"]
    assert ch.drain(late) == []


def test_mandatory_is_returned_at_the_commit(ch: ChannelUnderTest) -> None:
    ch.call(Tx.Select)
    ch.publish("", "no such queue", b"1", mandatory=True)
    ch.expect_nothing()
    ch.send(Tx.Commit)
    assert ch.expect(Basic.Return).routing_key == "no such queue"
    ch.expect(Tx.CommitOk)


def test_rollback_drops_what_would_be_returned(ch: ChannelUnderTest) -> None:
    ch.call(Tx.Select)
    ch.publish("", "no such queue", b"1", mandatory=True)
    ch.call(Tx.Rollback)
    ch.call(Tx.Commit)
    ch.expect_nothing()


def test_select_may_be_repeated_and_keeps_what_waits(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.call(Tx.Select)
    ch.publish("", q, b"1")
    ch.call(Tx.Select)
    ch.call(Tx.Commit)
    assert ch.drain(q) == [b"1"]


@pytest.mark.parametrize("method", [Tx.Commit, Tx.Rollback])
def test_without_select(ch: ChannelUnderTest, method: MethodType) -> None:
    ch.send(method)
    ch.expect_close(406, "channel is not transactional", cause=method)


def test_select_on_a_channel_with_confirms(ch: ChannelUnderTest) -> None:
    ch.call(Confirm.Select)
    ch.send(Tx.Select)
    ch.expect_close(406, "cannot switch from confirm to tx mode", cause=Tx.Select)


def test_empty_commit_and_rollback(ch: ChannelUnderTest) -> None:
    ch.call(Tx.Select)
    ch.call(Tx.Commit)
    ch.call(Tx.Rollback)
    ch.call(Tx.Commit)


def test_declares_do_not_wait(client: Client, ch: ChannelUnderTest, q: str) -> None:
    ch.call(Tx.Select)
    ch.declare(q)
    assert client.channel().depth(q) == (0, 0)
    ch.call(Tx.Rollback)
    assert client.channel().depth(q) == (0, 0)


def test_closing_the_channel_drops_what_waits(client: Client, ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.call(Tx.Select)
    ch.publish("", q, b"1")
    ch.call(Channel.Close, reply_code=200, reply_text="done")
    assert client.channel().depth(q) == (0, 0)


def test_persistent_messages(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q, durable=True)
    ch.call(Tx.Select)
    ch.publish_all(q, [b"%d" % number for number in range(20)], delivery_mode=2)
    ch.call(Tx.Commit)
    assert ch.drain(q) == [b"%d" % number for number in range(20)]


def test_recover_gives_back_only_what_is_not_acknowledged_yet(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.publish_all(q, [b"1", b"2"])
    ch.call(Tx.Select)
    tag = ch.get_one(q, no_ack=False).delivery_tag
    ch.get_one(q, no_ack=False)
    ch.ack(tag)
    ch.call(Basic.Recover, requeue=True)
    assert ch.depth(q) == (1, 0)
    ch.call(Tx.Commit)
    message = ch.get_one(q)
    assert (message.body, message.redelivered) == (b"2", True)


def test_a_consumer_gets_what_was_committed(client: Client, ch: ChannelUnderTest, q: str) -> None:
    consumer = client.channel()
    ch.declare(q)
    consumer.consume(q)
    ch.call(Tx.Select)
    ch.publish("", q, b"1")
    ch.sync()
    consumer.expect_nothing(q)
    ch.call(Tx.Commit)
    assert consumer.expect(Basic.Deliver).body == b"1"


@pytest.mark.parametrize("requeue", [True, False])
def test_commit_of_a_rejection_whose_queue_is_gone(ch: ChannelUnderTest, q: str, requeue: bool) -> None:
    """The commit is answered, although nothing is left to be done."""
    ch.declare(q)
    ch.publish("", q, b"1")
    ch.call(Tx.Select)
    ch.nack(ch.get_one(q, no_ack=False).delivery_tag, requeue=requeue)
    ch.call(Queue.Delete, queue=q)
    ch.call(Tx.Commit)


def test_queue_that_is_gone_at_the_commit_returns_what_is_mandatory(
    broker: BrokerUnderTest, client: Client, ch: ChannelUnderTest, q: str, x: str
) -> None:
    other = client.channel()
    ch.declare(q)
    ch.declare_exchange(x)
    ch.call(Queue.Bind, queue=q, exchange=x, routing_key="k")
    ch.call(Tx.Select)
    ch.publish(x, "k", b"1", mandatory=True)
    ch.sync()
    other.call(Queue.Delete, queue=q)
    ch.send(Tx.Commit)
    if broker.differs("commit-to-a-queue-that-is-gone"):
        assert ch.expect(Basic.Return).body == b"1"
        ch.expect(Tx.CommitOk)
    else:
        ch.expect_close(406, "partial tx completion")


def test_queue_that_was_declared_again_before_the_commit(
    broker: BrokerUnderTest, client: Client, ch: ChannelUnderTest, q: str
) -> None:
    other = client.channel()
    ch.declare(q)
    ch.call(Tx.Select)
    ch.publish("", q, b"1")
    ch.sync()
    other.call(Queue.Delete, queue=q)
    other.declare(q)
    if broker.differs("commit-to-a-queue-that-is-gone"):
        ch.call(Tx.Commit)
        assert other.drain(q) == [b"1"]
    else:
        ch.send(Tx.Commit)
        ch.expect_close(406, "partial tx completion")
