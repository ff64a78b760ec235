"""Tools that were made for RabbitMQ's HTTP API and metrics, as this machine has them: rabbitmqadmin and promtool.

Only our broker is asked. The exit codes are those that rabbitmqadmin had with RabbitMQ 3.10.8, called in this order.
Where CI is set, as ``.ci/run`` sets it, a tool that is missing is a failure.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from interop.brokers import DEFAULT_SERIES, OURS, Choice, OurBroker, RabbitMQ

CALLS = """\
0 list queues name messages
0 list exchanges
0 list bindings
0 list connections name user
0 list channels name
0 list consumers
0 list users
0 list vhosts
0 list permissions
0 list nodes name
0 list parameters
0 list policies
0 list operator_policies
0 list vhost_limits
0 show overview
0 -f raw_json list queues name
0 -f kvp list queues name messages
0 -f tsv list queues name messages
0 -f long list vhosts name
0 -f bash list queues
0 -d 2 list queues
0 declare queue name=ra durable=true
0 declare exchange name=rax type=topic
0 declare binding source=rax destination=ra routing_key=k
0 publish exchange=rax routing_key=k payload=hello
0 publish exchange=rax routing_key=zz payload=hello
0 get queue=ra ackmode=ack_requeue_false
0 get queue=ra count=5
0 purge queue name=ra
0 delete queue name=ra
1 delete queue name=ra
0 declare vhost name=rav
0 declare user name=rau password=p tags=
0 declare permission vhost=rav user=rau configure=.* write=.* read=.*
0 declare policy name=rap pattern=x definition={"max-length":3}
0 declare operator_policy name=rao pattern=x definition={"max-length":3} apply-to=queues
0 declare parameter component=federation-upstream name=u value={"uri":"amqp://"}
0 declare vhost_limit vhost=rav name=max-queues value=3
0 delete vhost_limit vhost=rav name=max-queues
0 delete policy name=rap
0 delete operator_policy name=rao
0 delete parameter component=federation-upstream name=u
0 delete permission vhost=rav user=rau
0 delete user name=rau
0 delete vhost name=rav
0 delete exchange name=rax
0 export ra_defs.json
0 import ra_defs.json
1 close connection name=nope
1 list nope
0 --version
0 help subcommands
"""
PATHS = ("/metrics", "/metrics/per-object", "/metrics/detailed?family=queue_metrics&family=channel_metrics")


def unless_there(tool: str) -> pytest.MarkDecorator:
    """Skips a test on a machine without the tool, but not in CI."""
    is_missing = shutil.which(tool) is None and "CI" not in os.environ
    return pytest.mark.skipif(is_missing, reason=f"{tool} is not installed")


@pytest.fixture(scope="module")
def broker() -> Iterator[RabbitMQ | OurBroker]:
    environment = {"AMQP_BROKER_MANAGEMENT_PORT": "0", "AMQP_BROKER_METRICS_PORT": "0"}
    process = Choice(OURS, DEFAULT_SERIES).start(environment=environment)
    yield process
    process.stop()


def port_of(broker: RabbitMQ | OurBroker, what: str) -> str:
    """The port that the broker says it is on."""
    found = re.search(rf"^{what} on http://\S+?:(\d+)", broker.log_text(), re.MULTILINE)
    assert found is not None
    return found[1]


@unless_there("rabbitmqadmin")
def test_rabbitmqadmin_ends_as_it_does_on_rabbitmq(broker: RabbitMQ | OurBroker, tmp_path: Path) -> None:
    different = []
    for line in CALLS.splitlines():
        code, *words = line.split()
        command = ["rabbitmqadmin", "--host", "127.0.0.1", "--port", port_of(broker, "management"), *words]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode != int(code):
            different.append((line, done.returncode, done.stdout + done.stderr))
    assert not different


@unless_there("promtool")
@pytest.mark.parametrize("path", PATHS)
def test_promtool_finds_nothing(broker: RabbitMQ | OurBroker, path: str) -> None:
    with urlopen(f"http://127.0.0.1:{port_of(broker, 'metrics')}{path}", timeout=60) as answer:
        text = answer.read()
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
