"""Shovels within a broker: the same parameters carry the same messages, as the same, and end when they are done."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from interop.brokers import Choice, OurBroker, RabbitMQ
from interop.operator import Operator
from interop.raw_client import ChannelUnderTest
from interop.started_brokers import StartedBrokers
from interop.under_test import BrokerUnderTest
from interop.waiting import until

FEATURE = "shovels"
PLUGINS = ("rabbitmq_shovel",)


class WithShovels(StartedBrokers):
    """The brokers of this module, each started when it is first asked."""

    def start(self, choice: Choice) -> RabbitMQ | OurBroker:
        return choice.start(plugins=PLUGINS)


@pytest.fixture(scope="module")
def broker_processes() -> Iterator[WithShovels]:
    with WithShovels() as started:
        yield started


@pytest.fixture
def operator(broker: BrokerUnderTest) -> Operator:
    process: Any = broker.process
    return Operator(process)


def fill(ch: ChannelUnderTest, queue: str, count: int) -> None:
    ch.declare(queue, durable=True)
    ch.confirm()
    for number in range(count):
        ch.publish("", queue, b"%d" % number, delivery_mode=2, headers={"own": 1}, message_id=str(number))
    ch.await_confirms(count)


def test_from_a_queue_to_a_queue_until_it_is_empty(
    operator: Operator, ch: ChannelUnderTest, broker: BrokerUnderTest, q: str
) -> None:
    to = broker.queue_name("to")
    fill(ch, q, 3)
    value = {
        "src-uri": "amqp://", "src-queue": q, "dest-uri": "amqp://", "dest-queue": to,
        "src-delete-after": "queue-length", "add-forward-headers": True,
    }  # fmt: skip
    operator.set_parameter("shovel", "s", value)
    ch.declare(to, durable=True)
    until(lambda: ch.depth(to)[0] == 3 and ch.depth(q)[0] == 0)
    messages = [ch.get_one(to) for _ in range(3)]
    assert [message.body for message in messages] == [b"0", b"1", b"2"]
    first = messages[0]
    assert (first.exchange, first.routing_key) == ("", to)
    assert first.properties["message_id"] == "0"
    headers = first.properties["headers"]
    assert headers["own"] == 1
    (told,) = headers["x-shovelled"]
    del told["shovelled-by"]
    assert told == {
        "shovel-type": "dynamic",
        "shovel-name": "s",
        "shovel-vhost": "/",
        "src-uri": "amqp://",
        "dest-uri": "amqp://",
        "src-queue": q,
        "dest-queue": to,
    }
    until(lambda: not operator.export().get("parameters"))  # it has gone by itself


@pytest.mark.parametrize("mode", ["on-confirm", "on-publish", "no-ack"])
def test_from_an_exchange_to_an_exchange(
    operator: Operator, ch: ChannelUnderTest, broker: BrokerUnderTest, q: str, x: str, mode: str
) -> None:
    other = broker.exchange_name("other")
    ch.declare_exchange(x, "topic", durable=True)
    ch.declare_exchange(other, "direct", durable=True)
    ch.declare(q, durable=True)
    ch.bind(q, other, "a.b")
    value = {
        "src-uri": "amqp://", "src-exchange": x, "src-exchange-key": "a.#", "dest-uri": "amqp://",
        "dest-exchange": other, "ack-mode": mode,
    }  # fmt: skip
    operator.set_parameter("shovel", "s", value)

    def has_arrived() -> bool:
        ch.publish(x, "a.b", b"body")
        ch.publish(x, "b.a", b"other")
        return ch.depth(q)[0] > 0

    until(has_arrived)
    message = ch.get_one(q)
    operator.clear_parameter("shovel", "s")
    assert (message.exchange, message.routing_key, message.body) == (other, "a.b", b"body")
    assert "x-shovelled" not in message.properties.get("headers", {})


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"src-queue": "a", "src-exchange": "b"}, "Cannot specify 'src-exchange' and 'src-queue'"),
        ({}, "Must specify 'src-exchange' or 'src-queue'"),
        (
            {"src-queue": "a", "ack-mode": "no-ack", "src-delete-after": 5},
            "Cannot specify 'no-ack' and numerical 'delete-after'",
        ),
        ({"src-queue": "a", "colour": "red"}, 'Unrecognised terms [{<<"colour">>,<<"red">>}] in s'),
    ],
)
def test_what_is_none(operator: Operator, more: dict[str, object], problem: str) -> None:
    with pytest.raises(RuntimeError) as refused:
        operator.set_parameter("shovel", "s", {"src-uri": "amqp://", "dest-uri": "amqp://", "dest-queue": "b", **more})
    assert problem in str(refused.value)
