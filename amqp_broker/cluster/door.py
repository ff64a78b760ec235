"""The door: finds whichever node owns the broker, so that a client's bytes can be carried to it (``carrying.py``).

Holds both ends of a link; ``link.py`` says what they say to each other. A door keeps nothing, so nothing is lost with
it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import trio

from amqp_broker.access.client import Peer
from amqp_broker.cluster import link
from amqp_broker.cluster.keys import Node
from amqp_broker.cluster.link import FrameReader, Hello, LinkError, NotTheOwner
from amqp_broker.cluster.link_tls import CALLED, CALLER, LinkTls, explained
from amqp_broker.explanations import system_reason
from amqp_broker.network.socket_stream import keep_alive
from amqp_broker.network.tls import TlsStream
from amqp_broker.server.sharding.carrying import Prefixed

LINK_TIMEOUT_S: Final = 3.0
FRAME_READ_BYTES: Final = 4_096
NOBODY: Final = Peer("", 0, is_loopback=False)  # in place of a client


@dataclass(frozen=True, slots=True)
class Caller:
    """The identity of a node on a link: what both ends need to know of their own side.

    Args:
        cluster: its name.
        node_id: this node's.
        secret: that all nodes know.
        tls: beneath all links; None where they are without.
    """

    cluster: str
    node_id: str
    secret: str
    tls: LinkTls | None = None


class LinkUnreachable(LinkError):
    """The owner's link port cannot be reached.

    Args:
        is_refused: whether its machine answers that nobody listens: the process is gone.
    """

    def __init__(self, explanation: str, *, is_refused: bool) -> None:
        super().__init__(explanation)
        self.is_refused = is_refused


class LinkRefused(LinkError):
    """The owner has said why it takes no links of this node: another secret, name or version, or no TLS."""


class LedToItself(LinkError):
    """The owner's address leads to the very node that calls."""


async def call(caller: Caller, owner: Node, peer: Peer, *, shard: int, protocol: str) -> trio.abc.Stream:
    """Open a link to the owner for one client.

    Returns:
        A stream of the client's bytes.

    Raises:
        LinkUnreachable: it does not listen.
        NotTheOwner: it is not the owner any more.
        LinkError: it is no node of this cluster.
    """
    hello = Hello(caller.cluster, caller.node_id, link.new_nonce(), shard, protocol, peer)
    with trio.move_on_after(LINK_TIMEOUT_S) as patience:
        stream = await _connect(owner)
        keep_alive(stream.socket)  # nobody may speak for long on it who would notice that the other machine is gone
        way: trio.abc.Stream = stream
        try:
            if caller.tls is None:
                return await _introduce(caller, stream, hello)
            place = owner.link_host, owner.link_port
            way = secured = await caller.tls.call(stream, place)
            patience.deadline = trio.current_time() + LINK_TIMEOUT_S
            try:
                return await _introduce(caller, secured, hello)
            finally:
                caller.tls.remember(place, secured)
        except BaseException:
            await trio.aclose_forcefully(way)
            raise
    raise LinkUnreachable(f"node '{owner.name}' does not answer on its link port", is_refused=False)


async def is_owner(caller: Caller, node: Node, *, shard: int) -> bool:
    """Whether another node says, when it is asked, that it owns the broker."""
    try:
        stream = await call(caller, node, NOBODY, shard=shard, protocol=link.NO_CLIENT)
    except LinkError:
        return False
    await trio.aclose_forcefully(stream)
    return True


async def is_gone(caller: Caller, node: Node, *, shard: int) -> bool:
    """Whether another node's machine says that nobody listens on its link port."""
    try:
        stream = await call(caller, node, NOBODY, shard=shard, protocol=link.NO_CLIENT)
    except LinkError as error:
        return isinstance(error, LinkUnreachable) and error.is_refused
    await trio.aclose_forcefully(stream)
    return False


async def _connect(owner: Node) -> trio.SocketStream:
    try:
        return await trio.open_tcp_stream(owner.link_host, owner.link_port)
    except OSError as error:
        text = f"node '{owner.name}' cannot be reached at {owner.link_host}:{owner.link_port}: {system_reason(error)}"
        raise LinkUnreachable(text, is_refused=_says_that_nobody_listens(error)) from error


def _says_that_nobody_listens(error: BaseException | None) -> bool:
    """Whether every address that was tried refused: trio gives the reasons as the cause, several in a group."""
    if isinstance(error, BaseExceptionGroup):
        return all(_says_that_nobody_listens(one) for one in error.exceptions)
    if isinstance(error, ConnectionRefusedError):
        return True
    return error is not None and error.__cause__ is not None and _says_that_nobody_listens(error.__cause__)


