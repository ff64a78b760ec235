"""Nodes of two releases in one cluster: each takes over from the other, and says why where it cannot.

The earlier release is this one without what it shall not know. In memory; two real releases are mixed by hand.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
import trio.testing

from amqp_broker.broker.persistence.kinds import RecordKind
from amqp_broker.broker.persistence.restoring import RESTORERS
from amqp_broker.cluster import door, link
from amqp_broker.cluster import shard as shard_module
from amqp_broker.cluster.etcd_checks import CannotJoin, check_etcd
from amqp_broker.cluster.etcd_client import EtcdClient
from amqp_broker.cluster.keys import Node
from amqp_broker.cluster.known import Known
from amqp_broker.cluster.link import FrameReader, Hello, LinkError
from amqp_broker.cluster.members import Members
from amqp_broker.cluster.standby import Standby
from amqp_broker.cluster.store import EtcdStore
from amqp_broker.etcd import messages, protobuf
from amqp_broker.journal.kept_copies import KeptCopies
from amqp_broker.journal.kept_files import KeptFiles
from amqp_broker.journal.memory_files import MemoryFiles
from amqp_broker.server.broker_server import BrokerServer
from amqp_broker.settings import Settings
from tests.cluster.test_link import DOOR, OWNER, PEER
from tests.cluster.test_shard import KEYS, AsyncEtcd, shard_of
from tests.cluster.test_shard import OWNER as OWNER_KEY
from tests.support.disk_broker import DiskBroker
from tests.support.fake_etcd import UnreliableMember


@contextmanager
def earlier_release(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One that has no limits of virtual hosts yet."""
    with monkeypatch.context() as patch:
        patch.delitem(RESTORERS, RecordKind.LIMITS)
        yield


def members_of(etcd: AsyncEtcd) -> Members:
    return Members([UnreliableMember(etcd, Random(1))])


def store_of(etcd: AsyncEtcd, epoch: int) -> EtcdStore:
    store = EtcdStore(members_of(etcd), KEYS.shard(0), KEYS.owner(0), epoch)
    store.open()
    return store


@contextmanager
def owner(etcd: AsyncEtcd) -> Iterator[DiskBroker]:
    """The broker of a node that takes over, and hands over in the end."""
    files = KeptFiles(store_of(etcd, etcd.put(OWNER_KEY, b"other 1")), MemoryFiles())
    files.fetch()
    files.remove_nameless()
    broker = DiskBroker(cast(MemoryFiles, files))
    yield broker
    broker.durability.note_handed_out()
    broker.journal.close()
    etcd.delete(OWNER_KEY)


def test_each_takes_over_what_the_other_has_written(monkeypatch: pytest.MonkeyPatch) -> None:
    etcd = AsyncEtcd()
    with owner(etcd) as broker:
        channel = broker.client().channel()
        channel.declare("q", durable=True)
        channel.publish("", "q", b"1", delivery_mode=2)
    with earlier_release(monkeypatch), owner(etcd) as broker:
        broker.client().channel().publish("", "q", b"2", delivery_mode=2)
    with owner(etcd) as broker:
        assert broker.client().channel().drain("q") == [b"1", b"2"]


def test_what_an_earlier_one_cannot_read_it_leaves_to_others_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    etcd = AsyncEtcd()
    with owner(etcd) as broker:
        broker.administration.set_virtual_host_limits("/", queues_max=7)

    async def own() -> None:
        known = Known("me")
        known.add_shard(0)
        shard = shard_of(etcd, known)
        here = cast(SimpleNamespace, shard._here)
        here.configuration.addresses, here.settings = [], Settings()
        here.clients.end_conversations = lambda shard: None
        here.new_server = lambda gate, shard: BrokerServer(Settings(data_dir=str(tmp_path)))
        epoch = await shard._ownership.campaign(1)
        assert epoch is not None
        standby = Standby(here.configuration, "", tmp_path)
        standby._ended.set()
        standby._copies, standby._revision = KeptCopies(MemoryFiles()), epoch
        standby._copies.load(store_of(etcd, epoch))
        await shard._own(epoch, standby)
        assert OWNER_KEY not in etcd.keys
        assert shard._stands_back_until_s > trio.current_time()

    monkeypatch.setattr(shard_module, "blocking_members", lambda *_: members_of(etcd))
    with earlier_release(monkeypatch):
        trio.run(own)
    (lost,) = [record.fields for record in caplog.records if record.getMessage() == "ownership lost"]  # type: ignore[attr-defined]
    assert "(kind 10, limits) cannot be read: " in lost["reason"]
    assert "this release does not know" in lost["reason"]
    with owner(etcd) as broker:
        assert broker.virtual_hosts["/"].limits.queues_max == 7


