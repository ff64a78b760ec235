"""Leases, ownership and the directory, on a real etcd."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator

import pytest
import trio

from amqp_broker.cluster.etcd_checks import CannotJoin, check_etcd
from amqp_broker.cluster.etcd_client import EtcdClient
from amqp_broker.cluster.etcd_directory import EtcdDirectory
from amqp_broker.cluster.keys import Keys
from amqp_broker.cluster.known import Known
from amqp_broker.cluster.lease import Lease
from amqp_broker.cluster.members import Address, EtcdUnavailable
from amqp_broker.cluster.ownership import Ownership, owner_in
from amqp_broker.etcd import messages
from amqp_broker.etcd.calls import Answer
from amqp_broker.server.broker_server import BrokerServer
from amqp_broker.server.sharding.sharing import Sharing
from amqp_broker.settings import Settings
from tests.support.etcd_process import ETCD, EtcdMember, free_ports, one_member


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdMember]:
    if ETCD is None:
        pytest.skip("etcd is not installed (Debian: etcd-server)")
    member = one_member(tmp_path_factory.mktemp("etcd"))
    yield member
    member.kill()


def with_client(ports: list[int], act: Callable[[EtcdClient], Awaitable[None]]) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            client = EtcdClient([Address("127.0.0.1", port) for port in ports], 20.0, nursery)
            await act(client)
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_one_of_two_owns_it_and_the_other_is_told(etcd: EtcdMember) -> None:
    keys = Keys("one-of-two")

    async def act(client: EtcdClient) -> None:
        first, second = Lease(client, 60), Lease(client, 60)
        await first.grant()
        await second.grant()
        mine, others = Ownership(client, keys, 0, "a"), Ownership(client, keys, 0, "b")
        assert await mine.campaign(0) is None  # without a lease it would be nobody's to end
        epoch = await mine.campaign(first.number)
        assert epoch is not None
        assert await others.campaign(second.number) is None
        owner = keys.owner(0).encode()
        async with client.stream(messages.WATCH, messages.watch_request(owner, start_revision=epoch)) as answers:
            await mine.disown(mine.claim)
            seen: list[tuple[bool, str]] = []
            while len(seen) < 2:
                event = await answers.receive()
                assert isinstance(event, Answer)
                found = messages.WatchAnswer.read(event.message).events
                seen += [(one.is_delete, owner_in(one.entry.value)) for one in found]
            assert seen == [(False, "a"), (True, "")]
        later = await others.campaign(second.number)
        assert later is not None
        assert later > epoch
        await mine.disown(mine.claim)  # too late: it is not its own any more
        assert await mine.campaign(first.number) is None
        assert await mine.resume(first.number) is None

    with_client([etcd.client_port], act)


def test_who_lost_the_lease_takes_it_back_unless_somebody_else_was_there(etcd: EtcdMember) -> None:
    keys = Keys("resume")

    async def act(client: EtcdClient) -> None:
        lease = Lease(client, 60)
        await lease.grant()
        mine = Ownership(client, keys, 0, "a")
        epoch = await mine.campaign(lease.number)
        assert lease.may_speak
        await lease.revoke()
        assert not lease.may_speak
        await lease.grant()
        resumed = await mine.resume(lease.number)
        assert epoch is not None
        assert resumed is not None
        assert resumed > epoch
        await lease.grant()  # the one before goes on, as where etcd has elected a leader
        again = await mine.resume(lease.number)
        assert again is not None
        assert again > resumed
        assert await mine.resume(lease.number) == again
        await lease.revoke()
        await lease.grant()
        other = Ownership(client, keys, 0, "b")
        taken = await other.campaign(lease.number)
        assert taken is not None
        await other.disown(other.claim)
        assert await mine.resume(lease.number) is None

    with_client([etcd.client_port], act)


def test_a_lease_that_is_gone_is_noticed(etcd: EtcdMember) -> None:
    async def act(client: EtcdClient) -> None:
        lease = Lease(client, 2)
        await lease.grant()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lease.keep_alive)
            await client.call(messages.LEASE_REVOKE, messages.lease_revoke_request(lease.number))
            with trio.fail_after(60):
                await lease.is_lost.wait()
        assert lease.number == 0

    with_client([etcd.client_port], act)


def test_the_next_member_is_asked_when_one_is_not_there(etcd: EtcdMember) -> None:
    async def act(client: EtcdClient) -> None:
        answer = messages.RangeAnswer.read(await client.call(messages.RANGE, messages.range_request(b"nothing")))
        assert answer.count == 0
        assert client.present.port == etcd.client_port

    with_client([*free_ports(2), etcd.client_port], act)


def test_etcd_that_is_not_there() -> None:
    async def act(client: EtcdClient) -> None:
        with pytest.raises(EtcdUnavailable, match="no member of etcd answers"):
            await client.call(messages.RANGE, messages.range_request(b"x"))

    with_client(free_ports(2), act)


def test_how_many_shards_there_are_is_said_once_and_for_all(etcd: EtcdMember) -> None:
    async def act(client: EtcdClient) -> None:
        one, several = Keys("of-one-shard"), Keys("of-three-shards")
        await check_etcd(client, one, 1)
        await check_etcd(client, several, 3)
        await check_etcd(client, several, 3)
        format_of_several = await client.call(messages.RANGE, messages.range_request(several.format.encode()))
        assert messages.RangeAnswer.read(format_of_several).entries[0].value == b"2", "what earlier releases refuse"
        with pytest.raises(CannotJoin, match="has 1 shard for good, cluster_shards says 3: set it to 1"):
            await check_etcd(client, one, 3)
        with pytest.raises(CannotJoin, match="has 3 shards for good, cluster_shards says 1: set it to 3"):
            await check_etcd(client, several, 1)

    with_client([etcd.client_port], act)


def test_what_the_root_has_changed_is_in_force_elsewhere_when_somebody_asks(etcd: EtcdMember) -> None:
    keys = Keys("shared")

    async def act(client: EtcdClient) -> None:
        lease, root, other = Lease(client, 60), BrokerServer(Settings()), BrokerServer(Settings())
        await lease.grant()
        mine = Ownership(client, keys, 0, "a")
        assert await mine.campaign(lease.number) is not None
        here, there = (Sharing(EtcdDirectory(client, keys), Known(name), 2) for name in "ab")
        async with trio.open_nursery() as nursery:
            await nursery.start(here.keep, 0, root, lambda: mine.claim)
            await nursery.start(there.keep, 1, other, lambda: b"")
            root.broker.administration.add_virtual_host("x")
            await here.until_shared()
            await there.until_in_force(1)
            assert list(other.broker.virtual_hosts) == ["x"]
            assert there.directory.shard_of("x") == 1
            await mine.disown(mine.claim)
            root.broker.administration.add_virtual_host("y")
            later = here.directory.followed_by(root.broker, 2)
            assert not await here._put(later, here._read_revision, mine.claim), "it is not the owner"
            assert (await there.current()).shard_of("y") == 0
            assert "y" not in there.directory.places
            nursery.cancel_scope.cancel()

    with_client([etcd.client_port], act)
