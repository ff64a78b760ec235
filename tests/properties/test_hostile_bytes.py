"""Bytes that mean harm: whatever a client sends, one connection may end and nothing else happens.

Hypothesis mutates whole conversations: real handshakes and methods, cut, doubled, reordered, with bytes changed and
lengths that lie. After each, the broker must be in good order, hold little memory, and still serve an honest client.

``HOSTILE_EXAMPLES`` in the environment sets how many are tried for each test; ``make test`` tries few.
"""

from __future__ import annotations

import os
import struct
import tracemalloc

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from amqp_broker.access.mechanisms import MECHANISMS, BadResponse, read_response
from amqp_broker.errors import AmqpError, OtherProtocol
from amqp_broker.protocols.amqp091.connection import Connection
from amqp_broker.protocols.amqp10.connection import Connection as Amqp10Connection
from amqp_broker.wire.content import decode_properties
from amqp_broker.wire.errors import WireError
from amqp_broker.wire.frames import FrameSplitter
from amqp_broker.wire.methods import decode_method
from amqp_broker.wire.table import decode_table
from tests.support.client import LOOPBACK, PROTOCOL_HEADER, Client
from tests.support.conversation import HANDSHAKE, METHODS
from tests.support.memory_broker import MemoryBroker

EXAMPLES = int(os.environ.get("HOSTILE_EXAMPLES", "60"))
MEMORY_BYTES_MAX = 8 * 1024 * 1024
hostile = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None)


@st.composite
def mutated(draw: st.DrawFn, original: bytes) -> bytes:
    """The bytes with some of them changed, left out, doubled, or strange ones put in."""
    data = bytearray(original)
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        match draw(st.sampled_from(["change", "remove", "insert", "double", "length"])):
            case "change" if data:
                data[at] = draw(st.integers(0, 255))
            case "remove":
                del data[at : at + draw(st.integers(1, 8))]
            case "insert":
                data[at:at] = draw(st.binary(max_size=8))
            case "double":
                data[at:at] = data[at : at + 32]
            case "length":
                data[at : at + 4] = draw(st.sampled_from([b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff"]))
    return bytes(data)


@st.composite
def conversations(draw: st.DrawFn) -> list[bytes]:
    """Chunks that a hostile client sends: mostly a right handshake, then methods in any order, some mutated."""
    parts = [PROTOCOL_HEADER, *HANDSHAKE, *draw(st.lists(st.sampled_from(METHODS), max_size=12))]
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(parts) - 1))
        parts[at] = draw(mutated(parts[at]))
    if draw(st.booleans()):
        return parts
    whole, chunk_bytes = b"".join(parts), draw(st.integers(1, 50))
    return [whole[at : at + chunk_bytes] for at in range(0, len(whole), chunk_bytes)]


class Stranger:
    """Whoever is at the other end of a connection, which may begin in AMQP 1.0: the pump hands it over then.

    Args:
        broker: the one that is spoken to.
    """

    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker
        self.connection: Connection | Amqp10Connection
        self.connection = first = Connection(broker, LOOPBACK, lambda: None)
        broker.connections.append(first)

    def say(self, chunk: bytes) -> None:
        try:
            self.connection.receive(chunk)
        except OtherProtocol as other:
            self.connection.lost("it speaks another protocol")
            self.connection = Amqp10Connection(self._broker, LOOPBACK, lambda: None)
            self.connection.receive(other.data)


@hostile
@given(st.lists(conversations(), min_size=1, max_size=3), st.integers(0, 20_000))
@example([[b"AMQP\0\0\x09\x01", b"\x01\0\0\xff\xff\xff\xff" + b"x" * 100]], 0)
@example([[b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03"]], 0)
@example([[PROTOCOL_HEADER, *HANDSHAKE, METHODS[-1], METHODS[0] * 3]], 0)
@example([[b"AMQP\0\1\0\0", *HANDSHAKE]], 0)
def test_a_hostile_conversation_harms_nobody_else(conversation: list[list[bytes]], time_ms: int) -> None:
    broker = MemoryBroker()
    honest = Client(broker).open()
    channel = honest.channel()
    channel.declare("honest")
    strangers = []
    for chunks in conversation:
        stranger = Stranger(broker)
        strangers.append(stranger)
        for chunk in chunks:
            stranger.say(chunk)  # raises nothing, whatever it is
            broker.check_invariants()
    broker.advance(time_ms)
    for stranger in strangers:
        stranger.connection.take_output()
        stranger.connection.lost("the test is over")
        assert stranger.connection.finished
    broker.check_invariants()
    assert list(broker.open_connections) == [honest.connection]
    channel.publish("", "honest", b"a message")
    assert channel.drain("honest") == [b"a message"]


@hostile
@given(conversations())
def test_memory_follows_what_was_sent(conversation: list[bytes]) -> None:
    stranger = Stranger(MemoryBroker())
    tracemalloc.start()
    try:
        for chunk in conversation:
            stranger.say(chunk)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < MEMORY_BYTES_MAX


@hostile
@given(st.one_of(st.binary(max_size=300), st.sampled_from(METHODS).flatmap(mutated)), st.integers(1, 20))
def test_the_splitter_raises_only_what_it_says(data: bytes, chunk_bytes: int) -> None:
    splitter = FrameSplitter(4096)
    try:
        for at in range(0, len(data), chunk_bytes):
            for kind, channel, payload in splitter.split(data[at : at + chunk_bytes]):
                assert 0 <= kind <= 255
                assert 0 <= channel <= 65535
                assert len(payload) <= 4096
    except AmqpError:
        pass


@hostile
@given(st.one_of(st.binary(max_size=300), st.sampled_from(METHODS).flatmap(lambda one: mutated(one[7:-1]))))
def test_decoders_raise_only_what_they_say(data: bytes) -> None:
    for decode in (lambda: decode_table(data, 0), lambda: decode_method(data), lambda: decode_properties(data)):
        try:
            decode()
        except (WireError, AmqpError):
            pass
    for mechanism in MECHANISMS:
        try:
            read_response(mechanism, data)
        except BadResponse:
            pass


@pytest.mark.parametrize("code", [b"A", b"F"])
def test_tables_nested_without_end_are_refused(code: bytes) -> None:
    data = b""
    for _ in range(10_000):
        data = (b"\x01k" if code == b"F" else b"") + code + struct.pack(">I", len(data)) + data
    if code == b"A":
        data = b"\x01k" + data
    with pytest.raises(WireError):
        decode_table(struct.pack(">I", len(data)) + data, 0)
