"""What is fuzzed: each target takes any bytes, and raises what only a defect can raise.

- ``splitter``: frames out of a stream, however it is cut;
- ``table``: field tables; what can be read is written and read again as the same;
- ``decoders``: methods, content headers, responses of the mechanisms;
- ``pattern``: what an administrator may type as a permission;
- ``handshake``: the bytes that a stranger sends before the broker knows anything of it;
- ``stream``: the bytes behind a right handshake;
- ``session``: several connections that send well-formed frames with any payload, raw bytes in between, while time
  passes, output is taken or not, and connections are lost;
- those of other protocols and web sockets are in ``other_protocols.py``, those of HTTP in ``http_targets.py``.

Handshakes, streams and sessions run a whole broker, and look after each input whether all its counts are right and an
honest client is served.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

from amqp_broker.access.mechanisms import MECHANISMS, BadResponse, read_response
from amqp_broker.access.patterns import BadPattern, Pattern
from amqp_broker.errors import AmqpError, OtherProtocol
from amqp_broker.protocols.amqp10.connection import Connection as Amqp10Connection
from amqp_broker.wire import hot
from amqp_broker.wire.content import decode_properties, delivery_mode
from amqp_broker.wire.errors import WireError
from amqp_broker.wire.frames import FRAME_END, FrameSplitter
from amqp_broker.wire.methods import decode_method
from amqp_broker.wire.table import (
    Byte,
    Decimal,
    Float32,
    Short,
    SignedInt,
    Table,
    Timestamp,
    UnsignedByte,
    UnsignedInt,
    UnsignedShort,
    decode_table,
    encode_table,
)
from tests.fuzz import http_targets, other_protocols
from tests.fuzz.stage import CONNECTIONS, Scene
from tests.support.client import LOOPBACK, PROTOCOL_HEADER
from tests.support.conversation import HANDSHAKE, METHODS

Target = Callable[[bytes], None]

FRAME_HEADER = struct.Struct(">BHI")
KINDS = (1, 2, 3, 8)  # the first four of a step's kinds make frames
RAW, TIME, TAKE, LOSE = range(len(KINDS), len(KINDS) + 4)
KIND_COUNT = LOSE + 1


def splitter(data: bytes) -> None:
    """Cut the data into pieces by its first byte; the frames are the same as of the whole."""
    if not data:
        return
    piece_bytes, stream = data[0] + 1, data[1:]
    whole = _frames_of(stream, len(stream) or 1)
    assert _frames_of(stream, piece_bytes) == whole
    for frame in whole:
        if frame is not None:
            assert len(frame[2]) <= 4096


def _frames_of(stream: bytes, piece_bytes: int) -> list[tuple[int, int, bytes] | None]:
    """The frames, and None where the stream could not be read any more."""
    one = FrameSplitter(4096)
    frames: list[tuple[int, int, bytes] | None] = []
    try:
        for at in range(0, len(stream), piece_bytes):
            frames.extend(one.split(stream[at : at + piece_bytes]))
    except AmqpError:
        frames.append(None)
    return frames


def table(data: bytes) -> None:
    """Read a table; what could be read is written and read again."""
    try:
        value, end = decode_table(data, 0)
    except WireError:
        return
    assert 4 <= end <= len(data)
    written = encode_table(value)
    again, _ = decode_table(written, 0)
    assert encode_table(again) == written  # compared as bytes, for no NaN is like another


def decoders(data: bytes) -> None:
    """Everything else that takes a payload apart."""
    for decode in (
        decode_method, decode_properties, delivery_mode, hot.decode_publish, hot.decode_ack, hot.decode_nack,
        hot.decode_reject,
    ):  # fmt: skip
        try:
            decode(data)
        except (WireError, AmqpError):
            pass
    for mechanism in MECHANISMS:
        try:
            read_response(mechanism, data)
        except BadResponse:
            pass


def pattern(data: bytes) -> None:
    """An administrator's pattern, and a name behind a zero byte that it is to match."""
    source, _, name = data.decode("utf-8", "surrogateescape").partition("\0")
    try:
        compiled = Pattern(source)
    except BadPattern:
        return
    compiled.matches(name[:255])


def handshake(data: bytes) -> None:
    """Bytes of a stranger, who may speak AMQP 1.0 as well."""
    with Scene() as scene:
        try:
            scene.connections[0].receive(data)
        except OtherProtocol as other:  # the pump hands the conversation over
            stranger = Amqp10Connection(scene.broker, LOOPBACK, lambda: None)
            stranger.receive(other.data)
            stranger.lost("it is gone")


def stream(data: bytes) -> None:
    """Bytes of a client that has opened a channel."""
    with Scene() as scene:
        scene.connections[0].receive(scene.greeting)
        scene.connections[0].receive(data)


