"""``amqp-broker version`` and ``amqp-broker --version``."""

from __future__ import annotations

from typing import Annotated

import typer

from amqp_broker import __version__
from amqp_broker.wire import strings

application = typer.Typer(add_completion=False, rich_markup_mode=None)


@application.command("version")
def version() -> None:
    """Print the version, and whether this build is compiled."""
    print(__version__ if strings.__file__.endswith(".py") else f"{__version__} (compiled)")


def _print_and_exit(is_asked: bool) -> None:
    if is_asked:
        version()
        raise typer.Exit


ShowVersion = Annotated[
    bool, typer.Option("--version", help="Print the version and exit.", callback=_print_and_exit, is_eager=True)
]
