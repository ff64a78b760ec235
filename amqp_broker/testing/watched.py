"""The broker's parts as they are in a test: each does what it always does, writes down what a test may ask for, and
has the faults happen that a test has ordered.

They take the places of their parents through the parents' ``..._type`` attributes, so that a broker outside of a test
pays nothing for being watchable. Holds no API for tests; that is ``view.py`` and ``faults.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, ClassVar

import trio

from amqp_broker.broker.broker import Broker
from amqp_broker.broker.dead_letter import DeathReason
from amqp_broker.broker.message import Address, Digest
from amqp_broker.broker.message import Message as HeldMessage
from amqp_broker.broker.ports import Clock
from amqp_broker.broker.publishing import REFUSED, Ingress, Outcome
from amqp_broker.broker.queues.base import Queue
from amqp_broker.broker.virtual_host import VirtualHost
from amqp_broker.broker.works import Work
from amqp_broker.errors import AmqpError
from amqp_broker.network.connection_log import ConnectionLog
from amqp_broker.network.listeners import AMQP
from amqp_broker.network.pump import Conversation, Outbox, Pump
from amqp_broker.network.socket_stream import SocketStream
from amqp_broker.protocols.amqp091.channel import Channel
from amqp_broker.protocols.amqp091.connection import Connection
from amqp_broker.protocols.amqp091.consuming import Consuming
from amqp_broker.protocols.amqp091.heartbeat import Heartbeat
from amqp_broker.protocols.amqp091.publishing import Publication, Publishing
from amqp_broker.protocols.amqp091.states import ChannelState, ConnectionState
from amqp_broker.server.broker_server import BrokerServer
from amqp_broker.server.driver import ServerDriver
from amqp_broker.server.protocols import MakeConnection
from amqp_broker.settings import Settings
from amqp_broker.testing.memory_stream import MemoryStream
from amqp_broker.testing.records import Published, published, why_nowhere
from amqp_broker.testing.watch import PublishFault, SpaceWatch, Watch
from amqp_broker.wire import hot, methods
from amqp_broker.wire.errors import WireError

FAULT = "a fault that the test has ordered"


class WatchedIngress(Ingress):
    """A way in that remembers the dead letters."""

    def __init__(self, virtual_host: VirtualHost) -> None:
        super().__init__(virtual_host)
        self._death: tuple[Queue, DeathReason] | None = None

    def put(self, queues: tuple[Queue, ...], address: Address, header: bytes, body: bytes, digest: Digest) -> Outcome:
        """As ever."""
        outcome = super().put(queues, address, header, body, digest)
        if self._death is not None:
            died_in, death_reason = self._death
            reason = "" if queues else why_nowhere(self._virtual_host, address.exchange, address.routing_key)
            names = tuple(queue.name for queue in queues)
            watch_of(self._virtual_host).remembered.add(
                published(address, header, body, names, reason, died_in=died_in.name, death_reason=str(death_reason))
            )
        return outcome

    def publish_dead_letter(self, queue: Queue, message: HeldMessage, reason: DeathReason) -> None:
        """As ever, and remembered: also when it is the end of the message."""
        exchange = queue.arguments.dead_letter_exchange
        if exchange is None or exchange not in self._virtual_host.exchanges:
            key = queue.arguments.dead_letter_routing_key
            address = Address(exchange or "", message.address.routing_key if key is None else key, b"")
            why = f"dead-letter exchange '{exchange}' does not exist"
            watch_of(self._virtual_host).remembered.add(
                published(address, message.header, message.body, (), why, died_in=queue.name, death_reason=str(reason))
            )
        self._death = (queue, reason)
        try:
            super().publish_dead_letter(queue, message, reason)
        finally:
            self._death = None


class WatchedVirtualHost(VirtualHost):
    """A virtual host with such a way in."""

    ingress_type = WatchedIngress

    def __init__(self, broker: Broker, name: str) -> None:
        super().__init__(broker, name)
        assert isinstance(broker, WatchedBroker)
        self.watch = broker.watch.of(name)


class WatchedBroker(Broker):
    """A broker whose virtual hosts and clients are watched."""

    virtual_host_type = WatchedVirtualHost

    def __init__(self, settings: Settings, clock: Clock, driver: ServerDriver, watch: Watch) -> None:
        self.watch = watch
        super().__init__(settings, clock, driver)


class WatchedPublishing(Publishing):
    """A publisher's side that remembers each publish, and where faults happen."""

    def route(self, *fields: Any) -> bool:
        """As ever, with the fault whose turn it is."""
        publication = Publication(*fields)
        connection = self._channel.connection
        assert isinstance(connection, WatchedConnection)
        watch = _watched(connection).watch
        fault = watch.publish_faults.popleft() if watch.publish_faults else None
        if fault is PublishFault.LOSE:
            self._remember(publication, (), "the connection was dropped before it was taken: " + FAULT)
            connection.drop()
            return True
        if fault is PublishFault.NACK:
            self._remember(publication, (), "refused: " + FAULT)
            if publication.number:
                self._confirms.add(publication.number, REFUSED)
            return False
        is_reply = (
            not publication.address.exchange and publication.address.routing_key in connection.broker.reply_consumers
        )
        accepted = super().route(*publication)
        if is_reply:
            self._remember(publication, (publication.address.routing_key,), "")
        else:
            self._remember_route(publication, accepted)
        if fault is PublishFault.DROP_BEFORE_CONFIRM:
            connection.drop()
        elif fault is PublishFault.DROP_AFTER_CONFIRM:
            connection.drops_when_it_speaks = True
        return accepted

    def _publish(self, method: bytes, header: bytes, body: bytes) -> None:
        """As ever; what is refused with an error is remembered as well."""
        try:
            super()._publish(method, header, body)
        except AmqpError as error:
            with suppress(WireError):  # it cannot even be read; the error is remembered all the same
                exchange, routing_key, *_ = hot.decode_publish(method)
                address = Address(exchange, routing_key, b"")
                entry = published(address, header, body, (), f"refused with {int(error.code)} {error.reply_text}")
                watch = _watched(self._channel.connection).watch
                watch.remembered.add(entry)
                watch.unrouted.add(entry)
            raise

    def _remember_route(self, publication: Publication, accepted: bool) -> None:
        address = publication.address
        queues, reason = tuple(queue.name for queue in publication.queues), ""
        if not publication.queues:
            virtual_host = self._channel.connection.virtual_host
            reason = why_nowhere(virtual_host, address.exchange, address.routing_key)
        elif not accepted:
            may_refuse = [queue for queue in publication.queues if queue.arguments.overflow.startswith("reject")]
            full = ", ".join(f"'{queue.name}'" for queue in may_refuse)
            queues = tuple(queue.name for queue in publication.queues if queue not in may_refuse)
            reason = f"refused by a queue that is full: {full}"
        entry = self._remember(publication, queues, reason)
        if not queues:
            _watched(self._channel.connection).watch.unrouted.add(entry)

    def _remember(self, publication: Publication, queues: tuple[str, ...], reason: str) -> Published:
        entry = published(publication.address, publication.header, publication.body, queues, reason)
        _watched(self._channel.connection).watch.remembered.add(entry)
        return entry


