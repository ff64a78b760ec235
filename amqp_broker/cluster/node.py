"""One node of a cluster: it owns shards and serves them, and is a door to the nodes that own the others.

Every node listens for clients and for links, holds a lease in etcd, says there who it is, and follows who else is
there. What becomes of one shard is ``shard.py``; the root, which may be the only one, has users and virtual hosts.
"""

from __future__ import annotations

import logging
import os
import secrets
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

from amqp_broker import __version__
from amqp_broker.broker.broker import Broker
from amqp_broker.broker.problems import AdministrationError
from amqp_broker.cluster.administrators import KnownShards, OneShard
from amqp_broker.cluster.clients import NodeClients
from amqp_broker.cluster.configuration import ClusterConfiguration
from amqp_broker.cluster.door import Caller
from amqp_broker.cluster.etcd_checks import CannotJoin, check_etcd
from amqp_broker.cluster.etcd_client import EtcdClient
from amqp_broker.cluster.etcd_directory import EtcdDirectory
from amqp_broker.cluster.following import follow
from amqp_broker.cluster.keys import ROOT_SHARD, BadKey, Keys, Node, namesake
from amqp_broker.cluster.known import BACKLOG_BYTES_OF, JOURNAL_BYTES, Known, KnownShard
from amqp_broker.cluster.lease import Lease
from amqp_broker.cluster.link_tls import LinkTls
from amqp_broker.cluster.members import EtcdRefused, EtcdUnavailable
from amqp_broker.cluster.overview import ClusterOverview, overview
from amqp_broker.cluster.shard import Shard, Surroundings
from amqp_broker.cluster.space import Space
from amqp_broker.cluster.standby import remove_folder
from amqp_broker.etcd import messages
from amqp_broker.explanations import system_reason
from amqp_broker.logs import Waiting, log_event
from amqp_broker.network.listeners import CannotListen, Endpoint
from amqp_broker.network.pump import OutputGate
from amqp_broker.network.turns import Turns
from amqp_broker.server.broker_server import BrokerServer
from amqp_broker.server.control import Control, serve_control
from amqp_broker.server.log_lines import LogLines
from amqp_broker.server.memory_limit import available_memory
from amqp_broker.server.operations import Operations
from amqp_broker.server.other_nodes import OtherNode, measured
from amqp_broker.server.reception import Reception, Serve
from amqp_broker.server.resources import ResourceLimits, with_memory_limits
from amqp_broker.server.sharding.arrivals import Entrance, settings_of_entrance
from amqp_broker.server.sharding.shards import Shards
from amqp_broker.server.sharding.sharing import Sharing
from amqp_broker.server.status import ServerStatus, ports_of, server_status
from amqp_broker.settings import Settings

COPIES_FOLDER_NAME: Final = "cluster"
SHARDS_FOLDER_NAME: Final = "shards"  # for traces of all but the root
CALL_TIMEOUT_S: Final = 1.0
PAUSE_S: Final = 0.1
JOIN_TIMEOUT_S: Final = 60.0  # how long a node that starts waits for an etcd that is not its own
NAMESAKE_LEASES: Final = 3  # so long, in lives of a lease, one that has died may still seem to be there
REPORT_S: Final = 5.0
COMMANDS_OF_ROOT: Final = (
    "permissions.",
    "users.",
    "vhosts.add",
    "vhosts.describe",
    "vhosts.protect",
    "vhosts.delete",
    "vhosts.list",
)
SPREAD_EVERY_S: Final = 3.0


Administration = Callable[[BrokerServer, Shards | None], Serve]  # of a server, and what it is divided into


