"""The command ``amqp-broker`` and its subcommands, gathered."""

from __future__ import annotations

import sys

import typer

from amqp_broker.cli import config, diff, journal, permissions, serve, users, version, vhosts
from amqp_broker.cli.exit_codes import EPILOG, ExitCode

# Neither rich nor its tracebacks: importing it costs more than the broker's own code, and logs want plain text.
application = typer.Typer(
    name="amqp-broker",
    help="An AMQP 0-9-1 message broker: a RabbitMQ in one Python process.",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
application.command("serve", epilog=EPILOG, short_help="Run the broker.")(serve.serve)
application.command("diff", epilog=diff.EPILOG, short_help="Show where two brokers differ.")(diff.diff)
application.command("version")(version.version)
application.add_typer(config.application, name="config", short_help="Show the settings.")
application.add_typer(journal.application, name="journal", short_help="Check, dump or repair a journal.")
application.add_typer(users.application, name="users", short_help="Users of a running broker.")
application.add_typer(vhosts.application, name="vhosts", short_help="Virtual hosts of a running broker.")
application.add_typer(permissions.application, name="permissions", short_help="Who may do what in a running broker.")


@application.callback()
def _options(show_version: version.ShowVersion = False) -> None:
    """An AMQP 0-9-1 message broker: a RabbitMQ in one Python process."""


def run() -> None:
    """Run the command that the process was called with; a wrong command line is told in one line.

    Raises:
        SystemExit: always, with the exit code.
    """
    try:
        code = application(prog_name="amqp-broker", standalone_mode=False)
    except typer.Abort:
        sys.exit(int(ExitCode.INTERNAL_ERROR))
    except Exception as error:
        # Releases of typer differ in whose class this is, click's or their own; what it can do is the same.
        if not hasattr(error, "format_message"):
            raise
        text = str(error.format_message())
        is_help = "\n" in text  # a group of commands that was called without one
        print(text if is_help else f"amqp-broker: {_with_way_out(text)}", file=sys.stderr)
        sys.exit(int(ExitCode.WRONG_USE))
    sys.exit(code if isinstance(code, int) else int(ExitCode.OK))


def _with_way_out(text: str) -> str:
    return text if text.endswith("?") else f"{text.removesuffix('.')}: see --help"
