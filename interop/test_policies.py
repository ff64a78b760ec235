"""Policies and operator policies: which one counts, what it does to what is there, and what it leaves behind."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from interop.brokers import OurBroker, RabbitMQ
from interop.operator import Operator
from interop.raw_client import ChannelUnderTest
from interop.under_test import BrokerUnderTest
from interop.waiting import until

FEATURE = "policies"


@pytest.fixture
def operator(broker: BrokerUnderTest) -> Iterator[Operator]:
    """Whoever sets policies; they are cleared in the end."""
    process: Any = broker.process
    if not isinstance(process, RabbitMQ | OurBroker):
        pytest.skip("this broker was not started by the tests")
    found = Operator(process)
    yield found
    found.clear_all()


def test_max_length_at_once_and_no_more(operator: Operator, ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.publish_all(q, [b"1", b"2", b"3", b"4"])
    operator.set_policy("p", f"^{q}$", {"max-length": 2}, apply_to="queues")
    until(lambda: ch.depth(q)[0] == 2)
    ch.publish("", q, b"5")
    until(lambda: ch.depth(q)[0] == 2)
    operator.clear_policy("p")
    until(lambda: operator.queue(q)["policy"] is None)
    ch.publish("", q, b"6")
    assert ch.drain(q) == [b"4", b"5", b"6"]


def test_one_policy_counts(operator: Operator, ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    operator.set_policy("low", f"^{q}$", {"max-length": 5}, priority=1)
    operator.set_policy("high", f"{q}", {"message-ttl": 50_000}, priority=2)
    until(lambda: operator.queue(q)["policy"] == "high")
    assert operator.queue(q)["effective_policy_definition"] == {"message-ttl": 50_000}
    operator.clear_policy("high")
    until(lambda: operator.queue(q)["policy"] == "low")
    assert operator.queue(q)["effective_policy_definition"] == {"max-length": 5}


def test_an_operator_policy_beside_it(operator: Operator, ch: ChannelUnderTest, q: str) -> None:
    operator.set_policy("p", f"^{q}$", {"max-length": 2, "message-ttl": 60_000})
    operator.set_operator_policy("o", f"^{q}$", {"max-length": 20, "expires": 90_000}, apply_to="queues")
    ch.declare(q)
    both = {"max-length": 2, "message-ttl": 60_000, "expires": 90_000}
    until(lambda: operator.queue(q)["effective_policy_definition"] == both)
    operator.set_operator_policy("o", f"^{q}$", {"max-length": 1}, apply_to="queues")
    until(lambda: operator.queue(q)["effective_policy_definition"] == {"max-length": 1, "message-ttl": 60_000})
    ch.publish_all(q, [b"1", b"2", b"3"])
    until(lambda: ch.depth(q)[0] == 1)
    assert ch.drain(q) == [b"3"]


def test_a_key_of_another_type_passes_a_queue_by(operator: Operator, ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    operator.set_policy("p", f"^{q}$", {"max-length": 5, "delivery-limit": 3})
    operator.set_policy("low", f"^{q}$", {"max-length": 4}, priority=-1)
    until(lambda: operator.queue(q)["policy"] == "low")


def test_the_argument_and_the_smaller_one(operator: Operator, ch: ChannelUnderTest, q: str) -> None:
    operator.set_policy("p", f"^{q}$", {"max-length": 2, "overflow": "reject-publish"})
    ch.declare(q, arguments={"x-max-length": 3, "x-overflow": "drop-head"})
    ch.publish_all(q, [b"1", b"2", b"3", b"4"])
    assert ch.drain(q) == [b"3", b"4"]


def test_overflow_of_a_quorum_queue_is_the_policys(operator: Operator, ch: ChannelUnderTest, q: str) -> None:
    operator.set_policy("p", f"^{q}$", {"max-length": 1, "overflow": "reject-publish"})
    ch.declare(q, durable=True, arguments={"x-queue-type": "quorum", "x-overflow": "drop-head"})
    ch.confirm()
    ch.publish_all(q, [b"1", b"2"])
    assert ch.await_confirms(2) == [(1, True), (2, True)]
    ch.depth(q)  # answered when publishers have been told that it takes no more
    ch.publish_all(q, [b"3"])
    assert ch.await_confirms(3)[-1:] == [(3, False)]


def test_message_ttl_is_for_what_comes(operator: Operator, ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.publish("", q, b"waits")
    assert ch.depth(q)[0] == 1
    operator.set_policy("p", f"^{q}$", {"message-ttl": 0})
    until(lambda: operator.queue(q)["policy"] == "p")
    assert ch.drain(q) == [b"waits"]
    ch.publish("", q, b"goes")
    until(lambda: ch.depth(q)[0] == 0)


def test_dead_letters_go_where_the_policy_says(
    operator: Operator, ch: ChannelUnderTest, broker: BrokerUnderTest, q: str
) -> None:
    dead = broker.queue_name("dead")
    ch.declare(dead)
    ch.declare(q)
    ch.publish_all(q, [b"1", b"2"])
    definition = {"dead-letter-exchange": "", "dead-letter-routing-key": dead}
    operator.set_policy("p", f"^{q}$", definition)
    until(lambda: operator.queue(q)["policy"] == "p")
    ch.reject(ch.get_one(q, no_ack=False).delivery_tag, requeue=False)
    until(lambda: ch.depth(dead)[0] == 1)
    operator.clear_policy("p")
    until(lambda: operator.queue(q)["policy"] is None)
    ch.reject(ch.get_one(q, no_ack=False).delivery_tag, requeue=False)
    ch.sync()
    assert ch.drain(dead) == [b"1"]


def test_an_alternate_exchange(operator: Operator, ch: ChannelUnderTest, broker: BrokerUnderTest, q: str) -> None:
    x, other = broker.exchange_name("x"), broker.exchange_name("other")
    ch.declare_exchange(x)
    ch.declare_exchange(other, "fanout")
    ch.declare(q)
    ch.bind(q, other)
    ch.publish(x, "nowhere", b"lost")
    ch.sync()
    operator.set_policy("p", f"^{x}$", {"alternate-exchange": other}, apply_to="exchanges")
    ch.publish(x, "nowhere", b"found")
    until(lambda: ch.depth(q)[0] == 1)
    operator.clear_policy("p")
    ch.publish(x, "nowhere", b"lost")
    ch.sync()
    assert ch.drain(q) == [b"found"]


def test_a_queue_that_nobody_uses_goes(operator: Operator, ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    operator.set_policy("p", f"^{q}$", {"expires": 1})
    ch.sync()

    def is_gone() -> bool:
        ch.declare(q, passive=True)
        return False

    with pytest.raises(AssertionError, match=r"404|NOT_FOUND"):
        until(is_gone)


def test_keys_that_mean_something_to_a_stream(operator: Operator, ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q, durable=True, arguments={"x-queue-type": "stream"})
    definition = {"max-age": "1h", "max-length-bytes": 1_000_000, "stream-max-segment-size-bytes": 5_000}
    operator.set_policy("p", f"^{q}$", definition, apply_to="queues")
    until(lambda: operator.queue(q)["policy"] == "p")
    assert operator.queue(q)["effective_policy_definition"] == definition
    operator.set_policy("p", f"^{q}$", {"max-age": "2h"}, apply_to="queues")
    until(lambda: operator.queue(q)["effective_policy_definition"] == {"max-age": "2h"})
    for other in ({"max-length": 5}, {"message-ttl": 5}, {"dead-letter-exchange": "x"}, {"delivery-limit": 5}):
        operator.set_policy("other", f"^{q}$", {"max-age": "3h", **other}, priority=1)
        assert operator.queue(q)["policy"] == "p", other
    operator.clear_policy("p")
    until(lambda: operator.queue(q)["policy"] is None)


@pytest.mark.parametrize(
    ("definition", "text"),
    [
        ({}, "no policy provided"),
        ({"max-age": "1A"}, '<<"1A">> is not a valid max age'),
        ({"stream-max-segment-size-bytes": -1}, "-1 is not a valid segment size"),
        ({"stream-max-segment-size-bytes": 3_000_000_001}, "3000000001 is not a valid segment size"),
        ({"nope": 1}, '[{<<"nope">>,1}] are not recognised policy settings'),
        ({"max-length": -1}, "-1 is not a valid maximum length"),
        ({"overflow": "zzz"}, '<<"zzz">> is not a valid overflow value'),
    ],
)
def test_what_is_refused(operator: Operator, definition: dict[str, Any], text: str) -> None:
    with pytest.raises(RuntimeError) as refused:
        operator.set_policy("p", "x", definition)
    assert text in str(refused.value)


def test_a_pattern_that_is_none(operator: Operator) -> None:
    with pytest.raises(RuntimeError) as refused:
        operator.set_policy("p", "(", {"max-length": 1})
    assert 'pattern should be regular expression but is invalid: {"missing )",1}' in str(refused.value)
