"""Checks of policies, with RabbitMQ's texts for what may not stand in one.

Keys that only newer releases of RabbitMQ know are taken, so that what those have exported can be read; keys of classic
mirrored queues are taken and do nothing. (rabbit_policies.erl, rabbit_mirror_queue_misc.erl.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from amqp_broker.access.patterns import BadPattern, Pattern
from amqp_broker.broker.arguments import DEDUPLICATION, STREAM_SEGMENT_BYTES_MAX, is_maximum_age
from amqp_broker.broker.erlang_text import erlang_json, erlang_string
from amqp_broker.broker.policies import (
    CACHE_PERSISTENCE,
    CACHE_SIZE,
    CACHE_TTL,
    DELAYED_MESSAGE,
    EXCHANGE,
    FEDERATION,
    FEDERATION_PATTERN,
    FEDERATION_SET,
    FEDERATION_UPSTREAM,
    OPERATOR_POLICY,
    POLICY,
    QUEUES,
    REPLAY,
    Definition,
    Policy,
)
from amqp_broker.broker.problems import NotValid

APPLY_TO: Final = frozenset({*QUEUES, *EXCHANGE})


def checked_policy(component: str, name: str, value: Definition, types_apply_to: frozenset[str]) -> Policy:
    """A policy as it was asked for, read.

    Args:
        component: ``policy`` or ``operator_policy``.
        value: ``pattern`` and ``definition``, and perhaps ``priority`` and ``apply-to``.
        types_apply_to: what ``apply-to`` may say beside, for queues of one type (``QueueTypes.apply_to``).

    Raises:
        NotValid: with everything that is wrong.
    """
    return _read(component, name, value, types_apply_to, CHECKS[component])


def kept_policy(component: str, name: str, value: Definition, types_apply_to: frozenset[str]) -> Policy:
    """The same of one that an earlier release may have taken; arguments and errors as of ``checked_policy``."""
    earlier = {key: check for key, check in TAKEN_EARLIER.items() if key in CHECKS[component]}
    return _read(component, name, value, types_apply_to, {**CHECKS[component], **earlier})


def _read(
    component: str, name: str, value: Definition, types_apply_to: frozenset[str], checks: dict[str, Check]
) -> Policy:
    priority, apply_to = value.get("priority", 0), value.get("apply-to", "all")
    definition_problem = _definition_problem(component, value.get("definition"), checks)
    problems = [definition_problem, _apply_to_problem(apply_to, types_apply_to)]
    pattern, pattern_problem = _pattern(value.get("pattern"))
    problems += [pattern_problem, _priority_problem(priority)]
    found = [problem for problem in problems if problem is not None]
    definition = value.get("definition")
    if found or pattern is None or not isinstance(definition, dict) or not isinstance(priority, int | float):
        raise NotValid(found)
    return Policy(name, pattern, str(apply_to), definition, priority)


def _pattern(source: object) -> tuple[Pattern | None, str | None]:
    if not isinstance(source, str):
        return None, f"pattern should be a binary but was {erlang_json(source)}"
    try:
        return Pattern(source), None
    except BadPattern as error:
        problem = f"{{{erlang_string(error.problem)},{error.offset}}}"
        return None, f"pattern should be regular expression but is invalid: {problem}"


def _priority_problem(priority: object) -> str | None:
    if isinstance(priority, int | float) and not isinstance(priority, bool):
        return None
    return f"priority should be a number, actually was {erlang_json(priority)}"


def _apply_to_problem(apply_to: object, of_types: frozenset[str]) -> str | None:
    if isinstance(apply_to, str) and (apply_to in APPLY_TO or apply_to in of_types):
        return None
    shown = apply_to if isinstance(apply_to, str) else erlang_json(apply_to)
    return f"apply-to '{shown}' unrecognised; should be 'queues', 'exchanges' or 'all'"


def _definition_problem(component: str, definition: object, checks: dict[str, Check]) -> str | None:
    if not isinstance(definition, dict):
        return f"definition must be a dictionary: {erlang_json(definition)}"
    if not definition:
        return "no policy provided"
    for key, value in definition.items():
        if key in checks:
            problem = checks[key](value)
            if problem is not None:
                return problem
    problem = _federation_problem(definition) or _mirroring_problem(definition) if component == POLICY else None
    unknown = {key: value for key, value in definition.items() if key not in checks}
    if problem is None and unknown:
        return f"{erlang_json(unknown)} are not recognised policy settings"
    return problem


def _federation_problem(definition: Definition) -> str | None:
    if sum(key in definition for key in FEDERATION) < 2:
        return None
    return f"cannot specify {FEDERATION_UPSTREAM}, {FEDERATION_SET} or {FEDERATION_PATTERN} together"


def _mirroring_problem(definition: Definition) -> str | None:
    """The keys of mirrored queues belong together."""
    mode = definition.get("ha-mode")
    if mode is None:
        given = [key for key in MIRRORING_KEYS if key in definition]
        return f"ha-mode must be specified to specify {' or '.join(MIRRORING_KEYS)}" if given else None
    if mode == "all" and "ha-params" in definition:
        return 'ha-mode="all" does not take parameters'
    if mode == "exactly" and not _is_whole(definition.get("ha-params"), 1):
        given_text = "none" if "ha-params" not in definition else erlang_json(definition["ha-params"])
        return f'ha-mode="exactly" takes an integer, {given_text} given'
    return None


MIRRORING_KEYS: Final = (
    "ha-params",
    "ha-sync-mode",
    "ha-sync-batch-size",
    "ha-promote-on-shutdown",
    "ha-promote-on-failure",
)

# --- the values, by key

Check = Callable[[object], str | None]  # takes a value, returns what is wrong with it


def _is_whole(value: object, minimum: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= minimum


def _whole(minimum: int, what: str) -> Check:
    return lambda value: None if _is_whole(value, minimum) else f"{erlang_json(value)} is not a valid {what}"


def _between(minimum: int, maximum: int, what: str) -> Check:
    return lambda value: (
        None
        if _is_whole(value, minimum) and not _is_whole(value, maximum + 1)
        else f"{erlang_json(value)} is not a valid {what}"
    )


def _text(what: str) -> Check:
    return lambda value: None if isinstance(value, str) else f"{erlang_json(value)} is not a valid {what}"


def _one_of(what: str, *allowed: object) -> Check:
    return lambda value: (
        None if value in allowed and not isinstance(value, bool) else f"{erlang_json(value)} is not a valid {what}"
    )


def _yes_or_no(what: str) -> Check:
    return lambda value: None if isinstance(value, bool) else f"{erlang_json(value)} is not a valid {what}"


def _is_age(value: object) -> str | None:
    is_age = isinstance(value, str) and is_maximum_age(value)
    return None if is_age else f"{erlang_json(value)} is not a valid max age"


def _locator(value: object) -> str | None:
    known = ("client-local", "min-masters", "random")
    return None if value in known else f"{erlang_json(value)} invalid queue-master-locator value"


def _sync_mode(value: object) -> str | None:
    if value in ("manual", "automatic"):
        return None
    return f'ha-sync-mode must be "manual" or "automatic", got {erlang_json(value)}'


def _sync_batch_size(value: object) -> str | None:
    if _is_whole(value, 1):
        return None
    return f"ha-sync-batch-size takes an integer greater than 0, {erlang_json(value)} given"


def _promotion(key: str) -> Check:
    return lambda value: (
        None
        if value in ("always", "when-synced")
        else f'{key} must be "always" or "when-synced", got {erlang_json(value)}'
    )


def _positive(key: str) -> Check:
    """As the plugin rabbitmq_message_deduplication says it."""
    wanted = f'"{key}" must be an integer greater than 0, got '
    return lambda value: None if _is_whole(value, 1) else wanted + erlang_json(value)


def _persistence(value: object) -> str | None:
    """The same, and the next one."""
    if value in ("disk", "memory"):
        return None
    return f'"{CACHE_PERSISTENCE}" must be either "disk" or "memory", got {erlang_json(value)}'


def _deduplication(value: object) -> str | None:
    return None if isinstance(value, bool) else f'"{DEDUPLICATION}" must be a boolean, got {erlang_json(value)}'


def _federation_pattern(value: object) -> str | None:
    if not isinstance(value, str):
        return f"{erlang_json(value)} is not a valid federation upstream pattern name"
    try:
        Pattern(value)
    except BadPattern as error:
        problem = f"{{{erlang_string(error.problem)},{error.offset}}}"
        return f"could not compile pattern {value} to a regular expression. Error: {problem}"
    return None


def _anything(value: object) -> str | None:
    return None


LIMITS: Final[dict[str, Check]] = {
    "expires": _whole(1, "queue expiry"),
    "message-ttl": _whole(0, "message TTL"),
    "max-length": _whole(0, "maximum length"),
    "max-length-bytes": _whole(0, "maximum length in bytes"),
    "max-in-memory-length": _whole(0, "maximum memory in bytes"),
    "max-in-memory-bytes": _whole(0, "maximum memory in bytes"),
    "delivery-limit": _whole(0, "delivery limit"),
}
NEWER: Final[dict[str, Check]] = {
    "consumer-timeout": _whole(0, "consumer timeout"),
    "target-group-size": _whole(1, "target group size"),
    "stream-filter-size-bytes": _between(16, 255, "filter size"),
}
POLICY_CHECKS: Final[dict[str, Check]] = {
    "alternate-exchange": _text("alternate exchange name"),
    "dead-letter-exchange": _text("dead letter exchange name"),
    "dead-letter-routing-key": _text("dead letter routing key"),
    "dead-letter-strategy": _one_of("dead letter strategy", "at-most-once", "at-least-once"),
    **LIMITS,
    "queue-mode": _one_of("queue-mode value", "default", "lazy"),
    "queue-version": _one_of("queue-version value", 1, 2),
    "overflow": _one_of("overflow value", "drop-head", "reject-publish", "reject-publish-dlx"),
    "max-age": _is_age,
    "stream-max-segment-size-bytes": _between(0, STREAM_SEGMENT_BYTES_MAX, "segment size"),
    "queue-leader-locator": _one_of(
        "queue leader locator value", "client-local", "balanced", "random", "least-leaders"
    ),
    "queue-master-locator": _locator,
    "initial-cluster-size": _whole(0, "cluster size"),
    "ha-mode": _one_of("ha-mode value", "all", "exactly", "nodes"),
    "ha-params": _anything,
    "ha-sync-mode": _sync_mode,
    "ha-sync-batch-size": _sync_batch_size,
    "ha-promote-on-shutdown": _promotion("ha-promote-on-shutdown"),
    "ha-promote-on-failure": _promotion("ha-promote-on-failure"),
    DELAYED_MESSAGE: _yes_or_no("delayed message"),
    REPLAY: _whole(1, "time to replay"),
    CACHE_SIZE: _positive(CACHE_SIZE),
    CACHE_TTL: _positive(CACHE_TTL),
    CACHE_PERSISTENCE: _persistence,
    DEDUPLICATION: _deduplication,
    FEDERATION_UPSTREAM: _text("federation upstream name"),
    FEDERATION_SET: _text("federation upstream set name"),
    FEDERATION_PATTERN: _federation_pattern,
    **NEWER,
}
CHECKS: Final[dict[str, dict[str, Check]]] = {POLICY: POLICY_CHECKS, OPERATOR_POLICY: {**LIMITS, **NEWER}}
# What a data folder may have of an earlier release, and is refused now: a start must not fail of it.
TAKEN_EARLIER: Final[dict[str, Check]] = {
    "stream-max-segment-size-bytes": _whole(0, "segment size"),
    "stream-filter-size-bytes": _whole(0, "filter size"),
}
