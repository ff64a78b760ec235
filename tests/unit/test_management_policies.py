"""Policies and parameters by HTTP: what is refused is named, and leaves nothing that the API could not show."""

from __future__ import annotations

import pytest

from amqp_broker.access.passwords import SHA256
from tests.support.managed import managing
from tests.support.served import on_a_jumping_clock

POLICY = '{"pattern": "^q", "definition": {"max-length": 1}, "priority": %s}'


@on_a_jumping_clock
@pytest.mark.parametrize("path", ["policies", "operator-policies"])
async def test_a_name_that_is_too_long(path: str) -> None:
    async with managing() as managed:
        client = await managed.administrator()
        reply = await client.ask("PUT", f"/api/{path}/%2F/{'n' * 256}", POLICY % 1)
        assert reply.status == 400
        assert reply.json["reason"].endswith("policy's name has 1 to 255 bytes")
        assert (await client.ask("GET", f"/api/{path}")).json == []
        await client.stream.aclose()


@on_a_jumping_clock
@pytest.mark.parametrize("number", ["Infinity", "-Infinity", "NaN", "1e999", "-1.5e999"])
async def test_a_number_that_json_does_not_have(number: str) -> None:
    async with managing() as managed:
        client = await managed.administrator()
        before = (await client.ask("GET", "/api/definitions")).json
        for method, path, body in (
            ("PUT", "/api/policies/%2F/p", POLICY % number),
            ("PUT", "/api/global-parameters/p", f'{{"value": [{number}]}}'),
            ("POST", "/api/definitions", f'{{"global_parameters": [{{"name": "p", "value": {number}}}]}}'),
        ):
            reply = await client.ask(method, path, body)
            assert (reply.status, reply.json["error"]) == (400, "bad_request"), path
        assert (await client.ask("GET", "/api/definitions")).json == before
        assert (await client.ask("PUT", "/api/policies/%2F/p", POLICY % "1.5e3")).status == 201
        await client.stream.aclose()


@on_a_jumping_clock
async def test_where_this_broker_is_reached_without_a_password_whoever_says_so_may_be() -> None:
    async with managing() as managed:
        client = await managed.administrator()
        administration = managed.server.broker.administration.on_behalf_of("guest")
        administration.add_virtual_host("theirs")
        administration.add_user("maker", "maker", ("policymaker",), algorithm=SHA256)
        administration.set_permission("maker", "/", "", "", "")
        shovel = {"src-uri": "amqp://", "dest-uri": "amqp://", "src-queue": "q", "dest-queue": "r", "paused": True}
        for component, value, status in (
            ("shovel", shovel, 201),
            ("shovel", {**shovel, "src-uri": "amqp:///theirs"}, 400),
            ("shovel", {**shovel, "dest-uri": ["amqp://elsewhere/theirs", "amqp://guest@/theirs"]}, 400),
            ("shovel", {**shovel, "dest-uri": "amqp:///nowhere"}, 400),
            ("federation-upstream", {"uri": "amqp:///theirs"}, 400),
            ("federation-upstream-set", [{"upstream": "p", "uri": "amqp:///theirs"}], 400),
        ):
            reply = await client.ask("PUT", f"/api/parameters/{component}/%2F/p", {"value": value}, user="maker:maker")
            assert reply.status == status, value
            if status == 400:
                assert 'user "maker" may not connect to vhost' in reply.json["reason"]
        await client.stream.aclose()
