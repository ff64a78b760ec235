"""Exchanges: declare, delete, bindings between them, and how each type routes."""

from __future__ import annotations

from typing import Any

import pytest

from interop.raw_client import Basic, ChannelUnderTest, Client, Exchange, Queue, T
from interop.under_test import BrokerUnderTest

TYPES = ("direct", "fanout", "topic", "headers")
PREDECLARED = {
    "amq.direct": "direct",
    "amq.fanout": "fanout",
    "amq.topic": "topic",
    "amq.headers": "headers",
    "amq.match": "headers",
    "amq.rabbitmq.trace": "topic",
}


def routed(ch: ChannelUnderTest, exchange: str, key: str = "", **properties: Any) -> bool:
    """Whether a message to this exchange gets into any queue."""
    ch.publish(exchange, key, b"probe", mandatory=True, **properties)
    ch.sync()
    return not ch.take_all(Basic.Return)


# exchange.declare


@pytest.mark.parametrize("kind", TYPES)
def test_declare(ch: ChannelUnderTest, x: str, kind: str) -> None:
    ch.declare_exchange(x, kind)
    ch.declare_exchange(x, kind, passive=True)


def test_declare_without_waiting(ch: ChannelUnderTest, x: str) -> None:
    ch.send(Exchange.Declare, exchange=x, exchange_type="fanout", nowait=True)
    ch.declare_exchange(x, passive=True)


@pytest.mark.parametrize("name", PREDECLARED)
def test_predeclared(ch: ChannelUnderTest, name: str) -> None:
    ch.declare_exchange(name, passive=True)
    ch.declare_exchange(name, PREDECLARED[name], durable=True, internal=name == "amq.rabbitmq.trace")


def test_passive_declare_of_a_missing_exchange(ch: ChannelUnderTest, x: str) -> None:
    ch.send(Exchange.Declare, exchange=x, passive=True)
    ch.expect_close(404, f"no exchange '{x}' in vhost '/'", cause=Exchange.Declare)


def test_passive_declare_ignores_all_else(ch: ChannelUnderTest, x: str) -> None:
    ch.declare_exchange(x, "fanout")
    ch.declare_exchange(
        x, "no such type", passive=True, durable=True, internal=True, arguments={"alternate-exchange": 1}
    )


@pytest.mark.parametrize(("name", "problem"), [("x-nope", "unknown"), ("", "invalid")], ids=["x-nope", "empty"])
def test_declare_of_an_unknown_type(
    broker: BrokerUnderTest, client: Client, ch: ChannelUnderTest, x: str, name: str, problem: str
) -> None:
    ch.send(Exchange.Declare, exchange=x, exchange_type=name)
    if broker.version >= (3, 12):
        ch.expect_close(406, f"{problem} exchange type '{name}'", cause=Exchange.Declare)
    else:
        client.expect_connection_close(503, f"{problem} exchange type '{name}'", cause=Exchange.Declare)


@pytest.mark.parametrize("passive", [False, True])
def test_declare_of_the_default_exchange(ch: ChannelUnderTest, passive: bool) -> None:
    ch.send(Exchange.Declare, exchange="", exchange_type="direct", passive=passive)
    ch.expect_close(403, "operation not permitted on the default exchange", cause=Exchange.Declare)


def test_reserved_prefix(ch: ChannelUnderTest) -> None:
    ch.send(Exchange.Declare, exchange="amq.foo", exchange_type="direct")
    ch.expect_close(403, "exchange name 'amq.foo' contains reserved prefix 'amq.*'", cause=Exchange.Declare)


def test_reserved_prefix_in_a_passive_declare(ch: ChannelUnderTest) -> None:
    ch.send(Exchange.Declare, exchange="amq.foo", passive=True)
    ch.expect_close(404, "no exchange 'amq.foo' in vhost '/'", cause=Exchange.Declare)


