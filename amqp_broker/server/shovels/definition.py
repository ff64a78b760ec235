"""The definition of a shovel, read from its parameter and checked, with RabbitMQ's texts for what is wrong (RabbitMQ
docs, "Configuring Dynamic Shovels"). Besides RabbitMQ's keys there is ``paused``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from amqp_broker.broker.erlang_text import erlang_json
from amqp_broker.broker.problems import NotValid
from amqp_broker.client.carrying import Destination, Source
from amqp_broker.client.forwarding import AckMode
from amqp_broker.client.uri import AmqpUri, BadUri, parse_uri
from amqp_broker.wire.table import Table

COMPONENT: Final = "shovel"
PREFETCH_COUNT: Final = 1000
RECONNECT_DELAY_S: Final = 5
NEVER: Final = "never"
QUEUE_LENGTH: Final = "queue-length"
NUMBERS: Final = ("prefetch-count", "src-prefetch-count", "reconnect-delay")
FLAGS: Final = ("paused", "add-forward-headers", "dest-add-forward-headers")
TEXTS: Final = (
    "src-queue", "src-exchange", "src-exchange-key", "dest-queue", "dest-exchange", "dest-exchange-key",
)  # fmt: skip
TABLES: Final = ("src-queue-args", "dest-queue-args")
OTHERS: Final = (
    "src-uri", "dest-uri", "src-protocol", "dest-protocol", "ack-mode", "delete-after", "src-delete-after",
)  # fmt: skip
KNOWN: Final = frozenset((*NUMBERS, *FLAGS, *TEXTS, *TABLES, *OTHERS))


@dataclass(frozen=True, slots=True)
class ShovelDefinition:
    """A shovel.

    Args:
        source_uris: tried one after the other, as are the destination's.
        delete_after: how many messages it carries before it goes: a number, ``queue-length`` or ``never``.
        reconnect_delay_s: after a failure; 0 ends it.
        adds_headers: whether each message tells in ``x-shovelled`` where it came along.
    """

    source_uris: tuple[AmqpUri, ...]
    destination_uris: tuple[AmqpUri, ...]
    source: Source
    destination: Destination
    mode: AckMode
    delete_after: int | str
    reconnect_delay_s: float
    adds_headers: bool
    is_paused: bool


def read_definition(name: str, value: object) -> ShovelDefinition:
    """Read and check one.

    Args:
        name: of the shovel, for the texts.

    Raises:
        NotValid: something in it is wrong.
    """
    if not isinstance(value, dict):
        raise NotValid([f"{name} should be an object, actually was {value!r}"])
    problems = _problems(name, value)
    if problems:
        raise NotValid(problems)
    return _definition(value)


def _definition(value: Mapping[str, Any]) -> ShovelDefinition:
    return ShovelDefinition(
        _uris(value["src-uri"]),
        _uris(value["dest-uri"]),
        Source(
            value.get("src-queue", ""),
            value.get("src-exchange", ""),
            value.get("src-exchange-key", ""),
            _table(value, "src-queue-args"),
            value.get("src-prefetch-count") or value.get("prefetch-count", PREFETCH_COUNT),
        ),
        Destination(
            value.get("dest-queue", ""),
            value.get("dest-exchange"),
            value.get("dest-exchange-key"),
            _table(value, "dest-queue-args"),
        ),
        AckMode(value.get("ack-mode", AckMode.ON_CONFIRM)),
        value["src-delete-after"] if "src-delete-after" in value else value.get("delete-after", NEVER),
        value.get("reconnect-delay", RECONNECT_DELAY_S),
        bool(value.get("dest-add-forward-headers", value.get("add-forward-headers", False))),
        bool(value.get("paused", False)),
    )


def _table(value: Mapping[str, Any], name: str) -> Table:
    table: Table = value.get(name, {})
    return table


def _uris(value: str | list[str]) -> tuple[AmqpUri, ...]:
    return tuple(parse_uri(one) for one in ([value] if isinstance(value, str) else value))


def _problems(name: str, value: dict[str, Any]) -> list[str]:
    problems = _end_problems(value)
    problems += [f'Key "{key}" not found in {name}' for key in ("dest-uri", "src-uri") if key not in value]
    for key in ("src-uri", "dest-uri"):
        problems += _uri_problems(key, value[key]) if key in value else []
    for kind, keys, what in ((str, TEXTS, "binary"), (bool, FLAGS, "boolean"), (dict, TABLES, "list")):
        problems += [
            f"{key} should be {what}, actually was {value[key]!r}"
            for key in keys
            if key in value and not isinstance(value[key], kind)
        ]
    problems += [
        f"{key} should be a non-negative number, actually was {value[key]!r}"
        for key in NUMBERS
        if key in value and not _is_number(value[key])
    ]
    problems += [
        f"{key} should be amqp091, actually was {value[key]}: this broker's shovels speak nothing else"
        for key in ("src-protocol", "dest-protocol")
        if value.get(key, "amqp091") != "amqp091"
    ]
    if value.get("ack-mode", AckMode.ON_CONFIRM) not in list(AckMode):
        problems.append(f"ack-mode should be one of {', '.join(AckMode)}, actually was {value['ack-mode']!r}")
    problems += _delete_after_problems(value)
    unknown = {key: value[key] for key in sorted(set(value) - KNOWN)}
    return problems + ([f"Unrecognised terms {erlang_json(unknown)} in {name}"] if unknown else [])


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 2**31


def _uri_problems(key: str, value: object) -> list[str]:
    uris = [value] if isinstance(value, str) else value
    if not isinstance(uris, list) or not uris or not all(isinstance(one, str) for one in uris):
        return [f"{key} should be an address or a list of addresses, actually was {value!r}"]
    problems = []
    for one in uris:
        try:
            parse_uri(one)
        except BadUri as error:
            problems.append(f"{key}: {error}")
    return problems


def _delete_after_problems(value: dict[str, Any]) -> list[str]:
    for key in ("src-delete-after", "delete-after"):
        limit = value.get(key, NEVER)
        if limit not in (NEVER, QUEUE_LENGTH) and not (_is_number(limit) and isinstance(limit, int)):
            return [f"{key} should be a number, {QUEUE_LENGTH} or {NEVER}, actually was {limit!r}"]
        if limit not in (NEVER, QUEUE_LENGTH) and value.get("ack-mode") == AckMode.NO_ACK:
            return ["Cannot specify 'no-ack' and numerical 'delete-after'"]  # whichever of the two keys it is
        if limit == QUEUE_LENGTH and "src-exchange" in value:
            return [f"{key} cannot be {QUEUE_LENGTH} where messages come from an exchange"]
    return []


def _end_problems(value: dict[str, Any]) -> list[str]:
    """Either a queue or an exchange at each end; at the source one of them."""
    problems = []
    if "src-queue" in value and ("src-exchange" in value or "src-exchange-key" in value):
        problems.append("Cannot specify 'src-exchange' and 'src-queue'")
    if "dest-queue" in value and ("dest-exchange" in value or "dest-exchange-key" in value):
        problems.append("Cannot specify 'dest-exchange' and 'dest-queue'")
    if "src-queue" not in value and "src-exchange" not in value:
        problems.append("Must specify 'src-exchange' or 'src-queue'")
    return problems
