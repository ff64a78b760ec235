"""The content headers of a stream's deliveries, which say the offset in ``x-stream-offset``.

Most entries of a publisher have the same properties, so what stands before and behind the offset is remembered by
these: they are decoded and encoded once, however many entries and consumers there are.
"""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Final

from amqp_broker.broker.queues.stream_start import OFFSET_ARGUMENT
from amqp_broker.wire.content import decode_properties, encode_content_header
from amqp_broker.wire.table import Table

REMEMBERED_MAX: Final = 64
REMEMBERED_BYTES_MAX: Final = 4_096
FLAGS_OFFSET: Final = 12  # class, weight and the body's size stand before the properties
VALUE_BYTES: Final = 8
EVERY_BYTE_DIFFERS: Final = 0x0101_0101_0101_0101  # from 0
_OFFSET: Final = struct.Struct(">q")


class OffsetHeaders:
    """Puts offsets into content headers."""

    __slots__ = ("_remembered",)

    def __init__(self) -> None:
        self._remembered: dict[bytes, tuple[bytes, bytes]] = {}  # by the properties: what stands around the offset

    def with_offset(self, header: bytes, offset: int) -> bytes:
        """The content header with an entry's offset."""
        properties = header[FLAGS_OFFSET:]
        around = self._remembered.get(properties)
        if around is None:
            around = _around(header)
            if len(self._remembered) >= REMEMBERED_MAX:
                self._remembered.clear()
            if len(properties) <= REMEMBERED_BYTES_MAX:
                self._remembered[properties] = around
        before, behind = around
        return b"%b%b%b%b" % (header[:FLAGS_OFFSET], before, _OFFSET.pack(offset), behind)


def _around(header: bytes) -> tuple[bytes, bytes]:
    """What stands before and behind the offset, from the properties on."""
    properties = decode_properties(header)
    encoded: list[bytes] = []
    for offset in (0, EVERY_BYTE_DIFFERS):
        headers: Table = {**(properties.headers or {}), OFFSET_ARGUMENT: offset}
        encoded.append(encode_content_header(0, replace(properties, headers=headers))[FLAGS_OFFSET:])
    one, other = encoded
    start = next(place for place in range(len(one)) if one[place] != other[place])
    return one[:start], one[start + VALUE_BYTES :]
