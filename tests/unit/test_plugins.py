"""The exchange types in the box that are plugins, and what becomes of a plugin that fails."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from pamqp import commands

from amqp_broker.broker.exchanges.exchange import Exchange
from amqp_broker.broker.exchanges.matcher import Envelope, Matcher
from amqp_broker.broker.queues.base import Queue
from amqp_broker.journal.failures import FormatNotSupported
from tests.support.client import Client, ClientChannel
from tests.support.disk_broker import DiskBroker
from tests.support.memory_broker import MemoryBroker


@pytest.fixture
def channel(broker: MemoryBroker) -> ClientChannel:
    """A channel."""
    return Client(broker).open().channel()


def refusal(channel: ClientChannel, type_name: str, arguments: Any) -> str:
    """The text that declaring such an exchange is refused with."""
    channel.send(commands.Exchange.Declare(exchange="wrong", exchange_type=type_name, arguments=arguments))
    return str(channel.closed_with().reply_text)


def bound(channel: ClientChannel, exchange: str, **keys: str) -> None:
    """Declare queues and bind each with its key."""
    for queue, key in keys.items():
        channel.declare(queue)
        channel.bind(queue, exchange, key)


# --- consistent hash


class TestConsistentHash:
    def test_each_gets_what_its_weight_says(self, channel: ClientChannel) -> None:
        channel.exchange("x", "x-consistent-hash")
        bound(channel, "x", a="1", b="1", c="2")
        for number in range(4000):
            channel.publish("x", str(number), b"")
        counts = [channel.message_count(queue) for queue in ("a", "b", "c")]
        assert sum(counts) == 4000
        assert abs(counts[0] - 1000) < 150
        assert abs(counts[1] - 1000) < 150
        assert abs(counts[2] - 2000) < 200

    def test_the_same_key_goes_the_same_way(self, channel: ClientChannel) -> None:
        channel.exchange("x", "x-consistent-hash")
        bound(channel, "x", a="1", b="1", c="1")
        for _ in range(9):
            channel.publish("x", "same", b"")
        assert sorted(channel.message_count(queue) for queue in ("a", "b", "c")) == [0, 0, 9]

    def test_few_keys_change_their_way_when_a_queue_goes(self, broker: MemoryBroker, channel: ClientChannel) -> None:
        channel.exchange("x", "x-consistent-hash")
        bound(channel, "x", a="1", b="1", c="1")
        matcher = broker.virtual_host.exchange("x").matcher
        before = [next(iter(matcher.match(Envelope((str(number),))))) for number in range(500)]
        channel.call(commands.Queue.Delete(queue="c"))
        after = [next(iter(matcher.match(Envelope((str(number),))))) for number in range(500)]
        for was, is_now in zip(before, after, strict=True):
            assert is_now is was or was.name == "c"

    def test_a_second_binding_adds_no_weight(self, channel: ClientChannel) -> None:
        channel.exchange("x", "x-consistent-hash")
        bound(channel, "x", a="1", b="1")
        channel.bind("a", "x", "9")
        for number in range(1000):
            channel.publish("x", str(number), b"")
        assert abs(channel.message_count("a") - 500) < 100

    @pytest.mark.parametrize(
        ("arguments", "properties"),
        [
            ({"hash-header": "h"}, lambda n: {"headers": {"h": str(n)}}),
            ({"hash-property": "message_id"}, lambda n: {"message_id": str(n)}),
            ({"hash-property": "correlation_id"}, lambda n: {"correlation_id": str(n)}),
        ],
    )
    def test_what_is_hashed_may_be_chosen(self, channel: ClientChannel, arguments: Any, properties: Any) -> None:
        channel.exchange("x", "x-consistent-hash", arguments)
        bound(channel, "x", a="1", b="1")
        for number in range(100):
            channel.publish("x", "same", b"", **properties(number))
        assert channel.message_count("a") > 20
        assert channel.message_count("b") > 20

    def test_without_the_header_all_go_the_same_way(self, channel: ClientChannel) -> None:
        channel.exchange("x", "x-consistent-hash", {"hash-header": "h"})
        bound(channel, "x", a="1", b="1")
        for number in range(20):
            channel.publish("x", str(number), b"")
        assert sorted(channel.message_count(queue) for queue in ("a", "b")) == [0, 20]

    @pytest.mark.parametrize(
        ("arguments", "text"),
        [
            (
                {"hash-header": "h", "hash-property": "message_id"},
                "hash-header and hash-property are mutually exclusive",
            ),
            ({"hash-property": "nope"}, "Unsupported property: nope"),
        ],
    )
    def test_wrong_arguments(self, channel: ClientChannel, arguments: Any, text: str) -> None:
        assert refusal(channel, "x-consistent-hash", arguments) == f"PRECONDITION_FAILED - {text}"

    @pytest.mark.parametrize(
        ("key", "text"),
        [
            ("abc", 'The binding key must be an integer: <<"abc">>'),
            ("0", "The binding key must be greater than 0"),
            ("-1", "The binding key must be greater than 0"),
        ],
    )
    def test_wrong_weights(self, channel: ClientChannel, key: str, text: str) -> None:
        channel.exchange("x", "x-consistent-hash")
        channel.declare("a")
        channel.send(commands.Queue.Bind(queue="a", exchange="x", routing_key=key))
        assert channel.closed_with().reply_text == f"PRECONDITION_FAILED - {text}"


# --- random and modulus


@pytest.mark.parametrize("type_name", ["x-random", "x-local-random"])
def test_each_message_goes_to_one_at_random(channel: ClientChannel, type_name: str) -> None:
    channel.exchange("x", type_name)
    bound(channel, "x", a="k", b="other")
    for _ in range(200):
        channel.publish("x", "k", b"")
    assert channel.message_count("a") + channel.message_count("b") == 200
    assert min(channel.message_count("a"), channel.message_count("b")) > 0


def test_modulus_hash_spreads_by_routing_key_only(channel: ClientChannel) -> None:
    channel.exchange("x", "x-modulus-hash")
    bound(channel, "x", a="", b="", c="")
    for number in range(300):
        for _ in range(2):
            channel.publish("x", str(number), b"")
    counts = Counter({queue: channel.message_count(queue) for queue in "abc"})
    assert sum(counts.values()) == 600
    assert all(count % 2 == 0 and count > 100 for count in counts.values())


# --- recent history


class TestRecentHistory:
    def test_who_is_bound_later_gets_the_last_ones_oldest_first(self, channel: ClientChannel) -> None:
        channel.exchange("x", "x-recent-history", {"x-recent-history-length": 3})
        for number in range(5):
            channel.publish("x", f"k{number}", str(number).encode())
        bound(channel, "x", q="")
        channel.publish("x", "k", b"new")
        assert channel.drain("q") == [b"2", b"3", b"4", b"new"]

    def test_what_is_not_to_be_kept_is_not(self, channel: ClientChannel) -> None:
        channel.exchange("x", "x-recent-history")
        channel.publish("x", "k", b"1", headers={"x-recent-history-no-store": True})
        channel.publish("x", "k", b"2")
        bound(channel, "x", q="")
        assert channel.message_count("q") == 1

    def test_blind_copies_stay_nobody_s_business(self, channel: ClientChannel) -> None:
        channel.exchange("x", "x-recent-history")
        channel.publish("x", "k", b"1", headers={"BCC": ["secret"], "CC": ["open"]})
        bound(channel, "x", q="")
        message = channel.get("q")
        assert message is not None
        assert message.headers == {"CC": ["open"]}

    def test_of_a_transaction_only_what_is_committed(self, channel: ClientChannel) -> None:
        channel.exchange("x", "x-recent-history")
        transactional = channel.client.channel(2)
        transactional.call(commands.Tx.Select())
        for body, end in ((b"1", commands.Tx.Rollback()), (b"2", commands.Tx.Commit())):
            transactional.publish("x", "k", body)
            transactional.call(end)
        bound(channel, "x", q="")
        assert channel.drain("q") == [b"2"]

    def test_a_binding_that_is_there_already_brings_nothing(self, channel: ClientChannel) -> None:
        channel.exchange("x", "x-recent-history")
        channel.publish("x", "k", b"1")
        bound(channel, "x", q="")
        channel.bind("q", "x", "")
        assert channel.message_count("q") == 1

    def test_an_exchange_that_is_bound_later_passes_them_on(self, channel: ClientChannel) -> None:
        channel.exchange("x", "x-recent-history")
        channel.publish("x", "k", b"1")
        bound(channel, "amq.topic", q="#")
        channel.call(commands.Exchange.Bind(destination="amq.topic", source="x"))
        assert channel.message_count("q") == 1

    @pytest.mark.parametrize("length", [0, -1, "3", True])
    def test_wrong_length(self, channel: ClientChannel, length: Any) -> None:
        text = refusal(channel, "x-recent-history", {"x-recent-history-length": length})
        assert "'x-recent-history-length' must be a positive integer" in text


# --- deduplication


class TestMessageDeduplication:
    @pytest.fixture(autouse=True)
    def exchange(self, channel: ClientChannel) -> None:
        channel.exchange("x", "x-message-deduplication", {"x-cache-size": 2, "x-cache-ttl": 1000})
        bound(channel, "x", q="")

    def publish(self, channel: ClientChannel, value: Any, **more: Any) -> None:
        channel.publish("x", "", b"", headers={"x-deduplication-header": value, **more})

    def test_each_value_passes_once(self, channel: ClientChannel) -> None:
        for value in ("a", "a", 1, 1, "a"):
            self.publish(channel, value)
        assert channel.message_count("q") == 2

    def test_what_has_no_value_passes(self, channel: ClientChannel) -> None:
        channel.publish("x", "", b"")
        channel.publish("x", "", b"")
        assert channel.message_count("q") == 2

    def test_the_oldest_is_forgotten_first(self, channel: ClientChannel) -> None:
        for value in ("a", "b", "c", "a"):
            self.publish(channel, value)
        assert channel.message_count("q") == 4

    def test_a_value_passes_again_after_its_time(self, broker: MemoryBroker, channel: ClientChannel) -> None:
        self.publish(channel, "a")
        self.publish(channel, "b", **{"x-cache-ttl": 3000})
        broker.advance(1000)
        self.publish(channel, "a")
        self.publish(channel, "b")
        assert channel.message_count("q") == 3

    @pytest.mark.parametrize(
        "arguments", [{}, {"x-cache-size": 0}, {"x-cache-size": "many"}, {"x-cache-size": 1, "x-cache-persistence": 1}]
    )
    def test_wrong_arguments(self, channel: ClientChannel, arguments: Any) -> None:
        assert "x-cache-" in refusal(channel, "x-message-deduplication", arguments)


# --- what fails


FAILING = """
from amqp_broker.broker.exchanges.matcher import Matcher

