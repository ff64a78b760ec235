"""The plan of a load on a broker: how many publish and consume, what, and how fast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from amqp_broker.cli.load.address import Address


@dataclass(frozen=True)
class Plan:
    """A load.

    Args:
        queue: its name; all publish to it and consume it.
        queue_type: as ``x-queue-type`` names it.
        size_bytes: of each body, at least ``STAMP_BYTES``.
        rate_per_s: of each publisher; 0 for as fast as it goes.
        unconfirmed_max: of each publisher; 0 for no confirms.
        prefetch: of each consumer, who acknowledges; 0 for no limit.
        is_auto_ack: whether consumers need not acknowledge.
    """

    address: Address
    queue: str
    queue_type: str = "classic"
    publishers: int = 1
    consumers: int = 1
    size_bytes: int = 100
    rate_per_s: float = 0.0
    unconfirmed_max: int = 0
    is_persistent: bool = False
    prefetch: int = 200
    is_auto_ack: bool = False

    @property
    def is_durable(self) -> bool:
        """Whether the queue is."""
        return self.is_persistent or self.queue_type != "classic"

    @property
    def arguments(self) -> dict[str, Any]:
        """Of the queue."""
        return {} if self.queue_type == "classic" else {"x-queue-type": self.queue_type}


STAMP_BYTES = 8  # the time of sending, at the beginning of each body
