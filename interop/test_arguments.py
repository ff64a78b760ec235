"""Arguments of queues and consumers: types and ranges and their texts, which of them a queue's type knows, equivalence.

What an argument does is in files of its own (message TTL, max length, dead letter, ...); this one asks what is refused.
"""

from __future__ import annotations

from typing import Any

import pytest

from interop.raw_client import Basic, ChannelUnderTest, Client, Queue, T
from interop.under_test import BrokerUnderTest

QUORUM = {"x-queue-type": "quorum"}

# Values of the wrong type for an argument that wants an integer, a text or a boolean, and the type's name in texts.
NOT_INTEGERS: list[tuple[Any, str]] = [
    ("1000", "longstr"),
    (True, "bool"),
    (T("f", 1.0), "float"),
    (T("d", 1000.0), "double"),
    (T("D", (0, 1000)), "decimal"),
    (T("T", 1000), "timestamp"),
    (T("V", None), "void"),
    (T("x", b"1000"), "binary"),
    ([1000], "array"),
    ({"n": 1000}, "table"),
]
INTEGER_ARGUMENTS = ["x-expires", "x-message-ttl", "x-max-length", "x-max-length-bytes", "x-max-priority"]
INTEGER_ARGUMENTS += ["x-queue-version"]
INTEGER_TAGS = ["b", "B", "s", "u", "I", "i", "l", "L"]


def refused(ch: ChannelUnderTest, q: str, arguments: dict[str, Any], argument: str, problem: str) -> None:
    """The declaration is refused with this text, and no queue is there afterwards."""
    ch.send(Queue.Declare, queue=q, durable=True, arguments=arguments)
    ch.expect_close(406, f"invalid arg '{argument}' for queue '{q}' in vhost '/': {problem}", cause=Queue.Declare)
    ch.reopen()
    ch.send(Queue.Declare, queue=q, passive=True)
    ch.expect_close(404, f"no queue '{q}' in vhost '/'")


# Types


@pytest.mark.parametrize("argument", INTEGER_ARGUMENTS)
@pytest.mark.parametrize(("value", "kind"), NOT_INTEGERS, ids=[kind for _, kind in NOT_INTEGERS])
def test_an_integer_is_wanted(ch: ChannelUnderTest, q: str, argument: str, value: Any, kind: str) -> None:
    refused(ch, q, {argument: value}, argument, f'"expected integer, got {kind}"')


@pytest.mark.parametrize("argument", INTEGER_ARGUMENTS)
@pytest.mark.parametrize("tag", INTEGER_TAGS)
def test_any_width_of_integer_will_do(ch: ChannelUnderTest, q: str, argument: str, tag: str) -> None:
    value = 2 if argument == "x-queue-version" else 100
    assert ch.declare(q, arguments={argument: T(tag, value)}).queue == q


@pytest.mark.parametrize("argument", [*INTEGER_ARGUMENTS, "x-priority"])
@pytest.mark.parametrize("value", [-1, T("l", -(2**40)), T("b", -1)], ids=["-1", "long", "byte"])
def test_negative_integers(ch: ChannelUnderTest, q: str, argument: str, value: Any) -> None:
    if argument == "x-priority":  # no argument of a queue: kept and ignored
        ch.declare(q, arguments={argument: value})
        return
    number = value.value if isinstance(value, T) else value
    refused(ch, q, {argument: value}, argument, f"{{value_negative,{number}}}")


@pytest.mark.parametrize("value", [315_360_000_000, 2**32, 134_217_728_000], ids=str)
@pytest.mark.parametrize("argument", ["x-message-ttl", "x-expires"])
def test_times_beyond_32_bits(ch: ChannelUnderTest, q: str, argument: str, value: int) -> None:
    assert ch.declare(q, arguments={argument: value}).queue == q


@pytest.mark.parametrize("value", [315_360_000_001, 2**63 - 1], ids=str)
@pytest.mark.parametrize("argument", ["x-message-ttl", "x-expires"])
def test_times_beyond_ten_years(ch: ChannelUnderTest, q: str, argument: str, value: int) -> None:
    refused(ch, q, {argument: value}, argument, f"{{value_too_large,{value}}}")


def test_zero_where_it_makes_sense(ch: ChannelUnderTest, q: str) -> None:
    arguments = {"x-message-ttl": 0, "x-max-length": 0, "x-max-length-bytes": 0, "x-max-priority": 0}
    assert ch.declare(q, arguments=arguments).queue == q


