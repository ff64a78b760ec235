"""Definitions by HTTP: what one broker exports another imports, as a body or as a file of a form."""

from __future__ import annotations

import json

import pytest

from tests.support.managed import HttpClient, managing
from tests.support.served import on_a_jumping_clock


async def declare_things(client: HttpClient) -> None:
    for path, body in (
        ("/api/vhosts/shop", {"description": "orders"}),
        ("/api/queues/%2F/q", {"durable": True, "arguments": {"x-max-length": 3}}),
        ("/api/exchanges/%2F/x", {"type": "topic"}),
        ("/api/policies/%2F/p", {"pattern": "^q", "definition": {"message-ttl": 5}}),
        ("/api/users/ada", {"password": "secret", "tags": "monitoring"}),
    ):
        assert (await client.ask("PUT", path, body)).status == 201
    assert (await client.ask("POST", "/api/bindings/%2F/e/x/q/q", {"routing_key": "a.#"})).status == 201


@on_a_jumping_clock
async def test_what_one_broker_exports_another_imports() -> None:
    async with managing() as first:
        client = await first.administrator()
        await declare_things(client)
        exported = await client.ask("GET", "/api/definitions?download=a%22b%0D%0A.json")
        assert exported.headers["content-disposition"] == 'attachment; filename="a_b__.json"'
        await client.stream.aclose()
    async with managing() as second:
        client = await second.administrator()
        assert (await client.ask("POST", "/api/definitions", exported.json)).status == 204
        again = await client.ask("GET", "/api/definitions")
        assert again.json == exported.json
        await client.stream.aclose()


@on_a_jumping_clock
async def test_a_browser_sends_them_as_a_file_of_a_form() -> None:
    async with managing() as managed:
        client = await managed.administrator()
        document = json.dumps({"queues": [{"name": "q", "durable": True, "auto_delete": False, "arguments": {}}]})
        form = f'--b\r\nContent-Disposition: form-data; name="file"; filename="d.json"\r\n\r\n{document}\r\n--b--\r\n'
        reply = await client.ask("POST", "/api/definitions/%2F", form, content_type="multipart/form-data; boundary=b")
        assert reply.status == 204
        assert "q" in managed.broker.virtual_hosts["/"].queues
        await client.stream.aclose()


@on_a_jumping_clock
@pytest.mark.parametrize("body", ["no json", "[]", '{"queues": 5}', '{"queues": [{"name": "q", "vhost": "nope"}]}'])
async def test_what_cannot_be_had_changes_nothing(body: str) -> None:
    async with managing() as managed:
        client = await managed.administrator()
        before = (await client.ask("GET", "/api/definitions")).json
        reply = await client.ask("POST", "/api/definitions", body)
        assert (reply.status, reply.json["error"]) == (400, "bad_request")
        assert (await client.ask("GET", "/api/definitions")).json == before
        await client.stream.aclose()
