"""``amqp-broker permissions``: who may do what in the virtual hosts of a running broker."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from amqp_broker.cli import control, options, tables
from amqp_broker.cli.exit_codes import EPILOG

User = Annotated[str, typer.Argument(metavar="USER", help="The user's name.")]
Configure = Annotated[str, typer.Argument(metavar="CONFIGURE", help="Pattern of what may be created and deleted.")]
Write = Annotated[str, typer.Argument(metavar="WRITE", help="Pattern of what may be written to.")]
Read = Annotated[str, typer.Argument(metavar="READ", help="Pattern of what may be read from.")]
Exchange = Annotated[str, typer.Argument(metavar="EXCHANGE", help="The topic exchange's name.")]

application = typer.Typer(
    help="Who may do what in which virtual host of a running broker. Patterns are regular expressions of names; an "
    "empty one matches no name, and '^orders\\.' what begins so. They act at once, on connections that are open too.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)


@application.command("list", epilog=EPILOG)
def list_permissions(
    as_json: control.Json = False, data_dir: options.DataDir = None, config: options.ConfigFile = None
) -> None:
    """List the permissions of all users in all virtual hosts.

    \b
    amqp-broker permissions list
    """
    rows = control.ask_list(data_dir, config, "permissions.list")
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    tables.show(rows, ("user", "vhost", "configure", "write", "read"), False)
    topics = [{**row, **topic} for row in rows for topic in row["topics"]]
    if topics:
        print()
        tables.show(topics, ("user", "vhost", "exchange", "write", "read"), False)


@application.command("set", epilog=EPILOG)
def set_permission(
    user: User,
    configure: Configure,
    write: Write,
    read: Read,
    vhost: control.VirtualHostName = "/",
    as_json: control.Json = False,
    data_dir: options.DataDir = None,
    config: options.ConfigFile = None,
) -> None:
    """Say what a user may do in a virtual host.

    \b
    amqp-broker permissions set ada '.*' '.*' '.*'
    amqp-broker permissions set shop '^shop' '^(shop|amq\\.default$)' '^shop'
    amqp-broker permissions set watcher '' '' '.*'
    """
    arguments = {"user": user, "vhost": vhost, "configure": configure, "write": write, "read": read}
    control.ask(data_dir, config, "permissions.set", **arguments)
    control.tell(f"permissions of user '{user}' in '{vhost}' set", arguments, as_json)


@application.command("clear", epilog=EPILOG)
def clear_permission(
    user: User,
    vhost: control.VirtualHostName = "/",
    as_json: control.Json = False,
    data_dir: options.DataDir = None,
    config: options.ConfigFile = None,
) -> None:
    """Take all that a user may do in a virtual host away.

    \b
    amqp-broker permissions clear shop --vhost orders
    """
    control.ask(data_dir, config, "permissions.clear", user=user, vhost=vhost)
    control.tell(f"permissions of user '{user}' in '{vhost}' cleared", {"user": user, "vhost": vhost}, as_json)


@application.command("set-topic", epilog=EPILOG)
def set_topic_permission(
    user: User,
    exchange: Exchange,
    write: Write,
    read: Read,
    vhost: control.VirtualHostName = "/",
    as_json: control.Json = False,
    data_dir: options.DataDir = None,
    config: options.ConfigFile = None,
) -> None:
    """Say with which routing keys a user may publish to (WRITE) and bind (READ) a topic exchange.

    {username} and {vhost} in a pattern stand for the names, {client_id} for that of a client of MQTT. Without this,
    every key is allowed.

    \b
    amqp-broker permissions set-topic ada amq.topic '^{username}$' '^{username}'
    """
    arguments = {"user": user, "vhost": vhost, "exchange": exchange, "write": write, "read": read}
    control.ask(data_dir, config, "permissions.set-topic", **arguments)
    text = f"topic permissions of user '{user}' on '{exchange}' in '{vhost}' set"
    control.tell(text, arguments, as_json)


@application.command("clear-topic", epilog=EPILOG)
def clear_topic_permission(
    user: User,
    exchange: Annotated[str | None, typer.Argument(metavar="[EXCHANGE]", help="Default: all exchanges.")] = None,
    vhost: control.VirtualHostName = "/",
    as_json: control.Json = False,
    data_dir: options.DataDir = None,
    config: options.ConfigFile = None,
) -> None:
    """Allow a user every routing key again.

    \b
    amqp-broker permissions clear-topic device-7 amq.topic
    """
    control.ask(data_dir, config, "permissions.clear-topic", user=user, vhost=vhost, exchange=exchange)
    text = f"topic permissions of user '{user}' in '{vhost}' cleared"
    control.tell(text, {"user": user, "vhost": vhost, "exchange": exchange}, as_json)
