"""AMQP 1.0's sessions and links beyond the everyday, asked of RabbitMQ 4 and of ours as 4: windows, settle modes,
sizes, priorities, what goes back and in which order, streams. After RabbitMQ's own cases (amqp_client_SUITE).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from amqp_broker.protocols.amqp10.compound import Described, Map
from amqp_broker.protocols.amqp10.encoding import symbols
from amqp_broker.protocols.amqp10.performatives import (
    ACCEPTED,
    ATTACH,
    BEGIN,
    DETACH,
    DISPOSITION,
    END,
    FLOW,
    MODIFIED,
    REJECTED,
    RELEASED,
    SOURCE,
    TARGET,
    TRANSFER,
    composite,
)
from amqp_broker.protocols.amqp10.typed import Int, Symbol, UByte, UInt, ULong
from interop import waiting
from interop.amqp10_client import WINDOW, Amqp10Client, Frame
from interop.raw_client import ChannelUnderTest, Exchange, Queue
from interop.under_test import BrokerUnderTest
from tests.support.amqp10_client import annotations_of, message, section, sections_of

FIRST_OF_LINK = 0xFFFF_FFFB
DELETE_ON_CLOSE = 0x2B  # a lifetime policy


@pytest.fixture
def client(broker: BrokerUnderTest) -> Iterator[Amqp10Client]:
    if broker.version < (4, 0):
        pytest.skip("AMQP 1.0 is RabbitMQ 4's own")
    with Amqp10Client(broker.address.port) as made:
        yield made


@pytest.fixture
def ch(broker: BrokerUnderTest, client: Amqp10Client) -> ChannelUnderTest:
    return broker.channel()


def queue(ch: ChannelUnderTest, broker: BrokerUnderTest, base: str = "q", **arguments: Any) -> str:
    name = broker.queue_name(base)
    ch.declare(name, durable=True, arguments={key.replace("_", "-"): value for key, value in arguments.items()})
    return name


def publish(client: Amqp10Client, name: str, *bodies: str) -> None:
    client.sender(f"/queues/{name}", 9)
    for body in bodies:
        assert client.publish(message(body.encode()), 9) == ACCEPTED


def body_of(frame: Frame) -> str:
    return str(sections_of(frame.payload)[0x75].decode())


def taken(client: Amqp10Client, count: int) -> list[Frame]:
    return [client.expect(TRANSFER) for _ in range(count)]


def ended(client: Amqp10Client) -> tuple[str, str]:
    """The condition and the words of the end that comes."""
    while True:
        frame = client.take()
        assert frame is not None
        if frame.code == END:
            error = frame.field(0)
            return str(error.value[0]), str(error.value[1])


# --- settling


@pytest.mark.parametrize(("mode", "settled"), [(0, True), (1, False)])
def test_a_transfer_that_is_settled_otherwise_than_its_link(
    broker: BrokerUnderTest, client: Amqp10Client, ch: ChannelUnderTest, mode: int, settled: bool
) -> None:
    name = queue(ch, broker)
    source, target = composite(SOURCE, []), composite(TARGET, [f"/queues/{name}"])
    client.send(ATTACH, "out", UInt(0), False, UByte(mode), None, source, target, None, None, UInt(0))
    client.expect(FLOW)
    client.transfer(message(b"x"), settled=settled)
    modes = ("unsettled", "settled")
    said = f"sender settle mode is '{modes[mode]}' but transfer settled flag is interpreted as being "
    assert ended(client) == ("amqp:connection:framing-error", f"{said}'{str(settled).lower()}'")


def test_an_outcome_that_there_is_not(broker: BrokerUnderTest, client: Amqp10Client, ch: ChannelUnderTest) -> None:
    name = queue(ch, broker)
    source = composite(SOURCE, [f"/queues/{name}", *[None] * 8, symbols("amqp:accepted:list", "mine:list")])
    client.send(ATTACH, "in", UInt(1), True, None, None, source, composite(TARGET, []))
    assert ended(client)[0] == "amqp:not-implemented"


def test_outcomes_that_the_client_names(broker: BrokerUnderTest, client: Amqp10Client, ch: ChannelUnderTest) -> None:
    name = queue(ch, broker)
    named = symbols("amqp:accepted:list", "amqp:released:list")
    source = composite(SOURCE, [f"/queues/{name}", *[None] * 8, named])
    client.send(ATTACH, "in", UInt(1), True, None, None, source, composite(TARGET, []))
    assert client.expect(ATTACH).field(5).value[9] == named


@pytest.mark.parametrize("properties", [False, True], ids=["of any kind", "with properties"])
@pytest.mark.parametrize("is_receiver", [True, False], ids=["source", "target"])
def test_dynamic_nodes(broker: BrokerUnderTest, client: Amqp10Client, is_receiver: bool, properties: bool) -> None:
    dynamic: list[Any] = [None, None, None, None, True]
    lifetime = Map([(Symbol("lifetime-policy"), Described(ULong(DELETE_ON_CLOSE), []))])
    if properties:
        dynamic = [None, UInt(0), Symbol("link-detach"), UInt(0), True, lifetime]
    source = composite(SOURCE, dynamic if is_receiver else [])
    target = composite(TARGET, [] if is_receiver else dynamic)
    client.send(ATTACH, "link", UInt(0), is_receiver, None, None, source, target, None, None, UInt(0))
    if not broker.differs("dynamic-nodes"):
        what = "sources" if is_receiver else "targets"
        assert ended(client) == ("amqp:not-implemented", f"Dynamic {what} not supported")
        return
    address, *others = client.expect(ATTACH).field(5 if is_receiver else 6).value[:6]
    assert others == [0, "link-detach", 0, True, lifetime]
    if is_receiver:
        client.sender(address, 1)
        assert client.publish(message(b"m"), 1) == ACCEPTED
        client.flow(0, 1)
    else:
        assert client.expect(FLOW).field(6) > 0
        assert client.publish(message(b"m")) == ACCEPTED
        client.receiver(address, 1, credit=1)
    assert body_of(taken(client, 1)[0]) == "m"


def test_many_go_back_in_their_order(broker: BrokerUnderTest, client: Amqp10Client, ch: ChannelUnderTest) -> None:
    name = queue(ch, broker)
    publish(client, name, *"abcdef")
    client.receiver(f"/queues/{name}", credit=6)
    first, *_ = taken(client, 6)
    number = first.field(1)
    client.send(DISPOSITION, True, UInt(number + 1), UInt(number + 3), True, composite(RELEASED, []))
    client.send(DISPOSITION, True, UInt(number), UInt(number + 5), True, composite(ACCEPTED, []))
    client.flow(1, 6, count=(FIRST_OF_LINK + 6) & 0xFFFF_FFFF)
    assert [body_of(one) for one in taken(client, 3)] == ["b", "c", "d"]


def test_a_settlement_that_is_not_settled_is_answered(
    broker: BrokerUnderTest, client: Amqp10Client, ch: ChannelUnderTest
) -> None:
    name = queue(ch, broker)
    publish(client, name, "a")
    client.receiver(f"/queues/{name}", credit=1)
    (got,) = taken(client, 1)
    client.send(DISPOSITION, True, UInt(got.field(1)), None, False, composite(ACCEPTED, []))
    answer = client.expect(DISPOSITION)
    assert (answer.field(0), answer.field(1), answer.field(3)) == (False, got.field(1), True)
    waiting.until(lambda: ch.depth(name)[0] == 0)


@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_detach_gives_back(broker: BrokerUnderTest, client: Amqp10Client, ch: ChannelUnderTest, kind: str) -> None:
    name = queue(ch, broker, x_queue_type=kind)
    publish(client, name, "a", "b", "c")
    client.receiver(f"/queues/{name}", credit=2)
    taken(client, 2)
    client.send(DETACH, UInt(1), True)
    client.expect(DETACH)
    client.receiver(f"/queues/{name}", 2, credit=3)
    assert sorted(body_of(one) for one in taken(client, 3)) == ["a", "b", "c"]


def test_who_settles_as_it_likes(broker: BrokerUnderTest, client: Amqp10Client, ch: ChannelUnderTest) -> None:
    name = queue(ch, broker)
    source, target = composite(SOURCE, []), composite(TARGET, [f"/queues/{name}"])
    client.send(ATTACH, "out", UInt(0), False, UByte(2), None, source, target, None, None, UInt(0))
    assert client.expect(ATTACH).field(3) == 2
    client.expect(FLOW)
    client.transfer(message(b"1"), settled=True)
    assert client.publish(message(b"2")) == ACCEPTED
    client.transfer(message(b"3"), settled=True)
    waiting.until(lambda: ch.depth(name)[0] == 3)


@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_dead_letters_keep_their_order(
    broker: BrokerUnderTest, client: Amqp10Client, ch: ChannelUnderTest, kind: str
) -> None:
    dead = queue(ch, broker, "dead")
    name = queue(ch, broker, x_queue_type=kind, x_dead_letter_exchange="", x_dead_letter_routing_key=dead)
    publish(client, name, *"abcd")
    client.receiver(f"/queues/{name}", credit=4)
    first, *_ = taken(client, 4)
    client.send(DISPOSITION, True, first.field(1), UInt(first.field(1) + 3), True, composite(REJECTED, []))
    client.receiver(f"/queues/{dead}", 2, credit=4)
    assert [body_of(one) for one in taken(client, 4)] == ["a", "b", "c", "d"]


def test_what_is_said_of_a_message_says_where_it_goes_when_it_is_dead(
    broker: BrokerUnderTest, client: Amqp10Client, ch: ChannelUnderTest
) -> None:
    exchange, dead = broker.exchange_name(), queue(ch, broker, "dead")
    ch.declare_exchange(exchange, "headers")
    said = {"x-match": "any-with-x", "x-fruit": "apple"}
    ch.bind(dead, exchange, arguments=said)
    name = queue(ch, broker, x_queue_type="quorum", x_dead_letter_exchange=exchange)
    publish(client, name, "a")
    client.receiver(f"/queues/{name}", credit=1)
    (got,) = taken(client, 1)
    client.settle(got, MODIFIED, True, True, Map([(Symbol("x-fruit"), "apple")]))
    client.receiver(f"/queues/{dead}", 2, credit=1)
    (got,) = taken(client, 1)
    found = annotations_of(got.payload)
    assert (found["x-fruit"], found["x-last-death-reason"], found["x-first-death-queue"]) == ("apple", "rejected", name)


def test_a_message_that_is_too_old_dies(broker: BrokerUnderTest, client: Amqp10Client, ch: ChannelUnderTest) -> None:
    dead = queue(ch, broker, "dead")
    name = queue(ch, broker, x_dead_letter_exchange="", x_dead_letter_routing_key=dead)
    client.sender(f"/queues/{name}")
    client.publish(message(b"a", before=section(0x70, [True, None, UInt(1)])))
    client.receiver(f"/queues/{dead}", credit=1)
    (got,) = taken(client, 1)
    found = sections_of(got.payload)
    assert (found[0x75], found[0x70][2]) == (b"a", None)
    assert annotations_of(got.payload)["x-last-death-reason"] == "expired"


# --- windows, credit


@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_the_receiver_of_the_higher_priority_comes_first(
    broker: BrokerUnderTest, client: Amqp10Client, ch: ChannelUnderTest, kind: str
) -> None:
    name = queue(ch, broker, x_queue_type=kind)
    for handle, priority in ((1, None), (2, Map([(Symbol("rabbitmq:priority"), Int(5))]))):
        source, target = composite(SOURCE, [f"/queues/{name}"]), composite(TARGET, [])
        said = [f"in-{handle}", UInt(handle), True, None, None, source, target, *[None] * 6, priority]
        client.send(ATTACH, *said)
        client.expect(ATTACH)
        client.flow(handle, 2)
    handles = []
    client.sender(f"/queues/{name}", 9)
    for body in "abc":
        client.transfer(message(body.encode()), 9, settled=False)
        handles.append(client.expect(TRANSFER).field(0))
    assert handles == [2, 2, 1]


def test_transfers_that_a_closed_window_holds_go_with_their_link(
    broker: BrokerUnderTest, client: Amqp10Client, ch: ChannelUnderTest
) -> None:
    name = queue(ch, broker)
    publish(client, name, "a", "b")
    client.receiver(f"/queues/{name}")
    first_id = UInt(client.begin_answer.field(1))
    client.send(FLOW, first_id, UInt(0), UInt(2), UInt(WINDOW), UInt(1), UInt(FIRST_OF_LINK), UInt(2))
    client.send(DETACH, UInt(1), True)
    client.expect(DETACH)
    client.send(FLOW, first_id, UInt(WINDOW), UInt(2), UInt(WINDOW))
    client.receiver(f"/queues/{name}", 2, credit=2)
    assert [(one.field(0), body_of(one)) for one in taken(client, 2)] == [(2, "a"), (2, "b")]


def test_a_closed_window_holds_transfers_and_what_is_told_behind_them(
    broker: BrokerUnderTest, client: Amqp10Client, ch: ChannelUnderTest
) -> None:
    name = queue(ch, broker)
    publish(client, name, "a")
    client.receiver(f"/queues/{name}")
    first_id = UInt(client.begin_answer.field(1))
    grant = [first_id, UInt(0), UInt(1), UInt(WINDOW), UInt(1), UInt(FIRST_OF_LINK), UInt(2), None, True]
    client.send(FLOW, *grant)
    client.send(FLOW, first_id, UInt(5), UInt(1), UInt(WINDOW))
    first, second = client.take(), client.take()
    assert first is not None
    assert second is not None
    assert (first.code, second.code) == (TRANSFER, FLOW)
    assert (second.field(4), second.field(6), second.field(8)) == (1, 0, True)


def test_a_flow_that_leads(broker: BrokerUnderTest, client: Amqp10Client) -> None:
    client.send(FLOW, UInt(3), UInt(WINDOW), UInt(0), UInt(WINDOW))
    said = f"next-incoming-id from FLOW (3) leads next-outgoing-id ({client.begin_answer.field(1)})"
    assert ended(client) == ("amqp:session:window-violation", said)


@pytest.mark.parametrize("kind", ["classic", "quorum", "stream"])
def test_how_much_there_is(broker: BrokerUnderTest, client: Amqp10Client, ch: ChannelUnderTest, kind: str) -> None:
    name = queue(ch, broker, x_queue_type=kind)
    publish(client, name, "a", "b", "c")
    receive(client, name, **{"rabbitmq:stream-offset-spec": "first"})
    client.flow(1, 3)
    taken(client, 3)
    client.flow(1, 5, count=(FIRST_OF_LINK + 3) & 0xFFFF_FFFF, drain=True)
    flow = client.expect(FLOW)
    while flow.field(4) != 1:
        flow = client.expect(FLOW)
    assert (flow.field(5), flow.field(6), flow.field(7)) == ((FIRST_OF_LINK + 8) & 0xFFFF_FFFF, 0, 0)


def test_a_single_active_consumer_drains_and_so_does_the_other(
    broker: BrokerUnderTest, client: Amqp10Client, ch: ChannelUnderTest
) -> None:
    name = queue(ch, broker, x_single_active_consumer=True)
    client.receiver(f"/queues/{name}", 1)
    client.receiver(f"/queues/{name}", 2)
    publish(client, name, "a", "b")
    client.flow(2, 10, count=FIRST_OF_LINK, drain=True)
    flow = client.expect(FLOW)
    assert (flow.field(4), flow.field(6)) == (2, 0)
    client.flow(1, 10, count=FIRST_OF_LINK, drain=True)
    got = taken(client, 2)
    assert [(one.field(0), body_of(one)) for one in got] == [(1, "a"), (1, "b")]
    assert client.expect(FLOW).field(4) == 1


# --- sizes, limits, ends


@pytest.mark.parametrize("is_settled", [False, True])  # what is settled is gone
def test_a_message_that_is_too_large_for_the_receiver(
    broker: BrokerUnderTest, client: Amqp10Client, ch: ChannelUnderTest, is_settled: bool
) -> None:
    name = queue(ch, broker)
    publish(client, name, "a" * 1000)
    source = composite(SOURCE, [f"/queues/{name}"])
    mode = UByte(1) if is_settled else None
    client.send(ATTACH, "in", UInt(1), True, mode, None, source, composite(TARGET, []), None, None, None, ULong(500))
    assert client.expect(ATTACH).field(10) == 500
    client.flow(1, 1)
    assert ended(client)[0] == "amqp:link:message-size-exceeded"
    waiting.until(lambda: ch.depth(name)[0] == (0 if is_settled else 1))


def test_sessions_and_links_have_a_most(broker: BrokerUnderTest, client: Amqp10Client) -> None:
    source, target = composite(SOURCE, []), composite(TARGET, [])
    client.send(ATTACH, "out", UInt(256), False, None, None, source, target, None, None, UInt(0))
    assert ended(client)[1] == "link handle value (256) exceeds maximum link handle value (255)"


def test_a_target_that_goes(broker: BrokerUnderTest, client: Amqp10Client, ch: ChannelUnderTest) -> None:
    exchange = broker.exchange_name()
    ch.call(Exchange.Declare, exchange=exchange)
    client.sender(f"/exchanges/{exchange}/k")
    ch.call(Exchange.Delete, exchange=exchange)
    assert client.publish(message(b"x")) == RELEASED
    detach = client.expect(DETACH)
    assert (detach.field(1), detach.field(2).value[0]) == (True, "amqp:not-found")


@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_a_queue_that_goes_takes_the_links_to_it_along(
    broker: BrokerUnderTest, client: Amqp10Client, ch: ChannelUnderTest, kind: str
) -> None:
    name = queue(ch, broker, x_queue_type=kind)
    publish(client, name, "a")
    ch.call(Queue.Delete, queue=name)
    detach = client.expect(DETACH)
    assert (detach.field(0), detach.field(1), detach.field(2).value[0]) == (9, True, "amqp:resource-deleted")


def test_somebody_elses_exclusive_queue(broker: BrokerUnderTest, client: Amqp10Client, ch: ChannelUnderTest) -> None:
    name = broker.queue_name()
    ch.declare(name, exclusive=True)
    client.send(ATTACH, "in", UInt(1), True, None, None, composite(SOURCE, [f"/queues/{name}"]), composite(TARGET, []))
    said = f"cannot obtain exclusive access to locked queue '{name}' in vhost '/'"
    condition, words = ended(client)
    assert (condition, words.startswith(said)) == ("amqp:resource-locked", True)


def test_who_says_to_be_somebody_else(broker: BrokerUnderTest, client: Amqp10Client, ch: ChannelUnderTest) -> None:
    name = queue(ch, broker)
    client.sender(f"/queues/{name}")
    assert client.publish(message(b"x", before=section(0x73, [None, b"guest"]))) == ACCEPTED
    client.transfer(message(b"x", before=section(0x73, [None, b"fake user"])))
    said = "user_id property set to 'fake user' but authenticated user was 'guest'"
    assert ended(client) == ("amqp:unauthorized-access", said)


def test_two_sessions_have_nothing_in_common(
    broker: BrokerUnderTest, client: Amqp10Client, ch: ChannelUnderTest
) -> None:
    from amqp_broker.protocols.amqp10.frames import AMQP, encode_frame
    from amqp_broker.protocols.amqp10.performatives import performative

    client.write(encode_frame(AMQP, 1, performative(BEGIN, [None, UInt(0), UInt(WINDOW), UInt(WINDOW)])))
    client.expect(BEGIN)
    client.attach_sender("/queues/nowhere-at-all")
    assert ended(client)[0] == "amqp:not-found"
    client.write(encode_frame(AMQP, 1, performative(END, [])))
    assert client.take() is not None


# --- streams


def receive(client: Amqp10Client, name: str, **filters: Any) -> None:
    """Attach a link that is filtered."""
    described = Map([(Symbol(key), Described(Symbol(key), value)) for key, value in filters.items()])
    source = composite(SOURCE, [f"/queues/{name}", *[None] * 6, described])
    client.send(ATTACH, "in", UInt(1), True, None, None, source, composite(TARGET, []))
    client.expect(ATTACH)


@pytest.mark.parametrize(
    ("place", "bodies"),
    [("first", ["a", "b"]), (ULong(2), ["c"]), ("10m", ["a", "b"]), (Int(1), ["b", "c"])],
)
def test_where_a_stream_is_read_from(
    broker: BrokerUnderTest, client: Amqp10Client, ch: ChannelUnderTest, place: Any, bodies: list[str]
) -> None:
    name = queue(ch, broker, x_queue_type="stream")
    publish(client, name, "a", "b", "c")
    receive(client, name, **{"rabbitmq:stream-offset-spec": place})
    client.flow(1, len(bodies))
    got = taken(client, len(bodies))
    assert [body_of(one) for one in got] == bodies
    first = annotations_of(got[0].payload)["x-stream-offset"]
    assert first == "abc".index(bodies[0])


@pytest.mark.parametrize("outcome", [ACCEPTED, RELEASED])
def test_a_stream_goes_on_whatever_the_outcome(
    broker: BrokerUnderTest, client: Amqp10Client, ch: ChannelUnderTest, outcome: int
) -> None:
    name = queue(ch, broker, x_queue_type="stream")
    publish(client, name, "a", "b")
    receive(client, name, **{"rabbitmq:stream-offset-spec": "first"})
    client.flow(1, 1)
    (got,) = taken(client, 1)
    client.settle(got, outcome)
    client.flow(1, 1, count=(FIRST_OF_LINK + 1) & 0xFFFF_FFFF)
    assert body_of(taken(client, 1)[0]) == "b"


def test_entries_are_filtered_by_their_values(
    broker: BrokerUnderTest, client: Amqp10Client, ch: ChannelUnderTest
) -> None:
    name = queue(ch, broker, x_queue_type="stream")
    client.sender(f"/queues/{name}", 9)
    for body, value in (("a", "apple"), ("b", None), ("c", "orange"), ("d", "apple")):
        filtered = Map([] if value is None else [(Symbol("x-stream-filter-value"), value)])
        assert client.publish(message(body.encode(), before=section(0x72, filtered)), 9) == ACCEPTED
    begins = {"rabbitmq:stream-offset-spec": "first"}
    for filters, bodies in (
        ({"rabbitmq:stream-filter": "apple"}, "ad"),
        ({"rabbitmq:stream-filter": ["apple", "orange"]}, "acd"),
        ({"rabbitmq:stream-filter": "apple", "rabbitmq:stream-match-unfiltered": True}, "abd"),
    ):
        receive(client, name, **begins, **filters)
        client.flow(1, 10)
        assert "".join(body_of(one) for one in taken(client, len(bodies))) == bodies
        client.send(DETACH, UInt(1), True)
        client.expect(DETACH)


def test_entries_are_filtered_by_their_properties(
    broker: BrokerUnderTest, client: Amqp10Client, ch: ChannelUnderTest
) -> None:
    name = queue(ch, broker, x_queue_type="stream")
    client.sender(f"/queues/{name}", 9)
    for body, subject in (("a", "one"), ("b", "two"), ("c", "three")):
        said = section(0x73, [None, None, None, subject]) + section(0x74, Map([("n", Int(len(subject)))]))
        assert client.publish(message(body.encode(), before=said), 9) == ACCEPTED
    properties = Described(Symbol("amqp:properties-filter"), Map([(Symbol("subject"), "&p:t")]))
    application = Described(Symbol("amqp:application-properties-filter"), Map([("n", Int(5))]))
    first = Described(Symbol("rabbitmq:stream-offset-spec"), "first")
    asked = [("rabbitmq:stream-offset-spec", first), ("by subject", properties), ("by number", application)]
    filters = Map([(Symbol(key), value) for key, value in asked])
    source = composite(SOURCE, [f"/queues/{name}", *[None] * 6, filters])
    client.send(ATTACH, "in", UInt(1), True, None, None, source, composite(TARGET, []))
    applied = client.expect(ATTACH).field(5).value[7]
    client.flow(1, 10)
    if broker.differs("property-filters"):
        assert applied == filters
        assert [body_of(one) for one in taken(client, 1)] == ["c"]
    else:
        assert [body_of(one) for one in taken(client, 3)] == ["a", "b", "c"]


@pytest.mark.parametrize("kind", ["classic", "stream"])
def test_an_attach_is_answered_with_the_filters_that_are_applied(
    broker: BrokerUnderTest, client: Amqp10Client, ch: ChannelUnderTest, kind: str
) -> None:
    name = queue(ch, broker, x_queue_type=kind)
    asked = [
        (Symbol("rabbitmq:stream-offset-spec"), Described(Symbol("rabbitmq:stream-offset-spec"), "first")),
        (Symbol("mine"), Described(Symbol("mine:filter"), "x")),
    ]
    source = composite(SOURCE, [f"/queues/{name}", *[None] * 6, Map(asked)])
    client.send(ATTACH, "in", UInt(1), True, None, None, source, composite(TARGET, []))
    answered = client.expect(ATTACH).field(5).value[7]
    if broker.differs("filters-in-force"):
        assert answered == Map(asked[:1] if kind == "stream" else [])
    else:
        assert answered == Map(asked)


def test_what_comes_by_1_0_goes_by_0_9_1(broker: BrokerUnderTest, client: Amqp10Client, ch: ChannelUnderTest) -> None:
    name = queue(ch, broker, x_queue_type="stream")
    client.sender(f"/queues/{name}")
    properties = [ULong(5), b"guest", None, "subject", "reply", "c", Symbol("text/plain"), None, None, None, "group"]
    before = (
        section(0x70, [True, UByte(3)])
        + section(0x72, Map([(Symbol("x-here"), "yes"), (Symbol("x-number"), Int(-1))]))
        + section(0x73, properties)
        + section(0x74, Map([("n", UByte(3)), ("s", "x"), ("f", 1.5), ("b", True), ("long", -(2**40))]))
    )
    assert client.publish(message(b"data", before=before)) == ACCEPTED
    assert client.publish(section(0x77, "value")) == ACCEPTED
    ch.qos(10)
    ch.consume(name, arguments={"x-stream-offset": "first"})
    data, value = ch.deliveries(2)
    said = data.properties
    headers = {key: one for key, one in said.pop("headers").items() if key != "x-amqp-1.0-sections"}
    assert headers == {
        "n": 3, "s": "x", "f": 1.5, "b": True, "long": -(2**40), "x-here": "yes", "x-number": -1, "x-stream-offset": 0,
    }  # fmt: skip
    assert said == {
        "message_id": "5", "user_id": "guest", "reply_to": "reply", "correlation_id": "c", "content_type": "text/plain",
        "app_id": "group", "priority": 3, "delivery_mode": 2,
    }  # fmt: skip
    assert (data.body, data.exchange, data.routing_key) == (b"data", "", name)
    assert (value.properties["message_type"], value.body) == ("amqp-1.0", section(0x77, "value"))


def test_dead_letters_go_into_a_stream(broker: BrokerUnderTest, client: Amqp10Client, ch: ChannelUnderTest) -> None:
    stream = queue(ch, broker, "stream", x_queue_type="stream")
    name = queue(ch, broker, x_dead_letter_exchange="", x_dead_letter_routing_key=stream, x_message_ttl=1)
    client.sender(f"/queues/{name}")
    properties = section(0x73, ["id", None, None, "subject"])
    assert client.publish(message(b"dead", before=properties)) == ACCEPTED
    receive(client, stream, **{"rabbitmq:stream-offset-spec": "first"})
    client.flow(1, 1)
    (got,) = taken(client, 1)
    found, said = sections_of(got.payload), annotations_of(got.payload)
    assert (found[0x75], found[0x73][:4]) == (b"dead", ["id", None, None, "subject"])
    assert (said["x-first-death-reason"], said["x-stream-offset"], said["x-routing-key"]) == ("expired", 0, stream)
    assert len(said["x-opt-deaths"].items) == 1
