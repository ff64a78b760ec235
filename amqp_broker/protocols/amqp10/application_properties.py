"""Application properties as headers of AMQP 0-9-1, from bytes to bytes.

Messages of a publisher have the same application properties, and each has other values in them, so that what becomes of
them is worked out for each message. Most values stand in a table as they stand here, behind another type code. What is
written is what comes of reading the section and writing a table of it (``contents.py``), at a fraction of the cost.
Where a message's values are as long as those of the one before it, too, they stand at the same places, and nothing is
looked for (``likeness.py``).
"""

from __future__ import annotations

from typing import Final, NamedTuple

from amqp_broker.protocols.amqp10.decoding import decode
from amqp_broker.protocols.amqp10.values import to_field
from amqp_broker.wire.table import encode_table

_SMALL_MAP: Final = b"\0\x53\x74\xc1"
_LARGE_MAP: Final = b"\0\x53\x74\xd1"
_SHORT_TEXT: Final = 0xA1
_SIGN: Final = 0x80  # in the first byte of a number
_NOT_HEADERS: Final = (b"\x02CC", b"\x03BCC")  # as ``OTHER_HEADERS`` says

# What stands in a table before a value's bytes, by its constructor, and how many bytes these are; of a value of
# variable width, those of its length.
_FIELDS: Final[dict[int, tuple[bytes, int]]] = {
    0x40: (b"V", 0),  # null
    0x41: (b"t\1", 0),  # true
    0x42: (b"t\0", 0),  # false
    0x43: (b"i\0\0\0\0", 0),  # a uint of 0
    0x44: (b"l\0\0\0\0\0\0\0\0", 0),  # a ulong of 0
    0x50: (b"B", 1),  # ubyte
    0x51: (b"b", 1),  # byte
    0x52: (b"i\0\0\0", 1),  # a uint of one byte
    0x53: (b"l\0\0\0\0\0\0\0", 1),  # a ulong of one byte
    0x54: (b"I\0\0\0", 1),  # an int of one byte, and no sign
    0x55: (b"l\0\0\0\0\0\0\0", 1),  # the same of a long
    0x60: (b"u", 2),  # ushort
    0x61: (b"s", 2),  # short
    0x70: (b"i", 4),  # uint
    0x71: (b"I", 4),  # int
    0x80: (b"l", 8),  # ulong, up to what fits into a long
    0x81: (b"l", 8),  # long
    0x82: (b"d", 8),  # double
    0xA0: (b"S\0\0\0", 1),  # binary
    0xA1: (b"S\0\0\0", 1),  # string
    0xB0: (b"S", 4),
    0xB1: (b"S", 4),
}
_UNSIGNED: Final = (0x54, 0x55, 0x80)  # of these, those whose first bit is not set
_SCALARS_FROM: Final = 0x50
_SCALARS_TO: Final = 0xB3
_VARIABLE_FROM: Final = 0xA0  # the values of variable width

AS_IT_STANDS: Final = 0  # the kinds of bytes that a message has of its own: they are the same in a content header
TEXT: Final = 1  # so are these, if they are UTF-8
UNSIGNED: Final = 2  # if the first bit is not set


class ValuePlace(NamedTuple):
    """The place of a value whose bytes are the same among the headers."""

    kind: int
    start: int  # in the section
    end: int
    header_start: int  # in the headers, encoded


def headers_of(section: bytes) -> bytes | None:
    """What the fields are in a table, without its length.

    Args:
        section: with its descriptor; empty where there is none.

    Returns:
        None where the section is none, or holds what few have: names that headers of another meaning have, or that are
        no ASCII; lists and the like.

    Raises:
        Malformed: a value is none.
    """
    try:
        return _headers_of(section, None)
    except (IndexError, UnicodeDecodeError):
        return None


def values_of(section: bytes) -> list[ValuePlace] | None:
    """The values of a section, in whose places others can be put that are as long; None as of ``headers_of``."""
    values: list[ValuePlace] = []
    try:
        headers = _headers_of(section, values)
    except (IndexError, UnicodeDecodeError):
        return None
    return None if headers is None else values


def is_utf8(text: bytes) -> bool:
    """Whether these bytes are text."""
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _headers_of(section: bytes, values: list[ValuePlace] | None) -> bytes | None:
    """The same, if all of it is there; the values that are the same bytes in the table are noted, if wanted."""
    if not section:
        return b""
    offset, count = _beginning(section)
    if not offset:
        return None
    end = len(section)
    parts: list[bytes] = []
    parts_bytes = 0
    names: set[bytes] = set()
    while offset < end:
        if section[offset] != _SHORT_TEXT:
            return None
        start = offset + 1
        offset = start + 1 + section[start]
        name = section[start:offset]  # with its length, as a table has it
        if name in names or not name.isascii() or name.startswith(b"x-", 1) or name in _NOT_HEADERS:
            return None
        names.add(name)
        code = section[offset]
        start = offset + 1
        field = _FIELDS.get(code)
        if field is None or (code in _UNSIGNED and section[start] & _SIGN):
            if not _SCALARS_FROM <= code <= _SCALARS_TO:
                return None
            value, offset = decode(section, offset, depth=2)
            parts.append(encode_table({name[1:].decode(): to_field(value)})[4:])
            parts_bytes += len(parts[-1])
            continue
        before, width = field
        value_start = start
        offset = start + width
        if code >= _VARIABLE_FROM:
            value_start = offset
            offset += int.from_bytes(section[start:offset], "big")
            text = section[value_start:offset]
            if code & 1 and not text.isascii():
                text.decode()
        parts += (name, before, section[start:offset])
        parts_bytes += len(name) + len(before) + offset - start
        if values is not None and value_start < offset:
            kind = TEXT if code >= _VARIABLE_FROM and code & 1 else UNSIGNED if code in _UNSIGNED else AS_IT_STANDS
            values.append(ValuePlace(kind, value_start, offset, parts_bytes - (offset - value_start)))
    return b"".join(parts) if offset == end and len(names) * 2 == count else None


def _beginning(section: bytes) -> tuple[int, int]:
    """Where the first name of a map stands, and how many names and values there are; 0 where it is none."""
    if section.startswith(_SMALL_MAP) and section[4] == len(section) - 5:
        return 6, section[5]
    if section.startswith(_LARGE_MAP) and int.from_bytes(section[4:8], "big") == len(section) - 8:
        return 12, int.from_bytes(section[8:12], "big")
    return 0, 0
