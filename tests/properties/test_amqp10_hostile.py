"""Bytes that mean harm, of a client of AMQP 1.0: its connection may end, and nothing else happens.

``HOSTILE_EXAMPLES`` in the environment sets how many are tried.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from amqp_broker.protocols.amqp10.compound import Map
from amqp_broker.protocols.amqp10.frames import AMQP, AMQP_HEADER, SASL, SASL_HEADER, encode_frame
from amqp_broker.protocols.amqp10.performatives import (
    ACCEPTED,
    ATTACH,
    BEGIN,
    CLOSE,
    DETACH,
    DISPOSITION,
    END,
    FLOW,
    MODIFIED,
    OPEN,
    RELEASED,
    SASL_INIT,
    SOURCE,
    TARGET,
    TRANSFER,
    composite,
    performative,
)
from amqp_broker.protocols.amqp10.typed import Symbol, UInt
from tests.support.amqp10_client import Amqp10Client, message, section
from tests.support.client import Client
from tests.support.memory_broker import MemoryBroker

EXAMPLES = int(os.environ.get("HOSTILE_EXAMPLES", "60"))


def frame(code: int, *fields: object, payload: bytes = b"") -> bytes:
    return encode_frame(AMQP, 0, performative(code, list(fields)) + payload)


HANDSHAKE = [
    SASL_HEADER,
    encode_frame(SASL, 0, performative(SASL_INIT, [Symbol("PLAIN"), b"\0guest\0guest"])),
    AMQP_HEADER,
    frame(OPEN, "client"),
    frame(BEGIN, None, UInt(0), UInt(50), UInt(50)),
    frame(ATTACH, "out", UInt(0), False, None, None, composite(SOURCE, []), composite(TARGET, ["/queue/q"])),
    frame(ATTACH, "in", UInt(1), True, None, None, composite(SOURCE, ["/queue/q"]), composite(TARGET, [])),
]
WHOLE = message(b"hello", before=section(0x73, ["id", None, "/queues/q"]) + section(0x74, Map([("a", 1)])))
FRAMES = [
    frame(TRANSFER, UInt(0), UInt(0), b"t", UInt(0), False, payload=WHOLE),
    frame(TRANSFER, UInt(0), UInt(1), b"t", UInt(0), True, True, payload=WHOLE[:9]),
    frame(TRANSFER, UInt(0), None, None, None, None, False, payload=WHOLE[9:]),
    frame(FLOW, UInt(0xFFFF_FFFD), UInt(50), UInt(0), UInt(50), UInt(1), None, UInt(5)),
    frame(FLOW, UInt(0xFFFF_FFFD), UInt(50), UInt(0), UInt(50), UInt(1), None, UInt(9), None, True, True),
    frame(DISPOSITION, True, UInt(0), UInt(3), True, composite(ACCEPTED, [])),
    frame(DISPOSITION, True, UInt(0), UInt(0xFFFF_FFFF), False, composite(RELEASED, [])),
    frame(DISPOSITION, True, UInt(1), None, True, composite(MODIFIED, [True, True])),
    frame(ATTACH, "more", UInt(2), False, None, None, composite(SOURCE, []), composite(TARGET, [None])),
    frame(DETACH, UInt(1), True),
    frame(END),
    frame(CLOSE),
]


@st.composite
def conversations(draw: st.DrawFn) -> bytes:
    """Mostly a right handshake, then frames in any order, some of them changed."""
    parts = [*HANDSHAKE, *draw(st.lists(st.sampled_from(FRAMES), max_size=12))]
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
