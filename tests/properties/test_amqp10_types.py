"""AMQP 1.0's types: what is written is read again as the same, by us and by another implementation where it is
installed (Debian's package ``python3-qpid-proton``); no bytes do harm.
"""

from __future__ import annotations

import struct
import sys
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amqp_broker.protocols.amqp10 import typed
from amqp_broker.protocols.amqp10.application_properties import headers_of
from amqp_broker.protocols.amqp10.compound import Array, Described, Map
from amqp_broker.protocols.amqp10.contents import fields_of
from amqp_broker.protocols.amqp10.decoding import Malformed, decode, skip
from amqp_broker.protocols.amqp10.encoding import encode
from amqp_broker.protocols.amqp10.performatives import (
    ACCEPTED,
    DISPOSITION,
    PLAIN_DISPOSITION,
    RELEASED,
    TRANSFER,
    accepted_delivery,
    composite,
    performative,
    read_performative,
    transfer_performative,
    whole_transfer,
)
from amqp_broker.protocols.amqp10.sections import Sections
from amqp_broker.protocols.amqp10.typed import Symbol, ULong
from amqp_broker.wire.errors import WireError
from amqp_broker.wire.table import encode_table
from tests.support.examples import examples

DEBIANS_PACKAGES = "/usr/lib/python3/dist-packages"
SINGLE = st.floats(width=32, allow_nan=False).map(typed.Float)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    SINGLE,
    st.binary(max_size=300),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=300),
    st.text(st.characters(max_codepoint=127), max_size=20).map(Symbol),
    st.integers(0, 2**8 - 1).map(typed.UByte),
    st.integers(0, 2**16 - 1).map(typed.UShort),
    st.integers(0, 2**32 - 1).map(typed.UInt),
    st.integers(0, 2**64 - 1).map(ULong),
    st.integers(-(2**7), 2**7 - 1).map(typed.Byte),
    st.integers(-(2**15), 2**15 - 1).map(typed.Short),
    st.integers(-(2**31), 2**31 - 1).map(typed.Int),
    st.integers(-(2**63), 2**63 - 1).map(typed.Timestamp),
    st.characters(exclude_categories=["Cs"]).map(typed.Char),
    st.binary(min_size=16, max_size=16).map(typed.Uuid),
    st.sampled_from([4, 8, 16]).flatmap(lambda size: st.binary(min_size=size, max_size=size)).map(typed.Decimal),
)
ARRAYS = st.one_of(
    st.lists(st.integers(0, 2**32 - 1).map(typed.UInt), max_size=5).map(lambda items: Array(b"\x70", items)),
    st.lists(st.text(max_size=5).map(lambda text: text.encode("utf-8", "replace").decode()), max_size=5).map(
        lambda items: Array(b"\xb1", items)
    ),
    st.lists(st.text(st.characters(max_codepoint=127), max_size=5).map(Symbol), max_size=5).map(
        lambda items: Array(b"\xa3", items)
    ),
)


def is_plain(value: Any) -> bool:
    """Proton loses its place behind a description of what is described."""
    return not isinstance(value, Described)


VALUES = st.recursive(
    st.one_of(SCALARS, ARRAYS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(st.tuples(SCALARS, inner), max_size=3).map(Map),
        st.builds(Described, st.integers(0, 2**64 - 1).map(ULong), inner.filter(is_plain)),
    ),
    max_leaves=12,
)


def types_of(value: Any) -> Any:
    """The types of a value and all in it."""
    if isinstance(value, list):
        return [types_of(item) for item in value]
    if isinstance(value, Array):
        return [Array, *[types_of(item) for item in value.items]]
    if isinstance(value, Map):
        return [(types_of(key), types_of(item)) for key, item in value.pairs]
    if isinstance(value, Described):
        return types_of(value.descriptor), types_of(value.value)
    return type(value)


