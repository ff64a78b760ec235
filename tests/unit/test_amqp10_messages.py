"""What is remembered of messages that are alike gives the bytes that each of them would get by itself."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from amqp_broker.broker.message import Address, Message
from amqp_broker.protocols.amqp10.changes import changed
from amqp_broker.protocols.amqp10.compound import Array, Map
from amqp_broker.protocols.amqp10.contents import SECTIONS_ENTRY, SECTIONS_HEADER, content_of, map_of
from amqp_broker.protocols.amqp10.decoding import Malformed
from amqp_broker.protocols.amqp10.likeness import cut_header, own_of
from amqp_broker.protocols.amqp10.messages import Translations, outgoing_of
from amqp_broker.protocols.amqp10.reading import Reader
from amqp_broker.protocols.amqp10.sections import split_sections
from amqp_broker.protocols.amqp10.typed import Symbol, Timestamp, UByte, UInt, ULong, Uuid
from amqp_broker.wire.content import Properties, decode_properties, encode_content_header
from amqp_broker.wire.hot import encode_address
from amqp_broker.wire.table import RepeatedName
from tests.support.amqp10_client import message, section

HERE = Address("", "q", encode_address("", "q"))
BODY = b"body"
FIELDS: dict[str, Callable[[int], list[Any]]] = {
    "text": lambda n: [f"m-{n}"],
    "text of many bytes": lambda n: ["x" * (200 + n)],
    "text that is not ASCII": lambda n: ["é" * n],
    "all": lambda n: [
        *(Uuid(bytes((n,)) * 16), b"guest", "/queues/q", "s", "/queues/r", f"c-{n}", Symbol("text/plain")),
        *(Symbol("gzip"), Timestamp(9), Timestamp(n * 1000 + 5), "group"),
    ],
    "a number": lambda n: [ULong(2**40 + n), None, None, None, None, ULong(2**63 + n)],
    "nothing of its own": lambda n: [None, None, "/queues/q"],
    "no properties": lambda n: [],
}
OTHER_FIELDS: dict[str, Callable[[int], list[Any]]] = {
    "text that is too long": lambda n: ["x" * (300 + n)],
    "bytes": lambda n: [b"bytes %d" % n],
    "a small number": lambda n: [ULong(n)],
    "no such time": lambda n: [*[None] * 9, Timestamp(-1 - n)],
}
BEFORE = {
    "plain": b"",
    "headers": section(0x70, [True, UByte(4), UInt(60_000)])
    + section(0x72, Map([(Symbol("x-opt-a"), 1), (Symbol("x-cc"), ["r"]), (Symbol("x-basic-type"), "t")])),
}
BEHIND: dict[str, Callable[[int], bytes]] = {
    "plain": lambda n: b"",
    "properties": lambda n: section(0x74, Map([("a", "b"), ("n", 1)])),
    "usual properties that differ": lambda n: section(0x74, Map([("n", UInt(n)), ("a", "b" * n)])),
    "usual properties that are as long": lambda n: section(
        0x74, Map([("n", UInt(2**31 + n)), ("l", ULong(2**60 << min(n, 3))), ("t", "é" if n == 4 else f"t{n}")])
    ),
    "two kinds of properties": lambda n: section(0x74, Map([("kind", n % 2)])),
    "properties that differ": lambda n: section(
        0x74, Map([("x-opt-a", n // 2), (SECTIONS_HEADER, "made up"), ("a", "b" * n)])
    ),
}


@pytest.mark.parametrize("before", BEFORE.values(), ids=BEFORE)
@pytest.mark.parametrize("behind", BEHIND.values(), ids=BEHIND)
@pytest.mark.parametrize("fields", (FIELDS | OTHER_FIELDS).values(), ids=FIELDS | OTHER_FIELDS)
def test_messages_that_are_alike(
    before: bytes, behind: Callable[[int], bytes], fields: Callable[[int], list[Any]]
) -> None:
    translations = Translations()
    reader = Reader(translations)
    for number in range(6):  # the third is seen to be alike, from then on by what it has in common with the last
        items = fields(number)
        whole = message(BODY, before=before + (section(0x73, items) if items else b"") + behind(number))
        alone = content_of(split_sections(whole))
        content, header, body = reader.read(b"performative" + whole, 12)
        assert (header, body) == (alone.header_for(BODY), BODY)
        assert (content.whole_digest(header), content.to, content.subject) == (alone.digest, alone.to, alone.subject)
        sent = Message(HERE, header, BODY, True, 0)
        assert translations.outgoing(sent).encode(sent) == outgoing_of(sent.header, HERE).encode(sent)


@pytest.mark.parametrize("fields", [FIELDS[name] for name in ("text", "all", "a number")])
def test_what_a_message_has_of_its_own_is_found(fields: Callable[[int], list[Any]]) -> None:
    one, other = (section(0x73, fields(number)) for number in (1, 2))
    owns = [own_of(one), own_of(other)]
    headers = [content_of(split_sections(message(BODY, before=found))).header for found in (one, other)]
    cuts = [cut_header(header, SECTIONS_ENTRY) for header in headers]
    assert owns[0] is not None
    assert owns[1] is not None
    assert owns[0].shape == owns[1].shape
    assert cuts[0] is not None
    assert cuts[1] is not None
    assert cuts[0].shape == cuts[1].shape
    assert (cuts[0].bare(headers[0]), cuts[1].bare(headers[1])) == (one, other)


@pytest.mark.parametrize(
    ("message_id", "time_ms"),
    [(b"\xa1\x02\xff\xfe", 0), (b"\xa1\x02ab", -1), (b"\xa0\x02ab", 0)],
    ids=["no UTF-8", "before 1970", "bytes"],
)
def test_own_fields_that_are_only_as_long_as_those_before(message_id: bytes, time_ms: int) -> None:
    reader = Reader(Translations())
    for number in range(4):
        reader.read(_with_fields(b"\xa1\x02m%d" % number, number), 0)
    for whole in (_with_fields(message_id, time_ms), _with_fields(b"\xa1\x02m4", 4)):
        try:
            header = content_of(split_sections(whole)).header_for(BODY)
        except Malformed:
            with pytest.raises(Malformed):
                reader.read(whole, 0)
        else:
            assert reader.read(whole, 0)[1] == header


@pytest.mark.parametrize("text", [b"\xff\xfe", b"\xc3\xa9"], ids=["no UTF-8", "UTF-8"])
def test_application_properties_that_are_only_as_long_as_those_before(text: bytes) -> None:
    reader = Reader(Translations())
    for value in (b"t1", b"t2", b"t3", b"t4", text, b"t5"):
        whole = message(BODY, before=b"\0\x53\x74\xc1\x08\x02\xa1\x01a\xa1\x02" + value)
        try:
            header = content_of(split_sections(whole)).header_for(BODY)
        except Malformed:
            with pytest.raises(Malformed):
                reader.read(whole, 0)
        else:
            assert reader.read(whole, 0)[1] == header


def _with_fields(message_id: bytes, time_ms: int) -> bytes:
    """A message with these in its properties, the first encoded."""
    encoded = message_id + b"\x40" * 8 + b"\x83" + time_ms.to_bytes(8, "big", signed=True)
    return message(BODY, before=b"\0\x53\x73\xc0" + bytes((len(encoded) + 1, 10)) + encoded)


@pytest.mark.parametrize(
    "kept",
    [
        b"\0\x53\x73\xc0\x05\x02\xa1\x01%c\x56\x02",  # a boolean that is none
        b"\0\x53\x73\xc0\x03\x01\xa1\x09%c",
        b"\0\x53\x72\x40\0\x53\x73\xc0\x04\x01\xa1\x01%c",
        b"\0\x53\x72\xc1\x02\x02\x41\0\x53\x74\xc1\x07\x02\xa1\x01a\xa1\x01%c",  # what is said of it as well
        b"%c",
    ],
)
def test_sections_that_a_client_has_made_up_are_left_out(kept: bytes) -> None:
    translations = Translations()
    for number in range(3):
        headers: dict[str, Any] = {"a": chr(0x41 + number), SECTIONS_HEADER: kept % (0x41 + number)}
        header = encode_content_header(len(BODY), Properties(headers=headers))
        sent = Message(HERE, header, BODY, True, 0)
        assert translations.outgoing(sent).encode(sent) == outgoing_of(header, HERE).encode(sent)


@pytest.mark.parametrize("message_id", [b"\xff\xfe", b"m9"], ids=["no UTF-8", "changed"])
def test_own_fields_that_a_client_of_amqp_0_9_1_has_made_up(message_id: bytes) -> None:
    translations = Translations()
    for kept_id in (b"m1", b"m2", b"m3", message_id):  # the third is known by what it has in common with the second
        kept = b"\0\x53\x73\xc0\x05\x01\xa1\x02" + kept_id
        said = kept_id.decode("utf-8", "surrogateescape") if kept_id != b"m9" else "m0"
        header = encode_content_header(len(BODY), Properties(headers={SECTIONS_HEADER: kept}, message_id=said))
        sent = Message(HERE, header, BODY, True, 0)
        assert translations.outgoing(sent).encode(sent) == outgoing_of(header, HERE).encode(sent)


ANNOTATIONS: dict[str, Any] = {"x-a": UByte(1), "x-gone": 1, "x-basic-type": "t", "opt": 1, "x-cc": ["r"]}
KEPT = (
    section(0x72, Map([(Symbol(name), value) for name, value in ANNOTATIONS.items()])),
    section(
        0x73, ["m", None, "/queues/q", "subject", "/queues/r", Uuid(b"u" * 16), None, None, None, Timestamp(1_234)]
    ),
    section(0x74, Map([("n", UInt(1)), ("gone", 1), ("CC", "a")])),
)
FOUND = split_sections(message(BODY, before=b"".join(KEPT)))


def test_what_nobody_has_changed_is_as_it_was_sent() -> None:
    fields = decode_properties(content_of(FOUND).header)
    assert fields.headers is not None
    fields.headers = {**fields.headers, "n": 1, "x-a": 1}  # a client that has one type of numbers
    assert changed(FOUND, fields)[1] == KEPT[1] + KEPT[2]
    assert _annotations(fields) == ANNOTATIONS
    found = split_sections(message(BODY, before=section(0x74, Map([("no number", math.nan), ("n", 1)]))))
    assert changed(found, decode_properties(content_of(found).header))[1] == found.application_properties


def test_what_a_client_of_amqp_0_9_1_has_changed_has_the_word() -> None:
    fields = decode_properties(content_of(FOUND).header)
    headers = fields.headers
    assert headers is not None
    del headers["gone"], headers["x-gone"]
    headers |= {"n": 2, "x-a": "b", "new": True, "x-new": 3, "x-death": [], "list": [], "CC": ["s"]}
    fields.correlation_id, fields.timestamp, fields.app_id, fields.type = "c", None, "app", "other"
    assert _annotations(fields) == {"x-a": "b", "x-basic-type": "other", "opt": 1, "x-new": 3, "x-cc": ["s"]}
    sent = Message(HERE, encode_content_header(len(BODY), fields), BODY, True, 0)
    found = split_sections(Translations().outgoing(sent).encode(sent))
    properties = ["m", None, "/queues/q", "subject", "/queues/r", "c", None, None, None, None, "app"]
    assert found.properties == section(0x73, properties)
    assert dict(map_of(found.application_properties).pairs) == {"n": 2, "CC": "a", "new": True}


def _annotations(fields: Properties) -> dict[Any, Any]:
    """Those of a message that is sent to a client of AMQP 1.0, but for the broker's own."""
    sent = Message(HERE, encode_content_header(len(BODY), fields), BODY, True, 0)
    pairs = map_of(split_sections(Translations().outgoing(sent).encode(sent)).annotations).pairs
    return {name: value for name, value in pairs if name not in ("x-exchange", "x-routing-key")}


