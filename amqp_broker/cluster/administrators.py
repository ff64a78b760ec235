"""The shards of a cluster, or the one that it is, to administrators who come to one of its nodes
(``server/sharding/shards.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import trio

from amqp_broker.access.client import Peer
from amqp_broker.cluster import door
from amqp_broker.cluster.door import Caller
from amqp_broker.cluster.keys import ROOT_SHARD
from amqp_broker.cluster.known import Known
from amqp_broker.cluster.link import LinkError
from amqp_broker.server.sharding.arrivals import Entrance
from amqp_broker.server.sharding.directory import CannotAgree
from amqp_broker.server.sharding.shards import ShardUnreachable
from amqp_broker.server.sharding.sharing import Sharing

PATIENCE_S: Final = 5.0  # while a shard has no owner
PAUSE_S: Final = 0.1


class OneShard:
    """The shard of a cluster that has one, and nothing to be asked about where things are.

    Args:
        known: what the node knows of owners.
        caller: how the node calls another, or itself.
    """

    def __init__(self, known: Known, caller: Caller) -> None:
        self._known = known
        self._caller = caller

    @property
    def numbers(self) -> Sequence[int]:
        """All of them, the root first."""
        return sorted(self._known.shards)

    @property
    def owned(self) -> Sequence[int]:
        """Those that this node owns."""
        return [number for number in self.numbers if self._known.shards[number].is_owner]

    def shard_of(self, virtual_host: str) -> int:
        """Where a virtual host is."""
        return ROOT_SHARD

    async def refresh(self) -> None:
        """Know where all virtual hosts are: there is one place."""

    async def connect(self, shard: int, peer: Peer, protocol: str) -> trio.abc.Stream:
        """A link to a shard's owner; where there is none, it is waited for a moment.

        Raises:
            ShardUnreachable: it is not to be had.
        """
        reason = "no node owns it"
        with trio.move_on_after(PATIENCE_S):
            while True:
                changed = self._known.changed
                owner = self._known.shards[shard].owner
                if owner is not None:
                    try:
                        return await door.call(self._caller, owner, peer, shard=shard, protocol=protocol)
                    except LinkError as error:
                        reason = str(error)
                with trio.move_on_after(PAUSE_S):
                    await changed.wait()
        raise ShardUnreachable(reason)

    async def until_moved(self, shard: int) -> None:
        """Return when a shard's owner, or the next one where there is none, owns it no more."""
        known = self._known.shards[shard]
        claim = known.claim
        while not claim or known.claim == claim:
            claim = known.claim
            await self._known.changed.wait()


class KnownShards(OneShard):
    """Several shards, as one node knows them.

    Args:
        known: what it knows of owners.
        sharing: the directory.
        entrance: the node's empty broker, which knows users and virtual hosts.
        caller: how the node calls another, or itself.
    """

    def __init__(self, known: Known, sharing: Sharing, entrance: Entrance, caller: Caller) -> None:
        super().__init__(known, caller)
        self._sharing = sharing
        self._entrance = entrance

    def shard_of(self, virtual_host: str) -> int:
        """Where a virtual host is; one that is not there is the root's."""
        return self._sharing.directory.shard_of(virtual_host)

    async def refresh(self) -> None:
        """Have the empty broker know what stands in the directory now.

        Raises:
            ShardUnreachable: this node cannot.
        """
        try:
            self._entrance.agree(await self._sharing.current())
        except CannotAgree as error:
            raise ShardUnreachable(str(error)) from error
