"""Priorities of quorum queues, which have two from RabbitMQ 4.0 on: above 4 is high, and gets two turns of three."""

from __future__ import annotations

from typing import Any

from interop.raw_client import ChannelUnderTest, Queue
from interop.under_test import BrokerUnderTest
from interop.waiting import until

HIGH_AND_NORMAL = (4, 0)  # the version from which on there are the two


def declare(ch: ChannelUnderTest, q: str, **arguments: Any) -> None:
    table = {"x-queue-type": "quorum"} | {f"x-{name.replace('_', '-')}": value for name, value in arguments.items()}
    ch.declare(q, durable=True, arguments=table)


def publish(ch: ChannelUnderTest, q: str, bodies: list[str], *, ready: int | None = None) -> None:
    """Messages n... with no priority, those named by a digit with that one; they are in the queue when this returns.

    Args:
        ready: how many there are then; as many more as are published when left out.
    """
    expected = ch.depth(q)[0] + len(bodies) if ready is None else ready
    publishing = ch.client.channel()
    publishing.confirm()
    for body in bodies:
        properties: dict[str, Any] = {"priority": int(body[0])} if body[0].isdigit() else {}
        publishing.publish("", q, body.encode(), **properties)
    assert publishing.await_confirms(len(bodies))[-1] == (len(bodies), True)
    until(lambda: ch.depth(q)[0] == expected)


def drain(ch: ChannelUnderTest, q: str) -> list[str]:
    return [ch.get_one(q).body.decode() for _ in range(ch.depth(q)[0])]


def test_two_high_ones_before_each_normal_one(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str) -> None:
    declare(ch, q)
    came = ["n", "0", "4", "1", "3", "5a", "5b", "9", "5c", "6", "7"]
    publish(ch, q, came)
    served = ["5a", "5b", "n", "9", "5c", "0", "6", "7", "4", "1", "3"]
    assert drain(ch, q) == (served if broker.version >= HIGH_AND_NORMAL else came)


def test_consumers_are_served_in_the_same_order(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str) -> None:
    declare(ch, q)
    came = ["na", "nb", "nc", "5a", "5b", "5c", "5d"]
    publish(ch, q, came)
    ch.consume(q)
    served = ["5a", "5b", "na", "5c", "5d", "nb", "nc"]
    found = [delivery.body.decode() for delivery in ch.deliveries(len(came))]
    assert found == (served if broker.version >= HIGH_AND_NORMAL else came)


def test_an_older_high_one_goes_before_the_normal_one_whose_turn_it_is(
    broker: BrokerUnderTest, ch: ChannelUnderTest, q: str
) -> None:
    declare(ch, q)
    came = ["5a", "5b", "5c", "n", "5d"]
    publish(ch, q, came)
    served = ["5a", "5b", "5c", "5d", "n"]
    assert drain(ch, q) == (served if broker.version >= HIGH_AND_NORMAL else came)


def test_turns_are_counted_where_nothing_is_high(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str) -> None:
    declare(ch, q)
    publish(ch, q, ["na", "nb", "nc", "nd"])
    assert [ch.get_one(q).body for _ in range(2)] == [b"na", b"nb"]
    publish(ch, q, ["5a", "5b"])
    served = ["nc", "5a", "5b", "nd"]
    assert drain(ch, q) == (served if broker.version >= HIGH_AND_NORMAL else ["nc", "nd", "5a", "5b"])


def test_what_was_returned_goes_before_all(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str) -> None:
    declare(ch, q, delivery_limit=5)
    publish(ch, q, ["na", "nb", "5a"])
    taken = [ch.get_one(q, no_ack=False) for _ in range(3)]
    bodies = [one.body.decode() for one in taken]
    assert bodies == (["5a", "na", "nb"] if broker.version >= HIGH_AND_NORMAL else ["na", "nb", "5a"])
    for one in reversed(taken):
        ch.nack(one.delivery_tag)
    until(lambda: ch.depth(q)[0] == 3)
    publish(ch, q, ["9"])
    assert drain(ch, q) == [*reversed(bodies), "9"]


def test_what_is_too_much_goes_in_the_order_of_delivery(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str) -> None:
    declare(ch, q, max_length=3)
    publish(ch, q, ["na", "nb", "nc", "5"], ready=3)
    assert drain(ch, q) == (["na", "nb", "nc"] if broker.version >= HIGH_AND_NORMAL else ["nb", "nc", "5"])


def test_both_count_and_are_purged(ch: ChannelUnderTest, q: str) -> None:
    declare(ch, q)
    publish(ch, q, ["n", "5", "9"])
    assert ch.get_one(q).message_count == 2
    until(lambda: ch.depth(q)[0] == 2)
    assert ch.call(Queue.Purge, queue=q).message_count == 2
    assert ch.depth(q)[0] == 0
