"""One shard at one node: the node waits for its turn with the journal at hand, then owns the shard and serves it.

Theory of operation. Every node follows the shard's journal in etcd (``standby.py``, ``store.py``,
``journal/kept_files.py``) and watches who owns it. While nobody does, the nodes campaign, in an order that differs with
each vacancy. Whoever wins has a ``BrokerServer`` serve the journal, which neither listens itself nor knows of the
cluster. How clients come to it is not decided here (``clients.py``).

An owner whose lease is no longer sure to live says nothing to anybody (``OutputGate``). When the lease was lost and
nobody else has owned the shard since, it takes it back, and no client notices; else it lets its clients go.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

import trio

from amqp_broker.broker.broker import Broker
from amqp_broker.cluster import door
from amqp_broker.cluster.assignment import candidates
from amqp_broker.cluster.clients import NodeClients
from amqp_broker.cluster.configuration import ClusterConfiguration
from amqp_broker.cluster.door import Caller
from amqp_broker.cluster.etcd_client import EtcdClient
from amqp_broker.cluster.following import follow
from amqp_broker.cluster.keys import Keys
from amqp_broker.cluster.known import Known, KnownShard
from amqp_broker.cluster.lease import Lease
from amqp_broker.cluster.members import EtcdRefused, EtcdUnavailable, blocking_members
from amqp_broker.cluster.ownership import Ownership, owner_in
from amqp_broker.cluster.space import Space
from amqp_broker.cluster.standby import LOAD_TIMEOUT_S, TRUST_S, Standby, remove_folder
from amqp_broker.cluster.store import EtcdStore
from amqp_broker.cluster.takeovers import Takeover, write_down
from amqp_broker.cluster.upkeep import Upkeep
from amqp_broker.explanations import system_reason
from amqp_broker.journal.failures import JournalError, JournalFailed
from amqp_broker.journal.journal import SegmentJournal
from amqp_broker.journal.kept_copies import KeptCopies
from amqp_broker.journal.kept_files import KeptFiles
from amqp_broker.journal.port import Journal
from amqp_broker.journal.real_files import RealFiles
from amqp_broker.logs import log_event
from amqp_broker.network.pump import OutputGate
from amqp_broker.server.broker_server import BrokerServer
from amqp_broker.server.garbage import collect_all, drop_messages, without_collections
from amqp_broker.server.sharding.directory import CannotAgree
from amqp_broker.server.sharding.shards import Shards
from amqp_broker.server.sharding.sharing import Sharing
from amqp_broker.server.sharding.user_counts import follow_user_counts
from amqp_broker.settings import Settings

CALL_TIMEOUT_S: Final = 1.0
PAUSE_S: Final = 0.1
STAGGER_S: Final = 0.2  # between the first who campaigns and the next
REFUSED_STANDS_BACK_LIVES: Final = 2  # of a lease, for a node whose links the last owner refused
HAND_OVER_GRACE_S: Final = 0.5  # for clients' answers to connection.close, while nobody is served
LAST_WRITES_S: Final = 5.0  # after the clients have gone
GATE_PAUSE_S: Final = 0.02
ASK_PAUSE_S: Final = 0.5
GARBAGE_PAUSE_S: Final = 5.0  # after a shard was let go, until its broker is looked for: meanwhile clients come back


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The parts of its node that a shard uses, and shares with the node's other shards.

    Args:
        settings: limits and defaults of the broker.
        configuration: which cluster, and who this node is.
        keys: of the cluster.
        known: what the node knows.
        caller: how it calls another.
        clients: of the node.
        new_server: makes the server of a shard, which lets its clients be spoken to as the gate says.
        etcd: the members.
        lease: the node's.
        space: in etcd.
        copies: a folder for copies of journals.
        ending: the node ends.
        sharing: the directory of a cluster with several shards; None where there is one.
        shards: all of them, likewise.
    """

    settings: Settings
    configuration: ClusterConfiguration
    keys: Keys
    known: Known
    caller: Caller
    clients: NodeClients
    new_server: Callable[[OutputGate, int], BrokerServer]
    etcd: EtcdClient
    lease: Lease
    space: Space
    copies: Path
    ending: trio.Event
    sharing: Sharing | None = None
    shards: Shards | None = None


