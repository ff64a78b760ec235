"""Frames of the stream protocol: four bytes of length, the command's key and version, its fields.

Fields are integers, strings (two bytes of length, -1 for none), bytes (four bytes of length) and arrays (four bytes of
count). Requests and their answers have a correlation id behind the version. (RabbitMQ, "Stream Protocol Reference".)
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from amqp_broker.protocols.stream.codes import ANSWER, OK

LENGTH_BYTES: Final = 4
KEY_AND_VERSION_BYTES: Final = 4
ARRAY_COUNT_MAX: Final = 65_536  # of what a client may name in one command
_U16: Final = struct.Struct(">H")
_U32: Final = struct.Struct(">I")
_U64: Final = struct.Struct(">Q")
_HEAD: Final = struct.Struct(">IHH")
_ANSWER: Final = struct.Struct(">IHHIH")
_KEY: Final = struct.Struct(">HH")


class Malformed(Exception):
    """Bytes that are no frame, or none of the command that they say they are."""


class TooLong(Malformed):
    """A frame that is longer than was agreed on."""


class FrameSplitter:
    """Cuts what comes into frames.

    Args:
        frame_bytes_max: a longer one is refused.
    """

    def __init__(self, frame_bytes_max: int) -> None:
        self.frame_bytes_max = frame_bytes_max
        self._parts: list[bytes] = []
        self._gathered_bytes = 0
        self._needed_bytes = LENGTH_BYTES  # before there is any sense in looking again

    def split(self, data: bytes) -> Iterator[bytes]:
        """Every whole frame, without its length.

        Raises:
            TooLong: one is.
        """
        self._parts.append(data)
        self._gathered_bytes += len(data)
        if self._gathered_bytes < self._needed_bytes:
            return
        parts, self._parts = self._parts, []
        begun = b""  # the frame that has come in parts, if its length was known before
        start = 0
        if self._needed_bytes > LENGTH_BYTES:
            start = len(data) - (self._gathered_bytes - self._needed_bytes)
            begun = b"".join((memoryview(parts[0])[LENGTH_BYTES:], *parts[1:-1], memoryview(data)[:start]))
        elif len(parts) > 1:
            data = b"".join(parts)
        end = len(data)
        self._gathered_bytes = 0
        try:
            if begun:
                yield begun
            while True:
                self._needed_bytes = LENGTH_BYTES
                if end - start < LENGTH_BYTES:
                    return
                length = int(_U32.unpack_from(data, start)[0])
                if length > self.frame_bytes_max:
                    raise TooLong(f"a frame of {length} bytes is longer than {self.frame_bytes_max}")
                if end - start - LENGTH_BYTES < length:
                    self._needed_bytes = LENGTH_BYTES + length
                    return
                frame = data[start + LENGTH_BYTES : start + LENGTH_BYTES + length]
                start += LENGTH_BYTES + length
                yield frame
        finally:
            if start < end:
                rest = data[start:] if start else data
                self._parts.insert(0, rest)
                self._gathered_bytes += len(rest)

    @property
    def gathered_bytes(self) -> int:
        """How much of a frame that is not whole has come."""
        return self._gathered_bytes

    @property
    def missing_bytes(self) -> int:
        """How much of a frame is still to come."""
        return max(0, self._needed_bytes - self._gathered_bytes) if self._gathered_bytes else 0


class Fields:
    """Reads the fields of a frame, one after the other; each raises Malformed where it is not there.

    Args:
        frame: without its length.
        offset: where to begin.
    """

    __slots__ = ("frame", "offset")

    def __init__(self, frame: bytes, offset: int = KEY_AND_VERSION_BYTES) -> None:
        self.frame = frame
        self.offset = offset

    @property
    def are_left(self) -> bool:
        """Whether there is more."""
        return self.offset < len(self.frame)

    def _skip(self, length: int) -> int:
        start = self.offset
        if length < 0 or start + length > len(self.frame):
            raise Malformed("a frame ends before its fields do")
        self.offset = start + length
        return start

    def u8(self) -> int:
        """An integer of one byte."""
        return self.frame[self._skip(1)]

    def u16(self) -> int:
        """Of two bytes."""
        return int(_U16.unpack_from(self.frame, self._skip(2))[0])

    def u32(self) -> int:
        """Of four bytes."""
        return int(_U32.unpack_from(self.frame, self._skip(4))[0])

    def u64(self) -> int:
        """Of eight bytes."""
        return int(_U64.unpack_from(self.frame, self._skip(8))[0])

    def i64(self) -> int:
        """Of eight bytes, with a sign."""
        return int.from_bytes(self.take(8), "big", signed=True)

    def take(self, length: int) -> bytes:
        """So many bytes."""
        start = self._skip(length)
        return self.frame[start : start + length]

    def string(self) -> str:
        """A string; none is the empty one."""
        length = self.u16()
        if length == 0xFFFF:
            return ""
        return self.take(length).decode("utf-8", "surrogateescape")

    def sized_bytes(self) -> bytes:
        """Bytes; none is empty."""
        length = self.u32()
        return b"" if length == 0xFFFF_FFFF else self.take(length)

    def count(self) -> int:
        """How many elements an array has."""
        count = self.u32()
        if count > ARRAY_COUNT_MAX:
            raise Malformed(f"an array of {count} elements is longer than {ARRAY_COUNT_MAX}")
        return count

    def strings(self) -> list[str]:
        """An array of strings."""
        return [self.string() for _ in range(self.count())]

    def pairs(self) -> dict[str, str]:
        """An array of keys with their values; where there is none, it is empty."""
        if not self.are_left:
            return {}
        found: dict[str, str] = {}
        for _ in range(self.count()):
            key = self.string()
            found[key] = self.string()
        return found


def key_and_version(frame: bytes) -> tuple[int, int]:
    """Which command a frame is.

    Raises:
        Malformed: it is too short for that.
    """
    if len(frame) < KEY_AND_VERSION_BYTES:
        raise Malformed("a frame is too short for its command")
    key, version = _KEY.unpack_from(frame)
    return int(key), int(version)


def command(key: int, content: bytes, version: int = 1) -> bytes:
    """A command of ours, whole."""
    return _HEAD.pack(KEY_AND_VERSION_BYTES + len(content), key, version) + content


def answer(key: int, correlation_id: int, code: int = OK, content: bytes = b"") -> bytes:
    """An answer, whole."""
    length = _ANSWER.size - LENGTH_BYTES + len(content)
    return _ANSWER.pack(length, key | ANSWER, 1, correlation_id, code) + content


def u16(value: int) -> bytes:
    """An integer of two bytes."""
    return _U16.pack(value)


def u32(value: int) -> bytes:
    """Of four bytes."""
    return _U32.pack(value)


def u64(value: int) -> bytes:
    """Of eight bytes."""
    return _U64.pack(value)


def string(value: str) -> bytes:
    """A string."""
    encoded = value.encode("utf-8", "surrogateescape")
    return _U16.pack(len(encoded)) + encoded


def strings(values: Sequence[str]) -> bytes:
    """An array of strings."""
    return array([string(value) for value in values])


def array(elements: Sequence[bytes]) -> bytes:
    """An array of what is encoded already."""
    return _U32.pack(len(elements)) + b"".join(elements)


def pairs(values: Mapping[str, str]) -> bytes:
    """An array of keys with their values."""
    return array([string(key) + string(value) for key, value in values.items()])
