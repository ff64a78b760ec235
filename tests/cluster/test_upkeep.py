"""What the owner does for etcd: compaction, and publishers that wait before its quota is used up."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
import trio.testing

from amqp_broker.cluster.etcd_client import EtcdClient
from amqp_broker.cluster.keys import Node
from amqp_broker.cluster.known import JOURNAL_BYTES, Known
from amqp_broker.cluster.members import Address, EtcdRefused
from amqp_broker.cluster.overview import _etcd_overview
from amqp_broker.cluster.space import reclaim_space
from amqp_broker.cluster.store import EtcdStore
from amqp_broker.cluster.upkeep import KEPT_ROUNDS, Upkeep
from amqp_broker.etcd import messages
from amqp_broker.etcd import protobuf as wire
from amqp_broker.journal.port import Journal
from tests.support.etcd_process import ETCD, one_member

QUOTA_BYTES = 1_000_000
FULL_BYTES = 10_000_000


class SomeEtcd:
    """Says what it is told to, and remembers how far it was compacted."""

    present = "here:1"

    def __init__(self) -> None:
        self.used_bytes = 0
        self.errors: list[bytes] = []
        self.revision = 0
        self.compacted: list[int] = []
        self.reclaimed_count = 0
        self.told_count = 0

    async def call(self, path: str, request: bytes) -> bytes:
        if path == messages.STATUS:
            self.revision += 100
            errors = b"".join(wire.data(8, error) for error in self.errors)
            return wire.data(1, wire.integer(3, self.revision)) + errors + wire.integer(9, self.used_bytes)
        assert path == messages.COMPACT
        self.compacted.append(wire.integer_of(wire.decode(request), 1))
        return b""


class SomeStore:
    live_bytes = 0
    free_bytes: int | None = None
    is_out_of_space = False


@pytest.fixture
def etcd() -> SomeEtcd:
    return SomeEtcd()


@pytest.fixture
def store() -> SomeStore:
    return SomeStore()


@pytest.fixture
def upkeep(etcd: SomeEtcd, store: SomeStore) -> Upkeep:
    async def reclaim_space() -> None:
        etcd.reclaimed_count += 1

    def tell() -> None:
        etcd.told_count += 1

    cared_for = cast(EtcdClient, etcd), cast(EtcdStore, store)
    return Upkeep(*cared_for, QUOTA_BYTES, reclaim_space, lambda: store.live_bytes, tell)


def look(upkeep: Upkeep, times: int = 1) -> None:
    async def several_times() -> None:
        for _ in range(times):
            await upkeep.look()

    trio.run(several_times)


@pytest.mark.parametrize(
    ("used_bytes", "is_low", "free_bytes"), [(0, False, 800_000), (600_000, False, 200_000), (600_001, True, 199_999)]
)
def test_publishers_wait_above_sixty_per_cent(
    etcd: SomeEtcd, store: SomeStore, upkeep: Upkeep, used_bytes: int, is_low: bool, free_bytes: int
) -> None:
    etcd.used_bytes = used_bytes
    look(upkeep)
    assert (upkeep.is_low, store.free_bytes) == (is_low, free_bytes)
    assert upkeep.status == {"name": "etcd", "used_bytes": used_bytes, "quota_bytes": QUOTA_BYTES, "is_low": is_low}
    assert trio.run(_etcd_overview, cast(EtcdClient, etcd), QUOTA_BYTES, ())["publishers_wait"] == is_low


def test_they_wait_at_once_when_much_is_written(etcd: SomeEtcd, store: SomeStore, upkeep: Upkeep) -> None:
    async def write() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(upkeep.run)
            await trio.sleep(0.1)
            assert store.free_bytes == 800_000
            etcd.used_bytes, store.free_bytes = 200_000, 199_999  # much was written, and much is there no more
            await trio.sleep(0.2)
            assert (upkeep.is_low, store.free_bytes, etcd.told_count) == (False, 600_000, 0)
            etcd.used_bytes, store.free_bytes = 700_000, 199_999
            await trio.sleep(0.2)
            assert (upkeep.is_low, store.free_bytes, etcd.told_count) == (True, 100_000, 1)
            nursery.cancel_scope.cancel()

    trio.run(write, clock=trio.testing.MockClock(autojump_threshold=0))


def test_they_go_on_when_there_is_space_again(etcd: SomeEtcd, store: SomeStore, upkeep: Upkeep) -> None:
    etcd.used_bytes = 900_000
    look(upkeep)
    assert (upkeep.is_low, store.free_bytes) == (True, 0)
    etcd.used_bytes = 100_000
    look(upkeep)
    assert not upkeep.is_low


def test_they_wait_when_etcd_has_said_that_it_is_full(etcd: SomeEtcd, store: SomeStore, upkeep: Upkeep) -> None:
    store.is_out_of_space = True
    look(upkeep)
    assert upkeep.is_low
    assert etcd.reclaimed_count == 1
    etcd.errors = [b"memberID:1 alarm:NOSPACE "]
    assert trio.run(_etcd_overview, cast(EtcdClient, etcd), QUOTA_BYTES, ())["publishers_wait"]


def test_what_was_overwritten_is_forgotten_after_some_rounds(etcd: SomeEtcd, upkeep: Upkeep) -> None:
    look(upkeep, KEPT_ROUNDS - 1)
    assert etcd.compacted == []
    look(upkeep, 3)
    assert etcd.compacted == [100, 200, 300]


def test_less_of_it_is_kept_when_much_goes_through(etcd: SomeEtcd, store: SomeStore, upkeep: Upkeep) -> None:
    store.live_bytes = 300_000
    etcd.used_bytes = 500_000
    look(upkeep, 5)
    assert etcd.compacted == []
    etcd.used_bytes = 500_001
    look(upkeep, 2)
    assert etcd.compacted == [500, 600]


def test_what_the_journals_of_other_shards_have_counts_as_well() -> None:
    known = Known("me")
    known.add_shard(0).journal = cast(Journal, SimpleNamespace(disk_bytes=100_000))
    known.add_shard(1)
    for name, uses in (("me", {JOURNAL_BYTES: 1}), ("other", {JOURNAL_BYTES: 200_000}), ("of an older release", {})):
        known.nodes[name] = Node(name, name, "127.0.0.1", 1, "1", 0, uses)
    assert known.all_journal_bytes == 300_000


def test_nothing_is_forgotten_twice(etcd: SomeEtcd, upkeep: Upkeep) -> None:
    look(upkeep, KEPT_ROUNDS)
    etcd.revision = 0  # whatever it answers, compaction never goes back

    async def many(_: Any = None) -> None:
        for _ in range(KEPT_ROUNDS):
            await upkeep.look()

    trio.run(many)
    assert etcd.compacted == sorted(set(etcd.compacted))


@pytest.mark.skipif(ETCD is None, reason="etcd is not installed (Debian: etcd-server)")
def test_an_etcd_that_was_filled_by_others_takes_writes_again(tmp_path: Path) -> None:
    member = one_member(tmp_path, ["--quota-backend-bytes", str(FULL_BYTES)])
    address = Address("127.0.0.1", member.client_port)

    def put(key: bytes) -> bytes:
        return messages.transaction_request([], [messages.put(key, bytes(1_000_000))])

    async def fill(client: EtcdClient) -> None:
        for number in count():  # some come in after the last, until etcd counts
            await client.call(messages.TRANSACTION, put(b"%d" % number))

    async def act() -> None:
        async with trio.open_nursery() as nursery:
            client = EtcdClient([address], 20.0, nursery)
            with pytest.raises(EtcdRefused) as caught:
                await fill(client)
            assert caught.value.is_out_of_space
            list_alarms = messages.alarm_request(messages.AlarmAction.LIST)
            while not messages.alarms_in(await client.call(messages.ALARM, list_alarms)):
                pass  # it is raised a little later
            assert not await reclaim_space(client, [address], FULL_BYTES // 5)  # more than that is live
            delete = messages.transaction_request([], [messages.delete(b"0", b":")])
            await client.call(messages.TRANSACTION, delete)
            with pytest.raises(EtcdRefused):
                await client.call(messages.TRANSACTION, put(b"refused all the same"))
            assert await reclaim_space(client, [address], FULL_BYTES)
            await client.call(messages.TRANSACTION, put(b"taken"))
            nursery.cancel_scope.cancel()

    try:
        trio.run(act)
    finally:
        member.kill()
