"""Whatever a client of AMQP 0-9-1 says of a message, clients of other protocols get it, or go without, and stay.

``CONVERSION_EXAMPLES`` in the environment sets how many messages are tried.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from amqp_broker.broker.message import digest_of
from amqp_broker.errors import AmqpError
from amqp_broker.protocols.mqtt.packets import PacketType, Publish
from amqp_broker.wire.content import Properties, encode_content_header
from amqp_broker.wire.table import Table
from tests.properties.wire_strategies import ANY_NAMES, PROPERTIES, TABLES
from tests.support.amqp10_client import Amqp10Client, sections_of
from tests.support.client import Client
from tests.support.memory_broker import MemoryBroker
from tests.support.mqtt_client import MqttClient
from tests.support.stomp_client import StompClient

EXAMPLES = int(os.environ.get("CONVERSION_EXAMPLES", "30"))
MEANT = (  # headers that mean something to some protocol
    "x-death", "x-first-death-queue", "x-amqp-1.0-sections", "x-message-id", "x-correlation-id", "x-mqtt-topic",
    "x-mqtt-publish-qos", "x-mqtt-retain", "x-mqtt-retained-for", "x-mqtt-payload-format", "x-reply-to-topic",
    "x-mqtt-response-topic", "message-id", "content-length", "x-own", "",
)  # fmt: skip
OF_DEATHS = ("time", "reason", "count", "routing-keys", "original-expiration", "queue", "exchange")
ANY_VALUES = TABLES.map(lambda table: next(iter(table.values()), "9" * 5_000))
DEATHS = st.lists(
    st.dictionaries(st.sampled_from(OF_DEATHS), ANY_VALUES | st.lists(ANY_VALUES, max_size=2)), max_size=2
)
HEADERS = st.builds(
    lambda *tables: {name: value for table in tables for name, value in table.items()},
    TABLES,
    st.dictionaries(st.sampled_from(MEANT), ANY_VALUES, max_size=3),
    st.dictionaries(st.just("x-death"), DEATHS, max_size=1),
)


class Clients:
    """One of each protocol, which gets all that is published to the topic exchange; none is told to acknowledge."""

    def __init__(self) -> None:
        self.broker = MemoryBroker(mqtt_port=0, stomp_port=0)
        channel = Client(self.broker).open().channel()
        channel.declare("q", durable=True)
        channel.bind("q", "amq.topic", "#")
        self.amqp10 = Amqp10Client(self.broker)
        self.amqp10.open()
        self.amqp10.begin()
        self.amqp10.receiver("/queues/q", credit=10, settled=True)
        self.stomp = StompClient(self.broker)
        self.stomp.connect()
        self.stomp.send("SUBSCRIBE", id="0", destination="/topic/#")
        self.mqtt = [MqttClient(self.broker, f"c{level}", level) for level in (4, 5)]
        for client in self.mqtt:
            client.connect()
            client.subscribe("#", 1)

    def publish(self, routing_key: str, properties: Properties) -> bool:
        """Publish, as a client of AMQP 0-9-1 does; returns whether that is allowed."""
        header = encode_content_header(4, properties)
        try:
            digest = digest_of(header)
        except AmqpError:
            return False
        host = self.broker.virtual_host
        exchange = host.exchanges["amq.topic"]
        self.broker.handle(lambda: host.ingress.publish(exchange, routing_key, header, b"body", digest))
        return True


@given(ANY_NAMES, PROPERTIES, HEADERS)
@settings(max_examples=EXAMPLES)
def test_any_message_of_amqp_is_told_by_every_protocol_as_far_as_it_can(
    routing_key: str, properties: Properties, headers: Table
) -> None:
    clients = Clients()
    said: dict[str, Any] = {"headers": headers, "expiration": None, "delivery_mode": 2}
    if not clients.publish(routing_key, replace(properties, **said)):
        return
    (transfer,) = clients.amqp10.deliveries()
    assert sections_of(transfer.payload)[0x75] == b"body"
    (frame,) = clients.stomp.read()
    assert (frame.command, frame.body) == ("MESSAGE", b"body")
    for name, value in frame.headers.items():
        (name + value).encode()
    for client in clients.mqtt:
        messages = client.all()
        assert [one.payload for one in messages if isinstance(one, Publish)] == [b"body"] * len(messages)
        assert not client.is_closed
        client.acknowledge(PacketType.PUBACK, 1)
    assert not clients.stomp.is_closed
    assert not clients.amqp10.connection.finished
