"""``amqp-broker ctl``: what rabbitmqctl does, with its commands, output and exit codes."""

from __future__ import annotations

from typing import Annotated

import typer

HELP = (
    "What rabbitmqctl does, to the broker that runs with a data folder: its commands, output and exit codes, so that "
    "scripts written for it run unchanged. 'amqp-broker ctl help' lists the commands. With the name of another of "
    "RabbitMQ's tools as the first word, its commands: rabbitmq-queues, rabbitmq-streams, rabbitmq-plugins, "
    "rabbitmq-upgrade."
)
AS_IT_IS = {"ignore_unknown_options": True, "allow_interspersed_args": False, "help_option_names": []}


def complete(incomplete: str) -> list[str]:
    """The commands that begin so."""
    from amqp_broker.cli.rabbitmqctl.catalogue import CTL, TOOLS

    return [name for name in (*TOOLS[CTL], *TOOLS) if name.startswith(incomplete)]


application = typer.Typer(help=HELP, add_completion=False, rich_markup_mode=None)


@application.command(
    context_settings=AS_IT_IS,
    help=HELP + "\n\n\b\namqp-broker ctl list_queues name messages\n"
    "amqp-broker ctl add_user ada secret\namqp-broker ctl set_permissions -p / ada '.*' '.*' '.*'\n"
    "amqp-broker ctl await_startup --timeout 60\namqp-broker ctl rabbitmq-queues quorum_status orders\n",
)
def ctl(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="COMMAND [ARGUMENT]...", autocompletion=complete, help="As for rabbitmqctl."),
    ] = None,
) -> None:
    from amqp_broker.cli.rabbitmqctl.catalogue import CTL
    from amqp_broker.cli.rabbitmqctl.run import run

    raise typer.Exit(run(CTL, words or []))