class Failing(Matcher):
    may_be_remembered = False
    def __init__(self, arguments):
        super().__init__(arguments)
        if "fail" in arguments:
            raise RuntimeError("not made")
    def add(self, binding):
        if binding.routing_key == "fail":
            raise RuntimeError("not added")
    def remove(self, binding):
        raise RuntimeError("not removed")
    def match(self, message):
        if message.routing_keys == ("nonsense",):
            return ["no queue"]
        if message.routing_keys == ("exit",):
            raise SystemExit(3)
        raise RuntimeError("not matched")
"""


@pytest.fixture
def failing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package with a type that fails, and one whose module is not there."""
    (tmp_path / "failing_types.py").write_text(FAILING)
    metadata = tmp_path / "failing_types-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: failing-types\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[amqp_broker.exchange_types]\nx-failing = failing_types:Failing\nx-missing = missing_types:Missing\n"
        "direct = failing_types:Failing\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.usefixtures("failing")
class TestFailing:
    def test_what_cannot_be_loaded_is_refused_by_name(
        self, channel: ClientChannel, caplog: pytest.LogCaptureFixture
    ) -> None:
        text = refusal(channel, "x-missing", {})
        assert "exchange type 'x-missing' of failing-types 1.0 cannot be loaded from missing_types:Missing" in text
        assert "plugin failed" in caplog.text

    def test_what_cannot_be_made_is_not_there(self, broker: MemoryBroker, channel: ClientChannel) -> None:
        assert "failed to make an exchange: RuntimeError: not made" in refusal(channel, "x-failing", {"fail": True})
        assert "wrong" not in broker.virtual_host.exchanges

    def test_a_binding_that_fails_is_not_there(self, broker: MemoryBroker, channel: ClientChannel) -> None:
        channel.exchange("x", "x-failing")
        channel.declare("q")
        channel.send(commands.Queue.Bind(queue="q", exchange="x", routing_key="fail"))
        assert "failed to add a binding: RuntimeError: not added" in channel.closed_with().reply_text
        assert not broker.virtual_host.exchange("x").bindings
        broker.check_invariants()

    @pytest.mark.parametrize(
        ("key", "problem"), [("k", "RuntimeError"), ("nonsense", "TypeError: "), ("exit", "SystemExit: 3")]
    )
    def test_a_publish_is_refused_to_its_publisher_only(self, broker: MemoryBroker, key: str, problem: str) -> None:
        client = Client(broker).open()
        publisher, other = client.channel(1), client.channel(2)
        publisher.exchange("x", "x-failing")
        other.declare("q")
        publisher.publish("x", key, b"")
        assert f"failed to route a message: {problem}" in publisher.closed_with().reply_text
        other.publish("", "q", b"")
        assert other.message_count("q") == 1

    def test_a_dead_letter_goes_nowhere(self, broker: MemoryBroker, channel: ClientChannel) -> None:
        channel.exchange("x", "x-failing")
        channel.declare("q", {"x-dead-letter-exchange": "x", "x-message-ttl": 1})
        channel.publish("", "q", b"")
        broker.advance(10)
        assert channel.message_count("q") == 0
        broker.check_invariants()

    def test_what_fails_to_let_go_is_gone_all_the_same(self, broker: MemoryBroker, channel: ClientChannel) -> None:
        channel.exchange("x", "x-failing")
        bound(channel, "x", q="k")
        channel.call(commands.Queue.Unbind(queue="q", exchange="x", routing_key="k"))
        assert not broker.virtual_host.exchange("x").bindings

    def test_no_package_replaces_what_is_the_brokers_own(self, broker: MemoryBroker) -> None:
        assert "x-failing" in broker.exchange_types.names
        assert type(broker.exchange_types["direct"]({})).__name__ == "DirectMatcher"


