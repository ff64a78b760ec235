"""``amqp-broker exchanges``: the exchanges of a running broker."""

from __future__ import annotations

import typer

from amqp_broker.cli import control, options, tables
from amqp_broker.cli.exit_codes import EPILOG

COLUMNS = ("vhost", "name", "type", "features", "arguments")
FEATURES = {"durable": "D", "auto_delete": "AD", "internal": "I"}

application = typer.Typer(
    help="Exchanges of a running broker.", no_args_is_help=True, add_completion=False, rich_markup_mode=None
)


@application.callback()
def _group() -> None:
    """With one command alone, 'list' would be left out."""


@application.command("list", epilog=EPILOG)
def list_exchanges(
    vhost: control.OneVirtualHost = None,
    as_json: control.Json = False,
    data_dir: options.DataDir = None,
    config: options.ConfigFile = None,
) -> None:
    """List the exchanges; the one without a name is the default exchange.

    Features: D durable, AD deleted with its last binding, I internal: clients cannot publish to it.

    \b
    amqp-broker exchanges list
    amqp-broker exchanges list --vhost orders --json
    """
    rows = control.ask_list(data_dir, config, "exchanges.list", vhost=vhost)
    rows.sort(key=lambda row: (row["vhost"], row["name"]))
    shown = rows if as_json else [{**row, "features": control.features(row, FEATURES)} for row in rows]
    tables.show(shown, COLUMNS, as_json)
