"""Deliveries that stay unacknowledged for too long, with a clock that is moved by hand."""

from __future__ import annotations

import pytest
from pamqp import commands

from tests.support.client import Client, ClientChannel
from tests.support.memory_broker import MemoryBroker

HALF_AN_HOUR_MS = 1_800_000
MINUTE_MS = 60_000


@pytest.fixture
def channel(broker: MemoryBroker) -> ClientChannel:
    """A channel with two messages in a queue."""
    channel = Client(broker).open().channel()
    channel.declare("q")
    for number in range(2):
        channel.publish("", "q", b"%d" % number)
    return channel


def test_the_channel_is_closed_at_the_sweep_after_half_an_hour(channel: ClientChannel, broker: MemoryBroker) -> None:
    channel.qos(1)
    channel.consume("q")
    assert len(channel.deliveries()) == 1
    broker.advance(HALF_AN_HOUR_MS)
    assert channel.methods() == []
    broker.advance(MINUTE_MS)
    close = channel.one(commands.Channel.Close)
    assert (close.reply_code, close.class_id, close.method_id) == (406, 0, 0)
    assert close.reply_text == (
        "PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out. Timeout value used: 1800000 ms. "
        "This timeout value can be configured, see consumers doc guide to learn more"
    )
    assert broker.queue("q").ready_count == 2
    assert broker.timers.next_deadline_ms() is None


def test_deliveries_that_are_acknowledged_in_time(channel: ClientChannel, broker: MemoryBroker) -> None:
    channel.qos(1)
    channel.consume("q")
    for _ in range(2):
        delivery = channel.deliveries()[0].expect(commands.Basic.Deliver)
        broker.advance(HALF_AN_HOUR_MS - 1)
        channel.send(commands.Basic.Ack(delivery.delivery_tag or 0))
    broker.advance(10 * HALF_AN_HOUR_MS)
    assert channel.methods() == []


def test_what_was_got(channel: ClientChannel, broker: MemoryBroker) -> None:
    assert channel.get("q") is not None
    broker.advance(HALF_AN_HOUR_MS + MINUTE_MS)
    assert channel.one(commands.Channel.Close).reply_code == 406


def test_nobody_looks_where_nothing_can_be_late(channel: ClientChannel, broker: MemoryBroker) -> None:
    channel.consume("q", no_ack=True)
    assert broker.timers.next_deadline_ms() is None
    other = channel.client.channel(2)
    other.declare("other")
    other.publish("", "other", b"x")
    message = other.get("other")
    assert message is not None
    assert broker.timers.next_deadline_ms() is not None
    other.send(commands.Basic.Ack(1))
    broker.advance(MINUTE_MS)
    assert broker.timers.next_deadline_ms() is None


def test_a_channel_that_is_closed_is_not_looked_at(channel: ClientChannel, broker: MemoryBroker) -> None:
    channel.consume("q")
    channel.received()
    channel.call(commands.Channel.Close(200, "done", 0, 0))
    assert broker.timers.next_deadline_ms() is None


def test_patience_without_end() -> None:
    broker = MemoryBroker(consumer_timeout_ms=0)
    channel = Client(broker).open().channel()
    channel.declare("q")
    channel.publish("", "q", b"x")
    channel.consume("q")
    assert len(channel.deliveries()) == 1
    broker.advance(100 * HALF_AN_HOUR_MS)
    assert channel.methods() == []
    assert broker.timers.next_deadline_ms() is None
