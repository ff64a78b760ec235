"""A body that is read into the buffers made for it comes out as if it had been read in any other way."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby

import pytest

from amqp_broker.errors import AmqpError
from amqp_broker.wire.body_buffers import BEHIND_BYTES
from amqp_broker.wire.frames import BODY, HEADER, HEARTBEAT_FRAME, METHOD, FrameSplitter, encode_frame

FRAME_BYTES = 2100  # of a payload; a smaller frame gets no buffers
FRAME_BYTES_MAX = 4096
BUFFER_BYTES = 1_000_000
Frames = list[tuple[int, int, bytes]]


def body(size_bytes: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size_bytes)


def framed(content: bytes, channel: int = 1, frame_bytes: int = FRAME_BYTES) -> list[bytes]:
    """A body's frames."""
    return [
        encode_frame(BODY, channel, content[start : start + frame_bytes])
        for start in range(0, len(content), frame_bytes)
    ]


WHOLE = body(3 * FRAME_BYTES + 17)
FIRST, SECOND, THIRD, LAST = framed(WHOLE)
PUBLISH = encode_frame(METHOD, 1, b"publish") + encode_frame(HEADER, 1, b"header")
OTHER = encode_frame(METHOD, 2, b"something else") + b"".join(framed(body(5000, 2), 2))
WRONG = FIRST[:-1] + b"\xcd"

STREAMS = {
    "nothing else": [FIRST, SECOND, THIRD, LAST],
    "a heartbeat": [FIRST, HEARTBEAT_FRAME, SECOND, HEARTBEAT_FRAME, HEARTBEAT_FRAME, THIRD, LAST],
    "another channel's frames": [FIRST, SECOND, OTHER, THIRD, LAST],
    "frames by turns": [FIRST, *framed(body(2050, 3), 2), SECOND, *framed(body(2050, 4), 2), THIRD, LAST],
    "smaller frames": [FIRST, *framed(WHOLE[FRAME_BYTES:], frame_bytes=700)],
    "larger frames": [FIRST, *framed(WHOLE[FRAME_BYTES:], frame_bytes=3000)],
    "an empty frame": [FIRST, encode_frame(BODY, 1, b""), SECOND, THIRD, LAST],
    "a method": [FIRST, SECOND, encode_frame(METHOD, 1, b"close"), THIRD, LAST],
    "another message": [FIRST, SECOND, THIRD, LAST, PUBLISH, FIRST, SECOND],
    "more than was promised": [FIRST, SECOND, THIRD, encode_frame(BODY, 1, body(100, 5)), LAST],
    "a wrong end of the first": [WRONG, SECOND, THIRD, LAST],
    "a wrong end of the second": [FIRST, SECOND[:-1] + b"\x00", THIRD, LAST],
    "a wrong end of the last": [FIRST, SECOND, THIRD, LAST[:-1] + b"\x00", PUBLISH],
    "a frame that is too large": [FIRST, SECOND, encode_frame(BODY, 1, bytes(FRAME_BYTES_MAX + 1))],
}


class Reader:
    """Reads as the server floor does: into the buffers, where there are some."""

    def __init__(self, body_bytes: int = len(WHOLE), buffer_bytes_max: int = BUFFER_BYTES) -> None:
        self.splitter = FrameSplitter(FRAME_BYTES_MAX)
        self.missing_bytes = {1: body_bytes}
        self.buffer_bytes_max = buffer_bytes_max
        self.frames: Frames = []
        self.buffered_bytes = 0
        self.error = ""

    def read(self, piece: bytes) -> None:
        while piece and not self.error:
            missing_bytes = self.missing_bytes.get(self.splitter.begun_body_channel, 0)
            buffers = self.splitter.body_buffers(missing_bytes, self.buffer_bytes_max, BUFFER_BYTES)
            if not buffers:
                self._take(self.splitter.split(piece))
                return
            filled_bytes = 0
            for buffer in buffers:
                part = piece[filled_bytes : filled_bytes + len(buffer)]
                buffer[: len(part)] = part
                filled_bytes += len(part)
            self.buffered_bytes += filled_bytes
            self._take(self.splitter.split_buffered(filled_bytes))
            piece = piece[filled_bytes:]

    def _take(self, frames: Iterable[tuple[int, int, bytes]]) -> None:
        try:
            for kind, channel, payload in frames:
                if kind == BODY and channel in self.missing_bytes:
                    self.missing_bytes[channel] -= len(payload)
                self.frames.append((kind, channel, payload))
        except AmqpError as error:
            self.error = error.reply_text


