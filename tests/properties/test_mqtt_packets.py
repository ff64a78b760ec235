"""MQTT's packets: what is written is read again, however the bytes are cut; nothing but MqttError is raised."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from amqp_broker.protocols.mqtt.packet_reading import PacketSplitter, decode
from amqp_broker.protocols.mqtt.packet_writing import encode_client_packet
from amqp_broker.protocols.mqtt.packets import (
    Acknowledgement,
    Authenticate,
    Connect,
    Disconnect,
    Packet,
    PacketType,
    PingRequest,
    Publish,
    Subscribe,
    Subscription,
    Unsubscribe,
    Will,
)
from amqp_broker.protocols.mqtt.properties import (
    ACKNOWLEDGEMENT_PROPERTIES,
    AUTH_PROPERTIES,
    BOOLEANS,
    CONNECT_PROPERTIES,
    DISCONNECT_PROPERTIES,
    KINDS,
    NEVER_ZERO,
    PUBLISH_PROPERTIES,
    SUBSCRIBE_PROPERTIES,
    UNSUBSCRIBE_PROPERTIES,
    WILL_PROPERTIES,
    Kind,
    Properties,
    Property,
    Value,
)
from amqp_broker.protocols.mqtt.reasons import MqttError
from amqp_broker.protocols.mqtt.topics import is_topic_filter

LEVELS = st.sampled_from((3, 4, 5))
STRINGS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
FILTERS = STRINGS.filter(is_topic_filter)
PACKET_IDS = st.integers(1, 65_535)
MAXIMA = {Kind.BYTE: 255, Kind.TWO_BYTES: 65_535, Kind.FOUR_BYTES: 2**32 - 1, Kind.VARIABLE_INTEGER: 268_435_455}


def values(identifier: int) -> st.SearchStrategy[Value]:
    kind = KINDS[identifier]
    if kind is Kind.STRING:
        return STRINGS
    if kind is Kind.BINARY:
        return st.binary(max_size=20)
    if kind is Kind.STRING_PAIR:
        return st.lists(st.tuples(STRINGS, STRINGS), min_size=1, max_size=3)
    maximum = 1 if identifier in BOOLEANS else MAXIMA[kind]
    return st.integers(1 if identifier in NEVER_ZERO else 0, maximum)


def properties(allowed: frozenset[int]) -> st.SearchStrategy[Properties]:
    return st.fixed_dictionaries({}, optional={identifier: values(identifier) for identifier in sorted(allowed)})


@st.composite
def packets(draw: st.DrawFn, level: int) -> Packet:
    def with_properties(allowed: frozenset[int]) -> Properties:
        return draw(properties(allowed)) if level == 5 else {}

    def reason() -> int:
        return draw(st.integers(0, 255)) if level == 5 else 0

    kind = draw(st.integers(1, 15 if level == 5 else 14))
    if kind == PacketType.CONNECT:
        will = None
        if draw(st.booleans()):
            will_properties = with_properties(WILL_PROPERTIES)
            will = Will(
                draw(STRINGS.filter(bool)),
                draw(st.binary(max_size=9)),
                draw(st.integers(0, 2)),
                draw(st.booleans()),
                will_properties,
            )
        user_name = draw(st.none() | STRINGS)
        password = draw(st.none() | st.binary(max_size=9)) if user_name is not None or level == 5 else None
        seconds = draw(st.integers(0, 65_535))
        connect_properties = with_properties(CONNECT_PROPERTIES)
        return Connect(
            level, draw(STRINGS), draw(st.booleans()), seconds, user_name, password, will, connect_properties
        )
    if kind == PacketType.SUBSCRIBE:
        options = (st.booleans(), st.booleans(), st.integers(0, 2)) if level == 5 else ()
        subscriptions = st.lists(st.builds(Subscription, FILTERS, st.integers(0, 2), *options), min_size=1, max_size=3)
        return Subscribe(draw(PACKET_IDS), draw(subscriptions), with_properties(SUBSCRIBE_PROPERTIES))
    if kind == PacketType.UNSUBSCRIBE:
        filters = draw(st.lists(FILTERS, min_size=1, max_size=3))
        return Unsubscribe(draw(PACKET_IDS), filters, with_properties(UNSUBSCRIBE_PROPERTIES))
    if PacketType.PUBACK <= kind <= PacketType.PUBCOMP:
        found = with_properties(ACKNOWLEDGEMENT_PROPERTIES)
        return Acknowledgement(PacketType(kind), draw(PACKET_IDS), reason(), found)
    if kind == PacketType.DISCONNECT:
        return Disconnect(reason(), with_properties(DISCONNECT_PROPERTIES))
    if kind == PacketType.AUTH:
        return Authenticate(reason(), with_properties(AUTH_PROPERTIES))
    if kind == PacketType.PINGREQ:
        return PingRequest()
    qos = draw(st.integers(0, 2))
    duplicate = draw(st.booleans()) if qos else False
    found = with_properties(PUBLISH_PROPERTIES - {Property.SUBSCRIPTION_IDENTIFIER})
    packet_id = draw(PACKET_IDS) if qos else 0
    return Publish(draw(STRINGS), draw(st.binary(max_size=300)), qos, draw(st.booleans()), duplicate, packet_id, found)


@given(st.data(), LEVELS)
def test_what_is_written_is_read_again(data: st.DataObject, level: int) -> None:
    sent = data.draw(st.lists(packets(level), min_size=1, max_size=4))
    stream = b"".join(encode_client_packet(packet, level) for packet in sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    splitter = PacketSplitter(1_000_000)
    read = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        read += [decode(first_byte, body, level) for first_byte, body in splitter.split(stream[start:end])]
    assert read == sent
    assert splitter.missing_bytes == 0


@given(st.data(), LEVELS)
def test_byte_by_byte_is_the_same(data: st.DataObject, level: int) -> None:
    packet = data.draw(packets(level))
    splitter = PacketSplitter(1_000_000)
    stream = encode_client_packet(packet, level)
    found = [one for place in range(len(stream)) for one in splitter.split(stream[place : place + 1])]
    assert [decode(first_byte, body, level) for first_byte, body in found] == [packet]


@given(st.binary(max_size=200), LEVELS)
def test_strange_bytes_raise_nothing_else(stream: bytes, level: int) -> None:
    splitter = PacketSplitter(100)
    try:
        for first_byte, body in splitter.split(stream):
            decode(first_byte, body, level)
    except MqttError:
        pass


@given(st.data(), LEVELS)
def test_a_damaged_packet_raises_nothing_else(data: st.DataObject, level: int) -> None:
    stream = bytearray(encode_client_packet(data.draw(packets(level)), level))
    for _ in range(data.draw(st.integers(1, 4))):
        stream[data.draw(st.integers(0, len(stream) - 1))] = data.draw(st.integers(0, 255))
    try:
        for first_byte, body in PacketSplitter(1_000).split(bytes(stream)):
            decode(first_byte, body, level)
    except MqttError:
        pass
