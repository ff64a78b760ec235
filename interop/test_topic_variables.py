"""Variables in topic permissions: the user's name, the virtual host's, and the identifier of a client of MQTT.

Asked of RabbitMQ and ours by AMQP 0-9-1, and by MQTT and STOMP, over TCP and over web sockets.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from amqp_broker.protocols.mqtt.packets import PacketType, Subscribe, Subscription
from interop import brokers
from interop.brokers import OURS, Choice
from interop.mqtt_client import MqttClient, Stream, connect
from interop.operator import Operator, user_with
from interop.raw_client import Basic, Queue
from interop.started_brokers import StartedBrokers
from interop.stomp_client import StompClient
from interop.under_test import BrokerUnderTest
from interop.web_socket import WebSocketStream
from tests.support.mqtt_client import Answer

VHOST, USER, PASSWORD = "shop", "eve", "secret"
PATTERN = "^{client_id}\\.{username}\\.{vhost}$"
LITERAL = "{client_id}"  # what the variable is where there is no client identifier
CONFIG = """\
mqtt.listeners.tcp.1 = 127.0.0.1:{mqtt}
stomp.listeners.tcp.1 = 127.0.0.1:{stomp}
web_mqtt.tcp.ip = 127.0.0.1
web_mqtt.tcp.port = {web_mqtt}
web_stomp.tcp.ip = 127.0.0.1
web_stomp.tcp.port = {web_stomp}
"""
PROTOCOLS = ("mqtt", "stomp", "web_mqtt", "web_stomp")


def definitions() -> dict[str, Any]:
    """A user who may do everything, but with keys of ``amq.topic`` that the pattern fits only."""
    there = {"user": USER, "vhost": VHOST}
    return {
        "users": [user_with(USER, PASSWORD)],
        "vhosts": [{"name": VHOST}],
        "permissions": [{**there, "configure": ".*", "write": ".*", "read": ".*"}],
        "topic_permissions": [{**there, "exchange": "amq.topic", "write": PATTERN, "read": PATTERN}],
    }


class WithTopicPermission(StartedBrokers):
    """The brokers of this module, each started when it is first asked."""

    def __init__(self) -> None:
        super().__init__()
        self.ports: dict[Choice, dict[str, int]] = {}

    def start(self, choice: Choice) -> brokers.RabbitMQ | brokers.OurBroker:
        ports = dict(zip(PROTOCOLS, brokers.free_ports(len(PROTOCOLS)), strict=True))
        if choice.kind == OURS:
            ports["web_stomp"] = ports["web_mqtt"]
        self.ports[choice] = ports
        process = choice.start(
            config=CONFIG.format(**ports),
            plugins=["rabbitmq_mqtt", "rabbitmq_stomp", "rabbitmq_web_mqtt", "rabbitmq_web_stomp"],
            environment={
                "AMQP_BROKER_MQTT_PORT": str(ports["mqtt"]),
                "AMQP_BROKER_STOMP_PORT": str(ports["stomp"]),
                "AMQP_BROKER_WEB_SOCKET_PORT": str(ports["web_mqtt"]),
            },
        )
        Operator(process).import_definitions(definitions())
        return process


@pytest.fixture(scope="module")
def broker_processes() -> Iterator[WithTopicPermission]:
    with WithTopicPermission() as started:
        yield started


@pytest.fixture
def ports(broker: BrokerUnderTest, broker_processes: WithTopicPermission) -> dict[str, int]:
    return broker_processes.ports[broker.choice]


@pytest.fixture(params=["tcp", "web socket"])
def stream_of(request: pytest.FixtureRequest, ports: dict[str, int]) -> Callable[[str], Stream]:
    """Connects for a protocol."""

    def stream(protocol: str) -> Stream:
        if request.param == "tcp":
            return connect(ports[protocol])
        return WebSocketStream(ports[f"web_{protocol}"], "mqtt" if protocol == "mqtt" else "v12.stomp")

    return stream


def mqtt(stream_of: Callable[[str], Stream], client_id: str) -> MqttClient:
    return MqttClient(stream_of("mqtt"), client_id, user_name=f"{VHOST}:{USER}", password=PASSWORD)


def stomp(stream_of: Callable[[str], Stream]) -> StompClient:
    return StompClient(stream_of("stomp"), login=USER, passcode=PASSWORD, host=VHOST)


@pytest.mark.parametrize("client_id", ["device-1", "device_2", "8f3ab1"])
def test_a_client_of_mqtt_uses_topics_with_its_own_identifier(
    stream_of: Callable[[str], Stream], client_id: str
) -> None:
    own = f"{client_id}/{USER}/{VHOST}"
    with mqtt(stream_of, client_id) as client:
        assert client.subscribe(own) == 1
        client.publish(own, b"mine", qos=0)
        assert client.message().payload == b"mine"


@pytest.mark.parametrize("topic", [f"other/{USER}/{VHOST}", "device/bob/shop", f"device/{USER}/other"])
def test_and_no_others(stream_of: Callable[[str], Stream], topic: str) -> None:
    with mqtt(stream_of, "device") as client:
        client.publish(topic, b"another's", qos=0)
        assert client.is_ended()
    with mqtt(stream_of, "device") as client:
        client.send(Subscribe(1, [Subscription(topic)]))
        assert client.is_ended() or client.take() == Answer(PacketType.SUBACK, 1, [0x80])  # 3.10 ends the connection


def test_an_identifier_may_have_what_means_something_in_a_pattern(
    broker: BrokerUnderTest, stream_of: Callable[[str], Stream]
) -> None:
    with mqtt(stream_of, ".*") as client:
        client.publish(f"other/{USER}/{VHOST}", b"another's", qos=0)
        if broker.differs("client-id-in-a-pattern"):
            assert client.is_ended()
        else:
            client.publish(f"other/{USER}/{VHOST}", b"another's", qos=1)


def test_where_there_is_no_client_identifier_the_variable_is_not_replaced_in_stomp(
    stream_of: Callable[[str], Stream],
) -> None:
    with stomp(stream_of) as client:
        own = f"/topic/{LITERAL}.{USER}.{VHOST}"
        client.call("SUBSCRIBE", id="0", destination=own)
        client.send("SEND", b"mine", destination=own)
        assert client.take().body == b"mine"
        client.send("SEND", b"another's", destination=f"/topic/0.{USER}.{VHOST}")
        assert client.is_refused()  # over web sockets RabbitMQ says no word


def test_and_in_amqp(broker: BrokerUnderTest) -> None:
    client = broker.connect(user=USER, password=PASSWORD, vhost=VHOST)
    ch = client.channel()
    name = broker.queue_name()
    ch.declare(name, exclusive=True)
    own = f"{LITERAL}.{USER}.{VHOST}"
    ch.call(Queue.Bind, queue=name, exchange="amq.topic", routing_key=own)
    ch.confirm()
    ch.publish("amq.topic", own, b"mine")
    assert ch.await_confirms(1) == [(1, True)]
    ch.publish("amq.topic", f"x.{USER}.{VHOST}", b"another's")
    where = f"topic 'x.{USER}.{VHOST}' in exchange 'amq.topic' in vhost '{VHOST}'"
    ch.expect_close(403, re.compile(f"(write )?access to {where} refused for user '{USER}'"), cause=Basic.Publish)
