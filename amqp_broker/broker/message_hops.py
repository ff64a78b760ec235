"""One message that is traced: where it came from, where it is, and its hops so far; so many of them, and no more.

Holds nothing of how its hops are found out (``message_traces.py``).
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Final, TypeAlias, TypedDict

from amqp_broker.wire.content import decode_properties

if TYPE_CHECKING:
    from amqp_broker.broker.message import Address

HOPS_MAX: Final = 100

Key: TypeAlias = "tuple[str, str, int, int]"  # virtual host, queue, hashes of what is around it and of the body


class Hop(TypedDict):
    """An event that happened to a message; what does not apply is None."""

    at: int  # milliseconds since 1970
    event: str  # published, refused, delivered, acknowledged, rejected, requeued, abandoned, died, dead_lettered, ...
    exchange: str | None
    routing_key: str | None
    queues: list[str] | None  # where it went from the exchange
    queue: str | None  # where it was
    consumer: str | None  # the tag; None for basic.get
    connection: str | None
    channel: int | None
    user: str | None
    redelivered: bool | None
    reason: str | None  # why it died, or went nowhere
    policy: str | None  # that set the limit at which it died


class MessageTraceInfo(TypedDict):
    """A message and its hops."""

    id: int
    vhost: str
    message_id: str | None
    correlation_id: str | None
    exchange: str
    routing_key: str
    body_bytes: int
    payload: str | None  # the beginning of the body, where bodies are kept
    payload_encoding: str | None  # string or base64
    outcome: str  # how it stands now: the states of its copies, or why it reached no queue
    reasons: list[str]  # why copies of it went nowhere
    queues: dict[str, str]  # the state in each queue that it has reached
    hops: list[Hop]
    hops_left_out: int


class MessageTrace:
    """One message that is traced."""

    __slots__ = (
        "body_bytes",
        "body_start",
        "correlation_id",
        "exchange",
        "hops",
        "hops_left_out",
        "message_id",
        "number",
        "places",
        "reasons",
        "routing_key",
        "states",
        "virtual_host",
    )

    def __init__(self, number: int, virtual_host: str, address: Address, header: bytes, body: bytes) -> None:
        properties = decode_properties(header)
        self.number = number
        self.virtual_host = virtual_host
        self.message_id = properties.message_id
        self.correlation_id = properties.correlation_id
        self.exchange = address.exchange
        self.routing_key = address.routing_key
        self.body_bytes = len(body)
        self.body_start: bytes | None = None
        self.places: dict[Key, None] = {}  # where it can be found
        self.states: dict[str, str] = {}  # by queue
        self.reasons: list[str] = []
        self.hops: list[Hop] = []
        self.hops_left_out = 0

    def add(self, hop: Hop) -> None:
        """One hop more."""
        if len(self.hops) < HOPS_MAX:
            self.hops.append(hop)
        else:
            self.hops_left_out += 1

    def describe(self) -> MessageTraceInfo:
        """All of it."""
        payload, encoding = _payload(self.body_start)
        states = list(dict.fromkeys(self.states.values())) or self.reasons[-1:]
        return {
            "id": self.number,
            "vhost": self.virtual_host,
            "message_id": self.message_id,
            "correlation_id": self.correlation_id,
            "exchange": self.exchange,
            "routing_key": self.routing_key,
            "body_bytes": self.body_bytes,
            "payload": payload,
            "payload_encoding": encoding,
            "outcome": ", ".join(states),
            "reasons": list(self.reasons),
            "queues": dict(self.states),
            "hops": list(self.hops),
            "hops_left_out": self.hops_left_out,
        }


def _payload(start: bytes | None) -> tuple[str | None, str | None]:
    if start is None:
        return None, None
    try:
        return start.decode(), "string"
    except UnicodeDecodeError:
        return base64.b64encode(start).decode(), "base64"
