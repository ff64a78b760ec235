"""One process of several: the broker of its virtual hosts, with a journal of its own, and a way in for all clients.

All processes accept clients at the same addresses. The root, process 0, has users, permissions and the list of virtual
hosts, and alone accepts administrators and the command line.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import trio

from amqp_broker.journal.port import Journal, Progress
from amqp_broker.network.listeners import FOR_ADMINISTRATORS, Listener
from amqp_broker.network.turns import Turns
from amqp_broker.processes.administrators import ProcessShards
from amqp_broker.processes.clients import ProcessClients
from amqp_broker.processes.commands import ProcessCommands, serve_commands
from amqp_broker.processes.events import EventsElsewhere, RefusedLogins, is_told_by_root
from amqp_broker.processes.folder import DirectoryFile, folder_of, keep_at_root
from amqp_broker.processes.link import NOTICE, LinkUnreachable, bring, listen_for_links, serve_link
from amqp_broker.server.broker_server import BrokerServer
from amqp_broker.server.data_folder import DataFolder, cannot_use
from amqp_broker.server.garbage import collect_garbage, without_collections
from amqp_broker.server.reception import Reception, Serve
from amqp_broker.server.sharding.arrivals import Entrance, settings_of_entrance
from amqp_broker.server.sharding.directory import CannotAgree
from amqp_broker.server.sharding.shards import ROOT, Shards
from amqp_broker.server.sharding.sharing import Sharing
from amqp_broker.server.sharding.user_counts import follow_user_counts
from amqp_broker.settings import Settings

AGREE_S: Final = 5.0  # how long a change waits for a process that does not agree with it: it does before it serves

Administration = Callable[[BrokerServer, Shards | None], Serve]  # of a server, and what it is divided into


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The parts of a process that its supervisor gives it.

    Args:
        settings: of one process, with its share of the memory.
        data_folder: of the broker.
        listeners: that all processes accept clients at.
        alive: a pipe that ends when the supervisor does.
        start: a pipe that ends when clients may come.
        ready: a pipe that is told when this process can serve, and then that it goes on doing so.
        sign_every_s: how often; 0 for never.
    """

    settings: Settings
    data_folder: Path
    listeners: list[Listener]
    alive: int
    start: int
    ready: int
    sign_every_s: float


class _Changed:
    """The state of the directory here, for who waits for its next change."""

    def __init__(self) -> None:
        self.changed = trio.Event()

    def tell(self) -> None:
        self.changed.set()
        self.changed = trio.Event()


