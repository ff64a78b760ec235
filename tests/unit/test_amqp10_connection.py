"""AMQP 1.0's conversation in memory: login, links, credit, settlement, errors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from amqp_broker.access.client import Peer
from amqp_broker.access.passwords import NotVerifiedYet
from amqp_broker.access.users import User
from amqp_broker.broker.alarms import Resource
from amqp_broker.broker.message import digest_of
from amqp_broker.protocols.amqp10.compound import Described, Map
from amqp_broker.protocols.amqp10.connection import SILENT_CLOSE_MS
from amqp_broker.protocols.amqp10.decoding import decode
from amqp_broker.protocols.amqp10.encoding import encode, symbols
from amqp_broker.protocols.amqp10.errors import ProtocolError
from amqp_broker.protocols.amqp10.frames import AMQP, AMQP_HEADER, SASL_HEADER, encode_frame
from amqp_broker.protocols.amqp10.incoming import CREDIT
from amqp_broker.protocols.amqp10.management_links import ANSWERS_HELD_MAX
from amqp_broker.protocols.amqp10.performatives import (
    ACCEPTED,
    ATTACH,
    BEGIN,
    CLOSE,
    DETACH,
    DISPOSITION,
    END,
    FLOW,
    MODIFIED,
    OPEN,
    REJECTED,
    RELEASED,
    SASL_OUTCOME,
    SOURCE,
    TARGET,
    TRANSFER,
    composite,
    performative,
    read_performative,
)
from amqp_broker.protocols.amqp10.session import WINDOW
from amqp_broker.protocols.amqp10.typed import Flag, Int, Symbol, UByte, UInt, ULong
from amqp_broker.session.login import Refusal, Refused
from amqp_broker.wire.content import Properties, encode_content_header
from amqp_broker.wire.table import Timestamp
from tests.support.amqp10_client import LOOPBACK, Amqp10Client, annotations_of, message, section, sections_of
from tests.support.client import Client
from tests.support.disk_broker import DiskBroker
from tests.support.memory_broker import MemoryBroker


@pytest.fixture
def broker() -> MemoryBroker:
    return MemoryBroker()


def opened(broker: MemoryBroker, *queues: str, in_bytes: bool = False, **fields: Any) -> Amqp10Client:
    """A client with a session, and queues."""
    other = Client(broker).open().channel()
    for queue in queues:
        other.declare(queue, durable=True)
    client = Amqp10Client(broker, in_bytes=in_bytes)
    assert client.open(**fields).code == OPEN
    assert client.begin().code == BEGIN
    return client


# --- login


def assert_silent_end(client: Amqp10Client) -> None:
    """The client hears nothing, and after three seconds its connection ends."""
    assert isinstance(client.broker, MemoryBroker)
    assert client.read() == []
    client.broker.advance(SILENT_CLOSE_MS - 1)
    assert not client.connection.finished
    client.broker.advance(1)
    assert client.connection.finished
    assert client.read() == []


def assert_refused_late(client: Amqp10Client) -> None:
    """The client is told after three seconds that it may not log in, and after three more its connection ends."""
    assert isinstance(client.broker, MemoryBroker)
    assert client.read() == []
    client.broker.advance(SILENT_CLOSE_MS - 1)
    assert client.read() == []
    client.broker.advance(1)
    (outcome,) = client.read()
    assert (outcome.code, outcome.fields[0]) == (SASL_OUTCOME, 1)
    assert_silent_end(client)


@pytest.mark.parametrize(("mechanism", "response"), [("PLAIN", b"\0guest\0guest"), ("ANONYMOUS", b"")])
def test_who_logs_in_is_told_so(broker: MemoryBroker, mechanism: str, response: bytes) -> None:
    client = Amqp10Client(broker)
    assert client.login(mechanism, response) == 0
    assert client.headers == [SASL_HEADER]
    assert not client.connection.finished


@pytest.mark.parametrize(("name", "is_known"), [("ada", True), ("nobody", False), (None, False)])
def test_a_certificate_says_who_a_client_is(broker: MemoryBroker, name: str | None, is_known: bool) -> None:
    broker.administration.add_user("ada", "secret")
    client = Amqp10Client(broker, peer=replace(LOOPBACK, certificate_name=name))
    assert client.login("EXTERNAL", b"") == (0 if is_known else None)
    assert client.connection.user_name == ("ada" if is_known else "")


def test_who_may_not_log_in_is_told_so_late(broker: MemoryBroker) -> None:
    client = Amqp10Client(broker)
    assert client.login("PLAIN", b"\0guest\0no") is None
    client.write(AMQP_HEADER)  # it is not heard any more
    assert_refused_late(client)
    assert client.connection.close_reason == "user 'guest' - invalid credentials"


@pytest.mark.parametrize(("mechanism", "response"), [("SCRAM-SHA-1", b""), ("PLAIN", b"guest")])
def test_what_is_no_login_at_all_is_not_answered(broker: MemoryBroker, mechanism: str, response: bytes) -> None:
    client = Amqp10Client(broker)
    assert client.login(mechanism, response) is None
    assert_silent_end(client)


def test_who_does_not_say_who_it_is_is_not_the_administrator_of_the_settings() -> None:
    broker = MemoryBroker(default_user="shop", default_password="secret")
    client = Amqp10Client(broker)
    assert client.login("ANONYMOUS", b"") is None
    assert_refused_late(client)
    assert Amqp10Client(broker).login("PLAIN", b"\0shop\0secret") == 0


def test_nobody_comes_in_without_a_name_where_that_is_off() -> None:
    client = Amqp10Client(MemoryBroker(anonymous_login_user="none"))
    assert client.login("ANONYMOUS", b"") is None
    assert_silent_end(client)
    assert Amqp10Client(client.broker).login() == 0


def test_who_comes_in_without_a_name_is_whom_the_settings_name() -> None:
    client = Amqp10Client(MemoryBroker(default_user="shop", default_password="s", anonymous_login_user="shop"))
    assert client.login("ANONYMOUS", b"") is None
    assert_refused_late(client)
    client = Amqp10Client(
        MemoryBroker(
            default_user="shop", default_password="s", anonymous_login_user="shop", anonymous_login_password="s"
        )
    )
    assert client.login("ANONYMOUS", b"") == 0
    assert client.connection.user_name == "shop"


def test_who_comes_without_sasl_is_told_that_it_is_needed(broker: MemoryBroker) -> None:
    client = Amqp10Client(broker)
    client.write(AMQP_HEADER)
    assert (client.read(), client.headers) == ([], [SASL_HEADER])
    assert client.connection.finished


def test_behind_sasl_a_wrong_header_ends_the_connection_at_once(broker: MemoryBroker) -> None:
    client = Amqp10Client(broker)
    client.login()
    client.write(SASL_HEADER)
    assert (client.read(), client.headers) == ([], [SASL_HEADER])
    assert client.connection.finished


def test_close_before_open_is_answered(broker: MemoryBroker) -> None:
    client = Amqp10Client(broker)
    client.login()
    client.write(AMQP_HEADER)
    client.send(CLOSE)
    assert [one.code for one in client.read()] == [CLOSE]
    assert client.connection.finished


@pytest.mark.parametrize(
    ("settings", "hostname", "fields", "reason"),
    [
        ({}, "vhost:nowhere", {}, "amqp:not-found: vhost nowhere not found"),
        ({}, "vhost:shut", {}, "amqp:unauthorized-access: access to vhost 'shut' refused for user 'guest'"),
        (
            {"connections_max": 1},
            None,
            {},
            "amqp:resource-limit-exceeded: connection refused: node connection limit",
        ),
        ({}, None, {"frame_bytes": 511}, "amqp:frame-size-too-small: max_frame_size (511) < minimum"),
        ({}, None, {"container": None}, "amqp:decode-error: open has no container-id"),
        ({}, None, {"idle_ms": 999}, "amqp:not-allowed: idle-time-out (999 ms) < minimum"),
        ({}, "x" * 8_192, {}, "amqp:connection:framing-error: frame size (8"),
    ],
)
def test_who_is_not_let_in_waits_for_the_end_without_a_word(
    settings: dict[str, Any], hostname: str | None, fields: dict[str, Any], reason: str
) -> None:
    """As with RabbitMQ: some clients take an ``open`` before ``close`` for a success, and connect again without end."""
    broker = MemoryBroker(**settings)
    broker.administration.add_virtual_host("shut")
    Client(broker).open()
    client = Amqp10Client(broker)
    client.say_open(hostname, **fields)
    client.send(OPEN, "client")  # it is not heard any more
    assert_silent_end(client)
    assert client.headers == [SASL_HEADER, AMQP_HEADER]
    assert client.connection.close_reason.startswith(reason)
    assert client.connection.has_failed


@pytest.mark.parametrize("ends", [Amqp10Client.drop, lambda client: client.connection.shut_down("shutdown")])
def test_nothing_is_left_of_who_does_not_wait_for_a_silent_end(
    broker: MemoryBroker, ends: Callable[[Amqp10Client], None]
) -> None:
    before_ms = broker.timers.next_deadline_ms()
    client = Amqp10Client(broker)
    client.say_open("vhost:nowhere")
    ends(client)
    assert client.connection.finished
    assert client.connection.close_reason == "amqp:not-found: vhost nowhere not found"
    assert broker.timers.next_deadline_ms() == before_ms


def test_open_says_what_was_agreed_on(broker: MemoryBroker) -> None:
    answer = Amqp10Client(broker).open(channel_max=7)
    assert (answer.field(2), answer.field(3), answer.field(4)) == (131_072, 7, 30_000)
    assert answer.field(9).get("node") == "rabbit@localhost"  # as the HTTP API says


def test_a_flag_is_a_boolean_of_two_bytes() -> None:
    assert [encode(Flag(yes)) for yes in (True, False)] == [b"\x56\x01", b"\x56\x00"]
    assert decode(encode(Flag(True)), 0) == (True, 2)


# --- messages


def test_what_a_client_says_of_itself_is_seen_as_json_has_it(broker: MemoryBroker) -> None:
    said = Map([(Symbol("product"), "p"), (Symbol("x"), float("nan")), (Symbol("y"), [Symbol("z"), 1]), (1, 2)])
    opened(broker, properties=said)
    (connection,) = [one for one in broker.open_connections if one.inspect()["protocol"] == "AMQP 1-0"]
    assert connection.inspect()["client_properties"] == {"product": "p", "x": "nan", "y": ["z", 1]}


@pytest.mark.parametrize("in_bytes", [False, True])
def test_a_message_goes_from_sender_to_receiver(broker: MemoryBroker, in_bytes: bool) -> None:
    client = opened(broker, "q", in_bytes=in_bytes)
    attach, flow = client.sender("/queues/q")
    assert (attach.code, attach.field(2), flow.code, flow.field(6)) == (ATTACH, True, FLOW, CREDIT)
    delivery_id = client.transfer(message(b"one"))
    (settled,) = client.read()
    assert settled.code == DISPOSITION
    assert settled.fields == [True, UInt(delivery_id), None, True, Described(ULong(0x24), [])]
    attach, transfer = client.receiver("/queues/q", credit=1)
    assert attach.field(9) == 0xFFFF_FFFB
    found = sections_of(transfer.payload)
    assert found[0x75] == b"one"
    assert found[0x72] == Map([(Symbol("x-exchange"), ""), (Symbol("x-routing-key"), "q")])
    assert broker.queue("q").unacknowledged_count == 1
    client.settle(transfer.field(1))
    assert broker.queue("q").unacknowledged_count == broker.queue("q").ready_count == 0


def test_what_came_in_many_frames_is_one_message_and_goes_out_in_many(broker: MemoryBroker) -> None:
    client = opened(broker, "q", frame_bytes=512)
    client.sender("/queues/q")
    whole = message(bytes(range(256)) * 8)
    delivery_id = client.transfer(whole[:700], more=True)
    client.send(TRANSFER, UInt(0), None, None, None, None, True, payload=whole[700:1500])
    client.send(TRANSFER, UInt(0), payload=whole[1500:])
    (settled,) = client.read()
    assert settled.field(1) == delivery_id
    _, *transfers = client.receiver("/queues/q", credit=1)
    assert len(transfers) > 4
    assert [one.field(5) for one in transfers] == [True] * (len(transfers) - 1) + [False]
    assert sections_of(b"".join(one.payload for one in transfers))[0x75] == bytes(range(256)) * 8


def test_a_message_for_no_queue_is_released(broker: MemoryBroker) -> None:
    client = opened(broker)
    client.sender("/exchanges/amq.direct/nobody")
    client.transfer(message(b"one"))
    (settled,) = client.read()
    assert settled.field(4) == Described(ULong(RELEASED), [])


def test_a_message_that_a_full_queue_refuses_is_rejected(broker: MemoryBroker) -> None:
    Client(broker).open().channel().declare("full", arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    client = opened(broker)
    client.sender("/queues/full")
    client.transfer(message(b"one"))
    client.transfer(message(b"two"))
    assert [one.field(4).descriptor for one in client.read()] == [0x24, REJECTED]


def test_what_is_settled_is_not_answered(broker: MemoryBroker) -> None:
    client = opened(broker, "q")
    client.sender("/queues/q")
    client.transfer(message(b"one"), settled=True)
    assert client.read() == []
    client.receiver("/queues/q", credit=1, settled=True)
    assert broker.queue("q").unacknowledged_count == broker.queue("q").ready_count == 0


def test_a_target_without_an_address_takes_that_of_each_message(broker: MemoryBroker) -> None:
    client = opened(broker, "q r")
    client.sender(None)
    client.transfer(message(b"one", before=section(0x73, [None, None, "/queues/q%20r"])))
    client.transfer(message(b"two", before=section(0x73, [None, None, "/exchanges/amq.direct/k"])))
    assert [one.field(4).descriptor for one in client.read()] == [0x24, RELEASED]
    client.transfer(message(b"three"))
    (refused,) = client.read()
    assert refused.field(4).value[0].value[0] == "amqp:precondition-failed"
    client.transfer(message(b"four"), settled=True)
    (detach,) = client.read()
    assert (detach.code, detach.error) == (DETACH, "amqp:precondition-failed")


@pytest.mark.parametrize(
    ("outcome", "fields", "ready", "died"),
    [
        (REJECTED, (), 0, 1),
        (RELEASED, (), 1, 0),
        (MODIFIED, (True,), 1, 0),
        (MODIFIED, (True, True), 0, 1),
    ],
)
def test_each_outcome_does_what_it_means(
    broker: MemoryBroker, outcome: int, fields: tuple[bool, ...], ready: int, died: int
) -> None:
    client = opened(broker, "dead")
    Client(broker).open().channel().declare(
        "q", arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
    )
    client.sender("/queues/q")
    client.transfer(message(b"one"))
    (transfer,) = [one for one in client.receiver("/queues/q", credit=1) if one.code == TRANSFER]
    client.settle(transfer.field(1), None, outcome, *fields)
    assert (broker.queue("q").ready_count, broker.queue("dead").ready_count) == (ready, died)


def test_a_range_of_deliveries_is_settled_at_once(broker: MemoryBroker) -> None:
    client = opened(broker, "q")
    client.sender("/queues/q")
    for number in range(10):
        client.transfer(message(b"%d" % number))
    client.receiver("/queues/q", credit=10)
    client.settle(0, 8)
    assert broker.queue("q").unacknowledged_count == 1


# --- credit


def test_no_more_comes_than_there_is_credit_for(broker: MemoryBroker) -> None:
    client = opened(broker, "q")
    client.sender("/queues/q")
    for number in range(5):
        client.transfer(message(b"%d" % number))
    client.receiver("/queues/q")
    client.read()
    client.flow(1, 2)
    assert len(client.deliveries()) == 2
    client.flow(1, 2, count=0xFFFF_FFFD)
    assert len(client.deliveries()) == 2


def test_drain_uses_up_the_credit_that_is_left(broker: MemoryBroker) -> None:
    client = opened(broker, "q")
    client.sender("/queues/q")
    client.transfer(message(b"one"))
    client.receiver("/queues/q")
    client.read()
    client.flow(1, 10, drain=True)
    transfer, flow = client.read()
    assert (transfer.code, flow.code) == (TRANSFER, FLOW)
    assert (flow.field(5), flow.field(6), flow.field(8)) == ((0xFFFF_FFFB + 10) & 0xFFFF_FFFF, 0, True)
    client.transfer(message(b"two"))
    assert client.deliveries() == []


def test_what_a_drain_ends_with_comes_behind_the_deliveries_that_it_counts(broker: MemoryBroker) -> None:
    client = opened(broker, "q", frame_bytes=512)
    client.sender("/queues/q")
    whole = message(bytes(900))
    client.transfer(whole[:450], more=True)
    client.send(TRANSFER, UInt(0), payload=whole[450:])
    client.receiver("/queues/q")
    client.read()
    client.send(FLOW, UInt(0xFFFF_FFFD), UInt(1), UInt(0), UInt(1), UInt(1), None, UInt(9), None, True)
    assert [one.code for one in client.read()] == [TRANSFER]
    client.send(FLOW, UInt(0xFFFF_FFFE), UInt(9), UInt(0), UInt(1))
    *transfers, flow = client.read()
    assert [one.field(5) for one in transfers] == [True, False]
    assert (flow.code, flow.field(2), flow.field(5), flow.field(6), flow.field(8)) == (FLOW, 0, 4, 0, True)


@pytest.mark.parametrize(("window", "credit"), [(0xFFFF_FFFF, 1), (1, 0xFFFF_FFFF)])
def test_who_takes_as_much_as_can_be_said_gets_something(broker: MemoryBroker, window: int, credit: int) -> None:
    client = opened(broker, "q")
    client.sender("/queues/q")
    client.transfer(message(b"one"))
    client.receiver("/queues/q")
    client.read()
    client.send(FLOW, UInt(0xFFFF_FFFD), UInt(window), UInt(0), UInt(1), UInt(1), None, UInt(credit))
    assert len(client.deliveries()) == 1


def test_no_more_credit_is_told_than_a_flow_has_room_for(broker: MemoryBroker) -> None:
    client = opened(broker, "q")
    client.receiver("/queues/q")
    client.flow(1, 0xFFFF_FFFF, count=0x7FFF_FFFA, echo=True)  # it says that it has heard what nobody has said
    (flow,) = client.read()
    assert (flow.code, flow.field(6)) == (FLOW, 0xFFFF_FFFF)


def test_the_window_of_the_session_holds_deliveries_back(broker: MemoryBroker) -> None:
    client = Amqp10Client(broker)
    Client(broker).open().channel().declare("q")
    client.open()
    client.begin(window=2)
    client.sender("/queues/q")
    for number in range(4):
        client.transfer(message(b"%d" % number))
    client.receiver("/queues/q")
    client.read()
    client.send(FLOW, UInt(0xFFFF_FFFD), UInt(2), UInt(0), UInt(100), UInt(1), None, UInt(10))
    assert len(client.deliveries()) == 2
    client.send(FLOW, UInt(0xFFFF_FFFF), UInt(2), UInt(0), UInt(100))
    assert len(client.deliveries()) == 2


@pytest.mark.parametrize(
    "fields",
    [
        [UInt(0), UInt(7), b"tag", UInt(0), False],
        [UInt(3), UInt(70_000), b"", UInt(0), True, True],
        [UInt(0), None, None, None, None, False, None, None, None, True],
        [UInt(0), UInt(1), b"t" * 32, None, None, None, UByte(0), Described(ULong(ACCEPTED), [])],
        [UInt(0), UInt(1), bytes(300)],
    ],
)
def test_a_transfer_is_read_as_any_performative_is(fields: list[Any]) -> None:
    body = performative(TRANSFER, list(fields))
    for payload in (b"", b"\0\x53\x75\xa0\1x"):
        read, offset = read_performative(body + payload)
        assert (read.code, read.items[: len(fields)], offset) == (TRANSFER, fields, len(body))
    for end in range(3, len(body)):
        with pytest.raises(ProtocolError):
            read_performative(body[:end])


def test_a_publisher_gets_credit_again_when_half_is_used(broker: MemoryBroker) -> None:
    client = opened(broker, "q")
    client.sender("/queues/q")
    for _ in range(CREDIT // 2):
        client.transfer(message(b"x"), settled=True)
    (flow,) = [frame for frame in client.read() if frame.field(4) is not None]  # the others are of the session
    assert (flow.code, flow.field(5), flow.field(6)) == (FLOW, CREDIT // 2, CREDIT)


# --- errors


@pytest.mark.parametrize(
    ("address", "condition"),
    [
        ("/queues/nowhere", "amqp:not-found"),
        ("/exchanges/nowhere", "amqp:not-found"),
        ("/exchanges/", "amqp:invalid-field"),
        ("/exchanges/amq.default/q", "amqp:invalid-field"),
        ("/queues/%ZZ", "amqp:invalid-field"),
        ("/queues/%FF", "amqp:invalid-field"),
        ("/queues/a b", "amqp:invalid-field"),
        ("/exchanges/ä/k", "amqp:invalid-field"),
        ("/queues/missing/encoding", "amqp:invalid-field"),
        ("/foo/bar", "amqp:invalid-field"),
    ],
)
def test_a_wrong_target_ends_the_session(broker: MemoryBroker, address: str, condition: str) -> None:
    client = opened(broker)
    (end,) = client.sender(address)
    assert (end.code, end.error) == (END, condition)
    client.send(END)
    assert client.begin().code == BEGIN  # the channel is free again


def test_a_queue_that_goes_detaches_its_links(broker: MemoryBroker) -> None:
    client = opened(broker, "q")
    client.receiver("/queues/q")
    broker.virtual_host.remove_queue(broker.queue("q"))
    broker.settle()
    (detach,) = client.read()
    assert (detach.code, detach.error) == (DETACH, "amqp:resource-deleted")


def test_what_a_lost_client_had_goes_back(broker: MemoryBroker) -> None:
    client = opened(broker, "q")
    client.sender("/queues/q")
    client.transfer(message(b"one"))
    client.receiver("/queues/q", credit=1)
    client.drop()
    assert broker.queue("q").ready_count == 1
    assert not len(broker.queue("q").consumers)


def test_detach_gives_back_what_was_not_settled(broker: MemoryBroker) -> None:
    client = opened(broker, "q")
    client.sender("/queues/q")
    client.transfer(message(b"one"))
    client.receiver("/queues/q", credit=1)
    client.send(DETACH, UInt(1), True)
    (detach,) = client.read()
    assert (detach.code, detach.error) == (DETACH, "")
    assert (broker.queue("q").ready_count, broker.queue("q").unacknowledged_count) == (1, 0)


def test_who_begins_and_ends_sessions_gives_others_their_turn(broker: MemoryBroker) -> None:
    client = Amqp10Client(broker)
    client.open()
    begin = performative(BEGIN, [None, UInt(0), UInt(1), UInt(1)])
    with broker.holding_works():
        client.write((encode_frame(AMQP, 0, begin) + encode_frame(AMQP, 0, performative(END, []))) * 200)
        begun = [one.code for one in client.read()].count(BEGIN)
        assert 0 < begun < 150
    assert begun + [one.code for one in client.read()].count(BEGIN) == 200


def test_what_is_about_a_session_that_is_not_there_is_passed_over(broker: MemoryBroker) -> None:
    client = opened(broker)
    client.send(FLOW, None, UInt(1), UInt(0), UInt(1), channel=7)
    client.send(END, channel=7)
    assert client.begin(channel=7).code == BEGIN
    client.send(END, channel=64)
    (close,) = client.read()
    assert (close.code, close.error) == (CLOSE, "amqp:connection:framing-error")


def test_close_is_answered(broker: MemoryBroker) -> None:
    client = opened(broker)
    client.send(CLOSE)
    assert [one.code for one in client.read()] == [CLOSE]
    assert client.connection.finished


# --- time


def test_a_silent_client_is_given_up(broker: MemoryBroker) -> None:
    client = opened(broker)
    broker.advance(60_000)
    assert client.read() == []
    broker.advance(30_000)  # whether anything has come is looked at every half of it
    (close,) = client.read()
    assert (close.code, close.error) == (CLOSE, "amqp:resource-limit-exceeded")


def test_a_client_hears_something_in_time(broker: MemoryBroker) -> None:
    client = opened(broker, idle_ms=10_000)
    broker.advance(9_999)
    assert [one.code for one in client.read()] == [0]


# --- other protocols


def test_messages_of_amqp_0_9_1_come_with_their_properties(broker: MemoryBroker) -> None:
    client = opened(broker, "q")
    channel = Client(broker).open().channel()
    channel.publish("", "q", b"body", content_type="text/plain", headers={"n": 5, "x-y": "z"}, reply_to="r")
    (transfer,) = [one for one in client.receiver("/queues/q", credit=1) if one.code == TRANSFER]
    found = sections_of(transfer.payload)
    assert found[0x75] == b"body"
    assert found[0x73][4] == "r"
    assert found[0x73][6] == "text/plain"
    assert found[0x74].pairs == [("n", 5)]
    assert found[0x72].get("x-y") == "z"


# --- management


@pytest.mark.parametrize(
    "headers",
    [
        {"x-death": [{"routing-keys": ["\udcff"]}]},
        {"x-last-death-queue-\xfc": "q"},
        {"x-death": [{"reason": "\x80", "time": Timestamp(2**64 - 1), "original-expiration": "9" * 5_000}]},
        {"x-message-id": "\udcff", "x-correlation-id": "\udcff"},
    ],
)
def test_what_is_said_of_a_message_in_no_utf_8_harms_nobody_who_gets_it(
    broker: MemoryBroker, headers: dict[str, Any]
) -> None:
    """A key of AMQP 0-9-1 may be any bytes, and so may what it says of deaths: a client's own, for instance."""
    client = opened(broker, "q")
    client.receiver("/queues/q", credit=1)
    header = encode_content_header(4, Properties(headers=headers))
    host = broker.virtual_host
    broker.handle(lambda: host.ingress.publish(host.exchanges[""], "q", header, b"body", digest_of(header)))
    (transfer,) = client.deliveries()
    assert sections_of(transfer.payload)[0x75] == b"body"


