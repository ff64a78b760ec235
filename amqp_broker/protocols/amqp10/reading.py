"""The messages that a link's client publishes, read.

Most are as the last one was but for their bodies, or for what each has of its own as well (``likeness.py``): those are
not looked into. What any message becomes is in ``contents.py``.
"""

from __future__ import annotations

from amqp_broker.protocols.amqp10.contents import (
    REMEMBERED_BYTES_MAX,
    REMEMBERED_HEADER_BYTES_MAX,
    Content,
    map_of,
    reserved_key,
)
from amqp_broker.protocols.amqp10.errors import DECODE_ERROR, ProtocolError
from amqp_broker.protocols.amqp10.likeness import Common
from amqp_broker.protocols.amqp10.messages import Translations
from amqp_broker.protocols.amqp10.sections import only_data_offset, split_sections


class Reader:
    """Reads the messages of one link.

    Args:
        translations: of its connection.
    """

    def __init__(self, translations: Translations) -> None:
        self._translations = translations
        self._last: Content | None = None
        self._last_bytes = b""  # what it had before its body
        self._common: Common | None = None  # what others have before theirs that are like it
        self._last_properties = b""
        self._properties_start = 0
        self._properties_end = 0

    def read(self, data: bytes, start: int) -> tuple[Content, bytes, bytes]:
        """What a message becomes: what it has in common with others, its content header, and its body.

        Args:
            data: ends with it.
            start: where it begins.

        Raises:
            Malformed: it is no message.
            WireError: it holds what cannot be said in AMQP 0-9-1.
            AmqpError: it claims something that cannot be.
            ProtocolError: an annotation has a key that is reserved.
        """
        last = self._last
        if last is not None:
            if self._common is not None:
                found = self._read_like(last, self._common, data, start)
                if found is not None:
                    return found
            elif data.startswith(self._last_bytes, start):
                body_start = only_data_offset(data, start + len(self._last_bytes))
                if body_start >= 0:
                    body = data[body_start:]
                    return last, last.header_for(body), body
        return self._read(data[start:])

    def _read_like(self, last: Content, common: Common, data: bytes, start: int) -> tuple[Content, bytes, bytes] | None:
        """The same of a message like the last; None if it is none."""
        pieces, own = last.pieces, last.own
        if pieces is None or own is None or not common.is_in(data, start):
            return None
        body_start = only_data_offset(data, start + common.size)
        if body_start < 0:
            return None
        own = own.in_place_of(data, start + self._properties_start)
        if own is None:
            return None
        body = data[body_start:]
        section = data[start + self._properties_start : start + self._properties_end]
        behind = self._last_bytes[self._properties_end :]
        return last, pieces.header(section, own, last.headers, behind, len(body)), body

    def _read(self, payload: bytes) -> tuple[Content, bytes, bytes]:
        found = split_sections(payload)
        content = self._translations.content(found)
        reserved = content.reserved
        if reserved is None and found.delivery_annotations:
            reserved = reserved_key(map_of(found.delivery_annotations))
        if reserved is not None:
            raise ProtocolError(DECODE_ERROR, f"the annotation key '{reserved}' is reserved")
        is_small = found.body_offset <= REMEMBERED_BYTES_MAX and len(content.header) <= REMEMBERED_HEADER_BYTES_MAX
        if found.is_only_data and is_small:
            self._last, self._last_bytes, self._common = content, payload[: found.body_offset], None
            has_same = found.application_properties == self._last_properties  # else those of the next differ as well
            self._last_properties = found.application_properties
            if has_same and content.own is not None:
                self._properties_end = found.body_offset - len(found.application_properties)
                self._properties_start = self._properties_end - len(found.properties)
                self._common = Common(self._last_bytes, content.own.gaps(self._properties_start))
        return content, content.header_for(found.body), found.body
