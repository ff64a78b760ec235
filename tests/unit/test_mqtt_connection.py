"""MQTT's conversation in memory: CONNECT, sessions, publishing, subscribing, deliveries, wills, retained messages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from pamqp import commands

from amqp_broker.access.judge import NotDecidedYet
from amqp_broker.broker.message import digest_of
from amqp_broker.broker.virtual_host_properties import Metadata
from amqp_broker.protocols.mqtt.packet_writing import encode_client_packet
from amqp_broker.protocols.mqtt.packets import (
    Acknowledgement,
    Connect,
    Disconnect,
    PacketType,
    PingRequest,
    Publish,
    Subscribe,
    Subscription,
    Unsubscribe,
    Will,
)
from amqp_broker.protocols.mqtt.properties import Properties, Property
from amqp_broker.protocols.mqtt.reasons import Reason
from amqp_broker.wire.content import Properties as AmqpProperties
from amqp_broker.wire.content import encode_content_header
from tests.support.client import Client
from tests.support.memory_broker import MemoryBroker
from tests.support.mqtt_client import Answer, MqttClient


@pytest.fixture
def broker() -> MemoryBroker:
    return MemoryBroker(mqtt_port=0)


@pytest.fixture(params=[3, 4, 5])
def level(request: pytest.FixtureRequest) -> int:
    found: int = request.param
    return found


def connected(broker: MemoryBroker, client_id: str = "", level: int = 4, **fields: Any) -> MqttClient:
    client = MqttClient(broker, client_id, level)
    answer = client.connect(**fields)
    assert answer.codes == [0], answer
    return client


def session_expiry(seconds: int) -> Properties:
    return {int(Property.SESSION_EXPIRY_INTERVAL): seconds}


def payloads(messages: list[Publish]) -> list[bytes]:
    return [one.payload for one in messages]


# --- CONNECT


def test_a_message_goes_from_publisher_to_subscriber_in_every_version_byte_by_byte(
    broker: MemoryBroker, level: int
) -> None:
    subscriber = MqttClient(broker, "s", level, in_bytes=True)
    assert subscriber.connect().codes == [0]
    assert subscriber.subscribe("a/+", 2) == 2
    publisher = MqttClient(broker, "p", level, in_bytes=True)
    publisher.connect()
    for qos in range(3):
        publisher.publish("a/b", b"%d" % qos, qos)
    assert [(one.topic, one.payload, one.qos, one.retain) for one in subscriber.messages()] == [
        ("a/b", b"0", 0, False),
        ("a/b", b"1", 1, False),
        ("a/b", b"2", 2, False),
    ]


def test_who_may_not_come_in_is_told_so(broker: MemoryBroker) -> None:
    cases = (
        (4, {"user_name": "guest", "password": b"wrong"}, 4),
        (4, {"user_name": "guest"}, 4),
        (4, {"user_name": "nowhere:guest", "password": b"guest"}, 4),
        (5, {"user_name": "guest", "password": b"wrong"}, Reason.BAD_USER_NAME_OR_PASSWORD),
        (5, {"properties": {Property.AUTHENTICATION_METHOD: "x"}}, Reason.BAD_AUTHENTICATION_METHOD),
        (5, {"will": Will("a/#", b"")}, Reason.TOPIC_NAME_INVALID),
    )
    for level, fields, code in cases:
        client = MqttClient(broker, "c", level)
        assert client.connect(**fields).codes == [code]
        assert client.is_closed
    client = MqttClient(broker, "", 4)
    assert client.connect(clean=False).codes == [2]
    assert len(broker.open_connections) == 0


def test_mqtt_3_1_wants_a_client_identifier_and_may_mark_as_repeated(broker: MemoryBroker) -> None:
    assert MqttClient(broker, "", 3).connect().codes == [2]
    for level, is_closed in ((3, False), (4, True)):
        client = connected(broker, "c", level)
        client.write(b"\x6a\x02\x00\x07")  # PUBREL with DUP
        assert client.is_closed == is_closed


def test_a_client_that_takes_no_packet_as_large_as_connack_gets_nothing(broker: MemoryBroker) -> None:
    client = MqttClient(broker, "c", 5)
    client.send(Connect(5, "c", properties={Property.MAXIMUM_PACKET_SIZE: 2}))
    assert (client.connection.take_output(), client.is_closed) == ([], True)


def test_the_wrong_answer_to_a_message_ends_the_connection(broker: MemoryBroker, level: int) -> None:
    for qos, answer in ((1, PacketType.PUBREC), (1, PacketType.PUBCOMP), (2, PacketType.PUBACK)):
        client = connected(broker, "c", level)
        client.subscribe("a", qos)
        connected(broker, "p").publish("a", b"m", qos)
        client.send(Acknowledgement(answer, 1))
        assert client.is_closed


def test_puback_where_pubcomp_is_due_ends_the_connection(broker: MemoryBroker) -> None:
    subscriber = connected(broker, "s", 5)
    subscriber.subscribe("a", 2)
    connected(broker, "p").publish("a", b"m", 2)
    (message,) = subscriber.messages()
    subscriber.acknowledge(PacketType.PUBREC, message.packet_id)
    assert subscriber.take() == Acknowledgement(PacketType.PUBREL, message.packet_id)
    subscriber.acknowledge(PacketType.PUBACK, message.packet_id)
    assert subscriber.take() == Answer(PacketType.DISCONNECT, 0, [Reason.PROTOCOL_ERROR])


def test_malformed_subscriptions_and_properties_are_called_so(broker: MemoryBroker) -> None:
    for data in (b"\x82\x06\0\1\0\0\0\1", b"\xa2\x05\0\1\0\0\0", b"\x82\x0c\0\1\5\x11\0\0\0\0\0\1a\1"):
        client = connected(broker, "c", 5)
        client.write(data)
        answer = client.take()
        assert isinstance(answer, Answer)
        assert (answer.type, answer.codes) == (PacketType.DISCONNECT, [Reason.MALFORMED_PACKET])


def test_who_publishes_to_nobody_with_qos_1_is_told_so_even_if_it_is_retained(broker: MemoryBroker) -> None:
    client = connected(broker, "c", 5)
    for retain in (False, True):
        client.send(Publish("nobody", b"m", 1, retain, packet_id=1))
        answer = client.take()
        assert isinstance(answer, Acknowledgement)
        assert answer.reason == Reason.NO_MATCHING_SUBSCRIBERS


def test_who_does_not_want_its_own_is_not_told_that_nobody_listens(broker: MemoryBroker) -> None:
    client = connected(broker, "c", 5)
    client.send(Subscribe(1, [Subscription("a", 1, no_local=True)]))
    client.take()
    client.send(Publish("a", b"m", 1, packet_id=2))
    answer = client.take()
    assert isinstance(answer, Acknowledgement)
    assert answer.reason == Reason.SUCCESS


def test_a_session_may_last_for_ever_where_that_is_allowed() -> None:
    broker = MemoryBroker(mqtt_port=0, mqtt_session_expiry_max_s=4_294_967_295)
    client = MqttClient(broker, "c", 5)
    answer = client.connect(properties=session_expiry(4_294_967_295))
    assert Property.SESSION_EXPIRY_INTERVAL not in answer.properties
    assert client.subscribe("a", 1) == 1


def test_an_empty_user_name_is_none(broker: MemoryBroker) -> None:
    for fields in ({"user_name": ""}, {"user_name": "", "password": b""}):
        assert connected(broker, "c", **fields).connection.user_name == "guest"
    assert MqttClient(broker, "c").connect(user_name="", password=b"guest").codes == [4]


def test_a_client_of_mqtt_5_is_told_a_shorter_keep_alive() -> None:
    broker = MemoryBroker(mqtt_port=0, mqtt_keep_alive_max_s=60)
    for level, asked_s, granted_s in ((5, 120, 60), (5, 0, 60), (5, 60, None), (5, 1, None), (4, 120, None)):
        client = MqttClient(broker, "c", level)
        answer = client.connect(keep_alive_s=asked_s)
        assert answer.properties.get(Property.SERVER_KEEP_ALIVE) == granted_s
        client.disconnect()
    client = MqttClient(broker, "c", 5)
    client.connect(keep_alive_s=120)
    broker.advance(90_000)
    assert client.is_closed


def test_a_user_name_names_the_virtual_host(broker: MemoryBroker) -> None:
    broker.administration.add_virtual_host("other")
    broker.administration.set_permission("guest", "other", ".*", ".*", ".*")
    client = connected(broker, "c", user_name="other:guest", password=b"guest")
    assert client.connection.virtual_host_name == "other"


def test_a_stranger_without_a_user_name_is_refused_where_that_is_off() -> None:
    broker = MemoryBroker(mqtt_port=0, mqtt_allow_anonymous="off")
    assert MqttClient(broker, "c").connect().codes == [4]


def test_a_stranger_without_a_user_name_is_not_the_administrator_of_the_settings() -> None:
    broker = MemoryBroker(mqtt_port=0, default_user="shop", default_password="secret")
    assert MqttClient(broker, "c").connect().codes == [4]
    assert MqttClient(broker, "c").connect(user_name="shop", password=b"secret").codes == [0]


def test_an_unknown_level_is_answered_and_what_is_no_mqtt_is_not(broker: MemoryBroker) -> None:
    client = MqttClient(broker)
    client.write(b"\x10\x0c\x00\x04MQTT\x09\x02\x00\x00\x00\x00")
    assert client.connection.take_output() == [b"\x20\x02\x00\x01"]
    connect_with_a_will_to_nowhere = b"\x10\x13\x00\x04MQTT\x04\x06\x00\x00\x00\x01w\x00\x00\x00\x02hm"
    for data in (connect_with_a_will_to_nowhere, b"\xc0\x00", b"GET / HTTP/1.1\r\n\r\n", b"\x10\xff\xff\xff\xff\xff"):
        client = MqttClient(broker)
        client.write(data)
        assert (client.connection.take_output(), client.is_closed) == ([], True)
        assert ("an HTTP client on a port for MQTT" in client.connection.close_reason) == data.startswith(b"GET")


def test_a_second_connect_ends_the_connection(broker: MemoryBroker) -> None:
    client = connected(broker, "c", 5)
    client.send(Connect(5, "c"))
    assert client.take() == Answer(PacketType.DISCONNECT, 0, [Reason.PROTOCOL_ERROR])
    assert client.is_closed


def test_who_never_connects_is_sent_away(broker: MemoryBroker) -> None:
    client = MqttClient(broker)
    broker.advance(broker.settings.handshake_timeout_ms)
    assert client.is_closed


def test_a_client_without_an_identifier_gets_one(broker: MemoryBroker) -> None:
    client = MqttClient(broker, "", 5)
    assigned = client.connect().properties[Property.ASSIGNED_CLIENT_IDENTIFIER]
    assert isinstance(assigned, str)
    assert assigned.startswith("auto-")


def test_who_is_silent_for_longer_than_its_keep_alive_goes(broker: MemoryBroker) -> None:
    client = connected(broker, "c", 5, keep_alive_s=10)
    broker.advance(14_000)
    client.send(PingRequest())
    assert client.take() == Answer(PacketType.PINGRESP)
    broker.advance(15_999)  # whether anything has come is looked at every half of the interval
    assert not client.is_closed
    broker.advance(1)
    assert client.take() == Answer(PacketType.DISCONNECT, 0, [Reason.KEEP_ALIVE_TIMEOUT])
    assert client.is_closed


def test_those_who_look_in_see_it_as_mqtt(broker: MemoryBroker) -> None:
    client = connected(broker, "c", keep_alive_s=7)
    client.subscribe("a", 1)
    (connection,) = broker.open_connections
    info = connection.inspect()
    assert (info["protocol"], info["timeout"], info["client_properties"]["client_id"]) == ("MQTT 3.1.1", 7, "c")
    (channel,) = connection.inspect_channels()
    assert (channel["consumer_count"], channel["number"]) == (1, 1)


def test_an_administrator_ends_it(broker: MemoryBroker) -> None:
    client = connected(broker, "c", 5)
    broker.administration.close_connections(client.connection.peer.connection_name, "no more")
    assert client.take() == Answer(PacketType.DISCONNECT, 0, [Reason.ADMINISTRATIVE_ACTION])


# --- sessions


def test_a_session_waits_for_its_client(broker: MemoryBroker) -> None:
    client = connected(broker, "c", clean=False)
    client.subscribe("a/#", 1)
    client.disconnect()
    publisher = connected(broker)
    publisher.publish("a/b", b"waits", 1)
    client = MqttClient(broker, "c")
    assert client.connect(clean=False).session_present
    (message,) = client.messages()
    assert (message.payload, message.qos, message.duplicate) == (b"waits", 1, False)


def test_a_clean_start_forgets_the_session(broker: MemoryBroker) -> None:
    client = connected(broker, "c", clean=False)
    client.subscribe("a", 1)
    client.disconnect()
    client = MqttClient(broker, "c")
    assert not client.connect(clean=True).session_present
    client.disconnect()
    assert list(broker.virtual_host.queues) == []
    assert len(broker.virtual_host.client_sessions) == 0


def test_a_session_ends_in_its_time_with_its_queue(broker: MemoryBroker) -> None:
    broker.virtual_host.metadata = Metadata(default_queue_type="stream")  # is not for MQTT, in RabbitMQ 4.0.5 neither
    client = MqttClient(broker, "c", 5)
    client.connect(properties=session_expiry(60))
    client.subscribe("a", 1)
    assert broker.queue("mqtt-subscription-cqos1").table == {"x-mqtt-subscription": "own", "x-queue-type": "classic"}
    client.disconnect(properties=session_expiry(20))
    broker.advance(19_999)
    assert len(broker.virtual_host.client_sessions) == 1
    broker.advance(1)
    assert len(broker.virtual_host.client_sessions) == 0
    assert list(broker.virtual_host.queues) == []


def test_a_session_that_was_not_to_last_cannot_last_after_all(broker: MemoryBroker) -> None:
    client = connected(broker, "c", 5)
    client.send(Disconnect(0, session_expiry(20)))
    assert client.take() == Answer(PacketType.DISCONNECT, 0, [Reason.PROTOCOL_ERROR])


def test_a_client_that_connects_anew_takes_its_session_over(broker: MemoryBroker) -> None:
    first = connected(broker, "c", 5, properties=session_expiry(60))
    first.subscribe("a", 1)
    second = MqttClient(broker, "c", 5)
    assert second.connect(clean=False, properties=session_expiry(60)).session_present
    assert first.take() == Answer(PacketType.DISCONNECT, 0, [Reason.SESSION_TAKEN_OVER])
    assert first.is_closed
    first.drop()
    second.publish("a", b"m")
    assert payloads(second.messages()) == [b"m"]


def test_what_was_not_acknowledged_comes_again_as_a_duplicate(broker: MemoryBroker) -> None:
    client = connected(broker, "c", clean=False)
    client.subscribe("a", 1)
    connected(broker).publish("a", b"m", 1)
    (message,) = client.messages()
    assert not message.duplicate
    client.drop()
    client = connected(broker, "c", clean=False)
    (message,) = client.messages()
    assert (message.payload, message.duplicate) == (b"m", True)
    client.acknowledge(PacketType.PUBACK, message.packet_id)
    client.drop()
    assert connected(broker, "c", clean=False).messages() == []


# --- QoS 2


def test_a_message_of_qos_2_that_comes_again_is_routed_once(broker: MemoryBroker) -> None:
    subscriber = connected(broker, "s")
    subscriber.subscribe("a")
    publisher = connected(broker, "p", clean=False)
    publisher.publish("a", b"m", 2, packet_id=7)
    publisher.drop()
    publisher = connected(broker, "p", clean=False)
    publisher.publish("a", b"m", 2, packet_id=7, duplicate=True)
    publisher.acknowledge(PacketType.PUBREL, 7)
    publisher.publish("a", b"another", 2, packet_id=7)
    assert [getattr(one, "type", None) for one in publisher.all()] == [
        PacketType.PUBREC,
        PacketType.PUBCOMP,
        PacketType.PUBREC,
    ]
    assert payloads(subscriber.messages()) == [b"m", b"another"]


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_client_is_told_of_its_own_message_of_qos_2_before_it_gets_it(broker: MemoryBroker, qos: int) -> None:
    client = connected(broker, "c", 5)
    client.subscribe("a", qos)
    for number in (1, 2):
        client.publish("a", b"%d" % number, 2, packet_id=number)
        broker.settle()
        told, message = client.all()
        assert told == Acknowledgement(PacketType.PUBREC, number)
        assert isinstance(message, Publish)
        assert message.payload == b"%d" % number
        if qos:
            client.acknowledge(PacketType.PUBREC if qos == 2 else PacketType.PUBACK, message.packet_id)
            client.all()


def test_what_is_sent_with_qos_2_keeps_its_identifier(broker: MemoryBroker) -> None:
    client = connected(broker, "c", clean=False)
    client.subscribe("a", 2)
    connected(broker).publish("a", b"m", 2)
    (first,) = client.messages()
    client.drop()
    client = connected(broker, "c", clean=False)
    (again,) = client.messages()
    assert (again.packet_id, again.duplicate) == (first.packet_id, True)
    client.acknowledge(PacketType.PUBREC, again.packet_id)
    assert [getattr(one, "type", None) for one in client.all()] == [PacketType.PUBREL]
    client.drop()
    client = connected(broker, "c", clean=False)
    assert [getattr(one, "type", None) for one in client.all()] == [PacketType.PUBREL]
    client.acknowledge(PacketType.PUBCOMP, again.packet_id)
    client.drop()
    assert connected(broker, "c", clean=False).all() == []


def test_identifiers_of_messages_that_expired_meanwhile_are_free_without_a_journal_as_well(
    broker: MemoryBroker,
) -> None:
    def back() -> MqttClient:
        return connected(broker, "c", 5, clean=False, properties=session_expiry(60))

    client = back()
    client.subscribe("a", 2)
    publisher = connected(broker, "p", 5)
    publisher.publish("a", b"passes", 2, properties={Property.MESSAGE_EXPIRY_INTERVAL: 1})
    publisher.publish("a", b"lasts", 2)
    before = client.messages()
    client.drop()
    broker.advance(2_000)
    session = broker.virtual_host.client_sessions.get("c")
    assert session is not None
    assert back().messages() == [replace(before[1], duplicate=True)]
    assert [packet_id for _, packet_id in session.sent.items()] == [before[1].packet_id]
    assert not session.sent.is_used(before[0].packet_id)


def test_an_identifier_that_is_not_known_is_no_error_where_a_session_goes_on(broker: MemoryBroker) -> None:
    lasting = session_expiry(60)
    for clean, reason in ((True, Reason.PACKET_IDENTIFIER_NOT_FOUND), (False, Reason.SUCCESS)):
        client = connected(broker, "c", 5, clean=clean, properties=lasting)
        client.acknowledge(PacketType.PUBREL, 7)
        assert client.take() == Acknowledgement(PacketType.PUBCOMP, 7, reason)
        client.acknowledge(PacketType.PUBREC, 7)
        assert client.take() == Acknowledgement(PacketType.PUBREL, 7, reason)
        client.drop()


# --- publishing


def test_what_may_not_be_published_to_ends_the_connection(broker: MemoryBroker) -> None:
    for topic in ("", "a/#", "+", "/" * 201):
        for qos in range(1 if topic == "/" * 201 else 3):
            client = connected(broker, "c", 5)
            client.publish(topic, qos=qos)
            assert client.take() == Answer(PacketType.DISCONNECT, 0, [Reason.TOPIC_NAME_INVALID])


@pytest.mark.parametrize("qos", [1, 2])
def test_who_publishes_to_a_topic_of_too_many_levels_is_told_where_an_answer_can_say_so(
    broker: MemoryBroker, qos: int
) -> None:
    client = connected(broker, "c", 5)
    answer = PacketType.PUBACK if qos == 1 else PacketType.PUBREC
    for _ in range(2):
        packet_id = client.publish("/" * 201, b"m", qos, retain=True)
        assert client.take() == Acknowledgement(answer, packet_id, Reason.TOPIC_NAME_INVALID)
    assert client.subscribe("a") == 0
    older = connected(broker, "d", 4)
    older.publish("/" * 201, b"m", qos)
    assert (older.all(), older.is_closed) == ([], True)


@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize(
    ("allowed", "reason"), [(19, Reason.TOPIC_NAME_INVALID), (200, Reason.RECEIVE_MAXIMUM_EXCEEDED)]
)
def test_nothing_follows_a_disconnect_and_what_came_before_is_answered(qos: int, allowed: int, reason: Reason) -> None:
    broker = MemoryBroker(mqtt_port=0, mqtt_unanswered_max=200)
    client = connected(broker, "c", 5)
    client.subscribe("a", 0)
    packets = [Publish("a", b"m", qos, packet_id=one) for one in range(1, allowed + 1)]
    packets.append(Publish("a" if reason == Reason.RECEIVE_MAXIMUM_EXCEEDED else "a/+", b"m", qos, packet_id=1_000))
    client.write(b"".join(encode_client_packet(one, 5) for one in packets))
    *heard, last = client.all()
    answer = PacketType.PUBACK if qos == 1 else PacketType.PUBREC
    answered = [one for one in heard if isinstance(one, Acknowledgement)]
    assert [(one.type, one.packet_id) for one in answered] == [(answer, one) for one in range(1, allowed + 1)]
    assert last == Answer(PacketType.DISCONNECT, 0, [reason])
    assert client.is_closed


def test_nobody_publishes_to_the_brokers_own_topics(broker: MemoryBroker) -> None:
    client = connected(broker, "c", 5)
    for topic, reason in (
        ("$SYS/broker/uptime", Reason.NOT_AUTHORIZED),
        ("$share/group/topic", Reason.NOT_AUTHORIZED),
        ("$SYS/broker/connection/me/state", Reason.NO_MATCHING_SUBSCRIBERS),  # which a bridge tells
        ("$SYSTEM/x", Reason.NO_MATCHING_SUBSCRIBERS),
    ):
        client.publish(topic, b"m", 1)
        assert getattr(client.take(), "reason", None) == reason, topic
    older = connected(broker, "d", 4)
    older.publish("$SYS/x", b"m")
    assert older.is_closed


def test_a_will_for_the_brokers_own_topics_is_refused(broker: MemoryBroker) -> None:
    assert MqttClient(broker, "c", 5).connect(will=Will("$SYS/x", b"m")).codes == [Reason.NOT_AUTHORIZED]


@pytest.mark.parametrize("topic", ["/" * 200, "abc/" * 199 + "d", "ü" * 10_000])
def test_a_topic_may_be_longer_than_a_routing_key(broker: MemoryBroker, topic: str) -> None:
    subscriber, other = connected(broker, "s", 5, properties=session_expiry(60)), connected(broker, "o", 4)
    assert (subscriber.subscribe(topic, 1), other.subscribe("#")) == (1, 0)
    publisher = connected(broker, "p", 5, will=Will(topic, b"will"))
    publisher.publish(topic, b"m", 1, retain=True)
    assert [(one.topic, one.payload) for one in subscriber.messages()] == [(topic, b"m")]
    subscriber.drop()  # it has not said that it has it
    subscriber = connected(broker, "s", 5, clean=False, properties=session_expiry(60))
    assert [(one.topic, one.payload) for one in subscriber.messages()] == [(topic, b"m")]
    publisher.drop()
    later = connected(broker, "l", 5)
    later.subscribe(topic)
    assert [(one.topic, one.payload, one.retain) for one in later.messages()] == [(topic, b"m", True)]
    assert [(one.topic, one.payload) for one in other.messages()] == [(topic, b"m"), (topic, b"will")]


def test_amqp_sees_what_a_routing_key_has_room_for_of_a_long_topic(broker: MemoryBroker) -> None:
    reader = Client(broker)
    reader.open()
    channel = reader.channel()
    channel.exchange("dlx", "topic")
    channel.declare("dead")
    channel.declare("q", {"x-dead-letter-exchange": "dlx"})
    for queue, exchange in (("q", "amq.topic"), ("dead", "dlx")):
        channel.bind(queue, exchange, "#")
    topic = "é" * 200
    connected(broker, "p", 5).publish(topic, b"m")
    channel.consume("q")
    (message,) = channel.deliveries()
    assert message.expect(commands.Basic.Deliver).routing_key == "é" * 127
    assert message.headers["x-mqtt-topic"] == topic
    channel.reject(1, requeue=False)
    assert channel.message_count("dead") == 1


def test_what_nobody_gets_is_said_in_mqtt_5(broker: MemoryBroker) -> None:
    client = connected(broker, "c", 5)
    client.publish("a", b"m", 1)
    answer = client.take()
    assert getattr(answer, "reason", None) == Reason.NO_MATCHING_SUBSCRIBERS


def test_who_may_not_publish_is_told_in_mqtt_5_and_sent_away_before(broker: MemoryBroker) -> None:
    broker.administration.set_permission("guest", "/", ".*", "^mqtt", ".*")
    client = connected(broker, "c", 5)
    client.publish("a", b"m", 1)
    assert getattr(client.take(), "reason", None) == Reason.NOT_AUTHORIZED
    assert not client.is_closed
    client = connected(broker, "d", 4)
    client.publish("a", b"m", 1)
    assert client.is_closed


def test_who_has_more_on_the_way_than_it_may_is_sent_away(broker: MemoryBroker) -> None:
    client = MqttClient(broker, "c", 5)
    maximum = client.connect().properties[Property.RECEIVE_MAXIMUM]
    assert isinstance(maximum, int)
    for _ in range(maximum):
        client.publish("a", b"m", 1)  # each is answered
    for _ in range(maximum):
        client.publish("a", b"m", 2)
    assert not client.is_closed
    client.publish("a", b"m", 1)
    assert client.all()[-1] == Answer(PacketType.DISCONNECT, 0, [Reason.RECEIVE_MAXIMUM_EXCEEDED])


def test_an_alias_stands_for_its_topic(broker: MemoryBroker) -> None:
    subscriber = connected(broker, "s")
    subscriber.subscribe("a")
    client = connected(broker, "c", 5)
    client.publish("a", b"1", properties={Property.TOPIC_ALIAS: 3})
    client.publish("", b"2", properties={Property.TOPIC_ALIAS: 3})
    assert payloads(subscriber.messages()) == [b"1", b"2"]
    client.publish("a", b"3", properties={Property.TOPIC_ALIAS: 17})
    assert client.take() == Answer(PacketType.DISCONNECT, 0, [Reason.TOPIC_ALIAS_INVALID])


def test_a_client_gets_aliases_where_it_allows_them(broker: MemoryBroker) -> None:
    client = connected(broker, "c", 5, properties={Property.TOPIC_ALIAS_MAXIMUM: 1})
    client.subscribe("#", 1)
    for topic in ("a", "b", "a"):
        client.publish(topic, b"m")
    assert [(one.topic, one.properties) for one in client.messages()] == [
        ("a", {Property.TOPIC_ALIAS: 1}),
        ("b", {}),
        ("", {Property.TOPIC_ALIAS: 1}),
    ]


# --- permissions


def test_topic_permissions_may_name_the_client_and_its_identifier_opens_nothing_else(broker: MemoryBroker) -> None:
    users = broker.administration
    users.set_topic_permission("guest", "/", "amq.topic", "^{client_id}\\.{username}$", "^{client_id}\\.")
    for client_id in ("dev-1", "dev.1", ".*", "(", "{username}"):
        client = connected(broker, client_id, 5)
        for topic, reason in (
            (f"{client_id}/guest", Reason.NO_MATCHING_SUBSCRIBERS),
            ("dev-2/guest", Reason.NOT_AUTHORIZED),
            ("devx1/guest", Reason.NOT_AUTHORIZED),
            (f"{client_id}/eve", Reason.NOT_AUTHORIZED),
        ):
            client.publish(topic, b"m", 1)
            assert getattr(client.take(), "reason", None) == reason, (client_id, topic)
        assert client.subscribe("dev-2/#") == Reason.NOT_AUTHORIZED
        if "*" not in client_id:  # which a filter cannot say
            assert client.subscribe(f"{client_id}/#") == 0
    client = connected(broker, "a/b", 5)  # a key has dots in the place of slashes, with RabbitMQ 4.0.5 as well
    assert client.subscribe("a/b/#") == Reason.NOT_AUTHORIZED
    users.set_topic_permission("guest", "/", "amq.topic", "^of\\.{client_id}$", ".*")
    for topic, reason in (("of/c", Reason.NO_MATCHING_SUBSCRIBERS), ("c/guest", Reason.NOT_AUTHORIZED)):
        client = connected(broker, "c", 5)
        client.publish(topic, b"m", 1)
        assert getattr(client.take(), "reason", None) == reason


def test_who_may_not_read_any_more_and_has_subscribed_to_nothing_may_still_come(broker: MemoryBroker) -> None:
    client = MqttClient(broker, "c", 4)
    client.connect(clean=False)
    client.subscribe("a", 1)
    client.unsubscribe("a")
    client.drop()
    broker.administration.set_permission("guest", "/", ".*", ".*", "^$")
    back = MqttClient(broker, "c", 4)
    assert back.connect(clean=False).codes == [0]
    assert not back.is_closed


def test_a_live_subscription_goes_on_when_its_permission_is_withdrawn(broker: MemoryBroker) -> None:
    """With RabbitMQ 4.0.5 as well."""
    publisher = connected(broker)
    client = connected(broker, "c", 5, clean=False, properties=session_expiry(60))
    client.subscribe("a", 1)
    broker.administration.set_topic_permission("guest", "/", "amq.topic", ".*", "^$")
    publisher.publish("a", b"m")
    assert payloads(client.messages()) == [b"m"]
    assert client.subscribe("b", 1) == Reason.NOT_AUTHORIZED
    assert client.unsubscribe("a") == [Reason.NOT_AUTHORIZED]
    client.drop()
    back = MqttClient(broker, "c", 5)
    back.connect(clean=False, properties=session_expiry(60))
    assert back.take() == Answer(PacketType.DISCONNECT, 0, [Reason.NOT_AUTHORIZED])


def test_where_there_is_no_client_identifier_its_name_stands_for_nothing(broker: MemoryBroker) -> None:
    broker.administration.set_topic_permission("guest", "/", "amq.topic", "^{client_id}$", ".*")
    channel = Client(broker).open().channel()
    channel.publish("amq.topic", "{client_id}")
    assert channel.methods() == []
    channel.publish("amq.topic", "client_id")
    assert channel.one(commands.Channel.Close).reply_code == 403


# --- subscribing


def test_a_filter_that_is_none_is_refused(broker: MemoryBroker) -> None:
    assert connected(broker, "d", 5).subscribe("$share//a") == Reason.TOPIC_FILTER_INVALID
    shared = "$share/g/" + "a" * 300  # names a queue
    assert connected(broker, "d", 5).subscribe(shared) == Reason.TOPIC_FILTER_INVALID


@pytest.mark.parametrize("too_deep", ["/" * 201, "/" * 65_535, "$share/g/" + "/" * 201, "+/" * 201])
def test_a_filter_of_too_many_levels_is_refused_and_the_others_are_not(
    broker: MemoryBroker, level: int, too_deep: str
) -> None:
    client = connected(broker, "c", level)
    client.send(Subscribe(1, [Subscription("a", 1), Subscription(too_deep, 2), Subscription("b")]))
    refused = Reason.TOPIC_FILTER_INVALID if level == 5 else 0x80
    assert client.take() == Answer(PacketType.SUBACK, 1, [1, refused, 0])
    assert client.unsubscribe(too_deep) == ([Reason.NO_SUBSCRIPTION_EXISTED] if level == 5 else [])
    client.publish("b", b"m")
    assert payloads(client.messages()) == [b"m"]


def test_a_filter_that_is_not_well_formed_ends_the_connection(broker: MemoryBroker) -> None:
    for topic_filter in ("a/#/b", "", "a+"):
        for packet in (Subscribe(1, [Subscription(topic_filter)]), Unsubscribe(1, [topic_filter])):
            client = connected(broker, "c", 5)
            client.send(packet)
            assert client.take() == Answer(PacketType.DISCONNECT, 0, [Reason.MALFORMED_PACKET])
            older = connected(broker, "d", 4)
            older.send(packet)
            assert (older.all(), older.is_closed) == ([], True)


def test_wildcards_match_no_topic_that_begins_with_a_dollar(broker: MemoryBroker) -> None:
    client = connected(broker, "c")
    client.subscribe("#", 1)
    client.publish("$x/a", b"hidden")
    client.publish("x/a", b"seen")
    assert payloads(client.messages()) == [b"seen"]
    assert broker.queue("mqtt-subscription-cqos1").unacknowledged_count == 0


def test_dots_and_stars_in_a_topic_stay_what_they_are(broker: MemoryBroker) -> None:
    client = connected(broker, "c", 5)
    client.subscribe("v1.2/*/#", 1)
    client.subscribe("v1/2", 1)
    channel = Client(broker).open().channel()
    client.publish("v1.2/*/x", b"kept", 1, retain=True)
    client.publish("v1/2/y/x", b"another topic")
    channel.publish("amq.topic", "v1.2", b"from AMQP")
    assert [(one.topic, one.payload) for one in client.messages()] == [("v1.2/*/x", b"kept"), ("v1/2", b"from AMQP")]
    late = connected(broker, "d")
    late.subscribe("v1.2/#")
    assert [(one.topic, one.payload) for one in late.messages()] == [("v1.2/*/x", b"kept")]


def test_a_plus_stands_for_a_level_with_dots_in_it_live_and_retained(broker: MemoryBroker) -> None:
    """AMQP sees a word more in its key, and so does a queue of AMQP's."""
    client, filters = connected(broker, "c", 5), ["+/x", "a/+/c", "a/+/+", "v.1/+/#", "a/b/+"]
    for topic_filter in filters:
        client.subscribe(topic_filter, 1)
    channel = Client(broker).open().channel()
    channel.declare("words")
    channel.bind("words", "amq.topic", "a.*.c")
    connected(broker, "w", will=Will("a/.w./c", b"will", 1)).drop()
    topics = ["1.2.3/x", "a/b.b/c", "v.1/2.3/4/5", "a.b/c.d", ".", "a/b/c.d"]
    for topic in topics:
        client.publish(topic, topic.encode(), retain=True)
    assert [one.topic for one in client.messages()] == ["a/.w./c", "1.2.3/x", "a/b.b/c", "v.1/2.3/4/5", "a/b/c.d"]
    late = connected(broker, "d")
    late.send(Subscribe(1, [Subscription(topic_filter, 0) for topic_filter in filters[:3]]))
    assert {one.topic for one in late.messages()} == {"1.2.3/x", "a/b.b/c", "a/b/c.d"}
    assert broker.queue("words").ready_count == 0


