"""The memory budget of all queues, and the reading back of what is on disk.

Messages that are ready count against the budget. Once it is spent, what is appended to a queue that has some messages
in memory already goes to disk: a kept message is in the journal anyway, any other is written there to be forgotten at
the next start. Everything behind it in its queue goes the same way, so that the order stays, until the queue's head
has caught up.

Reading is asked for before the head runs out, and done by the server floor in a thread; a queue whose head is still
on its way has nothing to deliver for the moment. ``QueueBusy`` suspends a client that asks for a message just then.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from amqp_broker.broker.message import Message
from amqp_broker.broker.persistence.durability import Durability
from amqp_broker.broker.persistence.message_records import KeptMessage, MessageDecoder
from amqp_broker.broker.queues.ready import Chunk, ReadyMessages
from amqp_broker.broker.queues.stored import StoredQueue

if TYPE_CHECKING:
    from amqp_broker.journal.cold_reads import LyingRecord
    from amqp_broker.journal.port import Journal
    from amqp_broker.journal.records import Part

# What a queue keeps in memory, whatever the others do: so many messages, if they have no more bytes than this.
IN_MEMORY_MIN = 64
IN_MEMORY_BYTES_MIN: Final = 8_388_608
OVERHEAD_BYTES: Final = 600  # what a message costs beside its body


class PageRead:
    """Records that somebody wants to have read; what becomes of them then, those who ask for it say.

    Args:
        references: of the records.
    """

    __slots__ = ("payloads", "references")

    def __init__(self, references: array[int]) -> None:
        self.references = references
        self.payloads: list[bytes] = []

    @property
    def is_wanted(self) -> bool:
        """Whether it is still wanted; where it is not, some of the records may be gone."""
        raise NotImplementedError

    def read(self, journal: Journal) -> None:
        """Read the records, in the order of their references. Blocks on the disk; meant for another thread.

        Raises:
            RecordGone, JournalDamaged, JournalFailed: as for ``Journal.read_many``.
        """
        self.payloads = journal.read_many(self.references)

    def was_read(self) -> None:
        """The records are here; there are none if they were not wanted any more."""
        raise NotImplementedError


class Paging:
    """The memory of one broker's queues.

    Args:
        durability: reads back what else is known of messages that were on disk.
        memory_bytes: what the broker may occupy; half of it is for messages that are ready, the rest for all else.
            0 keeps everything in memory.
    """

    def __init__(self, durability: Durability, memory_bytes: int) -> None:
        self._durability = durability
        self.limit_to(memory_bytes)
        self.used_bytes = 0
        self.has_disk = bool(memory_bytes) and durability.has_journal
        self.reads: deque[PageRead] = deque()  # the first asked for first
        self._decode = MessageDecoder().decode

    def limit_to(self, memory_bytes: int) -> None:
        """The broker may occupy so much from now on; what is in memory stays there."""
        self.budget_bytes = memory_bytes // 2

    @property
    def is_short(self) -> bool:
        """Whether the budget is spent, and there is a disk to go to."""
        return self.used_bytes > self.budget_bytes and self.has_disk

    def view_now(self, references: Sequence[int], unchecked_bytes_min: int, bytes_max: int) -> list[Part]:
        """The first of some records, as far as they are in the system's memory (``Journal.view_now``)."""
        return self._durability.view_now(references, unchecked_bytes_min, bytes_max)

    def lying_now(self, references: Sequence[int], head_bytes: int, rest_bytes_min: int) -> list[LyingRecord]:
        """The first of some records, as far as they may stay where they lie (``Journal.lying_now``)."""
        return self._durability.lying_now(references, head_bytes, rest_bytes_min)

    def read_ahead(self, queue: StoredQueue, ready: ReadyMessages) -> None:
        """Have the next chunk of a queue's ready messages read if their head runs low."""
        chunk = ready.chunk_to_read()
        if chunk is not None:
            self.reads.append(ChunkRead(self, queue, chunk))

    def chunk_was_read(self, queue: StoredQueue, chunk: Chunk, payloads: list[bytes]) -> None:
        """A chunk's records are here, in the order of its references."""
        messages = [
            self.message_of(queue, reference, self._decode(payload))
            for reference, payload in zip(chunk.references, payloads, strict=True)
        ]
        chunk.band.put_back(chunk, messages)
        queue.head_was_read(messages)

    def message_of(self, queue: StoredQueue, reference: int, kept: KeptMessage) -> Message:
        """A queue's message, as its record holds it."""
        message = Message(kept.address, kept.header, kept.body, kept.digest.is_persistent, kept.digest.priority)
        message.reference = reference
        self._durability.restore_deliveries(queue, message)
        message.expires_at_ms = self._durability.deadline_ms(queue, kept)
        return message


class ChunkRead(PageRead):
    """A chunk of a queue.

    Args:
        paging: what the messages count for.
        queue: whose.
        chunk: which.
    """

    __slots__ = ("_chunk", "_paging", "_queue")

    def __init__(self, paging: Paging, queue: StoredQueue, chunk: Chunk) -> None:
        super().__init__(chunk.references)
        self._paging = paging
        self._queue = queue
        self._chunk = chunk

    @property
    def is_wanted(self) -> bool:
        return self._chunk.is_wanted

    def was_read(self) -> None:
        if self._chunk.is_wanted:
            self._paging.chunk_was_read(self._queue, self._chunk, self.payloads)
