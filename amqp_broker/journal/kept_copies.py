"""Copies, on this machine, of the files that a store keeps: read out of it once, and changed as it changes.

The owner of a store begins with them, and writes to them first (``kept_files.py``). Whoever may own it next keeps them
up to date meanwhile with what it is told of each change, in the order of the store's revisions; so it need not read the
store when its turn comes. Holds the names of the keys. Knows no network, and writes no store.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from math import inf
from typing import Final, NamedTuple, Protocol

from amqp_broker.journal.failures import FormatNotSupported, JournalDamaged
from amqp_broker.journal.files import File, FileSystem
from amqp_broker.journal.segments import BadBlock, SegmentReader, segment_numbers

NAMES: Final = "f/"
PIECES: Final = "d/"
SIZE_KEY: Final = "size"


class Entry(NamedTuple):
    """A key as it stands in the store."""

    key: str
    value: bytes
    revision: int  # of its last change; it only grows, over all keys


class Readable(Protocol):
    """Keys and values."""

    def entries(self, prefix: str, first: str = "") -> Iterator[Entry]:
        """All keys with a prefix, in the order of the keys, as they stood at one moment.

        Args:
            first: where to begin; empty for the first of them.

        Raises:
            OSError: the store cannot be read.
        """
        ...


@dataclass(slots=True)
class Kept:
    """The knowledge of one file: its copy here, and what the store has of it."""

    file_id: str
    local: File
    size: int
    pieces: dict[int, int] = field(default_factory=dict)  # in the store: lengths by offset
    last_piece: int = 0  # the offset of the last of them
    kept_size: int = -1  # in the store; -1 for none
    cut_to: int | None = None  # the least size that it was truncated to since the last sync
    dirty: list[tuple[int, int]] = field(default_factory=list)  # what was written since: from where to where
    is_removed: bool = False
    changes: int = 0  # how often the store has told one
    verified_at: int = -1  # what ``changes`` was when all of it was read to see whether it is intact
    verified_s: float = -inf  # when that was
    is_intact: bool = False  # at that time

    def first_reaching(self, offset: int) -> int | None:
        """Where the first piece begins that reaches behind an offset. Not while another thread adds pieces."""
        return min((start for start, length in self.pieces.items() if start + length > offset), default=None)


class InOrderOfWriting:
    """The order to take in what stands in the keys of files: that of the keys, the newest last of pieces that overlap.

    What is returned are files' identifiers, each with a piece's offset or ``SIZE_KEY``, and the value.
    """

    def __init__(self) -> None:
        self.file_id = ""  # of the last entry that was taken
        self._overlapping: list[tuple[int, str, bytes]] = []
        self._end = 0  # of what overlaps

    def take(self, entry: Entry) -> list[tuple[str, str, bytes]]:
        """The next entry; returns what nothing that is still to come overlaps."""
        file_id, _, ending = entry.key.removeprefix(PIECES).partition("/")
        found: list[tuple[str, str, bytes]] = []
        if file_id != self.file_id or ending == SIZE_KEY or int(ending, 16) >= self._end:
            found = self.rest()
            self.file_id = file_id
        self._overlapping.append((entry.revision, ending, entry.value))
        if ending != SIZE_KEY:  # which stands behind all pieces
            self._end = max(self._end, int(ending, 16) + len(entry.value))
        return found

    def rest(self) -> list[tuple[str, str, bytes]]:
        """What is left when there are no more."""
        found = [(self.file_id, ending, value) for _, ending, value in sorted(self._overlapping)]
        self._overlapping, self._end = [], 0
        return found


class KeptCopies:
    """The copies of all files of one store.

    Args:
        local: for the copies; it must be empty.
    """

    def __init__(self, local: FileSystem) -> None:
        self.local = local
        self.names: dict[str, str] = {}  # identifiers by name
        self._files: dict[str, Kept] = {}  # by identifier

    # --- as the store stands

    def load(self, store: Readable) -> None:
        """Read all that a store has. To be called once, before any change is told.

        Raises:
            OSError: the store cannot be read, or the copies cannot be written.
        """
        for entry in store.entries(NAMES):
            self.put(entry.key, entry.value)
        for file_id, ending, value in _in_order_of_writing(store.entries(PIECES)):
            self.put_as_read(file_id, ending, value)

    def put_as_read(self, file_id: str, ending: str, value: bytes) -> None:
        """A key of a file was read (``InOrderOfWriting``). Pieces beyond its size stay: that may be the next to come.

        Raises:
            OSError: the copy cannot be written.
        """
        if ending == SIZE_KEY:
            kept = self._file(file_id)
            kept.size = kept.kept_size = int.from_bytes(value, "big")
        else:
            self.put(f"{PIECES}{file_id}/{ending}", value)

    def has_names_of(self, store: Readable) -> bool:
        """Whether a store has the same files under the same names; a file without a name would be removed.

        Raises:
            OSError: the store cannot be read.
        """
        return self.names == {
            entry.key.removeprefix(NAMES): entry.value.decode("ascii") for entry in store.entries(NAMES)
        }

    # --- as it changes

    def put(self, key: str, value: bytes) -> None:
        """A key has been given a value; others than those of files are passed over.

        Raises:
            OSError: the copy cannot be written.
        """
        if key.startswith(NAMES):
            self.names[key.removeprefix(NAMES)] = value.decode("ascii")
        elif key.startswith(PIECES):
            file_id, _, ending = key.removeprefix(PIECES).partition("/")
            kept = self._file(file_id)
            if ending == SIZE_KEY:
                kept.size = kept.kept_size = int.from_bytes(value, "big")
                kept.local.truncate(kept.size)
            else:
                offset = int(ending, 16)
                kept.local.write_at(offset, value)
                kept.pieces[offset] = len(value)
            kept.changes += 1  # behind the change: who has read meanwhile may have read what was there before

    def delete(self, key: str) -> None:
        """A key has been deleted; a file goes with its size, which sorts behind its pieces."""
        if key.startswith(NAMES):
            self.names.pop(key.removeprefix(NAMES), None)
        elif key.startswith(PIECES):
            file_id, _, ending = key.removeprefix(PIECES).partition("/")
            kept = self._files.get(file_id)
            if kept is None:
                return
            kept.changes += 1
            if ending != SIZE_KEY:
                kept.pieces.pop(int(ending, 16), None)
            if ending == SIZE_KEY or (not kept.pieces and kept.kept_size < 0):
                del self._files[file_id]
                self.local.remove(file_id)

    # --- what a start would check

    def full_segments(self) -> list[str]:
        """The segments that are full, in order. Not to be called while another thread tells a change."""
        return sorted(name for name in self.names if segment_numbers(name) is not None)[:-1]

    def next_to_verify(self, since_s: float = -inf) -> str | None:
        """The segment that is full, and was read longest ago as it is now, or not at all.

        Not to be called while another thread tells a change.

        Args:
            since_s: those that were read since then need not be read again.
        """
        found = [(self._read_s(name), name) for name in self.full_segments()]
        read_s, name = min(found, default=(inf, ""))
        return name if read_s < since_s or read_s == -inf else None

    def verify(self, name: str, now_s: float = 0.0) -> bool:
        """Read a segment to its end, as the journal does when it starts; may be done in another thread.

        One that has gone meanwhile is passed over.

        Args:
            name: of the segment.
            now_s: the time.

        Returns:
            False if it is damaged, or has not come as a whole yet, or the copy cannot be read.
        """
        kept = self._files.get(self.names.get(name, ""))
        if kept is None:
            return True
        changes = kept.changes
        try:
            for _ in SegmentReader(_OneFile(name, kept.local), name).blocks():
                pass
            kept.is_intact = True
        except (BadBlock, JournalDamaged, FormatNotSupported, OSError):
            kept.is_intact = False
        kept.verified_s = now_s
        kept.verified_at = changes
        return kept.is_intact or kept.changes != changes

    def restore(self, name: str, store: Readable) -> None:
        """Read a file out of the store again, because its copy is damaged. Not while another thread tells a change.

        Args:
            name: its name; one that has gone meanwhile is passed over.
            store: as it stands now, or at any moment since the last change that was told.

        Raises:
            OSError: the store cannot be read, or the copy cannot be written.
        """
        kept = self._files.get(self.names.get(name, ""))
        if kept is not None:
            restore(kept, store)

    def verified(self, since_s: float = -inf) -> frozenset[str]:
        """The segments that are intact, as they were read since then, and have not changed after that."""
        found = {name: self._files.get(file_id) for name, file_id in self.names.items()}
        return frozenset(
            name
            for name, kept in found.items()
            if kept is not None and kept.is_intact and kept.verified_at == kept.changes and kept.verified_s >= since_s
        )

    def _read_s(self, name: str) -> float:
        """When a segment was read as it is now."""
        kept = self._files.get(self.names[name])
        if kept is None:
            return inf  # nothing of it has come yet
        return kept.verified_s if kept.verified_at == kept.changes else -inf

    def _file(self, file_id: str) -> Kept:
        kept = self._files.get(file_id)
        if kept is None:
            kept = self._files[file_id] = Kept(file_id, self.local.create(file_id, 0), 0)
        return kept

    # --- the end of following

    def take(self) -> tuple[dict[str, Kept], list[str]]:
        """Hand the files over, to who writes them from now on: by name, and the identifiers of those without one."""
        files = {name: self._file(file_id) for name, file_id in self.names.items()}
        for kept in files.values():
            kept.local.truncate(kept.size)
            kept.last_piece = max(kept.pieces, default=0)
            if any(offset + length > kept.size for offset, length in kept.pieces.items()):
                kept.cut_to = kept.size  # a truncation came only half: it is done before the file grows again
        named = {kept.file_id for kept in files.values()}
        return files, sorted(set(self._files) - named)


def restore(kept: Kept, store: Readable, offset: int = 0) -> bool:
    """Write the bytes of a copy again, as a store has them; what the store does not have of it yet stays.

    Args:
        offset: those before it are left as they are, and are not read where they lie in pieces of their own.

    Returns:
        Whether any byte was another one.

    Raises:
        OSError: the store cannot be read, or the copy cannot be written.
    """
    prefix = f"{PIECES}{kept.file_id}/"
    first = prefix
    if offset:  # at a start: nobody adds pieces meanwhile
        reaching = kept.first_reaching(offset)
        if reaching is None:
            return False
        first += f"{reaching:012x}"
    was_damaged = False
    for _, ending, value in _in_order_of_writing(store.entries(prefix, first)):
        if ending == SIZE_KEY:
            continue
        start = int(ending, 16)
        place = max(start, offset)
        wanted = value[place - start : max(kept.size - start, 0)]
        if wanted and kept.local.read_at(place, len(wanted)) != wanted:
            kept.local.write_at(place, wanted)
            was_damaged = True
    kept.changes += 1
    return was_damaged


def _in_order_of_writing(entries: Iterable[Entry]) -> Iterator[tuple[str, str, bytes]]:
    order = InOrderOfWriting()
    for entry in entries:
        yield from order.take(entry)
    yield from order.rest()


class _OneFile:
    """A copy under the name that its file has in the store, for who reads it."""

    def __init__(self, name: str, file: File) -> None:
        self._name = name
        self._file = file

    def open(self, name: str) -> File:
        return self._file

    def full_name(self, name: str) -> str:
        return name
