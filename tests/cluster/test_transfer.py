"""Moving a cluster in and out: what is refused, and what goes wrong meanwhile, with the way out: in memory."""

from __future__ import annotations

import signal
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from random import Random
from types import SimpleNamespace
from typing import cast

import pytest
import trio

from amqp_broker.cluster import store, transfer
from amqp_broker.cluster.configuration import ClusterConfiguration
from amqp_broker.cluster.etcd_client import EtcdClient
from amqp_broker.cluster.keys import Keys
from amqp_broker.cluster.members import Address, EtcdRefused, Members
from amqp_broker.cluster.transfer import CannotTransfer, export_journal, import_journal
from amqp_broker.etcd.calls import Answer, Ended
from amqp_broker.etcd.protobuf import data, integer
from amqp_broker.journal.kept_copies import PIECES
from amqp_broker.journal.memory_files import MemoryFiles
from tests.cluster.test_shard import OWNER, AsyncEtcd
from tests.support.fake_etcd import FakeEtcd, UnreliableMember

CONFIGURATION = ClusterConfiguration("orders", (Address("127.0.0.1", 1),), "", "a", "127.0.0.1", 0, 3)
WAY_OUT = "'cluster backup' has all of them.*definitions over HTTP, and have shovels carry the messages"


def nothing(done_bytes: int, all_bytes: int) -> None:
    raise AssertionError("nothing is copied")


def test_an_import_into_several_shards_is_refused_before_etcd_is_asked() -> None:
    with pytest.raises(CannotTransfer, match=f"with cluster_shards 3 .*{WAY_OUT}"):
        trio.run(import_journal, replace(CONFIGURATION, shards=3), 0, MemoryFiles(), nothing)


def test_an_export_of_several_shards_is_refused_whatever_the_setting_says(monkeypatch: pytest.MonkeyPatch) -> None:
    etcd = FakeEtcd()
    etcd.put(Keys("orders").shard_count.encode(), b"2")
    monkeypatch.setattr(transfer, "blocking_members", lambda *_: SimpleNamespace(call=etcd.answer, close=lambda: None))
    target = MemoryFiles()
    with pytest.raises(CannotTransfer, match=WAY_OUT):
        export_journal(CONFIGURATION, 0, target, nothing)
    assert target.names() == []


class FullMember(UnreliableMember):
    """Takes what is small only."""

    def call_all(self, path: str, requests: Sequence[bytes]) -> list[bytes | EtcdRefused | None]:
        if max(map(len, requests)) > 10_000:
            return [EtcdRefused(8, "etcdserver: mvcc: database space exceeded")] * len(requests)
        return super().call_all(path, requests)


class LeaseWhileOwned:
    """Lives as long as there is an owner."""

    number = 1

    def __init__(self, etcd: AsyncEtcd, ttl_s: int) -> None:
        self._etcd = etcd

    async def grant(self) -> None:
        pass

    async def revoke(self) -> None:
        self._etcd.delete(OWNER)

    async def keep_alive(self) -> None:
        while OWNER in self._etcd.keys:  # noqa: ASYNC110  # a dict tells nobody
            await trio.sleep(0.001)


@pytest.fixture
def etcd(monkeypatch: pytest.MonkeyPatch) -> AsyncEtcd:
    """What is imported into."""

    async def no_check(*arguments: object) -> None:
        pass

    etcd = AsyncEtcd()
    monkeypatch.setattr(transfer, "EtcdClient", lambda *_: etcd)
    monkeypatch.setattr(transfer, "Lease", LeaseWhileOwned)
    monkeypatch.setattr(transfer, "check_etcd", no_check)
    return etcd


