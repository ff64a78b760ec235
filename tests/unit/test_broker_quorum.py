"""Quorum queues: what comes back and where, limits, what they refuse. Asked in memory, through a connection."""

from __future__ import annotations

from typing import Any

import pytest
from pamqp import commands

from tests.support.client import Client, ClientChannel
from tests.support.memory_broker import MemoryBroker

NAME = "queue 'q' in vhost '/'"


@pytest.fixture
def channel(broker: MemoryBroker) -> ClientChannel:
    """A channel; how its bytes come is not the subject here."""
    return Client(broker).open().channel()


def fill(channel: ClientChannel, count: int, **arguments: Any) -> None:
    """A quorum queue with numbered messages; arguments with underscores, without the x-."""
    table = {f"x-{name.replace('_', '-')}": value for name, value in arguments.items()}
    channel.declare("q", {"x-queue-type": "quorum", **table}, durable=True)
    for number in range(count):
        channel.publish("", "q", b"%d" % number)


def take(channel: ClientChannel, count: int) -> None:
    """Get messages and leave them unacknowledged."""
    for _ in range(count):
        assert channel.get("q") is not None


# --- what comes back


def test_without_a_limit_it_goes_to_the_back(channel: ClientChannel) -> None:
    fill(channel, 4)
    take(channel, 2)
    channel.send(commands.Basic.Nack(2, multiple=True, requeue=True))
    assert channel.drain("q") == [b"2", b"3", b"0", b"1"]


def test_with_a_limit_it_comes_first_in_the_order_of_return(channel: ClientChannel) -> None:
    fill(channel, 4, delivery_limit=9)
    take(channel, 3)
    for tag in (3, 1, 2):
        channel.send(commands.Basic.Nack(tag, multiple=False, requeue=True))
    assert channel.drain("q") == [b"2", b"0", b"1", b"3"]


@pytest.mark.parametrize("arguments", [{}, {"delivery_limit": 9}], ids=["no limit", "limit"])
def test_from_a_channel_that_is_gone_it_comes_first(channel: ClientChannel, arguments: dict[str, int]) -> None:
    fill(channel, 3, **arguments)
    other = channel.client.channel(2)
    take(other, 2)
    other.call(commands.Channel.Close(200, "done", 0, 0))
    assert channel.drain("q") == [b"0", b"1", b"2"]


def test_a_count_for_each_return(channel: ClientChannel) -> None:
    fill(channel, 1)
    for count in range(3):
        message = channel.get("q")
        assert message is not None
        got = message.expect(commands.Basic.GetOk)
        assert (message.headers, got.redelivered) == ({"x-delivery-count": count} if count else {}, count > 0)
        channel.send(commands.Basic.Reject(got.delivery_tag or 0, requeue=True))


def test_consumers_see_no_count_at_first(channel: ClientChannel) -> None:
    fill(channel, 1)
    channel.consume("q")
    first = channel.deliveries()[0]
    assert first.headers == {}
    channel.send(commands.Basic.Reject(1, requeue=True))
    assert channel.deliveries()[0].headers == {"x-delivery-count": 1}


@pytest.mark.parametrize("limit", [0, 2])
def test_poison_goes_and_the_rest_stays(channel: ClientChannel, limit: int) -> None:
    channel.declare("dead")
    arguments = {"dead_letter_exchange": "", "dead_letter_routing_key": "dead"}
    fill(channel, 2, delivery_limit=limit, **arguments)
    for tag in range(1, limit + 2):
        take(channel, 1)
        channel.send(commands.Basic.Reject(tag, requeue=True))
    assert channel.drain("dead") == [b"0"]
    assert channel.drain("q") == [b"1"]


def test_what_comes_back_over_the_length_pushes_the_oldest_out(channel: ClientChannel) -> None:
    fill(channel, 2, max_length=2)
    take(channel, 1)
    channel.publish("", "q", b"2")
    channel.send(commands.Basic.Reject(1, requeue=True))
    assert channel.drain("q") == [b"2", b"0"]


