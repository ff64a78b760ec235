"""STOMP, asked of both brokers, and messages that go from one protocol to another: AMQP 0-9-1, MQTT, STOMP.

Both brokers are started anew with these protocols; RabbitMQ with its plugins.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import pytest

from interop import brokers, raw_client, waiting
from interop.brokers import Choice
from interop.raw_client import ChannelUnderTest
from interop.stomp_client import StompClient, StompFrame
from interop.under_test import BrokerUnderTest

CONFIG = """\
stomp.listeners.tcp.1 = 127.0.0.1:{stomp}
mqtt.listeners.tcp.1 = 127.0.0.1:{mqtt}
"""


class WithProtocols:
    """The brokers of this module, each started when it is first asked."""

    def __init__(self) -> None:
        self._started: dict[Choice, brokers.RabbitMQ | brokers.OurBroker] = {}
        self.ports: dict[Choice, tuple[int, int]] = {}

    def get(self, choice: Choice) -> brokers.RabbitMQ | brokers.OurBroker:
        if choice not in self._started:
            stomp, mqtt = brokers.free_ports(2)
            self.ports[choice] = stomp, mqtt
            self._started[choice] = choice.start(
                config=CONFIG.format(stomp=stomp, mqtt=mqtt),
                plugins=["rabbitmq_stomp", "rabbitmq_mqtt"],
                environment={"AMQP_BROKER_STOMP_PORT": str(stomp), "AMQP_BROKER_MQTT_PORT": str(mqtt)},
            )
        return self._started[choice]

    def stop(self) -> None:
        for process in self._started.values():
            process.stop()


@pytest.fixture(scope="module")
def broker_processes() -> Iterator[WithProtocols]:
    started = WithProtocols()
    yield started
    started.stop()


@pytest.fixture
def ports(broker: BrokerUnderTest, broker_processes: WithProtocols) -> tuple[int, int]:
    """Of STOMP and of MQTT."""
    return broker_processes.ports[broker.choice]


@pytest.fixture
def stomp(ports: tuple[int, int]) -> Iterator[StompClient]:
    with StompClient(ports[0]) as client:
        yield client


def test_connected(ports: tuple[int, int]) -> None:
    for offered, version in (("1.0", "1.0"), ("1.0,1.1", "1.1"), ("1.2,9.9,1.0", "1.2")):
        with StompClient(ports[0], offered, heart_beat="500,2500") as client:
            assert client.connected is not None
            headers = client.connected.headers
            assert set(headers) == {"server", "session", "heart-beat", "version"}
            assert (headers["version"], headers["heart-beat"]) == (version, "2000,1000")


def test_message_headers(broker: BrokerUnderTest, stomp: StompClient) -> None:
    name = broker.queue_name()
    stomp.call("SUBSCRIBE", id="s", destination=f"/queue/{name}", ack="client")
    stomp.send("SEND", b"one", destination=f"/queue/{name}", own="a\\cb\\\\c", priority="3", content_type="text/x")
    frame = stomp.take()
    assert stomp.connected is not None
    number = f"T_s@@{stomp.connected.headers['session']}@@1"
    expected = {
        "subscription": "s", "destination": f"/queue/{name}", "message-id": number, "ack": number,
        "redelivered": "false", "own": "a\\cb\\\\c", "priority": "3", "content-type": "text/x", "content-length": "3",
    }  # fmt: skip
    if broker.version >= (4, 0):
        frame.headers.pop("persistent", None)
    assert (frame.headers, frame.body) == (expected, b"one")


@pytest.mark.parametrize("mode", ["client", "client-individual"])
def test_acknowledgements(broker: BrokerUnderTest, ch: ChannelUnderTest, ports: tuple[int, int], mode: str) -> None:
    name = broker.queue_name()
    with StompClient(ports[0]) as client:
        client.call("SUBSCRIBE", id="s", destination=f"/queue/{name}", ack=mode)
        for body in (b"1", b"2", b"3"):
            client.send("SEND", body, destination=f"/queue/{name}")
        ids = [client.take().headers["ack"] for _ in range(3)]
        client.call("ACK", id=ids[1])
        client.send("DISCONNECT", receipt="bye")
        assert client.take().headers["receipt-id"] == "bye"
        assert client.is_ended()
    ch.consume(name)
    left = [b"3"] if mode == "client" else [b"1", b"3"]
    assert [(one.body, one.redelivered) for one in ch.deliveries(len(left))] == [(body, True) for body in left]


def test_what_is_refused_is_dead_lettered(broker: BrokerUnderTest, ch: ChannelUnderTest, stomp: StompClient) -> None:
    name, dead = broker.queue_name(), broker.queue_name("dead")
    ch.declare(dead)
    ch.declare(name, durable=True, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead})
    stomp.call("SUBSCRIBE", id="s", destination=f"/amq/queue/{name}", ack="client-individual")
    stomp.send("SEND", b"poison", destination=f"/amq/queue/{name}")
    stomp.send("NACK", id=stomp.take().headers["ack"])
    again = stomp.take()
    assert (again.body, again.headers["redelivered"]) == (b"poison", "true")
    stomp.call("NACK", id=again.headers["ack"], requeue="false")
    ch.consume(dead)
    (message,) = ch.deliveries(1)
    assert message.body == b"poison"


def test_errors_that_do_not_end_the_connection(stomp: StompClient) -> None:
    cases: list[tuple[str, dict[str, str], str]] = [
        ("SEND", {"destination": "/foo/bar"}, "Unknown destination"),
        ("SEND", {"destination": "/queue/a/b"}, "Invalid destination"),
        ("SEND", {"destination": "/exchange//b"}, "Invalid destination"),
        ("SEND", {"destination": "/temp-queue/a"}, "Invalid destination"),
        ("SUBSCRIBE", {"destination": "/temp-queue/a", "id": "1"}, "Invalid destination"),
        ("SEND", {}, "Missing destination"),
        ("SEND", {"destination": "/queue/a", "message-id": "1"}, "Invalid header"),
        ("UNSUBSCRIBE", {"id": "none"}, "No subscription found"),
        ("UNSUBSCRIBE", {}, "Missing destination or id"),
        ("ACK", {}, "Missing header"),
        ("ACK", {"id": "x"}, "Invalid header"),
        ("BEGIN", {}, "Missing transaction"),
        ("COMMIT", {"transaction": "none"}, "Bad transaction"),
        ("SUBSCRIBE", {"destination": "/topic/a", "durable": "true"}, "Missing Header"),
        ("NOTHING", {}, "Bad command"),
    ]
    for command, headers, message in cases:
        stomp.send(command, **headers)
        assert stomp.error()[0] == message, command
    stomp.call("BEGIN", transaction="t")


@pytest.mark.parametrize(
    ("command", "headers", "message"),
    [
        ("SUBSCRIBE", {"destination": "/amq/queue/missing", "id": "1"}, "not_found"),
        ("SUBSCRIBE", {"destination": "/exchange/missing/k", "id": "1"}, "not_found"),
        ("SEND", {"destination": "/exchange/missing/k"}, "not_found"),
    ],
)
def test_errors_that_end_the_connection(
    stomp: StompClient, command: str, headers: dict[str, str], message: str
) -> None:
    stomp.send(command, **headers)
    assert stomp.error()[0] == message
    assert stomp.is_ended()


def test_a_durable_subscription_has_the_same_queue_everywhere(
    broker: BrokerUnderTest, ch: ChannelUnderTest, ports: tuple[int, int]
) -> None:
    headers = {"destination": "/topic/durable.key", "id": "the id", "durable": "true", "auto-delete": "false"}
    name = "stomp-subscription-t6F9NQVejcf2HskLeDr8Zg"
    with StompClient(ports[0]) as client:
        client.call("SUBSCRIBE", **headers)
    waiting.until(lambda: ch.depth(name)[1] == 0)
    ch.publish("amq.topic", "durable.key", b"meanwhile")
    with StompClient(ports[0]) as client:
        client.send("SUBSCRIBE", **headers)
        assert client.take().body == b"meanwhile"
        client.call("UNSUBSCRIBE", id="the id", durable="true")
    ch.send(raw_client.Queue.Declare, queue=name, passive=True)
    ch.expect_close(404, f"no queue '{name}' in vhost '/'", cause=raw_client.Queue.Declare)


def test_replies_come_by_a_temporary_queue(broker: BrokerUnderTest, ports: tuple[int, int]) -> None:
    path = f"/queue/{broker.queue_name()}"
    with StompClient(ports[0]) as asks, StompClient(ports[0]) as answers:
        answers.call("SUBSCRIBE", id="0", destination=path)
        asks.send("SEND", b"?", destination=path, reply_to="/temp-queue/mine")
        reply_to = answers.take().headers["reply-to"]
        assert reply_to.startswith("/reply-queue/amq.gen-")
        answers.send("SEND", b"!", destination=reply_to)
        reply = asks.take()
        assert (reply.body, reply.headers["subscription"]) == (b"!", "/temp-queue/mine")


def test_a_transaction_is_done_at_its_commit(broker: BrokerUnderTest, ch: ChannelUnderTest, stomp: StompClient) -> None:
    path = f"/queue/{broker.queue_name()}"
    stomp.call("SUBSCRIBE", id="s", destination=path)
    for end, bodies in (("ABORT", [b"after"]), ("COMMIT", [b"before", b"after"])):
        stomp.send("BEGIN", transaction="t")
        stomp.send("SEND", b"before", destination=path, transaction="t")
        stomp.send(end, transaction="t")
        stomp.send("SEND", b"after", destination=path)
        assert [stomp.take().body for _ in bodies] == bodies


def test_who_consumes_a_queue_that_is_deleted_is_told(
    broker: BrokerUnderTest, ch: ChannelUnderTest, stomp: StompClient
) -> None:
    name = broker.queue_name()
    stomp.call("SUBSCRIBE", id="s", destination=f"/queue/{name}")
    ch.call(raw_client.Queue.Delete, queue=name)
    frame = stomp.take()
    assert (frame.command, frame.headers["message"]) == ("ERROR", "Server cancelled subscription")
    assert frame.headers["subscription"] == "s"


def test_properties_to_amqp_and_back(broker: BrokerUnderTest, ch: ChannelUnderTest, stomp: StompClient) -> None:
    name = broker.queue_name()
    says = {
        "content-type": "text/x", "content-encoding": "gzip", "correlation-id": "c", "reply-to": "/queue/r",
        "expiration": "60000", "amqp-message-id": "m", "type": "t", "user-id": "guest", "app-id": "a", "priority": "3",
        "timestamp": "5", "persistent": "true", "own": "text",
    }  # fmt: skip
    stomp.call("SEND", b"body", destination=f"/queue/{name}", **says)
    ch.consume(name)
    (message,) = ch.deliveries(1)
    assert message.headers["own"] == "text"
    assert {key: value for key, value in message.properties.items() if key != "headers"} == {
        "content_type": "text/x", "content_encoding": "gzip", "correlation_id": "c", "reply_to": "/queue/r",
        "expiration": "60000", "message_id": "m", "message_type": "t", "user_id": "guest", "app_id": "a",
        "priority": 3, "timestamp": message.properties["timestamp"], "delivery_mode": 2,
    }  # fmt: skip


# --- from one protocol to another


def mqtt_string(text: str) -> bytes:
    return len(text).to_bytes(2, "big") + text.encode()


class MqttClient:
    """As much of an MQTT 3.1.1 client as is needed here."""

    def __init__(self, port: int, client_id: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=raw_client.REPLY_TIMEOUT_S)
        credentials = mqtt_string("guest") + mqtt_string("guest")
        self.send(0x10, mqtt_string("MQTT") + b"\x04\xc2\0\0" + mqtt_string(client_id) + credentials)
        assert self.take() == (0x20, b"\0\0")

    def send(self, first: int, body: bytes) -> None:
        assert len(body) < 128
        self._socket.sendall(bytes((first, len(body))) + body)

    def take(self) -> tuple[int, bytes]:
        """A packet: its first byte, and its body."""
        first, size = self._read(2)
        return first, self._read(size)

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self._socket.recv(size - len(data))
            assert part, "the broker has closed the connection"
            data += part
        return data

    def close(self) -> None:
        self._socket.close()


Receiver = Callable[[], tuple[bytes, bool]]  # takes the next message: its body, and whether it is to outlive a restart


@pytest.fixture
def receivers(broker: BrokerUnderTest, ports: tuple[int, int]) -> Iterator[dict[str, Receiver]]:
    """A subscriber of each protocol to what is published with the key all.ways."""
    ch = broker.channel()
    ch.declare(name := broker.queue_name("all"))
    ch.bind(name, "amq.topic", "all.ways")
    ch.consume(name, no_ack=True)
    stomp = StompClient(ports[0])
    stomp.call("SUBSCRIBE", id="s", destination="/topic/all.ways")
    mqtt = MqttClient(ports[1], f"to-{broker.queue_name('mqtt')}"[:20])
    mqtt.send(0x82, b"\0\1" + mqtt_string("all/ways") + b"\1")
    assert mqtt.take() == (0x90, b"\0\1\1")

    def by_amqp() -> tuple[bytes, bool]:
        (message,) = ch.deliveries(1)
        assert message.routing_key == "all.ways"
        return message.body, message.properties.get("delivery_mode") == 2

    def by_stomp() -> tuple[bytes, bool]:
        frame: StompFrame = stomp.take()
        assert frame.headers["destination"] == "/topic/all.ways"
        return frame.body, frame.headers.get("persistent") == "true"

    def by_mqtt() -> tuple[bytes, bool]:
        first, body = mqtt.take()
        size = 2 + int.from_bytes(body[:2], "big")
        assert body[2:size] == b"all/ways"
        qos = first >> 1 & 3
        if qos:
            mqtt.send(0x40, body[size : size + 2])
        return body[size + 2 * bool(qos) :], qos == 1

    yield {"amqp": by_amqp, "stomp": by_stomp, "mqtt": by_mqtt}
    stomp.__exit__()
    mqtt.close()


def test_a_persistent_message_goes_all_nine_ways(
    broker: BrokerUnderTest, ports: tuple[int, int], receivers: dict[str, Receiver]
) -> None:
    ch = broker.channel()
    ch.publish("amq.topic", "all.ways", b"from amqp", delivery_mode=2)
    for receive in receivers.values():
        assert receive() == (b"from amqp", True)
    with StompClient(ports[0]) as stomp:
        stomp.call("SEND", b"from stomp", destination="/topic/all.ways", persistent="true")
    for receive in receivers.values():
        assert receive() == (b"from stomp", True)
    mqtt = MqttClient(ports[1], "from-mqtt")
    mqtt.send(0x32, mqtt_string("all/ways") + b"\0\7from mqtt")
    assert mqtt.take() == (0x40, b"\0\7")
    for receive in receivers.values():
        assert receive() == (b"from mqtt", True)
    mqtt.close()


def test_priorities_count_between_protocols(broker: BrokerUnderTest, ch: ChannelUnderTest, stomp: StompClient) -> None:
    name = broker.queue_name()
    ch.declare(name, durable=True, arguments={"x-max-priority": 5})
    for priority in ("1", "5", "3"):
        stomp.call("SEND", priority.encode(), destination=f"/amq/queue/{name}", priority=priority)
    ch.publish("", name, b"4", priority=4)
    ch.sync()
    ch.consume(name)
    assert [one.body for one in ch.deliveries(4)] == [b"5", b"4", b"3", b"1"]
