"""An MQTT client of our own for the tests: it writes packets, and reads what comes."""

from __future__ import annotations

import socket
from typing import Self

from amqp_broker.protocols.mqtt.packet_reading import PacketSplitter
from amqp_broker.protocols.mqtt.packet_writing import encode_client_packet
from amqp_broker.protocols.mqtt.packets import (
    Acknowledgement,
    Connect,
    Packet,
    PacketType,
    Publish,
    Subscribe,
    Subscription,
)
from amqp_broker.protocols.mqtt.properties import Properties
from interop import raw_client
from tests.support.mqtt_client import Answer, Received, decode_answer


class MqttClient:
    """A connection.

    Args:
        port: of 127.0.0.1.
        client_id: its identifier.
        level: of the protocol, 4 for 3.1.1.
    """

    def __init__(
        self, port: int, client_id: str, level: int = 4, *, clean: bool = True, properties: Properties | None = None
    ) -> None:
        self.level = level
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=raw_client.REPLY_TIMEOUT_S)
        self._splitter = PacketSplitter(1 << 20)
        self._heard: list[Received] = []
        self._next_id = 0
        self.send(Connect(level, client_id, clean, user_name="guest", password=b"guest", properties=properties or {}))
        answer = self.take()
        assert isinstance(answer, Answer)
        assert answer.codes == [0], answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._socket.close()

    def send(self, packet: Packet) -> None:
        """Write a packet."""
        self._socket.sendall(encode_client_packet(packet, self.level))

    def take(self) -> Received:
        """The next packet; fails when none comes."""
        while not self._heard:
            data = self._socket.recv(65_536)
            assert data, "the broker has closed the connection"
            self._heard += [decode_answer(first, body, self.level) for first, body in self._splitter.split(data)]
        return self._heard.pop(0)

    def subscribe(self, topic_filter: str, qos: int = 1) -> int:
        """Subscribe to one filter; returns the code of SUBACK."""
        self._next_id += 1
        self.send(Subscribe(self._next_id, [Subscription(topic_filter, qos)]))
        answer = self.take()
        assert isinstance(answer, Answer)
        return answer.codes[0]

    def publish(self, topic: str, payload: bytes, qos: int = 1, properties: Properties | None = None) -> None:
        """Publish, and wait for the answer where there is one."""
        self._next_id += bool(qos)
        self.send(Publish(topic, payload, qos, packet_id=self._next_id if qos else 0, properties=properties or {}))
        if qos:
            answer = self.take()
            assert isinstance(answer, Acknowledgement)
            assert (answer.type, answer.packet_id) == (PacketType.PUBACK, self._next_id)

    def message(self, reason: int = 0) -> Publish:
        """The next packet, a message, which is answered with this reason where it has to be."""
        message = self.take()
        assert isinstance(message, Publish), message
        if message.qos:
            self.send(Acknowledgement(PacketType.PUBACK, message.packet_id, reason))
        return message
