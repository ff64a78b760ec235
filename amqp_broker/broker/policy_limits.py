"""The policy behind a death: the one that set the limit at which messages die in a queue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from amqp_broker.broker.arguments import QueueArguments
    from amqp_broker.broker.policies import InForce

# The settings of a policy that a reason may be due to.
SETTINGS: Final = {
    "maxlen": ("max-length", "max-length-bytes"),
    "refused": ("max-length", "max-length-bytes", "overflow"),
    "expired": ("message-ttl",),
    "delivery_limit": ("delivery-limit",),
    "duplicate": ("x-message-deduplication",),
}


def policy_behind(in_force: InForce | None, now: QueueArguments, declared: QueueArguments, reason: str) -> str | None:
    """The policy that set the limit at which messages die for this reason; None where the queue's arguments did.

    Args:
        in_force: the policies of the queue.
        now: the arguments in force.
        declared: those that the queue was declared with.
        reason: as ``DropReason`` has it.
    """
    if in_force is None or not _differs(now, declared, reason):
        return None
    for policy in (in_force.operator_policy, in_force.policy):
        if policy is not None:
            for name in SETTINGS[reason]:
                if name in policy.definition and policy.definition[name] == in_force.definition.get(name):
                    return policy.name
    return None


def _differs(now: QueueArguments, declared: QueueArguments, reason: str) -> bool:
    if reason in ("maxlen", "refused"):
        return now.length_max != declared.length_max or now.length_bytes_max != declared.length_bytes_max
    if reason == "duplicate":
        return now.takes_once != declared.takes_once
    if reason == "expired":
        return now.message_ttl_ms != declared.message_ttl_ms
    return reason == "delivery_limit" and now.delivery_limit != declared.delivery_limit
