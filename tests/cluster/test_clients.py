"""A node's clients, and who calls it: between two nodes of this process, without etcd."""

from __future__ import annotations

import logging
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import trio
import trio.testing

from amqp_broker.access.client import Peer
from amqp_broker.cluster import clients as clients_module
from amqp_broker.cluster import door
from amqp_broker.cluster.administrators import OneShard
from amqp_broker.cluster.clients import NodeClients
from amqp_broker.cluster.configuration import ClusterConfiguration
from amqp_broker.cluster.door import Caller, LedToItself, LinkUnreachable
from amqp_broker.cluster.keys import Node
from amqp_broker.cluster.known import Known
from amqp_broker.cluster.link import NO_CLIENT, NotTheOwner
from amqp_broker.cluster.members import Address
from amqp_broker.cluster.node import ClusterNode
from amqp_broker.network.listeners import HTTP, METRICS, USER_COUNTS, CannotListen
from amqp_broker.network.socket_stream import keep_alive
from amqp_broker.server.broker_server import BrokerServer
from amqp_broker.server.sharding.arrivals import Entrance
from amqp_broker.server.sharding.directory import Directory
from amqp_broker.server.sharding.sharing import Sharing
from amqp_broker.settings import Settings
from tests.support.memory_broker import MemoryBroker
from tests.support.served import QUIET

PEER = Peer.at("127.0.0.1", 1)
AMQP = "amqp"


class EchoingServer:
    """In place of a broker: sends back what comes."""

    arriving_count = 0
    broker = MemoryBroker()

    async def serve_stream(self, stream: trio.abc.Stream, peer: Peer, protocol: str, beginning: None) -> None:
        while data := await stream.receive_some(100):
            await stream.send_all(data)


async def disown(shard: int, claim: bytes) -> None:
    raise AssertionError("nobody is suspected here")


def node_of(
    node_id: str,
    is_open: Callable[[], bool] = lambda: True,
    disown: Callable[[int, bytes], Awaitable[None]] = disown,
    settings: Settings = Settings(),  # noqa: B008  # they never change
    secret: str = "secret",
) -> tuple[Known, NodeClients]:
    known = Known(node_id)
    known.add_shard(0)
    return known, NodeClients(settings, known, Caller("orders", node_id, secret), disown, lambda shard: is_open())


async def with_owner(
    is_open: Callable[[], bool],
    act: Callable[[Node], Awaitable[None]],
    called: Callable[[], None] = lambda: None,
    settings: Settings = Settings(),  # noqa: B008
) -> None:
    """Call a coroutine function with a node that owns the broker, and is told when it was called."""
    known, clients = node_of("owner", is_open, settings=settings)
    known.shards[0].server = cast(BrokerServer, EchoingServer())

    async def serve(stream: trio.SocketStream) -> None:
        called()
        await clients.serve_link(stream)

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        port = listeners[0].socket.getsockname()[1]
        await act(Node("owner", "a", "127.0.0.1", port, "1", 0))
        nursery.cancel_scope.cancel()


def test_an_owner_whose_process_is_gone_is_noticed_without_any_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients_module, "LINK_EVERY_S", 0.0)
    disowned: list[bytes] = []
    calls: list[float] = []

    async def note_disowned(shard: int, claim: bytes) -> None:
        disowned.append(claim)
        known.shards[0].claim = b""
        known.tell()

    known, clients = node_of("door", disown=note_disowned)

    async def stay_until_called(owner: Node) -> None:
        known.nodes, known.shards[0].claim = {"owner": owner}, b"owner 1"
        known.tell()
        while not calls:
            await trio.testing.wait_all_tasks_blocked(0.01)
        await trio.testing.wait_all_tasks_blocked(0.1)
        assert len(calls) == 1, "one link that stays"
        assert not disowned

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(clients.watch_owner, known.shards[0])
            await with_owner(lambda: True, stay_until_called, lambda: calls.append(trio.current_time()))
            while known.shards[0].claim:
                await known.changed.wait()
            assert disowned == [b"owner 1"]
            nursery.cancel_scope.cancel()

    trio.run(main)


