"""MQTT's packets of all types and versions as npm's ``mqtt-packet`` has them: each reads what the other writes.

Where the library differs, the standard is followed here, and it is not asked:

- user properties are an object there: their order is lost, and the first value of a repeated name where it is empty;
- it does not read an AUTH without a body (MQTT 5.0, 3.15.2.1);
- it does not read a reason code that the standard does not give such a packet; here its range says what it means;
- it does not write a password without a user name (allowed by MQTT 5.0, 3.1.2.9), nor a client without an identifier
  where the session is to last, or in MQTT 3.1, nor a bridge in MQTT 5.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amqp_broker.protocols.mqtt.encoding import encode_string, encode_variable_integer
from amqp_broker.protocols.mqtt.packet_reading import PacketSplitter, decode
from amqp_broker.protocols.mqtt.packet_writing import (
    PINGRESP,
    encode_client_packet,
    encode_connack,
    encode_disconnect,
    encode_publish,
    encode_suback,
    encode_unsuback,
)
from amqp_broker.protocols.mqtt.packets import (
    PROTOCOL_NAMES,
    Acknowledgement,
    Authenticate,
    Connect,
    Disconnect,
    Packet,
    PacketType,
    PingRequest,
    Publish,
    Subscribe,
    Unsubscribe,
)
from amqp_broker.protocols.mqtt.properties import (
    BOOLEANS,
    CONNACK_PROPERTIES,
    DISCONNECT_PROPERTIES,
    PUBLISH_PROPERTIES,
    Properties,
    Property,
    Value,
)
from amqp_broker.protocols.mqtt.reasons import MqttError
from tests.properties.mqtt_strategies import LEVELS, PACKET_IDS, REASONS, STRINGS, packets, properties
from tests.support.node_codecs import NodeCodecs, Refused, missing

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())

Form = dict[str, Any]  # a packet in the library's terms
NAMES = {
    Property.SUBSCRIPTION_IDENTIFIER_AVAILABLE: "subscriptionIdentifiersAvailable",
    Property.MAXIMUM_QOS: "maximumQoS",
    Property.USER_PROPERTY: "userProperties",
}


@pytest.fixture(scope="module")
def node() -> Iterator[NodeCodecs]:
    with NodeCodecs() as codecs:
        yield codecs


# --- a packet in the library's terms


def name_of(identifier: int) -> str:
    first, *others = Property(identifier).name.lower().split("_")
    return NAMES.get(Property(identifier), first + "".join(map(str.capitalize, others)))


def form_of_properties(found: Properties) -> Form:
    return {name_of(identifier): form_of_value(identifier, value) for identifier, value in found.items()}


def form_of_value(identifier: int, value: Value) -> Any:
    if identifier == Property.USER_PROPERTY:
        assert isinstance(value, list)
        return grouped(value)
    if isinstance(value, list):
        return value if len(value) > 1 else value[0]
    return bool(value) if identifier in BOOLEANS - {Property.MAXIMUM_QOS} else value


def grouped(pairs: list[Any]) -> Form:
    """User properties by name; several values of one name are a list."""
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    return {name: values if len(values) > 1 else values[0] for name, values in found.items()}


def form_of(packet: Packet) -> Form:
    """A client's packet."""
    form = _own_form(packet)
    found = {} if isinstance(packet, PingRequest) else form_of_properties(packet.properties)
    return {**form, "properties": found} if found else form


def _own_form(packet: Packet) -> Form:
    if isinstance(packet, Connect):
        return _connect_form(packet)
    if isinstance(packet, Publish):
        form = {"cmd": "publish", "topic": packet.topic, "payload": packet.payload, "qos": packet.qos}
        identifier = {"messageId": packet.packet_id} if packet.qos else {}
        return {**form, **identifier, "retain": packet.retain, "dup": packet.duplicate}
    if isinstance(packet, Acknowledgement):
        return {"cmd": packet.type.name.lower(), "messageId": packet.packet_id, "reasonCode": packet.reason}
    if isinstance(packet, Subscribe):
        wanted = [
            {"topic": one.topic_filter, "qos": one.qos, "nl": one.no_local, "rap": one.retain_as_published}
            | {"rh": one.retain_handling}
            for one in packet.subscriptions
        ]
        return {"cmd": "subscribe", "messageId": packet.packet_id, "subscriptions": wanted}
    if isinstance(packet, Unsubscribe):
        return {"cmd": "unsubscribe", "messageId": packet.packet_id, "unsubscriptions": packet.topic_filters}
    if isinstance(packet, PingRequest):
        return {"cmd": "pingreq"}
    return {"cmd": "disconnect" if isinstance(packet, Disconnect) else "auth", "reasonCode": packet.reason}


