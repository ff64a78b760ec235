"""What the domain is handed from outside: a clock, a journal, an authorizer.

Each is a small Protocol, so that a test hands in its own. Holds no implementation but the journal that keeps nothing.
"""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """Time, asked for and never waited for."""

    def monotonic_ms(self) -> int:
        """Milliseconds that only grow; deadlines are kept in them."""

    def wall_ms(self) -> int:
        """Milliseconds since 1970 in UTC; time stamps that clients or the journal see."""
