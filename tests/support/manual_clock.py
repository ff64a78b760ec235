"""A clock that stands still until a test moves it. Holds no timers."""

from __future__ import annotations

START_MONOTONIC_MS = 5_000_000
START_WALL_MS = 1_700_000_000_000


class ManualClock:
    """The domain's clock, moved by hand."""

    is_running = False

    def __init__(self) -> None:
        self._passed_ms = 0
        self._ahead_ms = 0  # by which the wall clock is wrong

    def monotonic_ms(self) -> int:
        """Milliseconds that only grow."""
        return START_MONOTONIC_MS + self._passed_ms

    def wall_ms(self) -> int:
        """Milliseconds since 1970."""
        return START_WALL_MS + self._passed_ms + self._ahead_ms

    def advance(self, duration_ms: int) -> None:
        """Let time pass; nothing happens by that alone."""
        assert duration_ms >= 0
        self._passed_ms += duration_ms

    def set_wall(self, ahead_ms: int) -> None:
        """Somebody sets the wall clock, so much ahead of what it should say."""
        self._ahead_ms = ahead_ms
