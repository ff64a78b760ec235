"""The messages of a queue that wait for a consumer, in the order in which they will be delivered.

Here first in, first out, which the other orders are made of (``ready_in_bands.py``). A requeued message goes back to
its original position, which its ``position`` tells. Holds no rule about expiry, length or consumers: that is the
queue's.

A long backlog is in memory at its head only. What comes behind is on disk: a chunk knows the journal's references of
its messages and nothing else. ``paging.py`` decides when, and reads chunks back before the head runs out.
"""

from __future__ import annotations

import heapq
from array import array
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import Final

from amqp_broker.broker.message import Message

CHUNK_MESSAGES_MAX = 1024
CHUNK_BYTES_MAX = 1_048_576
READ_AHEAD_MESSAGES = 1024  # a chunk is read when fewer are left in memory,
READ_AHEAD_BYTES = 8_388_608  # and they would have fewer bytes, if they were as large as those of the chunk
READ_AHEAD_MESSAGES_MIN = 4
PASSED_MAX: Final = 4096  # by those that are taken out of the midst together


class Chunk:
    """Consecutive messages that are on disk only.

    Args:
        band: where they will be put back.
    """

    __slots__ = ("_bytes", "band", "is_wanted", "references")

    def __init__(self, band: FirstInFirstOut) -> None:
        self.band = band
        self.references = array("Q")
        self.is_wanted = True  # False once the queue was purged or deleted
        self._bytes = 0

    @property
    def is_full(self) -> bool:
        """Whether the next message belongs into another chunk."""
        return len(self.references) >= CHUNK_MESSAGES_MAX or self._bytes >= CHUNK_BYTES_MAX

    @property
    def size_bytes(self) -> int:
        """Of the bodies together."""
        return self._bytes

    @property
    def read_ahead_messages(self) -> int:
        """How many messages in memory are enough, so that this chunk need not be read yet."""
        mean_bytes = self._bytes // max(1, len(self.references))
        return min(READ_AHEAD_MESSAGES, max(READ_AHEAD_MESSAGES_MIN, READ_AHEAD_BYTES // max(1, mean_bytes)))

    def append(self, reference: int, size_bytes: int) -> None:
        """One more message."""
        self.references.append(reference)
        self._bytes += size_bytes

    def keep(self, references: Sequence[int], of: Chunk, size_bytes: int) -> None:
        """Hold no others than these, which are left of a chunk when so many bytes are gone."""
        self._bytes = of._bytes - size_bytes
        self.references = array("Q", references)

    def extend(self, references: Sequence[int], size_bytes: int) -> None:
        """Many more, of so many bytes together."""
        self.references.extend(references)
        self._bytes += size_bytes


def position_of(message: Message) -> int:
    """Its place among those of its queue."""
    return message.position


def descending_position_of(message: Message) -> int:
    """The same for those that come in the opposite order."""
    return -message.position


class Stretch:
    """Consecutive messages of a queue, for those who look in: they are in memory, or all in one chunk.

    Args:
        messages: those in memory; empty where there is a chunk.
        references: of those that are on disk only.
        chunk: where the latter are.
    """

    __slots__ = ("chunk", "messages", "references")

    def __init__(self, messages: list[Message], references: array[int] | None = None, chunk: Chunk | None = None):
        self.messages = messages
        self.references = references if references is not None else array("Q")
        self.chunk = chunk

    def __len__(self) -> int:
        return len(self.messages) or len(self.references)


class ReadyMessages:
    """The ready messages of a queue, as it needs them: the base of the classes that keep them, each in its order."""

    __slots__ = ()

    @property
    def is_paged(self) -> bool:
        """Whether some are on disk only."""
        raise NotImplementedError

    def append(self, message: Message) -> None:
        """Add a message that has just been published."""
        raise NotImplementedError

    def append_paged(self, message: Message) -> None:
        """The same, but keep only the reference to it."""
        raise NotImplementedError

    def extend_paged(self, references: Sequence[int], size_bytes: int, band: int) -> None:
        """Add many that are on disk: no more than a chunk may hold, of one band, of so many bytes together."""
        raise NotImplementedError

    def must_page(self, message: Message) -> bool:
        """Whether those before it are on disk, so that it has to go there too."""
        raise NotImplementedError

    def requeue(self, messages: list[Message]) -> None:
        """Put messages back where they were; they come in the order of their positions."""
        raise NotImplementedError

    def head(self) -> Message | None:
        """The next message to be delivered, left where it is; None when there is none, or it is on disk."""
        raise NotImplementedError

    def pop(self) -> Message:
        """Take the next message to be delivered; it must be in memory."""
        raise NotImplementedError

    def chunk_to_read(self) -> Chunk | None:
        """The chunk that should be read now, once; None while enough is in memory."""
        raise NotImplementedError

    def drain(self, count: int) -> list[Message]:
        """Take up to so many of those in memory out, in any order: they are not wanted any more."""
        raise NotImplementedError

    def __len__(self) -> int:
        raise NotImplementedError

    def __iter__(self) -> Iterator[Message]:
        """All messages in memory, in the order of delivery."""
        raise NotImplementedError

    def in_memory(self) -> list[Message]:
        """The same in any order, and in the least time."""
        raise NotImplementedError

    def stretches(self, skip: int, count: int) -> list[Stretch]:
        """Up to so many messages in the order of delivery, without the first ones; all stay where they are."""
        raise NotImplementedError

    def those_there(self, messages: list[Message]) -> list[Message]:
        """Those of some messages that are in memory here, in the order in which they are asked for."""
        raise NotImplementedError

    def with_references(self, references: set[int]) -> list[Message]:
        """The messages in memory that the journal holds under these references, in the order of delivery."""
        raise NotImplementedError

    def take_out(self, messages: list[Message]) -> None:
        """Take messages out of the midst of others; they are there (``those_there``), and best near each other."""
        raise NotImplementedError

    def paged(self) -> tuple[int, int]:
        """How many are on disk only, and the bytes of their bodies."""
        raise NotImplementedError

    def paged_references(self) -> Iterator[int]:
        """The references of those on disk; they are given up, and no chunk is wanted any more."""
        raise NotImplementedError


class NothingReady(ReadyMessages):
    """The ready messages of a queue that has none. It takes none either: who has one makes a place for it first."""

    __slots__ = ()

    @property
    def is_paged(self) -> bool:
        return False

    def must_page(self, message: Message) -> bool:
        return False

    def head(self) -> Message | None:
        return None

    def pop(self) -> Message:
        raise IndexError("no ready message")

    def chunk_to_read(self) -> Chunk | None:
        return None

    def drain(self, count: int) -> list[Message]:
        return []

    def __len__(self) -> int:
        return 0

    def __iter__(self) -> Iterator[Message]:
        return iter(())

    def in_memory(self) -> list[Message]:
        return []

    def stretches(self, skip: int, count: int) -> list[Stretch]:
        return []

    def those_there(self, messages: list[Message]) -> list[Message]:
        return []

    def with_references(self, references: set[int]) -> list[Message]:
        return []

    def paged(self) -> tuple[int, int]:
        return 0, 0

    def paged_references(self) -> Iterator[int]:
        return iter(())


NOTHING: Final = NothingReady()


class FirstInFirstOut(ReadyMessages):
    """Ready messages in the order of their positions.

    What is requeued before everything else (the usual case: the oldest were being delivered) goes to the front of the
    deque. What belongs into the middle waits beside it, as it came: in runs, each in order and with its next message
    at its end, in a heap by the positions of these. ``pop`` takes whichever comes first.
    """

    __slots__ = ("_chunks", "_messages", "_paged_count", "_reading", "_returned", "_returned_count")

    def __init__(self) -> None:
        self._messages: deque[Message] = deque()
        self._returned: list[tuple[int, list[Message]]] = []
        self._returned_count = 0
        self._chunks: deque[Chunk] | None = None  # made when there is one
        self._paged_count = 0
        self._reading: Chunk | None = None

    @property
    def is_paged(self) -> bool:
        return self._paged_count > 0

    def append(self, message: Message) -> None:
        self._messages.append(message)

    def append_paged(self, message: Message) -> None:
        self._last_chunk().append(message.reference, len(message.body))
        self._paged_count += 1

    def extend_paged(self, references: Sequence[int], size_bytes: int, band: int) -> None:
        self._last_chunk().extend(references, size_bytes)
        self._paged_count += len(references)

    def _last_chunk(self) -> Chunk:
        """The chunk that the next message belongs into."""
        chunks = self._chunks
        if chunks is None:
            chunks = self._chunks = deque()
        if not chunks or chunks[-1].is_full or chunks[-1] is self._reading:
            chunks.append(Chunk(self))
        return chunks[-1]

    def must_page(self, message: Message) -> bool:
        return self._paged_count > 0

    def requeue(self, messages: list[Message]) -> None:
        ready = self._messages
        if not self._returned and (not ready or messages[-1].position < ready[0].position):
            ready.extendleft(reversed(messages))
            return
        run = messages[::-1]
        heapq.heappush(self._returned, (run[-1].position, run))
        self._returned_count += len(run)

    def head(self) -> Message | None:
        if self._returned_comes_first():
            return self._returned[0][1][-1]
        return self._messages[0] if self._messages else None

    def pop(self) -> Message:
        if self._returned and self._returned_comes_first():
            return self._pop_returned()
        return self._messages.popleft()

    def _pop_returned(self) -> Message:
        run = self._returned[0][1]
        message = run.pop()
        self._returned_count -= 1
        if run:
            heapq.heapreplace(self._returned, (run[-1].position, run))
        else:
            heapq.heappop(self._returned)
        return message

    def drain(self, count: int) -> list[Message]:
        taken = [self._messages.pop() for _ in range(min(count, len(self._messages)))]
        return taken or [self._pop_returned() for _ in range(min(count, self._returned_count))]

    def _returned_comes_first(self) -> bool:
        if not self._returned:
            return False
        return not self._messages or self._returned[0][0] < self._messages[0].position

    def chunk_to_read(self) -> Chunk | None:
        if self._reading is not None or not self._chunks:
            return None
        if len(self._messages) >= self._chunks[0].read_ahead_messages:
            return None
        self._reading = self._chunks[0]
        return self._reading

    def put_back(self, chunk: Chunk, messages: list[Message]) -> None:
        """The chunk that was being read is here."""
        chunks = self._chunks
        assert chunks, "a chunk comes back that nobody has sent away"
        chunks.popleft()
        self._reading = None
        self._paged_count -= len(chunk.references)
        self._messages.extend(messages)

    def __len__(self) -> int:
        return len(self._messages) + self._returned_count + self._paged_count

    def __iter__(self) -> Iterator[Message]:
        if not self._returned:
            return iter(self._messages)
        runs = (reversed(run) for _, run in self._returned)
        return heapq.merge(*runs, self._messages, key=lambda message: message.position)

    def in_memory(self) -> list[Message]:
        messages = list(self._messages)
        for _, run in self._returned:
            messages += run
        return messages

    def stretches(self, skip: int, count: int) -> list[Stretch]:
        found: list[Stretch] = []
        in_memory = len(self._messages) + self._returned_count
        if skip < in_memory and count > 0:
            messages = list(islice(iter(self), skip, skip + count))
            found.append(Stretch(messages))
            count -= len(messages)
        skip = max(0, skip - in_memory)
        for chunk in self._chunks or ():
            if count <= 0:
                break
            references = chunk.references[skip : skip + count]
            if references:
                found.append(Stretch([], references, chunk))
                count -= len(references)
            skip = max(0, skip - len(chunk.references))
        return found

    def those_there(self, messages: list[Message]) -> list[Message]:
        return [message for message in messages if self._is_there(message)]

    def _is_there(self, message: Message) -> bool:
        ready, position = self._messages, message.position
        index = bisect_left(ready, position, key=position_of)
        if index < len(ready) and ready[index] is message:
            return True
        for _, run in self._returned:
            if run[-1].position <= position <= run[0].position:
                index = bisect_left(run, -position, key=descending_position_of)
                if run[index] is message:
                    return True
        return False

    def with_references(self, references: set[int]) -> list[Message]:
        return [message for message in iter(self) if message.reference in references]

    def take_out(self, messages: list[Message]) -> None:
        gone = set(messages)
        first, last = messages[0].position, messages[0].position
        for message in messages:
            first, last = min(first, message.position), max(last, message.position)
        ready = self._messages
        start = bisect_left(ready, first, key=position_of)
        end = bisect_right(ready, last, key=position_of)
        if end - start > PASSED_MAX and len(messages) > 1:  # they are far from each other
            for message in messages:
                self.take_out([message])
            return
        if start < end:
            ready.rotate(-start)
            passed = [ready.popleft() for _ in range(end - start)]
            ready.extendleft([message for message in reversed(passed) if message not in gone])
            ready.rotate(start)
        if self._returned:
            self._take_out_returned(gone)

    def _take_out_returned(self, gone: set[Message]) -> None:
        runs = [[message for message in run if message not in gone] for _, run in self._returned]
        self._returned = [(run[-1].position, run) for run in runs if run]
        heapq.heapify(self._returned)
        self._returned_count = sum(map(len, runs))

    def has(self, chunk: Chunk) -> bool:
        """Whether a chunk's messages are on disk only, and wanted."""
        return chunk.is_wanted and self._chunks is not None and chunk in self._chunks

    def take_out_of(self, chunk: Chunk, references: set[int], size_bytes: int) -> Chunk:
        """Take some out of a chunk that is there, of so many bytes together.

        Returns:
            What is left of it. Where it was being read, that is another chunk, which is to be read anew.
        """
        chunks = self._chunks
        assert chunks, "a chunk is taken apart that nobody has"
        rest = chunk
        if chunk is self._reading:
            chunk.is_wanted, self._reading = False, None
            rest = Chunk(self)
            chunks[0] = rest
        rest.keep([reference for reference in chunk.references if reference not in references], chunk, size_bytes)
        self._paged_count -= len(references)
        if not rest.references:
            chunks.remove(rest)
        return rest

    def paged(self) -> tuple[int, int]:
        return self._paged_count, sum([chunk.size_bytes for chunk in self._chunks or ()])

    def paged_references(self) -> Iterator[int]:
        chunks = self._chunks or ()
        for chunk in chunks:
            chunk.is_wanted = False
        return chain.from_iterable([chunk.references for chunk in chunks])
