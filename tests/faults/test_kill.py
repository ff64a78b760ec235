"""A real broker under load, killed with SIGKILL again and again on one data folder.

Three sets are kept of each queue: what was *confirmed* to its publisher, what a consumer *received*, and what was
*durably acknowledged* (an acknowledgement followed by a reply that the broker gives only when the journal has kept
all before it). Whatever the moment of the kill: nothing confirmed is lost, nothing durably acknowledged comes back, a
transaction is whole or not there, and each publisher's messages come in the order of their publishing.

``FAULTS_KILLS`` sets the number of kills (50 for the full run). With ``FAULTS_PROCESSES=2`` the broker has so many
processes, and the one that owns the queues is killed; the others, and who has started them, go on.
"""

from __future__ import annotations

import gc
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pika
import pika.exceptions
import pytest

KILLS = int(os.environ.get("FAULTS_KILLS", "5"))
PROCESSES = int(os.environ.get("FAULTS_PROCESSES", "1"))
QUEUES = ("work", "fan-1", "fan-2", "fan-3", "priority", "transactions", "dead", "rejecting")
PERSISTENT = 2

Closed = (pika.exceptions.AMQPError, OSError)


class Ledger:
    """What the clients of all lives of the broker know."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.confirmed: dict[str, set[str]] = defaultdict(set)
        self.received: dict[str, set[str]] = defaultdict(set)
        self.acknowledged: dict[str, set[str]] = defaultdict(set)  # durably
        self.problems: list[str] = []
        self.next_number = 0

    def numbers(self) -> Iterator[int]:
        """Numbers that no publisher of any life has used."""
        while True:
            with self.lock:
                self.next_number += 1
                number = self.next_number
            yield number

    def deliver(self, queue: str, name: str) -> None:
        """A consumer got a message."""
        with self.lock:
            if name in self.acknowledged[queue]:
                self.problems.append(f"{name} came back to {queue} after it was durably acknowledged")
            self.received[queue].add(name)


class Process:
    """The broker's process.

    Args:
        folder: the data folder.
        settings: beside those of all tests here, as the environment has them.
    """

    virtual_host = "/"

    def __init__(self, folder: Path, **settings: str) -> None:
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "amqp_broker",
                "serve",
                "--port",
                "0",
                "--data-dir",
                str(folder),
                "--log-level",
                "error",
            ],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "AMQP_BROKER_SEGMENT_SIZE_BYTES": "262144", **settings},
        )
        assert self._process.stdout is not None
        self.port = 0
        for line in self._process.stdout:
            found = re.search(r"amqp://\S*?:(\d+)", line)
            if found:
                self.port = int(found.group(1))
            if line.startswith("ready"):
                break
        assert self.port, f"the broker ended with {self._process.wait(60)}"

    def connect(self) -> pika.BlockingConnection:
        return pika.BlockingConnection(
            pika.ConnectionParameters("127.0.0.1", self.port, self.virtual_host, heartbeat=0)
        )

    def kill(self) -> Process | None:
        """Kill it; returns what serves the folder then."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(60)
        self._close()
        return None

    def end(self) -> int:
        self._process.terminate()
        code = self._process.wait(60)
        self._close()
        return code

    def _close(self) -> None:
        assert self._process.stdout is not None
        self._process.stdout.close()


class OneOfSeveral(Process):
    """Process 1 of several, which owns a virtual host of its own."""

    virtual_host = "other"

    def __init__(self, folder: Path) -> None:
        definitions = folder / "definitions.json"
        permission = {"user": "guest", "vhost": self.virtual_host, "configure": "", "write": "", "read": ""}
        definitions.write_text(
            json.dumps({"vhosts": [{"name": self.virtual_host}], "permissions": [permission]}).replace('""', '".*"')
        )
        settings = {"AMQP_BROKER_PROCESSES": str(PROCESSES), "AMQP_BROKER_LOAD_DEFINITIONS": str(definitions)}
        self._folder = folder / "data"
        super().__init__(self._folder, **settings)

    def kill(self) -> Process:
        with suppress(ProcessLookupError):  # it is about to be started again
            os.kill(int((self._folder / "processes" / "1" / "lock").read_text()), signal.SIGKILL)
        return self


def declare(process: Process) -> None:
    connection = process.connect()
    channel = connection.channel()
    channel.exchange_declare("fan", "fanout", durable=True)
    for queue in QUEUES:
        arguments: dict[str, object] = {}
        if queue == "priority":
            arguments = {"x-max-priority": 3}
        elif queue == "rejecting":
            arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
        channel.queue_declare(queue, durable=True, arguments=arguments)
        if queue.startswith("fan"):
            channel.queue_bind(queue, "fan")
    connection.close()


def publish(channel: pika.channel.Channel, exchange: str, key: str, name: str, priority: int = 0) -> None:
    properties = pika.BasicProperties(delivery_mode=PERSISTENT, priority=priority, message_id=name)
    channel.basic_publish(exchange, key, os.urandom(random.randint(0, 400)), properties)


