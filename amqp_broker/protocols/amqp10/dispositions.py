"""``disposition`` of what has gone out: what becomes of the deliveries that a session has sent (AMQP 1.0, 2.6.12, 3.4).

The client says it of one delivery or of very many; what it has not settled when its link or its session ends goes back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from amqp_broker.broker.counters import AMQP10
from amqp_broker.broker.observer import Settlement
from amqp_broker.broker.works import Unfinished
from amqp_broker.protocols.amqp10.compound import Map
from amqp_broker.protocols.amqp10.context import SERIAL_MASK, SessionContext, behind
from amqp_broker.protocols.amqp10.errors import INVALID_FIELD, ProtocolError
from amqp_broker.protocols.amqp10.messages import annotated
from amqp_broker.protocols.amqp10.outgoing import ConsumingLink
from amqp_broker.protocols.amqp10.performatives import (
    ACCEPTED,
    MODIFIED,
    RECEIVED,
    RECEIVER,
    REJECTED,
    RELEASED,
    SENDER,
    Fields,
    disposition_performative,
)
from amqp_broker.session.settling import Settling, count_settled

if TYPE_CHECKING:
    from amqp_broker.broker.queues.unacknowledged import Unacknowledged

LOOKED_AT_AT_COST_OF_ONE: Final = 16  # deliveries, or links that are told of a window
ANNOTATED_SLICE_BYTES: Final = 65_536  # of the content headers that one slice writes


class Dispositions:
    """Settles what one session has sent."""

    def __init__(self, session: SessionContext) -> None:
        self._session = session
        self._channel = session.channel
        self._unsettled = session.unsettled
        self._counts = session.counts
        self._works = session.connection.broker.works
        self._observers = session.connection.broker.observers

    def accepted(self, delivery_id: int) -> None:
        """The client has done with a delivery: what most dispositions say (``accepted_delivery``)."""
        if delivery_id in self._unsettled:
            self._acknowledge((delivery_id,))

    def handle(self, fields: Fields) -> None:
        """Handle a ``disposition`` of the client.

        Raises:
            ProtocolError: it is none.
            Unfinished: what it asks for takes a while.
        """
        if fields.value(0) is not RECEIVER:
            return  # of what the client has sent: it was settled when we said so
        first = fields.needed(1)
        last = fields.number(2)
        last = first if last is None else last
        is_settled = fields.flag(3)
        state = fields.composite(4)
        if state is not None and state.code == RECEIVED:
            return
        if state is None and not is_settled:
            return
        session = self._session
        looked_at_count = max(0, min(behind(last, first), len(self._unsettled)))
        session.connection.has_cost(looked_at_count // LOOKED_AT_AT_COST_OF_ONE)
        ids = self._named(first, last)
        settlement = _settlement_of(state)
        if not is_settled:
            known = fields.value(4)
            session.send(disposition_performative(SENDER, first, last, known))
        if not ids:
            return
        if settlement is Settlement.ACKNOWLEDGED and len(ids) <= self._works.slice_messages:
            self._acknowledge(ids)
            return
        kept = [one for one in ids if self._unsettled[one].queue.is_log]
        if kept:  # nothing comes back to a stream, or dies in one
            self._acknowledge(kept)
            ids = [one for one in ids if one in self._unsettled]
        slices = self.settle(settlement, ids)
        if state is not None and state.code == MODIFIED:
            slices = chain(self._annotate(ids, state.flag(0), state.map(2)), slices)
        session.connection.has_cost(len(ids))
        work = self._works.begin(slices)
        if not work.is_done:
            raise Unfinished(work)

    def _annotate(self, ids: list[int], has_failed: bool, annotations: Map) -> Iterator[None]:
        """The client gives deliveries back with the outcome modified: what it says of them is kept where it can be, a
        slice at a time, for it says it once of all of them and each gets it."""
        if not has_failed and not annotations.pairs:
            return
        slice_bytes = 0
        for one in ids:
            delivery = self._unsettled.get(one)
            if delivery is None or not delivery.queue.keeps_annotations:
                continue
            message = delivery.message
            header = annotated(message.header, len(message.body), annotations, has_failed=has_failed)
            delivery.queue.annotate(message, header)
            slice_bytes += len(header)
            if slice_bytes >= ANNOTATED_SLICE_BYTES:
                slice_bytes = 0
                yield

    def _named(self, first: int, last: int) -> list[int]:
        """The deliveries from one to another that wait for their settlement, the oldest first."""
        unsettled = self._unsettled
        count = behind(last, first) + 1
        if count == 1:
            return [first] if first in unsettled else []
        if count <= len(unsettled):
            return [(first + step) & SERIAL_MASK for step in range(count) if (first + step) & SERIAL_MASK in unsettled]
        return [one for one in unsettled if 0 <= behind(one, first) < count]

    def _acknowledge(self, ids: Sequence[int]) -> None:
        """The client has done with these."""
        unsettled, observers = self._unsettled, self._observers
        for one in ids:
            delivery = unsettled.pop(one)
            queue, consumer = delivery.queue, delivery.consumer
            if observers.present:
                observers.settled(self._channel, queue, [delivery.message], Settlement.ACKNOWLEDGED)
            queue.counts.of(AMQP10).acknowledged += 1
            queue.acknowledge(delivery.message)
            link = link_of(delivery)
            if link is not None:
                link.made_room(consumer, 1)
        self._counts.acknowledged += len(ids)

    def settle(self, settlement: Settlement, ids: list[int]) -> Iterator[None]:
        """Tell the queues what becomes of deliveries, a slice at a time."""
        is_abandoned = settlement is Settlement.ABANDONED
        settling = Settling(
            settlement,
            _made_room,
            self._tell_settled,
            has_consumers=not is_abandoned,
            has_room=self._session.has_room and not is_abandoned,
        )
        slice_messages = self._works.slice_messages
        for start in range(0, len(ids), slice_messages):
            if start:
                yield
            some = ids[start : start + slice_messages]
            settling.add([self._unsettled.pop(one) for one in some if one in self._unsettled])
        settling.finish()

    def _tell_settled(self, queue: Any, messages: Any, settlement: Settlement) -> None:
        count_settled(settlement, len(messages), self._counts, queue.counts.of(AMQP10))
        if self._observers.present:
            self._observers.settled(self._channel, queue, messages, settlement)


def link_of(delivery: Unacknowledged) -> ConsumingLink | None:
    """The link that a delivery went out on; None where that has ended."""
    consumer = delivery.consumer
    if consumer is None:
        return None
    link = consumer.deliveries
    return link if isinstance(link, ConsumingLink) else None


def _made_room(consumer: Any, count: int) -> None:
    if consumer is not None and isinstance(consumer.deliveries, ConsumingLink):
        consumer.deliveries.made_room(consumer, count)


def _settlement_of(state: Fields | None) -> Settlement:
    """What becomes of a delivery with an outcome; one that is settled without any is done with."""
    if state is None or state.code == ACCEPTED:
        return Settlement.ACKNOWLEDGED
    if state.code == REJECTED:
        return Settlement.REJECTED
    if state.code == RELEASED:
        return Settlement.REQUEUED
    if state.code == MODIFIED:
        return Settlement.REJECTED if state.flag(1) else Settlement.REQUEUED
    raise ProtocolError(INVALID_FIELD, f"Unrecognised state: {state.code:#04x} in DISPOSITION")
