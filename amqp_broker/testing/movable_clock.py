"""The clock of a broker in a test: real time, shifted by what the test has let pass, or standing still.

Holds no timers; ``engine.py`` does what becomes due when the clock is moved.
"""

from __future__ import annotations

import time

NS_PER_MS = 1_000_000


class MovableClock:
    """The domain's clock (``broker/ports.py``). Real time until it is moved or stopped; it never goes back."""

    def __init__(self) -> None:
        self._shift_ns = 0
        self._stopped_ns: int | None = None
        self._wall_minus_monotonic_ms = (time.time_ns() - time.monotonic_ns()) // NS_PER_MS

    @property
    def is_running(self) -> bool:
        """Whether time passes by itself."""
        return self._stopped_ns is None

    def _now_ns(self) -> int:
        real_ns = time.monotonic_ns() if self._stopped_ns is None else self._stopped_ns
        return real_ns + self._shift_ns

    def monotonic_ms(self) -> int:
        """Milliseconds that only grow, from no particular start."""
        return self._now_ns() // NS_PER_MS

    def wall_ms(self) -> int:
        """Milliseconds since 1970 in UTC."""
        return self.monotonic_ms() + self._wall_minus_monotonic_ms

    def stop(self) -> None:
        """Stand still from now on, at a whole millisecond."""
        if self._stopped_ns is None:
            self._stopped_ns = time.monotonic_ns()
            self._shift_ns += -self._now_ns() % NS_PER_MS

    def go_on(self) -> None:
        """Pass with real time again, from where it stood."""
        if self._stopped_ns is not None:
            self._shift_ns += self._stopped_ns - time.monotonic_ns()
            self._stopped_ns = None

    def move_to(self, monotonic_ms: int) -> None:
        """Jump ahead until ``monotonic_ms`` shows this; a time that has passed changes nothing."""
        self._shift_ns += max(0, monotonic_ms * NS_PER_MS - self._now_ns())
