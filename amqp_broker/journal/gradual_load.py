"""The reading of all that a store has into copies, a page at a time, while the store is written.

Theory of operation. A store cannot be read at one moment where it forgets that moment before the last byte was read. So
each page is read as it stands then, and all changes since the first page are told as well, in their order. A change of
a file that is read later is passed over: the page has it. One of the file that is being read is held until the file is
there. Any other is applied, although the page may have had it, or a later one, already. That comes to the same:
whatever a page has that is newer than the changes told so far was made by changes that are still to be told, and the
last of them that touches a byte decides. So the copies are true as soon as all changes that any page had were told.
"""

from __future__ import annotations

from collections.abc import Sequence

from amqp_broker.journal.kept_copies import PIECES, Entry, InOrderOfWriting, KeptCopies


class GradualLoad:
    """The reading of one store.

    Args:
        copies: without files; nobody else may use them before all was read, and told up to ``newest``.
    """

    def __init__(self, copies: KeptCopies) -> None:
        self.copies = copies
        self.place = ""  # the key that the next page begins with, or one before it
        self.newest = 0  # the revision of the last change that a page had
        self.is_over = False  # nothing is left to be read
        self._has_pieces = False  # nothing of any file is left to be read
        self._order = InOrderOfWriting()
        self._held: list[tuple[str, bytes | None]] = []  # changes of the file that is being read; None for a deletion

    def take(self, page: Sequence[Entry]) -> None:
        """Take the next keys in, in their order, as the store has them; none where there are no more.

        Those of pieces come before all others.

        Raises:
            OSError: a copy cannot be written.
        """
        file_id = self._order.file_id
        for entry in page:
            self.newest = max(self.newest, entry.revision)
            if entry.key.startswith(PIECES):
                self._put_pieces(self._order.take(entry))
            else:
                self.copies.put(entry.key, entry.value)
        if page:
            self.place = page[-1].key + "\0"
        self.is_over = not page
        if not page or not page[-1].key.startswith(PIECES):
            self._put_pieces(self._order.rest())
            self._has_pieces = True
        if self._has_pieces or self._order.file_id != file_id:
            held, self._held = self._held, []
            for key, value in held:
                self._apply(key, value)

    def _put_pieces(self, pieces: Sequence[tuple[str, str, bytes]]) -> None:
        for file_id, ending, value in pieces:
            self.copies.put_as_read(file_id, ending, value)

    def put(self, key: str, value: bytes) -> None:
        """A key has been given a value, since the first page was read (``KeptCopies.put``).

        Raises:
            OSError: the copy cannot be written.
        """
        self._change(key, value)

    def delete(self, key: str) -> None:
        """Likewise: it has been deleted."""
        self._change(key, None)

    def _change(self, key: str, value: bytes | None) -> None:
        file_id = key.removeprefix(PIECES).partition("/")[0] if key.startswith(PIECES) else ""
        if self._has_pieces or not file_id or file_id < self._order.file_id:
            self._apply(key, value)
        elif file_id == self._order.file_id:
            self._held.append((key, value))

    def _apply(self, key: str, value: bytes | None) -> None:
        if value is None:
            self.copies.delete(key)
        else:
            self.copies.put(key, value)
