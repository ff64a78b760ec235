"""Limits that only a whole server knows: open files, memory, the version of TLS."""

from __future__ import annotations

import logging
import ssl
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import cast

import pytest
import trio
import trustme
from pamqp import commands, frame

from amqp_broker.network.listeners import STOMP
from amqp_broker.network.memory_stream import stream_pair
from amqp_broker.network.web_sockets import WebSocketStream
from amqp_broker.server import reception, resources
from amqp_broker.server.protocols import ClientConnection
from amqp_broker.server.stalled import shed_stalled
from tests.faults.hostile_crowd import publication
from tests.support.client import LOOPBACK, PROTOCOL_HEADER
from tests.support.served import on_a_jumping_clock, seconds_until_the_end, serving, until


@on_a_jumping_clock
async def test_no_more_clients_than_there_may_be_open_files(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(reception, "connections_that_fit", lambda: 2)
    caplog.set_level(logging.ERROR)
    async with serving() as served:
        first, second = await served.opened(), await served.opened()
        for _ in range(3):
            async with await served.connect() as refused:
                assert await seconds_until_the_end(refused) < 1
        assert [record.getMessage() for record in caplog.records] == ["refusing connections"]
        await first.aclose()
        await until(lambda: len(served.broker.open_connections) == 1)
        async with await served.opened():
            assert len(served.broker.open_connections) == 2
        await second.aclose()


@on_a_jumping_clock
async def test_no_more_strangers_than_there_may_be_handshakes() -> None:
    async with serving(handshakes_max=2) as served, await served.opened():  # who has logged in does not count
        strangers = [await served.connect() for _ in range(3)]
        assert await seconds_until_the_end(strangers[2]) < 1
        await strangers[0].aclose()
        await until(lambda: len(served.server._connections) == 2)
        assert served.server.arriving_count == 1
        async with await served.opened():
            assert len(served.broker.open_connections) == 2
        for stranger in strangers:
            await stranger.aclose()


@on_a_jumping_clock
async def test_a_defect_in_what_comes_before_the_protocol_ends_one_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object) -> None:
        raise ValueError("a defect")

    monkeypatch.setattr(reception, "read_proxy_header", fail)
    async with serving(proxy_protocol="required") as served:
        for _ in range(2):
            async with await served.connect() as client:
                assert await seconds_until_the_end(client) < 1


@on_a_jumping_clock
async def test_a_web_socket_gathers_no_large_message_of_a_stranger() -> None:
    ours, theirs = stream_pair()
    stream = WebSocketStream(theirs)
    key = (
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: v12.stomp"
    )
    upgrade = f"GET /ws HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{key}\r\n\r\n"
    line_end, large = b"\x82\x81\0\0\0\0\n", b"\x82\xff" + (2**27).to_bytes(8, "big") + bytes(4)
    async with serving() as served:
        await ours.send_all(upgrade.encode())
        assert await stream.do_handshake() == STOMP
        await ours.send_all(line_end + large + bytes(200_000))
        with trio.fail_after(1):
            await served.server.serve_stream(stream, LOOPBACK, STOMP)


@on_a_jumping_clock
async def test_memory_above_the_mark_holds_publishers_back(monkeypatch: pytest.MonkeyPatch) -> None:
    used_bytes = [0]
    monkeypatch.setattr(resources, "resident_bytes", lambda: used_bytes[0])
    async with serving(memory_high_water_bytes=1000, resource_check_ms=1000) as served:
        publisher, consumer = await served.opened(), await served.opened()
        await publisher.send_all(frame.marshal(commands.Queue.Declare(queue="q"), 1) + publication("q", b"1"))
        queues = served.broker.virtual_hosts["/"].queues
        await until(lambda: "q" in queues and queues["q"].ready_count == 1)
        used_bytes[0] = 1001
        await until(lambda: served.broker.alarms.are_raised)
        for _ in range(3):
            await publisher.send_all(publication("q", b"x"))
        await until(lambda: any(one.is_reading_paused for one in served.server._connections))
        assert queues["q"].ready_count == 1  # the one that blocks waits as well, as with RabbitMQ
        await consumer.send_all(frame.marshal(commands.Basic.Consume(queue="q", no_ack=True), 1))
        await until(lambda: queues["q"].ready_count == 0)
        used_bytes[0] = 999
        await until(lambda: not served.broker.alarms.are_raised)
        await until(lambda: not any(one.is_reading_paused for one in served.server._connections))
        await consumer.aclose()
        await publisher.aclose()


@on_a_jumping_clock
async def test_an_old_version_of_tls_is_refused(tmp_path: Path) -> None:
    authority, certificate = trustme.CA(), tmp_path / "server.pem"
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(certificate))
    async with serving(tls_port=0, tls_certificate=str(certificate), tls_version_min="1.3") as served:
        for version, is_taken in ((ssl.TLSVersion.TLSv1_3, True), (ssl.TLSVersion.TLSv1_2, False)):
            context = ssl.create_default_context()
            authority.configure_trust(context)
            context.maximum_version = version
            transport = await served.connect(port=served.ports[1])
            client = trio.SSLStream(transport, context, server_hostname="localhost")
            if is_taken:
                await client.send_all(PROTOCOL_HEADER)
                assert (await client.receive_some())[:1] == b"\x01"
            else:
                with pytest.raises(trio.BrokenResourceError):
                    await client.do_handshake()
            await trio.aclose_forcefully(client)


class Broken:
    """A connection that takes nothing, and fails when it is to end."""

    waiting_bytes, sent_bytes = 1, 0

    def lost(self, reason: str) -> None:
        raise ValueError(reason)


@on_a_jumping_clock
async def test_a_stalled_connection_that_cannot_be_ended_ends_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    with trio.move_on_after(10):
        await shed_stalled(partial(repeat, cast(ClientConnection, Broken()), 1), 1_000)
    assert {record.getMessage() for record in caplog.records} == {"internal error"}
