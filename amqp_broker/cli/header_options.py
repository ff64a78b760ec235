"""``--header``: headers of a message as they are given on the command line."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from amqp_broker.cli import options
from amqp_broker.cli.exit_codes import ExitCode

Headers = Annotated[
    list[str] | None,
    typer.Option(
        "--header",
        metavar="NAME=VALUE",
        help="A header; NAME:=VALUE for a value in JSON, as a number. May be given several times.",
    ),
]


def read_headers(given: list[str] | None) -> dict[str, Any]:
    """The headers; one that cannot be read ends the command."""
    headers: dict[str, Any] = {}
    for text in given or ():
        name, equals, value = text.partition("=")
        if not equals or not name.removesuffix(":"):
            options.fail(ExitCode.WRONG_USE, f"--header takes NAME=VALUE or NAME:=JSON, not {text!r}")
        if not name.endswith(":"):
            headers[name] = value
            continue
        try:
            headers[name.removesuffix(":")] = json.loads(value)
        except ValueError:
            options.fail(ExitCode.WRONG_USE, f"the value of --header {text!r} is no JSON: NAME=VALUE takes a text")
    return headers
