"""Since when a queue is idle: told where somebody has looked twice and found it the same, as RabbitMQ tells it."""

from __future__ import annotations

import re
from typing import Any

import pytest
import trio

from amqp_broker.broker.message import Address, Message
from amqp_broker.management import slices
from amqp_broker.wire.content import Properties, encode_content_header
from tests.support.managed import HttpClient, Managed, managing
from tests.support.served import on_a_jumping_clock


async def idle_since(client: HttpClient) -> Any:
    return (await client.ask("GET", "/api/queues/%2F/q")).json.get("idle_since")


async def look(managed: Managed) -> None:
    """Let the broker be looked at a second later."""
    await trio.sleep(1)
    await managed.management.samples.look()


def publish(managed: Managed) -> None:
    queue = managed.broker.virtual_hosts["/"].queues["q"]
    message = Message(Address("", "q", b""), encode_content_header(0, Properties()), b"", False, 0)
    managed.broker.handle(lambda: queue.publish(message))


@on_a_jumping_clock
async def test_a_queue_is_idle_since_the_first_look_that_saw_it_as_it_is() -> None:
    async with managing() as managed:
        managed.management._is_sampling = True  # nobody looks but this test
        managed.broker.virtual_hosts["/"].add_queue("q", durable=True, auto_delete=False, owner=None, table={})
        client = await managed.administrator()
        assert await idle_since(client) is None
        await look(managed)
        assert await idle_since(client) is None, "it was there for the first time"
        await look(managed)
        first = await idle_since(client)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", first)
        await look(managed)
        assert await idle_since(client) == first
        publish(managed)
        assert await idle_since(client) is None
        await look(managed)
        assert await idle_since(client) is None
        await look(managed)
        assert await idle_since(client) > first
        await client.stream.aclose()


class Turns(trio.abc.Instrument):
    """Counts the turns of the task that looks."""

    count = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.count += task.name.endswith("look_at_everything")


@on_a_jumping_clock
async def test_a_look_at_many_queues_gives_others_their_turn_and_forgets_what_has_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(slices, "SLICE_S", -1.0)  # each queue is a slice
    async with managing() as managed:
        managed.management._is_sampling = True  # nobody looks but this test
        samples, host = managed.management.samples, managed.broker.virtual_hosts["/"]
        for number in range(100):
            host.add_queue(f"q{number}", durable=True, auto_delete=False, owner=None, table={})

        async def look_at_everything() -> None:
            await samples.look()

        for wanted in (200, 100):
            turns = Turns()
            trio.lowlevel.add_instrument(turns)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(look_at_everything)
            trio.lowlevel.remove_instrument(turns)
            assert turns.count > wanted, "one to look at each, and one to see whether it is still there"
            for number in range(1, 100):
                host.queues.pop(f"q{number}", None)
        assert samples.values(("queue", "/", "q0"), "messages") == [0, 0]
        assert samples.values(("queue", "/", "q1"), "messages") == []
