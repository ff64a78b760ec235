"""Messages on their way back to their queue, because they were not consumed.

They may be very many. So they are marked in portions, and then put back all at once: nobody sees half of them, and
none overtakes another.
"""

from __future__ import annotations

from typing import Protocol

from amqp_broker.broker.message import Message
from amqp_broker.compilation import mypyc_attr


class TakesBack(Protocol):
    """A queue to which messages come back that it has handed out."""

    is_deleted: bool

    def settled(self, count: int, body_bytes: int) -> None:
        """So many messages, with so many bytes together, are no client's any more."""

    def mark_returned(self, messages: list[Message]) -> list[Message]:
        """Mark what comes back; returns what may be delivered again, in the order of the positions."""
        ...

    def put_back(self, messages: list[Message], body_bytes: int, *, is_in_order: bool) -> None:
        """Messages that were marked are ready again, with so many bytes together."""

    def append_again(self, messages: list[Message]) -> None:
        """Messages that were marked go to the back."""

    def forget_all(self, messages: list[Message]) -> None:
        """The queue is gone: forget what would have come back to it."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Returning:
    """Messages that come back to one queue. This one does nothing with it: for queues that keep what they hand out."""

    __slots__ = ()

    def add(self, messages: list[Message]) -> None:
        """Take a portion."""

    def finish(self) -> None:
        """Put all of it back."""


class ReturningInOrder(Returning):
    """Messages that go back to where they were.

    Args:
        queue: where it comes from and goes to.
    """

    __slots__ = ("_body_bytes", "_count", "_is_in_order", "_messages", "_settled_bytes", "queue")

    def __init__(self, queue: TakesBack) -> None:
        self.queue = queue
        self._messages: list[Message] = []
        self._body_bytes = 0  # of those that may be delivered again
        self._count = 0
        self._settled_bytes = 0
        self._is_in_order = True

    def add(self, messages: list[Message]) -> None:
        """Take a portion."""
        queue = self.queue
        self._count += len(messages)
        self._settled_bytes += _body_bytes(messages)
        if queue.is_deleted:
            queue.forget_all(messages)
            return
        returned = queue.mark_returned(messages)
        if not returned:
            return
        if self._messages and self._messages[-1].position > returned[0].position:
            self._is_in_order = False
        self._body_bytes += _body_bytes(returned)
        self._messages += returned

    def finish(self) -> None:
        """Put all of it back."""
        queue = self.queue
        queue.settled(self._count, self._settled_bytes)
        if queue.is_deleted:
            queue.forget_all(self._messages)
        elif self._messages:
            queue.put_back(self._messages, self._body_bytes, is_in_order=self._is_in_order)


class ReturningToTheBack(ReturningInOrder):
    """Messages that go to the back of their queue: each portion at once."""

    __slots__ = ()

    def add(self, messages: list[Message]) -> None:
        """Take a portion."""
        queue = self.queue
        if queue.is_deleted:
            super().add(messages)
        else:
            queue.settled(len(messages), _body_bytes(messages))
            queue.append_again(queue.mark_returned(messages))


def _body_bytes(messages: list[Message]) -> int:
    return sum([len(message.body) for message in messages])
