"""The commands on users: who there is, with which password, tags and limits, and who may do what."""

from __future__ import annotations

import base64
import sys
from typing import Any

from amqp_broker.cli.rabbitmqctl.call import Call, no_user
from amqp_broker.cli.rabbitmqctl.commands import Command, Commands
from amqp_broker.cli.rabbitmqctl.outcome import Code, Failed, Report, Result, Table, WrongUse
from amqp_broker.cli.rabbitmqctl.values import compact, read_json

GRANT = (
    "Done. Don't forget to grant the user permissions to some virtual hosts! "
    "See 'rabbitmqctl help set_permissions' to learn more."
)
USERS, ACCESS = "Users", "Access Control"
LIMITS = {"max-connections": "connections_max", "max-channels": "channels_max"}


def _password(call: Call, position: int = 1) -> str:
    if len(call.words) > position:
        return call.words[position]
    return sys.stdin.readline().rstrip("\r\n")


def list_users(call: Call) -> Result:
    """Names and tags."""
    call.say("Listing users ...")
    rows = call.ask_list("users.list")
    return Table(("user", "tags"), [{"user": row["name"], "tags": row["tags"]} for row in rows])


def add_user(call: Call) -> Result:
    """A new user, with the password that follows or comes on standard input."""
    name, password = call.words[0], _password(call)
    if not name:
        raise WrongUse("Bad argument: user cannot be an empty string", Code.DATA)
    call.say(f'Adding user "{name}" ...')
    if not password:
        raise Failed(Code.DATA, "Password is not provided via argument or stdin")
    present = Failed(Code.SOFTWARE, f'User "{name}" already exists')
    call.ask("users.add", name=name, password=password, tags=[], present=present)
    return Report([] if call.is_quiet and call.formatter != "json" else [GRANT], _done(call, GRANT))


def _done(call: Call, message: str) -> dict[str, Any]:
    return {"message": message, "node": call.node, "status": "ok"}


def change_password(call: Call) -> Result:
    """Another password."""
    call.say(f'Changing password for user "{call.words[0]}" ...')
    call.ask("users.password", name=call.words[0], password=_password(call))
    return None


def clear_password(call: Call) -> Result:
    """No password: by certificate only."""
    call.say(f'Clearing password for user "{call.words[0]}" ...')
    call.ask("users.password", name=call.words[0], password=None)
    return None


def authenticate_user(call: Call) -> Result:
    """Whether a password is right."""
    name, password = call.words[0], _password(call)
    call.say(f'Authenticating user "{name}" ...')
    if not call.ask("users.authenticate", name=name, password=password):
        text = f"Error: failed to authenticate user \"{name}\"\nuser '{name}' - invalid credentials"
        raise Failed(Code.DATA, text)
    return Report(["Success"], _done(call, "Success"))


def set_user_tags(call: Call) -> Result:
    """These tags and no others."""
    name, *tags = call.words
    call.say(f'Setting tags for user "{name}" to [{", ".join(tags)}] ...')
    call.ask("users.tags", name=name, tags=tags)
    return None


def delete_user(call: Call) -> Result:
    """A user less."""
    call.say(f'Deleting user "{call.words[0]}" ...')
    call.ask("users.delete", name=call.words[0])
    return None


# --- limits


def _no_such_user(name: str) -> Failed:
    return Failed(Code.UNAVAILABLE, f'{{:no_such_user, "{name}"}}')


def _limits_of(call: Call, name: str) -> dict[str, int]:
    found = [row for row in call.ask_list("users.list") if row["name"] == name]
    if not found:
        raise _no_such_user(name)
    return {limit: found[0][field] for limit, field in LIMITS.items() if found[0][field] is not None}


def hash_password(call: Call) -> Result:
    """A hash that RabbitMQ knows, too."""
    from amqp_broker.access.passwords import SHA256
    from amqp_broker.access.passwords import hash_password as hashed

    call.say("Will hash password")
    value = hashed(_password(call, 0).encode("utf-8", "surrogateescape"), SHA256).value
    return Report([base64.b64encode(value).decode()])


