"""The command ``amqp-broker`` and its subcommands. Each is named here, and loaded from its own file when it is called.

A file of a subcommand holds a ``typer.Typer`` named ``application``: a command, or a group of commands.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from amqp_broker.cli import version
from amqp_broker.cli.exit_codes import EPILOG, ExitCode

# What follows ``amqp-broker`` on the command line: the file in this folder, and the line in --help. They are named
# here, so that neither --help nor another command has to load them.
COMMANDS = {
    "serve": "Run the broker.",
    "diff": "Show where two brokers differ.",
    "version": "Print the version, and whether this build is compiled.",
    "status": "How a running broker is, and what is running out.",
    "queues": "Queues of a running broker, and their messages.",
    "exchanges": "Exchanges of a running broker.",
    "streams": "Super streams of a running broker.",
    "bindings": "Bindings of a running broker.",
    "consumers": "Consumers of a running broker.",
    "delayed": "Messages that are held back until they are due.",
    "connections": "Clients of a running broker; end a connection.",
    "explain": "Why a message would go where it would.",
    "drops": "How many messages went nowhere, and why.",
    "trace": "Follow messages: every hop, and what became of them.",
    "traces": "What clients publish and get, to files.",
    "plugins": "What installed packages bring.",
    "cluster": "Several nodes as one broker: who owns it, and moving in or out.",
    "config": "Show the settings.",
    "journal": "Check, dump or repair a journal.",
    "users": "Users of a running broker.",
    "vhosts": "Virtual hosts of a running broker.",
    "permissions": "Who may do what in a running broker.",
    "policies": "Policies of a running broker.",
    "definitions": "All but the messages, to and from a file.",
    "shovels": "Carry messages within the broker, from and to others.",
    "federation": "Exchanges and queues that follow those of other brokers.",
    "migrate": "Move over from another broker, or to one.",
    "parameters": "Parameters of a running broker.",
    "operator-policies": "Limits that policies cannot exceed.",
    "top": "A running broker, live.",
    "bench": "A load on any AMQP broker: rates and latencies.",
    "ctl": "What rabbitmqctl does: its commands, output and exit codes.",
    "diagnostics": "What rabbitmq-diagnostics does.",
}


SENTENCE_MAX = 1_000
BY_SIGPIPE = 141  # what a shell says of other programs that write to a pipe which nobody reads
# Set where a shell asks what could follow. Help is broken at COLUMNS, and fish takes each line of it for a word.
COMPLETED = "_AMQP_BROKER_COMPLETE"
# The library takes the name of a shell where it does not look for the one that is running, which this switches off.
SHELL_IS_NAMED = "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION"


class LoadedWhenCalled(TyperGroup):
    """The group of all commands, which loads the file of the command that was called and no other."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.commands.update(dict.fromkeys(COMMANDS))  # type: ignore[arg-type]  # names, for "did you mean"

    def list_commands(self, ctx: Any) -> list[str]:
        """The names of the commands, in the order of --help."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of that name; None when there is none."""
        return load(cmd_name) if cmd_name in COMMANDS else None

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the list of commands for --help."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def load(name: str) -> Any:
    """The command of that name, or the group of commands, as the library runs it."""
    command = typer.main.get_command(import_module(f"{__package__}.{name.replace('-', '_')}").application)
    command.name = name
    for one in getattr(command, "commands", {}).values():
        one.short_help = one.get_short_help_str(limit=SENTENCE_MAX)  # else the list of a group cuts it short
    return command


# Neither rich nor its tracebacks: importing it costs more than the broker's own code, and logs want plain text.
application = typer.Typer(
    name="amqp-broker",
    cls=LoadedWhenCalled,
    help="An AMQP 0-9-1 message broker: a RabbitMQ in one Python process.",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@application.callback()
def _options(show_version: version.ShowVersion = False) -> None:
    """An AMQP 0-9-1 message broker: a RabbitMQ in one Python process."""


def run() -> None:
    """Run the command that the process was called with; a wrong command line is told in one line.

    Raises:
        SystemExit: always, with the exit code.
    """
    if COMPLETED in os.environ:
        os.environ["COLUMNS"] = str(SENTENCE_MAX)
    if _names_a_shell(sys.argv[1:]):
        os.environ[SHELL_IS_NAMED] = "1"
    try:
        code = application(prog_name="amqp-broker", standalone_mode=False)
        if sys.stdout is not None:  # as it is where the shell has closed it
            sys.stdout.flush()
    except OSError as error:
        if not _is_of_the_output(error):
            raise
        sys.exit(int(ExitCode.JOURNAL_FAILED))
    except typer.Abort:
        sys.exit(int(ExitCode.INTERNAL_ERROR))
    except SystemExit as ended:  # the library's, with 1 where nobody reads the output any more, as in ``| head -1``
        is_unread = isinstance(ended.__context__, BrokenPipeError)
        sys.exit(BY_SIGPIPE if is_unread else ended.code)
    except Exception as error:
        # Releases of typer differ in whose class this is, click's or their own; what it can do is the same.
        if not hasattr(error, "format_message"):
            raise
        text = str(error.format_message())
        is_help = "\n" in text  # a group of commands that was called without one
        if not is_help and sys.argv[1:2] == ["serve"] and _wants_json(sys.argv[2:]):
            _log_refusal(_with_way_out(text))
        else:
            print(text if is_help else f"amqp-broker: {_with_way_out(text)}", file=sys.stderr)
        sys.exit(int(ExitCode.WRONG_USE))
    sys.exit(code if isinstance(code, int) else int(ExitCode.OK))


def _is_of_the_output(error: OSError) -> bool:
    """Whether what failed is writing to standard output, as on a full disk; says so, and lets go of what is left."""
    if sys.stdout is None:
        return False
    try:
        os.write(sys.stdout.fileno(), b"\n")
    except OSError as again:
        if again.errno != error.errno:
            return False
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python tries once more when it ends
        print(f"amqp-broker: cannot write the output: {again.strerror}", file=sys.stderr)
        return True
    return False


def _names_a_shell(arguments: list[str]) -> bool:
    """Whether completion is wanted of another shell than the one that is running, as in ``--show-completion zsh``."""
    option, is_given, _ = (arguments or [""])[0].partition("=")
    return option in ("--show-completion", "--install-completion") and (bool(is_given) or len(arguments) > 1)


def _wants_json(arguments: list[str]) -> bool:
    """Whether a broker that was called with these would have logged JSON."""
    from amqp_broker.cli.configuration import wanted_log_format

    given = {name: value for name, value in pairwise([*arguments, ""]) if name.startswith("--")}
    for argument in arguments:
        name, is_given, value = argument.partition("=")
        if is_given:
            given[name] = value
    config = given.get("--config")
    return wanted_log_format(given.get("--log-format"), Path(config) if config else None, os.environ) == "json"


def _log_refusal(text: str) -> None:
    from amqp_broker.cli.announcements import failed
    from amqp_broker.logs import set_up_logs

    set_up_logs("info", "json")
    failed(text, int(ExitCode.WRONG_USE), "json")


def _with_way_out(text: str) -> str:
    return text if text.endswith("?") else f"{text.removesuffix('.')}: see --help"
