"""Connections and channels that go while somebody looks at all of them: they are left out, and nothing fails."""

from __future__ import annotations

import trio

from amqp_broker.management.things import things
from tests.support.client import Client
from tests.support.managed import managing
from tests.support.memory_broker import MemoryBroker
from tests.support.served import on_a_jumping_clock


def test_channels_end_between_two_slices(broker: MemoryBroker) -> None:
    client = Client(broker).open()
    client.channel(1)
    client.channel(2)
    connection = client.connection
    channels, deliveries = connection.inspect_channels(), connection.unacknowledged()
    assert next(channels)["number"] == 1
    assert next(deliveries)[1] == []
    connection.lost("it has left")
    connection.detach()
    assert [*channels] == []
    assert [*deliveries] == []


def test_connections_end_between_two_slices(broker: MemoryBroker) -> None:
    clients = [Client(broker).open() for _ in range(2)]
    seen = []
    for key, _ in things(broker):
        if key[0] == "connection":
            seen.append(key)
            for client in clients:
                client.connection.lost("it has left")
                client.connection.detach()
    assert len(seen) == 1


@on_a_jumping_clock
async def test_a_task_in_the_background_that_fails_ends_nothing_else() -> None:
    async def fail() -> None:
        await trio.lowlevel.checkpoint()
        raise AttributeError("a defect")

    async with managing() as managed:
        managed.server.in_background(fail)
        await trio.sleep(1)
        client = await managed.administrator()
        assert (await client.ask("GET", "/api/whoami")).status == 200
        await client.stream.aclose()
