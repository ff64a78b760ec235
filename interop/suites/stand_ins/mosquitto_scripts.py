"""mosquitto's own broker scripts as tests: each that needs no configuration, passed when it exits with 0.

A script starts a broker itself, by the path of a mosquitto that was just built; in its place is
mosquitto_program.py, which starts the broker under test or leads to it, on a free port of 127.0.0.1.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

BROKER = Path(__file__).resolve().parent / "test" / "broker"
PATIENCE_S = 45
CONFIGURING = ("write_config", "conf_file", "use_conf=True", ".conf")


def scripts() -> list[str]:
    found = []
    for path in sorted(BROKER.glob("[0-9]*.py")):
        text = path.read_text()
        if "start_broker" in text and not any(each in text for each in CONFIGURING):
            found.append(path.name)
    return found


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.mark.parametrize("script", scripts())
def test_script(script: str) -> None:
    running = subprocess.Popen(
        [sys.executable, script, str(free_port())],
        cwd=BROKER,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        output, _ = running.communicate(timeout=PATIENCE_S)
    finally:  # the broker of a script that failed may still be there
        with contextlib.suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)
    said = output.decode(errors="replace")
    reason = " ".join(line for line in said.splitlines() if line.startswith(("FAIL", "Received", "Expected")))
    print(said)
    assert running.returncode == 0, reason or said[-300:]
