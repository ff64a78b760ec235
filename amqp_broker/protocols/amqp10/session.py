"""A session: its windows, its links, and the settlement of what has come in (AMQP 1.0, 2.5).

To those who look on it is a channel. Handles and channel numbers of ours are those that the client chose. What becomes
of the deliveries that go out is in ``dispositions.py``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any, Final

from amqp_broker.access.judge import NotDecidedYet
from amqp_broker.broker.descriptions import ChannelInfo
from amqp_broker.broker.observer import Channel, Settlement
from amqp_broker.broker.works import Unfinished
from amqp_broker.protocols.amqp10.attaching import Attaching
from amqp_broker.protocols.amqp10.context import SERIAL_MASK, ConnectionContext, SessionContext, behind
from amqp_broker.protocols.amqp10.dispositions import LOOKED_AT_AT_COST_OF_ONE, Dispositions, link_of
from amqp_broker.protocols.amqp10.errors import (
    FRAMING_ERROR,
    HANDLE_IN_USE,
    INTERNAL_ERROR,
    PRECONDITION_FAILED,
    UNATTACHED_HANDLE,
    WINDOW_VIOLATION,
    ProtocolError,
    Scope,
)
from amqp_broker.protocols.amqp10.frames import AMQP, encode_frame
from amqp_broker.protocols.amqp10.incoming import IncomingLink, UnconfirmedRun
from amqp_broker.protocols.amqp10.inspection import channel_info
from amqp_broker.protocols.amqp10.outgoing import ConsumingLink, OutgoingLink
from amqp_broker.protocols.amqp10.performatives import (
    ACCEPTED_STATE,
    ATTACH,
    DETACH,
    DISPOSITION,
    FLOW,
    NAMES,
    RECEIVER,
    REJECTED,
    SENDER,
    TRANSFER,
    Fields,
    begin_performative,
    composite,
    detach_performative,
    disposition_performative,
    end_performative,
    performative,
    transfer_performative,
)
from amqp_broker.protocols.amqp10.transfers import Transfers, payload_bytes_max
from amqp_broker.protocols.amqp10.typed import UInt
from amqp_broker.session.confirms import Confirms
from amqp_broker.session.delivery_timeout import DeliveryTimeout

WINDOW_AT_FIRST: Final = 400  # transfers that the client may send before it hears more; RabbitMQ's
WINDOW: Final = 4_000  # from the first flow on: with less, links with credit would wait for one flow after the other
HANDLE_MAX: Final = 255
FIRST_OUTGOING_ID: Final = 0xFFFF_FFFD  # RabbitMQ's: soon it wraps
ATTACH_EFFORT: Final = 30  # about; see ``ClientConnection.has_cost``


class Session(SessionContext):
    """A session that has begun.

    Args:
        begin: what the client said.
    """

    __deletable__ = ("dispositions", "_attaching")  # by stop

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
        self._part_bytes = payload_bytes_max(connection.frame_bytes_max)  # of a payload in one transfer
        self._waiting: deque[Transfers] = deque()  # for the client's window, or for it to take what is sent
        # Flows that count those, by their links' handles and whether a drain ends with them.
        self._flows: dict[tuple[int, bool], tuple[int, int, int | None]] = {}
        self.dispositions = Dispositions(self)
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
            self.dispositions.handle(fields)
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
        self._next_incoming_id = (next_incoming_id + 1) & SERIAL_MASK
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
        if not next_incoming_id and (next_incoming_id is None or self._next_outgoing_id == FIRST_OUTGOING_ID):
            next_incoming_id = FIRST_OUTGOING_ID  # rhea (npm) says 0 until it has heard our begin
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
            self._waiting = deque([one for one in self._waiting if one.handle != handle])
            self._flows = {key: flow for key, flow in self._flows.items() if key[0] != handle}
            self._send_waiting()  # other links' flows, where they waited for that alone
        if not isinstance(outgoing, ConsumingLink) or not outgoing.unsettled_count:
            return iter(())
        self.connection.has_cost(len(self.unsettled) // LOOKED_AT_AT_COST_OF_ONE)
        ids = [one for one, delivery in self.unsettled.items() if link_of(delivery) is outgoing]
        if not ids:
            return iter(())  # another work gives them back already
        is_log = self.unsettled[ids[0]].queue.is_log
        return self.dispositions.settle(Settlement.ABANDONED if is_log else Settlement.REQUEUED, ids)

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

    # --- the longest time that what has gone out may stay unsettled

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
            self.send(disposition_performative(RECEIVER, delivery_id, (delivery_id + count - 1) & SERIAL_MASK, state))
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
        self._delivery_id = (delivery_id + 1) & SERIAL_MASK
        return delivery_id

    def send_transfer(self, handle: int, delivery_id: int, settled: bool, payload: bytes) -> None:
        channel, part_bytes = self.channel_number, self._part_bytes
        if len(payload) <= part_bytes and self.window > 0 and not self._waiting:
            head = transfer_performative(handle, delivery_id, settled=settled, more=False)
            self._send_transfers(encode_frame(AMQP, channel, head, payload), 1)
            return
        self._waiting.append(Transfers(channel, handle, delivery_id, settled, payload, part_bytes))
        if len(self._waiting) == 1:
            self._send_waiting()

    def _send_transfers(self, frames: bytes, count: int) -> None:
        self.window -= count
        self._next_outgoing_id = (self._next_outgoing_id + count) & SERIAL_MASK
        self.connection.output.send(frames)
        if self.window <= 0:
            self.update_room()

    def _send_waiting(self) -> None:
        """Send what waits, as far as the client's window goes, and no more than it takes for now."""
        output = self.connection.output
        while self._waiting and self.window > 0 and not output.is_congested:
            transfers = self._waiting[0]
            frames, count = transfers.take(self.window)
            if transfers.are_all_taken:
                self._waiting.popleft()
            self._send_transfers(frames, count)
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
        """Whether links may deliver may have changed, or the client takes more of what waits."""
        if self._waiting:
            self._send_waiting()
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
        if says:
            self.send(end_performative(error))
        slices = self.dispositions.settle(Settlement.ABANDONED, list(self.unsettled))
        del self.dispositions, self._attaching  # which hold on to it: else it would wait for the garbage collector
        return slices
