"""The policies of a virtual host, and their coming into force for its queues and exchanges.

What is declared from now on is under the new policies at once; what is there is looked at in slices. Who has set a
policy may wait for the last of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from amqp_broker.broker.policies import (
    EXCHANGE,
    FEDERATION_UPSTREAM,
    NOTHING,
    OPERATOR_POLICY,
    POLICY,
    QUEUES,
    InForce,
    Policy,
    alternate_under,
    delaying_under,
    in_order,
    merged,
)

if TYPE_CHECKING:
    from amqp_broker.broker.exchanges.exchange import Exchange
    from amqp_broker.broker.queues.base import Queue
    from amqp_broker.broker.topology import Topology
    from amqp_broker.broker.works import Work

SLICE_NAMES: Final = 50  # to be matched, and some of them changed


class AppliedPolicies:
    """The policies of one virtual host.

    Args:
        virtual_host: to whose queues and exchanges they are applied.
    """

    def __init__(self, virtual_host: Topology) -> None:
        self._host = virtual_host
        self._named: dict[str, dict[str, Policy]] = {POLICY: {}, OPERATOR_POLICY: {}}
        self._in_order: dict[str, list[Policy]] = {POLICY: [], OPERATOR_POLICY: []}
        self._together: dict[tuple[str | None, str | None], InForce] = {}
        self.are_any = False

    def get(self, component: str, name: str) -> Policy | None:
        """The policy of a name, or the operator's."""
        return self._named[component].get(name)

    def all(self, component: str) -> list[Policy]:
        """All there are, those that count first in front."""
        return self._in_order[component]

    # --- changes

    def put(self, component: str, policy: Policy) -> None:
        """A policy is new, or other than it was; ``apply_changed`` is to follow."""
        self._named[component][policy.name] = policy
        self._changed(component, policy.name)

    def remove(self, component: str, name: str) -> None:
        """A policy is gone; ``apply_changed`` is to follow."""
        del self._named[component][name]
        self._changed(component, name)

    def _changed(self, component: str, name: str) -> None:
        self._in_order[component] = in_order(self._named[component].values())
        place = (POLICY, OPERATOR_POLICY).index(component)
        self._together = {names: both for names, both in self._together.items() if names[place] != name}
        self.are_any = bool(self._named[POLICY] or self._named[OPERATOR_POLICY])

    def apply_changed(self) -> Work:
        """See to it that all are under the policies that there are now; returns what is to be finished for that."""
        return self._host.works.begin(self.apply_to_all())

    def apply_to_all(self) -> Iterator[None]:
        """The same, to be done by the caller, in slices."""
        for number, queue in enumerate(list(self._host.queues.values()), start=1):
            if not queue.is_deleted:
                self.apply_to_queue(queue)
                yield from queue.look_through()
            if number % SLICE_NAMES == 0:
                yield
        for number, exchange in enumerate(list(self._host.exchanges.values()), start=1):
            if not exchange.is_deleted:
                self.apply_to_exchange(exchange)
            if number % SLICE_NAMES == 0:
                yield

    # --- what is in force

    def apply_to_queue(self, queue: Queue) -> None:
        """Let what the policies say be in force for a queue."""
        traits = queue.traits()
        passed_by_for = traits.passed_by_for(self._host.behaviour)
        in_force = self._in_force(queue.name, (*QUEUES, traits.apply_to), passed_by_for)
        if in_force is not queue.in_force:
            if self._host.observers.present_for_changes:
                self._tell(queue, in_force)
            before, queue.in_force = queue.in_force, in_force
            self._tell_federation(before, in_force)
            queue.apply(queue.declared if in_force is None else queue.arguments_under(in_force.definition))

    def _tell(self, queue: Queue, in_force: InForce | None) -> None:
        """Tell those who look on that another policy counts for a queue, or none any more."""
        kind = queue.declared.queue_type
        details: dict[str, object] = {"name": queue.name, "vhost": self._host.name, "type": f"rabbit_{kind}_queue"}
        policy = None if in_force is None else in_force.policy
        if policy is not None:
            details = {**details, **policy.value()}
        elif queue.in_force is None or queue.in_force.policy is None:
            return  # it is an operator's alone
        self._host.observers.happened(f"queue.policy.{'cleared' if policy is None else 'updated'}", details, "")

    def apply_to_exchange(self, exchange: Exchange) -> None:
        """The same for an exchange; the default exchange has no alternate one."""
        in_force = self._in_force(exchange.name, EXCHANGE, NOTHING)
        if in_force is not exchange.in_force:
            before, exchange.in_force = exchange.in_force, in_force
            self._tell_federation(before, in_force)
            if exchange.name:
                declared = exchange.declared_alternate
                alternate = declared if in_force is None else alternate_under(declared, in_force.definition)
                self._host.apply_to_exchange(exchange, alternate)
                delaying = exchange.declared_delaying
                self._host.let_delay(
                    exchange, delaying if in_force is None else delaying_under(delaying, in_force.definition)
                )
                exchange.matcher.apply({} if in_force is None else in_force.definition)

    def _tell_federation(self, before: InForce | None, now: InForce | None) -> None:
        if (before is not None and before.federates) or (now is not None and now.federates):
            self._host.components.changed(FEDERATION_UPSTREAM)

    def _in_force(self, name: str, kinds: tuple[str, ...], meaningless: frozenset[str]) -> InForce | None:
        policy, operator_policy = (
            next((policy for policy in self._in_order[component] if policy.fits(name, kinds, meaningless)), None)
            for component in (POLICY, OPERATOR_POLICY)
        )
        if policy is None and operator_policy is None:
            return None
        names = (None if policy is None else policy.name, None if operator_policy is None else operator_policy.name)
        both = self._together.get(names)
        if both is None:
            both = self._together[names] = InForce(policy, operator_policy, merged(policy, operator_policy))
        return both
