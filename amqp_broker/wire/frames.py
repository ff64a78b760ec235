"""AMQP's outermost layer: the protocol header, and a stream of bytes cut into frames (AMQP 0-9-1 section 4.2.3).

A frame is its kind (1 byte), channel (2), payload size (4), payload and an end byte. Holds the splitter, the encoder of
one frame, and the errors that a frame as a whole can be. What a payload means is the other modules' subject.

The splitter is on the hot path. A message is published in three frames, nearly always whole in one chunk; whoever gets
the first may take the other two in one go (``take_content``), which saves two turns through everything above.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from amqp_broker.errors import NO_METHOD, AmqpError, ReplyCode
from amqp_broker.wire.body_buffers import BODY as BODY
from amqp_broker.wire.body_buffers import FRAME_END as FRAME_END
from amqp_broker.wire.body_buffers import BodyBuffers

PROTOCOL_HEADER: Final = b"AMQP\x00\x00\x09\x01"
PROTOCOL_HEADERS_1_0: Final = (b"AMQP\x00\x01\x00\x00", b"AMQP\x03\x01\x00\x00")  # another protocol on the same port

METHOD: Final = 1
HEADER: Final = 2
HEARTBEAT: Final = 8
FRAME_KINDS: Final = frozenset((METHOD, HEADER, BODY, HEARTBEAT))

FRAME_HEADER_BYTES: Final = 7
FRAME_OVERHEAD_BYTES: Final = FRAME_HEADER_BYTES + 1
HEARTBEAT_FRAME: Final = b"\x08\x00\x00\x00\x00\x00\x00\xce"

# RabbitMQ lets a payload be as large as the whole frame may be, because clients get the limit wrong by the overhead.
FRAME_SIZE_TOLERANCE_BYTES: Final = FRAME_OVERHEAD_BYTES

# Buffers are made for no more frames of one body at once (each is two, and a system call takes 1024), and for none that
# are smaller.
BUFFERED_FRAMES_MAX: Final = 256
BUFFERED_FRAME_BYTES_MIN: Final = 2048

_SNIPPET_BYTES: Final = 16

_FRAME_HEADER: Final = struct.Struct(">BHI")

# With their types, which a compiler can use.
_read_header: Final[Callable[[bytes, int], tuple[int, int, int]]] = _FRAME_HEADER.unpack_from
_read_content_header_frame: Final[Callable[[bytes, int], tuple[int, int, int, int, int]]] = struct.Struct(
    ">BHIIQ"  # class id and weight in one
).unpack_from
_read_end_and_header: Final[Callable[[bytes, int], tuple[int, int, int, int]]] = struct.Struct(">BBHI").unpack_from

_CONTENT_HEADER_BYTES_MIN: Final = 14
ALIKE_BYTES_MAX: Final = 512  # of what is remembered because the next message most often has the same
_BASIC_CLASS_WITHOUT_WEIGHT: Final = 60 << 16
_ANY_SIZE: Final = 1 << 32


class FrameSplitter:
    """Cuts the bytes of one connection into frames, however they were cut when they came.

    Args:
        frame_size_bytes_max: the largest frame, overhead included; 0 for any size. See ``limit_frames``.
    """

    def __init__(self, frame_size_bytes_max: int) -> None:
        self.frame_size_bytes_max = frame_size_bytes_max
        self._kept = bytearray()
        self._wanted_bytes = FRAME_HEADER_BYTES
        self._data = b""  # the chunk that is being cut, and where the next frame begins
        self._offset = 0
        self._body_buffers: BodyBuffers | None = None
        # Of the content that was taken last: all before its body, for the next most often begins with the same bytes.
        self._last_start = b""
        self._last_channel = 0
        self._last_header = b""
        self._last_body_bytes = 0

    def limit_frames(self, frame_size_bytes_max: int) -> None:
        """Let another size be that of the largest frame from now on, between two frames of one chunk as well."""
        self.frame_size_bytes_max = frame_size_bytes_max
        self._last_channel = 0

    def split(self, data: bytes) -> Iterator[tuple[int, int, bytes]]:
        """Yield every frame that is whole with these bytes, and keep what is left for the next call.

        Iterate to the end, or give the connection up: the rest is kept only then. After an error the splitter has lost
        its place in the stream and must not be used again.

        Args:
            data: what came next.

        Yields:
            Kind, channel and payload of each frame.

        Raises:
            AmqpError: 501 for a frame that is too large or has a wrong end byte. A frame of an unknown kind is
                yielded as any other.
        """
        if self._body_buffers is not None:
            poured_bytes = self._pour(data)
            yield from self.split_buffered(poured_bytes)
            data = data[poured_bytes:]
        self._data = data
        offset = 0
        if self._kept:
            offset = self._offset = self._fill_up(data)
            if len(self._kept) < self._wanted_bytes:
                self._data = b""
                return
            yield self._take_kept()
            offset = self._offset
        data_end = len(data)
        while data_end - offset >= FRAME_HEADER_BYTES:
            kind, channel, payload_bytes = _read_header(data, offset)
            if payload_bytes > self.frame_size_bytes_max > 0:
                raise self._frame_too_large(kind, payload_bytes)
            start = offset + FRAME_HEADER_BYTES
            end = start + payload_bytes
            if end >= data_end:
                self._keep(data, offset, FRAME_OVERHEAD_BYTES + payload_bytes)
                return
            payload = data[start:end]
            if data[end] != FRAME_END:
                raise frame_error(kind, payload, f"{{invalid_frame_end_marker,{data[end]}}}")
            self._offset = end + 1
            yield kind, channel, payload
            offset = self._offset
        self._keep(data, offset, FRAME_HEADER_BYTES)

    @property
    def begun_body_channel(self) -> int:
        """The channel of the body frame that has begun and is not whole; 0 when there is none."""
        if self._body_buffers is not None:
            return self._body_buffers.channel
        if len(self._kept) < FRAME_HEADER_BYTES or self._kept[0] != BODY:
            return 0
        return self._kept[1] << 8 | self._kept[2]

    def body_buffers(self, body_bytes: int, buffer_bytes_max: int, bytes_max: int) -> Sequence[memoryview]:
        """Where the next bytes of the stream may be read to, so that a large body is not copied.

        Args:
            body_bytes: what the body is known to lack, beginning with the whole frame that has begun.
            buffer_bytes_max: the most that buffers are made for.
            bytes_max: the most that will be read at once.

        Returns:
            Buffers to be filled in this order, and reported to ``split_buffered`` before anything else; none when the
            bytes are to be handed to ``split``. That may be done in any case.
        """
        if self._body_buffers is None:
            self._body_buffers = self._make_body_buffers(body_bytes, buffer_bytes_max)
        return self._body_buffers.buffers(bytes_max) if self._body_buffers is not None else ()

    def _make_body_buffers(self, body_bytes: int, buffer_bytes_max: int) -> BodyBuffers | None:
        channel = self.begun_body_channel
        frame_bytes = self._wanted_bytes - FRAME_OVERHEAD_BYTES
        if not channel or not BUFFERED_FRAME_BYTES_MIN <= frame_bytes <= min(body_bytes, buffer_bytes_max):
            return None
        frames = min(buffer_bytes_max // frame_bytes, BUFFERED_FRAMES_MAX)
        begun, self._kept = memoryview(self._kept)[FRAME_HEADER_BYTES:], bytearray()
        return BodyBuffers(channel, frame_bytes, begun, min(body_bytes, frames * frame_bytes))

    def split_buffered(self, size_bytes: int) -> Iterator[tuple[int, int, bytes]]:
        """Yield what is whole now that so many bytes were read into the buffers.

        A body's frames come as one, whose payload is all of theirs.

        Raises:
            AmqpError: as ``split``.
        """
        body = self._body_buffers
        if body is None:
            return
        is_expected = body.filled(size_bytes)
        wrong_end = body.wrong_end
        if wrong_end >= 0:
            raise frame_error(BODY, body.unended_payload, f"{{invalid_frame_end_marker,{wrong_end}}}")
        if is_expected and not body.is_full:
            return
        self._body_buffers = None
        payload, rest = body.take()
        yield BODY, body.channel, payload
        if rest:
            yield from self.split(rest)

    def give_up(self) -> None:
        """Nothing more comes."""
        if self._body_buffers is not None:
            self._body_buffers.take_back()
            self._body_buffers = None

    def _pour(self, data: bytes) -> int:
        """Copy into the buffers what has come beside them; returns how much they took."""
        poured_bytes = 0
        for buffer in self.body_buffers(0, 0, len(data)):
            buffer[:] = memoryview(data)[poured_bytes : poured_bytes + len(buffer)]
            poured_bytes += len(buffer)
        return poured_bytes

    def _fill_up(self, data: bytes) -> int:
        """Give the frame that is kept what it lacks, so that only this one is copied; returns how much it took."""
        kept = self._kept
        taken_bytes = 0
        while len(kept) < self._wanted_bytes:
            piece = data[taken_bytes : taken_bytes + self._wanted_bytes - len(kept)]
            if not piece:
                break
            kept += piece
            taken_bytes += len(piece)
            if len(kept) == self._wanted_bytes == FRAME_HEADER_BYTES:
                kind, _, payload_bytes = _FRAME_HEADER.unpack(kept)
                if payload_bytes > self.frame_size_bytes_max > 0:
                    raise self._frame_too_large(kind, payload_bytes)
                self._wanted_bytes = FRAME_OVERHEAD_BYTES + payload_bytes
        return taken_bytes

    def _take_kept(self) -> tuple[int, int, bytes]:
        """The frame that is kept, now that it is whole."""
        kept, self._kept = self._kept, bytearray()
        kind, channel, _ = _FRAME_HEADER.unpack_from(kept)
        payload = bytes(memoryview(kept)[FRAME_HEADER_BYTES:-1])
        if kept[-1] != FRAME_END:
            raise frame_error(kind, payload, f"{{invalid_frame_end_marker,{kept[-1]}}}")
        return kind, channel, payload

    def take_content(self, channel: int) -> tuple[bytes, bytes] | None:
        """Take the content that follows the frame which ``split`` has yielded last, if it is here and without fault.

        Returns:
            The payloads of the content header frame and of the one body frame. None when they are not both whole in the
            present chunk, or are anything else, or wrong in any way: then ``split`` goes on frame by frame.
        """
        data, offset = self._data, self._offset
        body_start = offset + len(self._last_start)
        if channel != self._last_channel or data[offset:body_start] != self._last_start:
            return self._take_other_content(channel)
        body_end = body_start + self._last_body_bytes
        if body_end >= len(data) or data[body_end] != FRAME_END:
            return None
        self._offset = body_end + 1
        return self._last_header, data[body_start:body_end]

    def _take_other_content(self, channel: int) -> tuple[bytes, bytes] | None:
        """The same for content that does not begin as the last one did."""
        data, offset = self._data, self._offset
        try:
            kind, number, header_bytes, class_and_weight, body_bytes = _read_content_header_frame(data, offset)
            header_end = offset + FRAME_HEADER_BYTES + header_bytes
            end_byte, body_kind, body_number, payload_bytes = _read_end_and_header(data, header_end)
            body_start = header_end + FRAME_OVERHEAD_BYTES
            body_end = body_start + payload_bytes
            is_right = (
                (kind == HEADER and body_kind == BODY and number == channel == body_number)
                and (class_and_weight == _BASIC_CLASS_WITHOUT_WEIGHT and payload_bytes == body_bytes)
                and (end_byte == FRAME_END == data[body_end])
                and _CONTENT_HEADER_BYTES_MIN <= header_bytes <= (self.frame_size_bytes_max or _ANY_SIZE)
                and 0 < payload_bytes <= (self.frame_size_bytes_max or _ANY_SIZE)
            )
        except (struct.error, IndexError):
            return None
        if not is_right:
            return None
        self._offset = body_end + 1
        header = data[offset + FRAME_HEADER_BYTES : header_end]
        if body_start - offset <= ALIKE_BYTES_MAX:
            self._last_start, self._last_channel = data[offset:body_start], channel
            self._last_header, self._last_body_bytes = header, payload_bytes
        return header, data[body_start:body_end]

    def _keep(self, data: bytes, offset: int, wanted_bytes: int) -> None:
        self._data = b""
        self._kept += data[offset:]
        self._wanted_bytes = wanted_bytes

    def _frame_too_large(self, kind: int, payload_bytes: int) -> AmqpError:
        payload_bytes_max = self.frame_size_bytes_max - FRAME_OVERHEAD_BYTES
        return frame_error(kind, b"", f"{{frame_too_large,{payload_bytes},{payload_bytes_max}}}")


def encode_frame(kind: int, channel: int, payload: bytes) -> bytes:
    """The bytes of one frame.

    Args:
        kind: ``METHOD``, ``HEADER``, ``BODY`` or ``HEARTBEAT``.
        channel: 0 for the connection itself.
        payload: all that stands between header and end byte.
    """
    return _FRAME_HEADER.pack(kind, channel, len(payload)) + payload + b"\xce"


def frame_error(kind: int, payload: bytes, reason: str) -> AmqpError:
    """The 501 of a frame that cannot be read.

    Args:
        kind: the frame's first byte.
        payload: its payload; at most the first 16 bytes are quoted.
        reason: what is wrong, in the notation of RabbitMQ's text.
    """
    return AmqpError(ReplyCode.FRAME_ERROR, f"{_describe(kind, payload)}: {reason}", blamed=NO_METHOD, quotes_peer=True)


def unknown_frame(kind: int, payload: bytes) -> AmqpError:
    """The 501 of a frame of no known kind, or too short for its kind, or of a heartbeat with a payload."""
    return frame_error(kind, payload, "unknown_frame")


def unexpected_frame(kind: int, payload: bytes) -> AmqpError:
    """The 505 of a frame that is well-formed and has no business on this channel, or not now."""
    return AmqpError(ReplyCode.UNEXPECTED_FRAME, _describe(kind, payload), blamed=NO_METHOD, quotes_peer=True)


def _describe(kind: int, payload: bytes) -> str:
    if len(payload) <= _SNIPPET_BYTES:
        return f"type {kind}, all octets = {erlang_binary(payload)}"
    return f"type {kind}, first 16 octets = {erlang_binary(payload[:_SNIPPET_BYTES])}"


_ERLANG_ESCAPES: Final = {
    ord("\b"): "\\b",
    ord("\t"): "\\t",
    ord("\n"): "\\n",
    ord("\v"): "\\v",
    ord("\f"): "\\f",
    ord("\r"): "\\r",
    0x1B: "\\e",
    ord('"'): '\\"',
    ord("\\"): "\\\\",
}


def erlang_binary(data: bytes) -> str:
    """Bytes as RabbitMQ's texts quote them: ``<<"abc">>`` where all are printable Latin-1, else ``<<1,2,3>>``."""
    if data and all(32 <= byte <= 126 or byte >= 160 or byte in _ERLANG_ESCAPES for byte in data):
        return '<<"' + "".join(_ERLANG_ESCAPES.get(byte) or chr(byte) for byte in data) + '">>'
    return "<<" + ",".join(str(byte) for byte in data) + ">>"
