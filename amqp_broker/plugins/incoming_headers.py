"""Interceptors that put into a message when it came, and by which node, as RabbitMQ's two do (RabbitMQ docs, "Message
Interceptors"; ``message_interceptors.incoming``). What a message says itself is left as it is.
"""

from __future__ import annotations

from amqp_broker.broker.broker import Broker
from amqp_broker.broker.interceptors import Incoming
from amqp_broker.wire.table import FieldValue

TIMESTAMP_HEADER = "timestamp_in_ms"
NODE_HEADER = "x-routed-by"


class TimestampInterceptor:
    """Puts the time into the property ``timestamp``, in seconds, and the header ``timestamp_in_ms``."""

    def __init__(self, broker: Broker) -> None:
        self._clock = broker.clock

    def incoming(self, message: Incoming) -> None:
        now_ms = self._clock.wall_ms()
        if message.properties.timestamp is None:
            message.properties.timestamp = now_ms // 1000
        _put(message, TIMESTAMP_HEADER, now_ms)


class RoutingNodeInterceptor:
    """Puts the node's name into the header ``x-routed-by``."""

    def __init__(self, broker: Broker) -> None:
        self._name = broker.settings.node_name or broker.settings.cluster_name

    def incoming(self, message: Incoming) -> None:
        _put(message, NODE_HEADER, self._name)


def _put(message: Incoming, name: str, value: FieldValue) -> None:
    headers = message.properties.headers or {}
    message.properties.headers = {name: value, **headers}
