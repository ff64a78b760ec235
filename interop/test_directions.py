"""Messages from one protocol to another, in every direction: AMQP 0-9-1, AMQP 1.0, MQTT 3.1.1, MQTT 5.0 and STOMP.

What is published with the key `all.ways` to `amq.topic` comes to a subscriber of each protocol. Asked is what a message
says of itself there, whose turn it is by its priority, and where it goes when an MQTT client refuses it. RabbitMQ has
MQTT 5.0 and an AMQP 1.0 of its own since 4.0, ours has them whatever it behaves like.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

import pytest

from amqp_broker.protocols.amqp10.compound import Map
from amqp_broker.protocols.amqp10.performatives import ACCEPTED, TRANSFER
from amqp_broker.protocols.amqp10.typed import Symbol, UByte, UInt
from amqp_broker.protocols.mqtt.properties import Properties, Property, text, user_properties
from interop import brokers
from interop.amqp10_client import Amqp10Client
from interop.brokers import OURS, Choice
from interop.mqtt_client import MqttClient
from interop.operator import Operator
from interop.raw_client import ChannelUnderTest
from interop.started_brokers import StartedBrokers
from interop.stomp_client import StompClient
from interop.under_test import BrokerUnderTest
from tests.support.amqp10_client import message, section, sections_of

CONFIG = """\
stomp.listeners.tcp.1 = 127.0.0.1:{stomp}
mqtt.listeners.tcp.1 = 127.0.0.1:{mqtt}
"""
PROTOCOLS = ("amqp", "amqp10", "mqtt", "mqtt5", "stomp")
OF_3_10 = ("amqp", "mqtt", "stomp")
KEY, DEAD_KEY = "all.ways", "the.dead"
REFUSING = "refusing"  # the client whose queues have a dead-letter exchange
PRIORITIES_MAX = 5
REFUSED = 0x83  # implementation specific error


@dataclass(frozen=True)
class Said:
    """What a message says of itself, in no protocol's words; None where nothing is said."""

    body: bytes
    is_durable: bool = False
    priority: int | None = None
    content_type: str | None = None
    correlation_id: str | bytes | None = None
    message_id: str | None = None
    app_id: str | None = None
    expires_minutes: int | None = None  # begun ones, for it counts down where a client of MQTT 5 is told
    own: str | None = None  # a header of the user's own


WORDS = {  # what each protocol can say
    "amqp": {each.name for each in fields(Said)},
    "stomp": {each.name for each in fields(Said)},
    "amqp10": {each.name for each in fields(Said)},
    "mqtt": {"body", "is_durable"},
    "mqtt5": {"body", "is_durable", "content_type", "correlation_id", "expires_minutes", "own"},
}
EVERYTHING = Said(b"body", True, 3, "text/plain", "question-1", "m-1", "app", 10, "mine")
MINUTE_MS = 60_000


def kept(said: Said, *protocols: str) -> Said:
    """What is left of a message where each of these has to say it."""
    words = set.intersection(*(WORDS[each] for each in protocols))
    unsaid: dict[str, Any] = {each.name: each.default for each in fields(Said)[1:] if each.name not in words}
    return replace(said, **unsaid)


# --- a client of each protocol: it publishes to the topic exchange or to a queue, and receives


class ClientOf(Protocol):
    """A client of some protocol."""

    def publish(self, key: str, said: Said, *, queue: bool = False) -> None:
        """Publish to the topic exchange with a key, or to the queue of that name; returns when it was taken."""

    def listen(self, key: str) -> None:
        """Receive from now on what is published with this key."""

    def consume(self, queue: str) -> None:
        """Receive from now on what is in that queue; MQTT cannot."""

    def take(self) -> Said:
        """The next message."""


