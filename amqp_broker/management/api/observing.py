"""Ways of messages, under ``/api/x/``: what was dropped and why, traces of messages, routes explained.

None of these is RabbitMQ's; docs/tracing.md says what they take and answer.
"""

from __future__ import annotations

import json
from itertools import chain, islice
from typing import Any

import trio

from amqp_broker.broker.drops import DropInfo
from amqp_broker.broker.problems import AdministrationError, NotThere
from amqp_broker.management.api.brief_queues import whole
from amqp_broker.management.api.lists import answer_rows
from amqp_broker.management.api.overview import open_hosts
from amqp_broker.management.http.authentication import ADMINISTRATOR, MONITORING, has_tag, may_look_into
from amqp_broker.management.http.call import Call
from amqp_broker.management.http.messages import (
    Answer,
    HttpError,
    answer_json,
    bad_request,
    not_authorised,
)
from amqp_broker.management.http.router import Access, Endpoint
from amqp_broker.management.slices import in_slices

TRACES_LIMIT = 100_000  # that anybody may have kept
HEADER = "header."  # before the name of a header in a query


async def list_drops(call: Call) -> Answer:
    """How many messages went nowhere: by reason, and in rows by where they came from."""
    name = call.variables.get("vhost")
    if name is not None:
        call.virtual_host()
    hosts = open_hosts(call) if name is None else [name]
    drops = call.broker.drops
    rows: list[DropInfo] = list(chain.from_iterable(drops.rows(host) for host in hosts))
    rows.sort(key=lambda row: -row["count"])
    reason = call.request.query.get("reason")
    if reason is not None:
        if reason not in drops.totals():
            raise bad_request(f"reason is one of {', '.join(drops.totals())}")
        rows = [row for row in rows if row["reason"] == reason]
    by_reason = dict.fromkeys(drops.totals(), 0)
    if name is None and has_tag(call.user, MONITORING):
        by_reason = drops.totals()
    else:
        for row in rows:
            by_reason[row["reason"]] += row["count"]
    return answer_json({"by_reason": by_reason, "drops": rows})


# --- traces


async def show_traces(call: Call) -> Answer:
    """Whether messages are traced, and those that were, where the user may look; bodies are for administrators."""
    query, traces = call.request.query, call.broker.message_traces
    limit = whole(call, "limit", TRACES_LIMIT, TRACES_LIMIT)
    found = []
    shows_bodies = has_tag(call.user, ADMINISTRATOR)
    all_kept = traces.traces(query.get("message_id"), query.get("correlation_id"))
    kept = (one for one in all_kept if may_look_into(call.user, one["vhost"]))
    async for one in in_slices(islice(kept, limit)):
        row: dict[str, Any] = {**one}
        if not shows_bodies:
            row["payload"] = row["payload_encoding"] = None
        found.append(row)
    return answer_rows({**traces.status()}, "messages", found)


async def start_trace(call: Call) -> Answer:
    """Trace the messages that the body describes, and no others."""
    from amqp_broker.broker.traced_messages import wanted_of

    try:
        wanted = wanted_of(call.body(), call.broker.virtual_hosts)
    except AdministrationError as error:
        raise bad_request(str(error)) from error
    call.broker.message_traces.start(wanted, call.user.name)
    return answer_json(call.broker.message_traces.status())


async def stop_trace(call: Call) -> Answer:
    """Trace nothing more."""
    call.broker.message_traces.stop(call.user.name)
    return Answer(204)


# --- routes


async def explain_route(call: Call) -> Answer:
    """Why a message would go where it would."""
    from amqp_broker.broker.exchanges.explanation import explanation_of

    asked = call.body() if call.request.method == "POST" else _asked_in_query(call)
    virtual_host = asked.get("vhost")
    is_there = isinstance(virtual_host, str) and virtual_host in call.broker.virtual_hosts
    if is_there and not may_look_into(call.user, str(virtual_host)):
        raise not_authorised("User not authorised to access virtual host")
    try:
        explanation = explanation_of(call.broker, asked)
    except NotThere as error:
        raise HttpError(404, "not_found", str(error)) from error
    except AdministrationError as error:
        raise bad_request(str(error)) from error
    for _ in explanation.slices():
        await trio.lowlevel.checkpoint()
    return answer_json(explanation.answer())


def _asked_in_query(call: Call) -> dict[str, Any]:
    """The same in a query: ``header.NAME`` is a header, read as JSON where it is a number or the like."""
    query = call.request.query
    asked: dict[str, Any] = {name: query[name] for name in ("vhost", "exchange", "key") if name in query}
    asked["headers"] = {
        name.removeprefix(HEADER): _value(value) for name, value in query.items() if name.startswith(HEADER)
    }
    return asked


def _value(text: str) -> object:
    """A number, a boolean or null as it is in JSON; all else is text."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, int | float | bool | None) else text


ENDPOINTS = (
    Endpoint("/api/x/drops", {"GET": (Access.MANAGEMENT, list_drops)}),
    Endpoint("/api/x/drops/{vhost}", {"GET": (Access.VIRTUAL_HOST, list_drops)}),
    Endpoint(
        "/api/x/trace",
        {
            "GET": (Access.MONITORING, show_traces),
            "PUT": (Access.ADMINISTRATOR, start_trace),
            "DELETE": (Access.ADMINISTRATOR, stop_trace),
        },
    ),
    Endpoint(
        "/api/x/explain/route", {"GET": (Access.MANAGEMENT, explain_route), "POST": (Access.MANAGEMENT, explain_route)}
    ),
)
