"""The event exchange ``amq.rabbitmq.event``: what happens in a broker, as messages (RabbitMQ's plugin
rabbitmq_event_exchange).

A topic exchange in the default virtual host. The routing key says what happened (``queue.created``), the headers to
what and by whom (``events.py``); there is no body.

While nothing is bound to the exchange, an event costs a comparison. What happens to messages is no event. Events are
gathered, and published when the work in the middle of which they came is done.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from amqp_broker.broker.events import INTERNAL_USER, Events
from amqp_broker.broker.message import digest_of
from amqp_broker.wire.content import Properties, encode_content_header
from amqp_broker.wire.errors import WireError
from amqp_broker.wire.table import Table, Timestamp

if TYPE_CHECKING:
    from amqp_broker.broker.shared import Shared
    from amqp_broker.broker.virtual_host import VirtualHost

EVENT_EXCHANGE: Final = "amq.rabbitmq.event"
DELIVERY_MODE_PERSISTENT: Final = 2


def header_of(details: Mapping[str, Any], by: str, now_ms: int) -> bytes | None:
    """The content header of an event's message; None where its details do not fit into a table.

    Args:
        by: the user; empty for the broker itself.
        now_ms: since 1970.
    """
    headers: Table = {name: value for name, value in details.items() if value is not None}
    headers["user_who_performed_action"] = by or INTERNAL_USER
    headers["timestamp_in_ms"] = now_ms
    properties = Properties(
        headers=headers, delivery_mode=DELIVERY_MODE_PERSISTENT, timestamp=Timestamp(now_ms // 1000)
    )
    try:
        return encode_content_header(0, properties)
    except WireError:
        return None  # what a parameter holds need not fit into a table


class EventExchange(Events):
    """The exchange of one broker.

    Args:
        virtual_host: where the exchange is; it is made there.
        broker: that has it.
    """

    def __init__(self, virtual_host: VirtualHost, broker: Shared) -> None:
        super().__init__(broker.settings.node_name or broker.settings.cluster_name)
        self._host = virtual_host
        self._broker = broker
        self._exchange = virtual_host.add_exchange(
            EVENT_EXCHANGE, "topic", durable=True, auto_delete=False, internal=True, table={}
        )
        self._gathered: list[tuple[str, bytes]] = []  # key and header

    def is_wanted(self) -> bool:
        return bool(self._exchange.bindings)

    def tell(self, event: str, details: Mapping[str, Any], by: str) -> None:
        if self._broker.is_told_elsewhere(event, by):
            return
        header = header_of(details, by, self._broker.clock.wall_ms())
        if header is not None:
            self.publish(event, header)

    def publish(self, event: str, header: bytes) -> None:
        """Publish an event at the end of this piece of work: one of this broker, or of another that is one with it."""
        if not self._gathered:
            self._broker.finish_with(self._publish)
        self._gathered.append((event, header))

    def _publish(self) -> None:
        gathered, self._gathered = self._gathered, []
        for key, header in gathered:
            if not self._exchange.is_deleted:  # else the virtual host has gone
                self._host.ingress.publish(self._exchange, key, header, b"", digest_of(header))
