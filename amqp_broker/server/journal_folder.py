"""The journal's place in the data folder, what is shown while it is read, and whether a broker would start with it.

Does not hold the lock on the data folder (``data_folder.py``).
"""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path
from typing import cast

from amqp_broker.broker.broker import Broker
from amqp_broker.journal.files import FileSystem
from amqp_broker.journal.journal import SegmentJournal
from amqp_broker.journal.port import Journal
from amqp_broker.journal.real_files import RealFiles
from amqp_broker.logs import log_event
from amqp_broker.server.clock import SystemClock
from amqp_broker.server.data_folder import cannot_use
from amqp_broker.settings import Settings

JOURNAL_FOLDER_NAME = "journal"
SHOWN_AFTER_S = 1.0
SHOWN_EVERY_S = 0.25
RESERVE_SHARE = 8  # of a segment is set aside for a full disk,
RESERVE_BYTES_MAX = 4_194_304  # but not more than this
WAY_OUT_OF_OTHER_RELEASE = "nothing was changed; use the release that wrote it, or a newer one"


def open_journal(data_folder: Path, settings: Settings) -> Journal:
    """The journal in a data folder that this process holds; not recovered yet.

    Raises:
        CannotUseDataFolder: the folder cannot be made or read.
    """
    folder = data_folder / JOURNAL_FOLDER_NAME
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        reserve_bytes = min(settings.segment_size_bytes // RESERVE_SHARE, RESERVE_BYTES_MAX)
        # It takes back only the batches that it gave out, which its own types say and the port's cannot.
        return cast(Journal, SegmentJournal(RealFiles(folder), settings.segment_size_bytes, reserve_bytes))
    except OSError as error:
        raise cannot_use(data_folder, error) from error


def try_start(files: FileSystem) -> None:
    """Have a broker read a journal as it does at its start, and throw it away.

    Args:
        files: where what is written goes nowhere: a `Snapshot`.

    Raises:
        JournalError: what a start would end with.
    """
    journal = cast(Journal, SegmentJournal(files))
    broker = Broker(Settings(memory_budget_bytes=1), SystemClock())  # so little that messages stay on the disk
    broker.open(journal)


class RecoveryProgress:
    """Shows on standard error how far recovery is, once it takes longer than a second.

    Args:
        as_events: whether for programs, as events of the log.
    """

    def __init__(self, *, as_events: bool = False) -> None:
        self._as_events = as_events
        self._started_s = time.monotonic()
        self._shown_s = 0.0

    def __call__(self, read_bytes: int, all_bytes: int) -> None:
        now_s = time.monotonic()
        is_done = read_bytes >= all_bytes
        if now_s - self._started_s < SHOWN_AFTER_S or (now_s - self._shown_s < SHOWN_EVERY_S and not is_done):
            return
        self._shown_s = now_s
        percent = 100 * read_bytes // max(all_bytes, 1)
        if self._as_events:
            log_event(logging.INFO, "reading the journal", percent=percent, all_bytes=all_bytes)
            return
        end = "\r" if sys.stderr.isatty() and not is_done else "\n"
        sys.stderr.write(f"reading the journal: {percent} % of {all_bytes / 1e6:.0f} MB{end}")
        sys.stderr.flush()