class Worker:
    """One process.

    Args:
        number: which.
        here: what it was given.
        administration: serves administrators.
        open_journal: the journal in a folder.
    """

    def __init__(
        self,
        number: int,
        here: Surroundings,
        administration: Administration,
        open_journal: Callable[[Path, Settings], Journal],
    ) -> None:
        settings = here.settings
        self._number = number
        self._here = here
        self._open_journal = open_journal
        self._folder = folder_of(here.data_folder, number)
        self.sharing = Sharing(DirectoryFile(here.data_folder, self._announce), _Changed(), settings.processes)
        until_shared = self.sharing.until_shared if number == ROOT else None
        self.server = BrokerServer(settings, until_shared=until_shared)
        self.server.accepting = lambda: [one.endpoint for one in here.listeners if one.is_listening]
        self.server.speak_http(administration(self.server, None))
        self._entrance_server = BrokerServer(settings_of_entrance(settings))
        self._entrance = Entrance(self._entrance_server)
        self._shards = ProcessShards(here.data_folder, settings.processes, self.sharing, self._entrance)
        self._entrance_server.speak_http(administration(self._entrance_server, self._shards))
        self._clients = ProcessClients(settings, here.data_folder, number, self.sharing, self.server, self._entrance)
        self._turns = Turns()
        self._reception = Reception(self.server.settings, self._turns, self._clients.serve, self._clients.count)
        self._clients.refuses_more = self._reception.refuses_more
        self.server.serve_elsewhere = self._serve_elsewhere
        self._ending = trio.Event()
        self.is_root = number == ROOT
        self.was_left_open = False  # by the process before, which did not end as it should
        self._starting = trio.CancelScope()  # of all; cancelled only while it has not begun to serve
        self._is_serving = False

    def shut_down(self) -> None:
        """Begin the end: clients are told, then ``run`` returns; at once where there are none yet."""
        self._ending.set()
        if not self._is_serving:
            self._starting.cancel()

    def reload_certificates(self) -> None:
        """Read the certificates again, for connections to come."""
        self._reception.reload_certificates()

    async def run(self, progress: Progress, recovered: Callable[[], None]) -> None:
        """Serve until ``shut_down``, or until the supervisor is gone.

        Args:
            progress: called now and then while the journal is read.
            recovered: called when it was.

        Raises:
            CannotUseDataFolder: the folder of this process cannot be used.
            JournalError: the journal cannot be read, or written.
        """
        with self._starting, ExitStack() as held:
            await self._open(held, progress)
            recovered()
            await self._serve()

    async def _open(self, held: ExitStack, progress: Progress) -> None:
        """Read the journal."""
        here, journal_folder = self._here, self._here.data_folder
        if not self.is_root:
            journal_folder = self._folder
            folder = held.enter_context(DataFolder(self._folder))  # the root's is the supervisor's
            self.was_left_open = folder.was_left_open
        with without_collections():
            journal = self._open_journal(journal_folder, here.settings)
            await trio.to_thread.run_sync(self.server.open, journal, progress)
        if self.is_root:
            keep_at_root(here.data_folder, list(self.server.broker.virtual_hosts))
        self.server.control_folder, self.server.plugin_folder = self._folder, here.data_folder

    async def _serve(self) -> None:
        here, server = self._here, self.server
        self._reception.take_over([])  # what it needs for TLS is read before anything is begun
        try:
            links = listen_for_links(self._folder)
        except OSError as error:
            raise cannot_use(here.data_folder, error) from error
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch_supervisor)
            nursery.start_soon(trio.serve_listeners, partial(serve_link, take=self._clients.take), [links])
            with suppress(CannotAgree):  # said below; the server has shovels go where the directory says
                await self.sharing.current()
            await nursery.start(server.serve)
            await nursery.start(self._entrance_server.serve)
            self._entrance_server.broker.observers.add(RefusedLogins(lambda: server.broker), of_messages=False)
            if here.settings.event_exchange == "on":
                if not self.is_root:
                    server.broker.is_told_elsewhere = is_told_by_root
                events = EventsElsewhere(server.broker)
                server.broker.observers.add(events, of_messages=False)
                nursery.start_soon(events.send, self._folder_of_events)
            await nursery.start(self.sharing.keep, self._number, server, bytes)
            nursery.start_soon(follow_user_counts, server.broker, self._number, self.sharing, self._shards)
            self._clients.begin()
            nursery.start_soon(
                collect_garbage, server.broker, lambda: server.connections_ended, server.memory.size_bytes
            )
            if self.is_root:
                count, broker = here.settings.processes, server.broker
                commands = ProcessCommands(here.data_folder, count, self.sharing, broker, self.shut_down)
                await nursery.start(serve_commands, commands, here.data_folder)
            nursery.start_soon(self._turns.run)
            self._is_serving = True
            nursery.start_soon(self._give_signs)
            async with trio.open_nursery() as accepting:
                accepting.start_soon(self._accept, nursery)
                await self._ending.wait()
                accepting.cancel_scope.cancel()
            for listener in here.listeners:  # the supervisor does the same: nobody is to wait in vain
                listener.close()
            self._clients.end()
            server.shut_down()
            await server.ended.wait()
            with trio.move_on_after(here.settings.shutdown_grace_ms / 1000):
                await self._clients.until_carried()
            nursery.cancel_scope.cancel()

    def _serve_elsewhere(self, virtual_host: str) -> Serve | None:
        """Who brings the broker's own connections to a virtual host of another process: the root has its name alone."""
        is_here = self.sharing.directory.is_in(virtual_host, self._number)
        return None if is_here else self._clients.serve

    def _folder_of_events(self) -> Path | None:
        """The folder of the process that has the event exchange; None where that is this one."""
        number = self.sharing.directory.shard_of(self._here.settings.default_virtual_host)
        return None if number == self._number else folder_of(self._here.data_folder, number)

    async def _give_signs(self) -> None:
        """Say that this process can serve, and again and again that its event loop goes round."""
        with suppress(BrokenPipeError):  # the supervisor is gone: this one ends as well
            os.write(self._here.ready, bytes([self._number]))
            while self._here.sign_every_s:
                await trio.sleep(self._here.sign_every_s)
                os.write(self._here.ready, bytes([self._number]))

    async def _accept(self, serving: trio.Nursery) -> None:
        """Accept clients as soon as they may come."""
        await trio.lowlevel.wait_readable(self._here.start)
        self._reception.take_over([one for one in self._here.listeners if self._accepts(one)])
        await self._reception.run(serving)

    def _accepts(self, listener: Listener) -> bool:
        """Whether this process accepts clients there: administrators, whose logins it remembers, come to the root."""
        is_ours = self.is_root or listener.endpoint.protocol not in FOR_ADMINISTRATORS
        return is_ours and listener.is_listening  # what another program took meanwhile is done without

    async def _watch_supervisor(self) -> None:
        await trio.lowlevel.wait_readable(self._here.alive)
        self.shut_down()

    async def _announce(self) -> None:
        """Have the other processes agree with the directory; one that is not there does so when it comes."""

        async def tell(number: int) -> None:
            with suppress(LinkUnreachable):
                link = await bring(folder_of(self._here.data_folder, number), NOTICE, AGREE_S)
                await link.aclose()

        async with trio.open_nursery() as nursery:
            for number in range(self._here.settings.processes):
                if number != self._number:
                    nursery.start_soon(tell, number)
