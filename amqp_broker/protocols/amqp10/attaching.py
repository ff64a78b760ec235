"""``attach``: from the source or the target that a client names to a link, its queue and its permissions.

Raises errors that end the session, as RabbitMQ does: what is not there, not allowed, or not supported.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from amqp_broker.broker.names import node_of
from amqp_broker.broker.queues.base import Queue
from amqp_broker.errors import AmqpError
from amqp_broker.protocols.amqp10.addresses import Node, source_of, target_of
from amqp_broker.protocols.amqp10.compound import Array, Map
from amqp_broker.protocols.amqp10.dynamic_nodes import DYNAMIC, DynamicNode
from amqp_broker.protocols.amqp10.encoding import symbols
from amqp_broker.protocols.amqp10.errors import INVALID_FIELD, NOT_IMPLEMENTED, ProtocolError, not_implemented
from amqp_broker.protocols.amqp10.filters import Filters
from amqp_broker.protocols.amqp10.incoming import IncomingLink, PublishingLink
from amqp_broker.protocols.amqp10.management import Management
from amqp_broker.protocols.amqp10.management_links import ADDRESS, AnswersLink, RequestsLink
from amqp_broker.protocols.amqp10.outgoing import INITIAL_DELIVERY_COUNT, ConsumingLink, OutgoingLink
from amqp_broker.protocols.amqp10.performatives import (
    ATTACH,
    COORDINATOR,
    RECEIVER,
    RELEASED,
    SECOND,
    SENDER,
    SETTLED,
    ULONG_MAX,
    Fields,
    composite,
    performative,
)
from amqp_broker.protocols.amqp10.typed import UByte, UInt, ULong
from amqp_broker.wire.table import Table

if TYPE_CHECKING:
    from amqp_broker.protocols.amqp10.context import ConnectionContext, SessionContext

UNSETTLED: Final = 0  # snd-settle-mode
MIXED: Final = 2
SOURCE_ADDRESS: Final = 0  # where the fields of sources and targets stand
DURABLE: Final = 1
FILTER: Final = 7
DEFAULT_OUTCOME: Final = 8
OUTCOMES: Final = 9
OUTCOME_NAMES: Final = ("amqp:accepted:list", "amqp:rejected:list", "amqp:released:list", "amqp:modified:list")


class Attaching:
    """Attaches the links of one session."""

    def __init__(self, session: SessionContext, connection: ConnectionContext) -> None:
        self._session = session
        self._connection = connection
        self._host = connection.virtual_host
        self._client = connection.client
        self._management: dict[str, RequestsLink] = {}  # by the name that both links of a pair have
        self._management_answers: dict[str, AnswersLink] = {}

    def incoming(self, fields: Fields, handle: int) -> IncomingLink:
        """A link on which the client sends, which is answered.

        Raises:
            ProtocolError, AmqpError: it cannot be, or is not allowed.
        """
        _check(fields)
        target = fields.composite(6)
        if target is None or target.code == COORDINATOR:
            raise not_implemented("Transactions") if target is not None else ProtocolError(INVALID_FIELD, "no target")
        if target.flag(DYNAMIC):
            return self._to_dynamic_node(fields, handle, target)
        if _is_management(fields, target):
            return self._requests(fields, handle)
        node = target_of(target.text(SOURCE_ADDRESS))
        if node.declares:
            self._declare(node.queue, target)
        if node.exchange is not None:
            self._check_exchange(node.exchange, node.routing_key or "")
        queue = self._host.queue(node.queue) if node.must_exist else self._host.queues.get(node.queue)
        link = self._publishing(fields, handle, node, queue)
        try:
            self._answer_sender(fields, link, fields.value(6))
        except Exception:
            link.stop()
            raise
        return link

    def _publishing(self, fields: Fields, handle: int, node: Node, queue: Queue | None) -> PublishingLink:
        return PublishingLink(self._session, handle, fields.number(9) or 0, fields.number(3), node, queue)

    def _to_dynamic_node(self, fields: Fields, handle: int, target: Fields) -> IncomingLink:
        """A link that sends to a queue made for it."""
        self._check_exchange("", "")
        made = DynamicNode(self._connection, target)
        name = made.queue.name
        link = self._publishing(fields, handle, Node("", name, name, must_exist=True), made.queue)
        link.made = made
        try:
            self._answer_sender(fields, link, composite(target.code, made.told(target)))
        except Exception:
            link.stop()
            raise
        return link

    def _check_exchange(self, name: str, routing_key: str) -> None:
        """Refuse an exchange that the client may not publish to at all; raises as ``incoming`` does.

        Whether it may with a key is told with the first message. Those who have to be asked of it are asked now: that
        message would be released until they have answered.
        """
        ingress = self._host.ingress
        ingress.exchange_for_any(self._client, name)
        with suppress(AmqpError):
            ingress.exchange_for(self._client, name, routing_key)

    def outgoing(self, fields: Fields, handle: int) -> OutgoingLink:
        """A link on which the client receives; raises as ``incoming`` does."""
        _check(fields)
        source = fields.composite(5)
        if source is None:
            raise ProtocolError(INVALID_FIELD, "no source")
        if _is_management(fields, source):
            return self._answers(fields, handle)
        return ConsumingLink(
            self._session,
            handle,
            is_settled=fields.number(3) == SETTLED,
            message_bytes_max=fields.number(10, ULONG_MAX) or 0,
        )

    def consume(self, fields: Fields, link: ConsumingLink) -> None:
        """Let the link have the messages of its queue, and answer; raises as ``incoming`` does."""
        source = fields.composite(5)
        assert source is not None
        if source.flag(DYNAMIC):
            link.made = DynamicNode(self._connection, source)
            queue = link.made.queue
        else:
            queue = self._queue_of(source_of(source.text(SOURCE_ADDRESS)), source)
        filters = Filters(source.map(FILTER) if queue.is_log else Map([]))
        link.select_by(filters)
        try:
            self._client.check_read("queue", queue.name)
            queue.check_access(self._client)
            arguments = {**_arguments(fields), **filters.arguments}
            link.consumer = queue.add_credited_consumer(
                f"ctag-{link.handle}", link, no_ack=link.is_settled, arguments=arguments
            )
            told = list(source.items) if link.made is None else link.made.told(source)
            self._answer_receiver(fields, link.handle, source, told, filters)
        except Exception:
            link.stop()
            raise

    def _answer_receiver(self, fields: Fields, handle: int, source: Fields, told: list[Any], filters: Filters) -> None:
        told += [None] * (OUTCOMES + 1 - len(told))
        if told[FILTER] is not None:
            told[FILTER] = Map(filters.applied)
        told[DEFAULT_OUTCOME] = composite(RELEASED, [])
        if told[OUTCOMES] is None:
            told[OUTCOMES] = symbols(*OUTCOME_NAMES)
        self._answer(fields, handle, is_sender=True, source=composite(source.code, told), target=fields.value(6))

    def _answer_sender(self, fields: Fields, link: IncomingLink, target: Any) -> None:
        size_max = link.message_bytes_max
        self._answer(fields, link.handle, is_sender=False, source=fields.value(5), target=target, size_max=size_max)

    def _answer(
        self, fields: Fields, handle: int, *, is_sender: bool, source: Any, target: Any, size_max: int | None = None
    ) -> None:
        """Our ``attach``, behind what it waits for."""
        connection = self._connection
        connection.output.hold_until(connection.broker.durability.last_change)
        settle_mode = fields.number(3)
        if is_sender:
            settle_mode = SETTLED if settle_mode == SETTLED else UNSETTLED
            size_max = fields.number(10, ULONG_MAX)
        said: list[Any] = [
            fields.text(0),
            UInt(handle),
            SENDER if is_sender else RECEIVER,
            None if settle_mode is None else UByte(settle_mode),
            UByte(0),
            source,
            target,
            None,
            None,
            UInt(INITIAL_DELIVERY_COUNT) if is_sender else None,
            None if size_max is None else ULong(size_max),
            None,
            None,
            fields.map(13) if fields.value(13) is not None else None,
        ]
        self._session.send(performative(ATTACH, said))

    # --- management

    def _requests(self, fields: Fields, handle: int) -> IncomingLink:
        node = node_of(self._connection.broker.settings.node_name)
        management = Management(self._host, self._client, node, self._connection.renew)
        name = fields.text(0) or ""
        link = RequestsLink(self._session, handle, fields.number(9) or 0, name, management)
        self._forget_stopped()
        self._management[name] = link
        link.answers = self._management_answers.get(name)
        self._answer_sender(fields, link, fields.value(6))
        return link

    def _answers(self, fields: Fields, handle: int) -> OutgoingLink:
        link = AnswersLink(self._session, handle)
        name = fields.text(0) or ""
        self._forget_stopped()
        self._management_answers[name] = link
        requests = self._management.get(name)
        if requests is not None:
            requests.answers = link
        self._answer(fields, handle, is_sender=True, source=fields.value(5), target=fields.value(6))
        return link

    def _forget_stopped(self) -> None:
        for name in [name for name, link in self._management.items() if link.is_stopped]:
            del self._management[name]
        for name in [name for name, link in self._management_answers.items() if link.is_stopped]:
            del self._management_answers[name]

    # --- queues

    def _queue_of(self, node: Node, source: Fields) -> Queue:
        """The queue that a source stands for."""
        if node.declares:
            return self._declare(node.queue, source)
        if node.must_exist:
            return self._host.accessible_queue(self._client, node.queue)
        exchange, key = node.exchange or "", node.routing_key or ""
        self._host.exchange(exchange)  # others may have to be asked of it, before there is a queue
        self._host.check_source(self._client, exchange, key)
        queue = self._host.declare_queue(
            self._client, "", durable=False, exclusive=True, auto_delete=True, arguments={}
        )
        self._host.bind(self._client, exchange, "queue", queue.name, key, {})
        return queue

    def _declare(self, name: str, terminus: Fields) -> Queue:
        """The queue that an address of version 1 names: the one that is there, or a new one."""
        known = self._host.queues.get(name)
        if known is not None:
            known.check_access(self._client)
            return known
        durable = (terminus.number(DURABLE) or 0) > 0 or not self._host.behaviour.has_transient_queues
        return self._host.declare_queue(
            self._client, name, durable=durable, exclusive=False, auto_delete=False, arguments={}
        )


def _is_management(fields: Fields, terminus: Fields) -> bool:
    """Whether a link is one of a pair for management."""
    return terminus.text(SOURCE_ADDRESS) == ADDRESS and fields.map(13).get("paired") is True


def _check(fields: Fields) -> None:
    """Refuse what is not supported, as RabbitMQ does, and fields of a wrong type before anything is done for them."""
    fields.text(0)
    fields.map(13)
    for place, largest in ((3, MIXED), (4, SECOND)):
        if (fields.number(place) or 0) > largest:
            raise ProtocolError(INVALID_FIELD, f"there is no settle mode {fields.number(place)}")
    unsettled = fields.value(7)
    if (isinstance(unsettled, Map) and unsettled.pairs) or fields.flag(8):
        raise not_implemented("Link recovery")
    if fields.number(4) == SECOND and fields.number(3) != SETTLED:
        raise not_implemented("rcv-settle-mode second")
    source = fields.composite(5)
    outcomes = None if source is None else source.value(OUTCOMES)
    if outcomes is not None:
        names = outcomes.items if isinstance(outcomes, Array) else [outcomes]
        others = [str(name) for name in names if name not in OUTCOME_NAMES]
        if others:
            raise ProtocolError(NOT_IMPLEMENTED, f"Outcomes not supported: {', '.join(others)[:255]}")


def _arguments(fields: Fields) -> Table:
    """The arguments of the consumer that an attach asks for, beside its filters."""
    priority = fields.map(13).get("rabbitmq:priority")
    return {"x-priority": int(priority)} if _is_number(priority) else {}


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
