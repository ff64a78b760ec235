"""The event exchange ``amq.rabbitmq.event``: what happens in a broker, as messages (RabbitMQ's plugin
rabbitmq_event_exchange).

A topic exchange in the default virtual host. The routing key says what happened (``queue.created``), the headers to
what and by whom; there is no body. Values are those of RabbitMQ, but arguments and definitions are tables where it
writes Erlang terms, and where it has the process of a channel or connection there is its name.

While nothing is bound to the exchange, an event costs a comparison. What happens to messages is no event. Events are
gathered, and published when the work in the middle of which they came is done.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from amqp_broker.broker.exchanges.binding import Binding
from amqp_broker.broker.exchanges.exchange import Exchange
from amqp_broker.broker.message import digest_of
from amqp_broker.broker.observer import Channel, Happening, Kind, Onlooker, Subject
from amqp_broker.broker.parameters import Parameter
from amqp_broker.broker.policies import Policy
from amqp_broker.broker.queues.base import Queue
from amqp_broker.wire.content import Properties, encode_content_header
from amqp_broker.wire.errors import WireError
from amqp_broker.wire.table import Table, Timestamp

if TYPE_CHECKING:
    from amqp_broker.broker.connections import OpenConnection
    from amqp_broker.broker.ports import Clock
    from amqp_broker.broker.virtual_host import VirtualHost

EVENT_EXCHANGE: Final = "amq.rabbitmq.event"
INTERNAL_USER: Final = "rmq-internal"
DELIVERY_MODE_PERSISTENT: Final = 2
OF_CONNECTIONS: Final = (
    "connected_at",
    "client_properties",
    "channel_max",
    "frame_max",
    "timeout",
    "vhost",
    "user",
    "protocol",
    "ssl",
    "ssl_protocol",
    "ssl_cipher",
    "auth_mechanism",
    "peer_port",
    "peer_host",
    "port",
    "host",
    "name",
)


class EventExchange(Onlooker):
    """The events of one broker.

    Args:
        virtual_host: where the exchange is; it is made there.
        to_finish: what the broker does at the end of a piece of work.
        clock: tells when.
        node_name: of the broker, for the headers.
    """

    def __init__(
        self,
        virtual_host: VirtualHost,
        to_finish: Callable[[Callable[[], None]], None],
        clock: Clock,
        node_name: str,
    ) -> None:
        self._host = virtual_host
        self._to_finish = to_finish
        self._clock = clock
        self._node_name = node_name
        self._exchange = virtual_host.add_exchange(
            EVENT_EXCHANGE, "topic", durable=True, auto_delete=False, internal=True, table={}
        )
        self._gathered: list[tuple[str, bytes]] = []  # key and header

    # --- what it sees

    def opened(self, connection: OpenConnection, channel: Channel | None) -> None:
        if not self._exchange.bindings:
            return
        if channel is not None:
            info = channel.inspect()
            details = {
                "name": info["name"],
                "pid": info["name"],
                "connection": info["connection_name"],
                "number": info["number"],
                "user": info["user"],
                "vhost": info["vhost"],
            }
            self._tell("channel.created", details, info["user"])
            return
        of_connection: Mapping[str, Any] = connection.inspect()
        details = {name: of_connection[name] for name in OF_CONNECTIONS}
        details |= {"pid": of_connection["name"], "node": self._node_name, "type": of_connection["type"]}
        if of_connection["type"] == "direct":
            details |= {"port": "unknown", "peer_port": "unknown"}
        if of_connection["user_provided_name"] is not None:
            details["user_provided_name"] = of_connection["user_provided_name"]
        self._tell("connection.created", details, connection.user_name)

    def closed(self, connection: OpenConnection, channel: Channel | None, reason: str) -> None:
        if not self._exchange.bindings:
            return
        if channel is not None:
            name = channel.inspect()["name"]
            self._tell("channel.closed", {"pid": name, "name": name}, connection.user_name)
            return
        of_connection = connection.inspect()
        name = of_connection["name"]
        details: dict[str, Any] = {
            "name": name,
            "pid": name,
            "node": self._node_name,
            "client_properties": of_connection["client_properties"],
            "reason": reason,
        }
        if of_connection["user_provided_name"] is not None:
            details["user_provided_name"] = of_connection["user_provided_name"]
        self._tell("connection.closed", details, connection.user_name)

    def declared(self, subject: Subject, by: str) -> None:
        if not self._exchange.bindings:
            return
        thing = subject.thing
        if isinstance(thing, Queue):
            details: dict[str, Any] = {
                "name": thing.name,
                "vhost": subject.virtual_host,
                "type": f"rabbit_{thing.declared.queue_type}_queue",
                "durable": thing.durable,
                "auto_delete": thing.auto_delete,
                "exclusive": thing.owner is not None,
                "arguments": thing.table,
            }
            self._tell("queue.created", details, by)
        elif isinstance(thing, Exchange):
            details = {
                "name": thing.name,
                "vhost": subject.virtual_host,
                "type": thing.type_name,
                "durable": thing.durable,
                "auto_delete": thing.auto_delete,
                "internal": thing.internal,
                "arguments": thing.table,
                "policy": "",
            }
            self._tell("exchange.created", details, by)
        elif isinstance(thing, Binding):
            self._tell("binding.created", _of_binding(thing, subject.virtual_host), by)
        elif isinstance(thing, Policy):
            details = {"name": subject.name, "vhost": subject.virtual_host, **thing.value()}
            self._tell("policy.set", details, by)
        elif isinstance(thing, Parameter):
            self._tell("parameter.set", {**_of_parameter(thing, subject), "value": thing.value}, by)

    def deleted(self, subject: Subject, by: str) -> None:
        if not self._exchange.bindings:
            return
        thing = subject.thing
        names: dict[str, Any] = {"name": subject.name, "vhost": subject.virtual_host}
        if subject.kind is Kind.QUEUE:
            self._tell("queue.deleted", names, by)
        elif subject.kind is Kind.EXCHANGE:
            self._tell("exchange.deleted", names, by)
        elif isinstance(thing, Binding):
            self._tell("binding.deleted", _of_binding(thing, subject.virtual_host), by)
        elif subject.kind is Kind.POLICY:
            self._tell("policy.cleared", names, by)
        elif isinstance(thing, Parameter):
            self._tell("parameter.cleared", _of_parameter(thing, subject), by)

    def happened(self, happening: Happening) -> None:
        if self._exchange.bindings:
            self._tell(happening.name, happening.details, happening.by)

    # --- what becomes of it

    def _tell(self, event: str, details: Mapping[str, Any], by: str) -> None:
        now_ms = self._clock.wall_ms()
        headers: Table = {name: value for name, value in details.items() if value is not None}
        headers["user_who_performed_action"] = by or INTERNAL_USER
        headers["timestamp_in_ms"] = now_ms
        properties = Properties(
            headers=headers, delivery_mode=DELIVERY_MODE_PERSISTENT, timestamp=Timestamp(now_ms // 1000)
        )
        try:
            header = encode_content_header(0, properties)
        except WireError:
            return  # what a parameter holds need not fit into a table
        if not self._gathered:
            self._to_finish(self._publish)
        self._gathered.append((event, header))

    def _publish(self) -> None:
        gathered, self._gathered = self._gathered, []
        for key, header in gathered:
            if not self._exchange.is_deleted:  # else the virtual host has gone
                self._host.ingress.publish(self._exchange, key, header, b"", digest_of(header))


def _of_binding(binding: Binding, virtual_host: str) -> dict[str, Any]:
    return {
        "vhost": virtual_host,
        "source_name": binding.source.name,
        "source_kind": "exchange",
        "destination_name": binding.destination.name,
        "destination_kind": "queue" if binding.is_to_queue else "exchange",
        "routing_key": binding.routing_key,
        "arguments": binding.arguments,
    }


def _of_parameter(parameter: Parameter, subject: Subject) -> dict[str, Any]:
    names = {"name": subject.name}
    return {**names, "component": parameter.component, "vhost": subject.virtual_host} if parameter.component else names
