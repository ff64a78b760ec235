"""Virtual hosts by HTTP: what is protected from deletion; and the replicas that quorum queues are said to have."""

from __future__ import annotations

import pytest

from amqp_broker.broker.queues.base import Queue
from amqp_broker.management.api import messages
from amqp_broker.management.slices import Slices
from tests.support.managed import managing
from tests.support.served import on_a_jumping_clock

PROTECTION = "/api/vhosts/shop/deletion/protection"
STATUS = "/api/queues/quorum/%2F/{}/status"
PUBLISH = "/api/exchanges/%2F/amq.default/publish"
REPLICAS = "/api/queues/quorum/%2F/{}/replicas/"


@on_a_jumping_clock
async def test_what_is_protected_from_deletion_stays() -> None:
    async with managing() as managed:
        client = await managed.administrator()
        assert (await client.ask("POST", PROTECTION)).status == 404
        await client.ask("PUT", "/api/vhosts/shop")
        assert (await client.ask("POST", PROTECTION)).status == 204
        assert (await client.ask("PUT", "/api/vhosts/shop", {"description": "orders"})).status == 204
        shown = (await client.ask("GET", "/api/vhosts/shop")).json
        assert (shown["protected_from_deletion"], shown["description"]) == (True, "orders")
        refused = await client.ask("DELETE", "/api/vhosts/shop")
        assert (refused.status, refused.json["error"]) == (412, "precondition_failed")
        assert "shop" in managed.server.broker.virtual_hosts
        definitions = (await client.ask("GET", "/api/definitions")).json
        assert [host.get("protected_from_deletion") for host in definitions["vhosts"]] == [None, True]
        assert (await client.ask("DELETE", PROTECTION)).status == 204
        assert (await client.ask("DELETE", "/api/vhosts/shop")).status == 204
        assert (await client.ask("POST", "/api/definitions", definitions)).status == 204
        assert (await client.ask("DELETE", "/api/vhosts/shop")).status == 412
        await client.stream.aclose()


@on_a_jumping_clock
async def test_what_is_published_and_got_over_http_counts_in_the_virtual_host() -> None:
    async with managing() as managed:
        client = await managed.administrator()
        limit = {"x-max-length": 1, "x-overflow": "reject-publish"}
        await client.ask("PUT", "/api/queues/%2F/q", {"arguments": limit})
        message = {"properties": {}, "routing_key": "q", "payload": "four", "payload_encoding": "string"}
        statuses = [(await client.ask("POST", PUBLISH, message)).status for _ in range(2)]
        assert statuses == [200, 400], "it is full then, and the second is not confirmed"
        for ackmode in ("ack_requeue_true", "ack_requeue_false", "ack_requeue_false"):
            get = {"count": 1, "encoding": "auto", "ackmode": ackmode}
            await client.ask("POST", "/api/queues/%2F/q/get", get)
        expected = {"publish": 2, "confirm": 1, "get": 2, "deliver_get": 2, "get_empty": 1, "redeliver": 1}
        expected |= {"requeue": 1, "ack": 1}
        stats = (await client.ask("GET", "/api/vhosts/%2F")).json["message_stats"]
        assert {name: count for name, count in stats.items() if count and not name.endswith("_details")} == expected
        await client.stream.aclose()


class DeletesTheQueue(Slices):
    """Somebody else's turn, in which a queue is deleted."""

    queue: Queue

    async def take_turn(self) -> None:
        """Delete it."""
        self.queue.go()


@on_a_jumping_clock
async def test_how_many_are_ready_of_each_priority() -> None:
    async with managing() as managed:
        client = await managed.administrator()
        await client.ask("PUT", "/api/queues/%2F/q", {"arguments": {"x-max-priority": 2}})
        for priority in (0, 2, 9):
            message = {
                "properties": {"priority": priority},
                "routing_key": "q",
                "payload": "",
                "payload_encoding": "string",
            }
            await client.ask("POST", PUBLISH, message)
        status = (await client.ask("GET", "/api/queues/%2F/q")).json["backing_queue_status"]
        assert status["priority_lengths"] == {"0": 1, "1": 0, "2": 2}
        await client.stream.aclose()


@on_a_jumping_clock
async def test_what_was_got_of_a_queue_that_is_deleted_meanwhile_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    async with managing() as managed:
        client = await managed.administrator()
        message = {"properties": {}, "routing_key": "q", "payload": "four", "payload_encoding": "string"}
        monkeypatch.setattr(messages, "Slices", DeletesTheQueue)
        for ackmode in ("ack_requeue_true", "ack_requeue_false", "reject_requeue_false"):
            await client.ask("PUT", "/api/queues/%2F/q")
            queue = DeletesTheQueue.queue = managed.broker.virtual_hosts["/"].queues["q"]
            for _ in range(2):
                await client.ask("POST", PUBLISH, message)
            get = {"count": 2, "encoding": "auto", "ackmode": ackmode}
            assert len((await client.ask("POST", "/api/queues/%2F/q/get", get)).json) == 1
            assert (queue.is_deleted, queue.unacknowledged_count) == (True, 0)
        await client.stream.aclose()


@on_a_jumping_clock
async def test_each_node_has_the_only_replica_that_it_can_have() -> None:
    async with managing() as managed:
        client = await managed.administrator()
        node = (await client.ask("GET", "/api/overview")).json["node"]
        await client.ask("PUT", "/api/queues/%2F/q", {"arguments": {"x-queue-type": "quorum"}, "durable": True})
        await client.ask("PUT", "/api/queues/%2F/c", {"durable": True})
        every = {"strategy": "all", "vhost_pattern": ".*", "queue_pattern": ".*"}
        for method, path, body, status, reason in (
            ("POST", REPLICAS.format("q") + "add", {"node": node}, 204, None),
            ("POST", REPLICAS.format("q") + "add", {"node": "rabbit@nowhere"}, 503, "node_not_running"),
            ("POST", REPLICAS.format("q") + "add", {}, 400, "[{key_missing,node}]"),
            ("POST", REPLICAS.format("c") + "add", {"node": node}, 503, "classic_queue_not_supported"),
            ("POST", REPLICAS.format("none") + "add", {"node": node}, 503, "not_found"),
            ("DELETE", REPLICAS.format("q") + "delete", {"node": node}, 503, "last_node"),
            ("DELETE", REPLICAS.format("q") + "delete", {"node": "rabbit@nowhere"}, 202, None),
            ("DELETE", REPLICAS.format("none") + "delete", {"node": node}, 404, "Not Found"),
            ("GET", STATUS.format("q"), None, 200, None),
            ("GET", STATUS.format("c"), None, 503, "classic_queue_not_supported"),
            ("GET", STATUS.format("none"), None, 404, "Not Found"),
            ("POST", f"/api/queues/quorum/replicas/on/{node}/grow", every, 204, None),
            ("POST", f"/api/queues/quorum/replicas/on/{node}/grow", {}, 400, "[{key_missing,vhost_pattern},"),
            ("DELETE", f"/api/queues/quorum/replicas/on/{node}/shrink", None, 202, None),
        ):
            reply = await client.ask(method, path, body)
            assert reply.status == status, path
            assert reason is None or reply.json["reason"].startswith(reason)
        await client.stream.aclose()
