"""Looking in: queues without consuming, where each message went, and why it went nowhere."""

from __future__ import annotations

from urllib.parse import urlsplit

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import ChannelClosedByBroker, NackError, UnroutableError

from amqp_broker import testing
from amqp_broker.testing import Broker
from interop.stream_client import StreamClient, data_section
from tests.testing.conftest import Connect


def test_ready_and_unacknowledged_messages_are_seen_and_stay(broker: Broker, channel: BlockingChannel) -> None:
    channel.queue_declare("q", durable=True, arguments={"x-max-length": 10})
    properties = pika.BasicProperties(content_type="application/json", headers={"attempt": 1})
    for number in range(3):
        channel.basic_publish("", "q", b'{"number": %d}' % number, properties)
    channel.basic_get("q")
    queue = broker.queue("q")
    for _ in range(2):
        assert [message.json()["number"] for message in queue.messages] == [1, 2]
    assert [message.text for message in queue.unacknowledged] == ['{"number": 0}']
    assert (queue.message_count, queue.unacknowledged_count) == (2, 1)
    message = queue.messages[0]
    assert (message.exchange, message.routing_key, message.redelivered) == ("", "q", False)
    assert (message.properties.content_type, message.headers) == ("application/json", {"attempt": 1})
    assert (queue.durable, queue.arguments, queue.consumers) == (True, {"x-max-length": 10}, ())


def test_a_queue_that_is_not_there_is_named(broker: Broker, channel: BlockingChannel) -> None:
    with pytest.raises(LookupError, match="there are: none at all"):
        _ = broker.queue("q").messages
    channel.queue_declare("other")
    with pytest.raises(LookupError, match="no queue 'q'; there are: 'other'"):
        _ = broker.queue("q").messages


def test_topology_and_clients_are_seen(broker: Broker, channel: BlockingChannel) -> None:
    channel.exchange_declare("orders", "topic")
    channel.queue_declare("billing")
    channel.queue_bind("billing", "orders", "order.*")
    tag = channel.basic_consume("billing", lambda *_: None)
    assert broker.exchanges == ("orders",)
    assert broker.bindings == (("orders", "queue", "billing", "order.*", {}),)
    (connection,) = broker.connections
    assert (connection.user, connection.virtual_host, connection.channel_count) == ("guest", "/", 1)
    assert (connection.consumer_tags, connection.unacknowledged_count) == ((tag,), 0)


@pytest.mark.parametrize(
    ("exchange", "key", "reason"),
    [
        ("", "nope", "there is no queue 'nope'"),
        ("empty", "key", "nothing is bound to fanout exchange 'empty'"),
        ("direct", "nope", "direct exchange 'direct': routing key 'nope' matches none of its bindings ('a', 'b')"),
        ("topic", "nope", "topic exchange 'topic': routing key 'nope' matches none of its bindings ('order.*')"),
        ("headers", "key", "headers exchange 'headers': the headers match none of its bindings"),
        ("chain", "key", "fanout exchange 'chain': routing key 'key' leads through it to no queue"),
        (
            "saved",
            "key",
            "nothing is bound to direct exchange 'saved', nor did its alternate exchange 'empty' know bett",
        ),
    ],
)
def test_why_a_message_went_nowhere(
    broker: Broker, channel: BlockingChannel, exchange: str, key: str, reason: str
) -> None:
    channel.queue_declare("q")
    for name in ("direct", "topic", "headers"):
        channel.exchange_declare(name, name)
    for name in ("empty", "chain"):
        channel.exchange_declare(name, "fanout")
    channel.exchange_declare("saved", "direct", arguments={"alternate-exchange": "empty"})
    channel.queue_bind("q", "direct", "a")
    channel.queue_bind("q", "direct", "b")
    channel.queue_bind("q", "topic", "order.*")
    channel.queue_bind("q", "headers", "", {"x-match": "all", "kind": "invoice"})
    channel.exchange_bind("empty", "chain")
    with pytest.raises(UnroutableError):
        channel.basic_publish(exchange, key, b"hello", mandatory=True)
    (entry,) = broker.published
    assert not entry.was_routed
    assert entry.reason.startswith(reason)


def test_a_publish_that_is_refused_with_an_error_is_seen(broker: Broker, connect: Connect) -> None:
    channel = connect().channel()
    channel.basic_publish("nope", "key", b"hello")
    with pytest.raises(ChannelClosedByBroker):
        channel.queue_declare("q")
    (entry,) = broker.published
    assert (entry.exchange, entry.routing_key, entry.body, entry.queues) == ("nope", "key", b"hello", ())
    assert entry.reason == "refused with 404 NOT_FOUND - no exchange 'nope' in vhost '/'"
    assert broker.unrouted == [entry]
    (error,) = broker.errors
    assert error.startswith("404 NOT_FOUND - no exchange 'nope' in vhost '/' (to 127.0.0.1:")
    assert error in broker.picture()


def test_where_messages_went(broker: Broker, channel: BlockingChannel) -> None:
    channel.exchange_declare("all", "fanout")
    for name in ("one", "two"):
        channel.queue_declare(name)
        channel.queue_bind(name, "all")
    channel.basic_publish("all", "key", b"hello")
    (entry,) = broker.published
    assert (entry.exchange, entry.routing_key, entry.body, entry.reason) == ("all", "key", b"hello", "")
    assert sorted(entry.queues) == ["one", "two"]


