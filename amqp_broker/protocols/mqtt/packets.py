"""MQTT's control packets: bytes <-> values, for the versions 3.1 (level 3), 3.1.1 (level 4) and 5.0 (level 5).

``PacketSplitter`` cuts a byte stream into packets; ``decode`` reads one that a client may send, the ``encode_...``
functions write those that a server sends, and ``encode_client_packet`` those of a client, for tests.
Holds no state of a conversation: whether a packet may come now is not asked here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from amqp_broker.protocols.mqtt.encoding import (
    Reader,
    decode_string,
    encode_binary,
    encode_string,
    encode_variable_integer,
)
from amqp_broker.protocols.mqtt.properties import (
    ACKNOWLEDGEMENT_PROPERTIES,
    AUTH_PROPERTIES,
    CONNECT_PROPERTIES,
    DISCONNECT_PROPERTIES,
    PUBLISH_PROPERTIES,
    SUBSCRIBE_PROPERTIES,
    UNSUBSCRIBE_PROPERTIES,
    WILL_PROPERTIES,
    Properties,
    encode_properties,
    read_properties,
)
from amqp_broker.protocols.mqtt.reasons import MqttError, Reason, malformed, protocol_error

MQTT_3_1: Final = 3
MQTT_3_1_1: Final = 4
MQTT_5: Final = 5
BRIDGE: Final = 0x80  # in the byte of an MQTT 3 level: the client is another broker; mosquitto's convention
PROTOCOL_NAMES: Final = {MQTT_3_1: "MQIsdp", MQTT_3_1_1: "MQTT", MQTT_5: "MQTT"}
AT_MOST_ONCE: Final = 0
AT_LEAST_ONCE: Final = 1
EXACTLY_ONCE: Final = 2


class PacketType(IntEnum):
    """The upper half of a packet's first byte (MQTT 5.0, 2.1.2)."""

    CONNECT = 1
    CONNACK = 2
    PUBLISH = 3
    PUBACK = 4
    PUBREC = 5
    PUBREL = 6
    PUBCOMP = 7
    SUBSCRIBE = 8
    SUBACK = 9
    UNSUBSCRIBE = 10
    UNSUBACK = 11
    PINGREQ = 12
    PINGRESP = 13
    DISCONNECT = 14
    AUTH = 15


# The lower half of the first byte, where the standard prescribes it (MQTT 5.0, 2.1.3).
_WITH_FLAG: Final = (PacketType.PUBREL, PacketType.SUBSCRIBE, PacketType.UNSUBSCRIBE)
_FLAGS: Final = tuple(2 if kind in _WITH_FLAG else 0 for kind in range(16))
_TYPES: Final = tuple(PacketType)  # from 1 on

_PUBLISH: Final = 0x30  # the upper half of its first byte
PINGRESP: Final = bytes((PacketType.PINGRESP << 4, 0))


@dataclass(slots=True)
class Will:
    """The message that is published when the client goes without DISCONNECT."""

    topic: str
    payload: bytes
    qos: int = AT_MOST_ONCE
    retain: bool = False
    properties: Properties = field(default_factory=dict)


@dataclass(slots=True)
class Connect:
    """CONNECT (MQTT 5.0, 3.1)."""

    level: int
    client_id: str
    clean_start: bool = True
    keep_alive_s: int = 0
    user_name: str | None = None
    password: bytes | None = None
    will: Will | None = None
    properties: Properties = field(default_factory=dict)
    is_bridge: bool = False


@dataclass(slots=True)
class Publish:
    """PUBLISH (MQTT 5.0, 3.3). The topic is empty where MQTT 5 names it by an alias."""

    topic: str
    payload: bytes
    qos: int = AT_MOST_ONCE
    retain: bool = False
    duplicate: bool = False
    packet_id: int = 0
    properties: Properties = field(default_factory=dict)


@dataclass(slots=True)
class Acknowledgement:
    """PUBACK, PUBREC, PUBREL or PUBCOMP, told by its type."""

    type: PacketType
    packet_id: int
    reason: int = Reason.SUCCESS
    properties: Properties = field(default_factory=dict)


@dataclass(slots=True)
class Subscription:
    """One topic filter of a SUBSCRIBE, and what is asked for it."""

    topic_filter: str
    qos: int = AT_MOST_ONCE
    no_local: bool = False
    retain_as_published: bool = False
    retain_handling: int = 0


