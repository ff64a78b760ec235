"""Real time, as the domain asks for it. Holds nothing that waits; that is ``timers.py``."""

from __future__ import annotations

import time


class SystemClock:
    """The clock of ``broker/ports.py`` that shows the time of the machine."""

    __slots__ = ()
    is_running = True

    def monotonic_ms(self) -> int:
        """Milliseconds that only grow, from no particular start."""
        return time.monotonic_ns() // 1_000_000

    def wall_ms(self) -> int:
        """Milliseconds since 1970 in UTC."""
        return time.time_ns() // 1_000_000