@given(VALUES, st.binary(max_size=4))
def test_what_is_written_is_read_as_the_same(value: Any, behind: bytes) -> None:
    data = encode(value)
    found, offset = decode(data + behind, 0)
    assert (found, offset) == (value, len(data))
    assert types_of(found) == types_of(value)
    assert skip(data + behind, 0) == len(data)


@pytest.fixture(scope="module")
def proton() -> Any:
    """The other implementation, which PyPI has no wheels of: Debian's, where it is made for this Python."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [*sys.path, DEBIANS_PACKAGES])
        return pytest.importorskip("proton", exc_type=ImportError)


@given(value=VALUES)
def test_another_implementation_reads_and_writes_the_same(proton: Any, value: Any) -> None:
    data = proton.Data()
    encoded = encode(value)
    assert data.decode(encoded) == len(encoded)
    written = bytes(data.encode())
    found, _ = decode(written, 0)
    assert found == value
    assert types_of(found) == types_of(value)


@given(VALUES, st.data())
def test_a_value_that_is_cut_short_is_refused(value: Any, drawn: st.DataObject) -> None:
    data = encode(value)
    cut = data[: drawn.draw(st.integers(0, len(data) - 1))]
    with pytest.raises(Malformed):
        decode(cut, 0)


@settings(max_examples=examples(300))
@given(st.one_of(st.binary(max_size=60), VALUES.map(encode)), st.data())
def test_no_bytes_do_harm(data: bytes, drawn: st.DataObject) -> None:
    changed = bytearray(data)
    for _ in range(drawn.draw(st.integers(0, 3))):
        if changed:
            changed[drawn.draw(st.integers(0, len(changed) - 1))] = drawn.draw(st.integers(0, 255))
    try:
        value, offset = decode(bytes(changed), 0)
    except Malformed:
        return
    assert offset <= len(changed)
    again, _ = decode(encode(value), 0)
    assert repr(again) == repr(value)  # what is not a number does not equal itself


def narrow_list(item: bytes) -> bytes:
    """An array of one list of two values, the item and a string that fills it up to what one byte can count."""
    items = item + b"\xa1" + bytes((252 - len(item),)) + b"x" * (252 - len(item))
    inner = b"\xc0" + bytes((1 + len(items), 2)) + items
    return b"\xf0" + struct.pack(">II", 4 + len(inner), 1) + inner


def test_what_is_narrow_in_an_array_is_written_as_narrow_as_it_came() -> None:
    data = narrow_list(b"\xe0" + bytes((2 + 230, 230)) + b"\x50" + bytes(230))
    value, _ = decode(data, 0)
    assert encode(value) == data


@pytest.mark.parametrize(
    "value",
    [
        typed.UByte(256),
        Array(b"\xa1", ["x" * 256]),
        Array(b"\xc0", [["x" * 256]]),
        Array(b"\xe0", [Array(b"\xa1", ["x" * 255])]),
    ],
)
def test_what_does_not_fit_is_refused(value: Any) -> None:
    with pytest.raises(WireError, match="does not fit"):
        encode(value)


def test_nesting_and_counts_that_lie_are_bounded() -> None:
    deep = b"\x40"
    for _ in range(100):
        deep = b"\xd0" + struct.pack(">II", len(deep) + 4, 1) + deep
    for data in (
        deep,
        b"\0" * 1_000 + b"\x40",
        b"\xd0\x00\x00\x00\x08\xff\xff\xff\xff\x40\x40\x40\x40",
        b"\xf0\x00\x00\x00\x05\xff\xff\xff\xff\x40",
        b"\xf0\x00\x00\x00\x05\x00\x00\x01\x01\x40",
        encode([Array(b"\x40", [None] * 255)] * 300),  # the items of all together
        b"\xe0\x02\xff\x40",
    ):
        if data == b"\xe0\x02\xff\x40":
            assert len(decode(data, 0)[0].items) == 255
            continue
        with pytest.raises(Malformed):
            decode(data, 0)


@settings(max_examples=examples(50))
@given(
    st.lists(st.none() | st.booleans() | st.integers(0, 2**32 - 1).map(typed.UInt), max_size=4),
    st.sampled_from([composite(ACCEPTED, []), composite(RELEASED, []), None, typed.UInt(0x45)]),
    st.integers(0, 2**32 - 1).map(typed.UInt),
    st.booleans(),
)
def test_what_is_read_by_its_bytes_says_the_same_as_when_it_is_decoded(
    fields: list[Any], state: Any, number: typed.UInt, is_single: bool
) -> None:
    """A disposition that settles one delivery as accepted, and whatever is none, is told apart; a transfer is read."""
    usual = [True, number, None if is_single else number, True, state]
    for items in (fields, [*fields, state], usual):
        body = performative(DISPOSITION, list(items))
        said = [*items, *[None] * 5][:5]
        is_accepted = said[:1] + said[3:] == [True, True, composite(ACCEPTED, [])] and len(items) == 5
        is_one = isinstance(said[1], typed.UInt) and said[2] in (None, said[1])
        found = accepted_delivery(body) if body.startswith(PLAIN_DISPOSITION) else -1
        assert found in ((said[1], -1) if is_accepted and is_one else (-1,))
        if items is usual and is_accepted and number:
            assert found == number
    transfer, offset = read_performative(
        transfer_performative(7, number, settled=is_single, more=not is_single) + b"payload"
    )
    assert transfer.items == [7, number, int(number).to_bytes(4, "big"), 0, is_single, not is_single]
    assert (transfer.code, offset) == (TRANSFER, 22)


@settings(max_examples=50)
@given(
    st.lists(st.sampled_from([None, None, False, False, True, typed.UInt(0), typed.UInt(9), b"x"]), max_size=4),
    st.integers(0, 2**32 - 1).map(typed.UInt),
)
def test_a_transfer_that_is_all_of_a_delivery_is_told_by_its_bytes(behind_tag: list[Any], number: typed.UInt) -> None:
    body = performative(TRANSFER, [typed.UInt(7), number, b"tag", *behind_tag]) + b"the payload"
    message_format, is_settled, has_more, other = [*behind_tag, *[None] * 4][:4]
    is_of_format_0 = message_format is None or (type(message_format) is typed.UInt and message_format == 0)
    is_whole = is_of_format_0 and all(flag is None or flag is False for flag in (is_settled, has_more))
    _, offset = read_performative(body)
    assert whole_transfer(body) == ((7, number, offset) if is_whole and other is None else None)
    for end in range(len(body)):  # what is cut short is told, too
        cut = whole_transfer(body[:end]) if end > 4 else None
        assert cut is None or end >= offset


NAMES = st.text(st.characters(codec="ascii"), max_size=12) | st.sampled_from(["a", "b", "x-a", "CC", "é", "n" * 130])


@given(st.lists(st.tuples(NAMES | SCALARS, SCALARS | VALUES), max_size=4), st.data())
def test_application_properties_become_headers_without_being_read(pairs: list[Any], drawn: st.DataObject) -> None:
    """To the bytes that reading and writing them gives; whatever stands there, and quickly what most messages have."""
    data = bytearray(encode(Described(ULong(0x74), Map(pairs))))
    is_changed = drawn.draw(st.booleans())
    if is_changed:
        data[drawn.draw(st.integers(0, len(data) - 1))] = drawn.draw(st.integers(0, 255))
    found = Sections()
    found.application_properties = bytes(data)
    try:
        headers = fields_of(found).headers or {}
    except (WireError, AttributeError):
        with suppress(Malformed):
            assert headers_of(found.application_properties) is None
        return
    said = headers_of(found.application_properties)
    assert said == encode_table(headers)[4:] or said is None
    names = [name for name, _ in pairs]
    are_usual = all(type(name) is str and len(name) < 100 and name.isascii() for name in names)
    if are_usual and not is_changed and not any(name in ("CC", "BCC") or name.startswith("x-") for name in names):
        are_scalars = all(not isinstance(value, (list, Map, Array, Described)) for _, value in pairs)
        assert (said is not None) == (are_scalars and len(set(names)) == len(names))
