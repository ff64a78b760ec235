"""One consumer's way through a stream: where it is, and what was read from the disk for it.

What it passes by unwanted is passed by here; whether the client has room is the queue's to ask.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from amqp_broker.broker.message import Message
from amqp_broker.broker.persistence.message_records import MessageDecoder
from amqp_broker.broker.queues.consumers import Consumer
from amqp_broker.broker.queues.paging import PageRead
from amqp_broker.broker.queues.stream_log import StreamLog
from amqp_broker.broker.queues.stream_start import StreamFilter
from amqp_broker.wire.content import decode_properties

if TYPE_CHECKING:
    from amqp_broker.broker.queues.paging import Paging

READ_ENTRIES_MAX: Final = 128  # in one go


class StreamReader:
    """A consumer's place.

    Args:
        log: the stream's entries.
        consumer: who reads.
        next_offset: where it begins.
        wanted: which entries; None for all.
        paging: reads from the disk.
        has_read: called when what was asked for is here.
    """

    __slots__ = (
        "_decode",
        "_has_read",
        "_log",
        "_paging",
        "_read",
        "_reading",
        "_wanted",
        "consumer",
        "is_in_turn",
        "next_offset",
    )

    def __init__(
        self,
        log: StreamLog,
        consumer: Consumer,
        next_offset: int,
        wanted: StreamFilter | None,
        paging: Paging,
        has_read: Callable[[StreamReader], None],
    ) -> None:
        self._log = log
        self.consumer = consumer
        self.next_offset = next_offset
        self._wanted = wanted
        self._paging = paging
        self._has_read = has_read
        self._decode = MessageDecoder().decode
        self._read: deque[Message] = deque()  # from next_offset on
        self._reading: EntriesRead | None = None
        self.is_in_turn = False

    @property
    def may_go_on(self) -> bool:
        """Whether there is something to take, or to read."""
        return self._reading is None and self.next_offset < self._log.end_offset

    def take(self) -> Message | None:
        """The next entry that is wanted; None at the end, or where it must be read first, which is asked for."""
        while self.may_go_on:
            message = self._read.popleft() if self._read else self._log.latest(self.next_offset)
            if message is None:
                self._begin_to_read()
                return None
            self.next_offset += 1
            if self._wanted is None or self._wanted.takes(decode_properties(message.header).headers):
                return message
        return None

    def _begin_to_read(self) -> None:
        references = self._log.references(self.next_offset, READ_ENTRIES_MAX)
        self._reading = EntriesRead(self, references)
        self._paging.reads.append(self._reading)

    def pass_dropped(self) -> None:
        """Entries were dropped from the stream: what the reader is at may be among them."""
        if self.next_offset < self._log.first_offset:
            self.stop()
            self._read.clear()
            self.next_offset = self._log.first_offset

    def was_read(self, references: array[int], payloads: list[bytes]) -> None:
        """Entries are here."""
        self._reading = None
        for place, payload in enumerate(payloads):
            kept = self._decode(payload)
            message = Message(kept.address, kept.header, kept.body, kept.digest.is_persistent, kept.digest.priority)
            message.reference = references[place]
            message.position = self.next_offset + place
            self._read.append(message)
        self._has_read(self)

    def stop(self) -> None:
        """What is being read is not wanted any more."""
        if self._reading is not None:
            self._reading.reader = None
            self._reading = None


class EntriesRead(PageRead):
    """Entries that a consumer comes to next.

    Args:
        reader: for whom; None when it is gone.
        references: of their records.
    """

    __slots__ = ("reader",)

    def __init__(self, reader: StreamReader, references: array[int]) -> None:
        super().__init__(references)
        self.reader: StreamReader | None = reader

    @property
    def is_wanted(self) -> bool:
        return self.reader is not None

    def was_read(self, payloads: list[bytes]) -> None:
        if self.reader is not None:
            self.reader.was_read(self.references, payloads)
