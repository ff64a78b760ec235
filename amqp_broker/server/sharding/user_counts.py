"""The connections and channels of users with limits, and all connections and queues where the settings limit these, as
the owners of all shards tell each other: a user is one, and so is the broker.

Each owner asks each other one as long as there is such a limit, and is told of every change at once. A client is
counted where it is served, so a limit is passed by those at most that come to several owners before these have told
each other. An owner that is not there has nobody. Holds no limit: they are compared where clients come in
(``session/login.py``) and open channels.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Final

import trio

from amqp_broker.access.client import Peer
from amqp_broker.access.users import UserLimits
from amqp_broker.broker.broker import Broker
from amqp_broker.broker.connections import EVERYBODY
from amqp_broker.broker.observer import Kind, Onlooker, Subject
from amqp_broker.network.listeners import USER_COUNTS
from amqp_broker.network.wake_up import WakeUp
from amqp_broker.server.sharding.shards import Shards, ShardUnreachable
from amqp_broker.server.sharding.sharing import Sharing
from amqp_broker.settings import Settings

READ_BYTES: Final = 65_536
AGAIN_S: Final = 1.0
SELDOM_S: Final = 60.0  # an owner of an earlier release, which says nothing, and that it has failed in its log
NOBODY: Final = Peer("", 0, is_loopback=True)
UNLIMITED: Final = UserLimits()
_GONE: Final = (trio.BrokenResourceError, trio.ClosedResourceError)


def _is_limited(settings: Settings) -> bool:
    """Whether all together are limited."""
    return bool(settings.connections_max or settings.queues_max)


class _Changed(Onlooker):
    """The names of users with limits whose counts have changed, or whose limits have; everybody's is one of them."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._is_limited = _is_limited(broker.settings)
        self.names = {user.name for user in broker.users if user.limits != UNLIMITED}
        self.came = WakeUp()
        self._note_everybody()

    def declared(self, subject: Subject, by: str) -> None:
        """A user may have a limit now."""
        if subject.kind is Kind.USER:
            self.note(subject.name)
        elif subject.kind is Kind.QUEUE:
            self._note_everybody()

    def deleted(self, subject: Subject, by: str) -> None:
        """There may be fewer queues now."""
        if subject.kind in (Kind.QUEUE, Kind.VIRTUAL_HOST):
            self._note_everybody()

    def note(self, name: str) -> None:
        """This user has another count, or other limits."""
        self._note_everybody()
        user = self._broker.users.get(name)
        if user is not None and user.limits != UNLIMITED:
            self.names.add(name)
            self.came.set()

    def _note_everybody(self) -> None:
        if self._is_limited:
            self.names.add(EVERYBODY)
            self.came.set()

    def counts(self) -> dict[str, tuple[int, int]]:
        """By name, those that have changed since this was asked last: connections and channels, or queues."""
        names, self.names = self.names, set()
        connections = self._broker.open_connections
        return {
            name: connections.counts_of_user(name)
            if name != EVERYBODY
            else (len(connections), self._broker.queue_count_here())
            for name in names
        }


async def tell_user_counts(broker: Broker, stream: trio.abc.Stream) -> None:
    """Tell another owner what there is here of all that is limited, and whenever that changes, until it hangs up."""
    changed, connections = _Changed(broker), broker.open_connections
    watcher = changed.note
    broker.observers.add(changed, of_messages=False)
    connections.watchers = (*connections.watchers, watcher)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_tell, changed, stream)
            with suppress(*_GONE):
                await stream.receive_some(1)
            nursery.cancel_scope.cancel()
    finally:
        connections.watchers = tuple([one for one in connections.watchers if one is not watcher])
        broker.observers.remove(changed)


async def _tell(changed: _Changed, stream: trio.abc.Stream) -> None:
    with suppress(*_GONE):
        while True:
            await stream.send_all(json.dumps(changed.counts()).encode() + b"\n")
            await changed.came.wait()


async def follow_user_counts(broker: Broker, shard: int, sharing: Sharing, shards: Shards) -> None:
    """Have the broker of a shard know what there is of all that is limited at all other owners, until cancelled."""
    is_limited = _is_limited(broker.settings)
    while True:
        if not is_limited:
            await sharing.until_users_are_limited(True)
        async with trio.open_nursery() as nursery:
            for other in shards.numbers:
                if other != shard:
                    nursery.start_soon(_follow, broker, other, shards)
            if not is_limited:
                await sharing.until_users_are_limited(False)
                nursery.cancel_scope.cancel()


async def _follow(broker: Broker, other: int, shards: Shards) -> None:
    while True:
        pause_s = AGAIN_S
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_end_when_moved, shards, other, nursery.cancel_scope)
                with suppress(ShardUnreachable, *_GONE):
                    stream = await shards.connect(other, NOBODY, USER_COUNTS)
                    async with stream:
                        pause_s = AGAIN_S if await _hear(broker, other, stream) else SELDOM_S
                nursery.cancel_scope.cancel()
        finally:
            broker.open_connections.forget_elsewhere(other)
            broker.queues_elsewhere.pop(other, None)
        await trio.sleep(pause_s)


async def _end_when_moved(shards: Shards, other: int, scope: trio.CancelScope) -> None:
    """An owner that hangs, or whose machine is gone, does not end its links."""
    await shards.until_moved(other)
    scope.cancel()


async def _hear(broker: Broker, other: int, stream: trio.abc.Stream) -> bool:
    """Take in what an owner tells, until the link ends; returns whether it has told anything that is understood."""
    received, is_told = bytearray(), False
    while data := await stream.receive_some(READ_BYTES):
        received += data
        while (end := received.find(b"\n")) >= 0:
            try:
                for name, (connections, count) in json.loads(received[:end]).items():
                    broker.open_connections.note_elsewhere(other, name, int(connections), int(count))
                    if name == EVERYBODY:
                        broker.queues_elsewhere[other] = int(count)
            except (ValueError, TypeError, AttributeError):
                return False
            del received[: end + 1]
            is_told = True
    return is_told
