"""Links with TLS beneath: whose certificate is accepted, what both ends are told, and what stands between them."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import trio
import trustme

from amqp_broker.access.client import Peer
from amqp_broker.cluster import door
from amqp_broker.cluster.door import Caller
from amqp_broker.cluster.keys import Node
from amqp_broker.cluster.link import Hello, LinkError, NotTheOwner
from amqp_broker.cluster.link_tls import LinkTls
from amqp_broker.network.tls import BadCertificate, TlsStream
from amqp_broker.network.turns import Turns
from amqp_broker.server.sharding.carrying import Prefixed, carry
from amqp_broker.settings import Settings
from tests.cluster.test_link import linked, say

PEER = Peer.at("192.0.2.7", 1234)
AUTHORITY, OTHER_AUTHORITY = trustme.CA(), trustme.CA()
ALL_OR_NONE = "set link_certificate and link_ca at all nodes or at none"
TIMEOUT_S = 60.0
listen = partial(trio.serve_tcp, port=0, host="127.0.0.1")


class AtOnce(Turns):
    """Everybody's turn is now."""

    async def take(self, took_s: float) -> None:
        await trio.lowlevel.checkpoint()


def certificates(folder: Path, signed_by: trustme.CA = AUTHORITY, trusted: trustme.CA = AUTHORITY) -> Settings:
    """Write those of a node, each time new ones in the place of the old ones."""
    folder.mkdir(exist_ok=True)
    issued = signed_by.issue_cert("whoever.example")
    issued.private_key_and_cert_chain_pem.write_to_path(str(folder / "node.pem"))
    trusted.cert_pem.write_to_path(str(folder / "ca.pem"))
    return Settings(link_certificate=str(folder / "node.pem"), link_ca=str(folder / "ca.pem"))


def caller(name: str, settings: Settings | None, secret: str = "secret") -> Caller:
    return Caller("orders", name, secret, LinkTls(settings, AtOnce()) if settings is not None else None)


async def is_owner(hello: Hello, is_so: bool = True) -> bool:
    await trio.lowlevel.checkpoint()
    return is_so


async def nobody_is_called(hello: Hello) -> bool:
    raise AssertionError("the caller is no node")


async def both_told(owner: Caller, calling: Caller) -> tuple[str, str]:
    """Why a link is refused: what the door is told, and what the owner is; empty where it is not."""
    told = {}

    async def serve(stream: trio.SocketStream) -> None:
        try:
            inner, _ = await door.answer(owner, stream, is_owner)
            await inner.aclose()
            told["owner"] = ""
        except LinkError as error:
            told["owner"] = str(error)
            await trio.aclose_forcefully(stream)
        answered.set()

    answered = trio.Event()
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(listen, serve)
        node = Node("owner", "a", "127.0.0.1", listeners[0].socket.getsockname()[1], "1", 0)
        try:
            await (await door.call(calling, node, PEER, shard=0, protocol="amqp")).aclose()
            told["door"] = ""
        except LinkError as error:
            told["door"] = str(error)
        with trio.fail_after(TIMEOUT_S):
            await answered.wait()
        nursery.cancel_scope.cancel()
    return told["door"], told["owner"]


def test_a_client_comes_through_with_its_address(tmp_path: Path) -> None:
    """Of whatever certificates from the authority; the names in them are no node's."""

    async def say_in_secret(stream: trio.abc.Stream) -> None:
        secured = stream._stream if isinstance(stream, Prefixed) else stream
        assert isinstance(secured, TlsStream)
        assert secured.tls.version == "TLSv1.3"
        await say(stream)

    owner, calling = caller("owner", certificates(tmp_path / "a")), caller("door", certificates(tmp_path / "b"))
    heard, received = trio.run(linked, owner, calling, True, say_in_secret)
    assert received == b"AMQP" * 100_000
    assert [hello.node_id for hello in heard] == ["door"]


