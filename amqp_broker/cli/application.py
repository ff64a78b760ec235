"""The command ``amqp-broker`` and its subcommands, gathered."""

from __future__ import annotations

import typer

from amqp_broker.cli import config, diff, journal, permissions, serve, users, version, vhosts
from amqp_broker.cli.exit_codes import EPILOG

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
application.command("serve", epilog=EPILOG)(serve.serve)
application.command("diff", epilog=diff.EPILOG)(diff.diff)
application.command("version")(version.version)
application.add_typer(config.application, name="config")
application.add_typer(journal.application, name="journal")
application.add_typer(users.application, name="users")
application.add_typer(vhosts.application, name="vhosts")
application.add_typer(permissions.application, name="permissions")
