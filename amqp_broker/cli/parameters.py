"""``amqp-broker parameters``: what a running broker was told by name, each a value of JSON."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from amqp_broker.cli import control, options, tables
from amqp_broker.cli.exit_codes import EPILOG
from amqp_broker.cli.policy_commands import json_value

Name = Annotated[str, typer.Argument(metavar="NAME", help="The parameter's name.")]
Value = Annotated[str, typer.Argument(metavar="VALUE", help="JSON.")]
Component = Annotated[
    str | None,
    typer.Option("--component", metavar="NAME", help="Whom it concerns. Default: nobody, it is a global parameter."),
]
COLUMNS = ("vhost", "component", "name", "value")

application = typer.Typer(
    help="Parameters of a running broker: values of JSON, of a virtual host's components or global.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)


@application.command("list", epilog=EPILOG)
def list_parameters(
    vhost: control.OneVirtualHost = None,
    as_json: control.Json = False,
    data_dir: options.DataDir = None,
    config: options.ConfigFile = None,
) -> None:
    """List the parameters; limits of virtual hosts and operator policies are such, the global ones have no component.

    \b
    amqp-broker parameters list
    """
    rows = control.ask_list(data_dir, config, "parameters.list", vhost=vhost)
    shown = rows if as_json else [{**row, "value": json.dumps(row["value"])} for row in rows]
    tables.show(shown, COLUMNS, as_json)


@application.command("set", epilog=EPILOG)
def set_parameter(
    name: Name,
    value: Value,
    component: Component = None,
    vhost: control.VirtualHostName = "/",
    as_json: control.Json = False,
    data_dir: options.DataDir = None,
    config: options.ConfigFile = None,
) -> None:
    """Set a parameter: a global one, or with --component one of a virtual host.

    \b
    amqp-broker parameters set cluster_name '"orders"'
    amqp-broker parameters set limits '{"max-queues": 9}' --component vhost-limits
    """
    asked = {"name": name, "value": json_value(value, "the value"), **_whose(component, vhost)}
    control.ask(data_dir, config, "parameters.set", **asked)
    control.tell(f"parameter '{name}' set", asked, as_json)


@application.command("clear", epilog=EPILOG)
def clear_parameter(
    name: Name,
    component: Component = None,
    vhost: control.VirtualHostName = "/",
    as_json: control.Json = False,
    data_dir: options.DataDir = None,
    config: options.ConfigFile = None,
) -> None:
    """Delete a parameter.

    \b
    amqp-broker parameters clear cluster_name
    """
    asked = {"name": name, **_whose(component, vhost)}
    control.ask(data_dir, config, "parameters.clear", **asked)
    control.tell(f"parameter '{name}' cleared", asked, as_json)


def _whose(component: str | None, vhost: str) -> dict[str, Any]:
    return {} if component is None else {"component": component, "vhost": vhost}
