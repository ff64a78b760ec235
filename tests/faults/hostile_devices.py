"""Hostile clients of MQTT, STOMP and web sockets, and honest devices beside them. Part of ``hostile_crowd.py``."""

from __future__ import annotations

import os
import random
import socket
import struct
import time
from collections.abc import Awaitable, Callable, Mapping

import trio

from amqp_broker.protocols.mqtt.packet_writing import encode_client_packet
from amqp_broker.protocols.mqtt.packets import Connect, Publish, Subscribe, Subscription, Will

LEVEL = 4
TOPIC_BYTES = 60_000
STOMP_CONNECT = b"CONNECT\naccept-version:1.2\nlogin:guest\npasscode:guest\n\n\0"
WEB_SOCKET = (
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: %s\r\n\r\n"
)


def connect(client_id: str = "", **fields: bytes) -> bytes:
    """A right CONNECT of a client whose session ends with it."""
    will = Will("hostile/will", b"x" * 100, 1) if not fields else None
    password = fields.get("password", b"guest")
    return encode_client_packet(Connect(LEVEL, client_id, True, 60, "guest", password, will), LEVEL)


def subscribe(topic_filter: str, qos: int = 0) -> bytes:
    """A SUBSCRIBE."""
    return encode_client_packet(Subscribe(1, [Subscription(topic_filter, qos)]), LEVEL)


def publish(topic: str, payload: bytes, qos: int = 0, *, retain: bool = False, packet_id: int = 0) -> bytes:
    """A PUBLISH."""
    return encode_client_packet(Publish(topic, payload, qos, retain, False, packet_id), LEVEL)


def masked(payload: bytes, first_byte: int = 0x82) -> bytes:
    """A web socket's frame, masked with zeros."""
    return struct.pack(">BBQI", first_byte, 0xFF, len(payload), 0) + payload


# --- any port


async def garbage(stream: trio.SocketStream) -> None:
    await stream.send_all(os.urandom(10_000))
    await stream.receive_some(1000)


async def slow_bytes(stream: trio.SocketStream) -> None:
    for one in connect("slow") + STOMP_CONNECT:
        await stream.send_all(bytes((one,)))
        await trio.sleep(0.2)


async def never_says_a_word(stream: trio.SocketStream) -> None:
    await stream.receive_some(1000)


async def reset(stream: trio.SocketStream) -> None:
    await stream.send_all(connect(f"r{random.random()}") + publish("a/b", b"x" * 1000)[:-100])
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


# --- MQTT


async def garbage_behind_connect(stream: trio.SocketStream) -> None:
    await stream.send_all(connect() + os.urandom(10_000))
    await stream.receive_some(1000)


async def wrong_passwords(stream: trio.SocketStream) -> None:
    await stream.send_all(connect("w", password=str(random.random()).encode()))
    await stream.receive_some(1000)


async def promised_but_never_sent(stream: trio.SocketStream) -> None:
    await stream.send_all(connect() + b"\x30\xff\xff\xff\x7f\x00\x01a" + b"x" * 50_000)
    await trio.sleep_forever()


async def deep_filters(stream: trio.SocketStream) -> None:
    await stream.send_all(connect())
    while True:
        await stream.send_all(subscribe("+/" * 100 + "#") + subscribe("/" * TOPIC_BYTES) + subscribe("$share/g/#", 2))


async def retained_flood(stream: trio.SocketStream) -> None:
    await stream.send_all(connect())
    for number in range(2000):
        await stream.send_all(publish(f"hostile/{number % 50}", b"x" * 1000, retain=True))
    await stream.send_all(b"".join(publish(f"hostile/{number}", b"", retain=True) for number in range(50)))


async def takeovers(stream: trio.SocketStream) -> None:
    await stream.send_all(connect("everybody") + subscribe("hostile/#", 1))
    await stream.receive_some(1000)


async def never_acknowledges(stream: trio.SocketStream) -> None:
    await stream.send_all(connect(f"n{random.random()}") + subscribe("hostile/own", 2))
    for number in range(3000):
        await stream.send_all(publish("hostile/own", b"x" * 1000, 2, packet_id=number + 1))


async def never_reads(stream: trio.SocketStream) -> None:
    topic = f"hostile/unread/{random.random()}"
    await stream.send_all(connect(f"u{random.random()}") + subscribe(topic))
    for _ in range(2000):
        await stream.send_all(publish(topic, b"x" * 10_000))
    await trio.sleep_forever()


# --- STOMP


async def endless_headers(stream: trio.SocketStream) -> None:
    await stream.send_all(STOMP_CONNECT + b"SEND\ndestination:/topic/x\n")
    while True:
        await stream.send_all(b"h%d:%s\n" % (random.randrange(10**9), b"v" * 1000))


