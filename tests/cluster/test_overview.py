"""What ``cluster status`` tells of shards: who owns them, what waits in them, and who took them over last."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from typing import Any, cast

import pytest
import trio
import trio.testing

from amqp_broker.cli import cluster as commands
from amqp_broker.cli import control
from amqp_broker.cluster.configuration import ClusterConfiguration
from amqp_broker.cluster.etcd_client import EtcdClient
from amqp_broker.cluster.keys import BadKey, Keys, Node
from amqp_broker.cluster.known import BACKLOG_BYTES_OF, Known
from amqp_broker.cluster.members import Address, EtcdUnavailable
from amqp_broker.cluster.overview import ClusterOverview, member_overviews, overview
from amqp_broker.cluster.takeovers import Takeover, last_takeovers, write_down
from amqp_broker.etcd import messages
from amqp_broker.etcd.calls import OK
from amqp_broker.etcd.protobuf import data, integer
from tests.cluster.test_etcd_calls import Server
from tests.cluster.test_shard import AsyncEtcd, shard_of
from tests.support.served import on_a_jumping_clock

KEYS = Keys("orders")
NODES = {name: Node(f"id-{name}", name, "10.0.0.1", 25672, "1", 0) for name in "abc"}
TAKEOVER = Takeover("id-b", "b", "a", 1_790_000_000, 0.61)


class Etcd(AsyncEtcd):
    """Tells how it is, and is silent as often as it is told."""

    present = Address("10.0.0.1", 2379)
    silences = 0

    async def call(self, path: str, request: bytes) -> bytes:
        if self.silences:
            self.silences -= 1
            raise EtcdUnavailable("it is silent")
        if path == messages.STATUS:
            return data(2, b"3.4.23") + integer(3, 9_000_000) + integer(4, 1) + integer(9, 8_000_000)
        return await super().call(path, request)

    def add(self, *nodes: Node) -> None:
        for node in nodes:
            self.put(KEYS.node(node.node_id).encode(), node.encode())

    def own(self, shard: int, name: str) -> int:
        return self.put(KEYS.owner(shard).encode(), f"id-{name} 1".encode())


def asked(etcd: Etcd, shards: int = 1, backlogs: dict[int, int] | None = None) -> ClusterOverview:
    configuration = ClusterConfiguration("orders", (), "", "c", "127.0.0.1", 0, 3, shards=shards)

    async def ask() -> ClusterOverview:
        places = {"/": 0, "shop": 1} if shards > 1 else {}
        return await overview(cast(EtcdClient, etcd), KEYS, configuration, 100_000_000, places, backlogs or {})

    return trio.run(ask)


def shown(said: ClusterOverview, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """As an operator sees it, in 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(control, "ask", lambda *_: json.loads(json.dumps(said)))
    commands.status()
    return capsys.readouterr().out.splitlines()


