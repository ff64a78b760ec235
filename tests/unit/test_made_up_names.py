"""Clients whose permissions others decide: queues whose names the broker makes up, about which is asked once; links of
AMQP 1.0, which ask before there is a message.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from pamqp import commands

from amqp_broker.access.judge import NotDecidedYet
from amqp_broker.protocols.amqp10.performatives import ACCEPTED
from amqp_broker.session.connection import ClientConnection
from tests.support.amqp10_client import Amqp10Client, message
from tests.support.client import Client
from tests.support.memory_broker import MemoryBroker
from tests.support.stomp_client import StompClient


class SlowJudge:
    """Allows everything, and must be asked for each permission first.

    Args:
        connection: whose client it decides about.
    """

    def __init__(self, connection: ClientConnection) -> None:
        self._decided: set[tuple[str, ...]] = set()
        self._waiting: list[Callable[[], None]] = []
        connection.client.user = replace(connection.client.user, judge=self)

    def may_access(self, virtual_host: str, kind: str, name: str, permission: str) -> bool:
        return self._is_decided(kind, name, permission)

    def may_use_topic(
        self, virtual_host: str, exchange: str, routing_key: str, permission: str, client_id: str | None
    ) -> bool:
        return self._is_decided("topic", exchange, routing_key)

    def _is_decided(self, *question: str) -> bool:
        if question not in self._decided:
            self._decided.add(question)
            raise NotDecidedYet(self._waiting.append)
        return True

    def decide(self, broker: MemoryBroker, count: int) -> None:
        """Answer so many questions, after which there is no other."""
        for _ in range(count):
            broker.handle(self._waiting.pop())
        assert self._waiting == []


QUEUE_PERMISSIONS = 3
EXCHANGE_AND_TOPIC = 2


def test_a_name_that_is_made_up_is_the_same_when_others_have_said_what_may_be_done_with_it() -> None:
    broker = MemoryBroker()
    client = Client(broker).open()
    channel = client.channel()
    judge = SlowJudge(client.connection)
    names = set()
    for _ in range(2):
        channel.send(commands.Queue.Declare(exclusive=True))
        judge.decide(broker, QUEUE_PERMISSIONS)
        names.add(channel.one(commands.Queue.DeclareOk).queue)
    assert names == set(broker.virtual_host.queues)
    assert len(names) == 2


def test_a_subscription_leaves_no_queue_behind_for_each_question() -> None:
    broker = MemoryBroker()
    client = Amqp10Client(broker)
    client.open()
    client.begin()
    judge = SlowJudge(client.connection)
    client.receiver("/exchange/amq.topic/a")
    judge.decide(broker, EXCHANGE_AND_TOPIC + QUEUE_PERMISSIONS)
    other = StompClient(broker)
    other.connect()
    judge = SlowJudge(other.connection)
    other.send("SUBSCRIBE", id="1", destination="/exchange/amq.topic/a")
    judge.decide(broker, EXCHANGE_AND_TOPIC + QUEUE_PERMISSIONS)
    assert [len(queue.consumers) for queue in broker.virtual_host.queues.values()] == [1, 1]


def test_whether_a_link_may_publish_with_its_key_is_asked_before_there_is_a_message() -> None:
    broker = MemoryBroker()
    client = Amqp10Client(broker)
    client.open()
    client.begin()
    channel = Client(broker).open().channel()
    channel.declare("q")
    channel.bind("q", "amq.topic", "a")
    judge = SlowJudge(client.connection)
    client.sender("/exchange/amq.topic/a")
    judge.decide(broker, EXCHANGE_AND_TOPIC)
    client.read()
    client.transfer(message(b"x"))
    assert [one.field(4).descriptor for one in client.read()] == [ACCEPTED]