class TakesAll(Matcher):
    """A type as anybody may write it."""

    seen: list[str]

    def placed(self, virtual_host: Any, exchange: Exchange) -> None:
        self.seen = [f"placed {exchange.name} in {virtual_host.name}"]

    def removed(self) -> None:
        self.seen.append("removed")

    def add(self, binding: Any) -> None:
        self.seen.append("add")

    def bound(self, binding: Any) -> None:
        self.seen.append("bound")

    def remove(self, binding: Any) -> None:
        self.seen.append("remove")

    def match(self, message: Envelope) -> Iterable[Exchange | Queue]:
        return ()


def test_a_type_is_told_what_happens(broker: MemoryBroker, channel: ClientChannel) -> None:
    broker.exchange_types.register("x-all", TakesAll)
    channel.exchange("x", "x-all")
    matcher = broker.virtual_host.exchange("x").matcher
    assert isinstance(matcher, TakesAll)
    bound(channel, "x", q="k")
    channel.call(commands.Queue.Unbind(queue="q", exchange="x", routing_key="k"))
    channel.call(commands.Exchange.Delete(exchange="x"))
    assert matcher.seen == ["placed x in /", "add", "bound", "remove", "removed"]


def test_nobody_who_uses_none_loads_them() -> None:
    program = (
        "import sys; from amqp_broker.broker.broker import Broker; from amqp_broker.settings import Settings\n"
        "from amqp_broker.server.clock import SystemClock\n"
        "broker = Broker(Settings(), SystemClock()); broker.open()\n"
        "print([name for name in sys.modules if 'plugin' in name and name.startswith('amqp_broker')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- a start


def test_exchanges_of_plugins_and_their_bindings_outlive_a_restart() -> None:
    broker = DiskBroker()
    channel = broker.client().channel()
    channel.exchange("x", "x-consistent-hash", {"hash-header": "h"}, durable=True)
    channel.exchange("history", "x-recent-history", durable=True)
    for queue in ("a", "b"):
        channel.declare(queue, durable=True)
        channel.bind(queue, "x", "1")
        channel.bind(queue, "history", "")
    channel.publish("history", "", b"", delivery_mode=2)

    again = broker.killed().client().channel()
    for number in range(100):
        again.publish("x", "same", b"", headers={"h": str(number)})
    counts = [again.message_count(queue) for queue in ("a", "b")]
    assert sum(counts) == 102, "each has the one that it had, once"
    assert min(counts) > 20


@pytest.mark.usefixtures("failing")
def test_without_its_package_a_durable_exchange_ends_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = DiskBroker()
    broker.client().channel().exchange("x", "x-failing", durable=True)
    monkeypatch.undo()  # the package is gone
    with pytest.raises(FormatNotSupported, match="exchange 'x' is of type 'x-failing'"):
        broker.restarted()
