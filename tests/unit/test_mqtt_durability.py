"""What of MQTT outlives the broker: sessions, retained messages, and exchanges of QoS 2, wherever the power fails."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from amqp_broker.broker.persistence.definitions import encode_retained
from amqp_broker.broker.retained import Retained
from amqp_broker.broker.retained_message import RetainedMessage
from amqp_broker.broker.works import SLICE_MESSAGES
from amqp_broker.protocols.mqtt.packets import PacketType, Will
from amqp_broker.protocols.mqtt.properties import Property
from amqp_broker.wire.table import decode_table, encode_table
from tests.support.client import Client
from tests.support.disk_broker import DiskBroker
from tests.support.mqtt_client import MqttClient
from tests.support.mqtt_exchange import Receiver, Sender


def connected(broker: DiskBroker, client_id: str) -> MqttClient:
    client = MqttClient(broker, client_id)
    assert client.connect(clean=False).codes == [0]
    return client


@pytest.mark.parametrize("first_level", ["a", "long" * 100], ids=["short", "longer than a routing key"])
def test_a_session_and_its_messages_outlive_the_broker(first_level: str) -> None:
    broker = DiskBroker(mqtt_port=0)
    client = connected(broker, "c")
    client.subscribe(f"{first_level}/+", 1)
    client.subscribe("b", 0)
    client.disconnect()
    publisher = connected(broker, "p")
    publisher.publish(f"{first_level}/b", b"m", 1, retain=True)
    broker = broker.without_power(mqtt_port=0)
    client = MqttClient(broker, "c")
    assert client.connect(clean=False).session_present
    assert [(one.topic, one.payload) for one in client.messages()] == [(f"{first_level}/b", b"m")]
    client.subscribe(f"{first_level}/b", 0)
    assert [(one.payload, one.retain) for one in client.messages()] == [(b"m", True)]
    client.publish("b", b"of QoS 0")
    assert [one.payload for one in client.messages()] == [b"of QoS 0"]


def test_that_a_topic_has_no_message_any_more_is_confirmed_when_it_is_kept_whoever_took_it_away() -> None:
    broker = DiskBroker(mqtt_port=0)
    one, two = connected(broker, "one"), connected(broker, "two")
    one.publish("t", b"m", 1, retain=True)
    broker.writes_at_once = False
    one.publish("t", b"", 1, retain=True)
    broker.write(sync=False)
    two.publish("t", b"", 1, retain=True)
    assert two.all() == [], "it is not synced"
    broker.write()
    assert len(two.all()) == 1


def test_who_comes_back_to_a_session_writes_nothing() -> None:
    broker = DiskBroker(mqtt_port=0)
    client = connected(broker, "c")
    client.subscribe("a", 1)
    client.disconnect()
    session = broker.virtual_host.client_sessions.get("c")
    assert session is not None
    record = session.reference
    connected(broker, "c").disconnect()
    assert session.reference == record
    client = MqttClient(broker, "c", 5)  # its session ends earlier than before
    assert client.connect(clean=False, properties={Property.SESSION_EXPIRY_INTERVAL: 60}).session_present
    assert session.reference > record
    client.drop()
    broker = broker.without_power(mqtt_port=0)
    broker.advance(60_000)
    assert len(broker.virtual_host.client_sessions) == 0


def test_each_subscription_has_a_record_of_its_own() -> None:
    broker = DiskBroker(mqtt_port=0)
    client = connected(broker, "c")
    for topic_filter in ("a", "b", "c"):
        client.subscribe(topic_filter, 1)
    session = broker.virtual_host.client_sessions.get("c")
    assert session is not None
    before = (session.reference, session.subscriptions["a"].reference)
    client.subscribe("a", 1)
    client.subscribe("b", 2)
    client.unsubscribe("c")
    client.subscribe("d", 0)
    assert (session.reference, session.subscriptions["a"].reference) == before
    broker = broker.without_power(mqtt_port=0)
    session = broker.virtual_host.client_sessions.get("c")
    assert session is not None
    assert {name: one.options["qos"] for name, one in session.subscriptions.items()} == {"a": 1, "b": 2, "d": 0}
    references = [session.reference, *(one.reference for one in session.subscriptions.values())]
    broker.advance(86_400_000)
    assert not any(broker.durability.has(reference) for reference in references)


def test_a_queue_that_was_there_before_its_session_stays_with_it_after_a_restart() -> None:
    broker = DiskBroker(mqtt_port=0)
    name = "mqtt-subscription-cqos1"
    broker.client().channel().declare(name, {"x-mqtt-subscription": "own"}, durable=True)
    client = connected(broker, "c")
    client.subscribe("a", 1)
    client.disconnect()
    broker = broker.without_power(mqtt_port=0)
    assert name in broker.virtual_host.queues


@pytest.mark.parametrize("default_type", [None, "quorum"])
def test_queues_of_a_release_that_knew_them_by_their_names_are_those_of_their_sessions(
    default_type: str | None,
) -> None:
    broker = DiskBroker(mqtt_port=0)
    own, shared, others = "mqtt-subscription-cqos1", "mqtt-shared-g/#", "mqtt-shared-of-another/x"
    channel = broker.client().channel()
    of_type: dict[str, Any] = {} if default_type is None else {"x-queue-type": default_type}
    channel.declare(own, {"x-expires": 60_000, **of_type}, durable=True)
    for name in (shared, others):
        channel.declare(name, of_type, durable=True)
    client = connected(broker, "c")
    client.subscribe("+/t", 1)
    session = broker.virtual_host.client_sessions.get("c")
    assert session is not None
    broker.virtual_host.client_sessions.own(session, own)
    client.subscribe("$share/g/#", 1)
    client.disconnect()
    broker = broker.without_power(mqtt_port=0)
    connected(broker, "publisher").publish("a.b/t", b"1", 1)
    assert "x-expires" not in broker.virtual_host.queues[own].table
    assert broker.virtual_host.queues[own].declared.queue_type == (default_type or "classic")
    assert [broker.virtual_host.queues[name].ready_count for name in (own, shared, others)] == [1, 1, 0]
    client = connected(broker, "c")
    assert [message.topic for message in client.messages()] == ["a.b/t"] * 2
    for topic_filter in ("+/t", "$share/g/#"):
        client.unsubscribe(topic_filter)
    assert [name for name in broker.virtual_host.queues if name.startswith("mqtt-")] == [own, others]


def test_a_session_without_its_record_takes_no_queue_along_that_others_share() -> None:
    """As a repair may leave one (``broker/persistence/recovery.py``)."""
    broker = DiskBroker(mqtt_port=0)
    for client_id in ("a", "b"):
        client = connected(broker, client_id)
        client.subscribe("$share/g/t", 1)
        client.disconnect()
    session = broker.virtual_host.client_sessions.get("b")
    assert session is not None
    reference = session.reference
    broker.handle(lambda: broker.durability.drop(reference))
    broker = broker.without_power(mqtt_port=0)
    assert broker.virtual_host.client_sessions.get("b") is None
    assert list(broker.virtual_host.queues) == ["mqtt-shared-g/t"]


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


def test_a_session_that_was_to_end_with_its_connection_leaves_no_queue_when_the_power_fails() -> None:
    broker = DiskBroker(mqtt_port=0)
    client = connected(broker, "c")
    client.subscribe("a", 1)
    client.drop()
    client = MqttClient(broker, "c", 5)
    assert client.connect(clean=False, properties={Property.SESSION_EXPIRY_INTERVAL: 0}).session_present
    broker = broker.without_power(mqtt_port=0)
    assert list(broker.virtual_host.queues) == []


def test_a_will_outlives_the_broker_with_its_delay_whether_its_client_was_there_or_away() -> None:
    """A session that lasts keeps it: MQTT 5.0, 3.1.2.5 lets a server that failed say it when it is back."""
    broker = DiskBroker(mqtt_port=0)
    watcher = connected(broker, "w")
    watcher.subscribe("will/#", 1)

    def heard() -> list[bytes]:
        return sorted(one.payload for one in watcher.messages() if not one.duplicate)

    lasts = {Property.SESSION_EXPIRY_INTERVAL: 3600}
    clients = {}
    for name, delay_s in (("there", 10), ("away", 10), ("said", 1), ("goodbye", 10), ("back", 10), ("now", 0)):
        will = Will(f"will/{name}", b"", 1, True, {Property.WILL_DELAY_INTERVAL: delay_s})
        will.payload = name.encode()
        clients[name] = MqttClient(broker, name, 5)
        clients[name].connect(will=will, properties=lasts)
    for name in ("away", "said", "back"):
        clients[name].drop()
    clients["goodbye"].disconnect()
    MqttClient(broker, "back", 5).connect(clean=False, properties=lasts)  # without a will
    broker.advance(1_000)
    assert heard() == [b"said"]
    broker = broker.without_power(mqtt_port=0)
    watcher = MqttClient(broker, "w")
    assert watcher.connect(clean=False).session_present
    broker.advance(1)
    assert heard() == [b"now"]
    broker.advance(9_990)
    assert heard() == []
    broker.advance(10)
    assert heard() == [b"away", b"there"]
    broker = broker.without_power(mqtt_port=0)
    watcher = MqttClient(broker, "w")
    assert watcher.connect(clean=False).session_present
    broker.advance(20_000)
    assert heard() == []
    watcher.subscribe("+/there", 1)
    assert [(one.topic, one.payload, one.retain) for one in watcher.messages()] == [("will/there", b"there", True)]


def test_a_will_of_a_client_that_topic_permissions_name_is_said_after_a_restart() -> None:
    broker = DiskBroker(mqtt_port=0)
    watcher = connected(broker, "w")
    watcher.subscribe("will/#", 1)
    broker.administration.set_topic_permission("guest", "/", "amq.topic", "^will\\.{client_id}$", ".*")
    lasts = {Property.SESSION_EXPIRY_INTERVAL: 60}
    for name, topic in (("c", "will/c"), ("d", "will/c")):
        assert MqttClient(broker, name, 5).connect(will=Will(topic, name.encode(), 1), properties=lasts).codes == [0]
    broker.write()
    broker = broker.without_power(mqtt_port=0)
    watcher = MqttClient(broker, "w")
    watcher.connect(clean=False)
    broker.advance(1)
    assert [one.payload for one in watcher.messages()] == [b"c"]


def test_a_will_of_a_user_who_is_gone_is_not_said_after_a_restart() -> None:
    broker = DiskBroker(mqtt_port=0)
    broker.administration.add_user("device", "secret", ())
    broker.administration.set_permission("device", "/", ".*", ".*", ".*")
    watcher = connected(broker, "w")
    watcher.subscribe("will", 1)
    client = MqttClient(broker, "c", 5)
    will = Will("will", b"m", 1, properties={Property.WILL_DELAY_INTERVAL: 1})
    lasts = {Property.SESSION_EXPIRY_INTERVAL: 60}
    assert client.connect(user_name="device", password=b"secret", will=will, properties=lasts).codes == [0]
    client.drop()
    broker.administration.delete_user("device")
    broker.write()
    broker = broker.without_power(mqtt_port=0)
    watcher = MqttClient(broker, "w")
    watcher.connect(clean=False)
    broker.advance(1_000)
    assert watcher.messages() == []


def test_the_record_of_a_retained_message_is_a_table() -> None:
    message = RetainedMessage("t/é", b"header", b"b" * 300, 1 << 40)
    fields, _ = decode_table(encode_retained("/é", message), 0)
    assert encode_retained("/é", message) == encode_table(fields)
    assert list(fields.values()) == ["/é", "t/é", b"header", b"b" * 300, 1 << 40]


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


def test_what_dies_with_a_virtual_host_and_goes_to_a_session_there_does_not_bring_it_back() -> None:
    broker = DiskBroker(mqtt_port=0)
    broker.administration.add_virtual_host("other")
    broker.administration.set_permission("guest", "other", ".*", ".*", ".*")
    channel = Client(broker).open(virtual_host="other").channel()
    channel.declare("q", {"x-dead-letter-exchange": "amq.topic", "x-dead-letter-routing-key": "t"}, durable=True)
    client = MqttClient(broker, "c")
    client.connect(clean=False, user_name="other:guest", password=b"guest")
    client.subscribe("t", 2)
    channel.publish("", "q", b"m", delivery_mode=2, headers={"x-mqtt-publish-qos": 2})
    assert channel.get("q") is not None

    def reject_and_delete() -> None:
        channel.reject(1, requeue=False)
        broker.administration.delete_virtual_host("other")

    broker.handle(reject_and_delete)
    assert [one.payload for one in client.messages()] == [b"m"]
    assert "other" not in broker.without_power(mqtt_port=0).virtual_hosts


# --- exactly once, with the power failing between any two steps


WRITE, SENDER, RECEIVER = range(3)
STEPS_MAX = 5
STEPS_TO_THE_END = 24


@pytest.mark.parametrize(
    ("count", "is_power_lost"),
    [
        *((count, False) for count in range(STEPS_MAX)),
        *((count, True) for count in range(STEPS_MAX - 1)),
        *(pytest.param(count, True, marks=pytest.mark.slow) for count in (STEPS_MAX - 1, STEPS_MAX)),
    ],
)
def test_messages_arrive_once_wherever_the_power_fails_or_connections_end(count: int, is_power_lost: bool) -> None:
    """Every order of so many steps before it: the journal writes, the sender hears, the receiver hears."""
    for steps in product((WRITE, SENDER, RECEIVER), repeat=count):
        pass_through(steps, is_power_lost=is_power_lost)


def pass_through(steps: tuple[int, ...], *, is_power_lost: bool) -> None:
    broker = DiskBroker(mqtt_port=0)
    for client_id in ("r", "s"):
        client = connected(broker, client_id)
        client.subscribe("a" if client_id == "r" else "nothing", 2)
        client.drop()
    sender, receiver = Sender(b"1", b"2"), Receiver()
    sending, receiving = connected(broker, "s"), connected(broker, "r")
    connected(broker, "another").publish("a", b"", 1)  # so that the identifiers of one life are not those of the next
    receiver.hear(receiving)
    broker.writes_at_once = False
    sender.go_on(sending, duplicate=False)
    do_steps(broker, steps, sender, sending, receiver, receiving)
    if is_power_lost:
        broker = broker.without_power(mqtt_port=0)
    else:
        sending.drop()
        receiving.drop()
        broker.writes_at_once = True
    receiving, sending = connected(broker, "r"), connected(broker, "s")
    sender.go_on(sending)
    do_steps(broker, (WRITE, SENDER, RECEIVER) * STEPS_TO_THE_END, sender, sending, receiver, receiving)
    assert (receiver.got, sender.waiting) == ([b"1", b"2"], []), steps
    for client_id in ("r", "s"):
        session = broker.virtual_host.client_sessions.get(client_id)
        assert session is not None
        assert (session.sent.items(), session.released, session.received) == ([], {}, {}), steps


def do_steps(
    broker: DiskBroker,
    steps: tuple[int, ...],
    sender: Sender,
    sending: MqttClient,
    receiver: Receiver,
    receiving: MqttClient,
) -> None:
    for step in steps:
        if step == WRITE:
            broker.write()
        elif step == SENDER:
            sender.hear(sending)
        else:
            receiver.hear(receiving)


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
        there = [one.topic for one in retained.matching(topic_filter) if one is not None]
        assert sorted(there) == sorted(found), topic_filter
    for topic in topics:
        retained.remove(topic)
    assert (len(retained), retained._top.below) == (0, {})


def test_others_have_their_turns_while_very_many_retained_messages_are_looked_through() -> None:
    broker = DiskBroker(mqtt_port=0)
    client = connected(broker, "c")
    for number in range(SLICE_MESSAGES):
        broker.virtual_host.retained.restore(RetainedMessage(f"d/{number}", b"h", b"b", 0))
    with broker.holding_works():
        client.subscribe("d/+/none", 1)
        assert client.connection.is_reading_paused
    assert not client.connection.is_reading_paused


def test_retained_messages_that_a_session_has_not_had_do_not_come_to_the_next_one_of_its_client() -> None:
    broker = DiskBroker(mqtt_port=0)
    publisher, first, second = (MqttClient(broker, client_id) for client_id in ("p", "c", "c"))
    publisher.connect()
    first.connect()
    for number in range(SLICE_MESSAGES // 5):
        publisher.publish(f"d/{number}", b"m", retain=True)
    with broker.holding_works():
        first.subscribe("d/#")
        assert first.connection.is_reading_paused
        second.connect()
        second.subscribe("d/#")
    assert len(second.messages()) == SLICE_MESSAGES // 5


def test_identifiers_of_messages_that_are_gone_are_free_again() -> None:
    broker = DiskBroker(mqtt_port=0)
    client = connected(broker, "c")
    client.subscribe("a", 2)
    session = broker.virtual_host.client_sessions.get("c")
    assert session is not None
    publisher = MqttClient(broker, "p", 5)
    publisher.connect()
    for _ in range(5):
        for _ in range(10):
            publisher.publish("a", b"m", 2, properties={Property.MESSAGE_EXPIRY_INTERVAL: 1})
        assert len(client.messages()) == 10
        assert len(session.sent) == 10
        client.drop()
        broker.advance(2_000)
        client = connected(broker, "c")
    assert len(session.sent) == 0


@pytest.mark.parametrize("has_power", [True, False])
@pytest.mark.parametrize(("qos", "qos_then"), [(1, None), (2, None), (2, 1), (2, 0), (1, 0)])
def test_what_was_on_its_way_is_completed_whatever_becomes_of_its_subscription(
    qos: int, qos_then: int | None, has_power: bool
) -> None:
    broker = DiskBroker(mqtt_port=0)
    client = connected(broker, "c")
    client.subscribe("t", qos)
    sender = connected(broker, "sender")
    sender.publish("t", b"1", qos)
    (message,) = client.messages()
    if qos_then is None:
        client.unsubscribe("t")
    else:
        client.subscribe("t", qos_then)
    client.drop()
    if not has_power:
        broker = broker.without_power(mqtt_port=0)
        sender = connected(broker, "sender")
    client = connected(broker, "c")
    (again,) = client.messages()
    assert (again.topic, again.payload, again.qos, again.duplicate) == ("t", b"1", qos, True)
    assert qos == 1 or again.packet_id == message.packet_id
    client.acknowledge(PacketType.PUBREC if qos == 2 else PacketType.PUBACK, again.packet_id)
    sender.publish("t", b"2", 1)
    assert [one.payload for one in client.messages()] == ([] if qos_then is None else [b"2"])
