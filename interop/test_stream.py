"""Streams: what is declared and refused, where a consumer begins, what it gets, and what acknowledgements do."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from interop.raw_client import Basic, ChannelUnderTest, Client, Confirm, Connection, Queue, Tx
from interop.under_test import BrokerUnderTest
from interop.waiting import let_pass

STREAM: dict[str, Any] = {"x-queue-type": "stream"}


def test_declare(ch: ChannelUnderTest, q: str) -> None:
    arguments = STREAM | {"x-max-age": "1D", "x-max-length-bytes": 1_000_000, "x-stream-max-segment-size-bytes": 1000}
    assert ch.declare(q, durable=True, arguments=arguments).queue == q
    assert ch.declare(q, durable=True, arguments=arguments).queue == q


@pytest.mark.parametrize(
    ("properties", "what"),
    [
        ({"durable": False}, "non-durable"),
        ({"durable": True, "exclusive": True}, "exclusive-owner"),
        ({"durable": True, "auto_delete": True}, "auto-delete"),
    ],
)
def test_properties_that_a_stream_cannot_have(
    ch: ChannelUnderTest, q: str, properties: dict[str, bool], what: str
) -> None:
    ch.send(Queue.Declare, queue=q, arguments=STREAM, **properties)
    ch.expect_close(406, f"invalid property '{what}' for queue '{q}' in vhost '/'", cause=Queue.Declare)


@pytest.mark.parametrize(
    ("argument", "value", "problem"),
    [
        ("x-max-age", "7 days", ": invalid_max_age"),
        ("x-max-age", "0D", ": invalid_max_age"),
        ("x-max-age", 5, ": {unacceptable_type,signedint}"),
        ("x-stream-max-segment-size-bytes", -1, ": {value_negative,-1}"),
        ("x-initial-cluster-size", 0, ": {value_zero,0}"),
        ("x-max-length", 5, " of queue type rabbit_stream_queue"),
        ("x-message-ttl", 5, " of queue type rabbit_stream_queue"),
        ("x-dead-letter-exchange", "", " of queue type rabbit_stream_queue"),
    ],
)
def test_arguments_are_checked_first(ch: ChannelUnderTest, q: str, argument: str, value: Any, problem: str) -> None:
    ch.send(Queue.Declare, queue=q, durable=True, arguments=STREAM | {argument: value})
    ch.expect_close(406, f"invalid arg '{argument}' for queue '{q}' in vhost '/'{problem}", cause=Queue.Declare)


def test_server_named(ch: ChannelUnderTest) -> None:
    ch.send(Queue.Declare, queue="", durable=True, arguments=STREAM)
    text = "Cannot declare a server-named queue for type rabbit_stream_queue"
    ch.expect_close(406, text, cause=Queue.Declare)


def test_a_queue_of_another_type_is_no_stream(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q, durable=True)
    ch.send(Queue.Declare, queue=q, durable=True, arguments=STREAM)
    given = "received the value 'stream' of type 'longstr' but current is none"
    filled_in = "received 'stream' but current is 'classic'"
    ch.expect_close(
        406,
        f"inequivalent arg 'x-queue-type' for queue '{q}' in vhost '/': "
        + (given if broker.version < (4, 0) else filled_in),
    )


# What a stream does not do


def filled(ch: ChannelUnderTest, q: str, *bodies: bytes, **properties: Any) -> None:
    """A stream that has these entries, each confirmed before the next."""
    ch.declare(q, durable=True, arguments=STREAM)
    ch.call(Confirm.Select)
    for body in bodies:
        ch.publish("", q, body, **properties)
        ch.expect(Basic.Ack)


def test_get(client: Client, ch: ChannelUnderTest, q: str) -> None:
    filled(ch, q, b"0")
    ch.send(Basic.Get, queue=q)
    text = f"basic.get not supported by stream queues queue '{q}' in vhost '/'"
    client.expect_connection_close(540, text, cause=Basic.Get)


def test_purge(client: Client, ch: ChannelUnderTest, q: str) -> None:
    filled(ch, q, b"0")
    ch.send(Queue.Purge, queue=q)
    text = f"queue.purge not supported by stream queues queue '{q}' in vhost '/'"
    client.expect_connection_close(540, text, cause=Queue.Purge)


def named(broker: BrokerUnderTest, q: str) -> str:
    return f"'queue '{q}' in vhost '/''" if broker.version < (4, 0) else f"stream queue '{q}' in vhost '/'"


def test_without_acknowledgements(broker: BrokerUnderTest, client: Client, ch: ChannelUnderTest, q: str) -> None:
    filled(ch, q)
    ch.qos(10)
    ch.send(Basic.Consume, queue=q, no_ack=True)
    kind = "stream queues" if broker.version < (4, 0) else "stream"
    text = f"automatic acknowledgement not supported by {kind} queue '{q}' in vhost '/'"
    client.expect_connection_close(540, text, cause=Basic.Consume)


def test_without_a_prefetch_count(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str) -> None:
    filled(ch, q)
    ch.send(Basic.Consume, queue=q)
    ch.expect_close(406, f"consumer prefetch count is not set for {named(broker, q)}", cause=Basic.Consume)


def test_with_a_window_of_the_channel(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str) -> None:
    filled(ch, q)
    ch.qos(10, globally=True)
    ch.send(Basic.Consume, queue=q)
    ch.expect_close(406, f"consumer prefetch count is not set for {named(broker, q)}", cause=Basic.Consume)


@pytest.mark.parametrize("method", [Basic.Nack, Basic.Reject])
@pytest.mark.parametrize("requeue", [True, False])
def test_refusing_an_entry(
    broker: BrokerUnderTest, client: Client, ch: ChannelUnderTest, q: str, method: Any, requeue: bool
) -> None:
    filled(ch, q, b"0")
    ch.publish("", q, b"1")
    ch.expect(Basic.Ack)
    consume(ch, q, "first", prefetch=1)
    ch.deliveries(1)
    ch.send(method, delivery_tag=1, requeue=requeue)
    if broker.version >= (4, 0):
        assert ch.expect(Basic.Deliver).body == b"1"
        return
    text = f"basic.nack and basic.reject not supported by stream queues queue '{q}' in vhost '/'"
    client.expect_connection_close(540, text, cause=method)


@pytest.mark.parametrize("condition", [{"if_unused": True}, {"if_empty": True}])
def test_conditions_of_a_deletion(ch: ChannelUnderTest, q: str, condition: dict[str, bool]) -> None:
    filled(ch, q, b"0")
    consume(ch, q)
    assert ch.call(Queue.Delete, queue=q, **condition).method is Queue.DeleteOk


# Where a consumer begins


def consume(ch: ChannelUnderTest, q: str, offset: Any = None, *, prefetch: int = 10, **fields: Any) -> str:
    """A consumer that has found its place: RabbitMQ answers before, and then looks for it."""
    ch.qos(prefetch)
    arguments = {} if offset is None else {"x-stream-offset": offset}
    tag = ch.consume(q, arguments=arguments | fields.pop("arguments", {}), **fields)
    ch.sync()
    return tag


def offsets(ch: ChannelUnderTest, count: int) -> list[tuple[Any, bytes]]:
    return [(entry.headers["x-stream-offset"], entry.body) for entry in ch.deliveries(count)]


ALL = [(0, b"0"), (1, b"1"), (2, b"2")]


@pytest.mark.parametrize(
    ("offset", "begins_at"),
    [("first", 0), ("last", 2), (0, 0), (1, 1), ("1h", 0), (datetime(2020, 1, 1, tzinfo=UTC), 0)],
    ids=str,
)
def test_where_it_begins(client: Client, ch: ChannelUnderTest, q: str, offset: Any, begins_at: int) -> None:
    filled(ch, q, b"0", b"1", b"2")
    reader = client.channel()
    consume(reader, q, offset)
    assert offsets(reader, 3 - begins_at) == ALL[begins_at:]
    reader.expect_nothing()


@pytest.mark.parametrize("offset", [None, "next", 3, datetime(2100, 1, 1, tzinfo=UTC)], ids=str)
def test_at_the_end(client: Client, ch: ChannelUnderTest, q: str, offset: Any) -> None:
    filled(ch, q, b"0", b"1", b"2")
    reader = client.channel()
    consume(reader, q, offset)
    ch.publish("", q, b"3")
    assert offsets(reader, 1) == [(3, b"3")]


def test_at_an_offset_to_come(client: Client, ch: ChannelUnderTest, q: str) -> None:
    filled(ch, q, b"0", b"1", b"2")
    reader = client.channel()
    consume(reader, q, 5)
    reader.sync()
    ch.publish_all(q, [b"3", b"4", b"5"])
    assert offsets(reader, 1) == [(5, b"5")]


def test_no_interval(ch: ChannelUnderTest, q: str) -> None:
    filled(ch, q)
    ch.qos(10)
    ch.send(Basic.Consume, queue=q, arguments={"x-stream-offset": "0h"})
    problem = '{invalid_stream_offset_arg,{longstr,<<"0h">>}}'
    text = f"invalid arg 'x-stream-offset' for queue '{q}' in vhost '/': {problem}"
    ch.expect_close(406, text, cause=Basic.Consume)


@pytest.mark.parametrize(
    ("offset", "shown"),
    [("sometime", '{longstr,<<"sometime">>}'), (True, "{bool,true}"), (1.5, "{double,1.5}")],
    ids=["text", "boolean", "float"],
)
def test_what_is_no_place(
    broker: BrokerUnderTest, client: Client, ch: ChannelUnderTest, q: str, offset: Any, shown: str
) -> None:
    filled(ch, q)
    ch.qos(10)
    ch.send(Basic.Consume, queue=q, arguments={"x-stream-offset": offset})
    if not broker.differs("stream-offset-crash"):
        assert client.take(Connection.Close).reply_code == 541
        client.is_open = False
        return
    text = f"invalid arg 'x-stream-offset' for queue '{q}' in vhost '/': {{invalid_stream_offset_arg,{shown}}}"
    ch.expect_close(406, text, cause=Basic.Consume)


def test_arguments_of_other_types(ch: ChannelUnderTest, q: str) -> None:
    filled(ch, q)
    ch.qos(10)
    ch.send(Basic.Consume, queue=q, arguments={"x-priority": 1})
    text = f"invalid arg 'x-priority' for queue '{q}' in vhost '/' of queue type rabbit_stream_queue"
    ch.expect_close(406, text, cause=Basic.Consume)


# What it gets


def test_an_entry_as_it_was_published(client: Client, ch: ChannelUnderTest, q: str) -> None:
    filled(ch, q)
    ch.bind(q, "amq.topic", "a.#")
    ch.publish("amq.topic", "a.b", b"body", headers={"x": 1}, expiration="1", priority=3, message_id="m")
    ch.expect(Basic.Ack)
    reader = client.channel()
    consume(reader, q, "first", consumer_tag="t")
    entry = reader.expect(Basic.Deliver)
    assert (entry.exchange, entry.routing_key, entry.redelivered, entry.consumer_tag) == (
        "amq.topic",
        "a.b",
        False,
        "t",
    )
    assert entry.headers == {"x": 1, "x-stream-offset": 0}
    assert (entry.properties["expiration"], entry.properties["priority"]) == ("1", 3)


def test_everybody_reads_everything_as_often_as_they_like(client: Client, ch: ChannelUnderTest, q: str) -> None:
    filled(ch, q, b"0", b"1", b"2")
    for _ in range(2):
        reader = client.channel()
        tag = consume(reader, q, "first")
        assert offsets(reader, 3) == ALL
        reader.ack(3, multiple=True)
        reader.call(Basic.Cancel, consumer_tag=tag)
    first, second = client.channel(), client.channel()
    consume(first, q, "first")
    consume(second, q, "first")
    assert offsets(first, 3) == offsets(second, 3) == ALL


def test_acknowledgements_make_room_in_any_order(client: Client, ch: ChannelUnderTest, q: str) -> None:
    filled(ch, q, *[b"%d" % number for number in range(5)])
    reader = client.channel()
    consume(reader, q, "first", prefetch=2)
    assert [body for _, body in offsets(reader, 2)] == [b"0", b"1"]
    reader.expect_nothing()
    reader.ack(2)
    assert offsets(reader, 1) == [(2, b"2")]
    reader.ack(3, multiple=True)
    assert offsets(reader, 2) == [(3, b"3"), (4, b"4")]


def test_a_large_entry(client: Client, ch: ChannelUnderTest, q: str) -> None:
    filled(ch, q, b"x" * 300_000)
    reader = client.channel()
    consume(reader, q, "first")
    assert reader.expect(Basic.Deliver).body == b"x" * 300_000


def test_consumers_are_told_that_it_is_gone(client: Client, ch: ChannelUnderTest, q: str) -> None:
    filled(ch, q, b"0")
    reader = client.channel()
    tag = consume(reader, q)
    ch.call(Queue.Delete, queue=q)
    assert reader.expect(Basic.Cancel).consumer_tag == tag


def test_what_died_elsewhere(client: Client, ch: ChannelUnderTest, broker: BrokerUnderTest, q: str) -> None:
    filled(ch, q)
    source = broker.queue_name("source")
    ch.declare(source, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": q, "x-message-ttl": 0})
    ch.publish("", source, b"0")
    reader = client.channel()
    consume(reader, q, "first")
    if not broker.differs("stream-dead-letters"):
        let_pass(500)
        reader.expect_nothing()
        return
    entry = reader.expect(Basic.Deliver)
    assert (entry.body, entry.headers["x-stream-offset"], entry.headers["x-death"][0]["reason"]) == (b"0", 0, "expired")


def test_a_transaction(client: Client, ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q, durable=True, arguments=STREAM)
    reader = client.channel()
    consume(reader, q, "first")
    ch.call(Tx.Select)
    ch.publish("", q, b"0")
    ch.call(Tx.Commit)
    assert offsets(reader, 1) == [(0, b"0")]
    reader.ack(1)


# Filters


@pytest.mark.parametrize(
    ("argument", "value", "words"),
    [
        ("x-stream-max-segment-size-bytes", 3_000_000_001, "Exceeded max"),
        ("x-stream-filter-size-bytes", 256, "Invalid"),
        ("x-stream-filter-size-bytes", 15, "Invalid"),
    ],
)
def test_sizes_that_are_out_of_range(
    broker: BrokerUnderTest, ch: ChannelUnderTest, q: str, argument: str, value: int, words: str
) -> None:
    if broker.kind == "rabbitmq" and broker.version < (3, 13) and words == "Invalid":
        pytest.skip("RabbitMQ 3.10 has no filters")
    ch.send(Queue.Declare, queue=q, durable=True, arguments=STREAM | {argument: value})
    between = " for  " if words == "Invalid" else " for "
    ch.expect_close(406, f"{words} value{between}{argument}", cause=Queue.Declare)


@pytest.mark.parametrize(
    ("arguments", "begins_at"),
    [
        ({"x-stream-filter": "pear"}, 2),
        ({"x-stream-filter": ["plum", "pear"]}, 2),
        ({"x-stream-filter": "pear", "x-stream-match-unfiltered": True}, 0),
    ],
)
def test_filters(
    broker: BrokerUnderTest, client: Client, ch: ChannelUnderTest, q: str, arguments: dict[str, Any], begins_at: int
) -> None:
    if broker.kind == "rabbitmq" and broker.version < (3, 13):
        pytest.skip("RabbitMQ 3.10 has no filters")
    filled(ch, q, b"0")
    for body, value in ((b"1", "apple"), (b"2", "pear")):
        ch.publish("", q, body, headers={"x-stream-filter-value": value})
        ch.expect(Basic.Ack)
    reader = client.channel()
    consume(reader, q, "first", arguments=arguments)
    assert [body for _, body in offsets(reader, 1)] == [ALL[begins_at][1]]


@pytest.mark.parametrize(
    ("argument", "value"), [("x-stream-filter", "pear"), ("x-stream-match-unfiltered", True), ("x-stream-offset", 0)]
)
@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_what_a_consumer_asks_of_streams_is_asked_of_other_queues(
    broker: BrokerUnderTest, ch: ChannelUnderTest, q: str, kind: str, argument: str, value: Any
) -> None:
    if argument != "x-stream-offset" and broker.kind == "rabbitmq" and broker.version < (3, 13):
        pytest.skip("RabbitMQ 3.10 has no filters")
    ch.declare(q, durable=True, arguments={"x-queue-type": kind})
    ch.send(Basic.Consume, queue=q, arguments={argument: value})
    text = f"invalid arg '{argument}' for queue '{q}' in vhost '/' of queue type rabbit_{kind}_queue"
    ch.expect_close(406, text, cause=Basic.Consume)
