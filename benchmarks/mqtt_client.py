"""Clients of MQTT 3.1.1 for the benchmark: packets made beforehand, and next to nothing done with what comes.

Every PUBLISH of a cell has the same size, so what has come is told by counting bytes.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Iterator

from amqp_broker.protocols.mqtt.packet_writing import encode_client_packet
from amqp_broker.protocols.mqtt.packets import MQTT_3_1_1, Connect, Packet, Publish, Subscribe, Subscription
from interop.brokers import Address

STAMP = struct.Struct(">d")  # at the end of each payload: when it was sent
ACKNOWLEDGEMENT_BYTES = 4
RECEIVE_BYTES = 262_144
PATIENCE_S = 60.0
SILENCE_S = 10.0  # after which what has not come is lost


def encode(packet: Packet) -> bytes:
    """A packet as it is sent."""
    return encode_client_packet(packet, MQTT_3_1_1)


class NotGranted(Exception):
    """The broker has not the QoS that was asked for."""


class Device:
    """One connection.

    Args:
        address: where the broker speaks MQTT.
        client_id: who it is.
        clean: whether its session ends with it.
    """

    def __init__(self, address: Address, client_id: str, *, clean: bool = True) -> None:
        self._begin(address, client_id, clean=clean)
        self.connected()

    @classmethod
    def beginning(cls, address: Address, client_id: str, *, clean: bool) -> Device:
        """One that has said CONNECT; the answer is not waited for."""
        device = cls.__new__(cls)
        device._begin(address, client_id, clean=clean)
        return device

    def connected(self) -> None:
        """Wait for the answer to CONNECT."""
        answer = self.read(4)
        assert answer == b"\x20\x02\0\0", answer

    def _begin(self, address: Address, client_id: str, *, clean: bool) -> None:
        self.socket = socket.create_connection((address.host, address.port), timeout=PATIENCE_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall(encode(Connect(MQTT_3_1_1, client_id, clean, 600, "guest", b"guest")))

    def read(self, count: int) -> bytes:
        """So many bytes."""
        data = b""
        while len(data) < count:
            some = self.socket.recv(count - len(data))
            assert some, "the broker has closed the connection"
            data += some
        return data

    def subscribe(self, topic_filter: str, qos: int) -> None:
        """Subscribe, and wait for the answer."""
        self.ask_for(topic_filter, qos)
        self.subscribed(qos)

    def ask_for(self, topic_filter: str, qos: int) -> None:
        """Subscribe; the answer is not waited for."""
        self.socket.sendall(encode(Subscribe(1, [Subscription(topic_filter, qos)])))

    def subscribed(self, qos: int) -> None:
        """Wait for the answer to a SUBSCRIBE."""
        if self.read(5)[4] != qos:
            raise NotGranted

    def close(self) -> None:
        """Go without a word."""
        self.socket.close()


class Flow:
    """Messages from one device to another, both in this thread.

    Args:
        publisher: says them.
        subscriber: gets them.
        topic: of all.
        body_bytes: of each.
        qos: of both.
    """

    def __init__(self, publisher: Device, subscriber: Device, topic: str, body_bytes: int, qos: int) -> None:
        self._publisher, self._subscriber, self._qos = publisher, subscriber, qos
        self._packet = encode(Publish(topic, bytes(body_bytes), qos, packet_id=1 if qos else 0))
        self._id_at = len(self._packet) - body_bytes - 2
        self._rest_in = self._rest_out = b""
        self._next_id = 0
        self.done = 0  # that publisher and broker are done with
        self.received = 0
        self.latencies_s: list[float] = []
        for one in (publisher, subscriber):
            one.socket.setblocking(False)

    def run(self, count: int, window: int, per_s: float = 0.0) -> None:
        """Send so many, not more than a window of them ahead of what is done; with a rate, one at a time."""
        poll = select.poll()
        poll.register(self._subscriber.socket, select.POLLIN)
        poll.register(self._publisher.socket, select.POLLIN)
        sent, unsent = 0, b""
        started_s = time.perf_counter()
        heard_s = started_s
        while self.received < count or (self._qos and self.done < count):
            ahead = sent - (self.done if self._qos else self.received)
            due = count if not per_s else int((time.perf_counter() - started_s) * per_s) + 1
            if not unsent and ahead < window and sent < min(count, due):
                some = min(window - ahead, min(count, due) - sent)
                unsent = b"".join(self._packets(some))
                sent += some
            if unsent:
                try:
                    unsent = unsent[self._publisher.socket.send(unsent) :]
                except BlockingIOError:
                    pass
            for descriptor, _ in poll.poll(0 if unsent else 1):
                heard_s = time.perf_counter()
                if descriptor == self._subscriber.socket.fileno():
                    self._take()
                else:
                    self._take_answers()
            if time.perf_counter() > heard_s + SILENCE_S:
                raise TimeoutError(f"{self.received} of {count} have come, {self.done} are done")

    def _packets(self, count: int) -> Iterator[bytes]:
        packet, id_at = self._packet, self._id_at
        end = len(packet) - STAMP.size
        for _ in range(count):
            stamp = STAMP.pack(time.perf_counter())
            if self._qos:
                self._next_id = self._next_id % 65_535 + 1
                yield packet[:id_at] + self._next_id.to_bytes(2, "big") + packet[id_at + 2 : end] + stamp
            else:
                yield packet[:end] + stamp

    def _take(self) -> None:
        """What the subscriber has got: PUBLISH, and PUBREL."""
        data = self._rest_in + self._subscriber.socket.recv(RECEIVE_BYTES)
        now_s, size, at, answers = time.perf_counter(), len(self._packet), 0, []
        while len(data) - at >= ACKNOWLEDGEMENT_BYTES:
            if data[at] >> 4 == 6:  # PUBREL
                answers.append(b"\x70\x02" + data[at + 2 : at + 4])
                at += ACKNOWLEDGEMENT_BYTES
                continue
            if len(data) - at < size:
                break
            if self._qos:
                answer = b"\x40\x02" if self._qos == 1 else b"\x50\x02"
                answers.append(answer + data[at + self._id_at : at + self._id_at + 2])
            at += size
            self.received += 1
            self.latencies_s.append(now_s - STAMP.unpack_from(data, at - STAMP.size)[0])
        self._rest_in = data[at:]
        if answers:
            self._subscriber.socket.sendall(b"".join(answers))

    def _take_answers(self) -> None:
        """What the publisher has got: PUBACK; or PUBREC and PUBCOMP."""
        data = self._rest_out + self._publisher.socket.recv(RECEIVE_BYTES)
        whole = len(data) - len(data) % ACKNOWLEDGEMENT_BYTES
        releases = []
        for at in range(0, whole, ACKNOWLEDGEMENT_BYTES):
            if data[at] >> 4 == 5:  # PUBREC
                releases.append(b"\x62\x02" + data[at + 2 : at + 4])
            else:
                self.done += 1
        self._rest_out = data[whole:]
        if releases:
            self._publisher.socket.sendall(b"".join(releases))