def test_unsubscribed_is_not_delivered(broker: MemoryBroker) -> None:
    client = connected(broker, "c", 5)
    client.subscribe("a", 1)
    assert client.unsubscribe("a") == [0]
    assert client.unsubscribe("a") == [Reason.NO_SUBSCRIPTION_EXISTED]
    client.publish("a", b"m")
    assert client.messages() == []


def test_another_qos_for_a_filter_takes_the_place_of_the_first(broker: MemoryBroker) -> None:
    client = connected(broker, "c")
    client.subscribe("a", 0)
    client.subscribe("a", 1)
    client.publish("a", b"m", 1)
    assert [(one.payload, one.qos) for one in client.messages()] == [(b"m", 1)]


def test_what_waits_is_not_lost_when_another_qos_takes_the_place_of_the_first(broker: MemoryBroker) -> None:
    """MQTT 5.0, 3.8.4."""
    for is_back in (False, True):
        client = connected(broker, "c", 5, clean=False, properties={**session_expiry(60), Property.RECEIVE_MAXIMUM: 1})
        client.subscribe("a", 1)
        publisher = connected(broker)
        for number in range(3):
            publisher.publish("a", b"%d" % number, 1)
        client.send(Subscribe(9, [Subscription("a", 0)]))
        if is_back:
            client.drop()
            client = connected(broker, "c", 5, clean=False, properties=session_expiry(60))
        publisher.publish("a", b"3", 1)
        got = client.messages()
        if not is_back:
            client.acknowledge(PacketType.PUBACK, got[0].packet_id)
            got += client.messages()
        assert [(one.payload, one.qos) for one in got[-2:]] == [(b"2", 0), (b"3", 0)]
        client.unsubscribe("a")
        assert not broker.virtual_host.exchanges["amq.topic"].bindings


