"""A queue as those see it who keep its messages: its records, how far it has handed out, and what was read back for it.

Holds no messages and no way of delivering them; what else every queue has is in ``base.py``.
"""

from __future__ import annotations

from amqp_broker.broker.arguments import QueueArguments
from amqp_broker.broker.message import Message
from amqp_broker.compilation import mypyc_attr


@mypyc_attr(allow_interpreted_subclasses=True)
class StoredQueue:
    """What the journal and the memory's paging know of a queue.

    Args:
        name: its name.
        durable: whether its definition outlives the broker.
        arguments: those in force.
    """

    __slots__ = (
        "arguments",
        "durable",
        "handed_out_reference",
        "handed_out_through",
        "has_moved_mark",
        "name",
        "reference",
    )

    def __init__(self, name: str, durable: bool, arguments: QueueArguments) -> None:
        self.name = name
        self.durable = durable
        self.arguments = arguments  # those in force
        self.reference = 0  # of the journal's record
        self.handed_out_reference = 0  # of the record that keeps the marks below
        self.handed_out_through = [0] * ((arguments.priority_max or 0) + 1)  # a message's reference, by priority
        self.has_moved_mark = False

    def was_handed_out(self, message: Message) -> bool:
        """Whether a message that was read from the journal had been handed out before."""
        raise NotImplementedError

    def head_was_read(self, messages: list[Message]) -> None:
        """Some of what was on disk is in memory again, behind all that was before it."""
        raise NotImplementedError
