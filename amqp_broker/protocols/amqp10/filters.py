"""Filters of a source: where in a stream a link begins, and which of its entries it gets.

Those of RabbitMQ's streams are arguments of the consumer; those by properties (AMQP Filter Expressions 1.0, 4.2;
RabbitMQ docs, "Stream Filtering", since 4.1) are compared here, entry by entry. Filters mean nothing to other queues,
and what is none of these is passed over: the answer to ``attach`` has those that count (AMQP 1.0, 3.5.3).
"""

from __future__ import annotations

from typing import Any, Final

from amqp_broker.protocols.amqp10 import sections
from amqp_broker.protocols.amqp10.compound import Described, Map
from amqp_broker.protocols.amqp10.decoding import Malformed, decode
from amqp_broker.protocols.amqp10.values import to_field
from amqp_broker.wire.table import Table

OFFSET: Final = "rabbitmq:stream-offset-spec"  # by the name of the filter
VALUES: Final = "rabbitmq:stream-filter"
UNFILTERED: Final = "rabbitmq:stream-match-unfiltered"
PROPERTIES: Final = ("amqp:properties-filter", 0x173)  # by what describes it
APPLICATION_PROPERTIES: Final = ("amqp:application-properties-filter", 0x174)
FIELDS_MAX: Final = 16  # of one filter: each is looked for in each entry
PROPERTY_NAMES: Final = (
    "message-id", "user-id", "to", "subject", "reply-to", "correlation-id", "content-type", "content-encoding",
    "absolute-expiry-time", "creation-time", "group-id", "group-sequence", "reply-to-group-id",
)  # fmt: skip
NUMBERS: Final[Any] = (int, float)


class Filters:
    """The filters of one source.

    Args:
        said: what it says.
    """

    __slots__ = ("_application", "_applied", "_properties", "arguments")

    def __init__(self, said: Map) -> None:
        self._applied: dict[str, tuple[Any, Any]] = {}  # those that count, as they were said, one of each kind
        self.arguments: Table = {}  # of the consumer
        self._properties: list[tuple[int, Any]] = []  # by the place of the field
        self._application: list[tuple[str, Any]] = []
        for name, filter_ in said.pairs:
            kind = self._take(name, filter_)
            if kind:
                self._applied[kind] = (name, filter_)

    @property
    def applied(self) -> list[tuple[Any, Any]]:
        """Those that count, as they were said."""
        return list(self._applied.values())

    def _take(self, name: Any, filter_: Any) -> str:
        """Take a filter over instead of one of its kind before it; returns its kind, nothing for one that is none."""
        described = filter_.descriptor if isinstance(filter_, Described) else None
        value = filter_.value if isinstance(filter_, Described) else filter_  # it should be described, and need not
        if name == OFFSET and (isinstance(value, str) or _is_number(value)):
            self.arguments["x-stream-offset"] = to_field(value)
        elif name == VALUES and isinstance(value, (str, list)):
            values = value if isinstance(value, list) else [value]
            self.arguments["x-stream-filter"] = [to_field(one) for one in values if type(one) is str]
        elif name == UNFILTERED and isinstance(value, bool):
            self.arguments["x-stream-match-unfiltered"] = value
        elif described in PROPERTIES and _is_readable(value) and all(key in PROPERTY_NAMES for key, _ in value.pairs):
            self._properties = [(PROPERTY_NAMES.index(key), _wanted(one)) for key, one in value.pairs]
            return PROPERTIES[0]
        elif described in APPLICATION_PROPERTIES and _is_readable(value):
            self._application = [(key, _wanted(one)) for key, one in value.pairs]
            return APPLICATION_PROPERTIES[0]
        else:
            return ""
        return str(name)

    @property
    def looks_at_properties(self) -> bool:
        """Whether ``takes`` is to be asked for each entry."""
        return len(self._properties) > 0 or len(self._application) > 0

    def takes(self, bare: bytes) -> bool:
        """Whether an entry with these properties and application properties, which are sections, is wanted."""
        properties: Any = []
        application = Map([])
        offset = 0
        try:
            while offset < len(bare):
                section, offset = decode(bare, offset)
                if section.descriptor == sections.PROPERTIES:
                    properties = section.value
                else:
                    application = section.value
        except Malformed:  # somebody has made it up
            return False
        for place, wanted in self._properties:
            if not _matches(wanted, properties[place] if place < len(properties) else None):
                return False
        for key, wanted in self._application:
            found = [value for name, value in application.pairs if name == key]
            if not found or not _matches(wanted, found[0]):
                return False
        return True


class Affix:
    """The beginning or the end that a text must have.

    Args:
        text: it.
        is_prefix: which of the two.
    """

    __slots__ = ("is_prefix", "text")

    def __init__(self, text: str, *, is_prefix: bool) -> None:
        self.text = text
        self.is_prefix = is_prefix

    def fits(self, value: object) -> bool:
        """Whether a value is such a text."""
        if not isinstance(value, str):
            return False
        return value.startswith(self.text) if self.is_prefix else value.endswith(self.text)


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_readable(value: Any) -> bool:
    """Whether a filter by properties is one: few fields with names, and no text with a mark that there is not."""
    if not isinstance(value, Map) or not 0 < len(value.pairs) <= FIELDS_MAX:
        return False
    return all(isinstance(key, str) and not _is_marked_wrongly(wanted) for key, wanted in value.pairs)


def _is_marked_wrongly(wanted: Any) -> bool:
    return isinstance(wanted, str) and wanted.startswith("&") and not wanted.startswith(("&p:", "&s:", "&&"))


def _wanted(value: Any) -> Any:
    """What is compared: a text may ask for a beginning (``&p:``) or for an end (``&s:``), or stand behind a ``&``."""
    if not isinstance(value, str) or not value.startswith("&"):
        return value
    if value.startswith("&&"):
        return value[1:]
    return Affix(value[3:], is_prefix=value.startswith("&p:"))


def _matches(wanted: Any, value: Any) -> bool:
    """Whether a property is as it is wanted; null is whatever it is."""
    if wanted is None:
        return True
    if isinstance(wanted, Affix):
        return wanted.fits(value)
    if isinstance(wanted, bool) or isinstance(value, bool):
        return wanted is value
    for kind in (str, bytes, NUMBERS):
        if isinstance(wanted, kind):
            return isinstance(value, kind) and bool(wanted == value)
    return False
