"""x-max-length, x-max-length-bytes and x-overflow: who goes when the queue is full, and what its publisher hears."""

from __future__ import annotations

from typing import Any

import pytest

from interop.raw_client import Basic, ChannelUnderTest, Client, Queue, Tx
from interop.under_test import BrokerUnderTest
from interop.waiting import until

REJECTING = ["reject-publish", "reject-publish-dlx"]


def bodies(ch: ChannelUnderTest, count: int) -> list[bytes]:
    return [delivery.body for delivery in ch.deliveries(count)]


def declare(ch: ChannelUnderTest, q: str, length: int | None = None, **arguments: Any) -> None:
    """A queue with a limit; further arguments with underscores, without the x-."""
    table = {f"x-{name.replace('_', '-')}": value for name, value in arguments.items()}
    ch.declare(q, arguments=table if length is None else {"x-max-length": length} | table)


# drop-head


@pytest.mark.parametrize("overflow", [None, "drop-head"])
def test_the_oldest_goes(ch: ChannelUnderTest, q: str, overflow: str | None) -> None:
    declare(ch, q, 2, **({} if overflow is None else {"overflow": overflow}))
    ch.publish_all(q, [b"1", b"2", b"3", b"4"])
    assert ch.drain(q) == [b"3", b"4"]


def test_the_dropped_are_confirmed(ch: ChannelUnderTest, q: str) -> None:
    declare(ch, q, 1)
    ch.confirm()
    ch.publish_all(q, [b"1", b"2", b"3"])
    assert ch.await_confirms(3) == [(1, True), (2, True), (3, True)]
    assert ch.drain(q) == [b"3"]


def test_a_length_of_zero(ch: ChannelUnderTest, q: str) -> None:
    declare(ch, q, 0)
    ch.publish_all(q, [b"1", b"2"])
    assert ch.depth(q)[0] == 0
    ch.consume(q)
    ch.publish("", q, b"3")
    assert bodies(ch, 1) == [b"3"]


def test_a_size_of_zero(ch: ChannelUnderTest, q: str) -> None:
    declare(ch, q, max_length_bytes=0)
    ch.publish_all(q, [b"1", b""])
    assert ch.drain(q) == [b""]


def test_bytes(ch: ChannelUnderTest, q: str) -> None:
    declare(ch, q, max_length_bytes=10)
    ch.publish_all(q, [b"a" * 4, b"b" * 4, b"c" * 2])
    assert ch.depth(q)[0] == 3
    ch.publish("", q, b"d")
    assert ch.drain(q) == [b"b" * 4, b"c" * 2, b"d"]


def test_only_the_body_counts(ch: ChannelUnderTest, q: str) -> None:
    declare(ch, q, max_length_bytes=10)
    for number in range(3):
        ch.publish("", q, b"abc", headers={"long": "x" * 100}, message_id=str(number))
    assert ch.depth(q)[0] == 3


def test_one_that_is_larger_than_the_limit(ch: ChannelUnderTest, q: str) -> None:
    declare(ch, q, max_length_bytes=10)
    ch.publish_all(q, [b"1", b"2", b"x" * 11])
    assert ch.depth(q)[0] == 0


def test_several_go_for_one_that_is_large(ch: ChannelUnderTest, q: str) -> None:
    declare(ch, q, max_length_bytes=10)
    ch.publish_all(q, [b"abc", b"def", b"ghi", b"x" * 8])
    assert ch.drain(q) == [b"x" * 8]


def test_both_limits(ch: ChannelUnderTest, q: str) -> None:
    declare(ch, q, 3, max_length_bytes=10)
    ch.publish_all(q, [b"1", b"2", b"3", b"4"])
    assert ch.depth(q)[0] == 3
    ch.publish("", q, b"x" * 9)
    assert ch.drain(q) == [b"4", b"x" * 9]


def test_unacknowledged_messages_do_not_count(ch: ChannelUnderTest, q: str) -> None:
    declare(ch, q, 2)
    ch.publish_all(q, [b"1", b"2"])
    for _ in range(2):
        ch.get_one(q, no_ack=False)
    ch.publish_all(q, [b"3", b"4"])
    assert ch.depth(q)[0] == 2
    assert ch.drain(q) == [b"3", b"4"]


def test_what_goes_straight_to_a_consumer_does_not_count(ch: ChannelUnderTest, q: str) -> None:
    declare(ch, q, 1)
    ch.qos(3)
    ch.consume(q)
    ch.publish_all(q, [b"1", b"2", b"3", b"4", b"5"])
    assert bodies(ch, 3) == [b"1", b"2", b"3"]
    assert ch.depth(q)[0] == 1
    ch.ack(3, multiple=True)
    assert bodies(ch, 1) == [b"5"]