def test_queue_expiry_of_zero(ch: ChannelUnderTest, q: str) -> None:
    refused(ch, q, {"x-expires": 0}, "x-expires", "{value_zero,0}")


@pytest.mark.parametrize("value", [256, 2**40], ids=str)
def test_priority_above_255(ch: ChannelUnderTest, q: str, value: int) -> None:
    refused(ch, q, {"x-max-priority": value}, "x-max-priority", f"{{max_value_exceeded,{value}}}")


def test_priority_of_255(ch: ChannelUnderTest, q: str) -> None:
    assert ch.declare(q, arguments={"x-max-priority": 255}).queue == q


def test_largest_lengths(ch: ChannelUnderTest, q: str) -> None:
    assert ch.declare(q, arguments={"x-max-length": 2**63 - 1, "x-max-length-bytes": 2**63 - 1}).queue == q


@pytest.mark.parametrize("value", [0, 3, 100])
def test_queue_version_that_does_not_exist(ch: ChannelUnderTest, q: str, value: int) -> None:
    refused(ch, q, {"x-queue-version": value}, "x-queue-version", f"\"unsupported queue version '{value}'\"")


@pytest.mark.parametrize(
    "argument", ["x-dead-letter-routing-key", "x-overflow", "x-queue-mode", "x-queue-type", "x-dead-letter-strategy"]
)
@pytest.mark.parametrize(("value", "kind"), [(1, "signedint"), *NOT_INTEGERS[1:]], ids=str)
def test_a_text_is_wanted(ch: ChannelUnderTest, q: str, argument: str, value: Any, kind: str) -> None:
    arguments = QUORUM | {argument: value} if argument == "x-dead-letter-strategy" else {argument: value}
    refused(ch, q, arguments, argument, f"{{unacceptable_type,{kind}}}")


@pytest.mark.parametrize(("value", "kind"), [(1, "signedint"), *NOT_INTEGERS[1:]], ids=str)
def test_dead_letter_exchange_that_is_no_text(ch: ChannelUnderTest, q: str, value: Any, kind: str) -> None:
    ch.send(Queue.Declare, queue=q, arguments={"x-dead-letter-exchange": value})
    text = f"invalid type '{kind}' for arg 'x-dead-letter-exchange' in queue '{q}' in vhost '/'"
    ch.expect_close(406, text, cause=Queue.Declare)


@pytest.mark.parametrize(
    ("value", "kind"), [(1, "signedint"), ("true", "longstr"), (T("V", None), "void"), (T("B", 1), "unsignedbyte")]
)
def test_a_boolean_is_wanted(ch: ChannelUnderTest, q: str, value: Any, kind: str) -> None:
    argument = "x-single-active-consumer"
    refused(ch, q, {argument: value}, argument, f"{{unacceptable_type,{kind}}}")


# Values


def test_dead_letter_routing_key_without_an_exchange(ch: ChannelUnderTest, q: str) -> None:
    argument = "x-dead-letter-routing-key"
    refused(ch, q, {argument: "key"}, argument, "routing_key_but_no_dlx_defined")


@pytest.mark.parametrize(
    ("argument", "problem"),
    [
        ("x-overflow", "invalid_overflow"),
        ("x-queue-mode", "\"unsupported queue mode '{}'\""),
        ("x-queue-type", "\"unsupported queue type '{}'\""),
    ],
)
@pytest.mark.parametrize("value", ["zzz", "", "Drop-Head", "with space"])
def test_texts_that_mean_nothing(ch: ChannelUnderTest, q: str, argument: str, problem: str, value: str) -> None:
    refused(ch, q, {argument: value}, argument, problem.format(value))


@pytest.mark.parametrize(
    ("value", "shown"), [('say "hi"', r"say \"hi\""), ("back\\slash", r"back\\slash"), ("tab\tend\n", r"tab\tend\n")]
)
def test_texts_are_shown_escaped(ch: ChannelUnderTest, q: str, value: str, shown: str) -> None:
    refused(ch, q, {"x-queue-type": value}, "x-queue-type", f"\"unsupported queue type '{shown}'\"")


@pytest.mark.parametrize("mode", ["default", "lazy"])
def test_queue_modes(ch: ChannelUnderTest, q: str, mode: str) -> None:
    ch.declare(q, arguments={"x-queue-mode": mode})
    ch.publish("", q, b"body")
    assert ch.drain(q) == [b"body"]


