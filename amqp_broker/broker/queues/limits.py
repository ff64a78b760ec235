"""Length limits: how long a queue may become, and whether it then drops or refuses.

Holds the limits and what they say of a length. Who drops or refuses the messages is the queue.
(RabbitMQ docs, "Queue Length Limit".)
"""

from __future__ import annotations

from amqp_broker.broker.arguments import QueueArguments
from amqp_broker.broker.message import Message

TAKES_AGAIN_SHARE = 0.8


class LengthLimits:
    """The length limits of a classic queue.

    Args:
        arguments: of the queue; at least one of the two limits is set.
    """

    __slots__ = ("bytes_max", "count_max", "refuses", "sends_refused_on")

    def __init__(self, arguments: QueueArguments) -> None:
        self.count_max = arguments.length_max
        self.bytes_max = arguments.length_bytes_max
        self.refuses = arguments.overflow != "drop-head"  # what comes, in place of dropping what is there
        self.sends_refused_on = (
            arguments.overflow == "reject-publish-dlx" and arguments.dead_letter_exchange is not None
        )

    def would_overflow(self, count: int, size_bytes: int, message: Message) -> bool:
        """Whether the message is one too many for a queue of this length."""
        if self.count_max is not None and count + 1 > self.count_max:
            return True
        return self.bytes_max is not None and size_bytes + len(message.body) > self.bytes_max

    def is_over(self, count: int, size_bytes: int) -> bool:
        """Whether a queue of this length is too long."""
        if self.count_max is not None and count > self.count_max:
            return True
        return self.bytes_max is not None and size_bytes > self.bytes_max and count > 0


class Dropping:
    """The messages that a queue gets while it drops very much in turns: they do not make it more."""

    __slots__ = ("later_bytes", "later_count")

    def __init__(self) -> None:
        self.later_count = 0
        self.later_bytes = 0  # of their bodies

    def came(self, message: Message) -> None:
        """The queue has got a message."""
        self.later_count += 1
        self.later_bytes += len(message.body)


class QuorumLengthLimits(LengthLimits):
    """The length limits of a quorum queue: it takes one message too many, and then none until it is below them."""

    __slots__ = ("_is_refusing",)

    def __init__(self, arguments: QueueArguments) -> None:
        super().__init__(arguments)
        self._is_refusing = False

    def would_overflow(self, count: int, size_bytes: int, message: Message) -> bool:
        """Whether the queue takes nothing now; it does again at four fifths of its limits."""
        if self.is_over(count, size_bytes):
            self._is_refusing = True
        elif self._is_below_again(count, size_bytes):
            self._is_refusing = False
        return self._is_refusing

    def _is_below_again(self, count: int, size_bytes: int) -> bool:
        if self.count_max is not None and count > int(self.count_max * TAKES_AGAIN_SHARE):
            return False
        return self.bytes_max is None or size_bytes <= int(self.bytes_max * TAKES_AGAIN_SHARE)


def has_limits(arguments: QueueArguments) -> bool:
    """Whether a queue's length is limited at all."""
    return arguments.length_max is not None or arguments.length_bytes_max is not None
