"""The state of a cluster as a node knows it: who is there, who owns each shard, and which of them it owns itself.

Whoever waits for a change takes ``changed`` before looking. Holds no etcd; what follows etcd (``following.py``) is
written here by ``node.py`` and ``shard.py``.
"""

from __future__ import annotations

from typing import Final

import trio

from amqp_broker.cluster.keys import Node
from amqp_broker.cluster.ownership import owner_in
from amqp_broker.journal.port import Journal
from amqp_broker.server.broker_server import BrokerServer

JOURNAL_BYTES: Final = "journal_bytes"  # among what a node says that it uses
BACKLOG_BYTES_OF: Final = "backlog_bytes_of_shard_"  # likewise, of each shard that it owns; its number follows


class Known:
    """The state of the cluster as one node knows it.

    Args:
        node_id: its own.
    """

    def __init__(self, node_id: str) -> None:
        self.node_id = node_id
        self.nodes: dict[str, Node] = {}
        self.shards: dict[int, KnownShard] = {}
        self.changed = trio.Event()

    def add_shard(self, number: int) -> KnownShard:
        """There is a shard; nothing is known of it yet."""
        self.shards[number] = shard = KnownShard(self, number)
        return shard

    @property
    def owners(self) -> dict[int, str | None]:
        """Of all shards, the identifiers of the nodes that own them."""
        return {shard.number: owner_in(shard.claim) if shard.claim else None for shard in self.shards.values()}

    @property
    def journal_bytes(self) -> int:
        """How much the journals have that this node owns."""
        return sum(shard.journal.disk_bytes for shard in self.shards.values() if shard.journal is not None)

    @property
    def backlog_bytes(self) -> dict[int, int]:
        """How much of that is live, of each shard that this node owns."""
        shards = self.shards.values()
        return {shard.number: shard.journal.live_bytes for shard in shards if shard.journal is not None}

    @property
    def all_journal_bytes(self) -> int:
        """The same with those of the other nodes, as they have said it last."""
        others = [node.uses.get(JOURNAL_BYTES, 0) for node in self.nodes.values() if node.node_id != self.node_id]
        return self.journal_bytes + sum(others)

    def is_life_before(self, node: Node) -> bool:
        """Whether a node that is still known, until its lease ends, is this one before it was started again."""
        this = self.nodes.get(self.node_id)
        return this is not None and node.node_id != self.node_id and node.name == this.name

    def tell(self) -> None:
        """Something has changed: whoever waits looks again."""
        self.changed.set()
        self.changed = trio.Event()


class KnownShard:
    """The state of one shard as one node knows it.

    Args:
        known: what it knows besides.
        number: the shard's.
    """

    def __init__(self, known: Known, number: int) -> None:
        self._known = known
        self.number = number
        self.claim = b""  # in the owner's key, as far as is known
        self.server: BrokerServer | None = None  # while this node owns the shard
        self.journal: Journal | None = None  # likewise
        self.is_closing = False  # it lets its clients go: who comes now waits for the next owner
        self.is_refused = False  # the owner, or the last one, refuses this node's links: others own the shard before

    @property
    def is_owner(self) -> bool:
        """Whether this node serves the shard."""
        return self.server is not None

    @property
    def open_server(self) -> BrokerServer | None:
        """The server for who comes now; None where this node does not own the shard, or is about to let it go."""
        return None if self.is_closing else self.server

    @property
    def has_owner(self) -> bool:
        """Whether there is an owner that this node knows how to reach."""
        return self.is_owner or self.owner is not None

    @property
    def is_claimed_here(self) -> bool:
        """Whether the claim is this node's own, which owns the shard or is about to."""
        return owner_in(self.claim) == self._known.node_id

    @property
    def owner(self) -> Node | None:
        """The node that owns the shard, where it is known."""
        return self._known.nodes.get(owner_in(self.claim)) if self.claim else None
