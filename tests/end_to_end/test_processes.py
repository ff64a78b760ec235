"""``amqp-broker serve --processes 2``: two processes, one broker, as its clients and its operator see it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pika
import pytest

from interop.brokers import REPOSITORY, OurBroker, end_process

pytestmark = pytest.mark.slow


def run(data: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "amqp_broker", *arguments, "--data-dir", str(data)]
    everything = {**os.environ, **environment}
    return subprocess.run(
        command, cwd=REPOSITORY, env=everything, capture_output=True, text=True, timeout=60, check=False
    )


def count_and_publish(broker: OurBroker, virtual_host: str) -> int:
    """How many messages a durable queue has; then there is one more, confirmed."""
    parameters = pika.ConnectionParameters("127.0.0.1", broker.address.port, virtual_host)
    with pika.BlockingConnection(parameters) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        count = channel.queue_declare("q", durable=True).method.message_count
        channel.basic_publish("", "q", b"x", pika.BasicProperties(delivery_mode=2))
    return int(count)


def timestamps(broker: OurBroker) -> list[bool]:
    """Whether the last message of each virtual host has one: a plugin sets it."""
    found = []
    for virtual_host in ("/", "other"):
        parameters = pika.ConnectionParameters("127.0.0.1", broker.address.port, virtual_host)
        with pika.BlockingConnection(parameters) as connection:
            channel = connection.channel()
            queue = channel.queue_declare("", exclusive=True).method.queue
            channel.basic_publish("", queue, b"")
            _, properties, _ = channel.basic_get(queue, auto_ack=True)
            found.append(properties.timestamp is not None)
    return found


def process_of(data: Path, number: int) -> int:
    return int((data / "processes" / str(number) / "lock").read_text())


def test_two_processes_are_one_broker() -> None:
    broker = OurBroker(options=["--processes", "2"])
    try:
        data = broker.data_folder
        broker.ctl("vhosts", "add", "other")
        broker.ctl("permissions", "set", "guest", ".*", ".*", ".*", "--vhost", "other")
        assert [count_and_publish(broker, host) for host in ("/", "other") * 4] == [0, 0, 1, 1, 2, 2, 3, 3]
        owner = process_of(data, 1)
        os.kill(owner, signal.SIGKILL)
        assert count_and_publish(broker, "other") == 4  # the client waits while its virtual host's process comes back
        assert process_of(data, 1) != owner
        assert count_and_publish(broker, "/") == 4
        broker.restart()
        assert [count_and_publish(broker, host) for host in ("/", "other")] == [5, 5]
        destination = "--to", "amqp:///other", "--to-queue", "q", "--until", "queue-length"
        broker.ctl("shovels", "add", "s", "--from-queue", "q", *destination)
        for _ in range(60):  # it goes when it has carried all
            if not json.loads(broker.ctl("shovels", "list", "--json")):
                break
        assert [count_and_publish(broker, host) for host in ("/", "other")] == [0, 12]
        end_process(broker._process)
        refused = run(data, "serve", "--port", "0")
        assert refused.returncode == 4
        assert "start with --processes 2" in refused.stderr
    finally:
        broker.stop()


def test_definitions_and_plugins_are_those_of_all(tmp_path: Path) -> None:
    definitions = {
        "vhosts": [{"name": "other"}],
        "permissions": [{"user": "guest", "vhost": "other", "configure": ".*", "write": ".*", "read": ".*"}],
        "queues": [{"name": f"q{number}", "vhost": host} for number, host in enumerate(("/", "other"))],
    }
    (tmp_path / "given.json").write_text(json.dumps(definitions))
    environment = {"AMQP_BROKER_LOAD_DEFINITIONS": str(tmp_path / "given.json")}
    broker = OurBroker(options=["--processes", "2"], environment=environment)
    try:
        exported = json.loads(broker.ctl("definitions", "export"))
        assert [(one["vhost"], one["name"]) for one in exported["queues"]] == [("/", "q0"), ("other", "q1")]
        assert [one["name"] for one in exported["vhosts"]] == ["/", "other"]
        assert broker.ctl("definitions", "import", "-", standard_input=json.dumps(exported)).startswith("imported: ")
        assert timestamps(broker) == [False, False]
        broker.ctl("plugins", "enable", "set_header_timestamp")
        assert timestamps(broker) == [True, True]
        broker.restart()
        assert timestamps(broker) == [True, True]
        end_process(broker._process)
        (tmp_path / "given.json").write_text(json.dumps({"queues": [{"name": "q", "vhost": "nowhere"}]}))
        refused = run(broker.data_folder, "serve", "--port", "0", "--processes", "2", **environment)
        assert refused.returncode == 2
        assert refused.stderr.splitlines()[-1].startswith(f"amqp-broker: load_definitions: {tmp_path}/given.json: ")
    finally:
        broker.stop()


def test_shovels_in_a_folder_of_one_process_go_on_with_several() -> None:
    broker = OurBroker()
    try:
        here = "amqp://"
        shovel = {"src-uri": here, "src-queue": "a", "dest-uri": here, "dest-queue": "b", "reconnect-delay": 0}
        broker.ctl("parameters", "set", "s", json.dumps(shovel), "--component", "shovel")
        broker._options = ["--processes", "2"]
        broker.restart()
        state = "starting"
        while state == "starting":
            state = json.loads(broker.ctl("shovels", "list", "--json"))[0]["state"]
        assert state == "running"
    finally:
        broker.stop()
