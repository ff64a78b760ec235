"""Events of shovels and federation links: what comes to the event exchange when they start, run, fail and go."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from amqp_broker.client.connection import AmqpClient, connected
from amqp_broker.client.conversation import Message
from amqp_broker.client.uri import parse_uri
from amqp_broker.wire.methods import Basic, Exchange, Queue
from tests.support.served import Served, on_a_jumping_clock, serving, until

EVENTS = "amq.rabbitmq.event"
NOWHERE = "amqp://guest:secret@127.0.0.1:1"
SHOVEL = {"name": "s", "vhost": "/"}


class Listener:
    """A client that consumes the events of some keys."""

    def __init__(self, client: AmqpClient) -> None:
        self.client = client

    async def listen(self, pattern: str) -> None:
        await self.client.call(Queue.Declare, queue="events")
        await self.client.call(Queue.Bind, queue="events", exchange=EVENTS, routing_key=pattern)
        await self.client.call(Basic.Consume, queue="events", no_ack=True)

    async def next(self) -> tuple[str, dict[str, Any]]:
        """The key of the next event, and its headers without when and by whom."""
        while True:
            message = await self.client.next_event()
            if isinstance(message, Message):
                assert isinstance(message.method, Basic.Deliver)
                headers = dict(message.properties.headers or {})
                assert headers.pop("user_who_performed_action") == "rmq-internal"
                assert isinstance(headers.pop("timestamp_in_ms"), int)
                headers.pop("timestamp", None)
                return str(message.method.routing_key), headers


@asynccontextmanager
async def listening(pattern: str) -> AsyncIterator[tuple[Served, Listener]]:
    async with serving(event_exchange="on") as served, connected(parse_uri(own_address(served)), name="test") as client:
        listener = Listener(client)
        await listener.listen(pattern)
        yield served, listener


def own_address(served: Served) -> str:
    return f"amqp://guest:guest@127.0.0.1:{served.ports[0]}/%2F"


def set_parameter(served: Served, component: str, name: str, value: object) -> None:
    parameters = served.broker.administration.on_behalf_of("test").parameters
    served.broker.handle(lambda: parameters.set_parameter("/", component, name, value))


def clear_parameter(served: Served, component: str, name: str) -> None:
    parameters = served.broker.administration.on_behalf_of("test").parameters
    served.broker.handle(lambda: parameters.clear_parameter("/", component, name))


def is_consumed(served: Served, name: str) -> bool:
    queue = served.broker.virtual_hosts["/"].queues.get(name)
    return queue is not None and bool(queue.consumers)


def federate(served: Served, pattern: str, uri: str) -> None:
    set_parameter(served, "federation-upstream", "up", {"uri": uri, "queue": "there", "exchange": "there"})
    parameters = served.broker.administration.on_behalf_of("test").parameters
    value: dict[str, object] = {"pattern": pattern, "definition": {"federation-upstream": "up"}}
    served.broker.handle(lambda: parameters.set_policy("/", "p", value))


@on_a_jumping_clock
async def test_a_shovel_that_runs_is_changed_and_goes() -> None:
    async with listening("shovel.#") as (served, events):
        definition = {"src-uri": own_address(served), "src-queue": "a", "dest-uri": "amqp://", "dest-queue": "b"}
        set_parameter(served, "shovel", "s", definition)
        assert await events.next() == ("shovel.worker.status", {**SHOVEL, "status": "starting"})
        running = {
            **SHOVEL,
            "status": "running",
            "src_uri": own_address(served).replace("guest:guest@", ""),
            "src_protocol": "amqp091",
            "src_queue": "a",
            "dest_uri": "amqp://",
            "dest_protocol": "amqp091",
        }
        assert await events.next() == ("shovel.worker.status", {**running, "dest_queue": "b"})
        other = {key: value for key, value in definition.items() if key != "dest-queue"}
        set_parameter(served, "shovel", "s", {**other, "dest-exchange": "amq.topic", "dest-exchange-key": "k"})
        assert await events.next() == ("shovel.worker.removed", SHOVEL)
        assert await events.next() == ("shovel.worker.status", {**SHOVEL, "status": "starting"})
        assert await events.next() == (
            "shovel.worker.status",
            {**running, "dest_exchange": "amq.topic", "dest_exchange_key": "k"},
        )
        await until(lambda: is_consumed(served, "a"))  # the shovel runs before it has all that it runs with
        await events.client.call(Queue.Delete, queue="a")
        _, ended = await events.next()
        assert ended.pop("reason")
        assert ended == {**SHOVEL, "status": "terminated"}
        assert [(await events.next())[1]["status"] for _ in range(2)] == ["starting", "running"]
        clear_parameter(served, "shovel", "s")
        assert await events.next() == ("shovel.worker.removed", SHOVEL)


@on_a_jumping_clock
async def test_a_shovel_that_cannot_connect() -> None:
    async with listening("shovel.#") as (served, events):
        value = {"src-uri": NOWHERE, "src-queue": "a", "dest-uri": "amqp://", "dest-queue": "b", "reconnect-delay": 1}
        set_parameter(served, "shovel", "s", value)
        assert await events.next() == ("shovel.worker.status", {**SHOVEL, "status": "starting"})
        for _ in range(2):
            key, failed = await events.next()
            assert (key, failed["status"]) == ("shovel.worker.status", "starting")
            assert "cannot be reached" in failed["reason"]
            assert "secret" not in failed["reason"]
        set_parameter(served, "shovel", "s", {**value, "reconnect-delay": 0})
        statuses = [await events.next() for _ in range(3)]
        assert [(key, headers.get("status")) for key, headers in statuses] == [
            ("shovel.worker.removed", None),
            ("shovel.worker.status", "starting"),
            ("shovel.worker.status", "terminated"),
        ]


@on_a_jumping_clock
async def test_a_link_that_runs_and_goes() -> None:
    async with listening("federation.#") as (served, events):
        client = events.client
        await client.call(Exchange.Declare, exchange="f.x", exchange_type="topic")
        federate(served, "^f", own_address(served))
        await until(lambda: bool(served.server.federation.all()))
        (info,) = served.server.federation.all()
        link = {
            "id": info["id"],
            "type": "exchange",
            "vhost": "/",
            "exchange": "f.x",
            "upstream": "up",
            "upstream_exchange": "there",
        }
        status = {**link, "uri": own_address(served).replace("guest:guest@", "")}
        assert await events.next() == ("federation.link.status", {**status, "status": "starting"})
        running = {**status, "status": "running", "local_connection": info["connection"]}
        assert await events.next() == ("federation.link.status", running)
        await client.call(Exchange.Delete, exchange="f.x")
        assert await events.next() == ("federation.link.removed", link)


@on_a_jumping_clock
async def test_a_link_that_cannot_connect() -> None:
    async with listening("federation.#") as (served, events):
        await events.client.call(Queue.Declare, queue="f.q")
        federate(served, "^f", NOWHERE)
        for expected in ("starting", "error", "starting"):
            key, headers = await events.next()
            assert (key, headers["status"], headers["queue"]) == ("federation.link.status", expected, "f.q")
            assert headers["consumer_tag"] == "federation-link-up"
            assert headers["upstream_queue"] == "there"
            assert ("error" in headers) == (expected == "error")
            assert "secret" not in headers.get("error", "")
        clear_parameter(served, "federation-upstream", "up")
        key, headers = await events.next()
        assert (key, headers["queue"]) == ("federation.link.removed", "f.q")
