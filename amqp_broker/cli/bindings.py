"""``amqp-broker bindings``: the bindings of a running broker."""

from __future__ import annotations

import typer

from amqp_broker.cli import control, options, tables
from amqp_broker.cli.exit_codes import EPILOG
from amqp_broker.cli.tables import Column

COLUMNS = (
    "vhost",
    "source",
    Column("kind", "destination_type"),
    "destination",
    Column("key", "routing_key"),
    "arguments",
)

application = typer.Typer(
    help="Bindings of a running broker.", no_args_is_help=True, add_completion=False, rich_markup_mode=None
)


@application.callback()
def _group() -> None:
    """With one command alone, 'list' would be left out."""


@application.command("list", epilog=EPILOG)
def list_bindings(
    vhost: control.OneVirtualHost = None,
    as_json: control.Json = False,
    data_dir: options.DataDir = None,
    config: options.ConfigFile = None,
) -> None:
    """List the bindings, from an exchange to a queue or another exchange.

    Left out is what every queue has: the default exchange's binding by the queue's name.

    \b
    amqp-broker bindings list
    amqp-broker bindings list --vhost orders --json
    """
    rows = control.ask_list(data_dir, config, "bindings.list", vhost=vhost)
    rows.sort(key=lambda row: (row["vhost"], row["source"], row["destination"], row["routing_key"]))
    tables.show(rows, COLUMNS, as_json)
