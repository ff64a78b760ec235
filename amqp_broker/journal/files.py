"""The little that a journal asks of a file system: one folder of files that are written at offsets and synced.

The operating system's files are in ``real_files.py``, those of tests in ``memory_files.py``. Does not hold what
the files contain.
"""

from __future__ import annotations

import errno
from typing import Protocol

from amqp_broker.journal.records import Part
from amqp_broker.journal.stretches import FileStretch

NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})
"""The errors that say that the disk is full."""

NOT_ALLOWED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
"""The errors that say that this process may not do that."""


class File(Protocol):
    """An open file. Closed when nobody holds it any more: so a reader in another thread may finish with a file that
    was removed meanwhile. Every method raises OSError where the operating system does.
    """

    is_read_soon: bool
    """Whether what is written next is read again soon and often, so that it had better stay in the system's memory."""

    def read_at(self, offset: int, size: int) -> bytes:
        """Up to so many bytes from an offset; fewer only at the end of the file."""

    def read_now(self, offset: int, size: int) -> Part | None:
        """The same bytes, if they are at hand; None where the disk would have to be waited for."""

    def stretch(self, offset: int, size: int) -> FileStretch | None:
        """The same bytes where they lie; None where the system cannot send them from there."""

    def write_at(self, offset: int, *parts: Part) -> None:
        """Write all of the bytes at an offset, one part behind the other. They are durable only after `sync`."""

    def truncate(self, size: int) -> None:
        """Cut the file to this size; durable only after `sync`."""

    def sync(self) -> None:
        """Make everything written so far durable. Once it has failed, nothing it says later can be believed."""

    def size(self) -> int:
        """The file's size in bytes."""

    def restore(self, offset: int = 0) -> bool:
        """Read the bytes again from where they are kept besides, since those here are damaged; may take seconds.

        Args:
            offset: those before it are left as they are.

        Returns:
            Whether any of them are kept anywhere else.
        """


class FileSystem(Protocol):
    """The files of one folder, by name. Every method raises OSError where the operating system does."""

    def names(self) -> list[str]:
        """The names of all files in the folder."""

    def create(self, name: str, reserve_bytes: int) -> File:
        """Make a new file of that many zero bytes, with the space for them reserved on the disk.

        Raises:
            OSError: ENOSPC when there is no space; there may be a file left that is to be removed.
        """

    def open(self, name: str) -> File:
        """Open a file for reading and writing."""

    def rename(self, old: str, new: str) -> None:
        """Give a file another name, in place of any that had it; durable only after `sync_folder`."""

    def remove(self, name: str) -> None:
        """Remove a file; durable only after `sync_folder`."""

    def sync_folder(self) -> None:
        """Make all creations, renames and removals durable."""

    def full_name(self, name: str) -> str:
        """The name as an operator would look for it."""
