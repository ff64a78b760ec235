"""Limits of virtual hosts and of users: listed, set and cleared."""

from __future__ import annotations

from typing import Any

from amqp_broker.access.users import User
from amqp_broker.broker.erlang_text import erlang_json
from amqp_broker.broker.virtual_host import VirtualHost
from amqp_broker.management.api.fields import need
from amqp_broker.management.api.queues import hosts_of
from amqp_broker.management.http.call import Call
from amqp_broker.management.http.messages import Answer, answer_json, bad_request, no_such_object
from amqp_broker.management.http.router import Access, Endpoint

OF_VIRTUAL_HOST = {"max-connections": "connections_max", "max-queues": "queues_max"}
OF_USER = {"max-connections": "connections_max", "max-channels": "channels_max"}


def limits_of(limited: VirtualHost | User) -> dict[str, int]:
    """The limits that there are."""
    names = OF_USER if isinstance(limited, User) else OF_VIRTUAL_HOST
    limits = {name: getattr(limited.limits, field) for name, field in names.items()}
    return {name: limit for name, limit in limits.items() if limit is not None}


def _checked(names: dict[str, str], name: str, value: object, where: str) -> int:
    if name not in names:
        raise ValueError(f"Unrecognised terms [{{{erlang_json(name)},{erlang_json(value)}}}] in {where}")
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{name} should be a number, actually was {erlang_json(value)}")
    return value


def _limit(call: Call, names: dict[str, str], where: str, failure: str) -> int | None:
    """The limit that is asked for; None for a negative one, which is none."""
    body = call.body()
    need(body, "value")
    try:
        value = _checked(names, call.variables["name"], body["value"], where)
    except ValueError as error:
        raise bad_request(failure.format(error)) from error
    return None if value < 0 else value


# --- of virtual hosts


async def list_of_virtual_hosts(call: Call) -> Answer:
    """Those of all virtual hosts that have some, or of one."""
    rows = [{"vhost": host.name, "value": limits_of(host)} for host in hosts_of(call)]
    return answer_json([row for row in rows if row["value"]])


async def set_of_virtual_host(call: Call) -> Answer:
    """Set one of a virtual host."""
    host = call.virtual_host()
    limit = _limit(call, OF_VIRTUAL_HOST, "limits", "Validation failed\n\n{}\n")
    await _change(call, host, limit)
    return Answer(204)


async def _change(call: Call, host: VirtualHost, limit: int | None) -> None:
    field = OF_VIRTUAL_HOST.get(call.variables["name"])
    if field is not None:
        changed: dict[str, Any] = {field: limit}
        await call.change(lambda: call.administration.set_virtual_host_limits(host.name, **changed))


async def clear_of_virtual_host(call: Call) -> Answer:
    """Clear one of a virtual host."""
    await _change(call, call.virtual_host(), None)
    return Answer(204)


# --- of users


async def list_of_users(call: Call) -> Answer:
    """Those of all users who have some."""
    users = sorted(call.broker.users, key=lambda user: user.name)
    rows = [{"user": user.name, "value": limits_of(user)} for user in users]
    return answer_json([row for row in rows if row["value"]])


async def list_of_user(call: Call) -> Answer:
    """Those of a user."""
    user = call.broker.users.get(call.variables["user"])
    if user is None:
        raise no_such_object()
    limits = limits_of(user)
    return answer_json([{"user": user.name, "value": limits}] if limits else [])


async def set_of_user(call: Call) -> Answer:
    """Set one of a user."""
    limit = _limit(call, OF_USER, "user-limits", "{}")
    await _change_of_user(call, limit)
    return Answer(204)


async def _change_of_user(call: Call, limit: int | None) -> None:
    name, field = call.variables["user"], OF_USER.get(call.variables["name"])
    if call.broker.users.get(name) is None:
        raise bad_request(["no_such_user", name])
    if field is not None:
        changed: dict[str, Any] = {field: limit}
        await call.change(lambda: call.administration.set_user_limits(name, **changed))


async def clear_of_user(call: Call) -> Answer:
    """Clear one of a user."""
    await _change_of_user(call, None)
    return Answer(204)


ENDPOINTS = (
    Endpoint("/api/vhost-limits", {"GET": (Access.MANAGEMENT, list_of_virtual_hosts)}),
    Endpoint("/api/vhost-limits/{vhost}", {"GET": (Access.VIRTUAL_HOST, list_of_virtual_hosts)}),
    Endpoint(
        "/api/vhost-limits/{vhost}/{name}",
        {
            "PUT": (Access.ADMINISTRATOR, set_of_virtual_host),
            "DELETE": (Access.ADMINISTRATOR, clear_of_virtual_host),
        },
    ),
    Endpoint("/api/user-limits", {"GET": (Access.ADMINISTRATOR, list_of_users)}),
    Endpoint("/api/user-limits/{user}", {"GET": (Access.ADMINISTRATOR, list_of_user)}),
    Endpoint(
        "/api/user-limits/{user}/{name}",
        {"PUT": (Access.ADMINISTRATOR, set_of_user), "DELETE": (Access.ADMINISTRATOR, clear_of_user)},
    ),
)
