"""``amqp-broker connections``: the clients that are connected to a running broker."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from amqp_broker.cli import control, options, tables
from amqp_broker.cli.exit_codes import EPILOG
from amqp_broker.cli.tables import Column

Name = Annotated[
    str, typer.Argument(metavar="NAME", help="As 'connections list' shows it: peer, name, or both ends from the JSON.")
]

COLUMNS = (
    Column("peer", is_whole=True),
    "user",
    "vhost",
    Column("name", "user_provided_name"),
    "protocol",
    Column("tls", "ssl"),
    Column("channels", is_number=True),
    "state",
)

application = typer.Typer(
    help="Clients that are connected to a running broker, and how to end a connection.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)


@application.command("list", epilog=EPILOG)
def list_connections(
    vhost: control.OneVirtualHost = None,
    as_json: control.Json = False,
    data_dir: options.DataDir = None,
    config: options.ConfigFile = None,
) -> None:
    """List the open connections. The name is the one that the client has given itself.

    A blocked connection publishes while memory or disk runs out, and is not read before there is room again. The JSON
    has more: the client's product and version, TLS, bytes, since when.

    \b
    amqp-broker connections list
    amqp-broker connections list --vhost orders --json
    """
    rows = control.ask_list(data_dir, config, "connections.list", vhost=vhost)
    rows.sort(key=lambda row: (row["vhost"], row["user"], row["peer_host"], row["peer_port"]))
    tables.show(rows if as_json else [{**row, "peer": _peer(row)} for row in rows], COLUMNS, as_json)


@application.command("close", epilog=EPILOG)
def close(
    name: Name,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="What the client is told.")] = (
        "closed by an administrator"
    ),
    as_json: control.Json = False,
    data_dir: options.DataDir = None,
    config: options.ConfigFile = None,
) -> None:
    """Close a connection; of several with the same name, all of them. The client is told the reason, code 320.

    \b
    amqp-broker connections close 127.0.0.1:50412
    amqp-broker connections close shop-7 --reason 'maintenance at noon'
    """
    count = control.ask(data_dir, config, "connections.close", name=name, reason=reason)
    text = f"{control.counted(count, 'connection')} '{name}' closed"
    control.tell(text, {"name": name, "connections": count}, as_json)


def _peer(row: dict[str, Any]) -> str:
    return str(row["name"].partition(" -> ")[0])
