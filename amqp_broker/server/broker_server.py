"""A broker on the network: the domain, its timers, its listeners and one pump for each client, put together.

Holds the start and the end. Does not decide where to listen or how to log (``settings``), nor what signals mean
(``cli/serve.py``). Nothing here is global: several servers run in one process, each in a nursery of its own.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import ClassVar

import trio

from amqp_broker.access.client import Peer
from amqp_broker.broker.broker import Broker
from amqp_broker.broker.ports import Clock
from amqp_broker.journal.port import Journal, Progress
from amqp_broker.logs import log_event, log_internal_error
from amqp_broker.network.connection_log import ConnectionLog
from amqp_broker.network.listeners import AMQP, Endpoint, Listener, accept_forever, bind, listen
from amqp_broker.network.proxy_protocol import BadProxyHeader, read_proxy_header
from amqp_broker.network.pump import Outbox, Pump
from amqp_broker.network.socket_stream import SocketStream, keep_alive
from amqp_broker.network.tls import NoTls, SentNothing, TlsContext, TlsStream, name_in
from amqp_broker.network.turns import Turns
from amqp_broker.server.clock import SystemClock
from amqp_broker.server.control import serve_control
from amqp_broker.server.descriptors import connections_that_fit
from amqp_broker.server.driver import ServerDriver
from amqp_broker.server.journal_flusher import JournalFlusher
from amqp_broker.server.long_works import go_on_with_works
from amqp_broker.server.memory_limit import available_memory
from amqp_broker.server.page_reader import read_pages
from amqp_broker.server.password_checks import PasswordChecks
from amqp_broker.server.protocols import PROTOCOLS, ClientConnection, MakeConnection
from amqp_broker.server.resources import watch_resources, with_memory_limits
from amqp_broker.server.stalled import shed_stalled
from amqp_broker.server.status import server_status
from amqp_broker.server.timers import run_timers
from amqp_broker.settings import Settings

TLS_HANDSHAKE_S = 0.001  # about what it takes to sign for one; a storm of them is spread over rounds of the loop


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
    """

    protocols: ClassVar[Mapping[str, MakeConnection]] = PROTOCOLS  # a broker in a test has its own connections

    def __init__(
        self,
        settings: Settings,
        clock: Clock | None = None,
        broker: Broker | None = None,
        driver: ServerDriver | None = None,
    ) -> None:
        self.memory = available_memory()
        self.settings = with_memory_limits(settings, self.memory)
        self.started_s = self.ending_since_s = time.monotonic()
        self._clock = clock or SystemClock()
        self._broker = broker
        self._driver = driver or ServerDriver()
        self._journal: Journal | None = None
        self._flusher: JournalFlusher | None = None
        self._listeners: list[Listener] = []
        self._connections: set[ClientConnection] = set()
        self._outbox = Outbox()
        self._turns = Turns()
        self.connections_ended = 0
        self.control_folder: Path | None = None  # the data folder, where the command line may reach the broker
        self._is_refusing = False
        self._tls: TlsContext | None = None
        self._tls_handshakes = trio.CapacityLimiter(settings.tls_handshakes_max)
        self._arriving = 0  # clients whose task has not begun yet
        self._welcoming = 0  # clients whose PROXY header or TLS handshake is awaited
        self._shutdown_requested = trio.Event()
        self._all_gone = trio.Event()

    @property
    def broker(self) -> Broker:
        """The broker; without a call of ``open`` before, one that keeps nothing."""
        if self._broker is None:
            self._broker = Broker(self.settings, self._clock, self._driver)
            self._broker.open()
        return self._broker

    def open(self, journal: Journal, progress: Progress | None = None) -> None:
        """Read a journal, and keep in it from now on. To be called before ``run``.

        Args:
            progress: called now and then with the bytes read so far and the bytes there are.

        Raises:
            JournalDamaged, FormatNotSupported: the journal cannot be read.
        """
        self._broker = Broker(self.settings, self._clock, self._driver)
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

    async def bind(self) -> None:
        """Take the addresses, so that nobody else can; clients cannot connect yet.

        Raises:
            CannotListen: an address is not to be had.
            BadCertificate: the certificates for TLS cannot be used.
        """
        settings = self.settings
        self._tls = TlsContext(settings) if settings.tls_certificate else None
        listeners = await bind(settings.host, settings.port)
        try:
            if self._tls is not None:
                listeners += await bind(settings.host, settings.tls_port, is_tls=True)
        finally:
            self._listeners = listeners  # closed when the server ends, also when that is now

    def listen(self) -> None:
        """Let clients connect; they are answered as soon as ``run`` runs.

        Raises:
            CannotListen: another process took an address in the meantime.
        """
        listen(self._listeners)

    async def run(self, *, task_status: trio.TaskStatus[list[Endpoint]] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until ``shut_down``, then let the clients go and return. Starts with the endpoints that it listens on.

        Binds and listens first where that was not done before.

        Raises:
            CannotListen: an address is not to be had.
            JournalFailed: what should be durable could not be written; alone or in an exception group.
        """
        try:
            if not self._listeners:
                await self.bind()
            self.listen()
            driver = self._driver
            async with trio.open_nursery() as nursery:
                nursery.start_soon(run_timers, self.broker, driver.earlier_deadline)
                nursery.start_soon(go_on_with_works, self.broker, driver.unfinished_work)
                nursery.start_soon(self._turns.run)
                nursery.start_soon(watch_resources, self.broker, self.settings, self._flusher)
                driver.password_checks = PasswordChecks(self.broker, nursery)
                stall_timeout_ms = self.settings.output_stall_timeout_ms
                nursery.start_soon(shed_stalled, lambda: tuple(self._connections), stall_timeout_ms)
                if self.control_folder is not None:
                    nursery.start_soon(serve_control, self.broker, self.control_folder, partial(server_status, self))
                if self._journal is not None and self._flusher is not None:
                    nursery.start_soon(self._flusher.run)
                    nursery.start_soon(read_pages, self.broker, self._journal, driver.wanted_pages)
                async with trio.open_nursery() as accepting:
                    for listener in self._listeners:
                        accepting.start_soon(accept_forever, listener, partial(self._serve_socket, nursery, listener))
                    task_status.started(self.endpoints)
                    await self._shutdown_requested.wait()
                    accepting.cancel_scope.cancel()
                self.stop_listening()
                await self._say_farewell()
                nursery.cancel_scope.cancel()
        finally:
            self.stop_listening()
            if self._journal is not None:
                self.broker.durability.note_handed_out()
                self._journal.close()

    def shut_down(self) -> None:
        """Begin the end: no new clients, ``connection.close`` 320 to each that is here; then ``run`` returns."""
        self.ending_since_s = time.monotonic()
        self._shutdown_requested.set()

    def reload_certificates(self) -> None:
        """Read the certificates again, for connections to come; those that are open go on."""
        if self._tls is not None:
            self._tls.reload()

    @property
    def client_count(self) -> int:
        """How many clients are connected, whether they have logged in or not."""
        return len(self._connections)

    @property
    def endpoints(self) -> list[Endpoint]:
        """Where clients can connect."""
        return [listener.endpoint for listener in self._listeners]

    # --- clients ---------------------------------------------------------------------------------------------------

    def _serve_socket(self, nursery: trio.Nursery, listener: Listener, accepted: socket.socket) -> None:
        if self._refuses_more():
            accepted.close()
            return
        try:
            peer = _peer_of(accepted)
            keep_alive(accepted)
            stream = SocketStream(accepted)
        except OSError as error:  # it left before it was greeted
            log_event(logging.DEBUG, "connection failed", reason=error.strerror)
            accepted.close()
            return
        self._arriving += 1
        nursery.start_soon(self._receive_client, stream, peer, listener.endpoint)

    async def _receive_client(self, stream: SocketStream, peer: Peer, endpoint: Endpoint) -> None:
        self._arriving -= 1  # whatever comes now counts the client in its own way before it waits for anything
        if endpoint.is_tls or self.settings.proxy_protocol == "required":
            await self._welcome(stream, peer, endpoint)
        else:
            await self.serve_stream(stream, peer, endpoint.protocol)

    async def _welcome(self, transport: SocketStream, peer: Peer, endpoint: Endpoint) -> None:
        """Have all that comes before the protocol: who the load balancer speaks for, and TLS."""
        stream: trio.abc.Stream = transport
        reason, severity = "handshake timeout", logging.WARNING
        self._welcoming += 1
        try:
            with trio.move_on_after(self.settings.handshake_timeout_ms / 1000):
                if self.settings.proxy_protocol == "required":
                    peer = await read_proxy_header(transport, peer)
                if endpoint.is_tls:
                    stream, peer = await self._begin_tls(transport, peer)
                reason = ""
        except SentNothing as error:
            reason, severity = str(error), logging.DEBUG
        except (NoTls, BadProxyHeader, trio.BrokenResourceError, trio.ClosedResourceError) as error:
            reason = str(error)
        finally:
            self._welcoming -= 1
        if reason:
            log_event(severity, "connection failed", peer=str(peer), reason=reason)
            await trio.aclose_forcefully(stream)
        else:
            await self.serve_stream(stream, peer, endpoint.protocol)

    async def _begin_tls(self, transport: SocketStream, peer: Peer) -> tuple[TlsStream, Peer]:
        assert self._tls is not None
        stream = TlsStream(transport, self._tls.context)
        async with self._tls_handshakes:
            await self._turns.take(TLS_HANDSHAKE_S)
            await stream.do_handshake()
        peer = replace(peer, tls=stream.tls)
        if self.settings.tls_client_certificate != "none":
            peer = replace(peer, certificate_name=name_in(stream.certificate, self.settings.tls_login_from))
        return stream, peer

    def _refuses_more(self) -> bool:
        """Whether there is no room for one more client; said once, until there is room again."""
        there = len(self._connections) + self._welcoming + self._arriving
        unopened = there - len(self.broker.open_connections)
        reason = ""
        if there >= connections_that_fit():
            reason = f"{there} are open: raise the limit on open files (ulimit -n)"
        elif unopened >= self.settings.handshakes_max:
            reason = f"{unopened} have not logged in yet: raise handshakes_max if they mean well"
        refuses = bool(reason)
        if refuses and not self._is_refusing:
            log_event(logging.ERROR, "refusing connections", reason=reason)
        self._is_refusing = refuses
        return refuses

    async def serve_stream(self, stream: trio.abc.Stream, peer: Peer, protocol: str = AMQP) -> None:
        """Have one client's conversation in a protocol, from its first byte to its last."""
        pump = self.make_pump(stream, self._outbox)
        try:
            connection = self.protocols[protocol](self.broker, peer, pump.notify)
        except Exception as error:
            log_internal_error("connection", error, peer=str(peer))
            await trio.aclose_forcefully(stream)
            return
        self._connections.add(connection)
        try:
            await pump.run(connection, ConnectionLog(str(peer), connection))
        finally:
            self._connections.discard(connection)
            connection.detach()
            self.connections_ended += 1
            if not self._connections:
                self._all_gone.set()

    def make_pump(self, stream: trio.abc.Stream, outbox: Outbox) -> Pump:
        """What joins a stream to its conversation; a broker in a test has its own."""
        return Pump(stream, self.settings.read_chunk_bytes, outbox, self._turns)

    async def _say_farewell(self) -> None:
        for connection in tuple(self._connections):
            try:
                connection.shut_down("shutdown")
            except Exception as error:
                log_internal_error("shutdown", error)
        if self._connections:
            self._all_gone = trio.Event()
            with trio.move_on_after(self.settings.shutdown_grace_ms / 1000):
                await self._all_gone.wait()

    def stop_listening(self) -> None:
        """Give the addresses back; ``run`` does so when it ends."""
        for listener in self._listeners:
            listener.close()


def _peer_of(accepted: socket.socket) -> Peer:
    return Peer.at(*accepted.getpeername()[:2], *accepted.getsockname()[:2])
