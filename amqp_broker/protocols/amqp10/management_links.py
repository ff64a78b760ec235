"""The pair of links for management: requests come on the one, answers go on the other (``management.py``)."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

from amqp_broker.access.judge import NotDecidedYet
from amqp_broker.access.passwords import NotVerifiedYet
from amqp_broker.broker.queues.base import QueueBusy
from amqp_broker.protocols.amqp10 import sections
from amqp_broker.protocols.amqp10.compound import Described, Map
from amqp_broker.protocols.amqp10.decoding import Malformed, decode
from amqp_broker.protocols.amqp10.encoding import encode
from amqp_broker.protocols.amqp10.errors import (
    PRECONDITION_FAILED,
    RESOURCE_LIMIT_EXCEEDED,
    ProtocolError,
    decode_error,
)
from amqp_broker.protocols.amqp10.incoming import IncomingLink
from amqp_broker.protocols.amqp10.management import Answer, Management
from amqp_broker.protocols.amqp10.outgoing import OutgoingLink
from amqp_broker.protocols.amqp10.performatives import ACCEPTED, RECEIVER, composite, disposition_performative
from amqp_broker.protocols.amqp10.typed import ULong

if TYPE_CHECKING:
    from amqp_broker.protocols.amqp10.context import SessionContext

ADDRESS: Final = "/management"
CREDIT: Final = 8  # RabbitMQ's
REQUEST_EFFORT: Final = 30  # about; see ``ClientConnection.has_cost``
REQUEST_BYTES_MAX: Final = 131_072  # all of one is decoded in one go
BYTES_OF_AN_EFFORT: Final = 8
ANSWERS_HELD_MAX: Final = 32  # for a client that asks on and takes nothing
VERSION: Final = ("http:response", "1.1")


class AnswersLink(OutgoingLink):
    """The link on which the client gets answers."""

    def __init__(self, session: SessionContext, handle: int) -> None:
        super().__init__(session, handle)
        self.is_stopped = False

    def credit_changed(self, drain: bool, echo: bool) -> None:
        if drain:
            self.use_up()
        if drain or echo:
            self.session.send_flow(self.handle, self.delivery_count, self.credit, available=0, drain=drain)

    def send(self, payload: bytes) -> None:
        """Send an answer; it is settled."""
        if self.is_stopped:
            return
        session = self.session
        delivery_id = session.next_delivery_id()
        self.count_delivery()
        self.credit = max(0, self.credit)  # the client may have taken it back while its request waited
        session.send_transfer(self.handle, delivery_id, True, payload)

    def stop(self) -> None:
        self.is_stopped = True


class Request:
    """A request of a client."""

    __slots__ = ("body", "message_id", "method", "target")

    def __init__(self, method: str, target: str, message_id: Any, body: Any) -> None:
        self.method = method
        self.target = target
        self.message_id = message_id
        self.body = body


class RequestsLink(IncomingLink):
    """The link on which the client asks.

    Args:
        answers: the link that has the same name.
        management: does what is asked.
    """

    def __init__(
        self, session: SessionContext, handle: int, delivery_count: int, name: str, management: Management
    ) -> None:
        super().__init__(session, handle, delivery_count, credit_max=CREDIT)
        self.name = name
        self.message_bytes_max = min(self.message_bytes_max, REQUEST_BYTES_MAX)
        self.answers: AnswersLink | None = None
        self.is_stopped = False
        self._management = management
        self._requests: deque[Request] = deque()  # that wait for a queue that is busy
        self._held_count = 0  # of requests that came while answers waited, since none did

    def deliver(self, data: bytes, start: int, delivery_id: int, is_settled: bool) -> None:
        answers = self.answers
        if answers is None or answers.is_stopped:
            raise ProtocolError(PRECONDITION_FAILED, f"there is no link to {ADDRESS} for the answers")
        if answers.credit <= len(self._requests):
            raise ProtocolError(PRECONDITION_FAILED, f"insufficient credit ({answers.credit}) for management link")
        self._held_count = self._held_count + 1 if self.session.has_waiting else 0
        if self._held_count >= ANSWERS_HELD_MAX:
            text = f"more than {ANSWERS_HELD_MAX} answers wait for the session's window"
            raise ProtocolError(RESOURCE_LIMIT_EXCEEDED, text)
        request = _request_of(data[start:])
        self.session.connection.has_cost(REQUEST_EFFORT + (len(data) - start) // BYTES_OF_AN_EFFORT)
        if not is_settled:
            state = composite(ACCEPTED, [])
            self.session.send(disposition_performative(RECEIVER, delivery_id, delivery_id, state))
        self._requests.append(request)
        if len(self._requests) == 1:
            self._go_on()

    def _go_on(self) -> None:
        """Answer what has come, as far as it can be done now."""
        while self._requests:
            request = self._requests[0]
            try:
                answer = self._management.answer(request.method, request.target, request.body)
            except QueueBusy as busy:
                busy.queue.wait(self._go_on)
                return
            except (NotDecidedYet, NotVerifiedYet) as check:
                self.session.connection.verdict_on(check)(self._go_on)
                return
            except ProtocolError as refused:
                self.session.connection.fail(refused)
                return
            self._requests.popleft()
            self._send(request, answer)

    def _send(self, request: Request, answer: Answer) -> None:
        if self.answers is None:
            return
        properties = [None, None, None, str(answer.status), None, request.message_id]
        connection = self.session.connection
        connection.output.hold_until(connection.broker.durability.last_change)
        self.answers.send(
            encode(Described(ULong(sections.PROPERTIES), properties))
            + encode(Described(ULong(sections.APPLICATION_PROPERTIES), Map([VERSION])))
            + encode(Described(ULong(sections.VALUE), answer.body))
        )

    def stop(self) -> None:
        self._requests.clear()
        self.answers = None
        self.is_stopped = True


def _request_of(payload: bytes) -> Request:
    """The request that a message is.

    Raises:
        ProtocolError: it is none.
    """
    properties: Any = None
    body: Any = None
    offset = 0
    try:
        while offset < len(payload):
            section, offset = decode(payload, offset)
            if not isinstance(section, Described) or not isinstance(section.descriptor, ULong):
                raise Malformed("a message has something else than sections")
            if section.descriptor == sections.PROPERTIES:
                properties = section.value
            elif section.descriptor == sections.VALUE:
                body = section.value
    except Malformed as error:
        raise decode_error(f"a message cannot be read: {error}") from None
    if not isinstance(properties, list) or len(properties) < 4:
        raise ProtocolError(PRECONDITION_FAILED, "a request needs a subject and an address")
    method, target = properties[3], properties[2]
    if not isinstance(method, str) or not isinstance(target, str):
        raise ProtocolError(PRECONDITION_FAILED, "a request needs a subject and an address")
    return Request(method, target, properties[0], body)
