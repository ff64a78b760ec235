"""Every call of ``amqp-broker`` that a page shows is one that the command line takes, with the options it has now."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from amqp_broker.cli.application import load

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = [REPOSITORY / "README.md", *(REPOSITORY / "docs").glob("*.md"), *(REPOSITORY / "examples").rglob("*.md")]
OTHERS_TOOLS = ("ctl", "diagnostics")  # they read their arguments themselves, tests/end_to_end/test_rabbitmqctl.py
_BLOCK_LINE = re.compile(r"^(?: {4}|\t)(?:\$ )?(.*)$")
_VARIABLE = re.compile(r"\w+=\S*$")


def in_blocks() -> Iterator[Any]:
    """The arguments of each command line in an indented or a fenced block, with its page."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        fenced = "\n".join(re.findall(r"^```(?:sh|bash|console)?\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
        lines = [found.group(1) for line in text.splitlines() if (found := _BLOCK_LINE.match(line))]
        yield from named(page, [*lines, *fenced.splitlines()])


def in_sentences() -> Iterator[Any]:
    """The same within the text, where a command may stand without what it needs."""
    for page in PAGES:
        yield from named(page, re.findall(r"(?<!`)`(amqp-broker [^`]+)`(?!`)", page.read_text(encoding="utf-8")))


def named(page: Path, lines: list[str]) -> Iterator[Any]:
    for words in (words for line in lines if "amqp-broker" in line for words in commands_of(line)):
        if words[0] not in OTHERS_TOOLS and not words[0].startswith("-"):
            yield pytest.param(words, id=f"{page.relative_to(REPOSITORY)}: {' '.join(words)}")


def commands_of(line: str) -> Iterator[list[str]]:
    """The arguments of each call of ``amqp-broker`` on a line of shell."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    lexer.commenters = "#"
    command: list[str] = []
    try:
        words = [*lexer, ";"]
    except ValueError:  # no shell
        return
    for word in words:
        if word in ("|", ";", "&", "&&", "||", ">", ">>", "<", "(", ")"):
            while command and _VARIABLE.match(command[0]):
                command.pop(0)
            if command[:1] == ["amqp-broker"] and len(command) > 1:
                yield command[1:]
            command = []
        else:
            command.append(word)


def take(words: list[str]) -> None:
    """Have the library read the words; it raises for what it does not understand."""
    name, *arguments = words
    command = load(name)
    context = command.make_context(name, arguments)
    while hasattr(command, "resolve_command"):
        rest = [*getattr(context, "_protected_args", ()), *context.args]
        name, command, arguments = command.resolve_command(context, rest)
        context = command.make_context(name, arguments, parent=context)


@pytest.mark.parametrize("words", list(in_blocks()))
def test_a_command_line_of_the_docs_is_taken(words: list[str]) -> None:
    take(words)


@pytest.mark.parametrize("words", list(in_sentences()))
def test_a_command_that_a_sentence_names_is_there(words: list[str]) -> None:
    try:
        take(words)
    except Exception as error:
        if type(error).__name__ not in ("MissingParameter", "NoArgsIsHelpError", "Exit"):
            raise


def test_a_command_line_with_a_wrong_option_is_found() -> None:
    (words,) = commands_of("X=1 amqp-broker queues list --jsno | head  # a slip")
    with pytest.raises(Exception, match="No such option"):
        take(words)
