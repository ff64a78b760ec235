"""The lock on a data folder: one process at a time.

Holds the lock file with the holder's process number in it. The lock is the operating system's, not the file: it ends
with the process, however that ends, and a file left behind means nothing.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from amqp_broker.journal.failures import FolderInUse

LOCK_FILE_NAME = "lock"


class FolderLock:
    """Holds a folder until `release`, or until the process ends.

    Args:
        folder: made when it is not there yet, for its owner only.

    Raises:
        FolderInUse: another process, or another broker in this one, holds it.
        OSError: the folder cannot be made or written to.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._descriptor = os.open(folder / LOCK_FILE_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._descriptor, 32, 0).decode("ascii", "replace").strip()
            os.close(self._descriptor)
            raise FolderInUse(str(folder), holder) from None
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)
        self._is_held = True

    def release(self) -> None:
        """Let go of the folder. The file stays: removing it would let two processes lock two files of one name."""
        if self._is_held:
            self._is_held = False
            os.close(self._descriptor)