@pytest.mark.parametrize(
    ("first", "second", "argument", "rest"),
    [
        ({}, {"exchange_type": "fanout"}, "type", "received 'fanout' but current is 'direct'"),
        ({}, {"durable": True}, "durable", "received 'true' but current is 'false'"),
        ({"durable": True}, {}, "durable", "received 'false' but current is 'true'"),
        ({}, {"auto_delete": True}, "auto_delete", "received 'true' but current is 'false'"),
        ({}, {"internal": True}, "internal", "received 'true' but current is 'false'"),
        (
            {},
            {"arguments": {"alternate-exchange": "a"}},
            "alternate-exchange",
            "received the value 'a' of type 'longstr' but current is none",
        ),
        (
            {"arguments": {"alternate-exchange": "a"}},
            {},
            "alternate-exchange",
            "received none but current is the value 'a' of type 'longstr'",
        ),
        (
            {"arguments": {"alternate-exchange": "a"}},
            {"arguments": {"alternate-exchange": "b"}},
            "alternate-exchange",
            "received 'b' but current is 'a'",
        ),
        (
            {},
            {"exchange_type": "fanout", "durable": True, "auto_delete": True, "internal": True},
            "type",
            "received 'fanout' but current is 'direct'",
        ),
    ],
    ids=[
        "type",
        "durable",
        "transient",
        "auto-delete",
        "internal",
        "alternate",
        "no alternate",
        "other alternate",
        "type first",
    ],
)
def test_redeclare_that_does_not_match(
    ch: ChannelUnderTest, x: str, first: dict[str, Any], second: dict[str, Any], argument: str, rest: str
) -> None:
    ch.call(Exchange.Declare, exchange=x, **{"exchange_type": "direct"} | first)
    ch.send(Exchange.Declare, exchange=x, **{"exchange_type": "direct"} | second)
    text = f"inequivalent arg '{argument}' for exchange '{x}' in vhost '/': {rest}"
    ch.expect_close(406, text, cause=Exchange.Declare)


def test_other_arguments_are_not_compared(ch: ChannelUnderTest, x: str) -> None:
    ch.declare_exchange(x, arguments={"x-foo": 1})
    ch.declare_exchange(x, arguments={"x-foo": 2})
    ch.declare_exchange(x)


def test_alternate_exchange_of_a_wrong_type(ch: ChannelUnderTest, x: str) -> None:
    ch.send(Exchange.Declare, exchange=x, exchange_type="direct", arguments={"alternate-exchange": 5})
    ch.expect_close(
        406,
        f"invalid type 'signedint' for arg 'alternate-exchange' in exchange '{x}' in vhost '/'",
        cause=Exchange.Declare,
    )


def test_line_ends_are_taken_out_of_names(ch: ChannelUnderTest, x: str) -> None:
    ch.declare_exchange(f"\r\n{x}\n")
    ch.declare_exchange(x, passive=True)


def test_name_of_255_bytes(broker: BrokerUnderTest, ch: ChannelUnderTest) -> None:
    name = broker.exchange_name("x" * 246)
    assert len(name) == 255
    ch.declare_exchange(name)
    assert not routed(ch, name)


# exchange.delete


def test_delete_of_a_missing_exchange_succeeds(ch: ChannelUnderTest, x: str) -> None:
    ch.call(Exchange.Delete, exchange=x)


def test_delete_if_unused(ch: ChannelUnderTest, q: str, x: str) -> None:
    ch.declare_exchange(x)
    ch.declare(q)
    ch.bind(q, x, "key")
    ch.send(Exchange.Delete, exchange=x, if_unused=True)
    ch.expect_close(406, f"exchange '{x}' in vhost '/' in use", cause=Exchange.Delete)
    ch.reopen()
    ch.call(Queue.Unbind, queue=q, exchange=x, routing_key="key")
    ch.call(Exchange.Delete, exchange=x, if_unused=True)
    ch.send(Exchange.Declare, exchange=x, passive=True)
    ch.expect_close(404, f"no exchange '{x}' in vhost '/'")


def test_delete_removes_the_bindings(ch: ChannelUnderTest, q: str, x: str) -> None:
    ch.declare_exchange(x)
    ch.declare(q)
    ch.bind(q, x, "key")
    ch.call(Exchange.Delete, exchange=x)
    ch.declare_exchange(x)
    assert not routed(ch, x, "key")


