"""Writing the journal: what has gathered is written in a thread, synced when it should be, and the broker is told.

While one batch is on its way to the disk the next one gathers, so the more there is to do, the more each sync does.
Where a confirm means a sync, a batch is synced as it is written if anybody waits for anything. Nobody waits for a
publish without confirms, nor for an acknowledgement: these gather for a moment, because what is consumed meanwhile is
never written, then they are written, and synced a little later.
Space is freed one bounded step at a time: when there is nothing else to write, while a batch waits for space, and, once
the files take more than they should, so many steps after each batch that they do not grow further.

Theory of operation. The thread has one job at a time, and is given the next one at once: when something gathers while
it has none, or when it is done with the one before. Both happen between two turns of the event loop's tasks, in the
middle of nobody's work, and no task has to be woken for it: a client that waits for a confirm waits for all of this.
The task only sees to what takes time or ends everything.

On a full disk, the space that the journal has set aside is given free, so that the batch, and the acknowledgements
behind it, can be written; publishers are held back until there is as much again. When even that is used up, the same
batch is tried again and again. Any other failure is final.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import trio

from amqp_broker.broker.alarms import Resource
from amqp_broker.broker.broker import Broker
from amqp_broker.journal.failures import JournalDamaged, JournalFull
from amqp_broker.journal.port import Batch, Journal, Reclaim
from amqp_broker.logs import log_event
from amqp_broker.network.pump import Outbox
from amqp_broker.network.wake_up import WakeUp
from amqp_broker.server.disk_backlog import DiskBacklog
from amqp_broker.server.disk_thread import DiskThread, Job
from amqp_broker.server.sync_times import SyncTimes
from amqp_broker.settings import Settings

FULL_DISK_RETRY_S = 1.0
WRITE_DELAY_S = 0.01  # at most, of what nobody waits for
GATHERED_BYTES_MAX = 4_194_304  # more of that is written at once, and less where that makes clients wait
SYNC_DELAY_S = 0.19  # at most, from then on; so a sync is a few in a second, however many batches there are
UNSYNCED_BYTES_MAX = 16_777_216  # about: whoever comes to wait for a sync waits for all that was written before
SET_ASIDE_BYTES = 16_777_216  # so much is a batch of its own, where the thread has something else to do
STEPS_AFTER_BATCH = 2  # at least, when space has to be freed; and one more for each so many bytes of the batch
BYTES_FOR_STEP = 131_072  # half of what a step copies, because it frees at least as much as it copies

Result = TypeVar("Result")


class JournalFlusher:
    """Writes one broker's journal until it is cancelled.

    Args:
        broker: whose changes gather in the journal.
        journal: recovered.
        settings: when to sync.
        outbox: sends what clients are told when their changes are kept.
    """

    def __init__(self, broker: Broker, journal: Journal, settings: Settings, outbox: Outbox) -> None:
        self._broker = broker
        self._journal = journal
        self._is_kept_by_sync = settings.fsync == "always"
        interval_s = settings.fsync_interval_ms / 1000
        self._sync_delay_s = {"always": SYNC_DELAY_S, "interval": interval_s, "never": math.inf}[settings.fsync]
        self._gathered_bytes_max = min(GATHERED_BYTES_MAX, settings.journal_pending_bytes_max // 2)
        self._write_due_s = math.inf  # for what gathers although the thread has nothing to do
        self._sync_due_s = math.inf  # for what was written and is not synced
        self._unsynced_bytes = 0
        self._is_syncing = False  # the present batch is synced as it is written
        self._begun_s = 0.0  # it
        self.sync_times = SyncTimes()
        self.backlog = DiskBacklog(settings.journal_pending_bytes_max, settings.journal_unawaited_bytes_max)
        self._outbox = outbox
        self._thread: DiskThread
        self._is_running = False
        self._has_job = False
        self._is_telling = False
        self._reclaim: Reclaim | None = None
        self._steps_owed = 0
        self._batch_bytes = 0
        self._refused: Batch | None = None  # for want of space; to be tried again
        self._is_retry_due = False
        self._is_reserve_wanted = True  # to be set aside for a full disk
        self._is_told_full = False
        self._error: Exception | None = None
        self._attention = WakeUp()

    @property
    def is_disk_full(self) -> bool:
        """Whether a batch waits for space, or was written into the last there was, however much there seems to be."""
        return self._refused is not None or self._journal.is_short_of_space

    def has_work(self) -> None:
        """Write what has gathered, as soon as the thread has time, or a moment later when nobody waits for it; before
        ``run`` and behind it, it stays gathered.
        """
        if self._is_running:
            self._go_on()

    def tell(self) -> None:
        """Tell those who wait for the disk now, if it is done, and give it what comes next: the round of the event loop
        that would do so takes long.
        """
        if self._is_running:
            self._thread.tell()

    async def run(self) -> None:
        """Write whenever there is something to write.

        Raises:
            JournalFailed: a write or a sync failed; nothing more is confirmed.
        """
        self._thread = DiskThread()
        self._is_running = True
        try:
            self._go_on()
            while self._error is None:
                await trio.lowlevel.checkpoint()
                if self.is_disk_full:
                    await trio.sleep(FULL_DISK_RETRY_S)
                    self._is_retry_due = self._is_reserve_wanted = True
                else:
                    await self._wait()
                self._go_on()
            raise self._error
        finally:
            self._is_running = False
            await self._thread.end()

    async def _wait(self) -> None:
        """Sleep until something has to be seen to, or becomes due; if it is due, it comes after the job, if any."""
        due_s = min(self._write_due_s, self._sync_due_s)
        comes_after_job = self._has_job and trio.current_time() >= due_s
        with trio.move_on_at(math.inf if comes_after_job else due_s):
            await self._attention.wait()

    # --- one job after the other

    def _go_on(self) -> None:
        """Give the thread its next job, if it has none and there is one."""
        if self._has_job or self._is_telling or self._error is not None:
            self._set_aside_much()
            return
        try:
            if self._steps_owed:
                self._steps_owed -= 1
                if self._free_space():
                    return
                self._steps_owed = 0
            if self._may_gather():
                self._free_space()
                return
            self._write_due_s = math.inf
            batch = self._next_batch()
            if batch is not None:
                self._write(batch)
                return
            self._tell_that_nothing_was_left()
            if self._refused is None and self._is_more_asked_for():
                self._go_on()
            elif not self._free_space():
                self._keep_reserve()
        except Exception as error:
            self._fail(error)

    def _is_more_asked_for(self) -> bool:
        """Whether somebody who was told that nothing was left has left something, or waits for a sync."""
        durability = self._broker.durability
        return durability.is_dirty or (durability.is_unsynced and self._must_sync())

    def _set_aside_much(self) -> None:
        """What gathers while the thread is busy is not to become too much for one batch."""
        if self._has_job and self._journal.gathered_bytes > SET_ASIDE_BYTES and not self.is_disk_full:
            self._broker.durability.set_aside()

    def _tell_that_nothing_was_left(self) -> None:
        """Let those go on who waited for something that left nothing to write; if they ask for more, it comes after."""
        self._is_telling = True
        try:
            self._broker.committed()
        finally:
            self._is_telling = False

    def _do(self, work: Callable[[], Result], done: Callable[[Result], None]) -> None:
        self._has_job = True
        self._thread.do(work, partial(self._did, done))

    def _did(self, done: Callable[[Result], None], job: Job[Result]) -> None:
        """A job is done: tell first, and only then look for the next one."""
        self._has_job = False
        self._is_telling = True
        try:
            self._outbox.handle(done, job.result())
        except Exception as error:
            self._fail(error)
        finally:
            self._is_telling = False
        self.has_work()

    def _fail(self, error: Exception) -> None:
        self._error = error
        self._attention.set()

    # --- batches

    def _may_gather(self) -> bool:
        """Whether there is something to write, but not all of it yet, or nobody waits for it and it is not due yet."""
        broker = self._broker
        if self._journal.has_set_aside:
            return False
        if broker.durability.is_held:
            return True
        if broker.awaiting_commit or broker.awaiting_write or self.is_disk_full:
            return False  # on a full disk nobody looks at what is due, and it is written to come to an end of that
        if not broker.durability.is_dirty or self._journal.pending_bytes > self._gathered_bytes_max:
            return False
        now_s = trio.current_time()
        if self._write_due_s == math.inf:
            self._write_due_s = now_s + WRITE_DELAY_S
            self._attention.set()
        return now_s < min(self._write_due_s, self._sync_due_s)

    def _next_batch(self) -> Batch | None:
        if self._refused is None:
            return self._take_batch()
        if not self._is_retry_due:
            return None
        self._is_retry_due = False
        return self._refused

    def _take_batch(self) -> Batch | None:
        self._batch_bytes = self._journal.next_bytes
        self._is_syncing = self._must_sync()
        return self._broker.durability.take_batch(sync=self._is_syncing)

    def _must_sync(self) -> bool:
        if self._is_kept_by_sync and (
            self._broker.awaiting_commit or self._unsynced_bytes + self._batch_bytes > UNSYNCED_BYTES_MAX
        ):
            return True
        return trio.current_time() >= self._sync_due_s

    def _write(self, batch: Batch) -> None:
        self._begun_s = trio.current_time()
        write = partial(self._journal.write, batch)
        if self._is_syncing:
            write = partial(self.sync_times.measured, write)
        self._do(write, lambda _: self._written(batch))

    def _written(self, batch: Batch) -> None:
        before = self._journal.written_position
        try:
            self._journal.committed(batch)
        except JournalFull as error:
            self._wait_for_space(batch, error)
            return
        self._refused = None
        if self._journal.is_short_of_space:
            self._hold_publishers_back("what was set aside for acknowledgements is in use")
        else:
            self._is_told_full = False
        self._note_unsynced()
        self._note_pace(batch.end_position - before)
        if self._journal.is_wasteful:
            self._steps_owed = STEPS_AFTER_BATCH + self._batch_bytes // BYTES_FOR_STEP
        self._broker.committed()

    def _note_unsynced(self) -> None:
        """See to it that what was written without a sync is synced in time."""
        if not self._broker.durability.is_unsynced:
            self._sync_due_s = math.inf
            self._unsynced_bytes = 0
            return
        self._unsynced_bytes += self._batch_bytes
        if self._sync_due_s == math.inf and self._sync_delay_s < math.inf:
            self._sync_due_s = trio.current_time() + self._sync_delay_s
            self._attention.set()

    def _note_pace(self, records: int) -> None:
        """Say how much may wait for the disk."""
        now_s = trio.current_time()
        self.backlog.note_batch(self._batch_bytes, records, now_s - self._begun_s, is_synced=self._is_syncing)
        if self._broker.awaiting_commit:
            self.backlog.note_wait(now_s, self._journal.pending_bytes)
        self._broker.unawaited_bytes_max = self.backlog.bytes_max(now_s)

    def _wait_for_space(self, batch: Batch, error: JournalFull) -> None:
        self._refused = batch
        self._is_retry_due = False
        self._hold_publishers_back(str(error))
        self._note_unsynced()
        self._broker.committed()  # what was written before is synced

    def _hold_publishers_back(self, reason: str) -> None:
        if not self._is_told_full:
            self._is_told_full = True
            log_event(logging.ERROR, "disk full", reason=reason, retry_s=FULL_DISK_RETRY_S)
        self._broker.set_alarm(Resource.DISK, True)
        self._attention.set()

    # --- free space

    def _free_space(self) -> bool:
        """Have the next step done; returns whether there was one."""
        self._reclaim = self._reclaim or self._journal.take_reclaim()
        if self._reclaim is None:
            return False
        self._do(self._reclaim.step, self._stepped)
        return True

    def _keep_reserve(self) -> None:
        """Have space set aside for a full disk, at the start and once there is some again."""
        if self._is_reserve_wanted:
            self._is_reserve_wanted = False
            self._do(self._journal.keep_reserve, self._set_aside)

    def _set_aside(self, _: None) -> None:
        if self._journal.is_short_of_space:
            self._hold_publishers_back("too little space to set some aside for acknowledgements")
        else:
            self._is_told_full = False

    def _stepped(self, is_done: bool) -> None:
        reclaim = self._reclaim
        if reclaim is None or not is_done:
            return
        self._reclaim = None
        self._is_retry_due = True  # there may be space now
        try:
            self._journal.reclaimed(reclaim)
        except JournalDamaged as error:  # those segments stay as they are, and everything else goes on
            log_event(logging.ERROR, "journal damaged", reason=str(error))
        self._do(reclaim.release, lambda _: None)
