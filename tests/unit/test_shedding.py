"""Clients that would keep a connection for nothing are shed: slow ones, half-open ones, and those that take nothing.

A whole server on real sockets, on a clock that jumps ahead when nobody has anything to do.
"""

from __future__ import annotations

import socket
import ssl
import struct
from pathlib import Path

import pytest
import trio
import trustme
from pamqp import commands, frame

from amqp_broker.network.socket_stream import keep_alive
from amqp_broker.network.tls import TLS_PLACE_WAIT_S_MAX
from tests.faults.hostile_crowd import publication
from tests.support.client import PROTOCOL_HEADER
from tests.support.conversation import HANDSHAKE
from tests.support.served import on_a_jumping_clock, seconds_until_the_end, serving, until

HANDSHAKE_S = 10
HEARTBEAT_S = 20
STALL_S = 80
SLACK_S = 5


@on_a_jumping_clock
async def test_a_handshake_byte_by_byte() -> None:
    async with serving() as served, await served.connect() as client, trio.open_nursery() as nursery:

        async def drip() -> None:
            for byte in PROTOCOL_HEADER + b"".join(HANDSHAKE):
                await client.send_all(bytes((byte,)))
                await trio.sleep(1)

        nursery.start_soon(drip)
        assert HANDSHAKE_S <= await seconds_until_the_end(client) <= HANDSHAKE_S + SLACK_S
        nursery.cancel_scope.cancel()


@on_a_jumping_clock
async def test_a_tls_handshake_that_is_never_finished(tmp_path: Path) -> None:
    certificate = tmp_path / "server.pem"
    trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(certificate))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    hello = outgoing.read()
    async with serving(tls_port=0, tls_certificate=str(certificate), tls_handshakes_max=1) as served:
        began_s = trio.current_time()
        first = await served.connect(port=served.ports[1])
        await first.send_all(hello[:100])
        await trio.sleep(0.1)  # the clock jumps when it holds the only place: it keeps the other out for a moment
        second = await served.connect(port=served.ports[1])
        await second.send_all(hello)
        assert (await second.receive_some(1)) == b"\x16"
        assert TLS_PLACE_WAIT_S_MAX < trio.current_time() - began_s < HANDSHAKE_S / 2
        for client in (first, second):
            await seconds_until_the_end(client)
            await client.aclose()
        assert HANDSHAKE_S <= trio.current_time() - began_s <= HANDSHAKE_S + SLACK_S


@on_a_jumping_clock
async def test_a_proxy_header_that_never_comes() -> None:
    async with serving(proxy_protocol="required") as served, await served.connect() as client:
        await client.send_all(b"PROXY TCP4 ")
        assert HANDSHAKE_S <= await seconds_until_the_end(client) <= HANDSHAKE_S + SLACK_S


@on_a_jumping_clock
async def test_a_client_that_has_vanished() -> None:
    async with serving() as served, await served.opened(HEARTBEAT_S) as client:
        await client.send_all(frame.marshal(commands.Queue.Declare(queue="q", exclusive=True), 1))
        assert 2 * HEARTBEAT_S <= await seconds_until_the_end(client) <= 3 * HEARTBEAT_S
        assert not served.broker.virtual_hosts["/"].queues
        assert not len(served.broker.open_connections)


def test_a_client_that_wants_no_heartbeat_is_asked_by_tcp() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            keep_alive(accepted)
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            if hasattr(socket, "TCP_KEEPIDLE"):
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60
        keep_alive(accepted)  # the system refuses it: whoever reads or writes is told why


@on_a_jumping_clock
async def test_a_consumer_that_takes_nothing() -> None:
    body = b"x" * 100_000
    async with serving(output_stall_timeout_ms=STALL_S * 1000) as served:
        publisher = await served.opened()
        stuck = await served.opened(receive_buffer_bytes=4096)
        await publisher.send_all(frame.marshal(commands.Queue.Declare(queue="q"), 1))
        await stuck.send_all(frame.marshal(commands.Basic.Consume(queue="q"), 1))
        for _ in range(100):
            await publisher.send_all(publication("q", body))
        queue = served.broker.virtual_hosts["/"].queues["q"]
        await until(lambda: queue.ready_count + queue.unacknowledged_count == 100)
        assert queue.ready_count > 0, "it was given more than its buffers and the high-water mark hold"
        began_s = trio.current_time()
        await until(lambda: len(served.broker.open_connections) == 1)
        assert STALL_S <= trio.current_time() - began_s <= STALL_S + STALL_S / 4 + SLACK_S
        assert (queue.ready_count, queue.unacknowledged_count) == (100, 0)
        for client in (publisher, stuck):
            await client.aclose()


@on_a_jumping_clock
async def test_last_words_that_nobody_takes() -> None:
    async with serving() as served, await served.opened(receive_buffer_bytes=4096) as client:
        declare = frame.marshal(commands.Queue.Declare(queue="q"), 1)
        await client.send_all(declare + frame.marshal(commands.Basic.Consume(queue="q", no_ack=True), 1))
        for _ in range(100):
            await client.send_all(publication("q", b"x" * 100_000))
        (connection,) = served.broker.open_connections
        connection.close_forcibly("an administrator wants it so")
        began_s = trio.current_time()
        await until(lambda: not served.server._connections)
        assert trio.current_time() - began_s <= 60


@on_a_jumping_clock
async def test_a_reset_in_the_middle_of_a_message() -> None:
    async with serving() as served:
        client = await served.opened()
        await client.send_all(publication("q", b"x" * 100_000)[:-50_000])
        client._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await client.aclose()
        await until(lambda: not served.server._connections)
        assert not len(served.broker.open_connections)
