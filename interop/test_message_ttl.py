"""x-message-ttl and the expiration property: which messages die, when, and what is not affected."""

from __future__ import annotations

import re

import pytest

from interop.raw_client import Basic, Channel, ChannelUnderTest, Client, Confirm, Queue, Tx
from interop.under_test import BrokerUnderTest
from interop.waiting import Lifetime, let_pass, until

LONG_MS = 60_000


def is_empty(ch: ChannelUnderTest, q: str) -> bool:
    return ch.depth(q)[0] == 0


def bodies(ch: ChannelUnderTest, count: int) -> list[bytes]:
    return [delivery.body for delivery in ch.deliveries(count)]


def dead_letter_queue(ch: ChannelUnderTest, broker: BrokerUnderTest) -> str:
    """A queue that shows what died: dead letters by the default exchange reach it by its name."""
    name = broker.queue_name("dead")
    ch.declare(name)
    return name


# The queue's TTL


def test_messages_die(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q, arguments={"x-message-ttl": 150})
    life = Lifetime(150)
    ch.publish_all(q, [b"1", b"2"])
    assert ch.depth(q)[0] == 2 or life.is_over
    until(lambda: is_empty(ch, q))
    assert ch.get(q) is None


def test_messages_live_until_then(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q, arguments={"x-message-ttl": LONG_MS})
    ch.publish_all(q, [b"1", b"2"])
    let_pass(30)
    assert ch.drain(q) == [b"1", b"2"]


def test_each_message_has_its_own_time(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q, arguments={"x-message-ttl": 400})
    ch.publish("", q, b"1")
    ch.sync()
    let_pass(200)
    life = Lifetime(400)
    ch.publish("", q, b"2")
    until(lambda: ch.depth(q)[0] == 1 or life.is_over)
    assert ch.drain(q) == [b"2"] or life.is_over


def test_delivered_messages_are_out_of_its_reach(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q, arguments={"x-message-ttl": 100})
    ch.consume(q)
    ch.publish("", q, b"1")
    assert bodies(ch, 1) == [b"1"]
    let_pass(130)
    ch.ack(1)
    ch.expect_nothing(q)


def test_zero_without_a_consumer(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q, arguments={"x-message-ttl": 0})
    ch.publish_all(q, [b"1", b"2"])
    assert ch.depth(q)[0] == 0
    assert ch.get(q) is None


def test_zero_with_a_consumer_that_is_ready(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q, arguments={"x-message-ttl": 0})
    ch.consume(q)
    ch.publish_all(q, [b"1", b"2"])
    assert bodies(ch, 2) == [b"1", b"2"]


def test_zero_with_a_consumer_that_is_busy(ch: ChannelUnderTest, q: str) -> None:
    """The confirms tell that the queue has had both messages: in RabbitMQ an ack would overtake the second."""
    ch.declare(q, arguments={"x-message-ttl": 0})
    ch.confirm()
    ch.qos(1)
    ch.consume(q)
    ch.publish_all(q, [b"1", b"2"])
    assert ch.await_confirms(2) == [(1, True), (2, True)]
    assert bodies(ch, 1) == [b"1"]
    ch.ack(1)
    ch.expect_nothing(q)
    assert is_empty(ch, q)


def test_zero_is_confirmed(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q, arguments={"x-message-ttl": 0})
    ch.confirm()
    ch.publish_all(q, [b"1", b"2"], delivery_mode=2)
    assert ch.await_confirms(2) == [(1, True), (2, True)]


def test_zero_is_no_reason_to_return(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q, arguments={"x-message-ttl": 0})
    ch.publish("", q, b"1", mandatory=True)
    ch.expect_nothing(q)


def test_zero_and_a_requeue(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q, arguments={"x-message-ttl": 0})
    ch.consume(q)
    ch.publish("", q, b"1")
    assert bodies(ch, 1) == [b"1"]
    ch.nack(1)
    ch.expect_nothing(q)
    assert is_empty(ch, q)


def test_beyond_32_bits(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q, arguments={"x-message-ttl": 134_217_728_000})
    ch.publish("", q, b"1")
    let_pass(20)
    assert ch.drain(q) == [b"1"]


# The message's own TTL


