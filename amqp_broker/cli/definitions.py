"""``amqp-broker definitions``: users, virtual hosts, policies, queues, exchanges and bindings as a file, and back."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from amqp_broker.cli import control, options
from amqp_broker.cli.exit_codes import EPILOG, ExitCode
from amqp_broker.explanations import json_mistake, system_reason

File = Annotated[str, typer.Argument(metavar="FILE", help="A file of JSON; - for standard output or input.")]
OneVirtualHost = Annotated[
    str | None, typer.Option("--vhost", metavar="NAME", help="Of or into this one only. Default: the whole broker.")
]
OWN_FILE_MODE = 0o600  # it has the hashes of passwords

application = typer.Typer(
    help="Definitions of a running broker, in RabbitMQ's JSON: all but the messages.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)


@application.command("export", epilog=EPILOG)
def export(
    file: File = "-",
    vhost: OneVirtualHost = None,
    data_dir: options.DataDir = None,
    config: options.ConfigFile = None,
) -> None:
    """Write what is defined, as RabbitMQ does it; the whole has users with the hashes of their passwords.

    \b
    amqp-broker definitions export broker.json
    amqp-broker definitions export --vhost orders | jq '.queues[].name'
    """
    document: dict[str, Any] = {}
    for row in control.ask_list(data_dir, config, "definitions.export", vhost=vhost):
        if row["section"] is None:
            document.update(row["item"])
        else:
            document[row["section"]].append(row["item"])
    text = json.dumps(document, indent=2) + "\n"
    if file == "-":
        sys.stdout.write(text)
        return
    try:
        with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, OWN_FILE_MODE), "w", encoding="utf-8") as out:
            out.write(text)
    except OSError as error:
        options.fail(ExitCode.WRONG_USE, f"cannot write {file}: {system_reason(error)}")
    print(f"definitions written to {file}")


@application.command("import", epilog=EPILOG)
def import_from(
    file: File,
    vhost: OneVirtualHost = None,
    as_json: control.Json = False,
    data_dir: options.DataDir = None,
    config: options.ConfigFile = None,
) -> None:
    """Have all that a file says, or nothing of it; RabbitMQ's files are taken, too.

    Queues, exchanges and bindings that are there already stay as they are; all else is as the file says afterwards.

    \b
    amqp-broker definitions import broker.json
    amqp-broker definitions import orders.json --vhost orders
    """
    from amqp_broker.broker.json_values import read_json  # few commands need it

    name = "standard input" if file == "-" else file
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text("utf-8")
        document = read_json(text)
    except OSError as error:
        options.fail(ExitCode.WRONG_USE, f"cannot read {name}: {system_reason(error)}")
    except (ValueError, RecursionError) as error:
        options.fail(ExitCode.WRONG_USE, f"{name} is not JSON: {json_mistake(error)}")
    counts = control.ask(data_dir, config, "definitions.import", definitions=document, vhost=vhost)
    if as_json:
        print(json.dumps(counts))
        return
    left_out = counts.pop("left_out")
    found = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    print(f"imported: {found or 'nothing that was not there'}")
    if left_out:
        print(f"left out: {left_out}, of the broker's own names or without a source or a destination")
