"""The messages of a queue by HTTP: looked at, moved, copied and deleted, and by whom."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing

from amqp_broker.management.api.messages import publish as publish_by_http
from amqp_broker.management.http.call import Call
from amqp_broker.management.http.messages import Request
from tests.support.client import LOOPBACK
from tests.support.disk_broker import DiskBroker
from tests.support.managed import HttpClient, Managed, managing
from tests.support.served import on_a_jumping_clock
from tests.unit.in_trio import in_trio

MESSAGES = "/api/x/queues/%2F/q/messages"


@asynccontextmanager
async def asking() -> AsyncIterator[tuple[Managed, HttpClient]]:
    """A server, and an administrator who asks it."""
    async with managing() as managed:
        client = await managed.administrator()
        async with client.stream:
            yield managed, client


@in_trio
async def test_what_is_published_is_answered_when_it_is_kept() -> None:
    broker = DiskBroker()
    broker.client().channel().declare("q", durable=True)
    broker.writes_at_once = False
    body = {"properties": {"delivery_mode": 2}, "routing_key": "q", "payload": "", "payload_encoding": "string"}
    user = broker.users.get("guest")
    assert user is not None
    server: Any = SimpleNamespace(broker=broker)
    request = Request.of("POST", "/api/exchanges/%2F/amq.default/publish", {})
    names = {"vhost": "/", "exchange": "amq.default"}
    call = Call(server, request, names, user, json.dumps(body).encode(), LOOPBACK)
    answers = []

    async def ask() -> None:
        answers.append(await publish_by_http(call))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        broker.write(sync=False)
        await trio.testing.wait_all_tasks_blocked()
        assert answers == [], "it is not synced"
        broker.write()
    assert [answer.status for answer in answers] == [200]


async def publish(client: HttpClient, payload: str, **properties: Any) -> None:
    body = {"properties": properties, "routing_key": "q", "payload": payload, "payload_encoding": "string"}
    assert (await client.ask("POST", "/api/exchanges/%2F/amq.default/publish", body)).json == {"routed": True}


async def filled(client: HttpClient) -> None:
    await client.ask("PUT", "/api/queues/%2F/q", {"durable": True})
    await publish(client, '{"id": 1}', delivery_mode=2, headers={"tenant": "a.b", "x.y": {"z": [7]}})
    await publish(client, '{"id": 2}', message_id="two")
    await publish(client, "drei ä")


@on_a_jumping_clock
async def test_what_is_seen() -> None:
    async with asking() as (_, client):
        await filled(client)
        seen = (await client.ask("GET", MESSAGES)).json
        assert [one["payload"] for one in seen["messages"]] == ['{"id": 1}', '{"id": 2}', "drei ä"]
        assert (seen["queue"], seen["vhost"], seen["looked_at"], seen["next_offset"]) == ("q", "/", 3, None)
        first = seen["messages"][0]
        assert first["properties"] == {"delivery_mode": 2, "headers": {"tenant": "a.b", "x.y": {"z": [7]}}}
        assert (first["exchange"], first["routing_key"], first["state"], first["redelivered"]) == (
            "",
            "q",
            "ready",
            False,
        )
        page = (await client.ask("GET", f"{MESSAGES}?offset=1&limit=1&truncate=3")).json
        assert [(one["payload"], one["is_payload_cut"]) for one in page["messages"]] == [('{"i', True)]
        assert page["next_offset"] == 2


@on_a_jumping_clock
@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("search=drei%20%C3%A4", [2]),
        ("header.tenant=a.b", [0]),
        ("header.x.y.z=7", [0]),
        ("property.message_id=t*", [1]),
        ("json.id=2", [1]),
        ("routing_key=q&exchange=", [0, 1, 2]),
        ("state=unacked", []),
    ],
)
async def test_what_is_searched_for(query: str, found: list[int]) -> None:
    async with asking() as (_, client):
        await filled(client)
        seen = (await client.ask("GET", f"{MESSAGES}?{query}")).json
        assert [one["offset"] for one in seen["messages"]] == found


@on_a_jumping_clock
@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("limit=501", "limit is a whole number from 0 to 500, not '501'"),
        ("offset=-1", "offset is a whole number"),
        ("state=gone", "state is one of ready, unacked, all, not 'gone'"),
        ("property.id=1", "there is no property 'id'"),
        ("since_ms=1", "since_ms: queue 'q' in vhost '/' is no stream, and only those are looked into from a time on"),
    ],
)
async def test_what_makes_no_sense_is_named(query: str, reason: str) -> None:
    async with asking() as (_, client):
        await filled(client)
        reply = await client.ask("GET", f"{MESSAGES}?{query}")
        assert reply.status == 400
        assert reply.json["reason"].startswith(reason)


@on_a_jumping_clock
async def test_who_may_look() -> None:
    async with asking() as (managed, client):
        administration = managed.broker.administration
        await filled(client)
        administration.add_user("ada", "secret", ("management",), algorithm="rabbit_password_hashing_sha256")
        assert (await client.ask("GET", MESSAGES, user="ada:secret")).status == 401
        administration.set_permission("ada", "/", ".*", ".*", "other")
        assert (await client.ask("GET", MESSAGES, user="ada:secret")).status == 401
        administration.set_permission("ada", "/", "", "", "q")
        assert (await client.ask("GET", MESSAGES, user="ada:secret")).status == 200
        assert (await client.ask("GET", "/api/x/queues/%2F/nope/messages")).status == 404
        assert (await client.ask("GET", "/api/x/queues/nope/q/messages")).status == 404


# --- moved, copied, deleted

REPLAY = "/api/x/queues/%2F/q/replay"
MOVE, COPY = "/api/x/queues/%2F/q/move", "/api/x/queues/%2F/q/copy"


async def payloads(client: HttpClient, queue: str = "q") -> list[str]:
    seen = (await client.ask("GET", f"/api/x/queues/%2F/{queue}/messages")).json
    return [one["payload"] for one in seen["messages"]]


@on_a_jumping_clock
async def test_moved_copied_and_deleted() -> None:
    async with asking() as (_, client):
        await filled(client)
        await client.ask("PUT", "/api/queues/%2F/t", {"durable": True})
        wanted = {"filter": {"json": {"id": "*"}}}
        dry = (await client.ask("POST", MOVE, wanted | {"to": "t", "dry_run": True})).json
        assert (dry["done"], dry["looked_at"], [one["payload"] for one in dry["sample"]]) == (
            2, 3, ['{"id": 1}', '{"id": 2}']
        )  # fmt: skip
        assert await payloads(client, "t") == []
        copied = (
            await client.ask("POST", COPY, wanted | {"to": {"exchange": "", "routing_key": "t"}, "limit": 1})
        ).json
        assert (copied["done"], copied["is_finished"]) == (1, True)
        moved = (await client.ask("POST", MOVE, wanted | {"to": {"queue": "t"}})).json
        assert moved["done"] == 2
        assert await payloads(client, "t") == ['{"id": 1}', '{"id": 1}', '{"id": 2}']
        assert await payloads(client) == ["drei ä"]
        (left,) = (await client.ask("GET", MESSAGES)).json["messages"]
        deleted = await client.ask("DELETE", MESSAGES, {"ids": [left["id"]]})
        assert (deleted.status, deleted.json["done"]) == (200, 1)
        assert await payloads(client) == []
        assert (await client.ask("POST", MOVE, {"origin": True})).json["done"] == 0


@on_a_jumping_clock
@pytest.mark.parametrize(
    ("method", "path", "body", "status", "reason"),
    [
        ("POST", MOVE, {}, 400, "say where to"),
        ("POST", MOVE, {"to": "q", "origin": True}, 400, "say where to"),
        ("POST", MOVE, {"to": 5}, 400, "to is a queue's name"),
        ("POST", MOVE, {"to": {"exchange": "x", "key": "k"}}, 400, "to is a queue's name"),
        ("POST", MOVE, {"to": "q"}, 400, "the messages are in queue 'q' in vhost '/' already"),
        ("POST", MOVE, {"to": "nope"}, 404, "no queue 'nope' in vhost '/'"),
        ("POST", COPY, {"to": {"exchange": "nope"}}, 404, "no exchange 'nope' in vhost '/'"),
        ("POST", COPY, {"to": {"exchange": "", "routing_key": "k" * 256}}, 400, "a routing key has at most 255 bytes"),
        ("POST", MOVE, {"origin": True, "limit": -1}, 400, "limit is a whole number"),
        ("POST", MOVE, {"origin": True, "dry_run": "yes"}, 400, "dry_run is true or false"),
        ("POST", MOVE, {"origin": True, "filter": {"body": "x"}}, 400, "a filter has no 'body'; it may have exchange"),
        ("POST", MOVE, {"origin": True, "filter": {"headers": {"a": 1}}}, 400, "headers is an object of texts"),
        ("POST", MOVE, {"origin": True, "filter": {"search": 1}}, 400, "search is a text"),
        ("POST", MOVE, {"origin": True, "filter": [1]}, 400, "a filter is an object"),
        ("POST", REPLAY, {"to": "t"}, 400, "queue 'q' in vhost '/' has no past"),
        ("DELETE", MESSAGES, {}, 400, "name ids, a filter or a limit"),
        ("DELETE", MESSAGES, {"ids": "1"}, 400, "ids is a list of at most 10000 ids"),
    ],
)
async def test_what_cannot_be_done_is_named(method: str, path: str, body: object, status: int, reason: str) -> None:
    async with asking() as (_, client):
        await filled(client)
        reply = await client.ask(method, path, body)
        assert (reply.status, reply.json["reason"][: len(reason)]) == (status, reason)
        assert len(await payloads(client)) == 3


@on_a_jumping_clock
async def test_who_may_move() -> None:
    async with asking() as (managed, client):
        await filled(client)
        await client.ask("PUT", "/api/queues/%2F/t", {"durable": True})
        administration = managed.broker.administration
        administration.add_user("ada", "secret", ("management",), algorithm="rabbit_password_hashing_sha256")
        for write, read, status in (("t", "no", 401), ("no", "q", 401), ("t", "q", 200)):
            administration.set_permission("ada", "/", "", write, read)
            assert (await client.ask("POST", MOVE, {"to": "t"}, user="ada:secret")).status == status
        assert len(await payloads(client, "t")) == 3
        assert (await client.ask("DELETE", MESSAGES, {"limit": 1}, user="ada:secret")).status == 200
        administration.set_permission("ada", "/", "", "t", "no")
        assert (await client.ask("DELETE", MESSAGES, {"limit": 1}, user="ada:secret")).status == 401
