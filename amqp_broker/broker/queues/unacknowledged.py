"""A delivery that waits for its settlement, as the client's protocol keeps it and those who look in see it.

Holds no settlement; that is ``session/settling.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from amqp_broker.broker.message import Message

if TYPE_CHECKING:
    from amqp_broker.broker.queues.base import Queue
    from amqp_broker.broker.queues.consumers import Consumer


class Unacknowledged:
    """A delivery that waits for its settlement.

    Args:
        consumer: None for what was got without one.
        delivered_ms: when, on the broker's monotonic clock.
    """

    __slots__ = ("consumer", "delivered_ms", "message", "queue")

    def __init__(self, message: Message, queue: Queue, consumer: Consumer | None, delivered_ms: int) -> None:
        self.message = message
        self.queue = queue
        self.consumer = consumer
        self.delivered_ms = delivered_ms
