"""Particular content headers, and hot frames that are short, long or at a limit."""

from __future__ import annotations

import pytest
from pamqp.commands import Basic

from amqp_broker.wire import content, hot
from amqp_broker.wire.content import (
    FLAG_CONTINUATION,
    FLAG_DELIVERY_MODE,
    FLAG_HEADERS,
    FLAG_PRIORITY,
    Properties,
    body_size,
    decode_properties,
    delivery_mode,
    encode_content_header,
    property_flags,
)
from amqp_broker.wire.errors import WireError
from amqp_broker.wire.frames import FrameSplitter


def header(flags: int, properties: bytes = b"") -> bytes:
    return b"\x00\x3c\x00\x00" + (12).to_bytes(8, "big") + flags.to_bytes(2, "big") + properties


def test_a_header_byte_by_byte() -> None:
    payload = header(FLAG_HEADERS | FLAG_DELIVERY_MODE | FLAG_PRIORITY, b"\x00\x00\x00\x03\x01aV\x02\x09")
    assert decode_properties(payload) == Properties(headers={"a": None}, delivery_mode=2, priority=9)
    assert body_size(payload) == 12
    assert property_flags(payload) == 0x3800
    assert delivery_mode(payload) == 2
    assert encode_content_header(12, Properties(headers={"a": None}, delivery_mode=2, priority=9)) == payload


def test_the_flags_are_those_of_the_properties() -> None:
    flags = {name.removeprefix("FLAG_").lower(): value for name, value in vars(content).items() if "FLAG_" in name}
    flags["message_type"] = flags.pop("type")
    del flags["continuation"]
    assert flags == Basic.Properties.flags


def test_no_properties_at_all() -> None:
    payload = header(0)
    assert decode_properties(payload) == Properties()
    assert delivery_mode(payload) is None
    assert encode_content_header(12, Properties()) == payload


def test_an_empty_property_is_not_an_absent_one() -> None:
    properties = Properties(content_type="", headers={})
    assert decode_properties(encode_content_header(0, properties)) == properties


def test_the_flag_that_the_specification_leaves_unused_is_ignored() -> None:
    assert decode_properties(header(0x0002)) == Properties()


def test_a_second_word_of_flags_is_refused() -> None:
    payload = header(FLAG_CONTINUATION, b"\x00\x00")
    for read in (property_flags, decode_properties, delivery_mode):
        with pytest.raises(WireError):
            read(payload)


def test_the_delivery_mode_is_found_behind_what_is_not_decoded() -> None:
    # The headers are malformed: nothing looks into them.
    payload = header(0xF000, b"\x04text\x04gzip\x00\x00\x00\x03???\x02")
    assert delivery_mode(payload) == 2
    with pytest.raises(WireError):
        decode_properties(payload)


@pytest.mark.parametrize(
    "properties",
    [
        Properties(priority=256),
        Properties(delivery_mode=-1),
        Properties(timestamp=-1),
        Properties(timestamp=2**64),
        Properties(message_id="x" * 256),
        Properties(headers={"x": 2**64}),
    ],
)
def test_a_property_that_does_not_fit_is_refused(properties: Properties) -> None:
    with pytest.raises(WireError):
        encode_content_header(0, properties)


@pytest.mark.parametrize("body_bytes", [0, 1, 4088, 4089, 8176, 8177])
def test_a_body_is_cut_where_the_frame_ends(body_bytes: int) -> None:
    body = bytes(index % 251 for index in range(body_bytes))
    encoded = hot.encode_content(5, encode_content_header(body_bytes, Properties()), body, 4096)
    _, *frames = FrameSplitter(4096).split(encoded)
    sizes = [len(payload) for _, _, payload in frames]
    assert sizes == [4088] * (body_bytes // 4088) + [body_bytes % 4088] * (body_bytes % 4088 > 0)
    assert b"".join(payload for _, _, payload in frames) == body


def test_an_address_of_more_than_255_bytes_is_refused() -> None:
    assert hot.encode_address("", "k" * 255) == b"\x00\xff" + b"k" * 255
    with pytest.raises(WireError):
        hot.encode_address("", "k" * 256)
    with pytest.raises(WireError):
        hot.encode_return(1, 312, "t" * 256, b"\x00\x00")


@pytest.mark.parametrize("payload", [b"", hot.ACK, hot.ACK + bytes(8), hot.ACK + bytes(10)])
def test_an_acknowledgement_has_one_length(payload: bytes) -> None:
    for read in (hot.decode_ack, hot.decode_nack, hot.decode_reject):
        with pytest.raises(WireError):
            read(payload)
