"""The byte stream of TLS, over a socket that gives and takes what a test wants."""

from __future__ import annotations

import math
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
import trio
import trustme

from amqp_broker.network import tls
from amqp_broker.network.direct_stream import Part
from amqp_broker.network.socket_stream import SocketStream
from amqp_broker.network.tls import (
    CIPHERTEXT_CHUNK_BYTES,
    PIECE_BYTES,
    RECORDS_AT_ONCE_MAX,
    SILENT_BYTES_MAX,
    TlsStream,
)
from tests.support.served import on_a_jumping_clock
from tests.support.tls_records import Records
from tests.unit.in_trio import in_trio

AUTHORITY = trustme.CA()
OURS = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
AUTHORITY.issue_cert("localhost").configure_cert(OURS)
BODY = bytes(range(256)) * 1_200  # more than a few chunks, and than is encrypted at once


class Client:
    """A client, and the socket between it and the server.

    Args:
        version: of TLS.
        key_log: where to write the secrets.
    """

    def __init__(self, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3, key_log: Path | None = None) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if key_log is not None:
            context.keylog_filename = str(key_log)
        context.maximum_version = version
        AUTHORITY.configure_trust(context)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")
        self.arriving = bytearray()  # at the server
        self.arrives_bytes_max = CIPHERTEXT_CHUNK_BYTES
        self.takes_bytes = math.inf
        self.has_gone = False
        self.hears_no_more = False
        self._shake_hands()

    def _shake_hands(self) -> None:
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            pass
        self.arriving += self._outgoing.read()

    def say(self, *pieces: bytes) -> None:
        """Have a record for each piece arrive at the server."""
        for piece in pieces:
            self.tls.write(piece)
        self.arriving += self._outgoing.read()

    def heard(self) -> bytes:
        """All that the server has said."""

        def records() -> Iterator[bytes]:
            try:
                while data := self.tls.read(65_536):
                    yield data
            except ssl.SSLWantReadError:
                pass

        return b"".join(records())

    # --- the socket

    async def receive_some(self, max_bytes: int) -> bytes:
        await trio.lowlevel.checkpoint()
        if not self.arriving:
            self._shake_hands()
        while not self.arriving and not self.has_gone:  # noqa: ASYNC110  # the test says when
            await trio.sleep(1)
        return self.receive_now(min(max_bytes, self.arrives_bytes_max))

    def receive_now(self, max_bytes: int) -> bytes:
        taken = bytes(self.arriving[:max_bytes])
        del self.arriving[: len(taken)]
        return taken

    def send_now(self, parts: list[Part]) -> list[Part]:
        said = b"".join(parts)  # type: ignore[arg-type]  # no stretches
        taken_bytes = int(min(self.takes_bytes, len(said)))
        self.takes_bytes -= taken_bytes
        self._incoming.write(said[:taken_bytes])
        return [said[taken_bytes:]] if taken_bytes < len(said) else []

    async def send_eof(self) -> None:
        self.hears_no_more = True

    async def send_parts(self, parts: list[Part]) -> None:
        while parts := self.send_now(parts):  # noqa: ASYNC110  # the test says when
            await trio.sleep(1)