def publish_confirmed(process: Process, ledger: Ledger, exchange: str, key: str, queues: tuple[str, ...]) -> None:
    channel = process.connect().channel()
    channel.confirm_delivery()
    for number in ledger.numbers():
        name = f"{number:07d}"
        publish(channel, exchange, key, name, priority=number % 4)
        with ledger.lock:
            for queue in queues:
                ledger.confirmed[queue].add(name)


def publish_in_pairs(process: Process, ledger: Ledger) -> None:
    channel = process.connect().channel()
    channel.tx_select()
    for number in ledger.numbers():
        publish(channel, "", "transactions", f"{number:07d}a")
        publish(channel, "", "transactions", f"{number:07d}b")
        channel.tx_commit()
        with ledger.lock:
            ledger.confirmed["transactions"].update((f"{number:07d}a", f"{number:07d}b"))


def consume(process: Process, ledger: Ledger, queue: str) -> None:
    """Acknowledge in bunches; a durable declaration in between proves that those before it are kept."""
    channel = process.connect().channel()
    channel.basic_qos(prefetch_count=20)
    names: list[str] = []
    for method, properties, _ in channel.consume(queue):
        ledger.deliver(queue, properties.message_id)
        names.append(properties.message_id)
        channel.basic_ack(method.delivery_tag)
        if len(names) == 25:
            channel.queue_declare(f"barrier-{queue}", durable=True)
            channel.queue_delete(f"barrier-{queue}")
            with ledger.lock:
                ledger.acknowledged[queue].update(names)
            names.clear()


def reject(process: Process, ledger: Ledger) -> None:
    """Everything is rejected into the queue ``dead``."""
    channel = process.connect().channel()
    channel.basic_qos(prefetch_count=10)
    for method, _, _ in channel.consume("rejecting"):
        channel.basic_reject(method.delivery_tag, requeue=False)


def until_killed(task: Callable[[], None]) -> threading.Thread:
    def run() -> None:
        try:
            task()
        except Closed:
            pass

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def one_life(process: Process, ledger: Ledger, source: random.Random) -> Process | None:
    """Load, and a kill; returns what serves the folder then."""
    declare(process)
    threads = [
        until_killed(lambda: publish_confirmed(process, ledger, "", "work", ("work",))),
        until_killed(lambda: publish_confirmed(process, ledger, "", "work", ("work",))),
        until_killed(lambda: publish_confirmed(process, ledger, "fan", "", ("fan-1", "fan-2", "fan-3"))),
        until_killed(lambda: publish_confirmed(process, ledger, "", "priority", ("priority",))),
        until_killed(lambda: publish_confirmed(process, ledger, "", "rejecting", ("dead",))),
        until_killed(lambda: publish_in_pairs(process, ledger)),
        until_killed(lambda: consume(process, ledger, "work")),
        until_killed(lambda: consume(process, ledger, "fan-1")),
        until_killed(lambda: consume(process, ledger, "dead")),
        until_killed(lambda: reject(process, ledger)),
    ]
    threads[0].join(source.uniform(0.05, 1.2))  # never ends by itself: this is the life's length
    left = process.kill()
    for thread in threads:
        thread.join(10)
        while left is not None and thread.is_alive():  # it came too late for that kill, and was served after it
            process.kill()
            thread.join(3)
    return left


def drain(process: Process, ledger: Ledger) -> dict[str, list[str]]:
    """What is in the queues at the end, in order; rejected messages have been given the time to die."""
    left: dict[str, list[str]] = {}
    connection = process.connect()
    channel = connection.channel()
    for method, _, _ in channel.consume("rejecting", inactivity_timeout=0.5):
        if method is None:
            break
        channel.basic_reject(method.delivery_tag, requeue=False)
    channel.cancel()
    for queue in QUEUES:
        left[queue] = []
        while True:
            method, properties, _ = channel.basic_get(queue, auto_ack=True)
            if method is None:
                break
            ledger.deliver(queue, properties.message_id)
            left[queue].append(properties.message_id)
    connection.close()
    return left


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # pika leaves sockets to a broker that was killed open
def test_nothing_confirmed_is_lost_whenever_the_broker_is_killed(tmp_path: Path) -> None:
    seed = int(os.environ.get("FAULTS_SEED", random.randrange(10**6)))
    sys.stdout.write(f"seed {seed}, {KILLS} kills\n")
    source = random.Random(seed)
    ledger = Ledger()
    start = Process if PROCESSES == 1 else OneOfSeveral
    process = start(tmp_path)
    for _ in range(KILLS):
        process = one_life(process, ledger, source) or start(tmp_path)
    gc.collect()  # while the warnings about those sockets are off
    left = drain(process, ledger)
    assert process.end() == 0
    for queue in QUEUES:
        if queue != "rejecting":
            assert ledger.confirmed[queue] <= ledger.received[queue], f"confirmed and lost in {queue}"
    assert ledger.problems == []
    assert left["fan-2"] == sorted(left["fan-2"])
    pairs = {name[:-1] for name in left["transactions"]}
    assert left["transactions"] == [name for pair in sorted(pairs) for name in (f"{pair}a", f"{pair}b")]
    sys.stdout.write(f"confirmed: { {queue: len(names) for queue, names in ledger.confirmed.items()} }\n")
