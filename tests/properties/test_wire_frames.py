"""The splitter yields the same frames however their bytes arrive, and an error with a name for everything else."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amqp_broker.errors import AmqpError, ReplyCode
from amqp_broker.wire.frames import BODY, HEADER, HEARTBEAT, METHOD, FrameSplitter, encode_frame

Frame = tuple[int, int, bytes]

FRAMES = st.tuples(
    st.sampled_from([METHOD, HEADER, BODY, HEARTBEAT]),
    st.integers(0, 2**16 - 1),
    st.binary(max_size=40) | st.integers(0, 5000).map(bytes),
)


def encode(frames: list[Frame]) -> bytes:
    return b"".join(encode_frame(*frame) for frame in frames)


def split_all(splitter: FrameSplitter, pieces: list[bytes]) -> list[Frame]:
    return [frame for piece in pieces for frame in splitter.split(piece)]


@given(st.lists(FRAMES, max_size=5), st.data())
def test_the_frames_are_the_same_however_they_were_cut(frames: list[Frame], data: st.DataObject) -> None:
    stream = encode(frames)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    pieces = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert split_all(FrameSplitter(0), [stream]) == frames
    assert split_all(FrameSplitter(0), pieces) == frames


@given(st.lists(st.tuples(st.just(METHOD), st.integers(0, 9), st.binary(max_size=20)), max_size=4))
def test_the_frames_are_the_same_byte_by_byte(frames: list[Frame]) -> None:
    assert split_all(FrameSplitter(28), [bytes((byte,)) for byte in encode(frames)]) == frames


@given(st.lists(FRAMES, max_size=3), FRAMES, st.data())
def test_bytes_after_the_last_whole_frame_are_kept(frames: list[Frame], last: Frame, data: st.DataObject) -> None:
    whole = encode_frame(*last)
    cut = data.draw(st.integers(0, len(whole) - 1))
    splitter = FrameSplitter(0)
    assert list(splitter.split(encode(frames) + whole[:cut])) == frames
    assert list(splitter.split(whole[cut:])) == [last]


@given(st.lists(st.binary(max_size=60), max_size=6), st.sampled_from([0, 16, 64]))
def test_garbage_is_frames_or_an_amqp_error(pieces: list[bytes], frame_size_bytes_max: int) -> None:
    with contextlib.suppress(AmqpError):
        split_all(FrameSplitter(frame_size_bytes_max), pieces)


@given(st.lists(FRAMES, max_size=3), FRAMES, st.integers(0, 255).filter(lambda byte: byte != 0xCE))
def test_frames_before_a_wrong_end_byte_are_still_yielded(frames: list[Frame], last: Frame, end: int) -> None:
    stream = encode(frames) + encode_frame(*last)[:-1] + bytes((end,))
    got: list[Frame] = []
    with pytest.raises(AmqpError) as caught:
        got.extend(FrameSplitter(0).split(stream))
    assert caught.value.code is ReplyCode.FRAME_ERROR
    assert caught.value.explanation.endswith(f": {{invalid_frame_end_marker,{end}}}")
    assert got == frames


HEADERS = st.one_of(
    st.binary(max_size=20),
    st.builds(
        lambda class_id, weight, size, rest: struct.pack(">HHQ", class_id, weight, size) + rest,
        st.sampled_from([60, 50]),
        st.sampled_from([0, 1]),
        st.integers(0, 4),
        st.sampled_from([b"", b"\x00", b"\x00\x00", b"\x10\x00\x02"]),
    ),
)
CONTENTS = st.lists(
    st.one_of(
        st.tuples(st.just(METHOD), st.integers(1, 2), st.just(b"publish")),
        st.tuples(st.just(HEADER), st.integers(1, 2), HEADERS),
        st.tuples(st.sampled_from([BODY, HEARTBEAT]), st.integers(1, 2), st.binary(max_size=4)),
    ),
    max_size=9,
)


@given(CONTENTS, st.data())
def test_content_that_is_taken_is_what_would_have_been_yielded(frames: list[Frame], data: st.DataObject) -> None:
    stream = encode(frames)
    cut = data.draw(st.integers(0, len(stream)))
    splitter = FrameSplitter(0)
    got: list[Frame] = []
    for piece in (stream[:cut], stream[cut:]):
        for kind, channel, payload in splitter.split(piece):
            got.append((kind, channel, payload))
            content = splitter.take_content(channel) if kind == METHOD else None
            if content is not None:
                header, body = content
                assert struct.unpack_from(">HHQ", header) == (60, 0, len(body))
                assert body
                got += [(HEADER, channel, header), (BODY, channel, body)]
    assert got == frames


def whole_content(channel: int, flags: int, body: bytes) -> list[Frame]:
    header = struct.pack(">HHQH", 60, 0, len(body), flags)
    return [(METHOD, channel, b"publish"), (HEADER, channel, header), (BODY, channel, body)]


ALIKE = [whole_content(1, 0, b"x"), whole_content(1, 0, b"y"), whole_content(2, 0, b"x"), whole_content(1, 8, b"x")]
ALIKE += [whole_content(1, 0, b"xx"), whole_content(1, 0, b"x")[:2], [*whole_content(1, 0, b"x")[:2], (BODY, 1, b"xx")]]


@given(st.lists(st.sampled_from(ALIKE), max_size=6), st.sampled_from([b"\xce", b"\x00"]), st.data())
def test_content_is_taken_the_same_whatever_was_taken_before(
    contents: list[list[Frame]], end: bytes, data: st.DataObject
) -> None:
    stream = encode([frame for content in contents for frame in content])[:-1] + end if contents else b""
    cut = data.draw(st.integers(0, len(stream)))
    taking, fresh = FrameSplitter(0), FrameSplitter(0)
    with contextlib.suppress(AmqpError):  # of the wrong end
        for piece in (stream[:cut], stream[cut:]):
            for (_, channel, _), _ in zip(taking.split(piece), fresh.split(piece), strict=True):
                fresh.limit_frames(0)  # it forgets what it has taken
                assert taking.take_content(channel) == fresh.take_content(channel)


@given(st.integers(1, 3), st.binary(min_size=1, max_size=9))
def test_content_that_is_here_is_taken(channel: int, body: bytes) -> None:
    header = struct.pack(">HHQH", 60, 0, len(body), 0)
    stream = encode([(METHOD, channel, b"publish"), (HEADER, channel, header), (BODY, channel, body)])
    splitter = FrameSplitter(0)
    for _ in splitter.split(stream):
        assert splitter.take_content(channel) == (header, body)
    splitter = FrameSplitter(max(len(header), len(body)) - 1)
    (taken,) = [splitter.take_content(channel) for _ in split_until_error(splitter, stream)][:1]
    assert taken is None


def split_until_error(splitter: FrameSplitter, stream: bytes) -> Iterator[Frame]:
    with contextlib.suppress(AmqpError):
        yield from splitter.split(stream)
