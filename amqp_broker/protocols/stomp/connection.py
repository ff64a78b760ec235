"""One STOMP client's connection, without its socket: bytes in, bytes out (docs/architecture.md: what a pump owes it).

Before CONNECT nothing else is heard; after it frames are handled in their order. The parts are ``handshake.py``
(CONNECT), ``publishing.py`` (SEND, receipts), ``subscribing.py`` with ``subscriptions.py`` (the way out, ACK, NACK),
and ``transactions.py``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Final

from amqp_broker.access.client import Peer
from amqp_broker.broker.names import generated_name
from amqp_broker.broker.observer import Channel
from amqp_broker.broker.publishing import REFUSED
from amqp_broker.broker.queues.unacknowledged import Unacknowledged
from amqp_broker.broker.works import Unfinished
from amqp_broker.errors import AmqpError, ReplyCode
from amqp_broker.explanations import wrong_client
from amqp_broker.logs import log_event
from amqp_broker.protocols.stomp.errors import StompError, malformed, of_the_broker
from amqp_broker.protocols.stomp.frames import HEART_BEAT, Frame, FrameSplitter, Headers, encode_frame
from amqp_broker.protocols.stomp.handshake import VERSIONS, admit, connected_headers, heart_beat_of, version_of
from amqp_broker.protocols.stomp.inspection import channel_info, connection_info
from amqp_broker.protocols.stomp.link import Link
from amqp_broker.protocols.stomp.publishing import Publishing
from amqp_broker.protocols.stomp.queues import Queues
from amqp_broker.protocols.stomp.subscribing import Subscribing
from amqp_broker.protocols.stomp.transactions import CannotCommit, Transactions

if TYPE_CHECKING:
    from amqp_broker.broker.broker import Broker
    from amqp_broker.broker.descriptions import ChannelInfo, ConnectionInfo

CONNECT_COMMANDS: Final = ("CONNECT", "STOMP")
CONNECT_BODY_BYTES_MAX: Final = 1_024  # of any frame before the login
TRANSACTIONAL: Final = ("SEND", "ACK", "NACK")  # what a transaction may hold
SILENT_INTERVALS_MAX: Final = 2  # of heart-beats; who says nothing for so long is given up
ERROR_EFFORT: Final = 10  # about; see ``ClientConnection.has_cost``
ERRORS_LOGGED_MAX: Final = 10  # of a client that goes on after each


class Connection(Link):
    """The conversation with one client.

    Args:
        broker: what it talks to.
        peer: who is at the other end.
        on_output: called when there is something to send, the connection is finished, or reading may go on.
    """

    def __init__(self, broker: Broker, peer: Peer, on_output: Callable[[], None]) -> None:
        super().__init__(broker, peer, on_output)
        self._splitter = FrameSplitter(CONNECT_BODY_BYTES_MAX)
        self._errors_logged = 0
        self._is_leaving = False  # the client has said DISCONNECT: nothing more is heard
        self._queues: Queues | None = None
        self._publishing: Publishing | None = None
        self._subscribing: Subscribing | None = None
        self._transactions: Transactions | None = None

    # --- who it is; most of it is there once CONNECT was accepted

    @property
    def queues(self) -> Queues:
        """What it declares."""
        assert self._queues is not None
        return self._queues

    @property
    def publishing(self) -> Publishing:
        """What it sends."""
        assert self._publishing is not None
        return self._publishing

    @property
    def subscribing(self) -> Subscribing:
        """What it has subscribed to."""
        assert self._subscribing is not None
        return self._subscribing

    @property
    def transactions(self) -> Transactions:
        """What it has put off."""
        assert self._transactions is not None
        return self._transactions

    @property
    def channel(self) -> Channel:
        return self.subscribing

    def reply_queue(self, name: str) -> str:
        return self.subscribing.reply_queue(name)

    def subscription_cancelled(self, tag: str) -> None:
        self.subscribing.cancelled(tag)

    def inspect(self) -> ConnectionInfo:
        """Describe it, for those who look in."""
        return connection_info(self)

    def inspect_channel(self) -> ChannelInfo:
        """Describe it as a channel."""
        return channel_info(self, self.publishing, self.subscribing, self.transactions)

    def unacknowledged(self) -> Iterator[tuple[str, list[Unacknowledged]]]:
        """The deliveries that wait for their settlement, of what stands for its channel."""
        if self._is_open:
            yield f"{self.peer.connection_name} (1)", self.subscribing.unacknowledged

    # --- bytes in

    def receive(self, data: bytes) -> None:
        """Handle all that the socket read, and what follows from it."""
        if not self.received_bytes and not data.startswith((b"CONNECT", b"STOMP")):
            who = wrong_client(data, "STOMP")
            if who:
                self.broker.handle(partial(self.fail, malformed(who)))
        self.received_bytes += len(data)
        if self._is_closed or self._is_leaving:
            return
        frames = self._splitter.split(data)
        self.broker.handle_items(self, frames)
        self.missing_body_bytes = self._splitter.missing_bytes
        self.throttle.chunk_was_handled()

    def handle_rest(self, items: Iterator[Frame]) -> None:
        try:
            self.handle_each(items)
        except StompError as error:  # what has come is no frame
            self.fail(error)

    def handle_item(self, item: Frame) -> None:
        try:
            if not self._is_open:
                self._handle_first(item)
            elif not self._is_leaving:
                self._handle_open(item)
        except CannotCommit as undone:
            self._fail_because(undone.error, item if "receipt" in item.headers else undone.frame)
        except (StompError, AmqpError) as error:
            self._fail_because(error, item)

    def _fail_because(self, error: StompError | AmqpError, frame: Frame) -> None:
        """Tell the client that a frame cannot be done, with the receipt that it has asked for."""
        receipt = frame.headers.get("receipt")
        if isinstance(error, StompError):
            self.fail(error, receipt)
        else:
            self.fail_with(error, receipt)

    def _handle_first(self, frame: Frame) -> None:
        if frame.command not in CONNECT_COMMANDS:
            raise StompError("Illegal command", "You must log in using CONNECT first", closes=True)
        is_loopback, has_certificate = self.peer.is_loopback, self.peer.certificate_name is not None
        version, heart_beat_s = version_of(frame), heart_beat_of(frame)
        mechanism = "EXTERNAL" if has_certificate and "login" not in frame.headers else "PLAIN"
        try:
            admitted = admit(self.broker, self.login, frame, has_certificate=has_certificate, is_loopback=is_loopback)
        except StompError as error:
            self.login.tell(mechanism, "STOMP", str(error))
            raise
        self.login.tell(mechanism, "STOMP")
        self._client, self._virtual_host = admitted.client, admitted.virtual_host
        self.version, self.heart_beat_s = version, heart_beat_s
        self._open()
        self._answer(frame)

    def _handle_open(self, frame: Frame) -> None:
        command = frame.command
        if command in TRANSACTIONAL and "transaction" in frame.headers:
            if command == "SEND":
                self.publishing.check(frame)
            self.transactions.put_off(frame)
            if command != "SEND":
                self._answer(frame)
            return
        if command == "SEND":
            self.publishing.send(frame)
            return  # its receipt comes when the message is kept
        if command in ("ACK", "NACK"):
            self._settle(frame)
            return
        if command == "SUBSCRIBE":
            self.subscribing.subscribe(frame)
        elif command == "UNSUBSCRIBE":
            self.subscribing.unsubscribe(frame)
        elif command == "DISCONNECT":
            self._disconnect(frame)
            return
        elif command == "COMMIT":
            self._commit(frame)
            return
        elif command == "BEGIN":
            self.transactions.begin(frame)
        elif command == "ABORT":
            self.transactions.abort(frame)
        elif command in CONNECT_COMMANDS:
            raise StompError("Illegal command", "You are logged in already", closes=True)
        else:
            raise StompError("Bad command", f'Could not interpret command "{command}"\n')
        self._answer(frame)

    def _answer(self, frame: Frame) -> None:
        """Send the receipt that a frame asks for, behind what it has made us say."""
        receipt = frame.headers.get("receipt")
        if receipt is not None:
            self.output.send(encode_frame("RECEIPT", {"receipt-id": receipt}))

    def _settle(self, frame: Frame) -> None:
        settled = self.subscribing.named(frame)
        work = self.broker.works.begin(self.subscribing.settle(settled))
        if not work.is_done:
            work.when_done(partial(self._answer_when_kept, frame, was_in_slices=True))
            raise Unfinished(work)
        self._answer_when_kept(frame)

    def _commit(self, frame: Frame) -> None:
        is_taken = self.transactions.commit(frame)
        receipt = frame.headers.get("receipt")
        if is_taken:
            self._answer_when_kept(frame)
        elif receipt is not None and self._is_open:
            self.publishing.receipt_when_kept(receipt, REFUSED)

    def _answer_when_kept(self, frame: Frame, *, was_in_slices: bool = False) -> None:
        """Send the receipt that a frame asks for when the journal has kept what it has done.

        Args:
            was_in_slices: what the first ones have done may be written already, and not synced.
        """
        receipt = frame.headers.get("receipt")
        if receipt is not None and self._is_open:
            durability = self.broker.durability
            position = durability.position_of_all if was_in_slices else durability.position
            self.publishing.receipt_when_kept(receipt, position)

    # --- CONNECT

    def _open(self) -> None:
        broker, settings = self.broker, self.broker.settings
        self._deadline.cancel()
        self.watch_expiry()
        self.session_id = generated_name("session")
        self._queues = Queues(self.virtual_host, self.client)
        self._publishing = Publishing(self, self._queues)
        self._subscribing = Subscribing(self, self._queues)
        self._transactions = Transactions(self, self._publishing, self._subscribing)
        self.let_in()
        self._splitter.body_bytes_max = settings.message_size_bytes_max or broker.behaviour.message_size_bytes_max
        self.output.send(
            encode_frame("CONNECTED", connected_headers(settings, self.session_id, self.heart_beat_s, self.version))
        )
        self._start_heartbeats()

    def _start_heartbeats(self) -> None:
        send_s, receive_s = self.heart_beat_s
        if send_s:
            self.heartbeats.say(HEART_BEAT, send_s * 500)
        if receive_s:
            silence_ms = receive_s * 1000 * SILENT_INTERVALS_MAX
            self.heartbeats.expect(silence_ms, SILENT_INTERVALS_MAX, self._was_silent)

    def _was_silent(self) -> None:
        self.lost(f"missed heart-beats from client, timeout: {self.heart_beat_s[1] * SILENT_INTERVALS_MAX}s")

    def handshake_took_too_long(self) -> None:
        self.finish()

    # --- bytes out

    def update_room(self) -> None:
        """Whether the client may get more has changed."""
        if self._subscribing is not None:
            self._subscribing.update_room()

    def say(self, error: StompError, extra: Headers | None = None) -> None:
        """Send an ERROR.

        Args:
            extra: further headers, behind the message.
        """
        headers = {"message": error.message, **(extra or {}), "content-type": "text/plain"}
        headers["version"] = ",".join(VERSIONS)
        self.output.send(encode_frame("ERROR", headers, error.detail.encode("utf-8", "surrogateescape")))

    # --- the end

    def _disconnect(self, frame: Frame) -> None:
        """The client has sent DISCONNECT: a receipt comes when all that it has sent is kept (STOMP 1.2)."""
        self.close_reason = "closed by client"
        self._is_leaving = True
        receipt = frame.headers.get("receipt")
        if receipt is None:
            self.finish()
        else:
            self.publishing.say_farewell(receipt)

    def fail_with(self, error: AmqpError, receipt: str | None = None) -> None:
        """End the connection because of an error of the domain; arguments as of ``fail``."""
        if self.broker.observers.present_for_changes and self._is_open:
            self.broker.observers.refused(self, error)
        self.fail(of_the_broker(error), receipt)

    def fail(self, error: StompError, receipt: str | None = None) -> None:
        """Tell the client what is wrong, and end the connection where it is to end.

        Args:
            receipt: that the frame has asked for which is wrong (STOMP 1.2, "ERROR").
        """
        if self._is_closed:
            return
        closes = error.closes or not self._is_open
        self.has_cost(ERROR_EFFORT)
        if self._is_open:
            self._log(error, closes=closes)
            if closes:
                self.publishing.answer_what_is_kept()  # nothing may follow an ERROR that ends the connection
                if self.is_closed:  # with the receipt of its DISCONNECT
                    return
        if error.is_said:
            asked = receipt if receipt is not None else error.receipt
            self.say(error, {} if asked is None else {"receipt-id": asked})
        if closes:
            self.close_reason = str(error)
            self.has_failed = not self._is_open
            self.finish()

    def _log(self, error: StompError, *, closes: bool) -> None:
        self._errors_logged += 1
        if not closes and self._errors_logged > ERRORS_LOGGED_MAX:
            return
        log_event(
            logging.ERROR if closes else logging.WARNING,
            "connection error" if closes else "frame refused",
            peer=str(self.peer),
            user=self.user_name,
            vhost=self.virtual_host_name,
            reason=str(error),
        )

    def fail_forced(self, reason: str, *, is_shutdown: bool) -> None:
        """Tell the client that it has to go, and end the connection."""
        self.fail(of_the_broker(AmqpError(ReplyCode.CONNECTION_FORCED, reason)))

    def words_for_a_defect(self) -> bytes:
        """An ERROR; asks nothing of what may have failed."""
        return (
            encode_frame("ERROR", {"message": "internal_error", "content-type": "text/plain"}) if self.version else b""
        )

    def detach(self) -> None:
        """Let go of the parts, which hold on to it: it is lost, and nobody will ask for anything more."""
        super().detach()
        self._queues = None
        self._publishing = None
        self._subscribing = None
        self._transactions = None

    def release(self) -> None:
        """Let go of what its parts hold in the broker."""
        self.publishing.stop()
        self.broker.works.begin(self.subscribing.stop())
