"""Traces of messages: which are traced, their hops in order, and why those that went nowhere did."""

from __future__ import annotations

from typing import Any

import pytest
from pamqp import commands
from pamqp.common import FieldTable

from amqp_broker.broker.message_hops import HOPS_MAX, MessageTraceInfo
from amqp_broker.broker.problems import AdministrationError, NotThere
from amqp_broker.broker.traced_messages import Wanted, wanted_of
from tests.support.client import Client, ClientChannel
from tests.support.memory_broker import MemoryBroker


@pytest.fixture
def channel(broker: MemoryBroker) -> ClientChannel:
    channel = Client(broker).open().channel()
    channel.declare("q")
    return channel


def start(broker: MemoryBroker, **wanted: Any) -> None:
    broker.message_traces.start(Wanted(**wanted), "a test")


def traces(broker: MemoryBroker) -> list[MessageTraceInfo]:
    """The first message first."""
    return list(broker.message_traces.traces())[::-1]


def events(trace: MessageTraceInfo) -> list[tuple[str, str | None]]:
    return [(hop["event"], hop["queue"]) for hop in trace["hops"]]


def test_nobody_looks_on_while_it_is_off(broker: MemoryBroker, channel: ClientChannel) -> None:
    assert not broker.observers.present
    start(broker)
    assert broker.observers.present
    channel.publish("", "q", b"1")
    broker.message_traces.stop("a test")
    assert not broker.observers.present
    channel.publish("", "q", b"2")
    assert len(traces(broker)) == 1
    status = broker.message_traces.status()
    assert (status["on"], status["traces"]) == (False, 1)


def test_the_way_of_a_message(broker: MemoryBroker, channel: ClientChannel) -> None:
    start(broker)
    channel.publish("", "q", b"body", message_id="m", correlation_id="c")
    channel.get("q")
    channel.send(commands.Basic.Reject(1, True))
    channel.consume("q", "tag")
    channel.send(commands.Basic.Ack(2))
    (trace,) = traces(broker)
    assert events(trace) == [
        ("published", None),
        ("delivered", "q"),
        ("requeued", "q"),
        ("delivered", "q"),
        ("acknowledged", "q"),
    ]
    assert (trace["message_id"], trace["correlation_id"], trace["body_bytes"]) == ("m", "c", 4)
    assert (trace["outcome"], trace["queues"], trace["reasons"]) == ("acknowledged", {"q": "acknowledged"}, [])
    assert trace["payload"] is None
    published, got, _, consumed, _ = trace["hops"]
    assert (published["queues"], published["user"], published["channel"]) == (["q"], "guest", 1)
    assert (got["consumer"], got["redelivered"]) == (None, False)
    assert (consumed["consumer"], consumed["redelivered"]) == ("tag", True)


def test_a_consumer_that_waits_gets_it_before_its_publish_is_told(broker: MemoryBroker, channel: ClientChannel) -> None:
    channel.consume("q", "tag", no_ack=True)
    start(broker)
    channel.publish("", "q", b"1")
    channel.publish("", "q", b"1")
    for trace in traces(broker):
        assert events(trace) == [("published", None), ("delivered", "q")]
        assert trace["outcome"] == "delivered"
    assert len(traces(broker)) == 2


def test_why_it_went_nowhere(broker: MemoryBroker, channel: ClientChannel) -> None:
    channel.declare("short", {"x-max-length": 0})
    channel.declare("full", {"x-max-length": 0, "x-overflow": "reject-publish"})
    channel.declare("brief", {"x-message-ttl": 10})
    channel.declare("lettered", {"x-dead-letter-exchange": "amq.topic"})
    channel.declare("round", {"x-dead-letter-exchange": "", "x-message-ttl": 10})
    start(broker)
    channel.publish("amq.topic", "k", b"")
    for name in ("short", "full", "brief", "lettered", "round", "q"):
        channel.publish("", name, b"")
    channel.get("lettered")
    channel.send(commands.Basic.Reject(1, False))
    channel.call(commands.Queue.Delete(queue="q"))
    broker.advance(100)
    found = traces(broker)
    assert [(trace["outcome"], trace["reasons"]) for trace in found] == [
        ("unroutable", ["unroutable"]),
        ("maxlen", ["maxlen"]),
        ("refused", ["refused"]),
        ("expired", ["expired"]),
        ("rejected", ["dead_letter_unroutable"]),
        ("expired", ["cycle"]),
        ("queue_deleted", ["queue_deleted"]),
    ]
    assert found[5]["hops"][-1]["reason"] == "expired, cycle"


