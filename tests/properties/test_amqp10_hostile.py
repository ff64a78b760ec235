"""Bytes that mean harm, of a client of AMQP 1.0: its connection may end, and nothing else happens.

``HOSTILE_EXAMPLES`` in the environment sets how many are tried.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.amqp10_client import Amqp10Client
from tests.support.amqp10_frames import FRAMES, handshake
from tests.support.client import Client
from tests.support.memory_broker import MemoryBroker

EXAMPLES = int(os.environ.get("HOSTILE_EXAMPLES", "60"))


@st.composite
def conversations(draw: st.DrawFn) -> bytes:
    """Mostly a right handshake, then frames in any order, some of them changed."""
    parts = [*handshake("q"), *draw(st.lists(st.sampled_from(FRAMES), max_size=12))]
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(parts) - 1))
        data = bytearray(parts[at])
        place = draw(st.integers(0, len(data) - 1))
        match draw(st.sampled_from(["change", "remove", "insert", "double"])):
            case "change":
                data[place] = draw(st.integers(0, 255))
            case "remove":
                del data[place : place + draw(st.integers(1, 8))]
            case "insert":
                data[place:place] = draw(st.binary(max_size=8))
            case "double":
                data[place:place] = data[place : place + 32]
        parts[at] = bytes(data)
    return b"".join(parts)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(conversations(), st.integers(1, 60), st.integers(0, 90_000))
def test_a_hostile_conversation_harms_nobody_else(conversation: bytes, chunk_bytes: int, time_ms: int) -> None:
    broker = MemoryBroker()
    honest = Client(broker).open().channel()
    honest.declare("honest")
    hostile = Amqp10Client(broker)
    for start in range(0, len(conversation), chunk_bytes):
        hostile.write(conversation[start : start + chunk_bytes])
        if hostile.connection.finished:
            break
    hostile.read()
    broker.advance(min(time_ms, 50_000))
    hostile.drop()
    for queue in list(broker.virtual_host.queues.values()):
        assert queue.unacknowledged_count == 0
        assert not len(queue.consumers)
    assert len(broker.open_connections) == 1
    honest.publish("", "honest", b"still here")
    got = honest.get("honest")
    assert got is not None
