"""A broker in a test that speaks MQTT: its URL, its clock, restarts, and a listener that is not there by default."""

from __future__ import annotations

import socket
import sys
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from amqp_broker.protocols.mqtt.packet_writing import encode_client_packet
from amqp_broker.protocols.mqtt.packets import Connect, Publish, Subscribe, Subscription, Will
from amqp_broker.protocols.mqtt.properties import Properties, Property
from amqp_broker.settings import SettingError
from amqp_broker.testing import Broker
from amqp_broker.testing.engine import NotRunning

LEVEL = 4


def connect(url: str, client_id: str, *, clean: bool = False, keep_alive_s: int = 0) -> socket.socket:
    parts = urlsplit(url)
    client = socket.create_connection((parts.hostname, parts.port), timeout=60)
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    packet = Connect(LEVEL, client_id, clean, keep_alive_s, user, password.encode())
    client.sendall(encode_client_packet(packet, LEVEL))
    assert receive(client, 4)[3] == 0
    return client


def receive(client: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = client.recv(size - len(data))
        assert part, "the broker has closed the connection"
        data += part
    return data


def test_a_session_goes_on_after_a_restart_on_the_same_port() -> None:
    with Broker(protocols=["mqtt"]) as broker:
        url = broker.mqtt_url
        with connect(url, "device") as client:
            client.sendall(encode_client_packet(Subscribe(1, [Subscription("a/#", 1)]), LEVEL))
            assert receive(client, 5) == b"\x90\x03\x00\x01\x01"
        with connect(url, "publisher", clean=True) as client:
            client.sendall(encode_client_packet(Publish("a/b", b"m", 1, packet_id=7), LEVEL))
            assert receive(client, 4) == b"\x40\x02\x00\x07"
        broker.restart()
        assert broker.mqtt_url == url
        with connect(url, "device") as client:
            assert receive(client, 10) == b"\x32\x08\x00\x03a/b\x00\x01m"


def test_the_clock_moves_keep_alive() -> None:
    with Broker(protocols="mqtt", frozen=True) as broker, connect(broker.mqtt_url, "c", keep_alive_s=60) as client:
        broker.clock.advance(seconds=90, heartbeats=False)
        assert client.recv(1) == b""


@pytest.mark.parametrize("protocols", ["mqtt,stomp", " stomp , mqtt", ["mqtt", "stomp"], ("stomp", "mqtt")])
def test_protocols_are_given_as_a_list_or_as_on_the_command_line(protocols: Any) -> None:
    broker = Broker(protocols=protocols)
    with broker:
        assert urlsplit(broker.mqtt_url).scheme == "mqtt"
        assert urlsplit(broker.stomp_url).scheme == "stomp"


@pytest.mark.parametrize(
    ("protocols", "said"),
    [
        ("mqtt,gopher", "protocols names 'gopher': there are mqtt, stomp, streams, web-sockets"),
        ("mqtt stomp", "protocols names 'mqtt stomp': there are mqtt, stomp, streams, web-sockets"),
        (5, "protocols takes a list of texts, not 5"),
        ([5], r"protocols takes a list of texts, not \(5,\)"),
    ],
)
def test_protocols_that_there_are_not_are_named(protocols: Any, said: str) -> None:
    with pytest.raises(SettingError, match=said):
        Broker(protocols=protocols)


def connect_5(
    url: str, client_id: str, expiry_s: int, *, clean: bool, will: Will | None = None
) -> tuple[socket.socket, bool]:
    """An MQTT 5 client, and whether its session was there."""
    parts = urlsplit(url)
    client = socket.create_connection((parts.hostname, parts.port), timeout=60)
    properties: Properties = {int(Property.SESSION_EXPIRY_INTERVAL): expiry_s}
    packet = Connect(5, client_id, clean, 0, "guest", b"guest", will, properties)
    client.sendall(encode_client_packet(packet, 5))
    head = receive(client, 4)
    receive(client, head[1] - 2)
    return client, bool(head[2])


def leave(client: socket.socket, *, with_will: bool = False) -> None:
    """Say goodbye with MQTT 5, and wait until the broker has heard it."""
    client.sendall(b"\xe0\x01\x04" if with_will else b"\xe0\x00")
    assert client.recv(1) == b""
    client.close()


def test_the_clock_moves_expiries_and_the_delay_of_a_will() -> None:
    with Broker(protocols="mqtt", frozen=True) as broker:
        watcher, _ = connect_5(broker.mqtt_url, "watcher", 3600, clean=True)
        watcher.sendall(encode_client_packet(Subscribe(1, [Subscription("will", 0), Subscription("late", 1)]), 5))
        receive(watcher, 7)
        will = Will("will", b"gone", properties={Property.WILL_DELAY_INTERVAL: 50})
        client, _ = connect_5(broker.mqtt_url, "c", 100, clean=True, will=will)
        leave(client, with_will=True)
        broker.clock.advance(seconds=50)
        assert receive(watcher, 13).endswith(b"gone")
        leave(watcher)
        expires: Properties = {Property.MESSAGE_EXPIRY_INTERVAL: 10}
        with connect(broker.mqtt_url, "p", clean=True) as publisher:
            publisher.sendall(encode_client_packet(Publish("late", b"kept", 1, packet_id=1), LEVEL))
            receive(publisher, 4)
        publisher5, _ = connect_5(broker.mqtt_url, "p5", 0, clean=True)
        publisher5.sendall(encode_client_packet(Publish("late", b"not kept", 1, packet_id=1, properties=expires), 5))
        receive(publisher5, 4)
        leave(publisher5)
        broker.clock.advance(seconds=49)
        client, is_present = connect_5(broker.mqtt_url, "c", 100, clean=False)
        assert is_present
        leave(client)
        watcher, is_present = connect_5(broker.mqtt_url, "watcher", 3600, clean=False)
        assert is_present
        watcher.settimeout(10)
        assert receive(watcher, 15).endswith(b"kept")
        watcher.sendall(b"\xc0\x00")
        assert receive(watcher, 2) == b"\xd0\x00"
        leave(watcher)
        broker.clock.advance(seconds=100)
        client, is_present = connect_5(broker.mqtt_url, "c", 100, clean=False)
        assert not is_present
        leave(client)


def test_without_being_asked_for_it_does_not_listen() -> None:
    with Broker() as broker, pytest.raises(NotRunning, match="protocols"):
        _ = broker.mqtt_url


def test_it_is_not_imported_before_its_first_client() -> None:
    import subprocess

    program = (
        "import sys, amqp_broker.server.broker_server, amqp_broker.testing.watched\n"
        "assert not [name for name in sys.modules if name.startswith('amqp_broker.protocols.mqtt')]"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
