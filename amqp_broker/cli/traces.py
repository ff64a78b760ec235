"""``amqp-broker traces``: what clients of a running broker publish and get, written to files."""

from __future__ import annotations

from typing import Annotated

import typer

from amqp_broker.cli import control, options, tables
from amqp_broker.cli.exit_codes import EPILOG, ExitCode
from amqp_broker.cli.tables import Column

Name = Annotated[str, typer.Argument(metavar="NAME", help="The trace's name; its file is NAME.log.")]

COLUMNS = (
    "vhost",
    "name",
    "format",
    "pattern",
    "file",
    Column("written", is_number=True),
    Column("left out", "left_out", is_number=True),
)

application = typer.Typer(
    help="What clients of a running broker publish and get, written to files in the folder traces of its data folder.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)


@application.command("add", epilog=EPILOG)
def add_trace(
    name: Name,
    form: Annotated[str, typer.Option("--format", metavar="FORMAT", help="json or text.")] = "text",
    pattern: Annotated[
        str,
        typer.Option(
            "--pattern", metavar="PATTERN", help="Of publish.EXCHANGE and deliver.QUEUE, as a topic exchange's."
        ),
    ] = "#",
    vhost: control.VirtualHostName = "/",
    max_payload_bytes: Annotated[
        int | None, typer.Option("--max-payload-bytes", metavar="N", help="Of each body. Default: all of it.")
    ] = None,
    max_file_bytes: Annotated[
        int | None,
        typer.Option(
            "--max-file-bytes", metavar="N", help="Then the file is put aside as NAME.log.1. Default: 100 MiB."
        ),
    ] = None,
    as_json: control.Json = False,
    data_dir: options.DataDir = None,
    config: options.ConfigFile = None,
) -> None:
    """Begin a trace; it ends with the broker, or when it is removed. It turns the virtual host's firehose on.

    \b
    amqp-broker traces add all
    amqp-broker traces add orders --format json --pattern 'publish.orders'
    """
    if form not in ("json", "text"):
        options.fail(ExitCode.WRONG_USE, f"--format takes json or text, not {form!r}")
    asked = {"format": form, "pattern": pattern, "max_payload_bytes": max_payload_bytes}
    said = control.ask(data_dir, config, "traces.add", vhost=vhost, name=name, max_file_bytes=max_file_bytes, **asked)
    control.tell(f"trace '{name}' added: traces/{said['file']} in the data folder", said, as_json)


@application.command("list", epilog=EPILOG)
def list_traces(
    vhost: control.OneVirtualHost = None,
    as_json: control.Json = False,
    data_dir: options.DataDir = None,
    config: options.ConfigFile = None,
) -> None:
    """List the traces.

    \b
    amqp-broker traces list
    """
    tables.show(control.ask_list(data_dir, config, "traces.list", vhost=vhost), COLUMNS, as_json)


@application.command("remove", epilog=EPILOG)
def remove_trace(
    name: Name,
    vhost: control.VirtualHostName = "/",
    as_json: control.Json = False,
    data_dir: options.DataDir = None,
    config: options.ConfigFile = None,
) -> None:
    """End a trace; its file stays. With the last one, the virtual host's firehose is turned off.

    \b
    amqp-broker traces remove all
    """
    control.ask(data_dir, config, "traces.remove", vhost=vhost, name=name)
    control.tell(f"trace '{name}' removed", {"vhost": vhost, "name": name}, as_json)
