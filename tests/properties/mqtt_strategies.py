"""What a client of MQTT may send, at random: packets of all types, for each version."""

from __future__ import annotations

from hypothesis import strategies as st

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
from amqp_broker.protocols.mqtt.topics import is_topic_filter

LEVELS = st.sampled_from((3, 4, 5))
STRINGS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
FILTERS = STRINGS.filter(is_topic_filter)
PACKET_IDS = st.integers(1, 65_535)
MAXIMA = {Kind.BYTE: 255, Kind.TWO_BYTES: 65_535, Kind.FOUR_BYTES: 2**32 - 1, Kind.VARIABLE_INTEGER: 268_435_455}


REASONS = {  # that each packet may give (MQTT 5.0, 2.4)
    PacketType.PUBACK: (0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99),
    PacketType.PUBREC: (0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99),
    PacketType.PUBREL: (0x00, 0x92),
    PacketType.PUBCOMP: (0x00, 0x92),
    PacketType.SUBACK: (0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2),
    PacketType.UNSUBACK: (0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91),
    PacketType.DISCONNECT: (
        0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8D, 0x8E, 0x8F, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97,
        0x98, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2,
    ),
    PacketType.AUTH: (0x00, 0x18, 0x19),
}  # fmt: skip


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
def packets(draw: st.DrawFn, level: int, *, has_known_reasons: bool = False) -> Packet:
    """A packet.

    Args:
        level: of the protocol.
        has_known_reasons: whether its reason code is one that the standard gives such packets.
    """

    def with_properties(allowed: frozenset[int]) -> Properties:
        return draw(properties(allowed)) if level == 5 else {}

    def reason() -> int:
        if level != 5:
            return 0
        return draw(st.sampled_from(REASONS[PacketType(kind)]) if has_known_reasons else st.integers(0, 255))

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
