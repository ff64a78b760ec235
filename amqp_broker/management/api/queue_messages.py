"""The messages of a queue, looked at where they are: nothing is consumed, and nobody can tell.

These endpoints are this broker's own, under ``/api/x/``; RabbitMQ has none for it. What is asked for is in
``broker/peeking.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qsl

from amqp_broker.broker.message_filter import MessageFilter, UnknownProperty, make_filter
from amqp_broker.broker.peeking import (
    BODY_BYTES_MAX,
    DURATION_MS_MAX,
    LIMIT_MAX,
    LOOKED_AT_MAX,
    MessageState,
    Peek,
    PeekBounds,
)
from amqp_broker.broker.queues.base import Queue
from amqp_broker.errors import AmqpError
from amqp_broker.management.http.call import Call, as_http_error
from amqp_broker.management.http.messages import Answer, answer_json, bad_request, no_such_object
from amqp_broker.management.http.router import Access, Endpoint
from amqp_broker.server.walks import walk

OFFSET_MAX = 10**12
DEFAULTS = PeekBounds()
STATES = tuple(str(state) for state in MessageState)


def readable_queue(call: Call) -> Queue:
    """The queue that the path names, if the user may take messages out of it.

    Raises:
        HttpError: 401, 404; 400 for one that is exclusive to a connection.
    """
    host, name = call.virtual_host(), call.variables["queue"]
    if name not in host.queues:
        raise no_such_object()
    client = call.client(host)
    try:
        client.check_read("queue", name)
        return host.accessible_queue(client, name)
    except AmqpError as error:
        raise as_http_error(error) from error


async def peek(call: Call) -> Answer:
    """What is in a queue, ready and unacknowledged."""
    queue, query = readable_queue(call), call.request.query
    bounds = PeekBounds(
        state=_state(query),
        offset=_number(query, "offset", 0, OFFSET_MAX),
        limit=_number(query, "limit", DEFAULTS.limit, LIMIT_MAX),
        looked_at_max=_number(query, "looked_at_max", DEFAULTS.looked_at_max, LOOKED_AT_MAX),
        duration_ms_max=_number(query, "ms_max", DEFAULTS.duration_ms_max, DURATION_MS_MAX),
        body_bytes_max=_number(query, "truncate", DEFAULTS.body_bytes_max, BODY_BYTES_MAX),
    )
    looking = Peek(call.broker, queue, bounds, filter_of_query(call.request.query_text))
    await walk(call.broker, looking.steps())
    return answer_json(looking.seen())


def filter_of_query(query_text: str) -> MessageFilter:
    """What a query looks for: ``search``, ``exchange``, ``routing_key``, and ``header.K``, ``property.N``, ``json.P``.

    Raises:
        HttpError: 400, there is no such property.
    """
    plain: dict[str, str] = {}
    groups: dict[str, dict[str, str]] = {"header": {}, "property": {}, "json": {}}
    for name, value in parse_qsl(query_text, keep_blank_values=True):
        group, dot, path = name.partition(".")
        if dot and group in groups:
            groups[group][path] = value
        else:
            plain[name] = value
    try:
        return make_filter(
            plain.get("exchange"),
            plain.get("routing_key"),
            plain.get("search", ""),
            groups["header"],
            groups["property"],
            groups["json"],
        )
    except UnknownProperty as error:
        raise bad_request(str(error)) from error


def _state(query: Mapping[str, str]) -> MessageState:
    state = query.get("state", str(MessageState.ALL))
    if state not in STATES:
        raise bad_request(f"state is one of {', '.join(STATES)}, not {state!r}")
    return MessageState(state)


def _number(query: Mapping[str, str], name: str, default: int, maximum: int) -> int:
    text = query.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.isdecimal()) or len(text) > 15 or int(text) > maximum:
        raise bad_request(f"{name} is a whole number from 0 to {maximum}, not {text[:40]!r}")
    return int(text)


ENDPOINTS = (Endpoint("/api/x/queues/{vhost}/{queue}/messages", {"GET": (Access.VIRTUAL_HOST, peek)}),)
