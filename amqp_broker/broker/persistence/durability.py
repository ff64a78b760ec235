"""Durability: which changes are written to the journal, and when they count as kept.

Theory of operation. Whatever is durable has one record, and keeps the record's reference; when it goes, the record is
dropped. A message has one record however many queues it is in: each queue's copy is one claim. Since the journal
commits what gathers between two of its batches whole or not at all, a transaction, or a message on its way from a queue
to its dead-letter exchange, is never seen half done: the broker does each in one go, or holds the batch meanwhile.

Which messages had been delivered is not written for each: a queue notes, once a batch, up to which one it has handed
messages out; what is still there after a restart and not beyond that mark is marked redelivered. A quorum queue counts
how often a message comes back, of a broker that was killed as well: the mark tells the first time, and from the second
on the number is written for the message itself when it is handed out.

Holds no formats: those are in ``definitions.py``, which has its records written here, and ``message_records.py``.
``docs/journal.md`` describes the layers below. What is written is read back by ``recovery.py``.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple, Protocol

from amqp_broker.broker.message import Message
from amqp_broker.broker.persistence.kinds import NOT_KEPT, RecordKind
from amqp_broker.broker.persistence.message_records import (
    QUEUES_MAX,
    KeptMessage,
    encode_of_exchange,
    encode_returned,
    message_parts,
)
from amqp_broker.broker.ports import Clock
from amqp_broker.broker.queues.stored import StoredQueue
from amqp_broker.journal.checksums import Piece
from amqp_broker.journal.cold_reads import LyingRecord
from amqp_broker.journal.failures import RecordGone
from amqp_broker.journal.port import Batch, Journal
from amqp_broker.journal.records import Part
from amqp_broker.wire.table import RECORD_DEPTH, Table, encode_table

_MESSAGE: Final = int(RecordKind.MESSAGE)  # written with every message: looked up once


class Returned(NamedTuple):
    """The number of times that a kept message has come back to its quorum queue, and the record of it.

    ``header`` is its content header, where that is another one since.
    """

    reference: int
    times: int
    header: bytes = b""


class Kept(Protocol):
    """Whatever has a record of its own."""

    reference: int  # of its record; ``NOT_KEPT`` when there is none


class Durability:
    """Writes what is durable to a journal.

    Args:
        journal: where to; None keeps nothing, and everything counts as kept at once.
        clock: the wall clock goes into records, deadlines are kept on the monotonic one.
        is_kept_by_sync: whether what was written counts as kept only when it was synced.
    """

    def __init__(self, journal: Journal | None, clock: Clock, *, is_kept_by_sync: bool) -> None:
        self._journal = journal
        self._clock = clock
        self._is_kept_by_sync = is_kept_by_sync
        self._handed_out: list[StoredQueue] = []  # whose mark has moved since the last batch
        self._notes: dict[Callable[[], None], None] = {}  # see ``note_before_batch``
        self._returns: dict[int, Returned] = {}  # by the message's reference
        self._nothing_left_at = NOT_KEPT
        self.is_dirty = False  # something has gathered since the last batch was taken, or set aside
        self.is_held = False  # what gathers is to be seen whole, and it is not all there yet
        self.last_change = NOT_KEPT  # the position of what was last declared, deleted, bound or purged
        self.last_duplicate = NOT_KEPT  # the position of all that was there when one was last dropped

    # --- how far it is

    @property
    def has_journal(self) -> bool:
        """Whether there is a disk at all."""
        return self._journal is not None

    @property
    def position(self) -> int:
        """What must be kept for all that has gathered to be kept; that of duplicates when nothing has."""
        return self._journal.position if self._journal is not None and self.is_dirty else self.position_of_duplicates

    @property
    def position_of_all(self) -> int:
        """The same for all that was ever done: what is being written, or waits for a sync, gathers no more."""
        if self._journal is None:
            return NOT_KEPT
        return self._journal.position if self.is_dirty else self._journal.position - 1

    @property
    def position_of_duplicates(self) -> int:
        """What must be kept before a duplicate that was dropped is confirmed; ``NOT_KEPT`` when it all is."""
        if self.is_kept(self.last_duplicate):
            return NOT_KEPT
        return self.position_of_all  # and not what it was then, for the positions that somebody waits for only grow

    def dropped_duplicate(self) -> None:
        """A persistent message goes nowhere, for there was one like it, which may not be kept yet."""
        self.last_duplicate = self.position_of_all

    def is_kept(self, position: int) -> bool:
        """Whether all up to a position is as durable as was asked for."""
        if position == NOT_KEPT or position < self._kept_position:
            return True
        return position <= self._nothing_left_at and not self.is_dirty

    @property
    def _kept_position(self) -> int:
        if self._journal is None:
            return sys.maxsize
        return self._journal.synced_position if self._is_kept_by_sync else self._journal.written_position

    @property
    def is_unsynced(self) -> bool:
        """Whether something was written that a crash of the machine may still cost."""
        return self._journal is not None and self._journal.synced_position < self._journal.written_position

    def take_batch(self, *, sync: bool = True) -> Batch | None:
        """Take what has gathered out of the journal, to be written.

        None says that there is nothing to write, and that all that was done until now is kept, unless it has yet to be
        synced. That holds only until something gathers again: what is dropped does not move the journal's position.
        While it is held there is nothing to write either, but what was set aside before.

        Args:
            sync: whether to sync all that was written, too.

        Raises:
            JournalFailed: the journal failed before.
        """
        if self._journal is None:
            return None
        if self._journal.has_set_aside:
            return self._journal.take_batch(sync=sync)
        if self.is_held:
            return None
        self.note_handed_out()
        self.is_dirty = False
        batch = self._journal.take_batch(sync=sync)
        has_nothing_left = batch is None and not (self._is_kept_by_sync and self.is_unsynced)
        self._nothing_left_at = self._journal.position if has_nothing_left else NOT_KEPT
        return batch

    def set_aside(self) -> None:
        """Make a batch of what has gathered before it can be written (``Journal.set_aside``), unless it is held."""
        if self._journal is None or self.is_held:
            return
        self.note_handed_out()
        self.is_dirty = False
        self._nothing_left_at = NOT_KEPT
        self._journal.set_aside()

    def hold(self) -> bool:
        """Take no batch until ``release``: what is done in turns until then is seen whole or not at all after a crash.

        All whose changes are to be kept wait for that, so one holds at a time, and not for longer than it takes with
        every second turn (``works.py``).

        Returns:
            Whether it is held for the caller; else it was already, and the caller does all in one go.
        """
        if self.is_held:
            return False
        self.is_held = True
        return True

    def release(self) -> None:
        """What was to be seen whole is all there."""
        self.is_held = False

    # --- records of what is defined (``definitions.py``)

    def keep(self, kind: RecordKind, table: Table) -> int:
        """Write a record; returns its reference."""
        if self._journal is None:
            return NOT_KEPT
        reference = self._journal.put(kind, encode_table(table, RECORD_DEPTH))
        self.changed()
        return reference

    def replace(self, before: int, kind: RecordKind, table: Table) -> int:
        """Write a record in the place of another one, if there is one; returns its reference."""
        if self._journal is None:
            return NOT_KEPT
        return self.replace_encoded(before, kind, encode_table(table, RECORD_DEPTH))

    def replace_encoded(self, before: int, kind: RecordKind, payload: bytes) -> int:
        """The same for a table that is encoded."""
        if self._journal is None:
            return NOT_KEPT
        reference = self._journal.replace(before or None, kind, payload)
        self.changed()
        return reference

    def drop(self, reference: int) -> None:
        """A record means nothing any more, if there is one."""
        if reference and self._journal is not None:
            self._journal.drop(reference)
            self.is_dirty = True

    def changed(self) -> None:
        """What was done now is a durable change: its answer waits until it is kept."""
        if self._journal is not None:
            self.last_change = self._journal.position
            self.is_dirty = True

    def forget(self, gone: Kept) -> None:
        """Something that may have had a record is gone."""
        if gone.reference:
            self.drop(gone.reference)
            gone.reference = NOT_KEPT
            self.changed()

    def forget_queue(self, queue: StoredQueue) -> None:
        """A queue is gone; its messages mean nothing without it, and are forgotten in their own time."""
        if queue.reference:
            for reference in _references_of(queue):
                self.drop(reference)
            queue.reference = queue.handed_out_reference = queue.state_reference = NOT_KEPT
            self.changed()

    def forget_definitions(self, queues: Sequence[StoredQueue], others: Sequence[Kept]) -> None:
        """Very many of them are gone together."""
        references = [thing.reference for thing in others if thing.reference]
        for queue in queues:
            references += _references_of(queue)
            queue.reference = queue.handed_out_reference = queue.state_reference = NOT_KEPT
        for thing in others:
            thing.reference = NOT_KEPT
        self.forget_references(references)

    def keep_together(self, payload: bytes, count: int) -> int:
        """Write so many definitions in one record (``encode_together``), which takes next to no time for each.

        Returns:
            The reference of the first; each has the next one, and is dropped by itself. 0 where nothing is kept.
        """
        if self._journal is None:
            return NOT_KEPT
        reference = self._journal.put(RecordKind.DEFINITIONS, payload, count)
        self.changed()
        return reference

    # --- messages

    def keep_message(
        self, queues: Sequence[StoredQueue], messages: Sequence[Message], expiration_ms: int | None
    ) -> None:
        """A persistent message goes to durable queues: write it once, and give each copy its claim.

        Only where there are very many queues it is written more often than that.

        Args:
            queues: durable ones, at least one.
            messages: the copy of each.
            expiration_ms: the message's own; a queue's limit is the queue's.
        """
        if self._journal is None:
            return
        now_wall_ms = self._clock.wall_ms()
        expires_wall_ms = 0 if expiration_ms is None else now_wall_ms + expiration_ms
        self.is_dirty = True
        for start in range(0, len(queues), QUEUES_MAX):
            some = queues[start : start + QUEUES_MAX]
            payload = message_parts(some, messages[0], now_wall_ms, expires_wall_ms)
            reference = self._journal.put(_MESSAGE, payload, len(some))
            for message in messages[start : start + QUEUES_MAX]:
                message.reference = reference
                reference += 1

    def keep_for_one(self, queue: StoredQueue, message: Message, expiration_ms: int | None) -> None:
        """The same for the usual case, one queue."""
        journal = self._journal
        if journal is None:
            return
        now_wall_ms = self._clock.wall_ms()
        expires_wall_ms = 0 if expiration_ms is None else now_wall_ms + expiration_ms
        message.reference = journal.put(_MESSAGE, message_parts((queue,), message, now_wall_ms, expires_wall_ms))
        self.is_dirty = True

    def keep_block(self, queue: StoredQueue, block: Message, parts: Sequence[Piece]) -> None:
        """Entries of a stream came together: one record, of the form of a message's.

        Args:
            parts: the block's body.
        """
        if self._journal is not None:
            *start, _ = message_parts((queue,), block, self._clock.wall_ms(), 0)
            block.reference = self._journal.put(RecordKind.STREAM_BLOCK, (*start, *parts))
            self._journal.read_soon()
            self.is_dirty = True

    def note_before_batch(self, note: Callable[[], None]) -> None:
        """Call somebody once before the next batch is taken, who has something to write that changes often."""
        if self._journal is not None:
            self._notes[note] = None
            self.is_dirty = True

    def page_out(self, queue: StoredQueue, message: Message) -> None:
        """Give a message that is not kept a record to be read again from; it is forgotten at the next start."""
        if self._journal is not None and not message.reference:
            now_wall_ms, now_ms = self._clock.wall_ms(), self._clock.monotonic_ms()
            expires_wall_ms = 0 if message.expires_at_ms is None else now_wall_ms + message.expires_at_ms - now_ms
            payload = message_parts([queue], message, now_wall_ms, expires_wall_ms)
            message.reference = self._journal.put(RecordKind.PAGED, payload)
            if message.delivery_count:
                self.note_returned(message)
            self.is_dirty = True

    def read(self, references: Sequence[int]) -> list[bytes | None]:
        """The records of messages, for somebody who takes nothing: None for those that are gone meanwhile.

        May run in another thread, at any time.

        Raises:
            JournalDamaged, JournalFailed: as for ``Journal.read``.
        """
        journal = self._journal
        if journal is None:
            return [None] * len(references)
        try:
            return list(journal.read_many(references))
        except RecordGone:
            return [_read_one(journal, reference) for reference in references]

    def has(self, reference: int) -> bool:
        """Whether a record is there: ``Journal.has``."""
        return self._journal is not None and self._journal.has(reference)

    def view_now(self, references: Sequence[int], unchecked_bytes_min: int, bytes_max: int) -> list[Part]:
        """The first of some records, as far as they are at hand: ``Journal.view_now``."""
        return self._journal.view_now(references, unchecked_bytes_min, bytes_max) if self._journal is not None else []

    def lying_now(self, references: Sequence[int], head_bytes: int, rest_bytes_min: int) -> list[LyingRecord]:
        """The first of some records, as far as they may stay where they lie: ``Journal.lying_now``."""
        journal = self._journal
        return journal.lying_now(references, head_bytes, rest_bytes_min) if journal is not None else []

    def keep_holder(self, holder: StoredQueue, virtual_host: str, exchange: str) -> None:
        """An exchange holds a message back for the first time: a record that those of the messages refer to."""
        fields: Table = {"virtual_host": virtual_host, "exchange": exchange}
        holder.reference = self.keep(RecordKind.DELAY_HOLDER, fields)

    def keep_past(self, past: StoredQueue, queue: StoredQueue) -> None:
        """A queue has a past: a record that those of messages refer to, as they do to the queue's."""
        past.reference = self.keep(RecordKind.PAST, {"queue": queue.reference})

    def keep_state(self, queue: StoredQueue, state: Table) -> None:
        """Write what a queue's type keeps beside messages, in the place of what it kept before."""
        if queue.reference:
            fields: Table = {"queue": queue.reference, **state}
            queue.state_reference = self.replace(queue.state_reference, RecordKind.QUEUE_STATE, fields)

    def keep_for_exchange(self, exchange: Kept, value: bytes) -> int:
        """Write something that an exchange's type keeps of its own; ``Matcher.restore`` is handed it at a start.

        It is kept with the messages that are routed in the same go, and dropped by its reference.

        Args:
            exchange: it; what a transient one has is not kept.
            value: means something to the type alone.

        Returns:
            The record's reference; 0 where nothing is kept.
        """
        if self._journal is None or not exchange.reference:
            return NOT_KEPT
        self.is_dirty = True
        return self._journal.put(RecordKind.EXCHANGE_STATE, encode_of_exchange(exchange.reference, value))

    def keep_held(self, holder: StoredQueue, message: Message, delay_ms: int) -> int:
        """A message is held back: write it, whatever its delivery mode; returns the record's reference.

        The record is that of a message, with the time when it is due in the place of the time of publishing, and that
        of publishing in the place of the time when it expires.
        """
        if self._journal is None:
            return NOT_KEPT
        now_wall_ms = self._clock.wall_ms()
        payload = message_parts((holder,), message, now_wall_ms + delay_ms, now_wall_ms)
        self.is_dirty = True
        return self._journal.put(RecordKind.DELAYED, payload)

    def deadline_ms(self, queue: StoredQueue, kept: KeptMessage) -> int | None:
        """When a message that was read back expires in a queue, on the monotonic clock.

        If the wall clock was set back meanwhile, it is as old as if it had been published now, and no younger.
        """
        ttl_ms = queue.arguments.message_ttl_ms
        if ttl_ms is None and not kept.expires_wall_ms:
            return None
        lives_ms = [kept.expires_wall_ms - kept.published_wall_ms] if kept.expires_wall_ms else []
        if ttl_ms is not None:
            lives_ms.append(ttl_ms)
        age_ms = max(0, self._clock.wall_ms() - kept.published_wall_ms)
        return self._clock.monotonic_ms() + min(lives_ms) - age_ms

    def forget_references(self, references: Iterable[int]) -> None:
        """Messages that are on disk only are not wanted any more."""
        if self._journal is not None and (dropped := array("Q", references)):
            if self._returns:
                self._drop_returns(dropped)
            self._journal.drop_many(dropped)
            self.changed()

    def _drop_returns(self, references: Iterable[int]) -> None:
        for reference in self._returns.keys() & references:
            self.drop(self._returns.pop(reference).reference)

    def forget_message(self, message: Message) -> None:
        """A message has left its queue for good."""
        reference = message.reference
        if not reference or self._journal is None:
            return
        message.reference = NOT_KEPT
        self._journal.drop(reference)
        self.is_dirty = True
        if self._returns and reference in self._returns:
            self.drop(self._returns.pop(reference).reference)

    def forget_messages(self, messages: Iterable[Message]) -> None:
        """Many messages have left their queue for good; those that are not kept are none of our business."""
        if self._journal is None:
            return
        self.forget_references(message.reference for message in messages if message.reference)

    def handed_out(self, queue: StoredQueue) -> None:
        """A queue has handed out a message beyond its mark."""
        self._handed_out.append(queue)
        self.is_dirty = True

    @property
    def pending_bytes(self) -> int:
        """What waits for the disk."""
        return self._journal.pending_bytes if self._journal is not None else 0

    def note_handed_out(self) -> None:
        """Write what changes often, marks that have moved among it; to be called before a batch is taken."""
        queues, self._handed_out = self._handed_out, []
        for queue in queues:
            queue.has_moved_mark = False
            if queue.reference and self._journal is not None:
                payload = encode_table({"queue": queue.reference, "marks": list(queue.handed_out_through)})
                before = queue.handed_out_reference or None
                queue.handed_out_reference = self._journal.replace(before, RecordKind.HANDED_OUT, payload)
        if self._notes:
            notes, self._notes = self._notes, {}
            for note in notes:
                note()

    def note_returned(self, message: Message) -> None:
        """A kept message has come back to its quorum queue once more."""
        before = self._returns.get(message.reference)
        if before is None or before.times != message.delivery_count:  # else that was written when it was handed out
            self._keep_returned(message, message.delivery_count, b"" if before is None else before.header)

    def note_handed_out_again(self, message: Message) -> None:
        """A kept message that has come back to its quorum queue is handed out: a kill brings it back once more."""
        before = self._returns.get(message.reference)
        self._keep_returned(message, message.delivery_count + 1, b"" if before is None else before.header)

    def note_header(self, message: Message) -> None:
        """A kept message that comes back has another content header than it was published with."""
        self._keep_returned(message, message.delivery_count, message.header)

    def _keep_returned(self, message: Message, times: int, header: bytes) -> None:
        if message.reference and self._journal is not None:
            payload = encode_returned(message.reference, times, header)
            before = self._returns.get(message.reference)
            reference = self._journal.replace(before.reference if before else None, RecordKind.RETURNED, payload)
            self._returns[message.reference] = Returned(reference, times, header)
            self.is_dirty = True

    def adopt_returned(self, message_reference: int, returned: Returned) -> Returned | None:
        """A RETURNED record was read back; returns an older one of the same message, which no healthy journal has."""
        before = self._returns.get(message_reference)
        self._returns[message_reference] = returned
        return before

    def restore_deliveries(self, queue: StoredQueue, message: Message) -> None:
        """Say of a message that was read from the journal how often it has come back, and what was said of it then."""
        returned = self._returns.get(message.reference) if queue.counts_returns else None
        message.delivery_count = returned.times if returned is not None else 0
        if returned is not None and returned.header:
            message.header = returned.header
        message.redelivered = message.delivery_count > 0 or queue.was_handed_out(message)
        if message.redelivered and not message.delivery_count and queue.counts_returns:
            message.delivery_count = 1  # a client had it when the broker was killed


def _read_one(journal: Journal, reference: int) -> bytes | None:
    try:
        return journal.read(reference)[1]
    except RecordGone:
        return None


def _references_of(queue: StoredQueue) -> list[int]:
    """All the records that a queue itself has."""
    return [one for one in (queue.reference, queue.handed_out_reference, queue.state_reference) if one]
