"""A real broker killed with SIGKILL while messages of MQTT's QoS 2 pass through, at any moment and behind each step of
their exchanges: each arrives once, and so does the will of each client that the broker's end cut off.

``FAULTS_KILLS`` sets the number of kills of each test (16 and more: behind each step twice). With
``FAULTS_PROCESSES=2`` the process that owns the virtual host is killed, and another one goes on.
"""

from __future__ import annotations

import os
import random
import re
import socket
import time
from pathlib import Path

import pytest

from amqp_broker.protocols.mqtt.encoding import Reader
from amqp_broker.protocols.mqtt.packet_reading import PacketSplitter, decode
from amqp_broker.protocols.mqtt.packet_writing import encode_client_packet
from amqp_broker.protocols.mqtt.packets import (
    MQTT_3_1_1,
    MQTT_5,
    Acknowledgement,
    Connect,
    Packet,
    PacketType,
    Publish,
    Subscribe,
    Subscription,
    Will,
)
from amqp_broker.protocols.mqtt.properties import Properties, Property
from tests.faults.broker_process import BrokerProcess, start_one_or_several

KILLS = int(os.environ.get("FAULTS_KILLS", "2"))
IN_FLIGHT_MAX = 20
KILL_AFTER_S = (0.05, 0.4)
MORTAL_LASTS_S = 3600
WILL_DELAYS_S = (0, 1)
STEPS = [  # of one exchange, on both sides
    *(("publisher", step) for step in ("sent PUBLISH", "got PUBREC", "sent PUBREL", "got PUBCOMP")),
    *(("subscriber", step) for step in ("got PUBLISH", "sent PUBREC", "got PUBREL", "sent PUBCOMP")),
]


class Device:
    """A client that keeps to QoS 2 across its connections."""

    def __init__(self, client_id: str) -> None:
        self.client_id = client_id
        self.sending: dict[int, bytes] = {}  # by packet id; empty when PUBREL is what is to be sent
        self.sent_count = 0
        self.got: list[bytes] = []  # of the topic q2
        self.wills: list[str] = []  # their topics
        self.steps: set[str] = set()  # done since it has connected
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
        self.steps.clear()
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
        if isinstance(packet, Acknowledgement):
            self.steps.add(f"sent {packet.type.name}")
        elif isinstance(packet, Publish):
            self.steps.add("sent PUBLISH")

    def publish_more(self, in_flight: int) -> None:
        """Keep so many on their way."""
        packet_id = 0
        while len(self.sending) < in_flight:
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
        self.steps.add(f"got {kind.name}")
        if kind is PacketType.PUBLISH:
            reader = Reader(body)
            topic = reader.string()
            packet_id = reader.two_bytes()
            if packet_id not in self._received:
                self._received.add(packet_id)
                if topic == "q2":
                    self.got.append(reader.rest())
                else:
                    self.wills.append(topic)
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


def started(folder: Path) -> BrokerProcess:
    """A broker that speaks MQTT."""
    return start_one_or_several(folder / "data", log=folder / "log", mqtt_port=0)


def port_of(broker: BrokerProcess) -> int:
    """Where it does."""
    found = re.search(r"mqtt://\S*?:(\d+)", broker.said)
    assert found is not None
    return int(found.group(1))


def ended(broker: BrokerProcess, *devices: Device) -> None:
    """Everybody leaves."""
    for device in devices:
        device.disconnect()
    assert broker.end() == 0


def subscribe(device: Device) -> None:
    """To the messages, and to the wills."""
    device.send(Subscribe(1, [Subscription("q2", 2), Subscription("will/#", 2)]))
    while "got SUBACK" not in device.steps:
        device.hear()


def mortal(port: int, number: int) -> socket.socket:
    """A client that the broker has let in with a will, and that is cut off when it is killed; its session lasts."""
    will = Will(f"will/{number}", b"cut off", 2)
    will.properties = {Property.WILL_DELAY_INTERVAL: WILL_DELAYS_S[number % 2]}
    lasts: Properties = {Property.SESSION_EXPIRY_INTERVAL: MORTAL_LASTS_S}
    client = socket.create_connection(("127.0.0.1", port))
    client.sendall(encode_client_packet(Connect(MQTT_5, f"mortal-{number}", will=will, properties=lasts), MQTT_5))
    assert client.recv(4)[3] == 0
    return client


@pytest.mark.slow
def test_each_message_of_qos_2_arrives_once_however_often_the_broker_is_killed(tmp_path: Path) -> None:
    moments = random.Random(7)
    publisher, subscriber = Device("publisher"), Device("subscriber")
    broker = started(tmp_path)
    for life in range(KILLS + 1):
        port = port_of(broker)
        subscriber.connect(port)
        if life == 0:
            subscribe(subscriber)
        publisher.connect(port)
        is_last = life == KILLS
        kill_at_s = time.monotonic() + moments.uniform(*KILL_AFTER_S)
        while (
            (publisher.sending or len(subscriber.got) < publisher.sent_count)
            if is_last
            else (time.monotonic() < kill_at_s)
        ):
            if not is_last:
                publisher.publish_more(IN_FLIGHT_MAX)
            publisher.hear()
            subscriber.hear()
        if is_last:
            ended(broker, publisher, subscriber)
        else:
            broker = broker.kill_and_start()
    assert publisher.sent_count > 0
    assert subscriber.got == sorted(subscriber.got, key=int)
    assert [int(one) for one in subscriber.got] == list(range(1, publisher.sent_count + 1))


@pytest.mark.slow
def test_a_broker_that_is_killed_behind_any_step_of_an_exchange_loses_nothing_and_says_nothing_twice(
    tmp_path: Path,
) -> None:
    devices = {"publisher": Device("publisher"), "subscriber": Device("subscriber")}
    publisher, subscriber = devices["publisher"], devices["subscriber"]
    seed = int(os.environ.get("FAULTS_SEED", random.randrange(10**6)))
    steps = random.Random(seed).sample(STEPS, len(STEPS))
    broker = started(tmp_path)
    for life in range(KILLS):
        port = port_of(broker)
        subscriber.connect(port)
        if life == 0:
            subscribe(subscriber)
        with mortal(port, life):
            publisher.connect(port)
            who, step = steps[life % len(steps)]
            while step not in devices[who].steps:
                publisher.publish_more(1)  # the next one, where the one before was done with in an earlier life
                publisher.hear()
                subscriber.hear()
            broker = broker.kill_and_start()
    port = port_of(broker)
    subscriber.connect(port)
    publisher.connect(port)
    while publisher.sending or len(subscriber.got) < publisher.sent_count or len(subscriber.wills) < KILLS:
        publisher.hear()
        subscriber.hear()
    ended(broker, publisher, subscriber)
    assert [int(one) for one in subscriber.got] == list(range(1, publisher.sent_count + 1)), seed
    assert sorted(subscriber.wills) == sorted(f"will/{life}" for life in range(KILLS)), seed
