"""The destinations of SEND and SUBSCRIBE in terms of AMQP (RabbitMQ docs, "STOMP Plugin", Destinations)."""

from __future__ import annotations

import base64
import hashlib
from typing import Final

from amqp_broker.broker.message import Address
from amqp_broker.protocols.stomp.errors import StompError

EXCHANGE: Final = "exchange"
QUEUE: Final = "queue"
TOPIC: Final = "topic"
TEMP_QUEUE: Final = "temp-queue"
AMQ_QUEUE: Final = "amq/queue"
REPLY_QUEUE: Final = "reply-queue"
TOPIC_EXCHANGE: Final = "amq.topic"
TEMP_QUEUE_PREFIX: Final = "/temp-queue/"
REPLY_QUEUE_PREFIX: Final = "/reply-queue/"
NAME_BYTES_MAX: Final = 255  # of a queue, an exchange or a routing key
KNOWN_PREFIXES: Final = ("/temp-queue", "/exchange", "/topic", "/queue", "/amq/queue", REPLY_QUEUE_PREFIX)


class Destination:
    """The exchange and routing key that the path of a destination stands for.

    Args:
        kind: one of the constants above.
        exchange: where it publishes to; empty for the default exchange.
        routing_key: with which key.
    """

    __slots__ = ("exchange", "kind", "routing_key")

    def __init__(self, kind: str, exchange: str, routing_key: str) -> None:
        self.kind = kind
        self.exchange = exchange
        self.routing_key = routing_key

    @property
    def has_queue_of_its_own(self) -> bool:
        """Whether each subscription gets a queue of its own, which is bound."""
        return self.kind in (EXCHANGE, TOPIC)


def parse_destination(path: str) -> Destination:
    """Read a destination.

    Raises:
        StompError: it is none.
    """
    parts = path.split("/")
    if not path:
        raise StompError("Invalid destination", "Destination cannot be blank")
    if len(parts) == 1:
        return Destination(QUEUE, "", unescape(path))
    if parts[0]:
        raise _unknown(path)
    if path.startswith(REPLY_QUEUE_PREFIX):  # these names may have slashes
        return Destination(REPLY_QUEUE, "", unescape(path.removeprefix(REPLY_QUEUE_PREFIX)))
    if parts[1:3] == ["amq", "queue"]:
        return Destination(AMQ_QUEUE, "", _only_name("amqqueue", parts[3:]))
    kind, rest = parts[1], parts[2:]
    if kind == EXCHANGE:
        if not rest or not rest[0] or len(rest) > 2:
            raise _invalid(kind, rest)
        return Destination(kind, unescape(rest[0]), unescape(rest[1]) if len(rest) == 2 else "")
    if kind == TOPIC:
        return Destination(kind, TOPIC_EXCHANGE, _only_name(kind, rest))
    if kind in (QUEUE, TEMP_QUEUE):
        return Destination(kind, "", _only_name(kind.replace("-", "_"), rest))
    raise _unknown(path)


def _only_name(kind: str, parts: list[str]) -> str:
    if len(parts) != 1 or not parts[0]:
        raise _invalid(kind, parts)
    return unescape(parts[0])


def _invalid(kind: str, parts: list[str]) -> StompError:
    said = "".join([f"/{part}" for part in parts])
    return StompError("Invalid destination", f"'{said}' is not a valid {kind} destination\n")


def _unknown(path: str) -> StompError:
    kinds = ", ".join(KNOWN_PREFIXES)
    return StompError(
        "Unknown destination", f"'{path}' is not a valid destination.\nValid destination types are: {kinds}.\n"
    )


def unescape(name: str) -> str:
    """A name in a path may have slashes as ``%2F``; nothing else is undone, as with RabbitMQ.

    Raises:
        StompError: it is longer than a name may be.
    """
    found = name.replace("%2F", "/")
    if len(found.encode("utf-8", "surrogateescape")) > NAME_BYTES_MAX:
        raise StompError("Invalid destination", f"A destination with a name of more than {NAME_BYTES_MAX} bytes\n")
    return found


def destination_of(address: Address) -> str:
    """The path that a message was published to, as MESSAGE says it."""
    key = _escape(address.routing_key)
    if not address.exchange:
        return f"/queue/{key}"
    if address.exchange == TOPIC_EXCHANGE:
        return f"/topic/{key}"
    exchange = _escape(address.exchange)
    return f"/exchange/{exchange}/{key}" if key else f"/exchange/{exchange}"


def _escape(name: str) -> str:
    data = name.encode("utf-8", "surrogateescape")
    if name.isascii() and name.isprintable() and "/" not in name and "%" not in name:
        return name
    return "".join([chr(one) if 32 <= one <= 127 and one not in b"/%" else f"%{one:02X}" for one in data])


def durable_queue_name(routing_key: str, subscription_id: str) -> str:
    """The name of a durable subscription's queue: RabbitMQ's, so that who moves from there finds it.

    That is the MD5 digest of an Erlang term, the pair of the two as strings.
    """
    term = b"\x83h\x02" + _erlang_string(routing_key) + _erlang_string(subscription_id)
    digest = hashlib.md5(term, usedforsecurity=False).digest()
    return f"stomp-subscription-{base64.urlsafe_b64encode(digest).decode().rstrip('=')}"


def _erlang_string(text: str) -> bytes:
    data = text.encode("utf-8", "surrogateescape")
    return b"k" + len(data).to_bytes(2, "big") + data if data else b"j"
