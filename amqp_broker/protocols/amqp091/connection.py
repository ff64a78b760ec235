"""One client's connection, without its socket: bytes in, bytes out.

What the server floor owes it:

- ``receive`` with whatever the socket read, in order, one call at a time; it never raises for what a peer sends;
- to send what ``take_output`` returns, in order, and to say so with ``output_sent`` when it is sent: that is what
  opens the connection's back-pressure again. ``on_output`` is called when there is something to take, when
  ``finished`` has become true, and when ``is_reading_paused`` has become false;
- nothing for ``missing_body_bytes``: so much of a message's body is still to come, which is worth reading in one go, or
  into the ``body_buffers`` that there may be for it: then ``body_buffers_filled`` takes the place of ``receive``;
- to close the socket once ``finished`` is true and the last output is sent;
- to call ``lost`` when the socket ends, for whatever reason, also after ``finished``, and ``detach`` in the very end.

The states are in ``states.py``: ``handshake`` until connection.open succeeded, ``open``, ``closing`` after we sent
connection.close until it is answered, ``closed by client`` after we answered the client's until it ends the socket (in
both, all but connection.close is ignored, and neither lasts for ever), ``closed``. Channel 0 is handled here and in
``handshake.py``, the others in ``channel.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, ClassVar, Final

from amqp_broker.access.client import Client, Peer
from amqp_broker.access.judge import NotDecidedYet
from amqp_broker.access.passwords import NotVerifiedYet
from amqp_broker.broker.counters import ChannelCounts
from amqp_broker.broker.queues.base import QueueBusy
from amqp_broker.broker.queues.consumers import in_turn
from amqp_broker.broker.queues.unacknowledged import Unacknowledged
from amqp_broker.broker.works import SLICE_MESSAGES, Unfinished, Work
from amqp_broker.compilation import mypyc_attr
from amqp_broker.errors import NO_METHOD, AmqpError, OtherProtocol, ReplyCode
from amqp_broker.explanations import wrong_client
from amqp_broker.protocols.amqp091.channel import Channel
from amqp_broker.protocols.amqp091.error_log import log_error
from amqp_broker.protocols.amqp091.handshake import Handshake
from amqp_broker.protocols.amqp091.inspection import connection_info
from amqp_broker.protocols.amqp091.link import OPEN, ChannelLink, Link
from amqp_broker.protocols.amqp091.publishing import BASIC_PUBLISH
from amqp_broker.protocols.amqp091.states import CONNECTION_TRANSITIONS, ConnectionEvent, ConnectionState
from amqp_broker.session.login import Refused
from amqp_broker.wire import methods
from amqp_broker.wire.errors import MalformedTable, UnknownMethod, WireError
from amqp_broker.wire.frames import (
    FRAME_KINDS,
    HEARTBEAT,
    HEARTBEAT_FRAME,
    METHOD,
    PROTOCOL_HEADER,
    PROTOCOL_HEADERS_1_0,
    encode_frame,
    unexpected_frame,
    unknown_frame,
)
from amqp_broker.wire.methods import Method, build, decode_method, encode_method, undecodable

if TYPE_CHECKING:
    from amqp_broker.broker.broker import Broker
    from amqp_broker.broker.descriptions import ChannelInfo, ConnectionInfo
    from amqp_broker.broker.virtual_host import VirtualHost

CLOSING_MS_MAX = 30_000  # how long connection.close may stay unanswered, and a socket open behind connection.close-ok
# A client gets buffers for no more of a body than it has sent bytes before, so that its promises alone take no memory.
BODY_BUFFER_BYTES_MAX = 4_194_304
BODY_BUFFER_BYTES_AT_ONCE = 1_048_576
# The buffers of all connections together; each gets its share, because bodies that were begun may stay so for long.
ALL_BODY_BUFFERS_BYTES_MAX = 268_435_456
BLOCKED_CAPABILITY: Final = "connection.blocked"
SILENT_INTERVALS_MAX: Final = 2  # of heartbeats; who says nothing for so long is given up
SILENT_CLOSE_MS = 3_000  # a peer that is not trusted yet waits that long for the end of its connection


Frame = tuple[int, int, bytes]  # kind, channel, payload


# Looking a member up in its class takes as long as calling a function; these two are compared with once a frame.
CLOSED: Final = ConnectionState.CLOSED


@mypyc_attr(allow_interpreted_subclasses=True)
class Connection(Link):
    """The session of one client.

    Args:
        broker: what it talks to.
        peer: who is at the other end.
        on_output: called when there is something to send, the connection is finished, or reading may go on.
    """

    __deletable__ = ("_handshake",)  # by detach

    channel_type: ClassVar[type[Channel]] = Channel  # a broker in a test has its own

    def __init__(self, broker: Broker, peer: Peer, on_output: Callable[[], None]) -> None:
        super().__init__(broker, peer, on_output)
        self.channels: dict[int, Channel] = {}
        self._has_ended = False
        self._closed_channels: list[ChannelLink] = []  # by the chunk that is being handled
        self._header = b""
        self._has_lost_its_place = False
        self._handshake = Handshake(self)

    # --- who it is

    def inspect(self) -> ConnectionInfo:
        """Describe it, for those who look in."""
        return connection_info(self)

    def channel_counts(self) -> Iterator[ChannelCounts]:
        """What its open channels have counted; those that have ended are in ``counts_of_ended``."""
        return (channel.counts for channel in list(self.channels.values()) if not channel.is_counted)

    def inspect_channels(self) -> Iterator[ChannelInfo]:
        """Describe its channels."""
        for channel in list(self.channels.values()):
            if self.channels.get(channel.number) is channel:  # else it has ended between two of them
                yield channel.inspect()

    def unacknowledged(self) -> Iterator[tuple[str, list[Unacknowledged]]]:
        """The deliveries that wait for their settlement, by channel; those that a transaction settles come first."""
        for channel in list(self.channels.values()):
            if self.channels.get(channel.number) is not channel:
                continue
            put_off = channel.transaction.deliveries() if channel.transaction is not None else []
            name = f"{self.peer.connection_name} ({channel.number})"
            yield name, put_off + list(channel.consuming.unacknowledged.values())

    # --- bytes in

    def receive(self, data: bytes) -> None:
        """Handle all that the socket read, and what follows from it."""
        self.received_bytes += len(data)
        if self.state is ConnectionState.CLOSED or self._has_lost_its_place:
            return
        if self._header != PROTOCOL_HEADER:
            data = self._read_protocol_header(data)
        self._handle_received(self.splitter.split(data))

    def body_buffers(self) -> Sequence[memoryview]:
        """Where the next bytes may be read to; they are reported to ``body_buffers_filled`` before anything else.

        Returns:
            Buffers to be filled in this order; none when the bytes are to be handed to ``receive``.
        """
        if self.state is not OPEN or self._has_lost_its_place:
            return ()
        channel = self.channels.get(self.splitter.begun_body_channel)
        missing_bytes = channel.publishing.missing_bytes if channel is not None else 0
        share_bytes = ALL_BODY_BUFFERS_BYTES_MAX // max(1, len(self.broker.open_connections))
        buffer_bytes_max = min(BODY_BUFFER_BYTES_MAX, share_bytes, self.received_bytes)
        return self.splitter.body_buffers(missing_bytes, buffer_bytes_max, BODY_BUFFER_BYTES_AT_ONCE)

    def body_buffers_filled(self, size_bytes: int) -> None:
        """Handle what was read into the buffers."""
        self.received_bytes += size_bytes
        if self.state is CLOSED or self._has_lost_its_place:
            return
        self._handle_received(self._counted(self.splitter.split_buffered(size_bytes)))

    def _counted(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Frames each of which counts: what is read at once here may be much, and need not be a body after all."""
        for frame in frames:
            self.effort += 1
            yield frame

    def _handle_received(self, frames: Iterator[Frame]) -> None:
        self.broker.handle_items(self, frames)
        self.throttle.chunk_was_handled()

    def handle_rest(self, items: Iterator[Frame]) -> None:
        try:
            self._handle_each(items)
        except AmqpError as error:  # the splitter has lost its place: nothing more can be read
            self._has_lost_its_place = True
            self.fail(0, error, NO_METHOD)
            self._finish_later(SILENT_CLOSE_MS)

    def _handle_each(self, frames: Iterator[Frame]) -> None:
        self.effort = 0
        output = self.output
        for kind, number, payload in frames:
            try:
                try:
                    self._handle_frame(kind, number, payload)
                except AmqpError as error:
                    self.fail(number, error, _method_ids(kind, payload))
                except (MalformedTable, UnknownMethod) as unreadable:
                    self._end_silently(unreadable)
                except WireError:
                    self.fail(number, undecodable(payload), _method_ids(kind, payload))
            except QueueBusy as busy:
                self.suspend(busy.queue.wait, chain(((kind, number, payload),), frames))
                return
            except Unfinished as unfinished:
                self.suspend(unfinished.work.when_done, frames)
                return
            except (NotVerifiedYet, NotDecidedYet) as check:
                self.suspend(self.verdict_on(check), chain(((kind, number, payload),), frames))
                return
            if self.state is CLOSED:
                return
            if self.throttle.is_alarmed and self.throttle.blocks():
                self.suspend(self.throttle.wait_for_all_clear, frames)
                return
            if output.waiting_bytes > output.waiting_bytes_max:
                self.suspend(output.wait_for_room, frames)
                return
            if self.effort > SLICE_MESSAGES:  # a few bytes can ask for much: the others come first
                self.suspend(self.turn().when_done, frames)
                return
        if self._closed_channels:
            self._forget_closed_channels()

    def forget_later(self, channel: ChannelLink) -> None:
        """A channel was closed by the client: behind this chunk its number is free again."""
        self._closed_channels.append(channel)

    def _forget_closed_channels(self) -> None:
        closed_channels, self._closed_channels = self._closed_channels, []
        for channel in closed_channels:
            if self.channels.get(channel.number) is channel:
                self.forget(channel)

    def forget(self, channel: ChannelLink) -> None:
        """A channel has ended: its number is free again."""
        del self.channels[channel.number]
        self.broker.open_connections.count_changed(self.user_name)
        channel.detach()

    def tell_blocked(self, reason: str) -> None:
        """An alarm holds the client back: say so, if it understands that."""
        if BLOCKED_CAPABILITY in self.client_capabilities:
            self.send_method(0, build(methods.Connection.Blocked, reason=reason))

    def tell_unblocked(self) -> None:
        if BLOCKED_CAPABILITY in self.client_capabilities:
            self.send_method(0, methods.Connection.Unblocked())

    def _read_protocol_header(self, data: bytes) -> bytes:
        """Take the protocol header off; an impossible one is answered with the one that works (AMQP 0-9-1, 4.2.2)."""
        missing = len(PROTOCOL_HEADER) - len(self._header)
        self._header += data[:missing]
        if len(self._header) < len(PROTOCOL_HEADER):
            return b""
        if self._header in PROTOCOL_HEADERS_1_0:
            raise OtherProtocol(self._header + data[missing:])
        if self._header not in (PROTOCOL_HEADER, b"AMQP\x01\x01\x00\x09"):
            self.output.send(PROTOCOL_HEADER)
            who = wrong_client(self._header, "AMQP")
            self.close_reason = f"{who}: wrong protocol header" if who else "wrong protocol header"
            self.finish()
            return b""
        minor_version = 0 if self._header != PROTOCOL_HEADER else 9
        self._header = PROTOCOL_HEADER
        self._handshake.start(minor_version)
        return data[missing:]

    def _handle_frame(self, kind: int, number: int, payload: bytes) -> None:
        if number and self.state is OPEN:
            channel = self.channels.get(number)
            if channel is None:
                if kind == HEARTBEAT:
                    raise unexpected_frame(kind, payload)
                channel = self._add_channel(number)
            channel.receive(kind, payload)
        elif number:
            if self.state is ConnectionState.HANDSHAKE:
                raise unexpected_frame(kind, payload)
        elif kind == METHOD:
            self._handle_method(decode_method(payload))
        elif kind == HEARTBEAT:
            if payload:
                raise unknown_frame(kind, payload)
        elif kind not in FRAME_KINDS:
            raise unknown_frame(kind, payload)
        elif not self._is_closing:
            raise unexpected_frame(kind, payload)

    def _add_channel(self, number: int) -> Channel:
        if self.channels_max and len(self.channels) >= self.channels_max:
            text = f"number of channels opened ({len(self.channels)}) has reached the negotiated channel_max"
            raise AmqpError(ReplyCode.NOT_ALLOWED, f"{text} ({self.channels_max})", blamed=NO_METHOD)
        self._check_channels_of_user()
        channel = self.channels[number] = self.channel_type(self, number)
        self.broker.open_connections.count_changed(self.user_name)
        return channel

    def _check_channels_of_user(self) -> None:
        limit = self.client.user.limits.channels_max
        if limit is not None and self.broker.open_connections.channel_count_of_user(self.user_name) >= limit:
            text = f"number of channels opened for user '{self.user_name}' has reached the maximum allowed user limit"
            raise AmqpError(ReplyCode.NOT_ALLOWED, f"{text} of ({limit})", blamed=NO_METHOD)

    def _handle_method(self, method: Method) -> None:
        if self.state is ConnectionState.HANDSHAKE:
            self._handshake.handle(method)
        elif isinstance(method, methods.Connection.Close):
            self._close_reply(method)
        elif self._is_closing:
            if self.state is ConnectionState.CLOSING and isinstance(method, methods.Connection.CloseOk):
                self.finish(ConnectionEvent.ANSWERED)
        elif isinstance(method, methods.Connection.UpdateSecret):
            self._update_secret(method.new_secret or "")
        else:
            raise AmqpError(ReplyCode.CHANNEL_ERROR, "unexpected method in connection state running")

    def _update_secret(self, secret: str) -> None:
        """The client has renewed its credentials: look again what it may do (RabbitMQ docs, "OAuth 2")."""
        try:
            self.renew(secret.encode("utf-8", "surrogateescape"))
        except Refused as refused:
            text = "New secret was refused by one of the backends"
            raise AmqpError(ReplyCode.NOT_ALLOWED, text, detail=str(refused)) from None
        self.send_method(0, methods.Connection.UpdateSecretOk())

    def permissions_changed(self) -> None:
        super().permissions_changed()
        if self.client.is_judged:
            self.remembered.begin_version(self.virtual_host.lookup_version)
        for channel in self.channels.values():
            channel.consuming.cancel_refused()

    def _move(self, event: ConnectionEvent) -> None:
        self.state = CONNECTION_TRANSITIONS[self.state][event]

    @property
    def is_open(self) -> bool:
        """Whether the client was let in, and the end has not begun."""
        return self.state is ConnectionState.OPEN

    @property
    def is_closed(self) -> bool:
        return self.state is CLOSED

    @property
    def channel_count(self) -> int:
        return len(self.channels)

    @property
    def _is_closing(self) -> bool:
        """Whether one side has said connection.close: nothing else counts any more."""
        return self.state is ConnectionState.CLOSING or self.state is ConnectionState.CLOSED_BY_CLIENT

    # --- the handshake's results

    def tuned(self, frame_size_bytes_max: int, channels_max: int, heartbeat_s: int) -> None:
        """What client and broker have agreed on."""
        self.frame_size_bytes_max = frame_size_bytes_max
        self.channels_max = channels_max
        self.heartbeat_s = heartbeat_s
        self.splitter.limit_frames(frame_size_bytes_max)
        self.start_heartbeats()

    def start_heartbeats(self) -> None:
        """Begin to send and to expect heartbeats, as they were agreed on (AMQP 0-9-1, 4.2.7)."""
        interval_ms = self.heartbeat_s * 1000
        if interval_ms:
            self.heartbeats.say(HEARTBEAT_FRAME, interval_ms // 2)
            self.heartbeats.expect(SILENT_INTERVALS_MAX * interval_ms, SILENT_INTERVALS_MAX, self._was_silent)

    def _was_silent(self) -> None:
        """Give the client up, without a word, since nobody listens."""
        self.lost(f"missed heartbeats from client, timeout: {self.heartbeat_s}s")

    def opened(self, client: Client, virtual_host: VirtualHost) -> None:
        """The handshake is done."""
        self._deadline.cancel()
        self._client = client
        self._virtual_host = virtual_host
        self.watch_expiry()
        self._move(ConnectionEvent.OPENED)
        self.broker.open_connections.add(self)
        if self.broker.observers.present_for_changes:
            self.broker.observers.opened(self)
        self.throttle.start()

    def handshake_took_too_long(self) -> None:
        self.finish()

    # --- bytes out

    def update_room(self) -> None:
        """Whether the client's consumers may get more has changed."""
        for channel in in_turn(self.channels, self.last_served):
            channel.consuming.update_room()

    # --- the end

    def fail(self, number: int, error: AmqpError, method_ids: tuple[int, int]) -> None:
        """Tell the client of an error: close the channel or, for a hard error or one on channel 0, the connection.

        Args:
            method_ids: class and method id of the method that failed, unless the error says otherwise.

        Raises:
            Unfinished: the client is told, and may be heard again, when what the channel had is given back.
        """
        if error.blamed is not None:
            method_ids = error.blamed
        if self._is_closing:
            return
        if self.broker.observers.present_for_changes:
            self.broker.observers.refused(self, error)
        if self.state is ConnectionState.HANDSHAKE:
            self.has_failed = True
            self._fail_handshake(error, method_ids)
        elif error.is_hard or number == 0:
            log_error(self, number, error, method_ids)
            self._close(error, method_ids)
        else:
            log_error(self, number, error, method_ids)
            self.channels[number].fail(error, method_ids)

    def _end_silently(self, error: WireError) -> None:
        """What RabbitMQ cannot read at all ends the connection without a word."""
        self.close_reason = str(error)
        if self.state is ConnectionState.HANDSHAKE:
            self._move(ConnectionEvent.FAILED)
            self._finish_later(SILENT_CLOSE_MS)
        else:
            self.finish()

    def _fail_handshake(self, error: AmqpError, method_ids: tuple[int, int]) -> None:
        """Who has not opened the connection yet is told only what RabbitMQ tells it, and waits for the end else."""
        self.close_reason = str(error)
        if self._handshake.tells(error):
            self._close(error, method_ids)
        else:
            self._move(ConnectionEvent.FAILED)
            self._finish_later(SILENT_CLOSE_MS)

    def _close(self, error: AmqpError, method_ids: tuple[int, int]) -> None:
        self.close_reason = str(error)
        work = self._release()
        self._move(ConnectionEvent.FAILED)
        close = build(
            methods.Connection.Close,
            reply_code=int(error.code),
            reply_text=error.reply_text,
            class_id=method_ids[0],
            method_id=method_ids[1],
        )
        work.when_done(partial(self.send_method, 0, close))
        self._finish_later(self._closing_ms)

    def _close_reply(self, method: methods.Connection.Close) -> None:
        """The client ends the connection."""
        if self.state is ConnectionState.OPEN:
            self.close_reason = "closed by client"
            for channel in self.channels.values():
                channel.consuming.catch_up()
            work = self._release()
            if not work.is_done:
                work.when_done(self._closed_by_client)
                raise Unfinished(work)
        self._closed_by_client()

    def _closed_by_client(self) -> None:
        """Answer, and leave the socket to the client for a while, which may be about to say the same once more."""
        if self.is_closed:
            return  # the socket ended meanwhile
        self.send_method(0, methods.Connection.CloseOk())
        if self.state is OPEN:
            self._move(ConnectionEvent.CLOSED_BY_CLIENT)
            self.broker.open_connections.remove(self)
            self.throttle.stop()
            self._finish_later(self._closing_ms)

    @property
    def _closing_ms(self) -> int:
        """How long the end may take: as long as a client may be silent, and no longer than usual."""
        return min(self.heartbeat_s * 1000, CLOSING_MS_MAX) or CLOSING_MS_MAX

    def shut_down(self, reason: str) -> None:
        """End the connection because the broker ends, or an administrator wants it."""
        if self.state is ConnectionState.HANDSHAKE:
            self.close_reason = reason
            self.finish()
        elif self.state is ConnectionState.CLOSED_BY_CLIENT:
            self.finish()
        else:
            self.close_forcibly(f"broker forced connection closure with reason '{reason}'")

    def fail_forced(self, reason: str, *, is_shutdown: bool) -> None:
        """Tell the client that it has to go, and end the connection."""
        self._close(AmqpError(ReplyCode.CONNECTION_FORCED, reason), NO_METHOD)

    def lost(self, reason: str) -> None:
        """The socket has ended: give back all that the client had."""
        self.splitter.give_up()
        if self.state is not ConnectionState.CLOSED:
            if not self.close_reason:
                self.close_reason = reason
            self.output.discard()
            self.broker.handle(self.finish)
            self.output.discard()

    def words_for_a_defect(self) -> bytes:
        """connection.close 541; asks nothing of what may have failed."""
        code = ReplyCode.INTERNAL_ERROR
        close = build(methods.Connection.Close, reply_code=int(code), reply_text=code.name, class_id=0, method_id=0)
        return encode_frame(METHOD, 0, encode_method(close))

    def detach(self) -> None:
        """Let go of the parts, which hold on to it: it is lost, and nobody will ask for anything more.

        Else each would wait for the garbage collector, which takes long where there are many messages.
        """
        super().detach()
        del self._handshake

    def finish(self, event: ConnectionEvent = ConnectionEvent.ENDED) -> None:
        """Nothing more comes in; what waits goes out, then the socket may be closed."""
        self._release()
        self._move(event)
        self.broker.open_connections.remove(self)
        self.stop_waiting()
        self.finish_when_sent()

    def _finish_later(self, delay_ms: int) -> None:
        self._deadline.cancel()
        self._deadline = self.broker.timers.after(delay_ms, self.finish)

    def _release(self) -> Work:
        """Give back what the client had: its channels' consumers and messages, its exclusive queues."""
        if self._client is not None and not self._has_ended and self.broker.observers.present_for_changes:
            self.broker.observers.closed(self, None, self.close_reason)
        self._has_ended = True
        channels, self.channels = self.channels, {}
        if channels:
            self.broker.open_connections.count_changed(self.user_name)
        unfinished = []
        for channel in channels.values():
            unfinished.append(channel.release())
            channel.detach()
        if self._client is not None:
            self.virtual_host.remove_exclusive_queues(self._client)
        return self.broker.works.begin(chain.from_iterable(unfinished))


def _method_ids(kind: int, payload: bytes) -> tuple[int, int]:
    """The method that a frame belongs to: its own ids, or basic.publish's for content."""
    if kind != METHOD:
        return BASIC_PUBLISH
    return int.from_bytes(payload[:2], "big"), int.from_bytes(payload[2:4], "big")