async def endless_body(stream: trio.SocketStream) -> None:
    await stream.send_all(STOMP_CONNECT + b"SEND\ndestination:/topic/x\ncontent-length:99999999999\n\n")
    while True:
        await stream.send_all(b"x" * 10_000)


async def endless_transaction(stream: trio.SocketStream) -> None:
    await stream.send_all(STOMP_CONNECT + b"BEGIN\ntransaction:t\n\n\0")
    while True:
        await stream.send_all(b"SEND\ndestination:/topic/x\ntransaction:t\n\n" + b"x" * 1000 + b"\0")


async def many_subscriptions(stream: trio.SocketStream) -> None:
    await stream.send_all(STOMP_CONNECT)
    for number in range(500):
        await stream.send_all(b"SUBSCRIBE\ndestination:/topic/hostile.#\nid:%d\nack:client\n\n\0" % number)
    await stream.send_all(b"SEND\ndestination:/topic/hostile.x\nreceipt:1\n\nm\0" * 20)
    await trio.sleep(1)


async def bad_frames(stream: trio.SocketStream) -> None:
    await stream.send_all(STOMP_CONNECT)
    await stream.send_all(
        random.choice([b"NONSENSE\n\n\0", b"SEND\nno colon\n\n\0", b"ACK\nid:x\n\n\0", b"SEND\n\\q:1\n\n\0"])
    )
    await stream.receive_some(1000)


# --- web sockets


async def cut_handshake(stream: trio.SocketStream) -> None:
    await stream.send_all(WEB_SOCKET[: random.randrange(len(WEB_SOCKET))])
    await stream.receive_some(1000)


async def endless_request(stream: trio.SocketStream) -> None:
    await stream.send_all(b"GET /ws HTTP/1.1\r\n")
    while True:
        await stream.send_all(b"X-%d: %s\r\n" % (random.randrange(10**9), b"v" * 1000))


async def bad_web_socket_frames(stream: trio.SocketStream) -> None:
    await stream.send_all(WEB_SOCKET % b"mqtt")
    await stream.receive_some(1000)
    await stream.send_all(random.choice([masked(b"text", 0x81), b"\x82\x05hello", masked(b"", 0xF2), os.urandom(500)]))
    await stream.receive_some(1000)


async def huge_message(stream: trio.SocketStream) -> None:
    await stream.send_all(WEB_SOCKET % b"v12.stomp")
    await stream.send_all(struct.pack(">BBQI", 0x82, 0xFF, 2**40, 0))
    while True:
        await stream.send_all(b"x" * 10_000)


async def pings(stream: trio.SocketStream) -> None:
    await stream.send_all(WEB_SOCKET % b"mqtt" + masked(connect()))
    while True:
        await stream.send_all(b"\x89\xfd\0\0\0\0" + b"p" * 125)  # the answers are never read


Hostile = Callable[[trio.SocketStream], Awaitable[None]]
KINDS: Mapping[str, list[Hostile]] = {
    "mqtt": [
        garbage, slow_bytes, never_says_a_word, reset, garbage_behind_connect, wrong_passwords, promised_but_never_sent,
        deep_filters, retained_flood, takeovers, never_acknowledges, never_reads,
    ],
    "stomp": [
        garbage, slow_bytes, endless_headers, endless_body, endless_transaction, many_subscriptions, bad_frames,
    ],
    "ws": [garbage, slow_bytes, cut_handshake, endless_request, bad_web_socket_frames, huge_message, pings],
}  # fmt: skip


# --- honest


class HonestDevice:
    """A client of MQTT that sends itself numbered messages with QoS 1.

    Args:
        port: where MQTT is spoken.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self.published = 0
        self.delivered: list[int] = []
        self.longest_s = 0.0

    def __str__(self) -> str:
        return f"an honest device {len(self.delivered)} times, {self.longest_s * 1000:.0f} ms at most"

    async def run(self) -> None:
        """Go on until cancelled."""
        async with await trio.open_tcp_stream("127.0.0.1", self._port) as stream:
            await stream.send_all(connect("honest", password=b"guest") + subscribe("honest", 1))
            await read(stream, 4 + 5)
            while True:
                begun_s = time.monotonic()
                self.published += 1
                payload = struct.pack(">I", self.published)
                await stream.send_all(publish("honest", payload, 1, packet_id=1))
                data = await read(stream, 4 + len(publish("honest", payload, 1, packet_id=1)))
                at = data.index(b"\0\x06honest") + 8
                self.delivered.append(struct.unpack_from(">I", data, at + 2)[0])
                self.longest_s = max(self.longest_s, time.monotonic() - begun_s)
                await stream.send_all(b"\x40\x02" + data[at : at + 2])
                await trio.sleep(0.05)


async def read(stream: trio.SocketStream, count: int) -> bytes:
    """So many bytes."""
    data = b""
    while len(data) < count:
        some = await stream.receive_some(count - len(data))
        assert some, "the broker has closed an honest device's connection"
        data += some
    return data
