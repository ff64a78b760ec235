"""The journal's store over etcd, written by the owner of a shard alone. For the disk's thread: every call blocks.
Only ``entries`` is for any thread.

Theory of operation. Each transaction begins with the fence: it is carried out only while the owner's key has the
revision that it had when this node became the owner, its epoch. When there is no answer, it is not known whether the
transaction was carried out, so the same is asked again, of the next member, until it is known. That may carry it out
twice, and the first copy may even arrive long after: so each transaction has a place in line, one of a few lanes, and
carries its number in the lane. It holds only while the lane is at the number before, and moves it on; a copy that comes
late finds the lane further on and does nothing. Transactions in different lanes are under way at the same time.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from math import inf
from typing import Final

from amqp_broker.cluster.members import EtcdRefused, EtcdUnavailable, Members
from amqp_broker.cluster.ownership import owner_in
from amqp_broker.etcd import messages
from amqp_broker.etcd.messages import Target
from amqp_broker.journal.kept_copies import Entry
from amqp_broker.journal.kept_files import Put, Transaction
from amqp_broker.logs import log_event

LANES: Final = 8
PAGE_KEYS: Final = 32  # of up to 256 KiB each, so much that a slow member sends it in time
RETRY_S: Final = 0.05
OUT_OF_SPACE_RETRY_S: Final = 0.5
LANES_PREFIX: Final = "lane/"


class OwnershipLost(OSError):
    """The loss of the shard's ownership: nothing that this node says from now on is kept."""


class _FenceClosed(Exception):
    """The epoch that was written in is over, and it is not known yet what comes after it."""


