"""What the root's owner writes as the directory, in an etcd in memory that is slow and forgets to answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import cast

import pytest
import trio
import trio.testing

from amqp_broker.broker.broker import Broker
from amqp_broker.broker.problems import AdministrationError
from amqp_broker.cluster.etcd_client import EtcdClient
from amqp_broker.cluster.etcd_directory import EtcdDirectory
from amqp_broker.cluster.keys import Keys
from amqp_broker.cluster.known import Known
from amqp_broker.cluster.members import EtcdUnavailable
from amqp_broker.etcd import messages
from amqp_broker.server.broker_server import BrokerServer
from amqp_broker.server.sharding import arrivals
from amqp_broker.server.sharding.arrivals import Entrance
from amqp_broker.server.sharding.directory import CannotAgree, Directory, agree
from amqp_broker.server.sharding.sharing import Sharing
from amqp_broker.settings import Settings
from tests.support.fake_etcd import FakeEtcd
from tests.support.memory_broker import MemoryBroker
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
    sharing = Sharing(EtcdDirectory(cast(EtcdClient, etcd), KEYS), Known("a"), 2)
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve)
        await nursery.start(sharing.keep, 0, server, lambda: CLAIM)
        await act(sharing, server)
        nursery.cancel_scope.cancel()


@on_a_jumping_clock
async def test_no_two_directories_have_the_same_number() -> None:
    etcd = SlowEtcd()
    other = Sharing(EtcdDirectory(cast(EtcdClient, etcd), KEYS), Known("b"), 2)

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

    unreadable = ""
    try:
        with trio.move_on_after(0.5):
            await with_root(etcd, act)
    except* CannotAgree as error:
        unreadable = str(error.exceptions)
    assert "cannot be read" in unreadable, "another node is let own the root"
    assert etcd.keys[KEYS.directory.encode()][0] == b"of a newer release"


@on_a_jumping_clock
async def test_what_is_known_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def act(sharing: Sharing, server: BrokerServer) -> None:
        monkeypatch.setattr("amqp_broker.server.sharding.directory.zlib.decompress", None)
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


@on_a_jumping_clock
async def test_what_is_not_durable_is_not_told_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next owner of the root would not know it, and a virtual host that it has would have been emptied."""
    etcd, durable, told = SlowEtcd(), set[str](), list[set[str]]()

    async def until_durable(broker: Broker) -> None:
        kept = set(broker.virtual_hosts)
        await trio.lowlevel.checkpoint()
        if "x" in kept:
            with suppress(AdministrationError):
                broker.administration.add_virtual_host("later")
        durable.update(kept)

    def answer(path: str, request: bytes) -> bytes:
        answered = FakeEtcd.answer(etcd, path, request)
        if KEYS.directory.encode() in etcd.keys:
            told.append(set(Directory.decode(etcd.keys[KEYS.directory.encode()][0]).places))
            assert told[-1] <= durable
        return answered

    async def act(sharing: Sharing, server: BrokerServer) -> None:
        server.broker.administration.add_virtual_host("x")
        await sharing.until_shared()
        await sharing.until_shared()

    monkeypatch.setattr("amqp_broker.server.sharding.sharing.until_durable", until_durable)
    etcd.answer = answer  # type: ignore[method-assign]
    await with_root(etcd, act)
    assert told[-1] == {"/", "x", "later"}