def _connect_form(packet: Connect) -> Form:
    form: Form = {
        "cmd": "connect",
        "protocolId": PROTOCOL_NAMES[packet.level],
        "protocolVersion": packet.level,
        "clean": packet.clean_start,
        "keepalive": packet.keep_alive_s,
        "clientId": packet.client_id,
    }
    if packet.is_bridge:
        form["bridgeMode"] = True
    if packet.will is not None:
        will = packet.will
        form["will"] = {"topic": will.topic, "payload": will.payload, "qos": will.qos, "retain": will.retain}
        if will.properties:
            form["will"]["properties"] = form_of_properties(will.properties)
    if packet.user_name is not None:
        form["username"] = packet.user_name
    if packet.password is not None:
        form["password"] = packet.password
    return form


def of_level(form: Form, level: int) -> Form:
    """What a version that is not 5 does not say."""
    if level == 5:
        return form
    form = {name: value for name, value in form.items() if name != "reasonCode"}
    if "subscriptions" in form:
        form["subscriptions"] = [{"topic": one["topic"], "qos": one["qos"]} for one in form["subscriptions"]]
    return form


# --- what it is not asked


def can_be_read(packet: Packet) -> bool:
    if isinstance(packet, Authenticate) and packet.reason == 0 and not packet.properties:
        return False
    if isinstance(packet, Connect) and packet.will is not None and loses_a_value(packet.will.properties):
        return False
    return isinstance(packet, PingRequest) or not loses_a_value(packet.properties)


def has_no_lost_value(form: Form) -> bool:
    named = form.get("properties", {}).get("userProperties", {}).values()
    return not any(isinstance(values, list) and not values[0] for values in named)


def loses_a_value(found: Properties) -> bool:
    return not has_no_lost_value({"properties": form_of_properties(found)})


def can_be_written(packet: Packet) -> bool:
    if isinstance(packet, Authenticate):
        return can_be_read(packet)
    if not isinstance(packet, Connect):
        return True
    is_named = bool(packet.client_id) or (packet.clean_start and packet.level > 3)
    is_odd = (packet.password is not None and packet.user_name is None) or (packet.is_bridge and packet.level == 5)
    return is_named and not is_odd


def read_ours(data: bytes, level: int) -> Packet:
    ((first_byte, body),) = PacketSplitter(1 << 28).split(data)
    if len(data) != 1 + len(encode_variable_integer(len(body))) + len(body):
        raise ValueError("something stands behind the packet")
    return decode(first_byte, body, level)


def type_of(data: bytes | bytearray) -> PacketType:
    return PacketType(data[0] >> 4)


# --- a client's packets


@given(st.data(), LEVELS)
def test_it_reads_what_we_write(node: NodeCodecs, data: st.DataObject, level: int) -> None:
    sent = data.draw(st.lists(packets(level, has_known_reasons=True).filter(can_be_read), min_size=1, max_size=5))
    read = node.read("mqtt", level, [encode_client_packet(one, level) for one in sent])
    assert read == [of_level(form_of(one), level) for one in sent]


@given(st.data(), LEVELS)
def test_we_read_what_it_writes(node: NodeCodecs, data: st.DataObject, level: int) -> None:
    sent = data.draw(st.lists(packets(level, has_known_reasons=True).filter(can_be_written), min_size=1, max_size=5))
    written = node.write("mqtt", level, [form_of(one) for one in sent])
    assert [form_of(read_ours(one, level)) for one in written] == [form_of(one) for one in sent]


