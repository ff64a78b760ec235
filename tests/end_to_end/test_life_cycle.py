"""From the start to the end, as a log collector and a service manager see it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pika
import pika.exceptions
import pytest

from amqp_broker import __version__
from interop.brokers import REPOSITORY, our_environment

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="serve does not run there")

PATIENCE_S = 60
SIGHUP_WHILE_IT_LOADS = """
import os, signal
from amqp_broker.cli import _end_well_on_signals
_end_well_on_signals()
os.kill(os.getpid(), signal.SIGHUP)
print("alive")
"""


class Served:
    """A broker whose log is JSON, both streams in one."""

    def __init__(self, data: Path, **environment: str) -> None:
        command = [sys.executable, "-m", "amqp_broker", "serve", "--port", "0", "--data-dir", str(data)]
        self.process = subprocess.Popen(
            [*command, "--log-format", "json"],
            cwd=REPOSITORY,
            env={**our_environment(), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[dict[str, Any]] = []

    def expect(self, event: str) -> dict[str, Any]:
        """The line of this event; everything before it must be JSON as well."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(json.loads(line))
            if self.lines[-1]["event"] == event:
                return self.lines[-1]
        raise AssertionError(f"it ended without {event!r}: {self.lines}")

    def end(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)
        self.process.communicate(timeout=PATIENCE_S)


def test_every_line_is_json_from_the_first_to_the_last(tmp_path: Path) -> None:
    served = Served(tmp_path)
    starting = served.expect("starting")
    assert (starting["version"], starting["pid"]) == (__version__, served.process.pid)
    assert 0 < starting["memory_budget_bytes"] < starting["memory_high_water_bytes"] < starting["memory_bytes"]
    assert served.expect("recovered")["queues"] == 0
    port = int(served.expect("listening")["url"].rpartition(":")[2])
    assert served.expect("ready")["seconds"] > 0
    connection = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", port))
    channel = connection.channel()
    channel.confirm_delivery()
    channel.queue_declare("q", durable=True)
    channel.basic_publish("", "q", b"", pika.BasicProperties(delivery_mode=2))
    served.end(signal.SIGKILL)
    with pytest.raises(pika.exceptions.AMQPError):
        connection.process_data_events(PATIENCE_S)

    served = Served(tmp_path)
    line = served.expect("recovered after an unclean end")
    assert (line["level"], line["queues"], line["messages"]) == ("warning", 1, 1)
    port = int(served.expect("listening")["url"].rpartition(":")[2])
    served.expect("ready")
    connection = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", port))
    served.process.send_signal(signal.SIGTERM)
    assert served.expect("stopping")["clients"] == 1
    with pytest.raises(pika.exceptions.AMQPError):
        connection.process_data_events(PATIENCE_S)
    assert served.expect("stopped")["seconds"] >= 0
    assert served.process.wait(PATIENCE_S) == 0
    assert served.process.stdout is not None
    assert served.process.stdout.read() == ""


def test_a_failure_is_json_too(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    served = Served(tmp_path / "file")
    line = served.expect("failed")
    assert (line["level"], line["exit_code"]) == ("error", served.process.wait(PATIENCE_S))
    assert str(tmp_path / "file") in line["reason"]
    served.end()


@pytest.mark.parametrize("how", ["option", "environment", "file"])
def test_a_wrong_setting_is_json_too(tmp_path: Path, how: str) -> None:
    file = tmp_path / "broker.toml"
    file.write_text("port = 'x'\n" + ("log_format = 'json'\n" if how == "file" else ""))
    options = ["--log-format", "json"] if how == "option" else []
    done = subprocess.run(
        [sys.executable, "-m", "amqp_broker", "serve", "--config", str(file), *options],
        cwd=REPOSITORY,
        env={**our_environment(), **({"AMQP_BROKER_LOG_FORMAT": "json"} if how == "environment" else {})},
        capture_output=True,
        text=True,
        check=False,
    )
    line = json.loads(done.stderr)
    assert (line["event"], line["level"], line["exit_code"], done.returncode) == ("failed", "error", 2, 2)
    assert line["reason"].startswith(f"port in config file {file} takes a whole number")


@pytest.mark.parametrize("format_option", [["--log-format", "json"], ["--log-format=json"]])
def test_a_wrong_option_is_json_too(format_option: list[str]) -> None:
    command = [sys.executable, "-m", "amqp_broker", "serve", *format_option, "--prot", "5672"]
    done = subprocess.run(command, cwd=REPOSITORY, env=our_environment(), capture_output=True, text=True, check=False)
    line = json.loads(done.stderr)
    assert (line["event"], line["exit_code"], done.returncode) == ("failed", 2, 2)
    assert "--prot" in line["reason"]


def test_sighup_before_it_is_ready_does_not_end_it() -> None:
    command = [sys.executable, "-c", SIGHUP_WHILE_IT_LOADS]
    done = subprocess.run(command, cwd=REPOSITORY, env=our_environment(), capture_output=True, text=True, check=True)
    assert done.stdout == "alive\n"


def test_systemd_is_told(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
        notified.bind(str(tmp_path / "notify"))
        notified.settimeout(PATIENCE_S)
        served = Served(tmp_path / "data", NOTIFY_SOCKET=str(tmp_path / "notify"))
        assert notified.recv(100) == b"READY=1"
        os.kill(served.process.pid, signal.SIGHUP)
        assert notified.recv(100).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
        assert notified.recv(100) == b"READY=1"
        served.end()
        assert notified.recv(100) == b"STOPPING=1"
    assert served.process.returncode == 0
