"""One node of a cluster: it owns the broker and serves it, or it is a door to the node that does.

Theory of operation. Every node listens for clients and for links, holds a lease in etcd, and watches who owns the
shard. While nobody does, the nodes campaign, in an order that differs with each vacancy. Whoever wins has followed the
journal in etcd (``standby.py``, ``store.py``, ``journal/kept_files.py``) and has a ``BrokerServer`` serve it, which
neither listens itself nor knows of the cluster. All others are doors (``door.py``).

An owner whose lease is no longer sure to live says nothing to anybody (``OutputGate``). When the lease was lost and
nobody else has owned the shard since, it takes it back, and no client notices; else it lets its clients go and becomes
a door.
"""

from __future__ import annotations

import logging
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, cast

import trio

from amqp_broker import __version__
from amqp_broker.broker.broker import Broker
from amqp_broker.broker.problems import AdministrationError
from amqp_broker.cluster import door
from amqp_broker.cluster.assignment import candidates
from amqp_broker.cluster.clients import NodeClients
from amqp_broker.cluster.configuration import ClusterConfiguration
from amqp_broker.cluster.door import Caller
from amqp_broker.cluster.etcd_checks import CannotJoin, check_etcd
from amqp_broker.cluster.etcd_client import EtcdClient
from amqp_broker.cluster.keys import BadKey, Keys, Node
from amqp_broker.cluster.known import Known
from amqp_broker.cluster.lease import Lease
from amqp_broker.cluster.members import EtcdRefused, EtcdUnavailable, blocking_members
from amqp_broker.cluster.overview import ClusterOverview, overview
from amqp_broker.cluster.ownership import Ownership, owner_in
from amqp_broker.cluster.space import reclaim_space
from amqp_broker.cluster.standby import Standby, remove_folder
from amqp_broker.cluster.store import EtcdStore
from amqp_broker.cluster.upkeep import Upkeep
from amqp_broker.etcd import messages
from amqp_broker.etcd.calls import Answer
from amqp_broker.explanations import system_reason
from amqp_broker.journal.failures import JournalFailed
from amqp_broker.journal.journal import SegmentJournal
from amqp_broker.journal.kept_copies import KeptCopies
from amqp_broker.journal.kept_files import KeptFiles
from amqp_broker.journal.port import Journal
from amqp_broker.journal.real_files import RealFiles
from amqp_broker.logs import log_event
from amqp_broker.network.listeners import Endpoint
from amqp_broker.network.turns import Turns
from amqp_broker.server.broker_server import BrokerServer
from amqp_broker.server.control import Control, serve_control
from amqp_broker.server.garbage import without_collections
from amqp_broker.server.memory_limit import available_memory
from amqp_broker.server.other_nodes import OtherNode, measured
from amqp_broker.server.reception import Reception, Serve
from amqp_broker.server.resources import with_memory_limits
from amqp_broker.server.status import ServerStatus, ports_of, server_status
from amqp_broker.settings import Settings

SHARD: Final = 0
COPIES_FOLDER_NAME: Final = "cluster"
CALL_TIMEOUT_S: Final = 1.0
PAUSE_S: Final = 0.1
JOIN_TIMEOUT_S: Final = 60.0  # how long a node that starts waits for an etcd that is not its own
STAGGER_S: Final = 0.2  # between the first who campaigns and the next
LAST_WRITES_S: Final = 5.0  # after the clients have gone
GATE_PAUSE_S: Final = 0.02
ASK_PAUSE_S: Final = 0.5
REPORT_S: Final = 5.0
SPACE_PAUSE_S: Final = 30.0  # until space is looked for in vain again


