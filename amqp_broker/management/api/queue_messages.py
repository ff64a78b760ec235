"""The messages of a queue, looked at where they are, and moved, copied and deleted; and what it got, replayed.

These endpoints are this broker's own, under ``/api/x/``; RabbitMQ has none for it. What is asked for is read in
``server/message_requests.py``, and done in ``broker/peeking.py`` and ``broker/moving.py``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl

from amqp_broker.broker.message_filter import MessageFilter
from amqp_broker.broker.moving import Action
from amqp_broker.broker.peeking import Peek
from amqp_broker.broker.queues.base import Queue
from amqp_broker.errors import AmqpError
from amqp_broker.management.api.lists import answer_rows
from amqp_broker.management.http.call import Call, as_http_error
from amqp_broker.management.http.messages import Answer, answer_json, bad_request, no_such_object
from amqp_broker.management.http.router import Access, Endpoint
from amqp_broker.server.message_requests import BadMessageRequest, read_bounds, read_filter, read_moving
from amqp_broker.server.walks import walk

# What stands before the dot of a query's names, and the field of a filter that it means.
GROUPS = {"header": "headers", "property": "properties", "json": "json"}
PLAIN = ("exchange", "routing_key", "search")


async def peek(call: Call) -> Answer:
    """What is in a queue, ready and unacknowledged."""
    queue = _readable_queue(call)
    try:
        bounds = read_bounds(queue, call.request.query)
        wanted = filter_of_query(call.request.query_text)
    except BadMessageRequest as error:
        raise bad_request(str(error)) from error
    looking = Peek(call.broker, queue, bounds, wanted)
    await walk(call.broker, looking.steps())
    seen: dict[str, Any] = {**looking.seen()}
    return answer_rows(seen, "messages", seen.pop("messages"))


def _acting(action: Action) -> Callable[[Call], Awaitable[Answer]]:
    """What moves, copies, deletes or replays messages of a queue that the path names."""

    async def act(call: Call) -> Answer:
        queue, host, body = _readable_queue(call), call.virtual_host(), call.body()
        client = call.client(host)
        try:
            work = read_moving(call.broker, host, queue, action, body, client)
            if client.is_judged and work.writes:  # it begins anew when they have said: so all is asked before
                asking = read_moving(call.broker, host, queue, action, {**body, "dry_run": True}, client)
                await walk(call.broker, asking.steps())
        except BadMessageRequest as error:
            raise bad_request(str(error)) from error
        except AmqpError as error:
            raise as_http_error(error) from error
        await walk(call.broker, work.steps(), writes=work.writes)
        return answer_json(work.progress())

    return act


def _readable_queue(call: Call) -> Queue:
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


def filter_of_query(query_text: str) -> MessageFilter:
    """What a query looks for: ``search``, ``exchange``, ``routing_key``, and ``header.K``, ``property.N``, ``json.P``.

    Raises:
        BadMessageRequest: there is no such property.
    """
    fields: dict[str, object] = {}
    groups: dict[str, dict[str, str]] = {field: {} for field in GROUPS.values()}
    for name, value in parse_qsl(query_text, keep_blank_values=True):
        group, dot, path = name.partition(".")
        if dot and group in GROUPS:
            groups[GROUPS[group]][path] = value
        elif name in PLAIN:
            fields[name] = value
    return read_filter(fields | groups)


ENDPOINTS = (
    Endpoint(
        "/api/x/queues/{vhost}/{queue}/messages",
        {"GET": (Access.VIRTUAL_HOST, peek), "DELETE": (Access.VIRTUAL_HOST, _acting(Action.DELETE))},
    ),
    Endpoint("/api/x/queues/{vhost}/{queue}/move", {"POST": (Access.VIRTUAL_HOST, _acting(Action.MOVE))}),
    Endpoint("/api/x/queues/{vhost}/{queue}/copy", {"POST": (Access.VIRTUAL_HOST, _acting(Action.COPY))}),
    Endpoint("/api/x/queues/{vhost}/{queue}/replay", {"POST": (Access.VIRTUAL_HOST, _acting(Action.REPLAY))}),
)
