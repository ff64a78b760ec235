"""The optional arguments of queues, exchanges and consumers: what is allowed, what they mean, when two sets are equal.

An argument means the same to all queue types that know it; which of them a type knows, it says itself
(``queues/traits.py``). RabbitMQ's texts name a wrong value the way Erlang prints a term, and clients match on them
(``erlang_text.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from amqp_broker.broker.erlang_text import bare, erlang_string, erlang_term
from amqp_broker.errors import AmqpError, precondition_failed
from amqp_broker.wire.table import FieldValue, Table, type_name

TTL_MS_MAX = 315_360_000_000
PRIORITY_MAX = 255

DROP_HEAD: Final = "drop-head"
REPLAY_ARGUMENT: Final = "x-replay-ms"  # which RabbitMQ does not have (``queues/past.py``)

DEDUPLICATION: Final = "x-message-deduplication"  # which RabbitMQ has by a plugin, as a policy key, too

# Of the queues of MQTT's subscriptions, in whose table it stays over restarts: whose such a queue is.
SUBSCRIPTION_ARGUMENT: Final = "x-mqtt-subscription"
OWN_SUBSCRIPTION: Final = "own"  # one client's
SHARED_SUBSCRIPTION: Final = "shared"
EARLIER_SUBSCRIPTION: Final = "earlier"  # shared, by its name: of a release that did not know the argument

QUEUE_TYPE: Final = "x-queue-type"
STREAM_SEGMENT_BYTES_MAX: Final = 3_000_000_000
DEFAULT_QUEUE_TYPE: Final = "classic"  # of a queue that is declared without one


@dataclass(frozen=True, slots=True)
class QueueArguments:
    """The arguments of a queue after they were checked and read. None where an argument is absent."""

    queue_type: str = DEFAULT_QUEUE_TYPE
    message_ttl_ms: int | None = None
    expires_ms: int | None = None
    length_max: int | None = None
    length_bytes_max: int | None = None
    overflow: str = DROP_HEAD
    dead_letter_exchange: str | None = None
    dead_letter_routing_key: str | None = None
    priority_max: int | None = None
    has_single_active_consumer: bool = False
    delivery_limit: int | None = None
    age_ms_max: int | None = None  # of a stream's entries
    replay_ms: int | None = None
    takes_once: bool = False  # each value of a header (``queues/deduplicating.py``)


NO_QUEUE_ARGUMENTS: Final = QueueArguments()  # one for all the queues that are declared without any


def _is_integer(value: FieldValue) -> bool:
    """Whether a field holds an integer of any width (a boolean and a time stamp are none)."""
    return type_name(value) in INTEGER_TYPE_NAMES


INTEGER_TYPE_NAMES = frozenset({"byte", "short", "signedint", "long", "unsignedbyte", "unsignedshort", "unsignedint"})

Check = Callable[[FieldValue, Table], str | None]
"""Takes an argument's value and all arguments, and returns what is wrong with the value, as the text after "invalid arg
... for queue ...: "; None where nothing is.
"""


def check_integer(value: FieldValue, _arguments: Table) -> str | None:
    """An integer of any width."""
    return None if _is_integer(value) else erlang_string(f"expected integer, got {type_name(value)}")


def check_not_negative(value: FieldValue, arguments: Table) -> str | None:
    """An integer from 0 on."""
    return check_integer(value, arguments) or (f"{{value_negative,{_number(value)}}}" if _number(value) < 0 else None)


def check_ttl(value: FieldValue, arguments: Table) -> str | None:
    """A duration in milliseconds, from 0 on."""
    if problem := check_not_negative(value, arguments):
        return problem
    return f"{{value_too_large,{_number(value)}}}" if _number(value) > TTL_MS_MAX else None


def check_positive_ttl(value: FieldValue, arguments: Table) -> str | None:
    """A duration in milliseconds, from 1 on."""
    if _is_integer(value) and _number(value) == 0:
        return "{value_zero,0}"
    return check_ttl(value, arguments)


def check_positive(value: FieldValue, arguments: Table) -> str | None:
    """An integer from 1 on."""
    return check_not_negative(value, arguments) or ("{value_zero,0}" if _number(value) == 0 else None)


def _check_priority_max(value: FieldValue, arguments: Table) -> str | None:
    if problem := check_not_negative(value, arguments):
        return problem
    return f"{{max_value_exceeded,{_number(value)}}}" if _number(value) > PRIORITY_MAX else None


def check_string(value: FieldValue, _arguments: Table) -> str | None:
    """A text."""
    return None if isinstance(value, str) else f"{{unacceptable_type,{type_name(value)}}}"


def check_boolean(value: FieldValue, _arguments: Table) -> str | None:
    """A boolean."""
    return None if isinstance(value, bool) else f"{{unacceptable_type,{type_name(value)}}}"


def _check_dead_letter_routing_key(value: FieldValue, arguments: Table) -> str | None:
    if problem := check_string(value, arguments):
        return problem
    return None if "x-dead-letter-exchange" in arguments else "routing_key_but_no_dlx_defined"


def one_of(allowed: Sequence[str], problem: str) -> Check:
    """One of a few texts; the problem is an atom, or a text that shows the value where its ``{}`` is."""

    def check(value: FieldValue, arguments: Table) -> str | None:
        if wrong_type := check_string(value, arguments):
            return wrong_type
        if value in allowed:
            return None
        return erlang_string(problem.format(value)) if "{}" in problem else problem

    return check


def _check_queue_version(value: FieldValue, arguments: Table) -> str | None:
    if problem := check_not_negative(value, arguments):
        return problem
    return None if value in (1, 2) else erlang_string(f"unsupported queue version '{_number(value)}'")


def _check_maximum_age(value: FieldValue, arguments: Table) -> str | None:
    if problem := check_string(value, arguments):
        return problem
    return None if is_maximum_age(str(value)) else "invalid_max_age"


def is_maximum_age(text: str) -> bool:
    """Whether a text says how old a stream's messages may become: a number and one of the units ``YMDhms``."""
    return maximum_age_ms(text) is not None