class ClusterNode:
    """One node.

    Args:
        settings: where clients are listened to, limits and defaults.
        configuration: which cluster, and who this node is.
        folder: for the control socket, and for copies of the journal's files, worth nothing after the node's end.
        administration: serves administrators at the owner, whichever node they come to; None where nobody does.

    Raises:
        BadCertificate: those for links cannot be used.
    """

    def __init__(
        self,
        settings: Settings,
        configuration: ClusterConfiguration,
        folder: Path,
        administration: Administration | None = None,
    ) -> None:
        self._settings = settings
        self._configuration = configuration
        self._folder = folder
        self._copies = folder / COPIES_FOLDER_NAME
        self._administration = administration
        self._keys = Keys(configuration.cluster)
        self._node_id = secrets.token_hex(8)
        self._known = Known(self._node_id)
        self._root, *_ = [self._known.add_shard(number) for number in range(configuration.shards)]
        self._turns = Turns()
        self._link_tls = LinkTls(settings, self._turns) if settings.link_certificate else None
        self._caller = Caller(configuration.cluster, self._node_id, configuration.secret, self._link_tls)
        self._clients = NodeClients(settings, self._known, self._caller, self._disown, self._is_open)
        self._shards: dict[int, Shard] = {}
        self._sharing: Sharing | None = None  # where there are several
        self._cluster_name = ""  # that administrators gave the broker, as an owner has told; empty: none has
        self._etcd: EtcdClient
        self._lease: Lease
        self._space: Space
        self._memory = available_memory()
        self._limits = ResourceLimits(with_memory_limits(settings, self._memory), self._memory.size_bytes)
        self._log_lines = LogLines()
        self._started_s = int(time.time())
        self._reception = Reception(settings, self._turns, self._clients.serve, self._clients.count)
        self._reception.is_http_served = administration is not None
        self._ending = trio.Event()
        self._waiting = Waiting("waiting for etcd", "etcd answers")

    # --- what others may ask

    @property
    def endpoints(self) -> list[Endpoint]:
        """Where clients can connect."""
        return self._reception.endpoints

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
                self._space = Space(self._etcd, configuration.addresses, self._settings.etcd_quota_bytes)
                listeners = await self._listen_for_links()
                link_port = listeners[0].socket.getsockname()[1]
                await self._join(link_port)
                self._make_shards(nursery)
                nursery.start_soon(trio.serve_listeners, self._clients.serve_link, listeners)
                nursery.start_soon(self._keep_lease, link_port)
                nursery.start_soon(self._report, link_port)
                nursery.start_soon(self._follow_nodes)
                nursery.start_soon(self._clients.look_nodes_up)
                for shard in self._shards.values():
                    nursery.start_soon(shard.follow)
                    nursery.start_soon(self._clients.watch_owner, self._known.shards[shard.number])
                nursery.start_soon(self._turns.run)
                self._log_lines.attach()
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
            self._log_lines.detach()
            self._reception.stop_listening()

    async def _listen_for_links(self) -> list[trio.SocketListener]:
        host, port = self._configuration.link_host, self._configuration.link_port
        try:
            return await trio.open_tcp_listeners(port, host=host)
        except OSError as error:
            text = f"cannot listen for other nodes on {host}, port {port}: {system_reason(error)}"
            raise CannotListen(f"{text}: choose another with link_host and link_port") from error

    def shut_down(self) -> None:
        """Begin the end: what this node owns is handed over, then ``run`` returns."""
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
        owned = [self._shards[number] for number, known in self._known.shards.items() if known.is_owner]
        if not owned:
            raise self._not_the_owner(self._root)
        if len(self._known.nodes) < 2:
            raise AdministrationError(f"node '{name}' is the only one: start another one first")
        try:
            await self._etcd.call(messages.RANGE, messages.range_request(self._keys.format.encode()))
        except (EtcdUnavailable, EtcdRefused) as error:
            raise AdministrationError(f"no other node could take over now: {error}") from error
        async with trio.open_nursery() as nursery:
            for shard in owned:
                nursery.start_soon(shard.step_down)
        return name

    async def overview(self) -> ClusterOverview:
        """What there is of the cluster.

        Raises:
            AdministrationError: etcd does not answer.
        """
        quota_bytes = self._settings.etcd_quota_bytes
        try:
            places = self._sharing.directory.places if self._sharing is not None else {}
            shards = {name: place.shard for name, place in places.items()}
            backlogs = self._known.backlog_bytes
            return await overview(self._etcd, self._keys, self._configuration, quota_bytes, shards, backlogs)
        except EtcdRefused as error:
            raise AdministrationError(f"etcd refuses: {error}") from error
        except EtcdUnavailable as error:
            owner = self._root.owner
            before = f"; node '{owner.name}' owned the broker when it did last" if owner is not None else ""
            text = "until a majority of them does, nothing is confirmed or delivered, and no node can take over"
            raise AdministrationError(f"{error}: {text}{before}") from error

    def _not_the_owner(self, shard: KnownShard, of: str = "the broker") -> AdministrationError:
        """What a command is told that only the owner of a shard can do: who that is."""
        if shard.owner is None:
            where = ", and no node does now"
        elif shard.is_claimed_here:
            where = " yet: it is taking over, try again in some seconds"
        elif self._known.is_life_before(shard.owner):
            where = " yet, but did before it was started again: its lease has to end first; try again in some seconds"
        else:
            where = f": ask node '{shard.owner.name}'"
        return AdministrationError(f"node '{self._configuration.node_name}' does not own {of}{where}")

    def _broker(self) -> Broker:
        """For the control socket: the broker, at its owner."""
        if self._root.server is None:
            raise self._not_the_owner(self._root)
        return self._root.server.broker

    def _broker_for(self, command: str, arguments: Mapping[str, Any]) -> Broker:
        """The same, at the owner of the virtual host that a command is about."""
        shard = ROOT_SHARD
        if self._sharing is not None and not command.startswith(COMMANDS_OF_ROOT):
            argument = "name" if command.startswith("vhosts.") else "vhost"
            shard = self._sharing.directory.shard_of(str(arguments.get(argument, "")))
        if shard == ROOT_SHARD:
            return self._broker()
        known = self._known.shards[shard]
        if known.server is None:
            raise self._not_the_owner(known, "that virtual host")
        return known.server.broker

    async def _until_shared(self, broker: Broker) -> None:
        root = self._root.server
        if root is not None and root.broker is broker:
            await root.until_shared()

    def _while_served(self, broker: Broker) -> AbstractContextManager[trio.CancelScope]:
        """Of a command: it is let go as clients are when this node owns the shard no more."""
        for number, known in self._known.shards.items():
            if known.server is not None and known.server.broker is broker:
                return self._clients.conversation(number)
        raise AdministrationError(f"node '{self._configuration.node_name}' does not own the broker any more")

    def _status(self) -> ServerStatus:
        server = self._root.server
        if server is None:
            raise self._not_the_owner(self._root)
        status = server_status(server)
        status["listeners"] = [f"{endpoint.url} ({endpoint})" for endpoint in self.endpoints]
        status["ports"] = ports_of(self.endpoints)
        status["data_folder"] = f"etcd, cluster '{self._configuration.cluster}'"
        return status

    def reload_certificates(self) -> None:
        """Read the certificates again, for connections and links to come."""
        self._reception.reload_certificates()
        if self._link_tls is not None:
            self._link_tls.reload()

    async def _end(self) -> None:
        self.shut_down()

    def _control(self) -> Control:
        return Control(
            self._broker,
            self._status,
            {"cluster.status": self.overview, "cluster.step-down": self.step_down, "broker.end": self._end},
            broker_for=self._broker_for,
            until_shared=self._until_shared,
            while_served=self._while_served,
            operations=Operations(self._limits, self._reception, self._log_lines),
        )

    async def _join(self, link_port: int) -> None:
        """Wait until etcd answers, because all may be starting together, see that it can be used, and be there.

        Where the nodes look after etcd, it answers only when most of them have started.
        """
        began_s = trio.current_time()
        give_up_s = began_s + JOIN_TIMEOUT_S
        waiting_for_name = Waiting("waiting for a name", "the name is free")
        while True:
            try:
                await check_etcd(self._etcd, self._keys, self._configuration.shards)
                await self._lease.grant()
                await self._register(link_port)
                other = await self._namesake(link_port)
                self._waiting.end(trio.current_time())
                if other is None:
                    waiting_for_name.end(trio.current_time())
                    return
                await self._lease.revoke()
                text = f"node '{other.name}' is there already, at {other.link_host}:{other.link_port}"
                if trio.current_time() > began_s + NAMESAKE_LEASES * self._configuration.lease_ttl_s:
                    raise CannotJoin(f"{text}: choose another node_name")
                waiting_for_name.go_on(trio.current_time(), text)
                await trio.sleep(1)
            except EtcdRefused as error:
                if not error.is_out_of_space or trio.current_time() > give_up_s:
                    raise CannotJoin(f"etcd refuses this node: {error}") from error
                self._waiting.go_on(trio.current_time(), str(error))
                await self._space.reclaim()
                await trio.sleep(1)
            except EtcdUnavailable as error:
                if trio.current_time() > give_up_s and not self._configuration.members:
                    raise CannotJoin(f"{error}: is etcd running, and is the setting cluster right?") from error
                self._waiting.go_on(trio.current_time(), str(error))
                await trio.sleep(1)

    async def _register(self, link_port: int) -> None:
        """Say that this node is there, and what it uses of its machine."""
        configuration = self._configuration
        uses = await trio.to_thread.run_sync(measured, self._settings, self._memory, self._limits, self._folder)
        uses |= {JOURNAL_BYTES: self._known.journal_bytes}
        uses |= {f"{BACKLOG_BYTES_OF}{shard}": size for shard, size in self._known.backlog_bytes.items()}
        uses |= {"sockets_used": self._clients.count()[0], "os_pid": os.getpid(), "processors": os.cpu_count() or 1}
        node = Node(
            self._node_id,
            configuration.node_name,
            configuration.link_host,
            link_port,
            __version__,
            self._started_s,
            uses,
            self._root.server.broker.cluster_name if self._root.server is not None else "",
        )
        operations = [messages.put(self._keys.node(self._node_id).encode(), node.encode(), self._lease.number)]
        await self._etcd.call(messages.TRANSACTION, messages.transaction_request([], operations))

    async def _namesake(self, link_port: int) -> Node | None:
        """A node that has this one's name, and was there before it."""
        configuration, first = self._configuration, self._keys.nodes.encode()
        request = messages.range_request(first, messages.prefix_end(first))
        entries = messages.RangeAnswer.read(await self._etcd.call(messages.RANGE, request)).entries
        key = self._keys.node(self._node_id).encode()
        since = next((entry.create_revision for entry in entries if entry.key == key), 0)
        earlier = [entry.value for entry in entries if entry.create_revision < since]
        return namesake(earlier, configuration.node_name, (configuration.link_host, link_port))

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
        """Have a lease, always: it is renewed also while shards are taken back with it, which may take longer."""
        async with trio.open_nursery() as resuming:
            while True:
                await self._lease.keep_alive()
                for shard in self._shards.values():
                    shard.lease_lost()
                log_event(logging.WARNING, "lease lost", node=self._configuration.node_name)
                while self._lease.number == 0:
                    try:
                        await self._lease.grant()
                        await self._register(link_port)
                        self._waiting.end(trio.current_time())
                    except (EtcdUnavailable, EtcdRefused) as error:
                        self._lease.number = 0
                        if isinstance(error, EtcdUnavailable):
                            self._waiting.go_on(trio.current_time(), str(error))
                        await self._space.reclaim_after(error)
                        await trio.sleep(PAUSE_S)
                for shard in self._shards.values():
                    resuming.start_soon(shard.resume)

    # --- who is there

    async def _follow_nodes(self) -> None:
        nodes = self._keys.nodes
        await follow(self._etcd, nodes, self._note_all_nodes, self._note_node, self._known.tell, is_prefix=True)

    def _note_all_nodes(self, found: Mapping[str, bytes]) -> None:
        self._known.nodes.clear()
        for key, value in found.items():
            self._note_node(key, value)

    def _note_node(self, key: str, value: bytes) -> None:
        node_id = key.removeprefix(self._keys.nodes)
        self._known.nodes.pop(node_id, None)
        if value:
            with suppress(BadKey):
                node = self._known.nodes[node_id] = Node.decode(value)
                self._cluster_name = node.cluster_name or self._cluster_name

    # --- shards

    def _make_shards(self, nursery: trio.Nursery) -> None:
        shards: KnownShards | None = None
        if self._configuration.shards > 1:
            sharing = self._sharing = Sharing(
                EtcdDirectory(self._etcd, self._keys), self._known, self._configuration.shards
            )
            server = self._new_empty_server(settings_of_entrance(self._settings))
            server.other_nodes = self._other_nodes
            entrance = Entrance(server)
            shards = KnownShards(self._known, sharing, entrance, self._caller)
            if self._administration is not None:
                server.speak_http(self._administration(server, shards))
            nursery.start_soon(sharing.follow)
            nursery.start_soon(server.serve)
            nursery.start_soon(self._spread_shards)
            self._clients.divide(sharing, entrance)
        elif self._administration is not None:
            server = self._new_empty_server(
                replace(self._settings, auth_backends=("internal",), plugin_protocols=())  # nobody logs in
            )
            server.speak_http(self._administration(server, OneShard(self._known, self._caller)))
            nursery.start_soon(server.serve)
            self._clients.tell_of_this_node(server.serve_stream)
        here = Surroundings(
            self._settings,
            self._configuration,
            self._keys,
            self._known,
            self._caller,
            self._clients,
            self._new_server,
            self._etcd,
            self._lease,
            self._space,
            self._copies,
            self._ending,
            self._sharing,
            shards,
        )
        self._shards = {number: Shard(known, here) for number, known in self._known.shards.items()}

    def _new_empty_server(self, settings: Settings) -> BrokerServer:
        """One without a journal, for what a node says whether it owns anything or not."""
        server = BrokerServer(settings)
        server.node_name, server.limits = self._configuration.node_name, self._limits
        server.log_lines, server.data_folder = self._log_lines, self._folder
        server.cluster_name_elsewhere = lambda: self._cluster_name
        return server

    def _new_server(self, gate: OutputGate, shard: int) -> BrokerServer:
        sharing = self._sharing if shard == ROOT_SHARD else None  # others may outlive the root, and share nothing
        until_shared = sharing.until_shared if sharing is not None else None
        # The loop writes what waits when a shard ends, and renews the lease of all: it must not take two seconds.
        settings = replace(self._settings, journal_unawaited_bytes_max=0)
        server = BrokerServer(settings, output_gate=gate, until_shared=until_shared)
        server.accepting = lambda: self._reception.endpoints
        server.node_name, server.other_nodes = self._configuration.node_name, self._other_nodes
        server.limits, server.log_lines, server.data_folder = self._limits, self._log_lines, self._folder
        server.traces_within = self._folder if shard == ROOT_SHARD else self._folder / SHARDS_FOLDER_NAME / str(shard)
        if shard != ROOT_SHARD:
            server.cluster_name_elsewhere = lambda: self._cluster_name
        server.serve_elsewhere = partial(self._serve_elsewhere, shard)
        if self._administration is not None:
            server.speak_http(self._administration(server, None))
        return server

    def _serve_elsewhere(self, shard: int, virtual_host: str) -> Serve | None:
        """Who brings a shard's own connections to a virtual host of another one; all the root has is its name."""
        is_here = self._sharing is None or self._sharing.directory.is_in(virtual_host, shard)
        return None if is_here else self._clients.serve

    async def _take_part(self) -> None:
        """Have each shard taken part in, until the end."""
        await trio.to_thread.run_sync(remove_folder, self._copies)  # of an earlier life
        async with trio.open_nursery() as nursery:
            for shard in self._shards.values():
                nursery.start_soon(shard.take_part)

    async def _spread_shards(self) -> None:
        """Hand over a shard without clients when another node has two less, one at a time."""
        while True:
            await trio.sleep(SPREAD_EVERY_S)
            held = Counter(owner for owner in self._known.owners.values() if owner is not None)
            least = min((held[node_id] for node_id in self._known.nodes), default=0)
            for number, known in reversed(self._known.shards.items()):
                if held[self._node_id] - least < 2 or known.server is None or known.server.client_count:
                    continue
                log_event(logging.INFO, "shard handed over", node=self._configuration.node_name, shard=number)
                await self._shards[number].step_down()
                break

    async def _disown(self, shard: int, claim: bytes) -> None:
        await self._shards[shard].disown(claim)

    def _is_open(self, shard: int) -> bool:
        return self._shards[shard].is_open()