def test_requeue_over_the_limit(ch: ChannelUnderTest, q: str) -> None:
    """The requeued message is the oldest again, so it is the one that goes."""
    declare(ch, q, 2)
    ch.publish_all(q, [b"1", b"2"])
    first = ch.get_one(q, no_ack=False)
    ch.publish("", q, b"3")
    ch.nack(first.delivery_tag)
    assert ch.drain(q) == [b"2", b"3"]


def test_requeue_of_several_over_the_limit(ch: ChannelUnderTest, q: str) -> None:
    declare(ch, q, 3)
    ch.publish_all(q, [b"1", b"2", b"3"])
    for _ in range(3):
        last = ch.get_one(q, no_ack=False)
    ch.publish_all(q, [b"4", b"5"])
    ch.nack(last.delivery_tag, multiple=True)
    assert ch.drain(q) == [b"3", b"4", b"5"]


def test_requeue_over_the_limit_with_a_consumer(ch: ChannelUnderTest, q: str) -> None:
    """The limit is looked at before the consumer gets something."""
    declare(ch, q, 1)
    ch.qos(1)
    ch.publish_all(q, [b"1"])
    ch.consume(q)
    assert bodies(ch, 1) == [b"1"]
    ch.publish("", q, b"2")
    assert ch.depth(q)[0] == 1
    ch.nack(1)
    assert bodies(ch, 1) == [b"2"]
    ch.expect_nothing(q)


def test_dropped_messages_become_dead_letters(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str) -> None:
    dead = broker.queue_name("dead")
    ch.declare(dead)
    declare(ch, q, 1, dead_letter_exchange="", dead_letter_routing_key=dead)
    ch.publish_all(q, [b"1", b"2", b"3"])
    until(lambda: ch.depth(dead)[0] == 2)
    letters = [ch.get_one(dead), ch.get_one(dead)]
    assert [letter.body for letter in letters] == [b"1", b"2"]
    assert [letter.headers["x-death"][0]["reason"] for letter in letters] == ["maxlen", "maxlen"]


def test_a_transaction_over_the_limit(ch: ChannelUnderTest, q: str) -> None:
    declare(ch, q, 1)
    ch.call(Tx.Select)
    ch.publish_all(q, [b"1", b"2"])
    ch.call(Tx.Commit)
    assert ch.drain(q) == [b"2"]


# reject-publish, reject-publish-dlx


@pytest.mark.parametrize("overflow", REJECTING)
def test_the_newest_is_refused(ch: ChannelUnderTest, q: str, overflow: str) -> None:
    declare(ch, q, 2, overflow=overflow)
    ch.confirm()
    ch.publish_all(q, [b"1", b"2", b"3", b"4"])
    assert ch.await_confirms(4) == [(1, True), (2, True), (3, False), (4, False)]
    assert ch.drain(q) == [b"1", b"2"]


@pytest.mark.parametrize("overflow", REJECTING)
def test_without_confirms_nobody_hears_of_it(ch: ChannelUnderTest, q: str, overflow: str) -> None:
    declare(ch, q, 1, overflow=overflow)
    for body in (b"1", b"2"):
        ch.publish("", q, body, mandatory=True)
    ch.expect_nothing(q)
    assert ch.drain(q) == [b"1"]


@pytest.mark.parametrize("overflow", REJECTING)
def test_room_again(ch: ChannelUnderTest, q: str, overflow: str) -> None:
    declare(ch, q, 1, overflow=overflow)
    ch.confirm()
    ch.publish_all(q, [b"1", b"2"])
    assert ch.await_confirms(2) == [(1, True), (2, False)]
    ch.get_one(q)
    ch.publish("", q, b"3")
    assert ch.expect(Basic.Ack).delivery_tag == 3
    assert ch.drain(q) == [b"3"]


@pytest.mark.parametrize("overflow", REJECTING)
def test_bytes_are_refused(ch: ChannelUnderTest, q: str, overflow: str) -> None:
    declare(ch, q, max_length_bytes=10, overflow=overflow)
    ch.confirm()
    ch.publish_all(q, [b"x" * 11, b"a" * 6, b"b" * 5, b"c" * 4, b"", b"d"])
    confirms = [(1, False), (2, True), (3, False), (4, True), (5, True), (6, False)]
    assert ch.await_confirms(6) == confirms
    assert ch.drain(q) == [b"a" * 6, b"c" * 4, b""]


