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

    @property
    def owned(self) -> Sequence[int]:
        """Those that this node owns."""
        ...

    def shard_of(self, virtual_host: str) -> int:
        """Where a virtual host is; one that is not there is the root's, which says so."""
        ...

    async def refresh(self) -> None:
        """Know where all virtual hosts are that there are now.

        Raises:
            ShardUnreachable: this node cannot know that.
        """
        ...

    async def connect(self, shard: int, peer: Peer, protocol: str) -> trio.abc.Stream:
        """A connection to a shard's owner, for requests of HTTP.

        Args:
            peer: who has asked.
            protocol: of ``network/listeners.py``: requests that name their user, or those for metrics, which need none.

        Raises:
            ShardUnreachable: it is not to be had.
        """
        ...

    async def until_moved(self, shard: int) -> None:
        """Return when a shard's owner, or the next one where there is none, owns it no more."""
        ...
