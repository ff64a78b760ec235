"""What of MQTT outlives the broker: sessions, retained messages, and exchanges of QoS 2, wherever the power fails."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from amqp_broker.broker.retained import Retained, RetainedMessage
from amqp_broker.protocols.mqtt.packets import Acknowledgement, PacketType, Publish
from tests.support.disk_broker import DiskBroker
from tests.support.mqtt_client import MqttClient


def connected(broker: DiskBroker, client_id: str) -> MqttClient:
    client = MqttClient(broker, client_id)
    assert client.connect(clean=False).codes == [0]
    return client


def test_a_session_and_its_messages_outlive_the_broker() -> None:
    broker = DiskBroker(mqtt_port=0)
    client = connected(broker, "c")
    client.subscribe("a/#", 1)
    client.subscribe("b", 0)
    client.disconnect()
    connected(broker, "p").publish("a/b", b"m", 1)
    broker = broker.without_power(mqtt_port=0)
    client = MqttClient(broker, "c")
    assert client.connect(clean=False).session_present
    assert [one.payload for one in client.messages()] == [b"m"]
    client.publish("b", b"of QoS 0")
    assert [one.payload for one in client.messages()] == [b"of QoS 0"]


def test_a_session_that_nobody_resumes_ends_after_a_restart_as_well() -> None:
    broker = DiskBroker(mqtt_port=0, mqtt_session_expiry_max_s=60)
    client = connected(broker, "c")
    client.subscribe("a", 1)
    client.disconnect()
    broker = broker.without_power(mqtt_port=0, mqtt_session_expiry_max_s=60)
    broker.advance(60_000)
    assert len(broker.virtual_host.client_sessions) == 0
    broker = broker.without_power(mqtt_port=0)
    assert len(broker.virtual_host.client_sessions) == 0
    assert list(broker.virtual_host.queues) == []


def test_retained_messages_outlive_the_broker_and_take_each_others_place() -> None:
    broker = DiskBroker(mqtt_port=0)
    publisher = connected(broker, "p")
    for payload in (b"1", b"2", b"3"):
        publisher.publish("a/b", payload, 1, retain=True)
    publisher.publish("a/c", b"gone", 1, retain=True)
    publisher.publish("a/c", b"", 1, retain=True)
    broker = broker.without_power(mqtt_port=0)
    client = connected(broker, "c")
    client.subscribe("+/#", 1)
    assert [(one.topic, one.payload) for one in client.messages()] == [("a/b", b"3")]


def test_a_deleted_virtual_host_takes_sessions_and_retained_messages_along() -> None:
    broker = DiskBroker(mqtt_port=0)
    broker.administration.add_virtual_host("other")
    broker.administration.set_permission("guest", "other", ".*", ".*", ".*")
    before = broker.live_records()
    client = MqttClient(broker, "c")
    client.connect(clean=False, user_name="other:guest", password=b"guest")
    client.subscribe("a", 1)
    client.publish("a", b"m", 1, retain=True)
    broker.administration.delete_virtual_host("other")
    assert broker.live_records() == before - 1
    assert "other" not in broker.without_power(mqtt_port=0).virtual_hosts


# --- exactly once, with the power failing between any two steps


class Sender:
    """A client that publishes one message with QoS 2, and goes on where it was as often as it must."""

    def __init__(self) -> None:
        self.is_received = False  # the broker has said so
        self.is_done = False

    def go_on(self, client: MqttClient) -> None:
        """Send what is to be sent after a connect."""
        if not self.is_done and not self.is_received:
            client.publish("a", b"m", 2, packet_id=1, duplicate=True)
        elif not self.is_done:
            client.acknowledge(PacketType.PUBREL, 1)

    def hear(self, client: MqttClient) -> bool:
        """Take the next answer; returns whether there was one."""
        packets = client.all()
        for packet in packets:
            assert isinstance(packet, Acknowledgement)
            if packet.type is PacketType.PUBREC and not self.is_received:
                self.is_received = True
                client.acknowledge(PacketType.PUBREL, 1)
            elif packet.type is PacketType.PUBCOMP:
                self.is_done = True
        return bool(packets)


class Receiver:
    """A client that gets messages with QoS 2, each once, as the standard's method B has it."""

    def __init__(self) -> None:
        self.got: list[bytes] = []
        self._known: set[int] = set()

    def hear(self, client: MqttClient) -> bool:
        """Take what has come, and answer; returns whether there was anything."""
        packets = client.all()
        for packet in packets:
            if isinstance(packet, Publish):
                if packet.packet_id not in self._known:
                    self._known.add(packet.packet_id)
                    self.got.append(packet.payload)
                client.acknowledge(PacketType.PUBREC, packet.packet_id)
            else:
                assert isinstance(packet, Acknowledgement)
                self._known.discard(packet.packet_id)
                client.acknowledge(PacketType.PUBCOMP, packet.packet_id)
        return bool(packets)