def list_user_limits(call: Call) -> Result:
    """The limits of a user, or of all."""
    if "global" in call.options:
        call.say("Listing limits for all users ...")
        rows = [{"user": row["name"], "limits": _limits_of(call, row["name"])} for row in call.ask_list("users.list")]
        return Table(("user", "limits"), [{**row, "limits": compact(row["limits"])} for row in rows if row["limits"]])
    name = call.options.get("user", "guest")
    call.say(f'Listing limits for user "{name}" ...')
    return Report([compact(_limits_of(call, name))])


def set_user_limits(call: Call) -> Result:
    """These limits and no others."""
    name, text = call.words
    call.say(f'Setting user limits to "{text}" for user "{name}" ...')
    try:
        call.ask("users.set-limits", name=name, value=read_json(text), missing=_no_such_user(name))
    except Failed as failed:  # RabbitMQ says it without the words that stand before it elsewhere
        raise Failed(failed.code, str(failed).removeprefix("Validation failed\n\n").rstrip("\n")) from failed
    return None


def clear_user_limits(call: Call) -> Result:
    """One limit less, or all."""
    name, which = call.words
    call.say(f'Clearing {"all limits" if which == "all" else f"{chr(34)}{which}{chr(34)} limit"} for user "{name}" ...')
    kept = {} if which == "all" else {one: limit for one, limit in _limits_of(call, name).items() if one != which}
    call.ask("users.set-limits", name=name, value=kept, missing=_no_such_user(name))
    return None


# --- permissions


def _permissions(call: Call) -> list[dict[str, Any]]:
    rows = call.ask_list("permissions.list")
    if not any(row["vhost"] == call.virtual_host for row in rows):
        call.ask_list("parameters.list", vhost=call.virtual_host)  # refused when there is no such virtual host
    return rows


def list_permissions(call: Call) -> Result:
    """Who may do what in a virtual host."""
    call.say(f'Listing permissions for vhost "{call.virtual_host}" ...')
    rows = [row for row in _permissions(call) if row["vhost"] == call.virtual_host]
    return Table(("user", "configure", "write", "read"), rows)


def list_user_permissions(call: Call) -> Result:
    """What a user may do, everywhere."""
    name = call.words[0]
    call.say(f'Listing permissions for user "{name}" ...')
    _limits_of(call, name)
    rows = [row for row in call.ask_list("permissions.list") if row["user"] == name]
    return Table(("vhost", "configure", "write", "read"), rows)


def _topics(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"user": row["user"], "vhost": row["vhost"], **topic} for row in rows for topic in row["topics"]]


def list_topic_permissions(call: Call) -> Result:
    """With which routing keys users may publish and bind, in a virtual host."""
    call.say(f'Listing topic permissions for vhost "{call.virtual_host}" ...')
    rows = [row for row in _permissions(call) if row["vhost"] == call.virtual_host]
    return Table(("user", "exchange", "write", "read"), _topics(rows))


def list_user_topic_permissions(call: Call) -> Result:
    """The same of a user, everywhere."""
    name = call.words[0]
    call.say(f'Listing topic permissions for user "{name}" ...')
    _limits_of(call, name)
    rows = [row for row in call.ask_list("permissions.list") if row["user"] == name]
    return Table(("vhost", "exchange", "write", "read"), _topics(rows), has_header=False)


def _ask_for(call: Call, command: str, **arguments: Any) -> None:
    name, virtual_host = call.words[0], call.virtual_host
    users = {row["name"] for row in call.ask_list("users.list")}
    nowhere = Failed(Code.UNAVAILABLE, f"Virtual host {virtual_host} does not exist")
    call.ask(
        command,
        user=name,
        vhost=virtual_host,
        missing=nowhere if name in users else no_user(name, quote=""),
        **arguments,
    )


def set_permissions(call: Call) -> Result:
    """What a user may do in a virtual host."""
    name, configure, write, read = call.words
    call.say(f'Setting permissions for user "{name}" in vhost "{call.virtual_host}" ...')
    _ask_for(call, "permissions.set", configure=configure, write=write, read=read)
    return None


def set_permissions_globally(call: Call) -> Result:
    """What a user may do in every virtual host that there is."""
    name, configure, write, read = call.words
    call.say(f'Setting permissions for user "{name}" in all virtual hosts ...')
    may: dict[str, Any] = {"configure": configure, "write": write, "read": read}
    for row in call.ask_list("vhosts.list"):
        call.ask("permissions.set", user=name, vhost=row["name"], missing=no_user(name, quote=""), **may)
    return None


