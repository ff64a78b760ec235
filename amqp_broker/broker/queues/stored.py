"""A queue as those see it who keep its messages: its records, how far it has handed out, and what was read back for it.

Holds no messages and no way of delivering them; what else every queue has is in ``base.py``.
"""

from __future__ import annotations

from amqp_broker.broker.arguments import QueueArguments
from amqp_broker.broker.message import Message
from amqp_broker.broker.queues.bands import Bands
from amqp_broker.compilation import mypyc_attr


@mypyc_attr(allow_interpreted_subclasses=True)
class StoredQueue:
    """A queue as the journal and the memory's paging know it.

    Args:
        name: its name.
        durable: whether its definition outlives the broker.
        arguments: those in force.
    """

    __slots__ = (
        "arguments",
        "bands",
        "durable",
        "handed_out_reference",
        "handed_out_through",
        "has_moved_mark",
        "name",
        "reference",
        "state_reference",
    )

    def __init__(self, name: str, durable: bool, arguments: QueueArguments) -> None:
        self.name = name
        self.durable = durable
        self.arguments = arguments  # those in force
        self.reference = 0  # of the journal's record
        self.handed_out_reference = 0  # of the record that keeps the marks below
        self.bands: Bands | None = None  # by priority; none where it means nothing
        self.handed_out_through = [0]  # a message's reference, by band
        self.has_moved_mark = False
        self.state_reference = 0  # of the record of what its type keeps beside messages

    def band_of(self, priority: int, header: bytes) -> int:
        """The band of a message: those of one band are handed out in the order in which they came."""
        return 0 if self.bands is None else self.bands.band_of(priority, header)

    def tell_apart(self, bands: Bands | None) -> None:
        """Have these bands from the beginning on."""
        self.bands = bands
        if bands is not None:
            self.handed_out_through = [0] * (bands.highest + 1)

    def adopt_marks(self, marks: list[int]) -> bool:
        """Take over how far messages of each band were handed out before; returns False where these cannot be its own.

        Bands may be others than before only where they follow from ``behave_like``. Then what may have been handed out
        counts as such.
        """
        if len(marks) != len(self.handed_out_through):
            if not marks or not self.may_have_other_bands:
                return False
            marks = [max(marks)] * len(self.handed_out_through)
        self.handed_out_through = marks
        return True

    @property
    def may_have_other_bands(self) -> bool:
        """Whether the next start may give it other bands, though its arguments stay."""
        return False

    @property
    def counts_returns(self) -> bool:
        """Whether it is kept how often each message has come back."""
        return False

    def was_handed_out(self, message: Message) -> bool:
        """Whether a message that was read from the journal had been handed out before."""
        raise NotImplementedError

    def head_was_read(self, messages: list[Message]) -> None:
        """Some of what was on disk is in memory again, behind all that was before it."""
        raise NotImplementedError
