"""Ways through a stream: where a consumer is, and what was read from the disk for it.

``StreamReader`` is the way of one that gets messages; one that gets chunks has ``stream_chunks.py``. What it passes by
unwanted is passed by here; whether the client has room is the queue's to ask.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

from amqp_broker.broker.message import Message
from amqp_broker.broker.persistence.message_records import MessageDecoder
from amqp_broker.broker.queues.consumers import Consumer
from amqp_broker.broker.queues.paging import PageRead
from amqp_broker.broker.queues.stream_block import StreamBlock
from amqp_broker.broker.queues.stream_log import StreamLog
from amqp_broker.broker.queues.stream_log_chunk import Extent
from amqp_broker.broker.queues.stream_start import StreamFilter
from amqp_broker.wire.content import decode_properties

if TYPE_CHECKING:
    from amqp_broker.broker.ports import EntryForms
    from amqp_broker.broker.queues.paging import Paging

READ_ENTRIES_MAX: Final = 128  # in one go
STEP_COST: Final = 32  # of opening a part of a sub-batch, in deliveries
ENTRIES_LIKE_A_DELIVERY: Final = 4  # of a block, passed by: it takes as long as one delivery
HEADER_BYTES_LIKE_A_DELIVERY: Final = 256  # looked into, about: likewise
DELIVERY_COST: Final = 3  # of an entry: its header is made for it


class EntryReader:
    """A consumer's place among the entries.

    Args:
        log: the stream's entries.
        consumer: who reads.
        next_offset: where it begins.
        wanted: which entries; None for all.
        paging: reads from the disk.
        has_read: called when what was asked for is here.
    """

    __slots__ = (
        "_has_read",
        "_log",
        "_paging",
        "_read",
        "_reading",
        "_wanted",
        "consumer",
        "decoder",
        "next_offset",
    )

    def __init__(
        self,
        log: StreamLog,
        consumer: Consumer,
        next_offset: int,
        wanted: StreamFilter | None,
        paging: Paging,
        has_read: Callable[[EntryReader], None],
    ) -> None:
        self._log = log
        self.consumer = consumer
        self.next_offset = next_offset
        self._wanted = wanted
        self._paging = paging
        self._has_read = has_read
        self.decoder = MessageDecoder()
        self._read: deque[Message] = deque()  # from next_offset on
        self._reading: EntriesRead | None = None

    @property
    def is_reading(self) -> bool:
        """Whether it waits for the disk."""
        return self._reading is not None

    @property
    def may_go_on(self) -> bool:
        """Whether there is something to take, or to read."""
        return self._reading is None and self.next_offset < self._log.kept_end_offset

    @property
    def has_more(self) -> bool:
        """The same, or whether what comes next has yet to be kept."""
        return self._reading is None and self.next_offset < self._log.end_offset

    def serve(self, count: int) -> int:
        """Deliver entries to the consumer, or pass them by, for about so much; returns what it cost, in deliveries of
        small messages of other queues."""
        raise NotImplementedError

    def next_entry(self) -> Message | None:
        """The entry that has the next offset; None where it must be read first, which is asked for."""
        entry = self._read.popleft() if self._read else self._log.latest(self.next_offset)
        if entry is None:
            self._begin_to_read()
            if self._read:  # it was at hand
                entry = self._read.popleft()
        return entry

    def _begin_to_read(self) -> None:
        extent = self._log.extent(self.next_offset, READ_ENTRIES_MAX, self._log.kept_end_offset)
        self._ask_for(EntriesRead(self, extent))

    def _ask_for(self, reading: EntriesRead) -> None:
        self._reading = reading
        self._paging.reads.append(reading)

    def pass_dropped(self) -> None:
        """Entries were dropped from the stream: what the reader is at may be among them."""
        if self.next_offset < self._log.first_offset:
            self.go_to(self._log.first_offset)

    def go_to(self, offset: int) -> None:
        """Go on elsewhere."""
        self.stop()
        self._read.clear()
        self.next_offset = offset

    def was_read(self, entries: list[Message]) -> None:
        """Entries are here."""
        self._reading = None
        self._read.extend(entries)
        self._has_read(self)

    def stop(self) -> None:
        """What is being read is not wanted any more."""
        if self._reading is not None:
            self._reading.reader = None
            self._reading = None


class StreamReader(EntryReader):
    """The way of a consumer that gets messages; arguments as of ``EntryReader``, and

    Args:
        entry_forms: opens blocks.
    """

    __slots__ = ("_cost", "_entry_forms", "_opened", "_opened_cost", "_opened_end", "_selects")

    def __init__(
        self,
        log: StreamLog,
        consumer: Consumer,
        next_offset: int,
        wanted: StreamFilter | None,
        paging: Paging,
        has_read: Callable[[EntryReader], None],
        entry_forms: Callable[[], EntryForms],
    ) -> None:
        super().__init__(log, consumer, next_offset, wanted, paging, has_read)
        self._entry_forms = entry_forms
        self._opened: Iterator[Message | None] | None = None  # of the block that the reader is in, wanted all of them
        self._opened_end = 0  # the offset behind that block
        self._opened_cost = 0  # of going through it, in deliveries
        self._cost = 0  # of what was taken last and gave no message
        self._selects = consumer.deliveries.selects

    def take(self) -> Message | None:
        """The next entry, if it is wanted; None otherwise, at the end, or where it must be read first, which is asked
        for."""
        if self._opened is not None:
            return self._next_opened(self._opened)
        entry = self.next_entry() if self.may_go_on else None
        if entry is None:
            return None
        if isinstance(entry, StreamBlock):
            return self._next_opened(self._open(entry))
        self.next_offset = entry.position + 1
        if self._wanted is None or self._wanted.takes(decode_properties(entry.header).headers):
            return entry
        return None

    def _open(self, block: StreamBlock) -> Iterator[Message | None]:
        """Go on with the messages of a block; what of it cannot be opened is passed by."""
        opened = self._opened = block.opened(self._entry_forms(), self._wanted, self.next_offset)
        self._opened_end = block.end_offset
        self._opened_cost = int(block.entries) // ENTRIES_LIKE_A_DELIVERY
        return opened

    def _next_opened(self, opened: Iterator[Message | None]) -> Message | None:
        """The next message of the block that the reader is in; None after a step without one, and behind the last."""
        for message in opened:
            if message is None:
                self._cost = STEP_COST
                return None
            self.next_offset = message.position + 1
            if self.next_offset == self._opened_end:
                self._opened = None
            return message
        self._opened = None
        self.next_offset = self._opened_end
        self._cost = self._opened_cost
        return None

    def go_to(self, offset: int) -> None:
        super().go_to(offset)
        self._opened = None

    def serve(self, count: int) -> int:
        consumer = self.consumer
        queue = consumer.queue
        handled = 0
        while handled < count:
            if not consumer.is_ready:
                queue.consumers.park(consumer)
                return handled
            message = self.take()
            if message is not None:
                if self._selects is not None:
                    handled += len(message.header) // HEADER_BYTES_LIKE_A_DELIVERY
                    if not self._selects(message):
                        handled += 1
                        continue
                if not consumer.no_ack:
                    queue.unacknowledged_count += 1
                consumer.deliveries.deliver(consumer, message, queue.header_to_deliver(message))
                handled += DELIVERY_COST
                continue
            if self._cost:
                handled += self._cost
                self._cost = 0
                continue
            if not self.may_go_on:
                return handled
            handled += 1
        return handled


def entries_of(extent: Extent, payloads: Sequence[bytes], decoder: MessageDecoder) -> list[Message]:
    """The entries of an extent, each with its offset, of what stands in their records."""
    entries: list[Message] = []
    for place, payload in enumerate(payloads):
        kept = decoder.decode(payload)
        message: Message
        if extent.is_block(place):
            message = StreamBlock(kept.address, kept.body)
        else:
            message = Message(kept.address, kept.header, kept.body, kept.digest.is_persistent, kept.digest.priority)
        message.position = extent.first_offset_of(place)
        message.reference = extent.references[place]
        entries.append(message)
    return entries


class EntriesRead(PageRead):
    """Entries that a consumer comes to next.

    Args:
        reader: for whom; None when it is gone.
        extent: which.
    """

    __slots__ = ("extent", "reader")

    def __init__(self, reader: EntryReader, extent: Extent) -> None:
        super().__init__(extent.references)
        self.extent = extent
        self.reader: EntryReader | None = reader

    @property
    def is_wanted(self) -> bool:
        return self.reader is not None

    def was_read(self) -> None:
        if self.reader is not None:
            self.reader.was_read(self.entries(self.reader))

    def entries(self, reader: EntryReader) -> list[Message]:
        """What was read."""
        return entries_of(self.extent, self.payloads, reader.decoder)