@pytest.mark.parametrize("version", [1, 2])
def test_queue_versions(ch: ChannelUnderTest, q: str, version: int) -> None:
    ch.declare(q, arguments={"x-queue-version": version})
    ch.publish("", q, b"body")
    assert ch.drain(q) == [b"body"]


@pytest.mark.parametrize("locator", ["min-masters", "client-local", "random"])
def test_queue_master_locators(ch: ChannelUnderTest, q: str, locator: str) -> None:
    assert ch.declare(q, arguments={"x-queue-master-locator": locator}).queue == q


@pytest.mark.parametrize(
    ("argument", "value", "problem"),
    [
        ("x-dead-letter-strategy", "zzz", "invalid_dlx_strategy"),
        ("x-max-in-memory-length", -1, "{value_negative,-1}"),
        ("x-max-in-memory-bytes", "1", '"expected integer, got longstr"'),
        ("x-quorum-initial-group-size", 0, "{value_zero,0}"),
        ("x-quorum-initial-group-size", "1", '"expected integer, got longstr"'),
        ("x-queue-leader-locator", "zzz", "invalid_queue_locator_arg"),
        ("x-queue-leader-locator", 1, "{unacceptable_type,signedint}"),
    ],
)
def test_values_for_quorum_queues(ch: ChannelUnderTest, q: str, argument: str, value: Any, problem: str) -> None:
    refused(ch, q, QUORUM | {argument: value}, argument, problem)


@pytest.mark.parametrize("locator", ["client-local", "balanced"])
def test_leader_locators(ch: ChannelUnderTest, q: str, locator: str) -> None:
    assert ch.declare(q, durable=True, arguments=QUORUM | {"x-queue-leader-locator": locator}).queue == q


def test_all_arguments_of_a_quorum_queue(ch: ChannelUnderTest, q: str) -> None:
    arguments = QUORUM | {
        "x-dead-letter-exchange": "amq.fanout",
        "x-dead-letter-routing-key": "key",
        "x-dead-letter-strategy": "at-most-once",
        "x-expires": 60_000,
        "x-max-length": 10,
        "x-max-length-bytes": 1000,
        "x-max-in-memory-length": 1,
        "x-max-in-memory-bytes": 1,
        "x-overflow": "drop-head",
        "x-single-active-consumer": True,
        "x-quorum-initial-group-size": 1,
        "x-delivery-limit": 3,
        "x-message-ttl": 60_000,
        "x-queue-leader-locator": "client-local",
    }
    assert ch.declare(q, durable=True, arguments=arguments).queue == q
    assert ch.declare(q, durable=True, arguments=arguments).queue == q


# Arguments that only another type of queue knows


@pytest.mark.parametrize(
    "argument",
    [
        "x-dead-letter-strategy",
        "x-delivery-limit",
        "x-initial-cluster-size",
        "x-max-age",
        "x-max-in-memory-bytes",
        "x-max-in-memory-length",
        "x-queue-leader-locator",
        "x-quorum-initial-group-size",
        "x-stream-max-segment-size-bytes",
    ],
)
@pytest.mark.parametrize("value", [1, "nonsense"], ids=str)
def test_what_a_classic_queue_does_not_know(
    broker: BrokerUnderTest, ch: ChannelUnderTest, q: str, argument: str, value: Any
) -> None:
    if argument == "x-queue-leader-locator" and broker.version >= (4, 0):
        argument = "x-max-age"  # it is known
    ch.send(Queue.Declare, queue=q, arguments={argument: value})
    text = f"invalid arg '{argument}' for queue '{q}' in vhost '/' of queue type rabbit_classic_queue"
    ch.expect_close(406, text, cause=Queue.Declare)


def test_the_leader_of_a_classic_queue(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str) -> None:
    """Since 4.0 it may be said where it is to be, and has to be said again."""
    if broker.version < (4, 0):
        pytest.skip("a classic queue does not know it")
    ch.declare(q, durable=True, arguments={"x-queue-leader-locator": "balanced"})
    ch.declare(q, durable=True, arguments={"x-queue-leader-locator": "balanced"})
    ch.send(Queue.Declare, queue=q, durable=True, arguments={})
    difference = "received none but current is the value 'balanced' of type 'longstr'"
    text = f"inequivalent arg 'x-queue-leader-locator' for queue '{q}' in vhost '/': {difference}"
    ch.expect_close(406, text, cause=Queue.Declare)
    ch.reopen()
    ch.send(Queue.Declare, queue=q + "-new", durable=True, arguments={"x-queue-leader-locator": "zzz"})
    problem = f"invalid arg 'x-queue-leader-locator' for queue '{q}-new' in vhost '/': invalid_queue_locator_arg"
    ch.expect_close(406, problem, cause=Queue.Declare)