def managing(broker: MemoryBroker) -> Amqp10Client:
    """A client with a pair of links for management."""
    client = opened(broker)
    client.manage()
    return client


def ask(client: Amqp10Client, method: str, path: str, body: Any = None) -> tuple[str, Any]:
    """The status and the body of the answer."""
    properties = section(0x73, [ULong(1), None, path, method, "$me"])
    client.transfer(properties + section(0x77, body), settled=True)
    (answer,) = client.deliveries()
    found = sections_of(answer.payload)
    return found[0x73][3], found[0x77]


def test_queues_are_managed_over_a_pair_of_links(broker: MemoryBroker) -> None:
    client = managing(broker)
    assert ask(client, "PUT", "/queues/a%20b", Map([("exclusive", True)]))[0] == "201"
    assert broker.queue("a b").owner is client.connection.client
    assert ask(client, "GET", "/queues/a%20b")[1].get("message_count") == 0
    assert ask(client, "DELETE", "/queues/a%20b/messages") == ("200", Map([("message_count", ULong(0))]))
    assert ask(client, "PUT", "/exchanges/", Map([]))[0] == "403"
    for method, path in (("PATCH", "/queues/q"), ("GET", ""), ("PUT", "/queues/" + "q" * 256)):
        assert ask(client, method, path)[0] == "400"
    assert ask(client, "PUT", "/queues/q", Map([([], True)]))[0] == "400"
    for name, status in ((b"\xff", "201"), (b"\xfe", "409")):  # in no UTF-8, as is what says that they differ
        arguments = Map([("x-dead-letter-exchange", name)])
        assert ask(client, "PUT", "/queues/q", Map([("arguments", arguments)]))[0] == status