def test_what_comes_back_keeps_its_time(channel: ClientChannel, broker: MemoryBroker) -> None:
    fill(channel, 0)
    channel.publish("", "q", b"x", expiration="100")
    take(channel, 1)
    broker.advance(60)
    channel.send(commands.Basic.Reject(1, requeue=True))
    broker.advance(39)
    assert channel.message_count("q") == 1
    broker.advance(1)
    assert channel.message_count("q") == 0


def test_what_comes_back_after_the_queue_was_deleted(channel: ClientChannel) -> None:
    fill(channel, 1)
    take(channel, 1)
    channel.call(commands.Queue.Delete(queue="q"))
    channel.send(commands.Basic.Reject(1, requeue=True))
    assert channel.methods() == []


# --- overflow


def confirmed(channel: ClientChannel) -> bool:
    """Publish one message, and whether it is confirmed."""
    channel.publish("", "q", b"12345")
    return isinstance(channel.received()[0].method, commands.Basic.Ack)


@pytest.mark.parametrize("arguments", [{"max_length": 5}, {"max_length_bytes": 25}], ids=["length", "bytes"])
def test_refusing_from_one_beyond_the_limit_to_four_fifths(channel: ClientChannel, arguments: dict[str, int]) -> None:
    fill(channel, 0, overflow="reject-publish", **arguments)
    channel.call(commands.Confirm.Select())
    assert [confirmed(channel) for _ in range(8)] == [True] * 6 + [False] * 2
    take(channel, 1)
    assert not confirmed(channel)
    take(channel, 1)
    assert [confirmed(channel) for _ in range(4)] == [True, True, False, False]


def test_reject_publish_dlx_drops_the_oldest(channel: ClientChannel) -> None:
    fill(channel, 3, overflow="reject-publish-dlx", max_length=2)
    assert channel.drain("q") == [b"1", b"2"]


# --- consumers


def test_nobody_holds_more_than_two_thousand(channel: ClientChannel) -> None:
    fill(channel, 2001)
    channel.consume("q")
    assert len(channel.deliveries()) == 2000
    channel.send(commands.Basic.Ack(2))
    assert len(channel.deliveries()) == 1


def test_exclusive_consumers_are_like_others(channel: ClientChannel) -> None:
    fill(channel, 0)
    channel.consume("q", exclusive=True)
    channel.consume("q", exclusive=True)
    assert channel.declare("q", passive=True).consumer_count == 2


def single(series: str, *priorities: int) -> ClientChannel:
    """A quorum queue with a single active consumer; consumers a, b, c ... of these priorities."""
    channel = Client(MemoryBroker(behave_like=series)).open().channel()
    fill(channel, 0, single_active_consumer=True)
    for tag, priority in zip("abcd", priorities, strict=False):
        channel.consume("q", tag, {"x-priority": priority})
    return channel


def tags(channel: ClientChannel) -> list[str | None]:
    return [one.expect(commands.Basic.Deliver).consumer_tag for one in channel.deliveries()]


@pytest.mark.parametrize(("series", "successor"), [("3.10", "b"), ("3.13", "b"), ("4.0", "c"), ("4.3", "c")])
def test_who_takes_over_from_a_single_active_one(series: str, successor: str) -> None:
    channel = single(series, 9, 0, 5, 5)
    channel.call(commands.Basic.Cancel("a"))
    channel.publish("", "q", b"x")
    assert tags(channel) == [successor]


def test_of_equals_the_one_takes_over_that_may_have_the_most() -> None:
    channel = single("4.0", 1)
    for tag, prefetch in (("b", 1), ("c", 5), ("d", 5)):
        channel.qos(prefetch)
        channel.consume("q", tag)
    channel.call(commands.Basic.Cancel("a"))
    channel.publish("", "q", b"x")
    assert tags(channel) == ["c"]


