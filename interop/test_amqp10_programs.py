"""Clients of AMQP 1.0 that are not ours, each a small program in other_clients/, asked of RabbitMQ 4 and of ours as 4:
Node's rhea, and Apache Qpid Proton.

`make interop` installs rhea into build/interop; Proton is Debian's python3-qpid-proton, or PyPI's python-qpid-proton in
the environment. What is not there is skipped, but where CI is set.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from interop.under_test import BrokerUnderTest

FEATURE = "clients of AMQP 1.0"

PROGRAMS = Path(__file__).with_name("other_clients")
PACKAGES = Path(__file__).parent.parent / "build" / "interop" / "node_modules"
PATIENCE_S = 60
PYTHONS = (sys.executable, "/usr/bin/python3", "python3")  # one of which may have proton


@pytest.fixture
def broker_of_4(broker: BrokerUnderTest) -> BrokerUnderTest:
    if broker.version < (4, 0):
        pytest.skip("AMQP 1.0 is RabbitMQ 4's own")
    return broker


def missing(what: str) -> None:
    """Skips the test, where nobody has promised that all is here."""
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)


def lines_of(
    broker: BrokerUnderTest, scenario: str, *command: str, environment: dict[str, str] | None = None
) -> list[str]:
    """What a program prints; fails when the program does. The names of the test's queues are Q and Q-dead."""
    name, dead = broker.queue_name(), broker.queue_name("dead")
    done = subprocess.run(
        [*command, str(broker.address.port), scenario, name, dead],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
        env=os.environ | (environment or {}),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return [line.replace(name, "Q").replace(dead, "Q-dead") for line in done.stdout.splitlines()]


def rhea(broker: BrokerUnderTest, scenario: str) -> list[str]:
    """What rhea sees; the name of the test's queue is Q."""
    if shutil.which("node") is None or not (PACKAGES / "rhea").is_dir():
        missing("node, or npm's rhea, is not installed")
    return lines_of(broker, scenario, "node", str(PROGRAMS / "rhea.js"), environment={"NODE_PATH": str(PACKAGES)})


def proton(broker: BrokerUnderTest, scenario: str) -> list[str]:
    """What Proton sees, likewise."""
    python = next((one for one in PYTHONS if _has_proton(one)), None)
    if python is None:
        missing("proton is not installed for any Python")
    assert python is not None
    return lines_of(broker, scenario, python, str(PROGRAMS / "qpid_proton.py"))


def _has_proton(python: str) -> bool:
    if shutil.which(python) is None:
        return False
    return subprocess.run([python, "-c", "import proton"], capture_output=True, check=False).returncode == 0


def answers(program: str, scenario: str) -> list[str]:
    """What a program printed with RabbitMQ 4.0.5."""
    parts = (PROGRAMS / f"{program}.answers").read_text().split("== ")
    return next(part.splitlines()[1:] for part in parts if part.startswith(f"{scenario}\n"))


def prepare(broker: BrokerUnderTest, kind: str) -> None:
    """Declare the test's queue, whose dead letters go to another."""
    channel = broker.channel()
    name, dead = broker.queue_name(), broker.queue_name("dead")
    arguments: dict[str, object] = {"x-queue-type": kind}
    if kind == "full":
        arguments = {"x-max-length": 1, "x-overflow": "reject-publish"}
    elif kind != "stream":
        arguments |= {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead}
    channel.declare(dead, durable=True)
    if kind != "none":
        channel.declare(name, durable=True, arguments=arguments)
        channel.bind(name, "amq.direct", name)


@pytest.mark.parametrize(
    ("scenario", "kind"),
    [
        ("messages", "quorum"),
        ("outcomes", "quorum"),
        ("settled", "quorum"),
        ("drain", "classic"),
        ("refused", "quorum"),
        ("nowhere", "quorum"),
        ("version1", "classic"),
        ("stream", "stream"),
        ("frames", "classic"),
        ("idle", "none"),
        ("goodbyes", "classic"),
        ("logins", "none"),
    ],
)
def test_rhea(broker_of_4: BrokerUnderTest, scenario: str, kind: str) -> None:
    prepare(broker_of_4, kind)
    assert rhea(broker_of_4, scenario) == answers("rhea", scenario)


@pytest.mark.parametrize(
    ("scenario", "kind"),
    [
        ("messages", "quorum"),
        ("outcomes", "quorum"),
        ("full", "full"),
        ("stream", "stream"),
        ("management", "none"),
        ("logins", "none"),
    ],
)
def test_proton(broker_of_4: BrokerUnderTest, scenario: str, kind: str) -> None:
    prepare(broker_of_4, kind)
    assert proton(broker_of_4, scenario) == answers("qpid_proton", scenario)
