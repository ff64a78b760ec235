"""Policies: what an operator says of queues and exchanges, by a pattern of their names (RabbitMQ docs, "Policies").

At most one policy counts for a queue or exchange: of those whose pattern and ``apply-to`` fit, and all of whose keys
mean something to its type, the one with the highest priority; of several the one whose name sorts first, where
RabbitMQ leaves it open. Beside it counts one operator policy, chosen likewise: of a number that both have the smaller
one is in force, and what only the operator's has is added.

What a queue's own arguments say is not overruled but where its type says so (``QueueContract.arguments_under``).

Pure: which policies there are and when they take effect is ``applied_policies.py``; what may stand in one is
``policy_checks.py``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from amqp_broker.access.patterns import Pattern
from amqp_broker.broker.arguments import DEDUPLICATION, QueueArguments, maximum_age_ms
from amqp_broker.wire.table import Table

Definition = dict[str, object]  # values as JSON has them

POLICY: Final = "policy"  # the components that RabbitMQ keeps them under, among its parameters
OPERATOR_POLICY: Final = "operator_policy"

EXCHANGE: Final = ("all", "exchanges")  # what ``apply-to`` says where one is for an exchange
QUEUES: Final = ("all", "queues")  # the same for a queue of any type; each type may have a word of its own
FEDERATION_UPSTREAM: Final = "federation-upstream"  # which is the name of a component, too
FEDERATION_SET: Final = "federation-upstream-set"
FEDERATION_PATTERN: Final = "federation-upstream-pattern"
FEDERATION: Final = (FEDERATION_UPSTREAM, FEDERATION_SET, FEDERATION_PATTERN)
REPLAY: Final = "replay-ms"  # this and the next one are keys that RabbitMQ does not have
DELAYED_MESSAGE: Final = "delayed-message"
CACHE_SIZE: Final = "x-cache-size"  # this and the next two are for exchanges that a plugin brings
CACHE_TTL: Final = "x-cache-ttl"
CACHE_PERSISTENCE: Final = "x-cache-persistence"
NUMBER_MAX: Final = 2**63 - 1
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
    priority: int | float = 0  # a float alone, compiled, has no room for each integer

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
        priority = self.priority
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
    """The definition that both together make."""
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
    """The arguments that are in force for a queue under policies.

    Numbers: the smaller one. Texts: the argument, if there is one. Deduplication: the policy, if it says anything.
    A type with other rules has them in ``QueueContract.arguments_under``. (rabbit_amqqueue_process.erl.)

    Args:
        declared: the queue's arguments.
        table: the same, as they were declared.
        definition: of the policies that are in force.
    """
    overflow = text_of(definition, "overflow")
    dead_letter_key = text_of(definition, "dead-letter-routing-key")
    return replace(
        declared,
        message_ttl_ms=smaller(declared.message_ttl_ms, number_of(definition, "message-ttl")),
        expires_ms=smaller(declared.expires_ms, number_of(definition, "expires")),
        length_max=smaller(declared.length_max, number_of(definition, "max-length")),
        length_bytes_max=smaller(declared.length_bytes_max, number_of(definition, "max-length-bytes")),
        overflow=declared.overflow if overflow is None or "x-overflow" in table else overflow,
        dead_letter_exchange=_first(declared.dead_letter_exchange, text_of(definition, "dead-letter-exchange")),
        dead_letter_routing_key=_first(declared.dead_letter_routing_key, dead_letter_key),
        delivery_limit=smaller(declared.delivery_limit, number_of(definition, "delivery-limit")),
        age_ms_max=smaller(declared.age_ms_max, maximum_age_ms(text_of(definition, "max-age") or "")),
        replay_ms=smaller(declared.replay_ms, number_of(definition, REPLAY)),
        takes_once=definition.get(DEDUPLICATION, declared.takes_once) is True,
    )


def delaying_under(declared: bool, definition: Definition) -> bool:
    """Whether an exchange holds back what asks for it: by what was declared, or by a policy."""
    return declared or definition.get(DELAYED_MESSAGE) is True


def alternate_under(declared: str | None, definition: Definition) -> str | None:
    """The alternate exchange that is in force under policies: the argument, if there is one."""
    return _first(declared, text_of(definition, "alternate-exchange"))


def number_of(definition: Definition, key: str) -> int | None:
    """The number that a policy has for a key, or the largest of 64 bits; None where it has none.

    In JSON numbers may have any length. RabbitMQ takes them all; what is larger than this is as good as no limit.
    """
    value = definition.get(key)
    return min(value, NUMBER_MAX) if isinstance(value, int) else None


def text_of(definition: Definition, key: str) -> str | None:
    """The text that a policy has for a key; None where it has none.

    Half of a character, which JSON may hold and no message can, is a question mark.
    """
    value = definition.get(key)
    if not isinstance(value, str):
        return None
    try:
        value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return value.encode("utf-8", "replace").decode()
    return value


def smaller(one: int | None, other: int | None) -> int | None:
    """The smaller one of two limits, None being no limit."""
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)


def _first(one: str | None, other: str | None) -> str | None:
    return other if one is None else one
