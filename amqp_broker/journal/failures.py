"""The failures of a journal, and how final each of them is.

Holds the exceptions and the warning that recovery gives. Does not hold the operating system's errors: the journal
translates those before they leave this floor.
"""

from __future__ import annotations

from dataclasses import dataclass


class JournalError(Exception):
    """An error that a journal reports; its text is fit for an operator to read."""


class JournalFull(JournalError):
    """The disk has no space for the next segment, and nothing of the batch was written.

    Not final: the same batch may be written again when there is space.
    """


class JournalFailed(JournalError):
    """A write, a sync or a read failed. Final: nothing after it is ever confirmed, and it is not tried again."""


class RecordGone(JournalError, LookupError):
    """The record asked for is not in the journal: it was dropped, or never put."""


class NotAllowed(JournalError):
    """The operating system does not let this process use the journal's files: another user's, or a read-only disk.

    Args:
        file: the full name of the one that was refused; "" where the system has named none.
        reason: what the system says.
    """

    def __init__(self, file: str, reason: str) -> None:
        super().__init__(f"{file or 'the journal'}: {reason}")
        self.file = file


class FormatNotSupported(JournalError):
    """A journal is intact, but this release does not know its format or a record's meaning: another wrote it."""


class JournalDamaged(JournalError):
    """Bytes that were once durable are not what was written.

    Args:
        file: the file's full name.
        offset: where in it the damage begins, in bytes.
        reason: what is wrong there.
    """

    def __init__(self, file: str, offset: int, reason: str) -> None:
        super().__init__(f"{file} is damaged at byte {offset}: {reason}")
        self.file = file
        self.offset = offset
        self.reason = reason


@dataclass(frozen=True, slots=True)
class TornTail:
    """The end of the journal that a crash left half written, and that recovery cut off. Nothing in it was confirmed.

    ``cut_bytes`` counts from ``offset`` to the last byte that was not zero.
    """

    file: str
    offset: int
    cut_bytes: int

    def __str__(self) -> str:
        return f"{self.file}: {self.cut_bytes} bytes of an unfinished write cut off at byte {self.offset}"
