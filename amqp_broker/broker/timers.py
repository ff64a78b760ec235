"""Timers: one agenda a broker, kept in the order of its deadlines.

Nothing here waits. The server floor asks for the next deadline, waits as long as it likes and calls ``run_due``; a
test moves its clock by hand and does the same.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Final

from amqp_broker.broker.ports import Clock, Driver

LOOKED_THROUGH_AT: Final = 1024  # appointments, and then at twice as many as are left


class Timer:
    """One appointment. ``cancel`` it, and it never runs."""

    __slots__ = ("_action", "deadline_ms")

    def __init__(self, deadline_ms: int, action: Callable[[], None]) -> None:
        self.deadline_ms = deadline_ms
        self._action: Callable[[], None] | None = action

    @property
    def is_cancelled(self) -> bool:
        """Whether it was cancelled, or has run."""
        return self._action is None

    def cancel(self) -> None:
        """Forget the action; the agenda drops the empty appointment when its time comes, or before."""
        self._action = None

    def run(self) -> None:
        """Do what was to be done, once."""
        action, self._action = self._action, None
        if action is not None:
            action()


class Timers:
    """The agenda.

    Args:
        clock: tells the present; deadlines are its monotonic milliseconds.
        driver: told when a deadline comes forward.
    """

    def __init__(self, clock: Clock, driver: Driver) -> None:
        self._clock = clock
        self._driver = driver
        self._agenda: list[tuple[int, int, Timer]] = []
        self._count = 0
        self._looked_through_at = LOOKED_THROUGH_AT

    def after(self, delay_ms: int, action: Callable[[], None]) -> Timer:
        """Run ``action`` once ``delay_ms`` milliseconds from now."""
        return self.at(self._clock.monotonic_ms() + delay_ms, action)

    def at(self, deadline_ms: int, action: Callable[[], None]) -> Timer:
        """Run ``action`` once the clock has reached ``deadline_ms``."""
        timer = Timer(deadline_ms, action)
        self._count += 1
        is_earliest = not self._agenda or deadline_ms < self._agenda[0][0]
        heapq.heappush(self._agenda, (deadline_ms, self._count, timer))
        if is_earliest:
            self._driver.deadline_came_forward()
        if len(self._agenda) >= self._looked_through_at:
            self._look_through()
        return timer

    def _look_through(self) -> None:
        """Drop what was cancelled: its time may be years away, and others like it come all the time."""
        self._agenda = [entry for entry in self._agenda if not entry[2].is_cancelled]
        heapq.heapify(self._agenda)
        self._looked_through_at = max(LOOKED_THROUGH_AT, 2 * len(self._agenda))

    def next_deadline_ms(self) -> int | None:
        """The earliest deadline still wanted, or None."""
        agenda = self._agenda
        while agenda and agenda[0][2].is_cancelled:
            heapq.heappop(agenda)
        return agenda[0][0] if agenda else None

    def run_due(self) -> int:
        """Run all that is due now, in the order of the deadlines; returns how many ran."""
        ran = 0
        now_ms = self._clock.monotonic_ms()
        while self._agenda and self._agenda[0][0] <= now_ms:
            timer = heapq.heappop(self._agenda)[2]
            if not timer.is_cancelled:
                timer.run()
                ran += 1
        return ran
