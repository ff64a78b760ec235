"""Watches in etcd that nothing is written to a shard in an epoch that is over, while a test has nodes lose it.

Whoever writes puts a lane's key as well, which names its epoch (``cluster/store.py``). The bodies of messages are not
watched: each of their transactions has a lane's key, too.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from itertools import groupby

import trio

from amqp_broker.cluster.etcd_client import EtcdClient
from amqp_broker.cluster.keys import Keys
from amqp_broker.cluster.members import Address, EtcdRefused, EtcdUnavailable
from amqp_broker.cluster.store import LANES_PREFIX
from amqp_broker.etcd import messages
from amqp_broker.etcd.calls import Answer
from amqp_broker.etcd.messages import Event, RangeAnswer, WatchAnswer

PAUSE_S = 0.1
CATCH_UP_S = 60.0


class Epochs:
    """The epochs of one shard, and what was written in each.

    Args:
        prefix: of the shard's keys.
    """

    def __init__(self, prefix: str) -> None:
        self._owner = f"{prefix}owner".encode()
        self._lanes = f"{prefix}{LANES_PREFIX}".encode()
        self._epoch = 0  # 0 while nobody owns it
        self.count = 0
        self.transactions = 0
        self.faults: list[str] = []

    def begin(self, epoch: int) -> None:
        """This is the one at first; 0 for none."""
        self._epoch = epoch
        self.count += bool(epoch)

    def take(self, revision: int, events: Sequence[Event]) -> None:
        """All that has changed at a revision, which is one transaction, or the end of a lease."""
        owners = [event for event in events if event.entry.key == self._owner]
        if owners:
            self._epoch = 0 if owners[-1].is_delete else revision
            self.count += bool(self._epoch)
            return
        puts = [event.entry.key for event in events if not event.is_delete]
        lanes = {key.removeprefix(self._lanes).split(b"/")[0] for key in puts if key.startswith(self._lanes)}
        found = {int(lane, 16) for lane in lanes}
        self.transactions += 1
        if found != {self._epoch}:
            keys = b", ".join(event.entry.key for event in events).decode()
            self.faults.append(f"revision {revision} was written in {sorted(found)}, epoch {self._epoch}: {keys}")


class EpochWatch(threading.Thread):
    """Watches one shard until ``end``.

    Args:
        addresses: of etcd's members.
        cluster: its name.
        shard: its number.
    """

    def __init__(self, addresses: Sequence[Address], cluster: str, shard: int) -> None:
        super().__init__(daemon=True)
        self._addresses = addresses
        keys = Keys(cluster)
        self._owner_key, prefix = keys.owner(shard).encode(), keys.shard(shard)
        self._range = f"{prefix}e".encode(), f"{prefix}p".encode()  # all but d/, the bodies
        self._lanes = f"{prefix}{LANES_PREFIX}".encode()
        self.epochs = Epochs(prefix)
        self._next_revision = 0  # 0: to be begun anew
        self._unfinished: list[Event] = []  # of one revision, which the next answer may go on with
        self._ending = threading.Event()
        self.start()

    def end(self) -> list[str]:
        """Stop when all has been seen that was written before; returns what was wrong."""
        self._ending.set()
        self.join()
        return self.epochs.faults

    def run(self) -> None:
        trio.run(self._run)

    async def _run(self) -> None:
        async with trio.open_nursery() as nursery:
            etcd = EtcdClient(self._addresses, 1.0, nursery)
            nursery.start_soon(self._follow, etcd)
            while not self._ending.is_set():  # noqa: ASYNC110  # another thread sets it
                await trio.sleep(PAUSE_S)
            with trio.move_on_after(CATCH_UP_S) as patience:
                written = await self._last_written(etcd)
                while self._next_revision <= written:  # noqa: ASYNC110
                    await trio.sleep(PAUSE_S)
            if patience.cancelled_caught:
                self.epochs.faults.append("what was written last was not seen")
            nursery.cancel_scope.cancel()

    async def _last_written(self, etcd: EtcdClient) -> int:
        while True:
            try:
                request = messages.range_request(self._lanes, messages.prefix_end(self._lanes))
                entries = RangeAnswer.read(await etcd.call(messages.RANGE, request)).entries
                return max((entry.mod_revision for entry in entries), default=0)
            except (EtcdUnavailable, EtcdRefused):
                await trio.sleep(PAUSE_S)

    async def _follow(self, etcd: EtcdClient) -> None:
        while True:
            try:
                if not self._next_revision:
                    await self._begin(etcd)
                request = messages.watch_request(*self._range, start_revision=self._next_revision)
                async with etcd.stream(messages.WATCH, request) as answers:
                    async for answer in answers:
                        if not isinstance(answer, Answer) or not self._goes_on_after(WatchAnswer.read(answer.message)):
                            break
            except (EtcdUnavailable, EtcdRefused):
                pass
            self._unfinished.clear()
            await trio.sleep(PAUSE_S)

    async def _begin(self, etcd: EtcdClient) -> None:
        found = RangeAnswer.read(await etcd.call(messages.RANGE, messages.range_request(self._owner_key)))
        self.epochs.begin(found.entries[0].mod_revision if found.entries else 0)
        self._next_revision = found.revision + 1

    def _goes_on_after(self, told: WatchAnswer) -> bool:
        if told.compact_revision:  # what has been forgotten meanwhile is not seen
            self._next_revision = 0
            return False
        self._unfinished += told.events
        if not told.is_unfinished:
            for revision, events in groupby(self._unfinished, lambda event: event.entry.mod_revision):
                self.epochs.take(revision, list(events))
                self._next_revision = revision + 1
            self._unfinished.clear()
        return not told.cancelled
