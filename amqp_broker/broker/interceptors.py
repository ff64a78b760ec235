"""Interceptors, which change messages before they are routed: those that packages bring.

Each is asked for each message of a client, whatever protocol it speaks, in the order in which they were switched on
(RabbitMQ docs, "Message Interceptors", has two of its own). Where there is none, a publish costs one comparison. Holds
no way of finding packages (``plugin_types.py``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from amqp_broker.errors import AmqpError
from amqp_broker.wire.content import Properties, body_size, decode_properties, encode_content_header
from amqp_broker.wire.errors import WireError

if TYPE_CHECKING:
    from amqp_broker.broker.plugin_types import PluginType


class Incoming:
    """A message that a client publishes. An interceptor changes its properties in place; nothing else can change.

    Args:
        virtual_host: its name.
        exchange: the exchange's name.
        routing_key: of the publish.
        user_name: who publishes.
        properties: with the headers.
        body: the body.
    """

    __slots__ = ("body", "exchange", "properties", "routing_key", "user_name", "virtual_host")

    def __init__(
        self, virtual_host: str, exchange: str, routing_key: str, user_name: str, properties: Properties, body: bytes
    ) -> None:
        self.virtual_host = virtual_host
        self.exchange = exchange
        self.routing_key = routing_key
        self.user_name = user_name
        self.properties = properties
        self.body = body


class Interceptor(Protocol):
    """An interceptor that a package brings: made once, with the broker, when it is switched on."""

    def incoming(self, message: Incoming) -> None:
        """See a message, and change its properties; raise an AmqpError to refuse it to its publisher."""


class Interceptors:
    """All the interceptors of one broker."""

    def __init__(self) -> None:
        self.present = False  # to be asked before ``changed``
        self._all: tuple[tuple[PluginType, Interceptor], ...] = ()

    def add(self, plugin: PluginType, interceptor: Interceptor) -> Callable[[], None]:
        """Ask one from now on, after the others; returns what ends that.

        Args:
            plugin: whose it is, for the log.
        """
        self._all = (*self._all, (plugin, interceptor))
        self.present = True
        return lambda: self._remove(interceptor)

    def _remove(self, interceptor: Interceptor) -> None:
        self._all = tuple([pair for pair in self._all if pair[1] is not interceptor])
        self.present = bool(self._all)

    def changed(
        self, virtual_host: str, exchange: str, routing_key: str, user_name: str, header: bytes, body: bytes
    ) -> bytes:
        """The content header as the interceptors leave it.

        Raises:
            AmqpError: one refuses the message, or has failed, which is logged.
        """
        try:
            properties = decode_properties(header)
        except WireError:
            return header  # which is refused by whoever needs it
        message = Incoming(virtual_host, exchange, routing_key, user_name, properties, body)
        for plugin, interceptor in self._all:
            try:
                interceptor.incoming(message)
            except AmqpError:
                raise
            except (Exception, SystemExit) as error:
                raise plugin.failed("failed at a message", error) from error
        try:
            return encode_content_header(body_size(header), message.properties)
        except Exception as error:
            names = ", ".join([plugin.name for plugin, _ in self._all])
            raise self._all[-1][0].failed(
                f"or one before it ({names}) has left properties that are none", error
            ) from error
