"""Clients that publish and consume through any node of a cluster, and come back whenever their connection ends.

There is one kind of traffic for each thing that could go wrong in a way of its own: plain, priorities, dead letters,
messages that are held back, transactions, exclusive queues. What they see goes into the `History`.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Hashable, Sequence
from contextlib import suppress

import pika
from pika.adapters.blocking_connection import BlockingChannel
from pika.adapters.utils.connection_workflow import AMQPConnectorException
from pika.exceptions import AMQPError

from tests.cluster.history import History

MARKS = "marks"
PLAIN, PRIORITIES, REJECTED, DEAD, HELD, TRANSACTED = "plain", "priorities", "rejected", "dead", "held", "transacted"
DELAYING, FILLED = "delaying", "filled"
FILLER_BYTES = 16_384
DELAY_MS = 300
COMMIT_EVERY = 20  # acknowledgements
PREFETCH = 50
NUMBERS = 10_000_000  # of each publisher
HEARTBEAT_S = 4


def properties(priority: int | None = None, headers: dict[str, int] | None = None) -> pika.BasicProperties:
    return pika.BasicProperties(delivery_mode=2, priority=priority, headers=headers)


def declare_all(channel: BlockingChannel) -> None:
    """All that the clients use."""
    channel.queue_declare(MARKS, durable=True, arguments={"x-max-length": 1})
    channel.queue_declare(PLAIN, durable=True)
    channel.queue_declare(PRIORITIES, durable=True, arguments={"x-max-priority": 3})
    dead_letters = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": DEAD}
    channel.queue_declare(REJECTED, durable=True, arguments=dead_letters)
    channel.queue_declare(DEAD, durable=True)
    channel.queue_declare(TRANSACTED, durable=True)
    channel.exchange_declare(DELAYING, "x-delayed-message", durable=True, arguments={"x-delayed-type": "fanout"})
    channel.queue_declare(HELD, durable=True)
    channel.queue_bind(HELD, DELAYING)


class Client(threading.Thread):
    """One client.

    Args:
        history: where it writes what it sees.
        addresses: of the nodes.
        seed: for which node it chooses, and for its numbers.
        virtual_host: where it is.
    """

    def __init__(
        self, history: History, addresses: Sequence[tuple[str, int]], seed: int, virtual_host: str = "/"
    ) -> None:
        super().__init__(daemon=True)
        self._virtual_host = virtual_host
        self.history = history
        self._addresses = list(addresses)
        self.random = random.Random(seed)
        self._number = seed * NUMBERS
        self.stopping = threading.Event()
        self.connections = 0

    def next_number(self) -> int:
        """One that nobody else has."""
        self._number += 1
        return self._number

    def run(self) -> None:
        while not self.stopping.is_set():
            try:
                self._converse_once()
            except (AMQPError, AMQPConnectorException, OSError, AssertionError):
                time.sleep(0.02)  # pika asserts where a connection ends amid its handshake
            except Exception as error:
                self.history.note_fault(f"a client has failed: {error!r}")
                raise

    def _converse_once(self) -> None:
        host, port = self.random.choice(self._addresses)
        parameters = pika.ConnectionParameters(
            host,
            port,
            self._virtual_host,
            socket_timeout=3,
            stack_timeout=5,
            blocked_connection_timeout=30,
            heartbeat=HEARTBEAT_S,
        )
        connection = pika.BlockingConnection(parameters)
        self.connections += 1
        try:
            channel = connection.channel()
            declare_all(channel)
            self.converse(channel)
        finally:
            with suppress(AMQPError, OSError):
                connection.close()

    def converse(self, channel: BlockingChannel) -> None:
        """Do what this client does until it is to stop or the connection ends."""
        raise NotImplementedError


class Publisher(Client):
    """Publishes one number after the other, each once, and waits for its confirm."""

    queue = PLAIN

    def converse(self, channel: BlockingChannel) -> None:
        channel.confirm_delivery()
        while not self.stopping.is_set():
            number = self.next_number()
            self.history.note_publish(number)
            self.send(channel, number)
            self.history.note_confirm(number)

    def send(self, channel: BlockingChannel, number: int) -> None:
        """Publish one."""
        channel.basic_publish("", self.queue, str(number).encode(), properties())


class PriorityPublisher(Publisher):
    """With priorities."""

    def send(self, channel: BlockingChannel, number: int) -> None:
        channel.basic_publish("", PRIORITIES, str(number).encode(), properties(number % 4))


class RejectedPublisher(Publisher):
    """To a queue whose consumer rejects all."""

    queue = REJECTED


class HeldPublisher(Publisher):
    """What is held back for a while."""

    def send(self, channel: BlockingChannel, number: int) -> None:
        channel.basic_publish(DELAYING, "", str(number).encode(), properties(headers={"x-delay": DELAY_MS}))


class Transactor(Client):
    """Publishes five in each transaction, which also acknowledges what has come meanwhile."""

    def converse(self, channel: BlockingChannel) -> None:
        connected_s = time.monotonic()
        channel.tx_select()
        while not self.stopping.is_set():
            numbers = [self.next_number() for _ in range(5)]
            self.history.note_transaction(numbers)
            self.history.note_publish(*numbers)
            for number in numbers:
                channel.basic_publish("", TRANSACTED, str(number).encode(), properties())
            acknowledged = []
            for _ in range(5):
                method, _, body = channel.basic_get(TRANSACTED)
                if method is None:
                    break
                self.history.note_delivery(int(body), connected_s)
                channel.basic_ack(method.delivery_tag)
                acknowledged.append(int(body))
            channel.tx_commit()
            self.history.note_confirm(*numbers)
            self.history.note_commit(acknowledged)


class ExclusiveUser(Client):
    """Talks to itself over an exclusive queue, which has what was confirmed for as long as the connection lives."""

    def converse(self, channel: BlockingChannel) -> None:
        queue = channel.queue_declare("", exclusive=True).method.queue
        channel.confirm_delivery()
        while not self.stopping.is_set():
            numbers = [self.next_number() for _ in range(3)]
            for number in numbers:
                channel.basic_publish("", queue, str(number).encode(), properties())
            found = [channel.basic_get(queue, auto_ack=True)[2] for _ in numbers]
            if found != [str(number).encode() for number in numbers]:
                self.history.note_fault(f"an exclusive queue held {found} instead of {numbers}")
            time.sleep(0.05)


class Consumer(Client):
    """Acknowledges what it gets, and has a confirm behind the acknowledgements now and then.

    Args:
        queue: what it consumes from.
        is_ordered: whether the messages of a publisher and a priority come in order.
    """

    def __init__(
        self,
        history: History,
        addresses: Sequence[tuple[str, int]],
        seed: int,
        virtual_host: str = "/",
        queue: str = PLAIN,
        *,
        is_ordered: bool = True,
    ) -> None:
        super().__init__(history, addresses, seed, virtual_host)
        self._queue = queue
        self._is_ordered = is_ordered

    def converse(self, channel: BlockingChannel) -> None:
        connected_s = time.monotonic()
        channel.confirm_delivery()
        channel.basic_qos(prefetch_count=PREFETCH)
        acknowledged: list[int] = []
        last: dict[Hashable, int] = {}  # the number that came last, by publisher and priority
        for method, props, body in channel.consume(self._queue, inactivity_timeout=0.2):
            if method is None:
                if self.stopping.is_set():
                    return
                continue
            number = int(body)
            self.history.note_delivery(number, connected_s)
            if self._is_ordered and not method.redelivered:
                line = (number // NUMBERS, props.priority)
                if number < last.get(line, 0):
                    self.history.note_fault(f"{number} came after {last[line]}, neither marked redelivered")
                last[line] = number
            channel.basic_ack(method.delivery_tag)
            acknowledged.append(number)
            if len(acknowledged) >= COMMIT_EVERY:
                channel.basic_publish("", MARKS, b"", properties())
                self.history.note_commit(acknowledged)
                acknowledged = []


class Rejecter(Client):
    """Rejects what it gets, so that it dies and comes to another queue."""

    def converse(self, channel: BlockingChannel) -> None:
        channel.basic_qos(prefetch_count=PREFETCH)
        for method, _, _ in channel.consume(REJECTED, inactivity_timeout=0.2):
            if method is not None:
                channel.basic_reject(method.delivery_tag, requeue=False)
            elif self.stopping.is_set():
                return


class Traffic:
    """All of them at once.

    Args:
        history: where they write what they see.
        addresses: of the nodes.
        seed: for all that is left to chance.
        virtual_host: where.
    """

    def __init__(
        self, history: History, addresses: Sequence[tuple[str, int]], seed: int = 0, virtual_host: str = "/"
    ) -> None:
        self._history = history
        self._addresses = addresses
        self._virtual_host = virtual_host
        self._publishers: list[Client] = [
            Publisher(history, addresses, 20 * seed + 1, virtual_host),
            PriorityPublisher(history, addresses, 20 * seed + 2, virtual_host),
            RejectedPublisher(history, addresses, 20 * seed + 3, virtual_host),
            HeldPublisher(history, addresses, 20 * seed + 4, virtual_host),
            Transactor(history, addresses, 20 * seed + 5, virtual_host),
            ExclusiveUser(history, addresses, 20 * seed + 6, virtual_host),
        ]
        self._consumers = self._new_consumers(20 * seed + 10)
        for client in (*self._publishers, *self._consumers):
            client.start()

    def _new_consumers(self, seed: int) -> list[Client]:
        """One for each queue but that of the transactions."""
        history, addresses, host = self._history, self._addresses, self._virtual_host
        return [
            Consumer(history, addresses, seed, host),
            Consumer(history, addresses, seed + 1, host, PRIORITIES),
            Consumer(history, addresses, seed + 2, host, DEAD, is_ordered=False),
            Consumer(history, addresses, seed + 3, host, HELD, is_ordered=False),
            Rejecter(history, addresses, seed + 4, host),
        ]

    def end(self, timeout_s: float) -> None:
        """Stop publishing, and consume until all that was confirmed has come, or for so long."""
        self._stop(self._publishers, timeout_s)
        self._consumers.append(
            Consumer(self._history, self._addresses, 98, self._virtual_host, TRANSACTED, is_ordered=False)
        )
        self._consumers[-1].start()
        deadline_s = time.monotonic() + timeout_s
        while self._history.confirmed - self._history.delivered and time.monotonic() < deadline_s:
            time.sleep(0.1)
        time.sleep(2 * DELAY_MS / 1000)  # what was not confirmed may still come
        self._stop(self._consumers, timeout_s)

    @staticmethod
    def _stop(clients: Sequence[Client], timeout_s: float) -> None:
        for client in clients:
            client.stopping.set()
        for client in clients:
            client.join(timeout_s)


def fill(address: tuple[str, int], size_bytes: int) -> None:
    """Let so much wait in a queue that nobody consumes from."""
    host, port = address
    body = bytes(FILLER_BYTES)
    connection = pika.BlockingConnection(pika.ConnectionParameters(host, port, heartbeat=0))
    channel = connection.channel()
    channel.queue_declare(FILLED, durable=True)
    for _ in range(size_bytes // FILLER_BYTES):
        channel.basic_publish("", FILLED, body, properties())
    channel.confirm_delivery()
    channel.basic_publish("", FILLED, body, properties())
    connection.close()
