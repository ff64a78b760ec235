"""Limits of users hold for all shards of a broker together: two brokers in memory, which tell each other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from pamqp import commands

from amqp_broker.access.client import Peer
from amqp_broker.access.passwords import SHA256
from amqp_broker.network.listeners import USER_COUNTS
from amqp_broker.server.sharding.directory import Directory, agree
from amqp_broker.server.sharding.shards import ShardUnreachable
from amqp_broker.server.sharding.sharing import Kept, Sharing
from amqp_broker.server.sharding.user_counts import AGAIN_S, SELDOM_S, follow_user_counts, tell_user_counts
from tests.support.amqp10_client import Amqp10Client
from tests.support.client import Client
from tests.support.memory_broker import MemoryBroker
from tests.support.served import on_a_jumping_clock

HOSTS = ("/", "b")  # of the root, and of the other one


class Known:
    def __init__(self) -> None:
        self.changed = trio.Event()

    def tell(self) -> None:
        self.changed.set()
        self.changed = trio.Event()


class Shelf:
    """Has the directory that a test puts there."""

    directory = Directory()

    async def follow(self, take: Callable[[bytes], None], tell: Callable[[], None]) -> None:
        raise AssertionError("nobody follows it here")

    async def read(self) -> Kept:
        await trio.lowlevel.checkpoint()
        return Kept(self.directory.encode(), self.directory.number)

    async def replace(self, value: bytes, revision: int, claim: bytes) -> int | None:
        raise AssertionError("nobody writes it here")

    async def announce(self) -> None:
        pass


class TwoBrokers:
    """The root and another one, in memory, each with a virtual host."""

    numbers: Sequence[int] = (0, 1)
    owned: Sequence[int] = ()

    def __init__(self, nursery: trio.Nursery, **settings: int) -> None:
        self._nursery = nursery
        self._shelf = Shelf()
        self.brokers = [MemoryBroker(**settings), MemoryBroker(**settings)]
        self.sharing = Sharing(self._shelf, Known(), 2)
        self.links: list[tuple[int, float, trio.CancelScope]] = []  # from whom, when
        self.is_reachable = True
        self.moved = trio.Event()
        administration = self.brokers[0].administration
        administration.change_password("guest", "guest", algorithm=SHA256)
        administration.add_virtual_host("b")
        for host in HOSTS:
            administration.set_permission("guest", host, ".*", ".*", ".*")

    async def agree(self) -> None:
        """Have all know what the root has."""
        root, other = self.brokers
        self._shelf.directory = self._shelf.directory.followed_by(root, 2)
        assert (await self.sharing.current()).is_in("b", 1)
        agree(other, self.sharing.directory, 1)
        await trio.testing.wait_all_tasks_blocked()

    async def limit(self, **limits: int | None) -> None:
        self.brokers[0].administration.set_user_limits("guest", **limits)
        await self.agree()

    def shard_of(self, virtual_host: str) -> int:
        raise AssertionError("nobody asks that here")

    async def refresh(self) -> None:
        raise AssertionError("likewise")

    async def connect(self, shard: int, peer: Peer, protocol: str) -> trio.abc.Stream:
        assert protocol == USER_COUNTS
        if not self.is_reachable:
            raise ShardUnreachable("no node owns it")
        ours, theirs = trio.testing.memory_stream_pair()
        scope = trio.CancelScope()
        self.links.append((shard, trio.current_time(), scope))
        self._nursery.start_soon(self.tell, shard, theirs, scope)
        return ours

    async def until_moved(self, shard: int) -> None:
        await self.moved.wait()

    async def tell(self, shard: int, stream: trio.abc.Stream, scope: trio.CancelScope) -> None:
        with scope:
            await tell_user_counts(self.brokers[shard], stream)
        await stream.aclose()


@asynccontextmanager
async def two_brokers(**settings: int) -> AsyncIterator[TwoBrokers]:
    async with trio.open_nursery() as nursery:
        two = TwoBrokers(nursery, **settings)
        await two.agree()
        for shard in two.numbers:
            nursery.start_soon(follow_user_counts, two.brokers[shard], shard, two.sharing, two)
        yield two
        nursery.cancel_scope.cancel()


async def opened(two: TwoBrokers, shard: int) -> Client:
    client = Client(two.brokers[shard]).open(virtual_host=HOSTS[shard])
    await trio.testing.wait_all_tasks_blocked()
    return client


def refusal(two: TwoBrokers, shard: int) -> str:
    client = Client(two.brokers[shard])
    client.start()
    client.tune_ok()
    client.send(commands.Connection.Open(HOSTS[shard]))
    return str(client.closed_with().reply_text)


async def closed(client: Client) -> None:
    client.send(commands.Connection.Close(200, "", 0, 0))
    client.one(commands.Connection.CloseOk)
    await trio.testing.wait_all_tasks_blocked()


@on_a_jumping_clock
async def test_a_users_connections_are_counted_in_the_whole_broker() -> None:
    async with two_brokers() as two:
        first = await opened(two, 1)  # before there is a limit
        assert not two.links
        assert not any(broker.open_connections.watchers for broker in two.brokers)
        await two.limit(connections_max=2)
        second = await opened(two, 0)
        words = "NOT_ALLOWED - connection refused for user 'guest': user connection limit (2) is reached"
        assert [refusal(two, shard) for shard in two.numbers] == [words, words]
        await closed(second)
        await opened(two, 1)
        assert [refusal(two, shard) for shard in two.numbers] == [words, words]
        first.connection.lost("the machine is gone")
        await trio.testing.wait_all_tasks_blocked()
        await opened(two, 0)
        await two.limit(connections_max=None)
        await opened(two, 0)
        assert not any(broker.open_connections.watchers for broker in two.brokers)


@on_a_jumping_clock
async def test_all_connections_are_counted_in_the_whole_broker() -> None:
    async with two_brokers(connections_max=2) as two:
        first, _ = [await opened(two, shard) for shard in two.numbers]
        words = "NOT_ALLOWED - connection refused: node connection limit (2) is reached"
        assert [refusal(two, shard) for shard in two.numbers] == [words, words]
        await closed(first)
        await opened(two, 1)
        assert [refusal(two, shard) for shard in two.numbers] == [words, words]


@on_a_jumping_clock
async def test_all_queues_are_counted_in_the_whole_broker() -> None:
    async with two_brokers(queues_max=2) as two:
        channels = [(await opened(two, shard)).channel() for shard in two.numbers]
        for channel in channels:
            channel.declare("q")
            await trio.testing.wait_all_tasks_blocked()
        channels[0].call(commands.Queue.Delete(queue="q"))
        await trio.testing.wait_all_tasks_blocked()
        channels[1].declare("another")
        await trio.testing.wait_all_tasks_blocked()
        channels[0].send(commands.Queue.Declare(queue="q"))
        words = "cannot declare queue 'q': queue limit in cluster (2) is reached"
        assert words in str(channels[0].closed_with().reply_text)
        two.is_reachable = False
        for _, _, scope in two.links:
            scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        channels[0].client.channel(2).declare("q")


@on_a_jumping_clock
async def test_a_users_channels_are_counted_in_the_whole_broker() -> None:
    async with two_brokers() as two:
        await two.limit(channels_max=3)
        clients = [await opened(two, shard) for shard in two.numbers]
        clients[0].channel()
        other = Amqp10Client(two.brokers[1])
        other.open("vhost:b")
        other.begin()
        clients[1].channel()
        await trio.testing.wait_all_tasks_blocked()
        clients[0].send(commands.Channel.Open(), channel=2)
        assert "maximum allowed user limit of (3)" in str(clients[0].closed_with().reply_text)
        await trio.testing.wait_all_tasks_blocked()
        another = await opened(two, 0)
        another.channel()  # in place of the one that has gone with its connection
        await trio.testing.wait_all_tasks_blocked()
        clients[1].send(commands.Channel.Open(), channel=2)
        assert "maximum allowed user limit of (3)" in str(clients[1].closed_with().reply_text)


@on_a_jumping_clock
async def test_an_owner_that_is_not_there_has_nobody_and_is_asked_again() -> None:
    async with two_brokers() as two:
        await two.limit(connections_max=1)
        await opened(two, 1)
        assert "(1) is reached" in refusal(two, 0)
        two.is_reachable = False
        for _, _, scope in two.links:
            scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        await opened(two, 0)
        two.is_reachable = True
        await trio.sleep(2 * AGAIN_S)
        assert "(1) is reached" in refusal(two, 0)
        assert "(1) is reached" in refusal(two, 1)


@on_a_jumping_clock
async def test_an_owner_that_hangs_has_nobody_as_soon_as_another_one_has_its_shard() -> None:
    async with two_brokers() as two:
        await two.limit(connections_max=1)
        await opened(two, 1)
        assert "(1) is reached" in refusal(two, 0)
        two.brokers[1] = MemoryBroker()  # of the next owner; the link to the one before stands
        two.moved.set()
        two.moved = trio.Event()
        await trio.sleep(2 * AGAIN_S)
        await opened(two, 0)
        assert len([shard for shard, _, _ in two.links if shard == 1]) == 2


@pytest.mark.parametrize(("said", "pause_s"), [(b"", SELDOM_S), (b"nonsense\n", SELDOM_S), (b"{}\n", AGAIN_S)])
@on_a_jumping_clock
async def test_an_owner_that_says_nothing_that_is_understood_is_asked_seldom(said: bytes, pause_s: float) -> None:
    async with two_brokers() as two:

        async def tell(shard: int, stream: trio.abc.Stream, scope: trio.CancelScope) -> None:
            await stream.send_all(said)
            await stream.aclose()

        two.tell = tell  # type: ignore[method-assign]
        await two.limit(connections_max=1)
        await trio.sleep(1.5 * pause_s)
        times_s = [at_s for shard, at_s, _ in two.links if shard == 0]
        assert [round(at_s - times_s[0]) for at_s in times_s] == [0, pause_s]
