"""What end-to-end tests share: a broker in a process of its own, and programs that are started, watched and ended.

Not here: tests.
"""

from __future__ import annotations

import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from tests.support.abandoned import abandoned_connections  # noqa: F401  # a fixture

REPOSITORY = Path(__file__).resolve().parents[2]
PATIENCE_S = 60.0
"""How long a test waits for what must come before it fails. Nothing is ever waited for this long when all is well."""

BROKER_TEST_URL = "AMQP_BROKER_TEST_URL"
"""The environment variable that names a running broker to test in place of ours, for instance a RabbitMQ."""


class Program:
    """A process whose output is read line by line."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], folder: Path) -> None:
        self.name = " ".join(Path(part).name for part in command[1:])
        self.lines: list[str] = []
        self._new_lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._process = subprocess.Popen(
            command,
            env={
                **os.environ,
                "AMQP_BROKER_MANAGEMENT_PORT": "-1",
                "AMQP_BROKER_METRICS_PORT": "-1",
                **environment,
                "PYTHONUNBUFFERED": "1",
            },
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout:
            for line in self._process.stdout:
                self._new_lines.put(line.rstrip("\n"))
        self._new_lines.put(None)

    def expect(self, text: str) -> str:
        """Reads on until a line holds `text`, and returns that line. Fails when the program ends before it."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            line = self._next_line(deadline)
            if line is None:
                pytest.fail(f"{self.name} ended without {text!r}:\n" + "\n".join(self.lines))
            if text in line:
                return line

    def finish(self, exit_code: int = 0) -> list[str]:
        """Waits until the program ends by itself with this exit code; returns all that it printed."""
        deadline = time.monotonic() + PATIENCE_S
        while self._next_line(deadline) is not None:
            pass
        ended_with = self._process.wait(PATIENCE_S)
        assert ended_with == exit_code, f"{self.name} ended with {ended_with}:\n" + "\n".join(self.lines)
        return self.lines

    def interrupt(self) -> list[str]:
        """Ctrl-C, then as `finish`."""
        self._process.send_signal(signal.SIGINT)
        return self.finish()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """kill -9, if it still runs."""
        self._process.kill()
        self._process.wait()
        self._reader.join()

    def _next_line(self, deadline: float) -> str | None:
        """The next line, or None when there is no more."""
        try:
            line = self._new_lines.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            pytest.fail(f"{self.name} said nothing more in time:\n" + "\n".join(self.lines))
        if line is None:
            self._new_lines.put(None)  # the end stays the end for whoever asks again
        else:
            self.lines.append(line)
        return line


StartProgram = Callable[..., Program]


@pytest.fixture(scope="session")
def broker_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a broker: ours, started for these tests, or the one that AMQP_BROKER_TEST_URL names."""
    if running := os.environ.get(BROKER_TEST_URL):
        yield running
        return
    data = tmp_path_factory.mktemp("broker") / "data"
    command = [sys.executable, "-m", "amqp_broker", "serve", "--port", "0", "--data-dir", str(data)]
    broker = Program(command, {}, REPOSITORY)
    try:
        found = re.search(r"amqp://\S*?:(\d+)", broker.expect("amqp://"))
        assert found is not None, broker.lines
        yield f"amqp://guest:guest@localhost:{found.group(1)}/%2F"
    finally:
        broker.kill()


@pytest.fixture
def start_example(broker_url: str) -> Iterator[StartProgram]:
    """Starts a program of examples/ with these arguments, and kills it after the test if it still runs."""
    started: list[Program] = []

    def start(example: str, *arguments: str) -> Program:
        path = REPOSITORY / "examples" / example
        # An example finds its own modules beside it, whatever keeps those of the working folder away.
        environment = {"AMQP_URL": broker_url, "PYTHONSAFEPATH": ""}
        program = Program([sys.executable, str(path), *arguments], environment, path.parent)
        started.append(program)
        return program

    yield start
    for program in started:
        program.kill()
