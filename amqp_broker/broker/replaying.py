"""The replay of a queue: what it has got since a time is put into another queue, or through an exchange, once more.

All that its past (``queues/past.py``) has when it begins is gone through, once, in the order in which it came; the past
keeps it. Done in slices, as moving is: what one slice puts somewhere is there after a crash or not, all of it. Who
replays again after that has some of it twice, and nothing is lost.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from amqp_broker.broker.message import Message
from amqp_broker.broker.move_destinations import Destination
from amqp_broker.broker.moving import Action, Moving, Selection
from amqp_broker.broker.peeking import Steps
from amqp_broker.broker.persistence.message_records import MessageDecoder
from amqp_broker.broker.queues.base import Queue
from amqp_broker.broker.queues.past import Past
from amqp_broker.broker.queues.ready import Stretch

if TYPE_CHECKING:
    from amqp_broker.broker.broker import Broker

READ_MESSAGES_MAX: Final = 256
READ_BYTES_MAX: Final = 1_048_576  # in one go, as far as bodies are alike


class Replaying(Moving):
    """One replay, as work in slices.

    Args:
        broker: whose.
        queue: whose past.
        past: that.
        since_wall_ms: only what came since then, in milliseconds since 1970.
        selection: which of it.
        destination: where it goes.
        dry_run: whether nothing is done but looked.
    """

    def __init__(
        self,
        broker: Broker,
        queue: Queue,
        past: Past,
        since_wall_ms: int,
        selection: Selection,
        destination: Destination,
        *,
        dry_run: bool,
    ) -> None:
        super().__init__(broker, queue, Action.REPLAY, selection, destination, dry_run=dry_run)
        self._since_wall_ms = since_wall_ms
        self._chunks = past.chunks_since(since_wall_ms)
        self._info["to_look_at"] = sum([len(chunk) for chunk in self._chunks])

    def steps(self) -> Steps:
        """Do it."""
        chunks = self._chunks
        chunks.reverse()
        while chunks and not self._is_enough:
            chunk = chunks.pop()
            start, total = 0, len(chunk)  # what comes meanwhile is not replayed
            count = max(1, min(READ_MESSAGES_MAX, READ_BYTES_MAX * total // max(1, chunk.bytes)))
            while start < total and not self._is_enough:
                references = chunk.references(start, min(count, total - start))
                start += len(references)
                payloads = yield references
                yield from self._go_through(Stretch([], references), self._those_of_the_time(references, payloads))
        self._finish()

    def _those_of_the_time(self, references: Sequence[int], payloads: Sequence[bytes | None]) -> Iterator[Message]:
        decoder, paging = MessageDecoder(), self._broker.paging
        for reference, payload in zip(references, payloads, strict=True):
            if payload is None:
                self._info["gone"] += 1
                continue
            kept = decoder.decode(payload)
            if kept.published_wall_ms >= self._since_wall_ms:
                yield paging.message_of(self._queue, reference, kept)

    def _act_on(self, stretch: Stretch, found: list[Message]) -> None:
        destination = self._destination
        assert destination is not None
        self._done += len(self._put_all(destination, found))
