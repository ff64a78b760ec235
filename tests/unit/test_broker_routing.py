"""The walk from exchange to exchange: loops, alternates, one copy a queue; and what goes when something is deleted."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.support.client import Client
from tests.support.memory_broker import MemoryBroker
from tests.support.topology import Topology


def test_direct_reaches_all_with_the_key() -> None:
    topology = Topology()
    topology.exchange("x", "direct")
    for name, key in (("a", "k"), ("b", "k"), ("c", "other")):
        topology.queue(name)
        topology.bind("x", name, key)
    assert topology.route("x", "k") == ["a", "b"]
    assert topology.route("x", "nobody") == []


def test_one_copy_however_many_bindings() -> None:
    topology = Topology()
    topology.exchange("x", "topic")
    topology.exchange("y", "fanout")
    topology.queue("q")
    topology.bind("x", "q", "a.*")
    topology.bind("x", "q", "#")
    topology.bind("y", "q")
    topology.bind_exchange("x", "y", "a.#")
    assert topology.route("x", "a.b") == ["q"]


def test_default_exchange_knows_every_queue_by_its_name() -> None:
    topology = Topology()
    topology.queue("a")
    topology.queue("b")
    assert topology.route("", "a") == ["a"]
    assert topology.route("", "a", "b", "a", "missing") == ["a", "b"]


def test_loops_end() -> None:
    topology = Topology()
    for name in "xyz":
        topology.exchange(name, "fanout")
        topology.queue(f"q{name}")
        topology.bind(name, f"q{name}")
    for source, destination in ("xy", "yz", "zx", "xx"):
        topology.bind_exchange(source, destination)
    for name in "xyz":
        assert topology.route(name) == ["qx", "qy", "qz"]


def test_an_alternate_is_used_only_when_nothing_matched() -> None:
    topology = Topology()
    topology.exchange("rest", "fanout")
    topology.exchange("x", "direct", alternate="rest")
    for name in ("a", "lost"):
        topology.queue(name)
    topology.bind("x", "a", "k")
    topology.bind("rest", "lost")
    assert topology.route("x", "k") == ["a"]
    assert topology.route("x", "other") == ["lost"]


def test_alternates_in_a_chain_and_in_a_loop() -> None:
    topology = Topology()
    topology.exchange("a", "direct", alternate="b")
    topology.exchange("b", "direct", alternate="c")
    topology.exchange("c", "direct", alternate="a")
    assert topology.route("a", "k") == []
    topology.queue("q")
    topology.bind("c", "q", "k")
    assert topology.route("a", "k") == ["q"]


def test_an_alternate_that_does_not_exist() -> None:
    topology = Topology()
    topology.exchange("x", "direct", alternate="missing")
    assert topology.route("x", "k") == []


def test_a_match_that_leads_to_no_queue_is_a_match() -> None:
    topology = Topology()
    topology.exchange("rest", "fanout")
    topology.exchange("empty", "fanout")
    topology.exchange("x", "direct", alternate="rest")
    topology.queue("lost")
    topology.bind("rest", "lost")
    topology.bind_exchange("x", "empty", "k")
    assert topology.route("x", "k") == []


def test_a_deleted_queue_leaves_no_binding() -> None:
    topology = Topology()
    topology.exchange("x", "fanout", auto_delete=True)
    topology.queue("q")
    topology.bind("x", "q")
    topology.virtual_host.delete_queue(topology.who, "q", if_unused=False, if_empty=False)
    assert "x" not in topology.virtual_host.exchanges
    topology.broker.check_invariants()


def test_auto_delete_exchanges_go_in_a_row() -> None:
    topology = Topology()
    for name in "abc":
        topology.exchange(name, "fanout", auto_delete=True)
    topology.bind_exchange("a", "b")
    topology.bind_exchange("b", "c")
    topology.queue("q")
    topology.bind("c", "q")
    topology.unbind("c", "q")
    assert not {"a", "b", "c"} & set(topology.virtual_host.exchanges)
    topology.broker.check_invariants()


def test_auto_delete_exchanges_in_a_loop() -> None:
    topology = Topology()
    for name in "ab":
        topology.exchange(name, "fanout", auto_delete=True)
    topology.bind_exchange("a", "b")
    topology.bind_exchange("b", "a")
    topology.virtual_host.delete_exchange(topology.who, "a", if_unused=False)
    assert not {"a", "b"} & set(topology.virtual_host.exchanges)
    topology.broker.check_invariants()


NAMES = st.sampled_from("abcd")


@given(
    st.lists(st.tuples(NAMES, NAMES), max_size=12),
    st.dictionaries(NAMES, NAMES, max_size=4),
    st.sets(NAMES),
    NAMES,
)
def test_any_graph_of_fanouts_and_alternates(
    edges: list[tuple[str, str]], alternates: dict[str, str], with_queue: set[str], start: str
) -> None:
    topology = Topology()
    for name in "abcd":
        topology.exchange(name, "fanout", alternate=alternates.get(name))
    for name in with_queue:
        topology.queue(f"q{name}")
        topology.bind(name, f"q{name}")
    for source, destination in edges:
        topology.bind_exchange(source, destination)

    reached, to_do = {start}, [start]
    while to_do:
        name = to_do.pop()
        following = [destination for source, destination in edges if source == name]
        if not following and name not in with_queue and name in alternates:
            following = [alternates[name]]
        to_do.extend(set(following) - reached)
        reached.update(following)
    assert topology.route(start) == sorted(f"q{name}" for name in reached & with_queue)


# --- the alternate exchange in force


def test_another_alternate_exchange_is_in_force_even_where_the_route_is_remembered(broker: MemoryBroker) -> None:
    channel = Client(broker).open().channel()
    channel.exchange("other", "fanout")
    channel.exchange("x", "fanout", {"alternate-exchange": "amq.fanout"})
    for queue, name in (("declared", "amq.fanout"), ("applied", "other")):
        channel.declare(queue)
        channel.bind(queue, name)
    exchange = broker.virtual_host.exchange("x")
    channel.publish("x", "k", b"1")
    broker.virtual_host.apply_to_exchange(exchange, "other")
    channel.publish("x", "k", b"2")
    channel.exchange("x", "fanout", {"alternate-exchange": "amq.fanout"})  # the same as what was declared
    broker.virtual_host.apply_to_exchange(exchange, exchange.declared_alternate)
    channel.publish("x", "k", b"3")
    assert channel.drain("declared") == [b"1", b"3"]
    assert channel.drain("applied") == [b"2"]
