"""The optional arguments of queues, exchanges and consumers: what is allowed, what they mean, when two sets are equal.

RabbitMQ's texts name a wrong value the way Erlang prints a term, and clients match on them (``erlang_text.py``). Each
queue type knows a set of arguments: those are checked and compared, an argument that
only another type knows is refused, and any other is kept and ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from amqp_broker.behaviour import Behaviour
from amqp_broker.broker.erlang_text import bare, erlang_string, erlang_term
from amqp_broker.errors import AmqpError, precondition_failed
from amqp_broker.wire.table import FieldValue, Table, type_name

TTL_MS_MAX = 315_360_000_000
PRIORITY_MAX = 255

REPLAY_ARGUMENT: Final = "x-replay-ms"  # which RabbitMQ does not have (``queues/past.py``)

CLASSIC_ARGUMENTS = (
    "x-expires",
    "x-message-ttl",
    "x-dead-letter-exchange",
    "x-dead-letter-routing-key",
    "x-max-length",
    "x-max-length-bytes",
    "x-max-priority",
    "x-overflow",
    "x-queue-mode",
    "x-queue-version",
    "x-single-active-consumer",
    "x-queue-type",
    "x-queue-master-locator",
    REPLAY_ARGUMENT,
)
QUORUM_ARGUMENTS = (
    "x-dead-letter-exchange",
    "x-dead-letter-routing-key",
    "x-dead-letter-strategy",
    "x-expires",
    "x-max-length",
    "x-max-length-bytes",
    "x-max-in-memory-length",
    "x-max-in-memory-bytes",
    "x-overflow",
    "x-single-active-consumer",
    "x-queue-type",
    "x-quorum-initial-group-size",
    "x-delivery-limit",
    "x-message-ttl",
    "x-queue-leader-locator",
    REPLAY_ARGUMENT,
)
STREAM_ARGUMENTS = (
    "x-max-length-bytes",
    "x-queue-type",
    "x-max-age",
    "x-stream-max-segment-size-bytes",
    "x-initial-cluster-size",
    "x-queue-leader-locator",
)
ARGUMENTS_OF_TYPE = {"classic": CLASSIC_ARGUMENTS, "quorum": QUORUM_ARGUMENTS, "stream": STREAM_ARGUMENTS}
ALL_QUEUE_ARGUMENTS = frozenset(CLASSIC_ARGUMENTS + QUORUM_ARGUMENTS + STREAM_ARGUMENTS)


@dataclass(frozen=True, slots=True)
class QueueArguments:
    """What a queue's arguments ask for, after they were checked. None where an argument is absent."""

    queue_type: str = "classic"
    message_ttl_ms: int | None = None
    expires_ms: int | None = None
    length_max: int | None = None
    length_bytes_max: int | None = None
    overflow: str = "drop-head"
    dead_letter_exchange: str | None = None
    dead_letter_routing_key: str | None = None
    priority_max: int | None = None
    has_single_active_consumer: bool = False
    delivery_limit: int | None = None
    age_ms_max: int | None = None  # of a stream's entries
    replay_ms: int | None = None


NO_QUEUE_ARGUMENTS: Final = QueueArguments()  # one for all the queues that are declared without any


def _is_integer(value: FieldValue) -> bool:
    """Whether a field holds an integer of any width (a boolean and a time stamp are none)."""
    return type_name(value) in INTEGER_TYPE_NAMES


INTEGER_TYPE_NAMES = frozenset({"byte", "short", "signedint", "long", "unsignedbyte", "unsignedshort", "unsignedint"})

# What is wrong with a value, as the text after "invalid arg ... for queue ...: "; None where nothing is.
Check = Callable[[FieldValue, Table], str | None]


def _check_integer(value: FieldValue, _arguments: Table) -> str | None:
    return None if _is_integer(value) else erlang_string(f"expected integer, got {type_name(value)}")


def _check_not_negative(value: FieldValue, arguments: Table) -> str | None:
    return _check_integer(value, arguments) or (f"{{value_negative,{_number(value)}}}" if _number(value) < 0 else None)


def _check_ttl(value: FieldValue, arguments: Table) -> str | None:
    if problem := _check_not_negative(value, arguments):
        return problem
    return f"{{value_too_large,{_number(value)}}}" if _number(value) > TTL_MS_MAX else None


