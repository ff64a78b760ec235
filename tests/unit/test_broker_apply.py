"""Arguments that change while a queue lives (``Queue.apply``), as RabbitMQ 3.10.8 does when a policy changes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pamqp.common import FieldTable

from amqp_broker.broker.arguments import QueueArguments
from tests.support.client import Client, ClientChannel
from tests.support.memory_broker import MemoryBroker

CLASSIC: FieldTable = {}
QUORUM: FieldTable = {"x-queue-type": "quorum"}

both = pytest.mark.parametrize("kind", [CLASSIC, QUORUM], ids=["classic", "quorum"])


@pytest.fixture
def channel(broker: MemoryBroker) -> ClientChannel:
    """A channel; how its bytes come is not the subject here."""
    return Client(broker).open().channel()


def declare(channel: ClientChannel, kind: FieldTable, count: int = 0, **arguments: Any) -> None:
    """Declare the queue ``q`` with numbered messages in it."""
    named = {"x-" + name.replace("_", "-"): value for name, value in arguments.items()}
    channel.declare("q", {**kind, **named}, durable=True)
    publish(channel, count)


def publish(channel: ClientChannel, count: int) -> None:
    """Numbered messages to the queue."""
    for number in range(count):
        channel.publish("", "q", b"%d" % number)


def apply(broker: MemoryBroker, **changes: Any) -> None:
    """What a policy does: it lets these arguments be in force, and those declared where it says nothing."""
    queue = broker.queue("q")
    queue.apply(replace(queue.declared, **changes))
    broker.settle()


def bodies(channel: ClientChannel, queue: str = "q") -> list[bytes]:
    """The bodies of a queue's messages, taken out."""
    return channel.drain(queue)


# --- length limits


@both
def test_a_lower_limit_drops_from_the_head_at_once(
    channel: ClientChannel, broker: MemoryBroker, kind: FieldTable
) -> None:
    declare(channel, kind, 10)
    apply(broker, length_max=4)
    assert broker.queue("q").ready_count == 4
    assert bodies(channel) == [b"6", b"7", b"8", b"9"]
    publish(channel, 6)
    assert bodies(channel) == [b"2", b"3", b"4", b"5"]


@both
def test_a_limit_of_bytes_too(channel: ClientChannel, broker: MemoryBroker, kind: FieldTable) -> None:
    declare(channel, kind, 10)
    apply(broker, length_bytes_max=4)
    assert bodies(channel) == [b"6", b"7", b"8", b"9"]


@both
def test_what_is_withdrawn_limits_no_longer(channel: ClientChannel, broker: MemoryBroker, kind: FieldTable) -> None:
    declare(channel, kind, 3)
    apply(broker, length_max=1)
    apply(broker)
    publish(channel, 10)
    assert len(bodies(channel)) == 11


@both
def test_a_limit_that_was_declared_is_back_when_another_is_withdrawn(
    channel: ClientChannel, broker: MemoryBroker, kind: FieldTable
) -> None:
    declare(channel, kind, 5, max_length=3)
    apply(broker, length_max=2)
    assert broker.queue("q").ready_count == 2
    apply(broker)
    publish(channel, 8)
    assert broker.queue("q").ready_count == 3
    assert broker.queue("q").table["x-max-length"] == 3


def test_messages_that_clients_have_do_not_count(channel: ClientChannel, broker: MemoryBroker) -> None:
    declare(channel, CLASSIC, 10)
    for _ in range(5):
        channel.get("q")
    apply(broker, length_max=4)
    assert broker.queue("q").ready_count == 4
    channel.nack(0, multiple=True, requeue=True)
    assert bodies(channel) == [b"6", b"7", b"8", b"9"]


def test_a_quorum_queue_with_more_returned_than_it_may_hold(channel: ClientChannel, broker: MemoryBroker) -> None:
    declare(channel, QUORUM, 10)
    for _ in range(5):
        channel.get("q")
    apply(broker, length_max=4)
    channel.nack(0, multiple=True, requeue=True)
    assert bodies(channel) == [b"1", b"2", b"3", b"4"]


@pytest.mark.parametrize(("kind", "left"), [(CLASSIC, 4), (QUORUM, 10)], ids=["classic", "quorum"])
def test_a_limit_that_refuses(channel: ClientChannel, broker: MemoryBroker, kind: FieldTable, left: int) -> None:
    """A classic queue that did not refuse before drops first; a quorum queue only refuses."""
    declare(channel, kind, 10)
    apply(broker, length_max=4, overflow="reject-publish")
    assert broker.queue("q").ready_count == left
    publish(channel, 3)
    assert broker.queue("q").ready_count == left
    apply(broker, length_max=4, overflow="drop-head")
    assert broker.queue("q").ready_count == 4


def test_what_a_refusing_queue_holds_stays_when_its_limit_is_lowered(
    channel: ClientChannel, broker: MemoryBroker
) -> None:
    declare(channel, CLASSIC, 10, max_length=10, overflow="reject-publish")
    apply(broker, length_max=4)
    assert broker.queue("q").ready_count == 10
    publish(channel, 1)
    assert broker.queue("q").ready_count == 10
    apply(broker, length_max=20)
    publish(channel, 1)
    assert broker.queue("q").ready_count == 11


def test_a_quorum_queue_refuses_anew_under_other_limits(channel: ClientChannel, broker: MemoryBroker) -> None:
    declare(channel, QUORUM, 6, max_length=4, overflow="reject-publish")
    assert broker.queue("q").ready_count == 5
    apply(broker, length_max=6)
    publish(channel, 5)
    assert broker.queue("q").ready_count == 7


