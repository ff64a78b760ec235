"""A client of AMQP 1.0 without a socket: it writes frames into a connection, and reads what the connection says."""

from __future__ import annotations

from typing import Any, NamedTuple

from amqp_broker.access.client import Peer
from amqp_broker.broker.broker import Broker
from amqp_broker.protocols.amqp10.compound import Described, Map
from amqp_broker.protocols.amqp10.connection import Connection
from amqp_broker.protocols.amqp10.decoding import decode
from amqp_broker.protocols.amqp10.encoding import encode
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
    OPEN,
    SASL_INIT,
    SASL_OUTCOME,
    SOURCE,
    TARGET,
    TRANSFER,
    composite,
    performative,
)
from amqp_broker.protocols.amqp10.sections import DATA
from amqp_broker.protocols.amqp10.typed import Symbol, UByte, UInt, ULong, UShort

LOOPBACK = Peer.at("127.0.0.1", 50_000, "127.0.0.1", 5672)
WINDOW = 2_000


class Heard(NamedTuple):
    """A frame of the broker."""

    code: int
    fields: list[Any]
    payload: bytes = b""
    channel: int = 0

    def field(self, place: int) -> Any:
        return self.fields[place] if place < len(self.fields) else None

    @property
    def error(self) -> str:
        """The condition of an end, a detach or a close; empty where there is none."""
        described = self.field({END: 0, CLOSE: 0, DETACH: 2}[self.code])
        return "" if described is None else str(described.value[0])


