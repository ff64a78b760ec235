"""The reclaiming of space in an etcd that is full: it takes no writes any more, not even those that would make space.

Old revisions are forgotten, each member gives the space back that this has left in its file, and the alarm is cleared,
as its administrator would do by hand. It helps where what is live is less than etcd may hold; where it is more, the
alarm stays, because it would be back at once.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import trio

from amqp_broker.cluster.etcd_client import EtcdClient
from amqp_broker.cluster.members import Address, EtcdRefused, EtcdUnavailable
from amqp_broker.etcd import messages
from amqp_broker.etcd.messages import AlarmAction
from amqp_broker.logs import RepeatedLines, log_event

DEFRAGMENT_TIMEOUT_S: Final = 60.0  # some gigabytes; the member answers nobody meanwhile
LIVE_SHARE_MAX: Final = 0.85  # above what the owners fill it to: acknowledgements need some of the rest
NOT_FOUND: Final = 5  # of gRPC
PAUSE_S: Final = 30.0  # until space is looked for in vain again


class Space:
    """Space in etcd, as one node reclaims it when it is told that there is none.

    Args:
        etcd: all members.
        addresses: of each of them.
        quota_bytes: how much etcd may hold.
    """

    def __init__(self, etcd: EtcdClient, addresses: Sequence[Address], quota_bytes: int) -> None:
        self._etcd = etcd
        self._addresses = addresses
        self._quota_bytes = quota_bytes
        self._not_before_s = 0.0
        self._refusals = RepeatedLines()  # who wants something of etcd asks ten times a second

    async def reclaim(self) -> None:
        """Reclaim space, unless that was in vain a moment ago; etcd's silence is taken as well."""
        if trio.current_time() < self._not_before_s:
            return
        self._not_before_s = trio.current_time() + PAUSE_S
        with suppress(EtcdUnavailable, EtcdRefused):
            if await reclaim_space(self._etcd, self._addresses, self._quota_bytes):
                self._not_before_s = 0.0

    async def reclaim_after(self, error: EtcdUnavailable | EtcdRefused) -> None:
        """Where etcd has refused something for want of space, make some, or nobody could own anything; else say why."""
        if isinstance(error, EtcdUnavailable) or error.status == NOT_FOUND:
            return  # so it is after a lease was lost
        if error.is_out_of_space:
            await self.reclaim()
        else:
            self._refusals.log_event(trio.current_time(), logging.ERROR, "etcd refuses", reason=str(error))


async def reclaim_space(etcd: EtcdClient, addresses: Sequence[Address], quota_bytes: int) -> bool:
    """Make space in an etcd that is full; returns whether there is some now.

    Args:
        etcd: all members.
        addresses: of each of them.
        quota_bytes: how much etcd may hold.

    Raises:
        EtcdUnavailable: a member does not answer.
        EtcdRefused: etcd will not.
    """
    revision = messages.StatusAnswer.read(await etcd.call(messages.STATUS, b"")).revision
    try:
        await etcd.call(messages.COMPACT, messages.compaction_request(revision, is_waited_for=True))
    except EtcdRefused as error:
        log_event(logging.DEBUG, "etcd was not compacted", reason=str(error))  # another node has done so
    for address in addresses:
        async with trio.open_nursery() as nursery:
            await EtcdClient([address], DEFRAGMENT_TIMEOUT_S, nursery).call(messages.DEFRAGMENT, b"")
            nursery.cancel_scope.cancel()
    # Only now is it known: what compaction has freed is not counted as long as nothing is written.
    used_bytes = messages.StatusAnswer.read(await etcd.call(messages.STATUS, b"")).database_used_bytes
    if used_bytes > quota_bytes * LIVE_SHARE_MAX:
        log_event(logging.ERROR, "etcd is full", bytes=used_bytes, quota_bytes=quota_bytes)
        return False
    alarms = await etcd.call(messages.ALARM, messages.alarm_request(AlarmAction.LIST))
    for member_id, alarm in messages.alarms_in(alarms):
        if alarm == messages.NO_SPACE_ALARM:
            await etcd.call(messages.ALARM, messages.alarm_request(AlarmAction.CLEAR, member_id, alarm))
    log_event(logging.WARNING, "etcd was full and has space again", bytes=used_bytes, quota_bytes=quota_bytes)
    return True
