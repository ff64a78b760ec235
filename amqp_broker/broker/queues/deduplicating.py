"""The values that a classic queue remembers if it takes each value of the header ``x-deduplication-header`` once at a
time: a message with a value that another one in the queue has, ready or unacknowledged, is confirmed and forgotten.
Messages without the header are all taken. (``x-message-deduplication``, an argument or the key of a policy, as the
plugin rabbitmq_message_deduplication has it for queues.)

What is in the queue is what is remembered, so nothing is written for it: at a start, the messages themselves tell.
Where a policy comes into force later, so do those that are ready then, as they are looked at, in slices; who sets the
policy waits for the last of them. What is on the disk counts when it is read, and what a client holds when it comes
back.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from amqp_broker.broker.erlang_text import erlang_term
from amqp_broker.broker.message import Message
from amqp_broker.wire.content import decode_properties

HEADER: Final = "x-deduplication-header"


class HeldValues:
    """The values that the messages of one queue have.

    Args:
        there: messages that are in it already; they count as they are looked at (``look_at_some``).
    """

    __slots__ = ("_is_out", "_left", "_there")

    def __init__(self, there: list[Message]) -> None:
        self._is_out: dict[str, bool] = {}  # by value, whether the message waits for its acknowledgement
        self._there = there  # not looked at yet
        self._left: set[Message] = set()  # the queue meanwhile; some of them may be among those

    def look_at_some(self, count: int) -> bool:
        """Look at so many of those that were there; returns whether there are more."""
        for message in self._there[-count:]:
            if message not in self._left:
                value = value_of(message)
                if value is not None:
                    self._is_out.setdefault(value, False)
        del self._there[-count:]
        if not self._there:
            self._left = set()
        return bool(self._there)

    def take(self, message: Message) -> bool:
        """A message comes in; returns False where another one has its value."""
        value = value_of(message)
        if value is None:
            return True
        if value in self._is_out:
            return False
        self._is_out[value] = False
        return True

    def are_ready(self, messages: Iterable[Message]) -> None:
        """Messages are in the queue, whatever values they have: read from the disk, come back, or there before."""
        for message in messages:
            self._note(message, False)

    def handed_over(self, message: Message, no_ack: bool) -> None:
        """A client has a message now; without an acknowledgement its value is free at once."""
        if no_ack:
            self.release(message)
        else:
            self._note(message, True)

    def release(self, message: Message) -> None:
        """A message has gone for good: its value is free."""
        if self._there:
            self._left.add(message)
        value = value_of(message)
        if value is not None:
            self._is_out.pop(value, None)

    def release_all(self, messages: Iterable[Message]) -> None:
        """The same for each of these."""
        for message in messages:
            self.release(message)

    def release_ready(self) -> None:
        """All that was ready has gone."""
        self._there, self._left = [], set()
        self._is_out = {value: is_out for value, is_out in self._is_out.items() if is_out}

    def _note(self, message: Message, is_out: bool) -> None:
        value = value_of(message)
        if value is not None:
            self._is_out[value] = is_out


def value_of(message: Message) -> str | None:
    """The value that no two messages may have in common; None where a message may be there as often as it comes."""
    if HEADER.encode() not in message.header:  # most often, and then nothing need be decoded
        return None
    headers = decode_properties(message.header).headers or {}
    return erlang_term(headers[HEADER]) if HEADER in headers else None  # a null is a value, as in the plugin
