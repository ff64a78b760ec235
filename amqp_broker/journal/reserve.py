"""Space set aside for a full disk: acknowledgements can still be written there, which is what makes space again.

Holds one file that means nothing and takes its place on the disk; it is removed when there is no space for a segment,
and made again when there is enough. Belongs to the writing thread, but for `is_released`, which anybody may ask.
An older release passes over the file.
"""

from __future__ import annotations

import contextlib

from amqp_broker.journal.files import NO_SPACE, FileSystem

RESERVE_NAME = "reserve"
_TRIAL_NAME = "reserve.new"  # removed at the start, should a crash leave it


class Reserve:
    """The space that one journal has set aside.

    Args:
        files: the journal's folder.
        size_bytes: how much is set aside.
    """

    def __init__(self, files: FileSystem, size_bytes: int) -> None:
        self._files = files
        self._size_bytes = size_bytes
        self.is_released = False

    def keep(self) -> None:
        """Set the space aside if it is not, and there is enough.

        What was released is set aside again only where as much is left besides: else the next segment would ask for it
        at once.

        Raises:
            OSError: the disk failed.
        """
        if not self.is_released and RESERVE_NAME in self._files.names():
            return
        try:
            file = self._files.create(_TRIAL_NAME, (2 if self.is_released else 1) * self._size_bytes)
        except OSError as error:
            if error.errno not in NO_SPACE:
                raise
            with contextlib.suppress(FileNotFoundError):
                self._files.remove(_TRIAL_NAME)
            self.is_released = True
            return
        file.truncate(self._size_bytes)
        file.sync()
        self._files.rename(_TRIAL_NAME, RESERVE_NAME)
        self._files.sync_folder()
        self.is_released = False

    def release(self) -> bool:
        """Give the space free; returns whether there was any."""
        was_kept = RESERVE_NAME in self._files.names()
        if was_kept:
            self._files.remove(RESERVE_NAME)
            self._files.sync_folder()
        self.is_released = True
        return was_kept