def test_a_publish_that_is_refused(broker: MemoryBroker, channel: ClientChannel) -> None:
    start(broker)
    channel.publish("missing", "k", b"")
    (trace,) = traces(broker)
    assert events(trace) == [("refused", None)]
    assert trace["outcome"].startswith("404 no exchange 'missing'")


def test_a_dead_letter_is_the_same_message(broker: MemoryBroker, channel: ClientChannel) -> None:
    channel.declare("first", {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "q"})
    channel.consume("q", "tag")
    start(broker, message_id="m")
    channel.publish("", "first", b"1", message_id="m")
    channel.publish("", "first", b"1", message_id="other")
    channel.get("first")
    channel.send(commands.Basic.Reject(1, False))
    channel.send(commands.Basic.Ack(2))
    (trace,) = traces(broker)
    assert events(trace) == [
        ("published", None),
        ("delivered", "first"),
        ("rejected", "first"),
        ("dead_lettered", "first"),
        ("delivered", "q"),
        ("acknowledged", "q"),
    ]
    dead = trace["hops"][3]
    assert (dead["reason"], dead["exchange"], dead["routing_key"], dead["queues"]) == ("rejected", "", "q", ["q"])
    assert trace["queues"] == {"first": "rejected", "q": "acknowledged"}


def test_copies_in_several_queues(broker: MemoryBroker, channel: ClientChannel) -> None:
    channel.declare("other")
    for name in ("q", "other"):
        channel.bind(name, "amq.fanout", "")
    start(broker)
    channel.publish("amq.fanout", "", b"1")
    channel.get("other", no_ack=True)
    (trace,) = traces(broker)
    assert trace["queues"] == {"q": "waiting", "other": "delivered"}
    assert trace["outcome"] == "waiting, delivered"


def test_which_messages_are_traced(broker: MemoryBroker, channel: ClientChannel) -> None:
    def traced(**wanted: Any) -> list[str | None]:
        start(broker, **wanted)
        for number, header in enumerate((1, 1, "1", True)):
            channel.publish("", "q", b"1", message_id=str(number), correlation_id="c", headers={"h": header})
        return [trace["message_id"] for trace in traces(broker)]

    assert traced() == ["0", "1", "2", "3"]
    assert traced(message_id="2") == ["2"]
    assert traced(correlation_id="c", headers={"h": 1}) == ["0", "1"]
    assert traced(headers={"h": "1"}) == ["2"]
    assert traced(headers={"none": "1"}) == []
    assert traced(sample=3) == ["0", "3"]
    assert traced(virtual_host="other") == []


def test_of_messages_that_are_alike_those_of_the_sample_are_followed(
    broker: MemoryBroker, channel: ClientChannel
) -> None:
    channel.consume("q", "tag")
    start(broker, sample=2)
    for tag in range(1, 5):
        channel.publish("", "q", b"same")
        channel.send(commands.Basic.Ack(tag))
    found = traces(broker)
    assert len(found) == 2
    for trace in found:
        assert events(trace) == [("published", None), ("delivered", "q"), ("acknowledged", "q")]


def test_of_messages_that_only_their_keys_tell_apart_each_has_its_own_hops(
    broker: MemoryBroker, channel: ClientChannel
) -> None:
    channel.call(commands.Queue.Bind(queue="q", exchange="amq.topic", routing_key="#"))
    start(broker)
    for key in ("first", "second"):
        channel.publish("amq.topic", key, b"same")
    channel.consume("q", "tag")
    channel.send(commands.Basic.Ack(2))
    first, second = traces(broker)
    assert (first["outcome"], second["outcome"]) == ("delivered", "acknowledged")
    assert {hop["routing_key"] for hop in second["hops"]} == {"second"}


