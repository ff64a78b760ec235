"""An MQTT client of our own for the tests: it writes packets, and reads what comes."""

from __future__ import annotations

import socket
from typing import Protocol, Self

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


class Stream(Protocol):
    """A socket, or what stands for one."""

    def sendall(self, data: bytes) -> None: ...
    def recv(self, size: int, /) -> bytes: ...
    def close(self) -> None: ...


class MqttClient:
    """A connection.

    Args:
        port: of 127.0.0.1; or a stream that is there.
        client_id: its identifier.
        level: of the protocol, 4 for 3.1.1.
    """

    def __init__(
        self,
        port: int | Stream,
        client_id: str,
        level: int = 4,
        *,
        clean: bool = True,
        properties: Properties | None = None,
        user_name: str = "guest",
        password: str = "guest",
    ) -> None:
        self.level = level
        self._socket: Stream = port if not isinstance(port, int) else connect(port)
        self._splitter = PacketSplitter(1 << 20)
        self._heard: list[Received] = []
        self._next_id = 0
        said = password.encode()
        self.send(Connect(level, client_id, clean, 0, user_name, said, properties=properties or {}))
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

    def is_ended(self) -> bool:
        """Whether the broker closes the connection; waits for that, or for a packet."""
        while not self._heard:
            try:
                data = self._socket.recv(65_536)
            except ConnectionResetError:
                data = b""
            if not data:
                return True
            self._heard += [decode_answer(first, body, self.level) for first, body in self._splitter.split(data)]
        return False

    def message(self, reason: int = 0) -> Publish:
        """The next packet, a message, which is answered with this reason where it has to be."""
        message = self.take()
        assert isinstance(message, Publish), message
        if message.qos:
            self.send(Acknowledgement(PacketType.PUBACK, message.packet_id, reason))
        return message


def connect(port: int) -> socket.socket:
    """A connection to a port of 127.0.0.1."""
    return socket.create_connection(("127.0.0.1", port), timeout=raw_client.REPLY_TIMEOUT_S)
