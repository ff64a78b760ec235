"""MQTT's control packets out of bytes: a stream cut into packets, and those that a client may send read.

``PacketSplitter`` cuts, ``decode`` reads. Whether a packet may come now is not asked here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from amqp_broker.protocols.mqtt.encoding import (
    Reader,
    decode_string,
)
from amqp_broker.protocols.mqtt.packets import (
    BRIDGE,
    EXACTLY_ONCE,
    FLAGS,
    MQTT_3_1,
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
    Subscribe,
    Subscription,
    Unsubscribe,
    Will,
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
    read_properties,
)
from amqp_broker.protocols.mqtt.reasons import MqttError, Reason, malformed, protocol_error
from amqp_broker.protocols.mqtt.topics import is_topic_filter

FILTERS_BYTES_MAX: Final = 262_144  # of a packet of them: more would keep others waiting while it is read
SHOWN_CHARACTERS: Final = 100  # of a filter that is none
_OF_FILTERS: Final = (PacketType.SUBSCRIBE, PacketType.UNSUBSCRIBE)
_TYPES: Final = tuple(PacketType)  # from 1 on


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
    flags = first_byte & (0x07 if level == MQTT_3_1 and FLAGS[kind] else 0x0F)  # MQTT 3.1: may be marked as repeated
    if not kind or flags != FLAGS[kind]:
        raise malformed(f"a packet begins with {first_byte:#04x}")
    reader = Reader(body)
    packet: Packet
    if PacketType.PUBACK <= kind <= PacketType.PUBCOMP:
        packet = _decode_acknowledgement(_TYPES[kind - 1], reader, level)
    elif kind == PacketType.CONNECT:
        packet = _decode_connect(reader)
    elif kind in _OF_FILTERS and len(body) > FILTERS_BYTES_MAX:
        raise MqttError(Reason.QUOTA_EXCEEDED, f"topic filters of more than {FILTERS_BYTES_MAX} bytes in one packet")
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
    """A topic filter that is well-formed (MQTT 5.0, 4.7.1 and 4.7.3)."""
    topic_filter = reader.string()
    if not is_topic_filter(topic_filter):
        raise malformed(f"'{topic_filter[:SHOWN_CHARACTERS]}' is no topic filter")
    return topic_filter


def _packet_id(reader: Reader) -> int:
    packet_id = reader.two_bytes()
    if not packet_id:
        raise malformed("the packet identifier is 0")
    return packet_id
