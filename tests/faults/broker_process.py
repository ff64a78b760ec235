"""A broker in a process of its own, with what it said; for tests that do it harm."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pika

START_TIMEOUT_S = 120.0
END_TIMEOUT_S = 60.0


class BrokerProcess:
    """``amqp-broker serve`` on a data folder; does not wait until it serves.

    Args:
        folder: the data folder.
        module: what is run.
        settings: by name, in the environment.
    """

    def __init__(self, folder: Path, *, module: str = "amqp_broker", log: Path, **settings: object) -> None:
        self._log = log
        environment = {f"AMQP_BROKER_{name.upper()}": str(value) for name, value in settings.items() if name.islower()}
        environment |= {name: str(value) for name, value in settings.items() if name.isupper()}
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module, "serve", "--port", "0", "--data-dir", str(folder)],
                stdout=output,
                stderr=subprocess.STDOUT,
                env={
                    **os.environ,
                    "AMQP_BROKER_MANAGEMENT_PORT": "-1",
                    "AMQP_BROKER_METRICS_PORT": "-1",
                    "PYTHONUNBUFFERED": "1",
                    **environment,
                },
            )

    @property
    def said(self) -> str:
        """All that it has written so far."""
        return self._log.read_text(errors="replace")

    def ready(self) -> BrokerProcess:
        """Wait until it serves."""
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while "\nready after" not in self.said:
            assert self.process.poll() is None, self.said
            assert time.monotonic() < deadline_s, self.said
            time.sleep(0.02)
        return self

    def connect(self) -> pika.BlockingConnection:
        found = re.search(r"amqp://\S*?:(\d+)", self.said)
        assert found is not None
        return pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", int(found.group(1)), heartbeat=0))

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.ended()

    def ended(self) -> int:
        """Wait for its end; returns its exit code."""
        return self.process.wait(END_TIMEOUT_S)

    def end(self) -> int:
        self.process.terminate()
        return self.ended()
