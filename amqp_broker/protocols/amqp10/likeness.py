"""Messages that are alike but for what each has of its own: its message-id, its correlation-id, its creation-time.

Most publishers give each message an id. What the rest of its sections becomes is worked out once (``messages.py``);
here the own fields are found in the bytes of a properties section, put where they belong in the content header, and
found there again. The bytes are those that come of working it all out. What is written in no usual way is not found,
and costs more. Where the own fields of a message are as long as those of one before it, too, they stand at the same
places, and nothing is looked for (``Common``, ``Template``).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final, NamedTuple, TypeAlias

from amqp_broker.protocols.amqp10.application_properties import AS_IT_STANDS, TEXT, UNSIGNED, headers_of, is_utf8
from amqp_broker.protocols.amqp10.compound import WIDTHS
from amqp_broker.protocols.amqp10.decoding import Malformed, skip
from amqp_broker.wire.content import (
    FLAG_CONTENT_ENCODING,
    FLAG_CONTENT_TYPE,
    FLAG_CORRELATION_ID,
    FLAG_DELIVERY_MODE,
    FLAG_EXPIRATION,
    FLAG_HEADERS,
    FLAG_MESSAGE_ID,
    FLAG_PRIORITY,
    FLAG_REPLY_TO,
    FLAG_TIMESTAMP,
    PROPERTIES_OFFSET,
    Properties,
    encode_content_header,
)
from amqp_broker.wire.strings import encode_shortstr

MESSAGE_ID: Final = 0  # the places of these fields in a properties section
CORRELATION_ID: Final = 5
CREATION_TIME: Final = 9
UUID_URN: Final = "urn:uuid:"
_UUID_START: Final = chr(len(UUID_URN) + 36) + UUID_URN  # a short string of a UUID's 36 characters behind that
_ANNOTATIONS: Final = b"\0\x53\x72"
_SMALL_PROPERTIES: Final = b"\0\x53\x73\xc0"
_APPLICATION_PROPERTIES: Final = b"\0\x53\x74"
_FLAGS_OFFSET: Final = PROPERTIES_OFFSET - 2
_FIELDS_OFFSET: Final = 6
_NULL: Final = 0x40
_SHORT_TEXT: Final = 0xA1
_UUID: Final = 0x98
_LARGE_NUMBER: Final = 0x80
_TIMESTAMP: Final = 0x83
_SIGN: Final = 0x80  # in the first byte of a number
_HEADERS: Final = 1  # the places of these in the shape of a content header
_ANNOTATIONS_PLACE: Final = 2
_PROPERTIES: Final = 4
_SAID_TWICE: Final = b"\0"  # instead of application properties; no section is that
_SIZE_OFFSET: Final = 4  # of the body's size in a content header
_NUMBER: Final = 3  # kinds of bytes (``application_properties.py``) that a content header has as text,
_UUID_BYTES: Final = 4
_TIME: Final = 5  # or in seconds

_KINDS: Final = {_SHORT_TEXT: TEXT, _UUID: _UUID_BYTES, _LARGE_NUMBER: _NUMBER}  # of ids

Field: TypeAlias = tuple[int, int, int, int]  # its place among the fields, its type, where its value begins and ends
Gap: TypeAlias = tuple[int, int]  # where it begins, and where it ends


class Place(NamedTuple):
    """The place of bytes that a message has of its own, in its content header and in its sections."""

    start: int
    end: int
    kind: int
    source_start: int
    source_end: int


class Own:
    """The fields that a message has of its own, as a content header has them; empty where they are not there.

    Args:
        shape: the properties section without it.
        message_id: with its length, as the next.
        correlation_id: of the message.
        timestamp: seconds since 1970.
        fields: where they stand in the properties section.
    """

    __slots__ = ("correlation_id", "fields", "message_id", "shape", "timestamp")

    def __init__(
        self, shape: bytes, message_id: bytes, correlation_id: bytes, timestamp: bytes, fields: list[Field]
    ) -> None:
        self.shape = shape
        self.message_id = message_id
        self.correlation_id = correlation_id
        self.timestamp = timestamp
        self.fields = fields

    def gaps(self, start: int) -> list[Gap]:
        """Where the values stand that others have as long, in what holds the properties section at an offset."""
        return [(start + first + (code == _SHORT_TEXT), start + end) for _, code, first, end in self.fields]


class Common:
    """The bytes that messages have in common that are alike, and whose own fields are as long: all between these.

    Args:
        data: of one of them.
        gaps: where its own fields stand there, in their order.
    """

    __slots__ = ("_stretches", "size")

    def __init__(self, data: bytes, gaps: list[Gap]) -> None:
        self.size = len(data)
        self._stretches: list[tuple[int, bytes]] = []
        behind = 0
        for start, end in gaps:
            self._stretches.append((behind, data[behind:start]))
            behind = end
        self._stretches.append((behind, data[behind:]))

    def is_in(self, data: bytes, start: int) -> bool:
        """Whether it stands at an offset."""
        for offset, stretch in self._stretches:  # noqa: SIM110 (a generator costs more than all of them)
            if not data.startswith(stretch, start + offset):
                return False
        return True


def same_in_all(fields: Properties) -> Own:
    """What messages that have nothing of their own have where others have that."""
    parts = (
        Properties(message_id=fields.message_id),
        Properties(correlation_id=fields.correlation_id),
        Properties(timestamp=fields.timestamp),
    )
    message_id, correlation_id, timestamp = [_encoded(part) for part in parts]
    return Own(b"", message_id, correlation_id, timestamp, [])


def own_of(section: bytes) -> Own | None:
    """What a properties section has that is no other message's; None where there is nothing, or it cannot be told so.

    Args:
        section: with its descriptor; empty where there is none.
    """
    if not section.startswith(_SMALL_PROPERTIES):
        return None
    try:
        return _own_of(section)
    except IndexError:
        return None


def _own_of(section: bytes) -> Own | None:
    shape = [section[_FIELDS_OFFSET - 1 : _FIELDS_OFFSET]]
    found = {MESSAGE_ID: b"", CORRELATION_ID: b"", CREATION_TIME: b""}
    fields: list[Field] = []
    offset = alike_from = _FIELDS_OFFSET
    for place in range(section[_FIELDS_OFFSET - 1]):
        code = section[offset]
        start = offset
        offset = _behind(section, offset)
        if place in found and code != _NULL:
            own = _own_field(section, place, code, start + 1, offset)
            if not own:
                return None
            found[place] = own
            fields.append((place, code, start + 1, offset))
            shape.append(section[alike_from : start + 1])
            alike_from = offset
    if len(shape) == 1 or offset != len(section) or section[4] != offset - 5:
        return None
    shape.append(section[alike_from:])
    return Own(b"".join(shape), found[MESSAGE_ID], found[CORRELATION_ID], found[CREATION_TIME], fields)


def _behind(section: bytes, offset: int) -> int:
    """The offset behind the field that stands at another; that one's where it is none that messages are alike in."""
    kind = section[offset] >> 4
    if kind == 0xA:
        return offset + 2 + section[offset + 1]
    if kind == 0xB:
        return offset + 5 + int.from_bytes(section[offset + 1 : offset + 5], "big")
    return offset + 1 + WIDTHS[kind] if kind in WIDTHS else offset


