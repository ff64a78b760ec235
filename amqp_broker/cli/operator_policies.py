"""``amqp-broker operator-policies``: limits that policies cannot exceed."""

from __future__ import annotations

from amqp_broker.cli.policy_commands import application_for

application = application_for(
    "operator-policies",
    "operator policy",
    True,
    "Operator policies of a running broker: of a limit that a policy sets as well, the smaller one counts.",
)
