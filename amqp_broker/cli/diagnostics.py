"""``amqp-broker diagnostics``: what rabbitmq-diagnostics does, with its commands, output and exit codes."""

from __future__ import annotations

from typing import Annotated

import typer

HELP = (
    "What rabbitmq-diagnostics does, to the broker that runs with a data folder: its commands, output and exit codes, "
    "so that scripts written for it run unchanged. 'amqp-broker diagnostics help' lists the commands."
)
AS_IT_IS = {"ignore_unknown_options": True, "allow_interspersed_args": False, "help_option_names": []}


def complete(incomplete: str) -> list[str]:
    """The commands that begin so."""
    from amqp_broker.cli.rabbitmqctl.catalogue import DIAGNOSTICS, TOOLS

    return [name for name in TOOLS[DIAGNOSTICS] if name.startswith(incomplete)]


application = typer.Typer(help=HELP, add_completion=False, rich_markup_mode=None)


@application.command(
    context_settings=AS_IT_IS,
    help=HELP + "\n\n\b\namqp-broker diagnostics -q check_running\namqp-broker diagnostics check_port_listener 5672\n"
    "amqp-broker diagnostics listeners --formatter json\n",
)
def diagnostics(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="COMMAND [ARGUMENT]...", autocompletion=complete, help="As for rabbitmq-diagnostics."),
    ] = None,
) -> None:
    from amqp_broker.cli.rabbitmqctl.catalogue import DIAGNOSTICS
    from amqp_broker.cli.rabbitmqctl.run import run

    raise typer.Exit(run(DIAGNOSTICS, words or []))
