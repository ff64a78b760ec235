"""A standby follows what the owner writes into a real etcd, and has the same files when its turn comes."""

from __future__ import annotations

import errno
import time
from collections.abc import Awaitable, Callable, Iterator
from itertools import count
from pathlib import Path
from random import Random
from typing import Any, cast

import pytest
import trio
import trio.testing

from amqp_broker.cluster import standby as standby_module
from amqp_broker.cluster import store as store_module
from amqp_broker.cluster.configuration import ClusterConfiguration
from amqp_broker.cluster.etcd_client import EtcdClient
from amqp_broker.cluster.keys import Keys
from amqp_broker.cluster.lease import Lease
from amqp_broker.cluster.members import Address, EtcdRefused, blocking_members
from amqp_broker.cluster.ownership import Ownership
from amqp_broker.cluster.standby import Standby
from amqp_broker.cluster.store import EtcdStore
from amqp_broker.etcd import calls, messages
from amqp_broker.etcd.messages import Event, KeyValue
from amqp_broker.journal.gradual_load import GradualLoad
from amqp_broker.journal.journal import SegmentJournal
from amqp_broker.journal.kept_copies import PIECES, KeptCopies
from amqp_broker.journal.kept_files import KeptFiles
from amqp_broker.journal.memory_files import MemoryFiles
from tests.support.etcd_process import ETCD, EtcdMember, one_member
from tests.support.fake_store import FakeStore, contents
from tests.support.served import on_a_jumping_clock
from tests.unit.journal_helpers import SEGMENT_BYTES, commit

pytestmark = pytest.mark.skipif(ETCD is None, reason="etcd is not installed (Debian: etcd-server)")


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdMember]:
    member = one_member(tmp_path_factory.mktemp("etcd"))
    yield member
    member.kill()


class Owner:
    """Writes files, as the owner of a shard."""

    def __init__(self, configuration: ClusterConfiguration, client: EtcdClient) -> None:
        self.keys = Keys(configuration.cluster)
        self.client = client
        self._members = blocking_members(configuration.addresses, 20.0)
        self.ownership = Ownership(client, self.keys, 0, "owner")
        self.lease = Lease(client, 60)
        self.files: KeptFiles

    async def begin(self) -> int:
        """Own the shard; returns the epoch."""
        await self.lease.grant()
        epoch = await self.ownership.campaign(self.lease.number)
        assert epoch is not None
        store = EtcdStore(self._members, self.keys.shard(0), self.keys.owner(0), epoch)
        store.open()
        self.files = KeptFiles(store, MemoryFiles())
        self.files.fetch()
        return epoch

    async def end(self) -> None:
        """Own it no more."""
        await self.ownership.disown(self.ownership.claim)
        self._members.close()

    def write(self, name: str, data: bytes) -> None:
        """A file with these bytes, kept."""
        file = self.files.create(name, 0)
        file.write_at(0, data)
        file.sync()
        self.files.sync_folder()


def with_owner(etcd: EtcdMember, cluster: str, act: Callable[[Owner, ClusterConfiguration], Awaitable[None]]) -> None:
    """Call a coroutine function with an owner that has written something."""
    addresses = (Address("127.0.0.1", etcd.client_port),)
    configuration = ClusterConfiguration(cluster, addresses, "", "b", "127.0.0.1", 0, 3)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            owner = Owner(configuration, EtcdClient(addresses, 20.0, nursery))
            await owner.begin()
            owner.write("before", b"before")
            await act(owner, configuration)
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_it_has_what_the_owner_has_written(etcd: EtcdMember, tmp_path: Path) -> None:
    async def act(owner: Owner, configuration: ClusterConfiguration) -> None:
        standby = Standby(configuration, owner.keys.shard(0), tmp_path)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(standby.run)
            await standby.following.wait()
            owner.write("large", Random(1).randbytes(700_000))
            owner.files.open("large").truncate(300_000)
            owner.files.open("large").sync()
            owner.write("small", b"small")
            owner.files.remove("before")
            owner.files.sync_folder()
            expected = contents(owner.files)
            await taken_over(owner, configuration, standby, expected)
            assert sorted(expected) == ["large", "small"]

    with_owner(etcd, "followed", act)


