"""Particular frames: limits, texts, and a large frame in small pieces."""

from __future__ import annotations

import time

import pytest

from amqp_broker.errors import AmqpError, ReplyCode
from amqp_broker.wire.frames import (
    BODY,
    HEARTBEAT,
    HEARTBEAT_FRAME,
    METHOD,
    PROTOCOL_HEADER,
    FrameSplitter,
    encode_frame,
    erlang_binary,
    unexpected_frame,
    unknown_frame,
)


def error_of(splitter: FrameSplitter, data: bytes) -> AmqpError:
    with pytest.raises(AmqpError) as caught:
        list(splitter.split(data))
    return caught.value


def test_the_constants_are_what_the_specification_says() -> None:
    assert list(PROTOCOL_HEADER) == [65, 77, 81, 80, 0, 0, 9, 1]
    assert encode_frame(HEARTBEAT, 0, b"") == HEARTBEAT_FRAME
    assert list(FrameSplitter(4096).split(HEARTBEAT_FRAME)) == [(HEARTBEAT, 0, b"")]


def test_a_payload_may_be_as_large_as_the_frame() -> None:
    splitter = FrameSplitter(4096)
    assert list(splitter.split(encode_frame(BODY, 1, bytes(4096)))) == [(BODY, 1, bytes(4096))]
    error = error_of(splitter, encode_frame(BODY, 1, bytes(4097)))
    assert error.code is ReplyCode.FRAME_ERROR
    assert error.reply_text == "FRAME_ERROR - type 3, all octets = <<>>: {frame_too_large,4097,4088}"


def test_too_large_a_frame_is_refused_by_its_header_alone() -> None:
    error = error_of(FrameSplitter(131072), b"\x01\x00\x01\xff\xff\xff\xff")
    assert error.explanation == "type 1, all octets = <<>>: {frame_too_large,4294967295,131064}"


def test_zero_is_no_limit() -> None:
    payload = bytes(1_000_000)
    assert list(FrameSplitter(0).split(encode_frame(BODY, 1, payload))) == [(BODY, 1, payload)]


def test_the_limit_may_change_between_two_frames_of_one_chunk() -> None:
    splitter = FrameSplitter(100)
    sizes = []
    for _, _, payload in splitter.split(encode_frame(METHOD, 0, b"tune-ok") + encode_frame(BODY, 1, bytes(5000))):
        sizes.append(len(payload))
        splitter.limit_frames(8192)
    assert sizes == [7, 5000]


def test_a_wrong_end_byte() -> None:
    error = error_of(FrameSplitter(4096), b"\x01\x00\x05\x00\x00\x00\x02hi\x00")
    assert error.reply_text == 'FRAME_ERROR - type 1, all octets = <<"hi">>: {invalid_frame_end_marker,0}'
    assert error.is_hard


def test_an_unknown_kind_is_a_frame_like_any_other() -> None:
    assert list(FrameSplitter(4096).split(encode_frame(4, 1, bytes(range(20))))) == [(4, 1, bytes(range(20)))]
    error = unknown_frame(4, bytes(range(20)))
    assert error.explanation == ("type 4, first 16 octets = <<0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15>>: unknown_frame")


def test_the_errors_of_a_frame_that_the_session_refuses() -> None:
    assert unknown_frame(HEARTBEAT, b"x").reply_text == 'FRAME_ERROR - type 8, all octets = <<"x">>: unknown_frame'
    assert unexpected_frame(HEARTBEAT, b"").reply_text == "UNEXPECTED_FRAME - type 8, all octets = <<>>"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "<<>>"),
        (b"plain", '<<"plain">>'),
        (b'a"b\\c\n\x1b', '<<"a\\"b\\\\c\\n\\e">>'),
        (b" ~\xa0", '<<" ~\xa0">>'),
        (b"\xe9", '<<"é">>'),
        (b"\x1f", "<<31>>"),
        (b"\x9f", "<<159>>"),
        (b"a\x7f", "<<97,127>>"),
        (b"\x00", "<<0>>"),
    ],
)
def test_bytes_are_quoted_as_erlang_does(data: bytes, text: str) -> None:
    assert erlang_binary(data) == text


def test_a_large_frame_in_small_pieces_takes_time_by_its_size_alone() -> None:
    frame = encode_frame(BODY, 1, bytes(4_000_000))
    splitter = FrameSplitter(0)
    started_s = time.process_time()
    got = [found for start in range(0, len(frame), 100) for found in splitter.split(frame[start : start + 100])]
    assert [len(payload) for _, _, payload in got] == [4_000_000]
    # Copying everything at every piece would be 80 gigabytes.
    assert time.process_time() - started_s < 3