@on_a_jumping_clock
async def test_a_directory_follows_the_one_that_it_was_made_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was written late, and is read while the next one waits, must not be replaced by one of its number."""
    etcd, numbers = SlowEtcd(), dict[int, bytes]()

    async def act(sharing: Sharing, server: BrokerServer) -> None:
        late = sharing.directory.followed_by(root_with("x"), 2).encode()

        async def until_durable(broker: Broker) -> None:
            nonlocal late
            if late and "y" in broker.virtual_hosts:
                etcd.put(KEYS.directory.encode(), late)
                late = b""
                await sharing.current()

        monkeypatch.setattr("amqp_broker.server.sharding.sharing.until_durable", until_durable)
        server.broker.administration.add_virtual_host("y")
        await sharing.until_shared()
        assert set(sharing.directory.places) == {"/", "y"}
        assert not late

    def answer(path: str, request: bytes) -> bytes:
        answered = FakeEtcd.answer(etcd, path, request)
        if KEYS.directory.encode() in etcd.keys:
            value = etcd.keys[KEYS.directory.encode()][0]
            assert numbers.setdefault(Directory.decode(value).number, value) == value
        return answered

    etcd.answer = answer  # type: ignore[method-assign]
    await with_root(etcd, act)


# --- who cannot agree


def root_with(*hosts: str) -> MemoryBroker:
    root = MemoryBroker()
    for host in hosts:
        root.administration.add_virtual_host(host)
    return root


def of_another_release(before: Directory | None = None) -> Directory:
    """A directory with a virtual host that is not understood here."""
    directory = (before or Directory()).followed_by(root_with("a", "b"), 2)
    vhosts = directory.sections["vhosts"]
    directory.sections["vhosts"] = {**vhosts, ("a",): {"name": "a", "default_queue_type": "of a newer release"}}
    return directory


async def kept_shard(directory: bytes, act: Callable[[Sharing, Known, SlowEtcd], Awaitable[None]]) -> str:
    """Have a shard agree with what stands in etcd; returns why it ends, if it does."""
    etcd, known = SlowEtcd(), Known("a")
    etcd.put(KEYS.directory.encode(), directory)
    server, sharing = (
        BrokerServer(Settings(**QUIET), TrioClock()),
        Sharing(EtcdDirectory(cast(EtcdClient, etcd), KEYS), known, 2),
    )
    reason = ""
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(server.serve)
            await nursery.start(sharing.keep, 1, server, lambda: CLAIM)
            await act(sharing, known, etcd)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    except* CannotAgree as error:
        (inner,) = error.exceptions
        while isinstance(inner, BaseExceptionGroup):
            (inner,) = inner.exceptions
        reason = str(inner)
    with suppress(CannotAgree):
        assert not await sharing.until_in_force(1), "who comes now is let go"
    return reason


async def not_reached(sharing: Sharing, known: Known, etcd: SlowEtcd) -> None:
    raise AssertionError("it serves")


@on_a_jumping_clock
async def test_a_shard_that_cannot_agree_is_not_served_here() -> None:
    assert "newer release" in await kept_shard(of_another_release().encode(), not_reached)
    assert "cannot be read" in await kept_shard(b"of a newer release", not_reached)


@pytest.mark.parametrize("is_readable", [True, False])
@on_a_jumping_clock
async def test_a_shard_that_can_agree_no_more_is_served_here_no_more(is_readable: bool) -> None:
    first = Directory().followed_by(root_with("a"), 2)

    async def act(sharing: Sharing, known: Known, etcd: SlowEtcd) -> None:
        assert await sharing.until_in_force(1)
        later = of_another_release(first).encode() if is_readable else b"of a newer release"
        etcd.put(KEYS.directory.encode(), later)
        with suppress(CannotAgree):
            await sharing.current()
        await trio.sleep_forever()

    assert "release" in await kept_shard(first.encode(), act)


@on_a_jumping_clock
async def test_an_entrance_that_cannot_agree_lets_nobody_in_and_tries_again_after_a_moment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = BrokerServer(Settings(**QUIET), TrioClock())
    entrance = Entrance(server)
    bad = of_another_release()
    tried_s: list[float] = []

    def try_to_agree(broker: Broker, directory: Directory, shard: int | None) -> None:
        tried_s.append(trio.current_time() - began_s)
        agree(broker, directory, shard)

    monkeypatch.setattr(arrivals, "agree", try_to_agree)
    began_s = trio.current_time()
    for _ in range(30):
        with pytest.raises(CannotAgree, match="newer release"):
            entrance.agree(bad)
        await trio.sleep(0.1)
    assert [round(one_s) for one_s in tried_s] == [0, 1, 2]
    entrance.agree(bad.followed_by(root_with("a", "c"), 2))  # another one, at once
    assert set(server.broker.virtual_hosts) == {"/", "a", "c"}
