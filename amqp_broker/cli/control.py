"""The way in which commands that look into a running broker, or change it, reach it.

The other end is ``server/control.py``; how lists are printed is in ``tables.py``.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from amqp_broker.cli import options
from amqp_broker.cli.exit_codes import ExitCode

PATIENCE_S = 30.0
LIMIT_DIGITS_MAX = 100  # what has more is no number that somebody means, and Python refuses to read it
_UNIX = getattr(socket, "AF_UNIX", -1)
HASHES = ("scrypt", "sha256", "sha512")

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
OneVirtualHost = Annotated[
    str | None, typer.Option("--vhost", metavar="NAME", help="This virtual host only. Default: all of them.")
]
VirtualHostName = Annotated[str, typer.Option("--vhost", metavar="NAME", help="The virtual host.")]


class Refused(Exception):
    """The broker does not do what was asked; the text says why.

    Args:
        kind: the name of the error, as NotThere, AlreadyThere or NotValid; empty where it has none.
    """

    def __init__(self, text: str, kind: str) -> None:
        super().__init__(text)
        self.kind = kind


class NotReached(Exception):
    """No broker answers; the text says what to do."""


class NotLetIn(NotReached):
    """The data folder is not this user's; the text says whose it is."""


def ask(data_dir: str | None, config: Path | None, command: str, **arguments: Any) -> Any:
    """Have a running broker do something; what it refuses ends the command with one line and an exit code.

    Args:
        data_dir: of the broker, where it is not the default or the one that the environment or the file names.
        config: the broker's file of settings.
        command: what to do.
        arguments: with what.
    """
    *_, last = _answers(data_dir, config, command, arguments)
    return last["result"]


def ask_long(
    data_dir: str | None,
    config: Path | None,
    command: str,
    on_progress: Callable[[dict[str, Any]], None],
    **arguments: Any,
) -> Any:
    """The same as ``ask`` for what takes long: how far it is, is told meanwhile."""
    result = None
    for answer in _answers(data_dir, config, command, arguments):
        if "progress" in answer:
            on_progress(answer["progress"])
        result = answer.get("result")
    return result


def ask_list(data_dir: str | None, config: Path | None, command: str, **arguments: Any) -> list[dict[str, Any]]:
    """The same for what is a list, however long."""
    return [item for answer in _answers(data_dir, config, command, arguments) for item in answer.get("items", ())]


def _answers(
    data_dir: str | None, config: Path | None, command: str, arguments: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """The lines that the broker answers with; the last one has a result."""
    options.refuse_windows(command.partition(".")[0])  # it has no such sockets
    settings = options.configure(None, None, data_dir, config, None, None).settings
    try:
        yield from exchange(settings.data_dir, command, arguments)
    except Refused as refused:
        options.fail(ExitCode.REFUSED, str(refused))
    except NotLetIn as error:
        options.fail(ExitCode.CANNOT_USE_DATA_FOLDER, str(error))
    except NotReached as error:
        options.fail(ExitCode.NOT_RUNNING, str(error))


def exchange(data_folder: str, command: str, arguments: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The same, for who has a way of its own to say what went wrong.

    Raises:
        Refused: the broker does not do it.
        NotReached: there is none, or it does not answer.
    """
    from amqp_broker.server.control_address import SOCKET_NAME, reachable_address

    path = Path(data_folder) / SOCKET_NAME
    request = json.dumps({"command": command, "arguments": arguments}).encode() + b"\n"
    try:
        with reachable_address(path) as address, socket.socket(_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(PATIENCE_S)
            connection.connect(address)
            connection.sendall(request)
            with connection.makefile("rb") as lines:
                for line in lines:
                    answer = json.loads(line)
                    if "error" in answer:
                        raise Refused(answer["error"], answer.get("kind", ""))
                    yield answer
                    if "result" in answer:
                        return
        raise ConnectionError("it ended before it had answered")
    except (FileNotFoundError, ConnectionRefusedError) as error:
        raise NotReached(
            f"no broker runs with the data folder {data_folder}: start one, or name its folder with --data-dir"
        ) from error
    except PermissionError as error:
        from amqp_broker.server.data_folder import whose

        owner = whose(path)
        text = f"cannot reach the broker at {path}: {error.strerror}"
        raise NotLetIn(f"{text}: {owner}" if owner else text) from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "it does not answer as it should"
        raise NotReached(f"cannot reach the broker at {path}: {reason}") from error


def read_password(given_on_stdin: bool, has_none: bool) -> str | None:
    """The password: one line of standard input, or asked for twice on the terminal; None for a user who has none."""
    if has_none:
        if given_on_stdin:
            options.fail(ExitCode.WRONG_USE, "--no-password and --password-stdin do not go together: choose one")
        return None
    if given_on_stdin or not os.isatty(0):
        return typer.get_text_stream("stdin", errors="surrogateescape").readline().rstrip("\r\n")
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))


def check_hash(name: str) -> None:
    """End the command when there is no such way of hashing."""
    if name not in HASHES:
        options.fail(ExitCode.WRONG_USE, f"--hash takes one of {', '.join(HASHES)}, not {name!r}")


def limits(**texts: str | None) -> dict[str, int | None]:
    """The limits that were given on the command line, at least one: each a number, or ``none``."""
    given = {name: text for name, text in texts.items() if text is not None}
    if not given:
        names = " or ".join(f"--{name.removesuffix('_max')}" for name in texts)
        options.fail(ExitCode.WRONG_USE, f"name what is to be limited: {names}")
    return {name: _limit(text) for name, text in given.items()}


def _limit(text: str) -> int | None:
    if text == "none":
        return None
    if not text.isascii() or not text.isdigit() or len(text) > LIMIT_DIGITS_MAX:
        options.fail(ExitCode.WRONG_USE, f"a limit is a whole number or none, not {text[:LIMIT_DIGITS_MAX]!r}")
    return int(text)


def tell(text: str, result: dict[str, Any], as_json: bool) -> None:
    """Say what was done: in words, or as JSON."""
    print(json.dumps(result) if as_json else text)


def features(row: dict[str, Any], letters: dict[str, str]) -> str:
    """What is so about something, in a few letters."""
    return " ".join(letter for name, letter in letters.items() if row[name])


def counted(count: int, what: str) -> str:
    """So many of something, in words."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
