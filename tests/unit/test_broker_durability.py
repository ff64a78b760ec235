"""What a restart leaves as it was, what it takes away, and what is whole or not there after a crash."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from pamqp import base, commands

from amqp_broker.broker.message import Address, Message, digest_of
from amqp_broker.broker.persistence.definitions import keep_user
from amqp_broker.journal.dump import dump
from amqp_broker.journal.memory_files import MemoryFiles
from amqp_broker.journal.repair import repair
from amqp_broker.wire.content import Properties, encode_content_header
from amqp_broker.wire.table import NESTING_DEPTH_MAX
from tests.support.client import Client, ClientChannel
from tests.support.disk_broker import DiskBroker, small_pages

QUORUM: dict[str, Any] = {"x-queue-type": "quorum"}
TO_DEAD: dict[str, Any] = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}


@pytest.fixture
def broker() -> DiskBroker:
    return DiskBroker()


@pytest.fixture
def channel(broker: DiskBroker) -> ClientChannel:
    return broker.client().channel()


def after_restart(broker: DiskBroker, **how: Any) -> ClientChannel:
    return broker.restarted(**how).client().channel()


def keep(channel: ClientChannel, queue: str, *bodies: bytes, **properties: Any) -> None:
    for body in bodies:
        channel.publish("", queue, body, delivery_mode=2, **properties)


# --- what hardly fits into a record


@pytest.mark.parametrize("copies", [["x" * 300, "y"], pytest.param([""] * 33_000, marks=pytest.mark.slow)])
def test_keys_of_any_number_and_length_for_copies(broker: DiskBroker, copies: list[str]) -> None:
    broker.client().channel().declare("q", durable=True)
    header = encode_content_header(4, Properties(headers={"CC": list(copies)}, delivery_mode=2))
    host = broker.virtual_hosts["/"]
    broker.handle(lambda: host.ingress.publish(host.exchanges[""], "q", header, b"body", digest_of(header)))
    (message,) = broker.restarted().queue("q").messages()
    assert (message.header, message.body, message.address.is_dead_letter) == (header, b"body", False)


def test_arguments_nested_as_deep_as_they_may_be(broker: DiskBroker, channel: ClientChannel) -> None:
    nested: dict[str, Any] = {}
    for _ in range(NESTING_DEPTH_MAX - 1):
        nested = {"a": nested}
    channel.exchange("x", "fanout", nested, durable=True)
    channel.declare("q", nested, durable=True)
    channel.bind("q", "x", "", nested)
    again = after_restart(broker)
    again.publish("x", "", b"body")
    assert again.drain("q") == [b"body"]


@pytest.mark.slow
def test_a_message_to_more_queues_than_a_record_can_name(broker: DiskBroker, channel: ClientChannel) -> None:
    """Persistent sessions of a hundred thousand devices may subscribe to one topic."""
    channel.declare("q", durable=True)
    queue, count = broker.queue("q"), 65_537
    message = Message(Address("", "q", b"\0\1q"), encode_content_header(4, Properties()), b"body", True, 0)
    before = broker.live_records()
    broker.durability.keep_message([queue] * count, [message] * count, None)
    assert broker.live_records() == before + count
    assert broker.journal.read(message.reference)[1].endswith(b"body")


# --- definitions


def test_durable_queues_exchanges_and_bindings_outlive_a_restart(broker: DiskBroker, channel: ClientChannel) -> None:
    channel.exchange("head", "headers", durable=True)
    channel.exchange("next", "topic", durable=True)
    channel.declare("q", {"x-max-priority": 5, "x-message-ttl": 60_000}, durable=True)
    channel.call(commands.Exchange.Bind(destination="next", source="head", arguments={"x-match": "all", "n": 1}))
    channel.bind("q", "next", "a.#")
    again = after_restart(broker)
    again.declare("q", {"x-max-priority": 5, "x-message-ttl": 60_000}, durable=True)
    again.exchange("head", "headers", durable=True)
    again.publish("head", "a.b", b"matches", headers={"n": 1})
    again.publish("head", "a.b", b"does not", headers={"n": 2})
    again.publish("next", "b", b"does not either")
    assert again.drain("q") == [b"matches"]


def test_what_is_not_durable_is_gone(broker: DiskBroker, channel: ClientChannel) -> None:
    channel.declare("passing")
    channel.declare("mine", durable=True, exclusive=True)
    channel.exchange("x", "fanout")
    again = after_restart(broker)
    for name in ("passing", "mine"):
        again.send(commands.Queue.Declare(queue=name, passive=True))
        assert again.closed_with().reply_code == 404
        again = again.client.channel(again.number + 1)
    again.send(commands.Exchange.Declare(exchange="x", passive=True))
    assert again.closed_with().reply_code == 404


def test_a_binding_of_a_durable_queue_to_a_passing_exchange_is_gone(broker: DiskBroker, channel: ClientChannel) -> None:
    channel.declare("q", durable=True)
    channel.exchange("x", "fanout")
    channel.bind("q", "x")
    again = after_restart(broker)
    again.exchange("x", "fanout")
    again.publish("x", "", b"nowhere")
    assert again.message_count("q") == 0


def test_what_was_deleted_stays_deleted(broker: DiskBroker, channel: ClientChannel) -> None:
    records = broker.live_records()
    channel.exchange("x", "fanout", durable=True)
    channel.declare("q", durable=True)
    channel.declare("other", durable=True)
    channel.bind("q", "x")
    channel.bind("other", "x")
    keep(channel, "q", b"1", b"2")
    channel.call(commands.Queue.Unbind(queue="other", exchange="x", routing_key=""))
    channel.call(commands.Queue.Delete(queue="q"))
    channel.call(commands.Queue.Delete(queue="other"))
    channel.call(commands.Exchange.Delete(exchange="x"))
    again = broker.restarted()
    assert again.live_records() == records
    assert not again.virtual_host.queues
    assert "x" not in again.virtual_host.exchanges


def test_a_queue_that_was_declared_again_has_none_of_the_first_ones_messages(
    broker: DiskBroker, channel: ClientChannel
) -> None:
    channel.declare("q", durable=True)
    keep(channel, "q", b"old")
    channel.call(commands.Queue.Delete(queue="q"))
    channel.declare("q", {"x-max-priority": 2}, durable=True)
    keep(channel, "q", b"new")
    assert after_restart(broker).drain("q") == [b"new"]


def test_users_and_their_permissions_outlive_a_restart(broker: DiskBroker) -> None:
    broker.users.add("eve", "secret", tags=("monitoring",))
    broker.users.permit_all("eve", "/")
    keep_user(broker.durability, broker.users.get("eve"))  # type: ignore[arg-type]
    broker.settle()
    again = broker.restarted()
    client = Client(again).open(user="eve", password="secret")
    client.channel().declare("hers")
    refused = Client(again)
    with pytest.raises(AssertionError, match="ACCESS_REFUSED"):
        refused.start(user="eve", password="wrong")


def without(broker: DiskBroker, place: int) -> DiskBroker:
    """A broker that starts after the record at a place of the first segment was damaged, and the journal repaired."""
    files = MemoryFiles()
    for name in broker.files.names():
        files.set_content(name, broker.files.content(name))
    name = files.names()[0]
    content = bytearray(files.content(name))
    content[place + 4] ^= 1
    files.set_content(name, bytes(content))
    assert repair(files).lost_bytes
    return DiskBroker(files, broker.clock)


def test_what_is_in_a_virtual_host_whose_record_is_lost_is_there_all_the_same(
    broker: DiskBroker, channel: ClientChannel
) -> None:
    channel.declare("q", durable=True)
    keep(channel, "q", b"1")
    broker.journal.close()
    mended = without(broker, next(int(line.split()[0]) for line in dump(broker.files) if "kind 1," in line))
    for _ in range(3):
        assert mended.client().channel().message_count("q") == 1
        assert mended.virtual_host.reference
        mended = mended.restarted()


def test_what_is_back_because_a_drop_is_lost_gives_way_to_what_is_newer(
    broker: DiskBroker, channel: ClientChannel
) -> None:
    channel.exchange("e", durable=True)
    channel.declare("q", durable=True)
    channel.bind("q", "e", "k")
    keep(channel, "q", b"old")
    channel.call(commands.Queue.Delete(queue="q"))
    channel.call(commands.Exchange.Delete(exchange="e"))
    channel.exchange("e", "fanout", durable=True)
    channel.declare("q", {"x-max-length": 5}, durable=True)
    channel.bind("q", "e")
    keep(channel, "q", b"new")
    broker.journal.close()
    drops = [int(line.split()[0]) for line in dump(broker.files) if "drops" in line]
    assert len(drops) > 1
    for place in drops:
        mended = without(broker, place)
        left = mended.client().channel()
        left.publish("e", "whatever", b"more", delivery_mode=2)
        assert mended.queue("q").arguments.length_max == 5
        assert left.drain("q") == [b"new", b"more"]
        again = mended.restarted()
        assert list(again.virtual_host.queues) == ["q"]
        assert again.dropped_message_count == 0
        assert again.client().channel().message_count("q") == 0


# --- messages


def test_persistent_messages_outlive_a_restart_in_order(broker: DiskBroker, channel: ClientChannel) -> None:
    channel.declare("q", durable=True)
    for number in range(100):
        channel.publish("", "q", b"%d" % number, delivery_mode=1 + number % 2)
    assert after_restart(broker).drain("q") == [b"%d" % number for number in range(1, 100, 2)]


@pytest.mark.parametrize("seed", range(8))
def test_messages_of_every_kind_come_back_in_order_however_they_are_mixed(seed: int) -> None:
    """Those that are like the one before are read back in another way than those that are not."""
    random = Random(seed)
    with small_pages():
        broker = DiskBroker(memory_budget_bytes=2)
        channel = broker.client().channel()
        channel.exchange("fan", "fanout", durable=True)
        queues: dict[str, dict[str, Any]] = {
            "a": {},
            "b": {},
            "priority": {"x-max-priority": 2},
            "quorum": QUORUM,
            "ttl": {"x-message-ttl": 60_000},
        }
        for name, arguments in queues.items():
            channel.declare(name, arguments, durable=True)
            if name != "b":
                channel.bind(name, "fan")
        want: dict[str, list[tuple[int, bytes]]] = {name: [] for name in queues}
        for _ in range(60):
            alike: dict[str, Any] = random.choice([{}, {}, {"priority": random.randrange(3)}, {"expiration": "60000"}])
            exchange, key = random.choice([("fan", "")] + [("", name) for name in queues])
            for _ in range(random.choice([1, 2, 9])):
                unlike: dict[str, Any] = random.choice([{}, {"message_id": "x" * random.randrange(255)}])
                body = random.randbytes(random.choice([0, 3, 3, 500]))
                channel.publish(exchange, key, body, delivery_mode=2, **alike, **unlike)
                for name in [key] if key else [name for name in queues if name != "b"]:
                    want[name].append((alike.get("priority", 0), body))
        want["priority"].sort(key=lambda one: -one[0])
        again = broker.restarted() if seed % 2 else broker.killed()
        left = again.client().channel()
        for name, messages in want.items():
            queue = again.queue(name)
            assert queue.ready_bytes == sum(len(body) for _, body in messages)
            assert left.drain(name) == [body for _, body in messages]
            assert (queue.ready_count, queue.ready_bytes) == (0, 0)
        assert again.paging.used_bytes == 0


def test_the_mark_of_what_was_handed_out_goes_with_its_queue(broker: DiskBroker, channel: ClientChannel) -> None:
    records = broker.live_records()
    channel.declare("q", durable=True)
    keep(channel, "q", b"handed out")
    channel.get("q")
    channel.ack(1)
    assert broker.live_records() == records + 2, "the queue, and the mark"
    channel.call(commands.Queue.Delete(queue="q"))
    assert broker.live_records() == records


@pytest.mark.parametrize("is_handed_out", [False, True])
def test_the_mark_of_what_was_handed_out_goes_with_its_virtual_host(is_handed_out: bool) -> None:
    broker = DiskBroker()
    channel = broker.client().channel()
    channel.declare("q", durable=True)
    if is_handed_out:
        keep(channel, "q", b"handed out")
        channel.get("q")
        channel.ack(1)
    broker.handle(lambda: broker.administration.delete_virtual_host("/"))
    assert broker.live_records() == 1, "the user"


def test_a_persistent_message_in_a_passing_queue_is_gone(broker: DiskBroker, channel: ClientChannel) -> None:
    channel.declare("q")
    records = broker.live_records()
    keep(channel, "q", b"gone")
    assert broker.live_records() == records
    again = after_restart(broker)
    assert again.declare("q").message_count == 0


def test_a_message_that_is_handed_on_at_once_is_not_written(broker: DiskBroker, channel: ClientChannel) -> None:
    channel.declare("q", durable=True)
    channel.call(commands.Confirm.Select())
    channel.consume("q", no_ack=True)
    with broker.holding_writes():
        position = broker.journal.position
        keep(channel, "q", b"handed on")
        assert broker.journal.position == position
        delivery, confirm = channel.received()
        assert delivery.body == b"handed on"
        assert isinstance(confirm.method, commands.Basic.Ack), "nothing has to be waited for"


def test_a_message_is_kept_only_for_those_of_its_queues_that_do_not_hand_it_on(
    broker: DiskBroker, channel: ClientChannel
) -> None:
    channel.exchange("x", "fanout", durable=True)
    for queue in ("passing on", "with acknowledgements", "without consumer", "passing on as well"):
        channel.declare(queue, durable=True)
        channel.bind(queue, "x")
    channel.consume("passing on", no_ack=True)
    channel.consume("with acknowledgements")
    channel.consume("passing on as well", no_ack=True)
    records = broker.live_records()
    channel.publish("x", "", b"1", delivery_mode=2)
    assert [one.body for one in channel.received()] == [b"1"] * 3
    assert broker.live_records() == records + 2 + 1, "a claim of each, and the mark of what was handed out"
    again = after_restart(broker)
    assert again.message_count("passing on") == 0
    assert again.message_count("with acknowledgements") == again.message_count("without consumer") == 1


def test_a_consumer_that_wants_no_acknowledgements_and_leaves_hands_nothing_on(
    broker: DiskBroker, channel: ClientChannel
) -> None:
    channel.declare("q", durable=True)
    for _ in range(2):
        tag = channel.consume("q", no_ack=True)
        channel.call(commands.Basic.Cancel(consumer_tag=tag))
    keep(channel, "q", b"kept")
    assert after_restart(broker).drain("q") == [b"kept"]


def test_a_message_is_kept_for_the_queue_whose_consumer_has_no_room_left() -> None:
    broker = DiskBroker(outbound_high_water_bytes=10_000)
    client = broker.client()
    channel = client.channel()
    channel.exchange("x", "fanout", durable=True)
    for queue in ("first", "second"):
        channel.declare(queue, durable=True)
        channel.bind(queue, "x")
        channel.consume(queue, no_ack=True)
    broker.client().channel().publish("x", "", bytes(20_000), delivery_mode=2)
    again = after_restart(broker)
    assert [again.message_count(queue) for queue in ("first", "second")] == [0, 1]


def test_a_message_is_as_it_was(broker: DiskBroker, channel: ClientChannel) -> None:
    channel.declare("q", durable=True)
    channel.exchange("x", "direct", durable=True)
    channel.bind("q", "x", "the key")
    properties: dict[str, Any] = {
        "content_type": "text/plain",
        "headers": {"nested": {"list": [1, "two", None]}, "number": 2**40},
        "priority": 3,
        "correlation_id": "c",
        "message_id": "m",
        "message_type": "t",
        "app_id": "a",
    }
    channel.publish("x", "the key", bytes(300_000), delivery_mode=2, **properties)
    got = after_restart(broker).get("q")
    assert got is not None
    ok = got.expect(commands.Basic.GetOk)
    assert (ok.exchange, ok.routing_key, ok.redelivered) == ("x", "the key", False)
    assert got.body == bytes(300_000)
    assert got.properties is not None
    for name, value in properties.items():
        assert getattr(got.properties, name) == value


def test_one_record_serves_all_queues_and_goes_with_the_last(broker: DiskBroker, channel: ClientChannel) -> None:
    channel.exchange("fan", "fanout", durable=True)
    for name in ("a", "b", "c"):
        channel.declare(name, durable=True)
        channel.bind(name, "fan")
    before = broker.journal.live_bytes
    channel.publish("fan", "", bytes(1000), delivery_mode=2)
    assert 1000 < broker.journal.live_bytes - before < 1200
    assert channel.drain("b") == [bytes(1000)]
    again = broker.restarted()
    left = again.client().channel()
    assert [left.message_count(name) for name in ("a", "b", "c")] == [1, 0, 1]
    left.drain("a")
    left.drain("c")
    assert again.journal.live_bytes < before + 200


def test_priorities_hold_after_a_restart(broker: DiskBroker, channel: ClientChannel) -> None:
    channel.declare("q", {"x-max-priority": 3}, durable=True)
    for number in range(8):
        keep(channel, "q", b"%d" % number, priority=number % 4)
    assert after_restart(broker).drain("q") == [b"3", b"7", b"2", b"6", b"1", b"5", b"0", b"4"]


def test_what_was_handed_out_is_redelivered_and_the_rest_is_not(broker: DiskBroker, channel: ClientChannel) -> None:
    channel.declare("q", durable=True)
    channel.qos(2)
    keep(channel, "q", b"0", b"1", b"2")
    channel.consume("q")
    channel.ack(1)
    assert len(channel.deliveries()) == 3
    again = after_restart(broker)
    keep(again, "q", b"3")
    got = [again.get("q", no_ack=True) for _ in range(3)]
    assert [(one.body, one.expect(commands.Basic.GetOk).redelivered) for one in got if one] == [
        (b"1", True),
        (b"2", True),
        (b"3", False),
    ]


def test_the_record_of_what_was_handed_out_goes_with_its_queue(broker: DiskBroker, channel: ClientChannel) -> None:
    before = broker.live_records()
    channel.declare("q", durable=True)
    keep(channel, "q", b"1")
    channel.get("q")
    broker.write()
    assert broker.queue("q").handed_out_reference
    channel.ack(1)
    assert broker.live_records() == before + 2, "the queue's own, and what it has handed out"
    channel.call(commands.Queue.Delete(queue="q"))
    assert broker.live_records() == before


def test_what_was_acknowledged_does_not_come_back(broker: DiskBroker, channel: ClientChannel) -> None:
    channel.declare("q", durable=True)
    keep(channel, "q", *(b"%d" % number for number in range(10)))
    channel.consume("q")
    assert len(channel.deliveries()) == 10
    for tag in (1, 4, 10):
        channel.ack(tag)
    again = broker.killed().client().channel()
    assert again.drain("q") == [b"1", b"2", b"4", b"5", b"6", b"7", b"8"]


def test_purge_is_durable(broker: DiskBroker, channel: ClientChannel) -> None:
    channel.declare("q", durable=True)
    keep(channel, "q", b"1", b"2")
    with broker.holding_writes():
        channel.send(commands.Queue.Purge(queue="q"))
        assert channel.received() == [], "purge-ok must wait for the disk"
    channel.one(commands.Queue.PurgeOk)
    assert broker.without_power().client().channel().message_count("q") == 0


def test_a_kill_counts_as_a_return_to_a_quorum_queue_and_to_no_other(
    broker: DiskBroker, channel: ClientChannel
) -> None:
    for name, arguments in (("q", QUORUM), ("classic", {})):
        channel.declare(name, arguments, durable=True)
        channel.bind(name, "amq.fanout")
    channel.publish("amq.fanout", "", b"1", delivery_mode=2)
    for returns in (0, 1, 3, 4):
        got = channel.get("q")
        assert got is not None
        is_again = got.expect(commands.Basic.GetOk).redelivered
        assert (got.headers.get("x-delivery-count", 0), is_again) == (returns, returns > 0)
        if returns == 1:
            channel.nack(1)
            channel.get("q")
        broker = broker.killed()
        channel = broker.client().channel()
    other = channel.get("classic")
    assert other is not None
    assert not other.expect(commands.Basic.GetOk).redelivered


def test_the_deliveries_of_a_quorum_queue_are_counted_over_restarts(broker: DiskBroker, channel: ClientChannel) -> None:
    channel.declare("dead", durable=True)
    channel.declare("q", {**QUORUM, "x-delivery-limit": 2, **TO_DEAD}, durable=True)
    keep(channel, "q", b"poison")
    for returns in (0, 1, 2):
        got = channel.get("q")
        assert got is not None
        assert got.headers.get("x-delivery-count", 0) == returns
        channel.nack(1)
        if returns < 2:
            broker = broker.restarted()
            channel = broker.client().channel()
    dead = channel.get("dead")
    assert dead is not None
    assert dead.headers["x-death"][0]["reason"] == "delivery_limit"


def test_a_quorum_queue_keeps_transient_messages_which_stay_transient(
    broker: DiskBroker, channel: ClientChannel
) -> None:
    channel.declare("dead", durable=True)
    for name in ("q", "other"):
        channel.declare(name, {**QUORUM, **TO_DEAD}, durable=True)
        channel.bind(name, "amq.fanout")
    channel.call(commands.Confirm.Select())
    with broker.holding_writes():
        channel.publish("amq.fanout", "", b"1")
        channel.publish("", "q", b"with a time", expiration="1000")
        assert channel.received() == [], "its confirm must wait for the disk"
    assert len(channel.received()) > 0
    again = broker.without_power().client().channel()
    assert again.drain("other") == [b"1"]
    assert [again.get("q") is not None for _ in range(2)] == [True, True]
    again.nack(0, multiple=True, requeue=False)
    assert again.message_count("dead") == 2
    assert broker.without_power().client().channel().message_count("dead") == 0


@pytest.mark.parametrize("returns", [0, 1])
@pytest.mark.parametrize("arguments", [{}, TO_DEAD], ids=["", "dead letters"])
def test_what_a_kill_brings_back_too_often_to_a_quorum_queue_dies(
    broker: DiskBroker, channel: ClientChannel, arguments: dict[str, Any], returns: int
) -> None:
    channel.declare("dead", durable=True)
    channel.declare("q", {**QUORUM, "x-delivery-limit": returns, **arguments}, durable=True)
    keep(channel, "q", b"poison", b"other")
    for tag in range(1, returns + 1):
        channel.get("q")
        channel.nack(tag)
    channel.get("q")
    again = broker.killed().client().channel()
    (dead,) = [again.get("dead", no_ack=True)] if arguments else [None]
    assert dead is None or (dead.body, dead.headers["x-death"][0]["reason"]) == (b"poison", "delivery_limit")
    assert [again.message_count(name) for name in ("q", "dead")] == [1, 0]
    assert again.drain("q") == [b"other"]


@pytest.mark.parametrize("limit", [-1, -5])
def test_nothing_dies_of_a_negative_limit_that_no_client_had(limit: int) -> None:
    broker = DiskBroker(behave_like="3.10")  # where the first return is one too many
    channel = broker.client().channel()
    channel.declare("q", {**QUORUM, "x-delivery-limit": limit}, durable=True)
    keep(channel, "q", b"1", b"2", b"3")
    channel.get("q")
    assert broker.killed().restarted().client().channel().drain("q") == [b"2", b"3"]


def test_what_had_come_back_more_often_than_a_limit_that_is_new_is_delivered_once_more() -> None:
    broker = DiskBroker(behave_like="3.10")
    channel = broker.client().channel()
    channel.declare("q", QUORUM, durable=True)
    keep(channel, "q", b"1")
    for tag in range(1, 25):
        channel.get("q")
        channel.nack(tag)
    again = broker.restarted(behave_like="4.0").client().channel()  # from where on 20 are enough
    message = again.get("q")
    assert message is not None
    assert message.body == b"1"
    again.nack(1)
    assert again.message_count("q") == 0


def test_what_a_kill_brings_back_too_often_dies_when_it_is_read_from_the_disk(
    broker: DiskBroker, channel: ClientChannel
) -> None:
    with small_pages():
        channel.declare("dead", durable=True)
        channel.declare("q", {**QUORUM, "x-delivery-limit": 0, **TO_DEAD}, durable=True)
        bodies = [b"%d" % number for number in range(40)]
        keep(channel, "q", *bodies)
        channel.qos(30)
        channel.consume("q")
        assert len(channel.deliveries()) == 30
        again = broker.killed(memory_budget_bytes=2).client().channel()
        assert again.drain("q") == bodies[30:]
        assert again.drain("dead") == bodies[:30]


# --- time


def test_the_deadline_is_that_of_the_wall_clock(broker: DiskBroker, channel: ClientChannel) -> None:
    channel.declare("q", durable=True)
    channel.declare("with-limit", {"x-message-ttl": 1000}, durable=True)
    keep(channel, "q", b"own", expiration="1000")
    keep(channel, "with-limit", b"of the queue")
    again = broker.restarted(down_ms=600)
    left = again.client().channel()
    again.advance(399)
    assert [left.message_count(name) for name in ("q", "with-limit")] == [1, 1]
    again.advance(1)
    assert [left.message_count(name) for name in ("q", "with-limit")] == [0, 0]


def test_nothing_lives_for_longer_than_it_may_when_the_clock_was_wrong(
    broker: DiskBroker, channel: ClientChannel
) -> None:
    channel.declare("q", durable=True)
    channel.declare("with-limit", {"x-message-ttl": 1000}, durable=True)
    broker.clock.set_wall(18_000_000)
    keep(channel, "q", b"own", expiration="1000")
    keep(channel, "with-limit", b"of the queue")
    broker.clock.set_wall(0)
    again = broker.restarted(down_ms=600)
    left = again.client().channel()
    again.advance(999)
    assert [left.message_count(name) for name in ("q", "with-limit")] == [1, 1]
    again.advance(1)
    assert [left.message_count(name) for name in ("q", "with-limit")] == [0, 0]


def test_what_expired_while_the_broker_was_down_is_dead_lettered(broker: DiskBroker, channel: ClientChannel) -> None:
    channel.declare("dead", durable=True)
    channel.declare("q", TO_DEAD, durable=True)
    keep(channel, "q", b"1", b"2", expiration="500")
    keep(channel, "q", b"3")
    again = broker.restarted(down_ms=10_000)
    left = again.client().channel()
    assert left.drain("q") == [b"3"]
    died = [left.get("dead", no_ack=True) for _ in range(2)]
    assert [one.body for one in died if one] == [b"1", b"2"]
    assert all(one.headers["x-death"][0]["reason"] == "expired" for one in died if one)


def test_many_expired_messages_of_a_long_queue_are_dead_lettered_too() -> None:
    with small_pages():
        broker = DiskBroker(memory_budget_bytes=2)
        channel = broker.client().channel()
        channel.declare("dead", durable=True)
        channel.declare("q", {**TO_DEAD, "x-message-ttl": 500}, durable=True)
        bodies = [b"%02d" % number for number in range(40)]
        keep(channel, "q", *bodies)
        left = broker.killed(down_ms=10_000).client().channel()
        assert left.drain("dead") == bodies
        assert left.message_count("q") == 0


def test_the_death_history_goes_on_over_a_restart(broker: DiskBroker, channel: ClientChannel) -> None:
    channel.declare("dead", {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "q"}, durable=True)
    channel.declare("q", TO_DEAD, durable=True)
    keep(channel, "q", b"again and again")
    for count in (1, 2):
        assert channel.get("q") is not None
        channel.reject(1, requeue=False)
        channel = after_restart(broker) if count == 1 else channel
        got = channel.get("dead")
        assert got is not None
        death = got.headers["x-death"]
        assert next(one for one in death if one["queue"] == "q")["count"] == count
        channel.reject(1 if count == 1 else 2, requeue=False)
        broker = channel.client.broker  # type: ignore[assignment]
        channel = broker.client().channel()


# --- whole or not at all


def test_a_confirm_waits_for_the_disk(broker: DiskBroker, channel: ClientChannel) -> None:
    channel.declare("q", durable=True)
    channel.call(commands.Confirm.Select())
    with broker.holding_writes():
        keep(channel, "q", b"kept")
        assert channel.received() == []
    channel.one(commands.Basic.Ack)
    assert broker.without_power().client().channel().drain("q") == [b"kept"]


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        (commands.Queue.Delete(queue="q"), commands.Queue.DeleteOk),
        (commands.Queue.Purge(queue="q"), commands.Queue.PurgeOk),
        (commands.Queue.Unbind(queue="q", exchange="amq.direct", routing_key="k"), commands.Queue.UnbindOk),
    ],
    ids=["delete", "purge", "unbind"],
)
def test_what_only_takes_away_waits_for_the_disk_too(
    broker: DiskBroker, channel: ClientChannel, method: base.Frame, answer: type[base.Frame]
) -> None:
    """Even when the journal was found idle just before, and nothing but a drop has gathered since."""
    channel.declare("q", durable=True)
    channel.bind("q", "amq.direct", "k")
    keep(channel, "q", b"kept")
    broker.write()
    broker.write()
    with broker.holding_writes():
        channel.send(method)
        assert channel.received() == []
    channel.one(answer)


def test_a_commit_that_keeps_nothing_is_answered(broker: DiskBroker, channel: ClientChannel) -> None:
    channel.declare("q")
    channel.publish("", "q", b"transient")
    channel.call(commands.Tx.Select())
    assert channel.get("q") is not None
    channel.send(commands.Basic.Nack(delivery_tag=1, requeue=False))
    channel.call(commands.Queue.Delete(queue="q"))
    channel.send(commands.Tx.Commit())
    broker.write()
    channel.one(commands.Tx.CommitOk)


def test_a_transaction_is_there_as_a_whole(broker: DiskBroker, channel: ClientChannel) -> None:
    channel.declare("from", durable=True)
    channel.declare("to", durable=True)
    keep(channel, "from", b"1", b"2")
    channel.call(commands.Tx.Select())
    for _ in range(2):
        assert channel.get("from") is not None
    keep(channel, "to", b"a", b"b")
    channel.ack(0, multiple=True)
    with broker.holding_writes():
        channel.send(commands.Tx.Commit())
        assert channel.received() == []
    channel.one(commands.Tx.CommitOk)
    again = broker.without_power().client().channel()
    assert again.drain("from") == []
    assert again.drain("to") == [b"a", b"b"]


def test_what_was_written_for_nobody_is_synced_before_somebody_is_told_of_it(broker: DiskBroker) -> None:
    hasty, patient = broker.client().channel(), broker.client().channel()
    broker.writes_at_once = False
    hasty.send(commands.Queue.Declare(queue="q", durable=True, nowait=True))
    broker.write(sync=False)
    patient.send(commands.Queue.Declare(queue="q", durable=True))
    assert patient.received() == []
    broker.write(sync=False)
    assert patient.received() == [], "there was nothing to write, but something to sync"
    broker.write()
    patient.one(commands.Queue.DeclareOk)
    assert broker.without_power().client().channel().message_count("q") == 0


def test_a_confirm_waits_for_the_sync_and_not_only_for_the_writing(broker: DiskBroker, channel: ClientChannel) -> None:
    channel.declare("q", durable=True)
    channel.call(commands.Confirm.Select())
    broker.writes_at_once = False
    keep(channel, "q", b"1")
    broker.write(sync=False)
    assert channel.received() == []
    keep(channel, "q", b"2")
    broker.write()
    assert channel.one(commands.Basic.Ack).delivery_tag == 2
    assert broker.without_power().client().channel().drain("q") == [b"1", b"2"]


@pytest.mark.parametrize("seed", range(20))
def test_a_transaction_that_a_crash_cuts_off_is_there_as_a_whole_or_not_at_all(seed: int) -> None:
    broker = DiskBroker()
    broker.files.random.seed(seed)
    channel = broker.client().channel()
    channel.declare("from", durable=True)
    channel.declare("to", durable=True)
    keep(channel, "from", b"1", b"2")
    channel.call(commands.Tx.Select())
    for _ in range(2):
        assert channel.get("from") is not None
    keep(channel, "to", bytes(2000), bytes(2000), bytes(2000))
    channel.ack(0, multiple=True)
    broker.writes_at_once = False
    channel.send(commands.Tx.Commit())
    batch = broker.journal.take_batch(sync=False)
    assert batch is not None
    broker.journal.write(batch)
    again = broker.without_power().client().channel()
    counts = again.message_count("from"), again.message_count("to")
    assert counts in {(2, 0), (0, 3)}


def test_a_dead_letter_is_in_one_queue_whenever_the_power_fails(broker: DiskBroker, channel: ClientChannel) -> None:
    channel.declare("dead", durable=True)
    channel.declare("q", TO_DEAD, durable=True)
    keep(channel, "q", b"one")
    assert channel.get("q") is not None
    broker.writes_at_once = False
    channel.reject(1, requeue=False)
    batch = broker.journal.take_batch()
    assert batch is not None
    again = broker.without_power().client().channel()
    assert (again.message_count("q"), again.message_count("dead")) == (1, 0)


def test_nothing_is_left_behind_after_many_restarts(broker: DiskBroker, channel: ClientChannel) -> None:
    channel.declare("q", QUORUM, durable=True)
    records = broker.live_records()
    for _ in range(5):
        keep(channel, "q", b"1", b"2", b"3")
        assert channel.get("q") is not None
        channel.nack(1)
        broker = broker.restarted()
        channel = broker.client().channel()
        assert len(channel.drain("q")) == 3
    broker.reclaim()
    assert broker.live_records() <= records + 1  # the mark of what was handed out
