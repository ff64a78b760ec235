"""A broker on the network: the domain, its timers, its listeners and one pump for each client, put together.

Holds the start and the end. Does not decide where to listen or how to log (``settings``), nor what signals mean
(``cli/serving.py``). Nothing here is global: several servers run in one process, each in a nursery of its own.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import trio

from amqp_broker.access.client import Peer
from amqp_broker.broker.broker import Broker
from amqp_broker.broker.ports import Clock
from amqp_broker.journal.port import Journal, Progress
from amqp_broker.logs import log_event, log_internal_error
from amqp_broker.network.connection_log import ConnectionLog
from amqp_broker.network.listeners import AMQP, FOR_ADMINISTRATORS, Endpoint
from amqp_broker.network.pump import Beginning, Outbox, OutputGate, Pump
from amqp_broker.network.turns import Turns
from amqp_broker.network.wake_up import WakeUp
from amqp_broker.server.clock import SystemClock
from amqp_broker.server.control import Control, serve_control
from amqp_broker.server.driver import ServerDriver
from amqp_broker.server.federation.supervisor import Federation
from amqp_broker.server.journal_flusher import JournalFlusher
from amqp_broker.server.log_lines import LogLines
from amqp_broker.server.long_works import finish_what_is_held, go_on_with_works
from amqp_broker.server.memory_limit import available_memory
from amqp_broker.server.operations import Operations
from amqp_broker.server.page_reader import read_pages
from amqp_broker.server.password_checks import PasswordChecks
from amqp_broker.server.protocols import PROTOCOLS, ClientConnection, MakeConnection, amqp10_connection
from amqp_broker.server.reception import Reception, Serve
from amqp_broker.server.resources import ResourceLimits, StoreStatus, watch_resources, with_memory_limits
from amqp_broker.server.shovels.supervisor import COMPONENT as SHOVEL
from amqp_broker.server.shovels.supervisor import Shovels
from amqp_broker.server.stalled import shed_stalled
from amqp_broker.server.status import server_status
from amqp_broker.server.sync_times import SyncTimes
from amqp_broker.server.timers import run_timers
from amqp_broker.server.trace_writer import FOLDER_NAME, write_traces
from amqp_broker.settings import Settings

if TYPE_CHECKING:
    from amqp_broker.server.other_nodes import OtherNode
    from amqp_broker.server.plugins import Plugins


class BrokerServer:
    """One broker and the clients that are connected to it.

    ::

        server = BrokerServer(settings)
        async with trio.open_nursery() as nursery:
            endpoints = await nursery.start(server.run)
            ...
            server.shut_down()

    Args:
        settings: where to listen, limits and defaults.
        clock: the broker's time; the machine's when left out.
        broker: what to serve, open, where somebody else sees to its journal; one of the server's own when left out.
        driver: that broker's.
        output_gate: whether clients may be spoken to; None where they always may.
        until_shared: returns when other nodes know what administrators have changed; None where none has to.
    """

    protocols: ClassVar[Mapping[str, MakeConnection]] = PROTOCOLS  # a broker in a test has its own connections

    def __init__(
        self,
        settings: Settings,
        clock: Clock | None = None,
        broker: Broker | None = None,
        driver: ServerDriver | None = None,
        output_gate: OutputGate | None = None,
        until_shared: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.memory = available_memory()
        self.until_shared = until_shared or _shared_with_nobody
        self.chosen_settings = settings
        self.settings = with_memory_limits(settings, self.memory)
        self.limits = ResourceLimits(self.settings, self.memory.size_bytes)
        self._own_log_lines = LogLines()
        self.log_lines = self._own_log_lines  # or those of the node, which has them before it owns a broker, and after
        self.started_s = self.ending_since_s = time.monotonic()
        self._clock = clock or SystemClock()
        self._broker = broker
        self.shovels = Shovels(self._serve_itself)
        self.federation = Federation(self._serve_itself)
        self.serve_elsewhere: Callable[[str], Serve | None] = _serve_nowhere_else  # what is in a virtual host
        if broker is not None:
            self._carry_for(broker)
        self._driver = driver or ServerDriver()
        self._journal: Journal | None = None
        self._flusher: JournalFlusher | None = None
        self.store_status: Callable[[], StoreStatus | None] = lambda: None
        self._connections: set[ClientConnection] = set()
        self._outbox = Outbox(output_gate)
        self._turns = Turns()
        self._plugin_protocols: Mapping[str, MakeConnection] = {}
        self._reception = Reception(self.settings, self._turns, self.serve_stream, self._count_clients)
        self.accepting: Callable[[], Sequence[Endpoint]] = lambda: self._reception.endpoints  # where clients come in
        self.connections_ended = 0
        self.control_folder: Path | None = None  # the data folder, where the command line may reach the broker
        self.data_folder: Path | None = None  # whose disk is told of, where the command line reaches another
        self.traces_within: Path | None = None  # the folder that has the one of traces, where that is another
        self.plugin_folder: Path | None = None  # the one that holds which plugins are chosen, where that is another
        self.node_name = "localhost"  # how administrators are told that this node is called
        self.other_nodes: Callable[[], Sequence[OtherNode]] = tuple  # of the same broker
        self.cluster_name_elsewhere: Callable[[], str] = str  # that administrators gave it; empty: this broker knows it
        self._plugins: Plugins | None = None
        self._serve_http: Serve | None = None
        self._http_clients = 0
        self._nursery: trio.Nursery | None = None  # while clients are served
        self._shutdown_requested = trio.Event()
        self._grace_s = settings.shutdown_grace_ms / 1000
        self._all_gone = trio.Event()
        self.ended = trio.Event()  # nobody is served any more

    @property
    def broker(self) -> Broker:
        """The broker; without a call of ``open`` before, one that keeps nothing."""
        if self._broker is None:
            self._broker = self._new_broker()
            self._broker.open()
        return self._broker

    def _new_broker(self) -> Broker:
        broker = Broker(self.settings, self._clock, self._driver)
        self._carry_for(broker)
        return broker

    def _carry_for(self, broker: Broker) -> None:
        """Be what the broker's parameters of shovels and federation concern."""
        broker.components.register(SHOVEL, self.shovels)
        self.federation.register(broker)

    def open(self, journal: Journal, progress: Progress | None = None) -> None:
        """Read a journal, and keep in it from now on. To be called before ``run``.

        Args:
            progress: called now and then with the bytes read so far and the bytes there are.

        Raises:
            JournalDamaged, FormatNotSupported: the journal cannot be read.
        """
        self._broker = self._new_broker()
        self._broker.open(journal, progress)
        self._journal = journal
        self._flusher = self._driver.flusher = JournalFlusher(self._broker, journal, self.settings, self._outbox)
        if journal.torn_tail is not None:
            torn = journal.torn_tail
            log_event(logging.WARNING, "journal cut", file=torn.file, offset=torn.offset, cut_bytes=torn.cut_bytes)
        if self._broker.dropped_message_count:
            log_event(
                logging.WARNING,
                "messages dropped",
                count=self._broker.dropped_message_count,
                reason="their queues are gone",
            )

    def speak_http(self, serve: Serve) -> None:
        """Let somebody serve the administrators (``management/``). To be called before ``bind``."""
        self._serve_http = serve
        self._reception.is_http_served = True

    def in_background(self, task: Callable[[], Awaitable[None]]) -> None:
        """Have a task run as long as clients are served; one that fails is logged, and ends nothing else."""
        assert self._nursery is not None, "nobody is served"
        self._nursery.start_soon(_logged, task)

    async def bind(self) -> None:
        """Take the addresses, so that nobody else can; clients cannot connect yet.

        Raises:
            CannotListen: an address is not to be had.
            BadCertificate: the certificates for TLS cannot be used.
        """
        await self._reception.bind()

    def listen(self) -> None:
        """Let clients connect; they are answered as soon as ``run`` runs.

        Raises:
            CannotListen: another process took an address in the meantime.
        """
        self._reception.listen()

    async def run(self, *, task_status: trio.TaskStatus[list[Endpoint]] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until ``shut_down``, then let the clients go and return. Starts with the endpoints that it listens on.

        Binds and listens first where that was not done before.

        Raises:
            CannotListen: an address is not to be had.
            JournalFailed: what should be durable could not be written; alone or in an exception group.
        """
        try:
            if not self.endpoints:
                await self.bind()
            self.listen()
            await self.serve(task_status=task_status)
        finally:
            self.stop_listening()

    async def serve(
        self,
        store_status: Callable[[], StoreStatus | None] = lambda: None,
        *,
        task_status: trio.TaskStatus[list[Endpoint]] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """The same for whoever listens itself, and hands clients over with ``serve_stream``.

        Args:
            store_status: of what keeps the journal, where that is not this machine's disk.

        Raises:
            CannotAskBackend: a back end that the settings name cannot be used; likewise.
            CannotListen: a protocol that they name, which ``bind`` would have said.
            JournalFailed: what should be durable could not be written; alone or in an exception group.
        """
        self.store_status = store_status
        try:
            if self.settings.plugin_protocols:
                from amqp_broker.server.plugin_protocols import plugin_connections

                self._plugin_protocols = plugin_connections(self.settings)
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                self._start_tasks(nursery)
                async with trio.open_nursery() as accepting:
                    accepting.start_soon(self._reception.run, nursery)
                    task_status.started(self.endpoints)
                    await self._shutdown_requested.wait()
                    accepting.cancel_scope.cancel()
                self.stop_listening()
                await self._say_farewell()
                nursery.cancel_scope.cancel()
        finally:
            self._own_log_lines.detach()
            self.ended.set()
            if self._journal is not None:
                finish_what_is_held(self.broker)
                self.broker.durability.note_handed_out()
                self._journal.close()

    def _start_tasks(self, nursery: trio.Nursery) -> None:
        """Have all run that is done beside clients as long as they are served."""
        driver = self._driver
        if self.settings.auth_backends != ("internal",):
            from amqp_broker.server.logins.authority import make_authority

            driver.authority = make_authority(self.broker, self.settings, nursery.start_soon)
        nursery.start_soon(self._watch_plugins)
        nursery.start_soon(run_timers, self.broker, driver.earlier_deadline)
        nursery.start_soon(
            go_on_with_works, self.broker, driver.unfinished_work, self._outbox, driver.tell_what_is_kept
        )
        nursery.start_soon(self._turns.run)
        nursery.start_soon(self.shovels.run, self.broker)
        nursery.start_soon(self.federation.run, self.broker)
        watched = (self.broker, self.settings, self.limits, self._flusher, self.store_status)
        nursery.start_soon(watch_resources, *watched)
        driver.password_checks = PasswordChecks(self.broker, nursery)
        stall_timeout_ms = self.settings.output_stall_timeout_ms
        nursery.start_soon(shed_stalled, lambda: tuple(self._connections), stall_timeout_ms)
        if self.trace_folder is not None:
            driver.trace_lines = WakeUp()
            nursery.start_soon(write_traces, self.broker, self.trace_folder, driver.trace_lines)
        if self.control_folder is not None:
            self._start_control(nursery, self.control_folder)
        if self._journal is not None and self._flusher is not None:
            nursery.start_soon(self._flusher.run)
            nursery.start_soon(read_pages, self.broker, self._journal, driver.wanted_pages, self._outbox)

    def _start_control(self, nursery: trio.Nursery, folder: Path) -> None:
        """Let the command line reach the broker, with the plugins that it has chosen switched on."""
        if ((self.plugin_folder or folder) / "enabled_plugins").exists():
            self.plugins.start()
        self.log_lines.attach()
        control = Control(
            lambda: self.broker,
            partial(server_status, self),
            {"broker.end": self._end},
            lambda: self.plugins,
            until_shared=lambda broker: self.until_shared(),
            operations=Operations(self.limits, self._reception, self.log_lines),
        )
        nursery.start_soon(serve_control, control, folder)

    def shut_down(self, grace_s: float | None = None) -> None:
        """Begin the end: no new clients, ``connection.close`` 320 to each that is here; then ``run`` returns.

        Args:
            grace_s: for how long their answers are waited for; None for ``shutdown_grace_ms``.
        """
        if grace_s is not None:
            self._grace_s = grace_s
        self.ending_since_s = time.monotonic()
        self._shutdown_requested.set()

    async def _end(self) -> None:
        self.shut_down()

    def reload_certificates(self) -> None:
        """Read the certificates again, for connections to come; those that are open go on."""
        self._reception.reload_certificates()

    @property
    def plugins(self) -> Plugins:
        """What is switched on of what packages bring; loaded for who asks for it."""
        if self._plugins is None:
            from amqp_broker.server.plugins import Plugins

            assert self.control_folder is not None, "what is chosen is kept there"
            self._plugins = Plugins(self.broker, self.plugin_folder or self.control_folder)
        return self._plugins

    @property
    def enabled_plugins(self) -> list[str]:
        """The names of those that are on."""
        return [*self.broker.exchange_types.brought, *(self._plugins.names if self._plugins is not None else ())]

    @property
    def trace_folder(self) -> Path | None:
        """Where traces are written; None where there is no data folder."""
        within = self.traces_within or self.control_folder
        return None if within is None else within / FOLDER_NAME

    @property
    def sync_times(self) -> SyncTimes:
        """How long the journal's syncs took; of a broker that keeps nothing there are none."""
        return self._flusher.sync_times if self._flusher is not None else SyncTimes()

    @property
    def client_count(self) -> int:
        """How many clients are connected, whether they have logged in or not."""
        return len(self._connections)

    @property
    def arriving_count(self) -> int:
        """How many of them have not logged in yet."""
        return len(self._connections) - len(self.broker.open_connections)

    @property
    def endpoints(self) -> list[Endpoint]:
        """Where clients can connect."""
        return [endpoint for endpoint in self.accepting() if endpoint.protocol not in FOR_ADMINISTRATORS]

    @property
    def http_endpoints(self) -> list[Endpoint]:
        """Where administrators can."""
        return [endpoint for endpoint in self.accepting() if endpoint.protocol in FOR_ADMINISTRATORS]

    async def _watch_plugins(self) -> None:
        await self._driver.plugin_used.wait()
        from amqp_broker.server.plugin_watch import watch_plugins  # only who has one pays for it

        await watch_plugins(self._driver.plugins)

    @property
    def driver(self) -> ServerDriver:
        """What the broker asks things of."""
        return self._driver

    # --- clients ---------------------------------------------------------------------------------------------------

    def _count_clients(self) -> tuple[int, int]:
        http = self._http_clients  # has limits of its own, so that it keeps no other client out
        return len(self._connections) + http, len(self.broker.open_connections) + http

    async def _serve_administrator(self, stream: trio.abc.Stream, peer: Peer, protocol: str) -> None:
        assert self._serve_http is not None
        self._http_clients += 1
        try:
            await self._serve_http(stream, peer, protocol)
        except Exception as error:
            log_internal_error("HTTP", error, peer=str(peer))
        finally:
            self._http_clients -= 1
            await trio.aclose_forcefully(stream)

    async def serve_stream(
        self, stream: trio.abc.Stream, peer: Peer, protocol: str = AMQP, beginning: Beginning | None = None
    ) -> None:
        """Have one client's conversation in a protocol, from its first byte to its last.

        Args:
            beginning: what another has had of it; None where that is nothing.
        """
        if protocol in FOR_ADMINISTRATORS:
            await self._serve_administrator(stream, peer, protocol)
            return
        pump = self.make_pump(stream, self._outbox)
        try:
            make = self.protocols.get(protocol) or self._plugin_protocols[protocol]
            connection = make(self.broker, peer, pump.notify)
        except (Exception, SystemExit) as error:
            log_internal_error("connection", error, peer=str(peer))
            await trio.aclose_forcefully(stream)
            return
        self._connections.add(connection)
        served = [connection]

        def speak_other() -> tuple[ClientConnection, ConnectionLog]:
            """Have AMQP 1.0 in place of AMQP 0-9-1."""
            other = amqp10_connection(self.broker, peer, pump.notify)
            served.append(other)
            self._connections.discard(connection)
            self._connections.add(other)
            return other, ConnectionLog(str(peer), other)

        try:
            await pump.run(connection, ConnectionLog(str(peer), connection), speak_other, beginning)
        finally:
            for one in served:
                self._connections.discard(one)
                one.detach()
            self.connections_ended += 1
            if not self._connections:
                self._all_gone.set()

    async def _serve_itself(self, stream: trio.abc.Stream, peer: Peer, virtual_host: str) -> None:
        """Have the broker's own conversation about a virtual host: another server may have what is in it."""
        serve = self.serve_elsewhere(virtual_host) or self.serve_stream
        await serve(stream, peer, AMQP)

    def make_pump(self, stream: trio.abc.Stream, outbox: Outbox) -> Pump:
        """What joins a stream to its conversation; a broker in a test has its own."""
        return Pump(stream, self.settings.read_chunk_bytes, outbox, self._turns)

    async def _say_farewell(self) -> None:
        for connection in tuple(self._connections):
            try:
                connection.shut_down("shutdown")
            except (Exception, SystemExit) as error:
                log_internal_error("shutdown", error)
        if self._connections:
            self._all_gone = trio.Event()
            with trio.move_on_after(self._grace_s):
                await self._all_gone.wait()

    def stop_listening(self) -> None:
        """Give the addresses back; ``run`` does so when it ends."""
        self._reception.stop_listening()


async def _shared_with_nobody() -> None:
    pass


def _serve_nowhere_else(virtual_host: str) -> Serve | None:
    return None


async def _logged(task: Callable[[], Awaitable[None]]) -> None:
    try:
        await task()
    except Exception as error:
        log_internal_error("background task", error)
