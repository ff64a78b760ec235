"""Queues that take a message once for each value of its header: when a value is free again, and what a restart knows.

The cases are those of the plugin rabbitmq_message_deduplication, in own words.
"""

from __future__ import annotations

from typing import Any

import pytest
from pamqp import commands

from amqp_broker.broker.problems import NotValid
from amqp_broker.broker.queues.classic import VALUE_EFFORT
from amqp_broker.broker.traced_messages import Wanted
from tests.support.client import Client, ClientChannel
from tests.support.disk_broker import DiskBroker, small_pages
from tests.support.memory_broker import MemoryBroker

ONCE: dict[str, Any] = {"x-message-deduplication": True}


@pytest.fixture
def channel(broker: MemoryBroker) -> ClientChannel:
    """A channel."""
    return Client(broker).open().channel()


def publish(channel: ClientChannel, value: Any, body: bytes = b"", **properties: Any) -> None:
    """Publish to the queue with a value in the header."""
    channel.publish("", "q", body, headers={"x-deduplication-header": value}, **properties)


def test_a_second_message_of_a_value_is_confirmed_and_not_taken(channel: ClientChannel) -> None:
    channel.declare("q", ONCE)
    channel.call(commands.Confirm.Select())
    for value in ("a", "a", "b", 1, 1, "1", 4.2, 4.2, None, None):
        publish(channel, value)
    channel.publish("", "q", b"none")
    channel.publish("", "q", b"none")
    acks = [method for method in channel.methods() if isinstance(method, commands.Basic.Ack)]
    assert acks[-1].delivery_tag == 12
    assert channel.message_count("q") == 8


@pytest.mark.parametrize("is_out", [False, True], ids=["ready", "unacknowledged, and others acknowledge nothing"])
@pytest.mark.parametrize("queues", [["q"], ["q", "r"]])
def test_a_second_message_of_a_value_is_confirmed_only_when_the_first_is_kept(queues: list[str], is_out: bool) -> None:
    broker = DiskBroker()
    first = broker.client().channel()
    for name in queues:
        first.declare(name, ONCE, durable=True)
        first.call(commands.Queue.Bind(queue=name, exchange="amq.fanout"))
    second = broker.client().channel()
    second.call(commands.Confirm.Select())
    broker.writes_at_once = False
    message: dict[str, Any] = {"headers": {"x-deduplication-header": "a"}, "delivery_mode": 2}
    first.publish("amq.fanout", "", b"", **message)
    if is_out:
        for name in queues:
            first.call(commands.Basic.Get(queue=name))
            broker.client().channel().call(commands.Basic.Consume(queue=name, no_ack=True))
    broker.write(sync=False)
    second.publish("amq.fanout", "", b"", **message)
    broker.write(sync=False)
    assert second.methods() == [], "it is not synced"
    broker.write()
    assert [type(method) for method in second.methods()] == [commands.Basic.Ack]
    assert first.message_count("q") == (not is_out)


@pytest.mark.parametrize("arguments", [{}, {"x-message-deduplication": False}, {"x-queue-type": "quorum", **ONCE}])
def test_other_queues_take_all(broker: MemoryBroker, channel: ClientChannel, arguments: dict[str, Any]) -> None:
    channel.declare("q", arguments, durable=True)
    publish(channel, "a")
    publish(channel, "a")
    assert channel.message_count("q") == 2


def test_a_value_is_free_when_its_message_is_acknowledged(channel: ClientChannel) -> None:
    channel.declare("q", ONCE)
    publish(channel, "a")
    got = channel.get("q")
    assert got is not None
    publish(channel, "a")
    assert channel.message_count("q") == 0
    channel.ack(1)
    publish(channel, "a")
    publish(channel, "a")
    assert channel.message_count("q") == 1


@pytest.mark.parametrize("is_requeued", [True, False])
def test_what_comes_back_keeps_its_value_and_what_is_rejected_does_not(
    channel: ClientChannel, is_requeued: bool
) -> None:
    channel.declare("q", ONCE)
    publish(channel, "a", b"first")
    assert channel.get("q") is not None
    channel.reject(1, requeue=is_requeued)
    publish(channel, "a", b"second")
    assert channel.drain("q") == [b"first" if is_requeued else b"second"]


def test_without_acknowledgements_it_is_free_at_once(channel: ClientChannel) -> None:
    channel.declare("q", ONCE)
    channel.consume("q", no_ack=True)
    publish(channel, "a")
    publish(channel, "a")
    assert len(channel.deliveries()) == 2


def test_who_consumes_with_acknowledgements_gets_it_once(channel: ClientChannel) -> None:
    channel.declare("q", ONCE)
    channel.consume("q")
    publish(channel, "a")
    publish(channel, "a")
    assert len(channel.deliveries()) == 1
    channel.ack(1)
    publish(channel, "a")
    assert len(channel.deliveries()) == 1


