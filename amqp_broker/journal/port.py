"""The interface of a journal to those above it, and its promises. The small port that another store could fill as well.

Holds the Protocol and its vocabulary, no implementation (that is `journal.py`). Every call belongs to the owner's
thread, except the three that say that they may run in another one.

The vocabulary:

reference
    A position in the journal, an int that only grows. `put` returns the record's; a record with several claims has one
    reference for each, `reference + 0` to `reference + claims - 1`. Rewriting a segment changes no reference.
claim
    One reason to keep a record: one queue that holds the message, say. A record is live until all its claims are
    dropped.
batch
    All that was put and dropped between one `take_batch`, or `set_aside`, and the next. After a crash a batch is seen
    whole or not at all, however large it is: a transaction is atomic because it is done in one go, with neither of them
    in its middle.
position
    `position < written_position` says that all that was done up to that position outlives this process, and
    `position < synced_position` that it outlives a crash of the machine as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol, TypeAlias

from amqp_broker.journal.cold_reads import LyingRecord
from amqp_broker.journal.failures import TornTail
from amqp_broker.journal.records import Part, Payload

LiveRecord: TypeAlias = tuple[int, int, bytes, Sequence[int]]
"""What recovery yields lists of: reference, kind, payload, and the references of those claims that are still live."""

Progress: TypeAlias = Callable[[int, int], None]
"""Called now and then during recovery with the bytes read so far and the bytes there are."""


class Batch(Protocol):
    """The records that are written and committed at once. Made by `Journal.take_batch`; opaque to the owner."""

    @property
    def end_position(self) -> int:
        """What `written_position` will be when this batch is committed."""


class Reclaim(Protocol):
    """The work of freeing disk space that dead records hold. Made by `Journal.take_reclaim`."""

    def step(self) -> bool:
        """Do one bounded slice of the work (about 256 KiB read and copied). May run in another thread.

        Returns:
            True when the work is finished and `Journal.reclaimed` is to be called; False when there is more to do.
        """

    def release(self) -> None:
        """Let go of the old files, after `Journal.reclaimed`. May run in another thread, and had better: that is when
        the operating system frees their space.
        """


class Journal(Protocol):
    """One write-ahead journal, held by one owner."""

    # --- reading what there is, once, at the start -----------------------------------------------------------------

    def recover(self, progress: Progress | None = None) -> Iterator[list[LiveRecord]]:
        """Yield every live record in the order of their references, those of a block at a time. To be exhausted before
        anything is put; until then nothing is written, so that whoever cannot use a record leaves all as it was.

        Raises:
            JournalDamaged: damage that is not a torn tail; names file and offset.
            FormatNotSupported: a segment of a newer format.
            NotAllowed: the operating system does not let this process use the files.
            JournalFailed: the disk cannot read it, or not write what has to be written first.
        """

    torn_tail: TornTail | None
    """What recovery cut off: a write that a crash left unfinished."""

    # --- the owner's thread: gathering -----------------------------------------------------------------------------

    def put(self, kind: int, payload: Payload, claims: int = 1) -> int:
        """Append a record that lives until all its claims are dropped.

        Args:
            kind: 1 to 255, the owner's meaning.
            payload: opaque bytes, up to 2 GiB. They may come in parts, which nobody may change from then on.
            claims: how many claims the record starts with, at least 1.

        Returns:
            The reference of the first claim; the others follow it without a gap.
        """

    def read_soon(self) -> None:
        """What gathers now is read soon and often: it had better stay in the system's memory once it is written."""

    def drop(self, reference: int) -> None:
        """Drop one claim. Dropping a claim twice is harmless."""

    def drop_many(self, references: Iterable[int]) -> None:
        """Drop many claims; the same as `drop` for each, faster."""

    def replace(self, old: int | None, kind: int, payload: Payload) -> int:
        """Put a record in place of an older one, atomically: the last writer wins.

        This is how a value that changes is kept (a queue's delivered position, a policy): when it changes many times
        between two batches, only the last value is written.

        Args:
            old: the reference of the record that it takes the place of; None when there is none yet.
        """

    @property
    def position(self) -> int:
        """The position of what was done last: all of it is written when `position < written_position`."""

    @property
    def written_position(self) -> int:
        """Everything at a position below this one is written and committed."""

    @property
    def synced_position(self) -> int:
        """Everything at a position below this one is synced as well; never more than `written_position`."""

    @property
    def pending_bytes(self) -> int:
        """The bytes that were put and are not committed yet: the measure for holding publishers back."""

    @property
    def gathered_bytes(self) -> int:
        """Those of them that gather, in no batch yet."""

    @property
    def next_bytes(self) -> int:
        """Those of them that `take_batch` would hand over."""

    def read(self, reference: int) -> tuple[int, bytes]:
        """Read a live record's kind and payload again. May run in another thread, at any time.

        Args:
            reference: any claim of the record.

        Raises:
            RecordGone: no live record has this reference.
            JournalDamaged: what is on disk is not what was written.
            JournalFailed: the disk cannot read it.
        """

    def has(self, reference: int) -> bool:
        """Whether a record is there; one that was dropped a moment ago may be."""

    def read_many(self, references: Sequence[int]) -> list[bytes]:
        """Read the payloads of many live records: `read` for each, faster where they lie near each other in order.

        May run in another thread, at any time.

        Raises:
            RecordGone, JournalDamaged, JournalFailed: as for `read`.
        """

    def view_many(self, references: Sequence[int], unchecked_bytes_min: int) -> list[Part]:
        """`read_many` without copies, for payloads of some bytes that have a checksum of their own.

        Args:
            references: as for `read_many`.
            unchecked_bytes_min: those that are as long may come unchecked: whoever uses them compares their own.
        """

    def view_now(self, references: Sequence[int], unchecked_bytes_min: int, bytes_max: int) -> list[Part]:
        """`view_many` for the owner's thread, which waits for no disk: the first ones, as far as they are at hand, and
        lie in one slice.

        Args:
            references: at least one.
            bytes_max: how large the slice is; the last record may go on behind it.
        """

    def lying_now(self, references: Sequence[int], head_bytes: int, rest_bytes_min: int) -> list[LyingRecord]:
        """The same for records that are sent from where they lie, with a checksum of their own, for none is compared.

        Args:
            references: of live records.
            head_bytes: how much of their payloads is read.
            rest_bytes_min: how much more each of them has at least.

        Returns:
            The first ones, as far as they are at hand, and are such records.
        """

    # --- group commit ----------------------------------------------------------------------------------------------

    def set_aside(self) -> None:
        """Make a batch of all that has gathered, to be taken after those that were set aside before; what comes from
        now on gathers for the next. So what waits for a slow disk is written in pieces of a reasonable size.

        A record that is dropped after that is written all the same, and its drop with a later batch, where the rest is
        of what was done in one go with the drop.
        """

    @property
    def has_set_aside(self) -> bool:
        """Whether there is such a batch."""

    def take_batch(self, *, sync: bool = True) -> Batch | None:
        """Hand over the first batch that was set aside, or else all that has gathered; what comes from now on gathers
        for the next. Costs next to nothing.

        Args:
            sync: whether `write` ends with a sync, which syncs what was written before as well. When, is the owner's
                policy. With nothing gathered and `sync`, a batch that only syncs is returned when an earlier one was
                written without.

        Returns:
            The batch; None when there is nothing to do. One batch at a time: `committed` before the next one.

        Raises:
            JournalFailed: the journal failed before.
        """

    def write(self, batch: Batch) -> None:
        """Write a batch, and sync it. Blocks on the disk; **meant for another thread**. Never raises for what the disk
        does: the outcome is in the batch, and `committed` tells it.
        """

    def committed(self, batch: Batch) -> None:
        """Take notice of a written batch: advances `written_position` and, if it was synced, `synced_position`.

        Raises:
            JournalFull: there was no space, nothing was written: give the same batch to `write` again, later. All that
                was written before is synced, so that space can be freed.
            JournalFailed: final. Nothing after it is confirmed; put and drop go on gathering, for nothing.
        """

    # --- free space ------------------------------------------------------------------------------------------------

    def take_reclaim(self) -> Reclaim | None:
        """The next piece of work that frees disk space; None when there is none worth doing. One at a time."""

    def reclaimed(self, reclaim: Reclaim) -> None:
        """Take notice of a finished piece of work.

        Raises:
            JournalFailed: final, as in `committed`. A full disk is no failure here: the work was given up.
            JournalDamaged: a live record is not what was written. Its segment stays as it is, and all else goes on.
        """

    # --- a full disk -----------------------------------------------------------------------------------------------

    def keep_reserve(self) -> None:
        """Set space aside for acknowledgements on a full disk, if none is and there is enough. Blocks on the disk;
        **meant for the thread of** `write`, when it writes nothing.

        Raises:
            JournalFailed: the disk failed.
        """

    @property
    def is_short_of_space(self) -> bool:
        """Whether the space that is set aside is in use, because the disk was full: publishers had better wait until
        `keep_reserve` finds some again.
        """

    # --- the state of things ---------------------------------------------------------------------------------------

    @property
    def failure(self) -> str:
        """Why the journal failed; "" when it did not."""

    @property
    def live_bytes(self) -> int:
        """The bytes of live records on disk."""

    @property
    def disk_bytes(self) -> int:
        """The bytes that the journal's files take."""

    @property
    def is_wasteful(self) -> bool:
        """Whether the files take more than they should, which is twice what is live and two segments."""

    def close(self) -> None:
        """Write what is left, mark the end as intended, let go of the files. Blocks. Does not raise twice."""
