"""Those who look on at a broker: what they are told, by whom it was done, and that they harm nobody."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from pamqp import commands

from amqp_broker.broker.connections import OpenConnection
from amqp_broker.broker.dead_letter import DeathReason
from amqp_broker.broker.message import Message
from amqp_broker.broker.observer import Channel, Onlooker, Passage, Settlement, Subject
from amqp_broker.broker.queues.base import Queue
from amqp_broker.broker.queues.consumers import Consumer
from amqp_broker.errors import AmqpError
from tests.support.client import Client
from tests.support.memory_broker import MemoryBroker


class Diary(Onlooker):
    """Writes each event down as a line."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def take(self) -> list[str]:
        lines, self._lines = self._lines, []
        return lines

    def published(self, channel: Channel, passage: Passage) -> None:
        names = [queue.name for queue in passage.queues]
        error = "" if passage.error is None else f" {passage.error.code.value}"
        self._lines.append(f"published {passage.body.decode()} to {names} {passage.accepted}{error}")

    def delivered(
        self, channel: Channel, queue: Queue, message: Message, consumer: Consumer | None, *, no_ack: bool
    ) -> None:
        by = "get" if consumer is None else consumer.tag
        self._lines.append(f"delivered {message.body.decode()} of {queue.name} to {by} {no_ack}")

    def settled(self, channel: Channel, queue: Queue, messages: Sequence[Message], settlement: Settlement) -> None:
        self._lines.append(f"{settlement} {[message.body.decode() for message in messages]} of {queue.name}")

    def died(self, queue: Queue, message: Message, reason: DeathReason, passage: Passage | None) -> None:
        where = None if passage is None else [one.name for one in passage.queues]
        self._lines.append(f"{message.body.decode()} died in {queue.name}: {reason} {where}")

    def refused(self, connection: OpenConnection, error: AmqpError) -> None:
        self._lines.append(f"refused {connection.user_name} {error.code.value}")

    def opened(self, connection: OpenConnection, channel: Channel | None) -> None:
        self._lines.append("opened " + _which(connection, channel))

    def closed(self, connection: OpenConnection, channel: Channel | None, reason: str) -> None:
        self._lines.append(f"closed {_which(connection, channel)}, {connection.channel_count}")

    def declared(self, subject: Subject, by: str) -> None:
        self._lines.append(f"declared {subject.kind} {subject.virtual_host} {subject.name} by {by}")

    def deleted(self, subject: Subject, by: str) -> None:
        self._lines.append(f"deleted {subject.kind} {subject.virtual_host} {subject.name} by {by}")


def _which(connection: OpenConnection, channel: Channel | None) -> str:
    return f"{connection.user_name}'s" + ("" if channel is None else f" {channel.number}")


@pytest.fixture
def ada(broker: MemoryBroker) -> Client:
    """A client that is open."""
    return Client(broker).open()


@pytest.fixture
def diary(broker: MemoryBroker) -> Diary:
    diary = Diary()
    broker.observers.add(diary)
    return diary


def test_the_way_of_a_message(broker: MemoryBroker, ada: Client, diary: Diary) -> None:
    channel = ada.channel()
    channel.declare("q")
    diary.take()
    channel.publish("", "q", b"one")
    channel.publish("", "nowhere", b"two")
    channel.get("q")
    channel.send(commands.Basic.Reject(1, True))
    channel.consume("q", "t")
    channel.send(commands.Basic.Ack(2))
    channel.send(commands.Basic.Ack(2))
    assert diary.take() == [
        "published one to ['q'] True",
        "published two to [] True",
        "delivered one of q to get False",
        "requeued ['one'] of q",
        "delivered one of q to t False",
        "acknowledged ['one'] of q",
        "refused guest 406",
        "closed guest's 1, 1",
    ]


def test_a_publish_that_is_refused(broker: MemoryBroker, ada: Client, diary: Diary) -> None:
    channel = ada.channel()
    diary.take()
    channel.publish("missing", "q", b"one")
    assert diary.take() == ["published one to [] False 404", "refused guest 404", "closed guest's 1, 1"]