@on_a_jumping_clock
async def test_a_standby_whose_disk_is_full_does_not_read_etcd_without_a_pause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[float] = []

    def read_page(standby: Standby, load: GradualLoad) -> int:
        reads.append(time.monotonic())
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Standby, "_read_page", read_page)
    monkeypatch.setattr(standby_module, "LOOK_S", 10.0)
    configuration = ClusterConfiguration("full", (Address("127.0.0.1", 1),), "", "b", "127.0.0.1", 0, 3)
    with trio.move_on_after(standby_module.AGAIN_PAUSE_S - 1):
        await Standby(configuration, "shard/", tmp_path).run()
    assert len(reads) == 1


@on_a_jumping_clock
async def test_who_takes_over_waits_for_what_is_being_read_unless_etcd_will_not_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def be_refused(standby: Standby, etcd: EtcdClient) -> None:
        await trio.sleep(2.5 * standby_module.PATIENCE_S)
        raise EtcdRefused(7, "etcdserver: permission denied")

    monkeypatch.setattr(Standby, "_watch", be_refused)
    monkeypatch.setattr(standby_module, "LOOK_S", 100.0)
    standby = Standby(
        ClusterConfiguration("refused", (Address("127.0.0.1", 1),), "", "b", "127.0.0.1", 0, 3), "shard/", tmp_path
    )
    standby._load = GradualLoad(KeptCopies(MemoryFiles()))
    began_s = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(standby.run)
        assert await standby.hand_over(1) is None
    assert 2.5 * standby_module.PATIENCE_S < trio.current_time() - began_s < 4 * standby_module.PATIENCE_S


def test_a_segment_that_is_damaged_here_is_read_out_of_etcd_again(
    etcd: EtcdMember, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standby_module, "RENEWAL_S", 0.0)
    send, verified = trio.open_memory_channel[tuple[str, bool]](1_000)
    verify = KeptCopies.verify

    def verify_and_tell(copies: KeptCopies, name: str, now_s: float) -> bool:
        is_intact = verify(copies, name, now_s)
        trio.from_thread.run_sync(send.send_nowait, (name, is_intact))
        return is_intact

    async def act(owner: Owner, configuration: ClusterConfiguration) -> None:
        journal = SegmentJournal(owner.files, SEGMENT_BYTES)
        assert list(journal.recover()) == []
        for number in range(4):
            journal.put(1, bytes([number]) * SEGMENT_BYTES)
            commit(journal)
        standby = Standby(configuration, owner.keys.shard(0), tmp_path)
        async with trio.open_nursery() as nursery:
            monkeypatch.setattr(KeptCopies, "verify", verify_and_tell)
            nursery.start_soon(standby.run)
            name, is_intact = await verified.receive()
            assert is_intact
            assert standby._copies is not None
            before = damaged(tmp_path, standby._copies.names[name])
            while await verified.receive() != (name, False):
                pass
            while await verified.receive() != (name, True):
                pass
            assert damaged(tmp_path, standby._copies.names[name]) == before
            standby.stop()
        await owner.end()

    with_owner(etcd, "damaged", act)


def damaged(folder: Path, name: str) -> bytes:
    """Change a byte of a file; returns what the file was before."""
    (path,) = folder.rglob(name)
    before = path.read_bytes()
    path.write_bytes(before[:1_000] + bytes([before[1_000] ^ 1]) + before[1_001:])
    return before