@pytest.mark.parametrize("overflow", REJECTING)
def test_a_length_of_zero_refuses_even_with_a_consumer(ch: ChannelUnderTest, q: str, overflow: str) -> None:
    declare(ch, q, 0, overflow=overflow)
    ch.consume(q)
    ch.confirm()
    ch.publish("", q, b"1")
    assert ch.await_confirms(1) == [(1, False)]
    ch.expect_nothing(q)


@pytest.mark.parametrize("overflow", REJECTING)
def test_unacknowledged_messages_leave_room(ch: ChannelUnderTest, q: str, overflow: str) -> None:
    declare(ch, q, 1, overflow=overflow)
    ch.confirm()
    ch.publish("", q, b"1")
    assert ch.await_confirms(1) == [(1, True)]
    held = ch.get_one(q, no_ack=False)
    ch.publish("", q, b"2")
    assert ch.expect(Basic.Ack).delivery_tag == 2
    ch.nack(held.delivery_tag)
    assert ch.depth(q)[0] == 2
    ch.publish("", q, b"3")
    assert ch.expect(Basic.Nack).delivery_tag == 3
    assert ch.drain(q) == [b"1", b"2"]


def test_refused_messages_do_not_become_dead_letters(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str) -> None:
    dead = broker.queue_name("dead")
    ch.declare(dead)
    declare(ch, q, 1, overflow="reject-publish", dead_letter_exchange="", dead_letter_routing_key=dead)
    ch.confirm()
    ch.publish_all(q, [b"1", b"2"])
    assert ch.await_confirms(2) == [(1, True), (2, False)]
    assert ch.depth(dead)[0] == 0


def test_refused_messages_become_dead_letters(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str) -> None:
    dead = broker.queue_name("dead")
    ch.declare(dead)
    declare(ch, q, 1, overflow="reject-publish-dlx", dead_letter_exchange="", dead_letter_routing_key=dead)
    ch.confirm()
    ch.publish_all(q, [b"1", b"2"])
    assert ch.await_confirms(2) == [(1, True), (2, False)]
    until(lambda: ch.depth(dead)[0] == 1)
    letter = ch.get_one(dead)
    death = letter.headers["x-death"][0]
    assert (letter.body, death["reason"], death["queue"], death["count"]) == (b"2", "maxlen", q, 1)


@pytest.mark.parametrize("overflow", REJECTING)
def test_one_queue_of_two_refuses(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str, x: str, overflow: str) -> None:
    other = broker.queue_name("other")
    declare(ch, q, 1, overflow=overflow)
    ch.declare(other)
    ch.declare_exchange(x, "fanout")
    ch.bind(q, x)
    ch.bind(other, x)
    ch.confirm()
    for body in (b"1", b"2"):
        ch.publish(x, "", body)
    assert ch.await_confirms(2) == [(1, True), (2, False)]
    assert (ch.drain(q), ch.drain(other)) == ([b"1"], [b"1", b"2"])


@pytest.mark.parametrize("overflow", REJECTING)
def test_a_transaction_that_is_refused_in_part(client: Client, q: str, overflow: str) -> None:
    ch = client.channel()
    declare(ch, q, 1, overflow=overflow)
    ch.call(Tx.Select)
    ch.publish_all(q, [b"1", b"2"])
    ch.send(Tx.Commit)
    ch.expect_close(406, "partial tx completion", cause=Tx.Commit)
    assert client.channel().drain(q) == [b"1"]


def test_dead_letters_are_refused_in_silence(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str) -> None:
    full = broker.queue_name("full")
    declare(ch, full, 1, overflow="reject-publish")
    ch.declare(q, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": full})
    ch.publish_all(q, [b"1", b"2"])
    for _ in range(2):
        last = ch.get_one(q, no_ack=False)
    ch.nack(last.delivery_tag, multiple=True, requeue=False)
    until(lambda: ch.depth(full)[0] == 1)
    ch.expect_nothing(q)
    assert (ch.drain(full), ch.drain(q)) == ([b"1"], [])


def test_purge_makes_room(ch: ChannelUnderTest, q: str) -> None:
    declare(ch, q, max_length_bytes=5, overflow="reject-publish")
    ch.confirm()
    ch.publish_all(q, [b"12345", b"6"])
    assert ch.await_confirms(2) == [(1, True), (2, False)]
    ch.call(Queue.Purge, queue=q)
    ch.publish("", q, b"12345")
    assert ch.expect(Basic.Ack).delivery_tag == 3