class EtcdStore:
    """Keys of one shard.

    Args:
        members: etcd; not used by another thread.
        prefix: of the shard's keys, ending in a slash.
        owner_key: the key that the owner holds.
        epoch: its revision.
        reading: etcd, for what is read; the same when left out, and then nothing is read while something is written.
        node_id: of this node, where it may take the shard back (``resume``).
    """

    def __init__(
        self,
        members: Members,
        prefix: str,
        owner_key: str,
        epoch: int,
        reading: Members | None = None,
        node_id: str = "",
    ) -> None:
        self._members = members
        self._reading = reading if reading is not None else members
        self._in_reading = threading.Lock()
        self._prefix = prefix
        self._owner_key = owner_key.encode()
        self._epoch = epoch
        self._node_id = node_id
        self._numbers = [0] * LANES
        self._change = threading.Condition()
        self._ends_s = inf  # of the monotonic clock: from then on nobody waits for etcd
        self._new_epoch = epoch
        self._preferred: int | None = None  # the place of a member, not turned to yet
        self._told = ""  # why etcd would not write, the last time
        self.free_bytes: int | None = None  # how much more may be written, by now; None where nobody has looked
        self.is_out_of_space = False

    def give_up(self, after_s: float = 0.0) -> None:
        """From any thread: whoever waits for etcd is told that the ownership is lost.

        Args:
            after_s: in so many seconds, for who has the thread wait that would say so then.
        """
        with self._change:
            self._ends_s = min(self._ends_s, time.monotonic() + after_s)
            self._change.notify_all()

    @property
    def _is_given_up(self) -> bool:
        return time.monotonic() >= self._ends_s

    def prefer(self, place: int) -> None:
        """From any thread: write by way of the member at a place from now on, for as long as it answers."""
        with self._change:
            self._preferred = place

    def resume(self, epoch: int) -> None:
        """From any thread: the owner's key was lost, and this node has taken it back before anybody else had it.

        What was under way is committed again under the new epoch. That does no harm where it was committed before:
        nobody has written anything since.
        """
        with self._change:
            self._new_epoch = epoch
            self._change.notify_all()

    def open(self) -> None:
        """Take the lanes. To be called once, before anything is committed.

        Raises:
            OwnershipLost: somebody else owns the shard.
        """
        epoch = f"{self._epoch:016x}"
        first = self._lane_key(0)
        operations = [messages.put(self._lane_key(lane), b"0") for lane in range(LANES)]
        begin, end = f"{self._prefix}{LANES_PREFIX}", f"{self._prefix}{LANES_PREFIX}{epoch}/"
        operations.append(messages.delete(begin.encode(), end.encode()))
        request = messages.transaction_request(
            [self._fence(), messages.compare(first, Target.CREATE_REVISION, 0)],
            operations,
            [messages.get(self._owner_key), messages.get(first)],
        )
        while True:
            outcome = self._members.present.call_all(messages.TRANSACTION, [request])[0]
            try:
                if outcome is not None and self._is_done(outcome, b"0"):
                    return
            except _FenceClosed:
                raise OwnershipLost(errno.EROFS, "the ownership was lost before it was used") from None
            self._wait(outcome if isinstance(outcome, EtcdRefused) else None)

    def commit(self, transactions: Sequence[Transaction]) -> None:
        """Apply each transaction once (``Store.commit``).

        Raises:
            OwnershipLost: it is not known which of them are kept.
        """
        for first in range(0, len(transactions), LANES):
            self._commit_some(transactions[first : first + LANES])

    def _commit_some(self, transactions: Sequence[Transaction]) -> None:
        left = dict(enumerate(transactions))
        with self._change:
            if self._preferred is not None:
                self._members.turn_to(self._preferred)
                self._preferred = None
        while left:
            try:
                self._try_to_commit(left)
            except _FenceClosed:
                self._await_resumption()

    def _try_to_commit(self, left: dict[int, Transaction]) -> None:
        """Ask once for all that is left, by lane; what is done is left no longer."""
        lanes = list(left)
        requests = [self._request(lane, left[lane]) for lane in lanes]
        outcomes = self._members.present.call_all(messages.TRANSACTION, requests)
        is_closed = False
        for lane, outcome in zip(lanes, outcomes, strict=True):
            try:
                if outcome is not None and self._is_done(outcome, self._lane_value(self._numbers[lane] + 1)):
                    self._numbers[lane] += 1
                    self._take_space(left.pop(lane))
            except _FenceClosed:
                is_closed = True
        if is_closed:
            raise _FenceClosed
        if left:
            self._wait(next((outcome for outcome in outcomes if isinstance(outcome, EtcdRefused)), None))
        self.is_out_of_space = False
        if not left:
            self._told = ""

    def _take_space(self, transaction: Transaction) -> None:
        """Count what is written until somebody looks again, which may be long in an etcd that is small."""
        if self.free_bytes is not None:
            self.free_bytes -= sum(len(change.value) for change in transaction if isinstance(change, Put))

    def _await_resumption(self) -> None:
        """Nobody owns the shard: wait until this node does again.

        Raises:
            OwnershipLost: it gives up.
        """
        with self._change:
            while self._new_epoch == self._epoch and not self._is_given_up:
                self._change.wait(None if self._ends_s == inf else self._ends_s - time.monotonic())
            if self._is_given_up:
                raise OwnershipLost(errno.EROFS, "the node gave its ownership up")
            self._epoch = self._new_epoch
        self._numbers = [0] * LANES
        self.open()

    def _is_done(self, outcome: bytes | EtcdRefused, lane_value: bytes) -> bool:
        """Whether an outcome says that its transaction was carried out, now or by an earlier copy.

        Raises:
            OwnershipLost: it says that it never will be.
            _FenceClosed: nobody owns the shard, or this node does in another epoch.
        """
        if isinstance(outcome, EtcdRefused):
            return False
        answer = messages.TransactionAnswer.read(outcome)
        if answer.succeeded:
            return True
        owner, lane = answer.ranges[0].entries, answer.ranges[1].entries
        if not owner or self._new_epoch != self._epoch:
            raise _FenceClosed
        if owner[0].mod_revision != self._epoch:
            if owner_in(owner[0].value) == self._node_id:
                raise _FenceClosed  # it has just taken the shard back, and ``resume`` is about to tell
            raise OwnershipLost(errno.EROFS, "another node owns this broker now")
        if lane and lane[0].value == lane_value:
            return True
        raise OwnershipLost(errno.EROFS, "the shard was written by somebody who does not own it")

    def _request(self, lane: int, transaction: Transaction) -> bytes:
        key, number = self._lane_key(lane), self._numbers[lane]
        operations = [messages.put(key, self._lane_value(number + 1))]
        for change in transaction:
            if isinstance(change, Put):
                operations.append(messages.put(self._full(change.key), change.value))
            else:
                operations.append(
                    messages.delete(self._full(change.key), self._full(change.end) if change.end else b"")
                )
        conditions = [self._fence(), messages.compare(key, Target.VALUE, self._lane_value(number))]
        return messages.transaction_request(conditions, operations, [messages.get(self._owner_key), messages.get(key)])

    def _fence(self) -> bytes:
        return messages.compare(self._owner_key, Target.MOD_REVISION, self._epoch)

    def _lane_key(self, lane: int) -> bytes:
        return f"{self._prefix}{LANES_PREFIX}{self._epoch:016x}/{lane}".encode()

    @staticmethod
    def _lane_value(number: int) -> bytes:
        return str(number).encode()

    def _full(self, key: str) -> bytes:
        return (self._prefix + key).encode()

    def _wait(self, refused: bytes | EtcdRefused | None) -> None:
        """Before the same is asked again: of another member when this one said nothing.

        Raises:
            OwnershipLost: nobody should wait any longer.
        """
        if isinstance(refused, EtcdRefused) and refused.is_out_of_space:
            self.is_out_of_space = True
            self._pause(OUT_OF_SPACE_RETRY_S)
        else:
            if isinstance(refused, EtcdRefused) and str(refused) != self._told:
                self._told = str(refused)  # once, and not twenty times a second
                log_event(logging.ERROR, "etcd refuses to write", reason=self._told)
            self._members.turn_to_next()
            self._pause(RETRY_S)

    def _pause(self, delay_s: float) -> None:
        with self._change:
            if self._change.wait_for(lambda: self._is_given_up, delay_s):
                raise OwnershipLost(errno.EROFS, "the node gave its ownership up")

    def entries(self, prefix: str, first: str = "") -> Iterator[Entry]:
        """All keys with a prefix (``Store.entries``); nobody but the owner, who asks, could change them meanwhile.

        So they are read as they are: what was there at one moment the owner of another shard may have compacted away.

        Raises:
            OSError: etcd will not, or the node gives its ownership up while etcd does not answer.
        """
        for _, entries in pages_in(self._read, self._prefix, prefix, None, first):
            yield from entries

    def _read(self, request: bytes) -> bytes:
        while True:
            try:
                with self._in_reading:
                    return self._reading.call(messages.RANGE, request)
            except EtcdUnavailable:
                self._pause(RETRY_S)
            except EtcdRefused as error:
                raise OSError(errno.EIO, f"etcd will not be read: {error}") from error

    def check_space(self, size: int) -> None:
        """Whether so many bytes more fit into etcd's quota, as far as is known.

        Raises:
            OSError: ENOSPC, they do not.
        """
        if self.free_bytes is not None and size > self.free_bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class StoreAtOneRevision:
    """A store as it stood when it was first asked.

    Args:
        read: asks etcd for a range.
        prefix: of the store's keys.
    """

    def __init__(self, read: Callable[[bytes], bytes], prefix: str) -> None:
        self._read_range = read
        self._prefix = prefix
        self.revision = 0

    def entries(self, prefix: str, first: str = "") -> Iterator[Entry]:
        """All keys with a prefix (``Store.entries``)."""
        for revision, entries in pages_in(self._read_range, self._prefix, prefix, self.revision, first):
            self.revision = revision  # even where there is nothing: what is asked next must not be from later
            yield from entries


def pages_in(
    read: Callable[[bytes], bytes], store_prefix: str, prefix: str, revision: int | None, first: str = ""
) -> Iterator[tuple[int, list[Entry]]]:
    """All keys with a prefix in the order of the keys, some at a time, and the revision at which they stood.

    There is one page at least, be it empty.

    Args:
        read: asks etcd for a range.
        store_prefix: what the store's keys begin with.
        prefix: within the store.
        revision: of all of them, 0 for the present one; None for the present one each time.
        first: where to begin; empty for the first of them.
    """
    key = (store_prefix + (first or prefix)).encode()
    end = messages.prefix_end((store_prefix + prefix).encode())
    while True:
        request = messages.range_request(key, end, limit=PAGE_KEYS, revision=revision or 0)
        answer = messages.RangeAnswer.read(read(request))
        if revision is not None:
            revision = revision or answer.revision
        yield (
            answer.revision if revision is None else revision,
            [
                Entry(entry.key.decode().removeprefix(store_prefix), entry.value, entry.mod_revision)
                for entry in answer.entries
            ],
        )
        if not answer.more or not answer.entries:
            return
        key = answer.entries[-1].key + b"\0"