def test_filters_that_have_the_same_key_in_amqp_are_two_all_the_same(broker: MemoryBroker) -> None:
    client = connected(broker, "c", 5)
    for topic_filter in ("a.b/+", "a/b/*", "a/b/+"):
        client.subscribe(topic_filter, 1)
    assert client.unsubscribe("a/b/+") == [0]
    for topic in ("a.b/c", "a/b/c", "a/b/*"):
        connected(broker).publish(topic, b"m", 1)
    assert [one.topic for one in client.messages()] == ["a.b/c", "a/b/*"]
    client.unsubscribe("a/b/*")
    client.unsubscribe("a.b/+")
    assert not broker.virtual_host.exchanges["amq.topic"].bindings


def test_a_topic_may_be_called_as_what_the_broker_calls_its_consumers(broker: MemoryBroker) -> None:
    client = connected(broker, "c", 5)
    for topic in ("a", "qos1"):
        client.subscribe(topic, 1)
    client.unsubscribe("qos1")
    client.publish("a", b"m")
    assert payloads(client.messages()) == [b"m"]


def test_what_names_a_queue_has_no_line_breaks_which_amqp_would_drop(broker: MemoryBroker) -> None:
    connected(broker, "c", 5, clean=False, properties=session_expiry(60)).subscribe("a", 1)
    assert MqttClient(broker, "c\n", 5).connect(clean=False).codes == [Reason.CLIENT_IDENTIFIER_NOT_VALID]
    client = connected(broker, "d", 5)
    assert client.subscribe("$share/g\r/a", 1) == Reason.TOPIC_FILTER_INVALID
    assert client.subscribe("a\nb", 1) == 1
    client.publish("a\nb", b"m")
    assert payloads(client.messages()) == [b"m"]


