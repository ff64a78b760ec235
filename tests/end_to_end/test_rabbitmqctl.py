"""``amqp-broker ctl`` and ``diagnostics`` beside RabbitMQ's tools: what 3.10.8 was asked, in this order, and said.

The answers are in ``tests/support/rabbitmqctl_answers.json``. Usage lines and lists of commands are each tool's own.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from amqp_broker.cli.rabbitmqctl.run import run
from interop.brokers import REPOSITORY, OurBroker, our_environment

ASKED = json.loads((Path(__file__).parents[1] / "support" / "rabbitmqctl_answers.json").read_text(encoding="utf-8"))
NOT_RUNNING = 69


@pytest.fixture(scope="module")
def broker() -> Iterator[OurBroker]:
    process = OurBroker("3.10")
    yield process
    process.stop()


def comparable(text: str) -> str:
    """What both say: without the lines on usage, and rows in one order, for in RabbitMQ they have none."""
    text = text.partition("Arguments given:")[0].partition("\x1b[1mUsage")[0]
    return "\n".join(sorted(line.lstrip(",") for line in text.splitlines()))


def test_answers_are_those_of_rabbitmq(broker: OurBroker, capsys: pytest.CaptureFixture[str]) -> None:
    differing: list[tuple[Any, ...]] = []
    for asked in ASKED:
        line = " ".join([asked["tool"], *asked["arguments"]])
        code = run(asked["tool"], [*asked["arguments"], "--data-dir", str(broker.data_folder)])
        said = capsys.readouterr()
        ours = (comparable(said.out), comparable(said.err), code)
        theirs = (comparable(asked["out"]), comparable(asked["error"]), asked["code"])
        if ours != theirs:
            differing.append((line, ours, theirs))
    assert not differing, "\n".join(map(str, differing))


def test_nobody_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("rabbitmqctl", ["list_users", "--data-dir", str(tmp_path)]) == NOT_RUNNING
    assert f"no broker runs with the data folder {tmp_path}" in capsys.readouterr().err
    assert run("rabbitmqctl", ["await_startup", "--timeout", "0", "--data-dir", str(tmp_path)]) == NOT_RUNNING


def test_definitions_queues_and_the_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broker = OurBroker()
    folder = ["--data-dir", str(broker.data_folder)]
    file = tmp_path / "definitions.json"
    assert run("rabbitmqctl", ["export_definitions", str(file), *folder]) == 0
    document = json.loads(file.read_text())
    queue = {"name": "q", "vhost": "/", "durable": True, "auto_delete": False, "arguments": {"x-max-priority": 5}}
    file.write_text(json.dumps({**document, "queues": [queue]}))
    assert run("rabbitmqctl", ["-q", "import_definitions", str(file), *folder]) == 0
    capsys.readouterr()
    assert run("rabbitmqctl", ["-s", "list_queues", "name", "arguments", "type", *folder]) == 0
    assert capsys.readouterr().out == 'q\t[{"x-max-priority",5}]\tclassic\n'
    assert run("rabbitmqctl", ["list_queues", "arguments", "--formatter", "json", *folder]) == 0
    assert json.loads(capsys.readouterr().out) == [{"arguments": [["x-max-priority", "signedint", 5]]}]
    assert run("rabbitmqctl", ["-s", "list_bindings", "destination_name", *folder]) == 0
    assert capsys.readouterr().out == "q\n"
    assert run("rabbitmqctl", ["status", "--formatter", "json", *folder]) == 0
    status = json.loads(capsys.readouterr().out)
    assert status["totals"] == {"connection_count": 0, "queue_count": 1, "virtual_host_count": 1}
    assert run("rabbitmqctl", ["-q", "delete_queue", "q", "--if-empty", *folder]) == 0
    port = str(broker.address.port)
    assert run("rabbitmq-diagnostics", ["-q", "check_port_listener", port, *folder]) == 0
    assert run("rabbitmq-diagnostics", ["-q", "check_port_connectivity", *folder]) == 0
    capsys.readouterr()
    assert run("rabbitmqctl", ["shutdown", "--timeout", "60", *folder]) == 0
    assert f"running at PID {broker.pid} successfully shut down" in capsys.readouterr().out
    broker.stop()


def test_as_a_command_with_its_folder_in_the_environment(broker: OurBroker) -> None:
    command = [sys.executable, "-m", "amqp_broker", "ctl", "-q", "-n", "rabbit@host", "list_vhosts", "name"]
    environment = {**our_environment(), "AMQP_BROKER_DATA_DIR": str(broker.data_folder)}
    done = subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "name\n/\n", "")
