"""What an honest client of AMQP 1.0 sends, frame by frame: for those that change, reorder and cut it."""

from __future__ import annotations

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
from tests.support.amqp10_client import message, section


def frame(code: int, *fields: object, payload: bytes = b"") -> bytes:
    return encode_frame(AMQP, 0, performative(code, list(fields)) + payload)


def handshake(queue: str) -> list[bytes]:
    """Log in, begin a session, and attach a link to a queue and one from it."""
    address = f"/queue/{queue}"
    return [
        SASL_HEADER,
        encode_frame(SASL, 0, performative(SASL_INIT, [Symbol("PLAIN"), b"\0guest\0guest"])),
        AMQP_HEADER,
        frame(OPEN, "client"),
        frame(BEGIN, None, UInt(0), UInt(50), UInt(50)),
        frame(ATTACH, "out", UInt(0), False, None, None, composite(SOURCE, []), composite(TARGET, [address])),
        frame(ATTACH, "in", UInt(1), True, None, None, composite(SOURCE, [address]), composite(TARGET, [])),
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
    frame(ATTACH, "made", UInt(3), True, None, None, composite(SOURCE, [*[None] * 4, True]), composite(TARGET, [])),
    frame(DETACH, UInt(1), True),
    frame(END),
    frame(CLOSE),
]
