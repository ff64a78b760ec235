"""A broker whose virtual hosts are divided into shards, each with an owner: what administrators need to know of that.

``cluster/`` has such brokers; ``management/`` shows them as one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

import trio

from amqp_broker.access.client import Peer

ROOT: Final = 0  # has users, permissions and the list of virtual hosts


class ShardUnreachable(Exception):
    """A shard has no owner now, or its owner does not answer."""


class Shards(Protocol):
    """The shards, as one node knows them."""

    @property
    def numbers(self) -> Sequence[int]:
        """All of them, the root first."""
        ...

    def shard_of(self, virtual_host: str) -> int:
        """Where a virtual host is; one that is not there is the root's, which says so."""
        ...

    async def refresh(self) -> None:
        """Know where all virtual hosts are that there are now."""

    async def connect(self, shard: int, peer: Peer) -> trio.abc.Stream:
        """A connection to a shard's owner, for requests of HTTP that name their user.

        Args:
            peer: who has asked.

        Raises:
            ShardUnreachable: it is not to be had.
        """
        ...
