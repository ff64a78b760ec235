"""Ready messages in other orders than first in, first out: by bands (``bands.py``), and returned ones first.

What such an order is asked is in ``ready.py`` (``ReadyMessages``).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import Final

from amqp_broker.broker.message import Message
from amqp_broker.broker.queues.bands import HIGH_AND_NORMAL, Bands
from amqp_broker.broker.queues.ready import Chunk, FirstInFirstOut, ReadyMessages, Stretch

HIGH_BEFORE_A_NORMAL: Final = 2


class ByPriority(ReadyMessages):
    """Ready messages by priority, the highest first.

    Args:
        bands: which of them go together. What keeps those of a band is made with the first of them.
    """

    __slots__ = ("_bands", "_made", "_tell_apart")

    def __init__(self, bands: Bands) -> None:
        self._tell_apart = bands
        self._made: dict[int, FirstInFirstOut] = {}
        self._bands: list[FirstInFirstOut] = []  # the same, the highest first

    @property
    def is_paged(self) -> bool:
        return any(band.is_paged for band in self._bands)

    def append(self, message: Message) -> None:
        self._band_of(message).append(message)

    def append_paged(self, message: Message) -> None:
        self._band_of(message).append_paged(message)

    def extend_paged(self, references: Sequence[int], size_bytes: int, band: int) -> None:
        self._band(band).extend_paged(references, size_bytes, band)

    def must_page(self, message: Message) -> bool:
        return self._band_of(message).is_paged

    def requeue(self, messages: list[Message]) -> None:
        by_band: dict[FirstInFirstOut, list[Message]] = {}
        for message in messages:
            by_band.setdefault(self._band_of(message), []).append(message)
        for band, returned in by_band.items():
            band.requeue(returned)

    def head(self) -> Message | None:
        first = self._first_band()
        return None if first is None else first.head()

    def pop(self) -> Message:
        first = self._first_band()
        if first is None:
            raise IndexError("no ready message")
        return first.pop()

    def chunk_to_read(self) -> Chunk | None:
        first = self._first_band()
        return None if first is None else first.chunk_to_read()

    def _first_band(self) -> FirstInFirstOut | None:
        for band in self._bands:
            if len(band):
                return band
        return None

    def _band_of(self, message: Message) -> FirstInFirstOut:
        return self._band(self._tell_apart.band_of(message.priority, message.header))

    def _band(self, number: int) -> FirstInFirstOut:
        band = self._made.get(number)
        if band is None:
            band = self._made[number] = FirstInFirstOut()
            self._bands = [self._made[made] for made in sorted(self._made, reverse=True)]
        return band

    def lengths(self) -> dict[int, int]:
        """How many are ready of each priority of which there were any."""
        return {number: len(band) for number, band in self._made.items()}

    def __len__(self) -> int:
        return sum(len(band) for band in self._bands)

    def __iter__(self) -> Iterator[Message]:
        for band in self._bands:
            yield from band

    def in_memory(self) -> list[Message]:
        messages: list[Message] = []
        for band in self._bands:
            messages += band.in_memory()
        return messages

    def stretches(self, skip: int, count: int) -> list[Stretch]:
        found: list[Stretch] = []
        for band in self._bands:
            if count <= 0:
                break
            of_band = band.stretches(skip, count)
            found += of_band
            count -= sum(map(len, of_band))
            skip = max(0, skip - len(band))
        return found

    def those_there(self, messages: list[Message]) -> list[Message]:
        return [message for message in messages if self._band_of(message).those_there([message])]

    def with_references(self, references: set[int]) -> list[Message]:
        return [message for message in iter(self) if message.reference in references]

    def take_out(self, messages: list[Message]) -> None:
        by_band: dict[FirstInFirstOut, list[Message]] = {}
        for message in messages:
            by_band.setdefault(self._band_of(message), []).append(message)
        for band, gone in by_band.items():
            band.take_out(gone)

    def drain(self, count: int) -> list[Message]:
        for band in self._bands[::-1]:
            if taken := band.drain(count):
                return taken
        return []

    def paged(self) -> tuple[int, int]:
        of_bands = [band.paged() for band in self._bands]
        return sum([count for count, _ in of_bands]), sum([size_bytes for _, size_bytes in of_bands])

    def paged_references(self) -> Iterator[int]:
        return chain.from_iterable([band.paged_references() for band in self._bands])


class TwoHighOneNormal(ByPriority):
    """Ready messages of two bands: as long as there are some of both, two of the high one go before each of the other.

    Those that look in see all of the high band first.
    (rabbit_fifo_q.erl of RabbitMQ 4.0: it counts what is taken, by threes, whatever band it is of; where it is the
    normal band's turn, a high one that came before goes all the same.)
    """

    __slots__ = ("_taken",)

    def __init__(self) -> None:
        super().__init__(HIGH_AND_NORMAL)
        self._taken = 0  # since the turn of the normal band

    def pop(self) -> Message:
        message = super().pop()
        self._taken = 0 if self._taken == HIGH_BEFORE_A_NORMAL else self._taken + 1
        return message

    def chunk_to_read(self) -> Chunk | None:
        for band in self._bands:
            if (chunk := band.chunk_to_read()) is not None:
                return chunk
        return None

    def _first_band(self) -> FirstInFirstOut | None:
        first = super()._first_band()
        if self._taken < HIGH_BEFORE_A_NORMAL or len(self._bands) < 2 or first is not self._bands[0]:
            return first
        normal = self._bands[1]
        if not len(normal):
            return first
        high_head, normal_head = first.head(), normal.head()
        is_older = high_head is not None and normal_head is not None and high_head.position < normal_head.position
        return first if is_older else normal


class ReturnedFirst(ReadyMessages):
    """Ready messages of a quorum queue: what was returned comes first, in the order in which it was returned.

    Args:
        others: keeps what was not returned.
    """

    __slots__ = ("_messages", "_returned")

    def __init__(self, others: ReadyMessages) -> None:
        self._messages = others
        self._returned: deque[Message] = deque()

    @property
    def is_paged(self) -> bool:
        return self._messages.is_paged

    def append(self, message: Message) -> None:
        self._messages.append(message)

    def append_paged(self, message: Message) -> None:
        self._messages.append_paged(message)

    def extend_paged(self, references: Sequence[int], size_bytes: int, band: int) -> None:
        self._messages.extend_paged(references, size_bytes, band)

    def must_page(self, message: Message) -> bool:
        return self._messages.must_page(message)

    def requeue(self, messages: list[Message]) -> None:
        self._returned.extend(messages)

    def head(self) -> Message | None:
        return self._returned[0] if self._returned else self._messages.head()

    def pop(self) -> Message:
        return self._returned.popleft() if self._returned else self._messages.pop()

    def drain(self, count: int) -> list[Message]:
        taken = [self._returned.pop() for _ in range(min(count, len(self._returned)))]
        return taken or self._messages.drain(count)

    def chunk_to_read(self) -> Chunk | None:
        return self._messages.chunk_to_read()

    def __len__(self) -> int:
        return len(self._messages) + len(self._returned)

    def __iter__(self) -> Iterator[Message]:
        yield from self._returned
        yield from self._messages

    def in_memory(self) -> list[Message]:
        return [*self._returned, *self._messages.in_memory()]

    def stretches(self, skip: int, count: int) -> list[Stretch]:
        returned = list(islice(self._returned, skip, skip + count)) if count > 0 else []
        rest = self._messages.stretches(max(0, skip - len(self._returned)), count - len(returned))
        return [Stretch(returned), *rest] if returned else rest

    def those_there(self, messages: list[Message]) -> list[Message]:
        returned = set(self._returned)
        return [message for message in messages if message in returned or self._messages.those_there([message])]

    def with_references(self, references: set[int]) -> list[Message]:
        return [message for message in iter(self) if message.reference in references]

    def take_out(self, messages: list[Message]) -> None:
        gone = set(messages)
        before = len(self._returned)
        if before:
            self._returned = deque([message for message in self._returned if message not in gone])
        if before - len(self._returned) < len(gone):
            self._messages.take_out(messages)

    def paged(self) -> tuple[int, int]:
        return self._messages.paged()

    def paged_references(self) -> Iterator[int]:
        return self._messages.paged_references()
