"""``amqp-broker shovels``: messages that are carried from a queue or exchange to another, here or at other brokers."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from amqp_broker.cli import control, options, tables
from amqp_broker.cli.exit_codes import EPILOG, ExitCode
from amqp_broker.cli.tables import Column

COMPONENT = "shovel"
COLUMNS = ("vhost", "name", "state", "from", "to", Column("carried", is_number=True))

Name = Annotated[str, typer.Argument(metavar="NAME", help="The shovel's name.")]
From = Annotated[
    str, typer.Option("--from", metavar="ADDRESS", help="The broker that messages come from; amqp:// is this one.")
]
To = Annotated[str, typer.Option("--to", metavar="ADDRESS", help="The broker that they go to; amqp:// is this one.")]
SourceQueue = Annotated[str | None, typer.Option("--from-queue", metavar="NAME", help="The queue that they come from.")]
SourceExchange = Annotated[str | None, typer.Option("--from-exchange", metavar="NAME", help="Or the exchange.")]
SourceKey = Annotated[
    str | None, typer.Option("--from-key", metavar="KEY", help="What is bound to it. Default: empty.")
]
TargetQueue = Annotated[str | None, typer.Option("--to-queue", metavar="NAME", help="The queue that they go to.")]
TargetExchange = Annotated[
    str | None, typer.Option("--to-exchange", metavar="NAME", help="Or the exchange. Default: that of each message.")
]
TargetKey = Annotated[str | None, typer.Option("--to-key", metavar="KEY", help="Default: that of each message.")]
Mode = Annotated[
    str | None,
    typer.Option("--ack", metavar="MODE", help="on-confirm (the default: nothing is lost), on-publish or no-ack."),
]
Until = Annotated[
    str | None,
    typer.Option("--until", metavar="COUNT", help="Go after so many messages, or queue-length: those there are now."),
]
Prefetch = Annotated[int | None, typer.Option("--prefetch", metavar="COUNT", help="On the way at once. Default: 1000.")]
Delay = Annotated[
    int | None, typer.Option("--reconnect", metavar="SECONDS", help="Pause before a new attempt. Default: 5.")
]

application = typer.Typer(
    help="Messages that are carried from a queue or exchange to another, here or at other brokers.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)


@application.command("list", epilog=EPILOG)
def list_shovels(
    vhost: control.OneVirtualHost = None,
    as_json: control.Json = False,
    data_dir: options.DataDir = None,
    config: options.ConfigFile = None,
) -> None:
    """List the shovels, how they are, and how many messages each has carried since the broker has started.

    \b
    amqp-broker shovels list
    """
    rows = control.ask_list(data_dir, config, "shovels.list", vhost=vhost)
    if as_json:
        tables.show(rows, COLUMNS, True)
        return
    tables.show([_shown(row) for row in rows], COLUMNS, False)
    for row in rows:
        if row["reason"]:
            print(f"{row['name']}: {row['reason']}")


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    def where(end: str, uri: str) -> str:
        return end if uri == "amqp://" else f"{end} at {uri}"

    return {
        **row,
        "from": where(row["source"], row["source_uri"]),
        "to": where(row["destination"], row["destination_uri"]),
    }


@application.command("add", epilog=EPILOG)
def add(
    name: Name,
    source: From = "amqp://",
    to: To = "amqp://",
    from_queue: SourceQueue = None,
    from_exchange: SourceExchange = None,
    from_key: SourceKey = None,
    to_queue: TargetQueue = None,
    to_exchange: TargetExchange = None,
    to_key: TargetKey = None,
    ack: Mode = None,
    until: Until = None,
    prefetch: Prefetch = None,
    reconnect: Delay = None,
    vhost: control.VirtualHostName = "/",
    as_json: control.Json = False,
    data_dir: options.DataDir = None,
    config: options.ConfigFile = None,
) -> None:
    """Have messages carried, or have it done differently; it goes on when the broker starts again.

    \b
    amqp-broker shovels add retry --from-queue failed --to-queue orders
    amqp-broker shovels add copy --from amqp://old --from-queue in --to-queue in
    """
    given = {
        "src-uri": source,
        "dest-uri": to,
        "src-queue": from_queue,
        "src-exchange": from_exchange,
        "src-exchange-key": from_key,
        "dest-queue": to_queue,
        "dest-exchange": to_exchange,
        "dest-exchange-key": to_key,
        "ack-mode": ack,
        "src-delete-after": int(until) if until is not None and until.isascii() and until.isdigit() else until,
        "prefetch-count": prefetch,
        "reconnect-delay": reconnect,
    }
    if from_queue is None and from_exchange is None:
        options.fail(ExitCode.WRONG_USE, "name where messages come from: --from-queue or --from-exchange")
    value = {key: one for key, one in given.items() if one is not None}
    control.ask(data_dir, config, "parameters.set", component=COMPONENT, vhost=vhost, name=name, value=value)
    text = f"shovel '{name}' set: 'amqp-broker shovels list' tells how it is"
    control.tell(text, {"vhost": vhost, "name": name, "value": value}, as_json)


@application.command("remove", epilog=EPILOG)
def remove(
    name: Name,
    vhost: control.VirtualHostName = "/",
    as_json: control.Json = False,
    data_dir: options.DataDir = None,
    config: options.ConfigFile = None,
) -> None:
    """Have messages carried no longer; those that have not arrived are where they were.

    \b
    amqp-broker shovels remove copy
    """
    control.ask(data_dir, config, "parameters.clear", component=COMPONENT, vhost=vhost, name=name)
    control.tell(f"shovel '{name}' removed", {"vhost": vhost, "name": name}, as_json)


@application.command("pause", epilog=EPILOG)
def pause(
    name: Name,
    vhost: control.VirtualHostName = "/",
    as_json: control.Json = False,
    data_dir: options.DataDir = None,
    config: options.ConfigFile = None,
) -> None:
    """Have one stop until it is resumed, be the broker started again meanwhile or not.

    \b
    amqp-broker shovels pause copy
    """
    control.ask(data_dir, config, "shovels.pause", vhost=vhost, name=name)
    control.tell(f"shovel '{name}' paused", {"vhost": vhost, "name": name}, as_json)


@application.command("resume", epilog=EPILOG)
def resume(
    name: Name,
    vhost: control.VirtualHostName = "/",
    as_json: control.Json = False,
    data_dir: options.DataDir = None,
    config: options.ConfigFile = None,
) -> None:
    """Have one go on.

    \b
    amqp-broker shovels resume copy
    """
    control.ask(data_dir, config, "shovels.resume", vhost=vhost, name=name)
    control.tell(f"shovel '{name}' resumed", {"vhost": vhost, "name": name}, as_json)


@application.command("restart", epilog=EPILOG)
def restart(
    name: Name,
    vhost: control.VirtualHostName = "/",
    as_json: control.Json = False,
    data_dir: options.DataDir = None,
    config: options.ConfigFile = None,
) -> None:
    """Have one connect anew, at once.

    \b
    amqp-broker shovels restart copy
    """
    control.ask(data_dir, config, "shovels.restart", vhost=vhost, name=name)
    control.tell(f"shovel '{name}' restarted", {"vhost": vhost, "name": name}, as_json)