def test_requests_that_cannot_be_met_have_rabbitmqs_statuses(broker: MemoryBroker) -> None:
    client = managing(broker)
    arguments = Map([("x-queue-type", "stream"), ("x-stream-filter-size-bytes", 5)])
    binding = [("source", "amq.fanout"), ("destination_queue", "nowhere"), ("binding_key", "k")]
    prefix = "starts with reserved prefix 'amq.'"
    for method, path, body, status, words in (
        ("DELETE", "/queues/nowhere/messages", None, "400", "no queue 'nowhere' in vhost '/'"),
        ("PUT", "/queues/amq.q", Map([]), "403", f"queue 'amq.q' in vhost '/' {prefix}"),
        ("PUT", "/queues/s", Map([("arguments", arguments)]), "400", "Invalid value for  x-stream-filter-size-bytes"),
        ("PUT", "/queues/q", Map([("arguments", Map([(5, 5)]))]), "400", "unsupported argument 5"),
        ("PUT", "/exchanges/amq.x", Map([]), "403", f"exchange 'amq.x' in vhost '/' {prefix}"),
        ("PUT", "/exchanges/amq.fanout", Map([("type", "fanout")]), "204", None),
        ("DELETE", "/exchanges/amq.fanout", None, "403", f"exchange 'amq.fanout' in vhost '/' {prefix}"),
        ("POST", "/bindings", Map(binding), "400", "no queue 'nowhere' in vhost '/'"),
        ("POST", "/bindings", Map([*binding, ("nonsense", 1)]), "400", "bad binding field nonsense"),
    ):
        assert ask(client, method, path, body) == (status, words)


