"""A broker that is killed with SIGKILL while it imports definitions: afterwards it has all of them, or none.

The kills come at moments all over the import, measured on one that is left alone.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pika
import pika.exceptions
import pytest

from tests.faults.broker_process import BrokerProcess

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("FAULTS_KILLS", "5"))
QUEUES = 2000


def ctl(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "amqp_broker", *arguments, "--data-dir", str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


def queue_count(folder: Path, vhost: str) -> int:
    """How many queues of an import there are, -1 when there is not even the virtual host."""
    output, _ = ctl(folder, "queues", "list", "--vhost", vhost, "--json").communicate()
    return len(json.loads(output)) if output.strip() else -1


def test_an_import_is_whole_or_not_there(tmp_path: Path) -> None:
    data, log = tmp_path / "data", tmp_path / "log"
    broker = BrokerProcess(data, log=log).ready()
    lasting_s = 0.0
    found = []
    for attempt in range(KILLS + 1):
        vhost = f"v{attempt}"
        queues = [{"name": f"q{number}", "vhost": vhost, "durable": True} for number in range(QUEUES)]
        file = tmp_path / "definitions.json"
        file.write_text(json.dumps({"vhosts": [{"name": vhost}], "queues": queues}))
        began_s = time.monotonic()
        importing = ctl(data, "definitions", "import", str(file))
        if not attempt:
            importing.communicate()
            lasting_s = time.monotonic() - began_s
            assert queue_count(data, vhost) == QUEUES
            continue
        try:
            importing.wait(lasting_s * (0.5 + 0.5 * attempt / KILLS))
            was_answered = importing.returncode == 0
        except subprocess.TimeoutExpired:
            was_answered = False
        broker.kill()
        importing.communicate()
        broker = BrokerProcess(data, log=log).ready()
        found.append(queue_count(data, vhost))
        assert found[-1] in (-1, QUEUES)
        assert not was_answered or found[-1] == QUEUES
    broker.end()


@pytest.mark.parametrize("attempt", range(KILLS))
def test_an_import_of_which_a_part_is_made_is_whole(tmp_path: Path, attempt: int) -> None:
    """What has been seen of it may not have been on the disk; but then nothing of it was."""
    data, log = tmp_path / "data", tmp_path / "log"
    broker = BrokerProcess(data, log=log).ready()
    names = [str(number) for number in range(QUEUES)]
    queues = [{"name": name, "vhost": "/", "durable": True} for name in names]
    ends = {"vhost": "/", "source": "amq.direct", "destination_type": "queue", "arguments": {}}
    bindings = [{**ends, "destination": name, "routing_key": name} for name in names]
    file = tmp_path / "definitions.json"
    file.write_text(json.dumps({"queues": queues, "bindings": bindings}))
    importing = ctl(data, "definitions", "import", str(file))
    until_there_is(broker, names[QUEUES * attempt // KILLS])
    broker.kill()
    importing.communicate()
    broker = BrokerProcess(data, log=log).ready()
    output, _ = ctl(data, "definitions", "export", "-").communicate()
    there = json.loads(output)
    queue_names = {queue["name"] for queue in there["queues"]}
    assert len(queue_names) in (0, QUEUES)
    assert {binding["destination"] for binding in there["bindings"]} == queue_names
    broker.end()


def until_there_is(broker: BrokerProcess, queue: str) -> None:
    """Return when a queue has been made."""
    with broker.connect() as connection:
        while True:
            channel = connection.channel()
            try:
                channel.queue_declare(queue, passive=True)
            except pika.exceptions.ChannelClosedByBroker:
                continue
            return