def bytes_of(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode()


def _minutes(expiration_ms: Any) -> int | None:
    return None if expiration_ms is None else -(-int(expiration_ms) // MINUTE_MS)


class OfAmqp:
    """AMQP 0-9-1."""

    def __init__(self, broker: BrokerUnderTest, number: int) -> None:
        self._ch = broker.channel()
        self._name = broker.queue_name(f"amqp-{number}")
        self._is_confirming = False

    def publish(self, key: str, said: Said, *, queue: bool = False) -> None:
        properties: dict[str, Any] = {
            "delivery_mode": 2 if said.is_durable else 1, "priority": said.priority, "content_type": said.content_type,
            "correlation_id": said.correlation_id, "message_id": said.message_id, "app_id": said.app_id,
            "expiration": None if said.expires_minutes is None else str(said.expires_minutes * MINUTE_MS),
            "headers": None if said.own is None else {"own": said.own},
        }  # fmt: skip
        if not self._is_confirming:
            self._is_confirming = True
            self._ch.confirm()
        given = {name: value for name, value in properties.items() if value is not None}
        self._ch.publish("" if queue else "amq.topic", key, said.body, **given)
        self._ch.await_confirms(1)  # nothing else is on its way

    def listen(self, key: str) -> None:
        self._ch.declare(self._name)
        self._ch.bind(self._name, "amq.topic", key)
        self.consume(self._name)

    def consume(self, queue: str) -> None:
        self._ch.consume(queue, no_ack=True)

    def take(self) -> Said:
        (got,) = self._ch.deliveries(1)
        properties = got.properties
        expiration = properties.get("expiration")
        return Said(
            got.body, properties.get("delivery_mode") == 2, properties.get("priority"), properties.get("content_type"),
            properties.get("correlation_id"), properties.get("message_id"), properties.get("app_id"),
            _minutes(expiration), (got.headers or {}).get("own"),
        )  # fmt: skip


class OfAmqp10:
    """AMQP 1.0."""

    def __init__(self, broker: BrokerUnderTest, number: int) -> None:
        self._broker = broker
        self._client = Amqp10Client(broker.address.port)
        self._name = broker.queue_name(f"amqp10-{number}")
        self._handles: dict[str, int] = {}

    def publish(self, key: str, said: Said, *, queue: bool = False) -> None:
        address = f"/queues/{key}" if queue else f"/exchanges/amq.topic/{key}"
        if address not in self._handles:
            self._handles[address] = 2 + len(self._handles)
            self._client.sender(address, self._handles[address])
        ttl = None if said.expires_minutes is None else UInt(said.expires_minutes * MINUTE_MS)
        header = [said.is_durable, None if said.priority is None else UByte(said.priority), ttl]
        properties = [
            said.message_id, None, None, None, None, said.correlation_id,
            None if said.content_type is None else Symbol(said.content_type), None, None, None, said.app_id,
        ]  # fmt: skip
        own = b"" if said.own is None else section(0x74, Map([("own", said.own)]))
        before = section(0x70, header) + section(0x73, properties) + own
        assert self._client.publish(message(said.body, before=before), self._handles[address]) == ACCEPTED

    def listen(self, key: str) -> None:
        ch = self._broker.channel()
        ch.declare(self._name, durable=True)
        ch.bind(self._name, "amq.topic", key)
        self.consume(self._name)

    def consume(self, queue: str) -> None:
        self._client.receiver(f"/queues/{queue}", credit=100, settled=True)

    def take(self) -> Said:
        found = sections_of(self._client.expect(TRANSFER).payload)
        header, properties = [*found.get(0x70, []), *[None] * 5], [*found.get(0x73, []), *[None] * 13]
        own = found[0x74].get("own") if 0x74 in found else None
        return Said(
            found[0x75], header[0] is True, header[1], properties[6], properties[5], properties[0], properties[10],
            _minutes(header[2]), own,
        )  # fmt: skip

    def close(self) -> None:
        self._client.__exit__()


class OfStomp:
    """STOMP 1.2."""

    def __init__(self, port: int) -> None:
        self._client = StompClient(port)

    def publish(self, key: str, said: Said, *, queue: bool = False) -> None:
        headers = {
            "persistent": "true" if said.is_durable else None, "priority": said.priority,
            "content-type": said.content_type, "correlation-id": said.correlation_id,
            "amqp-message-id": said.message_id, "app-id": said.app_id,
            "expiration": None if said.expires_minutes is None else said.expires_minutes * MINUTE_MS,
            "own": said.own,
        }  # fmt: skip
        given = {name: str(value) for name, value in headers.items() if value is not None}
        self._client.call("SEND", said.body, destination=f"/amq/queue/{key}" if queue else f"/topic/{key}", **given)

    def listen(self, key: str) -> None:
        self._client.call("SUBSCRIBE", id="s", destination=f"/topic/{key}")

    def consume(self, queue: str) -> None:
        self._client.call("SUBSCRIBE", id="s", destination=f"/amq/queue/{queue}")

    def take(self) -> Said:
        frame = self._client.take()
        headers = frame.headers
        assert frame.command == "MESSAGE", frame
        return Said(
            frame.body, headers.get("persistent") == "true", _number(headers.get("priority")),
            headers.get("content-type"), headers.get("correlation-id"), headers.get("amqp-message-id"),
            headers.get("app-id"), _minutes(headers.get("expiration")),
            headers.get("own"),
        )  # fmt: skip

    def close(self) -> None:
        self._client.__exit__()


def _number(value: str | None) -> int | None:
    return None if value is None else int(value)


class OfMqtt:
    """MQTT 3.1.1 or 5.0."""

    def __init__(self, port: int, client_id: str, level: int) -> None:
        self._client = MqttClient(port, client_id, level)

    def publish(self, key: str, said: Said, *, queue: bool = False) -> None:
        assert not queue
        properties: Properties = {}
        if self._client.level == 5:
            if said.content_type is not None:
                properties[Property.CONTENT_TYPE] = said.content_type
            if said.correlation_id is not None:
                properties[Property.CORRELATION_DATA] = bytes_of(said.correlation_id)
            if said.expires_minutes is not None:
                properties[Property.MESSAGE_EXPIRY_INTERVAL] = said.expires_minutes * MINUTE_MS // 1000
            if said.own is not None:
                properties[Property.USER_PROPERTY] = [("own", said.own)]
        self._client.publish(key.replace(".", "/"), said.body, int(said.is_durable), properties)
        if not said.is_durable:
            self._client.publish("no/one/listens", b"", 1)  # what was before it is taken when that is answered

    def listen(self, key: str) -> None:
        assert self._client.subscribe(key.replace(".", "/"), 1) == 1

    def consume(self, queue: str) -> None:
        raise NotImplementedError

    def take(self, reason: int = 0) -> Said:
        got = self._client.message(reason)
        properties = got.properties
        correlation = properties.get(Property.CORRELATION_DATA)
        expiry_s = properties.get(Property.MESSAGE_EXPIRY_INTERVAL)
        return Said(
            got.payload,
            got.qos == 1,
            content_type=text(properties, Property.CONTENT_TYPE),
            correlation_id=correlation.decode() if isinstance(correlation, bytes) else None,
            expires_minutes=_minutes(expiry_s * 1000 if isinstance(expiry_s, int) else None),
            own=dict(user_properties(properties)).get("own"),
        )

    def close(self) -> None:
        self._client.__exit__()


# --- the brokers


class WithProtocols(StartedBrokers):
    """The brokers of this module, each started when it is first asked."""

    def __init__(self) -> None:
        super().__init__()
        self.ports: dict[Choice, tuple[int, int]] = {}

    def start(self, choice: Choice) -> brokers.RabbitMQ | brokers.OurBroker:
        stomp, mqtt = brokers.free_ports(2)
        self.ports[choice] = stomp, mqtt
        started = choice.start(
            config=CONFIG.format(stomp=stomp, mqtt=mqtt),
            plugins=["rabbitmq_stomp", "rabbitmq_mqtt"],
            environment={"AMQP_BROKER_STOMP_PORT": str(stomp), "AMQP_BROKER_MQTT_PORT": str(mqtt)},
        )
        dead = {"dead-letter-exchange": "amq.topic", "dead-letter-routing-key": DEAD_KEY}
        Operator(started).set_policy("dead", f"^mqtt-subscription-{REFUSING}", dead, apply_to="queues")
        return started


@pytest.fixture(scope="module")
def broker_processes() -> Iterator[WithProtocols]:
    with WithProtocols() as started:
        yield started


Connect = Callable[..., Any]


@pytest.fixture
def connect(broker: BrokerUnderTest, broker_processes: WithProtocols) -> Iterator[Connect]:
    """Makes a client of a protocol, and skips the test where the broker does not speak it."""
    stomp, mqtt = broker_processes.ports[broker.choice]
    with contextlib.ExitStack() as clients:
        count = 0

        def make(protocol: str, name: str = "client") -> ClientOf:
            nonlocal count
            count += 1
            if protocol not in OF_3_10 and broker.kind != OURS and broker.version < (4, 0):
                pytest.skip("RabbitMQ has it since 4.0")
            client: Any
            if protocol == "amqp":
                return OfAmqp(broker, count)
            if protocol == "amqp10":
                client = OfAmqp10(broker, count)
            elif protocol == "stomp":
                client = OfStomp(stomp)
            else:
                client = OfMqtt(mqtt, broker.queue_name(f"{name}-{count}"), 5 if protocol == "mqtt5" else 4)
            clients.callback(client.close)
            made: ClientOf = client
            return made

        yield make


each_source = pytest.mark.parametrize("source", PROTOCOLS)
each_target = pytest.mark.parametrize("target", PROTOCOLS)


# --- what comes of a message


def arrived(broker: BrokerUnderTest, said: Said, source: str, target: str) -> Said:
    """A message as a client of `target` gets it."""
    found = kept(said, source, target)
    loses_expiry = (target == "mqtt5" and source != "mqtt5") or (source, target) == ("mqtt5", "amqp10")
    if found.expires_minutes and loses_expiry and not broker.differs("expiry-between-protocols"):
        found = replace(found, expires_minutes=None)
    if target == "mqtt" and source != "mqtt" and not broker.differs("qos-of-what-is-not-persistent"):
        found = replace(found, is_durable=True)
    if (source, target) == ("mqtt5", "amqp10") and said.correlation_id and not broker.differs("correlation-of-mqtt"):
        found = replace(found, correlation_id=bytes_of(said.correlation_id))
    return found


@each_target
@each_source
def test_what_both_protocols_can_say_arrives(
    broker: BrokerUnderTest, connect: Connect, source: str, target: str
) -> None:
    publisher, subscriber = connect(source), connect(target)
    subscriber.listen(KEY)
    publisher.publish(KEY, kept(EVERYTHING, source))
    assert subscriber.take() == arrived(broker, EVERYTHING, source, target)


@each_target
@each_source
def test_a_message_that_says_nothing_of_itself_says_nothing_there(
    broker: BrokerUnderTest, connect: Connect, source: str, target: str
) -> None:
    publisher, subscriber = connect(source), connect(target)
    subscriber.listen(KEY)
    publisher.publish(KEY, Said(b""))
    assert subscriber.take() == arrived(broker, Said(b""), source, target)


@pytest.mark.parametrize("target", ["amqp", "amqp10", "stomp"])
@pytest.mark.parametrize("source", ["amqp", "amqp10", "stomp"])
def test_priorities_count_whoever_says_them(
    broker: BrokerUnderTest, ch: ChannelUnderTest, connect: Connect, source: str, target: str
) -> None:
    publisher, subscriber = connect(source), connect(target)
    name = broker.queue_name("priorities")
    ch.declare(name, durable=True, arguments={"x-max-priority": PRIORITIES_MAX})
    for priority in (1, 5, 3):
        publisher.publish(name, Said(b"%d" % priority, priority=priority), queue=True)
    subscriber.consume(name)
    assert [subscriber.take().body for _ in range(3)] == [b"5", b"3", b"1"]


@each_target
@each_source
def test_what_an_mqtt_client_refuses_is_dead_lettered(
    broker: BrokerUnderTest, connect: Connect, source: str, target: str
) -> None:
    refusing = connect("mqtt5", REFUSING)
    publisher, subscriber = connect(source), connect(target)
    subscriber.listen(DEAD_KEY)
    refusing.listen(KEY)
    said = replace(EVERYTHING, expires_minutes=None)
    publisher.publish(KEY, kept(said, source))
    assert refusing.take(REFUSED).body == b"body"
    assert subscriber.take() == arrived(broker, said, source, target)


def test_what_is_durable_outlives_the_broker_whoever_has_said_so(
    broker: BrokerUnderTest, ch: ChannelUnderTest, connect: Connect
) -> None:
    sources = [each for each in PROTOCOLS if broker.kind == OURS or broker.version >= (4, 0) or each in OF_3_10]
    name = broker.queue_name("durable")
    ch.declare(name, durable=True)
    ch.bind(name, "amq.topic", KEY)
    for source in sources:
        publisher = connect(source)
        publisher.publish(KEY, Said(b"durable, of " + source.encode(), is_durable=True))
        publisher.publish(KEY, Said(b"not durable, of " + source.encode()))
    broker.process.kill_and_restart()
    after = broker.channel()
    assert after.drain(name) == [b"durable, of " + source.encode() for source in sources]