def test_what_a_client_publishes_itself_does_not_come_back_where_it_says_so(broker: MemoryBroker) -> None:
    client = connected(broker, "c", 5)
    client.subscribe("a/#", 1, no_local=True)
    client.publish("a/b", b"own")
    connected(broker, "d").publish("a/b", b"another's")
    assert payloads(client.messages()) == [b"another's"]


@pytest.mark.parametrize("level", [3, 4])
def test_a_bridge_does_not_get_its_own_and_learns_what_is_retained(broker: MemoryBroker, level: int) -> None:
    """mosquitto says so with the highest bit of the level, and without this its messages would go in circles."""
    bridge = connected(broker, "b", level, is_bridge=True)
    bridge.subscribe("a", 1)
    bridge.publish("a", b"own", 1)
    connected(broker, "p").publish("a", b"other", 1, retain=True)
    assert [(one.payload, one.retain) for one in bridge.messages()] == [(b"other", True)]
    client = MqttClient(broker, "c", 5)
    client.send(Connect(5, "c", is_bridge=True))  # MQTT 5 has No Local for that
    assert client.connection.take_output() == [b"\x20\x02\x00\x01"]


def test_a_delivery_says_which_subscriptions_it_is_for(broker: MemoryBroker) -> None:
    client = connected(broker, "c", 5)
    client.subscribe("a/#", 1, {Property.SUBSCRIPTION_IDENTIFIER: 5})
    client.subscribe("a/b", 1, {Property.SUBSCRIPTION_IDENTIFIER: 300})
    client.publish("a/b", b"m")
    (message,) = client.messages()
    assert message.properties == {Property.SUBSCRIPTION_IDENTIFIER: [5, 300]}


