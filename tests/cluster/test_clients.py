"""A node's clients, and who calls it: between two nodes of this process, without etcd."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import cast

import pytest
import trio
import trio.testing

from amqp_broker.access.client import Peer
from amqp_broker.cluster import door
from amqp_broker.cluster.clients import NodeClients
from amqp_broker.cluster.configuration import ClusterConfiguration
from amqp_broker.cluster.door import Caller
from amqp_broker.cluster.keys import Node
from amqp_broker.cluster.known import Known
from amqp_broker.cluster.members import Address
from amqp_broker.cluster.node import ClusterNode
from amqp_broker.network.listeners import CannotListen
from amqp_broker.server.broker_server import BrokerServer
from amqp_broker.settings import Settings

PEER = Peer.at("127.0.0.1", 1)
AMQP = "amqp"


class EchoingServer:
    """In place of a broker: sends back what comes."""

    async def serve_stream(self, stream: trio.abc.Stream, peer: Peer, protocol: str, beginning: None) -> None:
        while data := await stream.receive_some(100):
            await stream.send_all(data)


async def disown(shard: int, claim: bytes) -> None:
    raise AssertionError("nobody is suspected here")


def node_of(node_id: str, is_open: Callable[[], bool] = lambda: True) -> tuple[Known, NodeClients]:
    known = Known(node_id)
    known.add_shard(0)
    return known, NodeClients(Settings(), known, Caller("orders", node_id, "secret"), disown, lambda shard: is_open())


async def with_owner(is_open: Callable[[], bool], act: Callable[[Node], Awaitable[None]]) -> None:
    """Call a coroutine function with a node that owns the broker."""
    known, clients = node_of("owner", is_open)
    known.shards[0].server = cast(BrokerServer, EchoingServer())
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, clients.serve_link, listeners)
        port = listeners[0].socket.getsockname()[1]
        await act(Node("owner", "a", "127.0.0.1", port, "1", 0))
        nursery.cancel_scope.cancel()


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


@pytest.mark.parametrize("may_speak", [True, False])
def test_a_node_that_asks_is_told_by_an_owner_that_may_speak(may_speak: bool) -> None:
    async def act(owner: Node) -> None:
        assert await door.is_owner(Caller("orders", "other", "secret"), owner, shard=0) is may_speak
        assert not await door.is_owner(Caller("orders", "other", "secret"), owner, shard=1)

    trio.run(with_owner, partial(bool, may_speak), act)


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
