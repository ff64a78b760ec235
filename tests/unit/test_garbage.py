"""The collector's rhythm, with a clock that jumps: what is frozen, what is looked at when."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import trio
from websockets.server import ServerProtocol

from amqp_broker.broker.queues.classic import ClassicQueue
from amqp_broker.network.pump import Pump
from amqp_broker.protocols.amqp10.incoming import IncomingLink
from amqp_broker.protocols.amqp10.outgoing import OutgoingLink
from amqp_broker.protocols.amqp10.performatives import END
from amqp_broker.protocols.amqp10.session import Session
from amqp_broker.protocols.stomp.subscriptions import Subscription
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
from tests.faults.hostile_devices import WEB_SOCKET, connect, masked
from tests.support.amqp10_client import Amqp10Client, message
from tests.support.amqp10_frames import handshake
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


def alive(*kinds: type) -> int:
    """Of those since the last gc.freeze(), before which there is much to look through: the tests that were run."""
    return sum(isinstance(one, kinds) for one in gc.get_objects())


def test_a_connection_that_has_ended_waits_for_no_collector() -> None:
    gc.freeze()
    before = alive(ClientConnection)
    broker = MemoryBroker()
    client = Client(broker).open(heartbeat_s=10)
    channel = client.channel()
    channel.declare("q")
    channel.publish("", "q", b"m")
    channel.consume("q")
    channel.received()
    gc.disable()
    try:
        assert alive(ClientConnection) == before + 1
        client.connection.lost("gone")
        client.connection.detach()
        broker.connections.clear()
        del client, channel
        assert alive(ClientConnection) == before
    finally:
        gc.enable()


@on_a_jumping_clock
async def test_a_connection_that_a_server_has_served_waits_for_no_collector() -> None:
    gc.freeze()
    kinds = ClientConnection, Pump, ServerProtocol
    before = alive(*kinds)
    gc.disable()
    try:
        async with serving(web_socket_port=0) as served:
            port, web_socket_port = served.ports
            clients = [await served.opened(), *[await served.connect(port=one) for one in (port, web_socket_port)]]
            await clients[1].send_all(b"".join(handshake("q")))
            await clients[2].send_all(WEB_SOCKET % b"mqtt")
            await clients[2].receive_some()
            await clients[2].send_all(masked(connect()))
            await until(lambda: len(served.broker.open_connections) == 3)
            assert alive(*kinds) == before + 8  # AMQP 0-9-1 has begun where AMQP 1.0 is spoken
            for client in clients:
                await client.aclose()
            await until(lambda: served.server.connections_ended == 3)
            await trio.sleep(1)
            assert alive(*kinds) == before
    finally:
        gc.enable()


def test_a_connection_of_another_protocol_that_has_ended_waits_for_no_collector() -> None:
    gc.freeze()
    before = alive(ClientConnection)
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
    amqp10 = with_all_links(broker)
    gc.disable()
    try:
        assert alive(ClientConnection) == before + 4
        mqtt.drop()
        stomp.drop()
        stream.drop()
        amqp10.drop()
        del mqtt, stomp, stream, amqp10
        assert alive(ClientConnection) == before
    finally:
        gc.enable()


def with_all_links(broker: MemoryBroker) -> Amqp10Client:
    """A client with a session that has links of each kind, and a delivery that is not settled."""
    client = Amqp10Client(broker)
    client.open()
    client.begin()
    client.receiver("q", credit=2)
    client.sender("q")
    client.transfer(message())
    client.manage(handle=2)
    return client


def test_a_part_that_has_ended_of_a_connection_that_goes_on_waits_for_no_collector() -> None:
    gc.freeze()
    kinds = Session, IncomingLink, OutgoingLink, Subscription
    broker = MemoryBroker(stomp_port=0)
    amqp10, stomp = with_all_links(broker), StompClient(broker)
    stomp.connect()
    stomp.send("SUBSCRIBE", id="all", destination="/amq/queue/q", ack="client")
    stomp.send("SUBSCRIBE", id="none", destination="/queue/none", ack="client")
    gc.disable()
    try:
        assert alive(*kinds) == 7
        amqp10.send(END)  # what it had goes to the other
        (delivery,) = [frame for frame in stomp.read() if frame.command == "MESSAGE"]
        stomp.send("UNSUBSCRIBE", id="none")
        stomp.send("UNSUBSCRIBE", id="all")
        assert alive(*kinds) == 1
        stomp.send("ACK", id=delivery.headers["ack"])
        assert alive(*kinds) == 0
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
