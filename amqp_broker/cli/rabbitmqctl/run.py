"""One call of rabbitmqctl or rabbitmq-diagnostics, from the command line to the exit code."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence

from amqp_broker.cli.rabbitmqctl.call import Call
from amqp_broker.cli.rabbitmqctl.catalogue import CTL, TOOLS, help_on, not_found, overview, usage_text
from amqp_broker.cli.rabbitmqctl.commands import Command
from amqp_broker.cli.rabbitmqctl.formats import FORMATTERS, print_result
from amqp_broker.cli.rabbitmqctl.outcome import Code, Failed, Table, WrongUse

# The options of all commands by their long names, and whether they take a value.
OPTIONS = {
    "node": True,
    "vhost": True,
    "timeout": True,
    "formatter": True,
    "data-dir": True,
    "config": True,
    "longnames": False,
    "quiet": False,
    "silent": False,
    "no-table-headers": False,
    "help": False,
    "printer": True,
    "script-name": True,
    "erlang-cookie": True,
}
SHORT = {
    "n": "node",
    "p": "vhost",
    "t": "timeout",
    "l": "longnames",
    "q": "quiet",
    "s": "silent",
    "?": "help",
    "h": "help",
}


def run(tool: str, arguments: Sequence[str]) -> int:
    """Do what a command line says; returns the exit code.

    Args:
        tool: ``rabbitmqctl`` or ``rabbitmq-diagnostics``; the other tools follow ``rabbitmqctl`` as the first word.
        arguments: what followed it.
    """
    if tool == CTL and arguments and arguments[0] in TOOLS:
        tool, arguments = arguments[0], arguments[1:]
    name = next(_words(arguments, None), None)
    if name is None or name in ("help", "autocomplete"):
        return _help(tool, arguments, is_asked_for=name is not None or _wants_help(arguments))
    command = TOOLS[tool].get(name)
    if command is None:
        print(not_found(tool, name), file=sys.stderr)
        return Code.USAGE
    try:
        call = _call(tool, command, arguments)
        if "help" in call.options:
            print(help_on(tool, name))
            return Code.OK
        result = command.run(call)
    except WrongUse as wrong:
        given = " ".join(arguments)
        print(f"Error (argument validation): {wrong}\nArguments given:\n\t{given}\n", file=sys.stderr)
        print(usage_text(tool, name), file=sys.stderr)
        return wrong.code
    except Failed as failed:
        _tell(failed, call)
        return failed.code
    is_silent = "silent" in call.options or "no-table-headers" in call.options
    is_drawn = isinstance(result, Table) and result.is_drawn and "formatter" not in call.options
    print_result(result, "pretty_table" if is_drawn else call.formatter, has_header=not is_silent)
    return Code.OK


def _tell(failed: Failed, call: Call) -> None:
    sys.stdout.flush()
    if call.formatter == "json" and failed.value is not None:
        print(json.dumps(failed.value, separators=(",", ":")), file=sys.stderr)
    else:
        print(f"Error:\n{failed}" if failed.heading else failed, file=sys.stderr)


def _wants_help(arguments: Sequence[str]) -> bool:
    return any(one in ("--help", "-?", "-h") for one in arguments)


def _help(tool: str, arguments: Sequence[str], *, is_asked_for: bool) -> int:
    words = list(_words(arguments, None))[1:]
    if words and words[0] not in TOOLS[tool]:
        print(f"Error:\n\nCommand '{words[0]}' not found.", file=sys.stderr)
        return Code.USAGE
    print(help_on(tool, words[0]) if words else overview(tool), file=sys.stdout if is_asked_for else sys.stderr)
    return Code.OK if is_asked_for else Code.USAGE


# --- the command line


def _call(tool: str, command: Command, arguments: Sequence[str]) -> Call:
    """What a command line means to a command.

    Raises:
        WrongUse: nothing.
    """
    options = dict(_options(arguments, command))
    known = {*OPTIONS, *command.options, *(options if command.takes_any_option else ())}
    unknown = {name: value for name, value in options.items() if name not in known}
    if unknown:
        shown = "\n".join(f"{'--' if len(name) > 1 else '-'}{name} : {value}" for name, value in unknown.items())
        raise WrongUse(f"Invalid options for this command:\n{shown}")
    words = list(_words(arguments, command))[1:]
    least, most = command.words
    if "help" not in options and len(words) < least:
        raise WrongUse("not enough arguments.")
    if most is not None and len(words) > most:
        raise WrongUse("too many arguments.")
    formatter = options.get("formatter", "table")
    if formatter not in FORMATTERS:
        raise WrongUse(f"there is no formatter '{formatter}': one of {', '.join(FORMATTERS)}")
    return Call(tool, words, options)


def _words(arguments: Sequence[str], command: Command | None) -> Iterator[str]:
    """All that is no option, the command itself first."""
    return (value for name, value in _parts(arguments, command) if name is None)


def _options(arguments: Sequence[str], command: Command | None) -> Iterator[tuple[str, str]]:
    return ((name, value) for name, value in _parts(arguments, command) if name is not None)


def _parts(arguments: Sequence[str], command: Command | None) -> Iterator[tuple[str | None, str]]:
    """Options with their values, and words; a word has no name. Options may stand anywhere, until ``--``."""
    own = command.options if command is not None else {}
    short = {**SHORT, **(command.short if command is not None else {})}
    waiting = list(reversed(arguments))
    while waiting:
        one = waiting.pop()
        if one == "--":
            yield from ((None, word) for word in reversed(waiting))
            return
        if not one.startswith("-") or one == "-":
            yield None, one
            continue
        written, equals, value = one.lstrip("-").partition("=")
        name = written if one.startswith("--") else short.get(written, written)
        takes_value = OPTIONS.get(name, own.get(name, False))
        if takes_value and not equals:
            value = waiting.pop() if waiting else ""
        yield name, value if takes_value or equals else ("true" if name in OPTIONS or name in own else "")
