"""The last takeover of each shard, which etcd keeps for administrators: who took over from whom, and when.

It is written once, when the new owner serves, and nothing depends on it: a node of an earlier release passes it over,
and leaves none when it takes over itself. So who reads it sees by the identifier whether it is the present owner's.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Final

import trio

from amqp_broker.cluster.etcd_client import EtcdClient
from amqp_broker.cluster.keys import BadKey, Keys
from amqp_broker.cluster.members import EtcdRefused, EtcdUnavailable
from amqp_broker.etcd import messages
from amqp_broker.etcd.messages import Target
from amqp_broker.logs import log_event

PAUSE_S: Final = 1.0  # until an etcd that was silent is asked again


@dataclass(frozen=True, slots=True)
class Takeover:
    """One takeover.

    Args:
        node_id: of the node that took over.
        node: its name.
        from_node: the name of the one that owned the shard before; empty where it is not known, or there was none.
        at_s: when it served, in seconds since 1970.
        seconds: from when nobody owned the shard until then; None where the node did not see that begin.
    """

    node_id: str
    node: str
    from_node: str
    at_s: int
    seconds: float | None

    def encode(self) -> bytes:
        """As it stands in its key."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def decode(cls, value: bytes) -> Takeover:
        """Read it; what a newer release has added is passed over.

        Raises:
            BadKey: it is none.
        """
        try:
            found = json.loads(value)
            return cls(
                str(found["node_id"]),
                str(found["node"]),
                str(found["from_node"]),
                int(found["at_s"]),
                None if found["seconds"] is None else float(found["seconds"]),
            )
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise BadKey(f"this is no takeover of a cluster: {value[:80]!r}") from error


async def last_takeovers(etcd: EtcdClient, keys: Keys) -> Mapping[int, Takeover]:
    """The last one of each shard, as far as etcd knows.

    Raises:
        EtcdUnavailable: no member answers.
        EtcdRefused: etcd will not.
    """
    first = keys.takeovers.encode()
    request = messages.range_request(first, messages.prefix_end(first))
    takeovers = {}
    for entry in messages.RangeAnswer.read(await etcd.call(messages.RANGE, request)).entries:
        with suppress(BadKey, ValueError):
            takeovers[int(entry.key[len(first) :])] = Takeover.decode(entry.value)
    return takeovers


async def write_down(
    etcd: EtcdClient, keys: Keys, shard: int, takeover: Takeover, owned_last: str, claim: bytes
) -> None:
    """Have etcd keep a takeover, while the claim to the shard stands; waits for an etcd that is silent.

    Args:
        takeover: without a name of the owner before where that has gone, and is known from its own takeover alone.
        owned_last: the identifier of that owner; empty where it is not known.
        claim: of the new owner.
    """
    fence = messages.compare(keys.owner(shard).encode(), Target.VALUE, claim)
    while True:
        try:
            before = (await last_takeovers(etcd, keys)).get(shard)
            if not takeover.from_node and before is not None and owned_last in ("", before.node_id):
                takeover = replace(takeover, from_node=before.node)
            put = messages.put(keys.takeover(shard).encode(), takeover.encode())
            await etcd.call(messages.TRANSACTION, messages.transaction_request([fence], [put]))
        except EtcdUnavailable:
            await trio.sleep(PAUSE_S)
            continue
        except EtcdRefused as error:  # it is full, perhaps
            log_event(logging.DEBUG, "takeover not written down", reason=str(error))
        return
