"""Queues of type stream: RabbitMQ has them, we say that we do not."""

from __future__ import annotations

from typing import Any

import pytest

from interop.raw_client import ChannelUnderTest, Client, Queue
from interop.under_test import BrokerUnderTest

STREAM: dict[str, Any] = {"x-queue-type": "stream"}


def test_declare(broker: BrokerUnderTest, client: Client, ch: ChannelUnderTest, q: str) -> None:
    arguments = STREAM | {"x-max-age": "1D", "x-max-length-bytes": 1_000_000, "x-stream-max-segment-size-bytes": 1000}
    if broker.differs("stream-queues"):
        ch.send(Queue.Declare, queue=q, durable=True, arguments=arguments)
        text = f"queue '{q}' in vhost '/': queue type 'stream' is not supported by amqp-broker yet"
        client.expect_connection_close(540, text, cause=Queue.Declare)
    else:
        assert ch.declare(q, durable=True, arguments=arguments).queue == q


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
