"""With JSON every line of a broker's log is JSON, also what Python itself would print of a defect of ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from amqp_broker.cli.exit_codes import ExitCode

# A broker whose server warns, has an error in a finalizer and in a thread, and cannot be made.
BROKEN = """
import threading, warnings
import amqp_broker.server.broker_server as module
from amqp_broker.cli import main

class Left:
    def __del__(self):
        raise ValueError("in a finalizer")

def work():
    raise ValueError("in a thread")

class Broken(module.BrokerServer):
    def __init__(self, settings):
        warnings.warn("old")
        Left()
        thread = threading.Thread(target=work, name="worker")
        thread.start()
        thread.join()
        raise ValueError("all over")

module.BrokerServer = Broken
main()
"""


def test_a_defect_is_an_event_with_its_traceback(tmp_path: Path) -> None:
    arguments = ["serve", "--port", "0", "--data-dir", str(tmp_path), "--log-format", "json"]
    kept = {**os.environ, "AMQP_BROKER_MANAGEMENT_PORT": "-1", "AMQP_BROKER_METRICS_PORT": "-1"}
    done = subprocess.run([sys.executable, "-c", BROKEN, *arguments], env=kept, capture_output=True, text=True)
    assert done.returncode == ExitCode.INTERNAL_ERROR
    told = [json.loads(line) for line in (done.stdout + done.stderr).splitlines()]
    assert [(line["event"], line.get("error") or line["reason"]) for line in told] == [
        ("warning of Python", "UserWarning: old"),
        ("internal error", "ValueError: in a finalizer"),
        ("internal error", "ValueError: in a thread"),
        ("failed", "a defect of amqp-broker: ValueError: all over"),
    ]
    assert all('File "<string>", line' in line["traceback"] for line in told[1:])
    assert told[-1]["exit_code"] == ExitCode.INTERNAL_ERROR