@pytest.mark.parametrize(
    "argument",
    [
        "x-initial-cluster-size",
        "x-max-age",
        "x-max-priority",
        "x-queue-master-locator",
        "x-queue-mode",
        "x-queue-version",
        "x-stream-max-segment-size-bytes",
    ],
)
def test_what_a_quorum_queue_does_not_know(ch: ChannelUnderTest, q: str, argument: str) -> None:
    ch.send(Queue.Declare, queue=q, durable=True, arguments=QUORUM | {argument: 1})
    text = f"invalid arg '{argument}' for queue '{q}' in vhost '/' of queue type rabbit_quorum_queue"
    ch.expect_close(406, text, cause=Queue.Declare)


def test_the_first_unknown_one_is_named(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str) -> None:
    ch.send(Queue.Declare, queue=q, arguments={"x-foo": 1, "x-max-age": 1, "x-delivery-limit": 1})
    named = "x-max-age" if broker.differs("arguments-of-4") else "x-delivery-limit"
    text = f"invalid arg '{named}' for queue '{q}' in vhost '/' of queue type rabbit_classic_queue"
    ch.expect_close(406, text, cause=Queue.Declare)


def test_wrong_values_come_before_unknown_arguments(ch: ChannelUnderTest, q: str) -> None:
    refused(ch, q, {"x-delivery-limit": 1, "x-max-length": -1}, "x-max-length", "{value_negative,-1}")


def test_the_type_is_looked_at_first(ch: ChannelUnderTest, q: str) -> None:
    refused(ch, q, {"x-expires": -1, "x-queue-type": "z"}, "x-queue-type", "\"unsupported queue type 'z'\"")


@pytest.mark.parametrize(
    ("arguments", "argument", "problem"),
    [
        ({"x-overflow": "z", "x-max-priority": 999, "x-max-length": -1}, "x-max-length", "{value_negative,-1}"),
        ({"x-overflow": "z", "x-max-priority": 999}, "x-max-priority", "{max_value_exceeded,999}"),
        ({"x-message-ttl": -1, "x-expires": 0}, "x-expires", "{value_zero,0}"),
        ({"x-dead-letter-routing-key": "k", "x-message-ttl": -1}, "x-message-ttl", "{value_negative,-1}"),
    ],
    ids=["length", "priority", "expires", "ttl"],
)
def test_the_order_of_the_checks(
    ch: ChannelUnderTest, q: str, arguments: dict[str, Any], argument: str, problem: str
) -> None:
    refused(ch, q, arguments, argument, problem)


@pytest.mark.parametrize("value", [1, "text", T("V", None), {"deep": [{"er": True}]}], ids=str)
def test_unknown_arguments_are_kept_and_ignored(ch: ChannelUnderTest, q: str, value: Any) -> None:
    ch.declare(q, arguments={"x-foo": value, "": value})
    assert ch.declare(q).queue == q


