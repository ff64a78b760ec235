"""Messages that an exchange holds back: when they come, in which order, and what becomes of them meanwhile.

Most is asked of a broker without a disk and of one with it: nobody can tell the difference but after a restart.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from pamqp import commands

from amqp_broker.broker.delayed import holder
from amqp_broker.broker.delayed.header import DELAY_MS_MAX, delay_ms_of
from amqp_broker.broker.inspection import Inspection
from amqp_broker.broker.persistence.kinds import RecordKind
from amqp_broker.broker.policies import POLICY
from amqp_broker.cli.journal import _described
from amqp_broker.journal.dump import dump
from amqp_broker.wire.table import Timestamp, UnsignedByte
from tests.support.client import Client, ClientChannel
from tests.support.disk_broker import DiskBroker
from tests.support.memory_broker import MemoryBroker, small_slices

HOUR_MS = 3_600_000
YEAR_MS = 365 * 24 * HOUR_MS


@pytest.fixture(autouse=True)
def little_is_much() -> Iterator[None]:
    """So that a few messages are several pages, and more than may be at hand."""
    names = {"AT_HAND_MAX": 6, "PAGE_MAX": 3}
    before = {name: getattr(holder, name) for name in names}
    for name, value in names.items():
        setattr(holder, name, value)
    yield
    for name, value in before.items():
        setattr(holder, name, value)


@pytest.fixture(params=[MemoryBroker, DiskBroker], ids=["memory", "disk"])
def broker(request: pytest.FixtureRequest) -> MemoryBroker:
    """A broker without a disk, and one with it."""
    made = request.param()
    assert isinstance(made, MemoryBroker)
    return made


@pytest.fixture
def disk() -> DiskBroker:
    """A broker with a disk."""
    return DiskBroker()


def prepared(broker: MemoryBroker, inner: str = "direct", **arguments: Any) -> ClientChannel:
    """A channel beside a delayed exchange ``x``, to which the queue ``q`` is bound by the key ``k``."""
    channel = Client(broker).open().channel()
    channel.exchange("x", "x-delayed-message", {"x-delayed-type": inner, **arguments}, durable=True)
    channel.declare("q", durable=True)
    channel.bind("q", "x", "k")
    return channel


@pytest.fixture
def channel(broker: MemoryBroker) -> ClientChannel:
    """The same of the broker under test."""
    return prepared(broker)


def delayed(channel: ClientChannel, delay: Any, body: bytes = b"late", exchange: str = "x", **properties: Any) -> None:
    """Publish a message that asks for a delay."""
    channel.publish(exchange, "k", body, headers={"x-delay": delay}, **properties)


def held(broker: MemoryBroker, exchange: str = "x") -> int:
    """How many messages an exchange holds."""
    found = broker.virtual_host.exchange(exchange).holder
    return 0 if found is None else found.ready_count


# --- when, and in which order


def test_a_message_comes_when_its_time_has_come_and_says_how_long_it_was(
    broker: MemoryBroker, channel: ClientChannel
) -> None:
    channel.publish("x", "k", b"late", headers={"x-delay": HOUR_MS, "a": 1}, delivery_mode=2, message_id="m")
    broker.advance(HOUR_MS - 1)
    assert channel.message_count("q") == 0
    assert held(broker) == 1
    broker.advance(1)
    message = channel.get("q")
    assert message is not None
    assert message.body == b"late"
    assert message.headers == {"x-delay": -HOUR_MS, "a": 1}
    assert message.properties is not None
    assert (message.properties.delivery_mode, message.properties.message_id) == (2, "m")
    assert held(broker) == 0
    broker.check_invariants()


def test_they_come_in_the_order_of_their_times_whenever_they_were_published(
    broker: MemoryBroker, channel: ClientChannel
) -> None:
    channel.consume("q", no_ack=True)
    delays = [5000, 10, 70_000, 10, 2500, 1, 2500, 999, HOUR_MS, 70_000, *range(3000, 3020)]
    for number, delay in enumerate(delays):
        delayed(channel, delay, b"%d" % number)
    broker.advance(HOUR_MS)
    assert channel.bodies() == [b"%d" % number for number, _ in sorted(enumerate(delays), key=lambda one: one[1])]
    assert held(broker) == 0


def test_each_comes_at_its_own_millisecond(broker: MemoryBroker, channel: ClientChannel) -> None:
    channel.consume("q", no_ack=True)
    for delay in (90_000, 3000, 3500, 61_000):
        delayed(channel, delay, b"%d" % delay)
    start_ms = broker.clock.monotonic_ms()
    for delay in (3000, 3500, 61_000, 90_000):
        broker.advance(start_ms + delay - 1 - broker.clock.monotonic_ms())
        assert channel.bodies() == []
        broker.advance(1)
        assert channel.bodies() == [b"%d" % delay]


@pytest.mark.parametrize("delay", [2**32, 2**32 + 5, 150 * YEAR_MS], ids=str)
def test_a_delay_beyond_32_bits_is_one(broker: MemoryBroker, channel: ClientChannel, delay: int) -> None:
    delayed(channel, delay)
    broker.advance(delay - 1)
    assert channel.message_count("q") == 0
    broker.advance(1)
    assert channel.drain("q") == [b"late"]


@pytest.mark.parametrize(
    "delay", [0, -1, None, "soon", "", "1e3", "1_000", True, [5], {"a": 5}, Decimal("5.5")], ids=repr
)
def test_what_is_no_delay_is_routed_at_once_as_it_is(broker: MemoryBroker, channel: ClientChannel, delay: Any) -> None:
    delayed(channel, delay)
    message = channel.get("q")
    assert message is not None
    assert message.headers == {"x-delay": delay}


@pytest.mark.parametrize(
    ("value", "delay_ms"),
    [
        ("1500", 1500),
        (" +7 ", 7),
        (b"8", 8),
        (2.9, 2),
        (-2.9, 0),
        (float("nan"), 0),
        (float("inf"), 0),
        (UnsignedByte(9), 9),
        (Timestamp(9), 0),
        ("9" * 30, DELAY_MS_MAX),
        ("9" * 3000, 0),
    ],
)
def test_how_a_delay_is_read(value: Any, delay_ms: int) -> None:
    assert delay_ms_of({"x-delay": value}) == delay_ms


def test_a_message_without_the_header_or_without_headers_is_routed_at_once(channel: ClientChannel) -> None:
    channel.publish("x", "k", b"1")
    channel.publish("x", "k", b"2", headers={"a": 1})
    assert channel.drain("q") == [b"1", b"2"]


def test_the_longest_delay_there_is_does_no_harm(broker: MemoryBroker, channel: ClientChannel) -> None:
    delayed(channel, 2**63 - 1)
    delayed(channel, 5, b"soon")
    broker.advance(YEAR_MS)
    assert channel.drain("q") == [b"soon"]
    assert held(broker) == 1


def test_ever_shorter_delays_leave_few_timers(broker: MemoryBroker, channel: ClientChannel) -> None:
    for delay in range(2000, 0, -1):
        delayed(channel, HOUR_MS + delay)
    assert len(broker.timers._agenda) < 100


# --- the way it is routed


@pytest.mark.parametrize(
    ("inner", "key", "arguments", "headers"),
    [
        ("direct", "k", {}, {}),
        ("fanout", "", {}, {}),
        ("topic", "*", {}, {}),
        ("headers", "", {"x-match": "all", "kind": "a"}, {"kind": "a"}),
        ("x-random", "", {}, {}),
    ],
)
def test_the_type_within_routes(
    broker: MemoryBroker, inner: str, key: str, arguments: dict[str, Any], headers: dict[str, Any]
) -> None:
    channel = Client(broker).open().channel()
    channel.exchange("x", "x-delayed-message", {"x-delayed-type": inner})
    channel.declare("q")
    channel.bind("q", "x", key, arguments)
    channel.publish("x", "k", b"late", headers={**headers, "x-delay": 10})
    channel.publish("x", "k", b"now", headers=headers)
    broker.advance(10)
    assert channel.drain("q") == [b"now", b"late"]


def test_bindings_count_that_are_there_when_it_is_due(broker: MemoryBroker, channel: ClientChannel) -> None:
    delayed(channel, 10)
    channel.declare("r")
    channel.bind("r", "x", "k")
    channel.call(commands.Queue.Unbind(queue="q", exchange="x", routing_key="k"))
    broker.advance(10)
    assert (channel.drain("q"), channel.drain("r")) == ([], [b"late"])


def test_one_delay_is_enough_behind_another_delayed_exchange(broker: MemoryBroker, channel: ClientChannel) -> None:
    channel.exchange("first", "x-delayed-message", {"x-delayed-type": "fanout"})
    channel.call(commands.Exchange.Bind(destination="x", source="first", routing_key=""))
    delayed(channel, 10, exchange="first")
    broker.advance(10)
    assert channel.drain("q") == [b"late"]


def test_a_fanout_before_it_delivers_at_once_what_is_delayed_behind_it(
    broker: MemoryBroker, channel: ClientChannel
) -> None:
    channel.exchange("first", "fanout")
    channel.call(commands.Exchange.Bind(destination="x", source="first", routing_key=""))
    channel.declare("now")
    channel.bind("now", "first")
    delayed(channel, 10, exchange="first", delivery_mode=2)
    message = channel.get("now", no_ack=True)
    assert message is not None
    assert message.headers == {"x-delay": 10}
    broker.advance(10)
    assert channel.drain("q") == [b"late"]


def test_copies_by_cc_and_bcc_come_with_it(broker: MemoryBroker, channel: ClientChannel) -> None:
    for queue in ("cc", "bcc"):
        channel.declare(queue)
        channel.bind(queue, "x", queue)
    channel.publish("x", "k", b"late", headers={"x-delay": 10, "CC": ["cc"], "BCC": ["bcc"]})
    broker.advance(10)
    message = channel.get("q", no_ack=True)
    assert message is not None
    assert message.headers == {"x-delay": -10, "CC": ["cc"]}
    assert (channel.drain("cc"), channel.drain("bcc")) == ([b"late"], [b"late"])


def test_where_nobody_is_bound_the_alternate_exchange_has_it_when_it_is_due(broker: MemoryBroker) -> None:
    channel = prepared(broker, **{"alternate-exchange": "amq.fanout"})
    channel.declare("other")
    channel.bind("other", "amq.fanout")
    channel.publish("x", "nobody", b"late", headers={"x-delay": 10})
    assert channel.message_count("other") == 0
    broker.advance(10)
    assert channel.drain("other") == [b"late"]


def test_a_mandatory_message_that_is_held_is_not_returned_but_dropped_if_nobody_is_bound_then(
    broker: MemoryBroker, channel: ClientChannel
) -> None:
    channel.call(commands.Confirm.Select())
    channel.publish("x", "nobody", b"late", headers={"x-delay": 10}, mandatory=True)
    channel.one(commands.Basic.Ack)
    broker.advance(10)
    assert channel.methods() == []
    assert held(broker) == 0
    channel.publish("x", "nobody", b"now", mandatory=True)
    assert [type(one) for one in channel.methods()] == [commands.Basic.Return, commands.Basic.Ack]


def test_its_own_time_to_live_begins_when_it_is_due(broker: MemoryBroker, channel: ClientChannel) -> None:
    delayed(channel, 10_000, expiration="5000")
    broker.advance(10_000)
    broker.advance(4_999)
    assert channel.message_count("q") == 1
    broker.advance(1)
    assert channel.message_count("q") == 0


def test_a_dead_letter_is_held_if_it_asks_for_it_and_was_not_before(
    broker: MemoryBroker, channel: ClientChannel
) -> None:
    channel.declare("dying", {"x-dead-letter-exchange": "x", "x-dead-letter-routing-key": "k", "x-message-ttl": 5})
    channel.publish("", "dying", b"late", headers={"x-delay": 100})
    broker.advance(5)
    assert (held(broker), channel.message_count("q")) == (1, 0)
    broker.advance(100)
    message = channel.get("q", no_ack=True)
    assert message is not None
    assert message.headers["x-delay"] == -100
    assert message.headers["x-death"][0]["queue"] == "dying"


def test_a_transaction_holds_what_it_published_from_its_commit_on(broker: MemoryBroker, channel: ClientChannel) -> None:
    channel.call(commands.Tx.Select())
    delayed(channel, 10)
    assert held(broker) == 0
    broker.advance(20)
    channel.call(commands.Tx.Commit())
    assert held(broker) == 1
    delayed(channel, 10, b"taken back")
    channel.call(commands.Tx.Rollback())
    broker.advance(10)
    assert channel.drain("q") == [b"late"]


def test_a_client_counts_as_having_published_once(broker: MemoryBroker, channel: ClientChannel) -> None:
    exchange = broker.virtual_host.exchange("x")
    delayed(channel, 10)
    channel.publish("x", "k", b"now")
    broker.advance(10)
    assert (exchange.published_in, exchange.published_out) == (2, 2)


# --- refusals


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({}, "Invalid argument, 'x-delayed-type' must be an existing exchange type"),
        ({"x-delayed-type": 5}, "Invalid argument, 'x-delayed-type' must be an existing exchange type"),
        (
            {"x-delayed-type": "x-delayed-message"},
            "Invalid argument, 'x-delayed-message' can't be used for 'x-delayed-type'",
        ),
        (
            {"x-delayed-type": "x-message-deduplication"},
            "Missing x-cache-size argument",
        ),
        (
            {"x-delayed-type": "direct", "x-delayed-exchange": "yes"},
            "invalid arg 'x-delayed-exchange' for exchange 'wrong' in vhost '/': it is true or false, not a value of "
            "type longstr",
        ),
    ],
)
def test_arguments_that_make_no_sense_are_refused(broker: MemoryBroker, arguments: Any, text: str) -> None:
    channel = Client(broker).open().channel()
    channel.send(commands.Exchange.Declare(exchange="wrong", exchange_type="x-delayed-message", arguments=arguments))
    closed = channel.closed_with()
    assert (closed.reply_code, closed.reply_text) == (406, f"PRECONDITION_FAILED - {text}")
    assert "wrong" not in broker.virtual_host.exchanges


def test_an_unknown_type_within_is_refused_as_one_without(broker: MemoryBroker) -> None:
    channel = Client(broker).open().channel()
    arguments: Any = {"x-delayed-type": "x-nobody"}
    channel.send(commands.Exchange.Declare(exchange="wrong", exchange_type="x-delayed-message", arguments=arguments))
    assert channel.closed_with().reply_text == "PRECONDITION_FAILED - unknown exchange type 'x-nobody'"


def test_an_exchange_is_declared_again_as_it_holds_or_does_not(broker: MemoryBroker) -> None:
    channel = Client(broker).open().channel()
    channel.exchange("x", "topic", {"x-delayed-exchange": True})
    channel.exchange("x", "topic", {"x-delayed-exchange": True})
    channel.send(commands.Exchange.Declare(exchange="x", exchange_type="topic"))
    assert "inequivalent arg 'x-delayed-exchange' for exchange 'x'" in (channel.closed_with().reply_text or "")


# --- any exchange, by an argument or a policy


def test_an_argument_lets_an_exchange_of_any_type_hold_messages(broker: MemoryBroker) -> None:
    channel = Client(broker).open().channel()
    channel.exchange("x", "topic", {"x-delayed-exchange": True})
    channel.declare("q")
    channel.bind("q", "x", "#")
    delayed(channel, 10)
    channel.publish("x", "k", b"now")
    broker.advance(10)
    assert channel.drain("q") == [b"now", b"late"]


def test_an_exchange_without_it_delays_nothing(broker: MemoryBroker) -> None:
    channel = Client(broker).open().channel()
    channel.exchange("x", "fanout", {"x-delayed-exchange": False})
    channel.declare("q")
    channel.bind("q", "x")
    delayed(channel, 10)
    assert channel.drain("q") == [b"late"]
    assert broker.virtual_host.exchange("x").holder is None


def set_policy(broker: MemoryBroker, pattern: str, definition: dict[str, Any]) -> None:
    """Set a policy for exchanges."""
    value: dict[str, object] = {"pattern": pattern, "definition": definition, "apply-to": "exchanges"}
    broker.handle(lambda: broker.administration.parameters.set_policy("/", "p", value, POLICY))


def test_a_policy_lets_any_exchange_hold_messages_and_its_end_does_not_lose_them(broker: MemoryBroker) -> None:
    channel = Client(broker).open().channel()
    channel.declare("q", durable=True)
    channel.bind("q", "amq.direct", "k")
    delayed(channel, 10, b"before", "amq.direct")
    set_policy(broker, "^amq.direct$", {"delayed-message": True})
    delayed(channel, 10, b"under it", "amq.direct")
    assert channel.drain("q") == [b"before"]
    set_policy(broker, "^amq.direct$", {"alternate-exchange": "other"})
    delayed(channel, 10, b"after", "amq.direct")
    assert channel.drain("q") == [b"after"]
    broker.advance(10)
    assert channel.drain("q") == [b"under it"]


def test_the_end_of_a_policy_changes_nothing_for_what_was_declared_so(
    broker: MemoryBroker, channel: ClientChannel
) -> None:
    set_policy(broker, "x", {"delayed-message": False})
    delayed(channel, 10)
    assert held(broker) == 1
    set_policy(broker, "y", {"delayed-message": True})
    broker.advance(10)
    assert channel.drain("q") == [b"late"]


# --- the end of the exchange


@pytest.mark.parametrize("count", [1, 25])
def test_what_is_held_goes_with_its_exchange(count: int) -> None:
    with small_slices():
        broker = DiskBroker()
    channel = prepared(broker)
    records = broker.live_records()
    for number in range(count):
        delayed(channel, 10 + number)
    channel.call(commands.Exchange.Delete(exchange="x"))
    broker.advance(HOUR_MS)
    assert channel.message_count("q") == 0
    assert broker.live_records() == records - 2, "the exchange's and the binding's records are gone, and the messages"


def test_a_virtual_host_takes_along_what_its_exchanges_hold(disk: DiskBroker) -> None:
    channel = prepared(disk)
    delayed(channel, 10)
    disk.handle(lambda: disk.administration.delete_virtual_host("/"))
    disk.advance(10)
    assert "/" not in disk.restarted().virtual_hosts


# --- restarts


@pytest.mark.parametrize("end", ["restarted", "killed", "without_power"])
@pytest.mark.parametrize("mode", [1, 2])
def test_what_is_held_survives_whatever_its_delivery_mode(disk: DiskBroker, end: str, mode: int) -> None:
    channel = prepared(disk)
    for number, delay in enumerate([HOUR_MS, 10, HOUR_MS - 1, 5 * HOUR_MS, 5]):
        delayed(channel, delay, b"%d" % number, delivery_mode=mode)
    again = getattr(disk, end)(down_ms=1000)
    channel = Client(again).open().channel()
    assert held(again) == 5
    again.advance(0)
    assert channel.drain("q") == [b"4", b"1"], "those came due meanwhile"
    again.advance(HOUR_MS - 1002)
    assert channel.message_count("q") == 0
    again.advance(1)
    assert channel.drain("q") == [b"2"]
    again.advance(1)
    assert channel.drain("q") == [b"0"]
    again.advance(4 * HOUR_MS)
    assert channel.drain("q") == [b"3"]
    assert held(again) == 0


def test_nothing_is_held_for_longer_than_it_asked_for_when_the_clock_was_wrong(disk: DiskBroker) -> None:
    channel = prepared(disk)
    disk.clock.set_wall(5 * HOUR_MS)
    delayed(channel, 300, b"soon")
    delayed(channel, HOUR_MS, b"later")
    disk.advance(200)
    disk.clock.set_wall(0)
    again = disk.killed()
    channel = again.client().channel()
    again.advance(300)
    assert channel.drain("q") == [b"soon"]
    again.advance(HOUR_MS - 300)
    assert channel.drain("q") == [b"later"]


def test_what_an_earlier_release_has_written_is_held_until_it_is_due(disk: DiskBroker) -> None:
    """Its records do not say since when they are held."""
    delayed(prepared(disk), HOUR_MS)
    of_x = disk.virtual_hosts["/"].exchanges["x"].holder
    assert isinstance(of_x, holder.Holder)
    ((_, reference),) = of_x.some_after(None, 2)
    record = disk.journal.read_many([reference])[0]
    disk.journal.put(RecordKind.DELAYED, record[:18] + bytes(8) + record[26:])
    disk.write()
    again = disk.killed(down_ms=1000)
    channel = again.client().channel()
    again.advance(HOUR_MS - 1001)
    assert channel.drain("q") == []
    again.advance(1)
    assert channel.drain("q") == [b"late", b"late"]


def test_what_an_exchange_holds_that_does_not_last_is_gone_after_a_restart(disk: DiskBroker) -> None:
    channel = disk.client().channel()
    records = disk.live_records()
    channel.exchange("x", "fanout", {"x-delayed-exchange": True})
    delayed(channel, 10)
    again = disk.restarted()
    again.advance(10)
    assert again.live_records() == records


def test_what_a_policy_lets_be_held_survives_the_policy_too(disk: DiskBroker) -> None:
    channel = disk.client().channel()
    channel.declare("q", durable=True)
    channel.bind("q", "amq.direct", "k")
    set_policy(disk, "direct", {"delayed-message": True})
    delayed(channel, HOUR_MS, exchange="amq.direct")
    again = disk.killed()
    assert held(again, "amq.direct") == 1
    again.handle(lambda: again.administration.parameters.clear_policy("/", "p", POLICY))
    last = again.killed()
    last.advance(HOUR_MS)
    assert last.client().channel().drain("q") == [b"late"]


def test_a_confirm_waits_for_the_disk_even_for_a_transient_message(disk: DiskBroker) -> None:
    channel = prepared(disk)
    channel.call(commands.Confirm.Select())
    with disk.holding_writes():
        delayed(channel, HOUR_MS, delivery_mode=1)
        assert channel.methods() == []
    channel.one(commands.Basic.Ack)


def test_with_a_disk_only_what_is_due_soon_is_in_memory(disk: DiskBroker) -> None:
    channel = prepared(disk)
    for number in range(50):
        delayed(channel, HOUR_MS + number * 1000, bytes(100))
    kept = disk.virtual_host.exchange("x").holder
    assert kept is not None
    assert kept.ready_bytes == 0
    disk.advance(HOUR_MS - 1)
    assert 0 < kept.ready_bytes <= 600
    assert channel.message_count("q") == 0
    disk.advance(50_000)
    assert len(channel.drain("q")) == 50


def test_a_message_is_in_one_place_whenever_the_machine_stops(disk: DiskBroker) -> None:
    channel = prepared(disk)
    delayed(channel, 10, delivery_mode=2)
    disk.writes_at_once = False
    disk.advance(10)
    assert channel.message_count("q") == 1
    again = disk.killed()
    assert (held(again), again.queue("q").ready_count) == (1, 0)
    again.advance(0)
    again.write()
    last = again.killed()
    assert (held(last), last.queue("q").ready_count) == (0, 1)


# --- who looks in


def test_how_many_are_held_is_told_where_some_may_be(broker: MemoryBroker, channel: ClientChannel) -> None:
    delayed(channel, 10)
    delayed(channel, 20)
    set_policy(broker, "x", {"alternate-exchange": "other"})
    told = {info["name"]: info.get("messages_delayed") for info in Inspection(broker).exchanges("/")}
    assert told["x"] == 2
    assert told["amq.direct"] is None


def test_a_dump_of_the_journal_tells_what_is_held(disk: DiskBroker) -> None:
    delayed(prepared(disk), HOUR_MS)
    disk.write()
    lines = list(dump(disk.files, partial(_described, bodies=True)))
    holders = [line for line in lines if "delay_holder {'virtual_host': '/', 'exchange': 'x'}" in line]
    due_ms = disk.clock.wall_ms() + HOUR_MS
    messages = [line for line in lines if "delayed to 'x' key 'k' held by" in line]
    assert len(holders) == len(messages) == 1
    assert messages[0].endswith(f"until {due_ms} body b'late'")
