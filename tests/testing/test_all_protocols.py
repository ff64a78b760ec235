"""What a test sees of clients is the same for every protocol: connections, messages that they hold, how they end."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest

from amqp_broker.access.client import Peer
from amqp_broker.protocols.amqp10.performatives import TRANSFER
from amqp_broker.protocols.mqtt.packet_writing import encode_client_packet
from amqp_broker.protocols.mqtt.packets import Publish, Subscribe, Subscription
from amqp_broker.testing import Broker
from amqp_broker.testing.remembering import Remembering
from amqp_broker.testing.watch import Watch
from interop.amqp10_client import Amqp10Client
from interop.stream_client import StreamClient
from tests.support.amqp10_client import message
from tests.support.client import Client
from tests.support.memory_broker import MemoryBroker
from tests.support.stomp_client import frame_bytes
from tests.testing import test_mqtt, test_stomp


def stomp(broker: Broker) -> socket.socket:
    """A client that holds a message."""
    client = test_stomp.connect(broker.stomp_url)
    client.sendall(frame_bytes("SUBSCRIBE", destination="/queue/q", id="0", ack="client"))
    client.sendall(frame_bytes("SEND", b"held", destination="/queue/q"))
    assert b"held" in test_stomp.receive(client)
    return client


def mqtt(broker: Broker) -> socket.socket:
    """A client that holds a message."""
    client = test_mqtt.connect(broker.mqtt_url, "device", clean=True)
    client.sendall(encode_client_packet(Subscribe(1, [Subscription("a", 1)]), 4))
    client.sendall(encode_client_packet(Publish("a", b"held", 1, packet_id=1), 4))
    test_mqtt.receive(client, 5 + 4 + 11)  # SUBACK, PUBACK and the message
    return client


def amqp10(broker: Broker) -> socket.socket:
    """A client that holds a message."""
    client = Amqp10Client(urlsplit(broker.url).port or 0, f"vhost:{broker.virtual_host}")
    client.sender("/queue/q")
    client.publish(message(b"held"))
    client.receiver("/queues/q", credit=1)
    client.expect(TRANSFER)
    return client._socket


def stream(broker: Broker) -> socket.socket:
    """A client that reads a stream, of which nothing is held."""
    client = StreamClient(urlsplit(broker.stream_url).port or 0)
    client.create("q")
    client.subscribe(1, "q")
    return client._socket


PROTOCOLS = pytest.mark.parametrize(
    ("client_of", "protocol", "channel_count", "held_count"),
    [
        (stomp, "STOMP 1.2", 0, 1),
        (mqtt, "MQTT 3.1.1", 0, 1),
        (amqp10, "AMQP 1-0", 1, 1),
        (stream, "stream", 0, 0),
    ],
)


@pytest.mark.parametrize("drops", [True, False])
@PROTOCOLS
def test_clients_of_every_protocol_are_seen_dropped_and_closed(
    client_of: Callable[[Broker], socket.socket], protocol: str, channel_count: int, held_count: int, drops: bool
) -> None:
    with Broker(protocols=["stomp", "mqtt", "streams"]) as broker, client_of(broker) as client:
        (seen,) = broker.connections
        (queue,) = map(broker.queue, broker.queues)
        assert (seen.protocol, seen.user, seen.virtual_host) == (protocol, "guest", broker.virtual_host)
        assert (seen.channel_count, seen.unacknowledged_count) == (channel_count, held_count)
        assert seen.consumer_tags == queue.consumers
        assert len(seen.consumer_tags) == 1
        assert len(queue.unacknowledged) == queue.unacknowledged_count == held_count
        assert "guest from 127.0.0.1" in broker.picture()
        assert (broker.fail.drop_connections if drops else broker.fail.close_connections)() == 1
        assert broker.connections == []
        assert (broker.given_back, broker.left_open) == ({}, [])
        while client.recv(4096):
            pass


@pytest.mark.parametrize(
    "client_of",
    [
        lambda broker: test_stomp.connect(broker.stomp_url, heart_beat="60000,60000"),
        lambda broker: test_mqtt.connect(broker.mqtt_url, "device", keep_alive_s=60),
        lambda broker: Amqp10Client(urlsplit(broker.url).port or 0)._socket,  # a minute, as the broker has it
        stream,
    ],
)
def test_clients_of_every_protocol_count_as_alive_while_time_passes(
    client_of: Callable[[Broker], socket.socket],
) -> None:
    with Broker(protocols=["stomp", "mqtt", "streams"]) as broker, client_of(broker):
        for _ in range(2):
            broker.clock.advance(hours=2)
            assert len(broker.connections) == 1
        broker.clock.advance(seconds=185, heartbeats=False)
        assert broker.connections == []


def test_what_a_client_of_another_protocol_was_told_is_among_the_errors() -> None:
    with Broker(protocols=["stomp"]) as broker, test_stomp.connect(broker.stomp_url) as client:
        client.sendall(frame_bytes("SEND", b"m", destination="/exchange/nope"))
        assert b"not_found" in test_stomp.receive(client)
        (error,) = broker.errors
        assert error.startswith("404 NOT_FOUND - no exchange 'nope'")


@pytest.mark.parametrize("is_direct", [True, False])
def test_what_the_broker_itself_leaves_open_is_no_clients(is_direct: bool) -> None:
    broker, watch = MemoryBroker(), Watch(10)
    broker.observers.add(Remembering(broker, watch))
    peer = Peer.within("<direct.1>", "guest") if is_direct else Peer.at("127.0.0.1", 50_000)
    client = Client(broker, peer=peer)
    login: dict[str, Any] = {"mechanism": "EXTERNAL", "response": ""} if is_direct else {}
    client.open(**login)
    client.channel()
    client.connection.lost("its shovel was removed")
    broker.settle()
    assert watch.of("/").channels_left_open == ([] if is_direct else ["127.0.0.1:50000"])
