"""``amqp-broker streams``: super streams of a running broker."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from amqp_broker.cli import control, options
from amqp_broker.cli.exit_codes import EPILOG, ExitCode

PARTITIONS_MAX = 400  # as many as clients of the stream protocol may make

application = typer.Typer(
    help="Super streams of a running broker.", no_args_is_help=True, add_completion=False, rich_markup_mode=None
)


@application.command("add-super-stream", epilog=EPILOG)
def add_super_stream(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the super stream, and before those of partitions.")],
    vhost: control.VirtualHostName = "/",
    partitions: Annotated[
        int, typer.Option("--partitions", metavar="NUMBER", help="How many there are, with keys 0, 1, 2 ...")
    ] = 3,
    routing_keys: Annotated[
        str | None,
        typer.Option("--routing-keys", metavar="KEYS", help="Those of the partitions, with commas: a partition each."),
    ] = None,
    max_age: Annotated[
        str | None,
        typer.Option("--max-age", metavar="AGE", help="How old entries may become, as 7D. Default: any age."),
    ] = None,
    max_length_bytes: Annotated[
        int | None,
        typer.Option("--max-length-bytes", metavar="BYTES", help="How much a partition holds. Default: no limit."),
    ] = None,
    as_json: control.Json = False,
    data_dir: options.DataDir = None,
    config: options.ConfigFile = None,
) -> None:
    """Add an exchange with a stream for each partition.

    \b
    amqp-broker streams add-super-stream orders --partitions 3
    amqp-broker streams add-super-stream orders --routing-keys amer,emea
    """
    keys = [str(number) for number in range(partitions)] if routing_keys is None else routing_keys.split(",")
    if not 0 < len(keys) <= PARTITIONS_MAX or len(set(keys)) < len(keys):
        options.fail(ExitCode.WRONG_USE, f"a super stream has 1 to {PARTITIONS_MAX} partitions, each with another key")
    there = control.ask_list(data_dir, config, "exchanges.list", vhost=vhost)
    if any(row["name"] == name for row in there):
        options.fail(ExitCode.REFUSED, f"there is an exchange '{name}' in vhost '{vhost}' already")
    arguments: dict[str, Any] = {"x-queue-type": "stream"}
    if max_age is not None:
        arguments["x-max-age"] = max_age
    if max_length_bytes is not None:
        arguments["x-max-length-bytes"] = max_length_bytes
    control.ask(data_dir, config, "definitions.import", definitions=definitions_of(name, keys, arguments), vhost=vhost)
    text = f"added super stream '{name}': {control.counted(len(keys), 'partition')}"
    control.tell(text, {"vhost": vhost, "name": name, "partitions": len(keys)}, as_json)


@application.command("delete-super-stream", epilog=EPILOG)
def delete_super_stream(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the super stream.")],
    vhost: control.VirtualHostName = "/",
    as_json: control.Json = False,
    data_dir: options.DataDir = None,
    config: options.ConfigFile = None,
) -> None:
    """Delete a super stream: its exchange, and its partitions with all that is in them.

    \b
    amqp-broker streams delete-super-stream orders
    """
    count = control.ask(data_dir, config, "streams.delete-super-stream", name=name, vhost=vhost)
    text = f"deleted super stream '{name}' with {control.counted(count, 'partition')}"
    control.tell(text, {"vhost": vhost, "name": name, "partitions": count}, as_json)


def definitions_of(name: str, keys: list[str], arguments: dict[str, Any]) -> dict[str, Any]:
    """What a super stream is made of, as definitions of a virtual host."""
    common = {"durable": True, "auto_delete": False}
    of_exchange = {"x-super-stream": True}
    return {
        "exchanges": [{"name": name, "type": "direct", "internal": False, "arguments": of_exchange, **common}],
        "queues": [{"name": f"{name}-{key}", "arguments": arguments, **common} for key in keys],
        "bindings": [
            {
                "source": name,
                "destination": f"{name}-{key}",
                "destination_type": "queue",
                "routing_key": key,
                "arguments": {"x-stream-partition-order": order},
            }
            for order, key in enumerate(keys)
        ],
    }
