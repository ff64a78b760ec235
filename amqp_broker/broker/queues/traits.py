"""The traits of a queue type: all that holds for each of its queues, and must be known before there is one.

Each type has its own and says them by ``Queue.traits``; whoever asks about types in general asks the registry
(``registry.py``) of the broker, so a type that is only registered is as good as those that every broker has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from amqp_broker.behaviour import Behaviour
from amqp_broker.broker.arguments import Check


@dataclass(frozen=True, slots=True)
class QueueTraits:
    """The traits of one type.

    Args:
        arguments: the arguments that a declaration may have, in the order in which they are compared with those of a
            queue that exists. Others that any type of the broker knows are refused, and all else is kept and ignored.
        consumer_arguments: the same for consumers.
        leader_locator: the one of these arguments that RabbitMQ's type does not know before 4.0, nor a key of policies
            that is called so; empty for none.
        checks: of the values of such arguments, where ``arguments.py`` has none for the name.
        apply_to: the word by which a policy's ``apply-to`` means queues of this type alone; empty for none.
        meaningless_policy_keys: a policy with one of these keys passes queues of this type by.
        always_lasts: whether its queues are durable and everybody's, and stay until they are deleted: no other are
            declared.
        ranges: what arguments may be that are numbers, from and to, and what is said of others, when one is new.
        may_be_unnamed: whether the broker makes up a name for a queue that is declared without one.
        shown_as: the type of RabbitMQ's whose fields the HTTP API shows of such a queue: ``classic``, or ``quorum`` or
            ``stream``, of which RabbitMQ keeps replicas and shows where they are.
    """

    arguments: tuple[str, ...]
    consumer_arguments: tuple[str, ...] = ("x-priority",)
    leader_locator: str = ""
    checks: Mapping[str, Check] = field(default_factory=dict)
    apply_to: str = ""
    meaningless_policy_keys: frozenset[str] = frozenset()
    always_lasts: bool = False
    ranges: Mapping[str, tuple[int, int, str]] = field(default_factory=dict)
    may_be_unnamed: bool = True
    shown_as: str = "classic"

    def known_arguments(self, behaviour: Behaviour) -> tuple[str, ...]:
        """The arguments that a declaration may have, as that RabbitMQ has it."""
        if behaviour.classic_queues_have_leader_locators or not self.leader_locator:
            return self.arguments
        return tuple([name for name in self.arguments if name != self.leader_locator])

    def passed_by_for(self, behaviour: Behaviour) -> frozenset[str]:
        """The keys of a policy with which it passes queues of this type by, as that RabbitMQ has it."""
        if behaviour.classic_queues_have_leader_locators or not self.leader_locator:
            return self.meaningless_policy_keys
        return self.meaningless_policy_keys | {self.leader_locator.removeprefix("x-")}