@pytest.mark.parametrize("who", ["the door itself", "a client"])
def test_an_owner_that_has_never_answered_is_left_to_its_lease(who: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine between may refuse for it: the next owner would go as well, and so on."""
    monkeypatch.setattr(clients_module, "LINK_EVERY_S", 0.0)
    monkeypatch.setattr(clients_module, "PAUSE_S", 0.0)
    calls = []

    async def refuse(*arguments: object, **options: object) -> trio.abc.Stream:
        calls.append(arguments)
        if len(calls) == 5:
            scope.cancel()
        await trio.lowlevel.checkpoint()
        raise LinkUnreachable("nobody listens", is_refused=True)

    async def main() -> None:
        known, clients = node_of("door")  # whose owner must not be disowned
        known.nodes, known.shards[0].claim = {"owner": Node("owner", "a", "127.0.0.1", 1, "1", 0)}, b"owner 1"
        with scope:
            if who == "a client":
                await clients.serve(trio.testing.memory_stream_pair()[0], PEER, AMQP)
            else:
                await clients.watch_owner(known.shards[0])

    scope = trio.CancelScope()
    monkeypatch.setattr(door, "call", refuse)
    trio.run(main)
    assert len(calls) == 5


def test_a_client_is_let_go_when_another_node_owns_the_broker() -> None:
    """Its owner was paused, or cut off: a link to it never ends by itself."""

    async def act(owner: Node) -> None:
        known, clients = node_of("door")
        known.nodes, known.shards[0].claim = {"owner": owner}, b"owner 1"
        ours, theirs = trio.testing.memory_stream_pair()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(clients.serve, theirs, PEER, AMQP)
            await ours.send_all(b"hello")
            assert await ours.receive_some(5) == b"hello"
            clients.end_links_to_others(0, "owner")  # it has resumed: nothing ends
            await ours.send_all(b"again")
            assert await ours.receive_some(5) == b"again"
            clients.end_links_to_others(0, "another")
            with suppress(trio.BrokenResourceError):
                assert await ours.receive_some(5) == b""

    trio.run(with_owner, lambda: True, act)


def test_a_door_that_does_not_reach_the_owner_is_not_ready() -> None:
    async def act(owner: Node) -> None:
        known, clients = node_of("door")
        known.nodes, known.shards[0].claim = {"owner": owner}, b"owner 1"

        async def status() -> bytes:
            ours, theirs = trio.testing.memory_stream_pair()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(clients.serve, theirs, PEER, HTTP)
                await ours.send_all(b"GET /ready HTTP/1.1\r\n\r\n")
                return bytes(await ours.receive_some(100)).split()[1]

        assert await status() == b"503"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(clients.watch_owner, known.shards[0])
            while not clients._linked:
                await trio.testing.wait_all_tasks_blocked(0.001)
            assert await status() == b"200"
            nursery.cancel_scope.cancel()
        assert await status() == b"503"

    trio.run(with_owner, lambda: True, act)


@pytest.mark.parametrize(("is_owner", "said"), [(False, b"of the door"), (True, b"?")])
def test_metrics_are_of_the_node_that_is_asked(is_owner: bool, said: bytes) -> None:
    async def tell(stream: trio.abc.Stream, peer: Peer, protocol: str) -> None:
        assert protocol == METRICS
        await stream.send_all(b"of the door")

    async def main() -> None:
        known, clients = node_of("door")
        clients.tell_of_this_node(tell)
        if is_owner:
            known.shards[0].server = cast(BrokerServer, EchoingServer())
        ours, theirs = trio.testing.memory_stream_pair()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(clients.serve, theirs, PEER, METRICS)
            await ours.send_all(b"?")
            assert await ours.receive_some(100) == said
            await ours.aclose()

    trio.run(main)


def test_who_stays_for_metrics_is_told_of_the_shard_when_the_node_owns_it() -> None:
    async def act(owner: Node) -> None:
        known, _ = node_of("owner")
        shard = OneShard(known, Caller("orders", "owner", "secret"))
        known.nodes, known.shards[0].claim = {"owner": owner}, b"owner 1"
        assert (shard.numbers, shard.owned) == ([0], [])
        known.shards[0].server = cast(BrokerServer, EchoingServer())
        assert shard.owned == [0]
        stream = await shard.connect(0, PEER, METRICS)
        await stream.send_all(b"?")
        assert await stream.receive_some(1) == b"?"
        await stream.aclose()

    trio.run(with_owner, lambda: True, act)


@pytest.mark.parametrize("protocol", [NO_CLIENT, AMQP])
def test_both_ends_of_a_link_notice_that_the_other_machine_is_gone(
    protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[tuple[str, int]] = []

    def noting(end: str) -> Callable[[trio.socket.SocketType], None]:
        def note(connected: trio.socket.SocketType) -> None:
            keep_alive(connected)
            kept.append((end, connected.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)))

        return note

    monkeypatch.setattr(door, "keep_alive", noting("door"))
    monkeypatch.setattr(clients_module, "keep_alive", noting("owner"))

    async def act(owner: Node) -> None:
        stream = await door.call(Caller("orders", "other", "secret"), owner, door.NOBODY, shard=0, protocol=protocol)
        await trio.testing.wait_all_tasks_blocked()
        await stream.aclose()

    trio.run(with_owner, lambda: True, act)
    assert sorted(kept) == [("door", 1), ("owner", 1)]


def test_what_goes_wrong_in_a_link_ends_no_more_than_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(caller: Caller, stream: trio.SocketStream, is_called_rightly: object) -> None:
        raise RuntimeError("a defect")

    async def act(owner: Node) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(door, "answer", fail)
            stream = await trio.open_tcp_stream(owner.link_host, owner.link_port)
            assert await stream.receive_some(1) == b""
            await stream.aclose()
        assert await door.is_owner(Caller("orders", "other", "secret"), owner, shard=0)

    trio.run(with_owner, lambda: True, act)


def test_a_node_with_another_secret_is_said_once_at_both_ends(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each client that waits there has it try ten times a second."""
    monkeypatch.setattr(clients_module, "PAUSE_S", 0.0)
    calls: list[float] = []

    async def act(owner: Node) -> None:
        known, clients = node_of("door", secret="another")
        known.nodes, known.shards[0].claim = {"owner": owner}, b"owner 1"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(clients.serve, trio.testing.memory_stream_pair()[0], PEER, AMQP)
            while len(calls) < 5:
                await trio.testing.wait_all_tasks_blocked(0.001)
            assert known.shards[0].is_refused, "it would go on before others"
            nursery.cancel_scope.cancel()

    trio.run(with_owner, lambda: True, act, lambda: calls.append(trio.current_time()))
    reason = "it does not know the cluster's secret"
    said = [record.fields for record in caplog.records if record.getMessage() == "link failed"]  # type: ignore[attr-defined]
    assert [fields for fields in said if reason in fields["reason"]] == [
        {"peer": "127.0.0.1", "reason": f"a caller was refused: {reason}"},
        {"owner": "a", "reason": f"the owner refused the link: {reason}"},
    ]


@pytest.mark.parametrize(
    ("name", "severity", "reason"),
    [("a", logging.INFO, "it is this node before it was started again"), ("b", logging.ERROR, "set its link_host")],
)
def test_a_node_that_was_killed_and_came_back_is_not_told_that_its_address_is_wrong(
    name: str, severity: int, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The owner's key is still that of its life before, and leads to itself."""
    caplog.set_level(logging.INFO, "amqp_broker")

    async def act(owner: Node) -> None:
        known, clients = node_of("now")
        known.nodes = {"before": replace(owner, node_id="before"), "now": replace(owner, node_id="now", name=name)}
        error = LedToItself("set its link_host")
        await clients._note_failed(known.shards[0], known.nodes["before"], b"before 1", error)

    trio.run(with_owner, lambda: True, act)
    (said,) = [record for record in caplog.records if record.getMessage() == "link failed"]
    assert (said.levelno, said.fields) == (severity, {"owner": "a", "reason": reason})  # type: ignore[attr-defined]


def test_a_client_that_waited_in_vain_for_an_owner_that_is_there_is_not_said_to_have_had_none(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def act(owner: Node) -> None:
        known, clients = node_of("door", secret="another", settings=Settings(handshake_timeout_ms=100))
        known.nodes, known.shards[0].claim = {"owner": owner}, b"owner 1"
        await clients.serve(trio.testing.memory_stream_pair()[0], PEER, AMQP)

    trio.run(with_owner, lambda: True, act)
    (said,) = [record.fields for record in caplog.records if record.getMessage() == "connection failed"]  # type: ignore[attr-defined]
    assert said["reason"] == "no link to node 'a', which owns the broker: 'link failed' says why"


def test_clients_wait_for_a_node_that_is_about_to_own_the_broker_and_not_for_one_that_lets_it_go() -> None:
    caller = Caller("orders", "other", "secret")
    known, clients = node_of("owner")
    shard, failed = known.shards[0], list[Exception]()
    shard.claim = b"owner 1"

    async def call(owner: Node) -> None:
        try:
            stream = await door.call(caller, owner, PEER, shard=0, protocol=AMQP)
            await stream.aclose()
        except NotTheOwner as error:
            failed.append(error)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
            nursery.start_soon(trio.serve_listeners, clients.serve_link, listeners)
            owner = Node("owner", "a", "127.0.0.1", listeners[0].socket.getsockname()[1], "1", 0)
            async with trio.open_nursery() as calling:
                calling.start_soon(call, owner)
                await trio.testing.wait_all_tasks_blocked(0.01)
                assert len(calling.child_tasks) == 1
                shard.server = cast(BrokerServer, EchoingServer())
                known.tell()
            assert not failed
            shard.is_closing = True
            async with trio.open_nursery() as calling:
                calling.start_soon(call, owner)
                await trio.testing.wait_all_tasks_blocked(0.01)
                assert len(calling.child_tasks) == 1
                shard.claim = b""
                known.tell()
            assert len(failed) == 1
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_callers_that_have_not_proved_who_they_are_are_limited(caplog: pytest.LogCaptureFixture) -> None:
    """Which is said once, however often strangers come and go."""

    async def act(owner: Node) -> None:
        caller = Caller("orders", "other", "secret")
        for _ in range(3):
            silent = await trio.open_tcp_stream(owner.link_host, owner.link_port)
            assert not await door.is_owner(caller, owner, shard=0)
            await silent.aclose()
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert await door.is_owner(caller, owner, shard=0)

    trio.run(with_owner, lambda: True, act, lambda: None, Settings(handshakes_max=1))
    assert [record.getMessage() for record in caplog.records].count("refusing links") == 1


class AskingEntrance:
    """In place of an entrance: lets nobody in."""

    def has(self, protocol: str) -> bool:
        return True

    def agree(self, directory: Directory) -> None:
        pass

    async def receive(self, stream: trio.abc.Stream, peer: Peer, protocol: str) -> None:
        await trio.sleep_forever()


class KnownSharing:
    """In place of a directory that is followed."""

    directory = Directory(number=1)

    async def current(self) -> Directory:
        return self.directory


def test_who_has_not_logged_in_counts_where_it_is_served_or_asked_and_not_where_it_waits_for_an_owner() -> None:
    known, clients = node_of("door")
    ends = []

    async def main() -> None:
        async with trio.open_nursery() as nursery:

            async def come() -> None:
                ours, theirs = trio.testing.memory_stream_pair()
                ends.append(ours)
                nursery.start_soon(clients.serve, theirs, PEER, AMQP)
                await trio.testing.wait_all_tasks_blocked()

            await come()
            assert clients.count() == (1, 1)
            server = EchoingServer()
            known.shards[0].server = cast(BrokerServer, server)
            server.arriving_count = 1
            assert clients.count() == (1, 0)
            clients.divide(cast(Sharing, KnownSharing()), cast(Entrance, AskingEntrance()))
            await come()
            assert clients.count() == (2, 0)
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_an_owner_lets_those_of_doors_wait_while_as_many_as_may_have_not_logged_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(EchoingServer, "arriving_count", 1)
    monkeypatch.setattr(clients_module, "CALL_WAITS_S", 0.01)
    caller = Caller("orders", "other", "secret")
    opened: list[trio.abc.Stream] = []

    async def come(owner: Node) -> None:
        opened.append(await door.call(caller, owner, PEER, shard=0, protocol=AMQP))

    async def act(owner: Node) -> None:
        with pytest.raises(NotTheOwner):  # it is tried again
            await come(owner)
        opened.append(await door.call(caller, owner, PEER, shard=0, protocol=HTTP))
        monkeypatch.setattr(clients_module, "CALL_WAITS_S", 60.0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(come, owner)
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert len(opened) == 1
            monkeypatch.setattr(EchoingServer, "arriving_count", 0)
        for stream in opened:
            await stream.send_all(b"?")
            assert await stream.receive_some(1) == b"?"
            await stream.aclose()

    trio.run(with_owner, lambda: True, act, lambda: None, Settings(handshakes_max=1))


@pytest.mark.parametrize("may_speak", [True, False])
def test_a_node_that_asks_is_told_by_an_owner_that_may_speak(may_speak: bool) -> None:
    async def act(owner: Node) -> None:
        assert await door.is_owner(Caller("orders", "other", "secret"), owner, shard=0) is may_speak
        assert not await door.is_owner(Caller("orders", "other", "secret"), owner, shard=1)

    trio.run(with_owner, partial(bool, may_speak), act)


def test_an_owner_that_asks_is_told_what_users_with_limits_have() -> None:
    async def act(owner: Node) -> None:
        caller = Caller("orders", "other", "secret")
        stream = await door.call(caller, owner, door.NOBODY, shard=0, protocol=USER_COUNTS)
        assert await stream.receive_some() == b"{}\n"
        await stream.aclose()

    trio.run(with_owner, lambda: True, act, lambda: None, Settings(handshakes_max=1))


@pytest.mark.parametrize("claim", [b"", b"a 1"])
def test_a_shard_has_moved_when_an_owner_owns_it_no_more(claim: bytes) -> None:
    async def main() -> None:
        known, _ = node_of("door")
        shards = OneShard(known, Caller("orders", "door", "secret"))
        seen = []

        async def watch() -> None:
            await shards.until_moved(0)
            seen.append(known.shards[0].claim)

        known.shards[0].claim = claim
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            for now in (claim, b"a 1", b"a 1", b"", b"b 1"):
                known.shards[0].claim = now
                known.tell()
                await trio.testing.wait_all_tasks_blocked()
        assert seen == [b""]

    trio.run(main)


def test_each_shard_has_a_folder_for_its_traces(tmp_path: Path) -> None:
    async def act() -> None:
        configuration = ClusterConfiguration(
            "c", (Address("127.0.0.1", 1),), "secret", "a", "127.0.0.1", 0, 3, shards=2
        )
        node = ClusterNode(Settings(**QUIET), configuration, tmp_path)
        gate: Any = None
        servers = [node._new_server(gate, shard) for shard in (0, 1)]
        assert [server.trace_folder for server in servers] == [tmp_path / "traces", tmp_path / "shards/1/traces"]
        async with trio.open_nursery() as nursery:
            await nursery.start(servers[1].serve)
            broker = servers[1].broker
            asked = {"format": "json", "pattern": "#"}
            broker.handle(partial(broker.file_traces.add, broker.virtual_hosts["/"], "t", asked, "guest"))
            nursery.cancel_scope.cancel()

    trio.run(act)


def test_a_port_for_links_that_is_taken_is_said_so(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        configuration = ClusterConfiguration("c", (Address("127.0.0.1", 1),), "secret", "a", "127.0.0.1", port, 3)
        node = ClusterNode(Settings(port=0), configuration, tmp_path)
        with pytest.RaisesGroup(CannotListen, flatten_subgroups=True) as caught:
            trio.run(node.run)
    assert f"127.0.0.1, port {port}: " in str(caught.value.exceptions[0])
