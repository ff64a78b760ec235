"""Management over AMQP 1.0's links, asked of RabbitMQ 4 and of ours as 4: what is declared, what is refused and in
which words, pairs of links, and their credit. After RabbitMQ's own cases (rabbitmq_amqp_client's management_SUITE).
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from amqp_broker.protocols.amqp10.compound import Map
from amqp_broker.protocols.amqp10.frames import AMQP, encode_frame
from amqp_broker.protocols.amqp10.performatives import (
    ACCEPTED,
    ATTACH,
    BEGIN,
    DETACH,
    FLOW,
    RELEASED,
    SOURCE,
    TARGET,
    TRANSFER,
    composite,
    performative,
)
from amqp_broker.protocols.amqp10.typed import Symbol, UByte, UInt, ULong
from interop import waiting
from interop.amqp10_client import WINDOW, Amqp10Client
from interop.raw_client import ChannelUnderTest, Exchange, Queue
from interop.test_amqp10 import Manager
from interop.test_amqp10_links import ended
from interop.under_test import BrokerUnderTest
from tests.support.amqp10_client import message, section, sections_of

LINE_FEED = "\N{FACE WITH COWBOY HAT}\n\N{FACE SCREAMING IN FEAR}"
BAD_NAME = "Bad name '{}': line feed and carriage return characters not allowed"
OF_THE_DEFAULT_EXCHANGE = "operation not permitted on the default exchange"
LOCKED = (
    "cannot obtain exclusive access to locked queue '{}' in vhost '/'. It could be originally declared on another "
    "connection or the exclusive property value does not match that of the original declaration."
)


def binding(source: str, destination: str, key: str = "k", arguments: Map | None = None, kind: str = "queue") -> Map:
    ends = [("source", source), (f"destination_{kind}", destination), ("binding_key", key)]
    return Map([*ends, ("arguments", Map([]) if arguments is None else arguments)])


def path(kind: str, name: str) -> str:
    return f"/{kind}/{quote(name, safe='')}"


# --- what is declared


def test_a_queue_is_durable_unless_it_is_said(
    broker: BrokerUnderTest, amqp10: Amqp10Client, ch: ChannelUnderTest
) -> None:
    manager, name = Manager(amqp10), broker.queue_name("my \N{RABBIT} `~!@#$%^&*()_+-=[]\\;',./")
    _, declared = manager.ask("PUT", path("queues", name), Map([]))
    assert [declared.get(flag) for flag in ("durable", "exclusive", "auto_delete")] == [True, False, False]
    assert (declared.get("name"), declared.get("vhost")) == (name, "/")
    assert (declared.get("message_count"), declared.get("consumer_count")) == (0, 0)
    assert manager.ask("PUT", path("queues", name), Map([])) == ("200", declared)
    assert manager.ask("GET", path("queues", name)) == ("200", declared)
    ch.call(Queue.Declare, queue=name, durable=True)


def test_a_queue_that_is_exclusive_and_goes_by_itself(broker: BrokerUnderTest, amqp10: Amqp10Client) -> None:
    manager, name = Manager(amqp10), broker.queue_name()
    asked = Map([("exclusive", True), ("auto_delete", True)])
    _, declared = manager.ask("PUT", path("queues", name), asked)
    durable = not broker.differs("exclusive-and-durable")
    assert [declared.get(flag) for flag in ("durable", "exclusive", "auto_delete")] == [durable, True, True]
    assert manager.ask("PUT", path("queues", name), Map([("auto_delete", True)])) == ("400", LOCKED.format(name))


def test_an_exchange_is_direct_and_durable_unless_it_is_said(
    broker: BrokerUnderTest, amqp10: Amqp10Client, ch: ChannelUnderTest
) -> None:
    manager, plain, other = Manager(amqp10), broker.exchange_name("plain"), broker.exchange_name("\N{PARTY POPPER}")
    assert manager.ask("PUT", path("exchanges", plain), Map([])) == ("204", None)
    ch.call(Exchange.Declare, exchange=plain, exchange_type="direct", durable=True)
    arguments = Map([("x-\N{INBOX TRAY}", "\N{POSTBOX}")])
    asked = Map([("type", "fanout"), ("auto_delete", True), ("internal", False), ("arguments", arguments)])
    for _ in range(2):
        assert manager.ask("PUT", path("exchanges", other), asked) == ("204", None)
    ch.call(
        Exchange.Declare,
        exchange=other,
        exchange_type="fanout",
        durable=True,
        auto_delete=True,
        arguments={"x-\N{INBOX TRAY}": "\N{POSTBOX}"},
    )


def test_bindings_have_arguments_which_count(broker: BrokerUnderTest, amqp10: Amqp10Client) -> None:
    manager, name = Manager(amqp10), broker.queue_name()
    manager.ask("PUT", path("queues", name), Map([]))
    wanted = [("key 1", "\N{CLAPPING HANDS SIGN}"), ("key 2", UInt(3)), ("key 3", True)]
    asked = binding("amq.headers", name, "", Map([*wanted, ("x-match", "all")]))
    assert manager.ask("POST", "/bindings", asked) == ("204", None)
    amqp10.sender("/exchanges/amq.headers", 5)
    whole, part = (section(0x74, Map(pairs)) for pairs in (wanted, wanted[:2]))
    assert amqp10.publish(message(b"m", before=whole), 5) == ACCEPTED
    assert amqp10.publish(message(b"m", before=part), 5) == RELEASED
    status, (found,) = manager.ask("GET", f"/bindings?src=amq.headers&dstq={quote(name)}&key=")
    assert (status, dict(found.get("arguments").pairs)) == ("200", {**dict(wanted), "x-match": "all"})
    assert manager.ask("DELETE", found.get("location")) == ("204", None)
    assert manager.ask("DELETE", found.get("location")) == ("204", None)
    assert amqp10.publish(message(b"m", before=whole), 5) == RELEASED
    assert manager.ask("DELETE", path("queues", name)) == ("200", Map([("message_count", ULong(1))]))


def test_exchanges_are_bound_to_each_other(broker: BrokerUnderTest, amqp10: Amqp10Client) -> None:
    manager, name, exchange = Manager(amqp10), broker.queue_name(), broker.exchange_name()
    manager.ask("PUT", path("queues", name), Map([]))
    manager.ask("PUT", path("exchanges", exchange), Map([("type", "fanout")]))
    assert manager.ask("POST", "/bindings", binding(exchange, name, "ignored")) == ("204", None)
    arguments = Map([(" \N{GRIMACING FACE} ", " \N{GRIMACING FACE} ")])
    asked = binding("amq.direct", exchange, "key 2", arguments, "exchange")
    for _ in range(2):
        assert manager.ask("POST", "/bindings", asked) == ("204", None)
    amqp10.sender("/exchanges/amq.direct/key%202", 5)
    assert amqp10.publish(message(b"m"), 5) == ACCEPTED
    _, (found,) = manager.ask("GET", f"/bindings?src=amq.direct&dste={quote(exchange)}&key=key%202")
    assert manager.ask("DELETE", found.get("location")) == ("204", None)
    assert amqp10.publish(message(b"m"), 5) == RELEASED


# --- what is refused


@pytest.mark.parametrize(
    ("method", "target", "body", "status", "words"),
    [
        ("GET", "\N{THUMBS DOWN SIGN}", None, "400", "failed to normalize URI '{0}': invalid_uri \"{0}\""),
        ("PUT", "/queues/a b", Map([]), "400", "failed to normalize URI '{0}': invalid_uri \" \""),
        ("PUT", "/queues/mine", Map([("unknown", "bla")]), "400", "bad queue property "),
        ("PUT", "/exchanges/mine", Map([("unknown", "bla")]), "400", "bad exchange property "),
        ("PUT", "/exchanges/mine", Map([("type", "\N{SHRUG}")]), "400", "unknown exchange type '\N{SHRUG}'"),
        ("GET", path("queues", "\N{SHRUG}"), None, "404", "queue '\N{SHRUG}' in vhost '/' not found"),
        ("PUT", "/queues/", Map([]), "400", "declare queue with empty name not allowed"),
        ("PUT", path("queues", LINE_FEED), Map([]), "400", BAD_NAME.format(LINE_FEED)),
        ("PUT", path("exchanges", LINE_FEED), Map([]), "400", BAD_NAME.format(LINE_FEED)),
        ("DELETE", "/exchanges/x%0Dx", None, "400", BAD_NAME.format("x\rx")),
        ("PUT", "/exchanges/", Map([]), "403", OF_THE_DEFAULT_EXCHANGE),
        ("DELETE", "/exchanges/", None, "403", OF_THE_DEFAULT_EXCHANGE),
        ("POST", "/bindings", binding("", "mine", kind="exchange"), "403", OF_THE_DEFAULT_EXCHANGE),
        ("POST", "/bindings", binding("amq.fanout", "", kind="exchange"), "403", OF_THE_DEFAULT_EXCHANGE),
        ("POST", "/bindings", binding(LINE_FEED, "amq.fanout", kind="exchange"), "400", BAD_NAME.format(LINE_FEED)),
        ("POST", "/bindings", binding("amq.fanout", LINE_FEED, kind="exchange"), "400", BAD_NAME.format(LINE_FEED)),
        ("POST", "/bindings", binding("amq.direct", LINE_FEED), "400", BAD_NAME.format(LINE_FEED)),
        ("POST", "/bindings", binding("amq.direct", "nowhere"), "400", "no queue 'nowhere' in vhost '/'"),
        (
            "DELETE",
            "/bindings/src=e1;dstq=q1;invalidkey=k1;args=",
            None,
            "400",
            "bad binding path segment 'src=e1;dstq=q1;invalidkey=k1;args='",
        ),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_in_words(
    amqp10: Amqp10Client, method: str, target: str, body: Any, status: str, words: str
) -> None:
    answer, told = Manager(amqp10).ask(method, target, body)
    assert (answer, told[: len(words)] if words.endswith(" ") else told) == (status, words.format(target))


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (
            Map([("auto_delete", True)]),
            "409",
            "inequivalent arg 'auto_delete' for {}: received 'true' but current is 'false'",
        ),
        (
            Map([("auto_delete", True), ("arguments", Map([("x-queue-type", "stream")]))]),
            "400",
            "invalid property 'auto-delete' for {}",
        ),
        (
            Map([("arguments", Map([("x-queue-type", "stream"), ("x-dead-letter-exchange", "x")]))]),
            "409",
            "invalid arg 'x-dead-letter-exchange' for {} of queue type rabbit_stream_queue",
        ),
    ],
    ids=["there is another", "property", "argument"],
)  # fmt: skip
def test_a_queue_that_cannot_be(
    broker: BrokerUnderTest, amqp10: Amqp10Client, body: Map, status: str, words: str
) -> None:
    manager, name = Manager(amqp10), broker.queue_name()
    if status == "409" and body.get("auto_delete"):
        manager.ask("PUT", path("queues", name), Map([]))
    assert manager.ask("PUT", path("queues", name), body) == (status, words.format(f"queue '{name}' in vhost '/'"))


@pytest.mark.parametrize("request_name", ["bind", "delete", "purge"])
def test_somebody_elses_exclusive_queue(broker: BrokerUnderTest, amqp10: Amqp10Client, request_name: str) -> None:
    name = broker.queue_name()
    assert Manager(amqp10).ask("PUT", path("queues", name), Map([("exclusive", True)]))[0] == "201"
    requests: dict[str, tuple[str, str, Any]] = {
        "bind": ("POST", "/bindings", binding("amq.direct", name)),
        "delete": ("DELETE", path("queues", name), None),
        "purge": ("DELETE", f"{path('queues', name)}/messages", None),
    }
    with Amqp10Client(broker.address.port) as other:
        assert Manager(other).ask(*requests[request_name]) == ("400", LOCKED.format(name))


# --- the links


def attach(client: Amqp10Client, name: str, handle: int, *, is_receiver: bool) -> None:
    """One of a pair."""
    paired = Map([(Symbol("paired"), True)])
    node, other = composite(SOURCE, ["/management"]), composite(TARGET, ["/management"])
    count = None if is_receiver else UInt(0)
    said = [name, UInt(handle), is_receiver, UByte(1), UByte(0), node, other, None, None, count]
    client.send(ATTACH, *said, None, None, None, paired)
    client.expect(ATTACH)
    if not is_receiver:
        assert client.expect(FLOW).field(6) == 8


def request(client: Amqp10Client, handle: int, method: str, target: str, body: Any = None, number: int = 1) -> None:
    properties = section(0x73, [ULong(number), None, target, method, "$me"])
    client.transfer(properties + section(0x77, body), handle, settled=True)


def answered(client: Amqp10Client) -> tuple[int, str, int]:
    """The link, the status and the request's number of the next answer."""
    frame = client.expect(TRANSFER)
    found = sections_of(frame.payload)[0x73]
    return frame.field(0), found[3], found[5]


