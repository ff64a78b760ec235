"""Frames made before the clock runs: publishes as they are sent, deliveries as long as they will be, acknowledgements.

Nothing here is used while a message is on its way but ``AckFrames``, which makes 256 acknowledgements with a few slice
assignments instead of 256 calls.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

from pamqp import commands
from pamqp.body import ContentBody
from pamqp.frame import marshal
from pamqp.header import ContentHeader

FRAME_SIZE_BYTES_MAX = 131_072
FRAME_OVERHEAD_BYTES = 8
BATCH_BYTES = 65_536
ACK_BYTES = 21
QOS_OK_BYTES = 12

_ACK = struct.Struct(">BHIIQBB")
_ACK_METHOD = 60 << 16 | 80
_DELIVER_FIXED_BYTES = 24  # frame, method, lengths, delivery tag, redelivered: all but the texts


@dataclass(frozen=True)
class Publish:
    """One message as it is published.

    Args:
        frames: method, header and body.
        delivered_bytes: what a delivery of it takes, without the consumer tag.
    """

    frames: bytes
    delivered_bytes: int


@dataclass(frozen=True)
class Batch:
    """Messages that are sent in one call."""

    frames: bytes
    count: int


def publish(
    exchange: str,
    routing_key: str,
    body: bytes,
    *,
    channel: int = 1,
    persistent: bool = False,
    **properties: Any,
) -> Publish:
    """Make one message; further properties are pamqp's."""
    method = marshal(commands.Basic.Publish(exchange=exchange, routing_key=routing_key), channel)
    chosen = commands.Basic.Properties(delivery_mode=2 if persistent else 1, **properties)
    content = marshal(ContentHeader(body_size=len(body), properties=chosen), channel)
    piece_bytes = FRAME_SIZE_BYTES_MAX - FRAME_OVERHEAD_BYTES
    for start in range(0, len(body), piece_bytes):
        content += marshal(ContentBody(body[start : start + piece_bytes]), channel)
    names_bytes = len(exchange.encode()) + len(routing_key.encode())
    return Publish(method + content, _DELIVER_FIXED_BYTES + names_bytes + len(content))


def batches(messages: list[Publish], count_max: int) -> list[Batch]:
    """Join messages, which are sent again and again in this order, into calls of a reasonable size."""
    if len(messages) == 1:
        count = max(1, min(count_max, BATCH_BYTES // len(messages[0].frames)))
        return [Batch(messages[0].frames * count, count)]
    joined: list[Batch] = []
    frames: list[bytes] = []
    for message in messages:
        frames.append(message.frames)
        if len(frames) >= count_max or len(frames) * len(message.frames) >= BATCH_BYTES:
            joined.append(Batch(b"".join(frames), len(frames)))
            frames = []
    if frames:
        joined.append(Batch(b"".join(frames), len(frames)))
    return joined


def basic_qos() -> bytes:
    """A request that changes nothing, to be answered when what came before it on its channel is done."""
    return marshal(commands.Basic.Qos(), 1)


def ack(delivery_tag: int, *, multiple: bool, channel: int = 1) -> bytes:
    """One acknowledgement."""
    return _ACK.pack(1, channel, 13, _ACK_METHOD, delivery_tag, multiple, 0xCE)


class AckFrames:
    """Acknowledgements of consecutive delivery tags, one frame each."""

    def __init__(self, channel: int = 1) -> None:
        self._block = bytearray(b"".join(ack(low, multiple=False, channel=channel) for low in range(256)))
        self._high = 0

    def of(self, first: int, last: int) -> bytes:
        """The frames for the tags from first to last, both included."""
        frames = []
        while first <= last:
            block_last = min(last, first | 0xFF)
            self._point_at(first >> 8)
            frames.append(self._block[ACK_BYTES * (first & 0xFF) : ACK_BYTES * ((block_last & 0xFF) + 1)])
            first = block_last + 1
        return b"".join(frames)

    def _point_at(self, high: int) -> None:
        """Set all but the lowest byte of the 256 tags."""
        if high != self._high:
            self._high = high
            for position, byte in enumerate(high.to_bytes(7, "big"), start=11):
                self._block[position::ACK_BYTES] = bytes((byte,)) * 256


class Confirms:
    """Counts what a broker has confirmed, from the bytes that it sends. The connection must carry nothing else."""

    def __init__(self) -> None:
        self.count = 0
        self._through = 0
        self._beyond: set[int] = set()
        self._rest = b""

    def feed(self, data: bytes) -> None:
        """Take in acknowledgements; a nack is an error."""
        data = self._rest + data
        whole = len(data) - len(data) % ACK_BYTES
        self._rest = data[whole:]
        through = self._through
        for _, _, _, method, tag, multiple, _ in _ACK.iter_unpack(data[:whole]):
            if method != _ACK_METHOD:
                raise RuntimeError(f"the broker sent method {method >> 16}.{method & 0xFFFF} instead of a confirm")
            if multiple:
                through = max(through, tag)
            elif tag == through + 1:
                through = tag
            else:
                self._beyond.add(tag)
        if self._beyond:
            through = self._skip_confirmed(through)
        self._through = through
        self.count = through + len(self._beyond)

    def _skip_confirmed(self, through: int) -> int:
        beyond = self._beyond = {tag for tag in self._beyond if tag > through}
        while through + 1 in beyond:
            through += 1
            beyond.discard(through)
        return through