async def _introduce(caller: Caller, stream: trio.abc.Stream, hello: Hello) -> trio.abc.Stream:
    reader, said = FrameReader(), link.said_in(hello) | _binding(stream)
    try:
        await stream.send_all(link.encode_hello(hello))
        challenge = await _read_frame(stream, reader)
        nonce = challenge.get("nonce")
        if not isinstance(nonce, str):
            raise _refused(challenge) or LinkError("the node that was called does not ask for a proof")
        await stream.send_all(link.encode("proof", proof=link.door_proof(caller.secret, said, nonce)))
        answer = await _read_frame(stream, reader)
    except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
        raise LinkUnreachable(f"the link has ended: {explained(error, CALLED)}", is_refused=False) from error
    if answer["kind"] == "not-owner":
        raise NotTheOwner("the node that was called does not own the broker")
    if answer["kind"] == "itself":
        text = "the owner's link_host and link_port lead to this node itself"
        raise LedToItself(f"{text}: set its link_host to an address at which other machines reach it")
    if answer["kind"] != "accept":
        raise _refused(answer) or LinkError("the owner refused the link: it does not say why")
    if not link.is_same(answer.get("proof"), link.owner_proof(caller.secret, said, nonce)):
        raise LinkError("the node that was called does not know the cluster's secret")
    rest = reader.rest()
    return Prefixed(stream, rest) if rest else stream


def _binding(stream: trio.abc.Stream) -> dict[str, str]:
    """What is proved with the rest where TLS is beneath: that it was said on this connection."""
    return {link.BINDING: stream.channel_binding} if isinstance(stream, TlsStream) else {}


async def answer(
    caller: Caller, stream: trio.SocketStream, is_called_rightly: Callable[[Hello], Awaitable[bool]]
) -> tuple[trio.abc.Stream, Hello]:
    """The owner's end: hear who calls, and let it in.

    Args:
        stream: the connection; with TLS, what is returned has it from then on, and after an error nobody.
        is_called_rightly: asked when the caller has proved that it is a node; whether this one owns what it wants.

    Returns:
        A stream of the client's bytes, and what the door has said of the client.

    Raises:
        LinkError: it is not let in; it was told.
    """
    if caller.tls is None:
        return await _let_in(caller, stream, is_called_rightly)
    try:
        with trio.fail_after(LINK_TIMEOUT_S):
            secured = await caller.tls.answer(stream)
    except trio.TooSlowError as error:
        raise LinkError("a caller was silent") from error
    try:
        return await _let_in(caller, secured, is_called_rightly)
    except BaseException:
        await trio.aclose_forcefully(secured)
        raise


async def _let_in(
    caller: Caller, stream: trio.abc.Stream, is_called_rightly: Callable[[Hello], Awaitable[bool]]
) -> tuple[trio.abc.Stream, Hello]:
    reader = FrameReader()
    try:
        with trio.fail_after(LINK_TIMEOUT_S):
            frame = await _read_frame(stream, reader)
            hello, said = await _read_hello(stream, frame), link.said_in(frame) | _binding(stream)
            nonce = link.new_nonce()
            await stream.send_all(link.encode("challenge", nonce=nonce))
            proof = await _read_frame(stream, reader)
            refused = ""
            if not link.is_same(proof.get("proof"), link.door_proof(caller.secret, said, nonce)):
                refused = "it does not know the cluster's secret"
            elif hello.cluster != caller.cluster:
                refused = f"it is of the cluster '{hello.cluster}', this one is '{caller.cluster}'"
            if refused:
                await stream.send_all(link.encode("refused", text=refused))
                raise LinkError(f"a caller was refused: {refused}")
        is_right = await is_called_rightly(hello)
        with trio.fail_after(LINK_TIMEOUT_S):
            if not is_right:
                await stream.send_all(link.encode("itself" if hello.node_id == caller.node_id else "not-owner"))
                raise NotTheOwner("a door has called, and this node is not the owner")
            await stream.send_all(link.encode("accept", proof=link.owner_proof(caller.secret, said, nonce)))
    except trio.TooSlowError as error:
        raise LinkError("a caller was silent") from error
    except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
        raise LinkError(f"a caller has gone: {explained(error, CALLER)}") from error
    rest = reader.rest()
    return (Prefixed(stream, rest) if rest else stream), hello


def _refused(frame: dict[str, object]) -> LinkRefused | None:
    """Why the owner has refused, where it says so."""
    text = frame.get("text")
    is_said = frame["kind"] == "refused" and isinstance(text, str)
    return LinkRefused(f"the owner refused the link: {text}") if is_said else None


async def _read_hello(stream: trio.abc.Stream, frame: dict[str, object]) -> Hello:
    """The hello in a frame; who says none that can be read, of another release perhaps, is told."""
    try:
        return link.read_hello(frame)
    except LinkError as error:
        await stream.send_all(link.encode("refused", text=str(error)))
        raise


async def _read_frame(stream: trio.abc.Stream, reader: FrameReader) -> dict[str, object]:
    while (frame := reader.next()) is None:
        data = await stream.receive_some(FRAME_READ_BYTES)
        if not data:
            raise LinkError("the other side has closed the link")
        reader.add(bytes(data))
    return frame
