"""Who campaigns first, and that shards in one etcd are fenced each by itself; all in memory."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amqp_broker.cluster.assignment import candidates
from amqp_broker.cluster.keys import Keys
from amqp_broker.cluster.members import Members
from amqp_broker.cluster.store import EtcdStore, OwnershipLost
from amqp_broker.journal.kept_files import Put, Transaction
from tests.support.examples import examples
from tests.support.fake_etcd import FakeEtcd, UnreliableMember

NODES = st.sets(st.sampled_from("abcdefg"), min_size=1).map(sorted)


@given(NODES, st.integers(1, 20), st.randoms())
@settings(max_examples=examples(40))
def test_what_nobody_owns_is_spread_evenly_and_every_node_says_so(nodes: list[str], count: int, random: Random) -> None:
    orders = candidates("c/", dict.fromkeys(range(count)), nodes)
    shuffled = random.sample(nodes, len(nodes))
    assert orders == candidates("c/", dict.fromkeys(reversed(range(count))), shuffled)
    assert all(sorted(order) == nodes for order in orders.values())
    firsts = Counter(order[0] for order in orders.values())
    assert max(firsts.values()) - min(firsts[node] for node in nodes) <= 1


@given(NODES, st.lists(st.sampled_from("abcdefgxyz") | st.none(), max_size=20))
@settings(max_examples=examples(40))
def test_shards_that_have_an_owner_stay_and_those_of_a_dead_node_go_to_who_owns_least(
    nodes: list[str], owned: list[str | None]
) -> None:
    owners = dict(enumerate(owned))
    orders = candidates("c/", owners, nodes)
    assert set(orders) == {shard for shard, owner in owners.items() if owner not in nodes}
    held = Counter(owner for owner in owned if owner in nodes)
    for shard in sorted(orders):
        first = orders[shard][0]
        assert held[first] == min(held[node] for node in nodes)
        held[first] += 1


def test_nodes_that_own_nothing_are_not_in_the_same_order_for_all_shards() -> None:
    orders = candidates("c/", dict.fromkeys(range(30)), ["a", "b", "c"])
    assert len({tuple(order) for order in orders.values()}) > 1


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 2), st.booleans()), max_size=25), st.integers(0, 99))
@settings(deadline=None, max_examples=examples(40))
def test_each_shard_is_fenced_by_itself(steps: list[tuple[str, int, bool]], seed: int) -> None:
    """Nodes take shards from each other, or go on with what they believe they own: only the last one writes."""
    etcd, keys = FakeEtcd(), Keys("c")
    members = Members([UnreliableMember(etcd, Random(seed))])
    stores: dict[tuple[str, int], EtcdStore] = {}
    owner_of: dict[int, str] = {}
    written: dict[int, bytes] = {}
    for number, (node, shard, takes) in enumerate(steps):
        owner_key = keys.owner(shard)
        if takes:
            etcd.delete(owner_key.encode())
            epoch = etcd.put(owner_key.encode(), node.encode())
            stores[node, shard] = EtcdStore(members, keys.shard(shard), owner_key, epoch)
            stores[node, shard].open()
            owner_of[shard] = node
        elif (node, shard) in stores:
            change: list[Transaction] = [[Put("d/x/1", b"%d" % number)]]
            if owner_of[shard] == node:
                stores[node, shard].commit(change)
                written[shard] = b"%d" % number
            else:
                with pytest.raises(OwnershipLost, match="another node"):
                    stores[node, shard].commit(change)
        found = {shard: etcd.keys.get(f"{keys.shard(shard)}d/x/1".encode(), (None,))[0] for shard in range(3)}
        assert found == {shard: written.get(shard) for shard in range(3)}
