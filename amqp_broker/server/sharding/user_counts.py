"""The connections and channels of users with limits, as the owners of all shards tell each other: a user is one.

Each owner asks each other one as long as any user has a limit, and is told of every change at once. A client is
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
from amqp_broker.broker.connections import Connections
from amqp_broker.broker.observer import Kind, Onlooker, Subject
from amqp_broker.network.listeners import USER_COUNTS
from amqp_broker.network.wake_up import WakeUp
from amqp_broker.server.sharding.shards import Shards, ShardUnreachable
from amqp_broker.server.sharding.sharing import Sharing

READ_BYTES: Final = 65_536
AGAIN_S: Final = 1.0
SELDOM_S: Final = 60.0  # an owner of an earlier release, which says nothing, and that it has failed in its log
NOBODY: Final = Peer("", 0, is_loopback=True)
UNLIMITED: Final = UserLimits()
_GONE: Final = (trio.BrokenResourceError, trio.ClosedResourceError)


class _Changed(Onlooker):
    """The names of users with limits whose counts have changed, or whose limits have."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self.names = {user.name for user in broker.users if user.limits != UNLIMITED}
        self.came = WakeUp()

    def declared(self, subject: Subject, by: str) -> None:
        """A user may have a limit now."""
        if subject.kind is Kind.USER:
            self.note(subject.name)

    def note(self, name: str) -> None:
        """This user has another count, or other limits."""
        user = self._broker.users.get(name)
        if user is not None and user.limits != UNLIMITED:
            self.names.add(name)
            self.came.set()


async def tell_user_counts(broker: Broker, stream: trio.abc.Stream) -> None:
    """Tell another owner what users with limits have here, and whenever that changes, until it hangs up."""
    changed, connections = _Changed(broker), broker.open_connections
    watcher = changed.note
    broker.observers.add(changed, of_messages=False)
    connections.watchers = (*connections.watchers, watcher)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_tell, connections, changed, stream)
            with suppress(*_GONE):
                await stream.receive_some(1)
            nursery.cancel_scope.cancel()
    finally:
        connections.watchers = tuple([one for one in connections.watchers if one is not watcher])
        broker.observers.remove(changed)


async def _tell(connections: Connections, changed: _Changed, stream: trio.abc.Stream) -> None:
    with suppress(*_GONE):
        while True:
            names, changed.names = changed.names, set()
            counts = {name: connections.counts_of_user(name) for name in names}
            await stream.send_all(json.dumps(counts).encode() + b"\n")
            await changed.came.wait()


async def follow_user_counts(broker: Broker, shard: int, sharing: Sharing, shards: Shards) -> None:
    """Have the broker of a shard know what users with limits have at all other owners, until cancelled."""
    while True:
        await sharing.until_users_are_limited(True)
        async with trio.open_nursery() as nursery:
            for other in shards.numbers:
                if other != shard:
                    nursery.start_soon(_follow, broker, other, shards)
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
                for name, (connections, channels) in json.loads(received[:end]).items():
                    broker.open_connections.note_elsewhere(other, name, int(connections), int(channels))
            except (ValueError, TypeError, AttributeError):
                return False
            del received[: end + 1]
            is_told = True
    return is_told
