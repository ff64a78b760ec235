"""What is fuzzed of MQTT, STOMP, the stream protocol, AMQP 1.0 and web sockets, see ``targets.py``.

- ``mqtt_packets``: packets out of a stream, however it is cut, in each version;
- ``mqtt``: the bytes behind a right CONNECT, in pieces;
- ``mqtt_session``: clients that send well-formed packets with any body, raw bytes in between, while time passes, output
  is taken or not, and clients are lost and come back to sessions that last;
- ``stomp``: the bytes behind a right CONNECT, in pieces;
- ``stomp_session``: the same as of MQTT, with frames;
- ``stream``: the bytes behind a right login to the stream protocol, in pieces;
- ``stream_session``: the same as of MQTT, with commands;
- ``amqp10``: the bytes behind a right login, a session and two links of AMQP 1.0, in pieces;
- ``amqp10_session``: the same as of MQTT, with frames;
- ``web_socket``: the bytes of a stranger, and behind a right request frames with any payload.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

import trio
import trio.testing

from amqp_broker.network.web_socket_error import NoWebSocket
from amqp_broker.network.web_sockets import WebSocketStream
from amqp_broker.protocols.amqp10.connection import Connection as Amqp10Connection
from amqp_broker.protocols.mqtt.connection import Connection as MqttConnection
from amqp_broker.protocols.mqtt.packet_reading import PacketSplitter, decode
from amqp_broker.protocols.mqtt.packet_writing import encode_client_packet
from amqp_broker.protocols.mqtt.packets import (
    Acknowledgement,
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
from amqp_broker.protocols.mqtt.properties import Property
from amqp_broker.protocols.mqtt.reasons import MqttError
from amqp_broker.protocols.stomp.connection import Connection as StompConnection
from amqp_broker.protocols.stream.connection import Connection as StreamConnection
from interop.stream_client import array, blob, frame, pairs, sub_batch, text, u16, u32, u64
from tests.fuzz.stage import Scene
from tests.support.amqp10_frames import FRAMES as AMQP10_FRAMES
from tests.support.amqp10_frames import handshake
from tests.support.client import LOOPBACK
from tests.support.stomp_client import frame_bytes

LEVELS = (3, 4, 5)
CLIENTS = 3
PACKET_BYTES_MAX = 4096
RAW, TIME, TAKE, LOSE = range(16, 20)  # the kinds of a step that are no type of a packet
KIND_COUNT = LOSE + 1
FRAMES = 12  # how many kinds of a step are one of STOMP_FRAMES

Conversation = MqttConnection | StompConnection | StreamConnection | Amqp10Connection


# --- MQTT


def mqtt_packets(data: bytes) -> None:
    """Cut the data into pieces by its first byte; the packets are the same as of the whole."""
    if not data:
        return
    level, piece_bytes, stream = LEVELS[data[0] % 3], data[0] // 3 + 1, data[1:]
    whole = _packets_of(stream, len(stream) or 1)
    assert _packets_of(stream, piece_bytes) == whole
    for packet in whole:
        if packet is not None:
            try:
                decode(packet[0], packet[1], level)
            except MqttError:
                pass


def _packets_of(stream: bytes, piece_bytes: int) -> list[tuple[int, bytes] | None]:
    """The packets, and None where the stream could not be read any more."""
    splitter = PacketSplitter(PACKET_BYTES_MAX)
    packets: list[tuple[int, bytes] | None] = []
    try:
        for at in range(0, len(stream), piece_bytes):
            packets.extend(splitter.split(stream[at : at + piece_bytes]))
    except MqttError:
        packets.append(None)
    return packets


def mqtt(data: bytes) -> None:
    """Bytes of an MQTT client that has logged in, in pieces of a size that the first byte says."""
    if data:
        client_of = _mqtt_client(LEVELS[data[0] % 3], "fuzz", lasts=False)
        _in_pieces(client_of, data[1:], data[0] // 3 + 1)


def mqtt_session(data: bytes) -> None:
    """Steps of several clients: two bytes (kind, who and flags), two for the length, and a payload."""
    with Scene() as scene:
        clients = [_mqtt_client(LEVELS[number], f"fuzz-{number}", lasts=True) for number in range(CLIENTS)]
        _play(scene, clients, _mqtt_steps(data))


def _mqtt_steps(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    for kind, who, flags, payload in _steps(data):
        kind %= KIND_COUNT
        if kind < RAW:
            length = len(payload)
            payload = bytes((kind << 4 | flags & 15, length & 127 | 128, length >> 7)) + payload
            kind = RAW
        yield kind, who, payload


def _mqtt_client(level: int, client_id: str, *, lasts: bool) -> Callable[[Scene], Conversation]:
    """How this client connects, again and again."""
    packet = Connect(level, client_id, not lasts, keep_alive_s=30, will=Will("will", b"lost", 2, True))
    if level == 5 and lasts:
        packet.properties = {Property.SESSION_EXPIRY_INTERVAL: 60, Property.TOPIC_ALIAS_MAXIMUM: 3}

    def connect(scene: Scene) -> Conversation:
        client = MqttConnection(scene.broker, LOOPBACK, lambda: None)
        client.receive(encode_client_packet(packet, level))
        return client

    return connect


# --- STOMP


def stomp(data: bytes) -> None:
    """Bytes of a STOMP client that has logged in, in pieces of a size that the first byte says."""
    if data:
        _in_pieces(_stomp_client, data[1:], data[0] + 1)


def stomp_session(data: bytes) -> None:
    """Steps of several clients as of ``mqtt_session``: an honest one's frames with any body, and raw bytes."""
    with Scene() as scene:
        _play(scene, [_stomp_client] * CLIENTS, _stomp_steps(data))