@given(st.data(), LEVELS)
def test_what_we_read_of_damaged_packets_it_reads_as_well(node: NodeCodecs, data: st.DataObject, level: int) -> None:
    sent = data.draw(st.lists(packets(level, has_known_reasons=True), min_size=1, max_size=5))
    damaged, ours = [], []
    for one in sent:
        data_of_one = bytearray(encode_client_packet(one, level))
        data_of_one[data.draw(st.integers(0, len(data_of_one) - 1))] = data.draw(st.integers(0, 255))
        try:
            packet = read_ours(bytes(data_of_one), level)
        except (MqttError, ValueError):  # no packet, or none that is whole
            continue
        if not can_be_read(packet) or getattr(packet, "reason", 0) not in REASONS.get(type_of(data_of_one), (0,)):
            continue
        damaged.append(bytes(data_of_one))
        ours.append(of_level(form_of(packet), level))
    for found, expected in zip(node.read("mqtt", level, damaged), ours, strict=True):
        assert found == expected


# --- a server's packets


def replies(level: int) -> st.SearchStrategy[tuple[bytes, Form]]:
    """What a server says, as we write it, and in the library's terms."""

    def allowed(identifiers: frozenset[int]) -> st.SearchStrategy[Properties]:
        return properties(identifiers) if level == 5 else st.just({})

    def named(form: Form, found: Properties) -> Form:
        return {**form, "properties": form_of_properties(found)} if found else form

    code = "reasonCode" if level == 5 else "returnCode"
    granted = st.lists(st.sampled_from(REASONS[PacketType.SUBACK] if level == 5 else (0, 1, 2, 0x80)), min_size=1)
    given_up = st.lists(st.sampled_from(REASONS[PacketType.UNSUBACK]), min_size=1)
    said = [
        st.builds(
            lambda present, reason, found: (
                encode_connack(level, present, reason, found),
                named({"cmd": "connack", "sessionPresent": present, code: reason}, found),
            ),
            st.booleans(),
            st.integers(0, 5) if level < 5 else st.integers(0, 255),
            allowed(CONNACK_PROPERTIES),
        ),
        st.builds(
            lambda packet_id, codes, found: (
                encode_suback(level, packet_id, codes, found),
                named({"cmd": "suback", "messageId": packet_id, "granted": codes}, found),
            ),
            PACKET_IDS,
            granted,
            allowed(frozenset({0x1F, 0x26})),
        ),
        st.builds(
            lambda packet_id, codes: (
                encode_unsuback(level, packet_id, codes),
                {"cmd": "unsuback", "messageId": packet_id} | ({"granted": codes} if level == 5 else {}),
            ),
            PACKET_IDS,
            given_up,
        ),
        st.just((PINGRESP, {"cmd": "pingresp"})),
        st.builds(
            lambda topic, payload, found, identifiers: _delivery(topic, payload, found, identifiers, level),
            STRINGS.filter(bool),
            st.binary(max_size=300),
            allowed(PUBLISH_PROPERTIES - {Property.SUBSCRIPTION_IDENTIFIER}),
            st.lists(st.integers(1, 268_435_455), max_size=3) if level == 5 else st.just([]),
        ),
    ]
    if level == 5:
        said.append(
            st.builds(
                lambda reason, found: (
                    encode_disconnect(reason, found),
                    named({"cmd": "disconnect", "reasonCode": reason}, found),
                ),
                st.sampled_from(REASONS[PacketType.DISCONNECT]),
                allowed(DISCONNECT_PROPERTIES),
            )
        )
    return st.one_of(said).filter(lambda reply: has_no_lost_value(reply[1]))


def _delivery(topic: str, payload: bytes, found: Properties, identifiers: list[int], level: int) -> tuple[bytes, Form]:
    every: Properties = {**found, Property.SUBSCRIPTION_IDENTIFIER: identifiers} if identifiers else found
    packet = Publish(topic, payload, 1, False, True, 7, every)
    return encode_publish(packet, level), form_of(packet)


@given(st.data(), LEVELS)
def test_it_reads_what_a_server_says(node: NodeCodecs, data: st.DataObject, level: int) -> None:
    said = data.draw(st.lists(replies(level), min_size=1, max_size=5))
    assert node.read("mqtt", level, [written for written, _ in said]) == [form for _, form in said]


def test_it_is_told_what_is_no_packet(node: NodeCodecs) -> None:
    found = node.read("mqtt", 5, [b"\xf0\x00", encode_string("what"), PINGRESP])
    assert [isinstance(one, Refused) for one in found] == [True, True, False]