def test_no_more_is_on_the_way_than_the_client_can_receive(broker: MemoryBroker) -> None:
    client = connected(broker, "c", 5, properties={Property.RECEIVE_MAXIMUM: 2})
    client.subscribe("a", 2)
    publisher = connected(broker)
    for number in range(4):
        publisher.publish("a", b"%d" % number, 2)
    first, second = client.messages()
    client.acknowledge(PacketType.PUBREC, first.packet_id)
    assert client.messages() == []  # it has not completed
    client.acknowledge(PacketType.PUBCOMP, first.packet_id)
    assert payloads(client.messages()) == [b"2"]
    client.acknowledge(PacketType.PUBREC, second.packet_id, Reason.UNSPECIFIED_ERROR)
    assert payloads(client.messages()) == [b"3"]


def test_a_queue_that_is_deleted_ends_the_connection(broker: MemoryBroker) -> None:
    client = connected(broker, "c", 5)
    client.subscribe("a", 1)
    broker.handle(lambda: broker.virtual_host.remove_queue(broker.queue("mqtt-subscription-cqos1")))
    assert client.take() == Answer(PacketType.DISCONNECT, 0, [Reason.ADMINISTRATIVE_ACTION])


# --- wills


def test_a_will_is_published_when_the_client_is_lost_and_not_when_it_says_goodbye(broker: MemoryBroker) -> None:
    watcher = connected(broker, "w")
    watcher.subscribe("will/#", 1)
    connected(broker, "a", will=Will("will/a", b"lost", 1)).drop()
    connected(broker, "b", will=Will("will/b", b"goodbye", 1)).disconnect()
    connected(broker, "c", 5, will=Will("will/c", b"on purpose", 1)).disconnect(Reason.DISCONNECT_WITH_WILL)
    connected(broker, "d", keep_alive_s=1, will=Will("will/d", b"silent", 1))
    broker.advance(1_500)
    assert payloads(watcher.messages()) == [b"lost", b"on purpose", b"silent"]


