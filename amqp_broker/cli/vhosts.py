"""``amqp-broker vhosts``: the virtual hosts of a running broker."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from amqp_broker.cli import control, options, tables
from amqp_broker.cli.exit_codes import EPILOG, ExitCode
from amqp_broker.cli.tables import Column

Name = Annotated[str, typer.Argument(metavar="NAME", help="The virtual host's name.")]
Description = Annotated[str | None, typer.Option("--description", metavar="TEXT", help="What it is for.")]
Tags = Annotated[list[str] | None, typer.Option("--tag", metavar="TAG", help="For people; may be repeated.")]
DefaultQueueType = Annotated[
    str | None,
    typer.Option(
        "--default-queue-type",
        metavar="TYPE",
        help="Of durable queues declared without one: classic, quorum, stream or none.",
    ),
]
Limit = Annotated[str | None, typer.Option(metavar="NUMBER", help="Most at the same time; none for no limit.")]

NUMBERS = ("queues", "connections", "queues_max", "connections_max")
COLUMNS = [Column("name"), *(Column(name, is_number=True) for name in NUMBERS)]

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
    tables.show(rows, COLUMNS, as_json)


@application.command("add", epilog=EPILOG)
def add(
    name: Name,
    description: Description = None,
    tag: Tags = None,
    default_queue_type: DefaultQueueType = None,
    as_json: control.Json = False,
    data_dir: options.DataDir = None,
    config: options.ConfigFile = None,
) -> None:
    """Create a virtual host; nobody may do anything in it until 'permissions set' says who.

    \b
    amqp-broker vhosts add orders
    amqp-broker vhosts add orders --default-queue-type quorum
    """
    metadata = _metadata(description, tag, default_queue_type)
    control.ask(data_dir, config, "vhosts.add", name=name, **metadata)
    control.tell(f"virtual host '{name}' added", {"name": name, **metadata}, as_json)


@application.command("describe", epilog=EPILOG)
def describe(
    name: Name,
    description: Description = None,
    tag: Tags = None,
    default_queue_type: DefaultQueueType = None,
    as_json: control.Json = False,
    data_dir: options.DataDir = None,
    config: options.ConfigFile = None,
) -> None:
    """Say what a virtual host is for, and of which type queues are that are declared without one; the rest stays.

    \b
    amqp-broker vhosts describe orders --description 'the shop' --tag production
    amqp-broker vhosts describe orders --default-queue-type none
    """
    metadata = _metadata(description, tag, default_queue_type)
    if not metadata:
        options.fail(ExitCode.WRONG_USE, "say something: --description, --tag or --default-queue-type")
    control.ask(data_dir, config, "vhosts.describe", name=name, **metadata)
    control.tell(f"virtual host '{name}' described", {"name": name, **metadata}, as_json)


def _is_on(switch: str) -> bool:
    """What a switch says; ends the process when that is neither on nor off."""
    if switch not in ("on", "off"):
        options.fail(ExitCode.WRONG_USE, f"say on or off, not {switch!r}")
    return switch == "on"


def _metadata(description: str | None, tags: list[str] | None, default_queue_type: str | None) -> dict[str, Any]:
    """What was given on the command line."""
    metadata: dict[str, Any] = {} if description is None else {"description": description}
    if tags:
        metadata["tags"] = tags
    if default_queue_type is not None:
        metadata["default_queue_type"] = None if default_queue_type == "none" else default_queue_type
    return metadata


@application.command("protect", epilog=EPILOG)
def protect(
    name: Name,
    switch: Annotated[str, typer.Argument(metavar="on|off", help="Whether it is protected.")],
    as_json: control.Json = False,
    data_dir: options.DataDir = None,
    config: options.ConfigFile = None,
) -> None:
    """Protect a virtual host from being deleted, by this command line and over HTTP, until that is taken back.

    \b
    amqp-broker vhosts protect orders on
    amqp-broker vhosts protect orders off
    """
    is_on = _is_on(switch)
    control.ask(data_dir, config, "vhosts.protect", name=name, on=is_on)
    text = f"virtual host '{name}' {'is protected from deletion' if is_on else 'can be deleted'}"
    control.tell(text, {"name": name, "protected": is_on}, as_json)


@application.command("limits", epilog=EPILOG)
def set_limits(
    name: Name,
    connections: Limit = None,
    queues: Limit = None,
    as_json: control.Json = False,
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
    control.tell(f"limits of virtual host '{name}' set", {"name": name, **limits}, as_json)


@application.command("trace", epilog=EPILOG)
def trace(
    name: Name,
    switch: Annotated[str, typer.Argument(metavar="on|off", help="Whether copies are made.")],
    as_json: control.Json = False,
    data_dir: options.DataDir = None,
    config: options.ConfigFile = None,
) -> None:
    """Copy all that clients publish and are given to the exchange amq.rabbitmq.trace; off again at the next start.

    The keys of the copies are publish.EXCHANGE and deliver.QUEUE: bind a queue with '#' to see them all.

    \b
    amqp-broker vhosts trace orders on
    amqp-broker vhosts trace orders off
    """
    is_on = _is_on(switch)
    control.ask(data_dir, config, "vhosts.trace", name=name, on=is_on)
    control.tell(f"tracing of virtual host '{name}' is {switch}", {"name": name, "tracing": is_on}, as_json)


@application.command("delete", epilog=EPILOG)
def delete(
    name: Name, as_json: control.Json = False, data_dir: options.DataDir = None, config: options.ConfigFile = None
) -> None:
    """Delete a virtual host with all queues and messages in it, and close the connections to it.

    \b
    amqp-broker vhosts delete orders
    """
    control.ask(data_dir, config, "vhosts.delete", name=name)
    control.tell(f"virtual host '{name}' deleted", {"name": name}, as_json)