@pytest.mark.parametrize("name", ["amq.direct", "amq.match", "amq.no such"])
def test_delete_of_a_system_exchange(ch: ChannelUnderTest, name: str) -> None:
    ch.send(Exchange.Delete, exchange=name)
    ch.expect_close(403, f"deletion of system exchange '{name}' in vhost '/' not allowed", cause=Exchange.Delete)


def test_delete_of_the_default_exchange(ch: ChannelUnderTest) -> None:
    ch.send(Exchange.Delete, exchange="")
    ch.expect_close(403, "operation not permitted on the default exchange", cause=Exchange.Delete)


def test_delete_without_waiting(ch: ChannelUnderTest, x: str) -> None:
    ch.declare_exchange(x)
    ch.send(Exchange.Delete, exchange=x, nowait=True)
    ch.send(Exchange.Declare, exchange=x, passive=True)
    ch.expect_close(404, f"no exchange '{x}' in vhost '/'")


# Publishing to exchanges


def test_publish_to_a_missing_exchange(ch: ChannelUnderTest, x: str) -> None:
    ch.publish(x, "key", b"body")
    ch.expect_close(404, f"no exchange '{x}' in vhost '/'", cause=Basic.Publish)


def test_publish_to_an_internal_exchange(ch: ChannelUnderTest, x: str) -> None:
    ch.declare_exchange(x, internal=True)
    ch.publish(x, "key", b"body")
    ch.expect_close(403, f"cannot publish to internal exchange '{x}' in vhost '/'", cause=Basic.Publish)


def test_publish_to_an_internal_exchange_comes_by_another(
    broker: BrokerUnderTest, ch: ChannelUnderTest, q: str
) -> None:
    outer, inner = broker.exchange_name("outer"), broker.exchange_name("inner")
    ch.declare_exchange(outer, "fanout")
    ch.declare_exchange(inner, "fanout", internal=True)
    ch.call(Exchange.Bind, source=outer, destination=inner)
    ch.declare(q)
    ch.bind(q, inner)
    ch.publish(outer, "key", b"body")
    message = ch.get_one(q)
    assert (message.exchange, message.routing_key) == (outer, "key")


# Auto-delete


def test_auto_delete_with_the_last_binding(ch: ChannelUnderTest, q: str, x: str) -> None:
    ch.declare_exchange(x, auto_delete=True)
    ch.declare(q)
    ch.bind(q, x, "a")
    ch.bind(q, x, "b")
    ch.call(Queue.Unbind, queue=q, exchange=x, routing_key="a")
    ch.declare_exchange(x, passive=True)
    ch.call(Queue.Delete, queue=q)
    ch.send(Exchange.Declare, exchange=x, passive=True)
    ch.expect_close(404, f"no exchange '{x}' in vhost '/'")


def test_auto_delete_waits_for_a_first_binding(ch: ChannelUnderTest, x: str) -> None:
    ch.declare_exchange(x, auto_delete=True)
    assert not routed(ch, x, "key")
    ch.declare_exchange(x, passive=True)


def test_auto_delete_goes_along_a_chain(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str) -> None:
    first, second = broker.exchange_name("first"), broker.exchange_name("second")
    ch.declare_exchange(first, auto_delete=True)
    ch.declare_exchange(second, auto_delete=True)
    ch.call(Exchange.Bind, source=first, destination=second, routing_key="k")
    ch.declare(q)
    ch.bind(q, second, "k")
    ch.call(Queue.Delete, queue=q)
    for name in (first, second):
        ch.send(Exchange.Declare, exchange=name, passive=True)
        ch.expect_close(404, f"no exchange '{name}' in vhost '/'")
        ch.reopen()


def test_auto_delete_of_a_destination_needs_its_own_bindings(broker: BrokerUnderTest, ch: ChannelUnderTest) -> None:
    """Being bound to something does not count; only bindings of which it is the source do."""
    first, second = broker.exchange_name("first"), broker.exchange_name("second")
    ch.declare_exchange(first)
    ch.declare_exchange(second, auto_delete=True)
    ch.call(Exchange.Bind, source=first, destination=second, routing_key="k")
    ch.call(Exchange.Unbind, source=first, destination=second, routing_key="k")
    ch.declare_exchange(second, passive=True)


# Alternate exchange


