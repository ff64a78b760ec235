"""Requests about a queue's messages, as JSON: which of them, and where they go.

The control socket and the HTTP API take the same. Holds no way of asking, and does nothing with the messages.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from amqp_broker.broker.broker import Broker
from amqp_broker.broker.message_filter import MessageFilter, UnknownProperty, make_filter
from amqp_broker.broker.move_destinations import Destination, ToExchange, ToOrigin, ToQueue
from amqp_broker.broker.moving import Action, Moving, Selection
from amqp_broker.broker.peeking import (
    BODY_BYTES_MAX,
    DURATION_MS_MAX,
    LIMIT_MAX,
    LOOKED_AT_MAX,
    MessageState,
    PeekBounds,
)
from amqp_broker.broker.ports import Authorizer
from amqp_broker.broker.problems import AdministrationError
from amqp_broker.broker.queues.base import Queue
from amqp_broker.broker.queues.stream import StreamQueue
from amqp_broker.broker.replaying import Replaying
from amqp_broker.broker.virtual_host import VirtualHost

OFFSET_MAX: Final = 10**12
TIME_MS_MAX: Final = 10**14
IDS_MAX: Final = 10_000
NAME_BYTES_MAX: Final = 255
DEFAULTS: Final = PeekBounds()
STATES: Final = tuple(str(state) for state in MessageState)
FILTER_FIELDS: Final = ("exchange", "routing_key", "search", "headers", "properties", "json")


class BadMessageRequest(AdministrationError):
    """A request that makes no sense; the text names the field and what it may be."""


def read_bounds(queue: Queue, fields: Mapping[str, Any]) -> PeekBounds:
    """How far a look into a queue goes; numbers may be texts.

    Raises:
        BadMessageRequest: a field is not what it should be, or means nothing for such a queue.
    """
    state = fields.get("state", str(MessageState.ALL))
    if state not in STATES:
        raise BadMessageRequest(f"state is one of {', '.join(STATES)}, not {state!r}")
    since_wall_ms = number(fields, "since_ms", 0, TIME_MS_MAX) or None
    if since_wall_ms is not None and not isinstance(queue, StreamQueue):
        raise BadMessageRequest(f"since_ms: {queue} is no stream, and only those are looked into from a time on")
    return PeekBounds(
        state=MessageState(state),
        offset=number(fields, "offset", DEFAULTS.offset, OFFSET_MAX),
        limit=number(fields, "limit", DEFAULTS.limit, LIMIT_MAX),
        looked_at_max=number(fields, "looked_at_max", DEFAULTS.looked_at_max, LOOKED_AT_MAX),
        duration_ms_max=number(fields, "ms_max", DEFAULTS.duration_ms_max, DURATION_MS_MAX),
        body_bytes_max=number(fields, "truncate", DEFAULTS.body_bytes_max, BODY_BYTES_MAX),
        since_wall_ms=since_wall_ms,
    )


def read_filter(fields: object) -> MessageFilter:
    """What messages must have: an object of ``FILTER_FIELDS``.

    Raises:
        BadMessageRequest: a field is not what it should be, or is none.
    """
    if not isinstance(fields, Mapping):
        raise BadMessageRequest("a filter is an object")
    unknown = [name for name in fields if name not in FILTER_FIELDS]
    if unknown:
        raise BadMessageRequest(f"a filter has no {unknown[0]!r}; it may have {', '.join(FILTER_FIELDS)}")
    groups = [_texts(fields, name) for name in ("headers", "properties", "json")]
    exchange, routing_key = text(fields, "exchange"), text(fields, "routing_key")
    try:
        return make_filter(exchange, routing_key, text(fields, "search") or "", *groups)
    except UnknownProperty as error:
        raise BadMessageRequest(str(error)) from error


def read_moving(
    broker: Broker,
    virtual_host: VirtualHost,
    queue: Queue,
    action: Action,
    fields: Mapping[str, Any],
    who: Authorizer | None,
) -> Moving:
    """What is to be done: ``to`` or ``origin``; ``filter``, ``ids``, ``limit``; ``dry_run``; to replay, ``last_ms``.

    Args:
        who: wants it; None for somebody who may do anything.

    Raises:
        BadMessageRequest: a field is not what it should be.
        AmqpError: 403, 404, 405 or 406, it cannot go there.
    """
    if not queue.lets_take_out:
        raise BadMessageRequest(f"from {queue} no message can be taken out")
    if action is Action.REPLAY:
        return _replaying(broker, virtual_host, queue, fields, who)
    selection = read_selection(fields)
    destination = None
    if action is not Action.DELETE:
        destination = _destination(virtual_host, queue, fields, who)
    elif selection.ids is None and selection.wanted.is_any and selection.limit is None:
        raise BadMessageRequest("name ids, a filter or a limit; to delete all messages, purge the queue")
    return Moving(broker, queue, action, selection, destination, dry_run=read_dry_run(fields))


def read_selection(fields: Mapping[str, Any]) -> Selection:
    """Which messages: ``filter``, ``ids``, ``limit``.

    Raises:
        BadMessageRequest: a field is not what it should be.
    """
    return Selection(
        read_filter(fields.get("filter") or {}),
        _ids(fields),
        number(fields, "limit", 0, OFFSET_MAX) if fields.get("limit") is not None else None,
    )


def _replaying(
    broker: Broker, virtual_host: VirtualHost, queue: Queue, fields: Mapping[str, Any], who: Authorizer | None
) -> Moving:
    past = queue.past
    if past is None:
        raise BadMessageRequest(f"{queue} has no past: let it have x-replay-ms, or a policy with replay-ms")
    if fields.get("origin"):
        raise BadMessageRequest("say where to: to, a queue or an exchange")
    last_ms = number(fields, "last_ms", OFFSET_MAX, OFFSET_MAX)
    destination = _destination(virtual_host, queue, fields, who)
    since_wall_ms, selection = broker.clock.wall_ms() - last_ms, read_selection(fields)
    return Replaying(broker, queue, past, since_wall_ms, selection, destination, dry_run=read_dry_run(fields))


def read_dry_run(fields: Mapping[str, Any]) -> bool:
    """Whether nothing is to be done but looked.

    Raises:
        BadMessageRequest: it is neither true nor false.
    """
    dry_run = fields.get("dry_run", False)
    if not isinstance(dry_run, bool):
        raise BadMessageRequest("dry_run is true or false")
    return dry_run


def _destination(
    virtual_host: VirtualHost, queue: Queue, fields: Mapping[str, Any], who: Authorizer | None
) -> Destination:
    to, origin = fields.get("to"), fields.get("origin", False)
    if not isinstance(origin, bool) or (to is None) is not origin:
        raise BadMessageRequest("say where to: either to, a queue or an exchange, or origin, which is true")
    if origin:
        return ToOrigin(virtual_host, queue, who)
    if isinstance(to, str):
        return ToQueue(virtual_host, queue, to, who)
    if isinstance(to, Mapping) and to.keys() == {"queue"} and isinstance(to["queue"], str):
        return ToQueue(virtual_host, queue, to["queue"], who)
    if isinstance(to, Mapping) and "exchange" in to and to.keys() <= {"exchange", "routing_key"}:
        exchange, key = text(to, "exchange"), text(to, "routing_key")
        if key is not None and len(key.encode("utf-8", "surrogateescape")) > NAME_BYTES_MAX:
            raise BadMessageRequest(f"a routing key has at most {NAME_BYTES_MAX} bytes")
        return ToExchange(virtual_host, queue, exchange or "", key, who)
    raise BadMessageRequest('to is a queue\'s name, {"queue": name}, or {"exchange": name, "routing_key": key}')


def _ids(fields: Mapping[str, Any]) -> frozenset[str] | None:
    ids = fields.get("ids")
    if ids is None:
        return None
    if not isinstance(ids, list) or not all(isinstance(one, str) for one in ids) or len(ids) > IDS_MAX:
        raise BadMessageRequest(f"ids is a list of at most {IDS_MAX} ids, as a look shows them")
    return frozenset(ids)


def number(fields: Mapping[str, Any], name: str, default: int, maximum: int) -> int:
    """A whole number, which may be a text.

    Raises:
        BadMessageRequest: it is none, or too large.
    """
    value = fields.get(name)
    if value is None or value == "":
        return default
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 16:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= maximum:
        raise BadMessageRequest(f"{name} is a whole number from 0 to {maximum}, not {str(value)[:40]!r}")
    return value


def text(fields: Mapping[str, Any], name: str) -> str | None:
    """A text; None when it is not there.

    Raises:
        BadMessageRequest: it is none.
    """
    value = fields.get(name)
    if value is not None and not isinstance(value, str):
        raise BadMessageRequest(f"{name} is a text")
    return value


def _texts(fields: Mapping[str, Any], name: str) -> dict[str, str]:
    values = fields.get(name) or {}
    if not isinstance(values, Mapping) or not all(isinstance(one, str) for one in values.values()):
        raise BadMessageRequest(f"{name} is an object of texts: what is wanted, by path")
    return dict(values)
