"""What every queue is, whatever its type: how much it costs, and what another type has to say to be one."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from pamqp import commands

from amqp_broker.broker.arguments import QueueArguments
from amqp_broker.broker.message import Message
from amqp_broker.broker.queues.base import Queue
from amqp_broker.broker.queues.consumers import Consumer
from amqp_broker.broker.queues.returning import Returning
from amqp_broker.errors import not_implemented
from tests.support.client import Client
from tests.support.memory_broker import MemoryBroker


@pytest.mark.parametrize("has_been_used", [False, True])
def test_an_idle_queue_costs_a_kibibyte(has_been_used: bool) -> None:
    """As docs/security.md says; when it was used and is empty, two more."""
    broker = MemoryBroker()
    channel = Client(broker).open().channel()

    def make(numbers: range) -> None:
        for number in numbers:
            name = f"a-queue-with-a-name-{number:05}"
            broker.virtual_host.add_queue(name, durable=True, auto_delete=False, owner=None, table={})
            if has_been_used:
                channel.publish("", name, b"x")
                channel.get(name, no_ack=True)

    make(range(10))
    tracemalloc.start()
    try:
        make(range(10, 1010))
        size_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size_bytes / 1000 < (3072 if has_been_used else 1024)


class Log(Queue):
    """A queue whose messages stay where they are, and whose consumers each read all of them."""

    def __init__(self, broker: MemoryBroker, name: str) -> None:
        self.kept: list[Message] = []
        self.offsets: dict[Consumer, int] = {}
        super().__init__(
            broker.virtual_host,
            name,
            durable=False,
            auto_delete=False,
            owner=None,
            table={},
            arguments=QueueArguments(),
        )
        broker.virtual_host.queues[name] = self

    @property
    def ready_count(self) -> int:
        return len(self.kept)

    @property
    def ready_bytes(self) -> int:
        return sum(len(message.body) for message in self.kept)

    def messages(self) -> Iterator[Message]:
        return iter(self.kept)

    def publish(self, message: Message) -> bool:
        self.kept.append(message)
        self.changed()
        return True

    def deliver_ready(self, messages_max: int) -> int:
        self.is_changed = False
        delivered = 0
        for consumer in list(self.consumers):
            while self.offsets.get(consumer, 0) < len(self.kept):
                if not consumer.is_ready:
                    self.consumers.park(consumer)
                    break
                if delivered == messages_max:
                    self.changed()
                    return delivered
                message = self.kept[self.offsets.get(consumer, 0)]
                self.offsets[consumer] = self.offsets.get(consumer, 0) + 1
                consumer.deliveries.deliver(consumer, message, message.header)
                delivered += 1
        return delivered

    def get(self, no_ack: bool) -> Message | None:
        raise not_implemented(f"basic.get is not supported by {self}")

    def acknowledge(self, message: Message) -> None:
        """It stays."""

    def reject(self, messages: list[Message]) -> None:
        """They stay."""

    def taking_back(self) -> Returning:
        return Returning()

    def empty(self) -> Iterator[None]:
        self.kept.clear()
        return iter(())


def bodies(received: list[Any]) -> list[bytes]:
    """The bodies of what came."""
    return [one.body for one in received]


def test_a_type_that_keeps_what_it_delivers_is_a_dozen_methods() -> None:
    broker = MemoryBroker()
    log = Log(broker, "log")
    client = Client(broker).open()
    channel, other = client.channel(), client.channel(2)
    for number in range(4):
        channel.publish("", "log", b"%d" % number)
    channel.qos(2)
    channel.consume("log", "first")
    assert bodies(channel.deliveries()) == [b"0", b"1"]
    channel.ack(1)
    assert bodies(channel.deliveries()) == [b"2"]
    channel.reject(2, requeue=False)
    assert bodies(channel.deliveries()) == [b"3"]
    other.consume("log", "second", no_ack=True)
    channel.publish("", "log", b"4")
    assert bodies(other.deliveries()) == [b"0", b"1", b"2", b"3", b"4"]
    channel.nack(0, multiple=True, requeue=True)
    assert bodies(channel.deliveries()) == [b"4"], "what is given back is not delivered again"
    channel.call(commands.Basic.Cancel("first"))
    assert channel.message_count("log") == 5
    channel.call(commands.Queue.Purge(queue="log"))
    assert channel.message_count("log") == 0
    channel.send(commands.Basic.Get(queue="log"))
    assert client.closed_with().reply_code == 540
    assert not len(log.consumers)
