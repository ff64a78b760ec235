"""``amqp-broker federation``: exchanges and queues that get what is published, or waits, at other brokers."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from amqp_broker.cli import control, options, tables
from amqp_broker.cli.exit_codes import EPILOG
from amqp_broker.cli.tables import Column

COLUMNS = ("vhost", "kind", "name", "upstream", "there", "state", Column("forwarded", is_number=True))

Upstream = Annotated[str, typer.Argument(metavar="UPSTREAM", help="The name of the parameter federation-upstream.")]
Identity = Annotated[str, typer.Argument(metavar="ID", help="The link's id, which status shows.")]

application = typer.Typer(
    help="Exchanges and queues that get what is published, or waits, at other brokers.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)


@application.command("status", epilog=EPILOG)
def status(
    vhost: control.OneVirtualHost = None,
    as_json: control.Json = False,
    data_dir: options.DataDir = None,
    config: options.ConfigFile = None,
) -> None:
    """List the links, how they are, and how many messages came over each.

    \b
    amqp-broker federation status
    """
    rows = control.ask_list(data_dir, config, "federation.list", vhost=vhost)
    if as_json:
        tables.show(rows, COLUMNS, True)
        return
    tables.show([_shown(row) for row in rows], ("id", *COLUMNS), False)
    for row in rows:
        if row["reason"]:
            print(f"{row['id']}: {row['reason']}")


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "there": f"{row['upstream_name']} at {row['uri']}"}


@application.command("pause", epilog=EPILOG)
def pause(
    upstream: Upstream,
    vhost: control.VirtualHostName = "/",
    as_json: control.Json = False,
    data_dir: options.DataDir = None,
    config: options.ConfigFile = None,
) -> None:
    """Have all links to an upstream stop until they are resumed, be the broker started again meanwhile or not.

    \b
    amqp-broker federation pause paris
    """
    control.ask(data_dir, config, "federation.pause", vhost=vhost, upstream=upstream)
    control.tell(f"links to upstream '{upstream}' paused", {"vhost": vhost, "upstream": upstream}, as_json)


@application.command("resume", epilog=EPILOG)
def resume(
    upstream: Upstream,
    vhost: control.VirtualHostName = "/",
    as_json: control.Json = False,
    data_dir: options.DataDir = None,
    config: options.ConfigFile = None,
) -> None:
    """Have them go on.

    \b
    amqp-broker federation resume paris
    """
    control.ask(data_dir, config, "federation.resume", vhost=vhost, upstream=upstream)
    control.tell(f"links to upstream '{upstream}' resumed", {"vhost": vhost, "upstream": upstream}, as_json)


@application.command("restart", epilog=EPILOG)
def restart(
    identity: Identity,
    as_json: control.Json = False,
    data_dir: options.DataDir = None,
    config: options.ConfigFile = None,
) -> None:
    """Have one link connect anew, at once.

    \b
    amqp-broker federation restart 8f0e1c2a
    """
    control.ask(data_dir, config, "federation.restart", id=identity)
    control.tell(f"link '{identity}' restarted", {"id": identity}, as_json)