def test_alternate_exchange_takes_what_matched_nothing(
    broker: BrokerUnderTest, ch: ChannelUnderTest, q: str, x: str
) -> None:
    alternate, other = broker.exchange_name("alternate"), broker.queue_name("other")
    ch.declare_exchange(alternate, "fanout")
    ch.declare_exchange(x, "direct", arguments={"alternate-exchange": alternate})
    ch.declare(q)
    ch.declare(other)
    ch.bind(q, alternate)
    ch.bind(other, x, "known")
    ch.publish(x, "known", b"1")
    ch.publish(x, "unknown", b"2")
    assert ch.drain(other) == [b"1"]
    message = ch.get_one(q)
    assert (message.body, message.exchange, message.routing_key) == (b"2", x, "unknown")
    assert ch.get(q) is None


def test_mandatory_returns_only_when_the_alternate_has_no_queue_either(
    broker: BrokerUnderTest, ch: ChannelUnderTest, q: str, x: str
) -> None:
    alternate = broker.exchange_name("alternate")
    ch.declare_exchange(alternate, "direct")
    ch.declare_exchange(x, "direct", arguments={"alternate-exchange": alternate})
    ch.declare(q)
    ch.bind(q, alternate, "key")
    assert routed(ch, x, "key")
    assert not routed(ch, x, "other key")


def test_alternate_exchange_that_is_missing(ch: ChannelUnderTest, x: str) -> None:
    ch.declare_exchange(x, arguments={"alternate-exchange": "no such exchange"})
    assert not routed(ch, x, "key")


def test_alternate_exchanges_in_a_loop(broker: BrokerUnderTest, ch: ChannelUnderTest) -> None:
    first, second = broker.exchange_name("first"), broker.exchange_name("second")
    ch.declare_exchange(first, arguments={"alternate-exchange": second})
    ch.declare_exchange(second, arguments={"alternate-exchange": first})
    assert not routed(ch, first, "key")


def test_alternate_exchange_that_is_itself(ch: ChannelUnderTest, x: str) -> None:
    ch.declare_exchange(x, arguments={"alternate-exchange": x})
    assert not routed(ch, x, "key")


def test_alternate_exchange_of_an_exchange_that_is_bound(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str) -> None:
    """Each exchange on the way looks to its own alternate."""
    outer, inner, alternate = (broker.exchange_name(name) for name in ("outer", "inner", "alternate"))
    ch.declare_exchange(alternate, "fanout")
    ch.declare_exchange(inner, "direct", arguments={"alternate-exchange": alternate})
    ch.declare_exchange(outer, "fanout")
    ch.call(Exchange.Bind, source=outer, destination=inner)
    ch.declare(q)
    ch.bind(q, alternate)
    ch.publish(outer, "key", b"body")
    assert ch.drain(q) == [b"body"]


# Bindings between exchanges


def test_bindings_between_exchanges_give_one_copy(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str) -> None:
    source, left, right = (broker.exchange_name(name) for name in ("source", "left", "right"))
    for name in (source, left, right):
        ch.declare_exchange(name, "fanout")
    ch.call(Exchange.Bind, source=source, destination=left)
    ch.call(Exchange.Bind, source=source, destination=right)
    ch.declare(q)
    for name in (source, left, right):
        ch.bind(q, name)
    ch.publish(source, "key", b"once")
    assert ch.drain(q) == [b"once"]


def test_bindings_between_exchanges_in_a_loop(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str) -> None:
    first, second = broker.exchange_name("first"), broker.exchange_name("second")
    for name in (first, second):
        ch.declare_exchange(name, "fanout")
    ch.call(Exchange.Bind, source=first, destination=second)
    ch.call(Exchange.Bind, source=second, destination=first)
    ch.call(Exchange.Bind, source=first, destination=first)
    ch.declare(q)
    ch.bind(q, second)
    ch.publish(first, "key", b"once")
    assert ch.drain(q) == [b"once"]


