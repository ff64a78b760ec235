"""Whatever is asked of the HTTP API by somebody who has logged in, it is answered, and never with 500."""

from __future__ import annotations

import contextlib
import json
from typing import Any
from urllib.parse import quote

from hypothesis import example, given, settings
from hypothesis import strategies as st

from amqp_broker.management.http.messages import HttpError, Request
from tests.support.examples import examples
from tests.support.managed import managing
from tests.support.served import on_a_jumping_clock

PLACES = (
    ("PUT", "/api/queues/%2F/{}"),
    ("PUT", "/api/exchanges/%2F/{}"),
    ("POST", "/api/bindings/%2F/e/amq.topic/q/{}"),
    ("POST", "/api/exchanges/%2F/amq.default/publish"),
    ("POST", "/api/queues/%2F/{}/get"),
    ("PUT", "/api/users/{}"),
    ("PUT", "/api/permissions/%2F/{}"),
    ("PUT", "/api/policies/%2F/{}"),
    ("PUT", "/api/vhosts/{}"),
    ("PUT", "/api/vhost-limits/%2F/max-queues"),
    ("PUT", "/api/parameters/shovel/%2F/{}"),
    ("POST", "/api/definitions"),
    ("POST", "/api/users/bulk-delete"),
)
FIELDS = (
    "durable", "auto_delete", "arguments", "type", "routing_key", "payload", "payload_encoding", "properties", "count",
    "ackmode", "encoding", "truncate", "tags", "password", "password_hash", "hashing_algorithm", "configure", "write",
    "read", "pattern", "definition", "priority", "apply-to", "value", "queues", "users", "bindings", "description",
)  # fmt: skip
USUAL = ("string", "base64", "ack_requeue_true", "auto", "topic", "x", "", True, 1, -1, 10**30, 1.5, None, "\ud800")
VALUES = st.recursive(
    st.sampled_from(USUAL) | st.text(max_size=5) | st.integers() | st.floats(allow_nan=False),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=300), values, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(["q", "x" * 300, "é" * 130, "amq.x", "..", "\x00"]) | st.text(max_size=5)
BODIES = st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=8) | VALUES
QUERIES = st.dictionaries(
    st.sampled_from(("page", "page_size", "name", "use_regex", "sort", "sort_reverse", "columns", "lengths_age",
                     "lengths_incr", "msg_rates_age", "msg_rates_incr", "disable_stats")),
    st.sampled_from(["1", "0", "-1", "x", "", "true", "name", "a.b.c", "(", "[a-z]+", "5", "9" * 30, "²"]),
    max_size=5,
)  # fmt: skip


@settings(max_examples=examples(30), deadline=None)
@given(st.lists(st.tuples(st.sampled_from(PLACES), NAMES, BODIES), min_size=5, max_size=15))
@example([(("PUT", "/api/users/{}"), "q", {"password_hash": "\x80", "tags": "string"})])
@on_a_jumping_clock
async def test_no_body_is_too_strange(asked: list[tuple[tuple[str, str], str, Any]]) -> None:
    async with managing() as managed:
        client = await managed.administrator()
        for (method, path), name, body in asked:
            text = json.dumps(body)
            reply = await client.ask(method, path.format(quote(name, safe="", errors="replace")), text)
            assert reply.status < 500, (method, path, name, body)
            if reply.headers.get("connection") == "close":  # nobody wanted the body
                await client.stream.aclose()
                client = await managed.administrator()
        assert (await client.ask("GET", "/api/definitions")).status == 200
        await client.stream.aclose()


@settings(max_examples=examples(30), deadline=None)
@given(st.lists(QUERIES, min_size=5, max_size=10))
@on_a_jumping_clock
async def test_no_query_is_too_strange(queries: list[dict[str, str]]) -> None:
    async with managing() as managed:
        client = await managed.administrator()
        for query in queries:
            text = "&".join(f"{name}={quote(value)}" for name, value in query.items())
            for path in ("queues", "exchanges", "bindings", "connections", "vhosts", "overview", "users"):
                assert (await client.ask("GET", f"/api/{path}?{text}")).status in (200, 400), (path, query)
        await client.stream.aclose()


@given(st.text(alphabet=[chr(code) for code in range(33, 127)], max_size=60))
def test_a_target_is_taken_apart_or_refused(target: str) -> None:
    with contextlib.suppress(HttpError):
        Request.of("GET", target, {})
