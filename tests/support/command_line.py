"""Commands of ``amqp-broker`` in the process of the tests, which spares each of them the start of a Python.

Not here: ``serve``, and what is about processes: signals, terminals, how a command begins and ends.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from unittest.mock import patch

import interop.brokers
from amqp_broker.cli.application import run as run_command
from amqp_broker.processes.folder import read_directory


def run(
    *arguments: str, standard_input: str | bytes = "", environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """`amqp-broker` with these arguments.

    Args:
        arguments: of the command line.
        standard_input: what is typed.
        environment: in the place of this process's.
    """
    typed = standard_input.encode() if isinstance(standard_input, str) else standard_input
    output, errors = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.TextIOWrapper(io.BytesIO(), "utf-8")
    with (
        patch.object(sys, "argv", ["amqp-broker", *arguments]),
        patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(typed), "utf-8")),
        patch.dict(os.environ, {} if environment is None else environment, clear=environment is not None),
        redirect_stdout(output),
        redirect_stderr(errors),
    ):
        try:
            run_command()
        except SystemExit as end:
            code = end.code
    assert isinstance(code, int)
    return subprocess.CompletedProcess(arguments, code, _text(output), _text(errors))


def _text(written: io.TextIOWrapper) -> str:
    written.seek(0)
    return written.read()


class OurBroker(interop.brokers.OurBroker):
    """A broker in a process of its own; the commands that ask it are run in this one."""

    def ctl(self, *arguments: str, standard_input: str = "") -> str:
        """`amqp-broker` against this broker, for instance `users list`. Returns what it printed."""
        done = run(*arguments, "--data-dir", str(self.data_folder), standard_input=standard_input)
        if done.returncode != 0:
            raise RuntimeError(f"amqp-broker {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout

    def give_default_virtual_host_away(self) -> None:
        """Have `/` be the second process's: it is made anew when the root has another one, and that one goes again."""
        try:
            self.ctl("vhosts", "delete", "/")
            for name in ("of the root", "/"):
                self.ctl("vhosts", "add", name)
            self.ctl("permissions", "set", self.address.user, ".*", ".*", ".*")
            self.ctl("vhosts", "delete", "of the root")
            assert read_directory(self.data_folder).shard_of("/") == 1
        except BaseException:
            self.stop()
            raise
