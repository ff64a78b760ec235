"""One client's connection of AMQP 1.0, without its socket: bytes in, bytes out.

What a pump owes it stands in docs/architecture.md.

First comes SASL behind a protocol header of its own, then the header of AMQP and ``open``; from then on frames are
handled in their order. The parts are ``handshake.py``, and ``session.py`` with its links.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from amqp_broker.access.client import Peer
from amqp_broker.broker.counters import ChannelCounts
from amqp_broker.broker.queues.unacknowledged import Unacknowledged
from amqp_broker.errors import AmqpError
from amqp_broker.logs import log_event
from amqp_broker.protocols.amqp10.context import ConnectionContext
from amqp_broker.protocols.amqp10.errors import (
    CONNECTION_FORCED,
    FRAME_SIZE_TOO_SMALL,
    INTERNAL_ERROR,
    NOT_ALLOWED,
    RESOURCE_LIMIT_EXCEEDED,
    ProtocolError,
    Scope,
    decode_error,
    framing_error,
    of_the_broker,
)
from amqp_broker.protocols.amqp10.frames import (
    AMQP,
    AMQP_HEADER,
    FRAME_BYTES_MIN_MAX,
    HEADERS,
    HEARTBEAT,
    PROTOCOL_HEADER,
    SASL,
    SASL_HEADER,
    Frame,
    FrameSplitter,
    encode_frame,
)
from amqp_broker.protocols.amqp10.handshake import authenticate, enter, idle_ms_of, open_answer
from amqp_broker.protocols.amqp10.inspection import connection_info
from amqp_broker.protocols.amqp10.performatives import (
    ATTACH,
    BEGIN,
    CLOSE,
    DETACH,
    END,
    OPEN,
    PLAIN_DISPOSITION,
    PLAIN_TRANSFER,
    SASL_INIT,
    Fields,
    accepted_delivery,
    close_performative,
    read_performative,
    sasl_mechanisms,
    sasl_outcome,
    whole_transfer,
)
from amqp_broker.protocols.amqp10.session import Session
from amqp_broker.session.login import Refusal, Refused

if TYPE_CHECKING:
    from amqp_broker.broker.broker import Broker
    from amqp_broker.broker.descriptions import ChannelInfo, ConnectionInfo

CHANNEL_MAX: Final = 63  # RabbitMQ's: 64 sessions
SASL_OK: Final = 0
SASL_REFUSED: Final = 1
FRAME_BYTES_MAX_OF_CLIENTS: Final = 4_194_304  # we send none that are larger, whatever the client takes
FRAME_BYTES_MAX_AT_FIRST: Final = 8_192  # before the client was let in
SILENT_CLOSE_MS: Final = 3_000  # who is not let in waits that long for the end of its connection, as with RabbitMQ
LOOKS_FOR_SILENCE: Final = 2
ERROR_EFFORT: Final = 10  # about; see ``ClientConnection.has_cost``
BEGIN_EFFORT: Final = 10  # likewise


class Step(Enum):
    """The steps of a connection, from its header to its end."""

    HEADER = auto()
    SASL = auto()
    AUTHENTICATED = auto()  # the header of AMQP comes next
    OPENING = auto()
    OPEN = auto()
    CLOSED = auto()


class Connection(ConnectionContext):
    """The conversation with one client.

    Args:
        broker: what it talks to.
        peer: who is at the other end.
        on_output: called when there is something to send, the connection is finished, or reading may go on.
    """

    def __init__(self, broker: Broker, peer: Peer, on_output: Callable[[], None]) -> None:
        super().__init__(broker, peer, on_output)
        self.sessions: dict[int, Session] = {}
        self._step = Step.HEADER
        self._splitter = FrameSplitter(FRAME_BYTES_MAX_AT_FIRST)
        self._ended_channels: set[int] = set()  # whose session we have ended, and the client has not

    # --- who it is

    @property
    def is_open(self) -> bool:
        return self._step is Step.OPEN

    @property
    def is_closed(self) -> bool:
        return self._step is Step.CLOSED

    @property
    def channel_count(self) -> int:
        return len(self.sessions)

    @property
    def state_name(self) -> str:
        if self._step is Step.OPEN:
            return "blocked" if self.throttle.is_blocked else "running"
        return "closed" if self._step is Step.CLOSED else "starting"

    def inspect(self) -> ConnectionInfo:
        """Describe it, for those who look in."""
        return connection_info(self)

    def inspect_channels(self) -> Iterator[ChannelInfo]:
        """Describe its sessions."""
        for session in list(self.sessions.values()):
            if self.sessions.get(session.channel_number) is session:  # else it has ended between two of them
                yield session.inspect()

    def unacknowledged(self) -> Iterator[tuple[str, list[Unacknowledged]]]:
        """The deliveries that wait for their settlement, by session."""
        for session in list(self.sessions.values()):
            yield f"{self.peer.connection_name} ({session.number})", list(session.unsettled.values())

    def channel_counts(self) -> Iterator[ChannelCounts]:
        """What its sessions have counted."""
        return iter([session.counts for session in list(self.sessions.values())])

    # --- bytes in

    def receive(self, data: bytes) -> None:
        """Handle all that the socket read, and what follows from it."""
        self.received_bytes += len(data)
        if self._step is Step.CLOSED:
            return
        frames = self._splitter.split(data)
        self.broker.handle_items(self, frames)
        self.missing_body_bytes = self._splitter.missing_bytes
        self.throttle.chunk_was_handled()

    def handle_rest(self, items: Iterator[Frame]) -> None:
        try:
            self.handle_each(items)
        except ProtocolError as error:  # what has come is no frame
            self.fail(error)

    def handle_item(self, item: Frame) -> None:
        kind, channel, body = item
        try:
            session = self.sessions.get(channel) if kind == AMQP else None
            if session is not None:
                if body.startswith(PLAIN_DISPOSITION):
                    delivery_id = accepted_delivery(body)
                    if delivery_id >= 0:
                        session.dispositions.accepted(delivery_id)
                        return
                elif body.startswith(PLAIN_TRANSFER):
                    whole = whole_transfer(body)
                    if whole is not None and session.takes_whole(whole[0]):
                        session.transfer(whole[0], whole[1], body, whole[2])
                        return
                fields, offset = read_performative(body)
                if ATTACH <= fields.code <= DETACH:
                    session.handle(fields, body[offset:])
                else:
                    self._handle_performative(channel, fields, body[offset:])
            elif kind == PROTOCOL_HEADER:
                self._handle_header(body)
            elif kind == AMQP and self._step in (Step.OPEN, Step.OPENING):
                fields, offset = read_performative(body)
                self._handle_performative(channel, fields, body[offset:])
            elif kind == SASL and self._step is Step.SASL:
                self._handle_sasl(read_performative(body)[0])
            else:
                raise framing_error(f"unexpected frame type {kind}")
        except ProtocolError as error:
            self._refuse(channel, error)
        except AmqpError as broken:
            self._refuse(channel, of_the_broker(broken))

    def _refuse(self, channel: int, error: ProtocolError) -> None:
        """End what an error ends."""
        self.has_cost(ERROR_EFFORT)
        if error.scope is Scope.CONNECTION or channel not in self.sessions:
            self.fail(error)
        else:
            self.fail_session(channel, error)

    def fail_session(self, channel: int, error: ProtocolError) -> None:
        self._log("session error", error)
        self._ended_channels.add(channel)
        self._end_session(self.sessions[channel], error)

    # --- the handshake

    def _handle_header(self, header: bytes) -> None:
        if self._step is Step.HEADER and header == SASL_HEADER:
            self._step = Step.SASL
            names = sasl_mechanisms(self.login.mechanisms_with_anonymous)
            self.output.send(SASL_HEADER + encode_frame(SASL, 0, names))
        elif self._step is Step.AUTHENTICATED and header == AMQP_HEADER:
            self._step = Step.OPENING
            self.output.send(AMQP_HEADER)
        else:
            if self._step is Step.HEADER:  # who wants no SASL is told that it is needed (AMQP 1.0, 2.2)
                self.output.send(SASL_HEADER)
            self.close_reason = "SASL is needed" if header in HEADERS else "wrong protocol header"
            self.has_failed = True
            self.finish()

    def _handle_sasl(self, fields: Fields) -> None:
        if fields.code != SASL_INIT:
            raise decode_error("something else in place of sasl-init")
        self.mechanism = fields.text(0) or ""
        try:
            authenticate(self.login, self.mechanism, fields.binary(1) or b"")
        except Refused as refused:
            self.login.tell(self.mechanism, "AMQP 1.0", str(refused))
            self._end_silently(str(refused), self._tell_refused if refused.reason is Refusal.LOGIN else self.finish)
            return
        self.login.tell(self.mechanism, "AMQP 1.0")
        self._step = Step.AUTHENTICATED
        self._splitter.expects_header = True
        self.output.send(encode_frame(SASL, 0, sasl_outcome(SASL_OK)))

    def _tell_refused(self) -> None:
        """Tell the client that it may not log in: late, as RabbitMQ, against who tries one password after another."""
        self.output.send(encode_frame(SASL, 0, sasl_outcome(SASL_REFUSED)))
        self._deadline = self.broker.timers.after(SILENT_CLOSE_MS, self.finish)

    def _open(self, fields: Fields) -> None:
        broker, settings = self.broker, self.broker.settings
        container = fields.text(0)
        if container is None:
            raise decode_error("open has no container-id")
        self.container = container
        self.client_properties = fields.map(9)
        frame_bytes_max = fields.number(2)
        if frame_bytes_max is not None and frame_bytes_max < FRAME_BYTES_MIN_MAX:
            text = f"max_frame_size ({frame_bytes_max}) < minimum maximum frame size ({FRAME_BYTES_MIN_MAX})"
            raise ProtocolError(FRAME_SIZE_TOO_SMALL, text, Scope.CONNECTION)
        self.idle_ms = idle_ms_of(fields)
        client, virtual_host = enter(broker, self.login, fields)
        self._deadline.cancel()
        self._client, self._virtual_host = client, virtual_host
        self.watch_expiry()
        self.frame_bytes_max = min(frame_bytes_max or FRAME_BYTES_MAX_OF_CLIENTS, FRAME_BYTES_MAX_OF_CLIENTS)
        of_client = fields.number(3)
        self.channel_max = CHANNEL_MAX if of_client is None else min(CHANNEL_MAX, of_client)
        self._splitter.frame_bytes_max = settings.frame_size_bytes_max
        self._step = Step.OPEN
        broker.alarms.listen(self._alarms_changed)
        self.join_broker()
        silence_ms_max = settings.heartbeat_s * 1000
        self.output.send(encode_frame(AMQP, 0, open_answer(settings, self.channel_max, silence_ms_max // 2)))
        if self.idle_ms:
            self.heartbeats.say(HEARTBEAT, self.idle_ms // 3)
        if silence_ms_max:
            self.heartbeats.expect(silence_ms_max, LOOKS_FOR_SILENCE, self._was_silent)

    def permissions_changed(self) -> None:
        super().permissions_changed()
        for session in self.sessions.values():
            session.look_up_again()

    def _alarms_changed(self) -> None:
        """Each session has a window of its own for what the client sends; without that it sends nothing."""
        for session in self.sessions.values():
            session.alarms_changed(self.broker.alarms.are_raised)

    def _was_silent(self) -> None:
        text = "no frame received from client within idle timeout threshold"
        self.fail(ProtocolError(RESOURCE_LIMIT_EXCEEDED, text, Scope.CONNECTION))

    def handshake_took_too_long(self) -> None:
        self.has_failed = True
        self.finish()

    # --- frames

    def _handle_performative(self, channel: int, fields: Fields, payload: bytes) -> None:
        code = fields.code
        if code == CLOSE:
            self.close_reason = "closed by client"
            self._close(None)
        elif self._step is Step.OPENING:
            if code != OPEN:
                raise ProtocolError(NOT_ALLOWED, "something else before open", Scope.CONNECTION)
            self._open(fields)
        elif channel > self.channel_max:
            raise framing_error(f"channel number ({channel}) exceeds maximum channel number ({self.channel_max})")
        elif code == OPEN:
            raise ProtocolError(NOT_ALLOWED, "a second open", Scope.CONNECTION)
        elif channel in self._ended_channels:
            if code == END:
                self._ended_channels.discard(channel)
        elif channel in self.sessions:
            self._handle_session(self.sessions[channel], fields, payload)
        elif code == BEGIN:  # anything else about a session that is not there is passed over, as by RabbitMQ
            self._begin(channel, fields)

    def _handle_session(self, session: Session, fields: Fields, payload: bytes) -> None:
        if fields.code == END:
            self._end_session(session, None)
        else:
            session.handle(fields, payload)

    def _begin(self, channel: int, fields: Fields) -> None:
        limit = self.client.user.limits.channels_max
        if limit is not None and self.broker.open_connections.channel_count_of_user(self.user_name) >= limit:
            text = f"number of channels opened for user '{self.user_name}' has reached the maximum allowed user limit"
            raise ProtocolError(RESOURCE_LIMIT_EXCEEDED, f"{text} of ({limit})", Scope.CONNECTION)
        self.has_cost(BEGIN_EFFORT)
        session = self.sessions[channel] = Session(self, channel, fields)
        self.broker.open_connections.count_changed(self.user_name)
        self.broker.churn.channels_opened += 1
        if self.broker.observers.present_for_changes:
            self.broker.observers.opened(self, session)

    def _end_session(self, session: Session, error: ProtocolError | None) -> None:
        reason = "" if error is None else str(error)
        del self.sessions[session.channel_number]
        self.broker.open_connections.count_changed(self.user_name)
        self.broker.churn.channels_closed += 1
        if self.broker.observers.present_for_changes:
            self.broker.observers.closed(self, session, reason)
        self.virtual_host.counts_of_ended.add(self.counted_as, session.counts)
        self.broker.works.begin(session.stop(error))

    # --- bytes out

    def update_room(self) -> None:
        """Whether the client may get more has changed."""
        for session in list(self.sessions.values()):
            session.update_room()

    # --- the end

    def fail(self, error: ProtocolError) -> None:
        """Tell the client what is wrong, if it was let in, and end the connection."""
        if self._step is Step.CLOSED:
            return
        if self._step is Step.OPEN:
            self.close_reason = str(error)
            self._log("connection error", error)
            self._close(error)
        else:
            self._end_silently(str(error), self.finish)

    def _end_silently(self, reason: str, after_a_while: Callable[[], None]) -> None:
        """Tell the client nothing, and end the connection after a while: RabbitMQ's way with who is not let in.

        AMQP 1.0 (2.4.1) would have it told why, in ``close`` behind an ``open``; but some clients take the ``open`` for
        a success, and connect again without end.
        """
        self.close_reason = reason
        self.has_failed = True
        self._step = Step.CLOSED
        self.stop_waiting()
        self._deadline = self.broker.timers.after(SILENT_CLOSE_MS, after_a_while)

    def _log(self, event: str, error: ProtocolError) -> None:
        log_event(
            logging.ERROR,
            event,
            peer=str(self.peer),
            user=self.user_name,
            vhost=self.virtual_host_name,
            reason=str(error),
        )

    def _close(self, error: ProtocolError | None) -> None:
        """Say ``close``, behind all that is owed, and end the connection."""
        for session in list(self.sessions.values()):
            session.finish()
        self.output.send(encode_frame(AMQP, 0, close_performative(error)))
        self.finish()

    def fail_forced(self, reason: str, *, is_shutdown: bool) -> None:
        """Tell the client that it has to go, if it was let in, and end the connection."""
        if self._step is Step.OPEN:
            self.fail(ProtocolError(CONNECTION_FORCED, reason, Scope.CONNECTION))
        else:
            self.close_reason = self.close_reason or reason
            self.finish()

    def words_for_a_defect(self) -> bytes:
        """A ``close``; asks nothing of what may have failed."""
        error = ProtocolError(INTERNAL_ERROR, "the broker has failed", Scope.CONNECTION)
        return encode_frame(AMQP, 0, close_performative(error)) if self.container else b""

    def lost(self, reason: str) -> None:
        """The socket has ended: give back all that the client had."""
        if self.is_closed and not self.finished:  # it waits for its silent end no longer
            self.finish()
        super().lost(reason)

    def detach(self) -> None:
        """Let go of the parts, which hold on to it: it is lost, and nobody will ask for anything more."""
        super().detach()
        self.sessions.clear()

    def finish(self) -> None:
        """Nothing more comes in; what waits goes out, then the socket may be closed."""
        was_open = self._step is Step.OPEN
        self._step = Step.CLOSED
        self.stop_waiting()
        if was_open:
            self._release()
        self.finish_when_sent()

    def _release(self) -> None:
        """Give back what the client had."""
        broker, virtual_host = self.broker, self.virtual_host
        broker.alarms.unlisten(self._alarms_changed)
        self.leave_broker()
        broker.churn.channels_closed += len(self.sessions)
        for session in list(self.sessions.values()):
            virtual_host.counts_of_ended.add(self.counted_as, session.counts)
            broker.works.begin(session.stop(says=False))
        self.sessions.clear()
        virtual_host.remove_exclusive_queues(self.client)
