"""The commands that policies and operator policies have in common; each noun's file makes its own of them."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from amqp_broker.cli import control, options, tables
from amqp_broker.cli.exit_codes import EPILOG, ExitCode
from amqp_broker.cli.tables import Column
from amqp_broker.explanations import json_mistake

Name = Annotated[str, typer.Argument(metavar="NAME", help="The policy's name.")]
Pattern = Annotated[
    str, typer.Argument(metavar="PATTERN", help="What names must match somewhere; an empty one is for all.")
]
Definition = Annotated[str, typer.Argument(metavar="DEFINITION", help="JSON, for instance '{\"max-length\": 1000}'.")]
ApplyTo = Annotated[
    str,
    typer.Option(
        "--apply-to", metavar="WHAT", help="queues, exchanges, all, classic_queues, quorum_queues or streams."
    ),
]
Priority = Annotated[str, typer.Option("--priority", metavar="NUMBER", help="Of those that match, the highest counts.")]
PRIORITY_DIGITS_MAX = 18
COLUMNS = ("vhost", "name", "pattern", "apply-to", "definition", Column("priority", is_number=True))


def json_value(text: str, what: str) -> Any:
    """What was given as JSON; what is none ends the command."""
    from amqp_broker.broker.json_values import read_json  # few commands need it

    try:
        return read_json(text)
    except (ValueError, RecursionError) as error:
        options.fail(
            ExitCode.WRONG_USE,
            f"{what} is not JSON: {json_mistake(error)}; quote it for the shell, as in '{{\"max-length\": 1000}}'",
        )


def _priority(text: str) -> int:
    number = text.removeprefix("-")
    if not number.isascii() or not number.isdigit() or len(number) > PRIORITY_DIGITS_MAX:
        options.fail(ExitCode.WRONG_USE, f"--priority takes a whole number, not {text[:PRIORITY_DIGITS_MAX]!r}")
    return int(text)


def application_for(noun: str, what: str, is_operators: bool, about: str) -> typer.Typer:
    """The group of commands for policies of one kind.

    Args:
        noun: as it is called on the command line.
        what: one of them, in words.
        about: the line in --help.
    """
    application = typer.Typer(help=about, no_args_is_help=True, add_completion=False, rich_markup_mode=None)

    @application.command("list", epilog=EPILOG, help=_list_help(noun, what))
    def list_policies(
        vhost: control.OneVirtualHost = None,
        as_json: control.Json = False,
        data_dir: options.DataDir = None,
        config: options.ConfigFile = None,
    ) -> None:
        rows = control.ask_list(data_dir, config, "policies.list", vhost=vhost, operator=is_operators)
        shown = rows if as_json else [{**row, "definition": json.dumps(row["definition"])} for row in rows]
        tables.show(shown, COLUMNS, as_json)

    @application.command("set", epilog=EPILOG, help=_set_help(noun, what, is_operators))
    def set_policy(
        name: Name,
        pattern: Pattern,
        definition: Definition,
        apply_to: ApplyTo = "all",
        priority: Priority = "0",
        vhost: control.VirtualHostName = "/",
        as_json: control.Json = False,
        data_dir: options.DataDir = None,
        config: options.ConfigFile = None,
    ) -> None:
        value = {
            "pattern": pattern,
            "definition": json_value(definition, "the definition"),
            "apply-to": apply_to,
            "priority": _priority(priority),
        }
        control.ask(data_dir, config, "policies.set", name=name, vhost=vhost, value=value, operator=is_operators)
        control.tell(f"{what} '{name}' in '{vhost}' set", {"vhost": vhost, "name": name, **value}, as_json)

    @application.command("clear", epilog=EPILOG, help=_clear_help(noun, what))
    def clear_policy(
        name: Name,
        vhost: control.VirtualHostName = "/",
        as_json: control.Json = False,
        data_dir: options.DataDir = None,
        config: options.ConfigFile = None,
    ) -> None:
        control.ask(data_dir, config, "policies.clear", name=name, vhost=vhost, operator=is_operators)
        control.tell(f"{what} '{name}' in '{vhost}' cleared", {"vhost": vhost, "name": name}, as_json)

    return application


def _list_help(noun: str, what: str) -> str:
    return f"""List them: for each queue and exchange the first {what} that fits counts.

    \b
    amqp-broker {noun} list
    amqp-broker {noun} list --vhost orders --json
    """


def _set_help(noun: str, what: str, is_operators: bool) -> str:
    example = "'{\"max-length\": 1000000}'" if is_operators else '\'{"dead-letter-exchange": "dead"}\''
    return f"""Create an {what}, or change it; it is in force at once, for what there is and for what is declared later.

    \b
    amqp-broker {noun} set orders '^orders' {example}
    amqp-broker {noun} set now '^now' '{{"expires": 60000}}' --priority 9
    """.replace("an policy", "a policy")


def _clear_help(noun: str, what: str) -> str:
    return f"""Delete an {what}; what it was in force for is at once as if it had never been.

    \b
    amqp-broker {noun} clear orders
    """.replace("an policy", "a policy")