def test_requests_come_in_a_row(broker: BrokerUnderTest, amqp10: Amqp10Client, ch: ChannelUnderTest) -> None:
    names = [broker.queue_name(f"q{number}") for number in range(8)]
    attach(amqp10, "pair", 0, is_receiver=False)
    attach(amqp10, "pair", 1, is_receiver=True)
    for start, (method, body, status) in ((0, ("PUT", Map([]), "201")), (8, ("DELETE", None, "200"))):
        amqp10.flow(1, 8, count=0xFFFF_FFFB + start)
        for number, name in enumerate(names):
            request(amqp10, 0, method, path("queues", name), body, number)
        assert [answered(amqp10) for _ in names] == [(1, status, number) for number in range(8)]


def test_a_session_has_several_pairs_attached_and_detached_in_any_order(
    broker: BrokerUnderTest, amqp10: Amqp10Client
) -> None:
    name = broker.queue_name()
    attach(amqp10, "one", 0, is_receiver=False)
    attach(amqp10, "one", 1, is_receiver=True)
    attach(amqp10, "two", 2, is_receiver=True)
    attach(amqp10, "two", 3, is_receiver=False)
    for handle in (1, 2):
        amqp10.flow(handle, 1)
    request(amqp10, 0, "PUT", path("queues", name), Map([]))
    assert answered(amqp10) == (1, "201", 1)
    request(amqp10, 3, "DELETE", path("queues", name))
    assert answered(amqp10) == (2, "200", 1)
    for handle in (0, 1, 2, 3):
        amqp10.send(DETACH, UInt(handle), True)
        assert amqp10.expect(DETACH).field(0) == handle
    attach(amqp10, "one", 1, is_receiver=True)
    attach(amqp10, "one", 0, is_receiver=False)
    amqp10.flow(1, 1)
    request(amqp10, 0, "DELETE", path("queues", name))
    assert answered(amqp10) == (1, "200", 1)