def merged(frames: Frames) -> list[tuple[int, int, bytes]]:
    """Frames of a body that follow each other as one; an empty one is none. Heartbeats may be anywhere."""
    some = [(kind, channel, payload) for kind, channel, payload in frames if payload or kind != BODY]
    return [
        (kind, channel, payload)
        for (kind, channel), group in groupby(some, lambda one: one[:2])
        for payload in ([b"".join(one[2] for one in group)] if kind == BODY else [one[2] for one in group])
    ]


def split_at_once(stream: bytes) -> tuple[Frames, str]:
    """What comes of a stream that is split in one piece: the frames before anything that is wrong, and the error."""
    frames: Frames = []
    try:
        frames.extend(FrameSplitter(FRAME_BYTES_MAX).split(stream))
    except AmqpError as error:
        return frames, error.reply_text
    return frames, ""


def check(name: str, pieces: Iterable[bytes]) -> Reader:
    frames, error = split_at_once(b"".join(STREAMS[name]))
    reader = Reader()
    for piece in pieces:
        reader.read(piece)
    assert reader.error == error
    if not error:
        assert merged(reader.frames) == merged(frames)
    else:  # of the body in which it is, something may be missing, because the connection ends
        assert b"".join(repr(frame).encode() for frame in merged(reader.frames)) in (
            b"".join(repr(frame).encode() for frame in merged(frames[:count])) for count in range(len(frames) + 1)
        )
    return reader


@pytest.mark.parametrize("name", STREAMS)
def test_cut_at_every_byte(name: str) -> None:
    stream = b"".join(STREAMS[name])
    for cut in range(0, len(stream), 1 if len(stream) < 10_000 else 3):
        check(name, (stream[:cut], stream[cut:]))


@pytest.mark.parametrize("frames", [1, 2])
def test_buffers_for_as_much_as_has_begun_wherever_it_is_cut(frames: int) -> None:
    """A client that has sent little yet gets buffers for one frame, of which all but the end byte may be here."""
    content = WHOLE[: frames * FRAME_BYTES]
    stream = b"".join(framed(content))
    for cut in range(len(stream) + 1):
        reader = Reader(len(content), buffer_bytes_max=FRAME_BYTES)
        for piece in (stream[:cut], stream[cut:]):
            reader.read(piece)
        assert merged(reader.frames) == [(BODY, 1, content)]


def in_pieces(stream: bytes, size: Callable[[], int]) -> Iterator[bytes]:
    start = 0
    while start < len(stream):
        end = start + size()
        yield stream[start:end]
        start = end


@pytest.mark.parametrize("name", STREAMS)
def test_byte_by_byte(name: str) -> None:
    check(name, in_pieces(b"".join(STREAMS[name]), lambda: 1))


@pytest.mark.parametrize("name", STREAMS)
def test_in_random_pieces(name: str) -> None:
    for seed in range(60):
        source = random.Random(seed)
        check(name, in_pieces(b"".join(STREAMS[name]), lambda: source.randint(1, 4000)))  # noqa: B023


def test_a_body_comes_in_one_and_most_of_it_went_into_its_buffers() -> None:
    stream = b"".join(STREAMS["nothing else"])
    reader = check("nothing else", (stream[:20], stream[20:]))
    assert reader.frames == [(BODY, 1, WHOLE)]
    assert reader.buffered_bytes == len(stream) - 20
    assert reader.splitter.begun_body_channel == 0


def test_a_foreign_frame_ends_the_buffers_and_the_next_frame_gets_others() -> None:
    stream = b"".join(STREAMS["a heartbeat"])
    reader = check("a heartbeat", in_pieces(stream, lambda: 1000))
    assert reader.buffered_bytes > len(stream) * 2 // 3


