"""Alarms: who is blocked while the disk is low, and what it is told.

Both brokers are started anew with a limit of free disk space that no machine keeps.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from amqp_broker.protocols.amqp10.performatives import FLOW
from interop import brokers
from interop.amqp10_client import Amqp10Client
from interop.raw_client import REPLY_TIMEOUT_S, Basic, Client, Connection, Queue
from interop.under_test import BrokerUnderTest

QUIET_S = 0.2


def start(choice: brokers.Choice) -> brokers.BrokerProcess:
    return choice.start(
        config="disk_free_limit.absolute = 900000GB\n",
        environment={"AMQP_BROKER_DISK_FREE_LIMIT_BYTES": str(900_000 * 10**9)},
    )


@pytest.fixture(scope="module")
def full_brokers() -> Iterator[dict[brokers.Choice, brokers.BrokerProcess]]:
    started: dict[brokers.Choice, brokers.BrokerProcess] = {}
    yield started
    for process in started.values():
        process.stop()


@pytest.fixture
def full(
    broker: BrokerUnderTest, full_brokers: dict[brokers.Choice, brokers.BrokerProcess]
) -> Iterator[BrokerUnderTest]:
    """A broker of the same kind that is low on disk."""
    if broker.choice not in full_brokers:
        full_brokers[broker.choice] = start(broker.choice)
    under_test = BrokerUnderTest(full_brokers[broker.choice], broker.test, REPLY_TIMEOUT_S)
    yield under_test
    under_test.clean_up()


def test_who_does_not_publish_is_not_blocked(full: BrokerUnderTest) -> None:
    ch = full.channel()
    q = full.queue_name()
    ch.declare(q, exclusive=True)
    ch.consume(q)
    ch.sync()


def test_who_publishes_is_told(full: BrokerUnderTest, q: str) -> None:
    client = full.connect()
    client.channel().publish("", q, b"body")
    assert client.expect(Connection.Blocked).reason == "low on disk"


def test_it_is_told_once_and_not_heard_again(full: BrokerUnderTest, q: str) -> None:
    client = full.connect()
    ch = client.channel()
    ch.publish("", q, b"1")
    client.expect(Connection.Blocked)
    ch.publish("", q, b"2")
    ch.send(Basic.Get, queue=q)
    client.nothing_within(QUIET_S)


def test_who_does_not_understand_it_is_blocked_all_the_same(full: BrokerUnderTest, q: str) -> None:
    client = full.connect(capabilities={})
    ch = client.channel()
    ch.publish("", q, b"1")
    ch.send(Basic.Get, queue=q)
    client.nothing_within(QUIET_S)


def test_others_go_on(full: BrokerUnderTest, q: str) -> None:
    blocked: Client = full.connect()
    blocked.channel().publish("", q, b"1")
    blocked.expect(Connection.Blocked)
    other = full.connect().channel()
    other.declare(full.queue_name(), exclusive=True)
    other.sync()


def test_trap_a_queue_declared_while_the_disk_is_low_is_there_and_nobody_gets_an_error(full: BrokerUnderTest) -> None:
    """Another broker answered 406 and made the queue all the same."""
    ch = full.channel()
    q = full.queue_name()
    ch.declare(q, durable=True)
    other = full.connect().channel()
    other.call(Queue.Declare, queue=q, passive=True)
    other.call(Queue.Delete, queue=q)


def test_what_is_published_meanwhile_waits(full: BrokerUnderTest) -> None:
    other = full.connect().channel()
    q = full.queue_name()
    other.declare(q, exclusive=True)
    client = full.connect()
    ch = client.channel()
    ch.publish("", q, b"1")
    client.expect(Connection.Blocked)
    ch.publish("", q, b"2")
    client.nothing_within(QUIET_S)
    assert other.declare(q, exclusive=True).message_count == 0


def test_who_sends_by_amqp_1_0_has_credit_and_no_window_and_is_heard(full: BrokerUnderTest) -> None:
    if full.version < (4, 0):
        pytest.skip("AMQP 1.0 is RabbitMQ 4's own")
    q = full.queue_name()
    full.channel().declare(q, durable=True)
    with Amqp10Client(full.address.port) as client:
        assert client.begin_answer.field(2) == 0
        client.sender(f"/queues/{q}")
        client.receiver(f"/queues/{q}")
        client.flow(1, 5, drain=True)
        flow = client.expect(FLOW)
        assert (flow.field(1), flow.field(4), flow.field(6)) == (0, 1, 0)
