"""``amqp-broker`` on a disk that reports EIO: from the sync on whose number is in FAULTS_SYNC_FAILS_AT, from the write
on whose number is in FAULTS_WRITE_FAILS_AT (half of what is to be written reaches the file then), or for all that is
read, at the start or after it (FAULTS_READS_FAIL is "at the start" or "later").
"""

from __future__ import annotations

import errno
import os
import threading

from amqp_broker.cli import main
from amqp_broker.journal.real_files import RealFile
from amqp_broker.journal.records import Part

_sync, _write, _read = RealFile.sync, RealFile.write_at, RealFile.read_at
_syncs_left = int(os.environ.get("FAULTS_SYNC_FAILS_AT", "0"))
_reads_fail = os.environ.get("FAULTS_READS_FAIL", "")
_writes_left = int(os.environ.get("FAULTS_WRITE_FAILS_AT", "0"))


def sync(self: RealFile) -> None:
    """Sync, as long as the disk is good."""
    global _syncs_left
    _syncs_left -= 1
    if _syncs_left <= 0:
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    _sync(self)


def write_at(self: RealFile, offset: int, *parts: Part) -> None:
    """Write, as long as the disk is good."""
    global _writes_left
    data = b"".join(parts)
    _writes_left -= 1
    if _writes_left <= 0:
        _write(self, offset, data[: len(data) // 2])
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    _write(self, offset, data)


def read_at(self: RealFile, offset: int, size: int) -> bytes:
    """Read nothing, or nothing once the journal's thread is there."""
    if _reads_fail == "later" and not _has_begun():
        return _read(self, offset, size)
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def _has_begun() -> bool:
    return any(thread.name == "journal" for thread in threading.enumerate())


if _reads_fail:
    RealFile.read_at = read_at  # type: ignore[method-assign]
if _syncs_left:
    RealFile.sync = sync  # type: ignore[method-assign]
if _writes_left:
    RealFile.write_at = write_at  # type: ignore[method-assign]
main()
