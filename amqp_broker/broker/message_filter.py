"""Filters of messages: by key, header, property, text or JSON of the body.

A path says where in nested tables or in JSON a value is: ``order.items.0.sku``. A name with dots in it is found as it
is. In a list a number is a place, and any other name is looked for in all its members: ``x-death.queue`` finds every
queue in which a message has died. Values are compared as texts (``true``, ``null``, ``17``); ``*`` in what is wanted
stands for anything.

Holds no queue. What is looked at in one body is bounded, so that no message takes long.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Final

from amqp_broker.broker.message import Message
from amqp_broker.wire.content import Properties, decode_properties
from amqp_broker.wire.table import Decimal

ANY: Final = "*"
DEPTH_MAX: Final = 100  # of tables and lists within each other that are looked into
TEXT_BYTES_MAX: Final = 8_388_608  # of a larger body no text is looked for: it would take some milliseconds
JSON_BYTES_MAX: Final = 1_048_576  # the same for JSON
PROPERTY_NAMES: Final = frozenset(field.name for field in fields(Properties)) - {"headers"}

Wanted = tuple[tuple[str, str], ...]  # paths, and the values there


class UnknownProperty(Exception):
    """A property that a filter names does not exist."""


@dataclass(frozen=True, slots=True)
class MessageFilter:
    """The conditions that a message must meet to be found; all of it, and anything where nothing is said.

    Args:
        exchange: it was published to.
        routing_key: it was published with.
        text: somewhere in its body, in UTF-8.
        headers: by path.
        properties: by name: ``message_id``, ``correlation_id``, ``type``, ...
        json: by path in a body that is JSON; ``$.`` in front means nothing.
    """

    exchange: str | None = None
    routing_key: str | None = None
    text: str = ""
    headers: Wanted = ()
    properties: Wanted = ()
    json: Wanted = ()

    @property
    def is_any(self) -> bool:
        """Whether it finds every message."""
        return self == ANY_MESSAGE

    def finds(self, message: Message) -> bool:
        """Whether a message has it all."""
        address = message.address
        if self.exchange is not None and not is_like(address.exchange, self.exchange):
            return False
        if self.routing_key is not None and not is_like(address.routing_key, self.routing_key):
            return False
        if (self.headers or self.properties) and not self._finds_properties(decode_properties(message.header)):
            return False
        if self.text and not self._finds_text(message.body):
            return False
        return not self.json or self._finds_json(message.body)

    def is_body_too_large(self, message: Message) -> bool:
        """Whether a message is not found because nobody looks into a body as large as its."""
        size_bytes = len(message.body)
        return bool((self.text and size_bytes > TEXT_BYTES_MAX) or (self.json and size_bytes > JSON_BYTES_MAX))

    def _finds_properties(self, properties: Properties) -> bool:
        for name, wanted in self.properties:
            value = getattr(properties, name)
            if value is None or not is_like(as_text(value), wanted):
                return False
        return _are_at(properties.headers or {}, self.headers)

    def _finds_text(self, body: bytes) -> bool:
        return len(body) <= TEXT_BYTES_MAX and self.text.encode("utf-8", "surrogateescape") in body

    def _finds_json(self, body: bytes) -> bool:
        if len(body) > JSON_BYTES_MAX:
            return False
        try:
            document = json.loads(body)
        except (ValueError, RecursionError):
            return False
        return _are_at(document, self.json)


ANY_MESSAGE: Final = MessageFilter()


def make_filter(
    exchange: str | None = None,
    routing_key: str | None = None,
    text: str = "",
    headers: Mapping[str, str] | None = None,
    properties: Mapping[str, str] | None = None,
    json_values: Mapping[str, str] | None = None,
) -> MessageFilter:
    """A filter of what somebody has asked for.

    Raises:
        UnknownProperty: its text names the property and those there are.
    """
    for name in properties or ():
        if name not in PROPERTY_NAMES:
            raise UnknownProperty(f"there is no property {name!r}; there are {', '.join(sorted(PROPERTY_NAMES))}")
    return MessageFilter(
        exchange,
        routing_key,
        text,
        tuple((headers or {}).items()),
        tuple((properties or {}).items()),
        tuple((json_values or {}).items()),
    )


def _are_at(value: object, wanted: Wanted) -> bool:
    return all(is_at(value, path.removeprefix("$."), at_path) for path, at_path in wanted)


def is_at(value: object, path: str, wanted: str, depth: int = 0) -> bool:
    """Whether what is wanted is at a path, or one of those that it leads to; nothing is too deep down."""
    if depth > DEPTH_MAX:
        return False
    if isinstance(value, dict):
        if path in value and is_like_any(value[path], wanted, depth):
            return True
        end = path.find(".")
        while end >= 0:
            name = path[:end]
            if name in value and is_at(value[name], path[end + 1 :], wanted, depth + 1):
                return True
            end = path.find(".", end + 1)
        return False
    if isinstance(value, list):
        name, dot, rest = path.partition(".")
        if name.isdecimal() and name.isascii() and len(name) < 10:
            place = int(name)
            if place >= len(value):
                return False
            return is_at(value[place], rest, wanted, depth + 1) if dot else is_like_any(value[place], wanted, depth)
        return any(is_at(member, path, wanted, depth + 1) for member in value)
    return False


def is_like_any(value: object, wanted: str, depth: int = 0) -> bool:
    """Whether a value, or in a list one of its members, is what is wanted; a table is when anything is."""
    if isinstance(value, list):
        if wanted == ANY or depth > DEPTH_MAX:
            return wanted == ANY
        return any(is_like_any(member, wanted, depth + 1) for member in value)
    if isinstance(value, dict):
        return wanted == ANY
    return is_like(as_text(value), wanted)


def is_like(text: str, wanted: str) -> bool:
    """Whether a text is the wanted one, in which ``*`` stands for anything."""
    if ANY not in wanted:
        return text == wanted
    first, *middle = wanted.split(ANY)
    last = middle.pop()
    if len(text) < len(first) + len(last) or not text.startswith(first) or not text.endswith(last):
        return False
    place, end = len(first), len(text) - len(last)
    for part in middle:
        place = text.find(part, place, end)
        if place < 0:
            return False
        place += len(part)
    return True


def as_text(value: object) -> str:
    """A value of a table or of JSON, as JSON has it; a text is itself."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "null"
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, Decimal):
        return str(value.unscaled / 10**value.scale)
    return str(value)
