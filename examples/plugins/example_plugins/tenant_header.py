"""An interceptor: each message says who published it, in the header ``tenant``."""

from __future__ import annotations

from amqp_broker.broker.broker import Broker
from amqp_broker.broker.interceptors import Incoming
from amqp_broker.errors import precondition_failed


class TenantInterceptor:
    """Puts the user's name into each message, and refuses one that has such a header already."""

    def __init__(self, broker: Broker) -> None:
        pass

    def incoming(self, message: Incoming) -> None:
        """Change the message, or refuse it."""
        headers = message.properties.headers or {}
        if "tenant" in headers:
            raise precondition_failed("the header 'tenant' is the broker's")
        message.properties.headers = {**headers, "tenant": message.user_name}
