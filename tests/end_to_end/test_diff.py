"""`amqp-broker diff` on two brokers of ours: with the same settings, and where a script must see a difference."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from amqp_broker import __version__

REPOSITORY = Path(__file__).resolve().parents[2]
PATIENCE_S = 60

HELLO = """
import uuid
import pika

# Nobody listens there: the script runs as it is, and is connected to the broker whose turn it is.
connection = pika.BlockingConnection(pika.ConnectionParameters("broker.invalid", 1))
channel = connection.channel()
queue = f"q-{uuid.uuid4()}"
channel.queue_declare(queue, exclusive=True)
channel.confirm_delivery()
for number in range(5):
    channel.basic_publish("", queue, str(number).encode(), pika.BasicProperties(headers={"n": number}))
for method, _, body in channel.consume(queue):
    channel.basic_ack(method.delivery_tag)
    if body == b"4":
        break
channel.cancel()
connection.close()
"""
FROM_THE_ENVIRONMENT = """
import os
import pika

connection = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"]))
channel = connection.channel()
channel.queue_declare("kept", durable=DURABLE)
connection.close()
"""
FOR_EVER = """
import time
time.sleep(3600)
"""


@contextmanager
def running_broker(data: Path, **environment: str) -> Iterator[str]:
    """A broker of ours in a process of its own; its address."""
    command = [sys.executable, "-m", "amqp_broker", "serve", "--port", "0", "--data-dir", str(data)]
    with subprocess.Popen(
        command, cwd=REPOSITORY, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            found = re.search(r"amqp://\S*?:(\d+)", said)
            assert found is not None, said
            yield f"amqp://guest:guest@localhost:{found.group(1)}/%2F"
        finally:
            process.kill()


@pytest.fixture(scope="module")
def two_brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    data = tmp_path_factory.mktemp("brokers")
    with running_broker(data / "a") as first, running_broker(data / "b") as second:
        yield first, second


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "script.py"
    path.write_text(HELLO)
    return path


def address(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2]


def diff(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "amqp_broker", "diff", *map(str, arguments)]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=PATIENCE_S, check=False)


def test_the_same(two_brokers: tuple[str, str], script: Path) -> None:
    done = diff(*two_brokers, script)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("the same\n")
    assert done.stdout.count("5 Basic.Ack, 5 Basic.Deliver") == 2


def test_another_product_name_is_the_first_difference(
    two_brokers: tuple[str, str], script: Path, tmp_path: Path
) -> None:
    with running_broker(tmp_path / "c", AMQP_BROKER_PRODUCT="Carrots") as other:
        done = diff(two_brokers[0], other, script)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "different: connection 1, channel 0, replies" in done.stdout
    named = [f"amqp-broker {__version__} at {address(url)}" for url in (two_brokers[0], other)]
    assert re.search(rf"^  {named[0]} +< 0 Connection.Start .*product: 'RabbitMQ'", done.stdout, re.MULTILINE)
    assert re.search(rf"^  {named[1]} +< 0 Connection.Start .*product: 'Carrots'", done.stdout, re.MULTILINE)


@pytest.mark.slow
def test_an_error_on_one_broker_is_shown_with_what_led_to_it(two_brokers: tuple[str, str], tmp_path: Path) -> None:
    lasting, fleeting = tmp_path / "lasting.py", tmp_path / "fleeting.py"
    lasting.write_text(FROM_THE_ENVIRONMENT.replace("DURABLE", "True"))
    fleeting.write_text(FROM_THE_ENVIRONMENT.replace("DURABLE", "False"))
    with running_broker(tmp_path / "c") as other:
        prepared = diff(other, other, lasting)
        done = diff(two_brokers[0], other, fleeting)
    assert prepared.returncode == 0, prepared.stdout + prepared.stderr
    assert done.returncode == 1, done.stdout + done.stderr
    assert "> 1 Queue.Declare" in done.stdout
    assert re.search(rf"{address(two_brokers[0])} +< 1 Queue.DeclareOk", done.stdout)
    assert re.search(rf"{address(other)} +< 1 Channel.Close reply_code=406 .*inequivalent arg 'durable'", done.stdout)
    assert "exit code 1" in done.stdout


def test_the_password_is_not_shown(two_brokers: tuple[str, str], script: Path) -> None:
    assert "guest" not in diff(*two_brokers, script).stdout


@pytest.mark.slow
def test_a_script_that_does_not_end_is_interrupted(two_brokers: tuple[str, str], tmp_path: Path) -> None:
    script = tmp_path / "for_ever.py"
    script.write_text(HELLO.replace("connection.close()", FOR_EVER))
    done = diff("--timeout", "6", *two_brokers, script)  # until when it has connected, on any machine
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("the script did not end in time") == 2


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("print('nobody connects')", "the script opened no connection"),
        ("import sys; sys.exit(3)", "the script opened no connection"),
        (HELLO + "raise SystemExit(3)", "the script failed on both, with exit code 3"),
    ],
)
def test_a_script_that_says_nothing_about_the_brokers_is_an_error(
    text: str, reason: str, two_brokers: tuple[str, str], tmp_path: Path
) -> None:
    script = tmp_path / "script.py"
    script.write_text(text)
    done = diff(*two_brokers, script)
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.startswith(f"amqp-broker: nothing was compared: {reason}")
    assert "the same" not in done.stdout


def test_one_broker_twice_is_told_apart_by_the_run(two_brokers: tuple[str, str], script: Path) -> None:
    said = diff(two_brokers[0], two_brokers[0], script).stdout
    where = f"amqp-broker {__version__} at {address(two_brokers[0])}"
    assert f"{where}, first run\n" in said
    assert f"{where}, second run\n" in said


def test_the_scripts_own_arguments_reach_it(two_brokers: tuple[str, str], tmp_path: Path) -> None:
    script = tmp_path / "arguments.py"
    script.write_text("import sys\nsys.exit(len(sys.argv))\n")
    done = diff(*two_brokers, script, "--", "one", "--two")
    assert done.stdout.count("the script ended with exit code 3") == 2, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("amqp://localhost:1", "amqp://localhost:1", "missing.py"), "there is no script missing.py"),
        (("http://localhost:1", "amqp://localhost:1", __file__), "http://localhost:1 is not an amqp:// address"),
        (("amqp://localhost:1", "amqp://localhost:1", __file__), "nothing answers at amqp://localhost:1"),
        (("amqp://localhost:1",), "Missing argument"),
    ],
)
def test_wrong_use_ends_with_2(arguments: tuple[str, ...], text: str) -> None:
    done = diff(*arguments)
    assert done.returncode == 2
    assert text in done.stderr
    assert "Traceback" not in done.stderr
