"""The processes, to administrators, whose connections the root accepts (``server/sharding/shards.py``)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import trio

from amqp_broker.access.client import Peer
from amqp_broker.processes.folder import folder_of
from amqp_broker.processes.link import Brought, LinkUnreachable, bring
from amqp_broker.server.sharding.arrivals import Entrance
from amqp_broker.server.sharding.directory import CannotAgree
from amqp_broker.server.sharding.shards import ShardUnreachable
from amqp_broker.server.sharding.sharing import Sharing


class ProcessShards:
    """All of them, as the root knows them.

    Args:
        data_folder: of the broker.
        count: how many there are.
        sharing: the directory.
        entrance: the root's empty broker, which knows users and virtual hosts.
    """

    def __init__(self, data_folder: Path, count: int, sharing: Sharing, entrance: Entrance) -> None:
        self._data_folder = data_folder
        self._count = count
        self._sharing = sharing
        self._entrance = entrance

    @property
    def numbers(self) -> Sequence[int]:
        """All of them, the root first."""
        return range(self._count)

    @property
    def owned(self) -> Sequence[int]:
        """Those of this machine, which are all."""
        return self.numbers

    def shard_of(self, virtual_host: str) -> int:
        """Where a virtual host is; one that is not there is the root's."""
        return self._sharing.directory.shard_of(virtual_host)

    async def refresh(self) -> None:
        """Have the empty broker know what stands in the directory now.

        Raises:
            ShardUnreachable: it cannot.
        """
        try:
            self._entrance.agree(await self._sharing.current())
        except CannotAgree as error:
            raise ShardUnreachable(str(error)) from error

    async def connect(self, shard: int, peer: Peer, protocol: str) -> trio.abc.Stream:
        """A link to a process.

        Raises:
            ShardUnreachable: it is not there.
        """
        try:
            return await bring(folder_of(self._data_folder, shard), Brought(protocol, peer))
        except LinkUnreachable as error:
            raise ShardUnreachable(f"process {shard}: {error}") from error

    async def until_moved(self, shard: int) -> None:
        """Never return: a shard stays with its process, and a link to that ends with it."""
        await trio.sleep_forever()