class Shard:
    """One shard, from the node's start to its end.

    Args:
        known: what is known of it.
        here: the node.
    """

    def __init__(self, known: KnownShard, here: Surroundings) -> None:
        self.number = known.number
        self._known = known
        self._here = here
        self._node_name = here.configuration.node_name
        self._copies = here.copies / str(self.number)
        self._ownership = Ownership(here.etcd, here.keys, self.number, here.known.node_id)
        self._store: EtcdStore | None = None
        self._owned_last = ""  # which node, as far as is known
        self._vacant_since_s: float | None = None  # of the monotonic clock; None where that was not seen
        self._is_lease_sure = True
        self._stands_back_until_s = 0.0
        self._stepping_down = trio.Event()  # of the present ownership
        self._released = trio.Event()  # likewise: it has ended
        self._lost = trio.Event()  # of the present ownership
        self._resuming = trio.Lock()

    # --- what others may ask

    def is_open(self) -> bool:
        """Whether the owner may speak (``OutputGate``)."""
        return self._is_lease_sure and self._here.lease.may_speak

    async def wait_until_open(self) -> None:
        """Wait until the owner may speak (``OutputGate``)."""
        while not self.is_open():  # noqa: ASYNC110  # it is time that closes it
            await trio.sleep(GATE_PAUSE_S)

    async def step_down(self) -> None:
        """Hand the shard over to another node, and do not be the first to take it; returns once it was let go."""
        self._stands_back_until_s = trio.current_time() + self._here.configuration.lease_ttl_s
        self._stepping_down.set()
        await self._released.wait()

    async def disown(self, claim: bytes) -> None:
        """Take a claim away, whoever's it is.

        Raises:
            EtcdUnavailable: it is not known whether it is gone.
        """
        await self._ownership.disown(claim)

    # --- who owns it

    async def follow(self) -> None:
        """Follow who owns the shard, until cancelled."""
        here = self._here
        owner_key = here.keys.owner(self.number)
        await follow(here.etcd, owner_key, self._note_all, self._note, here.known.tell)

    def _note_all(self, found: Mapping[str, bytes]) -> None:
        self._note("", next(iter(found.values()), b""))

    def _note(self, key: str, claim: bytes) -> None:
        self._owned_last = owner_in(self._known.claim) or self._owned_last
        if not claim and self._known.claim:
            self._vacant_since_s = time.monotonic()
        self._known.claim = claim
        if claim:
            # Of a claim that this node has just made again etcd may tell before it answers.
            if self._store is not None and not self._known.is_claimed_here:
                self._lose("another node has taken over")
            self._here.clients.end_links_to_others(self.number, owner_in(claim))

    def lease_lost(self) -> None:
        """The node's lease was lost: whether the shard is still this node's is not known until ``resume``."""
        self._is_lease_sure = False

    async def resume(self) -> None:
        """Take the shard back if it was this node's and nobody had it since: with a new lease, or the same."""
        async with self._resuming:
            await self._resume()

    async def _resume(self) -> None:
        here = self._here
        while self._store is not None:
            lease = here.lease.number
            try:
                epoch = await self._ownership.resume(lease) if lease else None
            except (EtcdUnavailable, EtcdRefused) as error:
                await here.space.reclaim_after(error)
                await trio.sleep(PAUSE_S)
                continue
            if not lease or lease != here.lease.number:  # that one was lost meanwhile, and the key with it
                await trio.sleep(PAUSE_S)
                continue
            if epoch is None or self._store is None:
                self._lose("another node has taken over")
            else:
                self._store.resume(epoch)
                self._vacant_since_s = None
                log_event(logging.WARNING, "ownership resumed", node=self._node_name, shard=self.number, epoch=epoch)
            break
        self._is_lease_sure = True

    def _lose(self, reason: str) -> None:
        if self._store is not None:
            self._say_lost(reason)
            self._store.give_up()
            self._lost.set()

    def _say_lost(self, reason: str) -> None:
        log_event(logging.ERROR, "ownership lost", node=self._node_name, shard=self.number, reason=reason)

    # --- waiting for a turn

    async def take_part(self) -> None:
        """Wait for a turn with the journal at hand, and own the shard when it has come; until the node's end."""
        here = self._here
        async with trio.open_nursery() as nursery:
            while not here.ending.is_set():
                standby = Standby(here.configuration, here.keys.shard(self.number), self._copies)
                nursery.start_soon(standby.run)
                epoch = await self._win(standby)
                if epoch is not None:
                    nursery.start_soon(self._give_memory_back, await self._own(epoch, standby))
                standby.stop()

    async def _give_memory_back(self, broker: Broker | None) -> None:
        """Give back what the broker had that was served here, its messages first.

        The rest refers to itself in circles, and what was read of the journal is frozen. It is looked for where no
        other shard is served, as nothing else goes on meanwhile.

        Args:
            broker: None where its journal could not be read.
        """
        with trio.move_on_after(GARBAGE_PAUSE_S):
            await self._here.ending.wait()
            return
        if broker is not None:
            await drop_messages(broker)
        broker = None
        if not any(shard.is_owner or shard.is_claimed_here for shard in self._here.known.shards.values()):
            collect_all()

    async def _win(self, standby: Standby) -> int | None:
        """Campaign while nobody owns the shard; returns the epoch once that is won, or None at the node's end."""
        known = self._known
        while not self._here.ending.is_set():
            changed = self._here.known.changed
            epoch = None
            if not known.claim or known.is_claimed_here:
                epoch = await self._campaign(standby)
            if epoch is not None:
                return epoch
            if not known.claim:
                await trio.sleep(PAUSE_S)
            else:
                await changed.wait()
        return None

    async def _campaign(self, standby: Standby) -> int | None:
        """Try to become the owner, after those who are to try before; who lacks the journal lets all others try."""
        known = self._known
        claim = known.claim
        try:
            if known.is_claimed_here:  # nobody answers for it: it came late, or it is told late that it has gone
                await self._ownership.disown(claim)
            stand_back_s = self._stands_back_until_s - trio.current_time()
            if known.is_refused:  # it would serve no other node; where nobody else takes the shard, the secret is new
                stand_back_s = max(stand_back_s, REFUSED_STANDS_BACK_LIVES * self._here.configuration.lease_ttl_s)
            with trio.move_on_after(max(0 if claim else STAGGER_S * self._place_in_line(), stand_back_s)):
                await self._here.ending.wait()
                return None
            if not claim:
                with trio.move_on_after(STAGGER_S * len(self._here.known.nodes)):
                    await standby.following.wait()
            if known.claim and not known.is_claimed_here:
                return None
            return await self._ownership.campaign(self._here.lease.number)
        except (EtcdUnavailable, EtcdRefused) as error:
            await self._here.space.reclaim_after(error)
            return None

    def _place_in_line(self) -> int:
        """How many others should try first; not who owned it last, which is dead, or stands back."""
        known = self._here.known
        orders = candidates(self._here.keys.prefix, known.owners, {known.node_id, *known.nodes})
        order = orders.get(self.number, [])
        before = order[: order.index(known.node_id)] if order else []
        return len([node for node in before if node != self._owned_last])

    # --- owning

    async def _own(self, epoch: int, standby: Standby) -> Broker | None:
        """Serve the shard until the ownership or the node ends; returns the broker that was served."""
        here = self._here
        vacant_since_s, self._vacant_since_s = self._vacant_since_s, None
        self._lost, self._stepping_down, self._released = trio.Event(), trio.Event(), trio.Event()
        writing = blocking_members(here.configuration.addresses, CALL_TIMEOUT_S)
        reading = blocking_members(here.configuration.addresses, LOAD_TIMEOUT_S)
        keys = here.keys.shard(self.number), here.keys.owner(self.number)
        store = self._store = EtcdStore(writing, *keys, epoch, reading, here.known.node_id)
        server = here.new_server(self, self.number)
        broker: Broker | None = None
        began_s = time.monotonic()
        log_event(logging.INFO, "taking over", node=self._node_name, shard=self.number, epoch=epoch)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._hurry_at_the_end, store, standby)
                copies = await standby.hand_over(epoch)
                trusted_since_s = trio.current_time() - TRUST_S
                with without_collections():
                    journal = await trio.to_thread.run_sync(self._read_journal, store, server, copies, trusted_since_s)
                nursery.cancel_scope.cancel()
            quota_bytes = here.settings.etcd_quota_bytes
            broker = server.broker
            self._known.journal = journal
            upkeep = Upkeep(
                here.etcd,
                store,
                quota_bytes,
                here.space.reclaim,
                lambda: here.known.all_journal_bytes,
                server.limits.tell,
            )
            log_event(
                logging.INFO,
                "owner",
                node=self._node_name,
                shard=self.number,
                epoch=epoch,
                seconds=round(time.monotonic() - began_s, 3),
                was_standby=copies is not None,
            )
            await self._serve_broker(server, upkeep, vacant_since_s)
        except* (JournalFailed, OSError) as errors:
            self._say_lost("; ".join(_reasons(errors)))
        except* (CannotAgree, JournalError) as errors:  # a node of another release may
            self._stands_back_until_s = trio.current_time() + here.configuration.lease_ttl_s
            self._say_lost("; ".join(_reasons(errors)))
        finally:
            self._known.server = self._known.journal = self._store = None
            store.give_up()
            here.clients.end_conversations(self.number)
            here.known.tell()
        with suppress(EtcdUnavailable, EtcdRefused):
            await self._ownership.disown(self._ownership.claim)
        self._released.set()
        return broker

    async def _hurry_at_the_end(self, store: EtcdStore, standby: Standby) -> None:
        """While the shard is taken over: when it is to be let go again, wait no longer for an etcd that is silent."""
        await _wait_for_any(self._here.ending, self._stepping_down)
        standby.stop()
        store.give_up()

    def _read_journal(
        self, store: EtcdStore, server: BrokerServer, copies: KeptCopies | None, trusted_since_s: float
    ) -> Journal:
        """In a thread: have the server go on with all that the store has, which is here, or is read now."""
        store.open()
        if copies is not None and not copies.has_names_of(store):
            log_event(logging.ERROR, "standby differs", node=self._node_name, way_out="it reads etcd")
            copies = None
        if copies is None:
            remove_folder(self._copies)
            copies = KeptCopies(RealFiles(self._copies / secrets.token_hex(4), is_direct=False))
            copies.load(store)
        files = KeptFiles(store, copies.local, f"etcd {self._here.keys.prefix}", self._say_damaged)
        verified = copies.verified(trusted_since_s)
        files.adopt(copies)
        files.remove_nameless()
        try:
            return self._open(server, files, verified)
        except Exception as error:  # what is not checked may hold anything
            if not verified:
                raise
            self._say_damaged(f"{type(error).__name__}: {error}")  # since it was checked: nothing is trusted any more
            return self._open(server, files, frozenset())

    def _open(self, server: BrokerServer, files: KeptFiles, verified: frozenset[str]) -> Journal:
        journal = cast(Journal, SegmentJournal(files, self._here.settings.segment_size_bytes, verified=verified))
        server.open(journal)
        return journal

    def _say_damaged(self, file: str) -> None:
        way_out = "it is read from etcd again"
        log_event(logging.ERROR, "copy damaged", node=self._node_name, file=file, way_out=way_out)

    async def _serve_broker(self, server: BrokerServer, upkeep: Upkeep, vacant_since_s: float | None = None) -> None:
        here = self._here
        async with trio.open_nursery() as nursery:
            await nursery.start(server.serve, lambda: upkeep.status)
            nursery.start_soon(upkeep.run)
            nursery.start_soon(self._ask_others_while_silent)
            nursery.start_soon(self._resume_where_nobody_owns_it)
            self._known.is_closing = False
            for event in (here.ending, self._stepping_down):
                nursery.start_soon(self._shut_down_after, event, server)
            nursery.start_soon(self._let_clients_in, server, nursery, vacant_since_s)
            await _wait_for_any(self._lost, server.ended)
            self._known.server = None
            nursery.cancel_scope.cancel()

    async def _let_clients_in(self, server: BrokerServer, nursery: trio.Nursery, vacant_since_s: float | None) -> None:
        """Serve them once the shard agrees with the directory, where there is one; until etcd answers it does not."""
        here = self._here
        if here.sharing is not None:
            await nursery.start(here.sharing.keep, self.number, server, lambda: self._ownership.claim)
        if here.sharing is not None and here.shards is not None:
            nursery.start_soon(follow_user_counts, server.broker, self.number, here.sharing, here.shards)
        self._known.server = server
        here.known.tell()
        seconds = None if vacant_since_s is None else round(time.monotonic() - vacant_since_s, 3)
        await self._write_down(self._owned_last, seconds)

    async def _write_down(self, owned_last: str, seconds: float | None) -> None:
        """Have etcd keep that this node has taken over, for administrators.

        Args:
            owned_last: the identifier of the node before; empty where it is not known.
            seconds: for how long nobody owned the shard.
        """
        here = self._here
        before = here.known.nodes.get(owned_last)
        takeover = Takeover(
            here.known.node_id, self._node_name, before.name if before is not None else "", int(time.time()), seconds
        )
        await write_down(here.etcd, here.keys, self.number, takeover, owned_last, self._ownership.claim)

    async def _resume_where_nobody_owns_it(self) -> None:
        """The shard's key may have been taken away from this node, which lives, by one that has died since."""
        here, known = self._here, self._known
        while True:
            while known.claim:
                await here.known.changed.wait()
            with trio.move_on_after(here.configuration.lease_ttl_s) as patience:  # who waits for a turn goes first
                while not known.claim:
                    await here.known.changed.wait()
            if patience.cancelled_caught and self._is_lease_sure and here.lease.number:
                await self.resume()

    async def _ask_others_while_silent(self) -> None:
        """Where etcd cannot be reached, another node may own the shard by now: it says so, and clients go there."""
        known = self._here.known
        while True:
            await trio.sleep(ASK_PAUSE_S)
            if not self.is_open():
                for node in list(known.nodes.values()):
                    if node.node_id != known.node_id and await door.is_owner(
                        self._here.caller, node, shard=self.number
                    ):
                        self._lose(f"node '{node.name}' has taken over")
                        return

    async def _shut_down_after(self, event: trio.Event, server: BrokerServer) -> None:
        await event.wait()
        self._known.is_closing = True
        grace_s = min(self._here.settings.shutdown_grace_ms / 1000, HAND_OVER_GRACE_S)
        patience_s = grace_s + LAST_WRITES_S
        if self._store is not None:
            self._store.give_up(patience_s)  # the server closes the journal itself, and then nothing else goes on here
        server.shut_down(grace_s)
        await trio.sleep(patience_s)
        self._lose("etcd did not take the last writes in time")


async def _wait_for_any(*events: trio.Event) -> None:
    async with trio.open_nursery() as nursery:

        async def wait(event: trio.Event) -> None:
            await event.wait()
            nursery.cancel_scope.cancel()

        for event in events:
            nursery.start_soon(wait, event)


def _reasons(errors: BaseExceptionGroup[BaseException]) -> Iterator[str]:
    """Why, of all that are in a group."""
    for error in errors.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _reasons(error)
        else:
            yield system_reason(error) if isinstance(error, OSError) else str(error)