def test_a_will_waits_and_is_not_published_when_the_client_is_back_before(broker: MemoryBroker) -> None:
    watcher = connected(broker, "w")
    watcher.subscribe("will", 1)
    will = Will("will", b"m", properties={Property.WILL_DELAY_INTERVAL: 5})
    for waits_ms, expected in ((4_999, []), (5_000, [b"m"])):
        connected(broker, "c", 5, will=will, properties=session_expiry(60)).drop()
        broker.advance(waits_ms)
        assert payloads(watcher.messages()) == expected
        connected(broker, "c", 5, clean=False, properties=session_expiry(60)).disconnect()
        broker.advance(10_000)
        assert watcher.messages() == []


def test_a_will_does_not_wait_longer_than_the_session(broker: MemoryBroker) -> None:
    watcher = connected(broker, "w")
    watcher.subscribe("will", 1)
    will = Will("will", b"m", properties={Property.WILL_DELAY_INTERVAL: 50})
    connected(broker, "c", 5, will=will, properties=session_expiry(3)).drop()
    broker.advance(3_000)
    assert payloads(watcher.messages()) == [b"m"]


# --- retained messages


def test_the_last_message_of_a_topic_is_kept_for_those_who_subscribe_later(broker: MemoryBroker, level: int) -> None:
    publisher = connected(broker, "p", level)
    publisher.publish("a/b", b"old", 1, retain=True)
    publisher.publish("a/b", b"new", 1, retain=True)
    publisher.publish("$a/b", b"hidden", retain=True)
    client = connected(broker, "c", level)
    client.subscribe("#", 2)
    assert [(one.topic, one.payload, one.qos, one.retain) for one in client.messages()] == [("a/b", b"new", 1, True)]
    publisher.publish("a/b", b"", retain=True)
    assert [one.retain for one in client.messages()] == [False]
    late = connected(broker, "d", level)
    late.subscribe("a/b", 1)
    assert late.messages() == []


