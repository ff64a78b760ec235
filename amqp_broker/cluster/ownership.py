"""The ownership of a shard: taking it, keeping it, giving it up, and taking it back after the lease was lost.

The owner's key goes with the lease of its node; the revision of the key is the epoch, which the store's fence compares
with. Whoever puts the key while there is none is the owner, so there is at most one at any time, and epochs only grow.
A put that was not answered is looked for: each carries a word that nobody else uses.
"""

from __future__ import annotations

import secrets

from amqp_broker.cluster.etcd_client import EtcdClient
from amqp_broker.cluster.keys import Keys
from amqp_broker.cluster.members import EtcdUnavailable
from amqp_broker.etcd import messages
from amqp_broker.etcd.messages import Target


class Ownership:
    """One node's claims to one shard.

    Args:
        etcd: the members.
        keys: of the cluster.
        shard: its number.
        node_id: of this node.
    """

    def __init__(self, etcd: EtcdClient, keys: Keys, shard: int, node_id: str) -> None:
        self._etcd = etcd
        self._owner_key = keys.owner(shard).encode()
        self._last_key = keys.last_owner(shard).encode()
        self._node_id = node_id
        self._claim = b""

    @property
    def claim(self) -> bytes:
        """What stands in the owner's key while this node has it."""
        return self._claim

    async def campaign(self, lease: int) -> int | None:
        """Take the shard if nobody has it.

        Args:
            lease: of the node; 0 where it has none.

        Returns:
            The epoch; None when somebody has it, or without a lease, since such a claim would outlive its node.

        Raises:
            EtcdUnavailable: it is not known.
        """
        return await self._claim_if([self._is_free()], lease)

    async def resume(self, lease: int) -> int | None:
        """Take the shard back after the lease or its key was lost, if nobody had it since; what is there already stays.

        Returns:
            The new epoch; None when somebody else has it, or had it.

        Raises:
            EtcdUnavailable: it is not known.
        """
        found = messages.RangeAnswer.read(
            await self._etcd.call(messages.RANGE, messages.range_request(self._owner_key))
        ).entries
        if found and found[0].value == self._claim:
            if found[0].lease == lease:
                return found[0].mod_revision
            # The lease before goes on where etcd has elected a leader since: it begins all of them anew.
            same = messages.compare(self._owner_key, Target.VALUE, self._claim)
            epoch = await self._claim_if([same], lease)
            if epoch is not None:
                return epoch
        unchanged = messages.compare(self._last_key, Target.VALUE, self._claim)
        return await self._claim_if([self._is_free(), unchanged], lease)

    def _is_free(self) -> bytes:
        return messages.compare(self._owner_key, Target.CREATE_REVISION, 0)

    async def _claim_if(self, conditions: list[bytes], lease: int) -> int | None:
        if not lease:
            return None
        claim = f"{self._node_id} {secrets.token_hex(8)}".encode()
        request = messages.transaction_request(
            conditions,
            [messages.put(self._owner_key, claim, lease), messages.put(self._last_key, claim)],
            [messages.get(self._owner_key)],
        )
        try:
            answer = messages.TransactionAnswer.read(await self._etcd.call_once(messages.TRANSACTION, request))
        except EtcdUnavailable:
            found = messages.RangeAnswer.read(
                await self._etcd.call(messages.RANGE, messages.range_request(self._owner_key))
            )
            if not found.entries or found.entries[0].value != claim:
                raise
            self._claim = claim
            return found.entries[0].mod_revision
        if not answer.succeeded:
            return None
        self._claim = claim
        return answer.revision

    async def disown(self, claim: bytes) -> None:
        """Delete the owner's key while it holds this claim.

        Raises:
            EtcdUnavailable: it is not known whether it is gone.
        """
        same = messages.compare(self._owner_key, Target.VALUE, claim)
        request = messages.transaction_request([same], [messages.delete(self._owner_key)])
        await self._etcd.call(messages.TRANSACTION, request)


def owner_in(value: bytes) -> str:
    """The node that a claim is of."""
    return value.decode("utf-8", "replace").partition(" ")[0]