def maximum_age_ms(text: str) -> int | None:
    """The same in milliseconds; None where the text says nothing of the kind."""
    digits, unit = text[:-1].lstrip("0"), text[-1:]
    if not (digits.isascii() and digits.isdigit() and unit in AGE_UNITS_S):
        return None
    return int(digits[:AGE_DIGITS_MAX]) * AGE_UNITS_S[unit] * 1000


AGE_DIGITS_MAX: Final = 15  # who says more means for ever, and no timer waits for longer than that
AGE_UNITS_S: Final = {"Y": 31_536_000, "M": 2_592_000, "D": 86_400, "h": 3_600, "m": 60, "s": 1}
LEADER_LOCATORS = ("client-local", "balanced", "random", "least-leaders")
QUEUE_CHECKS: dict[str, Check] = {
    "x-expires": check_positive_ttl,
    "x-message-ttl": check_ttl,
    "x-dead-letter-exchange": check_string,
    "x-dead-letter-routing-key": _check_dead_letter_routing_key,
    "x-dead-letter-strategy": one_of(("at-most-once", "at-least-once"), "invalid_dlx_strategy"),
    "x-max-length": check_not_negative,
    "x-max-length-bytes": check_not_negative,
    "x-max-in-memory-length": check_not_negative,
    "x-max-in-memory-bytes": check_not_negative,
    "x-max-priority": _check_priority_max,
    "x-overflow": one_of(("drop-head", "reject-publish", "reject-publish-dlx"), "invalid_overflow"),
    "x-queue-mode": one_of(("default", "lazy"), "unsupported queue mode '{}'"),
    "x-queue-version": _check_queue_version,
    "x-single-active-consumer": check_boolean,
    "x-quorum-initial-group-size": check_positive,
    "x-max-age": _check_maximum_age,
    "x-stream-max-segment-size-bytes": check_not_negative,
    "x-initial-cluster-size": check_positive,
    "x-queue-leader-locator": one_of(LEADER_LOCATORS, "invalid_queue_locator_arg"),
    REPLAY_ARGUMENT: check_positive_ttl,
}
CONSUMER_CHECKS: dict[str, Check] = {"x-priority": check_integer, "x-cancel-on-ha-failover": check_boolean}


def queue_type_of(table: Table) -> str:
    """The name of the type that a queue is declared with."""
    return _text(table.get(QUEUE_TYPE)) or DEFAULT_QUEUE_TYPE