def test_a_message_that_was_there_before(broker: MemoryBroker, channel: ClientChannel) -> None:
    for name in ("m", "other"):
        channel.publish("", "q", b"1", message_id=name)
    start(broker, message_id="m")
    channel.get("q")
    channel.get("q")
    channel.send(commands.Basic.Ack(2, True))
    (trace,) = traces(broker)
    assert events(trace) == [("delivered", "q"), ("acknowledged", "q")]
    start(broker, sample=2)
    channel.publish("", "q", b"1")
    broker.message_traces.start(Wanted(sample=2), "a test")
    channel.get("q")
    assert traces(broker) == [], "a sample is of what is published"


def test_what_is_kept_is_bounded(broker: MemoryBroker, channel: ClientChannel) -> None:
    start(broker, traces_max=3)
    for number in range(10):
        channel.publish("", "q", b"1", message_id=str(number))
    assert [trace["message_id"] for trace in traces(broker)] == ["7", "8", "9"]
    assert len(broker.message_traces._at) == 3
    channel.call(commands.Queue.Purge(queue="q"))
    start(broker)
    channel.publish("", "q", b"1")
    for tag in range(1, HOPS_MAX + 1):
        channel.get("q")
        channel.send(commands.Basic.Reject(tag, True))
    (trace,) = traces(broker)
    assert (len(trace["hops"]), trace["hops_left_out"]) == (HOPS_MAX, HOPS_MAX + 1)


def test_bodies_are_kept_where_they_are_asked_for(broker: MemoryBroker, channel: ClientChannel) -> None:
    start(broker, keeps_bodies=True)
    channel.publish("", "q", b"text" * 1000)
    channel.publish("", "q", b"\xff")
    first, second = traces(broker)
    assert first["payload"] == "text" * 256
    assert (second["payload"], second["payload_encoding"]) == ("/w==", "base64")


def test_a_direct_reply_has_gone_somewhere(broker: MemoryBroker, channel: ClientChannel) -> None:
    asker = Client(broker).open().channel()
    asker.consume("amq.rabbitmq.reply-to", "replies", no_ack=True)
    asker.publish("", "q", b"ask", reply_to="amq.rabbitmq.reply-to")
    request = channel.get("q", no_ack=True)
    assert request is not None
    assert request.properties is not None
    start(broker)
    channel.publish("", str(request.properties.reply_to), b"reply")
    (trace,) = traces(broker)
    assert trace["reasons"] == []
    assert broker.drops.totals()["unroutable"] == 0


@pytest.mark.parametrize(
    ("asked", "error", "text"),
    [
        ({"mesage_id": "m"}, AdministrationError, "a trace has no 'mesage_id': it has vhost, message_id"),
        ({"message_id": 5}, AdministrationError, "message_id must be a text"),
        ({"vhost": "none"}, NotThere, "there is no virtual host 'none'"),
        ({"headers": [1]}, AdministrationError, "headers must be an object"),
        ({"sample": 0}, AdministrationError, "sample must be a number from 1 to"),
        ({"limit": True}, AdministrationError, "limit must be a number from 1 to 100000"),
        ({"bodies": "yes"}, AdministrationError, "bodies must be true or false"),
    ],
)
def test_bad_questions(asked: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        wanted_of(asked, ("/",))


def test_what_a_full_queue_refuses_and_sends_on_has_gone_somewhere(
    broker: MemoryBroker, channel: ClientChannel
) -> None:
    arguments: FieldTable = {
        "x-max-length": 0,
        "x-overflow": "reject-publish-dlx",
        "x-dead-letter-exchange": "amq.fanout",
    }
    channel.declare("on", arguments)
    channel.bind("q", "amq.fanout", "")
    start(broker)
    channel.publish("", "on", b"1")
    channel.publish("", "on", b"1")
    for trace in traces(broker):
        assert events(trace) == [("published", None), ("dead_lettered", "on")]
        assert (trace["reasons"], trace["queues"]) == ([], {"on": "maxlen", "q": "waiting"})
    assert len(traces(broker)) == 2
