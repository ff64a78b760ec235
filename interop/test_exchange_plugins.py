"""The exchange types that RabbitMQ has as plugins which its package ships: how each routes, and what it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from interop import brokers
from interop.brokers import Choice
from interop.raw_client import ChannelUnderTest, Exchange, Queue
from interop.started_brokers import StartedBrokers
from interop.under_test import BrokerUnderTest

PLUGINS = (
    "rabbitmq_consistent_hash_exchange",
    "rabbitmq_random_exchange",
    "rabbitmq_recent_history_exchange",
    "rabbitmq_sharding",
)


class WithPlugins(StartedBrokers):
    """The brokers of this module, each started when it is first asked."""

    def start(self, choice: Choice) -> brokers.RabbitMQ | brokers.OurBroker:
        return choice.start(plugins=PLUGINS)


@pytest.fixture(scope="module")
def broker_processes() -> Iterator[WithPlugins]:
    with WithPlugins() as started:
        yield started


def queues(broker: BrokerUnderTest, ch: ChannelUnderTest, x: str, *keys: str) -> list[str]:
    """Queues, each bound with its key."""
    names = [broker.queue_name(f"q{number}") for number in range(len(keys))]
    for name, key in zip(names, keys, strict=True):
        ch.declare(name)
        ch.bind(name, x, key)
    return names


def depths(ch: ChannelUnderTest, names: list[str]) -> list[int]:
    """How many messages each holds, when all that was published is there."""
    ch.sync()
    return [ch.depth(name)[0] for name in names]


# consistent hash


def test_each_queue_gets_what_its_weight_says(broker: BrokerUnderTest, ch: ChannelUnderTest, x: str) -> None:
    ch.declare_exchange(x, "x-consistent-hash")
    names = queues(broker, ch, x, "1", "1", "2")
    ch.confirm()
    for number in range(4000):
        ch.publish(x, str(number))
    ch.await_confirms(4000)
    one, other, double = depths(ch, names)
    assert one + other + double == 4000
    assert 800 < one < 1200
    assert 800 < other < 1200
    assert 1700 < double < 2300


@pytest.mark.parametrize(
    ("argument", "value", "name"),
    [
        ("hash-header", "h", "headers"),
        ("hash-property", "message_id", "message_id"),
        ("hash-property", "correlation_id", "correlation_id"),
    ],
)
def test_what_is_hashed(
    broker: BrokerUnderTest, ch: ChannelUnderTest, x: str, argument: str, value: str, name: str
) -> None:
    ch.declare_exchange(x, "x-consistent-hash", arguments={argument: value})
    names = queues(broker, ch, x, "1", "1")
    ch.confirm()
    for number in range(200):
        properties: dict[str, Any] = {name: {"h": str(number)} if name == "headers" else str(number)}
        ch.publish(x, "same", **properties)
    ch.await_confirms(200)
    assert all(depth > 20 for depth in depths(ch, names))


def test_without_the_header_all_go_the_same_way(broker: BrokerUnderTest, ch: ChannelUnderTest, x: str) -> None:
    ch.declare_exchange(x, "x-consistent-hash", arguments={"hash-header": "h"})
    names = queues(broker, ch, x, "1", "1")
    ch.confirm()
    for number in range(50):
        ch.publish(x, str(number))
    ch.await_confirms(50)
    assert sorted(depths(ch, names)) == [0, 50]


def test_after_an_unbind_the_other_gets_all(broker: BrokerUnderTest, ch: ChannelUnderTest, x: str) -> None:
    ch.declare_exchange(x, "x-consistent-hash")
    names = queues(broker, ch, x, "1", "3")
    ch.call(Queue.Unbind, queue=names[1], exchange=x, routing_key="3")
    ch.confirm()
    for number in range(50):
        ch.publish(x, str(number))
    ch.await_confirms(50)
    assert depths(ch, names) == [50, 0]


def test_a_second_binding_adds_no_weight(broker: BrokerUnderTest, ch: ChannelUnderTest, x: str) -> None:
    ch.declare_exchange(x, "x-consistent-hash")
    names = queues(broker, ch, x, "1", "1")
    ch.bind(names[0], x, "9")
    ch.confirm()
    for number in range(1000):
        ch.publish(x, str(number))
    ch.await_confirms(1000)
    assert 350 < depths(ch, names)[0] < 650


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (
            {"hash-header": "h", "hash-property": "message_id"},
            "hash-header and hash-property are mutually exclusive",
        ),
        ({"hash-property": "nope"}, "Unsupported property: nope"),
    ],
)
def test_wrong_arguments(ch: ChannelUnderTest, x: str, arguments: dict[str, str], text: str) -> None:
    ch.send(Exchange.Declare, exchange=x, exchange_type="x-consistent-hash", arguments=arguments)
    ch.expect_close(406, text, cause=Exchange.Declare)


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("abc", 'The binding key must be an integer: <<"abc">>'),
        ("1.5", 'The binding key must be an integer: <<"1.5">>'),
        ("", "The binding key must be an integer: <<>>"),
        ("0", "The binding key must be greater than 0"),
        ("-1", "The binding key must be greater than 0"),
    ],
)
def test_wrong_weight(ch: ChannelUnderTest, x: str, q: str, key: str, text: str) -> None:
    ch.declare_exchange(x, "x-consistent-hash")
    ch.declare(q)
    ch.send(Queue.Bind, queue=q, exchange=x, routing_key=key)
    ch.expect_close(406, text, cause=Queue.Bind)


# random, and modulus


def test_random(broker: BrokerUnderTest, ch: ChannelUnderTest, x: str) -> None:
    ch.declare_exchange(x, "x-random")
    names = queues(broker, ch, x, "k", "other")
    ch.confirm()
    for _ in range(200):
        ch.publish(x, "k")
    ch.await_confirms(200)
    found = depths(ch, names)
    assert sum(found) == 200
    assert min(found) > 0


def test_modulus_hash(broker: BrokerUnderTest, ch: ChannelUnderTest, x: str) -> None:
    ch.declare_exchange(x, "x-modulus-hash")
    names = queues(broker, ch, x, "", "", "")
    ch.confirm()
    for number in range(300):
        ch.publish(x, str(number))
        ch.publish(x, str(number))
    ch.await_confirms(600)
    found = depths(ch, names)
    assert sum(found) == 600
    assert all(depth > 60 and depth % 2 == 0 for depth in found)


# recent history


def test_recent_history(broker: BrokerUnderTest, ch: ChannelUnderTest, x: str) -> None:
    ch.declare_exchange(x, "x-recent-history", arguments={"x-recent-history-length": 3})
    ch.confirm()
    for number in range(5):
        ch.publish(x, f"k{number}", str(number).encode())
    ch.await_confirms(5)
    (name,) = queues(broker, ch, x, "")
    ch.publish(x, "new", b"new")
    ch.sync()
    found = [ch.get_one(name) for _ in range(4)]
    assert [message.body for message in found] == [b"2", b"3", b"4", b"new"]
    assert [message.routing_key for message in found] == ["k2", "k3", "k4", "new"]
    assert {message.exchange for message in found} == {x}


def test_recent_history_of_twenty(broker: BrokerUnderTest, ch: ChannelUnderTest, x: str) -> None:
    ch.declare_exchange(x, "x-recent-history")
    ch.confirm()
    for number in range(25):
        ch.publish(x, "", str(number).encode(), headers={"x-recent-history-no-store": number == 24})
    ch.await_confirms(25)
    (name,) = queues(broker, ch, x, "")
    ch.sync()
    assert ch.drain(name) == [str(number).encode() for number in range(4, 24)]


@pytest.mark.parametrize(("length", "shown"), [(0, "0"), (-1, "-1"), ("3", '<<"3">>')])
def test_recent_history_of_a_wrong_length(ch: ChannelUnderTest, x: str, length: Any, shown: str) -> None:
    ch.send(
        Exchange.Declare, exchange=x, exchange_type="x-recent-history", arguments={"x-recent-history-length": length}
    )
    ch.expect_close(
        406,
        f"Invalid argument {shown}, 'x-recent-history-length' must be a positive integer",
        cause=Exchange.Declare,
    )
