"""Frames and protocol headers, cut out of the bytes that come and made of what is to be sent (AMQP 1.0, 2.2, 2.3)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from amqp_broker.protocols.amqp10.errors import framing_error

SASL_HEADER: Final = b"AMQP\x03\x01\x00\x00"
AMQP_HEADER: Final = b"AMQP\x00\x01\x00\x00"
HEADERS: Final = (SASL_HEADER, AMQP_HEADER)
HEADER_BYTES: Final = 8

AMQP: Final = 0  # the types of frames
SASL: Final = 1
FRAME_HEADER_BYTES: Final = 8
FRAME_BYTES_MIN_MAX: Final = 512  # every peer takes frames of so much

_HEADER: Final = struct.Struct(">IBBH")
_TRANSFER: Final = struct.Struct(">I")

HEARTBEAT: Final = b"\x00\x00\x00\x08\x02\x00\x00\x00"

Frame = tuple[int, int, bytes]  # type, channel, body; of a protocol header -1, 0 and its bytes
PROTOCOL_HEADER: Final = -1


class FrameSplitter:
    """Cuts one connection's bytes into protocol headers and frames.

    Args:
        frame_bytes_max: of a frame, with its header.
    """

    def __init__(self, frame_bytes_max: int) -> None:
        self.frame_bytes_max = frame_bytes_max
        self.expects_header = True  # a protocol header is next, and no frame
        self.missing_bytes = 0  # of the frame that has begun
        self._kept = b""
        self._parts: list[bytes] = []  # of a frame that came in many pieces

    def split(self, data: bytes) -> Iterator[Frame]:
        """Whole frames, as they are asked for; what is left is kept.

        Raises:
            ProtocolError: what has come is no frame.
        """
        if self.missing_bytes > len(data):
            self._parts.append(data)
            self.missing_bytes -= len(data)
            return
        if self._parts:
            self._kept += b"".join(self._parts)
            self._parts.clear()
        if self._kept:
            data = self._kept + data
            self._kept = b""
        self.missing_bytes = 0
        offset, data_end = 0, len(data)
        while data_end - offset >= FRAME_HEADER_BYTES:
            if self.expects_header:
                end = offset + HEADER_BYTES
                self.expects_header = False
                yield PROTOCOL_HEADER, 0, data[offset:end]
                offset = end
                continue
            size, data_offset, kind, channel = _HEADER.unpack_from(data, offset)
            if size > self.frame_bytes_max or size < FRAME_HEADER_BYTES or not 2 <= data_offset <= size // 4:
                raise self._malformed(size, data_offset)
            end = offset + size
            if end > data_end:
                self.missing_bytes = end - data_end
                break
            body = data[offset + data_offset * 4 : end]
            offset = end
            if body:
                yield kind, channel, body
        self._kept = data[offset:]

    def _malformed(self, size: int, data_offset: int) -> Exception:
        if size < FRAME_HEADER_BYTES:
            return framing_error(f"frame size ({size} bytes) < minimum frame size (8 bytes)")
        if size > self.frame_bytes_max:
            return framing_error(f"frame size ({size} bytes) > maximum frame size ({self.frame_bytes_max} bytes)")
        if data_offset < 2:
            return framing_error(f"data offset ({data_offset}) < minimum data offset (2)")
        return framing_error(f"data offset ({data_offset * 4} bytes) > frame size ({size} bytes)")


def encode_frame(kind: int, channel: int, body: bytes, payload: bytes = b"") -> bytes:
    """A frame.

    Args:
        kind: ``AMQP`` or ``SASL``.
        body: the performative.
        payload: what follows it.
    """
    size = FRAME_HEADER_BYTES + len(body) + len(payload)
    return b"%b%b%b" % (_HEADER.pack(size, 2, kind, channel), body, payload)


def encode_frames(kind: int, channel: int, body: bytes, payloads: list[memoryview]) -> bytes:
    """Frames with the same performative, and payloads that are as long as each other; at least one."""
    size = FRAME_HEADER_BYTES + len(body) + len(payloads[0])
    before = _HEADER.pack(size, 2, kind, channel) + body
    return before + before.join(payloads)