def test_deaths(broker: MemoryBroker, ada: Client, diary: Diary) -> None:
    channel = ada.channel()
    channel.declare("dead")
    channel.declare("lettered", {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"})
    channel.declare("missing", {"x-dead-letter-exchange": "none"})
    channel.declare("short", {"x-max-length": 0})
    for name in ("lettered", "missing"):
        channel.publish("", name, name.encode())
        channel.get(name)
    diary.take()
    channel.send(commands.Basic.Nack(2, True, False))
    channel.publish("", "short", b"third")
    assert diary.take() == [
        "rejected ['lettered'] of lettered",
        "rejected ['missing'] of missing",
        "lettered died in lettered: rejected ['dead']",
        "missing died in missing: rejected None",
        "third died in short: maxlen None",
        "published third to ['short'] True",
    ]


def test_who_comes_and_goes(broker: MemoryBroker, diary: Diary) -> None:
    client = Client(broker).open()
    channel = client.channel()
    channel.declare("q", exclusive=True)
    channel.publish("", "q", b"one")
    channel.get("q")
    diary.take()
    client.connection.lost("it went away")
    assert diary.take() == [
        "closed guest's, 1",
        "closed guest's 1, 0",
        "deleted queue / q by ",
        "abandoned ['one'] of q",
    ]
    Client(broker).open().channel()
    assert diary.take() == ["opened guest's", "opened guest's 1"]


def test_who_declares_and_deletes(broker: MemoryBroker, ada: Client, diary: Diary) -> None:
    channel = ada.channel()
    diary.take()
    channel.declare("q")
    channel.declare("q")
    channel.call(commands.Exchange.Declare(exchange="x", auto_delete=True))
    channel.call(commands.Queue.Bind(queue="q", exchange="x", routing_key="k"))
    assert diary.take() == [
        "declared queue / q by guest",
        "declared exchange / x by guest",
        "declared binding / x by guest",
    ]
    channel.call(commands.Queue.Delete(queue="q"))
    assert diary.take() == [
        "deleted queue / q by guest",
        "deleted exchange / x by ",
        "deleted binding / x by guest",
    ]


def test_an_administrator_is_named(broker: MemoryBroker, diary: Diary) -> None:
    administration = broker.administration.on_behalf_of("root")
    administration.add_user("bob", "secret", algorithm="rabbit_password_hashing_sha256")
    administration.set_tags("bob", ("monitoring",))
    administration.add_virtual_host("v")
    administration.set_permission("bob", "v", "", "", "")
    administration.set_topic_permission("bob", "v", "x", "", "")
    administration.clear_topic_permission("bob", "v")
    administration.clear_permission("bob", "v")
    administration.clear_permission("bob", "v")
    administration.delete_user("bob")
    broker.virtual_hosts["v"].add_queue("q", durable=True, auto_delete=False, owner=None, table={})
    broker.handle(lambda: administration.delete_virtual_host("v"))
    lines = diary.take()
    assert [line for line in lines if not line.startswith("deleted exchange")] == [
        "declared user  bob by root",
        "declared user  bob by root",
        "declared virtual host  v by root",
        "declared permission v bob by root",
        "declared topic permission v bob by root",
        "deleted topic permission v bob by root",
        "deleted permission v bob by root",
        "deleted user  bob by root",
        "deleted queue v q by root",
        "deleted virtual host  v by root",
    ]


def test_who_raises_is_told_to_the_driver_and_harms_nobody(
    broker: MemoryBroker, ada: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors: list[Exception] = []
    monkeypatch.setattr(broker.driver, "observer_failed", lambda observer, error: errors.append(error))

    class Clumsy(Onlooker):
        def published(self, channel: Channel, passage: Passage) -> None:
            raise ZeroDivisionError("a defect")

    clumsy, diary = Clumsy(), Diary()
    broker.observers.add(clumsy)
    broker.observers.add(diary)
    channel = ada.channel()
    channel.declare("q")
    diary.take()
    channel.publish("", "q", b"one")
    assert diary.take() == ["published one to ['q'] True"]
    assert [str(error) for error in errors] == ["a defect"]
    assert channel.get("q") is not None
    broker.observers.remove(clumsy)
    channel.publish("", "q", b"two")
    assert len(errors) == 1
    assert broker.observers.present
    broker.observers.remove(diary)
    assert not broker.observers.present
