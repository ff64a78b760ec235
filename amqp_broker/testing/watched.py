"""The broker's parts as they are in a test: each does what it always does, and has the faults happen that a test has
ordered.

They take the places of their parents through the parents' ``..._type`` attributes, so that a broker outside of a test
pays nothing for them. What went by is remembered by an observer (``remembering.py``). Holds no API for tests; that is
``view.py`` and ``faults.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import trio

from amqp_broker.broker.broker import Broker
from amqp_broker.broker.ports import Clock
from amqp_broker.broker.publishing import REFUSED
from amqp_broker.network.connection_log import ConnectionLog
from amqp_broker.network.listeners import AMQP
from amqp_broker.network.memory_stream import MemoryStream
from amqp_broker.network.pump import Beginning, Conversation, Outbox, Pump, SpeakOther
from amqp_broker.network.socket_stream import SocketStream
from amqp_broker.protocols.amqp091.channel import Channel
from amqp_broker.protocols.amqp091.connection import Connection
from amqp_broker.protocols.amqp091.publishing import Publishing
from amqp_broker.protocols.amqp091.transaction import Publication
from amqp_broker.server.broker_server import BrokerServer
from amqp_broker.server.driver import ServerDriver
from amqp_broker.server.protocols import OTHERS, MakeConnection
from amqp_broker.session.connection import ClientConnection
from amqp_broker.settings import Settings
from amqp_broker.testing.records import published
from amqp_broker.testing.remembering import Remembering
from amqp_broker.testing.watch import PublishFault, Watch

FAULT = "a fault that the test has ordered"


class WatchedBroker(Broker):
    """A broker that knows what is remembered of it."""

    def __init__(self, settings: Settings, clock: Clock, driver: ServerDriver, watch: Watch) -> None:
        super().__init__(settings, clock, driver)
        self.watch = watch
        self.observers.add(Remembering(self, watch))


class FaultyPublishing(Publishing):
    """A publisher's side where the faults happen that the test has ordered."""

    def route(self, *fields: Any) -> bool:
        """As ever, with the fault whose turn it is."""
        connection = self._channel.connection
        assert isinstance(connection, WatchedConnection)
        faults = connection.watch.of(connection.virtual_host_name).publish_faults
        if not faults:
            return super().route(*fields)
        fault = faults.popleft()
        publication = Publication(*fields)
        if fault is PublishFault.LOSE:
            self._remember(publication, "the connection was dropped before it was taken: " + FAULT)
            connection.drop()
            return True
        if fault is PublishFault.NACK:
            self._remember(publication, "refused: " + FAULT)
            if publication.number:
                self._confirms.add(publication.number, REFUSED)
            return False
        accepted = super().route(*fields)
        if fault is PublishFault.DROP_BEFORE_CONFIRM:
            connection.drop()
        else:
            connection.drops_when_it_speaks = True
        return accepted

    def _remember(self, publication: Publication, reason: str) -> None:
        connection = self._channel.connection
        assert isinstance(connection, WatchedConnection)
        entry = published(publication.address, publication.header, publication.body, (), reason)
        connection.watch.of(connection.virtual_host_name).remembered.add(entry)


class WatchedChannel(Channel):
    """A channel of a watched connection."""

    publishing_type = FaultyPublishing


class WatchedConnection(Connection):
    """A connection that a test can drop."""

    channel_type = WatchedChannel
    drops_when_it_speaks = False

    @property
    def watch(self) -> Watch:
        """What is remembered of its broker."""
        assert isinstance(self.broker, WatchedBroker)
        return self.broker.watch

    def receive(self, data: bytes) -> None:
        """As ever; unless a fault says that the connection drops once the client has read its confirm."""
        if self.drops_when_it_speaks:
            self.drops_when_it_speaks = False
            self.drop()
        else:
            super().receive(data)

    def body_buffers(self) -> Sequence[memoryview]:
        """As ever; none where ``receive`` must be asked."""
        return () if self.drops_when_it_speaks else super().body_buffers()

    def drop(self) -> None:
        """End it without a word, as a failing network does."""
        drop(self, self.watch)


def drop(connection: ClientConnection, watch: Watch) -> None:
    """End a connection of any protocol without a word, as a failing network does."""
    watch.ended_by_test.add(connection)
    connection.output.discard()  # what waits for the journal would keep the socket open
    connection.lost(FAULT)


class WatchedPump(Pump):
    """A pump that can be told not to wait for its reader's turn.

    Args:
        pumps: of its server; it is there while it runs.
    """

    def __init__(self, stream: trio.abc.Stream, read_chunk_bytes: int, outbox: Outbox, pumps: set[WatchedPump]) -> None:
        super().__init__(stream, read_chunk_bytes, outbox)
        self._pumps = pumps

    async def run(
        self,
        conversation: Conversation,
        log: ConnectionLog,
        speak_other: SpeakOther | None = None,
        beginning: Beginning | None = None,
    ) -> None:
        """As ever."""
        self._pumps.add(self)
        try:
            await super().run(conversation, log, speak_other, beginning)
        finally:
            self._pumps.discard(self)

    def read_now(self) -> bool:
        """Handle what has arrived already; returns whether there was any. The reader keeps nothing that it has read, so
        nothing is overtaken.
        """
        stream, conversation = self._stream, self._conversation
        if conversation.finished or conversation.is_reading_paused:
            return False
        if not isinstance(stream, SocketStream | MemoryStream):
            return False  # TLS keeps to itself what it has read
        data = stream.receive_now(self._read_chunk_bytes)
        if data:
            try:
                self._outbox.handle(conversation.receive, data)
            except Exception as error:
                self._crash(error)
        return bool(data)


class WatchedServer(BrokerServer):
    """A server whose clients are watched."""

    protocols: ClassVar[Mapping[str, MakeConnection]] = {AMQP: WatchedConnection, **OTHERS}

    def __init__(self, settings: Settings, clock: Clock, broker: Broker, driver: ServerDriver) -> None:
        super().__init__(settings, clock, broker, driver)
        self.pumps: set[WatchedPump] = set()

    def make_pump(self, stream: trio.abc.Stream, outbox: Outbox) -> WatchedPump:
        """As ever."""
        return WatchedPump(stream, self.settings.read_chunk_bytes, outbox, self.pumps)

    @property
    def connections(self) -> list[WatchedConnection]:
        """All the clients of AMQP that are connected now."""
        return [connection for connection in self._connections if isinstance(connection, WatchedConnection)]