def test_a_cluster_of_a_later_format_is_not_joined() -> None:
    class LaterEtcd(AsyncEtcd):
        def answer(self, path: str, request: bytes) -> bytes:
            return protobuf.data(2, b"3.5.9") if path == messages.STATUS else super().answer(path, request)

    etcd = LaterEtcd()
    etcd.put(KEYS.format.encode(), b"3")
    with pytest.raises(CannotJoin, match="has format 3, this release knows 1 and 2: use a newer release"):
        trio.run(check_etcd, cast(EtcdClient, etcd), KEYS, 1)


def test_what_a_later_one_says_of_itself_besides_is_passed_over() -> None:
    node = Node("1f", "a", "10.0.0.1", 25672, "9.0", 1_700_000_000)
    assert Node.decode(json.dumps({**json.loads(node.encode()), "more": [1]}).encode()) == node


async def called(said: dict[str, Any]) -> tuple[list[Hello], dict[str, Any], dict[str, Any]]:
    """Have an owner called by a door that says that; what the owner has heard, and its first and last frame."""
    heard: list[Hello] = []

    async def is_called_rightly(hello: Hello) -> bool:
        await trio.lowlevel.checkpoint()
        return True

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            with suppress(LinkError):
                heard.append((await door.answer(OWNER, stream, is_called_rightly))[1])

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        stream, reader = await trio.testing.open_stream_to_socket_listener(listeners[0]), FrameReader()
        async with stream:
            await stream.send_all(link.encode(link.HELLO, **said))
            first = last = await read(stream, reader)
            if first["kind"] == "challenge":
                proof = link.door_proof(DOOR.secret, said, first["nonce"])
                await stream.send_all(link.encode("proof", proof=proof))
                last = await read(stream, reader)
        nursery.cancel_scope.cancel()
    return heard, first, last


async def read(stream: trio.SocketStream, reader: FrameReader) -> dict[str, Any]:
    while (frame := reader.next()) is None:
        reader.add(bytes(await stream.receive_some(1000)))
    return frame


def test_a_door_that_says_more_than_its_owner_knows_is_let_in() -> None:
    hello = Hello(DOOR.cluster, DOOR.node_id, link.new_nonce(), 0, "amqp", PEER)
    said = {**link.said_in(hello), "peer": {**asdict(PEER), "more": 1}, "more": [{}]}
    heard, challenge, answer = trio.run(called, said)
    assert heard == [hello]
    assert answer["kind"] == "accept"
    assert link.is_same(answer["proof"], link.owner_proof(DOOR.secret, said, challenge["nonce"]))


def test_a_door_whose_proof_is_of_a_tls_connection_is_refused_where_there_is_none() -> None:
    hello = Hello(DOOR.cluster, DOOR.node_id, link.new_nonce(), 0, "amqp", PEER)
    heard, _, answer = trio.run(called, {**link.said_in(hello), link.BINDING: "of another connection"})
    assert heard == []
    assert answer == {"kind": "refused", "text": "it does not know the cluster's secret"}


def test_a_door_that_speaks_another_version_of_the_link_is_told() -> None:
    hello = Hello(DOOR.cluster, DOOR.node_id, link.new_nonce(), 0, "amqp", PEER, version=2)
    heard, answer, _ = trio.run(called, link.said_in(hello))
    assert heard == []
    assert answer == {"kind": "refused", "text": "the caller speaks version 2 of the link, this node speaks 1"}
