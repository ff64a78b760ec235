"""The messages of a queue that wait for a consumer, in the order in which they will be delivered.

Two orders: first in, first out; and by priority, a first-in-first-out band for each. A requeued message goes back to
its original position, which its ``position`` tells. Holds no rule about expiry, length or consumers: that is the
queue's.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator
from typing import Protocol

from amqp_broker.broker.message import Message


class ReadyMessages(Protocol):
    """What a queue needs of its ready messages."""

    def append(self, message: Message) -> None:
        """Add a message that has just been published."""

    def requeue(self, messages: list[Message]) -> None:
        """Put messages back where they were; they come in the order of their positions."""

    def head(self) -> Message | None:
        """The next message to be delivered, left where it is; None when there is none."""

    def pop(self) -> Message:
        """Take the next message to be delivered; there must be one."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Message]:
        """All messages, in the order of delivery."""
        ...


class FirstInFirstOut:
    """Ready messages in the order of their positions.

    What is requeued before everything else (the usual case: the oldest were being delivered) goes to the front of the
    deque; only what belongs into the middle waits in a heap of its own, and ``pop`` takes whichever comes first.
    """

    __slots__ = ("_messages", "_returned")

    def __init__(self) -> None:
        self._messages: deque[Message] = deque()
        self._returned: list[tuple[int, Message]] = []

    def append(self, message: Message) -> None:
        self._messages.append(message)

    def requeue(self, messages: list[Message]) -> None:
        ready = self._messages
        if not self._returned and (not ready or messages[-1].position < ready[0].position):
            ready.extendleft(reversed(messages))
            return
        for message in messages:
            heapq.heappush(self._returned, (message.position, message))

    def head(self) -> Message | None:
        if self._returned_comes_first():
            return self._returned[0][1]
        return self._messages[0] if self._messages else None

    def pop(self) -> Message:
        if self._returned and self._returned_comes_first():
            return heapq.heappop(self._returned)[1]
        return self._messages.popleft()

    def _returned_comes_first(self) -> bool:
        if not self._returned:
            return False
        return not self._messages or self._returned[0][0] < self._messages[0].position

    def __len__(self) -> int:
        return len(self._messages) + len(self._returned)

    def __iter__(self) -> Iterator[Message]:
        if not self._returned:
            return iter(self._messages)
        return heapq.merge((pair[1] for pair in sorted(self._returned)), self._messages, key=lambda m: m.position)


class ByPriority:
    """Ready messages by priority, the highest first.

    Args:
        priority_max: the queue's ``x-max-priority``; higher priorities count as this one.
    """

    __slots__ = ("_bands",)

    def __init__(self, priority_max: int) -> None:
        self._bands = [FirstInFirstOut() for _ in range(priority_max + 1)]

    def append(self, message: Message) -> None:
        self._band_of(message).append(message)

    def requeue(self, messages: list[Message]) -> None:
        for message in messages:
            self._band_of(message).requeue([message])

    def head(self) -> Message | None:
        for band in reversed(self._bands):
            if len(band):
                return band.head()
        return None

    def pop(self) -> Message:
        for band in reversed(self._bands):
            if len(band):
                return band.pop()
        raise IndexError("no ready message")

    def _band_of(self, message: Message) -> FirstInFirstOut:
        return self._bands[min(message.priority, len(self._bands) - 1)]

    def __len__(self) -> int:
        return sum(len(band) for band in self._bands)

    def __iter__(self) -> Iterator[Message]:
        for band in reversed(self._bands):
            yield from band


class ReturnedFirst:
    """Ready messages of a quorum queue: what was returned comes first, in the order in which it was returned."""

    __slots__ = ("_messages", "_returned")

    def __init__(self) -> None:
        self._messages: deque[Message] = deque()
        self._returned: deque[Message] = deque()

    def append(self, message: Message) -> None:
        self._messages.append(message)

    def requeue(self, messages: list[Message]) -> None:
        self._returned.extend(messages)

    def head(self) -> Message | None:
        if self._returned:
            return self._returned[0]
        return self._messages[0] if self._messages else None

    def pop(self) -> Message:
        return self._returned.popleft() if self._returned else self._messages.popleft()

    def __len__(self) -> int:
        return len(self._messages) + len(self._returned)

    def __iter__(self) -> Iterator[Message]:
        yield from self._returned
        yield from self._messages
