"""The commands of ``amqp-broker``: each can be loaded, and nothing else is loaded for it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import amqp_broker.cli
from amqp_broker.cli.application import COMMANDS, load

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


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_can_be_loaded(name: str) -> None:
    command = load(name)
    assert command.name == name
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


@pytest.mark.parametrize(("typed", "completed"), [("que", ["queues"]), ("queues pu", ["purge"]), ("user", ["users"])])
def test_a_shell_completes_commands(typed: str, completed: list[str]) -> None:
    words = f"amqp-broker {typed}"
    asked = {"_AMQP_BROKER_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    command = [sys.executable, "-m", "amqp_broker"]
    done = subprocess.run(command, env={**os.environ, **asked}, capture_output=True, text=True, check=True)
    assert done.stdout.split() == completed
