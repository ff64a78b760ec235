"""The history checker: clients under load while nodes die, and what must hold of all that they saw.

Each message has a number of its own. A publisher notes what was confirmed; a consumer notes what it was delivered, what
it has acknowledged, and which acknowledgements are committed, since a confirm behind them on their channel says so. In
the end the queue is drained. ``History.faults`` names each breach of:

- confirmed is delivered or still queued;
- delivered was published;
- acknowledged and committed is not delivered again to whoever connects later;
- what is not marked redelivered comes in order to each consumer.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from itertools import pairwise

import pika
from pika.exceptions import AMQPError

QUEUE = "checked"
MARKS = "marks"
PERSISTENT = pika.BasicProperties(delivery_mode=2)
COMMIT_EVERY = 20  # acknowledgements


class History:
    """What all clients have seen."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.published: set[int] = set()
        self.confirmed: set[int] = set()
        self.delivered: set[int] = set()
        self.committed: dict[int, float] = {}  # since when, by number
        self.confirmed_at_s: list[float] = []
        self.faults: list[str] = []

    def note_publish(self, number: int) -> None:
        """A publish is about to be sent."""
        with self._lock:
            self.published.add(number)

    def note_confirm(self, number: int) -> None:
        """It was confirmed."""
        with self._lock:
            self.confirmed.add(number)
            self.confirmed_at_s.append(time.monotonic())

    def note_delivery(self, number: int, connected_s: float) -> None:
        """A message was delivered, to a consumer that connected then."""
        with self._lock:
            self.delivered.add(number)
            if number not in self.published:
                self.faults.append(f"{number} was delivered and never published")
            if self.committed.get(number, connected_s) < connected_s:
                self.faults.append(f"{number} came again although its acknowledgement was committed")

    def note_commit(self, numbers: Sequence[int]) -> None:
        """Acknowledgements are committed."""
        with self._lock:
            now_s = time.monotonic()
            for number in numbers:
                self.committed.setdefault(number, now_s)

    def check(self) -> list[str]:
        """All that is wrong when nothing is left to be delivered."""
        lost = sorted(self.confirmed - self.delivered)
        return [*self.faults, *(f"{number} was confirmed and is lost" for number in lost[:20])]

    @property
    def longest_gap_s(self) -> float:
        """The longest time without a confirm."""
        times = self.confirmed_at_s
        return max((later - earlier for earlier, later in pairwise(times)), default=0.0)


class Client(threading.Thread):
    """One client that comes back, through any node, whenever its connection ends.

    Args:
        history: where it writes what it sees.
        ports: of the nodes.
        seed: for which node it chooses.
    """

    def __init__(self, history: History, ports: Sequence[int], seed: int) -> None:
        super().__init__(daemon=True)
        self.history = history
        self._ports = list(ports)
        self._random = random.Random(seed)
        self.stopping = threading.Event()
        self.connections = 0

    def run(self) -> None:
        while not self.stopping.is_set():
            try:
                self._converse_once()
            except (AMQPError, OSError, AssertionError):  # pika asserts where a connection ends amid its handshake
                time.sleep(0.02)

    def _converse_once(self) -> None:
        parameters = pika.ConnectionParameters(
            "127.0.0.1",
            self._random.choice(self._ports),
            socket_timeout=3,
            stack_timeout=5,
            blocked_connection_timeout=30,
            heartbeat=10,
        )
        connection = pika.BlockingConnection(parameters)
        self.connections += 1
        try:
            channel = connection.channel()
            channel.queue_declare(QUEUE, durable=True)
            channel.queue_declare(MARKS, durable=True, arguments={"x-max-length": 1})
            channel.confirm_delivery()
            self.converse(channel)
        finally:
            if connection.is_open:
                connection.close()

    def converse(self, channel: pika.adapters.blocking_connection.BlockingChannel) -> None:
        """Do what this client does until it is to stop or the connection ends."""
        raise NotImplementedError


class Publisher(Client):
    """Publishes one number after the other, each once, and waits for its confirm."""

    def __init__(self, history: History, ports: Sequence[int], seed: int) -> None:
        super().__init__(history, ports, seed)
        self._number = seed * 10_000_000

    def converse(self, channel: pika.adapters.blocking_connection.BlockingChannel) -> None:
        while not self.stopping.is_set():
            self._number += 1
            number = self._number
            self.history.note_publish(number)
            channel.basic_publish("", QUEUE, str(number).encode(), PERSISTENT)
            self.history.note_confirm(number)


class Consumer(Client):
    """Acknowledges what it gets, and has a confirm behind the acknowledgements now and then."""

    def converse(self, channel: pika.adapters.blocking_connection.BlockingChannel) -> None:
        connected_s = time.monotonic()
        channel.basic_qos(prefetch_count=50)
        acknowledged: list[int] = []
        last: dict[int, int] = {}  # the number that came last, by publisher
        for method, _, body in channel.consume(QUEUE, inactivity_timeout=0.2):
            if method is None:
                if self.stopping.is_set():
                    return
                continue
            number = int(body)
            publisher = number // 10_000_000
            self.history.note_delivery(number, connected_s)
            if not method.redelivered:
                if number < last.get(publisher, 0):
                    self.history.faults.append(f"{number} came after {last[publisher]}, neither marked redelivered")
                last[publisher] = number
            channel.basic_ack(method.delivery_tag)
            acknowledged.append(number)
            if len(acknowledged) >= COMMIT_EVERY:
                channel.basic_publish("", MARKS, b"", PERSISTENT)
                self.history.note_commit(acknowledged)
                acknowledged = []


def drain(history: History, ports: Sequence[int], timeout_s: float) -> None:
    """Consume until nothing has come for a while; the publishers have stopped."""
    consumer = Consumer(history, ports, 99)
    consumer.start()
    deadline_s = time.monotonic() + timeout_s
    while history.confirmed - history.delivered and time.monotonic() < deadline_s:
        time.sleep(0.1)
    consumer.stopping.set()
    consumer.join(timeout_s)