def clear_permissions(call: Call) -> Result:
    """Nothing any more."""
    call.say(f'Clearing permissions for user "{call.words[0]}" in vhost "{call.virtual_host}" ...')
    _ask_for(call, "permissions.clear")
    return None


def set_topic_permissions(call: Call) -> Result:
    """With which routing keys a user may publish and bind."""
    name, exchange, write, read = call.words
    where = f'on "{exchange}" for user "{name}" in vhost "{call.virtual_host}"'
    call.say(f"Setting topic permissions {where} ...")
    _ask_for(call, "permissions.set-topic", exchange=exchange, write=write, read=read)
    return None


def clear_topic_permissions(call: Call) -> Result:
    """With every one again."""
    name, *exchange = call.words
    which = f'on "{exchange[0]}" ' if exchange else ""
    call.say(f'Clearing topic permissions {which}for user "{name}" in vhost "{call.virtual_host}" ...')
    _ask_for(call, "permissions.clear-topic", exchange=exchange[0] if exchange else None)
    return None


_HOST = "[--vhost <vhost>]"
COMMANDS: Commands = {
    "add_user": Command(USERS, "<username> <password>", "Creates a user, who may do nothing yet", add_user, (1, 2)),
    "authenticate_user": Command(
        USERS, "<username> <password>", "Says whether a password is right", authenticate_user, (1, 2)
    ),
    "change_password": Command(USERS, "<username> <password>", "Changes a password", change_password, (1, 2)),
    "clear_password": Command(USERS, "<username>", "Lets a user log in by certificate only", clear_password, (1, 1)),
    "clear_user_limits": Command(
        USERS, "<username> <limit_type> | all", "Clears limits of a user", clear_user_limits, (2, 2)
    ),
    "delete_user": Command(USERS, "<username>", "Deletes a user and closes their connections", delete_user, (1, 1)),
    "list_user_limits": Command(
        USERS,
        "[--user <username>] [--global]",
        "Shows the limits of users",
        list_user_limits,
        options={"user": True, "global": False},
    ),
    "list_users": Command(USERS, "[--no-table-headers] [--timeout <timeout>]", "Lists users and tags", list_users),
    "set_user_limits": Command(USERS, "<username> <definition>", "Limits a user", set_user_limits, (2, 2)),
    "set_user_tags": Command(USERS, "<username> <tag> [...]", "Gives a user these tags", set_user_tags, (1, None)),
    "clear_permissions": Command(
        ACCESS, f"{_HOST} <username>", "Takes a user's permissions away", clear_permissions, (1, 1)
    ),
    "clear_topic_permissions": Command(
        ACCESS, f"{_HOST} <username> [<exchange>]", "Allows every routing key again", clear_topic_permissions, (1, 2)
    ),
    "hash_password": Command(
        USERS, "<password>", "Shows a hash of a password, as definitions take it", hash_password, (0, 1)
    ),
    "list_permissions": Command(
        ACCESS, f"{_HOST} [--no-table-headers]", "Lists permissions in a virtual host", list_permissions
    ),
    "list_topic_permissions": Command(
        ACCESS, f"{_HOST} [--no-table-headers]", "Lists topic permissions in a virtual host", list_topic_permissions
    ),
    "list_user_permissions": Command(
        ACCESS, "[--no-table-headers] <username>", "Lists the permissions of a user", list_user_permissions, (1, 1)
    ),
    "list_user_topic_permissions": Command(
        ACCESS,
        "[--no-table-headers] <username>",
        "Lists the topic permissions of a user",
        list_user_topic_permissions,
        (1, 1),
    ),
    "set_permissions_globally": Command(
        ACCESS,
        "<username> <conf> <write> <read>",
        "Says what a user may do in every virtual host that there is",
        set_permissions_globally,
        (4, 4),
    ),
    "set_permissions": Command(
        ACCESS, f"{_HOST} <username> <conf> <write> <read>", "Says what a user may do", set_permissions, (4, 4)
    ),
    "set_topic_permissions": Command(
        ACCESS,
        f"{_HOST} <username> <exchange> <write_pattern> <read_pattern>",
        "Says with which routing keys a user may publish and bind",
        set_topic_permissions,
        (4, 4),
    ),
}
