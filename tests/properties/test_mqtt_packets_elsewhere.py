"""MQTT 5's packets as another implementation has them (the package ``mqtt5``): each reads what the other writes."""

from __future__ import annotations

from typing import Any

import mqtt5
from hypothesis import given
from hypothesis import strategies as st

from amqp_broker.protocols.mqtt.packet_reading import PacketSplitter, decode
from amqp_broker.protocols.mqtt.packet_writing import (
    encode_acknowledgement,
    encode_connack,
    encode_disconnect,
    encode_publish,
    encode_suback,
    encode_unsuback,
)
from amqp_broker.protocols.mqtt.packets import (
    MQTT_5,
    Acknowledgement,
    Connect,
    Disconnect,
    Packet,
    PacketType,
    Publish,
    Subscribe,
    Unsubscribe,
)
from amqp_broker.protocols.mqtt.properties import Properties, Property

STRINGS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
TOPICS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0+#"), min_size=1, max_size=20)
PACKET_IDS = st.integers(1, 65_535)
QOS = st.integers(0, 2)
PAIRS = st.lists(st.tuples(STRINGS, STRINGS), max_size=3)
FOUR_BYTES = st.integers(0, 2**32 - 1)


def members(codes: type) -> list[Any]:
    """All reason codes of one kind; they are no enumeration of Python's."""
    return [getattr(codes, name) for name in dir(codes) if name.isupper()]


def read_ours(data: bytes) -> Packet:
    """One packet of a client, read by us."""
    ((first_byte, body),) = PacketSplitter(1 << 28).split(data)
    return decode(first_byte, body, MQTT_5)


def read_theirs(data: bytes) -> Any:
    """One packet, read by them."""
    packet, size = mqtt5.read(memoryview(data))
    assert size == len(data)
    return packet


def publishes() -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {"topic": TOPICS, "payload": st.binary(max_size=300), "qos": QOS, "retain": st.booleans()},
        optional={
            "message_expiry_interval": FOUR_BYTES,
            "content_type": STRINGS,
            "response_topic": TOPICS,
            "correlation_data": st.binary(max_size=20),
            "topic_alias": st.integers(1, 65_535),
            "user_properties": PAIRS,
        },
    )


NAMES = {
    "message_expiry_interval": Property.MESSAGE_EXPIRY_INTERVAL,
    "content_type": Property.CONTENT_TYPE,
    "response_topic": Property.RESPONSE_TOPIC,
    "correlation_data": Property.CORRELATION_DATA,
    "topic_alias": Property.TOPIC_ALIAS,
    "user_properties": Property.USER_PROPERTY,
}


def properties_of(fields: dict[str, Any]) -> Properties:
    return {NAMES[name]: fields[name] for name in NAMES if name in fields and fields[name] != []}


@given(publishes(), PACKET_IDS, st.booleans())
def test_publish(fields: dict[str, Any], packet_id: int, duplicate: bool) -> None:
    qos = fields["qos"]
    theirs = mqtt5.PublishPacket(
        fields["topic"],
        fields["payload"],
        qos=mqtt5.QoS(qos),
        retain=fields["retain"],
        packet_id=packet_id if qos else None,
        duplicate=duplicate and qos > 0,
        **{name: fields[name] for name in NAMES if name in fields},
    )
    ours = Publish(
        fields["topic"],
        fields["payload"],
        qos,
        fields["retain"],
        duplicate and qos > 0,
        packet_id if qos else 0,
        properties_of(fields),
    )
    assert read_ours(theirs.write()) == ours
    assert read_theirs(encode_publish(ours, MQTT_5)) == theirs


@given(
    STRINGS, st.booleans(), st.integers(0, 65_535), st.none() | STRINGS, st.none() | st.binary(max_size=9), FOUR_BYTES
)
def test_connect(
    client_id: str, clean: bool, keep_alive_s: int, user: str | None, password: bytes | None, expiry_s: int
) -> None:
    theirs = mqtt5.ConnectPacket(
        client_id,
        username=user,
        password=password,
        clean_start=clean,
        keep_alive=keep_alive_s,
        session_expiry_interval=expiry_s,
        will=mqtt5.Will("will", payload=b"lost", qos=mqtt5.QoS(1), retain=True, will_delay_interval=7),
    )
    ours = read_ours(theirs.write())
    assert isinstance(ours, Connect)
    assert (ours.client_id, ours.clean_start, ours.keep_alive_s) == (client_id, clean, keep_alive_s)
    assert (ours.user_name, ours.password) == (user, password)
    assert ours.properties.get(Property.SESSION_EXPIRY_INTERVAL, 0) == expiry_s
    assert ours.will is not None
    assert (ours.will.topic, ours.will.payload, ours.will.qos, ours.will.retain) == ("will", b"lost", 1, True)
    assert ours.will.properties[Property.WILL_DELAY_INTERVAL] == 7


