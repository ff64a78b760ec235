"""A node that may own the broker next: it has the journal's files here already, and follows what the owner writes.

So a takeover need not read the store, however much is in it. The owner's key is watched with the journal's: when its
new claim comes by, all that the owner before has ever written came before it. etcd forgets what it had a moment ago, so
nothing is read as it was then: what changes while the journal is read is watched as well (``gradual_load.py``). Holds
no broker, and writes nothing to etcd.
"""

from __future__ import annotations

import logging
import secrets
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import trio

from amqp_broker.cluster.configuration import ClusterConfiguration
from amqp_broker.cluster.etcd_client import EtcdClient
from amqp_broker.cluster.members import EtcdRefused, EtcdUnavailable, blocking_members
from amqp_broker.cluster.store import LANES_PREFIX, StoreAtOneRevision, pages_in
from amqp_broker.etcd import messages
from amqp_broker.etcd.calls import Answer, Ended
from amqp_broker.etcd.messages import Event
from amqp_broker.explanations import system_reason
from amqp_broker.journal.gradual_load import GradualLoad
from amqp_broker.journal.kept_copies import KeptCopies
from amqp_broker.journal.real_files import RealFiles
from amqp_broker.logs import log_event

CALL_TIMEOUT_S: Final = 1.0
LOAD_TIMEOUT_S: Final = 5.0  # of one page
PAUSE_S: Final = 0.1
LOOK_S: Final = 1.0  # how often it is asked whether the member that is watched still answers
AGAIN_PAUSE_S: Final = 5.0
VERIFY_PAUSE_S: Final = 0.05  # between one full segment and the next
TRUST_S: Final = 600.0  # so long a segment that was read counts as intact
RENEWAL_S: Final = TRUST_S / 2  # then it is read again, so that a takeover finds hardly any that does not count
RENEWAL_PAUSE_MAX_S: Final = 10.0  # until it is looked again whether one is to be read
PATIENCE_S: Final = 3.0  # without a change, until a takeover reads the store instead
ANSWERS_MAX: Final = 64  # of a watch, not applied yet; then it begins again where it was
INLINE_BYTES: Final = 1_048_576  # so little is written without another thread, which takes longer than to write it


class LeftBehind(Exception):
    """etcd has forgotten changes that were not told yet: all must be read again."""


