"""Federation between two brokers in one process: what is forwarded, when, and what is told of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from amqp_broker.broker.problems import NotThere, NotValid
from amqp_broker.client.connection import AmqpClient, connected
from amqp_broker.client.conversation import Message
from amqp_broker.client.uri import parse_uri
from amqp_broker.server.federation.headers import binding_arguments, from_queue, may_go_on
from amqp_broker.server.federation.supervisor import LinkInfo
from amqp_broker.wire.content import Properties, encode_content_header
from amqp_broker.wire.methods import Basic, Confirm, Exchange, Queue
from amqp_broker.wire.table import Table
from tests.support.managed import managing
from tests.support.served import Served, on_a_jumping_clock, serving, until


@asynccontextmanager
async def brokers(*names: str) -> AsyncIterator[list[Served]]:
    """As many brokers as there are names of clusters."""
    if not names:
        yield []
        return
    async with serving(cluster_name=names[0]) as first, brokers(*names[1:]) as others:
        yield [first, *others]


@asynccontextmanager
async def client_of(served: Served) -> AsyncIterator[AmqpClient]:
    async with connected(parse_uri(address_of(served)), name="test") as client:
        yield client


def address_of(served: Served) -> str:
    return f"amqp://guest:guest@127.0.0.1:{served.ports[0]}"


def set_parameter(served: Served, component: str, name: str, value: object) -> None:
    parameters = served.broker.administration.on_behalf_of("test").parameters
    served.broker.handle(lambda: parameters.set_parameter("/", component, name, value))


def federate(here: Served, there: Served, **more: Any) -> None:
    set_parameter(here, "federation-upstream", "up", {"uri": address_of(there), "reconnect-delay": 1, **more})
    set_policy(here, "^f", {"federation-upstream-set": "all"})


def set_policy(served: Served, pattern: str, definition: dict[str, object]) -> None:
    parameters = served.broker.administration.on_behalf_of("test").parameters
    value: dict[str, object] = {"pattern": pattern, "definition": definition}
    served.broker.handle(lambda: parameters.set_policy("/", "p", value))


def clear_policy(served: Served) -> None:
    parameters = served.broker.administration.on_behalf_of("test").parameters
    served.broker.handle(lambda: parameters.clear_policy("/", "p"))


def links(served: Served) -> list[LinkInfo]:
    return served.server.federation.all()


def is_running(served: Served, count: int = 1) -> bool:
    return [one["state"] for one in links(served)] == ["running"] * count


async def publish(client: AmqpClient, exchange: str, routing_key: str, body: bytes, **properties: Any) -> None:
    header = encode_content_header(len(body), Properties(delivery_mode=2, **properties))
    client.conversation.publish(exchange, routing_key, header, body)
    await client.flush()


async def next_message(client: AmqpClient) -> Message:
    while True:
        event = await client.next_event()
        if isinstance(event, Message):
            return event


async def declare_bound(client: AmqpClient, exchange: str, queue: str, routing_key: str, kind: str = "direct") -> None:
    await client.call(Exchange.Declare, exchange=exchange, exchange_type=kind, durable=True)
    await client.call(Queue.Declare, queue=queue, durable=True)
    await client.call(Queue.Bind, queue=queue, exchange=exchange, routing_key=routing_key)


def queues(served: Served) -> dict[str, Any]:
    return served.broker.virtual_hosts["/"].queues


def exchanges(served: Served) -> dict[str, Any]:
    return served.broker.virtual_hosts["/"].exchanges


def bindings_from(served: Served, exchange: str) -> list[str]:
    found = exchanges(served).get(exchange)
    return [] if found is None else sorted(one.routing_key for one in found.bindings.values())


# --- exchanges


@on_a_jumping_clock
async def test_what_is_published_there_comes_here_as_far_as_it_is_bound() -> None:
    async with brokers("west", "east") as (here, there), client_of(here) as mine, client_of(there) as theirs:
        federate(here, there)
        await declare_bound(mine, "f.x", "mine", "k")
        await until(lambda: is_running(here))
        assert bindings_from(there, "f.x") == ["k"]
        for routing_key in ("k", "other", "k"):
            await publish(theirs, "f.x", routing_key, b"body", user_id="guest", headers={"own": 1})
        await until(lambda: links(here)[0]["forwarded"] == 2)
        assert queues(here)["mine"].ready_count == 2
        await mine.call(Basic.Consume, queue="mine")
        message = await next_message(mine)
        place = {
            "uri": f"amqp://127.0.0.1:{there.ports[0]}",
            "exchange": "f.x",
            "redelivered": False,
            "cluster-name": "east",
            "vhost": "/",
        }
        assert message.body == b"body"
        assert message.properties.headers == {"own": 1, "x-received-from": [place]}
        assert (message.properties.user_id, message.properties.delivery_mode) == (None, 2)


@on_a_jumping_clock
async def test_bindings_follow_and_what_was_there_for_the_link_goes_with_it() -> None:
    async with brokers("west", "east") as (here, there), client_of(here) as mine:
        federate(here, there)
        await declare_bound(mine, "f.x", "mine", "k")
        await until(lambda: is_running(here))
        await mine.call(Queue.Bind, queue="mine", exchange="f.x", routing_key="new")
        await until(lambda: bindings_from(there, "f.x") == ["k", "new"])
        await mine.call(Queue.Unbind, queue="mine", exchange="f.x", routing_key="k")
        await until(lambda: bindings_from(there, "f.x") == ["new"])
        internal = "federation: f.x -> west A"
        assert (exchanges(there)[internal].type_name, exchanges(there)[internal].internal) == (
            "x-federation-upstream",
            True,
        )
        assert list(queues(there)) == ["federation: f.x -> west"]
        await mine.call(Queue.Delete, queue="mine")
        await until(lambda: not bindings_from(there, "f.x"))
        clear_policy(here)
        await until(lambda: not links(here) and not queues(there) and internal not in exchanges(there))


@on_a_jumping_clock
async def test_nothing_is_missed_while_the_link_is_down() -> None:
    async with brokers("west", "east") as (here, there), client_of(here) as mine, client_of(there) as theirs:
        federate(here, there)
        await declare_bound(mine, "f.x", "mine", "k")
        await until(lambda: is_running(here))
        here.server.federation.pause(here.broker, "/", "up", is_paused=True, who="test")
        await until(lambda: links(here)[0]["state"] == "paused")
        await mine.call(Queue.Bind, queue="mine", exchange="f.x", routing_key="late")
        for routing_key in ("k", "late"):
            await publish(theirs, "f.x", routing_key, routing_key.encode())
        await until(lambda: queues(there)["federation: f.x -> west"].ready_count == 1)
        here.server.federation.pause(here.broker, "/", "up", is_paused=False, who="test")
        await until(lambda: is_running(here) and queues(here)["mine"].ready_count == 1)
        assert bindings_from(there, "f.x") == ["k", "late"]
        assert sorted(name for name in exchanges(there) if name.startswith("federation")) == [
            "federation: f.x -> west B"
        ]
        with pytest.raises(NotThere):
            here.server.federation.pause(here.broker, "/", "none", is_paused=True, who="test")


@on_a_jumping_clock
async def test_a_change_that_a_crash_cut_short_is_made_good() -> None:
    async with brokers("west", "east") as (here, there), client_of(here) as mine, client_of(there) as theirs:
        for suffix in ("A", "B"):
            await theirs.call(
                Exchange.Declare, exchange=f"federation: f.x -> west {suffix}", exchange_type="fanout", durable=True
            )
        federate(here, there)
        await declare_bound(mine, "f.x", "mine", "k")
        await until(lambda: is_running(here))
        assert [name for name in exchanges(there) if name.startswith("federation")] == ["federation: f.x -> west B"]
        assert bindings_from(there, "f.x") == ["k"]


@pytest.mark.parametrize("series", ["3.10", "3.13"])
def test_an_upstream_that_knows_no_federation(series: str) -> None:
    @on_a_jumping_clock
    async def run() -> None:
        async with serving(cluster_name="west") as here, serving(behave_like=series) as there, client_of(here) as mine:
            there.broker.exchange_types._find_more = None
            federate(here, there)
            await declare_bound(mine, "f.x", "mine", "k")
            await until(lambda: is_running(here))
            assert exchanges(there)["federation: f.x -> west A"].type_name == "fanout"
            async with client_of(there) as theirs:
                been: list[Any] = [{"cluster-name": "west", "vhost": "/"}]
                await publish(theirs, "f.x", "k", b"been", headers={"x-received-from": been})
                await publish(theirs, "f.x", "k", b"new")
                await until(lambda: queues(here)["mine"].ready_count == 1)
                await until(lambda: queues(there)["federation: f.x -> west"].unacknowledged_count == 0)

    run()


@on_a_jumping_clock
async def test_a_message_goes_round_no_circle() -> None:
    async with brokers("a", "b") as (a, b), client_of(a) as of_a, client_of(b) as of_b:
        await declare_bound(of_a, "f.x", "qa", "k")
        await declare_bound(of_b, "f.x", "qb", "k")
        federate(a, b, **{"max-hops": 5})
        federate(b, a, **{"max-hops": 5})
        await until(lambda: is_running(a) and is_running(b))
        await publish(of_a, "f.x", "k", b"once")
        await publish(of_b, "f.x", "k", b"once")
        await until(lambda: (queues(a)["qa"].ready_count, queues(b)["qb"].ready_count) == (2, 2))
        await trio.sleep(5)
        assert (queues(a)["qa"].ready_count, queues(b)["qb"].ready_count) == (2, 2)
        assert [one["forwarded"] for served in (a, b) for one in links(served)] == [1, 1]


@pytest.mark.parametrize(("hops", "arrived"), [(1, 0), (2, 1)])
def test_how_far_a_message_comes(hops: int, arrived: int) -> None:
    @on_a_jumping_clock
    async def run() -> None:
        async with brokers("a", "b", "c") as (a, b, c), client_of(a) as of_a, client_of(c) as of_c:
            await declare_bound(of_c, "f.x", "end", "k")
            federate(c, b, **{"max-hops": hops})
            await until(lambda: is_running(c))
            federate(b, a, **{"max-hops": hops})
            await until(lambda: is_running(b))
            assert len(bindings_from(a, "f.x")) == arrived
            await publish(of_a, "f.x", "k", b"body")
            await trio.sleep(2)
            assert queues(c)["end"].ready_count == arrived

    run()


@on_a_jumping_clock
async def test_within_one_broker_and_by_other_names() -> None:
    async with brokers("one") as (one,), client_of(one) as client:
        one.broker.handle(lambda: one.broker.administration.on_behalf_of("t").add_virtual_host("far"))
        users = one.broker.administration.on_behalf_of("t")
        one.broker.handle(lambda: users.set_permission("guest", "far", ".*", ".*", ".*"))
        upstream = {"uri": "amqp:///far", "exchange": "source", "expires": 100_000, "message-ttl": 90_000}
        set_parameter(one, "federation-upstream", "up", upstream)
        set_parameter(one, "federation-upstream-set", "some", [{"upstream": "up", "ack-mode": "no-ack"}])
        set_policy(one, "^f", {"federation-upstream-set": "some"})
        await declare_bound(client, "f.x", "mine", "#", "topic")
        await until(lambda: is_running(one))
        far = one.broker.virtual_hosts["far"]
        assert far.exchanges["source"].type_name == "topic"
        queue = far.queues["federation: source -> one:/:f.x"]
        assert (queue.arguments.expires_ms, queue.arguments.message_ttl_ms) == (100_000, 90_000)
        async with connected(parse_uri(address_of(one) + "/far"), name="test") as theirs:
            await publish(theirs, "source", "a.b", b"body")
            await until(lambda: queues(one)["mine"].ready_count == 1)


# --- queues


@on_a_jumping_clock
async def test_a_queue_takes_what_waits_there_while_its_consumers_have_nothing() -> None:
    async with brokers("west", "east") as (here, there), client_of(here) as mine, client_of(there) as theirs:
        federate(here, there, **{"prefetch-count": 2})
        await theirs.call(Queue.Declare, queue="f.q", durable=True)
        for number in range(10):
            await publish(theirs, "", "f.q", b"%d" % number, headers={"CC": ["none"]})
        await mine.call(Queue.Declare, queue="f.q", durable=True)
        await until(lambda: is_running(here))
        await trio.sleep(2)
        assert queues(there)["f.q"].ready_count == 10  # nobody here wants any
        await mine.call(Basic.Qos, prefetch_count=1)
        await mine.call(Basic.Consume, queue="f.q")
        first = await next_message(mine)
        headers: dict[str, Any] = dict(first.properties.headers or {})
        (place,) = headers["x-received-from"]
        assert {name: headers[name] for name in headers if name != "x-received-from"} == {
            "x-original-exchange": "",
            "x-original-routing-key": "f.q",
            "x-original-cc": ["none"],
        }
        assert place == {
            "uri": f"amqp://127.0.0.1:{there.ports[0]}",
            "queue": "f.q",
            "redelivered": False,
            "visit-count": 1,
        }
        await trio.sleep(2)
        assert not queues(there)["f.q"].consumers  # there is enough here
        assert 10 - queues(there)["f.q"].ready_count <= 4
        bodies = [first.body]
        mine.conversation.say(Basic.Ack, delivery_tag=first.delivery_tag)
        await mine.flush()
        while len(bodies) < 10:
            message = await next_message(mine)
            bodies.append(message.body)
            mine.conversation.say(Basic.Ack, delivery_tag=message.delivery_tag)
            await mine.flush()
        assert bodies == [b"%d" % number for number in range(10)]
        await until(lambda: len(queues(there)["f.q"].consumers) == 1)
        assert next(iter(queues(there)["f.q"].consumers)).priority == -1


@on_a_jumping_clock
async def test_a_queue_keeps_its_upstream_queue_when_it_is_federated_no_more() -> None:
    async with brokers("west", "east") as (here, there), client_of(here) as mine:
        federate(here, there)
        await mine.call(Queue.Declare, queue="f.q", durable=True)
        await until(lambda: is_running(here))
        await mine.call(Queue.Delete, queue="f.q")
        await until(lambda: not links(here))
        assert list(queues(there)) == ["f.q"]


# --- failures


@on_a_jumping_clock
async def test_a_link_that_fails_says_why_and_begins_again() -> None:
    async with brokers("west", "east") as (here, there), client_of(here) as mine, client_of(there) as theirs:
        await theirs.call(Queue.Declare, queue="f.q")  # not durable; the link takes it as it is
        federate(here, there)
        await mine.call(Queue.Declare, queue="f.q", durable=True)
        await until(lambda: is_running(here))
        await mine.call(Basic.Consume, queue="f.q")
        await until(lambda: len(queues(there)["f.q"].consumers) == 1)
        await theirs.call(Queue.Delete, queue="f.q")
        await until(lambda: links(here)[0]["state"] == "error")
        assert links(here)[0]["reason"] == "the queue that messages come from was deleted"
        await until(lambda: is_running(here) and len(queues(there)["f.q"].consumers) == 1)


@on_a_jumping_clock
async def test_who_cannot_be_reached_is_told_without_the_password() -> None:
    async with brokers("west") as (here,), client_of(here) as mine:
        upstream = {"uri": ["amqp://guest:secret@127.0.0.1:1"], "reconnect-delay": 0}
        set_parameter(here, "federation-upstream", "up", upstream)
        set_policy(here, "^f", {"federation-upstream": "up"})
        await mine.call(Exchange.Declare, exchange="f.x", exchange_type="fanout")
        await until(lambda: bool(links(here)) and links(here)[0]["state"] == "error")
        assert links(here)[0]["reason"].startswith("amqp://guest@127.0.0.1:1"), links(here)
        here.server.federation.restart(links(here)[0]["id"])
        assert not links(here)
        await until(lambda: bool(links(here)) and links(here)[0]["state"] == "error")
        with pytest.raises(NotThere):
            here.server.federation.restart("none")


@on_a_jumping_clock
async def test_what_is_delivered_and_not_confirmed_here_is_not_lost() -> None:
    async with brokers("west", "east") as (here, there), client_of(here) as mine, client_of(there) as theirs:
        federate(here, there)
        await declare_bound(mine, "f.x", "mine", "k")
        await until(lambda: is_running(here))
        await theirs.call(Confirm.Select)
        for number in range(200):
            await publish(theirs, "f.x", "k", b"%d" % number)
            if number == 100:
                for connection in tuple(there.broker.open_connections):  # all but the test's own
                    if "Federation" in str(connection.inspect()):
                        connection.close_forcibly("test")
        await until(lambda: is_running(here) and queues(here)["mine"].ready_count >= 200)
        await mine.call(Basic.Consume, queue="mine", no_ack=True)
        missing = {b"%d" % number for number in range(200)}
        while missing:
            missing.discard((await next_message(mine)).body)


# --- over HTTP


@on_a_jumping_clock
async def test_what_the_api_tells_of_links() -> None:
    async with managing(cluster_name="west") as managed:
        client = await managed.administrator()
        links_of = "/api/federation-links"
        assert (await client.ask("GET", links_of)).json == []
        upstream = {"uri": "amqp://guest:secret@127.0.0.1:1", "queue": "far", "reconnect-delay": 0}
        put = await client.ask("PUT", "/api/parameters/federation-upstream/%2F/up", {"value": upstream})
        assert put.status == 201
        policy = {"pattern": "^f", "definition": {"federation-upstream": "up"}}
        assert (await client.ask("PUT", "/api/policies/%2F/p", policy)).status == 201
        await client.ask("PUT", "/api/queues/%2F/f.q", {"durable": True})
        federation = managed.server.federation
        await until(lambda: [one["state"] for one in federation.all()] == ["error"])
        (link,) = (await client.ask("GET", f"{links_of}/%2F")).json
        told = ("queue", "upstream_queue", "type", "vhost", "upstream", "status", "uri", "consumer_tag")
        assert [link[name] for name in told] == [
            "f.q", "far", "queue", "/", "up", "error", "amqp://127.0.0.1:1", "federation-link-up",
        ]  # fmt: skip
        assert "secret" not in link["error"]
        assert (await client.ask("GET", f"{links_of}/state/down")).json == [link]
        assert (await client.ask("GET", f"{links_of}/%2F/state/down")).json == [link]
        restart = f"{links_of}/vhost/%2F/{{}}/{link['node']}/restart"
        assert (await client.ask("DELETE", restart.format(link["id"]))).status == 204
        assert (await client.ask("DELETE", restart.format("none"))).status == 404
        await client.stream.aclose()


# --- parameters


@pytest.mark.parametrize(
    ("component", "value", "problem"),
    [
        ("federation-upstream", {}, 'Key "uri" not found in up'),
        ("federation-upstream", 1, "up not a list 1"),
        ("federation-upstream", {"uri": 5}, "uri should be list, actually was 5"),
        ("federation-upstream", {"uri": "http://x"}, "begins with amqp://"),
        (
            "federation-upstream",
            {"uri": "amqp://", "max-hops": "1"},
            'max-hops should be a number, actually was <<"1">>',
        ),
        ("federation-upstream", {"uri": "amqp://", "nope": 1}, 'Unrecognised terms [{<<"nope">>,1}] in up'),
        ("federation-upstream", {"uri": "amqp://", "queue": 1}, "queue should be binary, actually was 1"),
        (
            "federation-upstream",
            {"uri": "amqp://", "ack-mode": "x"},
            'ack-mode should be one of [<<"no-ack">>,<<"on-publish">>,<<"on-confirm">>], actually was <<"x">>',
        ),
        ("federation-upstream-set", [{"uri": "amqp://"}], 'Key "upstream" not found in up'),
        ("federation-upstream-set", {"upstream": "a"}, "up should be list"),
    ],
)
def test_what_is_no_upstream_is_refused(component: str, value: object, problem: str) -> None:
    from amqp_broker.server.federation.definition import check_upstream, check_upstream_set

    with pytest.raises(NotValid) as refused:
        (check_upstream if component == "federation-upstream" else check_upstream_set)("up", value)
    assert problem in str(refused.value)


# --- headers


def test_a_message_goes_on_where_it_has_not_been() -> None:
    been: Table = {"x-received-from": [{"cluster-name": "a", "vhost": "/"}]}
    assert may_go_on({}, 1, "a", "/")
    assert may_go_on({"x-received-from": "no list"}, 1, "a", "/")
    assert not may_go_on(been, 1, "b", "/")
    assert may_go_on(been, 2, "b", "/")
    assert not may_go_on(been, 2, "a", "/")
    assert may_go_on(been, 2, "a", "other")


def test_a_binding_goes_a_hop_less_far_each_time() -> None:
    place: Table = {"cluster-name": "a", "vhost": "/", "exchange": "/:x A"}
    once: Any = binding_arguments({"own": 1}, place, 2, "b", "/")
    assert once == {"own": 1, "x-bound-from": [{**place, "hops": 2}]}
    twice: Any = binding_arguments(once, {**place, "cluster-name": "b"}, 5, "c", "/")
    assert twice is not None
    assert [one["hops"] for one in twice["x-bound-from"]] == [1, 2]
    assert binding_arguments(twice, place, 5, "d", "/") is None  # so far and no further
    assert binding_arguments(once, place, 5, "a", "/") is None  # it comes from there


def test_a_message_that_comes_again_is_counted() -> None:
    place: Table = {"uri": "amqp://a", "queue": "q", "redelivered": False}
    once = from_queue({}, place, "x", "k")
    other = from_queue(once, {**place, "uri": "amqp://b"}, "", "q")
    again: Any = from_queue(other, place, "", "q")
    assert [(one["uri"], one["visit-count"]) for one in again["x-received-from"]] == [
        ("amqp://a", 2),
        ("amqp://b", 1),
    ]
    assert (again["x-original-exchange"], again["x-original-routing-key"]) == ("x", "k")
    made_up: Any = from_queue({"x-received-from": [{**place, "visit-count": 2**63 - 1}]}, place, "", "q")
    assert made_up["x-received-from"][0]["visit-count"] == 2**63 - 1
