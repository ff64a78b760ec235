"""Connections, channels and consumers by HTTP: who sees which, and that they can be closed; TLS; rates."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trio
import trustme
from pamqp import commands, frame

from amqp_broker.management.samples import SAMPLE_S
from tests.support.amqp10_client import Amqp10Client
from tests.support.managed import HttpClient, Managed, managing
from tests.support.served import on_a_jumping_clock, until


async def consumer_of(managed: Managed, queue: str) -> trio.abc.Stream:
    """A client that consumes a queue."""
    client = await managed.opened()
    declared, consuming = commands.Queue.Declare(queue=queue), commands.Basic.Consume(queue=queue, consumer_tag="tag")
    await client.send_all(frame.marshal(declared, 1) + frame.marshal(consuming, 1))
    queues = managed.broker.virtual_hosts["/"].queues
    await until(lambda: queue in queues and len(queues[queue].consumers) == 1)
    return client


@on_a_jumping_clock
async def test_what_there_is_of_a_client_is_shown_and_hangs_together() -> None:
    async with managing() as managed, await consumer_of(managed, "q"):
        client = await managed.administrator()
        (connection,) = (await client.ask("GET", "/api/connections")).json
        (channel,) = (await client.ask("GET", "/api/channels")).json
        (consumer,) = (await client.ask("GET", "/api/consumers")).json
        assert channel["connection_details"]["name"] == connection["name"]
        assert consumer["channel_details"]["name"] == channel["name"] == f"{connection['name']} (1)"
        assert consumer["queue"] == {"name": "q", "vhost": "/"}
        name = connection["name"].replace(" ", "%20").replace(">", "%3E")
        assert (await client.ask("GET", f"/api/connections/{name}")).json["name"] == connection["name"]
        assert len((await client.ask("GET", f"/api/connections/{name}/channels")).json) == 1
        shown = (await client.ask("GET", f"/api/channels/{name}%20(1)")).json
        assert shown["consumer_details"][0]["consumer_tag"] == "tag"
        assert (await client.ask("GET", "/api/queues/%2F/q")).json["consumer_details"] == [consumer]
        (vhost,) = (await client.ask("GET", "/api/vhosts")).json
        assert vhost["recv_oct"] == connection["recv_oct"] > 0
        await client.stream.aclose()


@on_a_jumping_clock
async def test_a_connection_of_amqp_10_has_the_id_of_its_container() -> None:
    async with managing() as managed, await managed.opened():
        Amqp10Client(managed.broker).open("vhost:/", container="orders-3")
        client = await managed.administrator()
        listed = (await client.ask("GET", "/api/connections")).json
        assert {one["protocol"]: one.get("container_id") for one in listed} == {
            "AMQP 0-9-1": None,
            "AMQP 1-0": "orders-3",
        }
        await client.stream.aclose()


@on_a_jumping_clock
@pytest.mark.parametrize(
    ("tag", "seen"), [("management", 0), ("policymaker", 0), ("monitoring", 1), ("administrator", 1)]
)
async def test_who_sees_whose_connections(tag: str, seen: int) -> None:
    async with managing() as managed:
        managed.broker.administration.add_user("ada", "secret", (tag,), algorithm="rabbit_password_hashing_sha256")
        async with await managed.opened():
            client = await managed.administrator()
            listed = (await client.ask("GET", "/api/connections", user="ada:secret")).json
            assert len(listed) == seen
            assert len((await client.ask("GET", "/api/channels", user="ada:secret")).json) == seen
            (own,) = (await client.ask("GET", "/api/connections")).json
            name = own["name"].replace(" ", "%20").replace(">", "%3E")
            status = (await client.ask("GET", f"/api/connections/{name}", user="ada:secret")).status
            assert status == (200 if seen else 401)
            refused = await client.ask("DELETE", f"/api/connections/{name}", user="ada:secret")
            assert refused.status == (204 if tag == "administrator" else 401)
            await client.stream.aclose()


@on_a_jumping_clock
async def test_a_client_is_told_why_its_connection_is_closed() -> None:
    async with managing() as managed, await managed.opened() as victim:
        client = await managed.administrator()
        (connection,) = (await client.ask("GET", "/api/connections")).json
        name = connection["name"].replace(" ", "%20").replace(">", "%3E")
        assert (await client.ask("DELETE", f"/api/connections/{name}", x_reason="maintenance")).status == 204
        said = b""
        while b"maintenance" not in said:
            said += await victim.receive_some(65_536)
        await client.stream.aclose()


@on_a_jumping_clock
async def test_rates_and_samples_are_there_from_the_second_look_on() -> None:
    async with managing() as managed:
        client = await managed.administrator()
        body = {"properties": {}, "routing_key": "q", "payload": "x", "payload_encoding": "string"}
        await client.ask("PUT", "/api/queues/%2F/q")
        queue = managed.broker.virtual_hosts["/"].queues["q"]
        path = "/api/queues/%2F/q?msg_rates_age=20&msg_rates_incr=5&lengths_age=20&lengths_incr=5"
        # The clock may jump while bytes are on their way, over a look or two: so there is something new before each.
        for published in range(1, 21):
            await client.ask("POST", "/api/exchanges/%2F/amq.default/publish", body)
            await trio.sleep(SAMPLE_S)
            shown = (await client.ask("GET", path)).json
            assert (shown["messages"], queue.ready_count) == (published, published)
            assert shown["message_stats"]["publish"] == published
            if shown["message_stats"]["publish_details"]["rate"] > 0:
                break
        assert shown["message_stats"]["publish_details"]["rate"] > 0
        samples = [sample["sample"] for sample in shown["messages_details"]["samples"]]
        assert samples[0] == published
        assert samples == sorted(samples, reverse=True), "what was sampled last comes first"
        assert len(samples) <= published + 1, "what nobody has seen is not shown"
        await client.stream.aclose()


@on_a_jumping_clock
async def test_it_speaks_tls_with_the_certificate_of_amqp(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = tmp_path / "server.pem"
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(certificate)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    async with managing(tls_certificate=str(certificate), tls_port=0) as managed:
        port = next(one.port for one in managed.server.http_endpoints if one.is_tls)
        plain = await managed.connect(port=port)
        async with trio.SSLStream(plain, trusting, server_hostname="localhost") as stream:
            reply = await HttpClient(stream).ask("GET", "/api/whoami", connection="close")
            assert reply.json["name"] == "guest"
