"""Web sockets, asked of both brokers: sub-protocols, MQTT and STOMP in messages, what is refused.

RabbitMQ has a port for each protocol, ours one for all; both are started anew, RabbitMQ with its plugins.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from websockets.frames import Opcode
from websockets.protocol import State

from interop import brokers
from interop.brokers import Choice
from interop.started_brokers import StartedBrokers
from interop.under_test import BrokerUnderTest
from interop.web_socket import WebSocket

CONFIG = """\
mqtt.listeners.tcp = none
stomp.listeners.tcp = none
web_stomp.tcp.ip = 127.0.0.1
web_stomp.tcp.port = {stomp}
web_mqtt.tcp.ip = 127.0.0.1
web_mqtt.tcp.port = {mqtt}
"""
MQTT_CONNECT = b"\x10\x10\x00\x04MQTT\x04\x02\x00\x00\x00\x04inte"
STOMP_CONNECT = b"CONNECT\naccept-version:1.2\nhost:/\nlogin:guest\npasscode:guest\n\n\0"


class WithWebSockets(StartedBrokers):
    """The brokers of this module, each started when it is first asked."""

    def __init__(self) -> None:
        super().__init__()
        self.ports: dict[Choice, dict[str, int]] = {}

    def start(self, choice: Choice) -> brokers.RabbitMQ | brokers.OurBroker:
        stomp, mqtt = brokers.free_ports(2)
        is_ours = choice.kind == brokers.OURS
        self.ports[choice] = {"stomp": stomp, "mqtt": stomp if is_ours else mqtt}
        return choice.start(
            config=CONFIG.format(stomp=stomp, mqtt=mqtt),
            plugins=["rabbitmq_web_stomp", "rabbitmq_web_mqtt"],
            environment={"AMQP_BROKER_WEB_SOCKET_PORT": str(stomp)},
        )


@pytest.fixture(scope="module")
def broker_processes() -> Iterator[WithWebSockets]:
    with WithWebSockets() as started:
        yield started


@pytest.fixture
def ports(broker: BrokerUnderTest, broker_processes: WithWebSockets) -> dict[str, int]:
    return broker_processes.ports[broker.choice]


def test_a_sub_protocol_that_is_known_is_taken(ports: dict[str, int]) -> None:
    for protocol, offered, taken in (
        ("mqtt", ["mqtt"], "mqtt"),
        ("stomp", ["v11.stomp"], "v11.stomp"),
        ("stomp", ["other", "v10.stomp"], "v10.stomp"),
        ("stomp", [], None),
    ):
        with WebSocket(ports[protocol], *offered) as client:
            assert (client.protocol.state, client.protocol.subprotocol) == (State.OPEN, taken)


def test_another_path_is_not_found(ports: dict[str, int]) -> None:
    for port in ports.values():
        with WebSocket(port, path="/elsewhere") as client:
            assert "404" in str(client.protocol.handshake_exc)


def test_packets_of_mqtt_may_be_cut_over_messages(ports: dict[str, int]) -> None:
    with WebSocket(ports["mqtt"], "mqtt") as client:
        client.send(MQTT_CONNECT[:5])
        client.send(MQTT_CONNECT[5:])
        answer = client.take()
        assert (answer.opcode, bytes(answer.data)) == (Opcode.BINARY, b"\x20\x02\x00\x00")
        client.send(b"\x82\x06\x00\x01\x00\x01a\x00\xc0\x00")
        said = b""
        while len(said) < 7:
            said += bytes(client.take().data)
        assert said == b"\x90\x03\x00\x01\x00\xd0\x00"


def test_stomp_is_answered_with_text(ports: dict[str, int]) -> None:
    with WebSocket(ports["stomp"], "v12.stomp") as client:
        client.send(STOMP_CONNECT, text=True)
        answer = client.take()
        assert (answer.opcode, bytes(answer.data)[:10]) == (Opcode.TEXT, b"CONNECTED\n")


def test_what_mqtt_publishes_comes_by_stomp(ports: dict[str, int]) -> None:
    with WebSocket(ports["stomp"], "v12.stomp") as script, WebSocket(ports["mqtt"], "mqtt") as device:
        script.send(STOMP_CONNECT, text=True)
        assert b"CONNECTED" in bytes(script.take().data)
        script.send(b"SUBSCRIBE\nid:1\ndestination:/topic/a.b\nreceipt:r\n\n\0", text=True)
        assert b"receipt-id:r" in bytes(script.take().data)
        device.send(MQTT_CONNECT)
        assert bytes(device.take().data) == b"\x20\x02\x00\x00"
        device.send(b"\x30\x08\x00\x03a/bone")
        message = bytes(script.take().data)
        assert b"destination:/topic/a.b\n" in message
        assert message.endswith((b"\n\none\0", b"\n\none\0\n"))