def _check_positive_ttl(value: FieldValue, arguments: Table) -> str | None:
    if _is_integer(value) and _number(value) == 0:
        return "{value_zero,0}"
    return _check_ttl(value, arguments)


def _check_positive(value: FieldValue, arguments: Table) -> str | None:
    return _check_not_negative(value, arguments) or ("{value_zero,0}" if _number(value) == 0 else None)


def _check_priority_max(value: FieldValue, arguments: Table) -> str | None:
    if problem := _check_not_negative(value, arguments):
        return problem
    return f"{{max_value_exceeded,{_number(value)}}}" if _number(value) > PRIORITY_MAX else None


def _check_string(value: FieldValue, _arguments: Table) -> str | None:
    return None if isinstance(value, str) else f"{{unacceptable_type,{type_name(value)}}}"


def _check_boolean(value: FieldValue, _arguments: Table) -> str | None:
    return None if isinstance(value, bool) else f"{{unacceptable_type,{type_name(value)}}}"


def _check_dead_letter_routing_key(value: FieldValue, arguments: Table) -> str | None:
    if problem := _check_string(value, arguments):
        return problem
    return None if "x-dead-letter-exchange" in arguments else "routing_key_but_no_dlx_defined"


def _one_of(allowed: Sequence[str], problem: str) -> Check:
    """A check for one of a few texts; the problem is an atom, or a text that shows the value where its ``{}`` is."""

    def check(value: FieldValue, arguments: Table) -> str | None:
        if wrong_type := _check_string(value, arguments):
            return wrong_type
        if value in allowed:
            return None
        return erlang_string(problem.format(value)) if "{}" in problem else problem

    return check


def _check_queue_version(value: FieldValue, arguments: Table) -> str | None:
    if problem := _check_not_negative(value, arguments):
        return problem
    return None if value in (1, 2) else erlang_string(f"unsupported queue version '{_number(value)}'")


def _check_maximum_age(value: FieldValue, arguments: Table) -> str | None:
    if problem := _check_string(value, arguments):
        return problem
    return None if is_maximum_age(str(value)) else "invalid_max_age"


def is_maximum_age(text: str) -> bool:
    """Whether a text says how old a stream's messages may become: a number and one of the units ``YMDhms``."""
    return maximum_age_ms(text) is not None


def maximum_age_ms(text: str) -> int | None:
    """The same in milliseconds; None where the text says nothing of the kind."""
    digits, unit = text[:-1], text[-1:]
    if not (digits.isascii() and digits.isdigit() and int(digits) > 0 and unit in AGE_UNITS_S):
        return None
    return int(digits) * AGE_UNITS_S[unit] * 1000


AGE_UNITS_S: Final = {"Y": 31_536_000, "M": 2_592_000, "D": 86_400, "h": 3_600, "m": 60, "s": 1}
LEADER_LOCATORS = ("client-local", "balanced", "random", "least-leaders")
QUEUE_CHECKS: dict[str, Check] = {
    "x-expires": _check_positive_ttl,
    "x-message-ttl": _check_ttl,
    "x-dead-letter-exchange": _check_string,
    "x-dead-letter-routing-key": _check_dead_letter_routing_key,
    "x-dead-letter-strategy": _one_of(("at-most-once", "at-least-once"), "invalid_dlx_strategy"),
    "x-max-length": _check_not_negative,
    "x-max-length-bytes": _check_not_negative,
    "x-max-in-memory-length": _check_not_negative,
    "x-max-in-memory-bytes": _check_not_negative,
    "x-max-priority": _check_priority_max,
    "x-overflow": _one_of(("drop-head", "reject-publish", "reject-publish-dlx"), "invalid_overflow"),
    "x-queue-mode": _one_of(("default", "lazy"), "unsupported queue mode '{}'"),
    "x-queue-version": _check_queue_version,
    "x-single-active-consumer": _check_boolean,
    "x-queue-type": _one_of(("classic", "quorum", "stream"), "unsupported queue type '{}'"),
    "x-quorum-initial-group-size": _check_positive,
    "x-max-age": _check_maximum_age,
    "x-stream-max-segment-size-bytes": _check_not_negative,
    "x-initial-cluster-size": _check_positive,
    "x-queue-leader-locator": _one_of(LEADER_LOCATORS, "invalid_queue_locator_arg"),
    REPLAY_ARGUMENT: _check_positive_ttl,
}
CONSUMER_CHECKS: dict[str, Check] = {"x-priority": _check_integer, "x-cancel-on-ha-failover": _check_boolean}
CONSUMER_ARGUMENTS_OF_TYPE = {
    "classic": ("x-cancel-on-ha-failover", "x-priority", "x-credit"),
    "quorum": ("x-priority", "x-credit"),
    "stream": ("x-credit", "x-stream-offset"),
}
ALL_CONSUMER_ARGUMENTS = frozenset({"x-cancel-on-ha-failover", "x-priority", "x-credit", "x-stream-offset"})


