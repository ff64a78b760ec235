"""The contract that every exchange type fulfils (``broker/exchanges/matcher.py``), and how types are looked up.

A new type of every broker is named in ``TYPES``, with a binding and a message that it lets through.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import cycle
from typing import Any

import pytest
from pamqp import commands

from amqp_broker.broker.exchanges.exchange import Exchange
from amqp_broker.broker.exchanges.matcher import Envelope, Matcher
from amqp_broker.broker.exchanges.registry import WHERE_RABBITMQ_HAS_IT, exchange_types
from amqp_broker.broker.queues.base import Queue
from amqp_broker.broker.type_registry import UnknownType
from amqp_broker.errors import AmqpError, precondition_failed
from amqp_broker.wire.content import Properties, encode_content_header
from amqp_broker.wire.table import Table
from tests.support.client import Client, ClientChannel
from tests.support.memory_broker import MemoryBroker
from tests.support.topology import Topology

# For each type a binding (routing key and arguments) and a message (routing key and headers) that it lets through.
TYPES: dict[str, tuple[str, Table, str, Table]] = {
    "direct": ("key", {}, "key", {}),
    "fanout": ("", {}, "whatever", {}),
    "topic": ("a.*.#", {}, "a.b.c", {}),
    "headers": ("", {"x-match": "all", "kind": "a"}, "", {"kind": "a"}),
    "x-consistent-hash": ("1", {}, "whatever", {}),
    "x-local-random": ("", {}, "whatever", {}),
    "x-modulus-hash": ("", {}, "whatever", {}),
    "x-random": ("", {}, "whatever", {}),
    "x-recent-history": ("", {}, "whatever", {"x-recent-history-no-store": True}),
}


class TakingTurns(Matcher):
    """Each message to another of the queues that are bound, as the exchange types of some plugins do."""

    may_be_remembered = False

    def __init__(self, arguments: Table) -> None:
        super().__init__(arguments)
        if "x-wrong" in arguments:
            raise precondition_failed("x-wrong is no argument")
        self.destinations: list[Exchange | Queue] = []
        self.asked: list[Envelope] = []
        self._turns = cycle(self.destinations)

    def add(self, binding: Any) -> None:
        self.destinations.append(binding.destination)
        self._turns = cycle(self.destinations)

    def remove(self, binding: Any) -> None:
        self.destinations.remove(binding.destination)
        self._turns = cycle(self.destinations)

    def match(self, message: Envelope) -> Iterable[Exchange | Queue]:
        self.asked.append(message)
        return [next(self._turns)] if self.destinations else []


@pytest.fixture
def channel(broker: MemoryBroker) -> ClientChannel:
    """A channel beside an exchange of that type, to which two queues are bound."""
    broker.exchange_types.register("x-turns", TakingTurns)
    made = Client(broker).open().channel()
    made.exchange("x", "x-turns", {"alternate-exchange": "amq.fanout"})
    for queue in ("a", "b"):
        made.declare(queue)
        made.bind(queue, "x")
    return made


@pytest.fixture
def matcher(broker: MemoryBroker, channel: ClientChannel) -> TakingTurns:
    """The matcher of that exchange."""
    made = broker.virtual_host.exchange("x").matcher
    assert isinstance(made, TakingTurns)
    return made


def test_every_type_is_under_contract() -> None:
    # these need arguments, and have their tests in test_plugins.py, test_delayed.py and test_federation.py
    others = {"x-message-deduplication", "x-delayed-message", "x-federation-upstream"}
    assert set(exchange_types().names) == {*TYPES, *others}


@pytest.mark.parametrize("type_name", TYPES)
class TestContract:
    """What must be so for each type."""

    @pytest.fixture
    def topology(self) -> Topology:
        return Topology()

    def test_what_is_bound_is_reached_and_what_is_unbound_is_not(self, topology: Topology, type_name: str) -> None:
        key, arguments, published_key, headers = TYPES[type_name]
        topology.exchange("x", type_name)
        topology.queue("q")
        assert topology.route("x", published_key, headers=headers) == []
        topology.bind("x", "q", key, arguments)
        assert topology.route("x", published_key, headers=headers) == ["q"]
        topology.unbind("x", "q", key, arguments)
        assert topology.route("x", published_key, headers=headers) == []

    def test_two_bindings_to_a_queue_are_two(self, topology: Topology, type_name: str) -> None:
        key, arguments, published_key, headers = TYPES[type_name]
        topology.exchange("x", type_name)
        topology.queue("q")
        topology.bind("x", "q", key, arguments)
        topology.bind("x", "q", key, {**arguments, "x-other": 1})
        topology.unbind("x", "q", key, arguments)
        assert topology.route("x", published_key, headers=headers) == ["q"]

    def test_an_exchange_is_a_destination_as_a_queue_is(self, topology: Topology, type_name: str) -> None:
        key, arguments, published_key, headers = TYPES[type_name]
        topology.exchange("x", type_name)
        topology.exchange("behind", "fanout")
        topology.queue("q")
        topology.bind_exchange("x", "behind", key, arguments)
        topology.bind("behind", "q")
        assert topology.route("x", published_key, headers=headers) == ["q"]

    def test_a_deleted_queue_is_not_reached(self, topology: Topology, type_name: str) -> None:
        key, arguments, published_key, headers = TYPES[type_name]
        topology.exchange("x", type_name)
        queue = topology.queue("q")
        topology.bind("x", "q", key, arguments)
        topology.virtual_host.remove_queue(queue)
        assert topology.route("x", published_key, headers=headers) == []
        assert list(topology.virtual_host.exchange("x").matcher.match(_envelope(published_key, headers))) == []

    def test_all_routing_keys_count(self, topology: Topology, type_name: str) -> None:
        key, arguments, published_key, headers = TYPES[type_name]
        topology.exchange("x", type_name)
        topology.queue("q")
        topology.bind("x", "q", key, arguments)
        assert topology.route("x", "another", published_key, headers=headers) == ["q"]

    def test_what_may_be_remembered_needs_no_message(self, topology: Topology, type_name: str) -> None:
        key, arguments, published_key, _ = TYPES[type_name]
        topology.exchange("x", type_name)
        queue = topology.queue("q")
        topology.bind("x", "q", key, arguments)
        matcher = topology.virtual_host.exchange("x").matcher
        if matcher.may_be_remembered:
            for _ in range(2):
                assert list(matcher.match(Envelope((published_key,)))) == [queue]


def _envelope(routing_key: str, headers: Table) -> Envelope:
    return Envelope((routing_key,), encode_content_header(0, Properties(headers=headers)), headers)


# --- a type that answers otherwise each time


def test_each_message_has_its_answer(channel: ClientChannel, matcher: TakingTurns) -> None:
    for _ in range(4):
        channel.publish("x", "k", b"")
    assert (channel.message_count("a"), channel.message_count("b")) == (2, 2)
    assert len(matcher.asked) == 4, "it is asked once for each message, and never without one"


def test_each_dead_letter_has_its_answer(channel: ClientChannel) -> None:
    channel.declare("q", {"x-dead-letter-exchange": "x"})
    for _ in range(4):
        channel.publish("", "q", b"")
    channel.consume("q")
    channel.nack(4, multiple=True, requeue=False)
    assert (channel.message_count("a"), channel.message_count("b")) == (2, 2)


def test_it_is_asked_behind_another_exchange_too(channel: ClientChannel) -> None:
    channel.exchange("before", "fanout")
    channel.call(commands.Exchange.Bind(destination="x", source="before"))
    for _ in range(4):
        channel.publish("before", "", b"")
    assert (channel.message_count("a"), channel.message_count("b")) == (2, 2)


def test_it_sees_the_message_and_its_exchanges_arguments(channel: ClientChannel, matcher: TakingTurns) -> None:
    channel.publish("x", "k", b"body", headers={"CC": ["cc"]}, correlation_id="7")
    (message,) = matcher.asked
    assert message.routing_keys == ("k", "cc")
    assert message.properties.correlation_id == "7"
    assert message.headers == {"CC": ["cc"]}
    assert message.body == b"body"
    assert matcher.arguments == {"alternate-exchange": "amq.fanout"}


def test_it_may_refuse_its_arguments(broker: MemoryBroker, channel: ClientChannel) -> None:
    channel.send(commands.Exchange.Declare(exchange="wrong", exchange_type="x-turns", arguments={"x-wrong": 1}))
    assert channel.closed_with().reply_text.startswith("PRECONDITION_FAILED - x-wrong is no argument")
    assert "wrong" not in broker.virtual_host.exchanges


# --- the lookup


def test_types_belong_to_one_broker(channel: ClientChannel) -> None:
    other = Client(MemoryBroker()).open().channel()
    other.send(commands.Exchange.Declare(exchange="x", exchange_type="x-turns"))
    assert "unknown exchange type 'x-turns'" in other.closed_with().reply_text


def test_a_name_is_taken_once() -> None:
    types = exchange_types()
    with pytest.raises(ValueError, match="exchange type 'direct' is there already"):
        types.register("direct", TakingTurns)


def test_a_type_that_is_not_there_is_refused_by_name(broker: MemoryBroker) -> None:
    with pytest.raises(UnknownType, match="unknown exchange type 'x-gone'"):
        broker.virtual_host.add_exchange("x", "x-gone", durable=True, auto_delete=False, internal=False, table={})
    assert "x" not in broker.virtual_host.exchanges
    with pytest.raises(UnknownType, match="unknown queue type 'x-gone'"):
        broker.virtual_host.queue_types["x-gone"]


@pytest.mark.parametrize("name", WHERE_RABBITMQ_HAS_IT)
def test_a_type_of_a_plugin_is_refused_with_the_plugins_name(name: str) -> None:
    if name in exchange_types():
        pytest.skip("it is there now")
    with pytest.raises(AmqpError, match=f"unknown exchange type '{name}': RabbitMQ has it with ") as refused:
        Topology().exchange("e", name)
    assert WHERE_RABBITMQ_HAS_IT[name] in str(refused.value)


def test_any_other_type_is_refused_in_rabbitmqs_words() -> None:
    with pytest.raises(AmqpError, match=r"unknown exchange type 'x-nope'$"):
        Topology().exchange("e", "x-nope")
