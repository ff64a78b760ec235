"""The control socket of a node that loses what it owns while a command waits; without etcd."""

from __future__ import annotations

import json
import re
import socket
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import trio
import trio.testing

from amqp_broker.broker.problems import AdministrationError
from amqp_broker.cluster.configuration import ClusterConfiguration
from amqp_broker.cluster.etcd_checks import CannotJoin
from amqp_broker.cluster.etcd_client import EtcdClient
from amqp_broker.cluster.etcd_directory import EtcdDirectory
from amqp_broker.cluster.keys import Keys, Node
from amqp_broker.cluster.members import Address, EtcdUnavailable
from amqp_broker.cluster.node import ClusterNode
from amqp_broker.cluster.shard import Shard
from amqp_broker.journal.journal import SegmentJournal
from amqp_broker.journal.memory_files import MemoryFiles
from amqp_broker.journal.port import Journal
from amqp_broker.network.pump import OutputGate
from amqp_broker.server.control import serve_control
from amqp_broker.server.control_address import SOCKET_NAME
from amqp_broker.server.sharding.sharing import Sharing
from amqp_broker.server.status import server_status
from amqp_broker.settings import Settings
from tests.support.served import on_a_jumping_clock

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="this system has no Unix sockets for Python")
TIMEOUT_S = 60.0


def node_in(folder: Path, shards: int = 1) -> ClusterNode:
    configuration = ClusterConfiguration(
        "c", (Address("127.0.0.1", 1),), "secret", "a", "127.0.0.1", 0, 3, shards=shards
    )
    return ClusterNode(Settings(port=0), configuration, folder)


def test_a_command_that_waits_is_answered_when_the_node_owns_the_broker_no_more(tmp_path: Path) -> None:
    node = node_in(tmp_path)
    server = node._new_server(cast(OutputGate, None), 0)
    assert server.settings.journal_unawaited_bytes_max == 0  # it is written by the loop that renews the lease
    server.open(cast(Journal, SegmentJournal(MemoryFiles())))  # nobody writes what it is given
    root = node._known.shards[0]

    async def ask(command: str, **arguments: Any) -> Any:
        root.server = server
        async with await trio.open_unix_socket(str(tmp_path / SOCKET_NAME)) as stream:
            await stream.send_all(json.dumps({"command": command, "arguments": arguments}).encode() + b"\n")
            await trio.testing.wait_all_tasks_blocked(0.05)
            root.server = None
            node._clients.end_conversations(0)
            with trio.fail_after(TIMEOUT_S):
                received = b""
                while not received.endswith(b"\n") or b"items" in received.splitlines()[-1]:
                    received += await stream.receive_some()
        return json.loads(received.splitlines()[-1])

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve_control, node._control(), tmp_path)
            await trio.testing.wait_all_tasks_blocked(0.05)
            for command, arguments in (("vhosts.add", {"name": "x"}), ("vhosts.list", {})):
                assert "owns the broker no more" in (await ask(command, **arguments))["error"]
            nursery.cancel_scope.cancel()

    trio.run(main)
    assert not server.broker.awaiting_commit


def test_the_log_that_administrators_see_is_the_nodes_from_its_start_on(tmp_path: Path) -> None:
    node = node_in(tmp_path)
    for server in (node._new_server(cast(OutputGate, None), 0), node._new_empty_server(Settings(port=0))):
        assert server.log_lines is node._log_lines


@pytest.mark.parametrize("shard", [0, 1])
def test_the_disk_of_the_nodes_folder_is_told_of(shard: int, tmp_path: Path) -> None:
    node = node_in(tmp_path, shards=2)
    node._sharing = Sharing(EtcdDirectory(cast(EtcdClient, None), Keys("c")), node._known, 2)
    for server in (node._new_server(cast(OutputGate, None), shard), node._new_empty_server(Settings(port=0))):
        disk = server_status(server)["disk"]
        assert disk is not None
        assert disk["free_bytes"] > 0
        assert disk["limit_bytes"] == node._limits.disk_free_limit_bytes


@pytest.mark.parametrize(
    ("owner_id", "said"),
    [
        ("", "node 'a' does not own the broker, and no node does now"),
        ("id-b", "node 'a' does not own the broker: ask node 'b'"),
        ("this", "node 'a' does not own the broker yet: it is taking over, try again in some seconds"),
        ("before", "does not own the broker yet, but did before it was started again: its lease has to end first"),
    ],
)
@pytest.mark.parametrize("command", ["_broker", "_status", "step_down"])
def test_a_node_that_does_not_own_the_broker_says_who_does(
    command: str, owner_id: str, said: str, tmp_path: Path
) -> None:
    node = node_in(tmp_path)
    known = node._known
    this = Node(known.node_id, "a", "10.0.0.1", 25672, "1", 0)
    known.nodes = {
        one.node_id: one for one in (this, replace(this, node_id="before"), Node("id-b", "b", "", 1, "1", 0))
    }
    owner_id = known.node_id if owner_id == "this" else owner_id
    known.shards[0].claim = f"{owner_id} 1".encode() if owner_id else b""
    ask = partial(trio.run, node.step_down) if command == "step_down" else getattr(node, command)
    with pytest.raises(AdministrationError, match=re.escape(said)):
        ask()


def test_who_serves_another_shard_does_not_wait_for_a_root_that_was_lost(tmp_path: Path) -> None:
    node = node_in(tmp_path, shards=2)
    sharing = node._sharing = Sharing(EtcdDirectory(cast(EtcdClient, None), Keys("c")), node._known, 2)
    sharing._changes.count = 1  # it was lost before etcd had this
    root, other = (node._new_server(cast(OutputGate, None), shard) for shard in (0, 1))

    async def main() -> None:
        with trio.move_on_after(TIMEOUT_S) as patience:
            await other.until_shared()
            await node._control().until_shared(other.broker)
        assert not patience.cancelled_caught
        with trio.move_on_after(0.05) as patience:
            await root.until_shared()
        assert patience.cancelled_caught

    trio.run(main)


class GoneEtcd:
    """In place of etcd's members: none answers."""

    async def call(self, path: str, request: bytes) -> bytes:
        await trio.lowlevel.checkpoint()
        raise EtcdUnavailable("no member of etcd answers: 127.0.0.1:1: Connection refused")


def test_without_etcd_nothing_is_handed_over_and_a_status_says_who_owned_the_broker(tmp_path: Path) -> None:
    node = node_in(tmp_path)
    node._etcd = cast(EtcdClient, GoneEtcd())
    root, node._shards[0] = node._known.shards[0], cast(Shard, None)  # it is not asked to step down
    for node_id in (node._node_id, "other"):
        node._known.nodes[node_id] = Node(node_id, f"node-{node_id}", "127.0.0.1", 1, "1", 0)
    root.server = node._new_server(cast(OutputGate, None), 0)
    root.claim = f"{node._node_id} 1".encode()
    with pytest.raises(AdministrationError, match="no other node could take over now: no member of etcd answers"):
        trio.run(node.step_down)
    with pytest.raises(AdministrationError, match=f"refused: until a majority.*node 'node-{node._node_id}' owned"):
        trio.run(node.overview)


@on_a_jumping_clock
async def test_a_node_that_waits_for_etcd_does_not_say_so_every_second(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    node = node_in(tmp_path)
    node._etcd = cast(EtcdClient, GoneEtcd())
    with pytest.raises(CannotJoin, match="is etcd running"):
        await node._join(1)
    said = [record.getMessage() for record in caplog.records]
    assert said == ["waiting for etcd", "waiting for etcd"]
