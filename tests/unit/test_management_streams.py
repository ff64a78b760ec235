"""Clients of the stream protocol by HTTP, as RabbitMQ's plugin shows them."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pamqp.frame
import pytest
import trio
import trustme
from pamqp import commands

from amqp_broker.management import slices
from amqp_broker.management.api import streams as endpoints
from amqp_broker.network.listeners import STREAMS
from amqp_broker.protocols.stream import codes
from interop.stream_client import PEER_PROPERTIES, data_section, frame, pairs, u16, u32
from tests.support.managed import managing
from tests.support.served import on_a_jumping_clock, until
from tests.support.stream_client import StreamClient


@on_a_jumping_clock
async def test_connections_publishers_and_consumers_are_shown() -> None:
    async with managing() as managed:
        streams = StreamClient(managed.broker)
        streams.create("s")
        streams.declare_publisher(1, "s", "name")
        streams.publish(1, {1: data_section(b"m"), 2: data_section(b"n")})
        streams.subscribe(3, "s", credit=7, properties={"name": "app"})
        streams.read()
        client = await managed.administrator()
        for path in ("", "/%2F"):
            (connection,) = (await client.ask("GET", f"/api/stream/connections{path}")).json
            (publisher,) = (await client.ask("GET", f"/api/stream/publishers{path}")).json
            (consumer,) = (await client.ask("GET", f"/api/stream/consumers{path}")).json
            assert (connection["protocol"], connection["user"], connection["vhost"]) == ("stream", "guest", "/")
            assert publisher["connection_details"]["name"] == connection["name"]
            assert (publisher["publisher_id"], publisher["reference"], publisher["published"]) == (1, "name", 2)
            assert (consumer["subscription_id"], consumer["properties"]) == (3, {"name": "app"})
            assert (consumer["consumed"], consumer["offset"], consumer["offset_lag"]) == (2, 1, 0)
            assert (consumer["credits"], consumer["active"]) == (6, True)
        of_connection = f"/api/stream/connections/%2F/{connection['name'].replace(' ', '%20').replace('>', '%3E')}"
        assert (await client.ask("GET", of_connection)).json == connection
        assert (await client.ask("GET", f"{of_connection}/publishers")).json == [publisher]
        assert (await client.ask("GET", f"{of_connection}/consumers")).json == [consumer]
        assert (await client.ask("GET", "/api/stream/publishers/%2F/s")).json == [publisher]
        assert (await client.ask("GET", "/api/stream/publishers/%2F/t")).json == []
        assert (await client.ask("GET", "/api/stream/connections/%2F/none")).status == 404
        (of_queue,) = (await client.ask("GET", "/api/consumers")).json
        assert (of_queue["consumer_tag"], of_queue["ack_required"]) == ("stream.subid-3", False)
        managed.broker.administration.add_user("ada", "secret", ("management",))
        assert (await client.ask("GET", "/api/stream/connections", user="ada:secret")).json == []
        await client.stream.aclose()


@on_a_jumping_clock
@pytest.mark.parametrize(("path", "name"), [("publishers", "describe_publisher"), ("consumers", "describe_consumer")])
async def test_others_have_their_turn_while_many_are_described(
    path: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    turn, described_in = 0, []
    describe: Callable[..., Any] = getattr(endpoints, name)

    def counted(*arguments: Any) -> Any:
        described_in.append(turn)
        return describe(*arguments)

    async def take_turns() -> None:
        nonlocal turn
        while True:
            turn += 1
            await trio.lowlevel.checkpoint()

    monkeypatch.setattr(slices, "SLICE_S", -1.0)  # a slice is over at once
    monkeypatch.setattr(endpoints, name, counted)
    async with managing() as managed:
        streams = StreamClient(managed.broker)
        streams.create("s")
        for number in range(3):
            streams.declare_publisher(number, "s", f"p{number}")
            streams.subscribe(number, "s", credit=1)
        client = await managed.administrator()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(take_turns)
            rows = (await client.ask("GET", f"/api/stream/{path}")).json
            nursery.cancel_scope.cancel()
        await client.stream.aclose()
    assert len(rows) == len(described_in) == 3
    assert len(set(described_in)) > 1  # of two that go on at once either may be first, but not twice in a row


@on_a_jumping_clock
async def test_what_a_stream_remembers_is_shown() -> None:
    async with managing() as managed:
        streams = StreamClient(managed.broker)
        streams.create("s")
        streams.declare_publisher(1, "s", "writer")
        streams.publish(1, {7: data_section(b"m")})
        streams.store_offset("reader", "s", 2**64 - 1)
        streams.read()
        client = await managed.administrator()
        await client.ask("PUT", "/api/queues/%2F/q", {})
        managed.broker.administration.add_user("ada", "secret", ("management",))

        async def tracked(where: str, user: str = "guest:guest") -> Any:
            answer = await client.ask("GET", f"/api/stream/%2F/{where}", user=user)
            return answer.json if answer.status == 200 else answer.status

        offsets, writers = {"offsets": {"reader": 2**64 - 1}}, {"writers": {"writer": 7}}
        assert await tracked("s/tracking") == await tracked("s/tracking?type=all") == offsets | writers
        assert await tracked("s/tracking?type=offset") == offsets
        assert await tracked("s/tracking?type=writer") == writers
        assert [await tracked("none/tracking"), await tracked("q/tracking")] == [404, 503]
        assert await tracked("s/tracking", user="ada:secret") == 401
        await client.stream.aclose()


@on_a_jumping_clock
async def test_clients_come_over_tls(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = tmp_path / "server.pem"
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(certificate))
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    async with managing(tls_certificate=str(certificate), tls_port=0, stream_tls_port=0) as managed:
        (port,) = [one.port for one in managed.server.endpoints if one.protocol == STREAMS and one.is_tls]
        plain = await managed.connect(port=port)
        async with trio.SSLStream(plain, trusting, server_hostname="localhost") as stream:
            await stream.send_all(frame(PEER_PROPERTIES, u32(7) + pairs({})))
            answer = await stream.receive_some()
            assert answer[4:14] == b"\x80\x11" + u16(1) + u32(7) + u16(codes.OK)


@on_a_jumping_clock
async def test_commands_that_are_refused_are_counted() -> None:
    async with managing(stream_port=0) as managed:
        client = await managed.administrator()

        async def counts() -> dict[str, int]:
            lines = (await client.ask("GET", "/metrics")).body.decode().splitlines()
            found = [line.split(" ") for line in lines if line.startswith("rabbitmq_global_stream_error_")]
            assert all(name.endswith('_total{protocol="stream"}') for name, _ in found)
            names = [name[len("rabbitmq_global_stream_error_") : name.index("_total")] for name, _ in found]
            return dict(zip(names, [int(value) for _, value in found], strict=True))

        assert await counts() == dict.fromkeys(codes.COUNTED.values(), 0)
        streams = StreamClient(managed.broker)
        streams.create("s")
        streams.create("s")
        streams.declare_publisher(1, "missing")
        streams.publish(9, {1: b"", 2: b""})
        streams.credit(9)
        streams.offset("nobody", "s")  # which is no mistake
        streams.send(200, bytes(4))
        assert {name: count for name, count in (await counts()).items() if count} == {
            "stream_already_exists": 1,
            "stream_does_not_exist": 1,
            "publisher_does_not_exist": 1,
            "subscription_id_does_not_exist": 1,
            "unknown_frame": 1,
        }
        await client.stream.aclose()


@on_a_jumping_clock
async def test_a_consumer_of_a_stream_says_how_far_behind_it_is() -> None:
    async with managing() as managed:
        streams = StreamClient(managed.broker)
        streams.create("s")
        streams.declare_publisher(1, "s")
        for number in range(3):
            streams.publish(1, {number: data_section(b"m")})
        streams.subscribe(1, "s", credit=100)
        streams.subscribe(2, "s", credit=0)
        other = await managed.opened()
        methods = (
            commands.Queue.Declare(queue="q"),
            commands.Basic.Consume(queue="q", consumer_tag="of-queue"),
            commands.Basic.Qos(prefetch_count=1),
            commands.Basic.Consume(queue="s", consumer_tag="one-at-a-time", arguments={"x-stream-offset": "first"}),
        )
        await other.send_all(b"".join(pamqp.frame.marshal(method, 1) for method in methods))
        await until(lambda: len(managed.broker.virtual_hosts["/"].queues["s"].consumers) == 3)
        client = await managed.administrator()
        lags = {"of-queue": None, "stream.subid-1": 0, "stream.subid-2": 3, "one-at-a-time": 2}
        listed = (await client.ask("GET", "/api/consumers")).json
        assert {one["consumer_tag"]: one.get("offset_lag") for one in listed} == lags
        of_queue = (await client.ask("GET", "/api/queues/%2F/s")).json["consumer_details"]
        assert sorted(one["offset_lag"] for one in of_queue) == [0, 2, 3]
        await other.aclose()
        await client.stream.aclose()


@on_a_jumping_clock
async def test_how_far_behind_consumers_are_is_a_metric() -> None:
    async with managing() as managed:
        streams = StreamClient(managed.broker)
        for name in ("s", "t", "unread"):
            streams.create(name)
        streams.declare_publisher(1, "s")
        for number in range(3):
            streams.publish(1, {number: data_section(b"m")})
        client = await managed.administrator()

        async def lags(path: str) -> list[str]:
            answer = await client.ask("GET", path)
            name = "stream_consumer_max_offset_lag"
            return [line for line in answer.body.decode().splitlines() if name in line and line[0] != "#"]

        assert await lags("/metrics") == ["rabbitmq_stream_consumer_max_offset_lag 0"]
        streams.subscribe(1, "s", credit=100)
        streams.subscribe(2, "s", credit=0)
        streams.subscribe(3, "t")
        assert await lags("/metrics") == ["rabbitmq_stream_consumer_max_offset_lag 3"]
        family = "/metrics/detailed?family=stream_consumer_metrics"
        assert await lags(family) == [
            'rabbitmq_detailed_stream_consumer_max_offset_lag{vhost="/",queue="s"} 3',
            'rabbitmq_detailed_stream_consumer_max_offset_lag{vhost="/",queue="t"} 0',
        ]
        streams.credit(2, 100)
        assert await lags("/metrics/per-object") == [
            'rabbitmq_stream_consumer_max_offset_lag{vhost="/",queue="s"} 0',
            'rabbitmq_stream_consumer_max_offset_lag{vhost="/",queue="t"} 0',
        ]
        await client.stream.aclose()