# --- dead letters


@both
def test_what_a_limit_drops_goes_where_it_says(channel: ClientChannel, broker: MemoryBroker, kind: FieldTable) -> None:
    channel.declare("dead")
    declare(channel, kind, 10)
    apply(broker, length_max=4, dead_letter_exchange="", dead_letter_routing_key="dead")
    first = channel.get("dead")
    assert first is not None
    assert (first.body, first.headers["x-death"][0]["reason"]) == (b"0", "maxlen")
    assert bodies(channel, "dead") == [b"1", b"2", b"3", b"4", b"5"]


def test_another_routing_key_in_the_same_second(channel: ClientChannel, broker: MemoryBroker) -> None:
    channel.declare("one")
    channel.declare("two")
    declare(channel, CLASSIC, 2)
    for key in ("one", "two"):
        apply(broker, dead_letter_exchange="", dead_letter_routing_key=key)
        message = channel.get("q")
        assert message is not None
        channel.nack(0, multiple=True, requeue=False)
    assert (bodies(channel, "one"), bodies(channel, "two")) == ([b"0"], [b"1"])


def test_without_an_exchange_the_dead_are_gone(channel: ClientChannel, broker: MemoryBroker) -> None:
    channel.declare("dead")
    declare(channel, CLASSIC, 1, dead_letter_exchange="", dead_letter_routing_key="dead")
    apply(broker, dead_letter_exchange=None, dead_letter_routing_key=None)
    channel.get("q")
    channel.nack(0, multiple=True, requeue=False)
    assert bodies(channel, "dead") == []


# --- time


@both
def test_a_time_to_live_is_for_what_comes_from_now_on(
    channel: ClientChannel, broker: MemoryBroker, kind: FieldTable
) -> None:
    declare(channel, kind, 1)
    apply(broker, message_ttl_ms=1000)
    publish(channel, 1)
    broker.advance(5000)
    assert broker.queue("q").ready_count == 2, "the head has no time of its own, and the others wait behind it"
    channel.get("q", no_ack=True)
    assert broker.queue("q").ready_count == 0


@both
def test_what_has_a_time_to_live_keeps_it(channel: ClientChannel, broker: MemoryBroker, kind: FieldTable) -> None:
    declare(channel, kind)
    apply(broker, message_ttl_ms=4000)
    publish(channel, 2)
    apply(broker, message_ttl_ms=500)
    broker.advance(2000)
    assert broker.queue("q").ready_count == 2
    apply(broker)
    broker.advance(1999)
    assert broker.queue("q").ready_count == 2
    broker.advance(1)
    assert broker.queue("q").ready_count == 0
    publish(channel, 1)
    broker.advance(100_000)
    assert broker.queue("q").ready_count == 1


@both
def test_an_unused_queue_goes_after_the_time_that_is_in_force(
    channel: ClientChannel, broker: MemoryBroker, kind: FieldTable
) -> None:
    declare(channel, kind, expires=10_000)
    broker.advance(5000)
    apply(broker, expires_ms=3000)
    broker.advance(2999)
    assert "q" in broker.virtual_host.queues
    broker.advance(1)
    assert "q" not in broker.virtual_host.queues


def test_a_time_that_is_withdrawn_lets_the_queue_live(channel: ClientChannel, broker: MemoryBroker) -> None:
    declare(channel, CLASSIC)
    apply(broker, expires_ms=3000)
    broker.advance(2000)
    apply(broker)
    broker.advance(100_000)
    assert "q" in broker.virtual_host.queues


def test_another_argument_does_not_begin_the_time_anew(channel: ClientChannel, broker: MemoryBroker) -> None:
    declare(channel, CLASSIC, expires=3000)
    broker.advance(2000)
    apply(broker, length_max=5)
    broker.advance(1000)
    assert "q" not in broker.virtual_host.queues


def test_a_queue_with_consumers_does_not_go(channel: ClientChannel, broker: MemoryBroker) -> None:
    declare(channel, CLASSIC)
    tag = channel.consume("q")
    apply(broker, expires_ms=3000)
    broker.advance(10_000)
    assert "q" in broker.virtual_host.queues
    broker.queue("q").remove_consumer(next(iter(broker.queue("q").consumers)))
    channel.client.connection.channels[1].consuming.consumers.pop(tag)
    broker.advance(3000)
    assert "q" not in broker.virtual_host.queues


# --- what only quorum queues know, and what nobody can change


def test_a_delivery_limit_counts_the_returns_before_it(channel: ClientChannel, broker: MemoryBroker) -> None:
    declare(channel, QUORUM, 1)
    for tag in range(1, 6):
        channel.get("q")
        channel.nack(tag, requeue=True)
    apply(broker, delivery_limit=2)
    assert broker.queue("q").ready_count == 1
    channel.get("q")
    channel.nack(6, requeue=True)
    assert broker.queue("q").ready_count == 0


def test_type_priorities_and_single_active_consumer_stay_as_declared(
    channel: ClientChannel, broker: MemoryBroker
) -> None:
    declare(channel, CLASSIC, 2, max_priority=3, single_active_consumer=True)
    queue = broker.queue("q")
    queue.apply(QueueArguments(queue_type="quorum", priority_max=9, length_max=1))
    assert queue.arguments == replace(queue.declared, length_max=1)
    assert bodies(channel) == [b"1"]


def test_what_was_declared_is_what_counts_when_it_is_declared_again(
    channel: ClientChannel, broker: MemoryBroker
) -> None:
    declare(channel, CLASSIC, max_length=5)
    apply(broker, length_max=2)
    declare(channel, CLASSIC, max_length=5)
