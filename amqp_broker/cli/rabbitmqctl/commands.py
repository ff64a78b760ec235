"""The description of a command of rabbitmqctl: how it is called, for which tool it is, and what it does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from amqp_broker.cli.rabbitmqctl.call import Call
from amqp_broker.cli.rabbitmqctl.outcome import Result


@dataclass(frozen=True)
class Command:
    """A command.

    Args:
        group: under which heading the help lists it.
        arguments: what follows its name, as the usage shows it.
        summary: what it does, in a line.
        run: does it.
        words: how many words follow at least, and at most; None for any number.
        options: its own options by their long names, and whether each takes a value.
        short: their short names.
        columns: what a list can show, in the order of the help.
        takes_any_option: whether those that are not known are passed over.
    """

    group: str
    arguments: str
    summary: str
    run: Callable[[Call], Result]
    words: tuple[int, int | None] = (0, 0)
    options: Mapping[str, bool] = field(default_factory=dict)
    short: Mapping[str, str] = field(default_factory=dict)
    columns: tuple[str, ...] = ()
    takes_any_option: bool = False


Commands = Mapping[str, Command]
