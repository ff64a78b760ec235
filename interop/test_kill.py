"""What kill -9 leaves of messages that clients held: their marks and counts, and those that have come back too often.

All is laid out in brokers of this file's own before they are killed once; the tests look at it afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from interop import brokers
from interop.raw_client import REPLY_TIMEOUT_S, Basic, ChannelUnderTest
from interop.under_test import BrokerUnderTest
from interop.waiting import until

QUORUM: dict[str, Any] = {"x-queue-type": "quorum"}
TO_DEAD: dict[str, Any] = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}


def lay_out(ch: ChannelUnderTest) -> None:
    """Everything that the tests look at."""
    ch.confirm()
    ch.declare("dead", durable=True)
    ch.declare("transient", durable=True, arguments=QUORUM)
    limited = QUORUM | {"x-delivery-limit": 0} | TO_DEAD
    for name, arguments in (("classic", {}), ("quorum", QUORUM), ("limit 0", limited)):
        _fill(ch, name, arguments, b"1", b"2")
        ch.get_one(name, no_ack=False)
    _fill(ch, "limit 1", QUORUM | {"x-delivery-limit": 1}, b"1", b"2")
    _give_back(ch, "limit 1")
    ch.get_one("limit 1", no_ack=False)
    for name in ("returned", "held"):
        ch.declare(name, durable=True, arguments=QUORUM | {"x-delivery-limit": 5})
        ch.bind(name, "amq.fanout", "")
    ch.publish("amq.fanout", "", b"of both", delivery_mode=2)
    ch.take(Basic.Ack)
    for _ in range(3):
        _give_back(ch, "returned")
    until(lambda: ch.depth("held")[0] == 1)
    ch.get_one("held", no_ack=False)
    ch.publish("", "transient", b"1", delivery_mode=1)
    ch.take(Basic.Ack)
    ch.sync()
    # Ours keeps what was done before it answers this; and RabbitMQ, killed at once, may not find the quorum queue again
    # that was declared last: who asks for its messages is never answered.
    ch.declare("last", durable=True, arguments=QUORUM)


def _fill(ch: ChannelUnderTest, name: str, arguments: dict[str, Any], *bodies: bytes) -> None:
    """Persistent messages, confirmed, in a queue of their own."""
    ch.declare(name, durable=True, arguments=arguments)
    for body in bodies:
        ch.publish("", name, body, delivery_mode=2)
        ch.take(Basic.Ack)
    until(lambda: ch.depth(name)[0] == len(bodies))


def _give_back(ch: ChannelUnderTest, name: str) -> None:
    ready = ch.depth(name)[0]
    ch.nack(ch.get_one(name, no_ack=False).delivery_tag)
    until(lambda: ch.depth(name)[0] == ready)


@pytest.fixture(scope="module")
def killed_brokers() -> Iterator[dict[brokers.Choice, brokers.BrokerProcess]]:
    started: dict[brokers.Choice, brokers.BrokerProcess] = {}
    yield started
    for process in started.values():
        process.stop()


@pytest.fixture
def ch(
    broker: BrokerUnderTest, killed_brokers: dict[brokers.Choice, brokers.BrokerProcess]
) -> Iterator[ChannelUnderTest]:
    """Channel 1 of a connection to a broker of the same kind that was killed and started again."""
    if broker.choice not in killed_brokers:
        process = broker.choice.start()
        killed_brokers[broker.choice] = process
        before = BrokerUnderTest(process, "laying out", REPLY_TIMEOUT_S)
        lay_out(before.channel())
        process.kill_and_restart()
        before.clean_up()
        looking = BrokerUnderTest(process, "until it is routed", REPLY_TIMEOUT_S)
        channel = looking.channel()
        until(lambda: channel.depth("dead")[0] == 1)
        looking.clean_up()
    after = BrokerUnderTest(killed_brokers[broker.choice], broker.test, REPLY_TIMEOUT_S)
    yield after.channel()
    after.clean_up()


def found(ch: ChannelUnderTest, name: str, count: int) -> list[tuple[bytes, bool, int]]:
    """All messages of a queue, with their marks and counts: taken, so each queue is looked at by one test.

    They are waited for: RabbitMQ's quorum queues get back what clients held only after it takes clients again.
    """
    until(lambda: ch.depth(name)[0] >= count)
    messages = []
    while (message := ch.get(name)) is not None:
        messages.append((message.body, message.redelivered, message.headers.get("x-delivery-count", 0)))
    return messages


def test_marks_of_a_classic_queue(broker: BrokerUnderTest, ch: ChannelUnderTest) -> None:
    all_are_marked = not broker.differs("redelivered-after-a-kill")
    assert found(ch, "classic", 2) == [(b"1", True, 0), (b"2", all_are_marked, 0)]


def test_counts_of_a_quorum_queue(ch: ChannelUnderTest) -> None:
    """Without a limit RabbitMQ 3.10.8 has what comes back sometimes before the others, and sometimes behind them."""
    assert sorted(found(ch, "quorum", 2)) == [(b"1", True, 1), (b"2", False, 0)]


def test_a_message_in_two_quorum_queues_has_two_counts(ch: ChannelUnderTest) -> None:
    assert found(ch, "returned", 1) == [(b"of both", True, 3)]
    assert found(ch, "held", 1) == [(b"of both", True, 1)]


@pytest.mark.parametrize("limit", [0, 1])
def test_what_has_come_back_too_often_is_gone(ch: ChannelUnderTest, limit: int) -> None:
    assert found(ch, f"limit {limit}", 1) == [(b"2", False, 0)]


def test_what_has_come_back_too_often_is_dead_lettered(ch: ChannelUnderTest) -> None:
    (body, _, _), *more = found(ch, "dead", 1)
    assert (body, more) == (b"1", [])


def test_a_quorum_queue_keeps_transient_messages(ch: ChannelUnderTest) -> None:
    assert found(ch, "transient", 1) == [(b"1", False, 0)]
