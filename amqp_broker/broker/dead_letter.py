"""Dead letters, messages that have died in a queue: its ``x-death`` history, its new address, where it must not go.

Holds the making of the dead-lettered message only; a queue decides that a message dies, and the virtual host routes
the result. (RabbitMQ docs, "Dead Letter Exchanges".)
"""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from typing import Final

from amqp_broker.behaviour import Behaviour
from amqp_broker.broker.erlang_text import erlang_term
from amqp_broker.broker.message import Address, Message, carried_key
from amqp_broker.wire.content import decode_properties, encode_content_header
from amqp_broker.wire.hot import encode_address
from amqp_broker.wire.table import FieldValue, Table, Timestamp

COUNT_MAX: Final = 0x7FFF_FFFF_FFFF_FFFF  # of a table
DEATH_FIELDS = ("count", "reason", "queue", "time", "exchange", "routing-keys")


class DeathReason(StrEnum):
    """The reason why a message left its queue without being consumed."""

    REJECTED = "rejected"
    EXPIRED = "expired"
    MAXLEN = "maxlen"
    DELIVERY_LIMIT = "delivery_limit"
    DUPLICATE = "duplicate"  # the queue takes a value once at a time; it goes to no dead-letter exchange


DEATH_REASONS = frozenset(str(reason) for reason in DeathReason) - {"duplicate"}  # as they stand in x-death


def dead_lettered(
    message: Message,
    reason: DeathReason,
    queue: str,
    exchange: str,
    routing_key: str | None,
    wall_ms: int,
    behaviour: Behaviour,
) -> tuple[Message, Table]:
    """Make the message that goes to the dead-letter exchange.

    Args:
        message: the one that died.
        reason: why.
        queue: the name of the queue it died in.
        exchange: the dead-letter exchange.
        routing_key: the queue's dead-letter routing key; None keeps the message's own keys, CC and BCC included.
        wall_ms: now, in milliseconds since 1970.
        behaviour: which history is kept.

    Returns:
        The new message, and its headers.
    """
    properties = decode_properties(message.header)
    headers: Table = dict(properties.headers or {})
    death = _death(message.address, reason, queue, wall_ms // 1000, behaviour, headers.get("CC"))
    if behaviour.deaths_have_last_headers:
        if properties.expiration is not None:
            death = {"original-expiration": str(int(properties.expiration)), **death}
        is_read = behaviour.reads_deaths_of_clients or message.address.is_dead_letter
        _record_death(headers, death, _read(headers.get("x-death")) if is_read else None)
    else:
        if properties.expiration is not None:
            death["original-expiration"] = properties.expiration
        _record_death_like_3_10(headers, death)
    extra_routing_keys = message.address.extra_routing_keys
    if routing_key is None:
        routing_key = message.address.routing_key
    else:
        extra_routing_keys = ()
        if not behaviour.deaths_have_last_headers:
            headers.pop("CC", None)
    headers = dict(sorted(headers.items()))
    header = encode_content_header(len(message.body), replace(properties, headers=headers, expiration=None))
    carried = carried_key(routing_key)
    address = Address(exchange, carried, encode_address(exchange, carried), extra_routing_keys, True)
    return Message(address, header, message.body, message.is_persistent, message.priority), headers


def _death(
    address: Address, reason: DeathReason, queue: str, time_s: int, behaviour: Behaviour, carbon_copies: FieldValue
) -> Table:
    """An entry of the history, with its fields in their order."""
    if behaviour.deaths_have_last_headers and not address.extra_routing_keys:
        carbon_copies = None  # they were read by a dead-letter exchange that has a routing key
    copies = carbon_copies if isinstance(carbon_copies, list) else ()  # what else is there may be nested too deep here
    return {
        "count": 1,
        "reason": str(reason),
        "queue": queue,
        "time": Timestamp(time_s),
        "exchange": address.exchange,
        "routing-keys": [address.routing_key, *[key for key in copies if isinstance(key, str)]],
    }


def _record_death(headers: Table, death: Table, deaths: list[Table] | None) -> None:
    """Add this death to the headers' history, None for none yet (RabbitMQ from 3.13 on, mc:record_death/4)."""
    if deaths is None:
        deaths = []
        headers["x-first-death-reason"] = death["reason"]
        headers["x-first-death-queue"] = death["queue"]
        headers["x-first-death-exchange"] = death["exchange"]
    headers["x-last-death-reason"] = death["reason"]
    headers["x-last-death-queue"] = death["queue"]
    headers["x-last-death-exchange"] = death["exchange"]
    entry = death
    for earlier in deaths:
        count = earlier["count"]
        if earlier["queue"] == death["queue"] and earlier["reason"] == death["reason"] and isinstance(count, int):
            entry = {**earlier, "count": _one_more(int(count))}
            deaths.remove(earlier)
            break
    headers["x-death"] = [entry, *deaths]


def _read(history: FieldValue) -> list[Table] | None:
    """What the header holds of a history; None where it is no history. Entries that lack something are left out."""
    if not isinstance(history, list):
        return None
    return [
        {name: entry[name] for name in ("original-expiration", *DEATH_FIELDS) if name in entry}
        for entry in history
        if isinstance(entry, dict) and _is_whole(entry)
    ]


def _is_whole(entry: Table) -> bool:
    if not all(name in entry for name in DEATH_FIELDS):
        return False
    is_counted = isinstance(entry["count"], int) and isinstance(entry["time"], int)
    reason = entry["reason"]
    return is_counted and isinstance(reason, str) and reason in DEATH_REASONS


def _record_death_like_3_10(headers: Table, death: Table) -> None:
    """Add this death to the headers' history: a new entry in front, or one more on the count of an entry alike."""
    history = headers.get("x-death")
    if isinstance(history, list):
        headers["x-death"] = _with_death(history, death)
        return
    if "x-death" not in headers:  # what a client sent in its place is replaced and leaves nothing else behind
        headers["x-first-death-reason"] = death["reason"]
        headers["x-first-death-queue"] = death["queue"]
        headers["x-first-death-exchange"] = death["exchange"]
    headers["x-death"] = [death]


def _with_death(history: list[FieldValue], death: Table) -> list[FieldValue]:
    """The history with one death more: in front, as an entry of its own or as one more on the count of its like."""
    entries = _grouped(history)
    alike = [entry for entry in entries if _kind(entry) == _kind(death)]
    if alike:
        count = alike[0].get("count")
        death = {**alike[0], "count": _one_more(count) if isinstance(count, int) else 1}
    return [dict(sorted(death.items())), *(entry for entry in entries if entry not in alike)]


def _grouped(history: list[FieldValue]) -> list[Table]:
    """The history's tables, one for each queue and reason (clients and old brokers may have sent several).

    Where there are several, RabbitMQ reverses them at each death, so only the newest one has its place for certain.
    """
    entries = [entry for entry in history if isinstance(entry, dict)]
    if len(entries) < 2:
        return entries
    groups: dict[str, list[Table]] = {}
    for entry in entries:
        groups.setdefault(_kind(entry), []).append(entry)
    first_ones = [group[0] if "count" in group[0] else {"count": len(group), **group[0]} for group in groups.values()]
    return first_ones[::-1]


def _one_more(count: int) -> int:
    """A count that goes up, as far as a table has room: it may be any client's own."""
    return min(count, COUNT_MAX - 1) + 1


def _kind(death: Table) -> str:
    """What makes two deaths alike: the queue and the reason."""
    return f"{erlang_term(death.get('queue'))} {erlang_term(death.get('reason'))}"


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
