"""The directory's place in etcd: one key, which the root's owner writes, fenced by its claim (``sharing.py``)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from amqp_broker.cluster.etcd_client import EtcdClient
from amqp_broker.cluster.following import follow
from amqp_broker.cluster.keys import ROOT_SHARD, Keys
from amqp_broker.cluster.members import EtcdRefused, EtcdUnavailable
from amqp_broker.etcd import messages
from amqp_broker.etcd.messages import Target
from amqp_broker.server.sharding.sharing import DirectoryUnavailable, Kept


class EtcdDirectory:
    """The key of one cluster.

    Args:
        etcd: the members.
        keys: of the cluster.
    """

    def __init__(self, etcd: EtcdClient, keys: Keys) -> None:
        self._etcd = etcd
        self._key = keys.directory
        self._owner_key = keys.owner(ROOT_SHARD).encode()

    async def follow(self, take: Callable[[bytes], None], tell: Callable[[], None]) -> None:
        """Hand on what stands there, and whatever takes its place, until cancelled."""

        def take_all(found: Mapping[str, bytes]) -> None:
            for value in found.values():
                take(value)

        await follow(self._etcd, self._key, take_all, lambda key, value: take(value), tell)

    async def read(self) -> Kept | None:
        """What stands there now; None where nothing does.

        Raises:
            DirectoryUnavailable: etcd does not answer.
        """
        request = messages.range_request(self._key.encode())
        try:
            found = messages.RangeAnswer.read(await self._etcd.call(messages.RANGE, request)).entries
        except (EtcdUnavailable, EtcdRefused) as error:
            raise DirectoryUnavailable(str(error)) from error
        return Kept(found[-1].value, found[-1].mod_revision) if found else None

    async def replace(self, value: bytes, revision: int, claim: bytes) -> int | None:
        """Write a value in place of the one with a revision, while the claim to the root stands.

        Returns:
            The new revision; None where something else stands there, or another node owns the root.

        Raises:
            DirectoryUnavailable: it is not known whether it was written.
        """
        key = self._key.encode()
        fence = messages.compare(self._owner_key, Target.VALUE, claim)
        unchanged = messages.compare(key, Target.MOD_REVISION, revision)
        request = messages.transaction_request([fence, unchanged], [messages.put(key, value)])
        try:
            answer = messages.TransactionAnswer.read(await self._etcd.call(messages.TRANSACTION, request))
        except (EtcdUnavailable, EtcdRefused) as error:
            raise DirectoryUnavailable(str(error)) from error
        return answer.revision if answer.succeeded else None

    async def announce(self) -> None:
        """Nothing: the others follow it."""
