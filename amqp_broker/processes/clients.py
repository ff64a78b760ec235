"""The clients that one process has accepted or was handed: each comes to the process that owns its virtual host.

A client whose bytes are those on its socket is handed over with it, and costs this process nothing from then on; of a
client behind TLS or a web socket the bytes are carried. While a process is not there, its clients wait.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Final

import trio

from amqp_broker.access.client import Peer
from amqp_broker.logs import log_event
from amqp_broker.network.listeners import FOR_ADMINISTRATORS, USER_COUNTS
from amqp_broker.network.socket_stream import SocketStream
from amqp_broker.processes.events import publish_events
from amqp_broker.processes.folder import folder_of
from amqp_broker.processes.link import EVENTS, NOTICE, TAKEN, Brought, LinkUnreachable, bring
from amqp_broker.server.broker_server import BrokerServer
from amqp_broker.server.sharding.arrivals import Arrival, Continued, Entrance, Heard
from amqp_broker.server.sharding.carrying import carry
from amqp_broker.server.sharding.directory import CannotAgree
from amqp_broker.server.sharding.sharing import Sharing
from amqp_broker.server.sharding.user_counts import tell_user_counts
from amqp_broker.settings import Settings

PAUSE_S: Final = 0.1
PAUSE_MAX_S: Final = 1.0  # thousands may wait for one process, which they would keep from coming back


class ProcessClients:
    """The clients of one process.

    Args:
        settings: how long a client may wait for a process.
        data_folder: of the broker.
        number: of this process.
        sharing: the directory.
        server: of the virtual hosts that this process owns.
        entrance: asks clients where they want to be.
    """

    def __init__(
        self,
        settings: Settings,
        data_folder: Path,
        number: int,
        sharing: Sharing,
        server: BrokerServer,
        entrance: Entrance,
    ) -> None:
        self._settings = settings
        self._data_folder = data_folder
        self._number = number
        self._sharing = sharing
        self._server = server
        self._entrance = entrance
        self.refuses_more: Callable[[], bool] = lambda: False  # whether one more would be too many
        self._has_begun = self._is_ending = False
        self._count = 0  # that are asked, brought to where they want to be, or served here
        self._administrators = 0  # have limits of their own, so that they keep no client out
        self._led = 0  # of the first, on their way to another process, or carried there
        self._carried = 0
        self._all_carried = trio.Event()

    def count(self) -> tuple[int, int]:
        """How many there are and how many have logged in, for the reception's limits.

        Who is led elsewhere has logged in, and counts twice: the link has a descriptor as well.
        """
        logged_in = len(self._server.broker.open_connections) + 2 * self._led
        return self._count + self._led + self._administrators, logged_in + self._administrators

    def begin(self) -> None:
        """Take clients from now on: they can be served."""
        self._has_begun = True

    def end(self) -> None:
        """Take no client from now on: those that are here are told to go."""
        self._is_ending = True

    async def until_carried(self) -> None:
        """Return when no client's bytes are carried to another process."""
        while self._carried:
            self._all_carried = trio.Event()
            await self._all_carried.wait()

    async def serve(self, stream: trio.abc.Stream, peer: Peer, protocol: str) -> None:
        """Have a client that was accepted here come to where it wants to be."""
        if protocol in FOR_ADMINISTRATORS:
            await self._administer(stream, peer, protocol)
            return
        self._count += 1
        try:
            self._entrance.agree(await self._sharing.current())
            arrival = await self._entrance.receive(stream, peer, protocol)
            if arrival is not None:
                await self._lead(stream, peer, protocol, arrival)
        except CannotAgree as error:
            log_event(logging.ERROR, "connection failed", peer=str(peer), reason=str(error))
        finally:
            self._count -= 1
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(stream)  # where it was handed over, the other process has it as well

    async def _administer(self, stream: trio.abc.Stream, peer: Peer, protocol: str) -> None:
        self._administrators += 1
        try:
            await self._entrance.administer(stream, peer, protocol)
        finally:
            self._administrators -= 1

    async def take(self, brought: Brought, link: trio.SocketStream) -> None:
        """Serve a client that another process has accepted, or do as the directory says now."""
        if brought == NOTICE:
            await self._sharing.until_in_force(self._number)
            await link.send_all(TAKEN)
        elif brought.protocol == EVENTS:
            publish_events(self._server.broker, brought.heard)
            await link.send_all(TAKEN)
        elif brought.protocol == USER_COUNTS:
            await link.send_all(TAKEN)
            await tell_user_counts(self._server.broker, link)
        elif not self._has_begun:
            pass  # the other process tries again, as long as it may
        elif brought.protocol in FOR_ADMINISTRATORS:
            self._administrators += 1
            try:
                await self._take_client(brought, link)
            finally:
                self._administrators -= 1
        elif not (self._is_ending or self.refuses_more()):  # else likewise
            self._count += 1
            try:
                await self._take_client(brought, link)
            finally:
                self._count -= 1

    async def _take_client(self, brought: Brought, link: trio.SocketStream) -> None:
        stream: trio.abc.Stream = link
        beginning = None
        if brought.client is not None:
            beginning = Heard(Arrival("", brought.heard, brought.answered), brought.protocol)
            try:
                stream = SocketStream(brought.client)
            except OSError:  # some systems refuse it when the client has left
                await link.send_all(TAKEN)
                return
        await link.send_all(TAKEN)
        if stream is not link:
            await link.aclose()
        try:
            await self._converse(stream, brought.peer, brought.protocol, beginning)
        except CannotAgree as error:
            log_event(logging.ERROR, "connection failed", peer=str(brought.peer), reason=str(error))
        finally:
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(stream)

    async def _lead(self, stream: trio.abc.Stream, peer: Peer, protocol: str, arrival: Arrival) -> None:
        """Have a client come to its virtual host's process, as soon as that is there."""
        beginning = Heard(arrival, protocol)
        self._led += 1
        try:
            way = await self._way_to_owner(stream, peer, protocol, arrival)
            if way is not None and way is not stream:
                await self._carry(Continued(stream, beginning), way)
        finally:
            self._led -= 1
        if way is stream:
            await self._converse(stream, peer, protocol, beginning)

    async def _way_to_owner(
        self, stream: trio.abc.Stream, peer: Peer, protocol: str, arrival: Arrival
    ) -> trio.abc.Stream | None:
        """The way for a client's bytes to the process of its virtual host, as soon as that is there.

        Returns:
            A link; the client's own stream where that is this process; None where it was handed over, or has to go.
        """
        number, pause_s = self._number, PAUSE_S
        with trio.move_on_after(self._settings.handshake_timeout_ms / 1000):
            while not self._is_ending:
                number = self._sharing.directory.shard_of(arrival.virtual_host)  # which may be made anew meanwhile
                if number == self._number:
                    return stream
                try:
                    return await self._bring(number, stream, peer, protocol, arrival)
                except LinkUnreachable:
                    await trio.sleep(pause_s)
                    pause_s = min(2 * pause_s, PAUSE_MAX_S)
        if not self._is_ending:
            reason = f"process {number}, which owns its virtual host, is not there or takes no more"
            log_event(logging.WARNING, "connection failed", peer=str(peer), reason=reason)
        return None

    async def _bring(
        self, number: int, stream: trio.abc.Stream, peer: Peer, protocol: str, arrival: Arrival
    ) -> trio.SocketStream | None:
        """Hand a client over; returns a way for its bytes where that cannot be.

        Raises:
            LinkUnreachable: the other process does not take it.
        """
        folder = folder_of(self._data_folder, number)
        if not isinstance(stream, SocketStream):
            return await bring(folder, Brought(protocol, peer))
        # Until it says so or its link ends: who gave up before that could bring a client twice.
        brought = Brought(protocol, peer, arrival.heard, arrival.answered, stream.connected)
        way = await bring(folder, brought, timeout_s=math.inf)
        await way.aclose()
        return None

    async def _converse(
        self, stream: trio.abc.Stream, peer: Peer, protocol: str, beginning: Heard | None = None
    ) -> None:
        """Have a client's conversation here."""
        if await self._sharing.until_in_force(self._number) and not self._is_ending:
            await self._server.serve_stream(stream, peer, protocol, beginning)

    async def _carry(self, stream: trio.abc.Stream, way: trio.abc.Stream) -> None:
        self._carried += 1
        try:
            await carry(stream, way)
        finally:
            self._carried -= 1
            if not self._carried:
                self._all_carried.set()
