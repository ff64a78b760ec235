"""``amqp-broker explain``: why a message would go where it would in a running broker."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from amqp_broker.cli import control, options
from amqp_broker.cli.exit_codes import EPILOG
from amqp_broker.cli.header_options import Headers, read_headers

application = typer.Typer(
    help="Why a message would go where it would in a running broker.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)


@application.callback()
def _group() -> None:
    """With one command alone, 'route' would be left out."""


@application.command("route", epilog=EPILOG)
def explain_route(
    vhost: Annotated[str, typer.Argument(metavar="VHOST", help="The virtual host.")],
    exchange: Annotated[str, typer.Argument(metavar="EXCHANGE", help="The exchange; '' for the default one.")],
    key: Annotated[str, typer.Argument(metavar="KEY", help="The routing key.")],
    header: Headers = None,
    as_json: control.Json = False,
    data_dir: options.DataDir = None,
    config: options.ConfigFile = None,
) -> None:
    """Say which queues a message would reach, which bindings match, and why the others do not. Publishes nothing.

    \b
    amqp-broker explain route / orders order.created
    amqp-broker explain route / by-header '' --header region=eu --header level:=3
    """
    asked = {"vhost": vhost, "exchange": exchange, "key": key, "headers": read_headers(header)}
    said = control.ask(data_dir, config, "explain.route", **asked)
    if as_json:
        print(json.dumps(said, indent=2))
        return
    for line in _lines(said):
        print(line)


def _lines(said: dict[str, Any]) -> list[str]:
    lines = ["goes to     " + (", ".join(said["queues"]) or "no queue")]
    if said["maybe_queues"]:
        lines.append("perhaps to  " + ", ".join(said["maybe_queues"]))
    for step in said["steps"]:
        name = step["exchange"] or "(default)"
        lines += ["", f"exchange {name} ({step['type']}): {step['reached']}"]
        if not step["bindings"]:
            lines.append("  no bindings")
        for binding in step["bindings"]:
            mark = {True: "yes", False: "no ", None: "?  "}[binding["matches"]]
            arguments = f" {json.dumps(binding['arguments'])}" if binding["arguments"] else ""
            bound = f"{binding['destination_type']} {binding['destination']}, key '{binding['routing_key']}'{arguments}"
            lines.append(f"  {mark} {bound}: {binding['why']}")
        if step["bindings_not_shown"]:
            lines.append(f"  no  {step['bindings_not_shown']} more bindings, which do not match either")
        if step["alternate"] is not None:
            lines.append(f"  alternate exchange {step['alternate']}: {step['alternate_used']}")
    return lines
