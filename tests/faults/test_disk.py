"""A real broker on a disk that is full, fails, cannot be written or is damaged; and one that stands still."""

from __future__ import annotations

import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pika
import pika.exceptions
import pytest

from tests.faults.broker_process import BrokerProcess

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # pika leaves sockets to a broker that is gone open
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
]

SEGMENT_BYTES = 1_048_576
PATIENCE_S = 60.0
LARGE_BYTES = 100_000  # of a body that fills a disk in no time
Closed = (pika.exceptions.AMQPError, OSError)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., BrokerProcess]]:
    """Starts brokers, and sees to it that none is left."""
    started: list[BrokerProcess] = []

    def make(folder: Path, **how: Any) -> BrokerProcess:
        broker = BrokerProcess(folder, log=tmp_path / f"log-{len(started)}", **how)
        started.append(broker)
        return broker

    yield make
    for broker in started:
        if broker.process.poll() is None:
            broker.kill()


def mount(folder: Path, *options: str) -> None:
    done = subprocess.run(["mount", *options, str(folder)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"this test needs to mount a small file system, and may not: {done.stderr.strip()}")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 24 MiB."""
    if sys.platform != "linux" or shutil.which("mount") is None:
        pytest.skip("this test mounts a tmpfs, which only Linux has")
    folder = tmp_path / "disk"
    folder.mkdir()
    mount(folder, "-t", "tmpfs", "-o", "size=24m", "tmpfs")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def eventually(condition: Callable[[], bool], why: str) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, why
        time.sleep(0.02)


class Publisher:
    """Publishes numbered persistent messages with confirms, from a thread of its own, until it is told to stop."""

    def __init__(self, broker: BrokerProcess, body_bytes: int) -> None:
        self.confirmed = 0
        self.is_blocked = threading.Event()
        self.is_unblocked = threading.Event()
        self._stop = threading.Event()
        self._body_bytes = body_bytes
        self._broker = broker
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            connection = self._broker.connect()
            told = connection._impl  # the blocking connection itself tells it only when nothing is waited for
            told.add_on_connection_blocked_callback(lambda *_: self.is_blocked.set())
            told.add_on_connection_unblocked_callback(lambda *_: self.is_unblocked.set())
            channel = connection.channel()
            channel.queue_declare("q", durable=True)
            channel.confirm_delivery()
            while not self._stop.is_set():
                body = b"%08d" % (self.confirmed + 1) + bytes(self._body_bytes)
                channel.basic_publish("", "q", body, pika.BasicProperties(delivery_mode=2))
                self.confirmed += 1
            connection.close()  # else the broker's end would wait for it
        except Closed:
            pass

    def stop(self) -> None:
        self._stop.set()
        self.thread.join(PATIENCE_S)


def drain(broker: BrokerProcess) -> list[int]:
    """The numbers of all messages, in order; they are acknowledged."""
    numbers = []
    connection = broker.connect()
    channel = connection.channel()
    while True:
        method, _, body = channel.basic_get("q")
        if method is None:
            break
        numbers.append(int(body[:8]))
        channel.basic_ack(method.delivery_tag)
    connection.close()
    return numbers


def free_bytes(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def test_publishers_are_held_back_before_the_disk_is_full(
    small_disk: Path, start: Callable[..., BrokerProcess]
) -> None:
    limit_bytes = 10_000_000
    broker = start(
        small_disk,
        segment_size_bytes=SEGMENT_BYTES,
        disk_free_limit_bytes=limit_bytes,
        resource_check_ms=20,
    ).ready()
    publisher = Publisher(broker, LARGE_BYTES)
    assert publisher.is_blocked.wait(PATIENCE_S), "the publisher was not told that it is blocked"
    assert 0 < free_bytes(small_disk) < limit_bytes
    confirmed = publisher.confirmed
    assert drain(broker)[:confirmed] == list(range(1, confirmed + 1))
    assert publisher.is_unblocked.wait(PATIENCE_S), "the publisher was not told that it may go on"
    eventually(lambda: publisher.confirmed > confirmed, "the publisher does not go on")
    publisher.stop()
    assert "alarm raised" in broker.said
    assert "alarm cleared" in broker.said
    assert broker.end() == 0


def test_a_disk_with_less_space_than_a_segment_is_used_to_the_limit_and_freed_again(
    small_disk: Path, start: Callable[..., BrokerProcess]
) -> None:
    broker = start(
        small_disk, segment_size_bytes=8 * SEGMENT_BYTES, disk_free_limit_bytes=1_000_000, resource_check_ms=20
    ).ready()
    publisher = Publisher(broker, LARGE_BYTES)
    assert publisher.is_blocked.wait(PATIENCE_S), "the publisher was not told that it is blocked"
    assert free_bytes(small_disk) < 2_000_000
    time.sleep(0.5)  # in which the free space is looked at many times
    assert broker.said.count("alarm raised") + broker.said.count("disk full") == 1, broker.said
    assert "alarm cleared" not in broker.said
    confirmed = publisher.confirmed
    assert drain(broker)[:confirmed] == list(range(1, confirmed + 1))
    assert publisher.is_unblocked.wait(PATIENCE_S), "the publisher was not told that it may go on"
    eventually(lambda: publisher.confirmed > confirmed, "the publisher does not go on")
    publisher.stop()
    assert broker.end() == 0


@pytest.mark.slow
def test_nothing_confirmed_is_lost_on_a_disk_that_is_full(
    small_disk: Path, start: Callable[..., BrokerProcess]
) -> None:
    how = {"segment_size_bytes": SEGMENT_BYTES, "disk_free_limit_bytes": 0}
    broker = start(small_disk, **how).ready()
    publisher = Publisher(broker, LARGE_BYTES)
    eventually(lambda: "disk full" in broker.said, "the disk does not become full")
    assert free_bytes(small_disk) < SEGMENT_BYTES
    broker.kill()
    publisher.thread.join(PATIENCE_S)
    confirmed = publisher.confirmed  # one more than when it became full, where the last was yet to be synced
    numbers = drain(start(small_disk, **how).ready())
    assert numbers[:confirmed] == list(range(1, confirmed + 1))
    assert numbers[confirmed:] in ([], [confirmed + 1])


@pytest.mark.slow
def test_draining_makes_space_on_a_disk_that_is_full(small_disk: Path, start: Callable[..., BrokerProcess]) -> None:
    broker = start(small_disk, segment_size_bytes=SEGMENT_BYTES, disk_free_limit_bytes=0, resource_check_ms=100).ready()
    publisher = Publisher(broker, LARGE_BYTES)
    assert publisher.is_blocked.wait(PATIENCE_S), "the publisher was not told that it is blocked"
    eventually(lambda: "disk full" in broker.said, "the disk does not become full")
    confirmed = publisher.confirmed
    assert drain(broker)[:confirmed] == list(range(1, confirmed + 1))
    assert publisher.is_unblocked.wait(PATIENCE_S), "the publisher was not told that it may go on"
    eventually(lambda: publisher.confirmed > confirmed + 1, "the publisher does not go on")
    publisher.stop()
    assert broker.end() == 0


@pytest.mark.slow
def test_a_full_disk_is_waited_out(small_disk: Path, start: Callable[..., BrokerProcess]) -> None:
    broker = start(small_disk, segment_size_bytes=SEGMENT_BYTES, disk_free_limit_bytes=0, resource_check_ms=100).ready()
    publisher = Publisher(broker, LARGE_BYTES)
    eventually(lambda: "disk full" in broker.said, "the disk does not become full")
    confirmed = publisher.confirmed
    mount(small_disk, "-o", "remount,size=60m")
    eventually(lambda: publisher.confirmed > confirmed, "the publisher does not go on when there is space")
    publisher.stop()
    assert drain(broker) == list(range(1, publisher.confirmed + 1))
    assert broker.end() == 0


@pytest.mark.parametrize("fails_at", [10, 60])
@pytest.mark.parametrize("what", ["SYNC", "WRITE"])
def test_a_disk_that_fails_is_final(
    tmp_path: Path, start: Callable[..., BrokerProcess], what: str, fails_at: int
) -> None:
    failing = {f"FAULTS_{what}_FAILS_AT": fails_at}
    broker = start(tmp_path / "data", module="tests.faults.broken_disk", **failing).ready()
    publisher = Publisher(broker, 100)
    assert broker.ended() == 6
    publisher.thread.join(PATIENCE_S)
    assert "Input/output error" in broker.said
    assert "Traceback" not in broker.said
    confirmed = publisher.confirmed
    assert confirmed < fails_at
    numbers = drain(start(tmp_path / "data").ready())
    assert numbers[:confirmed] == list(range(1, confirmed + 1))
    assert numbers[confirmed:] in ([], [confirmed + 1])


@pytest.mark.slow
@pytest.mark.parametrize("when", ["at the start", "later"])
def test_a_disk_that_cannot_be_read_is_final(tmp_path: Path, start: Callable[..., BrokerProcess], when: str) -> None:
    folder = tmp_path / "data"
    broker = start(folder).ready()
    publisher = Publisher(broker, 100)
    eventually(lambda: publisher.confirmed > 80, "nothing was confirmed")  # more than a start keeps in memory
    broker.kill()
    publisher.thread.join(PATIENCE_S)
    broker = start(folder, module="tests.faults.broken_disk", FAULTS_READS_FAIL=when)
    assert broker.ended() == 6
    assert "Input/output error" in broker.said
    assert "Traceback" not in broker.said
    assert len(drain(start(folder).ready())) >= publisher.confirmed


def test_a_disk_that_cannot_be_written_to_is_refused(small_disk: Path, start: Callable[..., BrokerProcess]) -> None:
    assert start(small_disk, segment_size_bytes=SEGMENT_BYTES).ready().end() == 0
    mount(small_disk, "-o", "remount,ro")
    broker = start(small_disk)
    assert broker.ended() == 4
    assert "Read-only file system" in broker.said
    assert "Traceback" not in broker.said


# --- what is in the data folder


@pytest.fixture
def used(tmp_path: Path, start: Callable[..., BrokerProcess]) -> tuple[Path, int]:
    """A data folder with some messages, and how many."""
    folder = tmp_path / "data"
    broker = start(folder).ready()
    publisher = Publisher(broker, 1000)
    eventually(lambda: publisher.confirmed > 20, "nothing is published")
    publisher.stop()
    broker.kill()
    return folder, publisher.confirmed


def last_segment(folder: Path) -> Path:
    return sorted((folder / "journal").glob("*.segment"))[-1]


def amqp_broker(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "amqp_broker", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.slow
def test_damage_is_refused_and_repaired(used: tuple[Path, int], start: Callable[..., BrokerProcess]) -> None:
    folder, count = used
    segment = last_segment(folder)
    data = bytearray(segment.read_bytes())
    offset = data.index(b"00000010") + 500
    data[offset] ^= 1
    segment.write_bytes(data)
    broker = start(folder)
    assert broker.ended() == 5
    found = re.search(re.escape(str(segment)) + r" is damaged at byte (\d+)", broker.said)
    assert found is not None, broker.said
    assert int(found.group(1)) <= offset < int(found.group(1)) + 2000
    assert "Traceback" not in broker.said
    assert amqp_broker("journal", "check", str(folder)).returncode == 5
    repaired = amqp_broker("journal", "repair", str(folder))
    assert repaired.returncode == 0, repaired.stderr
    assert list((folder / "journal").glob("*.damaged"))
    assert drain(start(folder).ready()) == [number for number in range(1, count + 1) if number != 10]


def test_a_newer_format_is_refused(used: tuple[Path, int], start: Callable[..., BrokerProcess]) -> None:
    folder, _ = used
    segment = last_segment(folder)
    data = bytearray(segment.read_bytes())
    struct.pack_into("<I", data, 8, 2)
    struct.pack_into("<I", data, 60, zlib.crc32(data[:60]))
    segment.write_bytes(data)
    broker = start(folder)
    assert broker.ended() == 9
    assert str(segment) in broker.said
    assert "newer" in broker.said
    assert "Traceback" not in broker.said


def test_a_torn_tail_is_cut_off_with_a_warning(used: tuple[Path, int], start: Callable[..., BrokerProcess]) -> None:
    folder, count = used
    segment = last_segment(folder)
    data = segment.read_bytes()
    end = len(data.rstrip(b"\0")) + 2000  # the last message's body is zeros
    with segment.open("r+b") as file:
        file.seek(end)
        file.write(b"\xb1ock" + os.urandom(300))
    broker = start(folder).ready()
    assert re.search(r"level=warning event=\"journal cut\" file=\S+\.segment offset=\d+ cut_bytes=\d+", broker.said)
    assert drain(broker) == list(range(1, count + 1))


# --- a process that stands still


def test_a_broker_that_stands_still_for_a_while_loses_nothing(
    tmp_path: Path, start: Callable[..., BrokerProcess]
) -> None:
    broker = start(tmp_path / "data").ready()
    publisher = Publisher(broker, 100)
    for _ in range(3):
        before = publisher.confirmed
        eventually(lambda: publisher.confirmed > before + 10, "the publisher does not go on")  # noqa: B023
        broker.signal(signal.SIGSTOP)
        time.sleep(0.3)
        broker.signal(signal.SIGCONT)
    publisher.stop()
    assert drain(broker) == list(range(1, publisher.confirmed + 1))
    assert broker.end() == 0
