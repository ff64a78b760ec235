"""Timers of a queue: for the message at its head, and for the queue itself because nobody uses it.

Holds the timers. Which messages die is the queue's to say. (RabbitMQ docs, "Time-To-Live and Expiration".)
"""

from __future__ import annotations

from collections.abc import Callable

from amqp_broker.broker.ports import Clock
from amqp_broker.broker.timers import Timer, Timers


class HeadTimer:
    """The time at which the message at the head dies.

    Args:
        timers: the broker's agenda.
        on_due: called at that time or before; whoever is called looks again.
    """

    __slots__ = ("_on_due", "_timer", "_timers")

    def __init__(self, timers: Timers, on_due: Callable[[], None]) -> None:
        self._timers = timers
        self._on_due = on_due
        self._timer: Timer | None = None

    def wait_for(self, deadline_ms: int) -> None:
        """Call at this time or before: a timer that is early is left alone."""
        timer = self._timer
        if timer is not None and timer.deadline_ms <= deadline_ms:
            return
        if timer is not None:
            timer.cancel()
        self._timer = self._timers.at(deadline_ms, self._is_due)

    def _is_due(self) -> None:
        self._timer = None
        self._on_due()

    def stop(self) -> None:
        """Call nobody any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class UnusedTimer:
    """The time after which a queue goes that nobody has used (``x-expires``).

    Args:
        clock: tells the time.
        timers: the broker's agenda.
        expires_ms: how long it may be unused.
        is_used: whether it is in use now.
        on_unused: called when its time is over; at most once.
    """

    __slots__ = ("_at_ms", "_clock", "_expires_ms", "_is_used", "_on_unused", "_timer", "_timers")

    def __init__(
        self,
        clock: Clock,
        timers: Timers,
        expires_ms: int,
        is_used: Callable[[], bool],
        on_unused: Callable[[], None],
    ) -> None:
        self._clock = clock
        self._timers = timers
        self._expires_ms = expires_ms
        self._is_used = is_used
        self._on_unused = on_unused
        self._at_ms = 0
        self._timer: Timer | None = None

    def restart(self) -> None:
        """Begin anew, unless it is in use; a timer that is early looks again."""
        if self._is_used():
            return
        self._at_ms = self._clock.monotonic_ms() + self._expires_ms
        if self._timer is None:
            self._timer = self._timers.at(self._at_ms, self._is_due)

    def _is_due(self) -> None:
        self._timer = None
        if self._is_used():
            return
        if self._at_ms <= self._clock.monotonic_ms():
            self._on_unused()
        else:
            self._timer = self._timers.at(self._at_ms, self._is_due)

    def stop(self) -> None:
        """Call nobody any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
