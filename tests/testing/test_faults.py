"""``broker.fail``: each fault, as a stock client meets it."""

from __future__ import annotations

import pytest
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import ConnectionClosedByBroker, NackError, StreamLostError

from amqp_broker.testing import Broker
from tests.testing.conftest import Connect

UNBLOCKED = "connection.unblocked"


@pytest.fixture(autouse=True)
def _queue(channel: BlockingChannel) -> None:
    channel.queue_declare("q")


def test_the_next_publishes_are_refused(broker: Broker, channel: BlockingChannel) -> None:
    broker.fail.nack_next_publish(count=2)
    for _ in range(2):
        with pytest.raises(NackError):
            channel.basic_publish("", "q", b"refused")
    channel.basic_publish("", "q", b"taken")
    assert broker.queue("q").bodies == [b"taken"]
    assert [entry.queues for entry in broker.published] == [(), (), ("q",)]
    assert broker.published[0].reason.startswith("refused")


def test_a_publish_that_no_queue_would_get_is_refused_as_well(broker: Broker, channel: BlockingChannel) -> None:
    broker.fail.nack_next_publish()
    with pytest.raises(NackError):
        channel.basic_publish("", "nowhere", b"refused", mandatory=True)
    channel.basic_publish("", "nowhere", b"confirmed, and nobody has it")
    assert broker.published[0].reason.startswith("refused")
    assert [entry.body for entry in broker.unrouted] == [b"confirmed, and nobody has it"]


def test_a_publish_is_lost_with_its_connection(broker: Broker, channel: BlockingChannel) -> None:
    broker.fail.lose_next_publish()
    with pytest.raises(StreamLostError):
        channel.basic_publish("", "q", b"lost")
    assert broker.queue("q").bodies == []


def test_a_connection_drops_before_the_confirm(broker: Broker, channel: BlockingChannel) -> None:
    broker.fail.drop_before_confirm()
    with pytest.raises(StreamLostError):
        channel.basic_publish("", "q", b"taken, but who knows")
    assert broker.queue("q").bodies == [b"taken, but who knows"]


def test_a_connection_drops_after_the_confirm(broker: Broker, channel: BlockingChannel) -> None:
    broker.fail.drop_after_confirm()
    channel.basic_publish("", "q", b"confirmed")
    with pytest.raises(StreamLostError):
        channel.basic_publish("", "q", b"too late")
    assert broker.queue("q").bodies == [b"confirmed"]


def test_only_the_publishers_connection_drops(broker: Broker, connect: Connect) -> None:
    bystander, publisher = connect().channel(), connect().channel()
    broker.fail.drop_after_confirm()
    publisher.basic_publish("", "q", b"no confirms here")
    assert broker.queue("q").bodies == [b"no confirms here"]
    with pytest.raises(StreamLostError):
        publisher.queue_declare("q")
    bystander.queue_declare("q", passive=True)


def test_all_connections_drop(broker: Broker, channel: BlockingChannel, connect: Connect) -> None:
    connect()
    assert broker.fail.drop_connections() == 2
    with pytest.raises(StreamLostError):
        channel.queue_declare("q")
    assert broker.connections == []


def test_connections_are_closed_by_an_administrator(broker: Broker, channel: BlockingChannel) -> None:
    assert broker.fail.close_connections("maintenance") == 1
    with pytest.raises(ConnectionClosedByBroker, match="maintenance"):
        channel.queue_declare("q")


def test_consumers_are_cancelled(broker: Broker, channel: BlockingChannel) -> None:
    cancelled: list[str] = []
    channel.add_on_cancel_callback(lambda frame: cancelled.append(frame.method.consumer_tag))
    tag = channel.basic_consume("q", lambda *_: None)
    assert broker.queue("q").consumers == (tag,)
    assert broker.fail.cancel_consumers("q") == 1
    channel.connection.process_data_events(0.1)
    assert cancelled == [tag]
    assert broker.queue("q").consumers == ()
    with pytest.raises(LookupError, match="no queue 'nope'"):
        broker.fail.cancel_consumers("nope")


@pytest.mark.parametrize("resource", ["memory", "disk"])
def test_an_alarm_blocks_publishers_until_it_is_cleared(broker: Broker, connect: Connect, resource: str) -> None:
    connection = connect()
    channel, told = connection.channel(), []
    connection.add_on_connection_blocked_callback(lambda _, frame: told.append(frame.method.reason))
    connection.add_on_connection_unblocked_callback(lambda *_: told.append(UNBLOCKED))
    alarm = broker.fail.memory_alarm if resource == "memory" else broker.fail.disk_alarm
    with alarm():
        channel.basic_publish("", "q", b"is noticed")
        assert broker.queue("q").message_count == 0
        channel.basic_publish("", "q", b"waits")
        connection.process_data_events(0.1)
        assert told == [f"low on {resource}"]
        assert broker.queue("q").message_count == 0
    connection.process_data_events(0.1)
    assert told == [f"low on {resource}", UNBLOCKED]
    assert broker.queue("q").message_count == 2


def test_an_alarm_outlives_a_restart(broker: Broker, connect: Connect) -> None:
    alarm = broker.fail.memory_alarm()
    broker.restart()
    channel = connect().channel()
    channel.queue_declare("q")
    for body in (b"one", b"two"):
        channel.basic_publish("", "q", body)
        broker.wait_idle()
    assert broker.queue("q").message_count == 0
    alarm.clear()
    alarm.clear()
    assert broker.queue("q").message_count == 2


