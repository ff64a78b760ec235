"""``amqp-broker consumers``: who consumes from the queues of a running broker."""

from __future__ import annotations

from typing import Any

import typer

from amqp_broker.cli import control, options, tables
from amqp_broker.cli.exit_codes import EPILOG
from amqp_broker.cli.tables import Column

COLUMNS = (
    "vhost",
    "queue",
    Column("tag", "consumer_tag", gives_way=True),
    Column("channel", is_whole=True),
    Column("prefetch", "prefetch_count", is_number=True),
    Column("unacked", "messages_unacknowledged", is_number=True),
    "mode",
)

application = typer.Typer(
    help="Consumers of a running broker.", no_args_is_help=True, add_completion=False, rich_markup_mode=None
)


@application.callback()
def _group() -> None:
    """With one command alone, 'list' would be left out."""


@application.command("list", epilog=EPILOG)
def list_consumers(
    vhost: control.OneVirtualHost = None,
    as_json: control.Json = False,
    data_dir: options.DataDir = None,
    config: options.ConfigFile = None,
) -> None:
    """List the consumers: of which queue, on which channel, and how many messages they have not acknowledged yet.

    A prefetch of 0 is no limit. Modes: auto is acknowledged automatically, excl exclusive, waits for a single active
    consumer to go.

    \b
    amqp-broker consumers list
    amqp-broker consumers list --vhost orders --json
    """
    rows = control.ask_list(data_dir, config, "consumers.list", vhost=vhost)
    rows.sort(key=lambda row: (row["vhost"], row["queue"]))
    shown = rows if as_json else [{**row, "channel": _channel(row["channel"]), "mode": _mode(row)} for row in rows]
    tables.show(shown, COLUMNS, as_json)


def _mode(row: dict[str, Any]) -> str:
    modes = {"auto": not row["ack_required"], "excl": row["exclusive"], "waits": not row["active"]}
    return " ".join(name for name, is_so in modes.items() if is_so)


def _channel(channel: dict[str, object]) -> str:
    return f"{channel['peer_host']}:{channel['peer_port']} ({channel['number']})"