def test_an_import_that_is_interrupted_ends_and_leaves_nothing_that_would_be_in_the_way(
    etcd: AsyncEtcd, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def interrupt(done_bytes: int, all_bytes: int) -> None:
        calls.append(done_bytes)
        if len(calls) == 1:
            signal.pthread_kill(main_thread, signal.SIGINT)
            for _ in range(2):  # turns of the event loop, which is told of it first
                trio.from_thread.run_sync(int)

    main_thread, source = threading.get_ident(), MemoryFiles()
    for name in ("1", "2", "3"):
        source.create(name, 0).write_at(0, bytes(20_000))
    monkeypatch.setattr(transfer, "blocking_members", lambda *_: Members([UnreliableMember(etcd, Random(1))]))
    for _ in range(2):
        with pytest.RaisesGroup(KeyboardInterrupt):
            trio.run(import_journal, CONFIGURATION, 0, source, interrupt)
        assert (calls, OWNER in etcd.keys) == ([20_000], False)
        calls.clear()
    calls.append(0)
    trio.run(import_journal, CONFIGURATION, 0, source, interrupt)
    pieces = [key for key in etcd.keys if key.startswith(f"{Keys('orders').shard(0)}{PIECES}".encode())]
    assert len(pieces) == 6  # of three files, and their sizes


@pytest.mark.parametrize(
    ("member", "text"), [(UnreliableMember, "as long as a lease lives"), (FullMember, "etcd is full")]
)
def test_an_import_that_etcd_does_not_take_ends(
    etcd: AsyncEtcd, member: type[UnreliableMember], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody would take the shard back for it, or make space."""

    def lose(done_bytes: int, all_bytes: int) -> None:
        if member is not FullMember:
            etcd.delete(OWNER)

    source = MemoryFiles()
    source.create("1", 0).write_at(0, bytes(20_000))
    monkeypatch.setattr(transfer, "LOOK_S", 0.001)
    monkeypatch.setattr(store, "OUT_OF_SPACE_RETRY_S", 0.001)
    monkeypatch.setattr(transfer, "blocking_members", lambda *_: Members([member(etcd, Random(1))]))
    with pytest.raises(ExceptionGroup) as caught:
        trio.run(import_journal, CONFIGURATION, 0, source, lose)
    assert caught.group_contains(CannotTransfer, match=text)


def test_a_backup_takes_what_comes_at_once_however_much_it_is() -> None:
    part = integer(2, 1) + data(3, bytes(transfer.DIGEST_BYTES))
    count = 3

    @asynccontextmanager
    async def stream(path: str, request: bytes) -> AsyncIterator[trio.MemoryReceiveChannel[Answer | Ended]]:
        send, receive = trio.open_memory_channel[Answer | Ended](count)
        for _ in range(count):
            send.send_nowait(Answer(1, part))
        waiting.append(receive)
        yield receive

    def write(data: bytes) -> None:
        left.append(waiting[0].statistics().current_buffer_used)
        if len(left) == count:
            scope.cancel()

    waiting: list[trio.MemoryReceiveChannel[Answer | Ended]] = []
    left: list[int] = []
    scope = trio.CancelScope()

    async def back_up() -> None:
        with scope:
            await transfer._receive_snapshot(cast(EtcdClient, SimpleNamespace(stream=stream)), write, lambda *_: None)

    trio.run(back_up)
    assert left == [0] * count


@pytest.mark.parametrize(
    ("ended", "error", "text"),
    [
        ([Ended(1, 7, "etcdserver: permission denied")], EtcdRefused, "permission denied"),
        ([Ended(1, 2, "auth: permission denied")], EtcdRefused, "permission denied"),
        ([Ended(1, 14, "etcdserver: server stopped")], CannotTransfer, "did not arrive whole"),
        ([], CannotTransfer, "did not arrive whole"),
    ],
)
def test_a_backup_that_etcd_ends_says_why(ended: list[Ended], error: type[Exception], text: str) -> None:
    @asynccontextmanager
    async def stream(path: str, request: bytes) -> AsyncIterator[trio.MemoryReceiveChannel[Answer | Ended]]:
        send, receive = trio.open_memory_channel[Answer | Ended](1)
        with send:
            for one in ended:
                send.send_nowait(one)
        yield receive

    etcd = cast(EtcdClient, SimpleNamespace(stream=stream))
    with pytest.raises(error, match=text):
        trio.run(transfer._receive_snapshot, etcd, bytes, lambda *_: None)