class SlowJudge:
    """Says of each topic what a client may when it is told to."""

    def __init__(self) -> None:
        self.decided: set[str] = set()
        self.waiting: list[tuple[str, Callable[[], None]]] = []

    def may_access(self, virtual_host: str, kind: str, name: str, permission: str) -> bool:
        return True

    def may_use_topic(
        self, virtual_host: str, exchange: str, routing_key: str, permission: str, client_id: str | None
    ) -> bool:
        if routing_key not in self.decided:
            raise NotDecidedYet(lambda go_on: self.waiting.append((routing_key, go_on)))
        return True

    def decide(self) -> None:
        routing_key, go_on = self.waiting.pop()
        self.decided.add(routing_key)
        go_on()


def test_what_must_be_asked_for_each_filter_is_not_done_twice(broker: MemoryBroker) -> None:
    publisher = connected(broker)
    for topic in ("a", "b"):
        publisher.publish(topic, topic.encode(), 1, retain=True)
    client = connected(broker, "c", 5)
    client.connection.client.user = judged = replace(client.connection.client.user)
    for packet, codes in (
        (Subscribe(1, [Subscription("a", 1, retain_handling=1), Subscription("b", 1, retain_handling=1)]), [1, 1]),
        (Unsubscribe(2, ["a", "b"]), [0, 0]),
    ):
        judged.judge = judge = SlowJudge()
        client.connection.client.forget_allowed()
        client.send(packet)
        for _ in range(2):
            assert client.all() == []
            broker.handle(judge.decide)
        answer = client.take()
        assert isinstance(answer, Answer)
        assert answer.codes == codes
        assert payloads(client.messages()) == ([b"a", b"b"] if packet.packet_id == 1 else [])


def test_others_have_their_turn_while_a_client_subscribes_to_very_many_filters(broker: MemoryBroker) -> None:
    publisher = connected(broker)
    for number in range(150):
        publisher.publish(f"r/{number}", b"m", retain=True)
    filters = [f"a/{number}" for number in range(150)]
    subscriptions = [*(Subscription(one, 1) for one in filters), Subscription("r/#"), Subscription("r/#")]
    client = MqttClient(broker, "c", 5)
    client.connect(properties=session_expiry(60))
    broker.goes_on = False
    for packet, turns, messages in (
        (Subscribe(1, subscriptions), 2, 150),  # one more is for the retained messages
        (Connect(5, "c", False, properties=session_expiry(60)), 1, 0),
        (Unsubscribe(2, filters), 1, 0),
    ):
        if isinstance(packet, Connect):
            client.drop()
            client = MqttClient(broker, "c", 5)
        client.send(packet)
        taken = 0
        while client.connection.is_reading_paused:
            taken += 1
            broker.go_on()
        assert taken == turns, packet
        assert isinstance(client.take(), Answer)
        assert len(client.messages()) == messages
    assert len(broker.virtual_host.client_sessions.restore("c").subscriptions) == 1


def test_filters_of_more_bytes_than_are_read_in_one_turn_are_refused(broker: MemoryBroker) -> None:
    client = connected(broker, "c", 5)
    client.write(b"\x82\x81\x80\x10" + bytes(262_145))
    assert client.take() == Answer(PacketType.DISCONNECT, 0, [Reason.QUOTA_EXCEEDED])


def test_retain_handling_says_when_they_come(broker: MemoryBroker) -> None:
    client = connected(broker, "c", 5)
    client.publish("a", b"m", retain=True)
    client.subscribe("a", 0, retain_handling=2)
    assert client.messages() == []
    client.subscribe("a", 0, retain_handling=1)
    assert client.messages() == []
    client.subscribe("a", 0, retain_handling=0)
    assert payloads(client.messages()) == [b"m"]
    client.unsubscribe("a")
    client.subscribe("a", 0, retain_handling=1)
    assert payloads(client.messages()) == [b"m"]


def test_a_retained_message_comes_for_each_filter_that_finds_it_with_its_options(broker: MemoryBroker) -> None:
    client = connected(broker, "c", 5)
    for topic in ("a/b", "c/b"):
        client.publish(topic, b"m", retain=True)
    found = []
    for identifier, topic_filter in enumerate(("a/+", "+/b"), 1):
        client.subscribe(topic_filter, 1, {Property.SUBSCRIPTION_IDENTIFIER: identifier})
        found.append([(one.topic, one.properties[Property.SUBSCRIPTION_IDENTIFIER]) for one in client.messages()])
    assert [sorted(one, key=str) for one in found] == [[("a/b", [1])], [("a/b", [2]), ("c/b", [2])]]


def test_retain_as_published(broker: MemoryBroker) -> None:
    client = connected(broker, "c", 5)
    client.subscribe("a", 1, retain_as_published=True)
    client.publish("a", b"1", retain=True)
    client.publish("a", b"2")
    assert [one.retain for one in client.messages()] == [True, False]


def test_a_retained_message_expires(broker: MemoryBroker) -> None:
    client = connected(broker, "c", 5)
    client.publish("a", b"m", retain=True, properties={Property.MESSAGE_EXPIRY_INTERVAL: 10})
    broker.advance(4_000)
    client.subscribe("a")
    (message,) = client.messages()
    assert message.properties == {Property.MESSAGE_EXPIRY_INTERVAL: 6}
    broker.advance(6_000)
    client.subscribe("a")
    assert client.messages() == []
    assert len(broker.virtual_host.retained) == 0


# --- properties


def test_properties_go_through_from_mqtt_to_mqtt(broker: MemoryBroker) -> None:
    properties: Properties = {
        Property.PAYLOAD_FORMAT_INDICATOR: 1,
        Property.CONTENT_TYPE: "text/plain",
        Property.CORRELATION_DATA: b"\x00\xff",
        Property.USER_PROPERTY: [("b", "1"), ("a", "2"), ("b", "3")],
    }
    client = connected(broker, "c", 5)
    client.subscribe("a", 1)
    for response_topic in ("re/ply", "re.ply/of/v1.0", "*"):
        properties[Property.RESPONSE_TOPIC] = response_topic
        client.publish("a", b"m", 1, properties=properties)
        (message,) = client.messages()
        assert message.properties == properties


