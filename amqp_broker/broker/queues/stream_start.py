"""The start and the filter of a consumer of a stream, as its arguments say.

(RabbitMQ docs, "Streams and Super Streams", "Consuming"; "Stream Filtering".)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from amqp_broker.broker.arguments import INTEGER_TYPE_NAMES, maximum_age_ms
from amqp_broker.broker.erlang_text import erlang_term
from amqp_broker.errors import precondition_failed
from amqp_broker.wire.table import FieldValue, Table, type_name

OFFSET_ARGUMENT: Final = "x-stream-offset"
FILTER_ARGUMENT: Final = "x-stream-filter"
UNFILTERED_ARGUMENT: Final = "x-stream-match-unfiltered"
FILTER_VALUE_HEADER: Final = "x-stream-filter-value"


class Place(Enum):
    """A place in a stream that has a name."""

    FIRST = "first"
    LAST = "last"  # the first entry of what came last
    NEXT = "next"


@dataclass(frozen=True, slots=True)
class StreamStart:
    """The start of a consumer in a stream: exactly one of the three.

    Args:
        place: by name.
        offset: by number.
        wall_ms: with what came at this time or later, in milliseconds since 1970.
    """

    place: Place | None = None
    offset: int | None = None
    wall_ms: int | None = None


@dataclass(frozen=True, slots=True)
class StreamFilter:
    """The filter for the entries that a consumer wants.

    Args:
        values: those that the header ``x-stream-filter-value`` may have.
        takes_unfiltered: whether entries without that header are wanted as well.
    """

    values: frozenset[str]
    takes_unfiltered: bool

    def takes(self, headers: Mapping[str, FieldValue] | None) -> bool:
        """Whether an entry with these headers is wanted."""
        value = None if headers is None else headers.get(FILTER_VALUE_HEADER)
        return self.takes_value(None if value is None else str(value))

    def takes_value(self, value: str | None) -> bool:
        """Whether an entry with this filter value is wanted; None and empty text are none, as with RabbitMQ."""
        return value in self.values if value else self.takes_unfiltered or "" in self.values


def stream_start(queue: str, arguments: Table, now_wall_ms: int) -> StreamStart:
    """Read ``x-stream-offset``.

    Args:
        queue: the queue as texts name it.
        arguments: the consumer's.
        now_wall_ms: what an interval counts back from.

    Raises:
        AmqpError: 406, it is none of what it may be.
    """
    value = arguments.get(OFFSET_ARGUMENT)
    if value is None:
        return StreamStart(place=Place.NEXT)
    kind = type_name(value)
    if kind == "timestamp" and isinstance(value, int):
        return StreamStart(wall_ms=int(value) * 1000)
    if kind in INTEGER_TYPE_NAMES and isinstance(value, int):
        return StreamStart(offset=max(0, int(value)))
    if isinstance(value, str):
        if value in ("first", "last", "next"):
            return StreamStart(place=Place(value))
        age_ms = maximum_age_ms(value)
        if age_ms is not None:
            return StreamStart(wall_ms=now_wall_ms - age_ms)
    problem = f"{{invalid_stream_offset_arg,{{{kind},{erlang_term(value)}}}}}"
    raise precondition_failed(f"invalid arg '{OFFSET_ARGUMENT}' for {queue}: {problem}")


def stream_filter(queue: str, arguments: Table) -> StreamFilter | None:
    """Read ``x-stream-filter`` and ``x-stream-match-unfiltered``; None where everything is wanted.

    Raises:
        AmqpError: 406, the filter is neither text nor a list of texts.
    """
    wanted = arguments.get(FILTER_ARGUMENT)
    if wanted is None:
        return None
    values = wanted if isinstance(wanted, list) else [wanted]
    texts = [value for value in values if isinstance(value, str)]
    if len(texts) < len(values):
        raise precondition_failed(f"invalid arg '{FILTER_ARGUMENT}' for {queue}: it should be text, or a list of texts")
    return StreamFilter(frozenset(texts), arguments.get(UNFILTERED_ARGUMENT) is True)
