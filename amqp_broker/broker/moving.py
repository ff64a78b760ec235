"""Messages of a queue that an administrator moves, copies or deletes: what a filter finds, or what a look has named.

All that is ready when it begins is looked at, once, in the order of delivery; what comes later, and what consumers
have, is left alone. It is done in slices. In each, messages are put where they go and taken out of their queue in one
go, so that the journal's batch has both or neither: a crash finds each message in one place. What cannot go anywhere
(nobody wants it, its new queue is full, it never died) stays where it is and is counted. One that an exchange sends to
several queues, of which one is full, stays as well, though the others have it.

A walk like a look (``peeking.py``), whose steps are taken by whoever has the disk. Where messages go is in
``move_destinations.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, TypedDict

from amqp_broker.broker.message import Message
from amqp_broker.broker.message_filter import ANY_MESSAGE, MessageFilter
from amqp_broker.broker.move_destinations import Destination, Stays, ToExchange, Way
from amqp_broker.broker.peeking import PeekedMessage, Steps, describe, message_id
from amqp_broker.broker.persistence.message_records import MessageDecoder
from amqp_broker.broker.queues.base import Queue
from amqp_broker.broker.queues.ready import Stretch

if TYPE_CHECKING:
    from amqp_broker.broker.broker import Broker

SLICE_COST: Final = 50  # of messages that are looked at or put into a queue: some ten microseconds each
BYTES_AT_COST: Final = 4_096  # of a body that is searched
SAMPLE_MAX: Final = 5
SAMPLE_BODY_BYTES: Final = 1_024


class Action(StrEnum):
    """The action on messages."""

    MOVE = "move"
    COPY = "copy"
    DELETE = "delete"
    REPLAY = "replay"  # ``replaying.py``


class MoveInfo(TypedDict):
    """The progress of a move, copy or deletion."""

    action: str
    queue: str
    vhost: str
    dry_run: bool
    is_finished: bool
    to_look_at: int  # how many were ready when it began
    looked_at: int
    found: int
    done: int  # moved, copied or deleted; in a dry run, what would be
    unroutable: int  # these stay, as do the next four
    refused: int  # by a queue that is full
    without_origin: int  # never died, or its queue is not there any more
    not_allowed: int  # to write there
    gone: int  # somebody else got them first
    bodies_too_large: int  # in which was not searched
    not_there: list[str]  # of the ids that were named, once all is looked at
    sample: list[PeekedMessage]


@dataclass(frozen=True, slots=True)
class Selection:
    """A selection of messages.

    Args:
        wanted: what they must have.
        ids: those that a look has named; None for any.
        limit: how many at most; None for all.
    """

    wanted: MessageFilter = ANY_MESSAGE
    ids: frozenset[str] | None = None
    limit: int | None = None


class Moving:
    """The work of moving, copying or deleting messages of a queue.

    Args:
        broker: whose.
        queue: where they are.
        action: what becomes of them.
        selection: which.
        destination: where they go; None for what is deleted.
        dry_run: whether nothing is done but looked.
    """

    def __init__(
        self,
        broker: Broker,
        queue: Queue,
        action: Action,
        selection: Selection,
        destination: Destination | None,
        *,
        dry_run: bool,
    ) -> None:
        self._broker = broker
        self._queue = queue
        self._action = action
        self._selection = selection
        self._destination = destination
        self._dry_run = dry_run
        self._missing = set(selection.ids or ())
        self._references = {int(one) for one in self._missing if one.isascii() and one.isdecimal() and len(one) < 20}
        self._cost = self._done = 0
        self._widest = SLICE_COST if isinstance(destination, ToExchange) else 1  # to how many queues the last one went
        self._stayed = dict.fromkeys(Stays, 0)
        self._info = MoveInfo(
            action=str(action),
            queue=queue.name,
            vhost=queue.virtual_host.name,
            dry_run=dry_run,
            is_finished=False,
            to_look_at=queue.ready_count,
            looked_at=0,
            found=0,
            done=0,
            unroutable=0,
            refused=0,
            without_origin=0,
            not_allowed=0,
            gone=0,
            bodies_too_large=0,
            not_there=[],
            sample=[],
        )

    @property
    def writes(self) -> bool:
        """Whether anything is changed."""
        return not self._dry_run

    def progress(self) -> MoveInfo:
        """How far it is."""
        info, stayed = self._info, self._stayed
        info["done"] = self._done
        info["unroutable"], info["refused"] = stayed[Stays.UNROUTABLE], stayed[Stays.REFUSED]
        info["without_origin"], info["not_allowed"] = stayed[Stays.WITHOUT_ORIGIN], stayed[Stays.NOT_ALLOWED]
        return info

    def steps(self) -> Steps:
        """Do it."""
        queue = self._queue
        stretches = queue.stretches(0, queue.ready_count)
        stretches.reverse()
        while stretches and not self._is_enough:
            stretch = stretches.pop()
            if stretch.chunk is None:
                messages, stretch.messages = stretch.messages, []
                yield from self._go_through(stretch, iter(messages))
            elif self._is_wanted(stretch.references):
                payloads = yield stretch.references
                yield from self._go_through(stretch, self._decoded(stretch, payloads))
            else:
                self._info["looked_at"] += len(stretch.references)
        self._finish()

    def _finish(self) -> None:
        """All was looked at that was to be."""
        limit = self._selection.limit
        if limit is None or self._info["found"] < limit:
            self._info["not_there"] = sorted(self._missing)
        self._info["is_finished"] = True

    def _is_wanted(self, references: Sequence[int]) -> bool:
        """Whether any of these may be among those that were named; on disk everything has a reference."""
        return self._selection.ids is None or not self._references.isdisjoint(references)

    @property
    def _is_enough(self) -> bool:
        limit = self._selection.limit
        is_all = self._selection.ids is not None and not self._missing
        return is_all or self._queue.is_deleted or (limit is not None and self._info["found"] >= limit)

    def _decoded(self, stretch: Stretch, payloads: Sequence[bytes | None]) -> Iterator[Message]:
        decoder, paging, queue = MessageDecoder(), self._broker.paging, self._queue
        for reference, payload in zip(stretch.references, payloads, strict=True):
            if payload is None:
                self._info["looked_at"] += 1
            else:
                yield paging.message_of(queue, reference, decoder.decode(payload))

    def _go_through(self, stretch: Stretch, messages: Iterator[Message]) -> Steps:
        """Look at messages of a stretch, and do what is to be done with those that are found, slice by slice."""
        found: list[Message] = []
        for message in messages:
            if self._is_enough:
                break
            if self._is_found(message):
                found.append(message)
            if self._cost >= SLICE_COST:
                yield from self._act(stretch, found)
                found = []
                self._cost = 0
                yield ()
        yield from self._act(stretch, found)

    def _is_found(self, message: Message) -> bool:
        info, wanted = self._info, self._selection.wanted
        info["looked_at"] += 1
        self._cost += 1
        if self._selection.ids is not None:
            name = message_id(message)
            if name not in self._missing:
                return False
            self._missing.discard(name)
        if not wanted.is_any:
            self._cost += len(message.body) // BYTES_AT_COST
            if not wanted.finds(message):
                info["bodies_too_large"] += wanted.is_body_too_large(message)
                return False
        info["found"] += 1
        if len(info["sample"]) < SAMPLE_MAX:
            info["sample"].append(describe(self._broker, message, info["looked_at"] - 1, None, SAMPLE_BODY_BYTES))
        return True

    # --- what becomes of those that are found

    def _act(self, stretch: Stretch, found: list[Message]) -> Steps:
        """Do it; where each goes to very many queues, few at a time."""
        start = 0
        while start < len(found):
            if start:
                yield ()
            end = start + max(1, SLICE_COST // self._widest)
            self._act_on(stretch, found[start:end])
            start = end

    def _act_on(self, stretch: Stretch, found: list[Message]) -> None:
        """Do it to a few, in one go."""
        queue = self._queue
        stretch.messages = found
        there = [] if queue.is_deleted else queue.those_there(stretch)
        self._info["gone"] += len(found) - len(there)
        done = there if self._destination is None else self._put_all(self._destination, there)
        self._done += len(done)
        if done and self._action is not Action.COPY and not self._dry_run:
            queue.take_out(stretch, done)

    def _put_all(self, destination: Destination, messages: list[Message]) -> list[Message]:
        """Put messages where they go; returns those that are there.

        Raises:
            NotDecidedYet: whether one may go there; none of them is there then.
        """
        ways = [destination.way(message, is_dry_run=self._dry_run) for message in messages]
        return [message for message, way in zip(messages, ways, strict=True) if self._put(way, message)]

    def _put(self, way: Way | Stays, message: Message) -> bool:
        if isinstance(way, Stays):
            self._stayed[way] += 1
            return False
        self._widest = max(1, len(way.queues))
        if self._dry_run or way.put(message.body):
            return True
        self._stayed[Stays.REFUSED] += 1
        return False
