"""What the domain is handed from outside, each a small Protocol, so that a test hands in its own.

Holds no implementation.
"""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """Time, asked for and never waited for."""

    @property
    def is_running(self) -> bool:
        """Whether time passes by itself; whoever moves a clock that stands still runs what is due then."""

    def monotonic_ms(self) -> int:
        """Milliseconds that only grow; deadlines are kept in them."""

    def wall_ms(self) -> int:
        """Milliseconds since 1970 in UTC; time stamps that clients or the journal see."""


class Authorizer(Protocol):
    """Who wants something: it may own exclusive queues, and it is refused what its user may not do.

    The session floor's connections are authorizers. Each check raises AmqpError 403. ``kind`` is ``queue`` or
    ``exchange`` (RabbitMQ docs, "Access Control").
    """

    def check_configure(self, kind: str, name: str) -> None:
        """May it create, change or delete this?"""

    def check_write(self, kind: str, name: str) -> None:
        """May it put something into this?"""

    def check_read(self, kind: str, name: str) -> None:
        """May it take something out of this?"""

    def check_topic_read(self, exchange: str, routing_key: str) -> None:
        """May it bind a topic exchange with this key?"""
