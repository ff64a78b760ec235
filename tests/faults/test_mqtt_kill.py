"""A real broker killed with SIGKILL while messages of MQTT's QoS 2 pass through: each arrives once."""

from __future__ import annotations

import os
import random
import re
import socket
import time
from pathlib import Path

from amqp_broker.protocols.mqtt.encoding import Reader
from amqp_broker.protocols.mqtt.packet_reading import PacketSplitter, decode
from amqp_broker.protocols.mqtt.packet_writing import encode_client_packet
from amqp_broker.protocols.mqtt.packets import (
    MQTT_3_1_1,
    Acknowledgement,
    Connect,
    Packet,
    PacketType,
    Publish,
    Subscribe,
    Subscription,
)
from tests.faults.broker_process import BrokerProcess

KILLS = int(os.environ.get("FAULTS_KILLS", "3"))
IN_FLIGHT_MAX = 20
KILL_AFTER_S = (0.05, 0.4)


class Device:
    """A client that keeps to QoS 2 across its connections."""

    def __init__(self, client_id: str) -> None:
        self.client_id = client_id
        self.sending: dict[int, bytes] = {}  # by packet id; empty when PUBREL is what is to be sent
        self.sent_count = 0
        self.got: list[bytes] = []
        self._received: set[int] = set()
        self._socket: socket.socket | None = None

    def disconnect(self) -> None:
        """Drop the socket."""
        if self._socket is not None:
            self._socket.close()

    def connect(self, port: int) -> None:
        """Connect, and go on with what was begun."""
        self.disconnect()
        self._splitter = PacketSplitter(1 << 28)
        self._socket = socket.create_connection(("127.0.0.1", port))
        self.send(Connect(MQTT_3_1_1, self.client_id, clean_start=False))
        assert self._socket.recv(4)[3] == 0
        self._socket.settimeout(0.01)
        for packet_id, payload in self.sending.items():
            if payload:
                self.send(Publish("q2", payload, 2, duplicate=True, packet_id=packet_id))
            else:
                self.send(Acknowledgement(PacketType.PUBREL, packet_id))

    def send(self, packet: Packet) -> None:
        assert self._socket is not None
        self._socket.sendall(encode_client_packet(packet, MQTT_3_1_1))

    def publish_more(self) -> None:
        """Keep so many on their way."""
        packet_id = 0
        while len(self.sending) < IN_FLIGHT_MAX:
            packet_id += 1
            if packet_id not in self.sending:
                self.sent_count += 1
                payload = self.sending[packet_id] = b"%d" % self.sent_count
                self.send(Publish("q2", payload, 2, packet_id=packet_id))

    def hear(self) -> bool:
        """Take what has come; returns whether there was anything."""
        assert self._socket is not None
        try:
            data = self._socket.recv(65_536)
        except TimeoutError:
            return False
        if not data:
            raise ConnectionResetError
        for first_byte, body in self._splitter.split(data):
            self._handle(first_byte, body)
        return True

    def _handle(self, first_byte: int, body: bytes) -> None:
        kind = PacketType(first_byte >> 4)
        if kind is PacketType.PUBLISH:
            reader = Reader(body)
            reader.string()
            packet_id = reader.two_bytes()
            if packet_id not in self._received:
                self._received.add(packet_id)
                self.got.append(reader.rest())
            self.send(Acknowledgement(PacketType.PUBREC, packet_id))
        elif kind in (PacketType.PUBREC, PacketType.PUBREL, PacketType.PUBCOMP):
            packet = decode(first_byte, body, MQTT_3_1_1)
            assert isinstance(packet, Acknowledgement)
            self._acknowledged(packet)

    def _acknowledged(self, packet: Acknowledgement) -> None:
        if packet.type is PacketType.PUBREC:
            if packet.packet_id in self.sending:
                self.sending[packet.packet_id] = b""
            self.send(Acknowledgement(PacketType.PUBREL, packet.packet_id))
        elif packet.type is PacketType.PUBCOMP:
            self.sending.pop(packet.packet_id, None)
        else:
            self._received.discard(packet.packet_id)
            self.send(Acknowledgement(PacketType.PUBCOMP, packet.packet_id))


def test_each_message_of_qos_2_arrives_once_however_often_the_broker_is_killed(tmp_path: Path) -> None:
    moments = random.Random(7)
    publisher, subscriber = Device("publisher"), Device("subscriber")
    for life in range(KILLS + 1):
        broker = BrokerProcess(tmp_path / "data", log=tmp_path / "log", mqtt_port=0).ready()
        found = re.search(r"mqtt://\S*?:(\d+)", broker.said)
        assert found is not None
        subscriber.connect(int(found.group(1)))
        if life == 0:
            subscriber.send(Subscribe(1, [Subscription("q2", 2)]))
            while not subscriber.hear():
                pass
        publisher.connect(int(found.group(1)))
        is_last = life == KILLS
        kill_at_s = time.monotonic() + moments.uniform(*KILL_AFTER_S)
        while (
            (publisher.sending or len(subscriber.got) < publisher.sent_count)
            if is_last
            else (time.monotonic() < kill_at_s)
        ):
            if not is_last:
                publisher.publish_more()
            publisher.hear()
            subscriber.hear()
        if is_last:
            publisher.disconnect()
            subscriber.disconnect()
            assert broker.end() == 0
        else:
            broker.kill()
    assert publisher.sent_count > 0
    assert subscriber.got == sorted(subscriber.got, key=int)
    assert [int(one) for one in subscriber.got] == list(range(1, publisher.sent_count + 1))
