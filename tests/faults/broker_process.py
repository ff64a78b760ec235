"""A broker in a process of its own, with what it said; for tests that do it harm.

With ``FAULTS_PROCESSES=2`` it has so many, where a test knows of that: the virtual host ``/`` is the second one's,
which is killed and comes back, while the first one goes on and takes clients for it.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pika

from amqp_broker.cli.control import exchange
from amqp_broker.processes.folder import folder_of, read_directory

PROCESSES = int(os.environ.get("FAULTS_PROCESSES", "1"))
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
        self._how = folder, module, log, settings
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

    def kill_and_start(self) -> BrokerProcess:
        """Kill it, and return what serves the folder then."""
        folder, module, log, settings = self._how
        self.kill()
        return BrokerProcess(folder, module=module, log=log, **settings).ready()

    def ended(self) -> int:
        """Wait for its end; returns its exit code."""
        return self.process.wait(END_TIMEOUT_S)

    def end(self) -> int:
        self.process.terminate()
        return self.ended()


class SeveralProcesses(BrokerProcess):
    """The same with several processes, of which the second one owns ``/``; for as long as the folder is used."""

    def ready(self) -> BrokerProcess:
        """Wait until it serves, and give ``/`` to the second process: it is made anew when the root has another one."""
        super().ready()
        folder = str(self._how[0])
        everything = {"user": "guest", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}
        for command, arguments in (
            ("vhosts.delete", {"name": "/"}),
            ("vhosts.add", {"name": "of the root"}),
            ("vhosts.add", {"name": "/"}),
            ("permissions.set", everything),
        ):
            list(exchange(folder, command, arguments))
        assert read_directory(self._how[0]).shard_of("/") == 1
        return self

    def kill_and_start(self) -> BrokerProcess:
        """Kill the second process, which is started again; clients that come meanwhile wait for it."""
        process = int((folder_of(self._how[0], 1) / "lock").read_text())
        os.kill(process, signal.SIGKILL)
        while Path(f"/proc/{process}").exists():
            time.sleep(0.01)
        return self


def start_one_or_several(folder: Path, *, log: Path, **settings: int) -> BrokerProcess:
    """A broker of as many processes as ``FAULTS_PROCESSES`` says, which serves."""
    if PROCESSES == 1:
        return BrokerProcess(folder, module="amqp_broker", log=log, **settings).ready()
    return SeveralProcesses(folder, module="amqp_broker", log=log, processes=PROCESSES, **settings).ready()
