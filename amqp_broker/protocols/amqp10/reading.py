"""The messages that a link's client publishes, read.

Most are as the last one was but for their bodies, or for what each has of its own as well (``likeness.py``), or the
values of its application properties: those are not looked into. What any message becomes is in ``contents.py``.
"""

from __future__ import annotations

from amqp_broker.protocols.amqp10.application_properties import ValuePlace, values_of
from amqp_broker.protocols.amqp10.contents import (
    REMEMBERED_BYTES_MAX,
    REMEMBERED_HEADER_BYTES_MAX,
    Content,
    map_of,
    reserved_key,
)
from amqp_broker.protocols.amqp10.errors import DECODE_ERROR, ProtocolError
from amqp_broker.protocols.amqp10.likeness import Common, Place, Template
from amqp_broker.protocols.amqp10.messages import Translations
from amqp_broker.protocols.amqp10.sections import Sections, only_data_offset, split_sections


class Like:
    """Messages that differ before their bodies in nothing but what each has of its own, and perhaps in the values of
    their application properties, and in these are as long.

    Args:
        before: the bytes before the body of one of them.
        content: what that one becomes.
        kept: where the sections stand that are kept as they came.
        own: where what each has of its own stands, in order.
    """

    __slots__ = ("_common", "_content", "_template")

    def __init__(self, before: bytes, content: Content, kept: Place, own: list[Place]) -> None:
        self._content = content
        self._common = Common(before, [(place.source_start, place.source_end) for place in own])
        self._template = Template(content.header, [kept, *own])

    def read(self, data: bytes, start: int) -> tuple[Content, bytes, bytes] | None:
        """What such a message becomes (``Reader.read``); None if it is none."""
        if not self._common.is_in(data, start):
            return None
        body_start = only_data_offset(data, start + self._common.size)
        if body_start < 0:
            return None
        body = data[body_start:]
        header = self._template.header(data, start, len(body))
        return None if header is None else (self._content, header, body)


class Reader:
    """Reads the messages of one link.

    Args:
        translations: of its connection.
    """

    def __init__(self, translations: Translations) -> None:
        self._translations = translations
        self._last: Content | None = None
        self._last_bytes = b""  # what it had before its body
        self._like: Like | None = None  # what others have before theirs that are like it
        self._last_properties = b""

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
            if self._like is not None:
                found = self._like.read(data, start)
                if found is not None:
                    return found
            elif data.startswith(self._last_bytes, start):
                body_start = only_data_offset(data, start + len(self._last_bytes))
                if body_start >= 0:
                    body = data[body_start:]
                    return last, last.header_for(body), body
        return self._read(data[start:])

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
            self._last, self._last_bytes = content, payload[: found.body_offset]
            self._like = self._like_of(content, found)
            self._last_properties = found.application_properties
        return content, content.header_for(found.body), found.body

    def _like_of(self, content: Content, found: Sections) -> Like | None:
        """What the next message may have before its body; None where it is looked at, or compared as a whole."""
        alike, properties = content.alike, found.application_properties
        if alike is None:
            return None
        values: list[ValuePlace] = []
        if properties != self._last_properties:
            differing = values_of(properties) if len(properties) == len(self._last_properties) else None
            if differing is None:
                return None
            values = differing
            content.headers_differ = True
        kept, *own = alike.places(content, found, values)
        return Like(self._last_bytes, content, kept, own) if own else None
