"""A broker in a test that speaks STOMP: its URL, its clock, restarts, and a listener that is not there by default."""

from __future__ import annotations

import socket
import subprocess
import sys
from urllib.parse import unquote, urlsplit

import pytest

from amqp_broker.testing import Broker
from amqp_broker.testing.engine import NotRunning
from tests.support.stomp_client import answers, frame_bytes


def connect(url: str, **headers: str) -> socket.socket:
    parts = urlsplit(url)
    client = socket.create_connection((parts.hostname, parts.port), timeout=60)
    said = {"accept-version": "1.2", "host": unquote(parts.path[1:]), **headers}
    client.sendall(frame_bytes("CONNECT", login=parts.username or "", passcode=parts.password or "", **said))
    assert receive(client).startswith(b"CONNECTED\n")
    return client


def receive(client: socket.socket) -> bytes:
    """A whole frame."""
    data = b""
    while not data.endswith(b"\0\n"):
        part = client.recv(4096)
        assert part, "the broker has closed the connection"
        data += part
    return data


def test_what_was_answered_is_there_after_a_restart_on_the_same_port() -> None:
    with Broker(protocols=["stomp"]) as broker:
        url = broker.stomp_url
        with connect(url) as client:
            client.sendall(frame_bytes("SEND", b"m", destination="/queue/q", persistent="true", receipt="r"))
            assert answers(receive(client))[0].headers == {"receipt-id": "r"}
        broker.restart()
        assert broker.stomp_url == url
        with connect(url) as client:
            client.sendall(frame_bytes("SUBSCRIBE", destination="/queue/q", id="0"))
            assert answers(receive(client))[0].body == b"m"


def test_the_clock_moves_heart_beats() -> None:
    with Broker(protocols="stomp", frozen=True) as broker:
        with connect(broker.stomp_url, heart_beat="60000,0") as client:
            broker.clock.advance(seconds=120, heartbeats=False)
            assert client.recv(1) == b""
        with connect(broker.stomp_url, heart_beat="0,60000") as client:
            broker.clock.advance(seconds=30, heartbeats=False)
            assert client.recv(1) == b"\n"


def test_without_being_asked_for_it_does_not_listen() -> None:
    with Broker() as broker, pytest.raises(NotRunning, match="protocols"):
        _ = broker.stomp_url


def test_it_is_not_imported_before_its_first_client() -> None:
    program = (
        "import sys, amqp_broker.server.broker_server, amqp_broker.testing.watched\n"
        "assert not [name for name in sys.modules if name.startswith('amqp_broker.protocols.stomp')]"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