class Standby:
    """The copies of one node, from when it begins to wait for its turn until that has come.

    Args:
        configuration: where etcd is.
        shard_prefix: what the shard's keys begin with.
        folder: for the copies, which may be removed at any time before they are handed over.
    """

    def __init__(self, configuration: ClusterConfiguration, shard_prefix: str, folder: Path) -> None:
        self._configuration = configuration
        self._prefix = shard_prefix
        self._folder = folder
        self._members = blocking_members(configuration.addresses, LOAD_TIMEOUT_S)  # for who has the lock
        self._load: GradualLoad | None = None  # what becomes the copies
        self._began_s = 0.0
        self._is_refused = False  # etcd would not be read, the last time
        self._copies: KeptCopies | None = None
        self._revision = 0  # up to which all changes were told
        self._in_thread = trio.Lock()  # held while another thread changes the copies
        self._moved = trio.Event()  # since this was taken, something has come
        self._scope = trio.CancelScope()
        self._ended = trio.Event()
        self.following = trio.Event()  # all that there was is here

    async def run(self) -> None:
        """Follow, until ``stop`` or ``hand_over``."""
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    etcd = EtcdClient(self._configuration.addresses, CALL_TIMEOUT_S, nursery)
                    nursery.start_soon(self._notice_silence, etcd)
                    nursery.start_soon(self._verify)
                    while True:
                        await self._follow_once(etcd)
                        await trio.sleep(PAUSE_S)
        finally:
            self._members.close()
            self._ended.set()

    def stop(self) -> None:
        """Give up; the copies are of no use to anybody."""
        self._scope.cancel()
        self._tell()

    async def hand_over(self, epoch: int) -> KeptCopies | None:
        """End, with the copies as they are when this node owns the shard, since that epoch.

        Returns:
            None where they could not be brought up to that in time, or were given up: whoever asks reads the store.
        """
        while (self._copies is None or self._revision < epoch) and not self._scope.cancel_called:
            with trio.move_on_after(PATIENCE_S) as patience:
                await self._moved.wait()
            if patience.cancelled_caught and (self._load is None or self._load.is_over or self._is_refused):
                break
        self.stop()
        await self._ended.wait()
        return self._copies if self._revision >= epoch else None

    # --- following

    async def _follow_once(self, etcd: EtcdClient) -> None:
        """Follow until the member of etcd is lost."""
        try:
            if self._copies is None and self._load is None:
                await self._begin()
            await self._watch(etcd)
        except (EtcdUnavailable, EtcdRefused) as error:
            log_event(logging.DEBUG, "standby waits for etcd", reason=str(error))
            if isinstance(error, EtcdRefused):  # a moment later it would be likewise
                self._is_refused = True
                await trio.sleep(AGAIN_PAUSE_S)
        except LeftBehind:
            await self._forget("etcd has forgotten what was not read yet")
        except OSError as error:
            await self._forget(system_reason(error))
            await trio.sleep(AGAIN_PAUSE_S)  # a full disk is full again, and etcd has been read for nothing

    async def _forget(self, reason: str) -> None:
        log_event(logging.WARNING, "standby begins again", node=self._configuration.node_name, reason=reason)
        self._load, self._copies, self._revision = None, None, 0
        await trio.to_thread.run_sync(remove_folder, self._folder)

    async def _begin(self) -> None:
        """Begin to read all that the store has; what changes from then on is told."""
        self._began_s = time.monotonic()
        async with self._in_thread:
            await trio.to_thread.run_sync(remove_folder, self._folder)
            load = GradualLoad(KeptCopies(RealFiles(self._folder / secrets.token_hex(4), is_direct=False)))
            self._revision = await trio.to_thread.run_sync(self._read_page, load)
        self._load = load

    def _read_page(self, load: GradualLoad) -> int:
        """In a thread: read some more of the store; returns the revision that it is of."""
        revision, page = next(pages_in(self._read, self._prefix, "", None, load.place))
        self._is_refused = False
        load.take(page)
        return revision

    def _read(self, request: bytes) -> bytes:
        trio.from_thread.check_cancelled()
        return self._members.call(messages.RANGE, request)

    async def _watch(self, etcd: EtcdClient) -> None:
        key = self._prefix.encode()
        request = messages.watch_request(key, messages.prefix_end(key), start_revision=self._revision + 1)
        async with etcd.stream(messages.WATCH, request, ANSWERS_MAX) as answers:
            while self._load is not None and not self._load.is_over:
                async with self._in_thread:
                    await trio.to_thread.run_sync(self._read_page, self._load)
                self._tell()
                if not await self._take_waiting(answers):
                    return
            self._notice_loaded()
            async for answer in answers:
                if not await self._take(answer):
                    return

    async def _take_waiting(self, answers: trio.MemoryReceiveChannel[Answer | Ended]) -> bool:
        """Take what has come of a watch meanwhile; returns whether it goes on."""
        try:
            for _ in range(ANSWERS_MAX):
                if not await self._take(answers.receive_nowait()):
                    return False
        except trio.WouldBlock:
            pass
        except trio.EndOfChannel:
            return False
        return True

    async def _take(self, answer: Answer | Ended) -> bool:
        """Take an answer of a watch; returns whether it goes on."""
        if not isinstance(answer, Answer):
            return False
        told = messages.WatchAnswer.read(answer.message)
        if told.cancelled:
            raise LeftBehind
        if told.events:
            await self._apply(told.events, is_unfinished=told.is_unfinished)
        self._notice_loaded()
        return True

    def _notice_loaded(self) -> None:
        """See whether all was read, and what the last page had was told.

        Each transaction of an owner puts a key that is read behind all files (``LANES_PREFIX``), deletions as well.
        """
        load = self._load
        if load is None or not load.is_over or self._revision < load.newest:
            return
        self._load, self._copies = None, load.copies
        self._members.close()
        self.following.set()
        self._tell()
        seconds = round(time.monotonic() - self._began_s, 3)
        log_event(logging.INFO, "standby", node=self._configuration.node_name, seconds=seconds)

    async def _apply(self, events: Sequence[Event], *, is_unfinished: bool = False) -> None:
        """Take changes in; of the last revision in an answer that goes on more may be to come, or all of it again."""
        async with self._in_thread:
            if sum(len(event.entry.value) for event in events) <= INLINE_BYTES:
                self._apply_now(events)
            else:
                await trio.to_thread.run_sync(self._apply_now, events)
        self._revision = max(self._revision, events[-1].entry.mod_revision - is_unfinished)
        self._tell()

    def _apply_now(self, events: Sequence[Event]) -> None:
        copies = self._load or self._copies
        assert copies is not None
        for event in events:
            key = event.entry.key.decode().removeprefix(self._prefix)
            if event.is_delete:
                copies.delete(key)
            else:
                copies.put(key, event.entry.value)

    def _tell(self) -> None:
        self._moved.set()
        self._moved = trio.Event()

    async def _verify(self) -> None:
        """Check the segments that are full, one after the other and again and again, so that a takeover need not.

        What is damaged is read out of etcd again.
        """
        pause_s = VERIFY_PAUSE_S
        while True:
            await trio.sleep(pause_s)
            pause_s, now_s, name = VERIFY_PAUSE_S, trio.current_time(), None
            async with self._in_thread:
                moved, copies = self._moved, self._copies
                if copies is not None and (name := copies.next_to_verify()) is None:
                    name = copies.next_to_verify(now_s - RENEWAL_S)
                    pause_s = min(RENEWAL_S / (1 + 2 * len(copies.full_segments())), RENEWAL_PAUSE_MAX_S)
            if copies is None or name is None:
                with trio.move_on_after(RENEWAL_PAUSE_MAX_S):
                    await moved.wait()
                    pause_s = VERIFY_PAUSE_S
            elif not await trio.to_thread.run_sync(copies.verify, name, now_s, abandon_on_cancel=True):
                await self._restore(copies, name)

    async def _restore(self, copies: KeptCopies, name: str) -> None:
        """Read a segment again whose copy is damaged; where that does not help, a takeover is to find it itself.

        It is verified at once, so that it counts as read now, whatever it is like, and others have their turn.
        """
        node = self._configuration.node_name
        log_event(logging.WARNING, "copy damaged", node=node, segment=name, way_out="it is read from etcd again")
        async with self._in_thread:
            with suppress(EtcdUnavailable, EtcdRefused, OSError):
                await trio.to_thread.run_sync(self._read_again, copies, name)
        if not await trio.to_thread.run_sync(copies.verify, name, trio.current_time(), abandon_on_cancel=True):
            reason = "etcd has it so, or does not answer"
            log_event(logging.ERROR, "copy is still damaged", node=node, segment=name, reason=reason)

    def _read_again(self, copies: KeptCopies, name: str) -> None:
        """In a thread: what was told before may be told once more, and comes to the same."""
        copies.restore(name, StoreAtOneRevision(self._read, self._prefix))
        self._members.close()

    async def _notice_silence(self, etcd: EtcdClient) -> None:
        """A watch of a member that is cut off would wait forever: a call that fails ends its connection.

        The call asks when the shard was written last. Where that was told, all is here up to now: a watch that is lost
        begins there, and not where etcd has forgotten everything because others write.
        """
        first, end = f"{self._prefix}{LANES_PREFIX}".encode(), messages.prefix_end(self._prefix.encode())
        request = messages.range_request(first, end)
        while True:
            await trio.sleep(LOOK_S)
            with suppress(EtcdUnavailable, EtcdRefused):
                found = messages.RangeAnswer.read(await etcd.call(messages.RANGE, request))
                if max((entry.mod_revision for entry in found.entries), default=0) <= self._revision:
                    self._revision = max(self._revision, found.revision)


def remove_folder(folder: Path) -> None:
    """Remove copies; in a thread, for there may be much."""
    shutil.rmtree(folder, ignore_errors=True)