@pytest.mark.parametrize(
    ("owner", "calling", "door_told", "owner_told"),
    [
        (
            (AUTHORITY, AUTHORITY),
            (OTHER_AUTHORITY, AUTHORITY),
            "the node that was called does not accept this node's certificate: the link_ca there names who may sign it",
            "the certificate of a caller is not accepted (",
        ),
        (
            (OTHER_AUTHORITY, AUTHORITY),
            (AUTHORITY, AUTHORITY),
            "the certificate of the node that was called is not accepted (",
            "a caller does not accept this node's certificate: the link_ca there names who may sign it",
        ),
        (
            (AUTHORITY, AUTHORITY),
            None,
            f"the owner refused the link: it wants TLS: {ALL_OR_NONE}",
            f"a caller does not begin TLS: {ALL_OR_NONE}",
        ),
        (
            None,
            (AUTHORITY, AUTHORITY),
            f"the node that was called closes the link where TLS begins: it ends, or is without ({ALL_OR_NONE})",
            f"the other node speaks TLS, and this one does not: {ALL_OR_NONE}",
        ),
    ],
    ids=["the door's is a stranger's", "the owner's is a stranger's", "the door has none", "the owner has none"],
)
def test_who_has_not_the_right_certificate_is_refused_and_both_are_told(
    owner: tuple[trustme.CA, trustme.CA] | None,
    calling: tuple[trustme.CA, trustme.CA] | None,
    door_told: str,
    owner_told: str,
    tmp_path: Path,
) -> None:
    told = trio.run(
        both_told,
        caller("owner", certificates(tmp_path / "a", *owner) if owner is not None else None),
        caller("door", certificates(tmp_path / "b", *calling) if calling is not None else None),
    )
    assert door_told in told[0]
    assert owner_told in told[1]


def test_a_certificate_does_not_stand_for_the_secret(tmp_path: Path) -> None:
    settings = certificates(tmp_path)
    told = trio.run(both_told, caller("owner", settings), caller("door", settings, "another"))
    assert all("it does not know the cluster's secret" in text for text in told)


def test_the_next_link_begins_without_certificates(tmp_path: Path) -> None:
    owner, calling = caller("owner", certificates(tmp_path / "a")), caller("door", certificates(tmp_path / "b"))

    async def main() -> list[bool]:
        async def serve(stream: trio.SocketStream) -> None:
            with suppress(NotTheOwner):
                inner, _ = await door.answer(owner, stream, lambda hello: is_owner(hello, is_so=bool(resumed)))
                await inner.receive_some(1)
                await inner.aclose()

        resumed: list[bool] = []
        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(listen, serve)
            node = Node("owner", "a", "127.0.0.1", listeners[0].socket.getsockname()[1], "1", 0)
            with pytest.raises(NotTheOwner):
                await door.call(calling, node, PEER, shard=0, protocol="amqp")
            for _ in range(3):
                resumed.append(False)
                stream = await door.call(calling, node, PEER, shard=0, protocol="amqp")
                assert isinstance(stream, TlsStream)
                resumed[-1] = stream.is_resumed
                sessions.add(str(calling.tls and calling.tls._sessions))
                await stream.aclose()
            nursery.cancel_scope.cancel()
        return resumed

    sessions: set[str] = set()
    assert trio.run(main) == [True, True, True]
    assert len(sessions) == 1, "the first, which ends some day, and not one after the other"


async def told_by(owner: Caller, behave: Callable[[trio.SocketStream], Awaitable[None]]) -> str:
    """What an owner is told of a caller that is no node."""
    told: list[str] = []

    async def serve(stream: trio.SocketStream) -> None:
        with pytest.raises(LinkError) as refused:
            await door.answer(owner, stream, nobody_is_called)
        told.append(str(refused.value))
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(listen, serve)
        async with await trio.open_tcp_stream("127.0.0.1", listeners[0].socket.getsockname()[1]) as stream:
            await behave(stream)
            with trio.fail_after(TIMEOUT_S):
                await trio.sleep_forever()
    return told[0]


async def show_nothing(stream: trio.SocketStream) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    AUTHORITY.configure_trust(context)
    secured: trio.SSLStream[trio.SocketStream] = trio.SSLStream(stream, context)
    await secured.do_handshake()
    with pytest.raises(trio.BrokenResourceError):
        await secured.receive_some(1)
    await stream.aclose()


async def speak_an_old_version(stream: trio.SocketStream) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(trio.BrokenResourceError):
        await trio.SSLStream(stream, context).do_handshake()
    await stream.aclose()


async def break_off(stream: trio.SocketStream) -> None:
    await stream.send_all(b"\x16\x03\x01\x02\x00\x01\x00")
    await stream.send_eof()