def test_application_properties_that_a_client_of_amqp_0_9_1_has_changed() -> None:
    translations = Translations()
    repeated = RepeatedName("k")
    for properties, said in (
        ({"k": 1}, {"k": 1, repeated: 1}),  # what is left is as of the next
        ({"a": 1}, {"a": 1, "k": 1}),
        ({"a": 2}, {"a": 2}),
        ({"a": 3}, {"a": 3}),  # known by what it has in common with the one before
        ({"a": 4}, {"a": 5}),
        ({"a": 6}, {"a": 6, "x-a": 1}),
    ):
        headers: dict[str, Any] = {**said, SECTIONS_HEADER: section(0x74, Map(list(properties.items())))}
        header = encode_content_header(len(BODY), Properties(headers=headers))
        sent = Message(HERE, header, BODY, True, 0)
        assert translations.outgoing(sent).encode(sent) == outgoing_of(header, HERE).encode(sent)


def test_sections_that_become_much_are_not_remembered() -> None:
    arrays = Map([(f"a{number}", Array(b"\x45", [[]] * 255)) for number in range(13)])  # of lists, which take no bytes
    found = split_sections(message(BODY, before=section(0x74, arrays)))
    translations = Translations()
    translations.content(found)
    tracemalloc.start()
    try:
        translations.content(found)
        remembered_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert remembered_bytes < 20_000
