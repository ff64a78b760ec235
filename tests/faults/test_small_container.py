"""In a memory control group of 256 MiB, as a small container is one, no flood gets the broker killed.

By hand, because it takes minutes and a user who may make control groups:
``FAULTS_FLOOD_BYTES=2000000000 make test ARGS="-s tests/faults/test_small_container.py"``.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pika
import pytest

from interop.brokers import REPOSITORY, our_environment

FLOOD_BYTES = int(os.environ.get("FAULTS_FLOOD_BYTES", "0"))
LIMIT_BYTES = 256 * 1024 * 1024
PATIENCE_S = 600
GROUPS = Path("/sys/fs/cgroup")

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not FLOOD_BYTES, reason="by hand: FAULTS_FLOOD_BYTES=2000000000")]


class Group:
    """A memory control group with a limit, of version 1 or 2."""

    def __init__(self) -> None:
        is_first_version = (GROUPS / "memory").is_dir()
        self.path = (GROUPS / "memory" if is_first_version else GROUPS) / f"amqp-broker-test-{os.getpid()}"
        try:
            self.path.mkdir()
            (self.path / ("memory.limit_in_bytes" if is_first_version else "memory.max")).write_text(str(LIMIT_BYTES))
        except OSError as error:
            pytest.skip(f"this machine lets nobody make a control group: {error}")

    def kills(self) -> int:
        """How many processes of the group the system has killed."""
        for name in ("memory.oom_control", "memory.events"):
            if (self.path / name).exists():
                found = re.search(r"^oom_kill (\d+)$", (self.path / name).read_text(), re.MULTILINE)
                assert found is not None
                return int(found[1])
        raise AssertionError("the system does not count them")

    def most_bytes(self) -> int:
        """The most that the group ever had, what the system would give back at once included."""
        for name in ("memory.max_usage_in_bytes", "memory.peak"):
            if (self.path / name).exists():
                return int((self.path / name).read_text())
        return 0


@pytest.fixture
def group() -> Iterator[Group]:
    made = Group()
    yield made
    made.path.rmdir()


class Contained:
    """A broker in a group."""

    def __init__(self, group: Group, data: Path) -> None:
        command = [sys.executable, "-m", "amqp_broker", "serve", "--port", "0", "--data-dir", str(data)]
        joining = 'echo $$ > "$0/cgroup.procs" && exec "$@"'
        with (data.parent / "log").open("w") as log:
            self.process = subprocess.Popen(
                ["sh", "-c", joining, str(group.path), *command],
                cwd=REPOSITORY,
                env=our_environment(),
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self.said: list[str] = []
        self.port = 0
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(line)
            if found := re.match(r"listening on amqp://localhost:(\d+)", line):
                self.port = int(found[1])
            if line.startswith("ready"):
                return
        raise AssertionError((data.parent / "log").read_text())

    def end(self) -> int:
        self.process.terminate()
        self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode

    def resident_bytes(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
        assert found is not None
        return int(found[1]) * 1024


@pytest.mark.parametrize("is_persistent", [True, False], ids=["persistent", "transient"])
@pytest.mark.parametrize("body_bytes", [1_000, 20_000, 1_000_000])
def test_a_flood_does_not_get_it_killed(group: Group, tmp_path: Path, is_persistent: bool, body_bytes: int) -> None:
    broker = Contained(group, tmp_path / "data")
    assert any("memory 256 MiB" in line for line in broker.said)
    count, body = FLOOD_BYTES // body_bytes, os.urandom(body_bytes)
    properties = pika.BasicProperties(delivery_mode=2 if is_persistent else 1)
    parameters = pika.ConnectionParameters("127.0.0.1", broker.port, blocked_connection_timeout=PATIENCE_S)
    with pika.BlockingConnection(parameters) as connection:
        channel = connection.channel()
        channel.queue_declare("flood", durable=is_persistent)
        for _ in range(count):
            channel.basic_publish("", "flood", body, properties)
        asked = channel.queue_declare("flood", durable=is_persistent, passive=True)  # on its channel: behind them all
        assert asked.method.message_count == count
        assert channel.basic_get("flood", auto_ack=True)[2] == body
    sys.stdout.write(
        f"{count} messages of {body_bytes} bytes: at most {broker.resident_bytes() >> 20} MiB resident, "
        f"{group.most_bytes() >> 20} MiB in the group\n"
    )
    assert broker.end() == 0
    assert group.kills() == 0