def test_what_comes_beside_the_buffers_is_poured_into_them() -> None:
    stream = b"".join(STREAMS["another message"])
    for cut in range(20, len(WHOLE), 100):
        splitter = FrameSplitter(FRAME_BYTES_MAX)
        frames = list(splitter.split(stream[:20]))
        assert splitter.body_buffers(len(WHOLE), BUFFER_BYTES, BUFFER_BYTES)
        frames += splitter.split(stream[20:cut])
        frames += splitter.split(stream[cut:])
        assert merged(frames) == merged(split_at_once(stream)[0])


def test_no_larger_buffers_are_made_than_is_allowed() -> None:
    frames = framed(WHOLE)
    for buffer_bytes_max, sizes in ((FRAME_BYTES - 1, [FRAME_BYTES] * 3 + [17]), (2 * FRAME_BYTES + 5, [4200, 2117])):
        reader = Reader(buffer_bytes_max=buffer_bytes_max)
        for frame in frames:
            reader.read(frame[:100])
            lent_bytes = sum(map(len, reader.splitter.body_buffers(0, 0, BUFFER_BYTES)))
            assert lent_bytes <= buffer_bytes_max + 8 + BEHIND_BYTES
            reader.read(frame[100:])
        assert [len(payload) for _, _, payload in reader.frames] == sizes


def test_the_beginning_of_the_next_message_is_read_with_the_end_of_a_body() -> None:
    """So that each large body takes one read, not one more for what comes before it."""
    following = PUBLISH + FIRST[:20]
    stream = b"".join(framed(WHOLE)) + following
    splitter = FrameSplitter(FRAME_BYTES_MAX)
    list(splitter.split(stream[:20]))
    rest = stream[20:]
    buffers = splitter.body_buffers(len(WHOLE), BUFFER_BYTES, BUFFER_BYTES)
    assert sum(map(len, buffers)) >= len(rest)
    for buffer in buffers:
        part, rest = rest[: len(buffer)], rest[len(buffer) :]
        buffer[: len(part)] = part
    frames = list(splitter.split_buffered(len(stream) - 20))
    assert frames == [(BODY, 1, WHOLE), (METHOD, 1, b"publish"), (HEADER, 1, b"header")]
    assert splitter.begun_body_channel == 1


def test_no_buffers_for_what_is_promised_to_be_less_than_the_frame() -> None:
    splitter = FrameSplitter(FRAME_BYTES_MAX)
    list(splitter.split(FIRST[:20]))
    assert splitter.begun_body_channel == 1
    assert not splitter.body_buffers(FRAME_BYTES - 1, BUFFER_BYTES, BUFFER_BYTES)
    assert list(splitter.split(FIRST[20:])) == [(BODY, 1, WHOLE[:FRAME_BYTES])]


@pytest.mark.parametrize("begun", [FIRST[:6], PUBLISH[:10], HEARTBEAT_FRAME[:7], encode_frame(BODY, 1, bytes(500))[:9]])
def test_no_buffers_for_anything_but_a_body_in_large_frames(begun: bytes) -> None:
    splitter = FrameSplitter(FRAME_BYTES_MAX)
    list(splitter.split(begun))
    assert not splitter.body_buffers(BUFFER_BYTES, BUFFER_BYTES, BUFFER_BYTES)


def test_buffers_that_were_lent_are_taken_back() -> None:
    splitter = FrameSplitter(FRAME_BYTES_MAX)
    list(splitter.split(FIRST[:20]))
    lent = list(splitter.body_buffers(FRAME_BYTES, BUFFER_BYTES, BUFFER_BYTES))
    filled_bytes = 0
    for buffer in lent:
        part = FIRST[20 + filled_bytes : 20 + filled_bytes + len(buffer)]
        buffer[: len(part)] = part
        filled_bytes += len(part)
    assert list(splitter.split_buffered(filled_bytes)) == [(BODY, 1, WHOLE[:FRAME_BYTES])]
    for buffer in lent:
        with pytest.raises(ValueError, match="released"):
            buffer[0] = 0