def test_a_full_queue_is_named(broker: Broker, channel: BlockingChannel) -> None:
    channel.queue_declare("full", arguments={"x-max-length": 0, "x-overflow": "reject-publish"})
    with pytest.raises(NackError):
        channel.basic_publish("", "full", b"hello")
    assert broker.published[0].reason == "refused by a queue that is full: 'full'"


def test_transactions_publish_when_they_commit(broker: Broker, connect: Connect) -> None:
    channel = connect().channel()
    channel.queue_declare("q")
    channel.tx_select()
    channel.basic_publish("", "q", b"hello")
    assert broker.published == []
    channel.tx_commit()
    assert [entry.queues for entry in broker.published] == [("q",)]


def test_dead_letters_are_seen_with_their_reason(broker: Broker, channel: BlockingChannel) -> None:
    channel.exchange_declare("dead", "direct")
    channel.queue_declare("grave")
    channel.queue_bind("grave", "dead", "found")
    channel.queue_declare("q", arguments={"x-dead-letter-exchange": "dead", "x-dead-letter-routing-key": "found"})
    channel.queue_declare("lost", arguments={"x-dead-letter-exchange": "dead"})
    channel.queue_declare("void", arguments={"x-dead-letter-exchange": "never declared"})
    for name in ("q", "lost", "void"):
        channel.basic_publish("", name, name.encode())
        method, _, _ = channel.basic_get(name)
        channel.basic_reject(method.delivery_tag, requeue=False)
    found, lost, void = broker.dead_letters
    assert (found.died_in, found.death_reason, found.queues) == ("q", "rejected", ("grave",))
    assert lost.reason == "direct exchange 'dead': routing key 'lost' matches none of its bindings ('found')"
    assert void.reason == "dead-letter exchange 'never declared' does not exist"
    assert (void.exchange, void.routing_key) == ("never declared", "void")
    assert len(broker.published) == 3


def test_replies_go_to_who_asked(broker: Broker, channel: BlockingChannel, connect: Connect) -> None:
    channel.queue_declare("q")
    client = connect().channel()
    client.basic_consume("amq.rabbitmq.reply-to", lambda *_: None, auto_ack=True)
    client.basic_publish("", "q", b"ask", pika.BasicProperties(reply_to="amq.rabbitmq.reply-to"))
    broker.wait_idle()
    _, properties, _ = channel.basic_get("q", auto_ack=True)
    channel.basic_publish("", properties.reply_to, b"answer")
    assert broker.published[-1].queues == (properties.reply_to,)


def test_only_the_last_messages_are_remembered() -> None:
    with Broker(remember=3) as broker, pika.BlockingConnection(pika.URLParameters(broker.url)) as connection:
        channel = connection.channel()
        for number in range(5):
            channel.basic_publish("", "nope", str(number).encode())
        assert [entry.body for entry in broker.published] == [b"2", b"3", b"4"]


def test_the_picture_tells_all_of_it(broker: Broker, channel: BlockingChannel) -> None:
    channel.exchange_declare("orders", "topic")
    channel.queue_declare("billing", arguments={"x-max-length": 5})
    channel.queue_bind("billing", "orders", "order.*")
    channel.basic_publish("orders", "order.new", b"x" * 50)
    channel.basic_publish("orders", "nope", b"astray")
    picture = broker.picture()
    for line in (
        "virtual host '/'",
        "orders (topic)",
        "'order.*' -> queue billing",
        "billing: 1 ready, 0 unacknowledged, consumers: none (x-max-length=5)",
        "guest from 127.0.0.1:",
        "and 10 bytes more: to 'orders' with 'order.new' -> billing",
        "b'astray': to 'orders' with 'nope' -> nowhere (topic exchange 'orders': routing key 'nope' matches none of",
    ):
        assert line in picture


def test_all_public_names_are_there_when_they_are_asked_for() -> None:
    for name in testing.__all__:
        assert getattr(testing, name).__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'Brokr'"):
        _ = testing.Brokr


LARGE = b"x" * 600_000


@pytest.mark.parametrize("arguments", [{}, {"x-queue-type": "stream"}])
def test_what_a_queue_has_only_in_the_journal_is_seen(
    broker: Broker, channel: BlockingChannel, arguments: dict[str, str]
) -> None:
    """In memory is the end of a stream, and of a queue after a crash the head."""
    channel.queue_declare("q", durable=True, arguments=arguments)
    bodies = [b"%d" % number + LARGE for number in range(20)]
    for body in bodies:
        channel.basic_publish("", "q", body, pika.BasicProperties(delivery_mode=2))
    assert broker.queue("q").bodies == bodies
    broker.fail.crash()
    assert broker.queue("q").bodies == bodies
    assert broker.queue("q").message_count == len(bodies)


def test_a_stream_is_seen_as_a_consumer_of_amqp_gets_it() -> None:
    with Broker(protocols=["streams"]) as broker:
        with StreamClient(urlsplit(broker.stream_url).port or 0) as client:
            client.create("s")
            client.declare_publisher(0, "s")
            client.publish(0, {0: data_section(b"one"), 1: data_section(b"two")})
            client.confirmed(2)
        assert broker.queue("s").bodies == [b"one", b"two"]
        assert [message.headers["x-stream-offset"] for message in broker.queue("s").messages] == [0, 1]
        broker.restart()
        assert broker.queue("s").bodies == [b"one", b"two"]
