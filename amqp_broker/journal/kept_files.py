"""A file system over a store of keys that many machines keep: what `RealFiles` is to a disk, this is to a cluster.

Theory of operation. A file has an identifier that is never used again; its name is a key that holds the identifier, its
size is a key, and its bytes are pieces, each a key of its own that ends in its offset. Where there is no piece, there
are zeros. Writes go to a local copy and are remembered; ``sync`` puts them into the store. As with a disk, what is
synced at once may arrive in any order and in part when the machine dies, because a reader of the journal knows torn
ends; each transaction of the store is there whole or not at all.

Three rules keep the pieces true. A piece holds what the copy holds when it is put, and is only ever replaced by one
that reaches at least as far, so no byte is lost with it. Pieces that overlap count in the order of their writing. A
truncation is in the store before anything that was written behind it.

Names change in the store when the folder is synced, all at once where they are not too many. What a crash leaves behind
of a file without a name is removed by whoever opens the store next (``remove_nameless``).

The local copy serves reads, so paging asks no store; it is worth nothing after the process has ended. One that is found
damaged is written again out of the store. Holds no network: the store is a Protocol.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol

from amqp_broker.journal.files import FileSystem
from amqp_broker.journal.kept_copies import NAMES, PIECES, SIZE_KEY, Kept, KeptCopies, Readable, restore
from amqp_broker.journal.records import Part
from amqp_broker.journal.stretches import FileStretch

PIECE_BYTES_MAX: Final = 262_144
PIECE_BYTES_MIN: Final = 4_096  # a last piece below this is written again with what follows: else small syncs make many
# etcd takes 1.5 MiB at most, but keeps the bytes of its last 5,000 transactions in memory, however large they are.
TRANSACTION_BYTES_MAX: Final = PIECE_BYTES_MAX + PIECE_BYTES_MIN
TRANSACTION_CHANGES_MAX: Final = 100  # etcd takes 128


class Put(NamedTuple):
    """Give a key a value."""

    key: str
    value: bytes


class Delete(NamedTuple):
    """Remove a key, or all keys from it up to another one, which stays."""

    key: str
    end: str = ""


Transaction = list[Put | Delete]


class Store(Readable, Protocol):
    """Keys and values that survive the loss of a machine, written by their present owner alone."""

    def commit(self, transactions: Sequence[Transaction]) -> None:
        """Apply each transaction as a whole and once, in any order; return when all of them are kept.

        Raises:
            OSError: they are not kept, or it is not known whether they are. It is final: the owner has lost the store.
        """

    def check_space(self, size: int) -> None:
        """Whether so many bytes more fit.

        Raises:
            OSError: ENOSPC, they do not.
        """


def _piece_key(file_id: str, offset: int) -> str:
    return f"{PIECES}{file_id}/{offset:012x}"


def _size_key(file_id: str) -> str:
    return f"{PIECES}{file_id}/{SIZE_KEY}"


def _end_of(file_id: str) -> str:
    """The first key behind all that belongs to a file: ``0`` follows ``/``."""
    return f"{PIECES}{file_id}0"


class KeptFile:
    """A file of a `KeptFiles`."""

    def __init__(self, files: KeptFiles, kept: Kept) -> None:
        self.is_read_soon = False
        self._files = files
        self._kept = kept

    def read_at(self, offset: int, size: int) -> bytes:
        return self._kept.local.read_at(offset, size)

    def read_now(self, offset: int, size: int) -> Part | None:
        return self._kept.local.read_now(offset, size)

    def stretch(self, offset: int, size: int) -> FileStretch | None:
        return self._kept.local.stretch(offset, size)

    def write_at(self, offset: int, *parts: Part) -> None:
        kept = self._kept
        kept.local.write_at(offset, *parts)
        end = offset + sum(map(len, parts))
        if kept.dirty and kept.dirty[-1][1] == offset:
            kept.dirty[-1] = (kept.dirty[-1][0], end)
        else:
            kept.dirty.append((offset, end))
        kept.size = max(kept.size, end)

    def truncate(self, size: int) -> None:
        kept = self._kept
        kept.local.truncate(size)
        if size < kept.size:
            kept.cut_to = size if kept.cut_to is None else min(size, kept.cut_to)
            kept.dirty = [(start, min(end, size)) for start, end in kept.dirty if start < size]
        kept.size = size

    def sync(self) -> None:
        self._files.sync_file(self._kept)

    def size(self) -> int:
        return self._kept.size

    def restore(self, offset: int = 0) -> bool:
        if offset and self._kept.first_reaching(offset) is None:
            return False
        self._files.restore_file(self._kept, offset)
        return True


class KeptFiles:
    """The files of one folder, kept in a store.

    Args:
        store: where they are kept.
        local: for the copies; it must be empty.
        label: how an operator calls the store, for the names in messages.
        note_restored: is told, in whichever thread, how a file is called whose copy was damaged, and was read again.
    """

    def __init__(
        self,
        store: Store,
        local: FileSystem,
        label: str = "store",
        note_restored: Callable[[str], None] | None = None,
    ) -> None:
        self._store = store
        self._local = local
        self._label = label
        self._note_restored = note_restored
        self._files: dict[str, Kept] = {}
        self._kept_names: dict[str, str] = {}  # in the store: identifiers by name
        self._nameless: list[str] = []  # identifiers of files that a crash has left without a name
        self._gone: dict[str, None] = {}  # identifiers of files that have lost their names since the folder was synced

    # --- opening

    def fetch(self) -> None:
        """Read all that the store has. To be called once, by the owner, before anything else.

        Raises:
            OSError: the store cannot be read, or the copies cannot be written.
        """
        copies = KeptCopies(self._local)
        copies.load(self._store)
        self.adopt(copies)

    def adopt(self, copies: KeptCopies) -> None:
        """Go on with copies of all that the store has now, in its own place for copies. In place of ``fetch``.

        Raises:
            OSError: a copy cannot be written.
        """
        self._kept_names = dict(copies.names)
        self._files, self._nameless = copies.take()

    def remove_nameless(self) -> int:
        """Remove what is left of files without a name; returns of how many there was something."""
        lost, self._nameless = self._nameless, []
        for first in range(0, len(lost), TRANSACTION_CHANGES_MAX):
            some = lost[first : first + TRANSACTION_CHANGES_MAX]
            self._store.commit([[Delete(f"{PIECES}{file_id}/", _end_of(file_id)) for file_id in some]])
        for file_id in lost:
            self._local.remove(file_id)
        return len(lost)

    # --- the folder

    def names(self) -> list[str]:
        return sorted(self._files)

    def create(self, name: str, reserve_bytes: int) -> KeptFile:
        if name in self._files:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)
        self._store.check_space(reserve_bytes)
        file_id = secrets.token_hex(8)
        local = self._local.create(file_id, 0)
        local.truncate(reserve_bytes)
        kept = self._files[name] = Kept(file_id, local, reserve_bytes)
        return KeptFile(self, kept)

    def open(self, name: str) -> KeptFile:
        return KeptFile(self, self._kept(name))

    def _kept(self, name: str) -> Kept:
        if name not in self._files:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        return self._files[name]

    def rename(self, old: str, new: str) -> None:
        kept = self._kept(old)
        if new in self._files and new != old:
            self._lose_name(new)
        del self._files[old]
        self._files[new] = kept

    def remove(self, name: str) -> None:
        self._kept(name)
        self._lose_name(name)

    def _lose_name(self, name: str) -> None:
        kept = self._files.pop(name)
        kept.is_removed = True
        self._gone[kept.file_id] = None
        self._local.remove(kept.file_id)

    def sync_folder(self) -> None:
        names = {name: kept.file_id for name, kept in self._files.items()}
        changes: Transaction = [
            Put(NAMES + name, file_id.encode("ascii"))
            for name, file_id in names.items()
            if self._kept_names.get(name) != file_id
        ]
        # A file that was created and never synced has no size in the store yet.
        changes += [
            Put(_size_key(kept.file_id), kept.size.to_bytes(8, "big"))
            for kept in self._files.values()
            if kept.kept_size < 0
        ]
        changes += [Delete(NAMES + name) for name in self._kept_names if name not in names]
        changes += [Delete(f"{PIECES}{file_id}/", _end_of(file_id)) for file_id in self._gone]
        if not changes:
            return
        self._commit_names(changes)
        for kept in self._files.values():
            if kept.kept_size < 0:
                kept.kept_size = kept.size
        self._kept_names = names
        self._gone.clear()

    def _commit_names(self, changes: Transaction) -> None:
        """All at once where that is possible; else new names before old ones go, so that nothing is without one."""
        for first in range(0, len(changes), TRANSACTION_CHANGES_MAX):
            self._store.commit([changes[first : first + TRANSACTION_CHANGES_MAX]])

    def full_name(self, name: str) -> str:
        return f"{self._label}/{name}"

    # --- bytes

    def restore_file(self, kept: Kept, offset: int = 0) -> None:
        """Read what the store has of a file into its copy again, which may be damaged; in any thread.

        That does no harm to what is written meanwhile: a journal writes nothing else where it has written before.

        Args:
            offset: where to begin.

        Raises:
            OSError: the store cannot be read, or the copy cannot be written.
        """
        if restore(kept, self._store, offset) and self._note_restored is not None:
            name = next((name for name, one in list(self._files.items()) if one is kept), kept.file_id)
            self._note_restored(self.full_name(name))

    def sync_file(self, kept: Kept) -> None:
        """Put what has changed of a file into the store.

        Raises:
            OSError: it is not kept there, or not known to be. Final.
        """
        if kept.is_removed:
            return
        if kept.cut_to is not None:
            self._sync_truncation(kept, kept.cut_to)
        pieces: dict[int, int] = {}
        for start, end in _joined(kept.dirty):
            offset = self._beginning(kept, start)
            while offset < end:
                size = min(end - offset, PIECE_BYTES_MAX)
                pieces[offset] = size = max(size, kept.pieces.get(offset, 0), pieces.get(offset, 0))
                offset += size
        changes: Transaction = [
            Put(_piece_key(kept.file_id, offset), kept.local.read_at(offset, size)) for offset, size in pieces.items()
        ]
        if kept.size != kept.kept_size:
            changes.append(Put(_size_key(kept.file_id), kept.size.to_bytes(8, "big")))
        if changes:
            self._store.commit(_in_transactions(changes))
        kept.pieces.update(pieces)
        kept.last_piece = max([kept.last_piece, *pieces])
        kept.kept_size = kept.size
        kept.dirty.clear()

    @staticmethod
    def _beginning(kept: Kept, start: int) -> int:
        """Where a write is to begin: with the last piece, if that is small and ends just there."""
        size = kept.pieces.get(kept.last_piece, 0)
        return kept.last_piece if 0 < size < PIECE_BYTES_MIN and kept.last_piece + size == start else start

    def _sync_truncation(self, kept: Kept, size: int) -> None:
        """Delete what lies beyond, and cut what reaches beyond, in transactions of their own before all else."""
        changes: Transaction = [
            Delete(
                _piece_key(kept.file_id, size), _size_key(kept.file_id)
            ),  # the key of the size sorts behind all pieces
            Put(_size_key(kept.file_id), size.to_bytes(8, "big")),
        ]
        kept.pieces = {offset: length for offset, length in kept.pieces.items() if offset < size}
        for offset, length in kept.pieces.items():
            if offset + length > size:
                kept.pieces[offset] = size - offset
                changes.append(Put(_piece_key(kept.file_id, offset), kept.local.read_at(offset, size - offset)))
        for transaction in _in_transactions(changes):
            self._store.commit([transaction])
        kept.last_piece = max(kept.pieces, default=0)
        kept.kept_size = size
        kept.cut_to = None


def _joined(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The spans in order, those that touch in one."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((start, end))
    return joined


def _in_transactions(changes: Sequence[Put | Delete]) -> list[Transaction]:
    """Changes in as few transactions as the store's limits allow."""
    transactions: list[Transaction] = []
    size = 0
    for change in changes:
        weight = len(change.value) if isinstance(change, Put) else 0
        is_full = not transactions or size + weight > TRANSACTION_BYTES_MAX
        if is_full or len(transactions[-1]) >= TRANSACTION_CHANGES_MAX:
            transactions.append([])
            size = 0
        transactions[-1].append(change)
        size += weight
    return transactions
