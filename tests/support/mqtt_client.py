"""An MQTT client without a socket: it writes packets into a connection, and reads what the connection says."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from amqp_broker.access.client import Peer
from amqp_broker.broker.broker import Broker
from amqp_broker.protocols.mqtt.connection import Connection
from amqp_broker.protocols.mqtt.encoding import Reader
from amqp_broker.protocols.mqtt.packet_reading import PacketSplitter, decode
from amqp_broker.protocols.mqtt.packet_writing import encode_client_packet
from amqp_broker.protocols.mqtt.packets import (
    Acknowledgement,
    Connect,
    Disconnect,
    Packet,
    PacketType,
    Publish,
    Subscribe,
    Subscription,
    Unsubscribe,
)
from amqp_broker.protocols.mqtt.properties import KINDS, Properties, Property, read_properties

ALL_PROPERTIES = frozenset(KINDS)
REPEATED = frozenset({int(Property.SUBSCRIPTION_IDENTIFIER)})


@dataclass
class Answer:
    """What a server has sent that is neither PUBLISH nor an acknowledgement."""

    type: PacketType
    packet_id: int = 0
    codes: list[int] = field(default_factory=list)
    properties: Properties = field(default_factory=dict)
    session_present: bool = False


Received = Answer | Publish | Acknowledgement


class MqttClient:
    """A client.

    Args:
        broker: whose connection it has.
        client_id: its identifier; empty for none.
        level: of the protocol.
        in_bytes: whether everything is written one byte at a time.
    """

    def __init__(self, broker: Broker, client_id: str = "", level: int = 4, *, in_bytes: bool = False) -> None:
        self.broker = broker
        self.client_id = client_id
        self.level = level
        self.in_bytes = in_bytes
        self.connection = Connection(broker, Peer.at("127.0.0.1", 50_000, "127.0.0.1", 1883), lambda: None)
        self._splitter = PacketSplitter(1 << 28)
        self._next_id = 0

    # --- what it says

    def write(self, data: bytes) -> None:
        """Write bytes, whatever they are."""
        if self.in_bytes:
            for one in data:
                self.connection.receive(bytes((one,)))
        else:
            self.connection.receive(data)

    def send(self, packet: Packet) -> None:
        """Write a packet."""
        self.write(encode_client_packet(packet, self.level))

    def connect(self, *, clean: bool = True, **fields: Any) -> Answer:
        """Send CONNECT; returns what was answered first."""
        self.send(Connect(self.level, self.client_id, clean, **fields))
        answer = self.take()
        assert isinstance(answer, Answer)
        return answer

    def packet_id(self) -> int:
        """One that was not used yet."""
        self._next_id += 1
        return self._next_id

    def subscribe(self, topic_filter: str, qos: int = 0, properties: Properties | None = None, **options: Any) -> int:
        """Subscribe to one filter; returns the code of SUBACK. Deliveries behind it are left to be read."""
        packet_id = self.packet_id()
        self.send(Subscribe(packet_id, [Subscription(topic_filter, qos, **options)], properties or {}))
        answer = self.take()
        assert isinstance(answer, Answer)
        assert (answer.type, answer.packet_id) == (PacketType.SUBACK, packet_id)
        return answer.codes[0]

    def unsubscribe(self, topic_filter: str) -> list[int]:
        """Unsubscribe from one filter; returns the codes of UNSUBACK."""
        self.send(Unsubscribe(self.packet_id(), [topic_filter]))
        answer = self.take()
        assert isinstance(answer, Answer)
        assert answer.type is PacketType.UNSUBACK
        return answer.codes

    def publish(self, topic: str, payload: bytes = b"", qos: int = 0, **fields: Any) -> int:
        """Send a PUBLISH; returns its identifier."""
        packet_id = fields.pop("packet_id", self.packet_id() if qos else 0)
        self.send(Publish(topic, payload, qos, packet_id=packet_id, **fields))
        return int(packet_id)

    def acknowledge(self, kind: PacketType, packet_id: int, reason: int = 0) -> None:
        """Send PUBACK, PUBREC, PUBREL or PUBCOMP."""
        self.send(Acknowledgement(kind, packet_id, reason))

    def disconnect(self, reason: int = 0, properties: Properties | None = None) -> None:
        """Say goodbye, and close the socket."""
        self.send(Disconnect(reason, properties or {}))
        self.drop()

    def drop(self) -> None:
        """Let the socket end."""
        self.connection.lost("the client closed the TCP connection")
        self.connection.detach()

    # --- what it hears

    def _read(self) -> None:
        parts = self.connection.take_output()
        data = b"".join(parts)
        self.connection.output_sent(len(data))
        self._heard.extend(decode_answer(first, body, self.level) for first, body in self._splitter.split(data))

    @property
    def _heard(self) -> list[Received]:
        if not hasattr(self, "_packets"):
            self._packets: list[Received] = []
        return self._packets

    def take(self) -> Received:
        """The next packet."""
        self._read()
        assert self._heard, "nothing was said"
        return self._heard.pop(0)

    def all(self) -> list[Received]:
        """All packets that have come."""
        self._read()
        packets, self._packets = self._heard, []
        return packets

    def messages(self) -> list[Publish]:
        """All that has come, which is nothing but messages."""
        return [one for one in self.all() if isinstance(one, Publish)]

    @property
    def is_closed(self) -> bool:
        """Whether the connection wants its socket closed."""
        return self.connection.finished


def decode_answer(first_byte: int, body: bytes, level: int) -> Received:
    """A packet that a server has sent."""
    kind = PacketType(first_byte >> 4)
    if kind is PacketType.PUBLISH:
        return _publish(first_byte, body, level)
    if PacketType.PUBACK <= kind <= PacketType.PUBCOMP:
        packet = decode(first_byte, body, level)
        assert isinstance(packet, Acknowledgement)
        return packet
    reader = Reader(body)
    if kind is PacketType.CONNACK:
        present, code = bool(reader.byte()), reader.byte()
        return Answer(kind, 0, [code], _properties(reader, level), present)
    if kind in (PacketType.SUBACK, PacketType.UNSUBACK):
        packet_id = reader.two_bytes()
        properties = _properties(reader, level)
        return Answer(kind, packet_id, list(reader.rest()), properties)
    if kind is PacketType.DISCONNECT:
        return Answer(kind, 0, [reader.byte() if reader.left else 0])
    assert kind is PacketType.PINGRESP
    return Answer(kind)


def _properties(reader: Reader, level: int) -> Properties:
    return read_properties(reader, ALL_PROPERTIES, repeated=REPEATED) if level == 5 and reader.left else {}


def _publish(first_byte: int, body: bytes, level: int) -> Publish:
    reader = Reader(body)
    topic, qos = reader.string(), first_byte >> 1 & 3
    packet_id = reader.two_bytes() if qos else 0
    properties = _properties(reader, level)
    return Publish(topic, reader.rest(), qos, bool(first_byte & 1), bool(first_byte & 8), packet_id, properties)
