"""``amqp-broker`` on a disk that fails: from the sync on whose number is in FAULTS_SYNC_FAILS_AT it reports EIO."""

from __future__ import annotations

import errno
import os
import sys

from amqp_broker.cli import main
from amqp_broker.journal.files import RealFile

_sync = RealFile.sync
_left = int(os.environ["FAULTS_SYNC_FAILS_AT"])


def sync(self: RealFile) -> None:
    """Sync, as long as the disk is good."""
    global _left
    _left -= 1
    if _left <= 0:
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    _sync(self)


RealFile.sync = sync  # type: ignore[method-assign]
sys.exit(main())
