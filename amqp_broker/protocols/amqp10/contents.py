"""The content of a published message of AMQP 1.0: a content header of AMQP 0-9-1, and what the broker needs of it.

What AMQP 0-9-1 has no place for is kept in one header of the message: the sections, as they came (``messages.py``).
"""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import Any, Final

from amqp_broker.broker.message import EXPIRATION_MS_MAX, Digest, digest_of_properties
from amqp_broker.protocols.amqp10 import sections
from amqp_broker.protocols.amqp10.application_properties import ValuePlace, headers_of
from amqp_broker.protocols.amqp10.compound import Map
from amqp_broker.protocols.amqp10.decoding import Malformed, decode
from amqp_broker.protocols.amqp10.encoding import encode
from amqp_broker.protocols.amqp10.likeness import (
    CORRELATION_ID,
    CREATION_TIME,
    MESSAGE_ID,
    UUID_URN,
    Own,
    Pieces,
    Place,
    entry_of,
    same_in_all,
)
from amqp_broker.protocols.amqp10.sections import Sections
from amqp_broker.protocols.amqp10.typed import Symbol, UInt, ULong, Uuid
from amqp_broker.protocols.amqp10.typed import Timestamp as Milliseconds
from amqp_broker.protocols.amqp10.values import to_field
from amqp_broker.wire.content import Properties, decode_properties, encode_content_header
from amqp_broker.wire.table import Table, encode_table

SECTIONS_HEADER: Final = "x-amqp-1.0-sections"
SECTIONS_ENTRY: Final = entry_of(SECTIONS_HEADER)
TYPE: Final = "amqp-1.0"  # of a message whose body is encoded in AMQP 1.0
MESSAGE_ID_HEADER: Final = "x-message-id"
CORRELATION_ID_HEADER: Final = "x-correlation-id"
DEATHS_HEADER: Final = "x-death"
FAILED_HEADER: Final = "x-amqp-1.0-delivery-count"  # of a message whose delivery has failed, as a client said
INTERNAL_HEADERS: Final = frozenset(
    {SECTIONS_HEADER, FAILED_HEADER, DEATHS_HEADER, MESSAGE_ID_HEADER, CORRELATION_ID_HEADER}
)
INTERNAL_ANNOTATIONS: Final = INTERNAL_HEADERS | {"x-exchange", "x-routing-key", "x-opt-deaths"}
OTHER_HEADERS: Final = ("CC", "BCC", SECTIONS_HEADER)  # which an application property of that name means nothing to
SHORT_STRING_BYTES_MAX: Final = 255
BEHIND_SMALL_DESCRIPTOR: Final = 3
PERSISTENT: Final = 2
SIZE_OFFSET: Final = 4  # of the body's size in a content header
FLAGS_OFFSET: Final = 12
DIGITS_MAX: Final = 20  # of a number that somebody else has written
REPLY_QUEUES: Final = "/queues/"
REMEMBERED_BYTES_MAX: Final = 4_096  # of the sections
REMEMBERED_HEADER_BYTES_MAX: Final = 16_384  # of what becomes of them, which may be a hundred times as much

# Where the fields of the properties section stand, with those of ``likeness.py``.
USER_ID: Final = 1
TO: Final = 2
SUBJECT: Final = 3
REPLY_TO: Final = 4
CONTENT_TYPE: Final = 6
CONTENT_ENCODING: Final = 7
GROUP_ID: Final = 10


class Content:
    """The content header that a published message gets, and what else is read from its sections.

    Args:
        header: the content header, of an empty body where nothing else is said.
        digest: what the broker needs of it, perhaps without its headers.
        to: the address that the message names.
        subject: that it names.
        reserved: a key of its annotations that no client may use; None where there is none.
    """

    __slots__ = (
        "_before_size",
        "_behind_size",
        "alike",
        "digest",
        "header",
        "headers",
        "headers_differ",
        "own",
        "reserved",
        "subject",
        "to",
    )

    def __init__(
        self, header: bytes, digest: Digest, to: str | None, subject: str | None, reserved: str | None
    ) -> None:
        self.header = header
        # Where others are known that are like it: what they have in common, the headers, encoded, and its own.
        self.alike: Alike | None = None
        self.headers = b""
        self.own: Own | None = None
        self.headers_differ = False  # it stands for messages with others, which are as long
        self._before_size = header[:SIZE_OFFSET]
        self._behind_size = header[FLAGS_OFFSET:]
        self.digest = digest
        self.to = to
        self.subject = subject
        self.reserved = reserved

    def whole_digest(self, header: bytes) -> Digest:
        """What the broker needs of a message, with its headers, which few ask for.

        Args:
            header: its content header.
        """
        if not self.headers or self.digest.headers is not None:
            return self.digest
        headers = dict(decode_properties(header).headers or {})
        del headers[SECTIONS_HEADER]  # what is kept says nothing to the broker
        digest = replace(self.digest, headers=headers)
        if not self.headers_differ:
            self.digest = digest
        return digest

    def header_for(self, body: bytes) -> bytes:
        """The content header of a body."""
        return self._before_size + len(body).to_bytes(8, "big") + self._behind_size


