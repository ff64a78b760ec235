"""Addresses of sources and targets, and what they stand for, in version 2 and 1 (RabbitMQ docs, "AMQP 1.0", Addresses).

Version 2 has ``/queues/:queue``, ``/exchanges/:exchange``, ``/exchanges/:exchange/:key``, each part percent-encoded,
and no address at all; what is none of these is read as version 1, whose queues are declared where they are named.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote, unquote_to_bytes

from amqp_broker.broker.erlang_text import erlang_string, erlang_term
from amqp_broker.broker.message import Address
from amqp_broker.protocols.amqp10.errors import INVALID_FIELD, ProtocolError

NAME_BYTES_MAX: Final = 255
TOPIC_EXCHANGE: Final = "amq.topic"
DEFAULT_EXCHANGE_NAMES: Final = ("", "amq.default")
QUEUES: Final = "/queues/"
EXCHANGES: Final = "/exchanges/"
_PART: Final = re.compile(
    r"(?:[!$&'()*+,.0-9:;=@A-Z_a-z~-]|%[0-9A-Fa-f]{2})*"
)  # a segment of a URI's path (RFC 3986, 3.3)


class Node:
    """The exchange or queue that an address stands for.

    Args:
        exchange: where it publishes to; None for the one that each message names with ``to``.
        routing_key: with which key; None for the subject of each message.
        queue: that is consumed, or published to by its name; empty where there is none.
        declares: whether the queue is declared (version 1), and not only looked for.
        must_exist: whether the queue has to be there.
    """

    __slots__ = ("declares", "exchange", "must_exist", "queue", "routing_key")

    def __init__(
        self,
        exchange: str | None,
        routing_key: str | None,
        queue: str = "",
        *,
        declares: bool = False,
        must_exist: bool = False,
    ) -> None:
        self.exchange = exchange
        self.routing_key = routing_key
        self.queue = queue
        self.declares = declares
        self.must_exist = must_exist


def target_of(address: str | None) -> Node:
    """What a target's address stands for.

    Raises:
        ProtocolError: it is none.
    """
    if address is None:
        return Node(None, None)
    if address.startswith((QUEUES, EXCHANGES)):
        return target_version_2(address)
    return _version_1(address, is_source=False)


def target_version_2(address: str) -> Node:
    """The same for version 2 alone, as the ``to`` of a message has it."""
    if address.startswith(QUEUES):
        queue = _decoded(address, address[len(QUEUES) :])
        if not queue:
            raise _bad(address)
        return Node("", queue, queue, must_exist=True)
    if address.startswith(EXCHANGES):
        parts = address[len(EXCHANGES) :].split("/")
        exchange = _decoded(address, parts[0])
        if exchange in DEFAULT_EXCHANGE_NAMES or len(parts) > 2:
            raise _bad(address)
        return Node(exchange, _decoded(address, parts[1]) if len(parts) == 2 else "")
    raise _bad(address)


def source_of(address: str | None) -> Node:
    """What a source's address stands for; raises as ``target_of`` does."""
    if address is None:
        raise _rejected("{bad_address,undefined}")
    if address == QUEUES:
        return Node("", "", must_exist=True)  # there is none without a name
    if address.startswith(QUEUES):
        try:
            return target_version_2(address)
        except ProtocolError:
            said = erlang_term(address[:NAME_BYTES_MAX])
            raise _rejected(f"{{bad_address,{{utf8,{said}}}}}") from None
    if address.startswith(EXCHANGES):
        raise _unknown(address)
    return _version_1(address, is_source=True)


def _decoded(address: str, part: str) -> str:
    """A part of an address, whose percent signs are undone; what has to be encoded must be."""
    if _PART.fullmatch(part) is None:
        raise _bad(address)
    if "%" not in part:
        return _checked(address, part)
    try:
        return _checked(address, unquote_to_bytes(part).decode())
    except UnicodeDecodeError:
        raise _bad(address) from None


def _checked(address: str, name: str) -> str:
    if len(name.encode()) > NAME_BYTES_MAX:
        raise _bad(address)
    return name


def _version_1(address: str, *, is_source: bool) -> Node:
    if "/" not in address:
        return _queue(address, address)
    parts = [part.replace("%2F", "/") for part in address.split("/")]
    if parts[0]:
        raise _unknown(address)
    kind, rest = parts[1], parts[2:]
    if kind == "queue" and len(rest) == 1:
        return _queue(address, rest[0])
    if kind == "amq" and len(rest) == 2 and rest[0] == "queue":
        name = _checked(address, rest[1])
        return Node("", name, name, must_exist=True)
    if kind == "exchange" and rest and rest[0] and len(rest) <= 2:
        return Node(_checked(address, rest[0]), _key(address, rest[1:], is_source))
    if kind == "topic" and len(rest) <= 1:
        return Node(TOPIC_EXCHANGE, _key(address, rest, is_source))
    raise _unknown(address)


def _queue(address: str, name: str) -> Node:
    if not name:
        raise _unknown(address)
    name = _checked(address, name)
    return Node("", name, name, declares=True)


def _key(address: str, rest: list[str], is_source: bool) -> str | None:
    if rest and rest[0]:
        return _checked(address, rest[0])
    return "" if is_source else None


def _bad(address: str) -> ProtocolError:
    """It begins as one of version 2 does, and is none."""
    return _rejected(f"{{bad_address_string,{erlang_term(address[:NAME_BYTES_MAX])}}}")


def _unknown(address: str) -> ProtocolError:
    return _rejected(f"{{unknown_destination,{erlang_string(address[:NAME_BYTES_MAX])}}}")


def _rejected(reason: str) -> ProtocolError:
    return ProtocolError(INVALID_FIELD, f"Attach rejected: {reason}")


def address_of(address: Address) -> str:
    """The address of version 2 that a message was published to."""
    if not address.exchange:
        return f"{QUEUES}{quote_name(address.routing_key)}"
    return f"{EXCHANGES}{quote_name(address.exchange)}/{quote_name(address.routing_key)}"


def quote_name(name: str) -> str:
    """A name as a part of an address of version 2."""
    return quote(name, safe="", errors="surrogateescape")
