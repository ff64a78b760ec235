"""A client of AMQP 1.0 of our own for the tests: it writes frames, and reads what comes."""

from __future__ import annotations

import socket
from typing import Any, Self

from amqp_broker.protocols.amqp10.decoding import decode
from amqp_broker.protocols.amqp10.frames import AMQP, AMQP_HEADER, SASL, SASL_HEADER, encode_frame
from amqp_broker.protocols.amqp10.performatives import (
    ACCEPTED,
    ATTACH,
    BEGIN,
    DISPOSITION,
    FLOW,
    OPEN,
    SASL_INIT,
    SASL_MECHANISMS,
    SASL_OUTCOME,
    SOURCE,
    TARGET,
    TRANSFER,
    composite,
    performative,
)
from amqp_broker.protocols.amqp10.typed import Symbol, UByte, UInt
from interop import raw_client

PATIENCE_S = raw_client.REPLY_TIMEOUT_S
WINDOW = 2_000


class Frame:
    """One frame that came."""

    def __init__(self, code: int, fields: list[Any], payload: bytes) -> None:
        self.code = code
        self.fields = fields
        self.payload = payload

    def field(self, place: int) -> Any:
        return self.fields[place] if place < len(self.fields) else None


class Amqp10Client:
    """A connection.

    Args:
        port: of 127.0.0.1.
        hostname: in ``open``.
    """

    def __init__(self, port: int, hostname: str | None = None, *, opens: bool = True) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
        # As most clients have it: else what is written behind something small may wait for the broker's delayed TCP
        # acknowledgement, 40 ms, unless the broker happens to say something.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._data = b""
        self._delivery_id = 0
        if opens:
            self.login()
            self.open_answer = self.open(hostname)
            self.begin_answer = self.begin()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._socket.close()

    # --- bytes

    def write(self, data: bytes) -> None:
        self._socket.sendall(data)

    def take_bytes(self, size: int) -> bytes:
        """So many bytes; fewer where the connection ends."""
        while len(self._data) < size:
            more = self._socket.recv(65_536)
            if not more:
                break
            self._data += more
        taken, self._data = self._data[:size], self._data[size:]
        return taken

    def take(self) -> Frame | None:
        """The next frame, without those that are empty; None at the end of the connection."""
        while True:
            head = self.take_bytes(8)
            if len(head) < 8:
                return None
            body = self.take_bytes(int.from_bytes(head[:4], "big") - 8)
            if body:
                described, offset = decode(body, 0)
                return Frame(int(described.descriptor), described.value, body[offset:])

    def expect(self, code: int) -> Frame:
        """The next frame of this kind; those of others before it are passed over, but for an end."""
        while True:
            frame = self.take()
            assert frame is not None, "the connection has ended"
            if frame.code == code:
                return frame
            assert frame.code not in (0x17, 0x18), frame.fields

    # --- frames

    def send(self, code: int, *fields: Any, payload: bytes = b"") -> None:
        self.write(encode_frame(AMQP, 0, performative(code, list(fields)) + payload))

    def login(self, mechanism: str = "PLAIN", response: bytes = b"\0guest\0guest") -> int:
        self.say_login(mechanism, response)
        outcome: int = self.expect(SASL_OUTCOME).fields[0]
        return outcome

    def say_login(self, mechanism: str, response: bytes) -> None:
        self.write(SASL_HEADER)
        assert self.take_bytes(8) == SASL_HEADER
        self.mechanisms = self.expect(SASL_MECHANISMS).fields[0]
        self.write(encode_frame(SASL, 0, performative(SASL_INIT, [Symbol(mechanism), response])))

    def open(self, hostname: str | None = None) -> Frame:
        self.write(AMQP_HEADER + encode_frame(AMQP, 0, performative(OPEN, ["client", hostname])))
        assert self.take_bytes(8) == AMQP_HEADER
        return self.expect(OPEN)

    def begin(self) -> Frame:
        self.send(BEGIN, None, UInt(0), UInt(WINDOW), UInt(WINDOW))
        return self.expect(BEGIN)

    def attach_sender(self, address: str | None, handle: int = 0) -> None:
        source, target = composite(SOURCE, []), composite(TARGET, [address])
        self.send(ATTACH, f"out-{handle}", UInt(handle), False, None, None, source, target, None, None, UInt(0))

    def sender(self, address: str | None, handle: int = 0) -> Frame:
        """Attach a link to send on, which has credit then."""
        self.attach_sender(address, handle)
        answer = self.expect(ATTACH)
        assert self.expect(FLOW).field(6) > 0
        return answer

    def receiver(self, address: str, handle: int = 1, *, credit: int = 0, settled: bool = False) -> Frame:
        """Attach a link to receive on."""
        source, target = composite(SOURCE, [address]), composite(TARGET, [])
        mode = UByte(1) if settled else None
        self.send(ATTACH, f"in-{handle}", UInt(handle), True, mode, None, source, target)
        answer = self.expect(ATTACH)
        if credit:
            self.flow(handle, credit)
        return answer

    def flow(
        self, handle: int, credit: int, *, count: int | None = None, drain: bool = False, echo: bool = False
    ) -> None:
        next_id = UInt(self.begin_answer.field(1))
        said = None if count is None else UInt(count & 0xFFFF_FFFF)
        link = [UInt(handle), said, UInt(credit), None, drain or None, echo or None]
        self.send(FLOW, next_id, UInt(WINDOW), UInt(0), UInt(WINDOW), *link)

    def transfer(self, payload: bytes, handle: int = 0, *, settled: bool = False) -> int:
        delivery_id = self._delivery_id
        self._delivery_id += 1
        self.send(
            TRANSFER, UInt(handle), UInt(delivery_id), delivery_id.to_bytes(4, "big"), UInt(0), settled, payload=payload
        )
        return delivery_id

    def publish(self, payload: bytes, handle: int = 0) -> int:
        """Send a message; returns the code of its outcome."""
        delivery_id = self.transfer(payload, handle)
        settled = self.expect(DISPOSITION)
        assert (settled.field(1), settled.field(3)) == (delivery_id, True)
        return int(settled.field(4).descriptor)

    def settle(self, frame: Frame, outcome: int = ACCEPTED, *fields: Any) -> None:
        """Settle a delivery."""
        self.send(DISPOSITION, True, UInt(frame.field(1)), None, True, composite(outcome, list(fields)))