def test_what_nobody_else_would_have_a_turn_for_is_refused(broker: MemoryBroker) -> None:
    client = managing(broker)
    client.transfer(bytes(100_000), settled=True, more=True)
    client.send(TRANSFER, UInt(0), None, None, None, True, True, payload=bytes(100_000))
    (end,) = client.read()
    assert (end.code, end.error) == (END, "amqp:link:message-size-exceeded")
    client = opened(broker, "q")
    client.sender("/queues/q")
    client.transfer(message(b"") * 10_001)
    (close,) = client.read()
    assert (close.code, close.error) == (CLOSE, "amqp:decode-error")


def test_who_asks_on_and_takes_no_answer_has_its_session_ended(broker: MemoryBroker) -> None:
    client = Amqp10Client(broker)
    client.open()
    client.begin(window=0)
    client.manage()
    client.send(FLOW, UInt(0xFFFF_FFFD), UInt(0), UInt(0), UInt(WINDOW), UInt(1), None, UInt(1_000))
    request = section(0x73, [ULong(1), None, "/queues/q", "GET", "$me"]) + section(0x77, None)
    for _ in range(ANSWERS_HELD_MAX):
        client.transfer(request, settled=True)
    assert {one.code for one in client.read()} == {FLOW}
    client.transfer(request, settled=True)
    (end,) = client.read()
    assert (end.code, end.error) == (END, "amqp:resource-limit-exceeded")


