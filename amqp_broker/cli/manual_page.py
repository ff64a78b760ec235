"""The manual page ``amqp-broker(1)``, made of what the commands' ``--help`` says.

``make man`` puts it into a file. Holds the layout in roff only (man(7)); the words are the commands' own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from amqp_broker import __version__
from amqp_broker.cli.application import COMMANDS, load
from amqp_broker.cli.exit_codes import EPILOG

INTRODUCTION = (
    "amqp-broker is a message broker that speaks AMQP 0-9-1 as RabbitMQ does, in one process. What is asked of a "
    "running broker goes over a socket in its data folder, so it is asked by the user who runs it, on the same machine."
)


def manual_page() -> str:
    """The whole page."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield f'.TH AMQP-BROKER 1 "" "amqp-broker {__version__}" "User Commands"'
    yield from (".SH NAME", r"amqp-broker \- an AMQP 0-9-1 message broker")
    yield from (".SH SYNOPSIS", ".B amqp-broker", r".I COMMAND \fR[\fIOPTIONS\fR]")
    yield from (".SH DESCRIPTION", _escaped(INTRODUCTION))
    yield ".SH COMMANDS"
    for name in COMMANDS:
        command = load(name)
        for words, one in _leaves(name, command):
            yield from _command(words, one)
    yield ".SH EXIT STATUS"
    for code, text in _exit_codes():
        yield from (".TP", f".B {code}", _escaped(text))
    yield ".SH SEE ALSO"
    yield r".BR rabbitmqctl (8)"


def _leaves(words: str, command: Any) -> Iterator[tuple[str, Any]]:
    """The commands below a group, with all the words that call them; a command that is no group is its own."""
    below = getattr(command, "commands", None)
    if not below:
        yield words, command
        return
    for name, one in below.items():
        yield from _leaves(f"{words} {name}", one)


def _command(words: str, command: Any) -> Iterator[str]:
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = [one for one in command.params if one.param_type_name == "option" and not one.hidden]
    names = "".join(f" {one.make_metavar() if one.metavar is None else one.metavar}" for one in arguments)
    yield f".SS {_escaped(f'amqp-broker {words}{names}')}"
    text, _, examples = (command.help or "").partition("\b\n")
    for paragraph in text.strip().split("\n\n"):
        yield from (".PP", _escaped(" ".join(paragraph.split())))
    lines, _, rest = examples.partition("\n\n")
    if lines.strip():
        yield from (".PP", ".nf", *(_escaped(f"    {line.strip()}") for line in lines.strip().splitlines()), ".fi")
    for paragraph in rest.strip().split("\n\n") if rest.strip() else ():
        yield from (".PP", _escaped(" ".join(paragraph.split())))
    for one in options:
        value = "" if one.is_flag else f" {one.metavar or 'VALUE'}"
        yield from (".TP", f".B {_escaped(', '.join(one.opts) + value)}", _escaped(" ".join((one.help or "").split())))


def _exit_codes() -> Iterator[tuple[str, str]]:
    for each in EPILOG.removeprefix("Exit codes: ").removesuffix(".").split("; "):
        code, _, text = each.partition(" ")
        yield code, text


def _escaped(text: str) -> str:
    """A text of which roff makes no commands."""
    text = text.replace("\\", r"\e").replace("-", r"\-")
    return rf"\&{text}" if text.startswith((".", "'")) else text


if __name__ == "__main__":
    print(manual_page(), end="")
