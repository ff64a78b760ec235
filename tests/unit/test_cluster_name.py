"""The name of the cluster: the setting's, until an administrator gives it another, which is kept."""

from __future__ import annotations

from tests.support.client import PROTOCOL_HEADER
from tests.support.managed import managing
from tests.support.served import on_a_jumping_clock


@on_a_jumping_clock
async def test_a_name_that_is_given_is_a_global_parameter() -> None:
    async with managing(cluster_name="before") as managed:
        client = await managed.administrator()
        assert (await client.ask("GET", "/api/cluster-name")).json == {"name": "before"}
        assert (await client.ask("PUT", "/api/cluster-name", {"name": "orders"})).status == 204
        assert (await client.ask("GET", "/api/cluster-name")).json == {"name": "orders"}
        assert (await client.ask("GET", "/api/overview?columns=cluster_name")).json == {"cluster_name": "orders"}
        kept = managed.broker.global_parameters["", "cluster_name"]
        assert (kept.value, (await client.ask("GET", "/api/global-parameters")).json) == (
            "orders",
            [{"name": "cluster_name", "value": "orders"}],
        )
        await client.stream.aclose()


@on_a_jumping_clock
async def test_clients_are_told_the_name_that_was_given() -> None:
    async with managing(cluster_name="before") as managed:
        client = await managed.administrator()
        await client.ask("PUT", "/api/cluster-name", {"name": "orders"})
        await client.stream.aclose()
        async with await managed.connect() as stream:
            await stream.send_all(PROTOCOL_HEADER)
            start = bytes(await stream.receive_some())
            assert b"\x0ccluster_nameS\x00\x00\x00\x06orders" in start