class Alike:
    """The content of messages that differ in nothing but the fields that each has of its own, and their application
    properties.

    Args:
        found: the sections of one of them.
    """

    def __init__(self, found: Sections) -> None:
        read = _Read(found)
        self._read = read
        fields = read.fields
        self.pieces = Pieces(fields, SECTIONS_ENTRY, found.annotations)
        self._same = same_in_all(fields)
        fields.headers = read.headers(b"")
        self._digest = replace(digest_of_properties(fields), headers=None)
        fields.headers = None
        self._before, self._behind = encode_table(read.first)[4:], encode_table(read.last)[4:]
        self._properties = b""
        self._of_properties = self._become(b"")

    def content(self, found: Sections, own: Own | None) -> Content:
        """What such a message becomes; raises as ``Translations.content`` does.

        Args:
            found: its sections.
            own: what it has of its own; None where that is nothing.
        """
        properties = found.application_properties
        if properties == self._properties:
            headers, digest = self._of_properties
        else:
            headers, digest = self._become(properties)
            if len(headers) <= REMEMBERED_HEADER_BYTES_MAX:  # the next message may have the same
                self._properties, self._of_properties = properties, (headers, digest)
        return self._content(found.properties, own or self._same, headers, properties, digest)

    def places(self, content: Content, found: Sections, values: list[ValuePlace]) -> list[Place]:
        """Where such messages differ, and the sections that are kept as they came.

        Args:
            content: what one of them becomes.
            found: its sections.
            values: of the application properties, where these differ.
        """
        own = content.own
        assert own is not None
        kept_bytes = len(found.properties) + len(found.application_properties)
        start = found.body_offset - kept_bytes
        places = self.pieces.places(own, start, len(content.headers), kept_bytes)
        start += len(found.properties)
        headers = self.pieces.headers_offset + len(self._before)
        for kind, first, end, offset in values:
            in_header = headers + offset
            places.append(Place(in_header, in_header + end - first, kind, start + first, start + end))
        return places

    def _content(self, section: bytes, own: Own, headers: bytes, properties: bytes, digest: Digest) -> Content:
        read = self._read
        header = self.pieces.header(section, own, headers, properties)
        content = Content(header, digest, read.to, read.subject, read.reserved)
        content.alike, content.headers, content.own = self, headers, own
        return content

    def _become(self, properties: bytes) -> tuple[bytes, Digest]:
        """What becomes of application properties: the headers, encoded, and what the broker needs; most often without
        the headers, which few ask for.
        """
        said = headers_of(properties)
        if said is not None:
            return self._before + said + self._behind, self._digest
        fields = self._read.fields
        fields.headers = self._read.headers(properties)
        encoded = encode_table(fields.headers)[4:] if fields.headers else b""
        digest = digest_of_properties(fields)
        fields.headers = None
        return encoded, digest


class _Read:
    """A message's sections, read, but for its application properties and its body."""

    def __init__(self, found: Sections) -> None:
        annotations = map_of(found.annotations)
        self.reserved = reserved_key(annotations)
        named = list_of(found.properties)
        self.fields = Properties()
        self.first: Table = {}
        self.last: Table = {}
        _read_header(self.fields, found.header, annotations)
        _read_properties(self.fields, self.first, named)
        read_annotations(self.last, annotations)
        if found.body_kind == sections.DATA:
            kind = annotations.get("x-basic-type")
            self.fields.type = kind if isinstance(kind, str) and _is_short(kind) else None
        else:
            self.fields.type = TYPE
        to, subject = _field(named, TO), _field(named, SUBJECT)
        self.to = to if isinstance(to, str) else None
        self.subject = subject if isinstance(subject, str) else None

    def headers(self, application_properties: bytes) -> Table | None:
        """The headers, of which these properties are a part; None where there are none."""
        headers = dict(self.first)
        for key, value in map_of(application_properties).pairs:
            if type(key) is str and _is_short(key) and key not in OTHER_HEADERS:
                headers[key] = to_field(value)
        headers.update(self.last)
        return headers or None


def fields_of(found: Sections) -> Properties:
    """The properties and headers that the sections of a message become; raises as ``Translations.content`` does."""
    read = _Read(found)
    read.fields.headers = read.headers(found.application_properties)
    return read.fields


def content_of(found: Sections) -> Content:
    """What the sections of a message become; raises as ``Translations.content`` does."""
    read = _Read(found)
    fields, headers, kept = read.fields, read.headers(found.application_properties), kept_of(found)
    fields.headers = {**(headers or {}), SECTIONS_HEADER: kept} if kept else headers
    header = encode_content_header(0, fields)
    fields.headers = headers  # what is kept says nothing to the broker
    return Content(header, digest_of_properties(fields), read.to, read.subject, read.reserved)


def kept_of(found: Sections) -> bytes:
    """The sections that are kept as they came; the sizes of several data sections stand behind them."""
    kept = found.annotations + found.properties + found.application_properties + found.footer
    return kept + encode([UInt(size) for size in found.data_sizes]) if found.data_sizes else kept


