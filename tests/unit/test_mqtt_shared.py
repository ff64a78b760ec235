"""Shared subscriptions of MQTT: who gets what, and what becomes of it when a client goes (MQTT 5.0, 4.8.2)."""

from __future__ import annotations

import pytest

from amqp_broker.protocols.mqtt.packets import Acknowledgement, PacketType, Publish
from amqp_broker.protocols.mqtt.properties import Property
from amqp_broker.protocols.mqtt.reasons import Reason
from amqp_broker.wire.table import Table
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


QUEUE = "mqtt-shared-g/a/+"


def lasting(broker: MemoryBroker, client_id: str, expiry_s: int) -> MqttClient:
    """A member of the group whose session lasts so long."""
    client = MqttClient(broker, client_id, 5)
    client.connect(clean=False, properties={Property.SESSION_EXPIRY_INTERVAL: expiry_s})
    assert client.subscribe(SHARED, 1) == 1
    return client


def published(broker: MemoryBroker) -> int:
    """Publish to the group; returns the reason of PUBACK."""
    publisher = MqttClient(broker, "p", 5)
    publisher.connect()
    publisher.publish("a/b", b"m", 1)
    answer = publisher.take()
    assert isinstance(answer, Acknowledgement)
    return answer.reason


@pytest.mark.parametrize(("first_s", "second_s"), [(0, 60), (60, 0), (10, 60), (60, 10)])
def test_its_queue_lives_as_long_as_any_session_that_has_it(broker: MemoryBroker, first_s: int, second_s: int) -> None:
    members = [lasting(broker, "c1", first_s), lasting(broker, "c2", second_s)]
    for client in reversed(members):
        client.drop()
    broker.advance(30_000)
    assert published(broker) == Reason.SUCCESS
    longer = "c1" if first_s > second_s else "c2"
    assert [one.payload for one in back(broker, longer).messages()] == [b"m"]
    back(broker, longer).drop()
    broker.advance(60_000)
    assert QUEUE not in broker.virtual_host.queues
    assert published(broker) == Reason.NO_MATCHING_SUBSCRIBERS


def test_it_lives_with_a_session_whose_expiry_was_changed(broker: MemoryBroker) -> None:
    lasting(broker, "c", 10).disconnect(0, {Property.SESSION_EXPIRY_INTERVAL: 100})
    broker.advance(90_000)
    assert published(broker) == Reason.SUCCESS
    broker.advance(10_000)
    assert published(broker) == Reason.NO_MATCHING_SUBSCRIBERS


def test_it_goes_with_a_session_that_is_begun_anew_and_the_queues_of_others_stay(broker: MemoryBroker) -> None:
    client, other = lasting(broker, "c", 60), member(broker, "other", 1, "$share/h/a/+")
    client.subscribe("$share/h/a/+", 1)
    client.drop()
    other.drop()
    assert published(broker) == Reason.SUCCESS
    MqttClient(broker, "c", 5).connect()
    assert [name for name in broker.virtual_host.queues if name.startswith("mqtt-shared")] == ["mqtt-shared-h/a/+"]
    assert lasting(broker, "stranger", 60).messages() == []
    assert [one.payload for one in back(broker, "other").messages()] == [b"m"]


def test_after_a_restart_it_is_there_if_a_session_is() -> None:
    broker = DiskBroker(mqtt_port=0)
    lasting(broker, "short", 0)
    broker = broker.without_power(mqtt_port=0)
    assert published(broker) == Reason.NO_MATCHING_SUBSCRIBERS
    lasting(broker, "short", 0)
    lasting(broker, "long", 60)
    broker = broker.without_power(mqtt_port=0)
    assert published(broker) == Reason.SUCCESS
    broker.advance(59_000)
    assert [one.payload for one in back(broker, "long").messages()] == [b"m"]


def test_a_queue_that_somebody_else_has_given_such_a_name_is_used_as_it_is_and_stays() -> None:
    broker = DiskBroker(mqtt_port=0)
    client = back(broker, "c")
    arguments: Table = {"x-max-length": 5}
    for name in (QUEUE, "mqtt-shared-nobody/a"):
        broker.virtual_host.declare_queue(
            client.connection.client, name, durable=True, exclusive=False, auto_delete=False, arguments=arguments
        )
    assert client.subscribe(SHARED, 1) == 1
    broker = broker.without_power(mqtt_port=0)
    assert published(broker) == Reason.SUCCESS
    client = back(broker, "c")
    assert [one.payload for one in client.messages()] == [b"m"]
    client.unsubscribe(SHARED)
    client.drop()
    broker = broker.without_power(mqtt_port=0)
    assert sorted(broker.virtual_host.queues) == [QUEUE, "mqtt-shared-nobody/a"]


def test_sessions_with_many_shared_subscriptions_end_without_a_look_at_all_the_others(broker: MemoryBroker) -> None:
    for number in range(30):
        client = lasting(broker, f"c{number}", number % 2)
        for group in range(30):
            client.subscribe(f"$share/g{group}/a/+", 1)
        client.drop()
    assert len(broker.virtual_host.queues) == 31
    broker.advance(1_000)
    assert len(broker.virtual_host.queues) == 0
