"""Messages as a test gets to see them: plain values, made when they are asked for or published.

Holds the record of what was published, bounded in number and bytes, and the explanation why a message went nowhere.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from amqp_broker.broker.exchanges.exchange import Exchange
from amqp_broker.broker.host import Host
from amqp_broker.broker.message import Address
from amqp_broker.broker.message import Message as HeldMessage
from amqp_broker.broker.virtual_host import VirtualHost
from amqp_broker.wire.content import Properties, decode_properties
from amqp_broker.wire.table import Table

REMEMBERED_BYTES_MAX = 67_108_864
UNROUTED_MAX = 10
KEYS_SHOWN_MAX = 5


@dataclass(frozen=True, kw_only=True)
class Message:
    """A message, as its consumer would get it."""

    body: bytes
    exchange: str
    routing_key: str
    properties: Properties
    redelivered: bool = False

    @property
    def headers(self) -> Table:
        """The headers; empty when there are none."""
        return self.properties.headers or {}

    @property
    def text(self) -> str:
        """The body as UTF-8."""
        return self.body.decode()

    def json(self) -> Any:
        """The body, read as JSON."""
        return json.loads(self.body)


@dataclass(frozen=True, kw_only=True)
class Published(Message):
    """A message on its way through an exchange: a client's publish, or a dead letter.

    ``queues`` are the names of those that took it. Where there is none, ``reason`` says why in words.
    """

    queues: tuple[str, ...]
    reason: str = ""
    died_in: str | None = None  # the queue that a dead letter comes from
    death_reason: str | None = None  # rejected, expired, maxlen or delivery_limit

    @property
    def was_routed(self) -> bool:
        """Whether any queue took it."""
        return bool(self.queues)


def message_seen(message: HeldMessage, header: bytes | None = None) -> Message:
    """A message that a queue holds, for a test to look at.

    Args:
        header: the content header that a consumer would get; the message's own when left out.
    """
    return Message(
        body=message.body,
        exchange=message.address.exchange,
        routing_key=message.address.routing_key,
        properties=decode_properties(message.header if header is None else header),
        redelivered=message.redelivered,
    )


class RecentMessages:
    """The last messages of one virtual host, the oldest first.

    Args:
        count_max: how many are remembered at most.
    """

    def __init__(self, count_max: int) -> None:
        self._entries: deque[Published] = deque()
        self._count_max = count_max
        self._bytes = 0

    def add(self, entry: Published) -> None:
        """Remember one more, and forget the oldest where there are too many."""
        self._entries.append(entry)
        self._bytes += len(entry.body)
        while len(self._entries) > self._count_max or (self._bytes > REMEMBERED_BYTES_MAX and len(self._entries) > 1):
            self._bytes -= len(self._entries.popleft().body)

    def __iter__(self) -> Iterator[Published]:
        return iter(self._entries)


class Unrouted:
    """The publishes of one virtual host that reached no queue: all are counted, the first are kept."""

    def __init__(self) -> None:
        self.count = 0
        self.first: list[Published] = []

    def add(self, entry: Published) -> None:
        """One more."""
        self.count += 1
        if len(self.first) < UNROUTED_MAX:
            self.first.append(entry)


def published(
    address: Address,
    header: bytes,
    body: bytes,
    queues: tuple[str, ...],
    reason: str,
    *,
    died_in: str | None = None,
    death_reason: str | None = None,
) -> Published:
    """The record of one publish, or of one dead letter."""
    return Published(
        body=body,
        exchange=address.exchange,
        routing_key=address.routing_key,
        properties=decode_properties(header),
        queues=queues,
        reason=reason,
        died_in=died_in,
        death_reason=death_reason,
    )


def why_nowhere(virtual_host: Host, exchange_name: str, routing_key: str) -> str:
    """Why a message that was published like this reached no queue."""
    if not exchange_name:
        return f"there is no queue '{routing_key}'"
    assert isinstance(virtual_host, VirtualHost)
    exchange = virtual_host.exchanges.get(exchange_name)
    if exchange is None:
        return f"there is no exchange '{exchange_name}'"
    if not exchange.bindings:
        return f"nothing is bound to {exchange.type_name} exchange '{exchange_name}'" + _alternate(exchange)
    if exchange.type_name == "headers":
        unmet = "the headers match none of its bindings"
    elif _leads_on(exchange):
        unmet = f"routing key '{routing_key}' leads through it to no queue"
    else:
        keys = sorted({binding.routing_key for binding in exchange.bindings.values()})
        shown = ", ".join(f"'{key}'" for key in keys[:KEYS_SHOWN_MAX])
        more = f" and {len(keys) - KEYS_SHOWN_MAX} more" if len(keys) > KEYS_SHOWN_MAX else ""
        unmet = f"routing key '{routing_key}' matches none of its bindings ({shown}{more})"
    return f"{exchange.type_name} exchange '{exchange_name}': {unmet}" + _alternate(exchange)


def _leads_on(exchange: Exchange) -> bool:
    return any(not binding.is_to_queue for binding in exchange.bindings.values())


def _alternate(exchange: Exchange) -> str:
    return f", nor did its alternate exchange '{exchange.alternate}' know better" if exchange.alternate else ""
