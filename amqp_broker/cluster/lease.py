"""A node's lease: what it has in etcd goes when the node is not heard of any more.

Nothing of what this node has goes by itself while the lease lives, which is counted from before its renewal was asked
for, on a clock that goes on while the machine sleeps. For two thirds of that time the node may speak for the broker.
The lease is renewed from the event loop, so a node whose loop hangs loses it.
"""

from __future__ import annotations

import sys
import time
from typing import Final

import trio

from amqp_broker.cluster.etcd_client import EtcdClient
from amqp_broker.cluster.members import EtcdRefused, EtcdUnavailable
from amqp_broker.etcd import messages

RENEWALS: Final = 6  # in the life of a lease
SPEAKING_SHARE: Final = 2 / 3


def now_s() -> float:
    """Seconds that also pass while the machine sleeps or the process is stopped."""
    if sys.platform == "linux":
        passed_s = time.clock_gettime(time.CLOCK_BOOTTIME)
    else:  # other systems have no such clock
        passed_s = time.monotonic()
    return passed_s


class Lease:
    """The lease of one node.

    Args:
        etcd: the members.
        ttl_s: how long it lives without being renewed; etcd's least is 2.
    """

    def __init__(self, etcd: EtcdClient, ttl_s: int) -> None:
        self._etcd = etcd
        self.ttl_s = ttl_s
        self.number = 0  # 0 while there is none
        self.speaks_until_s = 0.0
        self.is_lost = trio.Event()

    @property
    def may_speak(self) -> bool:
        """Whether what this node has in etcd cannot have gone by itself.

        Who takes this node for dead may have taken it away nevertheless: until a watch tells, both may speak, and the
        fence of the store decides whose writing is kept.
        """
        return now_s() < self.speaks_until_s

    async def grant(self) -> None:
        """Get a new one.

        Raises:
            EtcdUnavailable: etcd does not answer.
            EtcdRefused: etcd will not.
        """
        asked_s = now_s()
        request = messages.lease_grant_request(self.ttl_s)
        answer = messages.LeaseAnswer.read(await self._etcd.call(messages.LEASE_GRANT, request))
        self.number = answer.lease
        self.is_lost = trio.Event()
        self._heard_of(asked_s)

    def _heard_of(self, asked_s: float) -> None:
        self.speaks_until_s = asked_s + self.ttl_s * SPEAKING_SHARE

    async def keep_alive(self) -> None:
        """Renew it for as long as that goes; returns when it is lost."""
        pause_s = self.ttl_s / RENEWALS
        while True:
            await trio.sleep(pause_s)
            asked_s = now_s()
            try:
                request = messages.lease_request(self.number)
                answer = messages.LeaseAnswer.read(await self._etcd.call(messages.LEASE_KEEP_ALIVE, request))
            except (EtcdUnavailable, EtcdRefused):
                if asked_s > self.speaks_until_s + self.ttl_s:  # it has ended by all clocks
                    break
                continue
            if answer.ttl_s <= 0:
                break
            self._heard_of(asked_s)
        self.number = 0
        self.is_lost.set()

    async def revoke(self) -> None:
        """Let it go, and with it all that hangs on it; etcd's silence is taken as well."""
        if self.number:
            try:
                await self._etcd.call(messages.LEASE_REVOKE, messages.lease_revoke_request(self.number))
            except (EtcdUnavailable, EtcdRefused):
                return
            finally:
                self.number = 0
                self.speaks_until_s = 0.0
