"""One call of a command of rabbitmqctl: its words and options, and how it asks the broker."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from amqp_broker.cli import control, options
from amqp_broker.cli.control import NotReached, Refused
from amqp_broker.cli.rabbitmqctl.outcome import Code, Failed, WrongUse

NODE = "rabbit@localhost"


@dataclass
class Call:
    """One call.

    Args:
        tool: ``rabbitmqctl`` or ``rabbitmq-diagnostics``, as texts name it.
        words: what follows the command, but for the options.
        options: their values, by their long names; of a flag ``true``.
    """

    tool: str
    words: Sequence[str]
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def virtual_host(self) -> str:
        """The virtual host that is meant."""
        return self.options.get("vhost", "/")

    @property
    def node(self) -> str:
        """The node's name, as texts show it."""
        return self.options.get("node", NODE)

    @property
    def formatter(self) -> str:
        """How the result is printed."""
        return self.options.get("formatter", "table")

    @property
    def is_quiet(self) -> bool:
        """Whether banners are left out."""
        return "quiet" in self.options or "silent" in self.options or self.formatter in ("json", "csv")

    def timeout_s(self, default: float) -> float:
        """How long to wait.

        Raises:
            WrongUse: it is no number.
        """
        try:
            return float(self.options.get("timeout", default))
        except ValueError as error:
            raise WrongUse(f"Invalid options for this command:\n--timeout : {self.options['timeout']}") from error

    def say(self, banner: str) -> None:
        """Say what is about to be done."""
        if not self.is_quiet:
            print(banner, flush=True)

    def ask(
        self, command: str, *, missing: Failed | None = None, present: Failed | None = None, **arguments: Any
    ) -> Any:
        """Have the broker do something.

        Args:
            missing: what to raise when something is not there; from the broker's words when left out.
            present: what to raise when there is one already.

        Raises:
            Failed: it was refused, or no broker answers.
        """
        *_, last = self._answers(command, missing, present, arguments)
        return last["result"]

    def ask_list(self, command: str, *, missing: Failed | None = None, **arguments: Any) -> list[dict[str, Any]]:
        """The same for what is a list."""
        answers = self._answers(command, missing, None, arguments)
        return [item for answer in answers for item in answer.get("items", ())]

    def is_of_3_10(self) -> bool:
        """Whether the broker behaves like that release; those after it have some things in common."""
        return str(self.ask("status")["behaves_like"]).startswith("3.10.")

    def not_found(self) -> Failed:
        """There is none of that name, which RabbitMQ's tools say in other words and with another code since 3.11."""
        if self.is_of_3_10():
            return Failed(Code.UNAVAILABLE, "not_found")
        return Failed(Code.DATA, "Object (queue, stream, exchange, etc) was not found", heading=False)

    def follow(self, command: str, **arguments: Any) -> Iterator[list[dict[str, Any]]]:
        """What comes, for as long as the broker tells it; now and then a list is empty.

        Raises:
            Failed: it was refused, or no broker answers any more.
        """
        try:
            for answer in control.exchange(self.data_folder, command, arguments):
                yield answer.get("items", [])
        except Refused as refused:
            self._fail(refused, None, None)
        except NotReached as error:
            raise self._unreachable(error) from error

    def _answers(
        self, command: str, missing: Failed | None, present: Failed | None, arguments: dict[str, Any]
    ) -> list[dict[str, Any]]:
        try:
            return list(control.exchange(self.data_folder, command, arguments))
        except Refused as refused:
            self._fail(refused, missing, present)
        except NotReached as error:
            raise self._unreachable(error) from error

    @property
    def data_folder(self) -> str:
        """The folder of the broker that is asked."""
        config = self.options.get("config")
        path = Path(config) if config is not None else None
        return options.configure(None, None, self.options.get("data-dir"), path, None, None).settings.data_dir

    def _unreachable(self, error: NotReached) -> Failed:
        text = f"unable to perform an operation on node '{self.node}': {error}"
        return Failed(Code.UNAVAILABLE, f"Error: {text}", heading=False)

    def _fail(self, refused: Refused, missing: Failed | None, present: Failed | None) -> NoReturn:
        text = str(refused)
        if refused.kind == "NotThere":
            raise missing or self._missing(text) from refused
        if refused.kind == "AlreadyThere" and present is not None:
            raise present from refused
        raise Failed(Code.UNAVAILABLE, text) from refused

    def _missing(self, text: str) -> Failed:
        if text.startswith("there is no user"):
            return no_user(self.words[0] if self.words else "")
        if text.startswith("there is no virtual host"):
            return Failed(Code.DATA, f"Virtual host '{self.virtual_host}' does not exist", heading=False)
        return Failed(Code.UNAVAILABLE, text)


def no_user(name: str, quote: str = '"') -> Failed:
    """There is no such user."""
    return Failed(Code.NO_USER, f"User {quote}{name}{quote} does not exist")
