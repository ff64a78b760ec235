"""What administrators are told of the nodes, by one that has others."""

from __future__ import annotations

import trio

from amqp_broker.broker.alarms import Resource
from amqp_broker.server.other_nodes import OtherNode
from amqp_broker.server.resources import StoreStatus
from tests.support.managed import HttpClient, Managed, managing
from tests.support.served import on_a_jumping_clock

OTHER = OtherNode("b", "0.0.9", -100, {"mem_used": 7, "fd_used": 3, "os_pid": 99, "disk_free": 5, "processors": 4})


async def scraped(managed: Managed) -> str:
    """What Prometheus reads."""
    port = next(one.port for one in managed.server.http_endpoints if one.protocol == "metrics")
    client = HttpClient(await managed.connect(port=port))
    reply = await client.ask("GET", "/metrics", user=None)
    await client.stream.aclose()
    return reply.body.decode()


@on_a_jumping_clock
async def test_all_nodes_of_a_cluster_are_listed() -> None:
    async with managing() as managed:
        managed.server.node_name, managed.server.other_nodes = "a", lambda: [OTHER]
        client = await managed.administrator()
        nodes = (await client.ask("GET", "/api/nodes")).json
        assert [node["name"] for node in nodes] == ["rabbit@a", "rabbit@b"]
        assert nodes[0].keys() == nodes[1].keys()
        assert [node["role"] for node in nodes] == ["owner", "door"]
        other = (await client.ask("GET", "/api/nodes/rabbit@b")).json
        assert (other["mem_used"], other["fd_used"], other["os_pid"], other["processors"]) == (7, 3, "99", 4)
        assert other["uptime"] >= 100_000
        memory = (await client.ask("GET", "/api/nodes/rabbit@b/memory")).json
        assert memory["memory"]["total"]["rss"] == 7
        assert (await client.ask("GET", "/api/nodes/rabbit@c")).status == 404
        host = (await client.ask("GET", "/api/vhosts/%2F")).json
        assert host["cluster_state"] == {"rabbit@a": "running", "rabbit@b": "running"}
        metrics = await scraped(managed)
        assert 'amqp_broker_node_info{node="rabbit@b",version="0.0.9",owner="false"} 1' in metrics
        assert metrics.count("\nrabbitmq_identity_info{") == 1  # dashboards join with it
        assert 'rabbitmq_node="rabbit@a",rabbitmq_cluster="amqp-broker@localhost"' in metrics
        managed.server.cluster_name_elsewhere = lambda: "orders"
        assert 'rabbitmq_node="rabbit@a",rabbitmq_cluster="orders"' in await scraped(managed)
        await client.stream.aclose()


@on_a_jumping_clock
async def test_an_alarm_of_etcd_says_so() -> None:
    async with managing() as managed:
        client = await managed.administrator()
        store = StoreStatus(name="etcd", used_bytes=61, quota_bytes=100, is_low=False)
        managed.server.store_status = lambda: store
        managed.server.broker.set_alarm(Resource.DISK, True)
        (node,) = (await client.ask("GET", "/api/nodes")).json
        assert node["disk_free_alarm"]
        assert node.keys().isdisjoint(("disk_free_alarm_reason", "role"))
        store["is_low"] = True
        (node,) = (await client.ask("GET", "/api/nodes")).json
        assert node["disk_free_alarm"]
        assert node["disk_free_alarm_reason"] == "61 of the 100 bytes of etcd's quota are used"
        problems = (await client.ask("GET", "/api/x/problems")).json["problems"]
        assert [(one["kind"], one["store"]) for one in problems] == [("disk_alarm", "etcd")]
        await client.stream.aclose()


@on_a_jumping_clock
async def test_a_broker_alone_is_one_node() -> None:
    async with managing() as managed:
        client = await managed.administrator()
        assert [node["name"] for node in (await client.ask("GET", "/api/nodes")).json] == ["rabbit@localhost"]
        assert "amqp_broker_node_info" not in await scraped(managed)
        await trio.sleep(11)
        path = "/api/nodes/rabbit@localhost?node_stats_age=10&node_stats_incr=5"
        node = (await client.ask("GET", path)).json
        samples = [[one["sample"] for one in node[f"{name}_details"]["samples"]] for name in ("mem_used", "proc_used")]
        assert min(samples[0]) > 1_000_000
        assert samples[1] == [1, 1, 1]
        await client.stream.aclose()