@pytest.mark.parametrize(
    ("behave", "text"),
    [
        (show_nothing, "a caller shows no certificate"),
        (speak_an_old_version, "TLS with a caller has failed: OpenSSL calls it UNSUPPORTED_PROTOCOL"),
        (break_off, "a caller closes the link while TLS begins"),
        (trio.SocketStream.send_eof, "a caller has gone without a word"),
    ],
)
def test_who_is_no_node_is_refused(
    behave: Callable[[trio.SocketStream], Awaitable[None]], text: str, tmp_path: Path
) -> None:
    assert trio.run(told_by, caller("owner", certificates(tmp_path)), behave) == text


def test_a_caller_that_never_ends_its_handshake_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "LINK_TIMEOUT_S", 0.01)

    async def begin_only(stream: trio.SocketStream) -> None:
        await stream.send_all(b"\x16\x03\x01\x02\x00\x01\x00")

    assert trio.run(told_by, caller("owner", certificates(tmp_path)), begin_only) == "a caller was silent"


def test_a_certificate_alone_does_not_let_anybody_stand_between(tmp_path: Path) -> None:
    """Whoever has one may speak TLS with both, but what they prove to each other holds for one connection alone."""
    settings = certificates(tmp_path)
    owner, calling, between = caller("owner", settings), caller("door", settings), LinkTls(settings, AtOnce())

    async def main() -> tuple[str, str]:
        async with trio.open_nursery() as nursery:
            forwarded: list[trio.SocketListener] = []

            async def stand_between(stream: trio.SocketStream) -> None:
                onward = await trio.open_tcp_stream("127.0.0.1", forwarded[0].socket.getsockname()[1])
                await carry(await between.answer(stream), await between.call(onward, ("127.0.0.1", 1)))

            told: list[str] = []

            async def serve(stream: trio.SocketStream) -> None:
                with pytest.raises(LinkError) as refused:
                    await door.answer(owner, stream, nobody_is_called)
                told.append(str(refused.value))

            forwarded += await nursery.start(listen, serve)
            listeners = await nursery.start(listen, stand_between)
            node = Node("owner", "a", "127.0.0.1", listeners[0].socket.getsockname()[1], "1", 0)
            with pytest.raises(LinkError) as refused:
                await door.call(calling, node, PEER, shard=0, protocol="amqp")
            nursery.cancel_scope.cancel()
        return str(refused.value), told[0]

    assert all("it does not know the cluster's secret" in text for text in trio.run(main))


def test_certificates_are_read_again_for_links_to_come(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    owner, calling = caller("owner", certificates(tmp_path / "a")), caller("door", certificates(tmp_path / "b"))
    assert owner.tls is not None
    assert calling.tls is not None
    assert trio.run(both_told, owner, calling) == ("", "")
    for one, folder in ((owner.tls, tmp_path / "a"), (calling.tls, tmp_path / "b")):
        certificates(folder, OTHER_AUTHORITY, OTHER_AUTHORITY)
        one.reload()
        is_last = one is calling.tls
        assert (trio.run(both_told, owner, calling) == ("", "")) is is_last

    (tmp_path / "a" / "node.pem").write_text("half of it")
    caplog.clear()
    owner.tls.reload()
    assert [record.message for record in caplog.records] == ["certificates not reloaded"]
    assert "(link_certificate) cannot be used" in str(vars(caplog.records[0])["fields"])
    assert trio.run(both_told, owner, calling) == ("", "")


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"link_certificate": "gone.pem"}, "(link_certificate) cannot be used for TLS: No such file"),
        ({"link_certificate": "ca.pem"}, "name the file that has the key with link_key"),
        ({"link_ca": "gone.pem"}, "(link_ca) cannot be used for TLS: No such file"),
        ({"link_ca": ""}, "'nothing' (link_ca) cannot be used for TLS"),
    ],
)
def test_files_that_cannot_be_used_are_named(given: dict[str, str], text: str, tmp_path: Path) -> None:
    settings = certificates(tmp_path)
    files = {name: str(tmp_path / file) if file else "" for name, file in given.items()}
    with pytest.raises(BadCertificate) as refused:
        LinkTls(replace(settings, **files), AtOnce())  # type: ignore[arg-type]
    assert text in str(refused.value)
