"""Limits of virtual hosts and of users: listed, set and cleared."""

from __future__ import annotations

from amqp_broker.broker.limit_values import USER_LIMITS, VIRTUAL_HOST_LIMITS, checked_limits, limits_value
from amqp_broker.broker.problems import NotValid
from amqp_broker.management.api.fields import need
from amqp_broker.management.api.overview import visible_hosts
from amqp_broker.management.http.call import Call
from amqp_broker.management.http.messages import Answer, answer_json, bad_request, no_such_object
from amqp_broker.management.http.router import Access, Endpoint


def _limit(call: Call, names: dict[str, str], where: str) -> dict[str, int | None]:
    """The limit that is asked for, by its field; None for a negative one, which is none.

    Raises:
        HttpError: 400.
        NotValid: it is no limit, or no number.
    """
    body, name = call.body(), call.variables["name"]
    need(body, "value")
    limits = checked_limits({name: body["value"]}, names, where)
    return {names[name]: limits[names[name]]}


def _cleared(call: Call, names: dict[str, str]) -> dict[str, int | None]:
    field = names.get(call.variables["name"])
    return {} if field is None else {field: None}


# --- of virtual hosts


async def list_of_virtual_hosts(call: Call) -> Answer:
    """Those of all virtual hosts that have some, or of one."""
    names = [call.virtual_host().name] if "vhost" in call.variables else visible_hosts(call)
    rows = [{"vhost": name, "value": limits_value(call.broker.virtual_hosts[name].limits)} for name in names]
    return answer_json([row for row in rows if row["value"]])


async def set_of_virtual_host(call: Call) -> Answer:
    """Set one of a virtual host."""
    host = call.virtual_host()
    try:
        limits = _limit(call, VIRTUAL_HOST_LIMITS, "limits")
    except NotValid as error:
        raise bad_request(str(error)) from error
    await call.change(lambda: call.administration.set_virtual_host_limits(host.name, **limits))
    return Answer(204)


async def clear_of_virtual_host(call: Call) -> Answer:
    """Clear one of a virtual host."""
    host, limits = call.virtual_host(), _cleared(call, VIRTUAL_HOST_LIMITS)
    await call.change(lambda: call.administration.set_virtual_host_limits(host.name, **limits))
    return Answer(204)


# --- of users


async def list_of_users(call: Call) -> Answer:
    """Those of all users who have some."""
    users = sorted(call.broker.users, key=lambda user: user.name)
    rows = [{"user": user.name, "value": limits_value(user.limits)} for user in users]
    return answer_json([row for row in rows if row["value"]])


async def list_of_user(call: Call) -> Answer:
    """Those of a user."""
    user = call.broker.users.get(call.variables["user"])
    if user is None:
        raise no_such_object()
    limits = limits_value(user.limits)
    return answer_json([{"user": user.name, "value": limits}] if limits else [])


async def set_of_user(call: Call) -> Answer:
    """Set one of a user."""
    try:
        limits = _limit(call, USER_LIMITS, "user-limits")
    except NotValid as error:
        raise bad_request("\n".join(error.problems)) from error
    return await _change_of_user(call, limits)


async def clear_of_user(call: Call) -> Answer:
    """Clear one of a user."""
    return await _change_of_user(call, _cleared(call, USER_LIMITS))


async def _change_of_user(call: Call, limits: dict[str, int | None]) -> Answer:
    name = call.variables["user"]
    if call.broker.users.get(name) is None:
        raise bad_request(["no_such_user", name])
    await call.change(lambda: call.administration.set_user_limits(name, **limits))
    return Answer(204)


ENDPOINTS = (
    Endpoint("/api/vhost-limits", {"GET": (Access.MANAGEMENT, list_of_virtual_hosts)}),
    Endpoint("/api/vhost-limits/{vhost}", {"GET": (Access.VISIBLE_VIRTUAL_HOST, list_of_virtual_hosts)}),
    Endpoint(
        "/api/vhost-limits/{vhost}/{name}",
        {
            "PUT": (Access.ADMINISTRATOR, set_of_virtual_host),
            "DELETE": (Access.ADMINISTRATOR, clear_of_virtual_host),
        },
    ),
    Endpoint("/api/user-limits", {"GET": (Access.MANAGEMENT, list_of_users)}),
    Endpoint("/api/user-limits/{user}", {"GET": (Access.MANAGEMENT, list_of_user)}),
    Endpoint(
        "/api/user-limits/{user}/{name}",
        {"PUT": (Access.ADMINISTRATOR, set_of_user), "DELETE": (Access.ADMINISTRATOR, clear_of_user)},
    ),
)
