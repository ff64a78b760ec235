"""Channels: opening, closing, what happens while they close, and which errors take the whole connection."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from interop.codec import encode_content_header, encode_method
from interop.raw_client import (
    BODY,
    HEADER,
    METHOD,
    NO_CAUSE,
    Basic,
    Channel,
    ChannelUnderTest,
    Client,
    Confirm,
    Connection,
    Queue,
)
from interop.under_test import BrokerUnderTest


def test_open_ok(client: Client) -> None:
    client.channel(65535)
    assert client.transcript[-1] == ("<", 65535, "Channel.OpenOk", {"channel_id": ""})


def test_open_twice(client: Client) -> None:
    client.channel(1).send(Channel.Open)
    client.expect_connection_close(504, "second 'channel.open' seen", cause=Channel.Open)


def test_method_on_a_channel_that_is_not_open(client: Client, q: str) -> None:
    client.channel(3, opened=False).send(Queue.Declare, queue=q)
    client.expect_connection_close(504, "expected 'channel.open'", cause=Queue.Declare)


def test_content_on_a_channel_that_is_not_open(client: Client) -> None:
    client.channel(3, opened=False).publish("", "q", b"body")
    client.expect_connection_close(504, "expected 'channel.open'", cause=Basic.Publish)


def test_close_and_open_again(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.call(Channel.Close, reply_code=200, reply_text="done")
    ch.reopen()
    assert ch.depth(q) == (0, 0)


def test_method_on_a_channel_that_was_closed(client: Client, ch: ChannelUnderTest, q: str) -> None:
    ch.call(Channel.Close, reply_code=200, reply_text="done")
    ch.send(Queue.Declare, queue=q)
    client.expect_connection_close(504, "expected 'channel.open'", cause=Queue.Declare)


LATE: dict[str, tuple[type[Any], dict[str, Any]]] = {
    "ack": (Basic.Ack, {"delivery_tag": 1}),
    "cancel": (Basic.Cancel, {"consumer_tag": "t"}),
    "declare": (Queue.Declare, {"queue": "late"}),
    "error": (Queue.Declare, {"queue": "no such queue", "passive": True}),
}


@pytest.mark.parametrize(("method", "fields"), LATE.values(), ids=LATE)
def test_what_is_sent_with_channel_close_is_ignored(
    client: Client, ch: ChannelUnderTest, method: type[Any], fields: dict[str, Any]
) -> None:
    """It was on its way when the channel was closed; a second close is answered once more."""
    other = client.channel()
    with client.in_one_write():
        ch.send(Channel.Close, reply_code=200, reply_text="done")
        ch.send(method, **fields)
        ch.publish("", "late", b"body")
        ch.send(Channel.Close, reply_code=200, reply_text="done")
    ch.expect(Channel.CloseOk)
    ch.expect(Channel.CloseOk)
    other.sync()
    ch.reopen().sync()
    ch.send(Queue.Declare, queue="late", passive=True)
    ch.expect_close(404, "no queue 'late' in vhost '/'")


def test_open_that_is_sent_with_channel_close(client: Client, ch: ChannelUnderTest) -> None:
    with client.in_one_write():
        ch.send(Channel.Close, reply_code=200, reply_text="done")
        ch.send(Channel.Open)
    client.take(Connection.Close)


def test_close_ok_that_nobody_asked_for(client: Client, ch: ChannelUnderTest) -> None:
    ch.send(Channel.CloseOk)
    client.expect_connection_close(503, "unimplemented method", cause=Channel.CloseOk)


def test_soft_error_leaves_the_other_channels(client: Client, ch: ChannelUnderTest) -> None:
    other = client.channel()
    ch.send(Queue.Declare, queue="no such queue", passive=True)
    ch.expect_close(404, "no queue 'no such queue' in vhost '/'", cause=Queue.Declare)
    other.sync()
    ch.reopen().sync()


def test_methods_are_ignored_while_the_broker_closes_the_channel(ch: ChannelUnderTest, q: str) -> None:
    ch.send(Queue.Declare, queue="no such queue", passive=True)
    ch.send(Queue.Declare, queue=q)
    ch.publish("", q, b"body")
    ch.send(Queue.Declare, queue="no such queue either", passive=True)
    ch.expect_close(404, "no queue 'no such queue' in vhost '/'")
    ch.reopen()
    ch.send(Queue.Declare, queue=q, passive=True)
    ch.expect_close(404, f"no queue '{q}' in vhost '/'")


def test_close_that_crosses_the_brokers_close_is_answered(ch: ChannelUnderTest) -> None:
    ch.send(Queue.Declare, queue="no such queue", passive=True)
    ch.send(Channel.Close, reply_code=200, reply_text="done")
    ch.take(Channel.Close)
    ch.expect(Channel.CloseOk)
    ch.send(Channel.CloseOk)
    ch.reopen().sync()


def test_hard_error_on_a_channel_closes_the_connection(client: Client, ch: ChannelUnderTest) -> None:
    client.channel()
    ch.send(Channel.Flow, active=False)
    client.expect_connection_close(540, "active=false", cause=Channel.Flow)


def test_flow(ch: ChannelUnderTest) -> None:
    assert ch.call(Channel.Flow, active=True).active is True


def test_methods_are_handled_in_order_though_nobody_waits(ch: ChannelUnderTest, q: str) -> None:
    ch.send(Queue.Declare, queue=q)
    ch.publish("", q, b"body")
    ch.send(Queue.Purge, queue=q)
    ch.send(Queue.Delete, queue=q)
    assert ch.expect(Queue.DeclareOk).queue == q
    assert ch.expect(Queue.PurgeOk).message_count == 1
    assert ch.expect(Queue.DeleteOk).message_count == 0


def test_closing_a_channel_gives_its_deliveries_back(client: Client, ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.publish_all(q, [b"1", b"2"])
    ch.consume(q)
    assert [message.body for message in ch.deliveries(2)] == [b"1", b"2"]
    ch.call(Channel.Close, reply_code=200, reply_text="done")
    again = client.channel()
    message = again.get_one(q)
    assert (message.body, message.redelivered) == (b"1", True)
    assert again.depth(q) == (1, 0)


def test_an_error_gives_the_deliveries_of_the_channel_back(client: Client, ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.publish("", q, b"1")
    ch.consume(q)
    ch.deliveries(1)
    ch.ack(99)
    ch.expect_close(406, "unknown delivery tag 99", cause=Basic.Ack)
    assert client.channel().get_one(q).redelivered is True


@pytest.mark.parametrize("ending", ["soft error", "hard error", "close", "close of the connection"])
def test_very_many_deliveries_are_back_when_the_end_is_told(
    broker: BrokerUnderTest, client: Client, ch: ChannelUnderTest, q: str, ending: str
) -> None:
    count = 5_000
    ch.declare(q)
    with client.in_one_write():
        ch.publish_all(q, [b"%d" % number for number in range(count)])
    leaving = broker.connect()
    consumer = leaving.channel()
    consumer.consume(q, consumer_tag="t")
    consumer.deliveries(count)
    if ending == "soft error":
        consumer.ack(count + 1)
        consumer.expect_close(406, f"unknown delivery tag {count + 1}", cause=Basic.Ack)
    elif ending == "hard error":
        consumer.send(Channel.Open)
        leaving.expect_connection_close(504, "second 'channel.open' seen", cause=Channel.Open, then="stay")
    elif ending == "close":
        consumer.call(Channel.Close, reply_code=200, reply_text="")
    else:
        leaving.call(Connection.Close, reply_code=200, reply_text="")
    assert ch.call(Queue.Declare, queue=q, passive=True).message_count == count
    message = ch.get_one(q)
    assert (message.body, message.redelivered) == (b"0", True)


def test_a_lost_connection_gives_deliveries_back_as_redelivered(
    broker: BrokerUnderTest, ch: ChannelUnderTest, q: str
) -> None:
    ch.declare(q)
    ch.publish("", q, b"1")
    lost = broker.connect()
    consumer = lost.channel()
    consumer.consume(q)
    consumer.deliveries(1)
    ch.consume(q)
    lost.abort()
    message = ch.expect(Basic.Deliver)
    assert (message.body, message.redelivered) == (b"1", True)


# Frames in the wrong order


def test_method_where_a_content_header_should_be(client: Client, ch: ChannelUnderTest) -> None:
    client.send_frame(METHOD, 1, encode_method(Basic.Publish, {"routing_key": "q"}))
    ch.send(Queue.Declare, queue="q")
    client.expect_connection_close(
        505, "expected content header for class 60, got non content header frame instead", cause=Basic.Publish
    )


def test_body_where_a_content_header_should_be(client: Client) -> None:
    client.channel()
    client.send_frame(METHOD, 1, encode_method(Basic.Publish, {"routing_key": "q"}))
    client.send_frame(BODY, 1, b"body")
    client.expect_connection_close(
        505, "expected content header for class 60, got non content header frame instead", cause=Basic.Publish
    )


def test_content_header_of_another_class(client: Client) -> None:
    client.channel()
    client.send_frame(METHOD, 1, encode_method(Basic.Publish, {"routing_key": "q"}))
    client.send_frame(HEADER, 1, encode_content_header(1, {}, class_id=50))
    client.expect_connection_close(
        505, "expected content header for class 60, got one for class 50 instead", cause=Basic.Publish
    )


def test_method_where_a_body_should_be(client: Client, ch: ChannelUnderTest) -> None:
    client.send_frame(METHOD, 1, encode_method(Basic.Publish, {"routing_key": "q"}))
    client.send_frame(HEADER, 1, encode_content_header(1, {}))
    ch.send(Confirm.Select)
    client.expect_connection_close(
        505, "expected content body, got non content body frame instead", cause=Basic.Publish
    )


def test_content_header_where_a_method_should_be(client: Client) -> None:
    client.channel()
    client.send_frame(HEADER, 1, encode_content_header(1, {}))
    client.expect_connection_close(505, "expected method frame, got non method frame instead", cause=NO_CAUSE)


def test_body_where_a_method_should_be(client: Client) -> None:
    client.channel()
    client.send_frame(BODY, 1, b"body")
    client.expect_connection_close(505, "expected method frame, got non method frame instead", cause=NO_CAUSE)


def test_content_of_several_channels_may_be_interleaved(client: Client, q: str) -> None:
    first, second = client.channel(), client.channel()
    first.declare(q)
    publish = encode_method(Basic.Publish, {"routing_key": q})
    header = encode_content_header(4, {})
    for number in (1, 2):
        client.send_frame(METHOD, number, publish)
    for number in (2, 1):
        client.send_frame(HEADER, number, header)
    for piece in (b"ab", b"cd"):
        client.send_frame(BODY, 1, piece)
        client.send_frame(BODY, 2, piece.upper())
    second.sync()
    first.sync()
    assert sorted(first.drain(q)) == [b"ABCD", b"abcd"]


def test_body_frames_may_be_empty(client: Client, ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    client.send_frame(METHOD, 1, encode_method(Basic.Publish, {"routing_key": q}))
    client.send_frame(HEADER, 1, encode_content_header(2, {}))
    for piece in (b"", b"a", b"", b"b"):
        client.send_frame(BODY, 1, piece)
    assert ch.get_one(q).body == b"ab"


def test_more_body_than_was_declared(client: Client, ch: ChannelUnderTest, q: str) -> None:
    """The first frame overshoots, and RabbitMQ goes on waiting for a body; the next method is then out of place."""
    client.send_frame(METHOD, 1, encode_method(Basic.Publish, {"routing_key": q}))
    client.send_frame(HEADER, 1, encode_content_header(2, {}))
    client.send_frame(BODY, 1, b"abc")
    ch.send(Queue.Declare, queue=q)
    client.expect_connection_close(
        505, "expected content body, got non content body frame instead", cause=Basic.Publish
    )


def test_content_header_with_a_weight(client: Client) -> None:
    client.channel()
    client.send_frame(METHOD, 1, encode_method(Basic.Publish, {"routing_key": "q"}))
    client.send_frame(HEADER, 1, struct.pack(">HHQH", 60, 1, 0, 0))
    client.expect_connection_close(
        505, "expected content header for class 60, got non content header frame instead", cause=Basic.Publish
    )


def test_body_of_a_refused_publish_is_swallowed(broker: BrokerUnderTest, q: str, x: str) -> None:
    """The rest of the content, and more publishes, are on their way when the channel closes."""
    ch = broker.channel(frame_max=4096)
    ch.declare(q)
    ch.publish(x, "key", b"x" * 20000)
    ch.publish("", q, b"y" * 20000)
    ch.publish(x, "key", b"z" * 20000)
    ch.expect_close(404, f"no exchange '{x}' in vhost '/'", cause=Basic.Publish)
    assert ch.reopen().depth(q) == (0, 0)


def test_channel_that_is_closed_within_a_content(client: Client, ch: ChannelUnderTest) -> None:
    client.send_frame(METHOD, 1, encode_method(Basic.Publish, {"routing_key": "q"}))
    ch.send(Channel.Close, reply_code=200, reply_text="done")
    client.expect_connection_close(
        505, "expected content header for class 60, got non content header frame instead", cause=Basic.Publish
    )


def test_reopened_channel_knows_nothing_of_the_old_one(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.confirm()
    ch.publish("", q, b"1")
    ch.expect(Basic.Ack)
    ch.get_one(q, no_ack=False)
    ch.call(Channel.Close, reply_code=200, reply_text="done")
    ch.reopen()
    ch.send(Basic.Get, queue="")
    ch.expect_close(404, "no previously declared queue", cause=Basic.Get)
    ch.reopen()
    ch.publish("", q, b"2")
    ch.expect_nothing(q)
    assert ch.get_one(q, no_ack=False).delivery_tag == 1
    ch.confirm()
    ch.publish("", q, b"3")
    assert ch.expect(Basic.Ack).delivery_tag == 1


def test_error_of_a_method_that_nobody_waits_for(ch: ChannelUnderTest, q: str, x: str) -> None:
    ch.send(Queue.Bind, queue=q, exchange=x, nowait=True)
    ch.expect_close(404, f"no exchange '{x}' in vhost '/'", cause=Queue.Bind)


def test_closing_one_channel_leaves_the_content_of_another(client: Client, q: str) -> None:
    first, second = client.channel(), client.channel()
    first.declare(q)
    client.send_frame(METHOD, 1, encode_method(Basic.Publish, {"routing_key": q}))
    client.send_frame(HEADER, 1, encode_content_header(4, {}))
    second.send(Queue.Declare, queue="no such queue", passive=True)
    second.expect_close(404, "no queue 'no such queue' in vhost '/'")
    client.send_frame(BODY, 1, b"body")
    assert first.get_one(q).body == b"body"