def test_who_takes_no_answer_may_not_ask(amqp10: Amqp10Client) -> None:
    attach(amqp10, "pair", 0, is_receiver=False)
    attach(amqp10, "pair", 1, is_receiver=True)
    amqp10.flow(1, 2)
    amqp10.flow(1, 3, count=0xFFFF_FFFB, drain=True)
    drained = amqp10.expect(FLOW)
    assert (drained.field(4), drained.field(5), drained.field(6), drained.field(8)) == (1, 0xFFFF_FFFE, 0, True)
    request(amqp10, 0, "DELETE", "/queues/q1")
    condition, words = ended(amqp10)
    assert condition == "amqp:precondition-failed"
    assert words.startswith("insufficient credit (0) for management link")


def test_answers_wait_for_the_session_s_window(broker: BrokerUnderTest, amqp10: Amqp10Client) -> None:
    name = broker.queue_name()
    attach(amqp10, "pair", 0, is_receiver=False)
    attach(amqp10, "pair", 1, is_receiver=True)
    amqp10.flow(1, 1)
    first_id = UInt(amqp10.begin_answer.field(1))
    amqp10.send(FLOW, first_id, UInt(0), UInt(0), UInt(WINDOW))
    request(amqp10, 0, "PUT", path("queues", name), Map([]))
    with Amqp10Client(broker.address.port) as other:
        manager = Manager(other)
        waiting.until(lambda: manager.ask("GET", path("queues", name))[0] == "200")  # it is done all the same
    amqp10.write(encode_frame(AMQP, 1, performative(BEGIN, [None, UInt(0), UInt(WINDOW), UInt(WINDOW)])))
    frame = amqp10.take()
    assert frame is not None
    assert frame.code == BEGIN, "nothing comes before the window is open"
    amqp10.send(FLOW, first_id, UInt(1), UInt(1), UInt(WINDOW))
    assert answered(amqp10) == (1, "201", 1)