def test_a_backlog_is_as_its_owner_tells_it_and_the_takeover_as_it_was_written_down(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    etcd = Etcd()
    etcd.add(NODES["a"], replace(NODES["b"], uses={f"{BACKLOG_BYTES_OF}0": 2_500_000}), NODES["c"])
    epoch = etcd.own(0, "b")
    etcd.put(KEYS.takeover(0).encode(), TAKEOVER.encode())
    said = asked(etcd)
    assert (said["owner"], said["epoch"], said["backlog_bytes"], said["shards"]) == ("b", epoch, 2_500_000, [])
    assert said["last_takeover"] == {"node": "b", "from_node": "a", "at_s": TAKEOVER.at_s, "seconds": 0.61}
    assert [(node["name"], node["is_owner"]) for node in said["nodes"]] == [("a", False), ("b", True), ("c", False)]
    lines = shown(said, monkeypatch, capsys)
    assert "backlog    2.4 MiB live, 2.5 % of etcd's quota" in lines
    assert "takeover   2026-09-21 14:13:20 UTC: b from a within 0.61 s" in lines
    assert max(map(len, lines)) <= 80


def test_what_the_asked_node_owns_itself_it_tells_as_it_is_now() -> None:
    etcd = Etcd()
    etcd.add(replace(NODES["b"], uses={f"{BACKLOG_BYTES_OF}0": 1}))
    etcd.own(0, "b")
    assert asked(etcd, backlogs={0: 7})["backlog_bytes"] == 7


def test_an_owner_of_an_earlier_release_tells_neither(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What stands there of a takeover before its own is not taken for that."""
    etcd = Etcd()
    etcd.add(NODES["c"])
    etcd.own(0, "c")
    etcd.put(KEYS.takeover(0).encode(), TAKEOVER.encode())
    said = asked(etcd)
    assert (said["owner"], said["backlog_bytes"], said["last_takeover"]) == ("c", None, None)
    lines = shown(said, monkeypatch, capsys)
    assert ("backlog    not told by the owner yet" in lines, "takeover   none is known" in lines) == (True, True)


@pytest.mark.parametrize("written", [b"", b"[]", b"\xff", b'{"node_id": "id-b", "node": "b"}'])
def test_what_is_no_takeover_is_passed_over(written: bytes) -> None:
    etcd = Etcd()
    etcd.put(KEYS.takeover(0).encode(), written)
    etcd.put(f"{KEYS.takeovers}x".encode(), TAKEOVER.encode())
    assert asked(etcd)["last_takeover"] is None
    with pytest.raises(BadKey):
        Takeover.decode(written)


def test_without_an_owner_it_is_said_who_had_it_last(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    etcd = Etcd()
    etcd.put(KEYS.takeover(0).encode(), replace(TAKEOVER, from_node="", seconds=None).encode())
    lines = shown(asked(etcd), monkeypatch, capsys)
    assert "owner      none now: nobody is served" in lines
    assert "backlog    not known while nobody owns the broker" in lines
    assert "takeover   2026-09-21 14:13:20 UTC: b" in lines


def test_shards_have_a_backlog_and_a_takeover_each(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    etcd = Etcd()
    etcd.add(NODES["a"], replace(NODES["b"], uses={f"{BACKLOG_BYTES_OF}1": 3_000}))
    etcd.own(0, "a")
    etcd.own(1, "b")
    etcd.put(KEYS.takeover(1).encode(), replace(TAKEOVER, from_node="b").encode())
    said = asked(etcd, 2)
    assert [(one["owner"], one["backlog_bytes"], one["virtual_hosts"]) for one in said["shards"]] == [
        ("a", None, ["/"]),
        ("b", 3_000, ["shop"]),
    ]
    assert said["backlog_bytes"] is None
    assert asked(etcd, 2, {0: 4_000})["backlog_bytes"] == 7_000
    lines = shown(said, monkeypatch, capsys)
    assert "b again within 0.61 s" in lines[-1]
    assert max(map(len, lines)) <= 80


@on_a_jumping_clock
async def test_each_member_of_etcd_is_asked_how_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """By its address: one is well, one has no leader, one is not there, one hangs."""

    async def connect(address: Address) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        if address.port == 3:
            raise EtcdUnavailable("connection refused")
        ours, theirs = trio.testing.memory_stream_pair()
        if address.port != 4:
            nursery.start_soon(answer, theirs, integer(4, 2 - address.port))
        return ours

    async def answer(member: trio.abc.Stream, status: bytes) -> None:
        server = Server(lambda path, body: ([status], OK, ""))
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while data := await member.receive_some():
                await member.send_all(server.answer(bytes(data)))

    monkeypatch.setattr(EtcdClient, "_open", staticmethod(connect))
    async with trio.open_nursery() as nursery:
        members = await member_overviews([Address("10.0.0.1", port) for port in (1, 2, 3, 4)])
        nursery.cancel_scope.cancel()
    assert members == [
        {"address": "10.0.0.1:1", "failure": None},
        {"address": "10.0.0.1:2", "failure": "it has no leader"},
        {"address": "10.0.0.1:3", "failure": "connection refused"},
        {"address": "10.0.0.1:4", "failure": "it does not answer within 1 s"},
    ]


def test_an_operator_sees_which_member_of_etcd_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = asked(Etcd())
    said["etcd"]["members"] = [{"address": f"10.0.0.{place}:2379", "failure": None} for place in (1, 2, 3)]
    assert "members    all 3 answer" in shown(said, monkeypatch, capsys)
    said["etcd"]["members"][1]["failure"] = "connection refused"
    lines = shown(said, monkeypatch, capsys)
    place = lines.index("members    2 of 3 answer")
    assert lines[place + 1] == "           10.0.0.2:2379: connection refused"


def test_a_status_of_an_earlier_release_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = cast(dict[str, Any], asked(Etcd()))
    del said["backlog_bytes"], said["last_takeover"], said["etcd"]["members"]
    assert "takeover   none is known" in shown(cast(ClusterOverview, said), monkeypatch, capsys)


@pytest.mark.parametrize(
    ("is_there", "owned_last", "before", "expected"),
    [
        (True, "id-a", None, "a"),
        (False, "id-a", Takeover("id-a", "a", "", 1, None), "a"),
        (False, "", Takeover("id-a", "a", "", 1, None), "a"),  # all nodes were started anew
        (False, "id-c", Takeover("id-a", "a", "", 1, None), ""),  # that was of an earlier release
        (False, "", None, ""),
    ],
)
@on_a_jumping_clock
async def test_who_takes_over_writes_down_from_whom(
    is_there: bool, owned_last: str, before: Takeover | None, expected: str
) -> None:
    etcd, known = Etcd(), Known("id-b")
    known.add_shard(0)
    if is_there:
        known.nodes["id-a"] = NODES["a"]
    if before is not None:
        etcd.put(KEYS.takeover(0).encode(), before.encode())
    shard = shard_of(etcd, known)
    assert await shard._ownership.campaign(1) is not None
    etcd.silences = 2
    await shard._write_down(owned_last, 0.5)
    takeover = (await last_takeovers(cast(EtcdClient, etcd), KEYS))[0]
    assert (takeover.node_id, takeover.from_node, takeover.seconds) == ("id-b", expected, 0.5)


def test_who_owns_it_no_more_writes_nothing_down() -> None:
    etcd = Etcd()
    etcd.own(0, "c")
    trio.run(write_down, cast(EtcdClient, etcd), KEYS, 0, TAKEOVER, "", b"id-b 1")
    assert KEYS.takeover(0).encode() not in etcd.keys


def test_nodes_that_follow_a_shard_are_not_told_of_its_takeover() -> None:
    assert not KEYS.takeover(0).startswith(KEYS.shards)