STEPS = 16


@pytest.mark.parametrize("is_power_lost", [True, False], ids=["power", "connection"])
@pytest.mark.parametrize("step", range(STEPS))
def test_a_message_arrives_once_wherever_the_power_fails(step: int, is_power_lost: bool) -> None:
    """Each step is one write of the journal, or one thing that a client does; after so many the power fails."""
    broker = DiskBroker(mqtt_port=0)
    first = connected(broker, "r")
    first.subscribe("a", 2)
    connected(broker, "s").drop()
    first.drop()
    sender, receiver = Sender(), Receiver()
    broker.writes_at_once = False
    for attempt in range(2):
        sending, receiving = connected_while_writing(broker, "s"), connected_while_writing(broker, "r")
        sender.go_on(sending)
        actions: list[Callable[[], object]] = [
            broker.write,
            lambda: sender.hear(sending),  # noqa: B023
            lambda: receiver.hear(receiving),  # noqa: B023
        ]
        for number in range(step if attempt == 0 else 4 * STEPS):
            actions[number % len(actions)]()
        if attempt == 0 and is_power_lost:
            broker = broker.without_power(mqtt_port=0)
            broker.writes_at_once = False
        else:
            sending.drop()
            receiving.drop()
    assert sender.is_done
    assert receiver.got == [b"m"]
    broker.write()
    session = broker.virtual_host.client_sessions.get("r")
    assert session is not None
    assert (session.sent, session.released, session.received) == ({}, {}, {})


def connected_while_writing(broker: DiskBroker, client_id: str) -> MqttClient:
    client = MqttClient(broker, client_id)
    broker.writes_at_once = True
    assert client.connect(clean=False).codes == [0]
    broker.writes_at_once = False
    return client


# --- the tree


def test_the_tree_finds_what_matches_and_forgets_branches() -> None:
    broker = DiskBroker(mqtt_port=0)
    retained = Retained("/", broker.clock, broker.durability)
    topics = ["a", "a/b", "a/b/c", "a//c", "/a", "$s/a", "b/b/c"]
    for topic in topics:
        retained.put(RetainedMessage(topic, b"h", b"b", 0))
    expected = {
        "#": ["a", "a/b", "a/b/c", "a//c", "/a", "b/b/c"],
        "+": ["a"],
        "+/+": ["a/b", "/a"],
        "a/#": ["a", "a/b", "a/b/c", "a//c"],
        "a/+/c": ["a/b/c", "a//c"],
        "+/b/c": ["a/b/c", "b/b/c"],
        "$s/#": ["$s/a"],
        "/+": ["/a"],
        "a/b/c/d": [],
        "nothing/#": [],
    }
    for topic_filter, found in expected.items():
        assert sorted(one.topic for one in retained.matching(topic_filter)) == sorted(found), topic_filter
    for topic in topics:
        retained.remove(topic)
    assert (len(retained), retained._top.below) == (0, {})
