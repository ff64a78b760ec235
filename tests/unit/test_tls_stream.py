"""The byte stream of TLS, over a transport that takes nothing before it is read."""

from __future__ import annotations

import ssl
from typing import cast

import pytest
import trio
import trio.testing
import trustme

from amqp_broker.network.socket_stream import SocketStream
from amqp_broker.network.tls import TlsStream
from tests.support.served import on_a_jumping_clock


@on_a_jumping_clock
async def test_a_client_that_takes_nothing_while_it_speaks_is_read() -> None:
    authority = trustme.CA()
    ours, theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    ours.num_tickets = 0  # the client would have to read them
    authority.issue_cert("localhost").configure_cert(ours)
    authority.configure_trust(theirs)
    here, there = trio.testing.lockstep_stream_pair()
    server = TlsStream(cast(SocketStream, here), ours)
    client = trio.SSLStream(there, theirs, server_hostname="localhost")
    with trio.fail_after(1):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.do_handshake)
            await server.do_handshake()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.send_all, b"what the client does not take")
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(client.send_all, b"what it says")
            assert await server.receive_some() == b"what it says"
            nursery.cancel_scope.cancel()


def test_a_certificate_with_a_name_that_is_no_text_names_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: ssl.SSLObject) -> None:
        b"caf\xe9@example.com".decode()

    monkeypatch.setattr(ssl.SSLObject, "getpeercert", fail)
    assert not TlsStream(cast(SocketStream, None), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)).certificate
