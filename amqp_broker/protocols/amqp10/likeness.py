"""Messages that are alike but for what each has of its own: its message-id, its correlation-id, its creation-time.

Most publishers give each message an id. What the rest of its sections becomes is worked out once (``messages.py``);
here the own fields are found in the bytes of a properties section, put where they belong in the content header, and
found there again. The bytes are those that come of working it all out. What is written in no usual way is not found,
and costs more.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

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
from amqp_broker.wire.table import Table, encode_table

MESSAGE_ID: Final = 0  # the places of these fields in a properties section
CORRELATION_ID: Final = 5
CREATION_TIME: Final = 9
UUID_URN: Final = "urn:uuid:"
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


class Own:
    """The fields that a message has of its own, as a content header has them; empty where they are not there.

    Args:
        shape: the properties section without it.
        message_id: with its length, as the next.
        correlation_id: of the message.
        timestamp: seconds since 1970.
    """

    __slots__ = ("correlation_id", "message_id", "shape", "timestamp")

    def __init__(self, shape: bytes, message_id: bytes, correlation_id: bytes, timestamp: bytes) -> None:
        self.shape = shape
        self.message_id = message_id
        self.correlation_id = correlation_id
        self.timestamp = timestamp


def own_of(section: bytes) -> Own | None:
    """What a properties section has that is no other message's; None where there is nothing, or it cannot be told so.

    Args:
        section: with its descriptor; empty where there is none.
    """
    if not section.startswith(_SMALL_PROPERTIES):
        return None
    try:
        return _own_of(section)
    except (IndexError, UnicodeDecodeError):
        return None


def _own_of(section: bytes) -> Own | None:
    shape = [section[_FIELDS_OFFSET - 1 : _FIELDS_OFFSET]]
    found = {MESSAGE_ID: b"", CORRELATION_ID: b"", CREATION_TIME: b""}
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
            shape.append(section[alike_from : start + 1])
            alike_from = offset
    if len(shape) == 1 or offset != len(section) or section[4] != offset - 5:
        return None
    shape.append(section[alike_from:])
    return Own(b"".join(shape), found[MESSAGE_ID], found[CORRELATION_ID], found[CREATION_TIME])


def _behind(section: bytes, offset: int) -> int:
    """The offset behind the field that stands at another; that one's where it is none that messages are alike in."""
    kind = section[offset] >> 4
    if kind == 0xA:
        return offset + 2 + section[offset + 1]
    if kind == 0xB:
        return offset + 5 + int.from_bytes(section[offset + 1 : offset + 5], "big")
    return offset + 1 + WIDTHS[kind] if kind in WIDTHS else offset


def _own_field(section: bytes, place: int, code: int, start: int, end: int) -> bytes:
    """A field as the content header has it; empty for one that has another place there, or none."""
    value = section[start:end]
    if place == CREATION_TIME:
        is_time = code == _TIMESTAMP and not value[0] & _SIGN
        return (int.from_bytes(value, "big") // 1000).to_bytes(8, "big") if is_time else b""
    if code == _SHORT_TEXT:
        text = value[1:]
        if not text.isascii():
            text.decode()
        return value  # a short string has its length before it, too
    if code == _UUID:
        digits = value.hex()
        parts = (digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:])
        return encode_shortstr(UUID_URN + "-".join(parts))
    if code == _LARGE_NUMBER:
        return encode_shortstr(str(int.from_bytes(value, "big")))
    return b""


class Pieces:
    """The pieces of the content headers of messages that are alike, between which stands what each has of its own.

    Args:
        fields: of one of them.
        headers: of all of them; behind these comes what is kept of the sections.
        kept_entry: begins the header that it is kept in (``entry_of``).
        before: what is kept before the properties section.
        behind: what is kept behind it.
    """

    def __init__(self, fields: Properties, headers: Table, kept_entry: bytes, before: bytes, behind: bytes) -> None:
        beginning = Properties(content_type=fields.content_type, content_encoding=fields.content_encoding)
        flags = encode_content_header(0, replace(fields, headers={}))[:PROPERTIES_OFFSET]
        self._start = flags + _encoded(beginning)
        self._headers = encode_table(headers)[4:] + kept_entry
        self._kept_before = before
        self._kept_behind = behind
        self._kept_bytes = len(before) + len(behind)
        self._mode = _encoded(Properties(delivery_mode=fields.delivery_mode, priority=fields.priority))
        self._middle = _encoded(Properties(reply_to=fields.reply_to, expiration=fields.expiration))
        self._end = _encoded(Properties(type=fields.type, user_id=fields.user_id, app_id=fields.app_id))

    def header(self, section: bytes, own: Own) -> bytes:
        """The content header of an empty body.

        Args:
            section: the message's properties section.
            own: what it has that the others have not.
        """
        kept_bytes = self._kept_bytes + len(section)
        return b"".join(
            (
                self._start,
                (len(self._headers) + 4 + kept_bytes).to_bytes(4, "big"),
                self._headers,
                kept_bytes.to_bytes(4, "big"),
                self._kept_before,
                section,
                self._kept_behind,
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
        shape: what is left of it.
        bare: the sections between the annotations and the body.
    """

    __slots__ = ("bare", "shape")

    def __init__(self, shape: tuple[bytes, ...], bare: bytes) -> None:
        self.shape = shape
        self.bare = bare


def cut_header(header: bytes, kept_entry: bytes) -> Cut | None:
    """Take out of a content header what its message has of its own; None as from ``own_of``.

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
    kept_length = header.find(kept_entry, table) + len(kept_entry)
    start = kept_length + 4
    is_last = start + int.from_bytes(header[kept_length:start], "big") == table_end
    if not flags & FLAG_HEADERS or kept_length < table + len(kept_entry) or not is_last:
        return None
    properties = skip(header, start) if header.startswith(_ANNOTATIONS, start) else start
    behind = properties + 5 + header[properties + 4]
    if behind != table_end and not (
        header.startswith(_APPLICATION_PROPERTIES, behind) and skip(header, behind) == table_end
    ):
        return None
    own = own_of(header[properties:behind])
    if own is None:
        return None
    before = header[_FLAGS_OFFSET:table], header[table + 4 : kept_length], header[start:properties]
    kept = own.shape, header[behind:table_end]
    return Cut((*before, *kept, *_alike_behind(header, flags, table_end)), header[properties:table_end])


def _alike_behind(header: bytes, flags: int, offset: int) -> tuple[bytes, bytes, bytes]:
    """What stands behind the headers, without ids and the time."""
    start = offset
    offset += bool(flags & FLAG_DELIVERY_MODE) + bool(flags & FLAG_PRIORITY)
    mode = header[start:offset]
    if flags & FLAG_CORRELATION_ID:
        offset += 1 + header[offset]
    start = offset
    for flag in (FLAG_REPLY_TO, FLAG_EXPIRATION):
        if flags & flag:
            offset += 1 + header[offset]
    middle = header[start:offset]
    if flags & FLAG_MESSAGE_ID:
        offset += 1 + header[offset]
    if flags & FLAG_TIMESTAMP:
        offset += 8
    return mode, middle, header[offset:]


def _encoded(fields: Properties) -> bytes:
    return encode_content_header(0, fields)[PROPERTIES_OFFSET:]
