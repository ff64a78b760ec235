"""Policies: what an operator says of queues and exchanges, by a pattern of their names (RabbitMQ docs, "Policies").

At most one policy counts for a queue or exchange: of those whose pattern and ``apply-to`` fit, and all of whose keys
mean something to its type, the one with the highest priority; of several the one whose name sorts first, where
RabbitMQ leaves it open. Beside it counts one operator policy, chosen likewise: of a number that both have the smaller
one is in force, and what only the operator's has is added.

What a queue's own arguments say is not overruled but where its type says so (``arguments_under``).

Pure: which policies there are and when they take effect is ``applied_policies.py``; what may stand in one is
``policy_checks.py``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from amqp_broker.access.patterns import Pattern
from amqp_broker.broker.arguments import QueueArguments, maximum_age_ms, overflow_in_force
from amqp_broker.wire.table import Table

Definition = dict[str, object]  # values as JSON has them

POLICY: Final = "policy"  # the components that RabbitMQ keeps them under, among its parameters
OPERATOR_POLICY: Final = "operator_policy"

EXCHANGE: Final = ("all", "exchanges")  # what ``apply-to`` says where one is for an exchange
APPLIES_TO_QUEUES: Final = {
    "classic": ("all", "queues", "classic_queues"),
    "quorum": ("all", "queues", "quorum_queues"),
    "stream": ("all", "queues", "streams"),
}
# A policy with one of these keys passes a queue of this type by, as in RabbitMQ.
MEANS_NOTHING_TO: Final = {
    "classic": frozenset(
        {
            "dead-letter-strategy",
            "delivery-limit",
            "max-age",
            "stream-max-segment-size-bytes",
            "queue-leader-locator",
            "initial-cluster-size",
        }
    ),
    "quorum": frozenset(
        {
            "queue-mode",
            "max-age",
            "stream-max-segment-size-bytes",
            "queue-master-locator",
            "initial-cluster-size",
            "ha-mode",
            "ha-params",
            "ha-sync-mode",
            "ha-promote-on-shutdown",
            "ha-promote-on-failure",
        }
    ),
    "stream": frozenset(
        {
            "replay-ms",
            "dead-letter-exchange",
            "dead-letter-routing-key",
            "dead-letter-strategy",
            "message-ttl",
            "expires",
            "max-length",
            "max-in-memory-length",
            "max-in-memory-bytes",
            "overflow",
            "queue-mode",
            "delivery-limit",
            "queue-master-locator",
            "ha-mode",
            "ha-params",
            "ha-sync-mode",
            "ha-promote-on-shutdown",
            "ha-promote-on-failure",
        }
    ),
}
FEDERATION_UPSTREAM: Final = "federation-upstream"  # which is the name of a component, too
FEDERATION_SET: Final = "federation-upstream-set"
FEDERATION_PATTERN: Final = "federation-upstream-pattern"
FEDERATION: Final = (FEDERATION_UPSTREAM, FEDERATION_SET, FEDERATION_PATTERN)
REPLAY: Final = "replay-ms"  # this and the next one are keys that RabbitMQ does not have
DELAYED_MESSAGE: Final = "delayed-message"
NOTHING: Final[frozenset[str]] = frozenset()


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy, or an operator's; checked.

    Args:
        pattern: what a name must match somewhere; every name matches an empty one.
        apply_to: ``queues``, ``exchanges``, ``all``, or queues of one type.
        priority: higher ones count first; any number.
    """

    name: str
    pattern: Pattern
    apply_to: str
    definition: Definition
    priority: float = 0

    def fits(self, name: str, kinds: tuple[str, ...], meaningless: frozenset[str]) -> bool:
        """Whether it is for something of this name.

        Args:
            kinds: what ``apply-to`` may say.
            meaningless: keys that it must not have.
        """
        if self.apply_to not in kinds or (self.pattern.source and not self.pattern.matches(name)):
            return False
        return meaningless.isdisjoint(self.definition)

    def value(self) -> Definition:
        """All but its name, as RabbitMQ writes it."""
        priority = self.priority  # compiled, a whole number has become a fraction
        return {
            "pattern": self.pattern.source,
            "definition": self.definition,
            "priority": int(priority) if priority % 1 == 0 else priority,
            "apply-to": self.apply_to,
        }