def test_who_takes_each_answer_may_ask_on(broker: MemoryBroker) -> None:
    client = Amqp10Client(broker)
    client.open()
    client.begin(window=0)
    client.manage()
    client.send(FLOW, UInt(0xFFFF_FFFD), UInt(0), UInt(0), UInt(WINDOW), UInt(1), None, UInt(1_000))
    request = section(0x73, [ULong(1), None, "/queues/q", "GET", "$me"]) + section(0x77, None)
    for number in range(ANSWERS_HELD_MAX + 2):
        client.transfer(request, settled=True)
        client.send(FLOW, UInt((0xFFFF_FFFD + number) & 0xFFFF_FFFF), UInt(1), UInt(0), UInt(WINDOW))
        assert [one.code for one in client.read() if one.code != FLOW] == [TRANSFER]


def test_who_names_many_deliveries_that_are_settled_gives_others_their_turn(broker: MemoryBroker) -> None:
    client = opened(broker, "q")
    client.sender("/queues/q")
    for _ in range(100):
        client.transfer(message())
    client.receiver("/queues/q", credit=100)
    client.settle(1_000, 2_000)
    assert client.connection.effort == 100 // 16


class Vouching:
    """Says of whoever has new credentials what a test says; at first the user of a client gets ones that expire."""

    def __init__(self, client: Amqp10Client, broker: MemoryBroker, say: Callable[[bytes | None], None]) -> None:
        self._say = say
        self._user = replace(client.connection.client.user, expires_wall_ms=1 << 50)
        client.connection.client.user = self._user
        broker.driver.authority = self

    def authenticate(self, name: str, password: bytes | None, peer: Peer) -> User:
        self._say(password)
        return self._user


