"""The firehose: what clients publish and are given in a virtual host, copied to its exchange ``amq.rabbitmq.trace``
(RabbitMQ docs, "Firehose Tracer").

Copies of publishes have the key ``publish.EXCHANGE``, those of deliveries ``deliver.QUEUE``; who was it, and what the
message was like, stands in headers. Copies themselves are not copied. It is off when a broker starts.

Where it is on nowhere, it does not look on. It gathers what it sees, and publishes when the work in the middle of which
it saw it is done.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from amqp_broker.broker.message import digest_of_copy
from amqp_broker.broker.observer import Channel, Observers, Onlooker, Passage
from amqp_broker.wire.content import Properties, decode_properties, encode_content_header
from amqp_broker.wire.table import FieldValue, Table

if TYPE_CHECKING:
    from amqp_broker.broker.message import Address, Message
    from amqp_broker.broker.queues.base import Queue
    from amqp_broker.broker.queues.consumers import Consumer
    from amqp_broker.broker.virtual_host import VirtualHost

Tap = Callable[[str, str, Table, bytes], None]
"""Takes the virtual host, the key, the headers and the body of a copy."""

TRACE_EXCHANGE: Final = "amq.rabbitmq.trace"
KEY_BYTES_MAX: Final = 255
PROPERTY_NAMES: Final = (
    "content_type",
    "content_encoding",
    "headers",
    "delivery_mode",
    "priority",
    "correlation_id",
    "reply_to",
    "expiration",
    "message_id",
    "timestamp",
    "type",
    "user_id",
    "app_id",
    "cluster_id",
)


class Firehose(Onlooker):
    """The firehose of one broker.

    Args:
        observers: among whom it looks on, while it is on anywhere.
        to_finish: what the broker does at the end of a piece of work.
        node_name: of the broker, for the headers.
    """

    def __init__(self, observers: Observers, to_finish: Callable[[Callable[[], None]], None], node_name: str) -> None:
        self._observers = observers
        self._to_finish = to_finish
        self._node_name = node_name
        self._hosts: dict[str, VirtualHost] = {}
        self._gathered: list[tuple[VirtualHost, str, bytes, Table, bytes]] = []  # where, key, header, headers, body
        self._last_header = b""
        self._last_properties: Table = {}
        self._taps: dict[str, Tap] = {}

    def is_on(self, virtual_host: str) -> bool:
        """Whether copies are made in a virtual host."""
        return virtual_host in self._hosts

    def turn_on(self, virtual_host: VirtualHost) -> None:
        """Make copies in a virtual host from now on."""
        if not self._hosts:
            self._observers.add(self)
        self._hosts[virtual_host.name] = virtual_host

    def turn_off(self, virtual_host: str) -> None:
        """Make no copies there any more."""
        if self._hosts.pop(virtual_host, None) is not None and not self._hosts:
            self._observers.remove(self)

    def forget(self, virtual_host: str) -> None:
        """A virtual host has gone."""
        self.turn_off(virtual_host)
        self._taps.pop(virtual_host, None)

    def is_tapped(self, virtual_host: str) -> bool:
        """Whether somebody is handed its copies."""
        return virtual_host in self._taps

    def tap(self, virtual_host: str, tap: Tap | None) -> None:
        """Hand somebody every copy that is made in a virtual host, or nobody any more."""
        if tap is None:
            self._taps.pop(virtual_host, None)
        else:
            self._taps[virtual_host] = tap

    # --- what it sees

    def published(self, channel: Channel, passage: Passage) -> None:
        host = self._hosts.get(passage.virtual_host.name)
        if passage.error is None and host is not None:
            routed: Table = {"routed_queues": [queue.name for queue in passage.queues if not queue.holds_back]}
            key = f"publish.{passage.address.exchange}"
            self._copy(host, key, channel, passage.address, passage.header, passage.body, routed)

    def delivered(
        self, channel: Channel, queue: Queue, message: Message, consumer: Consumer | None, *, no_ack: bool
    ) -> None:
        host = self._hosts.get(queue.virtual_host.name)
        if host is not None and message.address.exchange != TRACE_EXCHANGE:
            redelivered: Table = {"redelivered": int(message.redelivered)}
            key = f"deliver.{queue.name}"
            self._copy(host, key, channel, message.address, message.header, message.body, redelivered)

    def _copy(
        self,
        host: VirtualHost,
        key: str,
        channel: Channel,
        address: Address,
        header: bytes,
        body: bytes,
        more: Table,
    ) -> None:
        info = channel.inspect()
        headers: Table = {
            "exchange_name": address.exchange,
            "routing_keys": list(address.routing_keys),
            "properties": self._properties(header),
            "node": self._node_name,
            "vhost": host.name,
            "connection": info["connection_name"],
            "channel": channel.number,
            "user": info["user"],
            **more,
        }
        if not self._gathered:
            self._to_finish(self._publish)
        tap = self._taps.get(host.name)
        if tap is not None:
            tap(host.name, key, headers, body)
        traced = encode_content_header(len(body), Properties(headers=headers))
        self._gathered.append((host, _cut(key), traced, headers, body))

    def _properties(self, header: bytes) -> Table:
        """The properties in a header; most often they are those of the copy before: it is delivered when published."""
        if header != self._last_header:
            self._last_properties = _properties_table(decode_properties(header))
            self._last_header = header
        return self._last_properties

    def _publish(self) -> None:
        gathered, self._gathered = self._gathered, []
        for host, key, header, headers, body in gathered:
            exchange = host.exchanges.get(TRACE_EXCHANGE)
            if exchange is not None:  # else the virtual host has gone
                host.ingress.publish(exchange, key, header, body, digest_of_copy(headers))


def _cut(key: str) -> str:
    """A routing key may be so long only; a queue's name may take all of it."""
    encoded = key.encode("utf-8", "surrogateescape")
    return encoded[:KEY_BYTES_MAX].decode("utf-8", "surrogateescape")


def _properties_table(properties: Properties) -> Table:
    """The properties that are set."""
    found: dict[str, FieldValue] = {name: getattr(properties, name) for name in PROPERTY_NAMES}
    return {name: value for name, value in found.items() if value is not None}
