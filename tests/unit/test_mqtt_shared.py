"""Shared subscriptions of MQTT: who gets what, and what becomes of it when a client goes (MQTT 5.0, 4.8.2)."""

from __future__ import annotations

import pytest

from amqp_broker.protocols.mqtt.packets import Acknowledgement, PacketType, Publish
from amqp_broker.protocols.mqtt.properties import Property
from amqp_broker.protocols.mqtt.reasons import Reason
from tests.support.disk_broker import DiskBroker
from tests.support.memory_broker import MemoryBroker
from tests.support.mqtt_client import MqttClient

SHARED = "$share/g/a/+"
LASTS = {int(Property.SESSION_EXPIRY_INTERVAL): 60}


@pytest.fixture
def broker() -> MemoryBroker:
    return MemoryBroker(mqtt_port=0)


def back(broker: MemoryBroker, client_id: str, **properties: int) -> MqttClient:
    client = MqttClient(broker, client_id, 5)
    named = {int(Property[name]): value for name, value in properties.items()}
    assert client.connect(clean=False, properties={**LASTS, **named}).codes == [0]
    return client


def member(broker: MemoryBroker, client_id: str, qos: int, topic_filter: str = SHARED) -> MqttClient:
    client = back(broker, client_id)
    assert client.subscribe(topic_filter, qos) == qos
    return client


def publish(broker: MemoryBroker, *payloads: bytes, topic: str = "a/b") -> None:
    publisher = MqttClient(broker, "p", 5)
    publisher.connect()
    for payload in payloads:
        packet_id = publisher.publish(topic, payload, 2)
        publisher.acknowledge(PacketType.PUBREL, packet_id)


def seen(messages: list[Publish]) -> list[tuple[bytes, int, bool]]:
    return [(one.payload, one.qos, one.duplicate) for one in messages]


def test_a_message_goes_to_one_of_those_who_share(broker: MemoryBroker) -> None:
    first, second = member(broker, "c1", 1), member(broker, "c2", 1)
    publish(broker, b"0", b"1", b"2", b"3")
    assert [len(first.messages()), len(second.messages())] == [2, 2]
    assert first.unsubscribe(SHARED) == [0]
    assert second.unsubscribe(SHARED) == [0]
    assert "mqtt-shared-g/a/+" not in broker.virtual_host.queues


def test_its_filter_is_held_to_the_standard_as_any_other(broker: MemoryBroker) -> None:
    everything, one_level = member(broker, "c1", 1, "$share/g/#"), member(broker, "c2", 1, "$share/g/+/c")
    for topic in ("$x/a", "a.b/c", "b/c"):
        publish(broker, topic.encode(), topic=topic)
    publish(broker, b"b", topic="a/b.c")  # AMQP sees three words, the first and last as the filter wants them
    assert [one.payload for one in everything.messages()] == [b"a.b/c", b"b/c", b"b"]
    assert [one.payload for one in one_level.messages()] == [b"a.b/c", b"b/c"]
    assert broker.queue("mqtt-shared-g/#").unacknowledged_count == 3


@pytest.mark.parametrize("qos", [0, 1])
def test_what_a_lost_client_had_with_qos_1_goes_to_another(broker: MemoryBroker, qos: int) -> None:
    lost = member(broker, "c1", 1)
    publish(broker, b"m")
    assert seen(lost.messages()) == [(b"m", 1, False)]
    other = member(broker, "c2", qos)
    lost.drop()
    assert seen(other.messages()) == [(b"m", qos, False)]
    assert broker.queue("mqtt-shared-g/a/+").unacknowledged_count == qos


def test_who_gets_again_what_it_had_is_told_so(broker: MemoryBroker) -> None:
    member(broker, "c", 1)
    publish(broker, b"m")
    back(broker, "c").drop()
    assert seen(back(broker, "c").messages()) == [(b"m", 1, True)]


def test_what_is_on_its_way_with_qos_2_waits_for_its_client_whoever_else_is_there(broker: MemoryBroker) -> None:
    client = member(broker, "c1", 2)
    publish(broker, b"1", b"2", b"3")
    before = client.messages()
    other = member(broker, "c2", 2)
    client.drop()
    assert other.messages() == []
    client = back(broker, "c1", RECEIVE_MAXIMUM=2)
    again = client.messages()
    assert seen(again) == [(b"1", 2, True), (b"2", 2, True)]
    client.unsubscribe(SHARED)
    client.acknowledge(PacketType.PUBREC, again[0].packet_id)
    client.acknowledge(PacketType.PUBCOMP, again[0].packet_id)
    again += client.messages()
    assert [one.packet_id for one in again] == [one.packet_id for one in before]
    client.acknowledge(PacketType.PUBREC, again[1].packet_id, Reason.QUOTA_EXCEEDED)  # goes to nobody, either
    client.drop()
    assert seen(back(broker, "c1").messages()) == [(b"3", 2, True)]
    assert other.messages() == []


@pytest.mark.parametrize("expires", [False, True])
def test_what_was_on_its_way_with_qos_2_goes_to_nobody_when_the_session_ends(
    broker: MemoryBroker, expires: bool
) -> None:
    client = MqttClient(broker, "c1", 5)
    client.connect(properties=LASTS if expires else {})
    client.subscribe(SHARED, 2)
    publish(broker, b"m")
    other = member(broker, "c2", 2)
    client.drop()
    broker.advance(60_000)
    assert other.messages() == []
    assert broker.queue("mqtt-shared-g/a/+").unacknowledged_count == 0


def test_it_goes_to_nobody_when_the_session_has_ended_after_a_restart() -> None:
    broker = DiskBroker(mqtt_port=0)
    client = MqttClient(broker, "c1", 5)
    client.connect(properties={Property.SESSION_EXPIRY_INTERVAL: 10})
    client.subscribe(SHARED, 2)
    member(broker, "c2", 2).drop()
    publish(broker, b"m")
    broker = broker.without_power(mqtt_port=0)
    broker.advance(10_000)
    assert back(broker, "c2").messages() == []
    assert broker.queue("mqtt-shared-g/a/+").ready_count == 0


@pytest.mark.parametrize("first", ["its client", "another", "another, and it does not come"])
def test_it_is_its_clients_after_a_restart_as_well(first: str) -> None:
    broker = DiskBroker(mqtt_port=0)
    members = [member(broker, "c1", 2), member(broker, "c2", 2)]
    publish(broker, b"1", b"2")
    before = [one.messages() for one in members]
    assert [seen(one) for one in before] == [[(b"1", 2, False)], [(b"2", 2, False)]]
    broker = broker.without_power(mqtt_port=0)
    if first != "its client":
        other = back(broker, "c2")
        assert seen(other.messages()) == [(b"2", 2, True)]
    if first == "another, and it does not come":
        broker.advance(60_000)
        assert other.messages() == []
        assert broker.queue("mqtt-shared-g/a/+").unacknowledged_count == 1
        return
    client = back(broker, "c1")
    again = client.messages()
    if first == "its client":
        other = back(broker, "c2")
        assert seen(other.messages()) == [(b"2", 2, True)]
    assert again == [Publish("a/b", b"1", 2, False, True, before[0][0].packet_id)]
    client.acknowledge(PacketType.PUBREC, again[0].packet_id)
    assert client.all() == [Acknowledgement(PacketType.PUBREL, again[0].packet_id)]
    assert other.messages() == []
