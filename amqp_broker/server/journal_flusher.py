"""The one task that writes the journal: what has gathered is written and synced in a thread, then the broker is told.

While one batch is on its way to the disk the next one gathers, so the more there is to do, the more each sync does.
Space is freed when there is nothing else to write, one bounded step at a time.

A full disk is waited out: nothing was written, publishers are held back, and the same batch is tried again. Any other
failure is final.
"""

from __future__ import annotations

import logging

import trio

from amqp_broker.broker.alarms import Resource
from amqp_broker.broker.broker import Broker
from amqp_broker.journal.failures import JournalDamaged, JournalFull
from amqp_broker.journal.port import Batch, Journal
from amqp_broker.server.logs import log_event
from amqp_broker.server.wake_up import WakeUp
from amqp_broker.settings import Settings

FULL_DISK_RETRY_S = 1.0


class JournalFlusher:
    """Writes one broker's journal until it is cancelled.

    Args:
        broker: whose changes gather in the journal.
        journal: recovered.
        settings: when to sync.
    """

    def __init__(self, broker: Broker, journal: Journal, settings: Settings) -> None:
        self._broker = broker
        self._journal = journal
        self._policy = settings.fsync
        self._interval_s = settings.fsync_interval_ms / 1000
        self._synced_s = 0.0
        self._work = WakeUp()

    async def run(self) -> None:
        """Write whenever there is something to write.

        Raises:
            JournalFailed: a write or a sync failed; nothing more is confirmed.
        """
        self._broker.on_journal_work = self._work.set
        try:
            while True:
                await trio.lowlevel.checkpoint()
                batch = self._take_batch()
                if batch is not None:
                    await self._commit(batch)
                    continue
                self._broker.committed()  # whoever waited for something that left nothing to write
                if not await self._reclaim_step():
                    await self._wait_for_work()
        finally:
            self._broker.on_journal_work = None

    def _take_batch(self) -> Batch | None:
        now_s = trio.current_time()
        sync = self._policy == "always" or (self._policy == "interval" and now_s - self._synced_s >= self._interval_s)
        if sync:
            self._synced_s = now_s
        return self._broker.durability.take_batch(sync=sync)

    async def _commit(self, batch: Batch) -> None:
        """Have a batch written, for as long as it takes; a cancellation waits for the disk."""
        while True:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(self._journal.write, batch)
            try:
                self._journal.committed(batch)
                break
            except JournalFull as error:
                if self._broker.alarms.set(Resource.DISK, True):
                    log_event(logging.ERROR, "disk full", reason=str(error), retry_s=FULL_DISK_RETRY_S)
                await trio.sleep(FULL_DISK_RETRY_S)
        self._broker.committed()

    async def _reclaim_step(self) -> bool:
        """Free some space; returns whether there was something to do."""
        reclaim = self._journal.take_reclaim()
        if reclaim is None:
            return False
        is_done = False
        while not is_done:
            with trio.CancelScope(shield=True):
                is_done = await trio.to_thread.run_sync(reclaim.step)
            batch = self._take_batch()
            if batch is not None:
                await self._commit(batch)
        try:
            self._journal.reclaimed(reclaim)
        except JournalDamaged as error:  # those segments stay as they are, and everything else goes on
            log_event(logging.ERROR, "journal damaged", reason=str(error))
        await trio.to_thread.run_sync(reclaim.release)
        return True

    async def _wait_for_work(self) -> None:
        """Sleep until something gathers; with syncs at intervals, until the next one is due."""
        if self._policy == "interval":
            with trio.move_on_after(self._interval_s):
                await self._work.wait()
        else:
            await self._work.wait()