@pytest.mark.parametrize(("series", "active"), [("3.13", "a"), ("4.0", "b")])
def test_a_higher_one_takes_over_at_once_from_one_that_has_nothing(series: str, active: str) -> None:
    channel = single(series, 1, 2, 0)
    channel.publish("", "q", b"x")
    assert tags(channel) == [active]


def test_a_higher_one_waits_until_all_is_settled() -> None:
    channel = single("4.0", 1)
    for _ in range(2):
        channel.publish("", "q", b"x")
    assert tags(channel) == ["a", "a"]
    channel.consume("q", "b", {"x-priority": 2})
    channel.publish("", "q", b"x")
    channel.ack(1)
    assert tags(channel) == []
    channel.ack(2)
    assert tags(channel) == ["b"]
    channel.call(commands.Basic.Cancel("b"))
    channel.publish("", "q", b"x")
    assert tags(channel) == ["a"]


def test_the_active_one_makes_way_while_its_client_does_not_read() -> None:
    broker = MemoryBroker(behave_like="4.0", outbound_high_water_bytes=10_000)
    slow, other = (Client(broker).open().channel() for _ in range(2))
    fill(slow, 0, single_active_consumer=True)
    slow.consume("q", "a")
    for body in (bytes(20_000), b"x", b"y"):
        other.publish("", "q", body)
    other.consume("q", "b", {"x-priority": 1})
    assert slow.client.connection.output.is_congested
    slow.send(commands.Basic.Ack(1))
    assert tags(other) == ["b", "b"]
    assert tags(slow) == ["a"]


def test_the_active_one_makes_way_also_when_it_was_full_and_the_higher_one_has_gone() -> None:
    channel = single("4.0")
    channel.qos(1)
    channel.consume("q", "a")
    for _ in range(2):
        channel.publish("", "q", b"x")
    assert tags(channel) == ["a"]
    channel.consume("q", "b", {"x-priority": 2})
    channel.call(commands.Basic.Cancel("b"))
    assert tags(channel) == []
    channel.reject(1, requeue=True)
    assert tags(channel) == ["a"]


# --- what is refused


@pytest.mark.parametrize("condition", ["if_unused", "if_empty"])
def test_conditions_of_a_deletion(channel: ClientChannel, broker: MemoryBroker, condition: str) -> None:
    fill(channel, 0)
    channel.send(commands.Queue.Delete(queue="q", **{condition: True}))
    close = channel.client.closed_with()
    assert (close.reply_code, close.reply_text) == (
        540,
        f"NOT_IMPLEMENTED - cannot delete {NAME}. queue.delete operations with {condition.replace('_', '-')} flag set "
        "are not supported by quorum queues",
    )
    assert broker.queue("q").ready_count == 0


def test_get_beside_a_single_active_consumer(channel: ClientChannel) -> None:
    fill(channel, 1, single_active_consumer=True)
    channel.send(commands.Basic.Get(queue="q"))
    assert channel.one(commands.Channel.Close).reply_code == 405


def test_prefetch_of_the_channel(channel: ClientChannel) -> None:
    fill(channel, 1)
    channel.qos(5, of_channel=True)
    channel.send(commands.Basic.Consume(queue="q"))
    assert channel.client.closed_with().reply_text == f"NOT_IMPLEMENTED - {NAME} does not support global qos"


@pytest.mark.parametrize("wrong", [[1], {"a": 1}, 7, True], ids=["array", "table", "number", "boolean"])
@pytest.mark.parametrize("name", ["", "q"])
def test_a_type_that_is_no_text(channel: ClientChannel, name: str, wrong: Any) -> None:
    channel.send(commands.Queue.Declare(queue=name, arguments={"x-queue-type": wrong}))
    assert channel.closed_with().reply_text.startswith("PRECONDITION_FAILED - invalid arg 'x-queue-type' for queue '")
