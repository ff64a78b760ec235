"""``examples/deploy``: what a container begins with, tried without a container, and the systemd unit."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pika
import pytest

from amqp_broker import __version__
from amqp_broker.cli.exit_codes import ExitCode
from amqp_broker.settings import DESCRIPTIONS
from interop.brokers import REPOSITORY, our_environment

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32" or not shutil.which("sh"), reason="there is no shell for it"),
]

DEPLOY = REPOSITORY / "examples/deploy"
PATIENCE_S = 60

Enter = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def enter(tmp_path: Path) -> Iterator[Enter]:
    """Runs the entry script as a container would, with variables."""
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin/amqp-broker"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m amqp_broker "$@"\n')
    command.chmod(0o755)
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str, **variables: str) -> subprocess.Popen[str]:
        environment = {
            **our_environment(),
            "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "AMQP_BROKER_DATA_DIR": str(tmp_path / "data"),
            "AMQP_BROKER_HOST": "127.0.0.1",
            "AMQP_BROKER_PORT": "0",
            "AMQP_BROKER_LOOPBACK_USERS": "",
            "PYTHONUNBUFFERED": "1",
            **variables,
        }
        process = subprocess.Popen(
            ["sh", str(DEPLOY / "entrypoint.sh"), *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate(timeout=PATIENCE_S)


def port_of(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    for line in process.stdout:
        if found := re.match(r"listening on \S+:(\d+) ", line):
            return int(found[1])
    raise AssertionError("it ended")


@pytest.mark.parametrize(
    "arguments", [(), *(pytest.param((word,), marks=pytest.mark.slow) for word in ("serve", "rabbitmq-server"))]
)
def test_it_serves_the_user_of_the_variables(enter: Enter, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    (tmp_path / "secret").write_text("from a file\n")
    process = enter(
        *arguments,
        RABBITMQ_DEFAULT_USER="ada",
        RABBITMQ_DEFAULT_PASS_FILE=str(tmp_path / "secret"),
        RABBITMQ_DEFAULT_VHOST="orders",
        AMQP_BROKER_MANAGEMENT_HOST="0.0.0.0",
        AMQP_BROKER_MANAGEMENT_PORT="-1",
        AMQP_BROKER_METRICS_PORT="-1",
    )
    credentials = pika.PlainCredentials("ada", "from a file")
    parameters = pika.ConnectionParameters("127.0.0.1", port_of(process), "orders", credentials)
    pika.BlockingConnection(parameters).close()
    healthy = enter("status", "--json")
    assert healthy.wait(PATIENCE_S) == 0
    process.send_signal(signal.SIGTERM)  # the shell is not in between
    assert process.wait(PATIENCE_S) == 0
    assert enter("status", "--json").wait(PATIENCE_S) == ExitCode.NOT_RUNNING


@pytest.mark.parametrize(
    ("variables", "text"),
    [
        ({"RABBITMQ_DEFAULT_PASS": "a", "RABBITMQ_DEFAULT_PASS_FILE": "b"}, "are both set: choose one"),
        ({"RABBITMQ_DEFAULT_PASS_FILE": "/nowhere"}, "names /nowhere, which cannot be read"),
    ],
)
def test_what_makes_no_sense_is_refused(enter: Enter, variables: dict[str, str], text: str) -> None:
    process = enter(**variables)
    said, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == ExitCode.WRONG_USE
    assert text in said
    assert said.count("\n") == 1


def test_what_is_no_command_of_ours_is_run_as_it_is(enter: Enter) -> None:
    shell = enter("sh", "-c", "echo $0 $1", "in", "a shell")
    assert shell.communicate(timeout=PATIENCE_S)[0] == "in a shell\n"
    assert enter("--version").communicate(timeout=PATIENCE_S)[0].startswith(__version__)
    unknown = enter("sreve")
    assert "amqp-broker: " in unknown.communicate(timeout=PATIENCE_S)[0]
    assert unknown.returncode == ExitCode.WRONG_USE


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells which signals are ignored")
def test_a_hangup_while_python_loads_does_not_end_it(enter: Enter, tmp_path: Path) -> None:
    (tmp_path / "bin/amqp-broker").write_text("#!/bin/sh\nexec grep SigIgn /proc/self/status\n")
    ignored = enter("serve").communicate(timeout=PATIENCE_S)[0].split()[1]
    assert int(ignored, 16) & 1 << (signal.SIGHUP - 1)


def test_the_image_has_rabbitmqs_ports_and_tools(tmp_path: Path) -> None:
    text = (DEPLOY / "Containerfile").read_text()
    (exposed,) = re.findall(r"^EXPOSE (.*)$", text, re.MULTILINE)
    assert {"5671", "5672", "15672", "15692"} <= set(exposed.split())
    assert "AMQP_BROKER_MANAGEMENT_HOST=0.0.0.0" in text
    (loop,) = re.findall(r"for name in rabbitmqctl.*?; done", text, re.DOTALL)
    script = loop.replace("\\\n", " ").replace("/usr/local/bin", str(tmp_path))
    subprocess.run(["sh", "-c", script], check=True)
    for tool in ("rabbitmqctl", "rabbitmq-diagnostics", "rabbitmq-queues"):
        assert (tmp_path / tool).read_text() == f'#!/bin/sh\nexec amqp-broker ctl {tool} "$@"\n'
        assert os.access(tmp_path / tool, os.X_OK)


def test_the_unit_restarts_nothing_that_would_fail_again() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(DEPLOY / "amqp-broker.service")
    service = unit["Service"]
    assert service["Type"] == "notify"
    in_vain = {
        ExitCode.WRONG_USE,
        ExitCode.CANNOT_USE_DATA_FOLDER,
        ExitCode.JOURNAL_DAMAGED,
        ExitCode.NOT_SUPPORTED,
    }
    assert {int(code) for code in service["RestartPreventExitStatus"].split()} == in_vain
    assert "--data-dir %S/" + service["StateDirectory"] in service["ExecStart"]


def test_the_cluster_in_containers_is_of_files_and_settings_that_there_are() -> None:
    """Nobody starts it here."""
    folder = REPOSITORY / "examples/cluster"
    text = (folder / "compose.yaml").read_text()
    builds = re.findall(r"context: (\S+)\n    dockerfile: (\S+)", text)
    assert len(builds) == 2
    assert all((folder / context / file).is_file() for context, file in builds)
    names = {name.lower() for name in re.findall(r"AMQP_BROKER_([A-Z_]+)", text)}
    assert names == {"cluster", "cluster_secret", "node_name", "link_host"}
    assert names <= set(DESCRIPTIONS)