def test_it_is_free_when_its_message_has_expired(broker: MemoryBroker, channel: ClientChannel) -> None:
    channel.declare("q", {**ONCE, "x-message-ttl": 100, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "d"})
    channel.declare("d")
    publish(channel, "a", b"first")
    broker.advance(101)
    publish(channel, "a", b"second")
    publish(channel, "a", b"third")
    assert channel.drain("d") == [b"first"]
    assert channel.drain("q") == [b"second"]


@pytest.mark.parametrize("overflow", ["drop-head", "reject-publish"])
def test_it_is_free_when_its_message_was_too_much(channel: ClientChannel, overflow: str) -> None:
    channel.declare("q", {**ONCE, "x-max-length": 1, "x-overflow": overflow})
    publish(channel, "a", b"a1")
    publish(channel, "b", b"b1")
    if overflow == "drop-head":
        publish(channel, "a", b"a2")
        assert channel.drain("q") == [b"a2"]
    else:
        assert channel.drain("q") == [b"a1"]
        publish(channel, "b", b"b2")
        assert channel.drain("q") == [b"b2"]


def test_a_purge_frees_what_is_ready_and_nothing_else(channel: ClientChannel) -> None:
    channel.declare("q", ONCE)
    publish(channel, "out")
    assert channel.get("q") is not None
    publish(channel, "ready")
    channel.call(commands.Queue.Purge(queue="q"))
    publish(channel, "out")
    publish(channel, "ready")
    assert channel.message_count("q") == 1


def test_a_duplicate_leaves_nothing_in_the_journal_and_values_outlive_a_restart() -> None:
    with small_pages():
        broker = DiskBroker(memory_budget_bytes=10**9)
        channel = broker.client().channel()
        channel.declare("q", ONCE, durable=True)
        for number in range(20):
            publish(channel, number, b"%d" % number, delivery_mode=2)
        broker.write()
        records = broker.live_records()
        publish(channel, 3, delivery_mode=2)
        broker.write()
        assert broker.live_records() == records
        broker = broker.killed()
        broker.read_pages()
        channel = broker.client().channel()
        for number in range(21):
            publish(channel, number, delivery_mode=2)
        assert channel.message_count("q") == 21


def set_policy(broker: MemoryBroker, definition: dict[str, object]) -> None:
    value: dict[str, object] = {"pattern": "^q$", "definition": definition, "apply-to": "queues"}
    broker.handle(lambda: broker.administration.parameters.set_policy("/", "p", value))


def clear_policy(broker: MemoryBroker) -> None:
    broker.handle(lambda: broker.administration.parameters.clear_policy("/", "p"))


def test_a_policy_counts_from_when_it_comes_until_it_goes(broker: MemoryBroker, channel: ClientChannel) -> None:
    channel.declare("q")
    for value in ("out", "a", "a", "b"):
        publish(channel, value)
    assert channel.get("q") is not None
    set_policy(broker, ONCE)
    for value in ("a", "b", "c", "c"):  # a and b were there before
        publish(channel, value)
    assert channel.message_count("q") == 4
    channel.reject(1, requeue=True)  # and what comes back is there again
    publish(channel, "out")
    assert channel.message_count("q") == 5
    clear_policy(broker)
    publish(channel, "c")
    assert channel.message_count("q") == 6


def test_a_policy_looks_at_what_is_there_in_slices_and_what_leaves_meanwhile_is_free(
    broker: MemoryBroker, channel: ClientChannel
) -> None:
    broker.works.slice_messages = 2 * VALUE_EFFORT
    channel.declare("q")
    for number in range(10):
        publish(channel, number)
    with broker.holding_works():
        set_policy(broker, ONCE)
        assert broker.is_unfinished
        publish(channel, 9)  # it was looked at first
        assert channel.message_count("q") == 10
        for _ in range(3):
            assert channel.get("q", no_ack=True) is not None  # 0, 1 and 2
        assert channel.get("q") is not None
        publish(channel, 4)  # it has not been looked at: that is how it is
        assert channel.message_count("q") == 7
    for number in range(10):
        publish(channel, number)
    assert channel.message_count("q") == 7 + 3


@pytest.mark.parametrize("is_purged", [True, False])
def test_a_policy_that_goes_or_a_purge_ends_the_look_at_what_was_there(
    broker: MemoryBroker, channel: ClientChannel, is_purged: bool
) -> None:
    broker.works.slice_messages = 2 * VALUE_EFFORT
    channel.declare("q")
    for number in range(10):
        publish(channel, number)
    with broker.holding_works():
        set_policy(broker, ONCE)
        if is_purged:
            channel.call(commands.Queue.Purge(queue="q"))
        else:
            clear_policy(broker)
    for number in range(10):
        publish(channel, number)
    assert channel.message_count("q") == (10 if is_purged else 20)