@dataclass(slots=True)
class Subscribe:
    """SUBSCRIBE (MQTT 5.0, 3.8)."""

    packet_id: int
    subscriptions: list[Subscription]
    properties: Properties = field(default_factory=dict)


@dataclass(slots=True)
class Unsubscribe:
    """UNSUBSCRIBE (MQTT 5.0, 3.10)."""

    packet_id: int
    topic_filters: list[str]
    properties: Properties = field(default_factory=dict)


@dataclass(slots=True)
class PingRequest:
    """PINGREQ."""


@dataclass(slots=True)
class Disconnect:
    """DISCONNECT (MQTT 5.0, 3.14)."""

    reason: int = Reason.SUCCESS
    properties: Properties = field(default_factory=dict)


@dataclass(slots=True)
class Authenticate:
    """AUTH (MQTT 5.0, 3.15)."""

    reason: int = Reason.SUCCESS
    properties: Properties = field(default_factory=dict)


Packet = (
    Connect | Publish | Acknowledgement | Subscribe | Unsubscribe | PingRequest | Disconnect | Authenticate
)  # that a client may send


class PacketSplitter:
    """Cuts a byte stream into packets.

    Args:
        packet_bytes_max: a larger one, its first bytes included, is refused before it is gathered.
    """

    def __init__(self, packet_bytes_max: int) -> None:
        self.packet_bytes_max = packet_bytes_max
        self._rest = bytearray()
        self._wanted_bytes = 0  # of the packet that has begun, its first bytes included; 0 while that is not known

    @property
    def missing_bytes(self) -> int:
        """So much of a packet that has begun is still to come; 0 where that is not known yet."""
        return max(self._wanted_bytes - len(self._rest), 0)

    def split(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Take what was read, and yield each whole packet: its first byte, and its body.

        Raises:
            MqttError: 0x81 for a length that cannot be read, 0x95 for a packet that is too large; nothing more can be
                read then.
        """
        if self._rest:
            self._rest += data
            if len(self._rest) < self._wanted_bytes:
                return
            data = bytes(self._rest)
            self._rest.clear()
        self._wanted_bytes = 0
        offset, end = 0, len(data)
        while end - offset >= 2:
            size, body_offset = data[offset + 1], offset + 2
            if size > 0x7F:
                size, body_offset = _remaining_length(data, offset + 1)
                if not body_offset:
                    break
            if body_offset - offset + size > self.packet_bytes_max:
                raise MqttError(Reason.PACKET_TOO_LARGE, f"a packet of more than {self.packet_bytes_max} bytes")
            if body_offset + size > end:
                self._wanted_bytes = body_offset + size - offset
                break
            first_byte, offset = data[offset], body_offset + size
            yield first_byte, data[body_offset:offset]
        self._rest += data[offset:]


def _remaining_length(data: bytes | bytearray, offset: int) -> tuple[int, int]:
    """Read the length of a packet's body; returns it and where the body begins, which is 0 while bytes are missing."""
    size = shift = 0
    for place in range(offset, min(offset + 4, len(data))):
        byte = data[place]
        size |= (byte & 0x7F) << shift
        if byte < 0x80:
            return size, place + 1
        shift += 7
    if len(data) - offset >= 4:
        raise malformed("the remaining length has more than four bytes")
    return 0, 0


# --- from the client


def decode(first_byte: int, body: bytes, level: int) -> Packet:
    """Read one packet of a client.

    Args:
        first_byte: type and flags.
        body: all behind the remaining length.
        level: the protocol level that CONNECT has named; of no importance to CONNECT itself.

    Raises:
        MqttError: it is malformed, or nothing that a client may send.
    """
    kind = first_byte >> 4
    if kind == PacketType.PUBLISH:
        return _decode_publish(first_byte, body, level)
    flags = first_byte & (0x07 if level == MQTT_3_1 and _FLAGS[kind] else 0x0F)  # MQTT 3.1: may be marked as repeated
    if not kind or flags != _FLAGS[kind]:
        raise malformed(f"a packet begins with {first_byte:#04x}")
    reader = Reader(body)
    packet: Packet
    if PacketType.PUBACK <= kind <= PacketType.PUBCOMP:
        packet = _decode_acknowledgement(_TYPES[kind - 1], reader, level)
    elif kind == PacketType.CONNECT:
        packet = _decode_connect(reader)
    elif kind == PacketType.SUBSCRIBE:
        packet = _decode_subscribe(reader, level)
    elif kind == PacketType.UNSUBSCRIBE:
        packet = _decode_unsubscribe(reader, level)
    elif kind == PacketType.PINGREQ:
        packet = PingRequest()
    elif kind == PacketType.DISCONNECT:
        packet = Disconnect(*_decode_result(reader, level, DISCONNECT_PROPERTIES))
    elif kind == PacketType.AUTH and level == MQTT_5:
        packet = Authenticate(*_decode_result(reader, level, AUTH_PROPERTIES))
    else:
        raise protocol_error(f"a client may not send {_TYPES[kind - 1].name}")
    reader.end()
    return packet


def _decode_connect(reader: Reader) -> Connect:
    name, level_byte = reader.string(), reader.byte()
    level = level_byte & ~BRIDGE
    is_bridge = level != level_byte
    if PROTOCOL_NAMES.get(level) != name or (is_bridge and level == MQTT_5):
        raise MqttError(Reason.UNSUPPORTED_PROTOCOL_VERSION, f"unknown protocol '{name}' of level {level_byte}")
    flags = reader.byte()
    keep_alive_s = reader.two_bytes()
    properties = read_properties(reader, CONNECT_PROPERTIES) if level == MQTT_5 else {}
    has_will, will_qos, will_retain = bool(flags & 0x04), flags >> 3 & 3, bool(flags & 0x20)
    if flags & 0x01:
        raise malformed("the reserved flag of CONNECT is set")
    if will_qos > EXACTLY_ONCE or (not has_will and (will_qos or will_retain)):
        raise malformed("the flags of CONNECT's will contradict each other")
    if flags & 0x40 and not flags & 0x80 and level != MQTT_5:
        raise malformed("CONNECT has a password without a user name")
    client_id = reader.string()
    will = None
    if has_will:
        will_properties = read_properties(reader, WILL_PROPERTIES) if level == MQTT_5 else {}
        topic = reader.string()
        if not topic:
            raise malformed("the topic of CONNECT's will is empty")
        will = Will(topic, reader.binary(), will_qos, will_retain, will_properties)
    user_name = reader.string() if flags & 0x80 else None
    password = reader.binary() if flags & 0x40 else None
    return Connect(level, client_id, bool(flags & 0x02), keep_alive_s, user_name, password, will, properties, is_bridge)


def _decode_publish(first_byte: int, body: bytes, level: int) -> Publish:
    qos = first_byte >> 1 & 3
    if qos > EXACTLY_ONCE:
        raise malformed("a PUBLISH with both QoS bits")
    if first_byte & 0x08 and not qos:
        raise malformed("a PUBLISH of QoS 0 is marked as a duplicate")
    size_bytes = len(body)
    offset = 2 + (body[0] << 8 | body[1]) if size_bytes >= 2 else size_bytes + 1
    packet_id, id_offset = 0, offset
    if qos:
        offset += 2
    if offset > size_bytes:
        raise malformed("the packet ends in the middle of a field")
    topic = decode_string(body[2:id_offset])
    if qos:
        packet_id = body[id_offset] << 8 | body[id_offset + 1]
        if not packet_id:
            raise malformed("the packet identifier is 0")
    properties: Properties = {}
    if level == MQTT_5:
        reader = Reader(body, offset)
        properties = read_properties(reader, PUBLISH_PROPERTIES)
        offset = reader.offset
    return Publish(topic, body[offset:], qos, bool(first_byte & 1), bool(first_byte & 8), packet_id, properties)


def _decode_acknowledgement(kind: PacketType, reader: Reader, level: int) -> Acknowledgement:
    packet_id = _packet_id(reader)
    return Acknowledgement(kind, packet_id, *_decode_result(reader, level, ACKNOWLEDGEMENT_PROPERTIES))


def _decode_result(reader: Reader, level: int, allowed: frozenset[int]) -> tuple[int, Properties]:
    """The reason code and properties at the end of a packet; both may be left out, and MQTT 3 has none."""
    if level != MQTT_5 or not reader.left:
        return Reason.SUCCESS, {}
    reason = reader.byte()
    return reason, read_properties(reader, allowed) if reader.left else {}


def _decode_subscribe(reader: Reader, level: int) -> Subscribe:
    packet_id = _packet_id(reader)
    properties = read_properties(reader, SUBSCRIBE_PROPERTIES) if level == MQTT_5 else {}
    subscriptions = []
    while reader.left:
        topic_filter = _topic_filter(reader)
        subscriptions.append(_subscription(topic_filter, reader.byte(), level))
    if not subscriptions:
        raise protocol_error("a SUBSCRIBE without a topic filter")
    return Subscribe(packet_id, subscriptions, properties)


def _subscription(topic_filter: str, options: int, level: int) -> Subscription:
    qos, retain_handling = options & 3, options >> 4 & 3
    if qos > EXACTLY_ONCE or options & (0xC0 if level == MQTT_5 else 0xFC) or retain_handling > 2:
        raise malformed(f"the options {options:#04x} of a subscription")
    return Subscription(topic_filter, qos, bool(options & 4), bool(options & 8), retain_handling)


def _decode_unsubscribe(reader: Reader, level: int) -> Unsubscribe:
    packet_id = _packet_id(reader)
    properties = read_properties(reader, UNSUBSCRIBE_PROPERTIES) if level == MQTT_5 else {}
    topic_filters = []
    while reader.left:
        topic_filters.append(_topic_filter(reader))
    if not topic_filters:
        raise protocol_error("an UNSUBSCRIBE without a topic filter")
    return Unsubscribe(packet_id, topic_filters, properties)


def _topic_filter(reader: Reader) -> str:
    """A topic filter, well-formed or not, but not empty (MQTT 5.0, 4.7.3)."""
    topic_filter = reader.string()
    if not topic_filter:
        raise malformed("an empty topic filter")
    return topic_filter


def _packet_id(reader: Reader) -> int:
    packet_id = reader.two_bytes()
    if not packet_id:
        raise malformed("the packet identifier is 0")
    return packet_id


# --- from the server


def encode_connack(level: int, session_present: bool, code: int, properties: Properties | None = None) -> bytes:
    """CONNACK.

    Args:
        level: the client's protocol level.
        session_present: whether the client's session was there.
        code: a return code for MQTT 3, a reason code for MQTT 5.
        properties: MQTT 5's.
    """
    body = bytes((session_present, code))
    return _packet(PacketType.CONNACK << 4, body + encode_properties(properties or {}) if level == MQTT_5 else body)


def encode_publish(packet: Publish, level: int) -> bytes:
    """PUBLISH, from either side."""
    flags = packet.duplicate << 3 | packet.qos << 1 | packet.retain
    properties = encode_properties(packet.properties) if level == MQTT_5 else b""
    return join_publish(flags, encode_string(packet.topic), packet.packet_id, properties, packet.payload)


def join_publish(flags: int, topic: bytes, packet_id: int, properties: bytes, payload: bytes) -> bytes:
    """PUBLISH of parts that are encoded.

    Args:
        flags: the lower half of the first byte.
        topic: with its length in front.
        packet_id: 0 for QoS 0, which has none.
        properties: with their length in front; nothing for MQTT 3.
    """
    identifier = packet_id.to_bytes(2, "big") if packet_id else b""
    size = len(topic) + len(identifier) + len(properties) + len(payload)
    if size <= 0x7F:
        head = bytes((_PUBLISH | flags, size))
    else:
        head = bytes((_PUBLISH | flags,)) + encode_variable_integer(size)
    return b"".join((head, topic, identifier, properties, payload))


def encode_acknowledgement(packet: Acknowledgement, level: int) -> bytes:
    """PUBACK, PUBREC, PUBREL or PUBCOMP, from either side; as short as it may be."""
    if not packet.properties:
        return encode_answer(packet.type, packet.packet_id, packet.reason, level)
    body = packet.packet_id.to_bytes(2, "big") + _encode_result(packet.reason, packet.properties, level)
    return _packet(packet.type << 4 | _FLAGS[packet.type], body)


def encode_answer(kind: int, packet_id: int, reason: int, level: int) -> bytes:
    """The same, without properties."""
    first_byte = kind << 4 | _FLAGS[kind]
    if reason and level == MQTT_5:
        return bytes((first_byte, 3, packet_id >> 8, packet_id & 0xFF, reason))
    return bytes((first_byte, 2, packet_id >> 8, packet_id & 0xFF))


def encode_suback(level: int, packet_id: int, codes: Sequence[int], properties: Properties | None = None) -> bytes:
    """SUBACK, a code for each topic filter: the granted QoS, or why there is none."""
    between = encode_properties(properties or {}) if level == MQTT_5 else b""
    return _packet(PacketType.SUBACK << 4, packet_id.to_bytes(2, "big") + between + bytes(codes))


def encode_unsuback(level: int, packet_id: int, codes: Sequence[int]) -> bytes:
    """UNSUBACK; MQTT 3 knows no codes."""
    body = packet_id.to_bytes(2, "big")
    return _packet(PacketType.UNSUBACK << 4, body + b"\0" + bytes(codes) if level == MQTT_5 else body)


def encode_disconnect(reason: int, properties: Properties | None = None) -> bytes:
    """DISCONNECT as MQTT 5 has it; a server has no other."""
    return _packet(PacketType.DISCONNECT << 4, _encode_result(reason, properties or {}, MQTT_5))


def _encode_result(reason: int, properties: Properties, level: int) -> bytes:
    if level != MQTT_5 or (reason == Reason.SUCCESS and not properties):
        return b""
    return bytes((reason,)) + (encode_properties(properties) if properties else b"")


def _packet(first_byte: int, body: bytes) -> bytes:
    return bytes((first_byte,)) + encode_variable_integer(len(body)) + body


# --- from the client, for those who test a server


def encode_client_packet(packet: Packet, level: int) -> bytes:
    """Write a packet as a client would.

    Args:
        level: the protocol level that CONNECT has named.
    """
    if isinstance(packet, Publish):
        return encode_publish(packet, level)
    if isinstance(packet, Acknowledgement):
        return encode_acknowledgement(packet, level)
    if isinstance(packet, Connect):
        return _packet(PacketType.CONNECT << 4, _encode_connect(packet))
    if isinstance(packet, PingRequest):
        return _packet(PacketType.PINGREQ << 4, b"")
    if isinstance(packet, Disconnect):
        return _packet(PacketType.DISCONNECT << 4, _encode_result(packet.reason, packet.properties, level))
    if isinstance(packet, Authenticate):
        return _packet(PacketType.AUTH << 4, _encode_result(packet.reason, packet.properties, level))
    head = packet.packet_id.to_bytes(2, "big") + (encode_properties(packet.properties) if level == MQTT_5 else b"")
    if isinstance(packet, Unsubscribe):
        filters = b"".join(encode_string(one) for one in packet.topic_filters)
        return _packet(PacketType.UNSUBSCRIBE << 4 | 2, head + filters)
    wanted = b"".join(encode_string(one.topic_filter) + bytes((_options(one),)) for one in packet.subscriptions)
    return _packet(PacketType.SUBSCRIBE << 4 | 2, head + wanted)


def _options(subscription: Subscription) -> int:
    flags = subscription.no_local << 2 | subscription.retain_as_published << 3
    return subscription.qos | flags | subscription.retain_handling << 4


def _encode_connect(packet: Connect) -> bytes:
    will = packet.will
    flags = (packet.user_name is not None) << 7 | (packet.password is not None) << 6 | packet.clean_start << 1
    if will is not None:
        flags |= 4 | will.qos << 3 | will.retain << 5
    parts = [
        encode_string(PROTOCOL_NAMES[packet.level]),
        bytes((packet.level | (BRIDGE if packet.is_bridge else 0), flags)),
        packet.keep_alive_s.to_bytes(2, "big"),
        encode_properties(packet.properties) if packet.level == MQTT_5 else b"",
        encode_string(packet.client_id),
    ]
    if will is not None:
        parts.append(encode_properties(will.properties) if packet.level == MQTT_5 else b"")
        parts += [encode_string(will.topic), encode_binary(will.payload)]
    if packet.user_name is not None:
        parts.append(encode_string(packet.user_name))
    if packet.password is not None:
        parts.append(encode_binary(packet.password))
    return b"".join(parts)
