"""Web sockets: every protocol over them, what is told by their sub-protocols, and handshakes that are none."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Self
from urllib.parse import urlsplit

import pytest
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from amqp_broker.protocols.mqtt.packet_writing import encode_client_packet
from amqp_broker.protocols.mqtt.packets import Connect, Publish
from amqp_broker.testing import Broker
from tests.support.client import PROTOCOL_HEADER
from tests.support.stomp_client import answers, frame_bytes

CONNECT = frame_bytes("CONNECT", accept_version="1.2", host="/", login="guest", passcode="guest")


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    with Broker(protocols=["web-sockets"]) as started:
        yield started


class WebSocket:
    """A client's end, by the library's client, which knows nothing of ours.

    Args:
        url: where to connect to.
        subprotocols: what is offered.
    """

    def __init__(self, url: str, *subprotocols: str) -> None:
        parts = urlsplit(url)
        self._socket = socket.create_connection((parts.hostname, parts.port), timeout=60)
        offered = [Subprotocol(one) for one in subprotocols] or None
        self.protocol = ClientProtocol(parse_uri(url), subprotocols=offered)
        self.protocol.send_request(self.protocol.connect())
        self._flush()
        self.heard = list[Frame]()
        while self.protocol.state is State.CONNECTING and self.protocol.handshake_exc is None:
            self._read()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._socket.close()

    def _flush(self) -> None:
        for data in self.protocol.data_to_send():
            if data:
                self._socket.sendall(data)

    def _read(self) -> bool:
        data = self._socket.recv(65_536)
        if data:
            self.protocol.receive_data(data)
        else:
            self.protocol.receive_eof()
        self.heard += [event for event in self.protocol.events_received() if isinstance(event, Frame)]
        self._flush()
        return bool(data)

    def send(self, data: bytes, *, is_text: bool = False) -> None:
        (self.protocol.send_text if is_text else self.protocol.send_binary)(data)
        self._flush()

    def take(self) -> Frame:
        """The next message."""
        while not self.heard:
            assert self._read(), "the broker has closed the connection"
        return self.heard.pop(0)

    def wait_for_end(self) -> int | None:
        """Read until the end; returns the close code."""
        while self._read():
            pass
        return self.protocol.close_code


def test_stomp_is_answered_as_it_is_spoken_text_or_bytes(broker: Broker) -> None:
    with WebSocket(broker.web_socket_url, "v10.stomp", "v12.stomp") as client:
        assert client.protocol.subprotocol == "v10.stomp"
        client.send(CONNECT, is_text=True)
        answer = client.take()
        assert (answer.opcode, answers(bytes(answer.data))[0].command) == (Opcode.TEXT, "CONNECTED")
        client.send(frame_bytes("SUBSCRIBE", destination="/topic/a", id="0"), is_text=True)
        client.send(frame_bytes("SEND", b"\xff\xfe", destination="/topic/a"), is_text=False)
        message = client.take()
        assert (message.opcode, answers(bytes(message.data))[0].body) == (Opcode.BINARY, b"\xff\xfe")
        first, second = "\u00e9".encode()[:1], "\u00e9".encode()[1:]
        for fragments, code in (((first, second, b"\0"), None), ((first, b"\0"), 1007)):
            client.protocol.send_text(b"SEND\ndestination:/topic/a\n\n" + fragments[0], fin=False)
            for fragment in fragments[1:-1]:
                client.protocol.send_continuation(fragment, fin=False)
            client.protocol.send_continuation(fragments[-1], fin=True)
            client.send(b"", is_text=False)
            if code is None:
                assert answers(bytes(client.take().data))[0].body == first + second
            else:
                assert client.wait_for_end() == code


def test_frames_may_be_cut_anywhere_and_pings_are_answered(broker: Broker) -> None:
    with WebSocket(broker.web_socket_url, "v12.stomp") as client:
        for one in CONNECT:
            client.send(bytes((one,)))
        assert answers(bytes(client.take().data))[0].command == "CONNECTED"
        client.protocol.send_ping(b"there?")
        client.send(frame_bytes("BEGIN", transaction="t", receipt="r") + frame_bytes("DISCONNECT"))
        assert client.take().opcode is Opcode.PONG
        assert answers(bytes(client.take().data))[0].headers == {"receipt-id": "r"}
        assert client.wait_for_end() == 1000


def test_mqtt_speaks_bytes_only(broker: Broker) -> None:
    with WebSocket(broker.web_socket_url, "mqtt") as client:
        client.send(
            encode_client_packet(Connect(4, "c"), 4) + encode_client_packet(Publish("a", b"", 1, packet_id=3), 4)
        )
        heard = b""
        while len(heard) < 8:
            heard += bytes(client.take().data)
        assert heard == b"\x20\x02\x00\x00\x40\x02\x00\x03"
    with WebSocket(broker.web_socket_url, "mqtt") as client:
        client.send(b"text", is_text=True)
        assert client.wait_for_end() == 1003


def test_amqp_is_spoken_too_and_what_names_nothing_is_told_by_its_first_bytes(broker: Broker) -> None:
    for subprotocols in (("amqp",), ()):
        with WebSocket(broker.web_socket_url, *subprotocols) as client:
            client.send(PROTOCOL_HEADER)
            assert bytes(client.take().data).startswith(b"\x01\x00\x00")  # connection.start
    with WebSocket(broker.web_socket_url) as client:
        client.send(encode_client_packet(Connect(4, "c"), 4))
        assert bytes(client.take().data) == b"\x20\x02\x00\x00"
    with WebSocket(broker.web_socket_url) as client:
        client.send(CONNECT)
        assert answers(bytes(client.take().data))[0].command == "CONNECTED"


def test_another_path_is_not_found(broker: Broker) -> None:
    with WebSocket(f"{broker.web_socket_url}/elsewhere", "mqtt") as client:
        assert "404" in str(client.protocol.handshake_exc)


HOSTILE = [
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST /ws HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\r\n\r\n",
    b"GET /ws HTTP/1.1\r\n" + b"".join(b"a%d: b\r\n" % number for number in range(1000)) + b"\r\n",
    b"GET /" + b"x" * 200_000,
    b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: short\r\n"
    b"Sec-WebSocket-Version: 13\r\n\r\n",
    b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n" + b"\x82\x05hello",  # unmasked
    b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    + b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0",  # 8 exbibytes
    b"",
]


@pytest.mark.parametrize("data", HOSTILE)
def test_a_hostile_handshake_hurts_only_itself(broker: Broker, data: bytes) -> None:
    parts = urlsplit(broker.web_socket_url)
    with socket.create_connection((parts.hostname, parts.port), timeout=60) as client:
        try:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            while client.recv(65_536):
                pass
        except OSError:  # it was sent away before it had said all
            pass
    with WebSocket(broker.web_socket_url, "v12.stomp") as honest:
        honest.send(CONNECT)
        assert answers(bytes(honest.take().data))[0].command == "CONNECTED"


def test_the_library_is_not_imported_before_it_is_needed() -> None:
    program = (
        "import sys, amqp_broker.server.broker_server, amqp_broker.testing\nassert 'websockets' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_without_the_library_the_way_out_is_named() -> None:
    program = (
        "import sys\n"
        "sys.modules['websockets'] = None\n"
        "from amqp_broker.testing import Broker\n"
        "try:\n"
        "    Broker(protocols=['web-sockets']).start()\n"
        "except Exception as error:\n"
        "    assert \"pip install 'amqp-broker-server[web-sockets]'\" in str(error), error\n"
        "else:\n"
        "    raise AssertionError('it started')\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
