"""A broker that is divided into shards, over the HTTP API of a node that owns none of them: in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from amqp_broker.access.client import Peer
from amqp_broker.access.passwords import SHA256
from amqp_broker.broker.alarms import Resource
from amqp_broker.broker.broker import Broker
from amqp_broker.management.http.division import LISTS
from amqp_broker.management.http.merging import nodes_together
from amqp_broker.management.management import Management
from amqp_broker.management.prometheus.merging import merged
from amqp_broker.network.listeners import HTTP, METRICS, STOMP, Endpoint
from amqp_broker.server.broker_server import BrokerServer
from amqp_broker.server.other_nodes import OtherNode
from amqp_broker.server.sharding.shards import ShardUnreachable
from amqp_broker.settings import Settings
from tests.support.managed import HttpClient, managing
from tests.support.served import QUIET, TrioClock, on_a_jumping_clock

LOCAL = Peer.at("127.0.0.1", 50_000)
PLACES = {"/": 0, "a": 1, "b": 0}


class TwoShards:
    """The root, and the shard of the virtual host a."""

    numbers = (0, 1)

    def __init__(self, nursery: trio.Nursery, servers: list[BrokerServer]) -> None:
        self._nursery = nursery
        self.servers = servers
        self.missing: set[int] = set()
        self.owned: tuple[int, ...] = ()

    def shard_of(self, virtual_host: str) -> int:
        return PLACES.get(virtual_host, 0)

    async def refresh(self) -> None:
        pass

    async def connect(self, shard: int, peer: Peer, protocol: str) -> trio.abc.Stream:
        if shard in self.missing:
            raise ShardUnreachable("no node owns it")
        ours, theirs = trio.testing.memory_stream_pair()
        self._nursery.start_soon(self.servers[shard].serve_stream, theirs, peer, protocol)
        return ours

    async def until_moved(self, shard: int) -> None:
        raise AssertionError("nobody asks that here")


def with_hosts(broker: Broker, *hosts: str) -> None:
    administration = broker.administration
    administration.change_password("guest", "guest", algorithm=SHA256)  # verified at once, without a thread
    for host in hosts:
        if host not in broker.virtual_hosts:
            administration.add_virtual_host(host)
        administration.set_permission("guest", host, ".*", ".*", ".*")
    if "/" not in hosts:
        administration.delete_virtual_host("/")


@asynccontextmanager
async def divided(protocol: str = HTTP) -> AsyncIterator[tuple[HttpClient, TwoShards]]:
    """A client of a node that owns nothing."""
    settings = Settings(**QUIET)
    entrance, root, other = (BrokerServer(settings, TrioClock()) for _ in range(3))
    with_hosts(entrance.broker, "/", "a", "b")
    with_hosts(root.broker, "/", "a", "b")
    with_hosts(other.broker, "a")
    async with trio.open_nursery() as nursery:
        shards = TwoShards(nursery, [root, other])
        entrance.speak_http(Management(entrance, shards).serve)
        for server in (root, other):
            server.speak_http(Management(server).serve)
        for server in (entrance, root, other):
            await nursery.start(server.serve)
        ours, theirs = trio.testing.memory_stream_pair()
        nursery.start_soon(entrance.serve_stream, theirs, LOCAL, protocol)
        yield HttpClient(ours), shards
        nursery.cancel_scope.cancel()


async def declare_three(client: HttpClient) -> None:
    for host in ("%2F", "a", "b"):
        assert (await client.ask("PUT", f"/api/queues/{host}/q", {"durable": True})).status == 201


def names(rows: Any) -> list[str]:
    return [row["vhost"] for row in rows]


@on_a_jumping_clock
async def test_what_is_of_a_virtual_host_is_its_owners_and_lists_are_of_all() -> None:
    async with divided() as (client, shards):
        await declare_three(client)
        assert [len(server.broker.virtual_hosts["a"].queues) for server in shards.servers] == [0, 1]
        assert (await client.ask("GET", "/api/queues/a/q")).json["vhost"] == "a"
        assert names((await client.ask("GET", "/api/queues")).json) == ["/", "a", "b"]
        page = (await client.ask("GET", "/api/queues?page=1&page_size=2&sort=vhost&sort_reverse=true")).json
        assert (names(page["items"]), page["total_count"]) == (["b", "a"], 3)
        assert len((await client.ask("GET", "/api/exchanges")).json) == 3 * 7
        hosts = (await client.ask("GET", "/api/vhosts?columns=name")).json
        assert hosts == [{"name": "/"}, {"name": "a"}, {"name": "b"}]
        window = (await client.ask("GET", "/api/x/queues?sort=vhost&offset=1&limit=1")).json
        assert (window["total"], names(window["items"])) == (3, ["a"])
        totals = (await client.ask("GET", "/api/overview")).json["object_totals"]
        assert (totals["queues"], totals["exchanges"]) == (3, 3 * 7)
        delaying = {"type": "direct", "arguments": {"x-delayed-exchange": True}}
        assert (await client.ask("PUT", "/api/exchanges/a/e", delaying)).status == 201
        assert names((await client.ask("GET", "/api/x/delayed")).json) == ["a"]


@on_a_jumping_clock
async def test_every_list_is_one_of_all_owners() -> None:
    async with divided() as (client, _):
        for path in sorted(LISTS):
            reply = await client.ask("GET", path.format(user="guest", component="shovel", node="here"))
            assert (path, reply.status, type(reply.json)) == (path, 200, list)


async def publish(client: HttpClient, host: str, key: str) -> None:
    body = {"routing_key": key, "properties": {}, "payload": "", "payload_encoding": "string"}
    assert (await client.ask("POST", f"/api/exchanges/{host}/amq.default/publish", body)).status == 200


@on_a_jumping_clock
async def test_what_is_dropped_is_so_at_any_owner() -> None:
    async with divided() as (client, _):
        for host in ("%2F", "a"):
            await client.ask("PUT", f"/api/queues/{host}/q", {"durable": True, "arguments": {"x-max-length": 0}})
        for host in ("%2F", "a", "a"):
            await publish(client, host, "q")
        found = (await client.ask("GET", "/api/x/drops")).json
        assert found["by_reason"]["maxlen"] == 3
        assert [(row["vhost"], row["count"]) for row in found["drops"]] == [("a", 2), ("/", 1)]
        assert (await client.ask("GET", "/api/x/drops?reason=none")).status == 400


@on_a_jumping_clock
async def test_messages_are_traced_at_all_owners_or_at_that_of_one_virtual_host() -> None:
    async with divided() as (client, _):
        await declare_three(client)
        for asked, seen in (({}, ["a", "/"]), ({"vhost": "a"}, ["a"]), ({"vhost": "b"}, []), ({}, ["a", "/"])):
            started = await client.ask("PUT", "/api/x/trace", asked)
            assert (started.status, started.json["on"]) == (200, True)
            for host in ("%2F", "a"):
                await publish(client, host, "q")
                await trio.sleep(0.001)
            found = (await client.ask("GET", "/api/x/trace")).json
            assert (names(found["messages"]), found["traces"], found["on"]) == (seen, len(seen), True)
            assert found["vhost"] == asked.get("vhost")
        assert names((await client.ask("GET", "/api/x/trace?limit=1")).json["messages"]) == ["a"]
        assert (await client.ask("PUT", "/api/x/trace", {"vhost": "none"})).status == 400
        assert (await client.ask("DELETE", "/api/x/trace")).status == 204
        assert (await client.ask("GET", "/api/x/trace")).json["on"] is False


def test_files_of_traces_are_those_of_all_owners(tmp_path: Path) -> None:
    async def look() -> None:  # at files, in a thread, for which a clock that jumps does not wait
        async with divided() as (client, shards):
            for number, server in enumerate(shards.servers):
                server.control_folder = tmp_path / str(number)
                (server.control_folder / "traces").mkdir(parents=True)
                for name in (f"of-{number}.log", "of-each.log"):
                    (server.control_folder / "traces" / name).write_text(f"{number}")
            sizes = {"of-0.log": 1, "of-1.log": 1, "of-each.log": 2}
            files = [{"name": name, "size": size} for name, size in sizes.items()]
            for path in ("/api/trace-files", "/api/trace-files/node/rabbit"):
                assert (await client.ask("GET", path)).json == files
            for name, text in (("of-1.log", b"1"), ("of-each.log", b"01")):
                assert (await client.ask("GET", f"/api/trace-files/{name}")).body == text
                assert (await client.ask("DELETE", f"/api/trace-files/{name}")).status == 204
                assert (await client.ask("GET", f"/api/trace-files/{name}")).status == 404
            assert (await client.ask("DELETE", "/api/trace-files/of-1.log")).status == 404
            assert (await client.ask("GET", "/api/trace-files")).json == files[:1]

    trio.run(look)


@on_a_jumping_clock
async def test_users_are_the_roots_and_so_are_virtual_hosts() -> None:
    async with divided() as (client, shards):
        await declare_three(client)
        root, other = shards.servers
        assert (await client.ask("PUT", "/api/users/ada", {"password_hash": "", "tags": ""})).status == 201
        assert root.broker.users.get("ada") is not None
        assert other.broker.users.get("ada") is None, "the directory brings it there"
        assert (await client.ask("PUT", "/api/vhosts/a", {"tracing": True})).status == 204
        assert [server.broker.firehose.is_on("a") for server in shards.servers] == [True, True]
        assert (await client.ask("POST", "/api/vhosts/a/deletion/protection")).status == 204
        assert (await client.ask("DELETE", "/api/vhosts/a")).status == 412
        assert (await client.ask("DELETE", "/api/vhosts/a/deletion/protection")).status == 204
        assert (await client.ask("DELETE", "/api/vhosts/a")).status == 204
        assert "a" not in root.broker.virtual_hosts
        assert "a" in other.broker.virtual_hosts, "the directory takes it away there"


@on_a_jumping_clock
async def test_without_the_root_a_virtual_host_is_not_deleted() -> None:
    async with divided() as (client, shards):
        await declare_three(client)
        shards.missing.add(0)
        assert (await client.ask("DELETE", "/api/vhosts/a")).status == 503
        assert len(shards.servers[1].broker.virtual_hosts["a"].queues) == 1


@on_a_jumping_clock
async def test_an_alarm_of_any_owner_is_one_of_the_broker() -> None:
    async with divided() as (client, shards):
        path = "/api/health/checks/alarms"
        assert (await client.ask("GET", path)).status == 200
        other = shards.servers[1].broker
        other.handle(partial(other.set_alarm, Resource.MEMORY, True))
        assert (await client.ask("GET", path)).json["alarms"][0]["resource"] == "memory"


@on_a_jumping_clock
async def test_connections_of_a_user_are_closed_at_all_owners() -> None:
    async with divided() as (client, shards):
        streams = []
        for shard in (0, 1):
            stream = await shards.connect(shard, LOCAL, STOMP)
            await stream.send_all(b"CONNECT\naccept-version:1.2\nhost:a\nlogin:guest\npasscode:guest\n\n\0")
            assert b"CONNECTED" in await stream.receive_some()
            streams.append(stream)
        assert (await client.ask("DELETE", "/api/connections/username/guest")).status == 204
        for stream in streams:
            with trio.fail_after(5):
                assert b"ERROR" in await stream.receive_some()


@on_a_jumping_clock
async def test_definitions_are_of_all_and_go_where_they_belong() -> None:
    async with divided() as (client, shards):
        await declare_three(client)
        policy = {"pattern": "q", "definition": {"max-length": 3}}
        assert (await client.ask("PUT", "/api/policies/a/p", policy)).status == 201
        exported = (await client.ask("GET", "/api/definitions")).json
        assert names(exported["queues"]) == ["/", "b", "a"]
        assert [(row["vhost"], row["name"]) for row in exported["policies"]] == [("a", "p")]
        for host in ("%2F", "a", "b"):
            assert (await client.ask("DELETE", f"/api/queues/{host}/q")).status == 204
        assert (await client.ask("POST", "/api/definitions", exported)).status == 204
        assert names((await client.ask("GET", "/api/queues")).json) == ["/", "a", "b"]
        assert [len(server.broker.virtual_hosts["a"].queues) for server in shards.servers] == [0, 1]


def of_two_hosts(**arguments: object) -> dict[str, Any]:
    """Definitions of a new user, and of a queue in each of two virtual hosts, one of them with arguments."""
    queue = {"name": "n", "durable": True, "auto_delete": False, "arguments": {}}
    return {
        "users": [{"name": "eve", "password_hash": "", "tags": ""}],
        "queues": [{**queue, "vhost": "/"}, {**queue, "vhost": "a", "arguments": arguments}],
    }


def imported(shards: TwoShards) -> tuple[bool, int, int]:
    """Whether the user is there, and how many queues are in the two virtual hosts."""
    root, other = (server.broker for server in shards.servers)
    is_there = root.users.get("eve") is not None
    return is_there, len(root.virtual_hosts["/"].queues), len(other.virtual_hosts["a"].queues)


@on_a_jumping_clock
async def test_definitions_with_a_mistake_change_nothing_at_any_shard() -> None:
    async with divided() as (client, shards):
        reply = await client.ask("POST", "/api/definitions", of_two_hosts(**{"x-max-length": "long"}))
        assert (reply.status, imported(shards)) == (400, (False, 0, 0))
        shards.missing.add(1)
        assert (await client.ask("POST", "/api/definitions", of_two_hosts())).status == 503
        assert imported(shards) == (False, 0, 0)
        shards.missing.clear()
        assert (await client.ask("POST", "/api/definitions?dry_run=true", of_two_hosts())).status == 204
        assert imported(shards) == (False, 0, 0)
        assert (await client.ask("POST", "/api/definitions", of_two_hosts())).status == 204
        assert imported(shards) == (True, 1, 1)


@on_a_jumping_clock
async def test_an_import_that_ends_half_way_says_so_and_goes_on_when_it_is_sent_again() -> None:
    async with divided() as (client, shards):
        real_refresh = shards.refresh

        async def lose_one() -> None:
            if shards.servers[0].broker.users.get("eve") is not None:
                shards.missing.add(1)

        shards.refresh = lose_one  # type: ignore[method-assign]
        reply = await client.ask("POST", "/api/definitions", of_two_hosts())
        assert reply.status == 503
        assert "and what is in shard 0: import the same again" in reply.json["reason"]
        assert imported(shards) == (True, 1, 0)
        shards.refresh = real_refresh  # type: ignore[method-assign]
        shards.missing.clear()
        assert (await client.ask("POST", "/api/definitions", of_two_hosts())).status == 204
        assert imported(shards) == (True, 1, 1)


@on_a_jumping_clock
async def test_an_owner_that_is_missing_is_an_error_and_no_shorter_list() -> None:
    async with divided() as (client, shards):
        await declare_three(client)
        shards.missing.add(1)
        reply = await client.ask("GET", "/api/queues")
        assert reply.status == 503
        assert "shard 1" in reply.json["reason"]
        assert (await client.ask("DELETE", "/api/reset")).status == 503
        assert (await client.ask("GET", "/api/queues/b/q")).status == 200


@pytest.mark.parametrize("path", ["/api/queues", "/api/whoami"])
@on_a_jumping_clock
async def test_nobody_is_let_in_by_a_name_alone(path: str) -> None:
    async with divided() as (client, _):
        assert (await client.ask("GET", path, user=None, x_amqp_broker_user="guest")).status == 401


@on_a_jumping_clock
async def test_what_owners_of_one_node_have_is_added() -> None:
    async with divided() as (client, shards):
        await declare_three(client)
        (node,) = (await client.ask("GET", "/api/nodes")).json
        assert node["queue_declared"] == 3
        path = f"/api/nodes/{node['name']}"
        assert (await client.ask("GET", f"{path}?columns=queue_declared,name")).json == {
            "queue_declared": 3,
            "name": node["name"],
        }
        memory = (await client.ask("GET", f"{path}/memory")).json["memory"]
        assert memory["total"]["rss"] < 2 * node["mem_used"], "both are this process"
        for missing in (f"{path}x", f"{path}x/memory"):
            assert (await client.ask("GET", missing)).status == 404
        shards.missing = {1}
        (node,) = (await client.ask("GET", "/api/nodes")).json
        assert node["queue_declared"] == 2
        shards.missing = {0}
        assert (await client.ask("GET", "/api/nodes")).status == 503


@on_a_jumping_clock
async def test_no_node_is_called_the_owner_where_there_are_several() -> None:
    async with divided() as (client, shards):
        for server in shards.servers:
            server.other_nodes = lambda: [OtherNode("b", "1", 0, {})]
        nodes = (await client.ask("GET", "/api/nodes")).json
        assert [node.get("role") for node in nodes] == [None, None]


@on_a_jumping_clock
async def test_where_all_owners_listen_is_listed_once() -> None:
    async with divided() as (client, shards):
        of_root, of_other = (Endpoint("localhost", "127.0.0.1", port) for port in (5672, 5673))
        shards.servers[0].accepting = lambda: [of_root]
        shards.servers[1].accepting = lambda: [of_root, of_other]
        listeners = (await client.ask("GET", "/api/overview")).json["listeners"]
        assert [one["port"] for one in listeners] == [5672, 5673]


def node_row(name: str, pid: int, **numbers: object) -> dict[str, Any]:
    return {"name": name, "os_pid": str(pid), "disk_free_alarm": False, "mem_alarm": False, **numbers}


def test_memory_is_added_of_processes_and_each_node_speaks_for_itself() -> None:
    of_root = node_row("a", 1, mem_used=5, mem_used_details={"rate": 1.0}, disk_free=7, queue_created=1)
    same = node_row("a", 1, mem_used=5, mem_used_details={"rate": 1.0}, disk_free=7, queue_created=2)
    other = node_row("a", 2, mem_used=6, mem_used_details={"rate": 2.0}, disk_free=7, queue_created=3) | {
        "mem_alarm": True
    }
    b, of_b = node_row("b", 3, mem_used=8, queue_created=4), node_row("b", 3, mem_used=0, queue_created=0)
    c = node_row("c", 4, mem_used=9, queue_created=0)
    found = nodes_together({0: [of_root, of_b, c], 1: [same, of_b, c], 2: [other], 3: [b, c]})
    added = {"mem_used": 11, "mem_used_details": {"rate": 3.0}, "disk_free": 7, "queue_created": 6, "mem_alarm": True}
    assert found == [node_row("a", 1) | added, b, c]


@on_a_jumping_clock
async def test_lists_have_the_pages_and_columns_that_those_of_a_broker_alone_have() -> None:
    queries = ("page=1&page_size=1", "page=2&page_size=9&name=none", "columns=vhost", "sort=name&sort_reverse=true")
    async with divided() as (client, _), managing() as alone:
        with_hosts(alone.broker, "/", "a", "b")
        other = await alone.administrator()
        for one in (client, other):
            await declare_three(one)
            await one.ask("PUT", "/api/policies/a/p", {"pattern": "q", "definition": {"max-length": 1}})
            await one.ask("PUT", "/api/vhost-limits/a/max-queues", {"value": 1})
        for path in sorted(LISTS):
            for query in queries:
                asked = f"{path.format(user='guest', component='shovel', node='here')}?{query}"
                answers = [await one.ask("GET", asked) for one in (client, other)]
                shapes = [shape(answer.json) for answer in answers]
                assert (asked, answers[0].status, shapes[0]) == (asked, answers[1].status, shapes[1])
        await other.stream.aclose()


def shape(value: Any) -> Any:
    """What is in an answer: numbers and texts may differ."""
    if isinstance(value, dict):
        return {name: shape(one) for name, one in value.items() if name not in ("garbage_collection", "reason")}
    return [shape(one) for one in value] if isinstance(value, list) else type(value)


@on_a_jumping_clock
async def test_logins_over_http_are_counted_where_they_are_made() -> None:
    async with divided() as (client, _):
        await client.ask("GET", "/api/queues")
        (attempts,) = (await client.ask("GET", "/api/auth/attempts/rabbit")).json
        assert attempts["auth_attempts_succeeded"] == 2
        assert (await client.ask("DELETE", "/api/auth/attempts/rabbit")).status == 204
        (attempts,) = (await client.ask("GET", "/api/auth/attempts/rabbit")).json
        assert attempts["auth_attempts_succeeded"] == 1


def test_metrics_are_added_and_what_is_of_the_process_is_there_once() -> None:
    queues, process = "# TYPE q gauge\n# HELP q Queues\nq {}\n", "# TYPE process_max_fds gauge\nprocess_max_fds 9\n"
    times = '# TYPE t gauge\nt{a="b c"} 1.5\n'
    first, second = queues.format(2) + process, queues.format(3) + process + times
    assert merged([first, second]) == queues.format(5) + process + times
    assert merged([second, second]).endswith('t{a="b c"} 3.0\n')


@pytest.mark.parametrize(("protocol", "user"), [(METRICS, None), (HTTP, "guest:guest")])
@on_a_jumping_clock
async def test_metrics_of_a_node_are_of_the_shards_that_it_owns(protocol: str, user: str | None) -> None:
    async with divided(protocol) as (client, shards):
        for number, server in enumerate(shards.servers):
            for name in range(number + 1):
                host = server.broker.virtual_hosts["a" if number else "/"]
                host.add_queue(f"q{name}", durable=True, auto_delete=False, owner=None, table={})
        for owned, count in (((), 0), ((1,), 2), ((0, 1), 3)):
            shards.owned = owned
            text = (await client.ask("GET", "/metrics", user=user)).body.decode()
            assert f"\nrabbitmq_queues {count}\n" in text
            assert text.count("# TYPE rabbitmq_build_info ") == 1


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/metrics", "rabbitmq_auth_attempts"),
        ("/metrics/detailed?family=auth_attempt_metrics", "rabbitmq_detailed_auth_attempts"),
    ],
)
@on_a_jumping_clock
async def test_metrics_count_the_logins_of_the_node_that_is_asked(path: str, name: str) -> None:
    async with divided() as (client, shards):
        shards.owned = (0, 1)
        await client.ask("GET", "/api/queues")
        text = (await client.ask("GET", path)).body.decode()
        counted = [f"{name}_total 2", f"{name}_succeeded_total 2", f"{name}_failed_total 0"]
        assert [line for line in text.splitlines() if line.startswith(name)] == counted


@on_a_jumping_clock
async def test_metrics_of_groups_have_the_logins_where_they_are_asked_for() -> None:
    async with divided() as (client, shards):
        shards.owned = (0, 1)
        text = (await client.ask("GET", "/metrics/detailed?family=node_metrics")).body.decode()
        assert "auth_attempts" not in text


@pytest.mark.parametrize("row", [1, None, "vhost", {"name": "q", "vhost": ["a"]}, {"name": "q", "vhost": {}}])
@on_a_jumping_clock
async def test_definitions_that_are_none_are_refused(row: object) -> None:
    async with divided() as (client, _):
        assert (await client.ask("POST", "/api/definitions", {"queues": [row]})).status == 400
