"""The commands of ``amqp-broker``: each can be loaded, and nothing else is loaded for it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import amqp_broker.cli
from amqp_broker.cli.application import COMMANDS, SHELL_IS_NAMED, load, run
from amqp_broker.cli.configuration import option_name
from amqp_broker.cli.exit_codes import ExitCode
from amqp_broker.cli.serve_options import SERVE_OPTIONS, read_plain

FOLDER = Path(amqp_broker.cli.__file__).parent
IMPORTED = """
import sys
from amqp_broker.cli import main
try:
    main()
except SystemExit:
    pass
print(*sorted(name for name in sys.modules if name.startswith("amqp_broker.cli.") or "." not in name))
"""

START = """
import gc, sys
from amqp_broker.cli import main
try:
    main()
except SystemExit as end:
    print(end.code, gc.get_stats()[2]["collections"], *sorted(sys.modules))
"""
NOT_AT_THE_START = {
    "typer",
    "click",
    "rich",
    "pydantic",
    "email",
    "http",
    "asyncio",
    "difflib",
    "tomllib",
    "h11",
    "hpack",
    "websockets",
    "urllib.request",
    "importlib.metadata",
    "concurrent.futures",
    "multiprocessing",
    "sqlite3",
    "xml",
    "zipfile",
    "unittest",
    "pytest",
    "amqp_broker.cli.application",
    "amqp_broker.cli.options",
    "amqp_broker.cluster",
    "amqp_broker.client",
    "amqp_broker.plugins",
    "amqp_broker.testing",
    "amqp_broker.broker.definitions",
    "amqp_broker.protocols.mqtt",
    "amqp_broker.protocols.stomp",
    "amqp_broker.protocols.stream",
    "amqp_broker.management.api",
    "amqp_broker.management.http",
    "amqp_broker.management.page",
    "amqp_broker.management.prometheus",
}


# These run a broker, print files, ask others than one running broker, or have RabbitMQ's options.
WITHOUT_JSON: dict[str, set[str]] = {
    **{name: {name} for name in ("serve", "version", "diff", "migrate", "ctl", "diagnostics")},
    "cluster": {"step-down", "import", "export", "backup"},
    "config": {"show"},
    "definitions": {"export"},
}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_can_be_loaded(name: str) -> None:
    command = load(name)
    assert command.name == name
    below = getattr(command, "commands", {"": command}).values()
    without = {one.name for one in below if not any("--json" in option.opts for option in one.params)}
    assert without <= WITHOUT_JSON.get(name, set()), "what asks a running broker prints JSON too"
    assert command.help


def test_every_file_of_commands_is_in_the_list() -> None:
    files = {path.stem.replace("_", "-") for path in FOLDER.glob("*.py") if "\napplication = " in path.read_text()}
    assert files - {"application"} == set(COMMANDS)


@pytest.mark.parametrize("arguments", [["--help"], ["version"], ["users", "--help"]])
def test_a_command_loads_neither_the_others_nor_what_they_need(arguments: list[str]) -> None:
    command = [sys.executable, "-c", IMPORTED, *arguments]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1].split()
    others = {f"amqp_broker.cli.{name}" for name in COMMANDS if name not in (*arguments, "version")}
    assert "amqp_broker.cli.application" in loaded
    assert not others & set(loaded)
    assert not {"trio", "rich", "pydantic"} & set(loaded)


def test_a_start_loads_what_it_runs_and_looks_for_no_garbage_in_it(tmp_path: Path) -> None:
    """It ends at the data folder, which is a file, when all is loaded. Time cannot be asserted; what takes it can."""
    (tmp_path / "file").touch()
    command = [sys.executable, "-c", START, "serve", "--port=0", "--data-dir", str(tmp_path / "file")]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AMQP_BROKER_")}
    kept |= {"AMQP_BROKER_MANAGEMENT_PORT": "-1", "AMQP_BROKER_METRICS_PORT": "-1"}
    done = subprocess.run(command, env=kept, capture_output=True, text=True, check=True)
    code, collections, *loaded = done.stdout.split()
    assert code == str(int(ExitCode.CANNOT_USE_DATA_FOLDER)), done.stderr
    assert collections == "0"
    assert {"trio", "amqp_broker.server.broker_server", "amqp_broker.management.management"} <= set(loaded)
    assert NOT_AT_THE_START & set(loaded) == set()


def test_a_plain_command_line_of_serve_is_read_as_the_library_reads_it() -> None:
    options = {param.name: param.opts for param in load("serve").params}
    assert options == {name: [option_name(name)] for name in SERVE_OPTIONS}
    given = ["--port", "0", "--host=::1", "--data-dir=/tmp/a=b", "--host", "::2", "--port", "1", "--tls-key", ""]
    assert read_plain(given) == {"port": "1", "host": "::1,::2", "data_dir": "/tmp/a=b", "tls_key": ""}
    assert read_plain([]) == {}


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["--prot", "0"], ["--port"], ["x"], ["--port", "0", "--"]])
def test_what_needs_more_than_reading_is_left_to_the_library(arguments: list[str]) -> None:
    assert read_plain(arguments) is None


def said_to_a_shell(**asked: str) -> str:
    command = [sys.executable, "-m", "amqp_broker"]
    return subprocess.run(command, env={**os.environ, **asked}, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(("typed", "completed"), [("que", ["queues"]), ("queues pu", ["purge"]), ("user", ["users"])])
def test_a_shell_completes_commands(typed: str, completed: list[str]) -> None:
    words = f"amqp-broker {typed}"
    asked = {"_AMQP_BROKER_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    assert said_to_a_shell(**asked).split() == completed


def test_fish_is_told_of_each_command_in_one_line() -> None:
    asked = {"_AMQP_BROKER_COMPLETE": "complete_fish", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    said = said_to_a_shell(**asked, _TYPER_COMPLETE_ARGS="amqp-broker queues ")
    assert {line.partition("\t")[0] for line in said.splitlines()} == set(load("queues").commands)


def test_completion_of_a_shell_that_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(SHELL_IS_NAMED, "")
    monkeypatch.setattr(sys, "argv", ["amqp-broker", "--show-completion", "zsh"])
    with pytest.raises(SystemExit):
        run()
    assert capsys.readouterr().out.startswith("#compdef amqp-broker\n")


def help_texts(command: Any, name: str) -> list[str]:
    """What a command, and those below it, say of themselves in a terminal of 80 columns."""
    context = command.context_class(command, info_name=name, terminal_width=80)
    below = [help_texts(one, f"{name} {verb}") for verb, one in getattr(command, "commands", {}).items()]
    return [command.get_help(context), *(text for texts in below for text in texts)]


@pytest.mark.parametrize("name", COMMANDS)
def test_an_example_fits_into_80_columns(name: str) -> None:
    lines = [line for text in help_texts(load(name), f"amqp-broker {name}") for line in text.splitlines()]
    assert [line for line in lines if line.startswith("  amqp-broker") and len(line) > 80] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_group_cuts_no_sentence_short(name: str) -> None:
    command = load(name)
    shown = command.get_help(command.context_class(command, info_name=name, terminal_width=80))
    assert "..." not in shown.partition("Commands:")[2]


def test_output_that_nobody_reads_any_more_ends_a_command_as_it_does_other_programs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def print_much(**_: object) -> None:
        try:
            raise BrokenPipeError
        except OSError:
            sys.exit(1)  # as the library does

    monkeypatch.setattr("amqp_broker.cli.application.application", print_much)
    with pytest.raises(SystemExit) as ended:
        run()
    assert ended.value.code == 141


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a file that is full at once")
def test_output_that_cannot_be_written_is_told_in_a_line() -> None:
    with Path("/dev/full").open("wb") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "amqp_broker", "version"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (ended.returncode, ended.stderr) == (6, "amqp-broker: cannot write the output: No space left on device\n")
