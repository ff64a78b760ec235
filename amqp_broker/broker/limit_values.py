"""Limits of virtual hosts and users as RabbitMQ's API and its definitions have them: objects of JSON.

A number below zero is no limit there, and none here. (rabbit_vhost_limit.erl, rabbit_auth_backend_internal.erl.)
"""

from __future__ import annotations

from typing import Final

from amqp_broker.access.users import UserLimits
from amqp_broker.broker.erlang_text import erlang_json
from amqp_broker.broker.problems import NotValid
from amqp_broker.broker.virtual_host_properties import VirtualHostLimits

VIRTUAL_HOST_LIMITS: Final = {"max-connections": "connections_max", "max-queues": "queues_max"}
USER_LIMITS: Final = {"max-connections": "connections_max", "max-channels": "channels_max"}
LIMITS_COMPONENT: Final = "vhost-limits"  # the parameter that RabbitMQ keeps those of a virtual host in
LIMIT_MAX: Final = 2**31 - 1


def limits_value(limits: VirtualHostLimits | UserLimits) -> dict[str, int]:
    """The limits, by RabbitMQ's names."""
    names = VIRTUAL_HOST_LIMITS if isinstance(limits, VirtualHostLimits) else USER_LIMITS
    found = {name: getattr(limits, field) for name, field in names.items()}
    return {name: limit for name, limit in found.items() if limit is not None}


def checked_limits(value: object, names: dict[str, str], what: str) -> dict[str, int | None]:
    """Limits that were asked for, by our names; all that is not named is no limit.

    Args:
        names: ``VIRTUAL_HOST_LIMITS`` or ``USER_LIMITS``.
        what: as texts call them: ``limits`` or ``user-limits``.

    Raises:
        NotValid: with everything that is wrong.
    """
    if not isinstance(value, dict):
        raise NotValid([f"{what} should be an object, actually was {erlang_json(value)}"])
    unknown = {name: limit for name, limit in value.items() if name not in names}
    problems = [f"Unrecognised terms {erlang_json(unknown)} in {what}"] if unknown else []
    limits: dict[str, int | None] = dict.fromkeys(names.values())
    for name, field in names.items():
        if name in value:
            limit = value[name]
            if isinstance(limit, int) and not isinstance(limit, bool) and limit <= LIMIT_MAX:
                limits[field] = limit if limit >= 0 else None
            else:
                problems.append(f"{name} should be a number, actually was {erlang_json(limit)}")
    if problems:
        raise NotValid(problems)
    return limits
