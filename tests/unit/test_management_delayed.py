"""What exchanges hold back, by HTTP: listed, searched, cancelled, let go now, and by whom."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.support.managed import HttpClient, Managed, managing
from tests.support.served import on_a_jumping_clock

DELAYED = "/api/x/delayed/%2F/later"
HOUR_MS = 3_600_000


@asynccontextmanager
async def asking() -> AsyncIterator[tuple[Managed, HttpClient]]:
    """A server with an exchange that holds three messages, and an administrator who asks it."""
    async with managing() as managed:
        client = await managed.administrator()
        async with client.stream:
            arguments = {"x-delayed-type": "fanout"}
            exchange = {"type": "x-delayed-message", "durable": True, "arguments": arguments}
            assert (await client.ask("PUT", "/api/exchanges/%2F/later", exchange)).status == 201
            await client.ask("PUT", "/api/queues/%2F/q", {"durable": True})
            await client.ask("POST", "/api/bindings/%2F/e/later/q/q", {})
            for number in range(3):
                await publish(client, f"k.{number}", number)
            yield managed, client


async def publish(client: HttpClient, routing_key: str, number: int) -> None:
    properties = {"headers": {"x-delay": HOUR_MS * (number + 1), "customer": number}}
    body = {"properties": properties, "routing_key": routing_key, "payload": f"order {number}"}
    body["payload_encoding"] = "string"
    assert (await client.ask("POST", "/api/exchanges/%2F/later/publish", body)).status == 200


async def keys(client: HttpClient, query: str = "") -> list[str]:
    return [one["routing_key"] for one in (await client.ask("GET", f"{DELAYED}{query}")).json["messages"]]


@on_a_jumping_clock
async def test_which_exchanges_hold_back() -> None:
    async with asking() as (managed, client):
        (row,) = (await client.ask("GET", "/api/x/delayed")).json
        due_in_ms, due = row.pop("next_due_in_ms"), row.pop("next_due")
        assert 0 < due_in_ms <= HOUR_MS
        assert due - managed.broker.clock.wall_ms() <= HOUR_MS
        of_it = {"name": "later", "vhost": "/", "type": "x-delayed-message", "delaying": True, "messages_delayed": 3}
        assert row == of_it
        await client.ask("PUT", "/api/vhosts/other")
        assert (await client.ask("GET", "/api/x/delayed/other")).json == []
        page = (await client.ask("GET", "/api/x/delayed?page=1&page_size=5&name=LAT&columns=name")).json
        assert (page["items"], page["filtered_count"]) == ([{"name": "later"}], 1)
        await client.ask("DELETE", DELAYED, {"limit": 3})
        (row,) = (await client.ask("GET", "/api/x/delayed/%2F")).json
        assert (row["messages_delayed"], row["next_due"], row["next_due_in_ms"]) == (0, None, None)


@on_a_jumping_clock
async def test_what_is_held_by_pages_and_by_filter() -> None:
    async with asking() as (_, client):
        first = (await client.ask("GET", f"{DELAYED}?limit=2&truncate=5")).json
        assert (first["held"], first["looked_at"]) == (3, 2)
        shown = [(one["routing_key"], one["payload"], one["is_payload_cut"]) for one in first["messages"]]
        assert shown == [("k.0", "order", True), ("k.1", "order", True)]
        assert await keys(client, f"?after={first['next']}") == ["k.2"]
        assert await keys(client, "?header.customer=1") == ["k.1"]
        assert await keys(client, "?routing_key=k.*&search=order%202") == ["k.2"]


@on_a_jumping_clock
async def test_what_is_cancelled_and_let_go_counted_first() -> None:
    async with asking() as (_, client):
        chosen: dict[str, Any] = {"filter": {"headers": {"customer": "1"}}}
        would = (await client.ask("DELETE", DELAYED, chosen | {"dry_run": True})).json
        assert would == {
            "action": "cancel", "exchange": "later", "vhost": "/", "dry_run": True,
            "held": 3, "looked_at": 3, "found": 1, "done": 1, "not_there": [],
        }  # fmt: skip
        assert await keys(client) == ["k.0", "k.1", "k.2"]
        assert (await client.ask("DELETE", DELAYED, chosen)).json == {**would, "dry_run": False}
        messages = (await client.ask("GET", DELAYED)).json["messages"]
        assert [one["routing_key"] for one in messages] == ["k.0", "k.2"]
        chosen = {"ids": [messages[1]["id"], "4711"]}
        done = (await client.ask("POST", f"{DELAYED}/deliver", chosen)).json
        assert (done["action"], done["done"], done["not_there"]) == ("deliver", 1, ["4711"])
        assert await keys(client) == ["k.0"]
        (out,) = (await client.ask("GET", "/api/x/queues/%2F/q/messages")).json["messages"]
        assert out["payload"] == "order 2"


@on_a_jumping_clock
@pytest.mark.parametrize(
    ("method", "path", "body", "reason"),
    [
        ("GET", f"{DELAYED}?limit=0", None, "limit is a whole number from 1 to 500"),
        ("GET", f"{DELAYED}?after=x", None, "a look goes on after what the one before has ended with, not after 'x'"),
        ("GET", f"{DELAYED}?property.colour=red", None, "there is no property 'colour'"),
        ("GET", "/api/x/delayed/%2F/amq.topic", None, "exchange 'amq.topic' in virtual host '/' does not hold"),
        ("DELETE", DELAYED, {}, "say which: name ids, a filter or a limit"),
        ("DELETE", DELAYED, {"ids": ["x"]}, "'x' is no id of a delayed message"),
        ("DELETE", DELAYED, {"limit": 1, "dry_run": "yes"}, "dry_run is true or false"),
        ("POST", f"{DELAYED}/deliver", {"filter": {"colour": "red"}}, "a filter has no 'colour'"),
    ],
)
async def test_what_makes_no_sense_is_named(method: str, path: str, body: Any, reason: str) -> None:
    async with asking() as (_, client):
        reply = await client.ask(method, path, body)
        assert reply.status == 400
        assert reply.json["reason"].startswith(reason)
        assert len(await keys(client)) == 3


@on_a_jumping_clock
async def test_who_may() -> None:
    async with asking() as (managed, client):
        administration = managed.broker.administration
        administration.add_user("ada", "secret", ("management",), algorithm="rabbit_password_hashing_sha256")

        async def statuses() -> list[int]:
            looked = await client.ask("GET", DELAYED, user="ada:secret")
            other = await managed.administrator()  # one who is refused with a body is not heard again
            async with other.stream:
                cancelled = await other.ask("DELETE", DELAYED, {"limit": 1, "dry_run": True}, user="ada:secret")
            return [looked.status, cancelled.status]

        assert (await client.ask("GET", "/api/x/delayed", user="ada:secret")).json == []
        assert await statuses() == [401, 401]
        administration.set_permission("ada", "/", ".*", ".*", "other")
        assert await statuses() == [401, 401]
        administration.set_permission("ada", "/", "", "", "later")
        assert await statuses() == [200, 401]
        administration.set_permission("ada", "/", "", "later", "later")
        assert await statuses() == [200, 200]
        assert [one["name"] for one in (await client.ask("GET", "/api/x/delayed", user="ada:secret")).json] == ["later"]
        assert (await client.ask("GET", "/api/x/delayed/%2F/nope")).status == 404
        assert (await client.ask("GET", "/api/x/delayed/nope/later")).status == 404
