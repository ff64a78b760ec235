"""Deliveries that nobody acknowledges: the channel is closed after consumer_timeout.

RabbitMQ looks once a minute and waits half an hour by default, so both brokers are started anew with less patience.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from interop import brokers
from interop.raw_client import REPLY_TIMEOUT_S, Basic, Channel, ChannelUnderTest, Queue, Tx
from interop.under_test import BrokerUnderTest
from interop.waiting import Lifetime, let_pass, until

# Long enough that an acknowledgement due in a fifth of it is in time, on most machines.
TIMEOUT_MS = 1000
# RabbitMQ closes such a channel again at each sweep, until it has had the close-ok.
SWEEP_MS = 600
TEXT = (
    f"delivery acknowledgement on channel 1 timed out. Timeout value used: {TIMEOUT_MS} ms. "
    "This timeout value can be configured, see consumers doc guide to learn more"
)


def start(choice: brokers.Choice) -> brokers.BrokerProcess:
    return choice.start(
        config=f"consumer_timeout = {TIMEOUT_MS}\n",
        advanced=f"[{{rabbit, [{{channel_tick_interval, {SWEEP_MS}}}]}}].",
        environment={
            "AMQP_BROKER_CONSUMER_TIMEOUT_MS": str(TIMEOUT_MS),
            "AMQP_BROKER_CONSUMER_TIMEOUT_SWEEP_MS": str(SWEEP_MS),
        },
    )


@pytest.fixture(scope="module")
def impatient_brokers() -> Iterator[dict[brokers.Choice, brokers.BrokerProcess]]:
    started: dict[brokers.Choice, brokers.BrokerProcess] = {}
    yield started
    for process in started.values():
        process.stop()


@pytest.fixture
def ch(
    broker: BrokerUnderTest, impatient_brokers: dict[brokers.Choice, brokers.BrokerProcess]
) -> Iterator[ChannelUnderTest]:
    """Channel 1 of a connection to an impatient broker of the same kind."""
    if broker.choice not in impatient_brokers:
        impatient_brokers[broker.choice] = start(broker.choice)
    impatient = BrokerUnderTest(impatient_brokers[broker.choice], broker.test, REPLY_TIMEOUT_S)
    yield impatient.channel()
    impatient.clean_up()


def fill(ch: ChannelUnderTest, q: str, *messages: bytes) -> None:
    ch.declare(q, exclusive=True)
    ch.publish_all(q, messages)


def test_a_delivery_that_is_not_acknowledged(ch: ChannelUnderTest, q: str) -> None:
    fill(ch, q, b"1", b"2")
    ch.qos(1)
    ch.consume(q)
    assert ch.expect(Basic.Deliver).body == b"1"
    close = ch.expect_close(406, TEXT)
    assert (close.class_id, close.method_id) == (0, 0)
    ch.send(Channel.Open)
    while (came := ch.next()).method is Channel.Close:  # of the next sweep, where the close-ok came behind that
        assert came.typed == close.typed
    assert came.method is Channel.OpenOk
    found = ch.get_one(q)
    assert (found.body, found.redelivered) == (b"1", True)


def test_a_message_that_was_got(ch: ChannelUnderTest, q: str) -> None:
    fill(ch, q, b"1")
    ch.get_one(q, no_ack=False)
    ch.expect_close(406, TEXT)


def test_in_time(ch: ChannelUnderTest, q: str) -> None:
    """Each delivery has the whole time, however long the consumer has been there."""
    fill(ch, q)
    ch.consume(q)
    for tag in range(1, 7):
        life = Lifetime(TIMEOUT_MS)
        ch.publish("", q, b"1")
        ch.expect(Basic.Deliver)
        let_pass(TIMEOUT_MS // 5)
        ch.ack(tag)
        ch.send(Channel.Flow, active=True)
        if ch.next().method is Channel.Close:
            assert life.is_over  # a machine that has much to do was late
            return
    let_pass(TIMEOUT_MS + 2 * SWEEP_MS)
    ch.expect_nothing(q)


def test_the_oldest_counts(ch: ChannelUnderTest, q: str) -> None:
    fill(ch, q, *[b"1"] * 5)
    ch.consume(q)
    ch.deliveries(5)
    for tag in (5, 4, 3, 2):
        ch.ack(tag)
    ch.expect_close(406, TEXT)


def test_without_acknowledgement(ch: ChannelUnderTest, q: str) -> None:
    fill(ch, q, b"1")
    ch.consume(q, no_ack=True)
    ch.expect(Basic.Deliver)
    let_pass(TIMEOUT_MS + 2 * SWEEP_MS)
    ch.expect_nothing(q)


def test_after_the_consumer_was_cancelled(ch: ChannelUnderTest, q: str) -> None:
    fill(ch, q)
    tag = ch.consume(q)
    with ch.client.in_one_write():  # so that it is cancelled in time
        ch.publish("", q, b"1")
        ch.send(Basic.Cancel, consumer_tag=tag)
    ch.expect(Basic.Deliver)
    ch.expect(Basic.CancelOk)
    ch.expect_close(406, TEXT)


def test_after_the_queue_was_deleted(ch: ChannelUnderTest, q: str) -> None:
    fill(ch, q, b"1")
    with ch.client.in_one_write():  # so that it is deleted in time
        ch.send(Basic.Get, queue=q)
        ch.send(Queue.Delete, queue=q)
    ch.expect(Basic.GetOk)
    ch.expect(Queue.DeleteOk)
    ch.expect_close(406, TEXT)


def test_acknowledged_in_a_transaction(ch: ChannelUnderTest, q: str) -> None:
    """What waits for the commit is acknowledged; a rollback takes that back."""
    fill(ch, q, b"1")
    ch.call(Tx.Select)
    with ch.client.in_one_write():  # so that it is acknowledged in time
        ch.send(Basic.Get, queue=q)
        ch.ack(1)
    ch.expect(Basic.GetOk)
    let_pass(TIMEOUT_MS + 2 * SWEEP_MS)
    ch.expect_nothing(q)
    ch.call(Tx.Rollback)
    ch.expect_close(406, TEXT)


def test_other_channels_go_on(ch: ChannelUnderTest, q: str) -> None:
    fill(ch, q, b"1", b"2")
    other = ch.client.channel()
    ch.get_one(q, no_ack=False)
    ch.expect_close(406, TEXT)
    until(lambda: other.depth(q)[0] == 2)  # RabbitMQ gives the message back when it gets round to it
    assert sorted(other.drain(q)) == [b"1", b"2"]