def test_it_reads_all_again_when_etcd_has_forgotten_what_it_missed(
    etcd: EtcdMember, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def act(owner: Owner, configuration: ClusterConfiguration) -> None:
        standby = Standby(configuration, owner.keys.shard(0), tmp_path)
        read_page = standby._read_page

        def read_and_fall_behind(load: GradualLoad) -> int:
            revision = read_page(load)
            monkeypatch.setattr(standby, "_read_page", read_page)
            trio.from_thread.run(fall_behind)
            return revision

        async def fall_behind() -> None:
            for number in range(3):
                owner.write(f"missed {number}", b"data")
            await forget(owner.client)

        monkeypatch.setattr(standby, "_read_page", read_and_fall_behind)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(standby.run)
            expected = ["before", "missed 0", "missed 1", "missed 2"]
            while standby._copies is None or sorted(standby._copies.names) != expected:
                await standby._moved.wait()
            standby.stop()
        await owner.end()

    with_owner(etcd, "forgotten", act)


def test_it_reads_what_there_is_although_etcd_forgets_all_that_is_older(
    etcd: EtcdMember, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "PAGE_KEYS", 2)
    clients = noted_clients(monkeypatch)

    async def act(owner: Owner, configuration: ClusterConfiguration) -> None:
        for number in range(4):
            owner.write(f"there {number}", Random(number).randbytes(300_000))
        standby = Standby(configuration, owner.keys.shard(0), tmp_path)
        read_page, reads = standby._read_page, count()

        def read_and_forget(load: GradualLoad) -> int:
            revision = read_page(load)
            trio.from_thread.run(write_and_forget, next(reads))
            return revision

        async def write_and_forget(number: int) -> None:
            if not 0 < number < 8:  # nothing is watched yet, or that is enough
                return
            if number == 1:
                await until_watched(clients[0])
            if number in (1, 2):
                owner.files.remove(f"there {number}")
            owner.write(f"new {number}", b"data")
            await forget(owner.client)

        monkeypatch.setattr(standby, "_read_page", read_and_forget)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(standby.run)
            await standby.following.wait()
            owner.write("last", b"data")
            expected = contents(owner.files)
            await taken_over(owner, configuration, standby, expected)

    with_owner(etcd, "forgetful", act)


def test_a_watch_that_is_lost_while_others_write_goes_on_where_nothing_was_written(
    etcd: EtcdMember, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clients = noted_clients(monkeypatch)
    monkeypatch.setattr(standby_module, "LOOK_S", 0.001)

    async def act(owner: Owner, configuration: ClusterConfiguration) -> None:
        standby = Standby(configuration, owner.keys.shard(0), tmp_path)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(standby.run)
            await standby.following.wait()
            copies = standby._copies
            for number in range(3):
                request = messages.transaction_request([], [messages.put(b"other", b"%d" % number)])
                await owner.client.call(messages.TRANSACTION, request)
            revision = await forget(owner.client)
            with trio.fail_after(20):
                while standby._revision < revision:  # noqa: ASYNC110  # nobody tells
                    await trio.sleep(standby_module.LOOK_S)
            watching = clients[0]._connection
            assert watching is not None
            watching.fail()
            owner.write("after", b"data")
            while copies is None or "after" not in copies.names:
                assert standby._copies is copies
                await standby._moved.wait()
            standby.stop()
        await owner.end()

    with_owner(etcd, "idle", act)


def noted_clients(monkeypatch: pytest.MonkeyPatch) -> list[EtcdClient]:
    """Those that standbys make from now on."""
    clients: list[EtcdClient] = []

    def make_client(*arguments: Any) -> EtcdClient:
        clients.append(EtcdClient(*arguments))
        return clients[-1]

    monkeypatch.setattr(standby_module, "EtcdClient", make_client)
    return clients


async def taken_over(
    owner: Owner, configuration: ClusterConfiguration, standby: Standby, expected: dict[str, bytes]
) -> None:
    """End the owner, and have the next one take what a standby of its node has; it is what is expected, and in etcd."""
    await owner.end()
    next_owner = Owner(configuration, owner.client)
    copies = await standby.hand_over(await next_owner.begin())
    assert copies is not None
    files = KeptFiles(next_owner.files._store, copies.local)
    files.adopt(copies)
    assert contents(files) == expected == contents(next_owner.files)
    await next_owner.end()


async def until_watched(client: EtcdClient) -> None:
    """Wait until etcd has said that a watch has begun."""
    connection = client._connection
    assert connection is not None
    with trio.fail_after(20):
        while not any(one.statistics().current_buffer_used for one in connection._answers.values()):  # noqa: ASYNC110
            await trio.sleep(0.001)  # nobody tells


async def forget(client: EtcdClient) -> int:
    """Have etcd forget all that is older than now; returns what that is."""
    some_key = messages.range_request(b"\0", limit=1)
    revision = messages.RangeAnswer.read(await client.call(messages.RANGE, some_key)).revision
    await client.call(messages.COMPACT, messages.compaction_request(revision))
    return revision


def test_it_is_told_in_several_answers_what_is_too_much_for_one(
    etcd: EtcdMember, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "ANSWER_BYTES_MAX", 4_000_000)

    async def act(owner: Owner, configuration: ClusterConfiguration) -> None:
        standby = Standby(configuration, owner.keys.shard(0), tmp_path)
        read_page = standby._read_page

        def read_and_fall_behind(load: GradualLoad) -> int:
            revision = read_page(load)
            monkeypatch.setattr(standby, "_read_page", read_page)
            trio.from_thread.run_sync(fall_behind)
            return revision

        def fall_behind() -> None:
            for number in range(8):
                owner.write(f"missed {number}", Random(number).randbytes(1_000_000))

        monkeypatch.setattr(standby, "_read_page", read_and_fall_behind)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(standby.run)
            with trio.fail_after(60):
                while standby._copies is None or len(standby._copies.names) < 9:
                    await standby._moved.wait()
            standby.stop()
        await owner.end()

    with_owner(etcd, "behind", act)


def test_who_cannot_be_brought_up_to_date_says_so(
    etcd: EtcdMember, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standby_module, "PATIENCE_S", 0.05)

    async def act(owner: Owner, configuration: ClusterConfiguration) -> None:
        standby = Standby(configuration, owner.keys.shard(0), tmp_path)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(standby.run)
            await standby.following.wait()
            assert await standby.hand_over(2**40) is None  # a revision that never comes
        await owner.end()

    with_owner(etcd, "impatient", act)


def test_a_segment_that_etcd_has_damaged_is_read_once_and_keeps_the_others_from_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, restored = FakeStore(), []
    files = KeptFiles(store, MemoryFiles())
    files.fetch()
    journal = SegmentJournal(files, SEGMENT_BYTES)
    assert list(journal.recover()) == []
    for number in range(4):
        journal.put(1, bytes([number]) * SEGMENT_BYTES)
        commit(journal)
    name, *others, _ = sorted(files.names())
    file_id = store.follow().names[name]
    key = next(key for key in sorted(store.keys) if key.startswith(f"{PIECES}{file_id}/"))
    value, revision = store.keys[key]
    store.keys[key] = (value[:1_000] + bytes([value[1_000] ^ 1]) + value[1_001:], revision)
    copies = store.follow()

    def read_again(copies: KeptCopies, name: str) -> None:
        restored.append(name)
        copies.restore(name, store)

    async def main() -> None:
        configuration = ClusterConfiguration("c", (Address("127.0.0.1", 1),), "", "b", "127.0.0.1", 0, 3)
        standby = Standby(configuration, "", tmp_path)
        standby._copies = copies
        monkeypatch.setattr(standby, "_read_again", read_again)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(standby._verify)
            with trio.fail_after(60):
                while copies.next_to_verify() is not None:  # noqa: ASYNC110  # nobody tells
                    await trio.sleep(standby_module.VERIFY_PAUSE_S)
            nursery.cancel_scope.cancel()

    trio.run(main)
    assert restored == [name]
    assert copies.verified() == frozenset(others)


def test_copies_are_not_looked_through_while_another_thread_changes_them(tmp_path: Path) -> None:
    is_changing, were_looked_through = False, []

    class Copies:
        """In place of copies: a change takes a while."""

        def put(self, key: str, value: bytes) -> None:
            nonlocal is_changing
            is_changing = True
            time.sleep(0.3)
            is_changing = False

        def next_to_verify(self, since_s: float = 0.0) -> None:
            were_looked_through.append(is_changing)

        def full_segments(self) -> list[str]:
            return []

    async def main() -> None:
        configuration = ClusterConfiguration("c", (Address("127.0.0.1", 1),), "", "b", "127.0.0.1", 0, 3)
        standby = Standby(configuration, "", tmp_path)
        standby._copies = cast(KeptCopies, Copies())
        event = Event(False, KeyValue(b"f/x", bytes(standby_module.INLINE_BYTES + 1), 1, 1, 1, 0))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(standby._verify)
            for _ in range(2):
                await standby._apply([event])
                await trio.sleep(3 * standby_module.VERIFY_PAUSE_S)
            count = len(were_looked_through)
            await trio.sleep(5 * standby_module.VERIFY_PAUSE_S)
            assert len(were_looked_through) == count, "nothing has changed since"
            nursery.cancel_scope.cancel()

    # Its time passes while the other thread changes them, and however busy the machine is.
    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert were_looked_through
    assert not any(were_looked_through)