@dataclass(frozen=True, slots=True)
class InForce:
    """The policies that count for something, at least one; shared by all for which the same two count."""

    policy: Policy | None
    operator_policy: Policy | None
    definition: Definition

    @property
    def federates(self) -> bool:
        """Whether what they are in force for is federated."""
        return any(key in self.definition for key in FEDERATION)


def in_order(policies: Iterable[Policy]) -> list[Policy]:
    """Those that count first come first."""
    return sorted(policies, key=lambda policy: (-policy.priority, policy.name))


def merged(policy: Policy | None, operator_policy: Policy | None) -> Definition:
    """What both together say."""
    definition = {} if policy is None else dict(policy.definition)
    if operator_policy is not None:
        for key, value in operator_policy.definition.items():
            before = definition.get(key)
            if isinstance(before, int) and isinstance(value, int):
                definition[key] = min(before, value)
            else:
                definition[key] = value
    return definition


def arguments_under(declared: QueueArguments, table: Table, definition: Definition) -> QueueArguments:
    """What is in force for a queue under policies.

    Numbers: the smaller one. Where dead letters go: the argument, if there is one. What happens when it is full, and
    when nobody uses it: the argument in a classic queue, or the smaller time; in a quorum queue the policy.
    (rabbit_amqqueue_process.erl, rabbit_quorum_queue.erl.)

    Args:
        declared: the queue's arguments.
        table: the same, as they were declared.
        definition: of the policies that are in force.
    """
    is_quorum = declared.queue_type == "quorum"
    overflow = _text(definition, "overflow")
    policy_decides = overflow is not None and (is_quorum or "x-overflow" not in table)
    expires_ms = _number(definition, "expires")
    return replace(
        declared,
        message_ttl_ms=_smaller(declared.message_ttl_ms, _number(definition, "message-ttl")),
        expires_ms=expires_ms if is_quorum and expires_ms is not None else _smaller(declared.expires_ms, expires_ms),
        length_max=_smaller(declared.length_max, _number(definition, "max-length")),
        length_bytes_max=_smaller(declared.length_bytes_max, _number(definition, "max-length-bytes")),
        overflow=overflow_in_force(overflow, declared.queue_type) if policy_decides else declared.overflow,
        dead_letter_exchange=_first(declared.dead_letter_exchange, _text(definition, "dead-letter-exchange")),
        dead_letter_routing_key=_first(declared.dead_letter_routing_key, _text(definition, "dead-letter-routing-key")),
        delivery_limit=_delivery_limit(declared, table, definition) if is_quorum else None,
        age_ms_max=_smaller(declared.age_ms_max, maximum_age_ms(_text(definition, "max-age") or "")),
        replay_ms=_smaller(declared.replay_ms, _number(definition, REPLAY)),
    )


def _delivery_limit(declared: QueueArguments, table: Table, definition: Definition) -> int | None:
    """One that nobody asked for, RabbitMQ 4's own, does not count beside a policy's."""
    limit = _number(definition, "delivery-limit")
    if limit is not None and "x-delivery-limit" not in table:
        return limit
    return _smaller(declared.delivery_limit, limit)


def delaying_under(declared: bool, definition: Definition) -> bool:
    """Whether an exchange holds back what asks for it: by what was declared, or by a policy."""
    return declared or definition.get(DELAYED_MESSAGE) is True


def alternate_under(declared: str | None, definition: Definition) -> str | None:
    """The alternate exchange that is in force under policies: the argument, if there is one."""
    return _first(declared, _text(definition, "alternate-exchange"))


def _number(definition: Definition, key: str) -> int | None:
    value = definition.get(key)
    return value if isinstance(value, int) else None


def _text(definition: Definition, key: str) -> str | None:
    value = definition.get(key)
    return value if isinstance(value, str) else None


def _smaller(one: int | None, other: int | None) -> int | None:
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)


def _first(one: str | None, other: str | None) -> str | None:
    return other if one is None else one
