"""``amqp-broker top`` on a terminal: it draws, Ctrl-C ends it cleanly, and it says when the broker has gone."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from amqp_broker.cli.exit_codes import ExitCode
from amqp_broker.cli.top import ENTER, LEAVE
from interop.brokers import REPOSITORY, our_environment
from tests.support.command_line import OurBroker

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no control socket there")
PATIENCE_S = 60.0


@pytest.fixture
def broker() -> Iterator[OurBroker]:
    process = OurBroker()
    yield process
    process.stop()


def read_until(terminal: int, text: str) -> str:
    """All that was written on a terminal until there is this text."""
    seen = ""
    while text not in seen:
        assert select.select([terminal], [], [], PATIENCE_S)[0], f"no {text!r} in {seen!r}"
        seen += os.read(terminal, 65_536).decode()
    return seen


@pytest.mark.parametrize("end", ["Ctrl-C", "the broker goes"])
def test_it_draws_until_its_end(broker: OurBroker, end: str) -> None:
    import pty

    terminal, other = pty.openpty()
    command = [sys.executable, "-m", "amqp_broker", "top", "--interval", "0.2", "--data-dir", str(broker.data_folder)]
    environment = {**our_environment(), "COLUMNS": "80", "LINES": "24"}
    with subprocess.Popen(
        command, cwd=REPOSITORY, env=environment, stdin=other, stdout=other, stderr=subprocess.PIPE
    ) as process:
        assert ENTER in read_until(terminal, "no queues yet")
        if end == "Ctrl-C":
            process.send_signal(signal.SIGINT)
        else:
            broker.stop()
        read_until(terminal, LEAVE)
        said = process.communicate(timeout=PATIENCE_S)[1].decode()
    os.close(other)
    os.close(terminal)
    if end == "Ctrl-C":
        assert (process.returncode, said) == (0, "")
    else:
        assert process.returncode == ExitCode.NOT_RUNNING
        assert "does not answer any more" in said


def test_one_picture(broker: OurBroker) -> None:
    picture = broker.ctl("top", "--once")
    assert picture.startswith("amqp-broker ")
    assert "no queues yet" in picture


def test_one_line_of_json_and_no_terminal(broker: OurBroker) -> None:
    (line,) = broker.ctl("top", "--once", "--json").splitlines()
    figures = json.loads(line)
    assert (figures["queues"], figures["alarms"], figures["rates"]["publish"]) == ([], [], 0)