@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize("wanted", [True, False])
def test_a_policy_overrules_the_argument(
    broker: MemoryBroker, channel: ClientChannel, declared: bool, wanted: bool
) -> None:
    set_policy(broker, {"x-message-deduplication": wanted})
    channel.declare("q", {"x-message-deduplication": declared})
    publish(channel, "a")
    publish(channel, "a")
    assert channel.message_count("q") == (1 if wanted else 2)
    clear_policy(broker)
    publish(channel, "a")
    assert channel.message_count("q") == (1 if wanted else 2) + (not declared)


def test_a_policy_for_a_quorum_queue_has_it_take_all(broker: MemoryBroker, channel: ClientChannel) -> None:
    channel.declare("q", {"x-queue-type": "quorum"}, durable=True)
    set_policy(broker, {**ONCE, "max-length": 2})
    for _ in range(3):
        publish(channel, "a")
    assert channel.message_count("q") == 2  # the rest of the policy counts


@pytest.mark.parametrize("is_policy_older", [True, False])
def test_what_is_under_a_policy_is_so_after_a_restart(is_policy_older: bool) -> None:
    with small_pages():
        broker = DiskBroker(memory_budget_bytes=10**9)
        channel = broker.client().channel()
        if is_policy_older:
            set_policy(broker, ONCE)
        channel.declare("q", durable=True)
        if not is_policy_older:
            set_policy(broker, ONCE)
        publish(channel, 0, delivery_mode=2)
        publish(channel, 1, delivery_mode=2)
        broker = broker.killed()
        channel = broker.client().channel()
        publish(channel, 0, delivery_mode=2)
        publish(channel, 2, delivery_mode=2)
        assert channel.message_count("q") == 3


@pytest.mark.parametrize("changes_last", [True, False])
@pytest.mark.parametrize("headers", [{}, {"more": 1}])
def test_what_a_start_leaves_on_the_disk_counts_under_a_policy(changes_last: bool, headers: dict[str, Any]) -> None:
    with small_pages():
        broker = DiskBroker(memory_budget_bytes=10**9)
        channel = broker.client().channel()
        channel.declare("q", durable=True)
        set_policy(broker, ONCE)
        for number in range(50):
            channel.publish("", "q", headers={"x-deduplication-header": number, **headers}, delivery_mode=2)
        if changes_last:
            set_policy(broker, {**ONCE, "max-length": 100})
        broker = broker.killed()
        queue = broker.virtual_host.queues["q"]
        assert queue.on_disk()[0] > 20
        channel = broker.client().channel()
        for number in range(51):
            publish(channel, number, delivery_mode=2)
        assert channel.message_count("q") == 51
        for _ in range(51):
            assert channel.get("q", no_ack=True) is not None
            broker.read_pages()
        publish(channel, 7, delivery_mode=2)
        assert channel.message_count("q") == 1


def test_what_is_on_the_disk_when_a_policy_comes_counts_when_it_is_read() -> None:
    with small_pages():
        broker = DiskBroker(memory_budget_bytes=10**9)
        channel = broker.client().channel()
        channel.declare("q", durable=True)
        for number in range(20):
            publish(channel, number, delivery_mode=2)
        broker = broker.killed()
        set_policy(broker, ONCE)
        channel = broker.client().channel()
        for _ in range(19):
            assert channel.get("q", no_ack=True) is not None
            broker.read_pages()
        publish(channel, 19, delivery_mode=2)
        assert channel.message_count("q") == 1


@pytest.mark.parametrize("is_policy", [True, False])
def test_a_duplicate_is_counted_and_a_trace_tells_it(
    broker: MemoryBroker, channel: ClientChannel, is_policy: bool
) -> None:
    channel.declare("q", {"x-dead-letter-exchange": "amq.fanout"} | ({} if is_policy else ONCE))
    if is_policy:
        set_policy(broker, ONCE)
    broker.message_traces.start(Wanted(), "a test")
    for _ in range(3):
        publish(channel, "a", b"the same")
    (row,) = broker.drops.rows()
    assert (row["reason"], row["queue"], row["count"]) == ("duplicate", "q", 2)
    assert row["policy"] == ("p" if is_policy else None)
    states = [trace["outcome"] for trace in broker.message_traces.traces()]
    assert states == ["duplicate", "duplicate", "waiting"]  # the last one first


@pytest.mark.parametrize("value", ["true", 1, None])
def test_what_no_policy_may_say(broker: MemoryBroker, value: object) -> None:
    with pytest.raises(NotValid, match='"x-message-deduplication" must be a boolean, got '):
        set_policy(broker, {"x-message-deduplication": value})
