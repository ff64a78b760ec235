"""A shard that its node has just handed over: in memory, with an etcd that is told of late."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import cast

import pytest
import trio
import trio.testing

from amqp_broker.cluster import shard as shard_module
from amqp_broker.cluster.configuration import ClusterConfiguration
from amqp_broker.cluster.etcd_client import EtcdClient
from amqp_broker.cluster.keys import Keys, Node
from amqp_broker.cluster.known import Known
from amqp_broker.cluster.lease import Lease
from amqp_broker.cluster.members import Address, EtcdRefused, Members
from amqp_broker.cluster.node import ClusterNode
from amqp_broker.cluster.shard import Shard, Surroundings
from amqp_broker.cluster.standby import Standby
from amqp_broker.cluster.store import EtcdStore
from amqp_broker.cluster.upkeep import Upkeep
from amqp_broker.journal.failures import FormatNotSupported, JournalDamaged, JournalError, JournalFailed
from amqp_broker.journal.gradual_load import GradualLoad
from amqp_broker.journal.journal import SegmentJournal
from amqp_broker.journal.kept_copies import KeptCopies
from amqp_broker.journal.kept_files import KeptFiles
from amqp_broker.journal.memory_files import MemoryFiles
from amqp_broker.server.broker_server import BrokerServer
from amqp_broker.server.changes import until_durable
from amqp_broker.settings import Settings
from tests.support.fake_etcd import FakeEtcd, UnreliableMember
from tests.support.served import on_a_jumping_clock, seconds_until_the_end, serving

KEYS = Keys("orders")
LEASE_TTL_S = 3
OWNER = KEYS.owner(0).encode()


class AsyncEtcd(FakeEtcd):
    """Answers as a client of etcd does, after it has told who watches."""

    def __init__(self) -> None:
        super().__init__()
        self.watcher: Callable[[bytes], None] = lambda claim: None

    async def call(self, path: str, request: bytes) -> bytes:
        await trio.lowlevel.checkpoint()
        answer = self.answer(path, request)
        self.watcher(self.keys[OWNER][0] if OWNER in self.keys else b"")
        return answer

    call_once = call


class SilentMember(UnreliableMember):
    """Answers until it is told not to."""

    is_silent = False

    def call_all(self, path: str, requests: Sequence[bytes]) -> list[bytes | EtcdRefused | None]:
        return [None] * len(requests) if self.is_silent else super().call_all(path, requests)


def shard_of(etcd: AsyncEtcd, known: Known) -> Shard:
    here = SimpleNamespace(
        configuration=SimpleNamespace(node_name="a", lease_ttl_s=LEASE_TTL_S),
        copies=Path("unused"),
        etcd=cast(EtcdClient, etcd),
        keys=KEYS,
        known=known,
        lease=SimpleNamespace(number=1),
        ending=trio.Event(),
        clients=SimpleNamespace(end_links_to_others=lambda shard, owner: None),
    )
    return Shard(known.shards[0], cast(Surroundings, here))


@on_a_jumping_clock
async def test_who_has_stepped_down_lets_others_go_before_although_it_is_told_late_that_it_has() -> None:
    etcd, known = AsyncEtcd(), Known("me")
    known.nodes = {name: Node(name, name, "127.0.0.1", 1, "1", 0) for name in ("me", "other")}
    shown = known.add_shard(0)
    shard = shard_of(etcd, known)
    assert await shard._ownership.campaign(1) is not None
    shown.claim = shard._ownership.claim
    standby = cast(Standby, SimpleNamespace(following=trio.Event()))
    shard._released.set()
    await shard.step_down()
    etcd.delete(OWNER)  # of which nothing is told
    won: list[int | None] = []
    async with trio.open_nursery() as nursery:

        async def campaign() -> None:
            won.append(await shard._campaign(standby))

        nursery.start_soon(campaign)
        await trio.sleep(LEASE_TTL_S - 0.5)
        assert not won
        etcd.put(OWNER, b"other 1")
    assert won == [None]


@on_a_jumping_clock
async def test_who_stands_back_does_not_wait_with_its_end() -> None:
    etcd, known = AsyncEtcd(), Known("me")
    known.add_shard(0)
    shard = shard_of(etcd, known)
    shard._released.set()
    await shard.step_down()
    shard._here.ending.set()
    began_s = trio.current_time()
    assert await shard._campaign(cast(Standby, SimpleNamespace(following=trio.Event()))) is None
    assert trio.current_time() - began_s < 0.1


@pytest.mark.parametrize("has_copies", [True, False])
def test_who_takes_over_from_an_etcd_that_is_silent_does_not_wait_with_its_end(has_copies: bool) -> None:
    etcd, known = AsyncEtcd(), Known("me")
    known.add_shard(0)
    shard = shard_of(etcd, known)
    here = cast(SimpleNamespace, shard._here)
    here.configuration.addresses = [Address("127.0.0.1", 1)]  # nobody listens there
    here.clients.end_conversations = lambda shard: None
    here.new_server = lambda gate, shard: None

    async def own() -> bool:
        """Whether it ends by itself."""
        standby = Standby(here.configuration, "", Path("unused"))
        standby._ended.set()
        standby._copies = KeptCopies(MemoryFiles()) if has_copies else None
        standby._load = None if has_copies else GradualLoad(KeptCopies(MemoryFiles()))
        here.ending.set()
        async with trio.open_nursery() as nursery:

            async def interrupt() -> None:
                await trio.sleep(60)
                nursery.cancel_scope.cancel()
                cast(EtcdStore, shard._store).give_up()

            nursery.start_soon(interrupt)
            await shard._own(0 if has_copies else 1, standby)
            nursery.cancel_scope.cancel()
            return True
        return False

    assert trio.run(own)


def test_who_is_to_end_waits_a_while_only_for_a_silent_etcd_to_take_the_last_writes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A journal is closed in the event loop, where nobody else could say then that it is enough."""
    monkeypatch.setattr(shard_module, "LAST_WRITES_S", 0.02)
    etcd, known = AsyncEtcd(), Known("me")
    known.add_shard(0)
    shard, member = shard_of(etcd, known), SilentMember(etcd, Random(1))
    cast(SimpleNamespace, shard._here).settings = Settings(shutdown_grace_ms=0)
    store = shard._store = EtcdStore(Members([member]), KEYS.shard(0), KEYS.owner(0), etcd.put(OWNER, b"me 1"))
    store.open()
    server = BrokerServer(Settings(data_dir=str(tmp_path)))
    server.open(SegmentJournal(KeptFiles(store, MemoryFiles())))
    patience = threading.Timer(60, store.give_up)

    async def end() -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(server.serve)
            await until_durable(server.broker)
            member.is_silent = True
            patience.start()
            shard._stepping_down.set()
            nursery.start_soon(shard._shut_down_after, shard._stepping_down, server)

    with pytest.raises(ExceptionGroup) as caught:
        trio.run(end)
    assert patience.is_alive()
    patience.cancel()
    assert caught.group_contains(JournalFailed, match="gave its ownership up")


