"""AMQP 1.0's connections, sizes and addresses, asked of RabbitMQ 4 and of ours as 4: what ends a connection or a
session, and where messages go. After RabbitMQ's own cases (amqp_client_SUITE, amqp_address_SUITE).
"""

from __future__ import annotations

from typing import Any

import pytest

from amqp_broker.protocols.amqp10.compound import Map
from amqp_broker.protocols.amqp10.frames import AMQP, encode_frame
from amqp_broker.protocols.amqp10.performatives import (
    ACCEPTED,
    ATTACH,
    BEGIN,
    CLOSE,
    DETACH,
    END,
    FLOW,
    RELEASED,
    SOURCE,
    TARGET,
    TRANSFER,
    composite,
    performative,
)
from amqp_broker.protocols.amqp10.typed import Symbol, UInt, ULong
from interop.amqp10_client import WINDOW, Amqp10Client
from interop.raw_client import ChannelUnderTest, Queue
from interop.test_amqp10_links import ended, queue
from interop.under_test import BrokerUnderTest
from tests.support.amqp10_client import message, section

PIECE = 100_000  # less than a frame has room for


def closed(client: Amqp10Client) -> tuple[str, str]:
    """The condition and the words of the close that comes."""
    while True:
        frame = client.take()
        assert frame is not None
        if frame.code == CLOSE:
            error = frame.field(0)
            return str(error.value[0]), str(error.value[1])


# --- connections


def test_more_sessions_than_were_agreed_on(amqp10: Amqp10Client) -> None:
    begin = performative(BEGIN, [None, UInt(0), UInt(WINDOW), UInt(WINDOW)])
    amqp10.write(encode_frame(AMQP, 63, begin))
    amqp10.expect(BEGIN)
    amqp10.write(encode_frame(AMQP, 64, begin))
    said = "channel number (64) exceeds maximum channel number (63)"
    assert closed(amqp10) == ("amqp:connection:framing-error", said)


def test_what_is_about_a_session_that_is_not_there(amqp10: Amqp10Client) -> None:
    amqp10.write(encode_frame(AMQP, 7, performative(FLOW, [None, UInt(1), UInt(0), UInt(1)])))
    amqp10.write(encode_frame(AMQP, 7, performative(END, [])))
    amqp10.write(encode_frame(AMQP, 7, performative(BEGIN, [None, UInt(0), UInt(WINDOW), UInt(WINDOW)])))
    amqp10.expect(BEGIN)
    amqp10.write(encode_frame(AMQP, 64, performative(END, [])))
    assert closed(amqp10)[0] == "amqp:connection:framing-error"


# --- messages


@pytest.mark.parametrize("is_settled", [False, True])
def test_a_message_that_is_too_large(
    broker: BrokerUnderTest, amqp10: Amqp10Client, ch: ChannelUnderTest, is_settled: bool
) -> None:
    name = queue(ch, broker)
    limit = amqp10.sender(f"/queues/{name}").field(10)
    first = [UInt(0), UInt(0), b"tag", UInt(0), is_settled, True]
    amqp10.send(TRANSFER, *first, payload=message(bytes(limit))[:PIECE])
    for _ in range(limit // PIECE):
        amqp10.send(TRANSFER, UInt(0), None, None, None, None, True, payload=bytes(PIECE))
    condition, words = ended(amqp10)
    assert condition == "amqp:link:message-size-exceeded"
    assert words.endswith(f" bytes) > maximum message size ({limit} bytes)")


@pytest.mark.parametrize(
    ("code", "key"),
    [(0x71, Symbol("mine")), (0x72, Symbol("mine")), (0x72, ULong(1)), (0x72, "x-text")],
    ids=["of the delivery", "symbol", "number", "text"],
)
def test_keys_of_annotations_that_are_reserved(
    broker: BrokerUnderTest, amqp10: Amqp10Client, ch: ChannelUnderTest, code: int, key: Any
) -> None:
    name = queue(ch, broker)
    amqp10.sender(f"/queues/{name}")
    assert amqp10.publish(message(b"1", before=section(code, Map([(Symbol("x-mine"), 1)])))) == ACCEPTED
    amqp10.transfer(message(b"2", before=section(code, Map([(key, 1)]))), settled=True)
    condition, words = ended(amqp10)
    if broker.differs("reserved-annotations"):
        assert (condition, words) == ("amqp:decode-error", f"the annotation key '{key}' is reserved")
    else:
        assert condition == "amqp:internal-error"
        assert words.startswith("{reserved_annotation_key,")
    assert ch.depth(name)[0] == 1


# --- addresses


@pytest.mark.parametrize(
    ("key", "address"),
    [("a/b c", "/a%2Fb%20c"), ("", "/"), ("", "")],
    ids=["encoded", "empty", "none"],
)
@pytest.mark.parametrize("is_said", [False, True], ids=["target", "to"])
def test_an_exchange_and_a_key(
    broker: BrokerUnderTest, amqp10: Amqp10Client, ch: ChannelUnderTest, key: str, address: str, is_said: bool
) -> None:
    exchange, name = broker.exchange_name("x y/z"), queue(ch, broker)
    ch.declare_exchange(exchange)
    ch.bind(name, exchange, key)
    whole = f"/exchanges/{exchange.replace('/', '%2F').replace(' ', '%20')}{address}"
    amqp10.sender(None if is_said else whole)
    before = section(0x73, [None, None, whole]) if is_said else b""
    assert amqp10.publish(message(b"x", before=before)) == ACCEPTED
    ch.call(Queue.Unbind, queue=name, exchange=exchange, routing_key=key)
    assert amqp10.publish(message(b"x", before=before)) == RELEASED


@pytest.mark.parametrize(
    ("address", "condition"),
    [
        ("/queues/nowhere", "amqp:not-found"),
        ("/amq/queue/nowhere", "amqp:not-found"),
        ("/exchanges/amq.direct/k", "amqp:invalid-field"),
        ("/queues/%ZZ", "amqp:invalid-field"),
        ("/foo/bar", "amqp:invalid-field"),
    ],
)
def test_a_wrong_source_ends_the_session(amqp10: Amqp10Client, address: str, condition: str) -> None:
    source, target = composite(SOURCE, [address]), composite(TARGET, [])
    amqp10.send(ATTACH, "in", UInt(1), True, None, None, source, target)
    assert ended(amqp10)[0] == condition


def test_a_settled_message_for_an_exchange_that_is_not_there(amqp10: Amqp10Client) -> None:
    amqp10.sender(None)
    amqp10.transfer(message(b"x", before=section(0x73, [None, None, "/exchanges/nowhere/k"])), settled=True)
    gone = amqp10.expect(DETACH)
    assert (gone.field(1), gone.field(2).value[0]) == (True, "amqp:not-found")
