"""The recovery of messages from the journal at the start: the heads of queues as messages, all else as references.

There may be millions, and all that is needed of one that stays on disk is where it is and how large its body is. Most
go to the same queue as the one before and are like it in all but their bodies: that is found out by two comparisons,
and such messages gather until there are enough for a chunk. Holds no formats; those are in ``message_records.py``.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from amqp_broker.broker.message import Message
from amqp_broker.broker.persistence.message_records import (
    KeptMessage,
    MessageDecoder,
    body_offset_of,
    does_expire,
    middle_offset_of,
    published_wall_ms_of,
    queues_end,
)
from amqp_broker.broker.queues.paging import IN_MEMORY_BYTES_MIN, IN_MEMORY_MIN
from amqp_broker.broker.queues.ready import CHUNK_BYTES_MAX, CHUNK_MESSAGES_MAX

if TYPE_CHECKING:
    from amqp_broker.broker.contents import Contents
    from amqp_broker.broker.queues.base import Queue
    from amqp_broker.broker.queues.past import Past


class MessageRecovery:
    """Puts messages back into their queues, in the order of their records.

    Args:
        broker: whose they are.
        queues: by the references of their records.
        pasts: likewise, those that queues have.
    """

    def __init__(self, broker: Contents, queues: Mapping[int, Queue], pasts: Mapping[int, Past]) -> None:
        self._broker = broker
        self._queues = queues
        self._pasts = pasts
        self._decode = MessageDecoder().decode
        self.unowned: list[int] = []  # claims of queues that are gone
        self._counted = array("Q")  # the references of quorum queues' messages, whose returns are counted; ascending
        # What gathers: messages of one queue.
        self._queue: Queue | None = None
        self._past: Past | None = None  # which these records name as well
        self._is_head_there = False  # of the queue, where there is a past; else only what has left it is gathered
        self._references: list[int] = []
        self._size_bytes = 0
        self._may_expire = False
        self._band = 0
        # How they begin, and what most of them have in common behind the time of publishing.
        self._beginning = self._middle = b""
        self._middle_offset = self._body_offset = 0

    def restore(self, reference: int, payload: bytes, claims: Sequence[int]) -> None:
        """Put the message of one record back; it is seen in its queue after the next ``flush``."""
        queue, past = self._queue, self._past
        if queue is None or not payload.startswith(self._beginning):
            self._restore_other(reference, payload, claims)
            return
        if past is not None:
            if claims[0] != reference:  # it has left the queue
                self._restore_past(past, payload, claims[0])
                return
            if not self._is_head_there:
                self._restore_other(reference, payload, claims)
                return
        if payload.startswith(self._middle, self._middle_offset):
            body_offset = self._body_offset
        elif queue.bands is None:
            body_offset = body_offset_of(payload, self._middle_offset)
            self._may_expire = self._may_expire or does_expire(payload, self._middle_offset)
        else:
            self._restore_other(reference, payload, claims)
            return
        self._references.append(reference)
        self._size_bytes += len(payload) - body_offset
        if past is not None and claims[-1] != reference:
            self._restore_past(past, payload, claims[-1])
        if len(self._references) >= CHUNK_MESSAGES_MAX or self._size_bytes >= CHUNK_BYTES_MAX:
            self.flush()

    def restore_block(self, reference: int, payload: bytes) -> None:
        """Put entries of a stream back that came together."""
        kept = self._decode(payload)
        queue = self._queues.get(kept.queues[0])
        if queue is None:
            self.unowned.append(reference)
        else:
            queue.restore_block(reference, kept.body, kept.published_wall_ms)

    def _restore_past(self, past: Past, payload: bytes, claim: int) -> None:
        past.restore(claim, published_wall_ms_of(payload, len(self._beginning)), len(payload))

    def flush(self) -> None:
        """Put what has gathered into its queue."""
        queue = self._queue
        if queue is not None and self._references:
            queue.restore_paged(self._references, self._size_bytes, self._band, may_expire=self._may_expire)
            self._count(queue, self._references)
            self._references = []
            self._size_bytes = 0
            self._may_expire = False

    def is_counted(self, reference: int) -> bool:
        """Whether a message is back whose returns are counted."""
        self.flush()
        place = bisect_left(self._counted, reference)
        return place < len(self._counted) and self._counted[place] == reference

    def _count(self, queue: Queue, references: Sequence[int]) -> None:
        if queue.counts_returns:
            self._counted.extend(references)

    def _restore_other(self, reference: int, payload: bytes, claims: Sequence[int]) -> None:
        """A message that is not like those before it: it goes into its queues by itself, and others may be like it."""
        self.flush()
        self._queue = self._past = None
        kept = self._decode(payload)
        for claim in claims:
            place = kept.queues[claim - reference]
            queue = self._queues.get(place)
            if queue is None:
                past = self._pasts.get(place)
                if past is not None:
                    past.restore(claim, kept.published_wall_ms, len(payload))
                    self._gather_for_past(past, payload, kept, has_left=claims[0] == claim)
                else:
                    self.unowned.append(claim)
                continue
            if queue.is_log:
                queue.restore_entry(claim, len(kept.body), kept.published_wall_ms)
                continue
            self._restore_alone(queue, claim, kept)
            self._count(queue, [claim])
            if len(kept.queues) == 1 and self._has_its_head(queue):
                self._gather_for(queue, payload, kept)

    def _restore_alone(self, queue: Queue, claim: int, kept: KeptMessage) -> None:
        deadline_ms = self._broker.durability.deadline_ms(queue, kept)
        if self._has_its_head(queue):
            band = queue.band_of(kept.digest.priority, kept.header)
            queue.restore_paged([claim], len(kept.body), band, may_expire=deadline_ms is not None)
            return
        message = Message(kept.address, kept.header, kept.body, kept.digest.is_persistent, kept.digest.priority)
        message.reference = claim
        message.expires_at_ms = deadline_ms
        queue.restore(message)

    def _has_its_head(self, queue: Queue) -> bool:
        """Whether what comes now stays on disk: a start should take as little time and memory as it can."""
        is_enough = queue.ready_count >= IN_MEMORY_MIN or queue.ready_bytes > IN_MEMORY_BYTES_MIN
        return self._broker.paging.has_disk and is_enough and not queue.knows_each

    def _gather_for_past(self, past: Past, payload: bytes, kept: KeptMessage, *, has_left: bool) -> None:
        """What comes now may be of the same past, and of its queue if that has its head, or has let this one go."""
        queue = self._queues.get(kept.queues[0])
        if len(kept.queues) == 2 and queue is not None:
            self._is_head_there = self._has_its_head(queue)
            if has_left or self._is_head_there:
                self._gather_for(queue, payload, kept)
                self._past = past

    def _gather_for(self, queue: Queue, payload: bytes, kept: KeptMessage) -> None:
        self._queue = queue
        self._band = queue.band_of(kept.digest.priority, kept.header)
        self._middle_offset = middle_offset_of(kept)
        self._body_offset = len(payload) - len(kept.body)
        self._beginning = payload[: queues_end(kept)]
        self._middle = payload[self._middle_offset : self._body_offset]
