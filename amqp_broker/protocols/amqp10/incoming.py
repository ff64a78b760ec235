"""Links on which a client sends: messages to an exchange or a queue.

Transfers are put together to deliveries, credit is granted again when half of it is used; what a message becomes is in
``contents.py``. A delivery that is not settled is settled when the journal has kept it: accepted, released where there
is no queue for it, rejected where a queue did not take it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from amqp_broker.access.judge import NotDecidedYet
from amqp_broker.broker.counters import AMQP10
from amqp_broker.broker.message import Address, digest_of, without_blind_copies
from amqp_broker.broker.observer import Passage
from amqp_broker.broker.publishing import REFUSED, UNROUTED, Outcome, Target
from amqp_broker.broker.queues.base import Queue
from amqp_broker.errors import AmqpError
from amqp_broker.protocols.amqp10.addresses import Node, target_version_2
from amqp_broker.protocols.amqp10.contents import Content
from amqp_broker.protocols.amqp10.context import SERIAL_MASK
from amqp_broker.protocols.amqp10.decoding import Malformed
from amqp_broker.protocols.amqp10.errors import (
    FRAMING_ERROR,
    INVALID_FIELD,
    MESSAGE_SIZE_EXCEEDED,
    NOT_FOUND,
    PRECONDITION_FAILED,
    RESOURCE_DELETED,
    TRANSFER_LIMIT_EXCEEDED,
    UNAUTHORIZED_ACCESS,
    ProtocolError,
    Scope,
    decode_error,
    of_the_broker,
)
from amqp_broker.protocols.amqp10.performatives import (
    RECEIVER,
    REJECTED,
    RELEASED,
    SECOND,
    SETTLED,
    Fields,
    composite,
    disposition_performative,
    error_value,
)
from amqp_broker.protocols.amqp10.reading import Reader
from amqp_broker.wire.errors import WireError

if TYPE_CHECKING:
    from amqp_broker.protocols.amqp10.context import SessionContext
    from amqp_broker.protocols.amqp10.dynamic_nodes import DynamicNode

CREDIT: Final = 1_000  # RabbitMQ's 170 would have a sender wait for each sync of a disk that is not fast
TARGETS_MAX: Final = 256  # whose route a link remembers
MODE_NAMES: Final = {0: "unsettled", 1: "settled"}
WRONG_FLAGS: Final = {0: True, 1: False}  # of transfers, by the link's mode
IMPERSONATOR: Final = "impersonator"  # the tag of users that may publish in the name of others


class IncomingLink:
    """A link on which the client sends.

    Args:
        session: whose it is.
        handle: its number.
        delivery_count: how many deliveries the client says there were before.
        settle_mode: whether the client settles what it sends: 0 never, 1 always, 2 or None as it likes.
        credit_max: how many deliveries may be on their way.
    """

    def __init__(
        self,
        session: SessionContext,
        handle: int,
        delivery_count: int,
        settle_mode: int | None = None,
        credit_max: int = CREDIT,
    ) -> None:
        self.session = session
        self.credit_max = credit_max
        self.message_bytes_max = session.connection.message_bytes_max
        self.handle = handle
        self.unconfirmed_count = 0
        self._delivery_count = delivery_count
        self._settle_mode = settle_mode
        self._may_be_unsettled = settle_mode != SETTLED
        self._credit = 0
        self._parts: list[bytes] = []  # of the delivery that has begun
        self._part_bytes = 0
        self._delivery_id = 0
        self._is_settled = False
        self._has_begun = False

    def grant(self) -> None:
        """Let the client send more, when half of what it may send is used and not too much waits to be kept."""
        if self._credit <= self.credit_max // 2 and self.unconfirmed_count < self.credit_max:
            self._credit = self.credit_max
            self.session.send_flow(self.handle, self._delivery_count, self._credit)

    def transfer(self, fields: Fields, payload: bytes) -> None:
        """Handle a ``transfer`` of the client.

        Raises:
            ProtocolError: it cannot be, or the message is none.
            AmqpError: it is not allowed.
            NotDecidedYet: others are being asked whether it is.
        """
        if not self._has_begun:
            self._check_credit()
            self._delivery_id = fields.needed(1)
            self._is_settled = fields.flag(4)
            self._has_begun = True
        else:
            self._check_goes_on(fields)
        if fields.flag(9):  # aborted
            self._end_delivery()
            self._delivered()
            return
        if fields.number(6) == SECOND and not self._is_settled:
            raise ProtocolError(INVALID_FIELD, "rcv-settle-mode second not supported")
        self._check_size(len(payload))
        if fields.flag(5):  # more
            if payload:
                self._parts.append(payload)
            self._part_bytes += len(payload)
            return
        if self._settle_mode in WRONG_FLAGS and WRONG_FLAGS[self._settle_mode] is self._is_settled:
            text = f"sender settle mode is '{MODE_NAMES[self._settle_mode]}' but transfer settled flag is interpreted"
            raise ProtocolError(FRAMING_ERROR, f"{text} as being '{str(self._is_settled).lower()}'")
        if self._parts:
            payload = b"".join([*self._parts, payload])
        self.deliver(payload, 0, self._delivery_id, self._is_settled)
        self._end_delivery()
        self._delivered()

    @property
    def takes_whole(self) -> bool:
        """Whether ``whole`` takes what may come next."""
        return self._may_be_unsettled and not self._has_begun

    def whole(self, delivery_id: int, data: bytes, start: int) -> None:
        """Handle a transfer that is all of an unsettled delivery, as nearly all are; raises as ``transfer`` does.

        Args:
            data: ends with the payload.
            start: where that begins.
        """
        self._check_credit()
        self._check_size(len(data) - start)
        self.deliver(data, start, delivery_id, False)  # where that has to wait, the frame comes again
        self._delivered()

    def _check_credit(self) -> None:
        if self._credit <= 0:
            raise ProtocolError(TRANSFER_LIMIT_EXCEEDED, "there is no link credit left", Scope.LINK)

    def _check_size(self, payload_bytes: int) -> None:
        size, limit = self._part_bytes + payload_bytes, self.message_bytes_max
        if size > limit:
            text = f"message size ({size} bytes) > maximum message size ({limit} bytes)"
            raise ProtocolError(MESSAGE_SIZE_EXCEEDED, text)

    def _check_goes_on(self, fields: Fields) -> None:
        """See that a transfer belongs to the delivery that has begun."""
        delivery_id = fields.number(1)
        if delivery_id is not None and delivery_id != self._delivery_id:
            text = f"delivery-id of continuation transfer ({delivery_id}) differs from delivery-id on first transfer"
            raise ProtocolError(FRAMING_ERROR, f"{text} ({self._delivery_id})")
        if fields.flag(4):  # settled at one of them is settled
            self._is_settled = True

    def _end_delivery(self) -> None:
        self._parts = []
        self._part_bytes = 0
        self._has_begun = False

    def _delivered(self) -> None:
        self._delivery_count = (self._delivery_count + 1) & 0xFFFF_FFFF
        self._credit -= 1
        self.grant()

    def deliver(self, data: bytes, start: int, delivery_id: int, is_settled: bool) -> None:
        """Take a whole message, which begins at ``start``; raises as ``transfer`` does."""
        raise NotImplementedError

    def forget_targets(self) -> None:
        """What the client may do has changed."""

    def stop(self) -> None:
        """The link has ended."""


class UnconfirmedRun:
    """Deliveries of a link that follow each other and wait for their settlement.

    Args:
        first_id: of the first; there is none yet.
        link: on which they have come.
    """

    __slots__ = ("count", "first_id", "link")

    def __init__(self, first_id: int, link: IncomingLink) -> None:
        self.first_id = first_id
        self.link = link
        self.count = 0

    def takes(self, delivery_id: int, link: IncomingLink) -> bool:
        """Whether a delivery follows the last of these."""
        return link is self.link and delivery_id == (self.first_id + self.count) & SERIAL_MASK

    def take(self, count: int) -> int:
        """Take out the first of them; returns the number of the first."""
        first_id = self.first_id
        self.first_id = (first_id + count) & SERIAL_MASK
        self.count -= count
        self.link.unconfirmed_count -= count
        return first_id


class PublishingLink(IncomingLink):
    """A link whose messages go to an exchange.

    Args:
        node: what its target's address stands for.
        queue: that the address names, if it names one: the link goes with it.
    """

    def __init__(
        self,
        session: SessionContext,
        handle: int,
        delivery_count: int,
        settle_mode: int | None,
        node: Node,
        queue: Queue | None,
    ) -> None:
        super().__init__(session, handle, delivery_count, settle_mode)
        self._node = node
        self._queue = queue
        self.made: DynamicNode | None = None  # where that was made for it
        if queue is not None:
            queue.watch(self._detach)
        self._host = session.connection.virtual_host
        self._targets: dict[tuple[str, str], Target] = {}
        self._targets_version = -1
        self._reader = Reader(session.connection.translations)

    def deliver(self, data: bytes, start: int, delivery_id: int, is_settled: bool) -> None:
        session = self.session
        connection = session.connection
        try:
            content, header, body = self._reader.read(data, start)
        except (Malformed, WireError) as unread:  # compiled code has one type for each name
            raise decode_error(f"a message cannot be read: {unread}") from None
        digest = content.digest
        user = connection.client.user
        if digest.user_id is not None and digest.user_id != user.name and IMPERSONATOR not in user.tags:
            text = f"user_id property set to '{digest.user_id}' but authenticated user was '{user.name}'"
            raise ProtocolError(UNAUTHORIZED_ACCESS, text)
        try:
            target = self._target(content.to, content.subject)
        except AmqpError as error:
            self._refuse(of_the_broker(error), delivery_id, is_settled)
            return
        except ProtocolError as mistake:
            self._refuse(mistake, delivery_id, is_settled)
            return
        except NotDecidedYet as undecided:  # the client keeps its message until that is known
            undecided.wait(_nobody_waits)
            self._release(delivery_id, is_settled)
            return
        outcome = self._put(target, content, header, body)
        if is_settled:
            return
        if outcome == UNROUTED:
            session.counts.returned += 1
            self._release(delivery_id, is_settled)
        else:
            self.unconfirmed_count += 1
            session.confirm_later(delivery_id, self, outcome)

    def forget_targets(self) -> None:
        self._targets.clear()

    def _detach(self) -> None:
        """The queue that the target names has gone."""
        queue, self._queue = self._queue, None
        self.session.detach_link(self.handle, ProtocolError(RESOURCE_DELETED, f"{queue} was deleted"))

    def stop(self) -> None:
        if self._queue is not None:
            self._queue.unwatch(self._detach)
            self._queue = None
        if self.made is not None:
            self.made.delete()
            self.made = None

    def _refuse(self, error: ProtocolError, delivery_id: int, is_settled: bool) -> None:
        """There is nowhere for a message to go.

        Where it said itself where to, it is rejected, if the client wants to know; else the link has no sense any more.
        """
        if error.condition not in (NOT_FOUND, PRECONDITION_FAILED):
            raise error
        if self._node.exchange is None and not is_settled:
            state = composite(REJECTED, [error_value(error.condition, error.description)])
            self.session.send(disposition_performative(RECEIVER, delivery_id, delivery_id, state))
            return
        self._release(delivery_id, is_settled)
        error.scope = Scope.LINK
        raise error

    def _release(self, delivery_id: int, is_settled: bool) -> None:
        """The client has its message back."""
        if not is_settled:
            state = composite(RELEASED, [])
            self.session.send(disposition_performative(RECEIVER, delivery_id, delivery_id, state))

    def _target(self, to: str | None, subject: str | None) -> Target:
        """Where a message goes.

        Raises:
            ProtocolError: it names no address.
            AmqpError: that is not there, or not allowed.
        """
        node = self._node
        if node.exchange is None:
            if to is None:
                raise ProtocolError(PRECONDITION_FAILED, "anonymous terminus requires 'to' address to be set")
            try:
                node = target_version_2(to)
            except ProtocolError:
                raise ProtocolError(PRECONDITION_FAILED, f"bad 'to' address string: {to}") from None
        exchange = node.exchange or ""
        routing_key = (subject or "") if node.routing_key is None else node.routing_key
        if self._targets_version != self._host.lookup_version:
            self._targets.clear()
            self._targets_version = self._host.lookup_version
        target = self._targets.get((exchange, routing_key))
        if target is None:
            target = self._look_up(exchange, routing_key)
            if len(self._targets) >= TARGETS_MAX:
                self._targets.clear()
            self._targets[exchange, routing_key] = target
        return target

    def _look_up(self, name: str, routing_key: str) -> Target:
        connection = self.session.connection
        try:
            target = self._host.ingress.target(connection.client, name, routing_key)
        except WireError as error:
            raise ProtocolError(INVALID_FIELD, str(error)) from None
        connection.has_cost(1)
        return target

    def _put(self, target: Target, content: Content, header: bytes, body: bytes) -> Outcome:
        """Put a message into its queues; returns what came of it."""
        session, host = self.session, self._host
        queues, address, digest = target.queues, target.address, content.digest
        if host.interceptors.present:
            header = host.intercepted(address, session.connection.user_name, header, body)
            digest = digest_of(header)
        if digest.extra_routing_keys or not target.may_be_remembered:
            if digest is content.digest:
                digest = content.whole_digest(header)
            if digest.extra_routing_keys:
                address = Address(address.exchange, address.routing_key, address.encoded, digest.extra_routing_keys)
            queues = host.ingress.route(target.exchange, address.routing_keys, header, body, digest)
        if digest.has_blind_copies:
            header = without_blind_copies(header)
        if len(queues) > 1:
            session.connection.has_cost(len(queues))
        target.exchange.published_in += 1
        target.exchange.published_out += len(queues)
        session.counts.published += 1
        sizes = session.connection.broker.message_sizes
        if sizes.are_counted:
            sizes.note(AMQP10, len(body))
        outcome = UNROUTED
        if queues:
            outcome = host.ingress.put(queues, address, header, body, digest)
        elif session.connection.broker.reply(address, header, body):
            outcome = 0
        else:
            session.counts.dropped += 1
            host.drops.unroutable(host.name, address, session.connection.user_name)
        observers = session.connection.broker.observers
        if observers.present:
            passage = Passage(host, address, header, body, queues, outcome != REFUSED)
            observers.published(session.channel, passage)
        return outcome


def _nobody_waits() -> None:
    pass
