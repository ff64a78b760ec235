"""What the root's owner writes as the directory, in an etcd in memory that is slow and forgets to answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import cast

import pytest
import trio

from amqp_broker.cluster.etcd_client import EtcdClient
from amqp_broker.cluster.keys import Keys
from amqp_broker.cluster.known import Known
from amqp_broker.cluster.members import EtcdUnavailable
from amqp_broker.cluster.sharing import Sharing
from amqp_broker.etcd import messages
from amqp_broker.server.broker_server import BrokerServer
from amqp_broker.settings import Settings
from tests.support.fake_etcd import FakeEtcd
from tests.support.served import QUIET, TrioClock, on_a_jumping_clock

KEYS = Keys("orders")
CLAIM = b"mine"


class SlowEtcd(FakeEtcd):
    """Carries the next transaction out behind the one after it was not answered."""

    def __init__(self) -> None:
        super().__init__()
        self.put(KEYS.owner(0).encode(), CLAIM)
        self.is_late = False
        self.late: list[bytes] = []
        self.unanswered = trio.Event()

    async def call(self, path: str, request: bytes) -> bytes:
        await trio.lowlevel.checkpoint()
        if path == messages.TRANSACTION and self.is_late:
            self.is_late = False
            self.late.append(request)
            self.unanswered.set()
            raise EtcdUnavailable("no answer")
        if path == messages.TRANSACTION:  # on its way, the one before arrives
            while self.late:
                self.answer(path, self.late.pop())
        return self.answer(path, request)


async def with_root(etcd: SlowEtcd, act: Callable[[Sharing, BrokerServer], Awaitable[None]]) -> None:
    server = BrokerServer(Settings(**QUIET), TrioClock())
    sharing = Sharing(cast(EtcdClient, etcd), KEYS, Known("a"), 2)
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve)
        await nursery.start(sharing.keep, 0, server, lambda: CLAIM)
        await act(sharing, server)
        nursery.cancel_scope.cancel()


@on_a_jumping_clock
async def test_no_two_directories_have_the_same_number() -> None:
    etcd = SlowEtcd()
    other = Sharing(cast(EtcdClient, etcd), KEYS, Known("b"), 2)

    async def act(sharing: Sharing, server: BrokerServer) -> None:
        etcd.is_late = True
        server.broker.administration.add_virtual_host("x")
        await etcd.unanswered.wait()
        real_answer, seen = etcd.answer, []

        def answer(path: str, request: bytes) -> bytes:
            answered = real_answer(path, request)
            seen.append(etcd.keys[KEYS.directory.encode()][0])
            return answered

        etcd.answer = answer  # type: ignore[method-assign]
        server.broker.administration.delete_virtual_host("x")
        server.broker.administration.add_virtual_host("y")
        await sharing.until_shared()
        for value in seen:
            other._take(value)  # as a watch tells it
        assert set(other.directory.places) == {"/", "y"}

    await with_root(etcd, act)


@on_a_jumping_clock
async def test_a_directory_that_cannot_be_read_is_not_replaced() -> None:
    etcd = SlowEtcd()
    etcd.put(KEYS.directory.encode(), b"of a newer release")

    async def act(sharing: Sharing, server: BrokerServer) -> None:
        raise AssertionError("it has begun")

    with trio.move_on_after(5):
        await with_root(etcd, act)
    assert etcd.keys[KEYS.directory.encode()][0] == b"of a newer release"


@on_a_jumping_clock
async def test_what_is_known_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def act(sharing: Sharing, server: BrokerServer) -> None:
        monkeypatch.setattr("amqp_broker.cluster.directory.zlib.decompress", None)
        assert (await sharing.current()).number == 1

    await with_root(SlowEtcd(), act)


@on_a_jumping_clock
async def test_a_virtual_host_that_is_made_again_before_anybody_was_told_is_another_one() -> None:
    async def act(sharing: Sharing, server: BrokerServer) -> None:
        administration = server.broker.administration
        administration.add_virtual_host("x")
        await sharing.until_shared()
        before = sharing.directory.places["x"]
        administration.delete_virtual_host("x")
        administration.add_virtual_host("x")
        await sharing.until_shared()
        assert sharing.directory.places["x"].made > before.made
        now = sharing.directory.places["x"]
        administration.add_virtual_host("y")
        await sharing.until_shared()
        assert sharing.directory.places["x"] == now

    await with_root(SlowEtcd(), act)