def test_expiration(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    life = Lifetime(150)
    ch.publish("", q, b"1", expiration="150")
    assert ch.depth(q)[0] == 1 or life.is_over
    until(lambda: is_empty(ch, q))


def test_expiration_is_delivered_as_it_came(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.publish("", q, b"1", expiration="0060000")
    expected = "0060000" if broker.differs("expiration-as-a-number") else "60000"
    assert ch.get_one(q).properties == {"expiration": expected}


@pytest.mark.parametrize("expiration", ["0", "+0", "-0", "000"])
def test_expiration_of_zero(ch: ChannelUnderTest, q: str, expiration: str) -> None:
    ch.declare(q)
    ch.publish("", q, b"1", expiration=expiration)
    assert ch.get(q) is None
    ch.consume(q)
    ch.publish("", q, b"2", expiration=expiration)
    assert bodies(ch, 1) == [b"2"]


@pytest.mark.parametrize("expiration", ["315360000000", "4294967296", "+60000"])
def test_expirations_that_are_fine(ch: ChannelUnderTest, q: str, expiration: str) -> None:
    ch.declare(q)
    ch.publish("", q, b"1", expiration=expiration)
    let_pass(10)
    assert ch.drain(q) == [b"1"]


@pytest.mark.parametrize(
    ("expiration", "problem"),
    [
        ("-1", "{value_negative,-1}"),
        ("315360000001", "{value_too_large,315360000001}"),
        ("10000000000000000", "{value_too_large,10000000000000000}"),
        ("abc", "no_integer"),
        ("", "no_integer"),
        (" 5", "no_integer"),
        ("+", "no_integer"),
        ("1.5", '{leftover_string,".5"}'),
        ("5 ", '{leftover_string," "}'),
        ("5s", '{leftover_string,"s"}'),
    ],
)
def test_expirations_that_are_refused(
    client: Client, ch: ChannelUnderTest, q: str, expiration: str, problem: str
) -> None:
    ch.declare(q)
    ch.publish("", q, b"1", expiration=expiration)
    ch.expect_close(406, f"invalid expiration '{expiration}': {problem}", cause=Basic.Publish)
    assert client.channel().depth(q)[0] == 0


def test_a_long_expiration_that_is_refused(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str) -> None:
    expiration, quoted = "5" + 50 * "x", '"' + 50 * "x" + '"'
    broken = "" if broker.differs("long-terms-in-texts") else r"\n +"
    ch.publish("", q, b"1", expiration=expiration)
    pattern = re.compile(f"invalid expiration '{expiration}': {{leftover_string,{broken}{quoted}}}")
    ch.expect_close(406, pattern, cause=Basic.Publish)


@pytest.mark.parametrize(("queue_ms", "message_ms"), [(40, LONG_MS), (LONG_MS, 40)])
def test_the_shorter_one_counts(ch: ChannelUnderTest, q: str, queue_ms: int, message_ms: int) -> None:
    ch.declare(q, arguments={"x-message-ttl": queue_ms})
    ch.publish("", q, b"1", expiration=str(message_ms))
    until(lambda: is_empty(ch, q))


def test_only_the_head_dies(ch: ChannelUnderTest, q: str) -> None:
    """An expired message behind one that lives is still there, and counted."""
    ch.declare(q)
    ch.publish("", q, b"lives")
    ch.publish("", q, b"expired", expiration="20")
    ch.publish("", q, b"lives too")
    let_pass(60)
    assert ch.depth(q)[0] == 3
    reply = ch.get_one(q)
    assert (reply.body, reply.message_count) == (b"lives", 1)
    assert ch.drain(q) == [b"lives too"]


def test_expired_messages_are_not_given_to_consumers(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.publish("", q, b"lives")
    ch.publish("", q, b"expired", expiration="20")
    ch.publish("", q, b"lives too")
    let_pass(60)
    ch.consume(q)
    assert bodies(ch, 2) == [b"lives", b"lives too"]
    ch.expect_nothing(q)


def test_a_message_that_never_expires_does_not_end_it(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.publish("", q, b"1", expiration="20")
    ch.publish("", q, b"2")
    ch.publish("", q, b"3", expiration="20")
    let_pass(40)
    until(lambda: ch.depth(q)[0] == 2)
    assert ch.get_one(q).body == b"2"
    until(lambda: is_empty(ch, q))
    ch.publish("", q, b"4", expiration="20")
    until(lambda: is_empty(ch, q))


def test_a_shorter_one_that_becomes_the_head(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q, arguments={"x-message-ttl": LONG_MS})
    ch.publish("", q, b"1")
    ch.publish("", q, b"2", expiration="40")
    assert ch.get_one(q).body == b"1"
    until(lambda: is_empty(ch, q))


def test_purged_and_published_again(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.publish("", q, b"1", expiration=str(LONG_MS))
    assert ch.call(Queue.Purge, queue=q).message_count == 1
    ch.publish("", q, b"2", expiration="20")
    until(lambda: is_empty(ch, q))


# Requeued messages


def test_requeue_does_not_start_it_anew(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q, arguments={"x-message-ttl": 100})
    tag = ch.consume(q)
    ch.publish("", q, b"1")
    assert bodies(ch, 1) == [b"1"]
    ch.call(Basic.Cancel, consumer_tag=tag)
    let_pass(130)
    ch.nack(1)
    assert ch.get(q) is None


def test_requeued_in_time(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q, arguments={"x-message-ttl": 200})
    tag = ch.consume(q)
    life = Lifetime(200)
    ch.publish("", q, b"1")
    assert bodies(ch, 1) == [b"1"]
    ch.call(Basic.Cancel, consumer_tag=tag)
    ch.nack(1)
    assert ch.depth(q)[0] == 1 or life.is_over
    until(lambda: is_empty(ch, q))


def test_an_expired_message_comes_back_before_one_that_lives(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.qos(1)
    tag = ch.consume(q)
    ch.publish("", q, b"1", expiration="100")
    ch.publish("", q, b"2")
    assert bodies(ch, 1) == [b"1"]
    ch.call(Basic.Cancel, consumer_tag=tag)
    let_pass(130)
    ch.nack(1)
    assert ch.drain(q) == [b"2"]


def test_an_expired_message_comes_back_behind_one_that_lives(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    tag = ch.consume(q)
    ch.publish("", q, b"1")
    ch.publish("", q, b"2", expiration="100")
    assert bodies(ch, 2) == [b"1", b"2"]
    ch.call(Basic.Cancel, consumer_tag=tag)
    let_pass(130)
    ch.nack(1)
    ch.nack(2)
    assert ch.depth(q)[0] == 2
    assert ch.drain(q) == [b"1"]


def test_a_channel_that_closes_with_an_expired_message(client: Client, ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q, arguments={"x-message-ttl": 100})
    other = client.channel()
    other.consume(q)
    ch.publish("", q, b"1")
    assert bodies(other, 1) == [b"1"]
    let_pass(130)
    other.call(Channel.Close, reply_code=200, reply_text="done")
    until(lambda: is_empty(ch, q))
    assert ch.get(q) is None


# With transactions and confirms


def test_in_a_transaction_it_starts_with_the_commit(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.call(Tx.Select)
    ch.publish("", q, b"1", expiration="150")
    let_pass(180)
    life = Lifetime(150)
    ch.call(Tx.Commit)
    assert ch.depth(q)[0] == 1 or life.is_over
    until(lambda: is_empty(ch, q))


def test_confirmed_once_although_it_died(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q, durable=True)
    ch.call(Confirm.Select)
    ch.publish("", q, b"1", expiration="0", delivery_mode=2)
    assert ch.await_confirms(1) == [(1, True)]
    ch.expect_nothing(q)


# Dead letters of expired messages


def test_expired_messages_are_dead_lettered_in_order(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str) -> None:
    dead = dead_letter_queue(ch, broker)
    arguments = {"x-message-ttl": 30, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead}
    ch.declare(q, arguments=arguments)
    ch.publish_all(q, [b"1", b"2", b"3"])
    until(lambda: ch.depth(dead)[0] == 3)
    assert ch.drain(dead) == [b"1", b"2", b"3"]


def test_zero_dead_letters_at_once(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str) -> None:
    dead = dead_letter_queue(ch, broker)
    arguments = {"x-message-ttl": 0, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead}
    ch.declare(q, arguments=arguments)
    ch.publish("", q, b"1")
    until(lambda: ch.depth(dead)[0] == 1)
    assert ch.get_one(dead).headers["x-death"][0]["reason"] == "expired"
