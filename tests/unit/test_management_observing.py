"""Drops, traces and explained routes by HTTP and by Prometheus: what is answered, and to whom."""

from __future__ import annotations

from pamqp import commands, frame
from pamqp.header import ContentHeader

from tests.support.managed import Managed, managing
from tests.support.served import on_a_jumping_clock, until


async def publish_to_nowhere(managed: Managed) -> None:
    """A client publishes a message that no queue gets."""
    client = await managed.opened()
    properties = commands.Basic.Properties(message_id="m")
    method = commands.Basic.Publish(exchange="amq.topic", routing_key="k")
    await client.send_all(frame.marshal(method, 1) + frame.marshal(ContentHeader(0, 0, properties), 1))
    await until(lambda: managed.broker.drops.totals()["unroutable"] == 1)
    await client.aclose()


@on_a_jumping_clock
async def test_drops_traces_and_routes() -> None:
    async with managing() as managed:
        client = await managed.administrator()
        started = await client.ask("PUT", "/api/x/trace", {"message_id": "m", "headers": {}})
        assert (started.status, started.json["on"], started.json["message_id"]) == (200, True, "m")
        await publish_to_nowhere(managed)
        drops = (await client.ask("GET", "/api/x/drops")).json
        assert drops["by_reason"]["unroutable"] == 1
        (row,) = drops["drops"]
        assert (row["exchange"], row["routing_key"], row["user"], row["count"]) == ("amq.topic", "k", "guest", 1)
        assert (await client.ask("GET", "/api/x/drops/%2F?reason=expired")).json["drops"] == []
        assert (await client.ask("GET", "/api/x/drops/none")).status == 404
        wrong = await client.ask("GET", "/api/x/drops?reason=zz")
        assert (wrong.status, wrong.json["reason"].split(", ")[:2]) == (400, ["reason is one of unroutable", "expired"])
        shown = (await client.ask("GET", "/api/x/trace?message_id=m")).json
        assert [message["outcome"] for message in shown["messages"]] == ["unroutable"]
        assert (await client.ask("GET", "/api/x/trace?message_id=other")).json["messages"] == []
        none = (await client.ask("GET", "/api/x/trace?limit=0")).json
        assert (none["messages"], none["traces"]) == ([], 1)
        assert (await client.ask("GET", "/api/x/trace?limit=few")).status == 400
        assert (await client.ask("DELETE", "/api/x/trace")).status == 204
        assert (await client.ask("GET", "/api/x/trace")).json["on"] is False
        wrong = await client.ask("PUT", "/api/x/trace", {"sample": 0})
        assert (wrong.status, wrong.json["reason"]) == (400, "sample must be a number from 1 to 1000000000")
        query = "vhost=%2F&exchange=amq.headers&key=k&header.level=3&header.name=x"
        explained = (await client.ask("GET", f"/api/x/explain/route?{query}")).json
        assert (explained["routed"], explained["headers"]) == (False, {"level": 3, "name": "x"})
        posted = await client.ask("POST", "/api/x/explain/route", {"vhost": "/", "exchange": "none", "key": "k"})
        assert (posted.status, posted.json["reason"]) == (404, "there is no exchange 'none' in virtual host '/'")
        metrics = (await client.ask("GET", "/metrics")).body.decode()
        assert 'amqp_broker_dropped_total{reason="unroutable"} 1\n' in metrics
        assert 'amqp_broker_dropped_total{reason="expired"} 0\n' in metrics
        await client.stream.aclose()


@on_a_jumping_clock
async def test_what_is_published_and_got_by_http_is_traced_and_copied_as_what_clients_do() -> None:
    async with managing() as managed:
        client = await managed.administrator()
        for name in ("q", "copies"):
            await client.ask("PUT", f"/api/queues/%2F/{name}", {})
        await client.ask("POST", "/api/bindings/%2F/e/amq.rabbitmq.trace/q/copies", {"routing_key": "#"})
        await client.ask("PUT", "/api/vhosts/%2F", {"tracing": True})
        await client.ask("PUT", "/api/x/trace", {"message_id": "m"})
        publish = {"properties": {"message_id": "m"}, "payload": "x", "payload_encoding": "string"}
        for key in ("q", "nowhere"):
            await client.ask("POST", "/api/exchanges/%2F/amq.default/publish", publish | {"routing_key": key})
        get = {"count": 1, "encoding": "auto"}
        for ackmode in ("ack_requeue_true", "ack_requeue_false"):
            await client.ask("POST", "/api/queues/%2F/q/get", get | {"ackmode": ackmode})
        lost, kept = (await client.ask("GET", "/api/x/trace")).json["messages"]
        assert (lost["outcome"], lost["hops"][0]["user"]) == ("unroutable", "guest")
        events = ["published", "delivered", "requeued", "delivered", "acknowledged"]
        assert [hop["event"] for hop in kept["hops"]] == events
        assert {(hop["user"], hop["channel"]) for hop in kept["hops"]} == {("guest", 1)}
        copies = (await client.ask("POST", "/api/queues/%2F/copies/get", get | {"count": 9, "ackmode": ackmode})).json
        assert [one["routing_key"] for one in copies] == ["publish.", "publish.", "deliver.q", "deliver.q"]
        await client.stream.aclose()


@on_a_jumping_clock
async def test_who_may_see_what() -> None:
    async with managing() as managed:
        for tag in ("management", "monitoring"):
            managed.broker.administration.add_user(tag, "secret", (tag,), algorithm="rabbit_password_hashing_sha256")
        client = await managed.administrator()
        await client.ask("PUT", "/api/x/trace", {})
        await publish_to_nowhere(managed)
        assert len((await client.ask("GET", "/api/x/trace")).json["messages"]) == 1
        await client.stream.aclose()
        asked = "/api/x/explain/route?vhost=%2F&exchange=amq.topic&key=k"
        for user, count, status in (("management", 0, 401), ("monitoring", 1, 200)):
            login = f"{user}:secret"
            client = await managed.administrator()
            drops = (await client.ask("GET", "/api/x/drops", user=login)).json
            assert (drops["drops"], drops["by_reason"]["unroutable"]) == ([], count), (
                "a row names an exchange and a key"
            )
            assert (await client.ask("GET", "/api/x/drops/%2F", user=login)).status == 401
            traced = await client.ask("GET", "/api/x/trace", user=login)
            assert (traced.status, traced.json.get("messages", [])) == (status, [])
            assert (await client.ask("GET", asked, user=login)).status == 401, "there are bindings to be seen"
            assert (await client.ask("PUT", "/api/x/trace", {}, user=login)).status == 401
            await client.stream.aclose()
