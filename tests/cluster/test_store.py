"""The store over etcd: each transaction once, whatever the network does, and none by whoever owns no longer."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amqp_broker.cluster import store as store_module
from amqp_broker.cluster.members import EtcdRefused, EtcdUnavailable, Member, Members
from amqp_broker.cluster.store import EtcdStore, OwnershipLost
from amqp_broker.etcd import messages, protobuf
from amqp_broker.journal.failures import JournalFailed
from amqp_broker.journal.files import FileSystem
from amqp_broker.journal.journal import SegmentJournal
from amqp_broker.journal.kept_files import Delete, KeptFiles, Put, Transaction
from amqp_broker.journal.memory_files import MemoryFiles
from tests.support.etcd_process import ETCD, EtcdMember, free_ports, one_member
from tests.support.examples import examples
from tests.support.fake_etcd import FakeEtcd, UnreliableMember

OWNER = "c/shard/0/owner"


@pytest.fixture(autouse=True)
def without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "RETRY_S", 0.0)
    monkeypatch.setattr(store_module, "OUT_OF_SPACE_RETRY_S", 0.0)


def owned(etcd: FakeEtcd, members: list[Member], node: bytes = b"a", node_id: str = "") -> EtcdStore:
    epoch = etcd.put(OWNER.encode(), node)
    return EtcdStore(Members(members), "c/shard/0/", OWNER, epoch, node_id=node_id)


def values(etcd: FakeEtcd) -> dict[str, bytes]:
    prefix = "c/shard/0/"
    found = {key.decode().removeprefix(prefix): value for key, (value, _, _) in etcd.keys.items()}
    return {key: value for key, value in found.items() if key[:2] in ("f/", "d/")}


@given(st.integers(0, 2**32), st.sampled_from([0.3, 0.6, 0.9]))
@settings(max_examples=examples(200), deadline=None)
def test_each_transaction_is_applied_once_and_in_turn(seed: int, reliability: float) -> None:
    """Commits follow each other; copies of earlier ones that come late change nothing."""
    random, etcd = Random(seed), FakeEtcd()
    members = [UnreliableMember(etcd, random, reliability) for _ in range(3)]
    store = owned(etcd, list(members))
    store.open()
    expected: dict[str, bytes] = {}
    for number in range(12):
        transactions: list[Transaction] = []
        for part in range(random.randint(1, 7)):
            key = f"d/{random.randrange(3)}/{part}"  # the same keys again and again
            if random.random() < 0.2:
                transactions.append([Delete(key)])
                expected.pop(key, None)
            else:
                value = f"{number}.{part}".encode()
                transactions.append([Put(key, value)])
                expected[key] = value
        distinct = {transaction[0].key for transaction in transactions}
        if len(distinct) == len(transactions):
            store.commit(transactions)
        else:
            for transaction in transactions:
                store.commit([transaction])
        for member in members:
            member.deliver_late()
        assert values(etcd) == expected
    members[0].reliability = 0.7
    assert {entry.key: entry.value for entry in store.entries("d/")} == expected


@given(st.integers(0, 2**32))
@settings(max_examples=examples(100), deadline=None)
def test_nothing_of_an_epoch_is_written_after_the_next_one(seed: int) -> None:
    random, etcd = Random(seed), FakeEtcd()
    members = [UnreliableMember(etcd, random, 0.5) for _ in range(3)]
    old = owned(etcd, list(members))
    old.open()
    old.commit([[Put("d/x/1", b"old")]])
    new = owned(etcd, [UnreliableMember(etcd, random)], b"b")
    since = etcd.revision
    new.open()
    new.commit([[Put("d/x/1", b"new")]])
    with pytest.raises(OwnershipLost, match="another node"):
        old.commit([[Put("d/x/1", b"old again")], [Put("d/x/2", b"old again")]])
    while any(member.late for member in members):
        for member in members:
            member.deliver_late()
    assert values(etcd) == {"d/x/1": b"new"}
    lanes_of_new = f"/{since:016x}/".encode()
    written = [key for revision, key in etcd.log if revision > since]
    assert all(b"d/x/1" in key or lanes_of_new in key for key in written)


def test_who_never_was_the_owner_writes_nothing() -> None:
    etcd = FakeEtcd()
    store = EtcdStore(Members([UnreliableMember(etcd, Random(1))]), "c/shard/0/", OWNER, 7)
    with pytest.raises(OwnershipLost):
        store.open()
    assert etcd.keys == {}


def test_who_gives_up_waits_no_longer() -> None:
    etcd = FakeEtcd()
    member = UnreliableMember(etcd, Random(1))
    store = owned(etcd, [member])
    store.open()
    member.reliability = -1.0
    store.give_up()
    with pytest.raises(OwnershipLost, match="gave its ownership up"):
        store.commit([[Put("d/x/1", b"1")]] * 100)  # one of them has no answer at first


@given(st.integers(0, 2**32))
@settings(max_examples=examples(50), deadline=None)
def test_who_takes_the_shard_back_writes_what_was_under_way(seed: int) -> None:
    random, etcd = Random(seed), FakeEtcd()
    members = [UnreliableMember(etcd, random, 0.7) for _ in range(2)]
    store = owned(etcd, list(members), node_id="a")
    store.open()
    store.commit([[Put("d/x/1", b"1")]])
    etcd.delete(OWNER.encode())  # the lease has ended
    waiting = threading.Thread(target=lambda: store.commit([[Put("d/x/1", b"2")], [Put("d/x/2", b"2")]]))
    waiting.start()
    store.resume(etcd.put(OWNER.encode(), b"a"))
    waiting.join(60)
    assert not waiting.is_alive()
    for member in members:
        member.deliver_late()
    assert values(etcd) == {"d/x/1": b"2", "d/x/2": b"2"}
    store.commit([[Put("d/x/1", b"3")]])
    assert values(etcd) == {"d/x/1": b"3", "d/x/2": b"2"}


@pytest.mark.parametrize("claim", [b"me 2", b"other 1"])
def test_a_claim_of_the_node_itself_is_waited_for_until_its_epoch_is_told(claim: bytes) -> None:
    etcd = FakeEtcd()
    store = owned(etcd, [UnreliableMember(etcd, Random(1))], b"me 1", node_id="me")
    store.open()
    timer = threading.Timer(0.02, store.resume, [etcd.put(OWNER.encode(), claim)])
    timer.start()
    with pytest.raises(OwnershipLost) if claim == b"other 1" else nullcontext():
        store.commit([[Put("d/x/1", b"1")]])
    timer.join()
    assert values(etcd) == ({} if claim == b"other 1" else {"d/x/1": b"1"})


def test_who_waits_to_take_it_back_is_told_that_it_will_not() -> None:
    etcd = FakeEtcd()
    store = owned(etcd, [UnreliableMember(etcd, Random(1))])
    store.open()
    etcd.delete(OWNER.encode())
    timer = threading.Timer(0.05, store.give_up)
    timer.start()
    with pytest.raises(OwnershipLost, match="gave its ownership up"):
        store.commit([[Put("d/x/1", b"1")]])
    timer.join()


class FullMember(UnreliableMember):
    """Refuses so many transactions."""

    refusals = 3
    refusal = EtcdRefused(8, "etcdserver: mvcc: database space exceeded")

    def call_all(self, path: str, requests: object) -> list[bytes | EtcdRefused | None]:
        if self.refusals:
            self.refusals -= 1
            return [self.refusal]
        return super().call_all(path, requests)  # type: ignore[arg-type]


def test_a_full_etcd_is_asked_until_it_has_space() -> None:
    etcd = FakeEtcd()
    member = FullMember(etcd, Random(1))
    member.refusals = 0
    store = owned(etcd, [member])
    store.open()
    member.refusals = 3
    store.commit([[Put("d/x/1", b"1")]])
    assert values(etcd) == {"d/x/1": b"1"}
    store.free_bytes = 13
    store.commit([[Put("d/x/2", b"two"), Delete("d/x/1")]])
    store.check_space(10)
    with pytest.raises(OSError, match="No space") as caught:
        store.check_space(11)
    assert caught.value.errno == errno.ENOSPC


def test_what_etcd_refuses_to_write_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    etcd = FakeEtcd()
    member = FullMember(etcd, Random(1))
    member.refusals = 0
    store = owned(etcd, [member])
    store.open()
    for text in ("etcdserver: permission denied", "etcdserver: corrupt cluster"):
        member.refusals, member.refusal = 3, EtcdRefused(7, text)
        store.commit([[Put("d/x/1", b"1")]])
    assert [record.getMessage() for record in caplog.records] == ["etcd refuses to write"] * 2


class CompactedMember(UnreliableMember):
    """Has forgotten all but what is there now."""

    def call(self, path: str, request: bytes) -> bytes:
        if protobuf.integer_of(protobuf.decode(request), 4):
            raise EtcdRefused(11, "etcdserver: mvcc: required revision has been compacted")
        return super().call(path, request)


def test_who_owns_a_shard_reads_it_although_the_owner_of_another_one_compacts_etcd() -> None:
    etcd = FakeEtcd()
    store = owned(etcd, [CompactedMember(etcd, Random(1))])
    keys = [f"d/x/{number:03}" for number in range(2 * store_module.PAGE_KEYS)]
    for key in keys:
        etcd.put(f"c/shard/0/{key}".encode(), b"1")
    assert [entry.key for entry in store.entries("d/")] == keys


# --- a real etcd


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdMember]:
    if ETCD is None:
        pytest.skip("etcd is not installed (Debian: etcd-server)")
    member = one_member(tmp_path_factory.mktemp("etcd"))
    yield member
    member.kill()


def take(members: Members, owner: str) -> int:
    request = messages.transaction_request([], [messages.put(owner.encode(), b"node")])
    return messages.TransactionAnswer.read(members.call(messages.TRANSACTION, request)).revision


def journal_on(members: Members, prefix: str) -> tuple[EtcdStore, SegmentJournal]:
    owner = f"{prefix}owner"
    store = EtcdStore(members, prefix, owner, take(members, owner))
    store.open()
    files = KeptFiles(store, MemoryFiles())
    files.fetch()
    files.remove_nameless()
    kept: FileSystem = files
    return store, SegmentJournal(kept, 1_000_000)


def records(journal: SegmentJournal) -> list[bytes]:
    return [payload for portion in journal.recover() for _, _, payload, _ in portion]


def commit(journal: SegmentJournal) -> None:
    batch = journal.take_batch()
    assert batch is not None
    journal.write(batch)
    journal.committed(batch)


def test_a_journal_in_a_real_etcd_is_taken_over(etcd: EtcdMember) -> None:
    refusing, port = free_ports(1)[0], etcd.client_port
    members = Members([Member("127.0.0.1", refusing), Member("127.0.0.1", port, timeout_s=20)])
    others = Members([Member("127.0.0.1", port, timeout_s=20)])
    _, journal = journal_on(members, "t/1/")
    assert records(journal) == []
    expected = [bytes([number]) * size for number, size in enumerate((10, 5_000, 400_000, 2_000_000, 30))]
    for payload in expected:
        journal.put(1, payload)
        commit(journal)
    _, second = journal_on(others, "t/1/")
    assert records(second) == expected
    journal.put(1, b"too late")
    with pytest.raises(JournalFailed, match="another node"):
        commit(journal)
    second.put(1, b"in time")
    commit(second)
    _, third = journal_on(others, "t/1/")
    assert records(third) == [*expected, b"in time"]
    members.close()
    others.close()


def test_what_is_written_goes_by_way_of_the_member_that_leads_while_it_answers(etcd: EtcdMember) -> None:
    members = Members([Member("127.0.0.1", free_ports(1)[0]), Member("127.0.0.1", etcd.client_port, timeout_s=20)])
    assert members.find_leader() == 1
    fake = FakeEtcd()
    first, second = UnreliableMember(fake, Random(1)), UnreliableMember(fake, Random(1))
    store = owned(fake, [first, second])
    store.open()
    store.prefer(1)
    store.commit([[Put("d/x/1", b"1")]])
    assert store._members.present is second
    second.reliability = -1.0
    store.commit([[Put("d/x/2", b"2")]])
    assert store._members.present is first
    assert values(fake) == {"d/x/1": b"1", "d/x/2": b"2"}
    members.close()


def test_etcd_that_is_not_there(etcd: EtcdMember) -> None:
    members = Members([Member("127.0.0.1", port, timeout_s=0.2) for port in free_ports(2)])
    with pytest.raises(EtcdUnavailable, match="no member of etcd answers"):
        members.call(messages.RANGE, messages.range_request(b"x"))
    assert members.find_leader() is None