def test_each_exchange_on_the_way_matches_by_its_own_type(
    broker: BrokerUnderTest, ch: ChannelUnderTest, q: str
) -> None:
    outer, inner = broker.exchange_name("outer"), broker.exchange_name("inner")
    ch.declare_exchange(outer, "topic")
    ch.declare_exchange(inner, "direct")
    ch.call(Exchange.Bind, source=outer, destination=inner, routing_key="a.#")
    ch.declare(q)
    ch.bind(q, inner, "a.b")
    ch.publish(outer, "a.b", b"1")
    ch.publish(outer, "a.c", b"2")
    ch.publish(outer, "b.b", b"3")
    assert ch.drain(q) == [b"1"]


@pytest.mark.parametrize("method", [Exchange.Bind, Exchange.Unbind])
def test_binding_with_the_default_exchange(ch: ChannelUnderTest, x: str, method: type[Exchange.Bind]) -> None:
    ch.declare_exchange(x)
    for source, destination in (("", x), (x, "")):
        ch.send(method, source=source, destination=destination)
        ch.expect_close(403, "operation not permitted on the default exchange", cause=method)
        ch.reopen()


def test_binding_of_missing_exchanges(ch: ChannelUnderTest, x: str) -> None:
    ch.declare_exchange(x)
    for source, destination in (("missing", x), (x, "missing"), ("missing", "missing too")):
        ch.send(Exchange.Bind, source=source, destination=destination)
        ch.expect_close(404, "no exchange 'missing' in vhost '/'", cause=Exchange.Bind)
        ch.reopen()


def test_unbind_of_missing_exchanges_succeeds(ch: ChannelUnderTest, x: str) -> None:
    ch.call(Exchange.Unbind, source="missing", destination="missing too")
    ch.declare_exchange(x)
    ch.call(Exchange.Unbind, source=x, destination="missing")
    ch.call(Exchange.Unbind, source=x, destination=x, routing_key="never bound")


def test_deleting_a_destination_removes_the_binding(broker: BrokerUnderTest, ch: ChannelUnderTest) -> None:
    outer, inner = broker.exchange_name("outer"), broker.exchange_name("inner")
    for name in (outer, inner):
        ch.declare_exchange(name, "fanout")
    ch.call(Exchange.Bind, source=outer, destination=inner)
    ch.call(Exchange.Delete, exchange=inner)
    ch.call(Exchange.Delete, exchange=outer, if_unused=True)


# The default exchange


def test_default_exchange_routes_by_queue_name(ch: ChannelUnderTest, q: str) -> None:
    assert not routed(ch, "", q)
    ch.declare(q)
    ch.publish("", q, b"body")
    message = ch.get_one(q)
    assert (message.exchange, message.routing_key, message.body) == ("", q, b"body")


# Routing: direct and fanout


def test_direct(broker: BrokerUnderTest, ch: ChannelUnderTest, x: str) -> None:
    ch.declare_exchange(x, "direct")
    first, second = broker.queue_name("first"), broker.queue_name("second")
    for queue in (first, second):
        ch.declare(queue)
        ch.bind(queue, x, "both")
        ch.bind(queue, x, queue)
    ch.publish(x, "both", b"1")
    ch.publish(x, first, b"2")
    ch.publish(x, "Both", b"3")
    ch.publish(x, "both ", b"4")
    assert ch.drain(first) == [b"1", b"2"]
    assert ch.drain(second) == [b"1"]


def test_fanout_ignores_keys_and_arguments(ch: ChannelUnderTest, q: str, x: str) -> None:
    ch.declare_exchange(x, "fanout")
    ch.declare(q)
    ch.bind(q, x, "ignored", arguments={"x-match": "nonsense"})
    ch.publish(x, "anything", b"1")
    ch.publish(x, "", b"2")
    assert ch.drain(q) == [b"1", b"2"]


# Routing: topic