def test_arguments_are_checked_only_when_the_queue_is_new(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.send(Queue.Declare, queue=q, arguments={"x-message-ttl": "nonsense"})
    ch.expect_close(
        406,
        f"inequivalent arg 'x-message-ttl' for queue '{q}' in vhost '/': "
        "received the value 'nonsense' of type 'longstr' but current is none",
        cause=Queue.Declare,
    )
    ch.reopen()
    assert ch.declare(q, arguments={"x-delivery-limit": 1}).queue == q


# Equivalence


EQUIVALENT: list[tuple[str, Any, Any]] = [
    ("x-message-ttl", T("I", 60000), T("l", 60000)),
    ("x-expires", T("u", 60000), T("i", 60000)),
    ("x-max-priority", T("b", 5), T("L", 5)),
    ("x-max-length-bytes", T("B", 5), T("s", 5)),
    ("x-max-length", T("I", 5), T("T", 5)),
    ("x-overflow", "drop-head", T("x", b"drop-head")),
]
INEQUIVALENT: list[tuple[str, Any, Any, str]] = [
    ("x-max-length", 5, 6, "received '6' but current is '5'"),
    ("x-overflow", "drop-head", "reject-publish", "received 'reject-publish' but current is 'drop-head'"),
    ("x-queue-mode", "lazy", None, "received none but current is the value 'lazy' of type 'longstr'"),
    ("x-queue-mode", "default", None, "received none but current is the value 'default' of type 'longstr'"),
    ("x-overflow", None, "drop-head", "received the value 'drop-head' of type 'longstr' but current is none"),
    ("x-max-priority", 5, "5", "received '5' but current is '5'"),
    ("x-max-priority", 5, T("d", 5.0), "received '5.0' but current is '5'"),
    ("x-max-priority", 5, True, "received 'true' but current is '5'"),
    ("x-single-active-consumer", False, None, "received none but current is the value 'false' of type 'bool'"),
    ("x-single-active-consumer", True, False, "received 'false' but current is 'true'"),
    ("x-queue-version", None, 1, "received the value '1' of type 'signedint' but current is none"),
    ("x-dead-letter-exchange", "", None, "received none but current is the value '' of type 'longstr'"),
    ("x-overflow", "drop-head", T("x", b"drop"), "received 'drop' but current is 'drop-head'"),
    ("x-max-priority", 5, T("V", None), "received none but current is '5'"),
    ("x-max-priority", 5, [T("I", 1), "a"], "received '[{signedint,1},{longstr,<<\"a\">>}]' but current is '5'"),
    ("x-max-priority", 5, {"k": 1}, "received '[{<<\"k\">>,signedint,1}]' but current is '5'"),
    ("x-max-priority", None, [5], "received the value '[{signedint,5}]' of type 'array' but current is none"),
    ("x-max-priority", None, T("d", 0.5), "received the value '0.5' of type 'double' but current is none"),
    ("x-max-priority", None, T("d", 1e22), "received the value '1.0e22' of type 'double' but current is none"),
    ("x-max-priority", None, T("T", 5), "received the value '5' of type 'timestamp' but current is none"),
]


@pytest.mark.parametrize(("argument", "first", "second"), EQUIVALENT, ids=str)
def test_equal_enough(ch: ChannelUnderTest, q: str, argument: str, first: Any, second: Any) -> None:
    ch.declare(q, arguments={argument: first})
    assert ch.declare(q, arguments={argument: second}).queue == q


@pytest.mark.parametrize(("argument", "first", "second", "rest"), INEQUIVALENT, ids=str)
def test_not_equal(ch: ChannelUnderTest, q: str, argument: str, first: Any, second: Any, rest: str) -> None:
    ch.declare(q, arguments={} if first is None else {argument: first})
    ch.send(Queue.Declare, queue=q, arguments={} if second is None else {argument: second})
    text = f"inequivalent arg '{argument}' for queue '{q}' in vhost '/': {rest}"
    ch.expect_close(406, text, cause=Queue.Declare)


@pytest.mark.parametrize(
    ("names", "first"),
    [
        (["x-max-priority", "x-expires", "x-max-length"], "x-expires"),
        (["x-overflow", "x-max-length", "x-message-ttl"], "x-message-ttl"),
        (["x-queue-version", "x-max-length-bytes", "x-max-length"], "x-max-length"),
    ],
)
def test_the_first_difference_in_the_brokers_own_order_is_named(
    ch: ChannelUnderTest, q: str, names: list[str], first: str
) -> None:
    ch.declare(q)
    ch.send(Queue.Declare, queue=q, arguments=dict.fromkeys(names, 1))
    ch.expect_close(
        406,
        f"inequivalent arg '{first}' for queue '{q}' in vhost '/': "
        "received the value '1' of type 'signedint' but current is none",
    )


def test_classic_is_the_type_of_a_queue_without_one(ch: ChannelUnderTest, q: str, broker: BrokerUnderTest) -> None:
    other = broker.queue_name("other")
    ch.declare(q)
    ch.declare(q, arguments={"x-queue-type": "classic"})
    ch.declare(other, arguments={"x-queue-type": "classic"})
    assert ch.declare(other).queue == other


@pytest.mark.parametrize(
    ("first", "second", "rest"),
    [  # what is left out is filled in from 4.0 on
        ({}, QUORUM, "received the value 'quorum' of type 'longstr' but current is none"),
        (QUORUM, {}, "received none but current is the value 'quorum' of type 'longstr'"),
        (QUORUM, {"x-queue-type": "classic"}, "received 'classic' but current is 'quorum'"),
        ({"x-queue-type": "classic"}, QUORUM, "received 'quorum' but current is 'classic'"),
        ({}, {"x-queue-type": "zzz"}, "received the value 'zzz' of type 'longstr' but current is none"),
        ({}, {"x-queue-type": 1}, "received the value '1' of type 'signedint' but current is none"),
    ],
    ids=["to quorum", "from quorum", "quorum to classic", "classic to quorum", "nonsense", "number"],
)
def test_another_type_of_queue(
    broker: BrokerUnderTest, ch: ChannelUnderTest, q: str, first: dict[str, Any], second: dict[str, Any], rest: str
) -> None:
    ch.declare(q, durable=True, arguments=first)
    ch.send(Queue.Declare, queue=q, durable=True, arguments=second)
    if broker.version >= (4, 0):
        before, after = ({"x-queue-type": "classic", **one}["x-queue-type"] for one in (first, second))
        rest = f"received '{after}' but current is '{before}'"
    ch.expect_close(406, f"inequivalent arg 'x-queue-type' for queue '{q}' in vhost '/': {rest}")


def test_a_quorum_queue_does_not_compare_what_only_classic_queues_know(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q, durable=True, arguments=QUORUM)
    assert ch.declare(q, durable=True, arguments=QUORUM | {"x-max-priority": 5, "x-queue-mode": "lazy"}).queue == q


def test_delivery_limit_is_compared(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q, durable=True, arguments=QUORUM | {"x-delivery-limit": 3})
    ch.send(Queue.Declare, queue=q, durable=True, arguments=QUORUM | {"x-delivery-limit": 4})
    ch.expect_close(
        406, f"inequivalent arg 'x-delivery-limit' for queue '{q}' in vhost '/': received '4' but current is '3'"
    )


# Consumers


def refused_consumer(ch: ChannelUnderTest, q: str, arguments: dict[str, Any], argument: str, problem: str) -> None:
    ch.send(Basic.Consume, queue=q, arguments=arguments)
    ch.expect_close(406, f"invalid arg '{argument}' for queue '{q}' in vhost '/'{problem}", cause=Basic.Consume)
    assert ch.reopen().depth(q) == (0, 0)


@pytest.mark.parametrize(("value", "kind"), NOT_INTEGERS, ids=[kind for _, kind in NOT_INTEGERS])
@pytest.mark.parametrize("queue_type", ["classic", "quorum"])
def test_consumer_priority_that_is_no_integer(
    ch: ChannelUnderTest, q: str, queue_type: str, value: Any, kind: str
) -> None:
    ch.declare(q, durable=True, arguments={"x-queue-type": queue_type})
    refused_consumer(ch, q, {"x-priority": value}, "x-priority", f': "expected integer, got {kind}"')


@pytest.mark.parametrize("tag", INTEGER_TAGS)
def test_consumer_priorities_of_any_width(ch: ChannelUnderTest, q: str, tag: str) -> None:
    ch.declare(q)
    ch.consume(q, arguments={"x-priority": T(tag, 10)})
    assert ch.depth(q) == (0, 1)


def test_cancel_on_failover_is_a_boolean(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    argument = "x-cancel-on-ha-failover"
    if broker.differs("arguments-of-4"):
        refused_consumer(ch, q, {argument: 1}, argument, ": {unacceptable_type,signedint}")
    ch.consume(q, arguments={argument: True})
    assert ch.depth(q) == (0, 1)


def test_stream_offset_is_for_streams(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    argument = "x-stream-offset"
    refused_consumer(ch, q, {argument: "first"}, argument, " of queue type rabbit_classic_queue")


@pytest.mark.parametrize("argument", ["x-stream-offset", "x-cancel-on-ha-failover"])
def test_what_consumers_of_quorum_queues_do_not_know(
    broker: BrokerUnderTest, ch: ChannelUnderTest, q: str, argument: str
) -> None:
    ch.declare(q, durable=True, arguments=QUORUM)
    if argument == "x-cancel-on-ha-failover" and not broker.differs("arguments-of-4"):
        ch.consume(q, arguments={argument: True})
    else:
        refused_consumer(ch, q, {argument: True}, argument, " of queue type rabbit_quorum_queue")


def test_unknown_arguments_of_consumers(client: Client, ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.consume(q, arguments={"x-foo": -1, "x-message-ttl": "nonsense", "x-queue-type": "zzz"})
    ch.publish("", q, b"body")
    assert ch.deliveries(1)[0].body == b"body"
