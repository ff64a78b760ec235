"""A broker in a test that speaks MQTT: its URL, its clock, restarts, and a listener that is not there by default."""

from __future__ import annotations

import socket
import sys
from urllib.parse import unquote, urlsplit

import pytest

from amqp_broker.protocols.mqtt.packets import Connect, Publish, Subscribe, Subscription, encode_client_packet
from amqp_broker.testing import Broker
from amqp_broker.testing.engine import NotRunning

LEVEL = 4


def connect(url: str, client_id: str, *, clean: bool = False, keep_alive_s: int = 0) -> socket.socket:
    parts = urlsplit(url)
    client = socket.create_connection((parts.hostname, parts.port), timeout=10)
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
        broker.clock.advance(seconds=90)
        assert client.recv(1) == b""


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