TOPIC_CASES = [
    ("a.b.c", ["a.b.c"], ["a.b", "a.b.c.d", "A.b.c", "a.b.", ""]),
    ("a.*.c", ["a.b.c", "a..c", "a.*.c"], ["a.c", "a.b.b.c"]),
    ("*", ["a"], ["", "a.b", "."]),
    ("*.*", ["a.b", ".", "a."], ["a", "", "a.b.c"]),
    ("#", ["", "a", "a.b", ".", "..."], []),
    ("a.#", ["a", "a.", "a.b", "a.b.c"], ["b.a", "", "ab"]),
    ("#.a", ["a", "b.a", ".a", "c.b.a"], ["a.b", ""]),
    ("a.#.b", ["a.b", "a..b", "a.x.b", "a.x.y.b"], ["a", "b", "a.b.c"]),
    ("#.a.#", ["a", "x.a", "a.x", "x.a.y"], ["x", ""]),
    ("#.#", ["", "a", "a.b", "."], []),
    ("*.#", ["a", "a.b"], [""]),
    ("#.*", ["a", "a.b"], [""]),
    ("*.#.*", ["a.b", "a.b.c", "."], ["a", ""]),
    ("a.*.#.b.#", ["a.x.b", "a.x.y.b.z", "a.b.b"], ["a.b", "a.b.c"]),
    ("#.b.*.#.d", ["b.c.d", "a.b.c.x.d", "b.b.d"], ["b.d", "b.c.d.e"]),
    ("", [""], ["a", "."]),
    ("a..b", ["a..b"], ["a.b", "a.x.b"]),
    (".a", [".a"], ["a", "..a"]),
    ("a*", ["a*"], ["ab", "a"]),
    ("#a", ["#a"], ["a", "ba"]),
    ("käse.#", ["käse.🧀", "käse"], ["kase"]),
]


@pytest.mark.parametrize(("pattern", "matching", "others"), TOPIC_CASES, ids=[f"({case[0]})" for case in TOPIC_CASES])
def test_topic(ch: ChannelUnderTest, q: str, x: str, pattern: str, matching: list[str], others: list[str]) -> None:
    """Which routing keys a pattern matches: words stand between dots and may be empty; the empty key has no word."""
    ch.declare_exchange(x, "topic")
    ch.declare(q)
    ch.bind(q, x, pattern)
    keys = [*matching, *others]
    for key in keys:
        ch.publish(x, key, key.encode())
    assert [body.decode() for body in ch.drain(q)] == matching


def test_topic_with_many_patterns(broker: BrokerUnderTest, ch: ChannelUnderTest, x: str) -> None:
    ch.declare_exchange(x, "topic")
    patterns = ["a.b", "a.*", "*.b", "#", "a.#", "#.b", "b.#", "a.#.b", "*"]
    queues = {pattern: broker.queue_name(f"q{number}") for number, pattern in enumerate(patterns)}
    for pattern, queue in queues.items():
        ch.declare(queue)
        ch.bind(queue, x, pattern)
    ch.publish(x, "a.b", b"")
    got = [pattern for pattern, queue in queues.items() if ch.get(queue) is not None]
    assert got == ["a.b", "a.*", "*.b", "#", "a.#", "#.b", "a.#.b"]


def test_topic_unbind_leaves_the_other_patterns(ch: ChannelUnderTest, q: str, x: str) -> None:
    ch.declare_exchange(x, "topic")
    ch.declare(q)
    for pattern in ("a.#", "a.b", "a.b.#"):
        ch.bind(q, x, pattern)
    ch.call(Queue.Unbind, queue=q, exchange=x, routing_key="a.#")
    ch.call(Queue.Unbind, queue=q, exchange=x, routing_key="a.b.#")
    assert routed(ch, x, "a.b")
    assert not routed(ch, x, "a.b.c")
    assert not routed(ch, x, "a")


# Routing: headers