@on_a_jumping_clock
async def test_who_the_owner_refused_lets_others_go_before() -> None:
    """With another secret it would serve no other node."""
    etcd, known = AsyncEtcd(), Known("me")
    shown = known.add_shard(0)
    shown.is_refused = True
    shard = shard_of(etcd, known)
    began_s = trio.current_time()
    assert await shard._campaign(cast(Standby, SimpleNamespace(following=trio.Event()))) is not None
    assert 2 * LEASE_TTL_S <= trio.current_time() - began_s < 2 * LEASE_TTL_S + 1


@on_a_jumping_clock
async def test_who_hands_over_waits_shortly_for_a_client_that_does_not_answer() -> None:
    """Nobody is served until it has."""
    known = Known("me")
    known.add_shard(0)
    shard = shard_of(AsyncEtcd(), known)
    cast(SimpleNamespace, shard._here).settings = Settings(shutdown_grace_ms=3_000)
    async with (
        serving(shutdown_grace_ms=3_000) as served,
        await served.opened() as client,
        trio.open_nursery() as nursery,
    ):
        shard._stepping_down.set()
        nursery.start_soon(shard._shut_down_after, shard._stepping_down, served.server)
        assert 0.5 <= await seconds_until_the_end(client) < 1
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("event", ["_lost", "_stepping_down"])
@on_a_jumping_clock
async def test_who_cannot_agree_with_the_directory_yet_lets_its_shard_go_all_the_same(event: str) -> None:
    async def keep(*arguments: object, task_status: object) -> None:
        await trio.sleep_forever()  # etcd is silent, or another node owns the root

    known = Known("me")
    known.add_shard(0)
    shard = shard_of(AsyncEtcd(), known)
    here = cast(SimpleNamespace, shard._here)
    here.settings, here.sharing = Settings(shutdown_grace_ms=0), SimpleNamespace(keep=keep)
    here.lease.may_speak = True
    upkeep = cast(Upkeep, SimpleNamespace(is_low=False, run=trio.sleep_forever))
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(shard._serve_broker, BrokerServer(Settings()), upkeep)
            await trio.testing.wait_all_tasks_blocked()
            getattr(shard, event).set()


