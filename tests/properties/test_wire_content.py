"""Content headers and properties, against pamqp's and against themselves."""

from __future__ import annotations

import contextlib
import datetime
from dataclasses import asdict
from typing import Any

import pamqp.frame
import pamqp.header
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp.commands import Basic

from amqp_broker.wire.content import (
    Properties,
    body_size,
    decode_properties,
    delivery_mode,
    encode_content_header,
    property_flags,
)
from amqp_broker.wire.errors import WireError
from amqp_broker.wire.frames import HEADER, encode_frame
from tests.properties.wire_strategies import PAMQP_PROPERTIES, PROPERTIES, UINT64, as_pamqp, typed


def pamqp_properties(properties: Properties) -> dict[str, Any]:
    """The same properties under pamqp's names, as pamqp's objects, the absent ones left out."""
    named = {name: as_pamqp(value) for name, value in asdict(properties).items() if value is not None}
    if "type" in named:
        named["message_type"] = named.pop("type")
    if "timestamp" in named:
        named["timestamp"] = datetime.datetime.fromtimestamp(named["timestamp"], tz=datetime.UTC)
    return named


@given(UINT64, PROPERTIES)
def test_properties_come_back_byte_by_byte(size_bytes: int, properties: Properties) -> None:
    payload = encode_content_header(size_bytes, properties)
    decoded = decode_properties(payload)
    assert decoded == properties
    assert typed(decoded.headers) == typed(properties.headers)
    assert encode_content_header(size_bytes, decoded) == payload
    assert body_size(payload) == size_bytes
    assert delivery_mode(payload) == properties.delivery_mode
    flags = property_flags(payload)
    present = [value is not None for value in asdict(properties).values()]
    assert [bool(flags & 0x8000 >> position) for position in range(14)] == present


@given(st.integers(0, 2**63 - 1), PAMQP_PROPERTIES)
def test_pamqp_reads_what_was_written(size_bytes: int, properties: Properties) -> None:
    frame = encode_frame(HEADER, 3, encode_content_header(size_bytes, properties))
    _, channel, header = pamqp.frame.unmarshal(frame)
    assert isinstance(header, pamqp.header.ContentHeader)
    assert channel == 3
    assert header.body_size == size_bytes
    assert {name: value for name, value in header.properties if value not in (None, "")} == pamqp_properties(properties)


@given(st.integers(0, 2**63 - 1), PAMQP_PROPERTIES)
def test_what_pamqp_wrote_is_read(size_bytes: int, properties: Properties) -> None:
    header = pamqp.header.ContentHeader(0, size_bytes, Basic.Properties(**pamqp_properties(properties)))
    frame = pamqp.frame.marshal(header, 3)
    decoded = decode_properties(frame[7:-1])
    assert pamqp_properties(decoded) == pamqp_properties(properties)
    assert frame == encode_frame(HEADER, 3, encode_content_header(size_bytes, decoded))


@given(PROPERTIES, st.data())
def test_a_header_cut_short_or_too_long_is_refused(properties: Properties, data: st.DataObject) -> None:
    payload = encode_content_header(1, properties)
    cut = payload[: data.draw(st.integers(0, len(payload) - 1))]
    with pytest.raises(WireError):
        decode_properties(cut)
    with pytest.raises(WireError):
        decode_properties(payload + data.draw(st.binary(min_size=1, max_size=9)))
    with contextlib.suppress(WireError):
        assert delivery_mode(cut) == properties.delivery_mode


@given(st.binary(max_size=80))
def test_garbage_is_a_header_or_a_wire_error(garbage: bytes) -> None:
    for read in (decode_properties, delivery_mode, body_size, property_flags):
        with contextlib.suppress(WireError):
            read(garbage)
