"""``amqp-broker queues``: the queues of a running broker."""

from __future__ import annotations

from typing import Annotated

import typer

from amqp_broker.cli import control, options, queue_details, queue_messages, tables
from amqp_broker.cli.exit_codes import EPILOG
from amqp_broker.cli.tables import Column

Name = Annotated[str, typer.Argument(metavar="NAME", help="The queue's name.")]

COLUMNS = (
    "vhost",
    "name",
    "type",
    "features",
    Column("ready", "messages_ready", is_number=True),
    Column("unacked", "messages_unacknowledged", is_number=True),
    Column("consumers", is_number=True),
)
FEATURES = {"durable": "D", "auto_delete": "AD", "exclusive": "Excl", "arguments": "Args"}

application = typer.Typer(
    help="Queues of a running broker: what they hold, and how to empty or delete one, or move what is in it.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)


@application.command("list", epilog=EPILOG)
def list_queues(
    vhost: control.OneVirtualHost = None,
    as_json: control.Json = False,
    data_dir: options.DataDir = None,
    config: options.ConfigFile = None,
) -> None:
    """List the queues with their messages and consumers.

    Features: D durable, AD deleted with its last consumer, Excl exclusive to one connection, Args has arguments. The
    JSON has everything, the arguments too.

    \b
    amqp-broker queues list
    amqp-broker queues list --vhost orders --json
    amqp-broker queues list --json | jq -r '.[] | select(.messages > 99) | .name'
    """
    rows = control.ask_list(data_dir, config, "queues.list", vhost=vhost)
    rows.sort(key=lambda row: (row["vhost"], row["name"]))
    shown = rows if as_json else [{**row, "features": control.features(row, FEATURES)} for row in rows]
    tables.show(shown, COLUMNS, as_json)


queue_details.add_to(application)


@application.command("purge", epilog=EPILOG)
def purge(
    name: Name,
    vhost: control.VirtualHostName = "/",
    as_json: control.Json = False,
    data_dir: options.DataDir = None,
    config: options.ConfigFile = None,
) -> None:
    """Drop all messages of a queue that are ready; those that consumers have and did not acknowledge stay theirs.

    \b
    amqp-broker queues purge retries
    amqp-broker queues purge billing --vhost orders
    """
    count = control.ask(data_dir, config, "queues.purge", name=name, vhost=vhost)
    text = f"queue '{name}' in '{vhost}' purged of {control.counted(count, 'message')}"
    control.tell(text, {"vhost": vhost, "name": name, "messages": count}, as_json)


@application.command("delete", epilog=EPILOG)
def delete(
    name: Name,
    vhost: control.VirtualHostName = "/",
    if_empty: Annotated[bool, typer.Option("--if-empty", help="Only when no messages are ready.")] = False,
    if_unused: Annotated[bool, typer.Option("--if-unused", help="Only when it has no consumers.")] = False,
    as_json: control.Json = False,
    data_dir: options.DataDir = None,
    config: options.ConfigFile = None,
) -> None:
    """Delete a queue with all messages in it; its consumers are told.

    \b
    amqp-broker queues delete retries --if-empty --if-unused
    amqp-broker queues delete billing --vhost orders
    """
    conditions = {"if_empty": if_empty, "if_unused": if_unused}
    count = control.ask(data_dir, config, "queues.delete", name=name, vhost=vhost, **conditions)
    text = f"queue '{name}' in '{vhost}' deleted with {control.counted(count, 'message')}"
    control.tell(text, {"vhost": vhost, "name": name, "messages": count}, as_json)


queue_messages.add_to(application)