@pytest.mark.parametrize("is_taken", [True, False])
def test_a_token_is_renewed(broker: MemoryBroker, is_taken: bool) -> None:
    client = managing(broker)
    renewed: list[bytes | None] = []

    def say(secret: bytes | None) -> None:
        renewed.append(secret)
        if not is_taken:
            raise Refused(Refusal.LOGIN, "no")

    Vouching(client, broker, say)
    assert ask(client, "PUT", "/auth/tokens", "text")[0] == "400"
    client.send(DETACH, UInt(0), True)
    client.send(DETACH, UInt(1), True)
    client.manage()  # which knows the other way to renew
    properties = section(0x73, [ULong(1), None, "/auth/tokens", "PUT", "$me"])
    client.transfer(properties + section(0x77, b"token"), settled=True)
    answer = client.read()[-1]
    assert renewed == [b"token"]
    if is_taken:
        assert sections_of(answer.payload)[0x73][3] == "204"
    else:
        assert (answer.code, answer.error) == (CLOSE, "amqp:unauthorized-access")


def test_a_token_that_may_be_a_slow_password_is_renewed_when_that_is_known(broker: MemoryBroker) -> None:
    client = opened(broker)
    waiting: list[Callable[[], None]] = []
    known: list[bool] = []

    def say(secret: bytes | None) -> None:
        if not known:
            raise NotVerifiedYet(lambda: False, lambda: False, known.append)

    Vouching(client, broker, say)
    broker.driver.verify_password = lambda check, go_on, is_wanted: waiting.append(go_on)  # type: ignore[method-assign]
    client.manage()
    properties = section(0x73, [ULong(1), None, "/auth/tokens", "PUT", "$me"])
    client.transfer(properties + section(0x77, b"token"), settled=True)
    assert client.deliveries() == []
    known.append(True)
    broker.handle(waiting.pop())
    (answer,) = client.deliveries()
    assert sections_of(answer.payload)[0x73][3] == "204"


# --- links


@pytest.mark.parametrize("fields", [(b"binary", None), ("name", UByte(3))])
def test_an_attach_that_is_refused_leaves_nothing_behind(broker: MemoryBroker, fields: tuple[Any, Any]) -> None:
    name, settle_mode = fields
    for is_receiver in (True, False):
        client = opened(broker, "q")
        source, target = composite(SOURCE, ["/queues/q"]), composite(TARGET, ["/queues/q"])
        client.send(ATTACH, name, UInt(1), is_receiver, settle_mode, None, source, target, *[None] * 2, UInt(0))
        assert client.read()[0].code in (END, CLOSE)
        client.drop()
        assert not len(broker.queue("q").consumers)
        assert not broker.queue("q").watchers


def test_the_rest_of_a_delivery_does_not_come_on_a_link_that_is_detached(broker: MemoryBroker) -> None:
    channel = Client(broker).open().channel()
    channel.declare("q", durable=True)
    channel.declare("p", durable=True)
    client = Amqp10Client(broker)
    client.open(frame_bytes=512)
    client.begin(window=1)
    client.sender("/queues/q")
    client.transfer(message(bytes(900)))
    client.receiver("/queues/q")
    client.receiver("/queues/p", 2)
    client.send(FLOW, UInt(0xFFFF_FFFD), UInt(1), UInt(0), UInt(1), UInt(1), None, UInt(1))
    assert [one.code for one in client.read()] == [TRANSFER]
    client.send(FLOW, UInt(0xFFFF_FFFD), UInt(1), UInt(0), UInt(1), UInt(2), None, UInt(9), None, True)
    assert client.read() == [], "what a drain ends with waits for the transfers before it"
    client.send(DETACH, UInt(1), True)
    assert [one.code for one in client.read()] == [FLOW, DETACH]
    client.receiver("/queues/q")
    client.flow(1, 0)
    assert [one.code for one in client.read()] == []
    assert broker.queue("q").ready_count == 1


def test_a_sender_is_told_that_its_queue_has_gone(broker: MemoryBroker) -> None:
    client = opened(broker, "q", "p")
    client.sender("/queues/q")
    client.sender("/queues/p", 2)
    client.send(DETACH, UInt(2), True)
    client.read()
    for queue in ("q", "p"):
        broker.virtual_host.remove_queue(broker.queue(queue))
    broker.settle()
    (detach,) = client.read()
    assert (detach.code, detach.field(0), detach.error) == (DETACH, 0, "amqp:resource-deleted")


@pytest.mark.parametrize("settled", [False, True])
def test_a_message_that_is_too_large_for_the_client_ends_its_session(broker: MemoryBroker, settled: bool) -> None:
    client = opened(broker, "q")
    client.sender("/queues/q")
    for size in (10, 1000, 10):
        client.transfer(message(bytes(size)))
    client.read()
    heard = client.receiver("/queues/q", credit=10, size_max=500, settled=settled)
    heard += client.read()
    assert [one.code for one in heard] == [ATTACH, TRANSFER, END]
    assert heard[-1].error == "amqp:link:message-size-exceeded"
    assert broker.queue("q").ready_count == (1 if settled else 3)
    broker.check_invariants()


@pytest.mark.parametrize(("mode", "settled"), [(0, True), (1, False)])
def test_who_settles_otherwise_than_it_has_said_has_its_session_ended(
    broker: MemoryBroker, mode: int, settled: bool
) -> None:
    client = opened(broker, "q")
    client.sender("/queues/q", settle_mode=UByte(mode))
    client.transfer(message(b"one"), settled=not settled)
    client.read()
    client.transfer(message(b"two"), settled=settled)
    (end,) = client.read()
    assert (end.code, end.error) == (END, "amqp:connection:framing-error")
    assert broker.queue("q").ready_count == 1


