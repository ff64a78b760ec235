"""The outcome of a command of rabbitmqctl: a result to be printed, or a failure with an exit code of sysexits.h."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any


class Code(IntEnum):
    """The exit codes of RabbitMQ's tools."""

    OK = 0
    USAGE = 64  # a wrong command line
    DATA = 65  # an argument that cannot be used, a wrong password
    NO_USER = 67
    UNAVAILABLE = 69  # no broker, a check that failed, a value that was refused
    SOFTWARE = 70  # what shall be created is there


class Failed(Exception):
    """A command has failed.

    Args:
        code: the exit code.
        text: what is said on standard error.
        heading: whether the line ``Error:`` stands before it.
        value: what is said in place of it where JSON was asked for.
    """

    def __init__(self, code: Code, text: str, *, heading: bool = True, value: Mapping[str, Any] | None = None) -> None:
        super().__init__(text)
        self.code = code
        self.heading = heading
        self.value = value


class WrongUse(Exception):
    """The command line makes no sense; the command's usage is shown.

    Args:
        text: what is wrong.
        code: the exit code.
    """

    def __init__(self, text: str, code: Code = Code.USAGE) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True)
class Table:
    """A list.

    Args:
        columns: the names of what is shown, in their order.
        rows: the values; a dictionary is a table of arguments, a list of texts a list of names.
        has_header: whether a table has a line of the columns' names.
        is_stream: whether RabbitMQ shows row after row, which an empty list in JSON shows.
        is_drawn: whether it has lines where no form is asked for.
    """

    columns: Sequence[str]
    rows: Sequence[Mapping[str, Any]]
    has_header: bool = True
    is_stream: bool = False
    is_drawn: bool = False


@dataclass(frozen=True)
class Report:
    """A text for people, and the same for programs.

    Args:
        lines: the text.
        value: the JSON.
    """

    lines: Sequence[str]
    value: Mapping[str, Any] = field(default_factory=dict)


Result = Table | Report | None
