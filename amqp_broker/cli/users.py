"""``amqp-broker users``: the users of a running broker."""

from __future__ import annotations

from typing import Annotated

import typer

from amqp_broker.cli import control, options, tables
from amqp_broker.cli.exit_codes import EPILOG
from amqp_broker.cli.tables import Column

Name = Annotated[str, typer.Argument(metavar="NAME", help="The user's name.")]
Tags = Annotated[list[str] | None, typer.Option("--tag", metavar="TAG", help="A tag, as administrator; repeatable.")]
FromStdin = Annotated[
    bool, typer.Option("--password-stdin", help="Take the password from standard input. Default: ask on the terminal.")
]
NoPassword = Annotated[bool, typer.Option("--no-password", help="No password: by certificate only.")]
Hash = Annotated[
    str, typer.Option("--hash", metavar="NAME", help="scrypt; or sha256, sha512, which RabbitMQ can read as well.")
]
Limit = Annotated[str | None, typer.Option(metavar="NUMBER", help="Most at the same time; none for no limit.")]

COLUMNS = (
    "name",
    "tags",
    Column("connections", is_number=True),
    Column("connections_max", is_number=True),
    Column("channels_max", is_number=True),
)

application = typer.Typer(
    help="Users of a running broker. Everything takes effect at once, for connections that are open too.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)


@application.command("list", epilog=EPILOG)
def list_users(
    as_json: control.Json = False, data_dir: options.DataDir = None, config: options.ConfigFile = None
) -> None:
    """List the users, their tags, how many connections they have, and their limits.

    \b
    amqp-broker users list
    amqp-broker users list --json --data-dir /var/lib/amqp-broker
    """
    rows = control.ask_list(data_dir, config, "users.list")
    tables.show(rows, COLUMNS, as_json)


@application.command("add", epilog=EPILOG)
def add(
    name: Name,
    tags: Tags = None,
    password_stdin: FromStdin = False,
    no_password: NoPassword = False,
    hash_name: Hash = "scrypt",
    as_json: control.Json = False,
    data_dir: options.DataDir = None,
    config: options.ConfigFile = None,
) -> None:
    """Create a user, who may do nothing until 'permissions set' says what.

    \b
    amqp-broker users add ada --tag administrator
    amqp-broker users add shop --password-stdin < secret
    amqp-broker users add device-7 --no-password
    """
    control.check_hash(hash_name)
    password = control.read_password(password_stdin, no_password)
    control.ask(data_dir, config, "users.add", name=name, password=password, tags=tags or [], hash=hash_name)
    control.tell(f"user '{name}' added", {"name": name, "tags": tags or []}, as_json)


@application.command("password", epilog=EPILOG)
def change_password(
    name: Name,
    password_stdin: FromStdin = False,
    no_password: NoPassword = False,
    hash_name: Hash = "scrypt",
    as_json: control.Json = False,
    data_dir: options.DataDir = None,
    config: options.ConfigFile = None,
) -> None:
    """Change a user's password; connections that are open stay open.

    \b
    amqp-broker users password ada
    """
    control.check_hash(hash_name)
    password = control.read_password(password_stdin, no_password)
    control.ask(data_dir, config, "users.password", name=name, password=password, hash=hash_name)
    control.tell(f"password of user '{name}' changed", {"name": name}, as_json)


@application.command("tags", epilog=EPILOG)
def set_tags(
    name: Name,
    tags: Annotated[list[str] | None, typer.Argument(metavar="[TAG]...", help="All the tags there shall be.")] = None,
    as_json: control.Json = False,
    data_dir: options.DataDir = None,
    config: options.ConfigFile = None,
) -> None:
    """Give a user these tags, and take all others away.

    \b
    amqp-broker users tags ada administrator impersonator
    amqp-broker users tags ada
    """
    control.ask(data_dir, config, "users.tags", name=name, tags=tags or [])
    text = f"tags of user '{name}': {' '.join(tags or []) or 'none'}"
    control.tell(text, {"name": name, "tags": tags or []}, as_json)


@application.command("limits", epilog=EPILOG)
def set_limits(
    name: Name,
    connections: Limit = None,
    channels: Limit = None,
    as_json: control.Json = False,
    data_dir: options.DataDir = None,
    config: options.ConfigFile = None,
) -> None:
    """Limit a user's connections and channels, all connections together; what is not named stays.

    \b
    amqp-broker users limits shop --connections 20 --channels 100
    amqp-broker users limits shop --connections none
    """
    limits = control.limits(connections_max=connections, channels_max=channels)
    control.ask(data_dir, config, "users.limits", name=name, **limits)
    control.tell(f"limits of user '{name}' set", {"name": name, **limits}, as_json)


@application.command("delete", epilog=EPILOG)
def delete(
    name: Name, as_json: control.Json = False, data_dir: options.DataDir = None, config: options.ConfigFile = None
) -> None:
    """Delete a user with all permissions, and close the user's connections.

    \b
    amqp-broker users delete guest
    """
    control.ask(data_dir, config, "users.delete", name=name)
    control.tell(f"user '{name}' deleted", {"name": name}, as_json)