def test_an_alarm_closes_the_window_of_who_sends_and_nothing_else(broker: MemoryBroker) -> None:
    client = opened(broker, "q")
    client.sender("/queues/q")
    client.transfer(message())
    (*_, transfer) = client.receiver("/queues/q", credit=1)
    broker.set_alarm(Resource.MEMORY, True)
    (flow,) = client.read()
    assert (flow.code, flow.field(1), flow.field(4)) == (FLOW, 0, None)
    client.settle(transfer.field(1))
    assert broker.queue("q").unacknowledged_count == 0
    assert client.begin(1).field(2) == 0
    assert client.sender("/queues/q", channel=1)[-1].code == FLOW  # with credit, of which it can use nothing
    client.transfer(message())  # it was on its way
    assert not client.connection.is_reading_paused
    client.send(TRANSFER, UInt(0), UInt(0), b"t", UInt(0), False, channel=1, payload=message())  # it sends all the same
    assert client.connection.is_reading_paused
    client.read()
    broker.set_alarm(Resource.MEMORY, False)
    assert [(one.code, one.field(1)) for one in client.read()[:2]] == [(FLOW, WINDOW), (FLOW, WINDOW)]
    assert not client.connection.is_reading_paused


def test_an_outcome_that_is_none_is_refused(broker: MemoryBroker) -> None:
    client = opened(broker, "q")
    (end,) = client.receiver("/queues/q", source=[*[None] * 8, symbols("amqp:accepted:list", "my:own:list")])
    assert (end.code, end.error) == (END, "amqp:not-implemented")


def test_outcomes_are_those_that_the_client_has_named(broker: MemoryBroker) -> None:
    client = opened(broker, "q")
    named = symbols("amqp:accepted:list")
    (attach,) = client.receiver("/queues/q", source=[*[None] * 8, named])
    assert attach.field(5).value[9] == named


@pytest.mark.parametrize(
    ("code", "key"), [(0x71, Symbol("mine")), (0x72, Symbol("m" * 9_999)), (0x72, ULong(1)), (0x72, "x-text")]
)
def test_a_message_with_a_reserved_annotation_ends_the_session(broker: MemoryBroker, code: int, key: Any) -> None:
    client = opened(broker, "q")
    client.sender("/queues/q")
    client.transfer(message(b"1", before=section(code, Map([(Symbol("x-mine"), 1)]))))
    client.transfer(message(b"2", before=section(code, Map([(Symbol("x-mine"), 1), (key, 1)]))))
    end = client.read()[-1]
    assert (end.code, end.error) == (END, "amqp:decode-error")
    assert len(end.field(0).value[1]) < 300
    assert broker.queue("q").ready_count == 1


def test_a_topic_is_asked_for_with_each_message(broker: MemoryBroker) -> None:
    broker.administration.set_topic_permission("guest", "/", "amq.topic", "^a$", "^a$")
    client = opened(broker)
    assert client.sender("/exchange/amq.topic")[0].code == ATTACH  # each message has a subject
    client.transfer(message(b"x", before=section(0x73, [None, None, None, "a"])))
    assert [one.code for one in client.read()] == [DISPOSITION]
    client.transfer(message(b"x", before=section(0x73, [None, None, None, "b"])))
    end = client.read()[-1]
    assert (end.code, end.error) == (END, "amqp:unauthorized-access")


def test_a_receiver_of_higher_priority_takes_over_when_the_active_one_has_settled_all() -> None:
    broker = MemoryBroker(behave_like="4.0")
    arguments: dict[str, Any] = {"x-queue-type": "quorum", "x-single-active-consumer": True}
    Client(broker).open().channel().declare("q", arguments=arguments, durable=True)
    client = opened(broker)
    client.sender("/queues/q")
    for body in (b"1", b"2"):
        client.transfer(message(body))
    first = client.receiver("/queues/q", credit=1)[-1]
    client.receiver("/queues/q", 2, credit=1, properties=Map([(Symbol("rabbitmq:priority"), Int(1))]))
    client.flow(1, 2)
    client.settle(first.field(1))
    second = client.deliveries()
    assert [one.field(0) for one in second] == [2]
    client.send(DETACH, UInt(2), True)
    assert [one.field(0) for one in client.deliveries()] == [1], "it is active again, and had room all the time"


def test_what_is_said_where_a_limit_is_reached_or_a_binding_is_not_there(broker: MemoryBroker) -> None:
    client = managing(broker)
    broker.administration.set_virtual_host_limits("/", queues_max=0)
    assert ask(client, "PUT", "/queues/q", Map([]))[0] == "403"
    broker.administration.set_permission("guest", "/", ".*", "", ".*")
    assert ask(client, "DELETE", "/bindings/src=amq.direct;dstq=q;key=k;args=")[0] == "403"
    (end,) = client.receiver("/queue/q", 3)
    assert (end.code, end.error) == (END, "amqp:resource-limit-exceeded")


def test_credit_of_a_client_that_says_0_before_it_has_heard_anything(broker: MemoryBroker) -> None:
    client = opened(broker, "q")
    client.sender("/queues/q")
    for number in range(5):
        client.transfer(message(b"%d" % number))
    client.receiver("/queues/q")
    client.read()
    zero = UInt(0)
    client.send(FLOW, zero, UInt(WINDOW), zero, UInt(WINDOW), UInt(1), zero, UInt(2))
    assert len(client.deliveries()) == 2, "no more than there is credit for"
    client.send(FLOW, zero, UInt(WINDOW), zero, UInt(WINDOW), UInt(1), UInt(0xFFFF_FFFD), UInt(1))
    (end,) = client.read()
    assert (end.code, end.error) == (END, "amqp:session:window-violation")


def test_a_flow_that_has_heard_what_nobody_has_said(broker: MemoryBroker) -> None:
    client = opened(broker)
    client.send(FLOW, UInt(5), UInt(10), UInt(0), UInt(10))
    (end,) = client.read()
    assert (end.code, end.error) == (END, "amqp:session:window-violation")


