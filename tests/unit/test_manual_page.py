"""The manual page: every command is in it, in words that roff leaves as they are."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from amqp_broker.cli.application import COMMANDS
from amqp_broker.cli.exit_codes import ExitCode
from amqp_broker.cli.manual_page import manual_page

MACROS = {".TH", ".SH", ".SS", ".PP", ".TP", ".B", ".I", ".BR", ".nf", ".fi"}


def test_every_command_is_in_it_with_its_options_and_every_exit_code() -> None:
    page = manual_page()
    headings = re.findall(r"^\.SS amqp\\-broker (\S+)", page, re.MULTILINE)
    assert {heading.replace("\\-", "-") for heading in headings} == set(COMMANDS)
    assert r".SS amqp\-broker queues purge NAME" in page
    assert r".B \-\-data\-dir FOLDER" in page
    assert r"    amqp\-broker queues purge retries" in page
    codes = re.findall(r"^\.B (\d+)$", page, re.MULTILINE)
    assert [int(code) for code in codes] == sorted(ExitCode)


def test_nothing_but_its_own_macros_begins_with_a_dot() -> None:
    found = {line.split(" ")[0] for line in manual_page().splitlines() if line.startswith((".", "'"))}
    assert found == MACROS


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
def test_groff_finds_nothing_wrong() -> None:
    command = ["groff", "-man", "-Tascii", "-ww"]
    done = subprocess.run(command, input=manual_page(), capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert "Drop all messages of a queue" in " ".join(done.stdout.split())
