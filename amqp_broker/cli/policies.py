"""``amqp-broker policies``: what is said of queues and exchanges by a pattern of their names."""

from __future__ import annotations

from amqp_broker.cli.policy_commands import application_for

application = application_for(
    "policies",
    "policy",
    False,
    "Policies of a running broker: limits, dead-lettering and expiry for all queues whose name matches a pattern.",
)
