"""The life of a broker in a test: start, end, several at once, what it leaves behind, what outlives a restart."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import threading
import weakref
from pathlib import Path

import pika
import pytest
import trio
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import AMQPConnectionError, ConnectionClosedByBroker, StreamLostError

from amqp_broker.server.listeners import CannotListen
from amqp_broker.settings import SettingError
from amqp_broker.testing import Broker
from amqp_broker.wire.frames import PROTOCOL_HEADER
from tests.testing.conftest import Connect

PERSISTENT = pika.BasicProperties(delivery_mode=2)
DESCRIPTORS = Path("/proc/self/fd")


def publish_one(url: str) -> None:
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.queue_declare("q")
        channel.basic_publish("", "q", b"hello", mandatory=True)


def test_an_unmodified_client_publishes_and_the_test_looks_in() -> None:
    with Broker() as broker:
        publish_one(broker.url)
        assert broker.queue("q").bodies == [b"hello"]
    assert repr(broker) == "<Broker stopped>"


def test_several_brokers_share_nothing() -> None:
    with Broker() as one, Broker() as other:
        publish_one(one.url)
        assert one.port != other.port
        assert one.queues == ("q",)
        assert other.queues == ()


def test_a_stopped_broker_says_how_to_start_it() -> None:
    broker = Broker()
    with pytest.raises(RuntimeError, match="not running"):
        _ = broker.queues
    broker.start()
    broker.stop()
    broker.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((broker.host, broker.port))


def test_a_started_broker_is_not_started_twice(broker: Broker) -> None:
    with pytest.raises(RuntimeError, match="running already"):
        broker.start()


def test_a_port_that_is_taken_is_refused(broker: Broker) -> None:
    with pytest.raises(CannotListen, match=str(broker.port)), Broker(port=broker.port):
        pass


def test_settings_are_given_by_name() -> None:
    with Broker(default_user="alice", default_password="p/w", default_virtual_host="shop") as broker:
        assert broker.url == f"amqp://alice:p%2Fw@127.0.0.1:{broker.port}/shop"
        publish_one(broker.url)
    with pytest.raises(SettingError, match="heartbeat_s"):
        Broker(heartbeat_s=-1)


def test_nothing_is_left_behind() -> None:
    def footprint() -> tuple[set[str], int]:
        gc.collect()
        return {thread.name for thread in threading.enumerate()}, len(os.listdir(DESCRIPTORS))

    with Broker() as broker:  # what Python loads at the first use stays
        publish_one(broker.url)
    before = footprint()
    for _ in range(20):
        with Broker() as broker:
            publish_one(broker.url)
    assert footprint() == before


def test_no_part_of_a_stopped_broker_is_left_in_memory() -> None:
    with Broker() as broker:
        publish_one(broker.url)
        domain = weakref.ref(broker._engine.broker)
        server = weakref.ref(broker._engine.server)
    gc.collect()
    assert (domain(), server()) == (None, None)


def test_a_client_that_was_left_open_does_not_hold_up_the_end() -> None:
    with Broker() as broker:
        connection = pika.BlockingConnection(pika.URLParameters(broker.url))
    with pytest.raises((ConnectionClosedByBroker, StreamLostError)):
        connection.channel()


# --- restart and crash


def fill(channel: BlockingChannel) -> None:
    channel.queue_declare("kept", durable=True)
    channel.basic_publish("", "kept", b"persistent", PERSISTENT)
    channel.basic_publish("", "kept", b"transient")
    channel.queue_declare("forgotten")


def test_a_restart_keeps_what_is_durable(broker: Broker, channel: BlockingChannel) -> None:
    fill(channel)
    port = broker.port
    broker.restart()
    assert broker.port == port
    assert broker.queues == ("kept",)
    assert broker.queue("kept").bodies == [b"persistent"]
    assert len(broker.published) == 2, "what was seen before is still known"
    with pytest.raises(ConnectionClosedByBroker, match="CONNECTION_FORCED"):
        channel.queue_declare("q")


def test_a_crash_keeps_what_is_durable(broker: Broker, channel: BlockingChannel, connect: Connect) -> None:
    fill(channel)
    consumer = connect().channel()
    assert consumer.basic_get("kept")[2] == b"persistent"
    broker.fail.crash()
    kept = broker.queue("kept").messages
    assert [message.body for message in kept] == [b"persistent"]
    assert kept[0].redelivered, "it had been handed out"
    with pytest.raises(AMQPConnectionError):
        channel.queue_declare("q")


def test_a_crash_happens_before_anything_that_it_causes(broker: Broker, connect: Connect) -> None:
    """A queue that goes with its last consumer is still there: the consumer did not go, the broker did."""
    channel = connect().channel()
    channel.queue_declare("q", durable=True, auto_delete=True)
    channel.basic_consume("q", lambda *_: None)
    channel.connection.process_data_events(0)
    broker.fail.crash()
    assert broker.queues == ("q",)


def test_acknowledged_messages_take_no_memory_for_ever(broker: Broker, channel: BlockingChannel) -> None:
    channel.queue_declare("q", durable=True)
    for _ in range(40):
        channel.basic_publish("", "q", bytes(100_000), PERSISTENT)
        method, _, _ = channel.basic_get("q")
        channel.basic_ack(method.delivery_tag)
    assert broker.queue("q").message_count == 0
    kept_bytes = sum(len(data) for data in broker._engine._folder._files.values())
    assert kept_bytes < 2_000_000


# --- virtual hosts


def test_virtual_hosts_are_worlds_of_their_own(broker: Broker) -> None:
    one, other = broker.add_virtual_host("one"), broker.add_virtual_host("/other world")
    publish_one(one.url)
    publish_one(other.url)
    publish_one(other.url)
    assert one.queue("q").message_count == 1
    assert other.queue("q").message_count == 2
    assert broker.queues == ()
    with pytest.raises(ValueError, match="already"):
        broker.add_virtual_host("one")
    broker.fail.crash()
    publish_one(one.url)
    assert one.queues == ("q",)


def test_a_deleted_virtual_host_is_gone_with_its_clients(broker: Broker) -> None:
    view = broker.add_virtual_host("one")
    connection = pika.BlockingConnection(pika.URLParameters(view.url))
    connection.channel().queue_declare("q", durable=True)
    broker.delete_virtual_host("one")
    with pytest.raises((ConnectionClosedByBroker, StreamLostError)):
        connection.channel()
    with pytest.raises(LookupError, match="no virtual host 'one'"):
        _ = view.queues
    again = broker.add_virtual_host("one")
    broker.restart()
    assert again.queues == ()


# --- asynchronous programs


def test_an_asyncio_program_awaits_what_waits() -> None:
    async def program() -> None:
        async with Broker() as broker:
            await asyncio.to_thread(publish_one, broker.url)
            await broker.wait_idle()
            assert await broker.wait_until(lambda: broker.queue("q").bodies) == [b"hello"]
            before = broker.clock.now()
            await broker.clock.advance(hours=1)
            assert (broker.clock.now() - before).total_seconds() >= 3600
            await broker.restart()
            await broker.fail.crash()
            assert broker.queues == ()
            with pytest.raises(RuntimeError, match="trio program"):
                await broker.connect_in_memory()
            with pytest.raises(ValueError, match="forward"):
                await broker.clock.advance(seconds=-1)

    asyncio.run(program())
    assert "amqp-broker" not in {thread.name for thread in threading.enumerate()}


def test_a_trio_program_runs_it_in_its_own_loop() -> None:
    async def program() -> None:
        threads = threading.active_count()
        async with Broker() as broker:
            assert threading.active_count() == threads
            with trio.fail_after(10):
                await trio.to_thread.run_sync(publish_one, broker.url)
                await broker.wait_idle()
                assert await broker.wait_until(lambda: broker.queue("q").bodies) == [b"hello"]
                await broker.clock.advance(minutes=5)
                await broker.fail.crash()
                assert broker.queues == ()
                await broker.restart()
        with pytest.raises(OSError, match="connect"):
            await trio.open_tcp_stream(broker.host, broker.port)

    trio.run(program)


def test_a_trio_program_connects_without_a_socket() -> None:
    async def program() -> None:
        async with Broker() as broker:
            stream = await broker.connect_in_memory()
            async with stream:
                await stream.send_all(PROTOCOL_HEADER)
                with trio.fail_after(10):
                    assert b"AMQPLAIN" in await stream.receive_some()

    trio.run(program)


def test_what_fails_in_the_block_comes_out_of_it() -> None:
    async def program() -> None:
        async with Broker():
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(program())
    with pytest.raises((ZeroDivisionError, ExceptionGroup)):
        trio.run(program)