HEADERS_CASES: dict[str, tuple[dict[str, Any], dict[str, Any] | None, bool]] = {
    "all matches": ({"x-match": "all", "a": 1, "b": "x"}, {"a": 1, "b": "x", "c": 2}, True),
    "all needs all": ({"x-match": "all", "a": 1, "b": "x"}, {"a": 1}, False),
    "all is the default": ({"a": 1, "b": "x"}, {"a": 1}, False),
    "the default matches": ({"a": 1}, {"a": 1}, True),
    "any needs one": ({"x-match": "any", "a": 1, "b": "x"}, {"b": "x"}, True),
    "any needs at least one": ({"x-match": "any", "a": 1}, {"b": 1}, False),
    "no arguments match everything": ({}, {"a": 1}, True),
    "no arguments match no headers": ({}, None, True),
    "all of nothing": ({"x-match": "all"}, {}, True),
    "any of nothing": ({"x-match": "any"}, {"a": 1}, False),
    "all without headers": ({"a": 1}, None, False),
    "any without headers": ({"x-match": "any", "a": 1}, None, False),
    "all skips x-": ({"x-match": "all", "x-a": 1, "b": 1}, {"b": 1}, True),
    "any skips x-": ({"x-match": "any", "x-a": 1, "b": 1}, {"x-a": 1}, False),
    "all-with-x": ({"x-match": "all-with-x", "x-a": 1, "b": 1}, {"b": 1}, False),
    "all-with-x matches": ({"x-match": "all-with-x", "x-a": 1, "b": 1}, {"b": 1, "x-a": 1}, True),
    "any-with-x": ({"x-match": "any-with-x", "x-a": 1}, {"x-a": 1}, True),
    "void asks for presence": ({"a": T("V", None)}, {"a": "anything"}, True),
    "void asks for presence, absent": ({"a": T("V", None)}, {"b": 1}, False),
    "void in any": ({"x-match": "any", "a": T("V", None)}, {"a": 0}, True),
    "int and text": ({"a": 1}, {"a": "1"}, False),
    "int and long": ({"a": T("I", 1)}, {"a": T("l", 1)}, True),
    "int and byte": ({"a": T("I", 1)}, {"a": T("b", 1)}, True),
    "int and double": ({"a": T("I", 1)}, {"a": T("d", 1.0)}, True),
    "int and bool": ({"a": T("I", 1)}, {"a": True}, False),
    "float and double": ({"a": T("f", 0.5)}, {"a": T("d", 0.5)}, True),
    "text and bytes": ({"a": "x"}, {"a": T("x", b"x")}, True),
    "timestamp and int": ({"a": T("T", 5)}, {"a": T("I", 5)}, True),
    "case matters": ({"a": "x"}, {"a": "X"}, False),
    "name's case matters": ({"a": "x"}, {"A": "x"}, False),
    "array": ({"a": [1, "x"]}, {"a": [1, "x"]}, True),
    "array of other types": ({"a": [T("I", 1)]}, {"a": [T("l", 1)]}, False),
    "table": ({"a": {"b": 1}}, {"a": {"b": 1}}, True),
    "bool": ({"a": True}, {"a": True}, True),
    "other bool": ({"a": True}, {"a": False}, False),
    "decimal": ({"a": T("D", (2, 314))}, {"a": T("D", (2, 314))}, True),
}


@pytest.mark.parametrize("case", HEADERS_CASES)
def test_headers(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str, x: str, case: str) -> None:
    arguments, headers, expected = HEADERS_CASES[case]
    if case == "int and double":
        expected = broker.differs("numbers-in-headers")
    ch.declare_exchange(x, "headers")
    ch.declare(q)
    ch.bind(q, x, "ignored", arguments=arguments)
    properties = {} if headers is None else {"headers": headers}
    assert routed(ch, x, "other", **properties) is expected


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("nonsense", 'Invalid x-match field value <<"nonsense">>; expected all, any, all-with-x, or any-with-x'),
        (T("I", 1), "Invalid x-match field type signedint (value 1); expected longstr"),
    ],
    ids=["value", "type"],
)  # fmt: skip
def test_headers_binding_with_a_wrong_match(ch: ChannelUnderTest, q: str, x: str, value: object, text: str) -> None:
    ch.declare_exchange(x, "headers")
    ch.declare(q)
    ch.send(Queue.Bind, queue=q, exchange=x, arguments={"x-match": value, "a": 1})
    ch.expect_close(406, text, cause=Queue.Bind)


def test_headers_bindings_differ_by_their_arguments(ch: ChannelUnderTest, q: str, x: str) -> None:
    ch.declare_exchange(x, "headers")
    ch.declare(q)
    ch.bind(q, x, arguments={"a": 1})
    ch.bind(q, x, arguments={"a": 2})
    ch.call(Queue.Unbind, queue=q, exchange=x, arguments={"a": 1})
    assert not routed(ch, x, headers={"a": 1})
    assert routed(ch, x, headers={"a": 2})
