"""``amqp-broker bench`` against a broker process: what it counts, how it says so, and what it leaves behind."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from amqp_broker.cli.exit_codes import ExitCode
from interop.brokers import REPOSITORY, our_environment
from tests.support.command_line import OurBroker


@pytest.fixture(scope="module")
def broker() -> Iterator[OurBroker]:
    process = OurBroker()
    yield process
    process.stop()


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "amqp_broker", "bench", *arguments]
    return subprocess.run(
        command, cwd=REPOSITORY, env=our_environment(), capture_output=True, text=True, timeout=60, check=False
    )


def test_all_that_is_published_is_confirmed_and_consumed(broker: OurBroker) -> None:
    options = ("--seconds", "0.3", "--confirms", "50", "--persistent", "--publishers", "2", "--consumers", "2")
    done = bench(broker.address.url, *options, "--size", "200000", "--rate", "50", "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["published"] == said["confirmed"] == said["consumed"] > 0
    assert 0 < said["latency_ms"]["median"] <= said["latency_ms"]["max"]
    assert said["confirm_ms"]["median"] > 0
    assert json.loads(broker.ctl("queues", "list", "--json")) == []


def test_a_queue_that_is_named_stays(broker: OurBroker) -> None:
    done = bench(broker.address.url, "--seconds", "0.2", "--consumers", "0", "--rate", "100", "--queue", "kept")
    assert done.returncode == 0, done.stderr
    assert "published" in done.stdout
    (queue,) = json.loads(broker.ctl("queues", "list", "--json"))
    assert queue["name"] == "kept"
    assert queue["messages"] > 0
    broker.ctl("queues", "delete", "kept")


def test_what_goes_wrong_is_one_line(broker: OurBroker) -> None:
    refused = bench(broker.address.url.replace("guest:guest", "guest:wrong"))
    assert (refused.returncode, refused.stderr.count("\n")) == (ExitCode.REFUSED, 1)
    assert "403 ACCESS_REFUSED" in refused.stderr
    assert bench("http://localhost").returncode == ExitCode.WRONG_USE