def check_queue_arguments(queue: str, arguments: Table, behaviour: Behaviour) -> QueueArguments:
    """Check a queue's arguments and read them.

    Args:
        queue: the queue as texts name it: ``queue 'q' in vhost '/'``.
        arguments: as declared.
        behaviour: what limits are there without an argument.

    Raises:
        AmqpError: 406 that names the argument and what is wrong with it.
    """
    if not arguments:
        return NO_QUEUE_ARGUMENTS
    _check_values(queue, arguments, QUEUE_CHECKS, ("x-queue-type",))
    queue_type = _text(arguments.get("x-queue-type")) or "classic"
    known = ARGUMENTS_OF_TYPE[queue_type]
    _check_values(queue, arguments, QUEUE_CHECKS, known)
    _refuse_foreign(queue, arguments, ALL_QUEUE_ARGUMENTS.difference(known), queue_type)
    return QueueArguments(
        queue_type=queue_type,
        message_ttl_ms=_integer(arguments.get("x-message-ttl")),
        expires_ms=_integer(arguments.get("x-expires")),
        length_max=_integer(arguments.get("x-max-length")),
        length_bytes_max=_integer(arguments.get("x-max-length-bytes")),
        overflow=overflow_in_force(_text(arguments.get("x-overflow")), queue_type),
        dead_letter_exchange=_text(arguments.get("x-dead-letter-exchange")),
        dead_letter_routing_key=_text(arguments.get("x-dead-letter-routing-key")),
        priority_max=_integer(arguments.get("x-max-priority")) or None,
        has_single_active_consumer=arguments.get("x-single-active-consumer") is True,
        delivery_limit=_delivery_limit(arguments, behaviour) if queue_type == "quorum" else None,
        age_ms_max=maximum_age_ms(_text(arguments.get("x-max-age")) or ""),
        replay_ms=_integer(arguments.get(REPLAY_ARGUMENT)),
    )


def _delivery_limit(arguments: Table, behaviour: Behaviour) -> int | None:
    limit = _integer(arguments.get("x-delivery-limit"))
    if limit is None:
        return behaviour.delivery_limit
    return None if limit < 0 and behaviour.negative_delivery_limit_is_none else limit


def overflow_in_force(wanted: str | None, queue_type: str) -> str:
    """What to do when the queue is full; a quorum queue takes ``reject-publish-dlx`` and does not do it."""
    if wanted is None or (queue_type == "quorum" and wanted == "reject-publish-dlx"):
        return "drop-head"
    return wanted


def check_consumer_arguments(queue: str, queue_type: str, arguments: Table) -> int:
    """Check a consumer's arguments; returns its priority.

    Raises:
        AmqpError: 406 that names the argument and what is wrong with it.
    """
    known = CONSUMER_ARGUMENTS_OF_TYPE[queue_type]
    _check_values(queue, arguments, CONSUMER_CHECKS, known)
    _refuse_foreign(queue, arguments, ALL_CONSUMER_ARGUMENTS.difference(known), queue_type)
    return _integer(arguments.get("x-priority")) or 0


def _check_values(queue: str, arguments: Table, checks: dict[str, Check], known: Sequence[str]) -> None:
    """Check what is known, in the order of the checks."""
    for name, check in checks.items():
        if name in arguments and name in known:
            problem = check(arguments[name], arguments)
            if problem is not None:
                raise precondition_failed(f"invalid arg '{name}' for {queue}: {problem}")


def _refuse_foreign(queue: str, arguments: Table, foreign: frozenset[str], queue_type: str) -> None:
    for name in arguments:
        if name in foreign:
            raise precondition_failed(f"invalid arg '{name}' for {queue} of queue type rabbit_{queue_type}_queue")


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
            if name == "x-queue-type" and "classic" in (current.get(name), received.get(name)):
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
