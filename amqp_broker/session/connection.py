"""The part that connections of all protocols have in common: who it is, what goes out, and how long it is not heard.

A protocol's connection derives from this. What it owes whoever drives it stands in docs/architecture.md ("What a
protocol's connection asks of its driver"); what comes in, and what the end looks like, is the protocol's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

from amqp_broker.access.client import Client, Peer
from amqp_broker.access.judge import NotDecidedYet
from amqp_broker.access.passwords import NotVerifiedYet
from amqp_broker.access.users import User
from amqp_broker.broker.ports import Conversation
from amqp_broker.broker.queues.base import QueueBusy
from amqp_broker.broker.timers import Timer
from amqp_broker.broker.works import SLICE_MESSAGES, Unfinished, Work
from amqp_broker.compilation import mypyc_attr
from amqp_broker.session.heartbeats import Heartbeats
from amqp_broker.session.login import Login
from amqp_broker.session.output import Output
from amqp_broker.session.throttle import Throttle

if TYPE_CHECKING:
    from amqp_broker.broker.broker import Broker
    from amqp_broker.broker.counters import ChannelCounts
    from amqp_broker.broker.descriptions import ChannelInfo, ConnectionInfo
    from amqp_broker.broker.queues.unacknowledged import Unacknowledged
    from amqp_broker.broker.virtual_host import VirtualHost


@mypyc_attr(allow_interpreted_subclasses=True)
class ClientConnection(Conversation):
    """The conversation with one client.

    Args:
        broker: what it talks to.
        peer: who is at the other end.
        on_output: called when there is something to send, the connection is finished, or reading may go on.
    """

    __deletable__ = ("heartbeats", "throttle")  # in the very end

    def __init__(self, broker: Broker, peer: Peer, on_output: Callable[[], None]) -> None:
        self.broker = broker
        self.peer = peer
        self.on_output = on_output
        self.finished = False
        self.is_reading_paused = False
        self.missing_body_bytes = 0
        self.takes_stretches = False  # its driver has the system send what lies in files
        self.close_reason = ""
        self.has_failed = False  # before it was open: refused, or it spoke wrongly
        self.received_bytes = 0
        self.connected_at_ms = broker.clock.wall_ms()
        self.effort = 0  # of what is being handled, where it is not cheap; see ``has_cost``
        self.output = Output(
            broker.settings.outbound_high_water_bytes,
            broker.durability.is_kept,
            broker.awaiting_commit,
            on_output=on_output,
            on_congestion=self._congestion_changed,
            on_unheld=self._output_unheld,
        )
        self.heartbeats = Heartbeats(broker.timers, self.output, self._heard_bytes)
        self.login = Login(broker, peer)
        self.throttle = Throttle(
            broker, on_blocked=self.tell_blocked, on_unblocked=self.tell_unblocked, on_change=self._update_reading
        )
        self._client: Client | None = None
        self._virtual_host: VirtualHost | None = None
        self._defect: Exception | SystemExit | None = None
        self._expiry: Timer | None = None
        self._deadline = broker.timers.after(broker.settings.handshake_timeout_ms, self._handshake_took_too_long)

    # --- who it is

    @property
    def client(self) -> Client:
        """The user in the virtual host; there is none before the client was let in."""
        assert self._client is not None
        return self._client

    @property
    def virtual_host(self) -> VirtualHost:
        """The virtual host; there is none before the client was let in."""
        assert self._virtual_host is not None
        return self._virtual_host

    @property
    def user_name(self) -> str:
        """Who has authenticated, empty before."""
        return self.login.user_name

    @property
    def virtual_host_name(self) -> str:
        """The virtual host's name, empty before the client was let in."""
        return self._virtual_host.name if self._virtual_host is not None else ""

    @property
    def waiting_bytes(self) -> int:
        """What is to be sent and has not left."""
        return self.output.waiting_bytes

    @property
    def sent_bytes(self) -> int:
        """What has left."""
        return self.output.sent_bytes

    def watch_expiry(self) -> None:
        """End the connection when what has proved who the client is does so no more, if it ever comes to that."""
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        expires_wall_ms = self.login.user.expires_wall_ms
        if expires_wall_ms is not None:
            wait_ms = max(0, expires_wall_ms - self.broker.clock.wall_ms())
            self._expiry = self.broker.timers.after(wait_ms, self._credentials_expired)

    def renew(self, secret: bytes) -> None:
        """Go on with new credentials, where they expire, and look again what the client may do.

        (RabbitMQ docs, "OAuth 2".)

        Raises:
            Refused: they are none, or another user's.
            AmqpError: the user may not be in the virtual host any more.
            NotDecidedYet: to be asked again when somebody else has said.
        """
        if self.client.user.expires_wall_ms is not None:
            self.begin_as(self.login.renewed(secret))
        self.client.check_access()
        self.permissions_changed()

    def begin_as(self, user: User) -> None:
        """Go on as a user who has authenticated anew."""
        self.login.adopt(user)
        self.client.user = user
        self.watch_expiry()

    def permissions_changed(self) -> None:
        """The client may be allowed less than before: ask anew, and end what it has and may not have any more.

        Raises:
            NotDecidedYet: to be asked again when somebody else has said.
        """
        self.client.forget_allowed()

    def _credentials_expired(self) -> None:
        if not self.is_closed:
            self.close_forcibly("credential expired")

    # --- what each protocol says for itself

    @property
    def is_open(self) -> bool:
        """Whether the client was let in, and the end has not begun."""
        raise NotImplementedError

    @property
    def is_closed(self) -> bool:
        """Whether nothing of what comes in counts any more."""
        raise NotImplementedError

    @property
    def counted_as(self) -> str:
        """The protocol, with its version where that tells much, as RabbitMQ's metrics call it."""
        raise NotImplementedError

    @property
    def channel_count(self) -> int:
        """How many channels are open; what stands for them in a protocol that has none."""
        raise NotImplementedError

    def handle_item(self, item: Any) -> None:
        """Handle one of them, where ``handle_each`` does the rest."""
        raise NotImplementedError

    def update_room(self) -> None:
        """Whether the client's consumers may get more has changed."""
        raise NotImplementedError

    def handshake_took_too_long(self) -> None:
        """The client was not let in in time: end the connection."""
        raise NotImplementedError

    def tell_blocked(self, reason: str) -> None:
        """An alarm holds the client back: say so, if the protocol has words for that."""

    def tell_unblocked(self) -> None:
        """It does so no longer."""

    def fail_forced(self, reason: str, *, is_shutdown: bool) -> None:
        """Tell the client that it has to go, and end the connection.

        Args:
            is_shutdown: because the broker ends, else because an administrator wants it.
        """
        raise NotImplementedError

    def finish(self) -> None:
        """Nothing more comes in; what waits goes out, then the socket may be closed."""
        raise NotImplementedError

    def channel_counts(self) -> Iterator[ChannelCounts]:
        """What its open channels have counted."""
        raise NotImplementedError

    def inspect(self) -> ConnectionInfo:
        """Describe it, for those who look in."""
        raise NotImplementedError

    def inspect_channels(self) -> Iterator[ChannelInfo]:
        """Describe its channels."""
        raise NotImplementedError

    def unacknowledged(self) -> Iterator[tuple[str, list[Unacknowledged]]]:
        """The deliveries that wait for their settlement, by channel."""
        raise NotImplementedError

    # --- in

    def has_cost(self, effort: int) -> None:
        """What is being handled costs more than a message for one queue does.

        Args:
            effort: how much more, in such messages.
        """
        self.effort += effort

    def handle_each(self, items: Iterator[Any]) -> None:
        """Handle what has come in, one by one, until the client is not to be heard: what is left waits for that.

        AMQP 0-9-1 has a loop of its own (``protocols/amqp091/connection.py``), for whose frames a call counts.
        """
        self.effort = 0
        output, throttle = self.output, self.throttle
        for item in items:
            try:
                self.handle_item(item)
            except (NotVerifiedYet, NotDecidedYet) as check:
                self.suspend(self.verdict_on(check), chain((item,), items))
                return
            except QueueBusy as busy:
                self.suspend(busy.queue.wait, chain((item,), items))
                return
            except Unfinished as unfinished:
                self.suspend(unfinished.work.when_done, chain((item,), items) if unfinished.is_again else items)
                return
            if self.is_closed:
                return
            if throttle.is_alarmed and throttle.blocks():
                self.suspend(throttle.wait_for_all_clear, items)
                return
            if output.waiting_bytes > output.waiting_bytes_max:
                self.suspend(output.wait_for_room, items)
                return
            if self.effort > SLICE_MESSAGES:  # a few bytes can ask for much: the others come first
                self.suspend(self.turn().when_done, items)
                return

    def body_buffers(self) -> Sequence[memoryview]:
        """Where the next bytes may be read to; there is none where what comes in is gathered."""
        return ()

    def body_buffers_filled(self, size_bytes: int) -> None:
        """Handle what was read into the buffers; nothing was where there are none."""

    def suspend(self, wait: Callable[[Callable[[], None]], None], items: Iterator[Any]) -> None:
        """Handle these when what they need is here: a message from the disk, a verdict on a password, room, a turn.

        Args:
            wait: is handed what is to be called then.
            items: for ``handle_rest``.
        """

        def go_on() -> None:
            if not self.is_closed:
                self.throttle.suspend(False)
                try:
                    self.handle_rest(items)
                except Exception as error:  # whoever has it go on may be another connection, whose fault it is not
                    self._defect = error
                    self.on_output()

        self.throttle.suspend(True)
        wait(go_on)

    def verdict_on(self, check: NotVerifiedYet | NotDecidedYet) -> Callable[[Callable[[], None]], None]:
        """What waits until it is known whether a password is right, or somebody may do something, for ``suspend``."""
        if isinstance(check, NotDecidedYet):
            return check.wait
        return partial(self._verify_password, check)

    def _verify_password(self, check: NotVerifiedYet, go_on: Callable[[], None]) -> None:
        self.broker.driver.verify_password(check, go_on, lambda: not self.is_closed)

    def _heard_bytes(self) -> int | None:
        return None if self.is_reading_paused else self.received_bytes

    def turn(self) -> Work:
        """A work that is nothing but waiting until the others had their turn."""
        return self.broker.works.begin(_pause())

    def _handshake_took_too_long(self) -> None:
        self.close_reason = "handshake timeout"
        self.handshake_took_too_long()

    def _update_reading(self) -> None:
        self.is_reading_paused = self.throttle.is_paused
        if not self.is_reading_paused:
            self.on_output()

    # --- out

    def take_output(self) -> list[bytes | memoryview]:
        """All that may be sent now, in order; stretches of files as well where ``takes_stretches`` is set.

        A defect that came up while others were served is raised here.
        """
        if self._defect is not None:
            raise self._defect
        return self.output.take()  # type: ignore[return-value]  # else each driver would have to know of stretches

    def output_sent(self, sent_bytes: int) -> None:
        """So many bytes have left: what was held back may go on."""
        self.output.sent(sent_bytes)

    def _congestion_changed(self) -> None:
        if self.output.is_congested:
            self.update_room()
        else:
            self.broker.handle(self._has_room_again)

    def _has_room_again(self) -> None:
        self.update_room()
        self.output.tell_room()

    def _output_unheld(self) -> None:
        self.finished = self.is_closed

    # --- the end

    def shut_down(self, reason: str) -> None:
        """End the connection because the broker ends."""
        self.broker.handle(partial(self.fail_forced, reason, is_shutdown=True))

    def close_forcibly(self, explanation: str) -> None:
        """End the connection with these words because an administrator wants it, if it is open."""
        if self.is_open:
            self.broker.handle(partial(self.fail_forced, explanation, is_shutdown=False))

    def lost(self, reason: str) -> None:
        """The socket has ended: give back all that the client had."""
        if not self.is_closed:
            if not self.close_reason:
                self.close_reason = reason
            self.broker.handle(self.finish)
        self.output.discard()

    def stop_waiting(self) -> None:
        """The client has to be heard no more: neither in time nor at all, nor held back."""
        self._deadline.cancel()
        self.heartbeats.stop()
        self.throttle.stop()

    def join_broker(self) -> None:
        """Be an open connection, for those who look on."""
        self.broker.open_connections.add(self)
        if self.broker.observers.present_for_changes:
            self.broker.observers.opened(self)
        self.throttle.start()

    def leave_broker(self) -> None:
        """Be no open connection any more, for those who look on."""
        broker = self.broker
        if broker.observers.present_for_changes:
            broker.observers.closed(self, None, self.close_reason)
        broker.open_connections.remove(self)

    def finish_when_sent(self) -> None:
        """What waits goes out, then the socket may be closed."""
        self.finished = not self.output.is_held
        self.on_output()

    def detach(self) -> None:
        """Let go of the parts, which hold on to it: it is lost, and nobody will ask for anything more.

        Else each would wait for the garbage collector, which takes long where there are many messages.
        """
        if self._expiry is not None:
            self._expiry.cancel()
        self.on_output = _nobody_listens
        self.output.detach()
        del self.heartbeats, self.throttle


def _nobody_listens() -> None:
    pass


def _pause() -> Iterator[None]:
    yield
