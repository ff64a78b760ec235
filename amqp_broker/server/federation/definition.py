"""Parameters of federation, checked and read, with RabbitMQ's texts for what is wrong (RabbitMQ docs, "Federation
Reference"). Besides RabbitMQ's keys there is ``paused``.

Of RabbitMQ's keys ``ha-policy``, ``bind-nowait`` and ``channel-use-mode`` are taken and mean nothing here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from amqp_broker.broker.erlang_text import erlang_json
from amqp_broker.broker.problems import NotValid
from amqp_broker.client.forwarding import AckMode
from amqp_broker.client.uri import AmqpUri, BadUri, parse_uri

PREFETCH_COUNT: Final = 1000
RECONNECT_DELAY_S: Final = 5
MAX_HOPS: Final = 1
KEEPS_UPSTREAM_THINGS: Final = "never"

Check = Callable[[str, object], str | None]  # takes a key and its value, returns what is wrong


@dataclass(frozen=True, slots=True)
class Upstream:
    """A broker that messages come from, as it is for one exchange or queue.

    Args:
        uris: tried one after the other.
        exchange, queue: their names there; None for the same as here.
        reconnect_delay_s: after a failure; 0 ends it.
        expires_ms, message_ttl_ms: of the queue that a federated exchange has there.
        queue_type: of that queue; None for that broker's default.
        is_cleaned_up: whether that queue goes when the exchange is federated no more.
        trusts_user_ids: whether messages keep their user ids.
    """

    name: str
    uris: tuple[AmqpUri, ...]
    exchange: str | None
    queue: str | None
    consumer_tag: str
    prefetch_count: int
    reconnect_delay_s: float
    max_hops: int
    expires_ms: int | None
    message_ttl_ms: int | None
    queue_type: str | None
    mode: AckMode
    trusts_user_ids: bool
    is_cleaned_up: bool
    is_paused: bool


def check_upstream(name: str, value: object) -> None:
    """Refuse a parameter that is no upstream.

    Raises:
        NotValid: something in it is wrong.
    """
    if not isinstance(value, dict):
        raise NotValid([f"{name} not a list {erlang_json(value)}"])
    _refuse(_problems(name, value, {"uri": _uris_problem, **SHARED}, "uri"))


def check_upstream_set(name: str, value: object) -> None:
    """Refuse a parameter that is no set of upstreams.

    Raises:
        NotValid: something in it is wrong.
    """
    if not isinstance(value, list):
        raise NotValid([f"{name} should be list, actually was {erlang_json(value)}"])
    problems = []
    for one in value:
        if isinstance(one, dict):
            problems += _problems(name, one, {"upstream": _text, "uri": _uris_problem, **SHARED}, "upstream")
        else:
            problems.append(f"{name} not a list {erlang_json(one)}")
    _refuse(problems)


def read_upstream(name: str, value: Mapping[str, Any], of_set: Mapping[str, Any]) -> Upstream:
    """An upstream that was checked.

    Args:
        of_set: what the set that names it says, which counts before what it says itself.
    """
    both = {**value, **of_set}
    uris = [both["uri"]] if isinstance(both["uri"], str) else both["uri"]
    return Upstream(
        name,
        tuple(parse_uri(one) for one in uris),
        both.get("exchange"),
        both.get("queue"),
        both.get("consumer-tag", f"federation-link-{name}"),
        int(both.get("prefetch-count", PREFETCH_COUNT)),
        both.get("reconnect-delay", RECONNECT_DELAY_S),
        int(both.get("max-hops", MAX_HOPS)),
        _whole(both, "expires"),
        _whole(both, "message-ttl"),
        both.get("queue-type"),
        AckMode(both.get("ack-mode", AckMode.ON_CONFIRM)),
        both.get("trust-user-id", False),
        both.get("resource-cleanup-mode") != KEEPS_UPSTREAM_THINGS,
        both.get("paused", False),
    )


def _whole(value: Mapping[str, Any], key: str) -> int | None:
    return int(value[key]) if key in value else None


def _refuse(problems: list[str]) -> None:
    if problems:
        raise NotValid(problems)


def _problems(name: str, value: dict[str, Any], checks: Mapping[str, Check], mandatory: str) -> list[str]:
    """In RabbitMQ's order, the last key that can be there first."""
    problems = [] if mandatory in value else [f'Key "{mandatory}" not found in {name}']
    for key, check in checks.items():
        problem = check(key, value[key]) if key in value else None
        problems += [] if problem is None else [problem]
    unknown = {key: one for key, one in value.items() if key not in checks}
    problems.reverse()
    return [f"Unrecognised terms {erlang_json(unknown)} in {name}", *problems] if unknown else problems


# --- the values


def _text(key: str, value: object) -> str | None:
    return None if isinstance(value, str) else f"{key} should be binary, actually was {erlang_json(value)}"


def _flag(key: str, value: object) -> str | None:
    return None if isinstance(value, bool) else f"{key} should be boolean, actually was {erlang_json(value)}"


def _number(largest: int) -> Check:
    def check(key: str, value: object) -> str | None:
        if not isinstance(value, int | float) or isinstance(value, bool):
            return f"{key} should be a number, actually was {erlang_json(value)}"
        if not 0 <= value <= largest:
            return f"{key} should be a number from 0 to {largest}, actually was {erlang_json(value)}"
        return None

    return check


def _one_of(*allowed: str) -> Check:
    def check(key: str, value: object) -> str | None:
        if value in allowed:
            return None
        return f"{key} should be one of {erlang_json(list(allowed))}, actually was {erlang_json(value)}"

    return lambda key, value: check(key, value) if isinstance(value, str) else _text(key, value)


def _uris_problem(key: str, value: object) -> str | None:
    uris = [value] if isinstance(value, str) else value
    if not isinstance(uris, list):
        return f"{key} should be list, actually was {erlang_json(value)}"
    if not uris:
        return f"{key} should be an address or a list of addresses, actually was []"
    for one in uris:
        try:
            if not isinstance(one, str):
                return f"{key} should be binary, actually was {erlang_json(one)}"
            parse_uri(one)
        except BadUri as error:
            return f"{key}: {error}"
    return None


MILLISECONDS_MAX: Final = 2**32 - 1  # that RabbitMQ takes for a queue's expiry
SHARED: Final[dict[str, Check]] = {
    "exchange": _text,
    "queue": _text,
    "consumer-tag": _text,
    "prefetch-count": _number(2**16 - 1),
    "reconnect-delay": _number(2**31),
    "max-hops": _number(2**31),
    "expires": _number(MILLISECONDS_MAX),
    "message-ttl": _number(MILLISECONDS_MAX),
    "trust-user-id": _flag,
    "ack-mode": _one_of("no-ack", "on-publish", "on-confirm"),
    "resource-cleanup-mode": _one_of("default", KEEPS_UPSTREAM_THINGS),
    "queue-type": _one_of("classic", "quorum"),
    "ha-policy": _text,
    "bind-nowait": _flag,
    "channel-use-mode": _one_of("multiple", "single"),
    "paused": _flag,
}