def _own_field(data: bytes, place: int, code: int, start: int, end: int) -> bytes:
    """A field as the content header has it; empty for one that has another place there, or none."""
    value = data[start:end]
    if place == CREATION_TIME:
        return _in_header(_TIME, value) if code == _TIMESTAMP else b""
    if code == _SHORT_TEXT:
        return value if is_utf8(value[1:]) else b""  # a short string has its length before it, too
    kind = _KINDS.get(code)
    return b"" if kind is None else _in_header(kind, value)


def _in_header(kind: int, value: bytes) -> bytes:
    """Bytes that a message has of its own as the content header has them; empty where they cannot stand there."""
    if kind == TEXT:
        return value if value.isascii() or is_utf8(value) else b""
    if kind == _TIME:
        return b"" if value[0] & _SIGN else (int.from_bytes(value, "big") // 1000).to_bytes(8, "big")
    if kind == UNSIGNED:
        return b"" if value[0] & _SIGN else value
    if kind == _NUMBER:
        text = b"%d" % int.from_bytes(value, "big")
        return bytes((len(text),)) + text
    digits = value.hex()
    return f"{_UUID_START}{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}".encode()


class Template:
    """The content headers of messages that are alike, and in which what each has of its own is as long.

    Args:
        header: of one of them.
        places: where that stands.
    """

    __slots__ = ("_parts", "_steps")

    def __init__(self, header: bytes, places: list[Place]) -> None:
        # What stands before each place and what comes there, by turns; the first place is that of the body's size.
        parts = [header[:_SIZE_OFFSET], b""]
        self._steps: list[tuple[int, int, int, int]] = []  # the number of what comes there, and what that is
        offset = _FLAGS_OFFSET
        for start, end, kind, source_start, source_end in sorted(places):
            parts += (header[offset:start], b"")
            self._steps.append((len(parts) - 1, kind, source_start, source_end))
            offset = end
        parts.append(header[offset:])
        self._parts = parts

    def header(self, data: bytes, start: int, body_bytes: int) -> bytes | None:
        """The content header of another one; None where something of its own cannot stand there.

        Args:
            data: holds its sections.
            start: where they begin.
            body_bytes: of its body.
        """
        parts = self._parts.copy()
        parts[1] = body_bytes.to_bytes(8, "big")
        for number, kind, source_start, source_end in self._steps:
            value = data[start + source_start : start + source_end]
            if kind != AS_IT_STANDS:
                value = _in_header(kind, value)
                if not value:
                    return None
            parts[number] = value
        return b"".join(parts)


class Pieces:
    """The pieces of the content headers of messages that are alike, between which stands what each has of its own.

    Args:
        fields: of one of them.
        kept_entry: begins the header that the sections are kept in (``entry_of``).
        before: what is kept before the properties section.
    """

    def __init__(self, fields: Properties, kept_entry: bytes, before: bytes) -> None:
        beginning = Properties(content_type=fields.content_type, content_encoding=fields.content_encoding)
        flags = encode_content_header(0, replace(fields, headers={}))[:PROPERTIES_OFFSET]
        start = flags + _encoded(beginning)
        self._before_size = start[:_SIZE_OFFSET]
        self._behind_size = start[_FLAGS_OFFSET:]
        self.headers_offset = len(start) + 4  # in such a header
        self._kept_entry = kept_entry
        self._kept_before = before
        self._mode = _encoded(Properties(delivery_mode=fields.delivery_mode, priority=fields.priority))
        self._middle = _encoded(Properties(reply_to=fields.reply_to, expiration=fields.expiration))
        self._end = _encoded(Properties(type=fields.type, user_id=fields.user_id, app_id=fields.app_id))

    def places(self, own: Own, start: int, headers_bytes: int, kept_bytes: int) -> list[Place]:
        """Where in the content header of a message stands what it has of its own, and the sections from its properties
        section on.

        Args:
            start: where that begins in the message.
            headers_bytes: of its headers, encoded, without the table's length.
            kept_bytes: of these sections.
        """
        kept = self.headers_offset + headers_bytes + len(self._kept_entry) + 4 + len(self._kept_before)
        end = kept + kept_bytes
        correlation_id = end + len(self._mode)
        message_id = correlation_id + len(own.correlation_id) + len(self._middle)
        timestamp = message_id + len(own.message_id)
        found = {
            CORRELATION_ID: (correlation_id, own.correlation_id),
            MESSAGE_ID: (message_id, own.message_id),
            CREATION_TIME: (timestamp, own.timestamp),
        }
        places = [Place(kept, end, AS_IT_STANDS, start, start + kept_bytes)]
        for place, code, first, behind in own.fields:
            offset, field = found[place]
            kind = _TIME if place == CREATION_TIME else _KINDS[code]
            skipped = int(kind == TEXT)  # the length before it, which is the same in all
            if first + skipped < behind:
                source_start = start + first + skipped
                places.append(Place(offset + skipped, offset + len(field), kind, source_start, start + behind))
        return places

    def header(self, section: bytes, own: Own, headers: bytes, behind: bytes) -> bytes:
        """The content header of a message with an empty body.

        Args:
            section: its properties section.
            own: what it has that the others have not.
            headers: its headers, encoded, without the table's length; behind these comes what is kept of the sections.
            behind: what is kept behind the properties section.
        """
        kept_bytes = len(self._kept_before) + len(section) + len(behind)
        return b"".join(
            (
                self._before_size,
                bytes(8),
                self._behind_size,
                (len(headers) + len(self._kept_entry) + 4 + kept_bytes).to_bytes(4, "big"),
                headers,
                self._kept_entry,
                kept_bytes.to_bytes(4, "big"),
                self._kept_before,
                section,
                behind,
                self._mode,
                own.correlation_id,
                self._middle,
                own.message_id,
                own.timestamp,
                self._end,
            )
        )


def entry_of(name: str) -> bytes:
    """What stands before the length of a header that holds bytes."""
    return encode_shortstr(name) + b"x"


class Cut:
    """The content header of a message, without what it has of its own.

    Args:
        shape: what is left of it, without application properties as well, where the headers say the same as they do.
        bare_start: where the sections between the annotations and the body begin,
        bare_end: and where they end.
        own: what was taken out of them.
        places: where that stands behind the headers, by its place in a properties section.
    """

    __slots__ = ("_twice", "bare_end", "bare_start", "gaps", "shape")

    def __init__(
        self, shape: tuple[bytes, ...], bare_start: int, bare_end: int, own: Own, places: dict[int, Gap]
    ) -> None:
        self.shape = shape
        self.bare_start = bare_start
        self.bare_end = bare_end
        self._twice: list[tuple[int, int, int, int, int, int]] = [
            (place, code, bare_start + first, bare_start + end, *places.get(place, (0, 0)))
            for place, code, first, end in own.fields
        ]
        self.gaps = own.gaps(bare_start) + list(places.values())

    @property
    def headers_of_annotations(self) -> bytes | None:
        """What the headers say beside the application properties, encoded; None where these are in the shape."""
        return self.shape[_HEADERS] if self.shape[_PROPERTIES] == _SAID_TWICE else None

    @property
    def annotations(self) -> bytes:
        """Their section."""
        return self.shape[_ANNOTATIONS_PLACE]

    def bare(self, header: bytes) -> bytes:
        """These sections, of a message whose own fields stand at the same places."""
        return header[self.bare_start : self.bare_end]

    def is_own_twice(self, header: bytes) -> bool:
        """Whether such a message has the same of its own there and behind the headers: nobody has changed it."""
        for place, code, first, end, start, behind in self._twice:
            if code == _SHORT_TEXT:
                text = header[first:end]
                if header[start:behind] != text or not (text.isascii() or is_utf8(text[1:])):
                    return False
            elif header[start:behind] != _own_field(header, place, code, first, end):
                return False
        return True


def cut_header(header: bytes, kept_entry: bytes) -> Cut | None:
    """Take out of a content header what its message has of its own; None as from ``own_of``, and where somebody has
    changed it.

    Args:
        header: of a message that may be anybody's.
        kept_entry: begins the header that the sections are kept in (``entry_of``).
    """
    try:
        return _cut(header, kept_entry)
    except (IndexError, Malformed):
        return None


def _cut(header: bytes, kept_entry: bytes) -> Cut | None:
    flags = int.from_bytes(header[_FLAGS_OFFSET:PROPERTIES_OFFSET], "big")
    table = PROPERTIES_OFFSET
    if flags & FLAG_CONTENT_TYPE:
        table += 1 + header[table]
    if flags & FLAG_CONTENT_ENCODING:
        table += 1 + header[table]
    table_end = table + 4 + int.from_bytes(header[table : table + 4], "big")
    kept_name = header.find(kept_entry, table)
    kept_length = kept_name + len(kept_entry)
    start = kept_length + 4
    is_last = start + int.from_bytes(header[kept_length:start], "big") == table_end
    if not flags & FLAG_HEADERS or kept_name < table or not is_last:
        return None
    properties = skip(header, start) if header.startswith(_ANNOTATIONS, start) else start
    behind = properties
    if header.startswith(_SMALL_PROPERTIES, properties):
        behind += 5 + header[properties + 4]
    if behind != table_end and not (
        header.startswith(_APPLICATION_PROPERTIES, behind) and skip(header, behind) == table_end
    ):
        return None
    headers, application_properties = header[table + 4 : kept_name], header[behind:table_end]
    said = headers_of(application_properties) or b""
    own = own_of(header[properties:behind])
    if said and headers.startswith(said):  # nobody has changed them
        headers, application_properties = headers[len(said) :], _SAID_TWICE
        own = own or Own(header[properties:behind], b"", b"", b"", [])
    if own is None:
        return None
    places: dict[int, Gap] = {}
    before = header[_FLAGS_OFFSET:table], headers, header[start:properties], own.shape, application_properties
    shape = (*before, *_alike_behind(header, flags, table_end, places))
    cut = Cut(shape, properties, table_end, own, places)
    return cut if len(places) == len(own.fields) and cut.is_own_twice(header) else None


def _alike_behind(header: bytes, flags: int, offset: int, places: dict[int, Gap]) -> tuple[bytes, bytes, bytes]:
    """What stands behind the headers, without ids and the time, whose places are noted."""
    start = offset
    offset += bool(flags & FLAG_DELIVERY_MODE) + bool(flags & FLAG_PRIORITY)
    mode = header[start:offset]
    if flags & FLAG_CORRELATION_ID:
        places[CORRELATION_ID] = offset, offset + 1 + header[offset]
        offset += 1 + header[offset]
    start = offset
    for flag in (FLAG_REPLY_TO, FLAG_EXPIRATION):
        if flags & flag:
            offset += 1 + header[offset]
    middle = header[start:offset]
    if flags & FLAG_MESSAGE_ID:
        places[MESSAGE_ID] = offset, offset + 1 + header[offset]
        offset += 1 + header[offset]
    if flags & FLAG_TIMESTAMP:
        places[CREATION_TIME] = offset, offset + 8
        offset += 8
    return mode, middle, header[offset:]


def _encoded(fields: Properties) -> bytes:
    return encode_content_header(0, fields)[PROPERTIES_OFFSET:]
