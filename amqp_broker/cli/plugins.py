"""``amqp-broker plugins``: what the packages of this environment bring. Asks no broker."""

from __future__ import annotations

from typing import Annotated

import typer

from amqp_broker.broker.plugin_types import EXCHANGE_TYPES, PluginType, find_plugin_types
from amqp_broker.cli import control, tables
from amqp_broker.cli.exit_codes import EPILOG
from amqp_broker.errors import AmqpError

COLUMNS = ("kind", "name", "package", "module", "state")

application = typer.Typer(
    help="What the packages of this environment bring to a broker.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)


@application.callback()
def _group() -> None:
    """What the packages of this environment bring to a broker."""


@application.command("list", epilog=EPILOG)
def list_plugins(
    check: Annotated[bool, typer.Option("--check", help="Load each, and say which cannot be.")] = False,
    as_json: control.Json = False,
) -> None:
    """List the exchange types that installed packages bring, those in the box among them.

    \b
    amqp-broker plugins list
    amqp-broker plugins list --check --json
    """
    rows = []
    for plugin in find_plugin_types("exchange", EXCHANGE_TYPES).values():
        row = {"kind": "exchange type", "name": plugin.name, "package": plugin.package, "module": plugin.value}
        rows.append({**row, "state": _state(plugin) if check else "found"})
    rows.sort(key=lambda row: row["name"])
    tables.show(rows, COLUMNS, as_json)


def _state(plugin: PluginType) -> str:
    try:
        plugin.load()
    except AmqpError as error:
        return error.explanation
    return "loads"
