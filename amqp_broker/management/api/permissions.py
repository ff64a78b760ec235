"""Permissions of users in virtual hosts, and with the routing keys of topic exchanges."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from amqp_broker.access.patterns import BadPattern, Pattern
from amqp_broker.access.users import User
from amqp_broker.management.api.fields import need, text
from amqp_broker.management.api.lists import Listing, answer_one
from amqp_broker.management.http.call import Call
from amqp_broker.management.http.messages import Answer, bad_request, no_such_object
from amqp_broker.management.http.router import Access, Endpoint

PATTERNS = ("configure", "write", "read")
TOPIC_PATTERNS = ("write", "read")


def _describe(user: User, virtual_host: str) -> dict[str, Any] | None:
    permission = user.permissions.get(virtual_host)
    if permission is None:
        return None
    patterns = {name: getattr(permission, name).source for name in PATTERNS}
    return {"user": user.name, "vhost": virtual_host, **patterns}


def _describe_topic(user: User, virtual_host: str, exchange: str) -> dict[str, Any] | None:
    permission = user.topic_permissions.get(virtual_host, {}).get(exchange)
    if permission is None:
        return None
    return {
        "user": user.name,
        "vhost": virtual_host,
        "exchange": exchange,
        "write": permission.write,
        "read": permission.read,
    }


def _users(call: Call) -> list[User]:
    return sorted(call.broker.users, key=lambda user: user.name)


def _user(call: Call) -> User:
    user = call.broker.users.get(call.variables["user"])
    if user is None:
        raise no_such_object()
    return user


def _of(users: Iterable[User], virtual_host: str | None = None) -> Iterator[tuple[User, str]]:
    for user in users:
        for name in sorted(user.permissions):
            if virtual_host in (None, name):
                yield user, name


def _topics_of(users: Iterable[User], virtual_host: str | None = None) -> Iterator[tuple[User, str, str]]:
    for user in users:
        for name in sorted(user.topic_permissions):
            if virtual_host in (None, name):
                yield from ((user, name, exchange) for exchange in sorted(user.topic_permissions[name]))


async def _listed(call: Call, found: Iterable[tuple[User, str]]) -> Answer:
    return await Listing(call, found, lambda one: _describe(*one), lambda one: one[0].name, has_pages=False).answer()


async def _topics_listed(call: Call, found: Iterable[tuple[User, str, str]]) -> Answer:
    rows = Listing(call, found, lambda one: _describe_topic(*one), lambda one: one[0].name, has_pages=False)
    return await rows.answer()


async def list_permissions(call: Call) -> Answer:
    """All of them."""
    return await _listed(call, _of(_users(call)))


async def list_of_user(call: Call) -> Answer:
    """Those of a user."""
    return await _listed(call, _of([_user(call)]))


async def list_of_virtual_host(call: Call) -> Answer:
    """Those in a virtual host."""
    return await _listed(call, _of(_users(call), call.virtual_host().name))


async def show_permission(call: Call) -> Answer:
    """What one user may do in one virtual host."""
    row = _describe(_user(call), call.virtual_host().name)
    if row is None:
        raise no_such_object()
    return await answer_one(call, row)


async def set_permission(call: Call) -> Answer:
    """Say what a user may do in a virtual host."""
    body = call.body()
    need(body, *PATTERNS)
    user, name = _both(call)
    patterns = [_checked(text(body, which)) for which in PATTERNS]
    exists = name in user.permissions
    await call.change(lambda: call.administration.set_permission(user.name, name, *patterns))
    return Answer(204 if exists else 201)


def _both(call: Call) -> tuple[User, str]:
    user, name = call.broker.users.get(call.variables["user"]), call.variables["vhost"]
    if user is None or name not in call.broker.virtual_hosts:
        raise bad_request("vhost_or_user_not_found")
    return user, name


def _checked(source: str) -> str:
    try:
        Pattern(source.replace("{username}", "").replace("{vhost}", ""))
    except BadPattern as error:
        raise bad_request(["invalid_regexp", source, str(error)]) from error
    return source


async def clear_permission(call: Call) -> Answer:
    """Take everything that a user may do in a virtual host away."""
    user, name = _user(call), call.virtual_host().name
    if name not in user.permissions:
        raise no_such_object()
    await call.change(lambda: call.administration.clear_permission(user.name, name))
    return Answer(204)


# --- topics


async def list_topic_permissions(call: Call) -> Answer:
    """All of them."""
    return await _topics_listed(call, _topics_of(_users(call)))


async def list_topics_of_user(call: Call) -> Answer:
    """Those of a user."""
    return await _topics_listed(call, _topics_of([_user(call)]))


async def list_topics_of_virtual_host(call: Call) -> Answer:
    """Those in a virtual host."""
    return await _topics_listed(call, _topics_of(_users(call), call.virtual_host().name))


async def list_topics_of_both(call: Call) -> Answer:
    """Those of a user in a virtual host."""
    found = list(_topics_of([_user(call)], call.virtual_host().name))
    if not found:
        raise no_such_object()
    return await _topics_listed(call, found)


async def set_topic_permission(call: Call) -> Answer:
    """Say with which routing keys a user may publish to and bind a topic exchange."""
    body = call.body()
    need(body, "exchange", *TOPIC_PATTERNS)
    user, name = _both(call)
    exchange, write, read = text(body, "exchange"), *(_checked(text(body, which)) for which in TOPIC_PATTERNS)
    exists = bool(user.topic_permissions.get(name))
    await call.change(lambda: call.administration.set_topic_permission(user.name, name, exchange, write, read))
    return Answer(204 if exists else 201)


async def clear_topic_permissions(call: Call) -> Answer:
    """Allow a user every routing key again, of one exchange or of all."""
    user, name, exchange = _user(call), call.virtual_host().name, call.variables.get("exchange")
    await call.change(lambda: call.administration.clear_topic_permission(user.name, name, exchange))
    return Answer(204)


ENDPOINTS = (
    Endpoint("/api/permissions", {"GET": (Access.ADMINISTRATOR, list_permissions)}),
    Endpoint(
        "/api/permissions/{vhost}/{user}",
        {
            "GET": (Access.ADMINISTRATOR, show_permission),
            "PUT": (Access.ADMINISTRATOR, set_permission),
            "DELETE": (Access.ADMINISTRATOR, clear_permission),
        },
    ),
    Endpoint("/api/users/{user}/permissions", {"GET": (Access.ADMINISTRATOR, list_of_user)}),
    Endpoint("/api/vhosts/{vhost}/permissions", {"GET": (Access.ADMINISTRATOR, list_of_virtual_host)}),
    Endpoint("/api/topic-permissions", {"GET": (Access.ADMINISTRATOR, list_topic_permissions)}),
    Endpoint("/api/topic-permissions/{vhost}", {"GET": (Access.ADMINISTRATOR, list_topics_of_virtual_host)}),
    Endpoint(
        "/api/topic-permissions/{vhost}/{user}",
        {
            "GET": (Access.ADMINISTRATOR, list_topics_of_both),
            "PUT": (Access.ADMINISTRATOR, set_topic_permission),
            "DELETE": (Access.ADMINISTRATOR, clear_topic_permissions),
        },
    ),
    Endpoint(
        "/api/topic-permissions/{vhost}/{user}/{exchange}", {"DELETE": (Access.ADMINISTRATOR, clear_topic_permissions)}
    ),
    Endpoint("/api/users/{user}/topic-permissions", {"GET": (Access.ADMINISTRATOR, list_topics_of_user)}),
    Endpoint("/api/vhosts/{vhost}/topic-permissions", {"GET": (Access.ADMINISTRATOR, list_topics_of_virtual_host)}),
)
