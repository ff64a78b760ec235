"""Bands of priority: each message of a queue belongs to one, and the highest goes first.

Messages of one band stay in the order in which they came. What keeps them is in ``ready_in_bands.py``. A queue that
tells nothing apart has no bands, and is asked nothing.
"""

from __future__ import annotations

from typing import Final

from amqp_broker.wire.content import FLAG_PRIORITY, property_flags

QUORUM_PRIORITY_MAX: Final = 31  # of RabbitMQ 4.3
QUORUM_PRIORITY_DEFAULT: Final = 4  # of 4.3, for what says none; in 4.0 the highest that is not high


class Bands:
    """One band for each priority, up to the highest: higher priorities count as that one.

    Args:
        highest: its number; the lowest is 0.
    """

    __slots__ = ("highest",)

    def __init__(self, highest: int) -> None:
        self.highest = highest

    def band_of(self, priority: int, header: bytes) -> int:
        """The number of the band that a message of this priority and content header belongs to."""
        return min(priority, self.highest)


class HighAndNormal(Bands):
    """Two bands: 1 for the priorities above 4, 0 for all others (quorum queues of RabbitMQ 4.0)."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(1)

    def band_of(self, priority: int, header: bytes) -> int:
        return int(priority > QUORUM_PRIORITY_DEFAULT)


class ThirtyTwo(Bands):
    """Bands 0 to 31, and 4 for what has no priority (quorum queues of RabbitMQ 4.3)."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(QUORUM_PRIORITY_MAX)

    def band_of(self, priority: int, header: bytes) -> int:
        if priority or property_flags(header) & FLAG_PRIORITY:
            return min(priority, QUORUM_PRIORITY_MAX)
        return QUORUM_PRIORITY_DEFAULT


HIGH_AND_NORMAL: Final = HighAndNormal()
THIRTY_TWO: Final = ThirtyTwo()