def session(data: bytes) -> None:
    """Steps of several clients, see ``Step``."""
    with Scene() as scene:
        for connection in scene.connections:
            connection.receive(scene.greeting)
        for step in steps_in(data):
            take(scene, step)


class Step(NamedTuple):
    """One thing that happens: four bytes (kind, connection and channel, two for the payload's length) and a payload.

    The kinds: a frame of each kind, raw bytes, time that passes, output that is taken, a connection that is lost.
    """

    kind: int
    connection: int
    channel: int
    payload: bytes

    def encoded(self) -> bytes:
        """As it stands in a target's input."""
        who = self.connection + CONNECTIONS * self.channel
        return struct.pack(">BBH", self.kind, who, len(self.payload)) + self.payload


def steps_in(data: bytes) -> Iterator[Step]:
    """What an input says; whatever it is, it says something."""
    at = 0
    while at + 4 <= len(data):
        kind, who, size_bytes = struct.unpack_from(">BBH", data, at)
        at += 4
        payload = data[at : at + size_bytes]
        at += size_bytes
        yield Step(kind % KIND_COUNT, who % CONNECTIONS, who // CONNECTIONS % 4, payload)


def take(scene: Scene, step: Step) -> None:
    """Let it happen."""
    connection, payload = scene.connections[step.connection], step.payload
    match step.kind:
        case kind if kind < len(KINDS):
            header = FRAME_HEADER.pack(KINDS[kind], step.channel, len(payload))
            connection.receive(header + payload + bytes((FRAME_END,)))
        case _ if step.kind == RAW:
            connection.receive(payload)
        case _ if step.kind == TIME:
            scene.broker.advance(len(payload) * 100)
        case _ if step.kind == TAKE:
            connection.output_sent(sum(map(len, connection.take_output())))
        case _:
            connection.lost("it is gone")


TABLES: list[Table] = [
    {},
    {"a": "text", "b": b"bytes", "c": None, "d": True, "e": Decimal(2, 314)},
    {"f": 1, "g": 1.5, "h": Float32(0.5), "i": Byte(-1), "j": UnsignedByte(255), "k": Timestamp(1)},
    {"l": Short(-1), "m": UnsignedShort(1), "n": SignedInt(-1), "o": UnsignedInt(1)},
    {"p": [1, "two", [None, {"three": [[]]}]], "q": {"r": {"s": {}}}},
]

PATTERNS = [
    ".*\0name", "^(?!amq\\.)[a-z]+$\0mine", "(?i)a|b|c\0B", "(?<=x)y{2,3}?\0xyy",
    "[^\\w\\d_-]*\\b\0 ", "(?:a(?=b))+(?<!c)\0ab",
    "(?P<n>\\x41\\u0041)\0AA", "\\A\\Z\\S\\s\\.\0.",
]  # fmt: skip

TARGETS: dict[str, Target] = {
    "splitter": splitter,
    "table": table,
    "decoders": decoders,
    "pattern": pattern,
    "handshake": handshake,
    "stream": stream,
    "session": session,
    **other_protocols.TARGETS,
    **http_targets.TARGETS,
}


def seeds(target: str) -> list[bytes]:
    """Inputs to begin with: what an honest client sends."""
    frames = [*HANDSHAKE, *METHODS]
    if target == "splitter":
        return [b"\x06" + one for one in frames]
    if target == "handshake":
        return [PROTOCOL_HEADER + b"".join(HANDSHAKE[:count]) for count in range(len(HANDSHAKE) + 1)]
    if target == "stream":
        return [*frames, b"".join(METHODS)]
    if target in other_protocols.TARGETS:
        return other_protocols.seeds(target)
    if target in http_targets.TARGETS:
        return http_targets.seeds(target)
    if target == "pattern":
        return [one.encode() for one in PATTERNS]
    if target == "table":
        return [encode_table(one) for one in TABLES]
    steps = [_step_of(one, number % CONNECTIONS) for number, one in enumerate(frames)]
    if target == "session":
        return [step.encoded() for step in steps] + [
            b"".join(step.encoded() for step in steps),
            Step(TIME, 0, 0, bytes(200)).encoded() + Step(LOSE, 1, 0, b"").encoded(),
        ]
    return [step.payload for step in steps]


def _step_of(frame: bytes, connection: int) -> Step:
    """The first frame of some bytes as a step."""
    kind, channel, size_bytes = FRAME_HEADER.unpack_from(frame)
    payload = frame[FRAME_HEADER.size : FRAME_HEADER.size + min(size_bytes, 1000)]
    return Step(KINDS.index(kind), connection, channel, payload)
