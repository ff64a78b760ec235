"""What becomes of a message when it dies in a queue: its ``x-death`` history, its new address, where it must not go.

Holds the making of the dead-lettered message only; a queue decides that a message dies, and the virtual host routes
the result. (RabbitMQ docs, "Dead Letter Exchanges".)
"""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum

from amqp_broker.broker.message import Address, Message
from amqp_broker.wire.content import decode_properties, encode_content_header
from amqp_broker.wire.hot import encode_address
from amqp_broker.wire.table import FieldValue, Table, Timestamp


class DeathReason(StrEnum):
    """Why a message left its queue without being consumed."""

    REJECTED = "rejected"
    EXPIRED = "expired"
    MAXLEN = "maxlen"
    DELIVERY_LIMIT = "delivery_limit"


def dead_lettered(
    message: Message, reason: DeathReason, queue: str, exchange: str, routing_key: str | None, wall_ms: int
) -> tuple[Message, Table]:
    """Make the message that goes to the dead-letter exchange.

    Args:
        message: the one that died.
        reason: why.
        queue: the name of the queue it died in.
        exchange: the dead-letter exchange.
        routing_key: the queue's dead-letter routing key; None keeps the message's own keys, CC and BCC included.
        wall_ms: now, in milliseconds since 1970.

    Returns:
        The new message, and its headers.
    """
    properties = decode_properties(message.header)
    headers: Table = dict(properties.headers or {})
    _record_death(headers, message.address, reason, queue, properties.expiration, wall_ms // 1000)
    extra_routing_keys = message.address.extra_routing_keys
    if routing_key is None:
        routing_key = message.address.routing_key
    else:
        extra_routing_keys = ()
        headers.pop("CC", None)
    headers = dict(sorted(headers.items()))
    header = encode_content_header(len(message.body), replace(properties, headers=headers, expiration=None))
    address = Address(exchange, routing_key, encode_address(exchange, routing_key), extra_routing_keys)
    return Message(address, header, message.body, message.is_persistent, message.priority), headers


def _record_death(
    headers: Table, address: Address, reason: DeathReason, queue: str, expiration: str | None, time_s: int
) -> None:
    """Add this death to the headers' history: a new entry in front, or one more on the count of an entry alike."""
    carbon_copies = headers.get("CC")
    death: Table = {
        "count": 1,
        "reason": str(reason),
        "queue": queue,
        "time": Timestamp(time_s),
        "exchange": address.exchange,
        "routing-keys": [address.routing_key, *(carbon_copies if isinstance(carbon_copies, list) else ())],
    }
    if expiration is not None:
        death["original-expiration"] = expiration
    history = headers.get("x-death")
    if "x-death" not in headers:
        headers["x-first-death-reason"] = str(reason)
        headers["x-first-death-queue"] = queue
        headers["x-first-death-exchange"] = address.exchange
        headers["x-death"] = [death]
        return
    if not isinstance(history, list):
        headers["x-death"] = [death]
        return
    entries = _grouped(history)
    earlier = next((entry for entry in entries if entry.get("queue") == queue and entry.get("reason") == reason), None)
    if earlier is not None:
        entries.remove(earlier)
        count = earlier.get("count")
        death = {**earlier, "count": (count if isinstance(count, int) else 0) + 1}
    headers["x-death"] = [dict(sorted(death.items())), *entries]


def _grouped(history: list[FieldValue]) -> list[Table]:
    """The history's tables, one for each queue and reason (a client may have sent several)."""
    grouped: dict[tuple[object, object], Table] = {}
    for entry in history:
        if isinstance(entry, dict):
            key = (str(entry.get("queue")), str(entry.get("reason")))
            if key in grouped:
                continue
            alike = [e for e in history if isinstance(e, dict) and (str(e.get("queue")), str(e.get("reason"))) == key]
            grouped[key] = entry if "count" in entry else {"count": len(alike), **entry}
    return list(grouped.values())


def would_cycle(queue: str, reason: DeathReason, headers: Table) -> bool:
    """Whether a dead letter would go round for ever in this queue: it died there before, nobody rejected it since.

    Args:
        queue: the queue it is about to enter.
        reason: of the present death; a rejection is somebody's decision and never a cycle.
        headers: of the dead-lettered message.
    """
    history = headers.get("x-death")
    if reason is DeathReason.REJECTED or not isinstance(history, list):
        return False
    for entry in history:
        if not isinstance(entry, dict) or entry.get("reason") == DeathReason.REJECTED:
            return False
        if entry.get("queue") == queue:
            return True
    return False
