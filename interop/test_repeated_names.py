"""A name that several fields of a table have: all are kept, and the first counts."""

from __future__ import annotations

from typing import Any

import pytest

from interop.codec import encode_short_string, encode_value
from interop.raw_client import ChannelUnderTest, Queue, T
from interop.under_test import BrokerUnderTest


def fields(*named: tuple[str, Any]) -> bytes:
    """A packed table."""
    return b"".join(encode_short_string(name) + encode_value(value) for name, value in named)


ONE, TWO = T("I", 1), T("I", 2)
REPEATING = fields(("a", ONE), ("b", True), ("a", TWO))


def test_headers_come_out_as_they_went_in(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.publish("", q, b"m", headers=REPEATING)
    names = ["a", "b", "a again"] if broker.differs("names-that-repeat") else ["a", "b"]
    headers = ch.get_one(q).typed_headers
    assert (list(headers), headers["a"]) == (names, ONE)


def test_headers_of_a_dead_letter(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str) -> None:
    dead = broker.queue_name("dead")
    ch.declare(dead)
    ch.declare(q, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead})
    ch.publish("", q, b"m", headers=REPEATING)
    ch.reject(ch.get_one(q, no_ack=False).delivery_tag, requeue=False)
    ch.consume(dead, no_ack=True)
    (letter,) = ch.deliveries(1)
    second = TWO if broker.differs("names-that-repeat") else None
    assert [letter.typed_headers.get(name) for name in ("a", "a again")] == [ONE, second]


def test_headers_in_a_quorum_queue(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q, durable=True, arguments={"x-queue-type": "quorum"})
    ch.consume(q, no_ack=True)
    ch.publish("", q, b"m", headers=REPEATING)
    (delivery,) = ch.deliveries(1)
    second = TWO if broker.differs("names-that-repeat") else None
    assert [delivery.typed_headers.get(name) for name in ("a", "a again")] == [ONE, second]


def test_headers_beside_bcc(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.publish("", q, b"m", headers=fields(("a", ONE), ("BCC", ["nowhere"]), ("a", TWO)))
    second = {"a again": TWO} if broker.differs("names-that-repeat") else {}
    assert ch.get_one(q).typed_headers == {"a": ONE, **second}


@pytest.mark.parametrize(("wanted", "is_routed"), [(ONE, True), (TWO, False)])
def test_a_headers_exchange_looks_at_the_first(
    broker: BrokerUnderTest, ch: ChannelUnderTest, q: str, x: str, wanted: T, is_routed: bool
) -> None:
    ch.declare(q)
    ch.declare_exchange(x, "headers")
    ch.call(Queue.Bind, queue=q, exchange=x, arguments={"a": wanted})
    ch.publish(x, "", b"m", headers=REPEATING)
    assert bool(ch.drain(q)) is (is_routed if broker.differs("names-that-repeat") else not is_routed)


@pytest.mark.parametrize("kind", ["any", "all"])
def test_a_binding_of_a_headers_exchange(
    broker: BrokerUnderTest, ch: ChannelUnderTest, q: str, x: str, kind: str
) -> None:
    ch.declare(q)
    ch.declare_exchange(x, "headers")
    ch.call(
        Queue.Bind,
        queue=q,
        exchange=x,
        arguments=fields(("x-match", kind), ("country", "brazil"), ("country", "denmark")),
    )
    for country in ("brazil", "denmark", "chile"):
        ch.publish(x, "", country.encode(), headers={"country": country})
    fitting = [b"brazil"] if broker.differs("names-that-repeat") else [b"brazil", b"denmark"]
    assert ch.drain(q) == (fitting if kind == "any" else [])


def test_arguments_of_a_queue(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q, arguments=fields(("x-max-length", 2), ("x-max-length", 5)))
    ch.publish_all(q, [b"1", b"2", b"3"])
    assert ch.drain(q) == [b"2", b"3"]