def test_deliveries_are_held(broker: Broker, channel: BlockingChannel, connect: Connect) -> None:
    got: list[bytes] = []
    consumer = connect().channel()
    consumer.basic_consume("q", lambda *delivery: got.append(delivery[3]), auto_ack=True)
    with broker.fail.hold_deliveries():
        later = connect().channel()
        later.basic_consume("q", lambda *_: pytest.fail("a consumer that comes later waits as well"), auto_ack=True)
        channel.basic_publish("", "q", b"1")
        channel.basic_publish("", "q", b"2")
        consumer.connection.process_data_events(0.05)
        later.connection.process_data_events(0.05)
        assert got == []
        later.close()
    consumer.connection.process_data_events(0.1)
    assert got == [b"1", b"2"]


def test_deliveries_are_delayed_on_the_brokers_clock(broker: Broker, channel: BlockingChannel) -> None:
    broker.clock.freeze()
    got: list[bytes] = []
    channel.basic_consume("q", lambda *delivery: got.append(delivery[3]), auto_ack=True)
    broker.fail.delay_deliveries(seconds=30)
    channel.basic_publish("", "q", b"slow")
    broker.clock.advance(seconds=29)
    channel.connection.process_data_events(0.05)
    assert got == []
    broker.clock.advance(seconds=1)
    channel.connection.process_data_events(0.1)
    assert got == [b"slow"]


def test_each_fault_ends_by_itself(broker: Broker, channel: BlockingChannel) -> None:
    """The inner one of two does not end the outer one."""
    got: list[bytes] = []
    channel.basic_consume("q", lambda *delivery: got.append(delivery[3]), auto_ack=True)
    with broker.fail.hold_deliveries():
        with broker.fail.hold_deliveries():
            channel.basic_publish("", "q", b"held")
        with broker.fail.memory_alarm():
            with broker.fail.memory_alarm():
                pass
            assert broker._engine.broker.alarms.are_raised
        assert not broker._engine.broker.alarms.are_raised
        with pytest.raises(TimeoutError, match="holds deliveries back"):
            broker.wait_idle(timeout_s=0.01)
        channel.connection.process_data_events(0.05)
        assert got == []
    channel.connection.process_data_events(0.1)
    assert got == [b"held"]


def test_a_delay_ends_at_its_time_also_after_a_restart(broker: Broker, connect: Connect) -> None:
    broker.clock.freeze()
    broker.fail.delay_deliveries(seconds=30)
    broker.restart()
    got: list[bytes] = []
    channel = connect().channel()
    channel.queue_declare("later")
    channel.basic_consume("later", lambda *delivery: got.append(delivery[3]), auto_ack=True)
    channel.basic_publish("", "later", b"slow")
    broker.clock.advance(seconds=29)
    channel.connection.process_data_events(0.05)
    assert got == []
    broker.clock.advance(seconds=1)
    channel.connection.process_data_events(0.1)
    assert got == [b"slow"]


def test_a_fault_is_cleared_wherever_the_broker_is_by_then(broker: Broker) -> None:
    elsewhere = broker.add_virtual_host("elsewhere")
    gone = elsewhere.fail.hold_deliveries()
    broker.delete_virtual_host("elsewhere")
    gone.clear()
    hold, alarm = broker.fail.hold_deliveries(), broker.fail.disk_alarm()
    broker.stop()
    hold.clear()
    alarm.clear()
    broker.start()
    assert not broker._engine.broker.alarms.are_raised
    assert not broker._engine.watch.of("/").holds


def test_faults_that_mean_nothing_are_refused(broker: Broker) -> None:
    for seconds in (-1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="0 seconds or more"):
            broker.fail.delay_deliveries(seconds)
    with pytest.raises(ValueError, match="at least one"):
        broker.fail.nack_next_publish(0)


def test_what_a_fault_leaves_behind_is_not_the_clients_fault(broker: Broker, connect: Connect) -> None:
    for fault in (broker.fail.drop_connections, broker.fail.close_connections, broker.fail.crash, broker.restart):
        channel = connect().channel()
        channel.queue_declare("work", durable=True)
        channel.basic_publish("", "work", b"hello")
        broker.wait_idle()
        channel.basic_get("work")
        fault()
        assert (broker.given_back, broker.left_open) == ({}, [])


def test_all_faults_can_be_taken_back(broker: Broker, channel: BlockingChannel) -> None:
    broker.fail.nack_next_publish()
    broker.fail.hold_deliveries()
    broker.fail.disk_alarm()
    broker.fail.nothing()
    got: list[bytes] = []
    channel.basic_consume("q", lambda *delivery: got.append(delivery[3]), auto_ack=True)
    channel.basic_publish("", "q", b"fine")
    channel.connection.process_data_events(0.1)
    assert got == [b"fine"]


def test_faults_keep_to_their_virtual_host(broker: Broker, channel: BlockingChannel) -> None:
    broker.add_virtual_host("elsewhere").fail.nack_next_publish()
    channel.basic_publish("", "q", b"not mine")
    assert broker.queue("q").bodies == [b"not mine"]
