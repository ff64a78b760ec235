"""Names of exchanges and queues: which of them are the broker's own, and those that it makes up. Names of nodes."""

from __future__ import annotations

import base64
import secrets
from typing import Final

from amqp_broker.errors import access_refused

DEFAULT_EXCHANGE: Final = ""
RESERVED_PREFIX: Final = "amq."
PREDECLARED_EXCHANGES: Final = {  # with their types
    DEFAULT_EXCHANGE: "direct",
    "amq.direct": "direct",
    "amq.fanout": "fanout",
    "amq.topic": "topic",
    "amq.headers": "headers",
    "amq.match": "headers",
    "amq.rabbitmq.trace": "topic",
}


def node_of(name: str) -> str:
    """What a node is called, as RabbitMQ calls one.

    Args:
        name: its own; empty where it is the only one.
    """
    return f"rabbit@{name or 'localhost'}"


def without_line_breaks(name: str) -> str:
    """RabbitMQ drops line breaks from the names that clients send."""
    return name.replace("\r", "").replace("\n", "") if "\n" in name or "\r" in name else name


def check_not_default_exchange(name: str) -> None:
    """Refuse what nobody may do to the default exchange.

    Raises:
        AmqpError: 403.
    """
    if name == DEFAULT_EXCHANGE:
        raise access_refused("operation not permitted on the default exchange")


def check_not_reserved(kind: str, name: str) -> None:
    """Refuse to create what has one of the broker's own names.

    Raises:
        AmqpError: 403.
    """
    if name.startswith(RESERVED_PREFIX):
        raise access_refused(f"{kind} name '{name}' contains reserved prefix 'amq.*'")


def generated_name(prefix: str) -> str:
    """A name that nobody has: the prefix, a hyphen and 128 random bits in base 64 for URLs."""
    return f"{prefix}-{base64.urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip('=')}"