class WatchedConsuming(Consuming):
    """A consumer's side that can be told to wait, and that remembers what it gave back."""

    def _update_room(self) -> None:
        super()._update_room()
        if _watched(self._channel.connection).watch.holds:
            self.has_room = False

    def consume(self, method: methods.Basic.Consume) -> None:
        """As ever, and held from the start where deliveries are."""
        self._update_room()
        super().consume(method)

    def release(self) -> Iterator[None]:
        """As ever."""
        connection = self._channel.connection
        assert isinstance(connection, WatchedConnection)
        if not self._is_released and not connection.is_ended_by_test:
            given_back = _watched(self._channel.connection).watch.given_back
            given_back.update(delivery.queue.name for delivery in self.unacknowledged.values())
        return super().release()


class WatchedChannel(Channel):
    """A channel of a watched connection."""

    publishing_type = WatchedPublishing
    consuming_type = WatchedConsuming


class WatchedConnection(Connection):
    """A connection that remembers which channels were left open when it ended."""

    channel_type = WatchedChannel
    drops_when_it_speaks = False
    is_ended_by_test = False  # what it leaves behind is then not the client's fault
    _heartbeat_s = 0
    _is_heart_paused = False

    def receive(self, data: bytes) -> None:
        """As ever; unless a fault says that the connection drops once the client has read its confirm."""
        if self.drops_when_it_speaks:
            self.drops_when_it_speaks = False
            self.drop()
        else:
            super().receive(data)

    def room(self) -> Sequence[memoryview]:
        """As ever; none where ``receive`` must be asked."""
        return () if self.drops_when_it_speaks else super().room()

    def fail(self, number: int, error: AmqpError, method_ids: tuple[int, int]) -> None:
        """As ever, and remembered."""
        if self.state is ConnectionState.OPEN:
            _watched(self).watch.errors.append(f"{int(error.code)} {error.reply_text} (to {self.peer})")
        super().fail(number, error, method_ids)

    def tuned(self, frame_size_bytes_max: int, channels_max: int, heartbeat_s: int) -> None:
        """As ever."""
        super().tuned(frame_size_bytes_max, channels_max, heartbeat_s)
        self._heartbeat_s = heartbeat_s

    def pause_heartbeats(self) -> None:
        """Neither send nor expect any: the client lives in real time, and the broker's time is about to fly."""
        if not self._is_heart_paused:
            self._is_heart_paused = True
            self._heartbeat.stop()

    def resume_heartbeats(self) -> None:
        """Go on as if the client had been heard just now."""
        if self._is_heart_paused:
            self._is_heart_paused = False
            self._heartbeat = Heartbeat(self)
            self._heartbeat.start(self._heartbeat_s)

    def drop(self) -> None:
        """End it without a word, as a failing network does."""
        self.is_ended_by_test = True
        self.lost(FAULT)

    def _release(self) -> Work:
        if not self.is_ended_by_test and any(channel.state is ChannelState.OPEN for channel in self.channels.values()):
            _watched(self).watch.channels_left_open.append(str(self.peer))
        return super()._release()


