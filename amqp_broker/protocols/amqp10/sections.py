"""The sections of a message: where each begins in its bytes (AMQP 1.0, 3.2). Looks into none of them."""

from __future__ import annotations

from typing import Final

from amqp_broker.protocols.amqp10.decoding import Malformed, decode, descriptor_code, skip

HEADER: Final = 0x70
DELIVERY_ANNOTATIONS: Final = 0x71
MESSAGE_ANNOTATIONS: Final = 0x72
PROPERTIES: Final = 0x73
APPLICATION_PROPERTIES: Final = 0x74
DATA: Final = 0x75
SEQUENCE: Final = 0x76
VALUE: Final = 0x77
FOOTER: Final = 0x78
SMALL_DESCRIPTOR: Final = b"\0\x53"
_SMALL_DATA: Final = b"\0\x53\x75\xa0"
_LARGE_DATA: Final = b"\0\x53\x75\xb0"
ONE_BYTE_SIZES: Final = (0xA0, 0xC0, 0xC1)  # bytes, lists, maps
FOUR_BYTES_SIZES: Final = (0xB0, 0xD0, 0xD1)
BODIES: Final = (DATA, SEQUENCE, VALUE)
BODY_SECTIONS_MAX: Final = 10_000  # all of them are looked at before anybody else has a turn


class Sections:
    """One message's sections; each is the bytes that it came in, empty where it is not there.

    ``body`` are the bytes of all data sections together, or for another body its sections with the footer.
    ``body_offset`` is where the first of these sections begins in the message.
    """

    __slots__ = (
        "annotations",
        "application_properties",
        "body",
        "body_kind",
        "body_offset",
        "data_sizes",
        "delivery_annotations",
        "footer",
        "header",
        "properties",
    )

    def __init__(self) -> None:
        self.header = b""
        self.delivery_annotations = b""
        self.annotations = b""
        self.properties = b""
        self.application_properties = b""
        self.body_kind = DATA
        self.body = b""
        self.body_offset = 0
        self.data_sizes: list[int] = []  # of each data section, where there is more than one
        self.footer = b""

    @property
    def is_only_data(self) -> bool:
        """Whether its body is one data section, and nothing stands behind it."""
        return self.body_kind == DATA and not self.data_sizes and not self.footer


def split_sections(data: bytes) -> Sections:
    """Cut a message into its sections.

    Raises:
        Malformed: it is none.
    """
    found = Sections()
    offset, end = 0, len(data)
    before = 0
    while offset < end:
        code, behind = _section(data, offset)
        if code in BODIES:
            found.body_offset = offset
            if code == DATA and behind == end:  # as nearly always
                found.body = _data_of(data, offset, behind)
            else:
                _split_body(found, data, offset, code)
            return found
        if not HEADER <= code <= FOOTER:
            raise Malformed(f"unknown section {code:#04x}")
        if code <= before:
            raise Malformed("the sections of a message are in a wrong order")
        before = code
        part = data[offset:behind]
        offset = behind
        if code == HEADER:
            found.header = part
        elif code == DELIVERY_ANNOTATIONS:
            found.delivery_annotations = part
        elif code == MESSAGE_ANNOTATIONS:
            found.annotations = part
        elif code == PROPERTIES:
            found.properties = part
        elif code == APPLICATION_PROPERTIES:
            found.application_properties = part
        elif code == FOOTER:
            break
    raise Malformed("a message has no body")


def _section(data: bytes, offset: int) -> tuple[int, int]:
    """What describes the section at an offset, and where it ends; raises as ``split_sections`` does."""
    if data.startswith(SMALL_DESCRIPTOR, offset) and offset + 8 <= len(data):
        kind = data[offset + 3]
        if kind in ONE_BYTE_SIZES:
            behind = offset + 5 + data[offset + 4]
        elif kind in FOUR_BYTES_SIZES:
            behind = offset + 8 + int.from_bytes(data[offset + 4 : offset + 8], "big")
        else:
            behind = skip(data, offset)
        if behind <= len(data):
            return data[offset + 2], behind
    return descriptor_code(data, offset), skip(data, offset)


def _split_body(found: Sections, data: bytes, offset: int, kind: int) -> None:
    found.body_kind = kind
    start, end = offset, len(data)
    parts: list[bytes] = []
    count = 0
    while offset < end:
        code, behind = _section(data, offset)
        if code == FOOTER:
            if behind != end:
                raise Malformed("something stands behind the footer of a message")
            break
        if code != kind or (kind == VALUE and offset != start):
            raise Malformed("the body of a message has sections that do not go together")
        count += 1
        if count > BODY_SECTIONS_MAX:
            raise Malformed(f"the body of a message has more than {BODY_SECTIONS_MAX} sections")
        if kind == DATA:
            parts.append(_data_of(data, offset, behind))
        offset = behind
    if kind != DATA:
        found.body = data[start:]
        return
    found.body = parts[0] if len(parts) == 1 else b"".join(parts)
    if len(parts) > 1:
        found.data_sizes = [len(part) for part in parts]
    found.footer = data[offset:]


def _data_of(data: bytes, offset: int, end: int) -> bytes:
    """The bytes of a data section."""
    code = data[offset + 3] if data[offset + 1] == 0x53 else -1
    if code == 0xA0:
        return data[offset + 5 : end]
    if code == 0xB0:
        return data[offset + 8 : end]
    value, _ = decode(data, offset)
    content = value.value
    if type(content) is not bytes:
        raise Malformed("a data section holds no bytes")
    return bytes(content)


def only_data_offset(data: bytes, offset: int) -> int:
    """Where the bytes of the data section begin that stands at an offset and is the last of the message; -1 where
    something else stands there."""
    if data.startswith(_SMALL_DATA, offset) and len(data) > offset + 4:
        start = offset + 5
        size = data[offset + 4]
    elif data.startswith(_LARGE_DATA, offset):
        start = offset + 8
        size = int.from_bytes(data[offset + 4 : start], "big")
    else:
        return -1
    return start if start + size == len(data) else -1


def encode_data(body: bytes) -> bytes:
    """What stands before the bytes of a data section."""
    size = len(body)
    return bytes((0, 0x53, DATA, 0xA0, size)) if size < 256 else b"\0\x53\x75\xb0" + size.to_bytes(4, "big")
