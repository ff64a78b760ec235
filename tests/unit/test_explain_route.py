"""Routes explained: what each type of exchange says, and that it is what routing does."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pamqp import commands
from pamqp.common import FieldTable

from amqp_broker.broker.exchanges import explanation
from amqp_broker.broker.exchanges.binding import Binding
from amqp_broker.broker.exchanges.exchange import Exchange
from amqp_broker.broker.exchanges.explanation import explanation_of
from amqp_broker.broker.exchanges.matcher import Envelope
from amqp_broker.broker.exchanges.topic import TopicMatcher
from amqp_broker.broker.problems import AdministrationError, NotThere
from tests.support.client import Client, ClientChannel
from tests.support.examples import examples
from tests.support.memory_broker import MemoryBroker


@pytest.fixture
def channel(broker: MemoryBroker) -> ClientChannel:
    channel = Client(broker).open().channel()
    for name in ("a", "b", "c"):
        channel.declare(name)
    return channel


def explain(broker: MemoryBroker, exchange: str, key: str = "", **headers: Any) -> dict[str, Any]:
    asked = {"vhost": "/", "exchange": exchange, "key": key, "headers": headers}
    one = explanation_of(broker, asked)
    for _ in one.slices():
        pass
    return one.answer()


def verdicts(said: dict[str, Any], step: int = 0) -> list[tuple[str, bool | None, str]]:
    return [(one["destination"], one["matches"], one["why"]) for one in said["steps"][step]["bindings"]]


def test_a_direct_exchange(broker: MemoryBroker, channel: ClientChannel) -> None:
    channel.bind("a", "amq.direct", "one")
    channel.bind("b", "amq.direct", "two")
    said = explain(broker, "amq.direct", "two")
    assert (said["queues"], said["routed"]) == (["b"], True)
    assert verdicts(said) == [
        ("b", True, "the routing key is the binding's"),
        ("a", False, "the routing key is not 'one'"),
    ]


@pytest.mark.parametrize(
    ("pattern", "key", "why"),
    [
        ("order.*", "order.paid", "the key 'order.paid' fits the pattern"),
        ("#", "", "the key '' fits the pattern"),
        ("order.paid", "order.new", "word 2 of the key is 'new', the pattern wants 'paid' there"),
        ("order", "order.new", "the pattern ends before word 2 of the key, 'new'"),
        ("order.*.eu", "order.new", "the key ends where the pattern wants 'eu'"),
        ("#.eu", "order.us", "the key ends where the pattern wants 'eu'"),
    ],
)
def test_a_topic_exchange(broker: MemoryBroker, channel: ClientChannel, pattern: str, key: str, why: str) -> None:
    channel.bind("a", "amq.topic", pattern)
    (verdict,) = verdicts(explain(broker, "amq.topic", key))
    assert verdict == ("a", "fits" in why, why)


words = st.lists(st.sampled_from(["a", "b", ""]), max_size=4).map(".".join)
patterns = st.lists(st.sampled_from(["a", "b", "", "*", "#"]), max_size=5).map(".".join)


@given(patterns, words)
@settings(max_examples=examples(300), deadline=None)
def test_a_topic_says_what_it_does(pattern: str, key: str) -> None:
    matcher = TopicMatcher({})
    source = Exchange("x", "topic", matcher, durable=False)
    binding = Binding(source, Exchange("y", "fanout", TopicMatcher({}), durable=False), pattern, {})
    source.bind(binding)
    message = Envelope((key,))
    assert matcher.explain(binding, message).matches == bool(list(matcher.match(message)))


def test_a_headers_exchange(broker: MemoryBroker, channel: ClientChannel) -> None:
    def bind(queue: str, **arguments: Any) -> None:
        channel.call(commands.Queue.Bind(queue=queue, exchange="amq.headers", arguments=arguments))

    bind("a", region="eu", level=3)
    bind("b", **{"x-match": "any"}, region="us", level=3)
    bind("c", region="us", other=True)
    said = explain(broker, "amq.headers", region="eu", level=3)
    assert said["queues"] == ["a", "b"]
    assert verdicts(said)[2] == (
        "c",
        False,
        "the binding wants all of them: there is no header 'other', header 'region' is 'eu' and not 'us'",
    )


def test_the_default_exchange(broker: MemoryBroker, channel: ClientChannel) -> None:
    assert explain(broker, "", "a")["queues"] == ["a"]
    said = explain(broker, "amq.default", "nobody")
    assert (said["queues"], said["routed"]) == ([], False)
    assert verdicts(said) == [("nobody", False, "there is no queue 'nobody'")]


def test_alternates_and_exchanges_bound_to_exchanges_are_followed(broker: MemoryBroker, channel: ClientChannel) -> None:
    channel.call(
        commands.Exchange.Declare(exchange="x", exchange_type="direct", arguments={"alternate-exchange": "amq.fanout"})
    )
    channel.call(commands.Exchange.Bind(destination="amq.topic", source="amq.fanout", routing_key=""))
    channel.call(commands.Exchange.Bind(destination="amq.fanout", source="amq.topic", routing_key="#"))
    channel.bind("a", "amq.topic", "k")
    channel.bind("b", "x", "other")
    said = explain(broker, "x", "k")
    assert said["queues"] == ["a"]
    first, second, third = said["steps"]
    assert (first["alternate"], first["alternate_used"]) == ("amq.fanout", "yes: no binding matches")
    assert second["reached"] == "as the alternate of exchange 'x'"
    assert third["reached"] == "by a binding of exchange 'amq.fanout'"
    assert ("amq.fanout", True) in [(one["destination"], one["matches"]) for one in third["bindings"]]
    assert explain(broker, "x", "other")["steps"][0]["alternate_used"] == "no: a binding matches"


def test_what_cannot_be_told(broker: MemoryBroker, channel: ClientChannel) -> None:
    channel.call(commands.Exchange.Declare(exchange="any", exchange_type="x-random"))
    channel.call(commands.Exchange.Bind(destination="amq.fanout", source="any", routing_key=""))
    channel.bind("a", "any", "")
    channel.bind("b", "amq.fanout", "")
    said = explain(broker, "any")
    assert (said["queues"], sorted(said["maybe_queues"]), said["routed"]) == ([], ["a", "b"], None)
    assert said["steps"][1]["reached"] == "perhaps by a binding of exchange 'any'"


@pytest.mark.parametrize(
    ("type_name", "key", "arguments"),
    [
        ("x-consistent-hash", "1", {}),
        ("x-modulus-hash", "", {}),
        ("x-recent-history", "", {}),
        ("x-message-deduplication", "", {"x-cache-size": 10}),
    ],
)
def test_types_of_plugins_say_what_they_do(
    broker: MemoryBroker, channel: ClientChannel, type_name: str, key: str, arguments: Any
) -> None:
    channel.call(commands.Exchange.Declare(exchange="x", exchange_type=type_name, arguments=arguments))
    for name in ("a", "b", "c"):
        channel.bind(name, "x", key)
    for number in range(5):
        said = explain(broker, "x", f"key{number}", **{"x-deduplication-header": "same"})
        again = explain(broker, "x", f"key{number}", **{"x-deduplication-header": "same"})
        assert said == again, "to explain changes nothing"
        before = {name: channel.message_count(name) for name in ("a", "b", "c")}
        channel.publish("x", f"key{number}", b"", headers={"x-deduplication-header": "same"})
        after = {name: channel.message_count(name) for name in ("a", "b", "c")}
        assert sorted(said["queues"]) == [name for name in ("a", "b", "c") if after[name] > before[name]]


def test_many_bindings_are_asked_in_slices_and_not_all_shown(
    broker: MemoryBroker, channel: ClientChannel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explanation, "BINDINGS_SHOWN_MAX", 5)
    monkeypatch.setattr(explanation, "SLICE_BINDINGS", 4)
    for number in range(10):
        channel.bind("a", "amq.direct", f"k{number}")
    one = explanation_of(broker, {"vhost": "/", "exchange": "amq.direct", "key": "k9"})
    assert len(list(one.slices())) == 2
    answer: dict[str, Any] = one.answer()
    (step,) = answer["steps"]
    assert (len(step["bindings"]), step["bindings_not_shown"], step["bindings"][0]["matches"]) == (6, 4, True)


@pytest.mark.parametrize(
    ("asked", "error", "text"),
    [
        ({"vhost": "none", "exchange": "x"}, NotThere, "there is no virtual host 'none'"),
        ({"vhost": "/", "exchange": "x"}, NotThere, "there is no exchange 'x' in virtual host '/'"),
        ({"vhost": "/", "exchange": 5}, AdministrationError, "exchange must be a text"),
        ({"vhost": "/", "exchange": "", "headers": [1]}, AdministrationError, "headers must be an object"),
    ],
)
def test_bad_questions(broker: MemoryBroker, asked: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        explanation_of(broker, asked)


def test_an_exchange_that_holds_back(broker: MemoryBroker, channel: ClientChannel) -> None:
    arguments: FieldTable = {"x-delayed-type": "direct"}
    channel.call(commands.Exchange.Declare(exchange="x", exchange_type="x-delayed-message", arguments=arguments))
    channel.bind("a", "x", "k")
    assert verdicts(explain(broker, "x", "k")) == [("a", True, "the routing key is the binding's")]
    said = explain(broker, "x", "k", **{"x-delay": 50})
    assert (said["queues"], verdicts(said)[0][2]) == (["a"], "after 50 ms: the routing key is the binding's")
    channel.publish("x", "nobody", b"", headers={"x-delay": 50})
    broker.advance(50)
    assert [(row["reason"], row["routing_key"], row["user"]) for row in broker.drops.rows()] == [
        ("unroutable", "nobody", None)
    ]