class WatchedPump(Pump):
    """A pump that can be told not to wait for its reader's turn.

    Args:
        pumps: of its server; it is there while it runs.
    """

    def __init__(self, stream: trio.abc.Stream, read_chunk_bytes: int, outbox: Outbox, pumps: set[WatchedPump]) -> None:
        super().__init__(stream, read_chunk_bytes, outbox)
        self._pumps = pumps

    async def run(self, conversation: Conversation, log: ConnectionLog) -> None:
        """As ever."""
        self._pumps.add(self)
        try:
            await super().run(conversation, log)
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

    protocols: ClassVar[Mapping[str, MakeConnection]] = {AMQP: WatchedConnection}

    def __init__(self, settings: Settings, clock: Clock, broker: Broker, driver: ServerDriver) -> None:
        super().__init__(settings, clock, broker, driver)
        self.pumps: set[WatchedPump] = set()

    def make_pump(self, stream: trio.abc.Stream, outbox: Outbox) -> WatchedPump:
        """As ever."""
        return WatchedPump(stream, self.settings.read_chunk_bytes, outbox, self.pumps)

    @property
    def connections(self) -> list[WatchedConnection]:
        """All the clients that are connected now."""
        return [connection for connection in self._connections if isinstance(connection, WatchedConnection)]


def watch_of(virtual_host: VirtualHost) -> SpaceWatch:
    """What is remembered of a virtual host."""
    assert isinstance(virtual_host, WatchedVirtualHost)
    return virtual_host.watch


def _watched(connection: Connection) -> WatchedVirtualHost:
    virtual_host = connection.virtual_host
    assert isinstance(virtual_host, WatchedVirtualHost)
    return virtual_host
