"""A backup as docs/operations.md says to make it: a copy of the data folder of a broker that runs and works."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pika
import pytest

from tests.end_to_end.conftest import REPOSITORY, Program

pytestmark = pytest.mark.slow

(RECIPE,) = re.findall(r"^```sh\n(.*?)^```$", (REPOSITORY / "docs" / "operations.md").read_text(), re.M | re.S)
KEPT = 300
SEGMENT_BYTES = 65_536  # so small that segments come and go while the copy is made


@contextmanager
def serving(folder: Path) -> Iterator[pika.URLParameters]:
    command = [sys.executable, "-m", "amqp_broker", "serve", "--port", "0", "--data-dir", str(folder)]
    broker = Program(command, {"AMQP_BROKER_SEGMENT_SIZE_BYTES": str(SEGMENT_BYTES)}, REPOSITORY)
    try:
        found = re.search(r":(\d+)", broker.expect("listening on amqp://"))
        assert found is not None
        broker.expect("ready after")
        yield pika.URLParameters(f"amqp://guest:guest@localhost:{found.group(1)}/%2F")
    finally:
        broker.kill()


def body(number: int) -> bytes:
    return b"%d " % number + b"x" * 1000


def work(parameters: pika.URLParameters, begun: threading.Event, enough: threading.Event) -> None:
    """Publish, take and acknowledge without a pause, so that segments fill and are reclaimed."""
    persistent = pika.BasicProperties(delivery_mode=2)
    with pika.BlockingConnection(parameters) as connection:
        channel = connection.channel()
        channel.queue_declare("passing", durable=True)
        channel.confirm_delivery()
        while not enough.is_set():
            for number in range(50):
                channel.basic_publish("", "passing", body(number), persistent)
            for _ in range(50):
                method, _, _ = channel.basic_get("passing")
                channel.basic_ack(method.delivery_tag)
            begun.set()


def test_a_copy_of_a_working_brokers_folder_holds_all_that_was_confirmed_before(tmp_path: Path) -> None:
    begun, enough = threading.Event(), threading.Event()
    with serving(tmp_path / "data") as parameters:
        with pika.BlockingConnection(parameters) as connection:
            channel = connection.channel()
            channel.queue_declare("kept", durable=True)
            channel.confirm_delivery()
            for number in range(KEPT):
                channel.basic_publish("", "kept", body(number), pika.BasicProperties(delivery_mode=2))
        worker = threading.Thread(target=work, args=(parameters, begun, enough))
        worker.start()
        assert begun.wait(60)
        script = f'{RECIPE}\nbackup "{tmp_path / "data"}" "{tmp_path / "copy"}"\n'
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        done = subprocess.run(
            ["sh", "-c", script], env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
        )
        enough.set()
        worker.join()
    assert done.returncode == 0, done.stdout + done.stderr
    with serving(tmp_path / "copy") as parameters, pika.BlockingConnection(parameters) as connection:
        channel = connection.channel()
        got = [channel.basic_get("kept", auto_ack=True)[2] for _ in range(KEPT)]
        assert got == [body(number) for number in range(KEPT)]
        assert channel.basic_get("kept")[0] is None
