"""Commands that rabbitmqctl needs beyond those of the nouns: a trial of a password, and all connections.

Part of what can be asked for on the control socket (``control_commands.py``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import trio

from amqp_broker.access.passwords import NotVerifiedYet
from amqp_broker.broker.inspection import counts_of_broker
from amqp_broker.server.control_commands import Arguments, Command, Controlled, List


async def authenticate(controlled: Controlled, arguments: Arguments) -> bool:
    """Whether a password is a user's."""
    name, password = arguments["name"], arguments["password"].encode("utf-8", "surrogateescape")
    while True:
        try:
            return controlled.broker.users.authenticate(name, password) is not None
        except NotVerifiedYet as check:
            verified = trio.Event()
            controlled.broker.driver.verify_password(check, verified.set, lambda: True)
            await verified.wait()


async def limit_user(controlled: Controlled, arguments: Arguments) -> None:
    """Let these limits of a user hold, as RabbitMQ names them, and no others."""
    controlled.administration.parameters.set_user_limits(arguments["name"], arguments.get("value"))


async def close_many(controlled: Controlled, arguments: Arguments) -> int:
    """Close all connections, or those of a user or to a virtual host, at most ``limit``; returns how many."""
    broker, reason, user = controlled.broker, arguments["reason"], arguments.get("user")
    name, limit = arguments.get("vhost"), arguments.get("limit") or None
    if name is not None:
        found = broker.open_connections.in_virtual_host(name)
    else:
        found = list(broker.open_connections)
    chosen = [one for one in found if user is None or one.user_name == user][:limit]
    for connection in chosen:
        broker.handle(lambda connection=connection: connection.close_forcibly(reason))  # type: ignore[misc]
        await trio.lowlevel.checkpoint()
    return len(chosen)


async def show_stats(controlled: Controlled, arguments: Arguments) -> dict[str, int]:
    """What was counted over all, ever."""
    return counts_of_broker(controlled.broker).stats()


def list_bindings(controlled: Controlled, arguments: Arguments) -> Iterator[Mapping[str, Any]]:
    """All bindings, those of the default exchange as well."""
    from amqp_broker.broker.inspection import default_binding

    name = arguments.get("vhost")
    hosts = controlled.broker.virtual_hosts
    for host in list(hosts.values()) if name is None else [controlled.administration.virtual_host(name)]:
        for queue in list(host.queues.values()):
            if not queue.is_deleted:
                yield default_binding(queue)
    yield from controlled.inspection.bindings(name)


LISTS: dict[str, List] = {
    "bindings.all": list_bindings,
    "channels.list": lambda controlled, arguments: controlled.inspection.channels(arguments.get("vhost")),
}
COMMANDS: dict[str, Command] = {
    "broker.stats": show_stats,
    "users.authenticate": authenticate,
    "users.set-limits": limit_user,
    "connections.close-many": close_many,
}
