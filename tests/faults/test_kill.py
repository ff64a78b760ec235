"""A real broker under load, killed with SIGKILL again and again on one data folder.

Three sets are kept of each queue: what was *confirmed* to its publisher, what a consumer *received*, and what was
*durably acknowledged* (an acknowledgement followed by a reply that the broker gives only when the journal has kept
all before it). Whatever the moment of the kill: nothing confirmed is lost, nothing durably acknowledged comes back, a
transaction is whole or not there, and each publisher's messages come in the order of their publishing.

``FAULTS_KILLS`` sets the number of lives, each of which ends with a kill (50 for the full run). With
``FAULTS_PROCESSES=2`` the broker has so many processes; the root and another one own a virtual host each, and in each
life both are killed, one after the other, in either order. The one that is left, and who has started them, go on.
"""

from __future__ import annotations

import gc
import json
import os
import random
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pika
import pika.exceptions
import pytest

from amqp_broker.server.control_address import SOCKET_NAME, reachable_address

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

    virtual_hosts: tuple[str, ...] = ("/",)

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

    def connect(self, virtual_host: str) -> pika.BlockingConnection:
        return pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", self.port, virtual_host, heartbeat=0))

    def kill(self, virtual_host: str) -> Process | None:
        """Kill the owner of a virtual host; returns what serves the folder then."""
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


class Several(Process):
    """Several processes: the root owns one virtual host, process 1 the other."""

    virtual_hosts = ("/", "other")

    def __init__(self, folder: Path) -> None:
        definitions = folder / "definitions.json"
        name = self.virtual_hosts[1]
        permission = {"user": "guest", "vhost": name, "configure": "", "write": "", "read": ""}
        definitions.write_text(
            json.dumps({"vhosts": [{"name": name}], "permissions": [permission]}).replace('""', '".*"')
        )
        settings = {"AMQP_BROKER_PROCESSES": str(PROCESSES), "AMQP_BROKER_LOAD_DEFINITIONS": str(definitions)}
        self._folder = folder / "data"
        super().__init__(self._folder, **settings)

    def kill(self, virtual_host: str) -> Process:
        """The others go on, and it is started again.

        Raises:
            OSError: it is not there now.
        """
        folder = self._folder / "processes" / str(self.virtual_hosts.index(virtual_host))
        with socket.socket(socket.AF_UNIX) as asking, reachable_address(folder / SOCKET_NAME) as address:
            asking.connect(address)
            owner = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        os.kill(struct.unpack("3i", owner)[0], signal.SIGKILL)
        return self


@dataclass(frozen=True)
class VirtualHost:
    """One virtual host of a broker."""

    process: Process
    name: str

    def connect(self) -> pika.BlockingConnection:
        return self.process.connect(self.name)


def declare(host: VirtualHost) -> None:
    connection = host.connect()
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


def publish_confirmed(host: VirtualHost, ledger: Ledger, exchange: str, key: str, queues: tuple[str, ...]) -> None:
    channel = host.connect().channel()
    channel.confirm_delivery()
    for number in ledger.numbers():
        name = f"{number:07d}"
        publish(channel, exchange, key, name, priority=number % 4)
        with ledger.lock:
            for queue in queues:
                ledger.confirmed[queue].add(name)


def publish_in_pairs(host: VirtualHost, ledger: Ledger) -> None:
    channel = host.connect().channel()
    channel.tx_select()
    for number in ledger.numbers():
        publish(channel, "", "transactions", f"{number:07d}a")
        publish(channel, "", "transactions", f"{number:07d}b")
        channel.tx_commit()
        with ledger.lock:
            ledger.confirmed["transactions"].update((f"{number:07d}a", f"{number:07d}b"))


def consume(host: VirtualHost, ledger: Ledger, queue: str) -> None:
    """Acknowledge in bunches; a durable declaration in between proves that those before it are kept."""
    channel = host.connect().channel()
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


def reject(host: VirtualHost, ledger: Ledger) -> None:
    """Everything is rejected into the queue ``dead``."""
    channel = host.connect().channel()
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


def load(host: VirtualHost, ledger: Ledger) -> list[threading.Thread]:
    """Publishers and consumers of all queues, until their broker is killed."""
    declare(host)
    return [
        until_killed(lambda: publish_confirmed(host, ledger, "", "work", ("work",))),
        until_killed(lambda: publish_confirmed(host, ledger, "", "work", ("work",))),
        until_killed(lambda: publish_confirmed(host, ledger, "fan", "", ("fan-1", "fan-2", "fan-3"))),
        until_killed(lambda: publish_confirmed(host, ledger, "", "priority", ("priority",))),
        until_killed(lambda: publish_confirmed(host, ledger, "", "rejecting", ("dead",))),
        until_killed(lambda: publish_in_pairs(host, ledger)),
        until_killed(lambda: consume(host, ledger, "work")),
        until_killed(lambda: consume(host, ledger, "fan-1")),
        until_killed(lambda: consume(host, ledger, "dead")),
        until_killed(lambda: reject(host, ledger)),
    ]


def one_life(process: Process, ledgers: dict[str, Ledger], source: random.Random) -> Process | None:
    """Load in each virtual host, and a kill of each one's owner; returns what serves the folder then."""
    loads = {name: load(VirtualHost(process, name), ledger) for name, ledger in ledgers.items()}
    left = None
    for name in source.sample(list(loads), len(loads)):
        loads[name][0].join(source.uniform(0.05, 1.2))  # never ends by itself: this is the life's length
        left = process.kill(name)
    for name, threads in loads.items():
        for thread in threads:
            thread.join(10 if left is None else 3)
            while left is not None and thread.is_alive():  # it came too late for that kill, and was served after it
                with suppress(OSError):
                    process.kill(name)
                thread.join(3)
    return left


def drain(host: VirtualHost, ledger: Ledger) -> dict[str, list[str]]:
    """What is in the queues at the end, in order; rejected messages have been given the time to die."""
    left: dict[str, list[str]] = {}
    connection = host.connect()
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
    sys.stdout.write(f"seed {seed}, {KILLS} lives\n")
    source = random.Random(seed)
    start = Process if PROCESSES == 1 else Several
    process = start(tmp_path)
    ledgers = {name: Ledger() for name in process.virtual_hosts}
    for _ in range(KILLS):
        process = one_life(process, ledgers, source) or start(tmp_path)
    gc.collect()  # while the warnings about those sockets are off
    left = {name: drain(VirtualHost(process, name), ledger) for name, ledger in ledgers.items()}
    assert process.end() == 0
    for name, ledger in ledgers.items():
        check(ledger, left[name])
        confirmed = {queue: len(names) for queue, names in ledger.confirmed.items()}
        sys.stdout.write(f"confirmed in {name}: {confirmed}\n")


def check(ledger: Ledger, left: dict[str, list[str]]) -> None:
    """What has to be so of each virtual host when its queues are empty."""
    assert ledger.confirmed, "nothing was asked of it"
    for queue in QUEUES:
        if queue != "rejecting":
            assert ledger.confirmed[queue] <= ledger.received[queue], f"confirmed and lost in {queue}"
    assert ledger.problems == []
    assert left["fan-2"] == sorted(left["fan-2"])
    pairs = {name[:-1] for name in left["transactions"]}
    assert left["transactions"] == [name for pair in sorted(pairs) for name in (f"{pair}a", f"{pair}b")]