def test_properties_go_from_mqtt_to_amqp_and_back(broker: MemoryBroker) -> None:
    channel = Client(broker).open().channel()
    channel.declare("q")
    channel.bind("q", "amq.topic", "a.#")
    client = connected(broker, "c", 5)
    client.subscribe("back/#", 1)
    client.publish(
        "a/b",
        b"m",
        1,
        properties={
            Property.CONTENT_TYPE: "text/plain",
            Property.CORRELATION_DATA: b"id",
            Property.RESPONSE_TOPIC: "re/ply",
            Property.MESSAGE_EXPIRY_INTERVAL: 9,
            Property.USER_PROPERTY: [("k", "v")],
        },
    )
    got = channel.get("q")
    assert got is not None
    properties = got.properties
    assert properties is not None
    assert (properties.content_type, properties.correlation_id, properties.expiration) == ("text/plain", "id", "9000")
    assert (properties.delivery_mode, got.headers) == (
        2,
        {"x-mqtt-publish-qos": 1, "x-reply-to-topic": "re.ply", "k": "v"},
    )
    channel.publish("amq.topic", "back.1", b"1")
    channel.publish("amq.topic", "back.2", b"2", delivery_mode=2, headers={"n": 5, "deep": {"a": 1}})
    first, second = client.messages()[0:2]
    assert (first.topic, first.qos) == ("back/1", 0)
    assert (second.topic, second.qos, second.properties) == ("back/2", 1, {Property.USER_PROPERTY: [("n", "5")]})


def test_a_message_that_the_client_cannot_take_is_dropped(broker: MemoryBroker) -> None:
    client = connected(broker, "c", 5, properties={Property.MAXIMUM_PACKET_SIZE: 30})
    client.subscribe("a", 1)
    publisher = connected(broker)
    publisher.publish("a", bytes(100), 1)
    publisher.publish("a", b"small", 1)
    assert payloads(client.messages()) == [b"small"]
    assert broker.queue("mqtt-subscription-cqos1").unacknowledged_count == 1


@pytest.mark.parametrize("level", [4, 5])
def test_what_amqp_says_and_mqtt_cannot_is_left_out_and_harms_nobody(broker: MemoryBroker, level: int) -> None:
    """An AMQP client's names and texts may be any bytes, and longer than a string of MQTT."""
    subscribers = [connected(broker, "once", level), connected(broker, "twice", level)]
    for qos, one in enumerate(subscribers):
        one.subscribe("#", qos)
    long, bad = "t" * 70_000, "t\udcff"

    def publish(routing_key: str, **fields: Any) -> None:
        header = encode_content_header(1, AmqpProperties(delivery_mode=2, **fields))
        exchange = broker.virtual_host.exchanges["amq.topic"]
        broker.handle(
            lambda: broker.virtual_host.ingress.publish(exchange, routing_key, header, b"m", digest_of(header))
        )

    for no_topic in ("a.\udcff", "a.\0", "a.#", ""):
        publish(no_topic)
    for text in (long, bad, "t\0"):
        for name in ("x-mqtt-topic", "x-reply-to-topic", "x-mqtt-response-topic", "k"):
            publish("a", headers={name: text})
    for no_name in ("t\0", bad):
        publish("a", headers={no_name: "v"}, content_type=no_name)
    publish("a", headers={"x-correlation-id": long.encode()})
    publish("a", correlation_id=bad)
    for one in subscribers:
        messages: list[Publish] = []
        while more := one.messages():
            messages += more
            for message in more:
                if message.packet_id:
                    one.acknowledge(PacketType.PUBACK, message.packet_id)
        assert len(messages) == 16
        assert {message.topic for message in messages} == {"a"}
        said = [message.properties for message in messages]
        assert said == [{}] * 15 + [{Property.CORRELATION_DATA: b"t\xff"} if level == 5 else {}]
        assert not one.is_closed


def test_what_is_no_topic_is_dead_lettered(broker: MemoryBroker) -> None:
    channel = Client(broker).open().channel()
    channel.declare("dead")
    connected(broker, "c").subscribe("#", 1)
    queue = broker.queue("mqtt-subscription-cqos1")
    queue.apply(replace(queue.arguments, dead_letter_exchange="", dead_letter_routing_key="dead"))
    channel.publish("amq.topic", "a.#", b"m", delivery_mode=2)
    dead = channel.get("dead")
    assert dead is not None
    assert dead.body == b"m"


@pytest.mark.parametrize("qos", [0, 1])
def test_a_dead_letter_under_another_key_is_of_the_topic_of_that_key(broker: MemoryBroker, qos: int) -> None:
    late = connected(broker, "late", 5)
    dead = connected(broker, "dead", 5)
    dead.subscribe("dl/#", qos)
    publisher = connected(broker, "p", 5)
    publisher.publish("ret/1", b"retained", 1, retain=True)
    late.subscribe("sens/#", 1)
    queue = broker.queue("mqtt-subscription-lateqos1")
    queue.apply(replace(queue.arguments, dead_letter_exchange="amq.topic", dead_letter_routing_key="dl.k"))
    publisher.publish("sens/v1", b"plain", 1)
    publisher.publish("sens/v1.2", b"dotted", 1)
    late.send(Subscribe(9, [Subscription("ret/#", 1)]))
    got = [(one.topic, one.retain) for one in late.messages()]
    assert got == [("sens/v1", False), ("sens/v1.2", False), ("ret/1", True)]
    for delivery in list(late.connection.delivering.unacknowledged.values()):
        delivery.queue.reject([delivery.message])
    broker.handle(broker.publish_dead_letters)
    found = [(one.topic, one.payload, one.retain) for one in dead.messages()]
    assert found == [("dl/k", b"plain", False), ("dl/k", b"dotted", False), ("dl/k", b"retained", False)]


def test_what_amqp_says_of_a_topic_neither_kills_nor_fakes_a_delivery(broker: MemoryBroker) -> None:
    client = connected(broker, "c", 5)
    client.subscribe("a/#", 1)
    client.subscribe("b/#", 1)
    channel = Client(broker).open().channel()
    channel.publish("amq.topic", "a.1", b"1", headers={"x-mqtt-retained-for": "nobody's"})
    channel.publish("amq.topic", "a.2", b"2", headers={"x-mqtt-retained-for": "b/#"})
    channel.publish("amq.topic", "a.3", b"3", headers={"x-mqtt-topic": "x/y.z", "x-mqtt-publish-qos": 1})
    channel.publish("amq.topic", "a.b.c", b"4", headers={"x-mqtt-topic": "a/b.c", "x-mqtt-publish-qos": 1})
    assert [(one.topic, one.retain) for one in client.messages()] == [
        ("a/1", False), ("a/2", False), ("a/3", False), ("a/b.c", False)
    ]  # fmt: skip


@pytest.mark.parametrize("qos", [0, 1])
def test_user_properties_may_have_names_that_mean_something_to_the_broker(broker: MemoryBroker, qos: int) -> None:
    names = ["CC", "BCC", "CC", "x-mqtt-topic", "x-mqtt-retained-for", "x-mqtt-user-CC", "x-death", "x-delay"]
    properties: Properties = {Property.USER_PROPERTY: [(name, str(place)) for place, name in enumerate(names)]}
    channel = Client(broker).open().channel()
    channel.declare("q")
    channel.bind("q", "amq.topic", "a")
    client = connected(broker, "c", 5)
    client.subscribe("a", 1)
    client.publish("a", b"m", qos, properties=properties, retain=True)
    connected(broker, "w", 5, will=Will("a", b"will", qos, properties=properties)).drop()
    assert [(one.payload, one.properties) for one in client.messages()] == [(b"m", properties), (b"will", properties)]
    late = connected(broker, "late", 5)
    late.subscribe("a")
    assert [(one.payload, one.properties) for one in late.messages()] == [(b"m", properties)]
    got = channel.get("q")
    assert got is not None
    assert got.headers["x-mqtt-user-BCC"] == "1"
    assert "CC" not in got.headers
