"""When a connection is not read: an alarm is raised and it publishes, or the disk is behind with what it sent.

As in RabbitMQ, an alarm stops only who publishes while it is raised, and stops it altogether: its acknowledgements
wait as well. It is told so with ``connection.blocked``, if it said that it understands that, and with
``connection.unblocked`` when no alarm is left.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from amqp_broker.wire import methods
from amqp_broker.wire.methods import build

if TYPE_CHECKING:
    from amqp_broker.protocols.amqp091.connection import Connection

CAPABILITY = "connection.blocked"


class Throttle:
    """Holds one connection's reading back."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.is_alarmed = False  # something is running out
        self.is_blocked = False  # by an alarm
        self._go_on: Callable[[], None] | None = None
        self._is_behind = False  # the disk is
        self._is_suspended = False  # what the client asked for last takes a while
        self._pending_bytes_max = connection.broker.settings.journal_pending_bytes_max

    def start(self) -> None:
        """The connection is open: begin to listen to alarms."""
        alarms = self._connection.broker.alarms
        self.is_alarmed = alarms.are_raised
        alarms.listen(self._alarms_changed)

    def stop(self) -> None:
        """The connection has ended."""
        broker = self._connection.broker
        broker.alarms.unlisten(self._alarms_changed)
        broker.awaiting_write.pop(self._written, None)

    def chunk_was_handled(self) -> None:
        """Look whether what the client sent must be the last for a while, because the disk is behind."""
        broker = self._connection.broker
        if not self._is_behind and broker.durability.pending_bytes > self._pending_bytes_max:
            self._is_behind = True
            broker.awaiting_write[self._written] = None
            self._update()

    def blocks(self) -> bool:
        """Whether the frame that was handled last must be the last for a while: it publishes during an alarm."""
        if self.is_blocked or not self._connection.has_published:
            return self.is_blocked
        self.is_blocked = True
        if CAPABILITY in self._connection.client_capabilities:
            reason = self._connection.broker.alarms.reason
            self._connection.send_method(0, build(methods.Connection.Blocked, reason=reason))
        self._update()
        return True

    def wait_for_all_clear(self, go_on: Callable[[], None]) -> None:
        """Call when the connection is not blocked any more."""
        self._go_on = go_on

    def _alarms_changed(self) -> None:
        self.is_alarmed = self._connection.broker.alarms.are_raised
        if not self.is_alarmed:
            if self.is_blocked:
                self._unblock()
        elif not self.is_blocked:
            self._connection.has_published = False  # what counts is a publish from now on

    def _unblock(self) -> None:
        self.is_blocked = False
        if CAPABILITY in self._connection.client_capabilities:
            self._connection.send_method(0, methods.Connection.Unblocked())
        self._update()
        go_on, self._go_on = self._go_on, None
        if go_on is not None:
            self._connection.broker.handle(go_on)

    def _written(self) -> None:
        broker = self._connection.broker
        if broker.durability.pending_bytes <= self._pending_bytes_max:
            broker.awaiting_write.pop(self._written, None)
            self._is_behind = False
            self._update()

    def suspend(self, is_suspended: bool) -> None:
        """What the client asked for last takes a while, or is here."""
        self._is_suspended = is_suspended
        self._update()

    def _update(self) -> None:
        self._connection.is_reading_paused = self.is_blocked or self._is_behind or self._is_suspended
        if not self._connection.is_reading_paused:
            self._connection.on_output()
