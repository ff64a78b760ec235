"""Messages of AMQP 1.0 that have gone through another protocol: what stands in the content header now has the word.

The sections of such a message are kept in a header (``messages.py``). A client of AMQP 0-9-1 may publish it anew, that
header with it, and change what it sees: headers and properties. Each field of the sections is as it came where the
message says still what it would have become (``contents.py``), and what the message says now where that differs. What
AMQP 0-9-1 has no place for stays.
"""

from __future__ import annotations

import uuid
from typing import Any, Final

from amqp_broker.protocols.amqp10 import sections
from amqp_broker.protocols.amqp10.compound import Described, Map
from amqp_broker.protocols.amqp10.contents import (
    CORRELATION_ID_HEADER,
    INTERNAL_HEADERS,
    MESSAGE_ID_HEADER,
    TYPE,
    fields_of,
    list_of,
    map_of,
)
from amqp_broker.protocols.amqp10.encoding import encode
from amqp_broker.protocols.amqp10.likeness import UUID_URN
from amqp_broker.protocols.amqp10.sections import Sections
from amqp_broker.protocols.amqp10.typed import Symbol, ULong, Uuid
from amqp_broker.protocols.amqp10.typed import Timestamp as Milliseconds
from amqp_broker.protocols.amqp10.values import from_field
from amqp_broker.wire.content import Properties
from amqp_broker.wire.table import FieldValue, Table, encode_table, plain_name

TIMESTAMP_MAX: Final = 0x7FFF_FFFF_FFFF_FFFF
TYPE_ANNOTATION: Final = "x-basic-type"
COPIES_ANNOTATION: Final = "x-cc"
OF_DEATHS: Final = ("x-first-death-", "x-last-death-")

Pairs = list[tuple[Any, Any]]


def new_annotations(fields: Properties) -> Map:
    """The annotations of a message that another protocol has brought."""
    pairs: Pairs = []
    for name, value in (fields.headers or {}).items():
        said = plain_name(name)
        if said.startswith("x-") and said not in INTERNAL_HEADERS and said.isascii():
            pairs.append((Symbol(said), from_field(value)))
        elif said == "CC" and isinstance(value, list):
            pairs.append((Symbol(COPIES_ANNOTATION), from_field(value)))
    if fields.type is not None and fields.type != TYPE:
        pairs.append((Symbol(TYPE_ANNOTATION), from_field(fields.type)))
    return Map(pairs)


def new_bare(fields: Properties) -> bytes:
    """The sections of properties and application properties of such a message."""
    pairs = _new_application_properties(fields.headers or {})
    return _properties_section(_items(fields)) + _application_properties_section(pairs)


def _new_application_properties(headers: Table) -> Pairs:
    pairs: Pairs = []
    for name, value in headers.items():
        said = plain_name(name)
        if not said.startswith("x-") and not isinstance(value, (list, dict)) and text_or_none(said) is not None:
            pairs.append((said, from_field(value)))
    return pairs


def changed(found: Sections, fields: Properties) -> tuple[Map, bytes]:
    """The annotations of a message, and its sections of properties and application properties.

    Args:
        found: its sections as they were kept.
        fields: of its content header.

    Raises:
        Malformed: a section is not what it should be.
    """
    before = fields_of(found)
    if fields.type == TYPE:  # which says what the body is, and what is kept does not
        before.type = TYPE
    properties = found.properties
    items, items_before = _items(fields), _items(before)
    if items != items_before:
        own = list_of(properties)
        own += [None] * (len(items) - len(own))
        for place, item in enumerate(items):
            if item != items_before[place]:
                own[place] = item
        properties = _properties_section(own)
    annotations = map_of(found.annotations)
    now, then = _headers(fields), _headers(before)
    names = {name for name in {**now, **then} if not (name in now and name in then and _is_same(now[name], then[name]))}
    if not names:
        return annotations, properties + found.application_properties
    headers: Table = {name: value for name, value in now.items() if name in names}
    said = _without(annotations.pairs, names) + new_annotations(Properties(headers=headers)).pairs
    pairs = _without(map_of(found.application_properties).pairs, names) + _new_application_properties(headers)
    return Map(said), properties + _application_properties_section(pairs)


def _headers(fields: Properties) -> Table:
    """The headers that clients give a message; those that are an annotation by another name, by that."""
    headers: Table = {}
    for name, value in (fields.headers or {}).items():
        said = plain_name(name)
        if said not in INTERNAL_HEADERS and not said.startswith(OF_DEATHS):
            headers.setdefault(COPIES_ANNOTATION if said == "CC" else said, value)
    if fields.type is not None and fields.type != TYPE:
        headers[TYPE_ANNOTATION] = fields.type
    return headers


def _is_same(one: FieldValue, other: FieldValue) -> bool:
    """Whether two headers say the same, whatever types of numbers and texts their clients use."""
    return isinstance(one, bool) == isinstance(other, bool) and (
        one == other
        or bool(from_field(one) == from_field(other))
        or encode_table({"": one}) == encode_table({"": other})  # what is no number equals not even itself
    )


def _without(pairs: Pairs, names: set[str]) -> Pairs:
    """The pairs of a map but for those of these names."""
    return [pair for pair in pairs if type(pair[0]) not in (str, Symbol) or pair[0] not in names]


def _items(fields: Properties) -> list[Any]:
    """The fields of a properties section."""
    headers: Table = fields.headers or {}
    return [
        _id(fields.message_id, headers.get(MESSAGE_ID_HEADER)),
        None if fields.user_id is None else fields.user_id.encode("utf-8", "surrogateescape"),
        None,
        None,
        text_or_none(fields.reply_to),
        _id(fields.correlation_id, headers.get(CORRELATION_ID_HEADER)),
        symbol_or_none(fields.content_type),
        symbol_or_none(fields.content_encoding),
        None,
        None if fields.timestamp is None else Milliseconds(min(fields.timestamp * 1000, TIMESTAMP_MAX)),
        text_or_none(fields.app_id),
    ]


def _properties_section(items: list[Any]) -> bytes:
    while items and items[-1] is None:
        items.pop()
    return encode(Described(ULong(sections.PROPERTIES), items)) if items else b""


def _application_properties_section(pairs: Pairs) -> bytes:
    return encode(Described(ULong(sections.APPLICATION_PROPERTIES), Map(pairs))) if pairs else b""


def text_or_none(value: str | None) -> str | None:
    """A string; None for what is no text in UTF-8."""
    if value is None:
        return None
    try:
        value.encode()
    except UnicodeEncodeError:
        return None
    return value


def symbol_or_none(value: str | None) -> Symbol | None:
    """A symbol; None for what is no ASCII."""
    return Symbol(value) if value is not None and value.isascii() else None


def _id(value: str | None, long_one: Any) -> Any:
    if value is None:
        return (
            text_or_none(long_one) if isinstance(long_one, str) else long_one if isinstance(long_one, bytes) else None
        )
    if value.startswith(UUID_URN):
        try:
            return Uuid(uuid.UUID(value[len(UUID_URN) :]).bytes)
        except ValueError:
            pass
    return text_or_none(value)