def _described(section: bytes) -> Any:
    """What a section describes; None where it is not there."""
    if not section:
        return None
    if section.startswith(sections.SMALL_DESCRIPTOR):  # it has been looked at
        return decode(section, BEHIND_SMALL_DESCRIPTOR, depth=1)[0]
    value, _ = decode(section, 0)
    return value.value


def map_of(section: bytes) -> Map:
    value = _described(section)
    if value is None:
        return Map([])
    if not isinstance(value, Map):
        raise Malformed("a section that is a map is none")
    return value


def list_of(section: bytes) -> list[Any]:
    value = _described(section)
    if value is None:
        return []
    if not isinstance(value, list):
        raise Malformed("a section that is a list is none")
    return value


def _field(items: list[Any], place: int) -> Any:
    return items[place] if place < len(items) else None


def _read_header(fields: Properties, section: bytes, annotations: Map) -> None:
    items = list_of(section)
    durable, priority, ttl_ms = _field(items, 0), _field(items, 1), _field(items, 2)
    if durable is None:
        durable = annotations.get("x-basic-delivery-mode") != 1
    fields.delivery_mode = PERSISTENT if durable is True else None
    if priority is None:
        priority = annotations.get("x-basic-priority")
    if isinstance(priority, int) and 0 <= priority <= 255:
        fields.priority = int(priority)
    if isinstance(ttl_ms, int) and ttl_ms >= 0:
        fields.expiration = str(min(int(ttl_ms), EXPIRATION_MS_MAX))
    elif ttl_ms is None:
        expiration = annotations.get("x-basic-expiration")
        if isinstance(expiration, str) and expiration.isascii() and expiration.isdigit():
            fields.expiration = str(min(int(expiration[:DIGITS_MAX]), EXPIRATION_MS_MAX))


def _read_properties(fields: Properties, headers: Table, items: list[Any]) -> None:
    if not items:
        return
    fields.message_id = _read_id(headers, MESSAGE_ID_HEADER, _field(items, MESSAGE_ID))
    fields.correlation_id = _read_id(headers, CORRELATION_ID_HEADER, _field(items, CORRELATION_ID))
    user_id = _field(items, USER_ID)
    if isinstance(user_id, bytes) and len(user_id) <= SHORT_STRING_BYTES_MAX:
        fields.user_id = user_id.decode("utf-8", "surrogateescape")
    reply_to = _short(_field(items, REPLY_TO))
    if reply_to is not None and reply_to.startswith(REPLY_QUEUES):
        reply_to = _reply_queue(reply_to)
    fields.reply_to = reply_to
    fields.content_type = _short(_field(items, CONTENT_TYPE))
    fields.content_encoding = _short(_field(items, CONTENT_ENCODING))
    created_ms = _field(items, CREATION_TIME)
    if isinstance(created_ms, Milliseconds) and created_ms >= 0:
        fields.timestamp = int(created_ms) // 1000
    fields.app_id = _short(_field(items, GROUP_ID))


def _reply_queue(address: str) -> str:
    """The queue that an address of version 2 names, as clients of AMQP 0-9-1 reply to it."""
    from urllib.parse import unquote

    return unquote(address[len(REPLY_QUEUES) :])


def _short(value: Any) -> str | None:
    return "".join((value, "")) if isinstance(value, str) and _is_short(value) else None


def _is_short(text: str) -> bool:
    return len(text) <= SHORT_STRING_BYTES_MAX and len(text.encode()) <= SHORT_STRING_BYTES_MAX


def _read_id(headers: Table, name: str, value: Any) -> str | None:
    """A message id as text, or in a header where it is none."""
    if isinstance(value, Uuid):
        return f"{UUID_URN}{uuid.UUID(bytes=bytes(value))}"
    if isinstance(value, ULong):
        return str(int(value))
    if isinstance(value, str):
        if _is_short(value):
            return "".join((value, ""))
        headers[name] = "".join((value, ""))
    elif isinstance(value, bytes):
        headers[name] = bytes(value)
    return None


def reserved_key(annotations: Map) -> str | None:
    """The first key that no client may use (AMQP 1.0, 3.2.10): none but symbols that begin with ``x-`` are free.

    Returns:
        the key, or how it begins; None where all are free.
    """
    for key, _ in annotations.pairs:
        if not (isinstance(key, Symbol) and key.startswith("x-")):
            return f"{key}"[:SHORT_STRING_BYTES_MAX]  # it is told and logged, and may be as long as a message
    return None


def read_annotations(headers: Table, annotations: Map) -> None:
    for key, value in annotations.pairs:
        if not (isinstance(key, Symbol) and key.startswith("x-") and _is_short(key)):
            continue
        if key == "x-cc":
            copies = to_field(value)
            if isinstance(copies, list):
                headers["CC"] = copies
        elif key not in INTERNAL_ANNOTATIONS and not key.startswith("x-basic-"):
            headers["".join((key, ""))] = to_field(value)
