"""A session: its windows, its links, and what becomes of deliveries in both directions (AMQP 1.0, 2.5).

To those who look on it is a channel. Handles and channel numbers of ours are those that the client chose.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from amqp_broker.access.judge import NotDecidedYet
from amqp_broker.broker.counters import AMQP10
from amqp_broker.broker.descriptions import ChannelInfo
from amqp_broker.broker.observer import Channel, Settlement
from amqp_broker.broker.works import Unfinished
from amqp_broker.protocols.amqp10.attaching import Attaching
from amqp_broker.protocols.amqp10.compound import Map
from amqp_broker.protocols.amqp10.context import ConnectionContext, SessionContext, behind
from amqp_broker.protocols.amqp10.errors import (
    FRAMING_ERROR,
    HANDLE_IN_USE,
    INTERNAL_ERROR,
    INVALID_FIELD,
    PRECONDITION_FAILED,
    UNATTACHED_HANDLE,
    WINDOW_VIOLATION,
    ProtocolError,
    Scope,
)
from amqp_broker.protocols.amqp10.frames import AMQP, FRAME_HEADER_BYTES, encode_frame
from amqp_broker.protocols.amqp10.incoming import IncomingLink, UnconfirmedRun
from amqp_broker.protocols.amqp10.inspection import channel_info
from amqp_broker.protocols.amqp10.messages import annotated
from amqp_broker.protocols.amqp10.outgoing import ConsumingLink, OutgoingLink
from amqp_broker.protocols.amqp10.performatives import (
    ACCEPTED,
    ACCEPTED_STATE,
    ATTACH,
    DETACH,
    DISPOSITION,
    FLOW,
    MODIFIED,
    NAMES,
    RECEIVED,
    RECEIVER,
    REJECTED,
    RELEASED,
    SENDER,
    TRANSFER,
    Fields,
    begin_performative,
    composite,
    detach_performative,
    disposition_performative,
    end_performative,
    further_transfer_performative,
    performative,
    transfer_performative,
)
from amqp_broker.protocols.amqp10.typed import UInt
from amqp_broker.session.confirms import Confirms
from amqp_broker.session.delivery_timeout import DeliveryTimeout
from amqp_broker.session.settling import Settling

if TYPE_CHECKING:
    from amqp_broker.broker.queues.unacknowledged import Unacknowledged

WINDOW_AT_FIRST: Final = 400  # transfers that the client may send before it hears more; RabbitMQ's
WINDOW: Final = 4_000  # from the first flow on: with less, links with credit would wait for one flow after the other
HANDLE_MAX: Final = 255
FIRST_OUTGOING_ID: Final = 0xFFFF_FFFD  # RabbitMQ's: soon it wraps
ATTACH_EFFORT: Final = 30  # about; see ``ClientConnection.has_cost``
LOOKED_AT_AT_COST_OF_ONE: Final = 16  # deliveries, or links that are told of a window
ID_MASK: Final = 0xFFFF_FFFF
ANNOTATED_SLICE_BYTES: Final = 65_536  # of the content headers that one slice writes
TRANSFER_BYTES_MAX: Final = 32  # of a transfer without its payload


class Session(SessionContext):
    """A session that has begun.

    Args:
        begin: what the client said.
    """

    def __init__(self, connection: ConnectionContext, number: int, begin: Fields) -> None:
        super().__init__(connection, number)
        broker = connection.broker
        self.incoming: dict[int, IncomingLink] = {}
        self.outgoing: dict[int, OutgoingLink] = {}
        self._next_incoming_id = begin.needed(1)
        self._is_alarmed = broker.alarms.are_raised
        self._incoming_window = 0 if self._is_alarmed else WINDOW_AT_FIRST
        self._excess_max = self._incoming_window  # that may have been on their way; none are where it begins in one
        self._next_outgoing_id = FIRST_OUTGOING_ID
        self._delivery_id = 0
        self.window = begin.needed(2)
        # Transfers for which the client's window has no room, with their links' handles.
        self._waiting: deque[tuple[int, bytes]] = deque()
        # Flows that count those, by their links' handles and whether a drain ends with them.
        self._flows: dict[tuple[int, bool], tuple[int, int, int | None]] = {}
        self._confirms = Confirms(broker, broker.durability.is_kept, self._tell)
        self._number = 0  # of what is confirmed
        self._unconfirmed: deque[UnconfirmedRun] = deque()
        self._timeout = DeliveryTimeout(broker, self.unsettled, self._may_come, self._timed_out)
        self._attaching = Attaching(self, connection)
        self._is_stopped = False
        of_client = begin.number(4)
        handle_max = HANDLE_MAX if of_client is None else min(HANDLE_MAX, of_client)
        self.update_room()
        self.send(begin_performative(number, FIRST_OUTGOING_ID, self._incoming_window, handle_max))

    # --- who it is

    @property
    def channel(self) -> Channel:
        return self

    def inspect(self) -> ChannelInfo:
        return channel_info(self, self._confirms.unconfirmed_count, self._consumer_count)

    @property
    def _consumer_count(self) -> int:
        return sum(isinstance(link, ConsumingLink) for link in self.outgoing.values())

    # --- in

    def handle(self, fields: Fields, payload: bytes) -> None:
        """Handle a frame of the client.

        Raises:
            ProtocolError, AmqpError: it cannot be, or is not allowed.
            Unfinished: what it asks for takes a while.
            QueueBusy, NotDecidedYet: it cannot be done yet.
        """
        code = fields.code
        if code == TRANSFER:
            self.transfer(fields.needed(0), -1, payload, 0, fields)
        elif code == DISPOSITION:
            self._disposition(fields)
        elif code == FLOW:
            self._flow(fields)
        elif code == ATTACH:
            self._attach(fields)
        elif code == DETACH:
            self._detach(fields)
        else:
            raise ProtocolError(INTERNAL_ERROR, f"unexpected frame {NAMES.get(code, hex(code))}")

    def takes_whole(self, handle: int) -> bool:
        """Whether ``transfer`` takes one of this link without its fields, when it is all of an unsettled delivery."""
        link = self.incoming.get(handle)
        return link is not None and link.takes_whole

    def transfer(self, handle: int, whole_id: int, data: bytes, start: int, fields: Fields | None = None) -> None:
        """Handle a ``transfer`` of the client.

        Args:
            handle: of its link.
            whole_id: the number of the delivery that it is all of; what it says else stands in ``fields``.
            data: ends with the payload.
            start: where that begins.

        Raises:
            ProtocolError, AmqpError, NotDecidedYet: as of ``handle``.
        """
        next_incoming_id = self._next_incoming_id
        self._next_incoming_id = (next_incoming_id + 1) & ID_MASK
        self._incoming_window -= 1
        if self._incoming_window < -self._excess_max:
            if not self._is_alarmed:
                raise ProtocolError(WINDOW_VIOLATION, "incoming window violation")
            self.connection.throttle.has_published = True  # all the same: it is not heard any more until all is clear
        link = self.incoming.get(handle)
        if link is None:
            raise ProtocolError(UNATTACHED_HANDLE, f"Unattached link handle: {handle}")
        try:
            if fields is None:
                link.whole(whole_id, data, start)
            else:
                link.transfer(fields, data)
        except NotDecidedYet:  # the frame comes again
            self._next_incoming_id = next_incoming_id
            self._incoming_window += 1
            raise
        except ProtocolError as error:
            if error.scope is not Scope.LINK:
                raise
            self.detach_link(handle, error)
        if self._incoming_window <= WINDOW // 2 and not self._is_alarmed:
            self.send(performative(FLOW, self._flow_fields()))

    def alarms_changed(self, are_raised: bool) -> None:
        """Have the client send nothing as long as something is running out; it is heard, and gets what it may have."""
        if are_raised != self._is_alarmed:
            self._is_alarmed = are_raised
            self._excess_max = max(0, self._incoming_window) + WINDOW_AT_FIRST if are_raised else WINDOW_AT_FIRST
            self._incoming_window = 0
            self.send(performative(FLOW, self._flow_fields()))

    def _flow(self, fields: Fields) -> None:
        next_incoming_id = fields.number(0)
        if next_incoming_id is None:
            next_incoming_id = FIRST_OUTGOING_ID
        elif behind(next_incoming_id, self._next_outgoing_id) > 0:
            text = f"next-incoming-id from FLOW ({next_incoming_id}) leads next-outgoing-id ({self._next_outgoing_id})"
            raise ProtocolError(WINDOW_VIOLATION, text)
        self.window = fields.needed(1) - behind(self._next_outgoing_id, next_incoming_id)
        self._send_waiting()
        self.update_room()
        self.connection.has_cost(len(self.outgoing) // LOOKED_AT_AT_COST_OF_ONE)
        handle = fields.number(4)
        if handle is None:
            if fields.flag(9):
                self.send(performative(FLOW, self._flow_fields()))
            return
        link = self.outgoing.get(handle)
        if link is not None:
            link.flow(fields)
        elif handle not in self.incoming:
            raise ProtocolError(UNATTACHED_HANDLE, f"Unattached link handle: {handle}")

    # --- links

    def _attach(self, fields: Fields) -> None:
        handle = fields.needed(1)
        if handle > HANDLE_MAX:
            text = f"link handle value ({handle}) exceeds maximum link handle value ({HANDLE_MAX})"
            raise ProtocolError(FRAMING_ERROR, text)
        if handle in self.incoming or handle in self.outgoing:
            raise ProtocolError(HANDLE_IN_USE, f"Input handle {handle} is already used by another link")
        self.connection.has_cost(ATTACH_EFFORT)
        if fields.value(2) is SENDER:
            incoming = self._attaching.incoming(fields, handle)
            self.incoming[handle] = incoming
            incoming.grant()
        else:
            outgoing = self._attaching.outgoing(fields, handle)
            if isinstance(outgoing, ConsumingLink):
                self._attaching.consume(fields, outgoing)
                self._timeout.watch()
            self.outgoing[handle] = outgoing

    def _detach(self, fields: Fields) -> None:
        handle, is_closed = fields.needed(0), fields.flag(1)
        self.connection.has_cost(ATTACH_EFFORT)
        known = handle in self.incoming or handle in self.outgoing
        slices = self._take_off(handle)
        if known:
            self.send(detach_performative(handle, closed=is_closed, error=None))
        work = self.connection.broker.works.begin(slices)
        if not work.is_done:
            raise Unfinished(work)

    def _take_off(self, handle: int) -> Iterator[None]:
        """Forget a link; returns what is to be done to give back what the client has not settled."""
        incoming = self.incoming.pop(handle, None)
        if incoming is not None:
            incoming.stop()
        outgoing = self.outgoing.pop(handle, None)
        if outgoing is None:
            return iter(())
        outgoing.stop()
        if self._waiting:  # the rest of a delivery is for no other link that may get the handle
            self._waiting = deque([one for one in self._waiting if one[0] != handle])
            self._flows = {key: flow for key, flow in self._flows.items() if key[0] != handle}
            self._send_waiting()  # other links' flows, where they waited for that alone
        if not isinstance(outgoing, ConsumingLink) or not outgoing.unsettled_count:
            return iter(())
        self.connection.has_cost(len(self.unsettled) // LOOKED_AT_AT_COST_OF_ONE)
        ids = [one for one, delivery in self.unsettled.items() if _link_of(delivery) is outgoing]
        if not ids:
            return iter(())  # another work gives them back already
        is_log = self.unsettled[ids[0]].queue.is_log
        return self._settle(Settlement.ABANDONED if is_log else Settlement.REQUEUED, ids)

    def detach_link(self, handle: int, error: ProtocolError) -> None:
        slices = self._take_off(handle)
        self.send(detach_performative(handle, closed=True, error=error))
        self.connection.broker.works.begin(slices)

    def look_up_again(self) -> None:
        """What the client may do has changed: it is asked anew for each target, and its links get what it may read."""
        for incoming in self.incoming.values():
            incoming.forget_targets()
        for outgoing in list(self.outgoing.values()):
            outgoing.check_read()

    def fail(self, error: ProtocolError) -> None:
        if not self._is_stopped:
            self.connection.fail_session(self.channel_number, error)

    # --- settlement of what has gone out

    def accepted(self, delivery_id: int) -> None:
        """The client has done with a delivery: what most dispositions say (``accepted_delivery``)."""
        if delivery_id in self.unsettled:
            self._acknowledge((delivery_id,))

    def _disposition(self, fields: Fields) -> None:
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
        self.connection.has_cost(max(0, min(behind(last, first), len(self.unsettled))) // LOOKED_AT_AT_COST_OF_ONE)
        ids = self._named(first, last)
        settlement = _settlement_of(state)
        if not is_settled:
            known = fields.value(4)
            self.send(disposition_performative(SENDER, first, last, known))
        if not ids:
            return
        if settlement is Settlement.ACKNOWLEDGED and len(ids) <= self.connection.broker.works.slice_messages:
            self._acknowledge(ids)
            return
        kept = [one for one in ids if self.unsettled[one].queue.is_log]
        if kept:  # nothing comes back to a stream, or dies in one
            self._acknowledge(kept)
            ids = [one for one in ids if one in self.unsettled]
        slices = self._settle(settlement, ids)
        if state is not None and state.code == MODIFIED:
            slices = chain(self._annotate(ids, state.flag(0), state.map(2)), slices)
        self.connection.has_cost(len(ids))
        work = self.connection.broker.works.begin(slices)
        if not work.is_done:
            raise Unfinished(work)

    def _annotate(self, ids: list[int], has_failed: bool, annotations: Map) -> Iterator[None]:
        """The client gives deliveries back with the outcome modified: what it says of them is kept where it can be, a
        slice at a time, for it says it once of all of them and each gets it."""
        if not has_failed and not annotations.pairs:
            return
        slice_bytes = 0
        for one in ids:
            delivery = self.unsettled.get(one)
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
        unsettled = self.unsettled
        count = behind(last, first) + 1
        if count == 1:
            return [first] if first in unsettled else []
        if count <= len(unsettled):
            return [(first + step) & ID_MASK for step in range(count) if (first + step) & ID_MASK in unsettled]
        return [one for one in unsettled if 0 <= behind(one, first) < count]

    def _acknowledge(self, ids: Sequence[int]) -> None:
        """The client has done with these."""
        unsettled, counts, observers = self.unsettled, self.counts, self.connection.broker.observers
        for one in ids:
            delivery = unsettled.pop(one)
            queue, consumer = delivery.queue, delivery.consumer
            if observers.present:
                observers.settled(self, queue, [delivery.message], Settlement.ACKNOWLEDGED)
            queue.counts.of(AMQP10).acknowledged += 1
            queue.acknowledge(delivery.message)
            link = _link_of(delivery)
            if link is not None:
                link.made_room(consumer, 1)
        counts.acknowledged += len(ids)

    def _settle(self, settlement: Settlement, ids: list[int]) -> Iterator[None]:
        """Tell the queues what becomes of deliveries, a slice at a time."""
        is_abandoned = settlement is Settlement.ABANDONED
        settling = Settling(
            settlement,
            _made_room,
            self._tell_settled,
            has_consumers=not is_abandoned,
            has_room=self.has_room and not is_abandoned,
        )
        slice_messages = self.connection.broker.works.slice_messages
        for start in range(0, len(ids), slice_messages):
            if start:
                yield
            some = ids[start : start + slice_messages]
            settling.add([self.unsettled.pop(one) for one in some if one in self.unsettled])
        settling.finish()

    def _tell_settled(self, queue: Any, messages: Any, settlement: Settlement) -> None:
        count = len(messages)
        for counts in (self.counts, queue.counts.of(AMQP10)):
            if settlement is Settlement.ACKNOWLEDGED:
                counts.acknowledged += count
            elif settlement is Settlement.REJECTED:
                counts.rejected += count
            elif settlement is Settlement.REQUEUED:
                counts.requeued += count
        observers = self.connection.broker.observers
        if observers.present:
            observers.settled(self, queue, messages, settlement)

    def _may_come(self) -> bool:
        return not self._is_stopped and self._consumer_count > 0

    def _timed_out(self, timeout_ms: int) -> None:
        text = f"delivery acknowledgement on channel {self.number} timed out. Timeout value used: {timeout_ms} ms"
        self.connection.fail(ProtocolError(PRECONDITION_FAILED, text, Scope.CONNECTION))

    # --- settlement of what has come in

    def confirm_later(self, delivery_id: int, link: object, outcome: int) -> None:
        assert isinstance(link, IncomingLink)
        runs = self._unconfirmed
        if not runs or not runs[-1].takes(delivery_id, link):
            runs.append(UnconfirmedRun(delivery_id, link))
        runs[-1].count += 1
        self._number += 1
        self._confirms.add(self._number, outcome)

    def _tell(self, first: int, last: int, accepted: bool) -> None:
        """Settle deliveries, those that follow each other in one frame."""
        state = ACCEPTED_STATE if accepted else composite(REJECTED, [])
        left = last - first + 1
        if accepted:
            self.counts.confirmed += left
        links: dict[IncomingLink, None] = {}
        while left:
            run = self._unconfirmed[0]
            count = min(left, run.count)
            delivery_id = run.take(count)
            if not run.count:
                self._unconfirmed.popleft()
            left -= count
            links[run.link] = None
            self.send(disposition_performative(RECEIVER, delivery_id, (delivery_id + count - 1) & ID_MASK, state))
        for link in links:
            if self.incoming.get(link.handle) is link:
                link.grant()

    # --- out

    @property
    def has_waiting(self) -> bool:
        return len(self._waiting) > 0

    def send(self, body: bytes) -> None:
        self.connection.output.send(encode_frame(AMQP, self.channel_number, body))

    def next_delivery_id(self) -> int:
        delivery_id = self._delivery_id
        self._delivery_id = (delivery_id + 1) & ID_MASK
        return delivery_id

    def send_transfer(self, handle: int, delivery_id: int, settled: bool, payload: bytes) -> None:
        channel, frame_bytes_max = self.channel_number, self.connection.frame_bytes_max
        fit_bytes = frame_bytes_max - FRAME_HEADER_BYTES - TRANSFER_BYTES_MAX
        if len(payload) <= fit_bytes:
            head = transfer_performative(handle, delivery_id, settled=settled, more=False)
            self._send_transfer_frame(handle, encode_frame(AMQP, channel, head, payload))
            return
        head = transfer_performative(handle, delivery_id, settled=settled, more=True)
        start = 0
        while len(payload) - start > fit_bytes:
            part = payload[start : start + fit_bytes]
            self._send_transfer_frame(handle, encode_frame(AMQP, channel, head, part))
            start += fit_bytes
            head = further_transfer_performative(handle, settled=settled, more=True)
        head = further_transfer_performative(handle, settled=settled, more=False)
        self._send_transfer_frame(handle, encode_frame(AMQP, channel, head, payload[start:]))

    def _send_transfer_frame(self, handle: int, frame: bytes) -> None:
        if self.window <= 0 or self._waiting:
            self._waiting.append((handle, frame))
            return
        self._count_transfer()
        self.connection.output.send(frame)

    def _count_transfer(self) -> None:
        self.window -= 1
        self._next_outgoing_id = (self._next_outgoing_id + 1) & ID_MASK
        if self.window <= 0:
            self.update_room()

    def _send_waiting(self) -> None:
        while self._waiting and self.window > 0:
            _, frame = self._waiting.popleft()
            self._count_transfer()
            self.connection.output.send(frame)
        if self._flows and not self._waiting:
            flows, self._flows = self._flows, {}
            for (handle, drain), (delivery_count, credit, available) in flows.items():
                self.send_flow(handle, delivery_count, credit, available=available, drain=drain)

    def _flow_fields(self) -> list[Any]:
        if not self._is_alarmed:
            self._incoming_window = WINDOW
        return [
            UInt(self._next_incoming_id),
            UInt(max(0, self._incoming_window)),
            UInt(self._next_outgoing_id),
            UInt(0xFFFF_FFFF),
        ]

    def send_flow(
        self, handle: int, delivery_count: int, credit: int, *, available: int | None = None, drain: bool = False
    ) -> None:
        if self._waiting and handle in self.outgoing:
            self._flows[handle, drain] = delivery_count, credit, available
            return
        fields = self._flow_fields()
        said = None if available is None else UInt(available)
        fields += [UInt(handle), UInt(delivery_count), UInt(credit), said, drain or None]
        self.send(performative(FLOW, fields))

    def update_room(self) -> None:
        """Whether links may deliver may have changed."""
        connection = self.connection
        is_held = connection.output.is_congested or connection.virtual_host.are_deliveries_held
        has_room = self.window > 0 and not self._waiting and not is_held and not self._is_stopped
        if has_room != self.has_room:
            self.has_room = has_room
            for link in list(self.outgoing.values()):
                link.update_room()

    # --- the end

    def finish(self) -> None:
        """Say what can be said of the deliveries that have come in."""
        self._confirms.finish()

    def stop(self, error: ProtocolError | None = None, *, says: bool = True) -> Iterator[None]:
        """The session ends; returns what is to be done to give back what the client has not settled.

        Args:
            error: why, if something is wrong.
            says: whether the client is told with ``end``.
        """
        if self._is_stopped:
            return iter(())
        if says:
            self._confirms.finish()
        self._confirms.release()
        self._unconfirmed.clear()
        self._is_stopped = True
        self.has_room = False
        self._timeout.stop()
        for incoming in list(self.incoming.values()):
            incoming.stop()
        for outgoing in list(self.outgoing.values()):
            outgoing.stop()
        self.incoming.clear()
        self.outgoing.clear()
        self._waiting.clear()
        self._flows.clear()
        self._attaching.stop()
        if says:
            self.send(end_performative(error))
        return self._settle(Settlement.ABANDONED, list(self.unsettled))


def _link_of(delivery: Unacknowledged) -> ConsumingLink | None:
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
