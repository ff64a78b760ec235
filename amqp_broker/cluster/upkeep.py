"""The owner's maintenance of etcd: old revisions are compacted away, and publishers wait before its quota is used up.
What it writes goes to etcd's leader, as soon as that is found.

etcd keeps every value that a key ever had until it is compacted, so the journal's pieces would fill it with what was
removed long ago. When its quota is used up, it takes no writes at all until somebody has made space (``space.py``); so
the broker's disk alarm is raised long before, and what is acknowledged meanwhile makes space.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from amqp_broker.cluster.etcd_client import EtcdClient
from amqp_broker.cluster.members import CALL_TIMEOUT_S, EtcdRefused, EtcdUnavailable, blocking_members
from amqp_broker.cluster.store import EtcdStore
from amqp_broker.etcd import messages
from amqp_broker.logs import log_event
from amqp_broker.server.resources import StoreStatus

EVERY_S: Final = 3.0
SPACE_EVERY_S: Final = 0.2  # until what was written since is added up
KEPT_ROUNDS: Final = 10  # revisions of the last half minute stay, for whoever reads at one of them
KEPT_ROUNDS_OF_MUCH: Final = 2  # where much goes through, half a minute of it is too much of the quota
HISTORY_SHARE_MAX: Final = 0.2
PUBLISHERS_WAIT_SHARE: Final = 0.6
NOTHING_NEW_SHARE: Final = 0.8  # no new segment above it


class Upkeep:
    """The owner's care for etcd.

    Args:
        etcd: the members.
        store: the journal's.
        quota_bytes: etcd's ``--quota-backend-bytes``.
        reclaim_space: is called when etcd is full.
        live_bytes: how much all journals have there now.
        tell: is called when publishers are to wait, or to go on.
    """

    def __init__(
        self,
        etcd: EtcdClient,
        store: EtcdStore,
        quota_bytes: int,
        reclaim_space: Callable[[], Awaitable[object]],
        live_bytes: Callable[[], int],
        tell: Callable[[], None],
    ) -> None:
        self._etcd = etcd
        self._store = store
        self._quota_bytes = quota_bytes
        self._reclaim_space = reclaim_space
        self._revisions: deque[int] = deque(maxlen=KEPT_ROUNDS)
        self._compacted = 0
        self._live_bytes = live_bytes
        self._tell = tell
        self._leader = 0  # of etcd, as it was looked for last
        self._used_bytes = 0  # likewise
        self.is_low = False  # whether publishers are to wait

    @property
    def status(self) -> StoreStatus:
        """The space in etcd, as it was looked for last."""
        used_bytes, quota_bytes = self._used_bytes, self._quota_bytes
        return StoreStatus(name="etcd", used_bytes=used_bytes, quota_bytes=quota_bytes, is_low=self.is_low)

    async def run(self) -> None:
        """Look every few seconds, and at once when enough was written to have publishers wait, until cancelled."""
        while True:
            await self._try(self.look)
            for _ in range(round(EVERY_S / SPACE_EVERY_S)):
                await trio.sleep(SPACE_EVERY_S)
                if not self.is_low and self._is_much_written:
                    await self._try(self._measure)

    @staticmethod
    async def _try(look: Callable[[], Awaitable[object]]) -> None:
        try:
            await look()
        except (EtcdUnavailable, EtcdRefused) as error:
            log_event(logging.DEBUG, "etcd was not looked after", reason=str(error))

    @property
    def _is_much_written(self) -> bool:
        free_bytes = self._store.free_bytes
        return free_bytes is not None and free_bytes < self._quota_bytes * (NOTHING_NEW_SHARE - PUBLISHERS_WAIT_SHARE)

    async def look(self) -> None:
        """Compact what is old, and see how much space there is.

        Raises:
            EtcdUnavailable: no member answers.
            EtcdRefused: etcd will not.
        """
        status = await self._measure()
        if status.leader != self._leader:
            await self._write_to_leader(status.leader)
        if self._store.is_out_of_space:
            await self._reclaim_space()
        is_long = self._used_bytes - self._live_bytes() > self._quota_bytes * HISTORY_SHARE_MAX
        await self._compact(status.revision, KEPT_ROUNDS_OF_MUCH if is_long else KEPT_ROUNDS)

    async def _measure(self) -> messages.StatusAnswer:
        """See how much space there is."""
        status = messages.StatusAnswer.read(await self._etcd.call(messages.STATUS, b""))
        used_bytes = self._used_bytes = status.database_used_bytes
        self._store.free_bytes = max(0, int(self._quota_bytes * NOTHING_NEW_SHARE) - used_bytes)
        is_low = used_bytes > self._quota_bytes * PUBLISHERS_WAIT_SHARE or self._store.is_out_of_space
        if is_low != self.is_low:
            self.is_low = is_low
            event = "etcd fills up" if is_low else "etcd has space again"
            log_event(logging.WARNING, event, bytes=used_bytes, quota_bytes=self._quota_bytes)
            self._tell()
        return status

    async def _write_to_leader(self, leader: int) -> None:
        """Have what the journal writes go to etcd's leader at once: other members would only pass it on."""
        members = blocking_members(self._etcd.addresses, CALL_TIMEOUT_S)
        try:
            place = await trio.to_thread.run_sync(members.find_leader, abandon_on_cancel=True)
        finally:
            members.close()
        if place is not None:
            self._leader = leader
            self._store.prefer(place)

    async def _compact(self, revision: int, kept_rounds: int) -> None:
        self._revisions.append(revision)
        if len(self._revisions) >= kept_rounds and self._revisions[-kept_rounds] > self._compacted:
            self._compacted = self._revisions[-kept_rounds]
            await self._etcd.call(messages.COMPACT, messages.compaction_request(self._compacted))