class Amqp10Client:
    """A client.

    Args:
        broker: whose connection it has.
        in_bytes: whether everything is written one byte at a time.
        peer: where it comes from.
    """

    def __init__(self, broker: Broker, *, in_bytes: bool = False, peer: Peer = LOOPBACK) -> None:
        self.broker = broker
        self.in_bytes = in_bytes
        self.connection = Connection(broker, peer, lambda: None)
        self._delivery_id = 0
        self._is_past_sasl = False
        self.headers: list[bytes] = []
        self.raw = b""

    # --- what it says

    def write(self, data: bytes) -> None:
        """Write bytes, whatever they are."""
        if self.in_bytes:
            for one in data:
                self.connection.receive(bytes((one,)))
        else:
            self.connection.receive(data)

    def send(self, code: int, *fields: Any, channel: int = 0, payload: bytes = b"") -> None:
        """Write a frame."""
        self.write(encode_frame(AMQP, channel, performative(code, list(fields)) + payload))

    def login(self, mechanism: str = "PLAIN", response: bytes = b"\0guest\0guest") -> int | None:
        """Have SASL; returns the outcome's code, or None where nothing is said yet."""
        init = performative(SASL_INIT, [Symbol(mechanism), response])
        self.write(SASL_HEADER + encode_frame(SASL, 0, init))
        answer = self.read()[-1]
        return answer.fields[0] if answer.code == SASL_OUTCOME else None

    def open(self, hostname: str | None = None, **fields: Any) -> Heard:
        """Log in and send ``open``; returns what was answered."""
        self.say_open(hostname, **fields)
        return self.read()[-1]

    def say_open(self, hostname: str | None = None, **fields: Any) -> None:
        """The same without looking for an answer."""
        assert self.login() == 0
        frame_bytes, channel_max, idle_ms = fields.get("frame_bytes"), fields.get("channel_max"), fields.get("idle_ms")
        said: list[Any] = [
            fields.get("container", "client"),
            hostname,
            _uint(frame_bytes),
            None if channel_max is None else UShort(channel_max),
        ]
        said += [_uint(idle_ms), None, None, None, None, fields.get("properties")]
        self.write(AMQP_HEADER + encode_frame(AMQP, 0, performative(OPEN, said)))

    def begin(self, channel: int = 0, window: int = WINDOW) -> Heard:
        """Begin a session."""
        self.send(BEGIN, None, UInt(0), UInt(window), UInt(WINDOW), channel=channel)
        return self.read()[-1]

    def sender(self, address: str | None, handle: int = 0, **fields: Any) -> list[Heard]:
        """Attach a link to send on; returns what was answered."""
        target = composite(TARGET, [address, *fields.get("target", [])])
        said = ["out", UInt(handle), False, fields.get("settle_mode"), fields.get("second"), composite(SOURCE, [])]
        self.send(ATTACH, *said, target, None, None, UInt(0), channel=fields.get("channel", 0))
        return self.read()

    def receiver(
        self, address: str | None, handle: int = 1, *, credit: int = 0, settled: bool = False, **fields: Any
    ) -> list[Heard]:
        """Attach a link to receive on, and grant credit; returns what was answered."""
        source = composite(SOURCE, [address, *fields.get("source", [])])
        mode = UByte(1) if settled else None
        said = ["in", UInt(handle), True, mode, None, source, composite(TARGET, [])]
        properties = fields.get("properties")
        size_max = fields.get("size_max")
        self.send(
            ATTACH, *said, None, None, None, None if size_max is None else ULong(size_max), None, None, properties
        )
        heard = self.read()
        if credit:
            self.flow(handle, credit)
            heard += self.read()
        return heard

    def manage(self, handle: int = 0) -> None:
        """Attach a pair of links for management, of this handle and the next."""
        paired = Map([(Symbol("paired"), True)])
        source, target = composite(SOURCE, ["/management"]), composite(TARGET, ["/management"])
        ends = source, target
        self.send(ATTACH, "pair", UInt(handle), False, None, None, *ends, None, None, UInt(0), *[None] * 3, paired)
        self.send(ATTACH, "pair", UInt(handle + 1), True, None, None, *ends, *[None] * 6, paired)
        self.flow(handle + 1, 10)
        self.read()

    def flow(
        self, handle: int, credit: int, *, count: int | None = None, drain: bool = False, echo: bool = False
    ) -> None:
        """Grant credit."""
        window = [UInt(0xFFFF_FFFD), UInt(WINDOW), UInt(0), UInt(WINDOW)]
        self.send(FLOW, *window, UInt(handle), _uint(count), UInt(credit), None, drain, echo)

    def transfer(self, payload: bytes, handle: int = 0, *, settled: bool = False, more: bool = False) -> int:
        """Send a message, or the first part of one; returns the delivery id."""
        delivery_id = self._delivery_id
        self._delivery_id += 1
        tag = delivery_id.to_bytes(4, "big")
        self.send(TRANSFER, UInt(handle), UInt(delivery_id), tag, UInt(0), settled, more, payload=payload)
        return delivery_id

    def settle(self, first: int, last: int | None = None, outcome: int = ACCEPTED, *fields: Any) -> None:
        """Settle deliveries."""
        self.send(DISPOSITION, True, UInt(first), _uint(last), True, composite(outcome, list(fields)))

    def drop(self) -> None:
        """Let the socket end."""
        self.connection.lost("the client closed the TCP connection")
        self.connection.detach()

    # --- what it hears

    def read(self) -> list[Heard]:
        """All frames that have come."""
        data = b"".join(self.connection.take_output())
        self.connection.output_sent(len(data))
        self.raw += data
        heard: list[Heard] = []
        while self.raw:
            if self.raw.startswith(b"AMQP"):
                self.headers.append(self.raw[:8])
                self.raw = self.raw[8:]
                continue
            size = int.from_bytes(self.raw[:4], "big")
            assert len(self.raw) >= size
            frame, self.raw = self.raw[:size], self.raw[size:]
            body = frame[8:]
            if body:
                performed, offset = decode(body, 0)
                channel = int.from_bytes(frame[6:8], "big")
                heard.append(Heard(int(performed.descriptor), performed.value, body[offset:], channel))
            else:
                heard.append(Heard(0, []))
        return heard

    def deliveries(self) -> list[Heard]:
        """The transfers among what has come."""
        return [one for one in self.read() if one.code == TRANSFER]


def _uint(value: int | None) -> UInt | None:
    return None if value is None else UInt(value)


def message(body: bytes = b"", *, before: bytes = b"") -> bytes:
    """A message with one data section, and what stands before it."""
    return before + encode(Described(ULong(DATA), body))


def section(code: int, value: Any) -> bytes:
    """A section."""
    return encode(Described(ULong(code), value))


def sections_of(payload: bytes) -> dict[int, Any]:
    """What the sections of a message say, by their codes; of several bodies the last."""
    found: dict[int, Any] = {}
    offset = 0
    while offset < len(payload):
        described, offset = decode(payload, offset)
        found[int(described.descriptor)] = described.value
    return found


def annotations_of(payload: bytes) -> dict[str, Any]:
    """The message annotations of a message."""
    value = sections_of(payload)[0x72]
    assert isinstance(value, Map)
    return {str(key): one for key, one in value.pairs}
