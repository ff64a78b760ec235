"""The clients of a node: served here while it owns their shard, else carried to the node that does, over a link.

Each other node has a link to the owner that carries nobody: when one has stood, and the owner's link port is found
closed twice, the owner's key goes before its lease has ended. Holds no protocol, and does not decide who owns a shard
(``shard.py``).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Final

import trio

from amqp_broker.access.client import Peer
from amqp_broker.cluster import door, health
from amqp_broker.cluster.callers import Callers, Place
from amqp_broker.cluster.door import Caller, LedToItself, LinkRefused, LinkUnreachable
from amqp_broker.cluster.keys import ROOT_SHARD, Node
from amqp_broker.cluster.known import Known, KnownShard
from amqp_broker.cluster.link import NO_CLIENT, Hello, LinkError, NotTheOwner
from amqp_broker.cluster.members import EtcdRefused, EtcdUnavailable
from amqp_broker.cluster.ownership import owner_in
from amqp_broker.logs import RepeatedLines, log_event, log_internal_error
from amqp_broker.network.listeners import FOR_ADMINISTRATORS, HTTP, METRICS, USER_COUNTS
from amqp_broker.network.socket_stream import keep_alive
from amqp_broker.server.broker_server import BrokerServer
from amqp_broker.server.descriptors import connections_that_fit
from amqp_broker.server.reception import Serve
from amqp_broker.server.sharding.arrivals import Continued, Entrance, Heard
from amqp_broker.server.sharding.carrying import Prefixed, carry
from amqp_broker.server.sharding.directory import CannotAgree
from amqp_broker.server.sharding.sharing import Sharing
from amqp_broker.server.sharding.user_counts import tell_user_counts
from amqp_broker.settings import Settings

PAUSE_S: Final = 0.1
SUSPICION_S: Final = 0.05  # between two links that are refused, before an owner counts as gone
CALL_WAITS_S: Final = 2.0  # of a client, at a node that is about to own its shard; less than LINK_TIMEOUT_S
LINK_EVERY_S: Final = 1.0  # a link that carries nobody is made, at the most
LOOK_UP_AGAIN_S: Final = 5.0  # a node whose name was not found


class NodeClients:
    """The clients of one node.

    Args:
        settings: how long a client may wait for an owner.
        known: what the node knows of the cluster.
        caller: how this node calls another.
        disown: takes a claim to a shard away in etcd.
        is_open: whether this node may speak for a shard when it owns it.
    """

    def __init__(
        self,
        settings: Settings,
        known: Known,
        caller: Caller,
        disown: Callable[[int, bytes], Awaitable[None]],
        is_open: Callable[[int], bool],
    ) -> None:
        self._settings = settings
        self._known = known
        self._caller = caller
        self._disown = disown
        self._is_open = is_open
        self._sharing: Sharing | None = None
        self._entrance: Entrance | None = None
        self._tell: Serve | None = None  # of this node, where it owns nothing
        self._count = 0
        self._arriving: set[trio.abc.Stream] = set()  # clients who are asked where they want to be, or just let in
        self._callers = Callers(settings.handshakes_max, self._is_of_node)
        self._addresses: dict[str, frozenset[str]] = {}  # by the identifiers of nodes that say a name for theirs
        self._is_refusing_callers = False
        self._is_refusing_carried = False
        self._answered: dict[int, bytes] = {}  # by shard: the claim under which its owner has answered a link
        self._suspected: set[bytes] = set()  # claims whose nodes have just refused a link
        self._linked: set[int] = set()  # shards to whose owners the link stands that carries nobody
        self._failures = RepeatedLines()  # of links: each client that waits tries ten times a second
        self._refusals = RepeatedLines()  # strangers may come and go as a limit is reached, many times a second
        self._conversations: dict[trio.CancelScope, int] = {}  # with clients that this node serves itself: their shard
        self._carried: dict[trio.CancelScope, tuple[int, str]] = {}  # to another node: the shard, the node's identifier

    def divide(self, sharing: Sharing, entrance: Entrance) -> None:
        """There are several shards: have each client asked first where it wants to be."""
        self._sharing, self._entrance = sharing, entrance

    def tell_of_this_node(self, serve: Serve) -> None:
        """There is one shard: have who comes for metrics told of this node while it is a door.

        Args:
            serve: tells whoever stays when it owns the shard of that as well.
        """
        self._tell = serve

    @contextmanager
    def conversation(self, shard: int) -> Iterator[trio.CancelScope]:
        """What is in it ends at the latest when this node, which owns the shard, does so no more."""
        with trio.CancelScope() as scope:
            self._conversations[scope] = shard
            try:
                yield scope
            finally:
                del self._conversations[scope]

    def end_conversations(self, shard: int) -> None:
        """This node owns a shard no more: let those go whom it served."""
        for scope, served in self._conversations.items():
            if served == shard:
                scope.cancel()

    def end_links_to_others(self, shard: int, owner_id: str) -> None:
        """That node owns a shard now: let those go whom this one carries to another, who has nothing to say."""
        for scope, (carried, node_id) in self._carried.items():
            if carried == shard and node_id != owner_id:
                scope.cancel()

    def count(self) -> tuple[int, int]:
        """How many connections there are, and how many of them have logged in, for the reception's limits.

        Who is carried has two, and counts as logged in: the owner knows whether that is so, and refuses.
        """
        there = self._count + len(self._carried) + len(self._callers)
        return there, there - self._not_logged_in

    @property
    def _not_logged_in(self) -> int:
        """How many clients of this node and its brokers have not logged in yet. Who waits for an owner costs little."""
        servers = [shard.server for shard in self._known.shards.values() if shard.server is not None]
        return len(self._arriving) + sum(server.arriving_count for server in servers)

    async def serve(self, stream: trio.abc.Stream, peer: Peer, protocol: str) -> None:
        """Serve a client here, or carry its bytes to the owner; while there is none, it waits."""
        self._count += 1
        try:
            if protocol == HTTP:
                first = await self._answer_about_health(stream)
                if not first:
                    return
                stream = Prefixed(stream, first)
            if self._sharing is not None and self._entrance is not None and protocol in (HTTP, METRICS):
                await self._entrance.administer(stream, peer, protocol)
            elif self._sharing is not None and self._entrance is not None and self._entrance.has(protocol):
                await self._serve_where_it_wants(self._sharing, self._entrance, stream, peer, protocol)
            elif protocol == METRICS and self._tell is not None and self._known.shards[ROOT_SHARD].open_server is None:
                await self._tell(stream, peer, protocol)
            else:
                await self._serve_or_carry(self._known.shards[ROOT_SHARD], stream, peer, protocol)
        finally:
            self._count -= 1
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(stream)

    async def _serve_where_it_wants(
        self, sharing: Sharing, entrance: Entrance, stream: trio.abc.Stream, peer: Peer, protocol: str
    ) -> None:
        """Ask a client where it wants to be, and have it come to that shard."""
        try:
            with trio.move_on_after(self._settings.handshake_timeout_ms / 1000):
                while not (await sharing.current()).number:
                    with trio.move_on_after(PAUSE_S):
                        await self._known.changed.wait()
                entrance.agree(sharing.directory)
        except CannotAgree as error:
            log_event(logging.ERROR, "connection failed", peer=str(peer), reason=str(error))
            return
        if not sharing.directory.number:
            log_event(logging.WARNING, "connection failed", peer=str(peer), reason="no node has owned the root yet")
            return
        self._arriving.add(stream)
        try:
            arrival = await entrance.receive(stream, peer, protocol)
        finally:
            self._arriving.discard(stream)
        if arrival is not None:
            shard = self._known.shards[sharing.directory.shard_of(arrival.virtual_host)]
            await self._serve_or_carry(shard, stream, peer, protocol, Heard(arrival, protocol))

    async def _serve_or_carry(
        self,
        shard: KnownShard,
        stream: trio.abc.Stream,
        peer: Peer,
        protocol: str,
        beginning: Heard | None = None,
    ) -> None:
        """Have a client come to a shard, as soon as that has an owner."""
        with trio.move_on_after(self._settings.handshake_timeout_ms / 1000) as waiting:
            while True:
                changed = self._known.changed
                if (server := shard.open_server) is not None:
                    waiting.deadline = float("inf")
                    await self._converse(shard.number, server, stream, peer, protocol, beginning)
                    return
                owner = shard.owner
                way = await self._call(shard, owner, peer, protocol) if owner is not None else None
                if owner is not None and way is not None:
                    waiting.deadline = float("inf")
                    said = stream if beginning is None else Continued(stream, beginning)
                    await self._carry(shard.number, said, way, owner)
                    return
                with trio.move_on_after(PAUSE_S):
                    await changed.wait()
        reason = "no node owns the broker"
        if shard.owner is not None and not shard.is_owner:
            reason = f"no link to node '{shard.owner.name}', which owns the broker: 'link failed' says why"
        log_event(logging.WARNING, "connection failed", peer=str(peer), reason=reason)

    async def _answer_about_health(self, stream: trio.abc.Stream) -> bytes:
        """Answer what a load balancer asks each node; returns how a request begins that is for the owner."""
        first = b""
        try:
            with trio.move_on_after(self._settings.handshake_timeout_ms / 1000):
                while b"\r\n" not in first and len(first) < health.FIRST_BYTES:
                    data = await stream.receive_some(health.FIRST_BYTES)
                    if not data:
                        return b""
                    first += data
                root = self._known.shards[ROOT_SHARD]
                is_served = root.is_owner or ROOT_SHARD in self._linked
                answer = health.answer_to(first, is_owner=root.is_owner, is_served=is_served)
                if answer is None and not root.has_owner:
                    answer = health.no_owner()
                if answer is not None:
                    await stream.send_all(answer)
                    return b""
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return b""
        return first

    async def _converse(
        self,
        shard: int,
        server: BrokerServer,
        stream: trio.abc.Stream,
        peer: Peer,
        protocol: str,
        beginning: Heard | None = None,
    ) -> None:
        """Have a client's conversation here, at the longest until this node serves the shard no more."""
        with self.conversation(shard):
            try:
                if self._sharing is not None and not await self._sharing.until_in_force(shard):
                    return
                await server.serve_stream(stream, peer, protocol, beginning)
            except CannotAgree as error:
                log_event(logging.ERROR, "connection failed", peer=str(peer), reason=str(error))

    async def _carry(self, shard: int, stream: trio.abc.Stream, way: trio.abc.Stream, owner: Node) -> None:
        """Carry a client's bytes to the owner, at the longest until another node owns the shard."""
        with trio.CancelScope() as scope:
            self._carried[scope] = (shard, owner.node_id)
            try:
                await carry(stream, way)
            finally:
                del self._carried[scope]

    async def _call(self, shard: KnownShard, owner: Node, peer: Peer, protocol: str) -> trio.abc.Stream | None:
        claim = shard.claim
        if owner.node_id == self._known.node_id:
            return None
        try:
            return await self._answered_call(shard, owner, claim, peer, protocol)
        except NotTheOwner:
            return None
        except LinkError as error:
            await self._note_failed(shard, owner, claim, error)
            return None

    async def _answered_call(
        self, shard: KnownShard, owner: Node, claim: bytes, peer: Peer, protocol: str
    ) -> trio.abc.Stream:
        """Open a link (``door.call``), and remember that the owner is within reach, or that it refuses."""
        try:
            way = await door.call(self._caller, owner, peer, shard=shard.number, protocol=protocol)
        except NotTheOwner:  # it is about to be
            self._answered[shard.number] = claim
            raise
        except LinkRefused:
            shard.is_refused = True
            raise
        shard.is_refused = False
        self._answered[shard.number] = claim
        return way

    async def _note_failed(self, shard: KnownShard, owner: Node, claim: bytes, error: LinkError) -> None:
        """No link to an owner was to be had: it is suspected where its port is closed and was open before.

        One that has never answered under its claim is not suspected: a machine between may refuse for it, and the next
        owner would be suspected likewise, and so on. Then its lease tells.
        """
        is_refused = isinstance(error, LinkUnreachable) and error.is_refused
        if is_refused and self._answered.get(shard.number) == claim:
            await self._suspect(shard, owner, claim)
        elif isinstance(error, LedToItself) and self._known.is_life_before(owner):
            self._tell_failed(logging.INFO, owner=owner.name, reason="it is this node before it was started again")
        else:
            self._tell_failed(logging.ERROR, owner=owner.name, reason=str(error))

    def _tell_failed(self, severity: int, **fields: str | None) -> None:
        """Say that no link is to be had, and why."""
        self._failures.log_event(trio.current_time(), severity, "link failed", **fields)

    async def watch_owner(self, shard: KnownShard) -> None:
        """Notice when the process of the node that owns a shard is gone, whether clients come or not."""
        while True:
            changed, claim, owner = self._known.changed, shard.claim, shard.owner
            async with trio.open_nursery() as nursery:
                if owner is not None and owner.node_id != self._known.node_id:
                    nursery.start_soon(self._hold_link, shard, owner, claim)
                while shard.claim == claim and (owner is None) == (shard.owner is None):
                    await changed.wait()
                    changed = self._known.changed
                nursery.cancel_scope.cancel()

    async def _hold_link(self, shard: KnownShard, owner: Node, claim: bytes) -> None:
        """Have a link to an owner while it has this claim."""
        while True:
            began_s = trio.current_time()
            try:
                link = await self._answered_call(shard, owner, claim, door.NOBODY, NO_CLIENT)
                try:
                    self._linked.add(shard.number)
                    await _wait_for_the_end(link)
                finally:
                    self._linked.discard(shard.number)
            except NotTheOwner:
                pass
            except LinkError as error:
                await self._note_failed(shard, owner, claim, error)
            except Exception as error:  # whoever answers there may say anything, and the node is to go on
                log_internal_error("link", error, owner=owner.name)
            await trio.sleep_until(began_s + LINK_EVERY_S)

    async def _suspect(self, shard: KnownShard, owner: Node, claim: bytes) -> None:
        """The owner's machine says that nobody listens: when that is so twice, its key goes before its lease does.

        A wrong suspicion costs a takeover. Until the old owner is told that its key is gone, both may speak to clients;
        the fence keeps the old one from writing.
        """
        if claim in self._suspected:
            return
        self._suspected.add(claim)
        try:
            await trio.sleep(SUSPICION_S)
            if claim == shard.claim and await door.is_gone(self._caller, owner, shard=shard.number):
                log_event(logging.WARNING, "owner is gone", owner=owner_in(claim), reason="its link port is closed")
                with suppress(EtcdUnavailable, EtcdRefused):
                    await self._disown(shard.number, claim)
        finally:
            self._suspected.discard(claim)

    def _is_of_node(self, host: str) -> bool:
        """Whether a node says that it is at this address, or by a name that stands for it."""
        nodes = self._known.nodes.values()
        return any(host == node.link_host or host in self._addresses.get(node.node_id, ()) for node in nodes)

    async def look_nodes_up(self) -> None:
        """Know the addresses of all nodes, which may say names for theirs; until cancelled."""
        while True:
            changed, nodes = self._known.changed, dict(self._known.nodes)
            self._addresses = {one: self._addresses[one] for one in nodes.keys() & self._addresses.keys()}
            pause_s = 0.0
            for node_id in nodes.keys() - self._addresses.keys():
                try:
                    self._addresses[node_id] = await _addresses_of(nodes[node_id].link_host)
                except (OSError, UnicodeError):  # no such name, or none at all
                    pause_s = LOOK_UP_AGAIN_S
            if pause_s:
                await trio.sleep(pause_s)
            else:
                await changed.wait()

    async def _is_called_rightly(self, stream: trio.SocketStream, place: Place, hello: Hello) -> bool:
        """Whether the caller, who has proved that it is a node, has found the owner.

        It waits while this node is about to be, and while too many clients have not logged in yet: when an owner is
        lost, all its clients call at the same time. Who asks for itself need not wait, and gets no yes from an owner
        that is silent as well.
        """
        self._callers.note_proved(place)
        shard = self._known.shards.get(hello.shard)
        if shard is None:
            return False
        if hello.protocol == NO_CLIENT:
            return shard.is_owner and self._is_open(hello.shard)
        is_stranger = not self._was_asked_at_a_door(hello.protocol)
        self._count += 1  # it has a descriptor
        try:
            with trio.move_on_after(CALL_WAITS_S):
                while shard.open_server is None and shard.is_claimed_here:
                    await self._known.changed.wait()
                while is_stranger and shard.open_server is not None and self._refuses_carried():
                    with trio.move_on_after(PAUSE_S):
                        await self._known.changed.wait()
                if is_stranger and shard.open_server is not None:
                    self._arriving.add(stream)
                return shard.open_server is not None
            return False
        finally:
            self._count -= 1

    def _was_asked_at_a_door(self, protocol: str) -> bool:
        """Whether who calls has logged in there, is an administrator, with limits of their own, or another owner."""
        if protocol in (*FOR_ADMINISTRATORS, USER_COUNTS):
            return True
        return self._entrance is not None and self._entrance.has(protocol)

    async def serve_link(self, stream: trio.SocketStream) -> None:
        """Serve a client whose bytes another node carries here; what goes wrong ends this link and nothing else."""
        host = _host_of(stream)
        if host is None or self._refuses_caller(host):
            await trio.aclose_forcefully(stream)
            return
        try:
            await self._serve_link(stream, host)
        except Exception as error:  # whoever reaches the port may say anything
            log_internal_error("link", error)
            await trio.aclose_forcefully(stream)

    def _refuses_caller(self, host: str) -> bool:
        """Whether one more caller would be too many; said as it becomes so, and no more than once a minute."""
        there = self.count()[0]
        if there >= connections_that_fit():
            reason = f"{there} connections are open: raise the limit on open files (ulimit -n)"
        else:
            reason = self._callers.refusal_of(host)
        if reason and not self._is_refusing_callers:
            self._refusals.log_event(trio.current_time(), logging.ERROR, "refusing links", reason=reason)
        self._is_refusing_callers = bool(reason)
        return bool(reason)

    def _refuses_carried(self) -> bool:
        """Whether one more client whom another node carries here has to wait; said as the reception does."""
        count = self._not_logged_in
        refuses = count >= self._settings.handshakes_max
        if refuses and not self._is_refusing_carried:
            reason = f"{count} have not logged in yet: raise handshakes_max if they mean well"
            self._refusals.log_event(trio.current_time(), logging.ERROR, "refusing connections", reason=reason)
        self._is_refusing_carried = refuses
        return refuses

    async def _serve_link(self, stream: trio.SocketStream, host: str) -> None:
        keep_alive(stream.socket)
        answered: tuple[trio.abc.Stream, Hello] | None = None
        try:
            with self._callers.place_of(host) as place:
                answered = await door.answer(self._caller, stream, partial(self._is_called_rightly, stream, place))
            if answered is None:
                raise LinkError("a caller was silent, and others waited for its place")
            inner, hello = answered
        except LinkError as error:
            if not isinstance(error, NotTheOwner):
                self._tell_failed(logging.WARNING, peer=host, reason=str(error))
            await trio.aclose_forcefully(stream)
            return
        finally:
            self._arriving.discard(stream)  # it is in a moment, when the server counts it
        try:
            await self._serve_caller(inner, hello)
        finally:
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(inner)

    async def _serve_caller(self, inner: trio.abc.Stream, hello: Hello) -> None:
        """Serve a client whose node was let in."""
        if hello.protocol == NO_CLIENT:
            with self.conversation(hello.shard):
                await _wait_for_the_end(inner)
            return
        server = self._known.shards[hello.shard].open_server
        if server is None:
            return
        self._count += 1
        try:
            if hello.protocol == USER_COUNTS:
                with self.conversation(hello.shard):
                    await tell_user_counts(server.broker, inner)
                return
            await self._converse(hello.shard, server, inner, hello.peer, hello.protocol)
        finally:
            self._count -= 1


def _host_of(stream: trio.SocketStream) -> str | None:
    """Where a caller is; None where it has gone."""
    try:
        return str(stream.socket.getpeername()[0]).removeprefix("::ffff:")  # IPv4 at a listener of both
    except OSError:
        return None


async def _addresses_of(host: str) -> frozenset[str]:
    found = await trio.socket.getaddrinfo(host, None, type=trio.socket.SOCK_STREAM)
    return frozenset(str(address[0]) for *_, address in found)


async def _wait_for_the_end(link: trio.abc.Stream) -> None:
    """Of a link that carries nobody."""
    try:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await link.receive_some(1)
    finally:
        await trio.aclose_forcefully(link)
