"""``amqp-broker drops``: how many messages went nowhere in a running broker, and why."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import typer

from amqp_broker.cli import control, options, tables
from amqp_broker.cli.exit_codes import EPILOG
from amqp_broker.cli.tables import Column

COLUMNS = (
    Column("count", is_number=True),
    Column("reason", is_whole=True),
    "vhost",
    "exchange",
    Column("key", "routing_key"),
    "queue",
    "user",
    "policy",
    Column("last", is_whole=True),
)

application = typer.Typer(add_completion=False, rich_markup_mode=None)


@application.command(epilog=EPILOG)
def drops(
    vhost: control.OneVirtualHost = None,
    as_json: control.Json = False,
    data_dir: options.DataDir = None,
    config: options.ConfigFile = None,
) -> None:
    """Show how many messages went nowhere since the broker began: the reason, and from where they came.

    \b
    amqp-broker drops
    amqp-broker drops --json | jq .by_reason
    """
    by_reason = control.ask(data_dir, config, "drops.count")
    rows = control.ask_list(data_dir, config, "drops.list", vhost=vhost)
    if as_json:
        print(json.dumps({"by_reason": by_reason, "drops": rows}, indent=2))
        return
    tables.show([{**row, **_shown(row)} for row in rows], COLUMNS, False)


def _shown(row: dict[str, Any]) -> dict[str, str]:
    last_ms = row["last_at"]
    if last_ms is None:
        return {"exchange": "(others)", "routing_key": "(others)", "last": ""}
    return {"last": f"{datetime.fromtimestamp(last_ms / 1000, UTC):%m-%d %H:%MZ}"}
