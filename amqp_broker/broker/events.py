"""The events of a broker but those of messages, in RabbitMQ's words: a name (``queue.created``), details, and by whom.

Details have RabbitMQ's names and values, but arguments and definitions are tables where it writes Erlang terms, and
where it has the process of a channel or connection there is its name. Who wants events derives from ``Events``: the
exchange that publishes them (``event_exchange.py``), and who follows them on the control socket.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from amqp_broker.broker.exchanges.binding import Binding
from amqp_broker.broker.exchanges.exchange import Exchange
from amqp_broker.broker.observer import Channel, Happening, Kind, Onlooker, Subject
from amqp_broker.broker.parameters import Parameter
from amqp_broker.broker.policies import Policy
from amqp_broker.broker.queues.base import Queue
from amqp_broker.compilation import mypyc_attr

if TYPE_CHECKING:
    from amqp_broker.broker.connections import OpenConnection

INTERNAL_USER: Final = "rmq-internal"  # the broker itself
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


@mypyc_attr(allow_interpreted_subclasses=True)
class Events(Onlooker):
    """An observer to derive from, which is told events.

    Args:
        node_name: of the broker, for the details.
    """

    def __init__(self, node_name: str) -> None:
        self._node_name = node_name

    def is_wanted(self) -> bool:
        """Whether anybody wants events now; nothing is described for nobody."""
        return True

    def tell(self, event: str, details: Mapping[str, Any], by: str) -> None:
        """Take an event.

        Args:
            details: values of None are of no account.
            by: the user; empty for the broker itself.
        """
        raise NotImplementedError

    def opened(self, connection: OpenConnection, channel: Channel | None) -> None:
        if not self.is_wanted():
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
            self.tell("channel.created", details, info["user"])
            return
        of_connection: Mapping[str, Any] = connection.inspect()
        details = {name: of_connection[name] for name in OF_CONNECTIONS}
        details |= {"pid": of_connection["name"], "node": self._node_name, "type": of_connection["type"]}
        if of_connection["type"] == "direct":
            details |= {"port": "unknown", "peer_port": "unknown"}
        if of_connection["user_provided_name"] is not None:
            details["user_provided_name"] = of_connection["user_provided_name"]
        if "container_id" in of_connection:
            details["container_id"] = of_connection["container_id"]
        self.tell("connection.created", details, connection.user_name)

    def closed(self, connection: OpenConnection, channel: Channel | None, reason: str) -> None:
        if not self.is_wanted():
            return
        if channel is not None:
            name = channel.inspect()["name"]
            self.tell("channel.closed", {"pid": name, "name": name}, connection.user_name)
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
        self.tell("connection.closed", details, connection.user_name)

    def declared(self, subject: Subject, by: str) -> None:
        if not self.is_wanted():
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
            self.tell("queue.created", details, by)
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
            self.tell("exchange.created", details, by)
        elif isinstance(thing, Binding):
            self.tell("binding.created", _of_binding(thing, subject.virtual_host), by)
        elif isinstance(thing, Policy):
            details = {"name": subject.name, "vhost": subject.virtual_host, **thing.value()}
            self.tell("policy.set", details, by)
        elif isinstance(thing, Parameter):
            self.tell("parameter.set", {**_of_parameter(thing, subject), "value": thing.value}, by)

    def deleted(self, subject: Subject, by: str) -> None:
        if not self.is_wanted():
            return
        thing = subject.thing
        names: dict[str, Any] = {"name": subject.name, "vhost": subject.virtual_host}
        if subject.kind is Kind.QUEUE:
            self.tell("queue.deleted", names, by)
        elif subject.kind is Kind.EXCHANGE:
            self.tell("exchange.deleted", names, by)
        elif isinstance(thing, Binding):
            self.tell("binding.deleted", _of_binding(thing, subject.virtual_host), by)
        elif subject.kind is Kind.POLICY:
            self.tell("policy.cleared", names, by)
        elif isinstance(thing, Parameter):
            self.tell("parameter.cleared", _of_parameter(thing, subject), by)

    def happened(self, happening: Happening) -> None:
        if self.is_wanted():
            self.tell(happening.name, happening.details, happening.by)


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
