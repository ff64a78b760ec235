"""What a node knows of its cluster: who is there, who owns the broker, and whether that is this node itself.

Whoever waits for a change takes ``changed`` before looking. Holds no etcd; ``node.py`` writes here what it is told.
"""

from __future__ import annotations

import trio

from amqp_broker.cluster.keys import Node
from amqp_broker.cluster.ownership import owner_in
from amqp_broker.server.broker_server import BrokerServer


class Known:
    """What one node knows.

    Args:
        node_id: its own.
    """

    def __init__(self, node_id: str) -> None:
        self.node_id = node_id
        self.nodes: dict[str, Node] = {}
        self.claim = b""  # in the owner's key, as far as is known
        self.server: BrokerServer | None = None  # while this node owns the broker
        self.changed = trio.Event()

    @property
    def is_owner(self) -> bool:
        """Whether this node serves the broker."""
        return self.server is not None

    @property
    def has_owner(self) -> bool:
        """Whether there is an owner that this node knows how to reach."""
        return self.is_owner or self.owner is not None

    @property
    def owner(self) -> Node | None:
        """The node that owns the broker, where it is known."""
        return self.nodes.get(owner_in(self.claim)) if self.claim else None

    def tell(self) -> None:
        """Something has changed: whoever waits looks again."""
        self.changed.set()
        self.changed = trio.Event()
