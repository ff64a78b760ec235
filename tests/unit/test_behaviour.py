"""behave_like: each difference between RabbitMQs, as a client sees it. interop/ asks RabbitMQ itself the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from itertools import combinations
from pathlib import Path
from typing import Any, TypeVar

import pytest
from pamqp import commands
from pamqp.common import FieldTable

from amqp_broker.access.client import Peer
from amqp_broker.access.passwords import SHA256
from amqp_broker.behaviour import BEHAVIOURS, Behaviour
from amqp_broker.broker.inspection import Inspection
from amqp_broker.protocols.amqp091.server_properties import server_properties
from amqp_broker.settings import Settings
from interop.behaviours import ROWS, SERIES, Row, table
from interop.stream_client import AUTHENTICATE, HANDSHAKE, blob, text
from tests.support.client import Client, ClientChannel, Received
from tests.support.disk_broker import DiskBroker
from tests.support.memory_broker import MemoryBroker
from tests.support.stream_client import StreamClient

ALL = ("3.10", "3.13", "4.0", "4.3")
QUORUM: FieldTable = {"x-queue-type": "quorum"}


Test = TypeVar("Test", bound=Callable[..., None])
TESTED: set[str] = set()  # fields of Behaviour


def of_field(name: str) -> Callable[[Test], Test]:
    """Marks a test as that of a field of Behaviour."""
    TESTED.add(name)
    return lambda test: test


def channel_of(series: str, **settings: Any) -> ClientChannel:
    return Client(MemoryBroker(behave_like=series, **settings)).open().channel()


def die(channel: ClientChannel, queue: str) -> Received:
    """The dead letter of the message in this queue, which is rejected."""
    taken = channel.get(queue)
    assert taken is not None
    channel.reject(taken.expect(commands.Basic.GetOk).delivery_tag or 0, requeue=False)
    letter = channel.get("dead", no_ack=True)
    assert letter is not None
    return letter


def mortal(channel: ClientChannel, queue: str = "q", **flags: bool) -> None:
    channel.declare("dead", None, **flags)
    channel.declare(queue, {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}, **flags)


# --- what the documents say


def test_every_choice_of_the_setting_has_its_behaviour() -> None:
    assert tuple(BEHAVIOURS) == ALL == SERIES


def test_every_field_has_a_row_and_a_test() -> None:
    names = {field.name for field in fields(Behaviour)}
    assert {name for row in ROWS for name in row.fields} == names
    assert names == TESTED


@pytest.mark.parametrize("row", ROWS, ids=[row.what for row in ROWS])
def test_a_row_tells_those_apart_that_its_fields_tell_apart(row: Row) -> None:
    shown = dict(zip(SERIES, row.shown, strict=True))
    for one, other in combinations(SERIES, 2):
        words = [shown.get(shown[series].removeprefix("as "), shown[series]) for series in (one, other)]
        values = [[getattr(BEHAVIOURS[series], name) for name in row.fields] for series in (one, other)]
        assert (words[0] == words[1]) == (values[0] == values[1]), f"{one} and {other}"


def test_the_page_has_these_rows() -> None:
    assert table() in (Path(__file__).parents[2] / "docs" / "compatibility.md").read_text(encoding="utf-8")


# --- what clients see


@of_field("version")
@pytest.mark.parametrize("series", ALL)
def test_the_version_that_is_announced_is_that_of_the_behaviour(series: Any) -> None:
    version = server_properties(Settings(behave_like=series), "c")["version"]
    assert isinstance(version, str)
    assert version.startswith(series + ".")
    assert server_properties(Settings(behave_like=series, product_version="3.8.9"), "c")["version"] == "3.8.9"


@of_field("unknown_exchange_type_ends_connection")
@pytest.mark.parametrize("series", ALL)
def test_an_unknown_exchange_type(series: str) -> None:
    channel = channel_of(series)
    channel.send(commands.Exchange.Declare(exchange="x", exchange_type="x-nope"))
    if series == "3.10":
        close = channel.client.closed_with()
        assert (close.reply_code, close.reply_text) == (503, "COMMAND_INVALID - unknown exchange type 'x-nope'")
    else:
        assert channel.closed_with().reply_code == 406


@of_field("message_size_bytes_max")
@pytest.mark.parametrize("series", ALL)
def test_the_largest_message(series: str) -> None:
    size_max = BEHAVIOURS[series].message_size_bytes_max
    assert size_max == (134_217_728 if series.startswith("3.") else 16_777_216)
    channel = channel_of(series)
    channel.send(commands.Basic.Publish(routing_key="q"))
    header = bytes(2) + (size_max + 1).to_bytes(8, "big") + bytes(2)
    channel.client.send_bytes(b"\x02\x00\x01" + (len(header) + 2).to_bytes(4, "big") + b"\x00\x3c" + header + b"\xce")
    text = f"PRECONDITION_FAILED - message size {size_max + 1} is larger than configured max size {size_max}"
    assert channel.closed_with().reply_text == text


def test_a_largest_message_that_is_set_goes_first() -> None:
    channel = channel_of("4.0", message_size_bytes_max=3)
    channel.declare("q")
    channel.publish("", "q", b"1234")
    assert channel.closed_with().reply_code == 406


@of_field("reads_deaths_of_clients")
@pytest.mark.parametrize("series", ALL)
def test_the_history_of_a_client(series: str) -> None:
    channel = channel_of(series)
    mortal(channel, durable=True)
    channel.publish("", "q", b"m")
    first = die(channel, "q")
    channel.publish("", "q", b"m", headers=first.headers)
    (death,) = die(channel, "q").headers["x-death"]
    assert death["count"] == (2 if series.startswith("3.") else 1)


@of_field("deaths_have_last_headers")
@pytest.mark.parametrize("series", ALL)
def test_the_history_that_the_broker_keeps_goes_on(series: str) -> None:
    channel = channel_of(series)
    channel.declare("two", {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}, durable=True)
    channel.declare("one", {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "two"}, durable=True)
    channel.declare("dead", durable=True)
    channel.publish("", "one", b"m")
    channel.get("one")
    channel.reject(1, requeue=False)
    letter = die(channel, "two")
    assert [death["queue"] for death in letter.headers["x-death"]] == ["two", "one"]
    assert letter.headers["x-first-death-queue"] == "one"
    assert letter.headers.get("x-last-death-queue") == (None if series == "3.10" else "two")


def test_the_history_that_the_broker_keeps_outlives_it() -> None:
    broker = DiskBroker(behave_like="4.0")
    channel = broker.client().channel()
    mortal(channel, "one", durable=True)
    channel.declare("two", {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "one"}, durable=True)
    channel.publish("", "two", b"m", delivery_mode=2)
    channel.get("two")
    channel.reject(1, requeue=False)
    broker.write()
    channel = broker.restarted().client().channel()
    letter = die(channel, "one")
    assert [death["queue"] for death in letter.headers["x-death"]] == ["one", "two"]


@pytest.mark.parametrize("entry", [5, {}, {"queue": "q"}, {"reason": []}, {"count": "1"}])
def test_an_entry_that_is_none_is_left_out(entry: Any) -> None:
    whole = {"queue": "q", "reason": "rejected", "count": 1, "time": 5, "exchange": "", "routing-keys": ["q"]}
    history = [{**whole, **entry} if isinstance(entry, dict) and "queue" not in entry and entry else entry, whole]
    channel = channel_of("3.13")
    mortal(channel, durable=True)
    channel.publish("", "q", b"m", headers={"x-death": history})
    (death,) = die(channel, "q").headers["x-death"]
    assert death["count"] == 2


@of_field("delivery_limit")
@pytest.mark.parametrize("series", ALL)
def test_the_limit_of_deliveries(series: str) -> None:
    channel = channel_of(series)
    channel.declare("q", QUORUM, durable=True)
    channel.publish("", "q", b"m")
    returns = 0
    while returns < 25 and (got := channel.get("q")) is not None:
        channel.reject(got.expect(commands.Basic.GetOk).delivery_tag or 0, requeue=True)
        returns += 1
    assert returns == (25 if series.startswith("3.") else 21)


@of_field("negative_delivery_limit_is_none")
@pytest.mark.parametrize("series", ALL)
def test_a_negative_limit_of_deliveries(series: str) -> None:
    channel = channel_of(series)
    channel.declare("q", {**QUORUM, "x-delivery-limit": -1}, durable=True)
    channel.publish("", "q", b"m")
    channel.get("q")
    channel.reject(1, requeue=True)
    assert channel.message_count("q") == (0 if series.startswith("3.") else 1)


@of_field("first_delivery_is_counted")
@pytest.mark.parametrize("series", ALL)
def test_the_count_of_the_first_delivery(series: str) -> None:
    channel = channel_of(series)
    channel.declare("q", QUORUM, durable=True)
    channel.publish("", "q", b"m")
    got = channel.get("q")
    assert got is not None
    assert got.headers == ({"x-delivery-count": 0} if series == "3.10" else {})


@of_field("has_global_prefetch")
@pytest.mark.parametrize("series", ALL)
def test_global_prefetch(series: str) -> None:
    channel = channel_of(series)
    channel.declare("q", durable=True)
    for body in (b"1", b"2", b"3"):
        channel.publish("", "q", body)
    channel.qos(1, of_channel=True)
    channel.consume("q", "a")
    channel.consume("q", "b")
    assert channel.bodies() == ([b"1", b"2"] if series == "4.3" else [b"1"])


@of_field("has_transient_queues")
@pytest.mark.parametrize("series", ALL)
def test_transient_queues(series: str) -> None:
    channel = channel_of(series)
    channel.declare("exclusive", exclusive=True)
    channel.send(commands.Queue.Declare(queue="q"))
    if series == "4.3":
        close = channel.client.closed_with()
        assert (close.reply_code, "transient_nonexcl_queues" in close.reply_text) == (541, True)
    else:
        channel.one(commands.Queue.DeclareOk)


@of_field("queue_type_is_filled_in")
@pytest.mark.parametrize("series", ALL)
def test_another_type_of_queue(series: str) -> None:
    broker = MemoryBroker(behave_like=series)
    channel = Client(broker).open().channel()
    channel.declare("q", durable=True)
    (told,) = Inspection(broker).queues("/")
    assert told["arguments"] == ({} if series.startswith("3.") else {"x-queue-type": "classic"})
    channel.declare("q", {"x-queue-type": "classic"}, durable=True)
    channel.send(commands.Queue.Declare(queue="q", durable=True, arguments=QUORUM))
    filled_in = "received 'quorum' but current is 'classic'"
    given = "received the value 'quorum' of type 'longstr' but current is none"
    assert channel.closed_with().reply_text.endswith(given if series.startswith("3.") else filled_in)


@of_field("refusals_name_the_permission")
@pytest.mark.parametrize("series", ALL)
def test_a_refusal_names_the_permission(series: str) -> None:
    broker = MemoryBroker(behave_like=series)
    broker.administration.set_permission("guest", "/", "^$", ".*", ".*")
    channel = Client(broker).open().channel()
    channel.send(commands.Queue.Declare(queue="q"))
    access = "access" if series == "3.10" else "configure access"
    text = f"ACCESS_REFUSED - {access} to queue 'q' in vhost '/' refused for user 'guest'"
    assert channel.closed_with().reply_text == text


@of_field("passive_declarations_need_a_permission")
@pytest.mark.parametrize("series", ALL)
@pytest.mark.parametrize(
    ("kind", "method"),
    [
        ("queue", commands.Queue.Declare(queue="there", passive=True)),
        ("exchange", commands.Exchange.Declare(exchange="there", passive=True)),
    ],
)
def test_a_passive_declaration_needs_some_permission(series: str, kind: str, method: Any) -> None:
    broker = MemoryBroker(behave_like=series)
    channel = Client(broker).open().channel()
    channel.declare("there", durable=True)
    channel.call(commands.Exchange.Declare(exchange="there"))
    for permissions in (("^there$", "", ""), ("", "^there$", ""), ("", "", "^there$")):
        broker.administration.set_permission("guest", "/", *permissions)
        channel.call(method)
    broker.administration.set_permission("guest", "/", "", "", "")
    channel.send(method)
    if series == "4.3":
        text = f"ACCESS_REFUSED - configure access to {kind} 'there' in vhost '/' refused for user 'guest'"
        assert channel.closed_with().reply_text == text
    else:
        assert len(channel.methods()) == 1


@of_field("topic_permission_is_asked_for_copies")
@pytest.mark.parametrize("header", ["CC", "BCC"])
@pytest.mark.parametrize("series", ALL)
def test_topic_permission_for_copies(series: str, header: str) -> None:
    broker = MemoryBroker(behave_like=series)
    broker.administration.set_topic_permission("guest", "/", "amq.topic", "^yes", ".*")
    channel = Client(broker).open().channel()
    channel.publish("amq.topic", "yes", b"", headers={header: ["yes.2"]})
    assert channel.methods() == []
    channel.publish("amq.direct", "no", b"", headers={header: ["no"]})
    assert channel.methods() == []
    channel.publish("amq.topic", "yes", b"", headers={header: ["yes.2", "no.1", "no.2"]})
    if series.startswith("3."):
        assert channel.methods() == []
    else:
        where = "topic 'no.1' in exchange 'amq.topic' in vhost '/'"
        text = f"ACCESS_REFUSED - write access to {where} refused for user 'guest'"
        assert channel.closed_with().reply_text == text


@of_field("streams_take_refusals")
@pytest.mark.parametrize("series", ALL)
def test_entries_of_a_stream_that_are_refused(series: str) -> None:
    channel = channel_of(series)
    channel.declare("s", {"x-queue-type": "stream"}, durable=True)
    channel.publish("", "s", b"0")
    channel.publish("", "s", b"1")
    channel.qos(1)
    channel.consume("s", arguments={"x-stream-offset": "first"})
    assert channel.bodies() == [b"0"]
    channel.nack(1)
    if series in ("3.10", "3.13"):
        text = "basic.nack and basic.reject not supported by stream queues queue 's' in vhost '/'"
        assert channel.client.closed_with().reply_text == f"NOT_IMPLEMENTED - {text}"
    else:
        assert channel.bodies() == [b"1"]


@of_field("readers_store_offsets")
@pytest.mark.parametrize("series", ALL)
def test_who_may_store_offsets_of_a_stream(series: str) -> None:
    broker = MemoryBroker(behave_like=series)
    administrator = StreamClient(broker)
    administrator.create("s")
    for name, patterns in (("reads", ("^$", "^$", ".*")), ("writes", ("^$", ".*", "^$"))):
        broker.administration.add_user(name, "secret")
        broker.administration.set_permission(name, "/", *patterns)
        client = StreamClient(broker, logs_in=False)
        client.log_in(name, "secret")
        client.store_offset(name, "s", 1)
    stored = [name for name in ("reads", "writes") if administrator.offset(name, "s")[0] == 1]
    assert stored == (["writes"] if series == "3.10" else ["reads"])


@of_field("streams_have_anonymous")
@pytest.mark.parametrize("series", ALL)
def test_who_does_not_say_who_it_is_in_the_stream_protocol(series: str) -> None:
    is_there = series not in ("3.10", "3.13")
    broker = MemoryBroker(behave_like=series)
    client = StreamClient(broker, logs_in=False)
    assert ("ANONYMOUS" in client.call(HANDSHAKE)[1].texts()) is is_there
    assert client.call(AUTHENTICATE, text("ANONYMOUS") + blob(b""))[0] == (1 if is_there else 7)
    assert client.connection.user_name == ("guest" if is_there else "")
    broker.administration.change_password("guest", "secret", algorithm=SHA256)
    other = StreamClient(broker, logs_in=False)
    assert other.call(AUTHENTICATE, text("ANONYMOUS") + blob(b""))[0] == (8 if is_there else 7)
    broker = MemoryBroker(behave_like=series, default_user="shop", default_password="secret")
    stranger = StreamClient(broker, logs_in=False, peer=Peer.at("192.0.2.1", 50_000))  # is no administrator, either
    assert stranger.call(AUTHENTICATE, text("ANONYMOUS") + blob(b""))[0] != 1


@of_field("texts_name_streams")
@pytest.mark.parametrize("series", ALL)
def test_a_consumer_of_a_stream_without_a_prefetch_count(series: str) -> None:
    channel = channel_of(series)
    channel.declare("s", {"x-queue-type": "stream"}, durable=True)
    channel.send(commands.Basic.Consume(queue="s"))
    name = "'queue 's' in vhost '/''" if series in ("3.10", "3.13") else "stream queue 's' in vhost '/'"
    assert channel.closed_with().reply_text == f"PRECONDITION_FAILED - consumer prefetch count is not set for {name}"


@of_field("quorum_priorities")
@pytest.mark.parametrize("series", ALL)
def test_priorities_of_a_quorum_queue(series: str) -> None:
    channel = channel_of(series)
    channel.declare("q", QUORUM, durable=True)
    for priority in (4, 5, 6, 31):
        channel.publish("", "q", b"%d" % priority, priority=priority)
    channel.consume("q")
    orders = {"4.0": [b"5", b"6", b"4", b"31"], "4.3": [b"31", b"6", b"5", b"4"]}
    assert channel.bodies() == orders.get(series, [b"4", b"5", b"6", b"31"])


@of_field("classic_queues_have_leader_locators")
@pytest.mark.parametrize("series", ALL)
def test_where_the_leader_of_a_classic_queue_is_to_be(series: str) -> None:
    is_known = series not in ("3.10", "3.13")
    broker = MemoryBroker(behave_like=series)
    policy: dict[str, object] = {"pattern": "", "definition": {"queue-leader-locator": "balanced", "max-length": 1}}
    broker.handle(lambda: broker.administration.parameters.set_policy("/", "p", policy))
    channel = Client(broker).open().channel()
    channel.declare("q", durable=True)
    for body in (b"1", b"2"):
        channel.publish("", "q", body)
    assert channel.drain("q") == ([b"2"] if is_known else [b"1", b"2"])
    channel.send(commands.Queue.Declare(queue="r", durable=True, arguments={"x-queue-leader-locator": "balanced"}))
    if is_known:
        assert channel.one(commands.Queue.DeclareOk).queue == "r"
    else:
        assert "invalid arg 'x-queue-leader-locator' for queue 'r'" in channel.closed_with().reply_text


@of_field("highest_consumer_takes_over")
@pytest.mark.parametrize("series", ALL)
def test_a_single_active_consumer_and_a_higher_one(series: str) -> None:
    channel = channel_of(series)
    channel.declare("q", {**QUORUM, "x-single-active-consumer": True}, durable=True)
    channel.consume("q", "first")
    channel.consume("q", "higher", arguments={"x-priority": 10})
    channel.publish("", "q", b"m")
    (delivery,) = channel.deliveries()
    delivered = delivery.expect(commands.Basic.Deliver).consumer_tag
    assert delivered == ("first" if series.startswith("3.") else "higher")