def read_queue_arguments(table: Table) -> QueueArguments:
    """Read arguments that were checked; what they mean to all types that know them."""
    return QueueArguments(
        queue_type=queue_type_of(table),
        message_ttl_ms=_integer(table.get("x-message-ttl")),
        expires_ms=_integer(table.get("x-expires")),
        length_max=_integer(table.get("x-max-length")),
        length_bytes_max=_integer(table.get("x-max-length-bytes")),
        overflow=_text(table.get("x-overflow")) or DROP_HEAD,
        dead_letter_exchange=_text(table.get("x-dead-letter-exchange")),
        dead_letter_routing_key=_text(table.get("x-dead-letter-routing-key")),
        priority_max=_integer(table.get("x-max-priority")) or None,
        has_single_active_consumer=table.get("x-single-active-consumer") is True,
        delivery_limit=_integer(table.get("x-delivery-limit")),
        age_ms_max=maximum_age_ms(_text(table.get("x-max-age")) or ""),
        replay_ms=_integer(table.get(REPLAY_ARGUMENT)),
        takes_once=table.get(DEDUPLICATION) is True,
    )


def priority_of(arguments: Table) -> int:
    """The priority that a consumer's arguments, which were checked, ask for."""
    return _integer(arguments.get("x-priority")) or 0


def check_values(owner: str, arguments: Table, checks: Mapping[str, Check], known: Sequence[str]) -> None:
    """Check the arguments that are known, in the order of the checks.

    Args:
        owner: whose they are, as texts name it.

    Raises:
        AmqpError: 406 that names the argument and what is wrong with it.
    """
    for name, check in checks.items():
        if name in arguments and name in known:
            problem = check(arguments[name], arguments)
            if problem is not None:
                raise precondition_failed(f"invalid arg '{name}' for {owner}: {problem}")


def refuse_foreign(owner: str, arguments: Table, foreign: frozenset[str], queue_type: str) -> None:
    """Refuse arguments that only other queue types know.

    Raises:
        AmqpError: 406 that names the first one.
    """
    for name in arguments:
        if name in foreign:
            raise precondition_failed(f"invalid arg '{name}' for {owner} of queue type rabbit_{queue_type}_queue")


def check_equivalent(resource: str, name: str, current: FieldValue, received: FieldValue) -> None:
    """Refuse a declaration whose property differs from that of what exists.

    Raises:
        AmqpError: 406 ``inequivalent arg``.
    """
    if current != received:
        raise _inequivalent(resource, name, f"'{bare(current)}'", f"'{bare(received)}'")


def check_arguments_equivalent(resource: str, names: Sequence[str], current: Table, received: Table) -> None:
    """Refuse a declaration whose arguments differ, as far as ``names`` goes.

    Values are equal when they are one term in Erlang: widths of integers and kinds of strings do not matter, nor does
    it whether a number stands for a time.

    Raises:
        AmqpError: 406 ``inequivalent arg``.
    """
    for name in names:
        if name in current and name in received:
            if erlang_term(current[name]) != erlang_term(received[name]):
                raise _inequivalent(resource, name, _shown(current[name]), _shown(received[name]))
        elif name in current or name in received:
            if name == QUEUE_TYPE and DEFAULT_QUEUE_TYPE in (current.get(name), received.get(name)):
                continue
            raise _inequivalent(resource, name, _described(current, name), _described(received, name))


def _inequivalent(resource: str, name: str, current: str, received: str) -> AmqpError:
    return precondition_failed(
        f"inequivalent arg '{name}' for {resource}: received {received} but current is {current}"
    )


def _shown(value: FieldValue) -> str:
    return "none" if value is None else f"'{bare(value)}'"


def _described(arguments: Table, name: str) -> str:
    if name not in arguments:
        return "none"
    value = arguments[name]
    return f"the value '{bare(value)}' of type '{type_name(value)}'"


def _number(value: FieldValue) -> int:
    return value if isinstance(value, int) else 0


def _integer(value: FieldValue) -> int | None:
    return int(value) if isinstance(value, int) else None


def _text(value: FieldValue) -> str | None:
    return value if isinstance(value, str) else None
