"""A broker on the network: the domain, its timers, its listeners and one pump for each client, put together.

Holds the start and the end. Does not decide where to listen or how to log (``settings``), nor what signals mean
(``cli/serve.py``). Nothing here is global: several servers run in one process, each in a nursery of its own.
"""

from __future__ import annotations

import logging
import socket
import sys
from functools import partial
from pathlib import Path
from typing import ClassVar

import trio

from amqp_broker.broker.broker import Broker
from amqp_broker.broker.ports import Clock
from amqp_broker.journal.port import Journal, Progress
from amqp_broker.server.clock import SystemClock
from amqp_broker.server.connection_log import ConnectionLog
from amqp_broker.server.control import serve_control
from amqp_broker.server.descriptors import connections_that_fit
from amqp_broker.server.journal_flusher import JournalFlusher
from amqp_broker.server.listeners import Endpoint, Listener, accept_forever, bind, listen
from amqp_broker.server.logs import log_event, log_internal_error
from amqp_broker.server.page_reader import read_pages
from amqp_broker.server.password_checks import PasswordChecks
from amqp_broker.server.pump import Outbox, Pump
from amqp_broker.server.resources import watch_resources, with_memory_budget
from amqp_broker.server.socket_stream import SocketStream
from amqp_broker.server.timers import run_timers
from amqp_broker.session.client import Peer
from amqp_broker.session.connection import Connection
from amqp_broker.settings import Settings


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
        broker: what to serve, where somebody else sees to its journal; one of the server's own when left out.
    """

    connection_type: ClassVar[type[Connection]] = Connection  # a broker in a test has its own

    def __init__(self, settings: Settings, clock: Clock | None = None, broker: Broker | None = None) -> None:
        self.settings = with_memory_budget(settings)
        self._clock = clock or SystemClock()
        self._broker = broker
        self._journal: Journal | None = None
        self._listeners: list[Listener] = []
        self._connections: set[Connection] = set()
        self._outbox = Outbox()
        self.control_folder: Path | None = None  # the data folder, where the command line may reach the broker
        self._is_refusing = False
        self._shutdown_requested = trio.Event()
        self._all_gone = trio.Event()

    @property
    def broker(self) -> Broker:
        """The broker; without a call of ``open`` before, one that keeps nothing."""
        if self._broker is None:
            self._broker = Broker(self.settings, self._clock)
        return self._broker

    def open(self, journal: Journal, progress: Progress | None = None) -> None:
        """Read a journal, and keep in it from now on. To be called before ``run``.

        Args:
            progress: called now and then with the bytes read so far and the bytes there are.

        Raises:
            JournalDamaged, FormatNotSupported: the journal cannot be read.
        """
        self._broker = Broker(self.settings, self._clock, journal, progress)
        self._journal = journal

    async def bind(self) -> None:
        """Take the addresses, so that nobody else can; clients cannot connect yet.

        Raises:
            CannotListen: an address is not to be had.
        """
        self._listeners = await bind(self.settings.host, self.settings.port)

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
            async with trio.open_nursery() as nursery:
                nursery.start_soon(run_timers, self.broker)
                nursery.start_soon(watch_resources, self.broker, self.settings, self._journal is not None)
                PasswordChecks(self.broker, nursery)
                if self.control_folder is not None:
                    nursery.start_soon(serve_control, self.broker, self.control_folder)
                if self._journal is not None:
                    nursery.start_soon(JournalFlusher(self.broker, self._journal, self.settings).run)
                    nursery.start_soon(read_pages, self.broker, self._journal)
                async with trio.open_nursery() as accepting:
                    for listener in self._listeners:
                        accepting.start_soon(accept_forever, listener, partial(self._serve_socket, nursery))
                    task_status.started([listener.endpoint for listener in self._listeners])
                    await self._shutdown_requested.wait()
                    accepting.cancel_scope.cancel()
                self._close_listeners()
                await self._say_farewell()
                nursery.cancel_scope.cancel()
        finally:
            self._close_listeners()
            if self._journal is not None:
                self.broker.durability.note_handed_out()
                self._journal.close()

    def shut_down(self) -> None:
        """Begin the end: no new clients, ``connection.close`` 320 to each that is here; then ``run`` returns."""
        self._shutdown_requested.set()

    # --- clients ---------------------------------------------------------------------------------------------------

    def _serve_socket(self, nursery: trio.Nursery, accepted: socket.socket) -> None:
        if self._refuses_more():
            accepted.close()
            return
        try:
            peer = _peer_of(accepted)
            stream = SocketStream(accepted)
        except OSError as error:  # it left before it was greeted
            log_event(logging.DEBUG, "connection failed", reason=error.strerror)
            accepted.close()
            return
        nursery.start_soon(self.serve_stream, stream, peer)

    def _refuses_more(self) -> bool:
        """Whether there is no room for one more client; said once, until there is room again."""
        room = min(connections_that_fit(), self.settings.connections_max or sys.maxsize)
        refuses = len(self._connections) >= room
        if refuses and not self._is_refusing:
            reason = f"{room} are open: raise connections_max, or the limit on open files (ulimit -n)"
            log_event(logging.ERROR, "refusing connections", reason=reason)
        self._is_refusing = refuses
        return refuses

    async def serve_stream(self, stream: trio.abc.Stream, peer: Peer) -> None:
        """Have one client's conversation, from its first byte to its last."""
        pump = Pump(stream, self.settings.read_chunk_bytes, self._outbox)
        try:
            connection = self.connection_type(self.broker, peer, pump.notify)
        except Exception as error:
            log_internal_error("connection", error, peer=str(peer))
            await trio.aclose_forcefully(stream)
            return
        self._connections.add(connection)
        try:
            await pump.run(connection, ConnectionLog(str(peer), connection))
        finally:
            self._connections.discard(connection)
            if not self._connections:
                self._all_gone.set()

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

    def _close_listeners(self) -> None:
        for listener in self._listeners:
            listener.close()


def _peer_of(accepted: socket.socket) -> Peer:
    host, port = accepted.getpeername()[:2]
    return Peer.at(host, port)