async def connected(version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> tuple[TlsStream, Client]:
    client = Client(version)
    server = TlsStream(cast(SocketStream, client), OURS)
    await server.do_handshake()
    client.heard()
    return server, client


@in_trio
async def test_each_piece_of_a_handshake_takes_its_turn() -> None:
    client = Client()
    client.arrives_bytes_max = -(-len(client.arriving) // 3)
    server = TlsStream(cast(SocketStream, client), OURS)
    to_come: list[int] = []

    async def take_turn() -> None:
        to_come.append(len(client.arriving))

    await server.do_handshake(take_turn)
    assert to_come[2] == 0, "of the hello"
    assert len(to_come) == 4


@on_a_jumping_clock
async def test_a_client_that_takes_nothing_while_it_speaks_is_read() -> None:
    server, client = await connected()
    client.takes_bytes = 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.send_all, b"what the client does not take")
        await trio.testing.wait_all_tasks_blocked()
        client.say(b"what it says")
        assert await server.receive_some() == b"what it says"
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("arrives_bytes_max", [4_999, CIPHERTEXT_CHUNK_BYTES])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@in_trio
async def test_a_body_is_decrypted_to_where_it_stays(version: ssl.TLSVersion, arrives_bytes_max: int) -> None:
    server, client = await connected(version)
    client.arrives_bytes_max = arrives_bytes_max
    client.say(b"before", BODY, b"behind")
    assert await server.receive_some(4) == b"befo"
    assert await server.receive_into(list) == -1, "it has no buffers"
    received = bytearray(2 + len(BODY))
    filled_bytes = 0

    def buffers() -> list[memoryview]:
        rest = memoryview(received)[filled_bytes:]
        return [rest[:9], rest[9:17], rest[17:100_000], rest[100_000:]]

    while filled_bytes < len(received):
        filled_bytes += await server.receive_into(buffers)
    assert received == b"re" + BODY
    assert await server.receive_some() == b"behind"


@pytest.mark.parametrize("says_goodbye", [True, False])
@in_trio
async def test_an_end_within_a_body(says_goodbye: bool) -> None:
    server, client = await connected()
    client.say(BODY[:100])
    if says_goodbye:
        with pytest.raises(ssl.SSLWantReadError):
            client.tls.unwrap()
        client.say()
    else:
        client.arriving += client.arriving[:50]  # of a record that does not come
    client.has_gone = True
    received = bytearray(200)
    assert await server.receive_into(lambda: [memoryview(received)]) == 100
    assert received[:100] == BODY[:100]
    for _ in range(2):
        assert await server.receive_into(lambda: [memoryview(received)]) == 0
        assert await server.receive_some() == b""


@in_trio
async def test_a_body_that_was_changed_on_its_way() -> None:
    server, client = await connected()
    client.say(BODY)
    client.arriving[20_000] ^= 1
    with pytest.raises(trio.BrokenResourceError, match="changed on its way"):
        await server.receive_into(lambda: [memoryview(bytearray(100_000))])
    assert server.send_now([b"an answer"]) == [b"an answer"], "to be told by whoever sends the rest"
    with pytest.raises(trio.BrokenResourceError):
        await server.send_parts([b"an answer"])


@in_trio
async def test_many_small_records_are_not_read_in_one_go() -> None:
    server, client = await connected()
    client.say(*[b"x"] * (2 * CIPHERTEXT_CHUNK_BYTES // 23))
    assert len(await server.receive_some(262_144)) < CIPHERTEXT_CHUNK_BYTES // 20
    assert len(client.arriving) > CIPHERTEXT_CHUNK_BYTES // 2


@in_trio
async def test_what_takes_long_is_not_read_in_one_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "READ_S_MAX", -1)
    server, client = await connected()
    client.say(BODY)
    assert await server.receive_into(lambda: [memoryview(bytearray(len(BODY)))]) < CIPHERTEXT_CHUNK_BYTES


@pytest.mark.parametrize("takes_bytes", [0, 1, 4 * PIECE_BYTES, len(BODY)])
@in_trio
async def test_what_the_system_does_not_take_at_once_is_sent_later(takes_bytes: int) -> None:
    server, client = await connected()
    client.takes_bytes = takes_bytes
    rest = server.send_now([b"small", b"parts", BODY, b"end"])
    assert rest
    assert server.send_now(rest) == rest, "what is encrypted goes first"
    client.takes_bytes = math.inf
    await server.send_parts(rest)
    assert server.send_now([b"!"]) == []
    assert client.heard() == b"smallparts" + BODY + b"end!"


@in_trio
async def test_what_is_encrypted_already_is_left_as_an_empty_part() -> None:
    server, client = await connected()
    client.takes_bytes = 5
    assert server.send_now([b"one record"]) == [b""]
    client.takes_bytes = math.inf
    await server.send_parts([b""])
    assert client.heard() == b"one record"


def test_a_certificate_with_a_name_that_is_no_text_names_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: ssl.SSLObject) -> None:
        b"caf\xe9@example.com".decode()

    monkeypatch.setattr(ssl.SSLObject, "getpeercert", fail)
    assert not TlsStream(cast(SocketStream, None), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)).certificate


@in_trio
async def test_who_has_said_all_is_answered() -> None:
    server, client = await connected()
    await server.send_eof()
    assert client.hears_no_more
    client.say(b"the answer")
    assert await server.receive_some() == b"the answer"


# --- records without data


async def connected_with_records(key_log: Path) -> tuple[TlsStream, Client, Records]:
    client = Client(key_log=key_log)
    server = TlsStream(cast(SocketStream, client), OURS)
    await server.do_handshake()
    client.heard()
    return server, client, Records(key_log)


@in_trio
async def test_a_flood_of_new_keys_takes_many_turns_and_ends_with_the_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "READ_S_MAX", -1)
    server, client, records = await connected_with_records(tmp_path / "keys")
    client.arriving += b"".join(records.new_keys() for _ in range(3 * SILENT_BYTES_MAX // 27))
    flood_bytes = len(client.arriving)
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count_turns)
        with pytest.raises(trio.BrokenResourceError, match="has no data in it"):
            await server.receive_some()
        nursery.cancel_scope.cancel()
    assert turns > SILENT_BYTES_MAX // 27 // RECORDS_AT_ONCE_MAX
    assert flood_bytes - len(client.arriving) <= 2 * CIPHERTEXT_CHUNK_BYTES


@pytest.mark.parametrize("arrives_bytes_max", [1, 26, 28, CIPHERTEXT_CHUNK_BYTES])
@in_trio
async def test_data_between_new_keys_is_read(tmp_path: Path, arrives_bytes_max: int) -> None:
    server, client, records = await connected_with_records(tmp_path / "keys")
    client.arrives_bytes_max = arrives_bytes_max
    said = [b"%04d" % number for number in range(9)]
    for one in said:
        client.arriving += b"".join(records.new_keys() for _ in range(40)) + records.data(one)
    heard = b""
    while len(heard) < 36:
        heard += await server.receive_some(6)
    assert heard == b"".join(said)
