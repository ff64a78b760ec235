"""The firehose: which copies are made, with which headers, and of what none are."""

from __future__ import annotations

from typing import Any

import pytest

from amqp_broker.broker.inspection import Inspection
from amqp_broker.broker.problems import NotThere
from tests.support.client import Client, ClientChannel, Received
from tests.support.memory_broker import MemoryBroker


@pytest.fixture
def channel(broker: MemoryBroker) -> ClientChannel:
    """A channel beside a queue ``trace`` that gets all copies."""
    channel = Client(broker).open().channel()
    channel.declare("trace")
    channel.bind("trace", "amq.rabbitmq.trace", "#")
    channel.declare("q")
    return channel


def turn(broker: MemoryBroker, is_on: bool) -> None:
    broker.handle(lambda: broker.administration.set_tracing("/", is_on=is_on))


def copies(channel: ClientChannel) -> list[Received]:
    found = []
    while (copy := channel.get("trace", no_ack=True)) is not None:
        found.append(copy)
    return found


def headers_of(copy: Received) -> dict[str, Any]:
    headers = dict(copy.headers)
    assert headers.pop("connection")
    assert headers.pop("node")
    return headers


def test_a_publish_and_its_delivery(broker: MemoryBroker, channel: ClientChannel) -> None:
    turn(broker, True)
    channel.publish("", "q", b"body", message_id="m", headers={"a": 1}, delivery_mode=2)
    channel.get("q")
    published, delivered = copies(channel)
    common = {
        "exchange_name": "",
        "routing_keys": ["q"],
        "properties": {"message_id": "m", "headers": {"a": 1}, "delivery_mode": 2},
        "vhost": "/",
        "channel": 1,
        "user": "guest",
    }
    assert (published.method.routing_key, published.body) == ("publish.", b"body")  # type: ignore[attr-defined]
    assert headers_of(published) == {**common, "routed_queues": ["q"]}
    assert (delivered.method.routing_key, delivered.body) == ("deliver.q", b"body")  # type: ignore[attr-defined]
    assert headers_of(delivered) == {**common, "redelivered": 0}


def test_what_goes_nowhere_is_copied_and_what_is_refused_is_not(broker: MemoryBroker, channel: ClientChannel) -> None:
    turn(broker, True)
    channel.publish("amq.topic", "no.route", b"")
    (copy,) = copies(channel)
    assert (copy.method.routing_key, copy.headers["routed_queues"]) == ("publish.amq.topic", [])  # type: ignore[attr-defined]
    channel.publish("amq.rabbitmq.trace", "x", b"")
    assert channel.closed_with().reply_code == 403
    assert Client(broker).open().channel().message_count("trace") == 0


def test_copies_are_not_copied(broker: MemoryBroker, channel: ClientChannel) -> None:
    turn(broker, True)
    channel.consume("trace", no_ack=True)
    channel.publish("", "q", b"1")
    assert channel.bodies() == [b"1"]


def test_it_is_on_where_it_was_turned_on(broker: MemoryBroker, channel: ClientChannel) -> None:
    assert not broker.observers.present
    broker.administration.add_virtual_host("other")
    broker.handle(lambda: broker.administration.set_tracing("other", is_on=True))
    channel.publish("", "q", b"1")
    assert copies(channel) == []
    assert {host["name"]: host["tracing"] for host in Inspection(broker).virtual_hosts()} == {"/": False, "other": True}
    broker.handle(lambda: broker.administration.delete_virtual_host("other"))
    assert not broker.observers.present
    turn(broker, True)
    turn(broker, False)
    channel.publish("", "q", b"2")
    assert copies(channel) == []
    assert not broker.observers.present
    with pytest.raises(NotThere):
        broker.administration.set_tracing("nowhere", is_on=True)


def test_a_long_name_is_cut_to_fit_the_key(broker: MemoryBroker, channel: ClientChannel) -> None:
    turn(broker, True)
    name = "n" * 255
    channel.declare(name)
    channel.publish("", name, b"1")
    channel.get(name)
    _, delivered = copies(channel)
    assert delivered.method.routing_key == f"deliver.{name}"[:255]  # type: ignore[attr-defined]
