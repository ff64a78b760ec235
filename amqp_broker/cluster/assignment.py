"""The order in which nodes campaign for a shard that nobody owns: the same on all nodes that know the same.

Whoever owns the least goes first, and what nobody owns is dealt out one after the other, so that the shards of a node
that dies are spread over the others. Nodes that own as much are in another order for each shard (rendezvous hashing).
It only saves time: that nobody owns a shard beside another node is for ``ownership.py`` to see to.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Mapping


def candidates(cluster: str, owners: Mapping[int, str | None], nodes: Collection[str]) -> dict[int, list[str]]:
    """The order in which nodes are to campaign, for each shard that nobody owns.

    Args:
        cluster: what its keys begin with.
        owners: of all shards, the identifiers of their nodes; None, or a node that is not there, where nobody owns it.
        nodes: the identifiers of those that are there.

    Returns:
        All nodes for each such shard, the first to try first; none where every shard has an owner.
    """
    held = Counter(owner for owner in owners.values() if owner in nodes)
    orders: dict[int, list[str]] = {}
    for shard in sorted(shard for shard, owner in owners.items() if owner not in nodes):
        weights = {node: _weight(cluster, shard, node) for node in nodes}
        order = sorted(nodes, key=lambda node: (held[node], weights[node]))
        orders[shard] = order
        held.update(order[:1])
    return orders


def _weight(cluster: str, shard: int, node: str) -> bytes:
    return hashlib.sha256(f"{cluster} {shard} {node}".encode()).digest()
