"""One stream client's connection, without its socket: bytes in, bytes out (docs/architecture.md: what a pump owes it).

The login has its steps, in one order; behind it commands are handled as they come. The parts are ``handshake.py``,
``publishing.py``, ``subscribing.py`` and ``topology.py``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from enum import IntEnum
from functools import partial
from typing import TYPE_CHECKING, Final

from amqp_broker.access.client import Peer, check_access
from amqp_broker.broker.queues.stream import StreamQueue
from amqp_broker.errors import AmqpError
from amqp_broker.logs import log_event
from amqp_broker.protocols.stream import codes
from amqp_broker.protocols.stream.errors import ConversationEnds, RequestRefused, code_of
from amqp_broker.protocols.stream.frames import (
    Fields,
    FrameSplitter,
    Malformed,
    TooLong,
    answer,
    array,
    command,
    key_and_version,
    pairs,
    string,
    strings,
    u16,
    u32,
)
from amqp_broker.protocols.stream.handshake import (
    advertised_address,
    authenticate,
    enter,
    mechanisms,
    server_properties,
)
from amqp_broker.protocols.stream.inspection import channel_info, connection_info
from amqp_broker.protocols.stream.link import Link
from amqp_broker.protocols.stream.publishing import CUT_FRAME_BYTES_MIN, Publishing, in_pieces
from amqp_broker.protocols.stream.subscribing import Subscribing
from amqp_broker.protocols.stream.topology import Topology
from amqp_broker.session.login import Login

if TYPE_CHECKING:
    from amqp_broker.broker.broker import Broker
    from amqp_broker.broker.descriptions import ChannelInfo, ConnectionInfo

HANDSHAKE_FRAME_BYTES_MAX: Final = 65_536
PUBLISH_FRAME_BYTES_MAX: Final = 4_194_304  # clients send longer ones than was agreed on, and RabbitMQ takes them
SILENT_INTERVALS_MAX: Final = 2  # who says nothing for so many heartbeats is given up
BEAT: Final = command(codes.HEARTBEAT, b"")
REFUSAL_EFFORT: Final = 10  # about; see ``ClientConnection.has_cost``
REQUEST_EFFORT: Final = 4  # likewise
NUMBERS_ANSWERED: Final = (codes.QUERY_PUBLISHER_SEQUENCE, codes.QUERY_OFFSET)
ARRAYS_ANSWERED: Final = (codes.ROUTE, codes.PARTITIONS, codes.STREAM_STATS)

Handler = Callable[[Fields], bytes]


class Step(IntEnum):
    """The steps of the login."""

    BEGUN = 0
    AUTHENTICATED = 1  # Tune was sent
    TUNED = 2
    OPEN = 3


class Connection(Link):
    """The conversation with one client.

    Args:
        broker: what it talks to.
        peer: who is at the other end.
        on_output: called when there is something to send, the connection is finished, or reading may go on.
    """

    def __init__(self, broker: Broker, peer: Peer, on_output: Callable[[], None]) -> None:
        super().__init__(broker, peer, on_output)
        self._splitter = FrameSplitter(HANDSHAKE_FRAME_BYTES_MAX)
        self._step = Step.BEGUN
        self._publishing: Publishing | None = None
        self._subscribing: Subscribing | None = None
        self._handlers: dict[int, Handler] = {}
        self._watched: dict[StreamQueue, Callable[[], None]] = {}

    # --- who it is; most of it is there once the client was let in

    @property
    def publishing(self) -> Publishing:
        """What it publishes."""
        assert self._publishing is not None
        return self._publishing

    @property
    def subscribing(self) -> Subscribing:
        """What it has subscribed to."""
        assert self._subscribing is not None
        return self._subscribing

    def inspect(self) -> ConnectionInfo:
        """Describe it, for those who look in."""
        return connection_info(self)

    def inspect_channel(self) -> ChannelInfo:
        """Describe it as a channel."""
        return channel_info(self, self.publishing, self.subscribing)

    # --- bytes in

    def receive(self, data: bytes) -> None:
        """Handle all that the socket read, and what follows from it."""
        self.received_bytes += len(data)
        if self._is_closed:
            return
        may_be_long = self._splitter.gathered_bytes + len(data) > CUT_FRAME_BYTES_MIN
        frames = self._splitter.split(data)
        if may_be_long:
            frames = in_pieces(frames)
        self.broker.handle_items(self, frames)
        self.missing_body_bytes = self._splitter.missing_bytes
        self.throttle.chunk_was_handled()

    def handle_rest(self, items: Iterator[bytes]) -> None:
        try:
            self.handle_each(items)
        except TooLong as too_long:
            self._fail(ConversationEnds(codes.FRAME_TOO_LARGE, str(too_long)))
        except Malformed as mistake:
            self._fail(ConversationEnds(codes.UNKNOWN_FRAME, str(mistake)))
        except ConversationEnds as end:
            self._fail(end)
        if self._is_open:
            self.publishing.store()

    def handle_item(self, item: bytes) -> None:
        key, version = key_and_version(item)
        if self._is_open:
            self._handle_open(key, version, item)
        else:
            self._handle_login(key, Fields(item))

    def _handle_open(self, key: int, version: int, frame: bytes) -> None:
        if key == codes.PUBLISH:
            self.publishing.publish(frame, version)
            return
        self.publishing.store()
        fields = Fields(frame)
        if key == codes.CREDIT:
            self.subscribing.credit(fields)
        elif key == codes.STORE_OFFSET:
            self.subscribing.store_offset(fields)
        elif key == codes.CONSUMER_UPDATE | codes.ANSWER:
            self.subscribing.consumer_updated(fields)
        elif key == codes.SASL_AUTHENTICATE:
            self._authenticate_again(fields)
        elif key == codes.CLOSE:
            self._farewell(fields)
        elif key == codes.CLOSE | codes.ANSWER:
            self.finish()
        elif key != codes.HEARTBEAT:
            self._answer(key, fields)

    def _answer(self, key: int, fields: Fields) -> None:
        """Handle a request that is answered."""
        handler = self._handlers.get(key)
        if handler is None:
            raise ConversationEnds(codes.UNKNOWN_FRAME, "unknown frame")
        self.has_cost(REQUEST_EFFORT)
        correlation_id = fields.u32()
        try:
            content = handler(fields)
        except RequestRefused as refused:
            self._refuse(key, correlation_id, refused.code, refused.content)
        except AmqpError as error:
            if self.broker.observers.present_for_changes:
                self.broker.observers.refused(self, error)
            code = code_of(error)
            self._refuse(key, correlation_id, code, bytes(8) if key in NUMBERS_ANSWERED else b"")
        else:
            if key == codes.METADATA:  # the only answer without a code
                self.output.send(command(key | codes.ANSWER, u32(correlation_id) + content))
            else:
                self.output.send(answer(key, correlation_id, codes.OK, content))
            if key in (codes.DECLARE_PUBLISHER, codes.SUBSCRIBE):
                self._watch()

    def _refuse(self, key: int, correlation_id: int, code: int, content: bytes) -> None:
        self.has_cost(REFUSAL_EFFORT)
        self.count_refusal(code)
        if not content and key in NUMBERS_ANSWERED:
            content = bytes(8)
        elif not content and key in ARRAYS_ANSWERED:
            content = bytes(4)
        self.output.send(answer(key, correlation_id, code, content))

    # --- the login

    def _handle_login(self, key: int, fields: Fields) -> None:
        if key == codes.HEARTBEAT:
            return
        if key == codes.CLOSE:
            self._farewell(fields)
            return
        if key & ~codes.ANSWER == codes.TUNE and self._step == Step.AUTHENTICATED:
            self._tune(fields)
            return
        correlation_id = fields.u32()
        if key == codes.PEER_PROPERTIES and self._step == Step.BEGUN:
            self.client_properties = fields.pairs()
            self.output.send(answer(key, correlation_id, codes.OK, pairs(server_properties(self.broker.settings))))
        elif key == codes.SASL_HANDSHAKE and self._step == Step.BEGUN:
            self.output.send(
                answer(key, correlation_id, codes.OK, strings(mechanisms(self.login, self.broker.settings)))
            )
        elif key == codes.SASL_AUTHENTICATE and self._step == Step.BEGUN:
            self._authenticate(correlation_id, fields)
        elif key == codes.OPEN and self._step == Step.TUNED:
            self._enter(correlation_id, fields)
        else:
            raise ConversationEnds(codes.UNKNOWN_FRAME, "unknown frame")

    def _authenticate(self, correlation_id: int, fields: Fields) -> None:
        mechanism, response = fields.string(), fields.sized_bytes()
        settings = self.broker.settings
        try:
            authenticate(self.login, mechanism, response, is_loopback=self.peer.is_loopback, settings=settings)
        except RequestRefused as refused:
            self.login.tell(mechanism, "stream", "refused")
            self.output.send(answer(codes.SASL_AUTHENTICATE, correlation_id, refused.code))
            self._leave(f"login refused: {refused}")
            return
        self.login.tell(mechanism, "stream")
        self.mechanism = mechanism
        self._step = Step.AUTHENTICATED
        self.output.send(answer(codes.SASL_AUTHENTICATE, correlation_id))
        self.output.send(command(codes.TUNE, u32(settings.stream_frame_bytes_max) + u32(settings.heartbeat_s)))

    def _authenticate_again(self, fields: Fields) -> None:
        """Handle SaslAuthenticate of a client that is in already: it renews its credentials, before they expire."""
        correlation_id, mechanism, response = fields.u32(), fields.string(), fields.sized_bytes()
        login, settings, code = Login(self.broker, self.peer), self.broker.settings, codes.OK
        try:
            if mechanism != self.mechanism:
                raise RequestRefused(codes.SASL_CANNOT_CHANGE_MECHANISM)
            authenticate(login, mechanism, response, is_loopback=self.peer.is_loopback, settings=settings)
            if login.user_name != self.user_name:
                raise RequestRefused(codes.SASL_CANNOT_CHANGE_USER_NAME)
            check_access(login.user, self.virtual_host_name)
            self.begin_as(login.user)
            self.permissions_changed()
        except RequestRefused as refused:
            code = refused.code
        except AmqpError:  # it may not be in the virtual host any more
            code = codes.VIRTUAL_HOST_ACCESS_FAILURE
        login.tell(mechanism, "stream", "" if code == codes.OK else "refused")
        self.output.send(answer(codes.SASL_AUTHENTICATE, correlation_id, code))
        if code != codes.OK:
            self.close_reason = f"new credentials of '{self.user_name}' refused"
            self.finish()

    def permissions_changed(self) -> None:
        super().permissions_changed()
        for stream, watcher in list(self._watched.items()):
            if not self._may_go_on_with(stream):
                stream.unwatch(watcher)
                self._stream_has_gone(stream)

    def _may_go_on_with(self, stream: StreamQueue) -> bool:
        """Whether the client may still do with a stream what it does."""
        client, name = self.client, stream.name
        publishes = any(publisher.stream is stream for publisher in self.publishing.publishers.values())
        reads = any(one.stream is stream for one in self.subscribing.subscriptions.values())
        return (not publishes or client.may_write("queue", name)) and (not reads or client.may_read("queue", name))

    def _tune(self, fields: Fields) -> None:
        frame_bytes_max, self.heartbeat_s = fields.u32(), min(fields.u32(), 65_535)
        ours = self.broker.settings.stream_frame_bytes_max
        if frame_bytes_max:
            self.frame_bytes_max = min(frame_bytes_max, ours) if ours else frame_bytes_max
        self._splitter.frame_bytes_max = max(ours, PUBLISH_FRAME_BYTES_MAX)
        self._step = Step.TUNED
        if self.heartbeat_s:
            self.heartbeats.say(BEAT, self.heartbeat_s * 500)
            silence_ms = self.heartbeat_s * 1000 * SILENT_INTERVALS_MAX
            self.heartbeats.expect(silence_ms, SILENT_INTERVALS_MAX, self._was_silent)

    def _was_silent(self) -> None:
        self.lost(f"missed heartbeats from client, timeout: {self.heartbeat_s * SILENT_INTERVALS_MAX}s")

    def _enter(self, correlation_id: int, fields: Fields) -> None:
        try:
            self._client, self._virtual_host = enter(self.login, fields.string())
        except RequestRefused as refused:
            self.output.send(answer(codes.OPEN, correlation_id, refused.code))
            self._leave(str(refused))
            return
        self._open()
        host, port = advertised_address(self.broker.settings, self.peer)
        said = {"advertised_host": host, "advertised_port": str(port)}
        self.output.send(answer(codes.OPEN, correlation_id, codes.OK, pairs(said)))

    def _open(self) -> None:
        broker = self.broker
        self._deadline.cancel()
        self.watch_expiry()
        self._step = Step.OPEN
        publishing = self._publishing = Publishing(self)
        subscribing = self._subscribing = Subscribing(self)
        topology = Topology(self, *advertised_address(broker.settings, self.peer))
        self._handlers = {
            codes.DECLARE_PUBLISHER: publishing.declare,
            codes.QUERY_PUBLISHER_SEQUENCE: publishing.query_sequence,
            codes.DELETE_PUBLISHER: publishing.delete,
            codes.SUBSCRIBE: subscribing.subscribe,
            codes.QUERY_OFFSET: subscribing.query_offset,
            codes.UNSUBSCRIBE: subscribing.unsubscribe,
            codes.CREATE: topology.create,
            codes.DELETE: topology.delete,
            codes.METADATA: topology.metadata,
            codes.ROUTE: topology.route,
            codes.PARTITIONS: topology.partitions,
            codes.STREAM_STATS: topology.stats,
            codes.CREATE_SUPER_STREAM: topology.create_super_stream,
            codes.DELETE_SUPER_STREAM: topology.delete_super_stream,
            codes.EXCHANGE_COMMAND_VERSIONS: self._exchange_versions,
        }
        self.let_in()

    def _exchange_versions(self, fields: Fields) -> bytes:
        """Handle ExchangeCommandVersions: what the client takes is what it gets."""
        for _ in range(fields.count()):
            key, _, version_max = fields.u16(), fields.u16(), fields.u16()
            if key == codes.DELIVER:
                self.deliver_version = 2 if version_max >= 2 else 1
        return array([u16(key) + u16(1) + u16(version_max) for key, version_max in codes.VERSIONS_MAX.items()])

    def handshake_took_too_long(self) -> None:
        self.finish()

    # --- streams that go

    def _watch(self) -> None:
        """See that the client is told when a stream goes of which it has something."""
        streams = {publisher.stream for publisher in self.publishing.publishers.values()}
        streams.update(one.stream for one in self.subscribing.subscriptions.values())
        for stream in streams - self._watched.keys():
            watcher = self._watched[stream] = partial(self._stream_has_gone, stream)
            stream.watch(watcher)

    def _stream_has_gone(self, stream: StreamQueue) -> None:
        """A stream is deleted: the client hears of it if it has publishers or subscriptions there."""
        self._watched.pop(stream, None)
        if self._is_closed:
            return
        had_publishers = self.publishing.forget_stream(stream)
        had_subscriptions = self.subscribing.forget_stream(stream)
        if had_publishers or had_subscriptions:
            content = u16(codes.STREAM_NOT_AVAILABLE) + string(stream.name)
            self.output.send(command(codes.METADATA_UPDATE, content))

    # --- bytes out

    def update_room(self) -> None:
        """Whether the client may get more has changed."""
        if self._subscribing is not None:
            self._subscribing.update_room()

    # --- the end

    def _farewell(self, fields: Fields) -> None:
        """The client has sent Close."""
        correlation_id = fields.u32()
        self.close_reason = "closed by client"
        self.output.send(answer(codes.CLOSE, correlation_id))
        self.finish()

    def _leave(self, reason: str) -> None:
        """A client that is not let in is sent away."""
        self.close_reason = reason
        self.has_failed = True
        self.finish()

    def _fail(self, end: ConversationEnds) -> None:
        """Tell the client why it has to go, and end the connection."""
        if self._is_closed:
            return
        if self._is_open:
            log_event(
                logging.ERROR,
                "connection error",
                peer=str(self.peer),
                user=self.user_name,
                vhost=self.virtual_host_name,
                reason=str(end),
            )
        self.has_failed = not self._is_open
        self.close_reason = str(end)
        self.count_refusal(end.code)
        self.output.send(command(codes.CLOSE, u32(1) + u16(end.code) + string(str(end))))
        self.finish()

    def fail_forced(self, reason: str, *, is_shutdown: bool) -> None:
        """Tell the client that it has to go, and end the connection."""
        self._fail(ConversationEnds(codes.OK, reason))

    def words_for_a_defect(self) -> bytes:
        """A Close; asks nothing of what may have failed."""
        return command(codes.CLOSE, u32(1) + u16(codes.INTERNAL_ERROR) + string("internal error"))

    def detach(self) -> None:
        """Let go of the parts, which hold on to it: it is lost, and nobody will ask for anything more."""
        super().detach()
        self._publishing = None
        self._subscribing = None
        self._handlers = {}

    def release(self) -> None:
        """Let go of what its parts hold in the broker."""
        self.publishing.stop()
        self.subscribing.stop()
        for stream, watcher in self._watched.items():
            stream.unwatch(watcher)
        self._watched.clear()
