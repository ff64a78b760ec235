"""Doors and owners: who is let in, and that a client's bytes arrive as they were sent."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict, replace

import pytest
import trio
import trio.testing

from amqp_broker.access.client import Peer, Tls
from amqp_broker.cluster import door, link
from amqp_broker.cluster.door import Caller, LinkUnreachable
from amqp_broker.cluster.keys import BadKey, Node, namesake
from amqp_broker.cluster.link import FrameReader, Hello, LinkError, NotTheOwner
from tests.support.etcd_process import free_ports

PEER = Peer("192.0.2.7", 1234, False, "ada", "192.0.2.1", 5671, Tls("TLSv1.3", "AES"))
OWNER = Caller("orders", "owner", "secret")
DOOR = Caller("orders", "door", "secret")


async def linked(
    owner: Caller,
    caller: Caller,
    is_owner: bool,
    client: Callable[[trio.abc.Stream], Awaitable[None]],
) -> tuple[list[Hello], bytes]:
    """One link between two nodes of this process; what the owner has heard, and what its client sent."""
    heard: list[Hello] = []
    received = bytearray()
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    node = Node("owner", "a", "127.0.0.1", listeners[0].socket.getsockname()[1], "1", 0)

    async def is_called_rightly(hello: Hello) -> bool:
        await trio.lowlevel.checkpoint()
        return is_owner

    async def serve(stream: trio.SocketStream) -> None:
        try:
            inner, hello = await door.answer(owner, stream, is_called_rightly)
        except LinkError:
            await stream.aclose()
            return
        heard.append(hello)
        await inner.send_all(b"welcome")
        while data := await inner.receive_some(65_536):
            received.extend(data)
        await inner.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        try:
            stream = await door.call(caller, node, PEER, shard=0, protocol="amqp")
            await client(stream)
            await stream.aclose()
        finally:
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    return heard, bytes(received)


async def say(stream: trio.abc.Stream) -> None:
    assert await stream.receive_some(100) == b"welcome"
    await stream.send_all(b"AMQP" * 100_000)
    assert isinstance(stream, trio.abc.HalfCloseableStream)
    await stream.send_eof()
    assert await stream.receive_some(100) == b""


def test_a_client_comes_through_with_its_address() -> None:
    heard, received = trio.run(linked, OWNER, DOOR, True, say)
    assert received == b"AMQP" * 100_000
    assert len(heard) == 1
    assert heard[0].peer == PEER


@pytest.mark.parametrize(
    ("owner", "error", "text"),
    [
        (replace(OWNER, secret="other"), LinkError, "does not know the cluster's secret"),
        (replace(OWNER, cluster="payments"), LinkError, "it is of the cluster 'orders', this one is 'payments'"),
    ],
)
def test_strangers_are_refused(owner: Caller, error: type[Exception], text: str) -> None:
    with pytest.raises(BaseExceptionGroup) as caught:
        trio.run(linked, owner, DOOR, True, say)
    assert caught.group_contains(error, match=text)


def test_who_does_not_own_it_says_so() -> None:
    with pytest.raises(BaseExceptionGroup) as caught:
        trio.run(linked, OWNER, DOOR, False, say)
    assert caught.group_contains(NotTheOwner)


def test_a_node_that_is_led_to_itself_is_told_what_is_wrong() -> None:
    with pytest.raises(BaseExceptionGroup) as caught:
        trio.run(linked, DOOR, DOOR, False, say)
    assert caught.group_contains(LinkError, match="lead to this node itself: set its link_host")
    assert not caught.group_contains(NotTheOwner)


def test_nobody_listens_there() -> None:
    node = Node("owner", "a", "127.0.0.1", free_ports(1)[0], "1", 0)

    async def call() -> None:
        await door.call(DOOR, node, PEER, shard=0, protocol="amqp")

    with pytest.raises(LinkUnreachable) as caught:
        trio.run(call)
    assert caught.value.is_refused


HELLO = Hello("orders", "door", "00", 0, "amqp", Peer.at("127.0.0.1", 1))


def test_frames_are_read_however_they_are_cut() -> None:
    stream = link.encode_hello(HELLO) + link.encode("proof", proof="x") + b"AMQP"
    reader = FrameReader()
    frames = []
    for place in range(len(stream)):
        reader.add(stream[place : place + 1])
        if place < len(stream) - 4:
            while (frame := reader.next()) is not None:
                frames.append(frame)
    assert link.read_hello(frames[0]) == HELLO
    assert frames[1:] == [{"kind": "proof", "proof": "x"}]
    assert reader.rest() == b"AMQP"


@pytest.mark.parametrize(
    "data",
    [
        b"AMQP\0\0\x09\x01",
        b"\0\0\0\2[]",
        b"\0\0\0\2{}",
        b"\0\0\0\1{",
        b"GET / HTTP/1.1\r\n",
        b"\0\0\xff\xff" + b"[" * 65_535,
    ],
)
def test_what_is_no_frame_is_refused(data: bytes) -> None:
    reader = FrameReader()
    reader.add(data)
    with pytest.raises(LinkError, match="no frame"):
        reader.next()


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "proof"},
        {"version": 2},
        {"version": [2]},
        {"shard": "0"},
        {"cluster": None},
        {"peer": None},
        {"peer": {}},
        {"peer": {**asdict(HELLO.peer), "port": "x"}},
    ],
)
def test_a_hello_that_cannot_be_read_is_refused(change: dict[str, object]) -> None:
    reader = FrameReader()
    reader.add(link.encode_hello(HELLO))
    frame = reader.next()
    assert frame is not None
    with pytest.raises(LinkError):
        link.read_hello({**frame, **change})


def test_both_proofs_depend_on_all_that_was_said() -> None:
    said, of_another = link.said_in(HELLO), link.said_in(replace(HELLO, peer=PEER))
    proof = link.door_proof("secret", said, "n")
    assert link.is_same(proof, proof)
    others = [
        link.door_proof("secret", said, "m"),
        link.door_proof("other", said, "n"),
        link.door_proof("secret", of_another, "n"),
        link.door_proof("secret", {**said, "more": 1}, "n"),
        link.owner_proof("secret", said, "n"),
    ]
    assert not any(link.is_same(other, proof) for other in [*others, None, 7, "", "\ud800", "é"])


def test_nodes_are_written_and_read() -> None:
    node = Node("1f", "a", "10.0.0.1", 25672, "1.0", 1_700_000_000, {"mem_used": 7}, "orders")
    assert Node.decode(node.encode()) == node
    said = json.loads(node.encode())
    del said["uses"], said["cluster_name"]  # an earlier release does not say them
    assert Node.decode(json.dumps({**said, "later": 1}).encode()) == replace(node, uses={}, cluster_name="")
    for bad in (b"", b"[]", b"{}", b'{"name": 1}', b"\xff"):
        with pytest.raises(BadKey):
            Node.decode(bad)


def test_a_name_is_taken_by_a_node_elsewhere_and_not_by_what_has_died_in_the_same_place() -> None:
    there = Node("1", "a", "10.0.0.1", 25672, "1", 0)
    others = [replace(there, name="b").encode(), b"{", there.encode()]
    assert namesake(others, "a", ("10.0.0.2", 25672)) == namesake(others, "a", ("10.0.0.1", 25673)) == there
    assert namesake(others, "a", ("10.0.0.1", 25672)) is None
    assert namesake(others, "c", ("10.0.0.2", 25672)) is None