@given(PACKET_IDS, st.lists(st.tuples(TOPICS, QOS, st.booleans(), st.booleans(), QOS), min_size=1, max_size=4))
def test_subscribe_and_unsubscribe(packet_id: int, filters: list[tuple[str, int, bool, bool, int]]) -> None:
    theirs = mqtt5.SubscribePacket(
        packet_id,
        [
            mqtt5.TopicFilter(
                name,
                max_qos=mqtt5.QoS(qos),
                no_local=no_local,
                retain_as_published=as_published,
                retain_handling=mqtt5.RetainHandling(handling),
            )
            for name, qos, no_local, as_published, handling in filters
        ],
        subscription_id=300,
    )
    ours = read_ours(theirs.write())
    assert isinstance(ours, Subscribe)
    assert (ours.packet_id, ours.properties) == (packet_id, {Property.SUBSCRIPTION_IDENTIFIER: 300})
    assert [
        (one.topic_filter, one.qos, one.no_local, one.retain_as_published, one.retain_handling)
        for one in ours.subscriptions
    ] == filters
    names = [one[0] for one in filters]
    assert read_ours(mqtt5.UnsubscribePacket(packet_id, names).write()) == Unsubscribe(packet_id, names)


@given(PACKET_IDS, st.sampled_from(members(mqtt5.PubAckReasonCode)))
def test_acknowledgements(packet_id: int, reason: Any) -> None:
    for kind, theirs in (
        (PacketType.PUBACK, mqtt5.PubAckPacket(packet_id, reason_code=reason)),
        (PacketType.PUBREC, mqtt5.PubRecPacket(packet_id, reason_code=mqtt5.PubRecReasonCode(int(reason)))),
        (PacketType.PUBREL, mqtt5.PubRelPacket(packet_id)),
        (PacketType.PUBCOMP, mqtt5.PubCompPacket(packet_id)),
    ):
        code = int(reason) if kind in (PacketType.PUBACK, PacketType.PUBREC) else 0
        ours = Acknowledgement(kind, packet_id, code)
        assert read_ours(theirs.write()) == ours
        assert read_theirs(encode_acknowledgement(ours, MQTT_5)) == theirs


@given(st.booleans(), FOUR_BYTES, STRINGS, st.integers(1, 65_535))
def test_connack(session_present: bool, expiry_s: int, assigned: str, receive_maximum: int) -> None:
    data = encode_connack(
        MQTT_5,
        session_present,
        0,
        {
            Property.SESSION_EXPIRY_INTERVAL: expiry_s,
            Property.ASSIGNED_CLIENT_IDENTIFIER: assigned,
            Property.RECEIVE_MAXIMUM: receive_maximum,
        },
    )
    theirs = read_theirs(data)
    assert (theirs.session_present, theirs.reason_code, theirs.session_expiry_interval) == (
        session_present,
        0,
        expiry_s,
    )
    assert (theirs.assigned_client_id, theirs.receive_max) == (assigned, receive_maximum)


@given(PACKET_IDS, st.lists(st.sampled_from(members(mqtt5.SubAckReasonCode)), min_size=1, max_size=4))
def test_suback_and_unsuback(packet_id: int, codes: list[Any]) -> None:
    theirs = read_theirs(encode_suback(MQTT_5, packet_id, [int(code) for code in codes]))
    assert theirs == mqtt5.SubAckPacket(packet_id, codes)
    ended = read_theirs(encode_unsuback(MQTT_5, packet_id, [0x11, 0]))
    assert (ended.packet_id, [int(code) for code in ended.reason_codes]) == (packet_id, [0x11, 0])


@given(st.sampled_from(members(mqtt5.DisconnectReasonCode)))
def test_disconnect(reason: Any) -> None:
    assert read_theirs(encode_disconnect(int(reason))) == mqtt5.DisconnectPacket(reason_code=reason)
    assert read_ours(mqtt5.DisconnectPacket(reason_code=reason).write()) == Disconnect(int(reason))
