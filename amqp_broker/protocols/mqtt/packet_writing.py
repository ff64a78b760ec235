"""MQTT's control packets into bytes: the ``encode_...`` functions write those that a server sends.

``encode_client_packet`` writes those of a client, for those who test a server.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from amqp_broker.protocols.mqtt.encoding import (
    encode_binary,
    encode_string,
    encode_variable_integer,
)
from amqp_broker.protocols.mqtt.packets import (
    BRIDGE,
    FLAGS,
    MQTT_5,
    PROTOCOL_NAMES,
    Acknowledgement,
    Authenticate,
    Connect,
    Disconnect,
    Packet,
    PacketType,
    PingRequest,
    Publish,
    Subscription,
    Unsubscribe,
)
from amqp_broker.protocols.mqtt.properties import (
    Properties,
    encode_properties,
)
from amqp_broker.protocols.mqtt.reasons import Reason

_PUBLISH: Final = 0x30  # the upper half of its first byte
PINGRESP: Final = bytes((PacketType.PINGRESP << 4, 0))


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
    return _packet(packet.type << 4 | FLAGS[packet.type], body)


def encode_answer(kind: int, packet_id: int, reason: int, level: int) -> bytes:
    """The same, without properties."""
    first_byte = kind << 4 | FLAGS[kind]
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