class ClusterNode:
    """One node.

    Args:
        settings: where clients are listened to, limits and defaults.
        configuration: which cluster, and who this node is.
        folder: for the control socket, and for copies of the journal's files, worth nothing after the node's end.
        administration: serves administrators at the owner, whichever node they come to; None where nobody does.
    """

    def __init__(
        self,
        settings: Settings,
        configuration: ClusterConfiguration,
        folder: Path,
        administration: Callable[[BrokerServer], Serve] | None = None,
    ) -> None:
        self._settings = settings
        self._configuration = configuration
        self._folder = folder
        self._copies = folder / COPIES_FOLDER_NAME
        self._administration = administration
        self._keys = Keys(configuration.cluster)
        self._node_id = secrets.token_hex(8)
        self._known = Known(self._node_id)
        self._caller = Caller(configuration.cluster, self._node_id, configuration.secret)
        self._clients = NodeClients(settings, self._known, self._caller, SHARD, self._disown, self.is_open)
        self._etcd: EtcdClient
        self._lease: Lease
        self._ownership: Ownership
        self._memory = available_memory()
        self._limits = with_memory_limits(settings, self._memory)
        self._started_s = int(time.time())
        self._turns = Turns()
        self._reception = Reception(settings, self._turns, self._clients.serve, self._clients.count)
        self._reception.is_http_served = administration is not None
        self._store: EtcdStore | None = None
        self._is_lease_sure = False
        self._no_space_until_s = 0.0
        self._ending = trio.Event()
        self._stepping_down = trio.Event()  # of the present ownership
        self._released = trio.Event()  # likewise: it has ended
        self._stands_back_until_s = 0.0
        self._lost = trio.Event()  # of the present ownership

    # --- what others may ask

    @property
    def endpoints(self) -> list[Endpoint]:
        """Where clients can connect."""
        return self._reception.endpoints

    def is_open(self) -> bool:
        """Whether the owner may speak (``OutputGate``)."""
        return self._is_lease_sure and self._lease.may_speak

    async def wait_until_open(self) -> None:
        """Wait until the owner may speak (``OutputGate``)."""
        while not self.is_open():  # noqa: ASYNC110  # it is time that closes it
            await trio.sleep(GATE_PAUSE_S)

    # --- life

    async def run(self, *, task_status: trio.TaskStatus[list[Endpoint]] = trio.TASK_STATUS_IGNORED) -> None:
        """Be a node until ``shut_down``. Starts with the endpoints that clients can connect to.

        Raises:
            CannotJoin: etcd, or what stands in it, cannot be used.
            CannotListen: an address is not to be had.
        """
        configuration = self._configuration
        try:
            await self._reception.bind()
            async with trio.open_nursery() as nursery:
                self._etcd = EtcdClient(configuration.addresses, CALL_TIMEOUT_S, nursery)
                self._lease = Lease(self._etcd, configuration.lease_ttl_s)
                self._ownership = Ownership(self._etcd, self._keys, SHARD, self._node_id)
                listeners = await trio.open_tcp_listeners(configuration.link_port, host=configuration.link_host)
                link_port = listeners[0].socket.getsockname()[1]
                await self._join(link_port)
                self._is_lease_sure = True
                nursery.start_soon(trio.serve_listeners, self._clients.serve_link, listeners)
                nursery.start_soon(self._keep_lease, link_port)
                nursery.start_soon(self._report, link_port)
                nursery.start_soon(self._watch, self._keys.nodes, True)
                nursery.start_soon(self._watch, self._keys.owner(SHARD), False)
                nursery.start_soon(self._turns.run)
                nursery.start_soon(serve_control, self._control(), self._folder)
                async with trio.open_nursery() as accepting:
                    accepting.start_soon(self._reception.run, nursery)
                    self._reception.listen()
                    task_status.started(self.endpoints)
                    await self._take_part()
                    accepting.cancel_scope.cancel()  # before the listeners are closed, which it would trip over
                self._reception.stop_listening()
                await self._lease.revoke()
                nursery.cancel_scope.cancel()
        finally:
            self._reception.stop_listening()

    def shut_down(self) -> None:
        """Begin the end: an owner hands the broker over, then ``run`` returns."""
        self._ending.set()
        self._known.tell()

    async def step_down(self) -> str:
        """Hand the broker over to another node, and stay as a door; returns once this node has let it go.

        Returns:
            The name of this node.

        Raises:
            AdministrationError: it is not the owner, or there is nobody else.
        """
        name = self._configuration.node_name
        if not self._known.is_owner:
            raise AdministrationError(f"node '{name}' does not own the broker{self._where_the_owner_is()}")
        if len(self._known.nodes) < 2:
            raise AdministrationError(f"node '{name}' is the only one: start another one first")
        self._stands_back_until_s = trio.current_time() + self._configuration.lease_ttl_s
        self._stepping_down.set()
        await self._released.wait()
        return name

    async def overview(self) -> ClusterOverview:
        """What there is of the cluster.

        Raises:
            AdministrationError: etcd does not answer.
        """
        quota_bytes = self._settings.etcd_quota_bytes
        try:
            return await overview(self._etcd, self._keys, self._configuration, SHARD, quota_bytes)
        except (EtcdUnavailable, EtcdRefused) as error:
            raise AdministrationError(str(error)) from error

    def _where_the_owner_is(self) -> str:
        owner = self._known.owner
        return f": ask node '{owner.name}'" if owner is not None else ", and no node does now"

    def _broker(self) -> Broker:
        """For the control socket: the broker, at its owner."""
        if self._known.server is None:
            name = self._configuration.node_name
            raise AdministrationError(f"node '{name}' does not own the broker{self._where_the_owner_is()}")
        return self._known.server.broker

    def _status(self) -> ServerStatus:
        server = self._known.server
        if server is None:
            raise AdministrationError(f"node '{self._configuration.node_name}' does not own the broker")
        status = server_status(server)
        status["listeners"] = [f"{endpoint.url} ({endpoint})" for endpoint in self.endpoints]
        status["ports"] = ports_of(self.endpoints)
        status["data_folder"] = f"etcd, cluster '{self._configuration.cluster}'"
        return status

    def reload_certificates(self) -> None:
        """Read the certificates again, for connections to come."""
        self._reception.reload_certificates()

    async def _end(self) -> None:
        self.shut_down()

    def _control(self) -> Control:
        return Control(
            self._broker,
            self._status,
            {"cluster.status": self.overview, "cluster.step-down": self.step_down, "broker.end": self._end},
        )

    async def _join(self, link_port: int) -> None:
        """Wait until etcd answers, because all may be starting together, see that it can be used, and be there.

        Where the nodes look after etcd, it answers only when most of them have started.
        """
        give_up_s = trio.current_time() + JOIN_TIMEOUT_S
        while True:
            try:
                await check_etcd(self._etcd, self._keys)
                await self._lease.grant()
                await self._register(link_port)
                return
            except EtcdRefused as error:
                if not error.is_out_of_space or trio.current_time() > give_up_s:
                    raise CannotJoin(f"etcd refuses this node: {error}") from error
                log_event(logging.WARNING, "waiting for etcd", reason=str(error))
                await self._reclaim_space()
                await trio.sleep(1)
            except EtcdUnavailable as error:
                if trio.current_time() > give_up_s and not self._configuration.members:
                    raise CannotJoin(f"{error}: is etcd running, and is the setting cluster right?") from error
                log_event(logging.WARNING, "waiting for etcd", reason=str(error))
                await trio.sleep(1)

    async def _register(self, link_port: int) -> None:
        """Say that this node is there, and what it uses of its machine."""
        configuration = self._configuration
        uses = await trio.to_thread.run_sync(measured, self._limits, self._memory, self._folder)
        uses |= {"sockets_used": self._clients.count()[0], "os_pid": os.getpid(), "processors": os.cpu_count() or 1}
        node = Node(
            self._node_id,
            configuration.node_name,
            configuration.link_host,
            link_port,
            __version__,
            self._started_s,
            {
                **uses,
                "sockets_used": self._clients.count()[0],
                "os_pid": os.getpid(),
                "processors": os.cpu_count() or 1,
            },
        )
        operations = [messages.put(self._keys.node(self._node_id).encode(), node.encode(), self._lease.number)]
        await self._etcd.call(messages.TRANSACTION, messages.transaction_request([], operations))

    async def _report(self, link_port: int) -> None:
        """Say again and again how this node is, for administrators."""
        while True:
            await trio.sleep(REPORT_S)
            if self._lease.number:
                with suppress(EtcdUnavailable, EtcdRefused):
                    await self._register(link_port)

    def _other_nodes(self) -> list[OtherNode]:
        others = [node for node in self._known.nodes.values() if node.node_id != self._node_id]
        return [
            OtherNode(one.name, one.version, one.started_s, one.uses)
            for one in sorted(others, key=lambda one: one.name)
        ]

    async def _keep_lease(self, link_port: int) -> None:
        while True:
            await self._lease.keep_alive()
            self._is_lease_sure = False
            log_event(logging.WARNING, "lease lost", node=self._configuration.node_name)
            while self._lease.number == 0:
                try:
                    await self._lease.grant()
                    await self._register(link_port)
                except (EtcdUnavailable, EtcdRefused) as error:
                    self._lease.number = 0
                    await self._reclaim_space_after(error)
                    await trio.sleep(PAUSE_S)
            await self._resume()

    async def _reclaim_space_after(self, error: EtcdUnavailable | EtcdRefused) -> None:
        """Where etcd has refused something because it is full, see to it, or nobody could own the broker."""
        if isinstance(error, EtcdRefused) and error.is_out_of_space:
            await self._reclaim_space()

    async def _reclaim_space(self) -> None:
        if trio.current_time() < self._no_space_until_s:
            return
        self._no_space_until_s = trio.current_time() + SPACE_PAUSE_S
        with suppress(EtcdUnavailable, EtcdRefused):
            if await reclaim_space(self._etcd, self._configuration.addresses, self._settings.etcd_quota_bytes):
                self._no_space_until_s = 0.0

    async def _resume(self) -> None:
        """Take the shard back if it was this node's and nobody had it since."""
        while self._store is not None:
            try:
                epoch = await self._ownership.resume(self._lease.number)
            except (EtcdUnavailable, EtcdRefused) as error:
                await self._reclaim_space_after(error)
                await trio.sleep(PAUSE_S)
                continue
            if epoch is None or self._store is None:
                self._lose("another node has taken over")
            else:
                self._store.resume(epoch)
                log_event(logging.WARNING, "ownership resumed", node=self._configuration.node_name, epoch=epoch)
            break
        self._is_lease_sure = True

    def _lose(self, reason: str) -> None:
        if self._store is not None:
            log_event(logging.ERROR, "ownership lost", node=self._configuration.node_name, reason=reason)
            self._store.give_up()
            self._lost.set()

    # --- who is there

    async def _watch(self, key: str, has_prefix: bool) -> None:
        """Follow what stands under a key or prefix; begins again whenever etcd's member is lost."""
        first, end = key.encode(), messages.prefix_end(key.encode()) if has_prefix else b""
        while True:
            try:
                found = messages.RangeAnswer.read(
                    await self._etcd.call(messages.RANGE, messages.range_request(first, end))
                )
                if has_prefix:
                    self._known.nodes.clear()
                else:
                    self._known.claim = b""
                for entry in found.entries:
                    self._note(entry.key.decode(), entry.value)
                self._known.tell()
                request = messages.watch_request(first, end, start_revision=found.revision + 1)
                async with self._etcd.stream(messages.WATCH, request) as answers:
                    async for answer in answers:
                        if not isinstance(answer, Answer) or not self._note_events(answer.message):
                            break
            except (EtcdUnavailable, EtcdRefused):
                pass
            await trio.sleep(PAUSE_S)

    def _note_events(self, message: bytes) -> bool:
        """Take in what a watch has told; returns whether it goes on."""
        answer = messages.WatchAnswer.read(message)
        for event in answer.events:
            self._note(event.entry.key.decode(), b"" if event.is_delete else event.entry.value)
        if answer.events:
            self._known.tell()
        return not answer.cancelled

    def _note(self, key: str, value: bytes) -> None:
        if key == self._keys.owner(SHARD):
            self._known.claim = value
            if self._store is not None and value and value != self._ownership.claim:
                self._lose("another node has taken over")
            if value:
                self._clients.end_links_to_others(owner_in(value))
        elif key.startswith(self._keys.nodes):
            node_id = key.removeprefix(self._keys.nodes)
            self._known.nodes.pop(node_id, None)
            if value:
                with suppress(BadKey):
                    self._known.nodes[node_id] = Node.decode(value)

    # --- owning

    async def _take_part(self) -> None:
        """Wait for a turn with the journal at hand, and own the shard when it has come; until the end."""
        await trio.to_thread.run_sync(remove_folder, self._copies)  # of an earlier life
        async with trio.open_nursery() as nursery:
            while not self._ending.is_set():
                standby = Standby(self._configuration, self._keys.shard(SHARD), self._copies)
                nursery.start_soon(standby.run)
                epoch = await self._win(standby)
                if epoch is not None:
                    await self._own(epoch, standby)
                standby.stop()

    async def _win(self, standby: Standby) -> int | None:
        """Campaign while nobody owns the shard; returns the epoch once that is won, or None at the node's end."""
        while not self._ending.is_set():
            changed = self._known.changed
            epoch = None
            if not self._known.claim or owner_in(self._known.claim) == self._node_id:
                epoch = await self._campaign(standby)
            if epoch is not None:
                return epoch
            if not self._known.claim:
                await trio.sleep(PAUSE_S)
            else:
                await changed.wait()
        return None

    async def _campaign(self, standby: Standby) -> int | None:
        """Try to become the owner, after those who are to try before; who lacks the journal lets all others try."""
        if not self._known.claim:
            stand_back_s = self._stands_back_until_s - trio.current_time()
            await trio.sleep(max(STAGGER_S * self._place_in_line(), stand_back_s))
            with trio.move_on_after(STAGGER_S * len(self._known.nodes)):
                await standby.following.wait()
        if self._known.claim and owner_in(self._known.claim) != self._node_id:
            return None
        try:
            if self._known.claim:  # a claim of this node that nobody answered for, and that came late
                await self._ownership.disown(self._known.claim)
            return await self._ownership.campaign(self._lease.number)
        except (EtcdUnavailable, EtcdRefused) as error:
            await self._reclaim_space_after(error)
            return None

    def _place_in_line(self) -> int:
        """How many others should try first."""
        nodes = {self._node_id, *self._known.nodes}
        return candidates(self._keys.prefix, {SHARD: None}, nodes)[SHARD].index(self._node_id)

    async def _disown(self, claim: bytes) -> None:
        await self._ownership.disown(claim)

    async def _own(self, epoch: int, standby: Standby) -> None:
        """Serve the broker until the ownership or the node ends."""
        self._lost, self._stepping_down, self._released = trio.Event(), trio.Event(), trio.Event()
        members = blocking_members(self._configuration.addresses, CALL_TIMEOUT_S)
        store = self._store = EtcdStore(members, self._keys.shard(SHARD), self._keys.owner(SHARD), epoch)
        server = BrokerServer(self._settings, output_gate=self)
        upkeep = Upkeep(self._etcd, store, self._settings.etcd_quota_bytes, self._reclaim_space)
        server.is_store_low = lambda: upkeep.is_low
        server.node_name, server.other_nodes = self._configuration.node_name, self._other_nodes
        if self._administration is not None:
            server.speak_http(self._administration(server))
        began_s = time.monotonic()
        log_event(logging.INFO, "taking over", node=self._configuration.node_name, epoch=epoch)
        try:
            copies = await standby.hand_over(epoch)
            with without_collections():
                journal = await trio.to_thread.run_sync(self._read_journal, store, server, copies)
            upkeep.live_bytes = lambda: journal.disk_bytes
            log_event(
                logging.INFO,
                "owner",
                node=self._configuration.node_name,
                epoch=epoch,
                seconds=round(time.monotonic() - began_s, 3),
                was_standby=copies is not None,
            )
            await self._serve_broker(server, upkeep)
        except* (JournalFailed, OSError) as errors:
            reason = "; ".join(_reasons(errors))
            log_event(logging.ERROR, "ownership lost", node=self._configuration.node_name, reason=reason)
        finally:
            self._known.server = self._store = None
            store.give_up()
            self._clients.end_conversations()
            self._known.tell()
        with suppress(EtcdUnavailable, EtcdRefused):
            await self._ownership.disown(self._ownership.claim)
        self._released.set()

    def _read_journal(self, store: EtcdStore, server: BrokerServer, copies: KeptCopies | None) -> Journal:
        """In a thread: have the server go on with all that the store has, which is here, or is read now."""
        store.open()
        if copies is not None and not copies.has_names_of(store):
            log_event(logging.ERROR, "standby differs", node=self._configuration.node_name, way_out="it reads etcd")
            copies = None
        if copies is None:
            remove_folder(self._copies)
            copies = KeptCopies(RealFiles(self._copies / secrets.token_hex(4), is_direct=False))
            copies.load(store)
        files = KeptFiles(store, copies.local, f"etcd {self._keys.prefix}")
        files.adopt(copies)
        files.sweep()
        journal = cast(Journal, SegmentJournal(files, self._settings.segment_size_bytes))
        server.open(journal)
        return journal

    async def _serve_broker(self, server: BrokerServer, upkeep: Upkeep) -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(server.serve)
            nursery.start_soon(upkeep.run)
            nursery.start_soon(self._ask_others_while_silent)
            self._known.server = server
            self._known.tell()
            for event in (self._ending, self._stepping_down):
                nursery.start_soon(self._shut_down_after, event, server)
            await self._wait_for_end(server)
            self._known.server = None
            nursery.cancel_scope.cancel()

    async def _ask_others_while_silent(self) -> None:
        """Where etcd cannot be reached, another node may own the broker by now: it says so, and clients go there."""
        while True:
            await trio.sleep(ASK_PAUSE_S)
            if not self.is_open():
                for node in list(self._known.nodes.values()):
                    if node.node_id != self._node_id and await door.is_owner(self._caller, node, shard=SHARD):
                        self._lose(f"node '{node.name}' has taken over")
                        return

    async def _shut_down_after(self, event: trio.Event, server: BrokerServer) -> None:
        await event.wait()
        server.shut_down()
        await trio.sleep(self._settings.shutdown_grace_ms / 1000 + LAST_WRITES_S)
        self._lose("etcd did not take the last writes in time")

    async def _wait_for_end(self, server: BrokerServer) -> None:
        """Until the ownership is lost, or the server has said goodbye to its clients."""
        async with trio.open_nursery() as nursery:

            async def wait(event: trio.Event) -> None:
                await event.wait()
                nursery.cancel_scope.cancel()

            nursery.start_soon(wait, self._lost)
            nursery.start_soon(wait, server.ended)


def _reasons(errors: BaseExceptionGroup[BaseException]) -> Iterator[str]:
    """Why, of all that are in a group."""
    for error in errors.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _reasons(error)
        else:
            yield system_reason(error) if isinstance(error, OSError) else str(error)
