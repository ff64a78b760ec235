"""The past of a queue: the messages that it got, for as long as ``x-replay-ms`` says, to be replayed to another queue.

Theory of operation. A persistent message that goes into a queue with a past has one claim more on its record in the
journal, which stays when the message has left the queue. In memory are four bytes for each, in chunks that know
when their first and last message came. A chunk is forgotten as a whole once its last message is old enough, so a
message may be kept a little longer than it must, and never less.

The claims name the past's own record as that of a queue, so a start finds them as it finds the messages of queues.
Holds neither the way in (``publishing.py``) nor the replaying (``replaying.py``).
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterator
from typing import Final

from amqp_broker.broker.arguments import NO_QUEUE_ARGUMENTS
from amqp_broker.broker.message import Message
from amqp_broker.broker.persistence.durability import Durability
from amqp_broker.broker.persistence.kinds import NOT_KEPT
from amqp_broker.broker.ports import Clock
from amqp_broker.broker.queues.stored import StoredQueue
from amqp_broker.broker.timers import Timer, Timers
from amqp_broker.broker.works import Works

CHUNK_MESSAGES_MAX: Final = 4_096
CHUNKS_IN_ITS_TIME: Final = 64  # at least, however few messages come: what is kept too long is less than this part
OFFSET_MAX: Final = 2**32 - 1


class PastChunk:
    """Messages that came one after the other.

    Args:
        reference: the journal's of the first one.
        came_wall_ms: when that came, in milliseconds since 1970.
    """

    __slots__ = ("_offsets", "bytes", "first_reference", "first_wall_ms", "last_wall_ms")

    def __init__(self, reference: int, came_wall_ms: int) -> None:
        self.first_reference = reference
        self.first_wall_ms = self.last_wall_ms = came_wall_ms
        self.bytes = 0  # of the messages, about
        self._offsets = array("I")

    def __len__(self) -> int:
        return len(self._offsets)

    def takes(self, reference: int, came_wall_ms: int, span_ms: int) -> bool:
        """Whether one more belongs here; else a new chunk begins."""
        is_near = reference - self.first_reference <= OFFSET_MAX and came_wall_ms - self.first_wall_ms <= span_ms
        return len(self._offsets) < CHUNK_MESSAGES_MAX and is_near

    def append(self, reference: int, came_wall_ms: int, size_bytes: int) -> None:
        """One more message."""
        self._offsets.append(reference - self.first_reference)
        self.last_wall_ms = max(self.last_wall_ms, came_wall_ms)
        self.bytes += size_bytes

    def references(self, start: int = 0, count: int = CHUNK_MESSAGES_MAX) -> array[int]:
        """The journal's references of some of them."""
        first = self.first_reference
        return array("Q", [first + offset for offset in self._offsets[start : start + count]])


class Past(StoredQueue):
    """The past of one queue.

    Args:
        queue: whose.
        durability: what keeps it.
        keep_ms: how long each message must be kept; None where that is not known yet.
    """

    __slots__ = (
        "_chunks",
        "_clock",
        "_durability",
        "_is_forgetting",
        "_keep_ms",
        "_queue",
        "_timer",
        "_timers",
        "_works",
    )

    def __init__(
        self,
        queue: StoredQueue,
        durability: Durability,
        clock: Clock,
        timers: Timers,
        works: Works,
        keep_ms: int | None = None,
    ) -> None:
        super().__init__(queue.name, True, NO_QUEUE_ARGUMENTS)
        self._queue = queue
        self._durability = durability
        self._clock = clock
        self._timers = timers
        self._works = works
        self._keep_ms = keep_ms
        self._chunks: deque[PastChunk] = deque()
        self._timer: Timer | None = None
        self._is_forgetting = False

    def __len__(self) -> int:
        return sum([len(chunk) for chunk in self._chunks])

    @property
    def oldest_wall_ms(self) -> int | None:
        """When the oldest that is there came, in milliseconds since 1970; None where there is nothing."""
        return self._chunks[0].first_wall_ms if self._chunks else None

    def chunks_since(self, since_wall_ms: int) -> list[PastChunk]:
        """What came since a time, and perhaps a little before."""
        return [chunk for chunk in self._chunks if chunk.last_wall_ms >= since_wall_ms]

    @property
    def counts_returns(self) -> bool:
        return self._queue.counts_returns

    def was_handed_out(self, message: Message) -> bool:
        return False

    def head_was_read(self, messages: list[Message]) -> None:
        """Not used: nothing of it comes back into memory by itself."""
        raise NotImplementedError

    # --- in

    def be_kept(self) -> None:
        """Have a record that those of messages can name."""
        if not self.reference:
            self._durability.keep_past(self, self._queue)

    def append(self, message: Message) -> None:
        """A message has come, whose record has a claim of this past."""
        if message.reference:
            self._add(message.reference, self._clock.wall_ms(), len(message.body))
            if self._timer is None:
                self._set_timer()

    def _add(self, reference: int, came_wall_ms: int, size_bytes: int) -> None:
        chunks = self._chunks
        span_ms = OFFSET_MAX if self._keep_ms is None else self._keep_ms // CHUNKS_IN_ITS_TIME
        if not chunks or not chunks[-1].takes(reference, came_wall_ms, span_ms):
            chunks.append(PastChunk(reference, came_wall_ms))
        chunks[-1].append(reference, came_wall_ms, size_bytes)

    # --- out

    def keep_for(self, keep_ms: int) -> None:
        """Keep each message so long from now on, those that are there included."""
        self._keep_ms = keep_ms
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._set_timer()

    def _set_timer(self) -> None:
        """Look again when the first chunk is old enough."""
        if self._chunks and self._keep_ms is not None and not self._is_forgetting:
            wait_ms = max(0, self._chunks[0].last_wall_ms + self._keep_ms + 1 - self._clock.wall_ms())
            self._timer = self._timers.at(self._clock.monotonic_ms() + wait_ms, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._is_first_old():
            self._is_forgetting = True
            self._works.begin(self._forget_old())
        else:
            self._set_timer()

    def _is_first_old(self) -> bool:
        keep_ms = self._keep_ms
        if not self._chunks or keep_ms is None:
            return False
        return self._chunks[0].last_wall_ms + keep_ms < self._clock.wall_ms()

    def _forget_old(self) -> Iterator[None]:
        """Forget what is old enough, a chunk in a slice."""
        try:
            while self._is_first_old():
                self._durability.forget_references(self._chunks.popleft().references())
                yield
        finally:
            self._is_forgetting = False
        self._set_timer()

    def end(self) -> None:
        """The queue has gone, or is to have no past any more. All is forgotten, in slices; nothing is there at once."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._keep_ms = None
        chunks, self._chunks = self._chunks, deque()
        self._durability.forget(self)
        self.reference = NOT_KEPT
        self._works.begin(self._forget_all(chunks))

    def _forget_all(self, chunks: deque[PastChunk]) -> Iterator[None]:
        while chunks:
            self._durability.forget_references(chunks.popleft().references())
            yield

    # --- what a start puts back

    def restore(self, reference: int, came_wall_ms: int, size_bytes: int) -> None:
        """Put back that a message came; they come in the order of their records."""
        self._add(reference, came_wall_ms, size_bytes)
