"""``amqp-broker vhosts``: the virtual hosts of a running broker."""

from __future__ import annotations

from typing import Annotated

import typer

from amqp_broker.cli import control, options, tables
from amqp_broker.cli.exit_codes import EPILOG

Name = Annotated[str, typer.Argument(metavar="NAME", help="The virtual host's name.")]
Limit = Annotated[str | None, typer.Option(metavar="NUMBER", help="Most at the same time; none for no limit.")]

application = typer.Typer(
    help="Virtual hosts of a running broker: name spaces with queues, exchanges and permissions of their own.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)


@application.command("list", epilog=EPILOG)
def list_virtual_hosts(
    as_json: control.Json = False, data_dir: options.DataDir = None, config: options.ConfigFile = None
) -> None:
    """List the virtual hosts, how many queues and connections there are, and their limits.

    \b
    amqp-broker vhosts list
    """
    rows = control.ask_list(data_dir, config, "vhosts.list")
    tables.show(rows, ("name", "queues", "connections", "queues_max", "connections_max"), as_json)


@application.command("add", epilog=EPILOG)
def add(name: Name, data_dir: options.DataDir = None, config: options.ConfigFile = None) -> None:
    """Create a virtual host; nobody may do anything in it until 'permissions set' says who.

    \b
    amqp-broker vhosts add orders
    """
    control.ask(data_dir, config, "vhosts.add", name=name)
    print(f"virtual host '{name}' added")


@application.command("limits", epilog=EPILOG)
def set_limits(
    name: Name,
    connections: Limit = None,
    queues: Limit = None,
    data_dir: options.DataDir = None,
    config: options.ConfigFile = None,
) -> None:
    """Limit the connections to a virtual host and the queues in it; what is not named stays.

    \b
    amqp-broker vhosts limits orders --connections 100 --queues 1000
    amqp-broker vhosts limits orders --queues none
    """
    limits = control.limits(connections_max=connections, queues_max=queues)
    control.ask(data_dir, config, "vhosts.limits", name=name, **limits)
    print(f"limits of virtual host '{name}' set")


@application.command("delete", epilog=EPILOG)
def delete(name: Name, data_dir: options.DataDir = None, config: options.ConfigFile = None) -> None:
    """Delete a virtual host with all queues and messages in it, and close the connections to it.

    \b
    amqp-broker vhosts delete orders
    """
    control.ask(data_dir, config, "vhosts.delete", name=name)
    print(f"virtual host '{name}' deleted")