@pytest.mark.parametrize("error", [FormatNotSupported("a newer release"), JournalDamaged("f", 1, "bytes")])
def test_a_journal_that_a_node_cannot_read_is_left_to_others(
    error: JournalError, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(journal: object) -> None:
        raise error

    async def own() -> None:
        etcd, known = AsyncEtcd(), Known("me")
        known.add_shard(0)
        shard = shard_of(etcd, known)
        monkeypatch.setattr(shard_module, "blocking_members", lambda *_: Members([UnreliableMember(etcd, Random(1))]))
        here = cast(SimpleNamespace, shard._here)
        here.configuration.addresses, here.settings = [], Settings()
        here.clients.end_conversations = lambda shard: None
        here.new_server = lambda gate, shard: SimpleNamespace(open=fail)
        epoch = await shard._ownership.campaign(1)
        assert epoch is not None
        standby = Standby(here.configuration, "", Path("unused"))
        standby._ended.set()
        standby._copies, standby._revision = KeptCopies(MemoryFiles()), epoch
        await shard._own(epoch, standby)
        assert OWNER not in etcd.keys
        assert shard._stands_back_until_s > trio.current_time()

    trio.run(own)


@pytest.mark.parametrize("owns", ["nothing", "another shard", "nothing, and ends"])
@on_a_jumping_clock
async def test_memory_is_given_back_where_a_shard_was_let_go(owns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    known, collected = Known("me"), list[float]()
    known.add_shard(0)
    known.add_shard(1).server = cast(BrokerServer, object()) if owns == "another shard" else None
    shard = shard_of(AsyncEtcd(), known)
    if owns == "nothing, and ends":
        shard._here.ending.set()
    monkeypatch.setattr(shard_module, "collect_all", lambda: collected.append(trio.current_time()))
    began_s = trio.current_time()
    await shard._give_memory_back(None)
    assert [at_s > began_s for at_s in collected] == ([True] if owns == "nothing" else [])


def test_who_owned_it_last_is_not_waited_for() -> None:
    """It is dead, or stands back: one of the two that are left goes first."""
    for owner in "abc":
        places = []
        for one in "abc":
            known = Known(one)
            known.nodes = {name: Node(name, name, "127.0.0.1", 1, "1", 0) for name in "abc"}
            known.add_shard(0)
            shard = shard_of(AsyncEtcd(), known)
            shard._note("", f"{owner} 1".encode())
            shard._note("", b"")
            if one != owner:
                places.append(shard._place_in_line())
        assert sorted(places) == [0, 1]


@pytest.mark.parametrize("had_it_since", [b"", b"other 1"])
@on_a_jumping_clock
async def test_an_owner_whose_key_was_taken_by_one_that_has_died_goes_on_or_gives_up(had_it_since: bytes) -> None:
    etcd, known = AsyncEtcd(), Known("me")
    shown = known.add_shard(0)
    shard = shard_of(etcd, known)
    epoch = await shard._ownership.campaign(1)
    assert epoch is not None
    shown.claim = shard._ownership.claim
    resumed: list[int] = []
    shard._store = cast(EtcdStore, SimpleNamespace(resume=resumed.append, give_up=lambda: None))
    etcd.watcher = lambda claim: shard._note("", claim)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(shard._resume_where_nobody_owns_it)
        await trio.sleep(2 * LEASE_TTL_S)
        etcd.delete(OWNER)
        if had_it_since:
            etcd.put(KEYS.last_owner(0).encode(), had_it_since)
        shard._note("", b"")
        known.tell()
        await trio.sleep(LEASE_TTL_S - 0.5)
        assert not resumed
        assert not shard._lost.is_set()
        await trio.sleep(1)
        assert (len(resumed), shard._lost.is_set()) == ((0, True) if had_it_since else (1, False))
        nursery.cancel_scope.cancel()
    assert resumed == ([] if had_it_since else [etcd.keys[OWNER][2]])


@on_a_jumping_clock
async def test_who_takes_its_shard_back_waits_for_a_lease_and_gives_nothing_up_for_the_lack_of_one() -> None:
    etcd, known = AsyncEtcd(), Known("me")
    known.add_shard(0)
    shard = shard_of(etcd, known)
    assert await shard._ownership.campaign(1) is not None
    etcd.delete(OWNER)
    resumed: list[int] = []
    shard._store = cast(EtcdStore, SimpleNamespace(resume=resumed.append, give_up=lambda: None))
    lease = cast(SimpleNamespace, shard._here.lease)
    lease.number = 0
    shard.lease_lost()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(shard.resume)
        await trio.sleep(0.25)
        assert (resumed, shard._lost.is_set(), shard._is_lease_sure) == ([], False, False)
        lease.number = 2
    assert (resumed, shard._is_lease_sure) == ([etcd.keys[OWNER][2]], True)


@on_a_jumping_clock
async def test_a_lease_is_renewed_while_shards_are_taken_back_with_it(tmp_path: Path) -> None:
    configuration = ClusterConfiguration("c", (Address("127.0.0.1", 1),), "secret", "a", "127.0.0.1", 0, LEASE_TTL_S)
    node = ClusterNode(Settings(port=0), configuration, tmp_path)
    renewals, is_renewed, is_taken_back = list[int](), trio.Event(), trio.Event()

    async def keep_alive() -> None:
        renewals.append(1)
        if len(renewals) > 1:  # the first was lost at once
            is_renewed.set()
            await trio.sleep_forever()

    async def resume() -> None:
        await is_renewed.wait()
        is_taken_back.set()

    node._lease = cast(Lease, SimpleNamespace(number=1, keep_alive=keep_alive))
    node._shards = {0: cast(Shard, SimpleNamespace(lease_lost=lambda: None, resume=resume))}
    with trio.fail_after(1):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(node._keep_lease, 1)
            await is_taken_back.wait()
            nursery.cancel_scope.cancel()