@pytest.mark.parametrize(
    ("code", "fields"),
    [
        (BEGIN, [None, ULong(1 << 32), UInt(1), UInt(1)]),
        (TRANSFER, [UInt(0), ULong(1 << 32), b"tag"]),
        (DISPOSITION, [True, ULong(1 << 32), None, False, composite(ACCEPTED, [])]),
    ],
)
def test_a_number_that_no_answer_has_room_for_is_refused(broker: MemoryBroker, code: int, fields: list[Any]) -> None:
    client = opened(broker, "q")
    client.sender("/queues/q")
    client.send(code, *fields, channel=int(code == BEGIN), payload=message(b"one"))
    (close,) = client.read()
    assert (close.code, close.error) == (CLOSE, "amqp:decode-error")


def test_who_gets_a_dead_letter_is_not_the_first_to_have_it(broker: MemoryBroker) -> None:
    client = opened(broker, "dead")
    channel = Client(broker).open().channel()
    channel.declare("q", arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}, durable=True)
    client.sender("/queues/q")
    client.transfer(message(b"one"))
    transfer = client.receiver("/queues/q", credit=1)[-1]
    assert sections_of(transfer.payload)[0x70][3] is True
    client.settle(transfer.field(1), None, REJECTED)
    transfer = client.receiver("/queues/dead", 2, credit=1)[-1]
    assert sections_of(transfer.payload)[0x70][3] is False


@pytest.mark.parametrize("is_kept", [False, True])
@pytest.mark.parametrize("comes_from", ["1.0", "0-9-1"])
def test_what_is_said_of_a_modified_message_stays_with_it(is_kept: bool, comes_from: str) -> None:
    broker: DiskBroker = DiskBroker()
    channel = broker.client().channel()
    channel.declare(
        "q",
        arguments={"x-queue-type": "quorum", "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"},
        durable=True,
    )
    client = opened(broker, "dead")
    if comes_from == "1.0":
        client.sender("/queues/q")
        client.transfer(message(b"one", before=section(0x72, Map([(Symbol("x-a"), "old"), (Symbol("x-b"), "kept")]))))
    else:
        channel.publish("", "q", b"one", delivery_mode=2, headers={"x-a": "old", "x-b": "kept", "n": 1})
    transfer = client.receiver("/queues/q", credit=1)[-1]
    client.settle(transfer.field(1), None, MODIFIED, True, False, Map([(Symbol("x-a"), "new"), (Symbol("y"), 1)]))
    client.drop()
    if is_kept:
        broker = broker.killed()
        client = opened(broker)
    else:
        client = opened(broker)
    transfer = client.receiver("/queues/q", credit=1)[-1]
    found, said = sections_of(transfer.payload), annotations_of(transfer.payload)
    assert found[0x70][3:] == [False, UInt(1)]
    assert (said["x-a"], said["x-b"], said["x-delivery-count"], "y" in said) == ("new", "kept", 1, False)
    assert comes_from == "1.0" or found[0x74].pairs == [("n", 1)]
    client.settle(transfer.field(1), None, RELEASED)
    client.flow(1, 1, count=0xFFFF_FFFC)
    (transfer,) = client.deliveries()
    assert sections_of(transfer.payload)[0x70][4] == 1  # that was no failure
    client.settle(transfer.field(1), None, MODIFIED, True, True, Map([(Symbol("x-a"), "dead")]))
    transfer = client.receiver("/queues/dead", 2, credit=1)[-1]
    assert annotations_of(transfer.payload)["x-a"] == "dead"
    assert sections_of(transfer.payload)[0x70][3:] == [False, UInt(2)]


def test_what_is_said_of_many_modified_messages_is_kept_in_slices(broker: MemoryBroker) -> None:
    Client(broker).open().channel().declare("q", arguments={"x-queue-type": "quorum"}, durable=True)
    client = opened(broker)
    client.sender("/queues/q")
    for _ in range(3):
        client.transfer(message(b"one", before=section(0x72, Map([(Symbol("x-a"), "old"), (Symbol("x-y"), "kept")]))))
    first = client.receiver("/queues/q", credit=3)[-3].field(1)
    said = Map([(Symbol("x-a"), None), (Symbol("y"), 1), (Symbol("x-b"), "b" * 40_000)])
    with broker.holding_works():
        client.settle(first, first + 2, MODIFIED, False, False, said)
        assert broker.is_unfinished
        assert broker.queue("q").unacknowledged_count == 3
    assert (broker.queue("q").ready_count, broker.queue("q").unacknowledged_count) == (3, 0)
    transfer = client.receiver("/queues/q", 2, credit=1)[-1]
    found = annotations_of(transfer.payload)
    assert (found["x-a"], found["x-y"], len(found["x-b"]), "y" in found) == (None, "kept", 40_000, False)


def test_what_a_client_makes_up_of_the_sections_of_a_message_harms_nobody(broker: MemoryBroker) -> None:
    channel = Client(broker).open().channel()
    channel.declare("q", arguments={"x-queue-type": "quorum"}, durable=True)
    made_up = encode([UInt(1), -1, UInt(1)])
    channel.publish("", "q", b"body", headers={"x-amqp-1.0-sections": bytearray(made_up)})
    client = opened(broker)
    transfer = client.receiver("/queues/q", credit=2)[-1]
    assert sections_of(transfer.payload)[0x75] == b"body"
    client.settle(transfer.field(1), None, MODIFIED, True, False, Map([(Symbol("x-a"), "new")]))
    (transfer,) = client.deliveries()
    assert annotations_of(transfer.payload)["x-a"] == "new"


def test_an_application_property_is_no_further_routing_key(broker: MemoryBroker) -> None:
    client = opened(broker, "q", "copy")
    client.sender("/queues/q")
    for value in ("text", ["copy"]):
        client.transfer(message(before=section(0x74, Map([("CC", value), ("BCC", value)]))))
        (disposition,) = client.read()
        assert disposition.field(4).descriptor == ACCEPTED
    assert broker.queue("copy").ready_count == 0


def test_a_classic_queue_keeps_nothing_of_what_is_said_of_a_modified_message(broker: MemoryBroker) -> None:
    client = opened(broker, "q")
    client.sender("/queues/q")
    client.transfer(message(b"one"))
    transfer = client.receiver("/queues/q", credit=2)[-1]
    client.settle(transfer.field(1), None, MODIFIED, True, False, Map([(Symbol("x-a"), "new")]))
    (transfer,) = client.deliveries()
    assert sections_of(transfer.payload)[0x70][3:] == [False, UInt(0)]
    assert "x-a" not in annotations_of(transfer.payload)
