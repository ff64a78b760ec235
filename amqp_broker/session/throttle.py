"""Pauses in reading a client: an alarm is raised and it publishes, the disk is behind with what it sent, or what it
asked for last takes a while.

As in RabbitMQ, an alarm stops only who publishes while it is raised, and stops it altogether: its acknowledgements
wait as well. How the client is told of an alarm is its protocol's; one of AMQP 1.0 is stopped only when it does not
heed that.
"""

from __future__ import annotations

from collections.abc import Callable

from amqp_broker.broker.broker import Broker


class Throttle:
    """Holds one client's reading back.

    Args:
        broker: whose alarms and whose disk it is about.
        on_blocked: called with the reason when an alarm begins to hold the client back.
        on_unblocked: called when it does so no longer.
        on_change: called when ``is_paused`` may have changed.
    """

    def __init__(
        self,
        broker: Broker,
        *,
        on_blocked: Callable[[str], None],
        on_unblocked: Callable[[], None],
        on_change: Callable[[], None],
    ) -> None:
        self._broker = broker
        self._on_blocked = on_blocked
        self._on_unblocked = on_unblocked
        self._on_change = on_change
        self.has_published = False  # since the last alarm began
        self.is_alarmed = False  # something is running out
        self.is_blocked = False  # by an alarm
        self._go_on: Callable[[], None] | None = None
        self._is_behind = False  # the disk is
        self._is_suspended = False  # what the client asked for last takes a while

    @property
    def is_paused(self) -> bool:
        """Whether the client is not to be read now."""
        return self.is_blocked or self._is_behind or self._is_suspended

    def start(self) -> None:
        """The client has logged in: begin to listen to alarms."""
        alarms = self._broker.alarms
        self.is_alarmed = alarms.are_raised
        alarms.listen(self._alarms_changed)

    def stop(self) -> None:
        """The client has gone."""
        self._broker.alarms.unlisten(self._alarms_changed)
        self._broker.awaiting_write.pop(self._written, None)

    def suspend(self, is_suspended: bool) -> None:
        """What the client asked for last takes a while, or is here."""
        self._is_suspended = is_suspended
        self._on_change()

    # --- alarms

    def blocks(self) -> bool:
        """Whether what was handled last must be the last for a while: the client publishes during an alarm."""
        if self.is_blocked or not self.has_published:
            return self.is_blocked
        self.is_blocked = True
        self._on_blocked(self._broker.alarms.reason)
        self._on_change()
        return True

    def wait_for_all_clear(self, go_on: Callable[[], None]) -> None:
        """Call when the client is not blocked any more."""
        self._go_on = go_on

    def _alarms_changed(self) -> None:
        self.is_alarmed = self._broker.alarms.are_raised
        if not self.is_alarmed:
            if self.is_blocked:
                self._unblock()
        elif not self.is_blocked:
            self.has_published = False  # what counts is a publish from now on

    def _unblock(self) -> None:
        self.is_blocked = False
        self._on_unblocked()
        self._on_change()
        go_on, self._go_on = self._go_on, None
        if go_on is not None:
            self._broker.handle(go_on)

    # --- the disk

    def chunk_was_handled(self) -> None:
        """Look whether what the client sent must be the last for a while, because the disk is behind."""
        broker = self._broker
        if not self._is_behind and broker.is_disk_behind:
            self._is_behind = True
            broker.awaiting_write[self._written] = None
            self._on_change()

    def _written(self) -> None:
        broker = self._broker
        if not broker.is_disk_behind:
            broker.awaiting_write.pop(self._written, None)
            self._is_behind = False
            self._on_change()