def _stomp_steps(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    for kind, who, flags, payload in _steps(data):
        kind %= FRAMES + 4
        if kind < FRAMES:
            frame = STOMP_FRAMES[(kind + flags) % len(STOMP_FRAMES)]
            yield RAW, who, frame[:-1] + payload + b"\0"
        else:
            yield kind - FRAMES + RAW, who, payload


def _stomp_client(scene: Scene) -> Conversation:
    client = StompConnection(scene.broker, LOOPBACK, lambda: None)
    client.receive(STOMP_CONNECT)
    return client


# --- the stream protocol


def stream(data: bytes) -> None:
    """Bytes of a stream client that has logged in, in pieces of a size that the first byte says."""
    if data:
        _in_pieces(_stream_client, data[1:], data[0] + 1)


def stream_session(data: bytes) -> None:
    """Steps of several clients as of ``mqtt_session``: an honest one's commands, more behind them, and raw bytes."""
    with Scene() as scene:
        _play(scene, [_stream_client] * CLIENTS, _stream_steps(data))


def _stream_steps(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    for kind, who, flags, payload in _steps(data):
        kind %= FRAMES + 4
        if kind < FRAMES:
            command = STREAM_COMMANDS[(kind + flags) % len(STREAM_COMMANDS)]
            yield RAW, who, blob(command[4:] + payload)
        else:
            yield kind - FRAMES + RAW, who, payload


def _stream_client(scene: Scene) -> Conversation:
    client = StreamConnection(scene.broker, LOOPBACK, lambda: None)
    for command in STREAM_LOGIN:
        client.receive(command)
    return client


# --- AMQP 1.0


def amqp10(data: bytes) -> None:
    """Bytes of a client of AMQP 1.0 that has logged in, in pieces of a size that the first byte says."""
    if data:
        _in_pieces(_amqp10_client, data[1:], data[0] + 1)


def amqp10_session(data: bytes) -> None:
    """Steps of several clients as of ``mqtt_session``: an honest one's frames, more behind them, and raw bytes."""
    with Scene() as scene:
        _play(scene, [_amqp10_client] * CLIENTS, _amqp10_steps(data))


def _amqp10_steps(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    for kind, who, flags, payload in _steps(data):
        kind %= FRAMES + 4
        if kind < FRAMES:
            frame = AMQP10_FRAMES[(kind + flags) % len(AMQP10_FRAMES)]
            yield RAW, who, (len(frame) + len(payload)).to_bytes(4, "big") + frame[4:] + payload
        else:
            yield kind - FRAMES + RAW, who, payload


def _amqp10_client(scene: Scene) -> Conversation:
    client = Amqp10Connection(scene.broker, LOOPBACK, lambda: None)
    for one in handshake("honest"):
        client.receive(one)
    return client


# --- all of them


def _in_pieces(client_of: Callable[[Scene], Conversation], data: bytes, piece_bytes: int) -> None:
    with Scene() as scene:
        client = client_of(scene)
        for at in range(0, len(data), piece_bytes):
            client.receive(data[at : at + piece_bytes])
            client.output_sent(sum(map(len, client.take_output())))
        scene.broker.advance(len(data))
        _lose(client)


def _steps(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """What an input says: kind, who, flags, payload."""
    at = 0
    while at + 4 <= len(data):
        kind, who, size_bytes = struct.unpack_from(">BBH", data, at)
        at += 4
        yield kind, who % CLIENTS, who // CLIENTS, data[at : at + size_bytes]
        at += size_bytes


def _play(
    scene: Scene, connects: list[Callable[[Scene], Conversation]], steps: Iterator[tuple[int, int, bytes]]
) -> None:
    clients = [connect(scene) for connect in connects]
    for kind, who, payload in steps:
        client = clients[who]
        if kind == RAW and payload:
            client.receive(payload)
        elif kind == TIME:
            scene.broker.advance(len(payload) * 100)
        elif kind == TAKE:
            client.output_sent(sum(map(len, client.take_output())))
        elif kind == LOSE:
            _lose(client)
            clients[who] = connects[who](scene)
    for client in clients:
        _lose(client)
    scene.broker.advance(200_000)  # sessions end


def _lose(client: Conversation) -> None:
    client.take_output()
    client.lost("it is gone")
    assert client.finished


# --- web sockets


def web_socket(data: bytes) -> None:
    """The first byte says whether the request is a right one, what it offers, and how large the pieces are."""
    if data:
        trio.run(_web_socket, data[0], data[1:])


async def _web_socket(how: int, data: bytes) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    request = b"" if how & 1 else REQUEST % SUBPROTOCOLS[how >> 1 & 3]
    piece_bytes = (how >> 3) + 1

    async def say() -> None:
        if request:
            await theirs.send_all(request)
        for at in range(0, len(data), piece_bytes):
            await theirs.send_all(data[at : at + piece_bytes])
        await theirs.send_eof()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(say)
        stream = WebSocketStream(ours)
        try:
            await stream.do_handshake()
            while await stream.receive_some(1000):
                await stream.send_all(b"\xff an answer")
        except (NoWebSocket, trio.BrokenResourceError):
            pass
        nursery.cancel_scope.cancel()


# --- what an honest client sends

SUBPROTOCOLS = (b"mqtt", b"v12.stomp", b"amqp", b"other")
REQUEST = (
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: %s\r\n\r\n"
)
WEB_SOCKET_FRAMES = [
    b"\x82\x84\0\0\0\0" + b"\x10\x02ab",
    b"\x81\x83\1\2\3\4" + b"abc",
    b"\x02\x81\0\0\0\0a" + b"\x80\x81\0\0\0\0b",
    b"\x89\x80\0\0\0\0",
    b"\x88\x82\0\0\0\0\x03\xe8",
]
MQTT_PACKETS: list[Packet] = [
    Subscribe(1, [Subscription("a/+/#", 2), Subscription("$share/g/a/b", 1)]),
    Publish("a/b/c", b"a message", 2, packet_id=1),
    Publish("a/b/c", b"", 1, True, False, 2),
    Acknowledgement(PacketType.PUBREC, 1),
    Acknowledgement(PacketType.PUBREL, 1),
    Acknowledgement(PacketType.PUBCOMP, 1),
    Acknowledgement(PacketType.PUBACK, 1),
    Unsubscribe(3, ["a/+/#"]),
    PingRequest(),
    Disconnect(),
]
STOMP_CONNECT = frame_bytes("CONNECT", login="guest", passcode="guest", accept_version="1.2", heart_beat="1000,1000")
STOMP_FRAMES = [
    frame_bytes("SUBSCRIBE", destination="/queue/honest", id="0", ack="client", prefetch_count="2"),
    frame_bytes("SUBSCRIBE", destination="/topic/a.b", id="1", durable="true"),
    frame_bytes("SEND", b"a message", destination="/topic/a.b", content_length="9", receipt="r", priority="1"),
    frame_bytes("SEND", b"?", destination="/exchange/amq.fanout/k", reply_to="/temp-queue/t", x="\\:\n\r"),
    frame_bytes("BEGIN", transaction="t"),
    frame_bytes("SEND", b"later", destination="/queue/honest", transaction="t", expiration="1000"),
    frame_bytes("ACK", id="T_0@@session@@1", transaction="t"),
    frame_bytes("COMMIT", transaction="t", receipt="c"),
    frame_bytes("NACK", id="T_0@@session@@1", requeue="false"),
    frame_bytes("UNSUBSCRIBE", id="1", durable="true"),
    frame_bytes("DISCONNECT", receipt="d"),
]

STREAM_LOGIN = (
    frame(17, u32(1) + pairs({"product": "x"})),
    frame(19, u32(2) + text("PLAIN") + blob(b"\0guest\0guest")),
    frame(20, u32(0) + u32(60)),
    frame(21, u32(3) + text("/")),
    frame(13, u32(4) + text("s") + pairs({"max-length-bytes": "10000"})),
)
STREAM_COMMANDS = [
    frame(13, u32(1) + text("s") + pairs({"max-age": "1h"})),
    frame(1, u32(1) + b"\1" + text("name") + text("s")),
    frame(2, b"\1" + array([u64(1) + blob(b"m"), u64(2) + sub_batch([b"a", b"b"], compression=1)])),
    frame(2, b"\1" + array([u64(3) + text("value") + blob(b"m"), u64(4) + text(None) + blob(b"m")]), 2),
    frame(5, u32(1) + text("name") + text("s")),
    frame(7, u32(1) + b"\1" + text("s") + u16(1) + u16(3) + pairs({"single-active-consumer": "true", "name": "n"})),
    frame(7, u32(1) + b"\2" + text("s") + u16(4) + u64(0) + u16(3) + pairs({"filter.1": "value"})),
    frame(9, b"\2" + u16(5)),
    frame(10, text("name") + text("s") + u64(1)),
    frame(11, u32(1) + text("name") + text("s")),
    frame(12, u32(1) + b"\1"),
    frame(14, u32(1) + text("s")),
    frame(15, u32(1) + array([text("s"), text("x")])),
    frame(24, u32(1) + text("a") + text("x")),
    frame(25, u32(1) + text("x")),
    frame(26 | 0x8000, u32(1) + u16(1) + u16(1)),
    frame(27, u32(1) + array([u16(8) + u16(1) + u16(2)])),
    frame(28, u32(1) + text("s")),
    frame(29, u32(1) + text("x") + array([text("x-0"), text("x-1")]) + array([text("a"), text("b")]) + array([])),
    frame(30, u32(1) + text("x")),
    frame(6, u32(1) + b"\1"),
    frame(22, u32(1) + u16(1) + text("bye")),
]

TARGETS: dict[str, Callable[[bytes], None]] = {
    "mqtt_packets": mqtt_packets,
    "mqtt": mqtt,
    "mqtt_session": mqtt_session,
    "stomp": stomp,
    "stomp_session": stomp_session,
    "stream": stream,
    "stream_session": stream_session,
    "amqp10": amqp10,
    "amqp10_session": amqp10_session,
    "web_socket": web_socket,
}


def seeds(target: str) -> list[bytes]:
    """Inputs to begin with."""
    packets = [(level, encode_client_packet(packet, level)) for level in LEVELS for packet in MQTT_PACKETS]
    if target in ("mqtt_packets", "mqtt"):
        return [bytes((level - 3 + 3 * 20,)) + data for level, data in packets]
    if target == "mqtt_session":
        steps = [_step(data[0] >> 4, level - 3 + CLIENTS * (data[0] & 15), data[2:]) for level, data in packets]
        return [*steps, b"".join(steps), _step(LOSE, 2, b"") + _step(TIME, 0, bytes(200)) + _step(TAKE, 2, b"")]
    if target == "stomp":
        return [b"\x40" + one for one in STOMP_FRAMES] + [b"\x07" + b"\n".join(STOMP_FRAMES)]
    if target == "stomp_session":
        steps = [_step(number, number % CLIENTS, b"") for number in range(FRAMES + 4)]
        return [*steps, b"".join(steps)]
    if target == "stream":
        return [b"\x40" + b"".join(STREAM_COMMANDS), b"\x07" + b"".join(STREAM_COMMANDS)]
    if target == "amqp10":
        return [b"\x40" + b"".join(AMQP10_FRAMES), b"\x07" + b"".join(AMQP10_FRAMES)]
    if target in ("stream_session", "amqp10_session"):
        steps = [_step(number, number % CLIENTS, b"") for number in range(FRAMES + 4)]
        return [*steps, b"".join(steps)]
    return [b"\xf8" + one for one in WEB_SOCKET_FRAMES] + [
        b"\x1a" + b"".join(WEB_SOCKET_FRAMES),
        b"\xf9GET / HTTP/1.1\r\n",
    ]


def _step(kind: int, who: int, payload: bytes) -> bytes:
    return struct.pack(">BBH", kind, who, len(payload)) + payload
