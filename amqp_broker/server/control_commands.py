"""What can be asked for on the control socket: each command checks its arguments and calls the administration."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import trio

from amqp_broker.access.passwords import SCRYPT, SHA256, SHA512, PasswordHash, UnknownAlgorithm, hash_password
from amqp_broker.broker.administration import AdministrationError, password_bytes
from amqp_broker.broker.broker import Broker

Arguments = dict[str, Any]
Command = Callable[[Broker, Arguments], Awaitable[Any]]

# The names that people use for ways of hashing.
ALGORITHMS = {"scrypt": SCRYPT, "sha256": SHA256, "sha512": SHA512}


class BadRequest(Exception):
    """An argument is missing or of the wrong kind; the text says which."""


def _text(arguments: Arguments, name: str, default: str | None = None) -> str:
    value = arguments.get(name, default)
    if not isinstance(value, str):
        raise BadRequest(f"{name} must be a text")
    return value


def _texts(arguments: Arguments, name: str) -> tuple[str, ...]:
    value = arguments.get(name, [])
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise BadRequest(f"{name} must be a list of texts")
    return tuple(value)


def _limits(arguments: Arguments, *names: str) -> dict[str, int | None]:
    limits = {name: arguments[name] for name in names if name in arguments}
    for name, value in limits.items():
        if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
            raise BadRequest(f"{name} must be a number, or nothing for no limit")
    return limits


async def _password(arguments: Arguments) -> PasswordHash | None:
    """The hash of the password that was given, computed where it disturbs nobody."""
    if arguments.get("password") is None:
        return None
    password = password_bytes(_text(arguments, "password"))
    algorithm = _text(arguments, "hash", "scrypt")
    try:
        return await trio.to_thread.run_sync(hash_password, password, ALGORITHMS.get(algorithm, algorithm))
    except UnknownAlgorithm as error:
        raise AdministrationError(str(error)) from error


# --- users


async def list_users(broker: Broker, arguments: Arguments) -> Any:
    return [
        {
            "name": user.name,
            "tags": list(user.tags),
            "connections": len(broker.open_connections.of_user(user.name)),
            "connections_max": user.limits.connections_max,
            "channels_max": user.limits.channels_max,
        }
        for user in sorted(broker.users, key=lambda user: user.name)
    ]


async def add_user(broker: Broker, arguments: Arguments) -> None:
    stored = await _password(arguments)
    broker.administration.add_user(_text(arguments, "name"), stored, _texts(arguments, "tags"))


async def change_password(broker: Broker, arguments: Arguments) -> None:
    stored = await _password(arguments)
    broker.administration.change_password(_text(arguments, "name"), stored)


async def set_tags(broker: Broker, arguments: Arguments) -> None:
    broker.administration.set_tags(_text(arguments, "name"), _texts(arguments, "tags"))


async def limit_user(broker: Broker, arguments: Arguments) -> None:
    limits = _limits(arguments, "connections_max", "channels_max")
    broker.administration.set_user_limits(_text(arguments, "name"), **limits)


async def delete_user(broker: Broker, arguments: Arguments) -> None:
    broker.administration.delete_user(_text(arguments, "name"))


# --- virtual hosts


async def list_virtual_hosts(broker: Broker, arguments: Arguments) -> Any:
    return [
        {
            "name": virtual_host.name,
            "queues": len(virtual_host.queues),
            "connections": len(broker.open_connections.in_virtual_host(virtual_host.name)),
            "connections_max": virtual_host.limits.connections_max,
            "queues_max": virtual_host.limits.queues_max,
        }
        for _, virtual_host in sorted(broker.virtual_hosts.items())
    ]


async def add_virtual_host(broker: Broker, arguments: Arguments) -> None:
    broker.administration.add_virtual_host(_text(arguments, "name"))


async def limit_virtual_host(broker: Broker, arguments: Arguments) -> None:
    limits = _limits(arguments, "connections_max", "queues_max")
    broker.administration.set_virtual_host_limits(_text(arguments, "name"), **limits)


async def delete_virtual_host(broker: Broker, arguments: Arguments) -> None:
    broker.administration.delete_virtual_host(_text(arguments, "name"))


# --- permissions


async def list_permissions(broker: Broker, arguments: Arguments) -> Any:
    return [
        {
            "user": user.name,
            "vhost": virtual_host,
            "configure": permission.configure.source,
            "write": permission.write.source,
            "read": permission.read.source,
            "topics": [
                {"exchange": exchange, "write": topic.write, "read": topic.read}
                for exchange, topic in sorted(user.topic_permissions.get(virtual_host, {}).items())
            ],
        }
        for user in sorted(broker.users, key=lambda user: user.name)
        for virtual_host, permission in sorted(user.permissions.items())
    ]


async def set_permission(broker: Broker, arguments: Arguments) -> None:
    broker.administration.set_permission(
        *(_text(arguments, name) for name in ("user", "vhost", "configure", "write", "read"))
    )


async def clear_permission(broker: Broker, arguments: Arguments) -> None:
    broker.administration.clear_permission(_text(arguments, "user"), _text(arguments, "vhost"))


async def set_topic_permission(broker: Broker, arguments: Arguments) -> None:
    broker.administration.set_topic_permission(
        *(_text(arguments, name) for name in ("user", "vhost", "exchange", "write", "read"))
    )


async def clear_topic_permission(broker: Broker, arguments: Arguments) -> None:
    exchange = None if arguments.get("exchange") is None else _text(arguments, "exchange")
    broker.administration.clear_topic_permission(_text(arguments, "user"), _text(arguments, "vhost"), exchange)


COMMANDS: dict[str, Command] = {
    "users.list": list_users,
    "users.add": add_user,
    "users.password": change_password,
    "users.tags": set_tags,
    "users.limits": limit_user,
    "users.delete": delete_user,
    "vhosts.list": list_virtual_hosts,
    "vhosts.add": add_virtual_host,
    "vhosts.limits": limit_virtual_host,
    "vhosts.delete": delete_virtual_host,
    "permissions.list": list_permissions,
    "permissions.set": set_permission,
    "permissions.clear": clear_permission,
    "permissions.set-topic": set_topic_permission,
    "permissions.clear-topic": clear_topic_permission,
}
