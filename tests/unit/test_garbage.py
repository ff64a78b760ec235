"""The collector's rhythm, with a clock that jumps: what is frozen, what is looked at when."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import trio

from amqp_broker.broker.queues.classic import ClassicQueue
from amqp_broker.server import garbage
from amqp_broker.server.garbage import (
    FEW_OBJECTS,
    INTERVAL_S,
    OBJECTS_OF_A_CONNECTION,
    OBJECTS_OF_A_QUEUE,
    collect_garbage,
    drop_messages,
    without_collections,
)
from amqp_broker.session.connection import ClientConnection
from tests.support.client import Client
from tests.support.memory_broker import MemoryBroker
from tests.support.mqtt_client import MqttClient
from tests.support.served import on_a_jumping_clock, serving, until
from tests.support.stomp_client import StompClient
from tests.support.stream_client import StreamClient
from tests.unit.in_trio import in_trio


class Circle:
    """Garbage that reference counting does not find."""

    alive = 0

    def __init__(self) -> None:
        self.itself = self
        Circle.alive += 1

    def __del__(self) -> None:
        Circle.alive -= 1


@contextmanager
def thresholds_kept() -> Iterator[None]:
    """What is set for the whole process is set back."""
    before = gc.get_threshold()
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.collect()
        gc.freeze()  # as all is that was loaded for the tests


async def circles_left(broker: MemoryBroker, connections_ended: int) -> int:
    """How many of three circles are still there after the collector's first round."""
    Circle.alive = 0
    with thresholds_kept():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(collect_garbage, broker, lambda: connections_ended, 2**30)
            await trio.sleep(INTERVAL_S / 2)
            for _ in range(3):
                Circle()
            await trio.sleep(INTERVAL_S)
            nursery.cancel_scope.cancel()
        return Circle.alive


def with_objects(broker: MemoryBroker, count: int, monkeypatch: pytest.MonkeyPatch) -> MemoryBroker:
    """A broker that seems to hold so many objects."""
    monkeypatch.setattr(garbage, "_objects", lambda asked: count)
    return broker


@in_trio
async def test_a_broker_with_few_messages_is_tidy() -> None:
    assert await circles_left(MemoryBroker(), 1) == 0


@in_trio
async def test_nothing_is_looked_through_while_nobody_has_left() -> None:
    assert await circles_left(MemoryBroker(), 0) == 3


@in_trio
async def test_many_objects_are_not_looked_through(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await circles_left(with_objects(MemoryBroker(), FEW_OBJECTS, monkeypatch), 1_000_000) == 3
    assert await circles_left(with_objects(MemoryBroker(), FEW_OBJECTS - 1, monkeypatch), 1) == 0


@in_trio
async def test_what_is_purged_is_not_looked_through_while_it_is_dropped() -> None:
    broker = MemoryBroker()
    broker.works.begin(iter([None, None]))
    assert await circles_left(broker, 1) == 3


def test_messages_queues_exchanges_and_connections_count() -> None:
    broker = MemoryBroker()
    before = garbage._objects(broker)
    assert before == OBJECTS_OF_A_QUEUE * len(broker.virtual_host.exchanges)
    for name, ready, unacknowledged in (("a", 2, 3), ("b", 10, 0)):
        queue = broker.virtual_host.add_queue(name, durable=False, auto_delete=False, owner=None, table={})
        assert isinstance(queue, ClassicQueue)
        queue.backlog.count, queue.unacknowledged_count = ready, unacknowledged
    assert garbage._objects(broker) == before + 15 + 2 * OBJECTS_OF_A_QUEUE
    Client(broker).open()
    assert garbage._objects(broker) == before + 15 + 2 * OBJECTS_OF_A_QUEUE + OBJECTS_OF_A_CONNECTION


@in_trio
async def test_many_queues_without_messages_are_not_looked_through() -> None:
    broker = MemoryBroker()
    for number in range(FEW_OBJECTS // OBJECTS_OF_A_QUEUE):
        broker.virtual_host.add_queue(str(number), durable=False, auto_delete=False, owner=None, table={})
    assert await circles_left(broker, 1) == 3


@in_trio
async def test_the_messages_of_a_broker_that_has_ended_are_dropped_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    broker, left = MemoryBroker(), list[int]()
    channel = Client(broker).open().channel()
    channel.declare("q")
    for _ in range(5):
        channel.publish("", "q", b"m")
    queue = broker.virtual_host.queues["q"]
    assert isinstance(queue, ClassicQueue)

    async def checkpoint() -> None:
        left.append(len(queue.ready))

    monkeypatch.setattr(garbage, "MESSAGES_A_TURN", 2)
    with monkeypatch.context() as patch:
        patch.setattr(trio.lowlevel, "checkpoint", checkpoint)
        await drop_messages(broker)
    assert left == [3, 1, 0]


def connections_alive() -> int:
    """Of those since the last gc.freeze(), before which there is much to look through: the tests that were run."""
    return sum(isinstance(alive, ClientConnection) for alive in gc.get_objects())


def test_a_connection_that_has_ended_waits_for_no_collector() -> None:
    gc.freeze()
    before = connections_alive()
    broker = MemoryBroker()
    client = Client(broker).open(heartbeat_s=10)
    channel = client.channel()
    channel.declare("q")
    channel.publish("", "q", b"m")
    channel.consume("q")
    channel.received()
    gc.disable()
    try:
        assert connections_alive() == before + 1
        client.connection.lost("gone")
        client.connection.detach()
        broker.connections.clear()
        del client, channel
        assert connections_alive() == before
    finally:
        gc.enable()


@on_a_jumping_clock
async def test_a_connection_that_a_server_has_served_waits_for_no_collector() -> None:
    gc.freeze()
    before = connections_alive()
    gc.disable()
    try:
        async with serving() as served:
            client = await served.opened()
            assert connections_alive() == before + 1
            await client.aclose()
            await until(lambda: served.server.connections_ended == 1)
            await trio.sleep(1)
            assert connections_alive() == before
    finally:
        gc.enable()


def test_a_connection_of_another_protocol_that_has_ended_waits_for_no_collector() -> None:
    gc.freeze()
    before = connections_alive()
    broker = MemoryBroker(mqtt_port=0, stomp_port=0)
    mqtt, stomp = MqttClient(broker, "c"), StompClient(broker)
    mqtt.connect(keep_alive_s=60)
    mqtt.subscribe("a/#", 1)
    mqtt.publish("a/b", b"m", 1)
    stomp.connect(heart_beat="1000,1000")
    stomp.send("SUBSCRIBE", id="s", destination="/topic/a.b", ack="client")
    stomp.send("SEND", b"m", destination="/topic/a.b", reply_to="/temp-queue/r")
    stomp.send("BEGIN", transaction="t")
    stream = StreamClient(broker)
    stream.create("s")
    stream.declare_publisher(1, "s", "name")
    stream.subscribe(1, "s")
    stream.publish(1, {1: b"m"})
    gc.disable()
    try:
        assert connections_alive() == before + 3
        mqtt.drop()
        stomp.drop()
        stream.drop()
        del mqtt, stomp, stream
        assert connections_alive() == before
    finally:
        gc.enable()


def test_nothing_is_looked_at_while_a_journal_is_read_nor_what_was_read_later() -> None:
    with thresholds_kept():
        collections = sum(generation["collections"] for generation in gc.get_stats())
        with without_collections():
            read = [[] for _ in range(100_000)]  # type: ignore[var-annotated]
            assert sum(generation["collections"] for generation in gc.get_stats()) == collections
        assert gc.isenabled()
        assert gc.get_freeze_count() >= len(read)
