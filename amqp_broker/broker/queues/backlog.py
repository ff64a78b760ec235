"""The ready messages of a queue, which nobody has taken yet: how many and how large they are, where they are.

Each message that is ready counts against the broker's memory budget (``paging.py``); only here is it added to and taken
from. In which order messages leave is told by the ``ReadyMessages`` (``ready.py``). A queue that never held a message
has none of its own: of many thousand queues most are empty.

Holds no rule about consumers, lengths or expiry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice

from amqp_broker.broker.message import Message
from amqp_broker.broker.persistence.durability import Durability
from amqp_broker.broker.queues.paging import IN_MEMORY_BYTES_MIN, IN_MEMORY_MIN, OVERHEAD_BYTES, Paging
from amqp_broker.broker.queues.ready import NOTHING, Chunk, ReadyMessages
from amqp_broker.broker.queues.stored import StoredQueue


class Backlog:
    """The ready messages of one queue.

    What may go to disk is told whose it is, because paging asks the queue again when it comes back; the backlog itself
    does not hold on to its queue.

    Args:
        paging: the broker's memory.
        durability: where messages are put that are to be on disk only.
        make_ready: makes what keeps them in their order.
    """

    __slots__ = ("_durability", "_make_ready", "_paging", "bytes", "count", "messages")

    def __init__(self, paging: Paging, durability: Durability, make_ready: Callable[[], ReadyMessages]) -> None:
        self._paging = paging
        self._durability = durability
        self._make_ready = make_ready
        self.messages: ReadyMessages = NOTHING
        self.count = 0
        self.bytes = 0  # of the bodies

    def head(self) -> Message | None:
        """The next message to be delivered; None when there is none, or it is on its way from the disk."""
        return self.messages.head() if self.count else None

    @property
    def is_head_on_disk(self) -> bool:
        """Whether there is a next message, and it must be read first."""
        return self.count > 0 and self.messages.is_paged and self.messages.head() is None

    def append(self, whose: StoredQueue, message: Message, may_page: bool) -> None:
        """Let a message wait: in memory, or on disk when it may go there or those before it are there."""
        if not self.count:
            self._begin()
        messages = self.messages
        size_bytes = len(message.body)
        self.count += 1
        self.bytes += size_bytes
        if messages.must_page(message) or (
            may_page and (self.count > IN_MEMORY_MIN or self.bytes > IN_MEMORY_BYTES_MIN)
        ):
            self._durability.page_out(whose, message)
            messages.append_paged(message)
            self._paging.read_ahead(whose, messages)
        else:
            messages.append(message)
            self._paging.used_bytes += size_bytes + OVERHEAD_BYTES

    def _begin(self) -> None:
        if self.messages is NOTHING:
            self.messages = self._make_ready()

    def extend_paged(self, whose: StoredQueue, references: Sequence[int], size_bytes: int, band: int) -> None:
        """Let many wait that are on disk: no more than a chunk, of one band, of so many bytes together."""
        self._begin()
        self.count += len(references)
        self.bytes += size_bytes
        self.messages.extend_paged(references, size_bytes, band)
        self._paging.read_ahead(whose, self.messages)

    def were_read(self, messages: list[Message]) -> None:
        """Some of those on disk are in memory again."""
        self._paging.used_bytes += sum(len(message.body) for message in messages) + OVERHEAD_BYTES * len(messages)

    def take(self, whose: StoredQueue) -> Message:
        """Take the next message to be delivered; it must be in memory."""
        messages = self.messages
        message = messages.pop()
        size_bytes = len(message.body)
        self.count -= 1
        self.bytes -= size_bytes
        self._paging.used_bytes -= size_bytes + OVERHEAD_BYTES
        if messages.is_paged:
            self._paging.read_ahead(whose, messages)
        return message

    def take_out(self, whose: StoredQueue, messages: list[Message]) -> None:
        """Take some out of the midst of others; they are in memory, and there (``ReadyMessages.those_there``)."""
        if not messages:
            return
        size_bytes = sum([len(message.body) for message in messages])
        self.messages.take_out(messages)
        self.count -= len(messages)
        self.bytes -= size_bytes
        self._paging.used_bytes -= size_bytes + OVERHEAD_BYTES * len(messages)
        if self.messages.is_paged:
            self._paging.read_ahead(whose, self.messages)

    def take_out_of(self, whose: StoredQueue, chunk: Chunk, messages: list[Message]) -> Chunk:
        """Take some out that are on disk only, in a chunk that is there; returns the chunk that has what is left."""
        size_bytes = sum([len(message.body) for message in messages])
        self.count -= len(messages)
        self.bytes -= size_bytes
        rest = chunk.band.take_out_of(chunk, {message.reference for message in messages}, size_bytes)
        self._paging.read_ahead(whose, self.messages)
        return rest

    def put_back(self, messages: list[Message], size_bytes: int) -> None:
        """Messages were not consumed; they come in order, and have so many bytes together."""
        self._begin()
        self.messages.requeue(messages)
        self.count += len(messages)
        self.bytes += size_bytes
        self._paging.used_bytes += size_bytes + OVERHEAD_BYTES * len(messages)

    def empty(self, slice_messages: int) -> Iterator[None]:
        """Drop all messages at once, those on disk as well; returns what it takes to forget them, in slices."""
        assert self.count == len(self.messages), "a queue has lost count of what is ready in it"
        assert self.bytes >= 0
        dropped, self.messages = self.messages, NOTHING
        self.count = self.bytes = 0
        return self._forget_all(dropped, dropped.paged_references(), slice_messages)

    def _forget_all(self, dropped: ReadyMessages, references: Iterator[int], slice_messages: int) -> Iterator[None]:
        while messages := dropped.drain(slice_messages):
            self._paging.used_bytes -= sum(len(message.body) for message in messages) + OVERHEAD_BYTES * len(messages)
            assert self._paging.used_bytes >= 0, "more memory was given back than taken"
            self._durability.forget_messages(messages)
            if len(messages) == slice_messages:
                yield
        while some := list(islice(references, slice_messages)):
            self._durability.forget_references(some)
            if len(some) == slice_messages:
                yield
